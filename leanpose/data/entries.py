"""What a COCO-style file says of its images and persons: here every value is checked that something relies on, once.

Ids only tell entries apart, so their kind and order change nothing; a name of an image may have been written on
another machine; and numbers may stand as text.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.errors import InputError
from leanpose.geometry import Size
from leanpose.io.values import Id, Known, entries, identity, number, numbers, repeated, shown, text
from leanpose.keypoint_sets import KeypointSet, category_with_keypoints, keypoint_set_from_coco


@dataclass(frozen=True)
class Image:
    """One entry of 'images'.

    Attributes:
        what: file and number of the entry, for messages.
        id: as the file has it.
        name: its file_name.
        path: where the image lies.
        size: (height, width) in pixels; None where the file does not say both.
        entry: the entry itself.
    """

    what: str
    id: Id
    name: str
    path: str
    size: Size | None
    entry: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Person:
    """One annotation of the category of persons.

    Attributes:
        what: file and number of the annotation, for messages.
        image: where the person is.
        xywh: (4,) float64 box as the file has it.
        box_xyxy: (4,) float32 clipped to the image; None where that has no area.
        triples: (K, 3) float64 x, y and visibility 0, 1 or 2.
        crowd: whether it is a region of many persons.
        weights: (K,) float64 in -1..1, see `keypoint_weights` of Sample; None: all alike.
        entry: the annotation itself.
    """

    what: str
    image: Image
    xywh: np.ndarray
    box_xyxy: np.ndarray | None
    triples: np.ndarray
    crowd: bool
    weights: np.ndarray | None
    entry: dict[str, Any]

    @property
    def labelled(self) -> int:
        """How many keypoints are labelled."""
        return int((self.triples[:, 2] > 0).sum())


def read_images(images: list[Any], folder: Path | None, path: str) -> dict[Id, Image]:
    """Check the list 'images'; `folder` is that of the images, None if nobody looks at them."""
    listed = entries(images, ("id", "file_name"), f"{path}: image")
    ids = [identity(image["id"], f"{path}: 'id' of image {i}") for i, image in enumerate(listed)]
    names = [text(image["file_name"], f"{path}: 'file_name' of image {i}") for i, image in enumerate(listed)]
    twice = repeated(ids)
    if twice is not None:
        first, second = [name for one, name in zip(ids, names, strict=True) if one == twice][:2]
        raise InputError(
            f"{path}: {first} and {second} have the same image id {shown(twice)}; number the images of joined files "
            "anew, with the image_id of their annotations."
        )
    places = {name: name for name in names} if folder is None else locate(folder, names)
    return {
        one: Image(f"{path}: image {i}", one, name, places[name], stated_size(image, f"{path}: image {i}"), image)
        for i, (one, name, image) in enumerate(zip(ids, names, listed, strict=True))
    }


def stated_size(image: dict[str, Any], what: str) -> Size | None:
    """Return (height, width) of an entry of 'images'; None where one of them is absent, null or not above 0."""
    if image.get("height") is None or image.get("width") is None:
        return None
    height, width = (round(number(image[side], f"{what}: '{side}'")) for side in ("height", "width"))
    return (height, width) if height > 0 and width > 0 else None


def locate(folder: Path, names: list[str]) -> dict[str, str]:
    r"""Return where the images of these names lie.

    That is folder/name. Where there is no such file, backslashes count as slashes, and leading folders are dropped
    (photos\a.jpg is folder/a.jpg), as long as no two names come to the same file so.
    """
    places = {name: place_of(folder, name) for name in dict.fromkeys(names)}
    named: dict[str, int] = {}
    for place in places.values():
        named[place] = named.get(place, 0) + 1
    return {name: place if named[place] == 1 else str(folder / name) for name, place in places.items()}


def place_of(folder: Path, name: str) -> str:
    """Return where the image of one name lies, see `locate`; folder/name where there is none."""
    parts = name.replace("\\", "/").split("/")
    for candidate in dict.fromkeys((name, *("/".join(parts[i:]) for i in range(len(parts))))):
        if candidate and os.path.isfile(folder / candidate):
            return str(folder / candidate)
    return str(folder / name)


class PersonCategory:
    """The category of persons: the one with keypoints, else the one named person; without both, all are of persons.

    Persons are whatever the keypoints are of: animals, hands or objects too.

    Args:
        wanted: name or id of the one that is meant; None: there is only one with keypoints.

    Attributes:
        keypoint_set: None where no category has keypoints.
        id: as the file has it; 1 where it has none.
        entry: the category itself; empty where all annotations are of persons.
    """

    def __init__(
        self, categories: list[Any], annotations: list[dict[str, Any]], path: str, wanted: str | None = None
    ) -> None:
        categories = [category for category in categories if isinstance(category, dict)]
        self.path = path
        self.keypoint_set: KeypointSet | None = None
        chosen = [category for category in categories if category.get("keypoints")]
        if chosen or wanted is not None:
            chosen = [category_with_keypoints(categories, path, wanted)]
            self.keypoint_set = keypoint_set_from_coco(chosen, path)
        chosen = chosen or [category for category in categories if category.get("name") == "person"]
        self.entry: dict[str, Any] = chosen[0] if chosen else {}
        self.all = not chosen
        self.only = len(categories) == 1
        self.id: Id = 1
        self._known = Known([])
        if chosen:
            self._number(chosen[0], categories, annotations)

    def _number(
        self, person: dict[str, Any], categories: list[dict[str, Any]], annotations: list[dict[str, Any]]
    ) -> None:
        """Find the id of the category of persons, and what other ids there are."""
        if person.get("id") is not None:
            self.id = identity(person["id"], f"{self.path}: 'id' of the category of persons")
        elif self.only:
            given = [a["category_id"] for a in annotations if a.get("category_id") is not None]
            if len({*map(shown, given)}) == 1:
                self.id = identity(given[0], f"{self.path}: 'category_id' of annotation 0")
        else:
            raise InputError(f"{self.path}: the category of persons needs an 'id', to be told from the others.")
        others = [
            identity(category["id"], f"{self.path}: 'id' of a category")
            for category in categories
            if category is not person and category.get("id") is not None
        ]
        if self.id in others:
            raise InputError(f"{self.path}: two categories have the id {shown(self.id)}; give each its own.")
        self._known = Known([self.id, *others])

    def holds(self, annotation: dict[str, Any], what: str) -> bool:
        """Tell whether an annotation is of a person; one of no known category raises InputError."""
        given = annotation.get("category_id")
        if self.all or (given is None and self.only):
            return True
        if given is None:
            raise InputError(f"{what} lacks the key 'category_id', which tells persons from other things.")
        known = self._known.find(given)
        if known is None:
            raise InputError(
                f"{what} has the category_id {shown(given)}, but the category of persons has the id {shown(self.id)}; "
                "give both the same id."
            )
        return known == self.id

    def is_detected(self, detection: dict[str, Any]) -> bool:
        """Tell whether a detected box is of a person: it has no category, this one, or 1 as detectors have it."""
        given = detection.get("category_id")
        known = self._known.find(given)
        return given is None or known == self.id or (known is None and Known([1]).find(given) == 1)


def read_persons(
    annotations: list[dict[str, Any]], images: dict[Id, Image], category: PersonCategory, path: str
) -> list[Person]:
    """Check the list 'annotations' and return those of persons, in their order.

    One without keypoints is a person without labelled keypoints; one without a box is left out.
    """
    k = len(category.keypoint_set or ())
    known = Known(images)
    persons = []
    for i, annotation in enumerate(annotations):
        what = f"{path}: annotation {i}"
        if not category.holds(annotation, what):
            continue
        triples = labelled_triples(annotation, k, what)
        if annotation.get("bbox") is None:
            continue
        if "image_id" not in annotation:
            raise InputError(f"{what} lacks the key 'image_id'.")
        image_id = known.find(annotation["image_id"])
        if image_id is None:
            raise InputError(f"{what} belongs to image {shown(annotation['image_id'])}, not in 'images'.")
        image = images[image_id]
        xywh = numbers(annotation["bbox"], (4,), f"{what}: 'bbox'")
        crowd = is_crowd(annotation, what)
        weights = _weights(annotation, triples[:, 2], what)
        persons.append(Person(what, image, xywh, clipped(xywh, image.size), triples, crowd, weights, annotation))
    return persons


def labelled_triples(annotation: dict[str, Any], k: int, what: str) -> np.ndarray:
    """Return (K, 3) x, y and visibility 0, 1 or 2; whatever is above 0 is labelled, and only 1 means hidden.

    Without keypoints nothing is labelled, and of a category without keypoints there are none.
    """
    if not k:
        return np.zeros((0, 3))
    values = annotation.get("keypoints") or [0] * (3 * k)
    if isinstance(values, list) and len(values) != 3 * k:
        raise InputError(
            f"{what} has {len(values)} keypoint numbers, but the category names {k} keypoints, which makes {3 * k}."
        )
    triples = numbers(values, (3 * k,), f"{what}: 'keypoints'").reshape(k, 3)
    visibility = triples[:, 2]
    triples[:, 2] = np.where(visibility > 0, np.where(visibility == 1, 1, 2), 0)
    return triples


def _weights(annotation: dict[str, Any], visibility: np.ndarray, what: str) -> np.ndarray | None:
    """Return `keypoint_weights` of an annotation, a key of ours; None where it has none. Below 0: known absent."""
    if annotation.get("keypoint_weights") is None:
        return None
    weights = numbers(annotation["keypoint_weights"], visibility.shape, f"{what}: 'keypoint_weights'")
    if not ((weights >= np.where(visibility == 0, -1, 0)) & (weights <= 1)).all():
        raise InputError(f"{what}: 'keypoint_weights' must lie between 0 and 1, where v is 0 between -1 and 1.")
    return weights


def is_crowd(annotation: dict[str, Any], what: str) -> bool:
    """Tell whether an annotation is a region of many persons."""
    value = annotation.get("iscrowd")
    return value is not None and number(value, f"{what}: 'iscrowd'") != 0


def clipped(xywh: np.ndarray, size: Size | None) -> np.ndarray | None:
    """Return an annotated box as (4,) float32 xyxy inside an image of (height, width), or None where it has no area.

    Clipped as the HRNet family does: the right and bottom edges lie on the last pixel inside, x + w - 1, y + h - 1.
    """
    x, y, w, h = xywh
    height, width = size or (np.inf, np.inf)
    x1, y1 = max(0.0, x), max(0.0, y)
    x2, y2 = min(width - 1, x1 + max(0.0, w - 1)), min(height - 1, y1 + max(0.0, h - 1))
    box = np.array([x1, y1, x2, y2], dtype=np.float32)
    return box if (box[2:] > box[:2]).all() else None
