"""What all writers share: persons by image, names of files, and sentences on what a form cannot hold.

Contents are those of `read_export`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from leanpose.errors import InputError
from leanpose.io.values import repeated
from leanpose.metrics.coco_ap import AREA_OF_BOX

Entry = dict[str, Any]


def persons_by_image(content: Entry) -> Iterator[tuple[Entry, list[Entry]]]:
    """Yield each image with its persons, without crowds."""
    persons: dict[Any, list[Entry]] = {image["id"]: [] for image in content["images"]}
    for person in content["annotations"]:
        if person["image_id"] in persons and not person["iscrowd"]:
            persons[person["image_id"]].append(person)
    for image in content["images"]:
        yield image, persons[image["id"]]


def points_of(content: Entry, person: Entry) -> Iterator[tuple[str, float, float, int]]:
    """Yield name, x, y and visibility of each labelled keypoint."""
    for i, name in enumerate(content["categories"][0]["keypoints"]):
        x, y, visibility = person["keypoints"][3 * i : 3 * i + 3]
        if visibility > 0:
            yield name, x, y, int(visibility)


def places_below(content: Entry, suffix: str | None = None) -> list[PurePosixPath]:
    """Return where the file of each image goes in a folder, with another suffix if one is given.

    That is the image's name without what leads out of the folder.

    Raises:
        InputError: two images would have one place.
    """
    places = []
    for image in content["images"]:
        parts = [part for part in image["file_name"].replace("\\", "/").split("/") if part not in ("", ".", "..")]
        place = PurePosixPath(*(part.replace(":", "_") for part in parts))
        if not parts:
            raise InputError(f"The image name '{image['file_name']}' is no name of a file.")
        places.append(place if suffix is None else place.with_suffix(suffix))
    twice = repeated(places)
    if twice is not None:
        raise InputError(f"Two images would have the file {twice} in the output; give each its own name.")
    return places


def table(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def size_of(image: Entry, form: str) -> tuple[float, float]:
    """Return width and height of an image, which a form needs."""
    if not (image.get("width") and image.get("height")):
        raise InputError(
            f"{form} needs the size of {image['file_name']}, which the export does not say; give --images."
        )
    return float(image["width"]), float(image["height"])


def counted(number: int, words: str) -> list[str]:
    """Return "NUMBER words" where the number is above 0."""
    return [f"{number} {words}"] if number else []


def lost_crowds(content: Entry) -> list[str]:
    return counted(sum(bool(person["iscrowd"]) for person in content["annotations"]), "crowd regions")


def lost_visibility(content: Entry) -> list[str]:
    hidden = sum(v == 1 for person in content["annotations"] for v in person["keypoints"][2::3])
    return [f"that {hidden} labelled keypoints are hidden"] if hidden else []


def lost_areas(content: Entry) -> list[str]:
    """Areas that are not what is made of boxes, outlines, and weights of keypoints."""
    own = [
        person
        for person in content["annotations"]
        if abs(person["area"] - AREA_OF_BOX * person["bbox"][2] * person["bbox"][3]) > 1e-6 * abs(person["area"])
    ]
    weighted = [person for person in content["annotations"] if person.get("keypoint_weights")]
    outlined = [person for person in content["annotations"] if person.get("segmentation")]
    return [
        *counted(len(own), "areas of persons"),
        *counted(len(outlined), "outlines of persons"),
        *counted(len(weighted), "persons' weights of keypoints"),
    ]


def lost_keys(content: Entry, *keys: str) -> list[str]:
    """Keys of the category that it has."""
    return [f"the {key.replace('_', ' ')} of the category" for key in keys if content["categories"][0].get(key)]


def lost_keypoints(content: Entry) -> list[str]:
    """Keypoints that nobody has, which a form without a list of names does not know of."""
    seen = {name for person in content["annotations"] for name, *_ in points_of(content, person)}
    absent = [name for name in content["categories"][0]["keypoints"] if name not in seen]
    return [f"the keypoints that are never labelled: {', '.join(absent)}"] if absent else []


def lost_images(content: Entry) -> list[str]:
    return counted(sum(not persons for _, persons in persons_by_image(content)), "images without persons")
