"""Exports of annotation tools in, one COCO-style content out: the pivot between all forms.

One file per form. Each has `read`, and those that can be written `lost` and `write`. The form is told by the content of
a file or folder, never by its name alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leanpose.data.entries import PersonCategory, is_crowd, labelled_triples
from leanpose.data.formats import coco, deeplabcut, label_studio, labelme, makesense, yolo
from leanpose.data.formats.images import with_sizes
from leanpose.data.formats.sniff import MPII, opened
from leanpose.errors import InputError
from leanpose.io.values import Known, identity, number, numbers
from leanpose.keypoint_sets import keypoint_set_from_coco
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
    return coco.completed(content, path, notes), notes


def _checked(
    content: dict[str, Any], path: str, images: Path | None, wanted: str | None, notes: list[str]
) -> dict[str, Any]:
    """Return the content with one category, its annotations alone, and all their values checked."""
    categories, annotations = content.get("categories") or [], content["annotations"]
    chosen = PersonCategory(categories, annotations, path, wanted)
    kept = [one for i, one in enumerate(annotations) if chosen.holds(one, f"{path}: annotation {i}")]
    if len(kept) < len(annotations):
        notes.append(f"{len(annotations) - len(kept)} annotations of other categories are left out.")
    entry = {"id": chosen.id, "name": "person", "keypoints": [], "skeleton": []} | chosen.entry
    if entry["keypoints"]:
        keypoint_set_from_coco([entry], path)  # refuses what is wrong with it
    listed = [dict(image) for image in content["images"]]
    for i, image in enumerate(listed):
        image["id"] = identity(image["id"], f"{path}: 'id' of image {i}")
    known = Known(image["id"] for image in listed)
    persons = []
    without_area = 0
    for i, one in enumerate(annotations):
        if not chosen.holds(one, ""):
            continue
        person = _person(one, f"{path}: annotation {i}", len(entry["keypoints"]), known)
        if person is None:
            continue
        if "area" not in person:
            person["area"] = AREA_OF_BOX * person["bbox"][2] * person["bbox"][3]
            without_area += 1
        persons.append(person | {"id": person.get("id", i + 1), "category_id": chosen.id})
    if without_area:
        notes.append(f"{without_area} annotations have no area: it is {AREA_OF_BOX} of their box, as in CrowdPose.")
    return content | {
        "images": with_sizes(listed, path, images),
        "annotations": persons,
        "categories": [entry],
    }


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
