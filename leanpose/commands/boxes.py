"""The boxes that `predict --boxes` is given: words, or a file whose names are matched with those of the images."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

import numpy as np

from leanpose.data.annotations import AnnotatedSet, check_size, open_annotations, open_json
from leanpose.data.formats.sniff import HDF5, YAML
from leanpose.errors import InputError, note
from leanpose.geometry import Size
from leanpose.inference.preprocess import check_boxes
from leanpose.io.values import FARTHEST, read_json, shown
from leanpose.structures import Poses

FILES = (".json", ".csv", *YAML, *HDF5)
MOST_NAMED = 5  # names in one sentence

Parts = tuple[str, ...]  # of a path; ".." that lead it are left out


@dataclass(frozen=True, eq=False)
class GivenBoxes:
    """What is known of one image.

    Attributes:
        boxes: (N, 4) xyxy in pixels; None: the whole image is one person, or a detector finds the persons.
        size: (height, width) that an annotation file states; None: it is not known.
    """

    boxes: Any = None
    size: Size | None = None


def read_boxes(text: str | None, images: Sequence[str]) -> list[GivenBoxes]:
    """Return the boxes for each image.

    Args:
        text: "x1,y1,x2,y2" in pixels, several with spaces between; a JSON file: image name -> list of boxes; an
            annotation file or folder of any form; "image" or None: there are no boxes.
        images: paths and URLs. Names of a file match where all their parts are the last ones of the image's path;
            of several names the longest counts.

    Raises:
        InputError: the boxes cannot be used, name none of the images, or a name fits several of them.
    """
    if text is None or text == "image":
        return [GivenBoxes()] * len(images)
    if not (os.path.isdir(text) or text.lower().endswith(FILES)):
        return [GivenBoxes(_spelled_out(text))] * len(images)
    names, known = _read_file(text)
    matches = _matched(names, images, text)
    missing = [image for image, match in zip(images, matches, strict=True) if match is None]
    if missing and len(missing) < len(images):
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        note(f"{text} has no entry for {', '.join(missing[:MOST_NAMED])}{more}: taken as images of nobody.")
    if len(missing) == len(images):
        raise InputError(f"{text} names none of the images; its names must be theirs, such as photo.jpg.")
    return [GivenBoxes(np.zeros((0, 4), np.float32)) if match is None else known[match] for match in matches]


def _spelled_out(text: str) -> list[list[float]]:
    boxes = text.split()
    try:
        if boxes and all(box.count(",") == 3 for box in boxes):
            return [[float(v) for v in box.split(",")] for box in boxes]
    except ValueError:
        pass
    raise InputError(f"Boxes must be x1,y1,x2,y2 in pixels, a .json file or 'image', not '{text}'.")


def _read_file(path: str) -> tuple[list[str], list[GivenBoxes]]:
    """Return the names of a boxes file, and what it says of each."""
    if not path.lower().endswith(".json") or os.path.isdir(path):
        return _annotated(open_annotations(path, None))
    content = read_json(path, unique_keys=True)
    if isinstance(content, dict) and not {"images", "annotations"} <= content.keys() and "shapes" not in content:
        return [*content], [GivenBoxes(_checked(boxes, f"{path}: {name}")) for name, boxes in content.items()]
    first = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
    if isinstance(content, list) and not ("image" in first or "data" in first):
        raise InputError(f"{path} must map image names to lists of boxes, or be a COCO-style annotation file.")
    return _annotated(open_json(content, path, None))


def _annotated(annotated: AnnotatedSet) -> tuple[list[str], list[GivenBoxes]]:
    images = annotated.everybody()
    boxes = [GivenBoxes(image.boxes_xyxy, image.image_size) for image in images]
    return [image.path for image in images], boxes


def _checked(boxes: Any, what: str) -> np.ndarray:
    """Return boxes (N, 4) of one image, whose size is not known yet."""
    if not isinstance(boxes, list):
        raise InputError(f"{what}: Boxes must be numbers: a list of x1, y1, x2, y2 in pixels, not {shown(boxes)}.")
    try:
        return check_boxes(boxes, (int(FARTHEST), int(FARTHEST)))
    except InputError as error:
        raise InputError(f"{what}: {error}") from None


def _matched(names: Sequence[str], images: Sequence[str], path: str) -> list[int | None]:
    """Return for each image the position of the name that fits it best; None: no name fits."""
    by_parts: dict[Parts, list[int]] = {}
    for i, name in enumerate(names):
        by_parts.setdefault(_parts(name), []).append(i)
    matches: list[int | None] = []
    taken: dict[int, str] = {}
    for image in images:
        fitting = next((by_parts[tail] for tail in _tails(image) if tail in by_parts), [])
        if len(fitting) > 1:
            raise InputError(
                f"{path} has {len(fitting)} entries that fit {image}: {', '.join(names[i] for i in fitting)}; give "
                "each its own name, with its folder."
            )
        match = fitting[0] if fitting else None
        if match in taken:
            raise InputError(
                f"{path}: the name {names[match]} fits both {taken[match]} and {image}; put the folder before it."
            )
        if match is not None:
            taken[match] = image
        matches.append(match)
    return matches


def _parts(name: str) -> Parts:
    path = posixpath.normpath(os.path.normcase(name).replace("\\", "/"))
    return tuple(part for part in path.split("/") if part not in ("", ".", ".."))


def _tails(image: str) -> list[Parts]:
    """Return all ends of an image's whole path, the longest first; of a URL also those of its path alone."""
    wholes = [image, urlparse(image).path] if "://" in image else [os.path.abspath(image)]
    return [whole[i:] for whole in map(_parts, wholes) for i in range(len(whole))]


def of_annotated_sizes(
    images: Iterable[str], given: Iterable[GivenBoxes], found: Iterable[tuple[np.ndarray, Poses] | InputError]
) -> Iterator[tuple[np.ndarray, Poses] | InputError]:
    """Pass on what was found in images; an InputError for those of another size than their annotations are for."""
    for name, its, result in zip(images, given, found, strict=True):
        if not isinstance(result, InputError):
            try:
                check_size(result[0], name, its.size)
            except InputError as error:
                result = error
        yield result
