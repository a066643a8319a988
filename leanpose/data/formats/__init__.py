"""Exports of annotation tools in, one COCO-style content out: the pivot between all forms.

One file per form. Each has `read`, and those that can be written `lost` and `write`. The form is told by the content of
a file or folder, never by its name alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leanpose.data.entries import PersonCategory, is_crowd, labelled_triples, stated_size
from leanpose.data.formats import coco, deeplabcut, label_studio, labelme, makesense, yolo
from leanpose.data.formats.images import with_sizes
from leanpose.data.formats.sniff import MPII, opened
from leanpose.errors import InputError
from leanpose.io.values import Known, entries, identity, number, numbers, text
from leanpose.metrics.coco_ap import AREA_OF_BOX

FORMS = {
    "coco": coco,
    "yolo": yolo,
    "labelme": labelme,
    "makesense": makesense,
    "deeplabcut": deeplabcut,
    "label_studio": label_studio,
}


@dataclass(frozen=True)
class Export:
    """What an annotation tool exported.

    Attributes:
        content: COCO-style, with exactly one category. Images have id and file_name, and width and height where the
            export or the image files say them. Annotations are those of the category, each with id, image_id,
            category_id, keypoints (3 K numbers x, y, visibility 0, 1 or 2), num_keypoints, bbox (x, y, width, height),
            area and iscrowd (0 or 1). The category has id, name, keypoints (K names, none where the export has boxes
            only) and skeleton. All other keys of the export stay. Ids may clash, and an image_id may be of no image:
            that is for the reader to find.
        form: a key of FORMS.
        notes: plain sentences on what was guessed or could not be carried.
    """

    content: dict[str, Any]
    form: str
    notes: tuple[str, ...]


def form_of(path: str | Path) -> str:
    """Return the form of a file or folder: a key of FORMS, or "mpii" for a list of MPII persons.

    Raises:
        InputError: it cannot be read, or is of no known form.
    """
    return opened(path)[0]


def read_export(
    path: str | Path,
    images: str | Path | None,
    category: str | None = None,
    keypoints: Sequence[str] | None = None,
) -> Export:
    """Read the export of an annotation tool.

    Args:
        path: file, or folder of labelme's, makesense's or YOLO's files.
        images: folder of the images, for their sizes where the export does not say them; None: where the export says
            that they are.
        category: name or id of the category that is meant, where several have keypoints.
        keypoints: their names in order, for forms that do not have them (YOLO's YAML without kpt_names) or do not have
            their order (labelme, makesense, Label Studio); None: they are guessed, and the notes say how.

    Raises:
        InputError: something cannot be used; one sentence names the file, and the line or entry in it.
    """
    form, raw = opened(path)
    folder = None if images is None else Path(images)
    content, notes = read_form(form, raw, str(path), folder, keypoints)
    return Export(_checked(content, str(path), folder, category, notes), form, tuple(notes))


def read_form(
    form: str, raw: Any, path: str, images: Path | None, keypoints: Sequence[str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Return the COCO-style content of what `opened` gave, with all categories and unchecked values, and notes."""
    if form == MPII:
        raise InputError(
            f"{path} is a list of MPII persons, which has no COCO-style content; train and evaluate take it as it is."
        )
    content, notes = FORMS[form].read(raw, path, images, tuple(keypoints) if keypoints else None)
    if form != "coco":  # whose values are not checked yet, and which nearly always says sizes
        content["images"] = with_sizes(content["images"], images)
    return coco.completed(content, path, notes), notes


def _checked(
    content: dict[str, Any], path: str, images: Path | None, wanted: str | None, notes: list[str]
) -> dict[str, Any]:
    """Return the content with one category, its annotations alone, and all their values checked."""
    annotations = [(f"{path}: annotation {i}", one) for i, one in enumerate(content["annotations"])]
    chosen = PersonCategory(content.get("categories") or [], content["annotations"], path, wanted)
    category = chosen.entry | {
        "id": chosen.id,
        "name": str(chosen.entry.get("name") or "person"),
        "keypoints": chosen.entry.get("keypoints") or [],
        "skeleton": chosen.entry.get("skeleton") or [],
    }
    images_of_file = entries(content["images"], ("id", "file_name"), f"{path}: image")
    listed = [_image(image, f"{path}: image {i}") for i, image in enumerate(images_of_file)]
    known = Known(image["id"] for image in listed)
    of_category = [(what, one) for what, one in annotations if chosen.holds(one, what)]
    persons = [_person(one, what, len(category["keypoints"]), known) for what, one in of_category]
    kept = [person | {"category_id": chosen.id} for person in persons if person is not None]
    for place, person in enumerate(kept, 1):
        person.setdefault("id", place)
    without_area = [person for person in kept if "area" not in person]
    for person in without_area:
        person["area"] = AREA_OF_BOX * person["bbox"][2] * person["bbox"][3]
    others, nowhere = len(annotations) - len(of_category), len(persons) - len(kept)
    if others:
        notes.append(f"{others} annotations of other categories are left out.")
    if nowhere:
        notes.append(f"{nowhere} annotations have neither a box nor a labelled keypoint; they are left out.")
    if without_area:
        notes.append(
            f"{len(without_area)} annotations have no area: it is {AREA_OF_BOX} of their box, as in CrowdPose."
        )
    sized = with_sizes(listed, images)
    return content | {"images": sized, "annotations": kept, "categories": [category]}


def _image(image: dict[str, Any], what: str) -> dict[str, Any]:
    """Return an entry of 'images' with checked values; width and height are both there or both not."""
    size = stated_size(image, what)
    checked = {
        "id": identity(image["id"], f"{what}: 'id'"),
        "file_name": text(image["file_name"], f"{what}: 'file_name'"),
    }
    sides = {} if size is None else {"width": size[1], "height": size[0]}
    return {key: value for key, value in image.items() if key not in ("width", "height")} | checked | sides


def _person(one: dict[str, Any], what: str, k: int, known: Known) -> dict[str, Any] | None:
    """Return an annotation with checked values; None where it has neither a box nor a labelled keypoint."""
    triples = labelled_triples(one, k, what)
    if one.get("bbox") is None:
        return None
    if "image_id" not in one:
        raise InputError(f"{what} lacks the key 'image_id'.")
    image_id = known.find(one["image_id"])
    person = one | {
        "image_id": one["image_id"] if image_id is None else image_id,
        "keypoints": triples.ravel().tolist(),
        "num_keypoints": int((triples[:, 2] > 0).sum()),
        "bbox": numbers(one["bbox"], (4,), f"{what}: 'bbox'").tolist(),
        "iscrowd": int(is_crowd(one, what)),
    }
    if one.get("area") is None:
        person.pop("area", None)
    else:
        person["area"] = number(one["area"], f"{what}: 'area'", largest=1e12)
    return person
