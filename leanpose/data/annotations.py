"""The gate to annotated sets: one object for an annotation file, whatever its form, read and checked once.

Training, evaluation, quantisation and `predict --boxes` all go through it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from leanpose.data.coco import CocoSet
from leanpose.data.formats import read_form
from leanpose.data.formats.sniff import MPII, form_of_json, opened
from leanpose.data.mpii import MpiiSet, hdf5_entries, json_entries
from leanpose.data.scenes import Views
from leanpose.errors import InputError, note
from leanpose.geometry import Size
from leanpose.io.images import read_image
from leanpose.keypoint_sets import KeypointSet, without_partner
from leanpose.structures import ImageBoxes, Sample, Scene


class AnnotatedSet(Protocol):
    """Images and their annotated persons; what each method takes, gives and refuses is said in `CocoSet`."""

    path: str

    @property
    def keypoint_set(self) -> KeypointSet: ...

    def samples(self, keypoint_set: KeypointSet | None = None) -> list[Sample]: ...

    def scenes(self, keypoint_set: KeypointSet, views: Views = "images") -> list[Scene]: ...

    def images(self, boxes: str | Path | None = "gt") -> list[ImageBoxes]: ...

    def everybody(self) -> list[ImageBoxes]: ...

    def check(self, keypoint_set: KeypointSet, model: str) -> None: ...

    def score(self, results: list[dict[str, Any]], keypoint_set: KeypointSet) -> dict[str, float]: ...


def open_annotations(path: str | Path, images: str | Path | None, category: str | None = None) -> AnnotatedSet:
    """Read annotations of any form and check every value that something relies on; what was guessed is noted.

    Args:
        path: COCO-style JSON file, the export of an annotation tool (a form of `leanpose.data.formats`), or MPII's list
            of persons (HRNet's JSON file, or Newell's .h5).
        images: folder of the images; None if nobody will look at them: their paths are then the export's names.
        category: name or id of the category that is meant, where several have keypoints.

    Raises:
        InputError: it cannot be read, or holds something that cannot be used; the sentence names it.
    """
    return _opened(*opened(path), str(path), None if images is None else Path(images), category)


def open_json(content: Any, path: str, images: Path | None) -> AnnotatedSet:
    """Return the set of a JSON file that has been read; see `open_annotations`."""
    return _opened(*form_of_json(content, path), path, images)


def _opened(form: str, raw: Any, path: str, images: Path | None, category: str | None = None) -> AnnotatedSet:
    if form == MPII:
        return MpiiSet(hdf5_entries(path) if raw is None else json_entries(raw, path), path, images)
    content, notes = read_form(form, raw, path, images)
    for line in notes:
        note(f"{path}: {line}")
    return CocoSet(content, path, images, category)


def scored_set(annotated: AnnotatedSet, found: KeypointSet) -> KeypointSet:
    """Return the keypoints by which a network is scored that finds a set: those of the file where it finds them all,
    since it may find more; else its own."""
    return found if without_partner(found, annotated.keypoint_set) else annotated.keypoint_set


def read_annotated(path: str, size: Size | None) -> np.ndarray:
    """Return an annotated image as (H, W, 3) uint8 RGB.

    Args:
        size: (height, width) that the annotations are for; None: it is not known.

    Raises:
        InputError: the image cannot be read, or has another size.
    """
    image = read_image(path)
    check_size(image, path, size)
    return image


def check_size(image: np.ndarray, path: str, size: Size | None) -> None:
    """Raise InputError where an image has not the size (height, width) that its annotations are for."""
    found = image.shape[:2]
    if size is None or found == size:
        return
    why = (
        "it is turned by EXIF, so annotate it as viewers show it"
        if found == size[::-1]
        else "it was resized after it was annotated, so take the image of that size"
    )
    raise InputError(
        f"{path} has {found[1]} x {found[0]} pixels, but its annotations are for {size[1]} x {size[0]}: {why}."
    )
