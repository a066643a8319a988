"""COCO-style JSON, as CVAT, Label Studio, Roboflow and COCO Annotator write it (cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.data.formats.images import found_names
from leanpose.errors import InputError
from leanpose.geometry import boxes_around
from leanpose.io.files import write_text
from leanpose.io.values import Known, entries, numbers

MARGIN = 0.1  # of a box around keypoints, on each side, as a share of its longer side; at least one pixel


def read(raw: Any, path: str, images: Path | None, keypoints: Sequence[str] | None) -> tuple[dict[str, Any], list[str]]:
    """Return the content with the names that its images have in the folder, and notes."""
    if not isinstance(raw, dict) or not all(isinstance(raw.get(key), list) for key in ("images", "annotations")):
        raise InputError(f"{path} is no COCO-style file: it needs the lists images, annotations and categories.")
    if not isinstance(raw.get("categories") or [], list):
        raise InputError(f"{path} is no COCO-style file: 'categories' must be a list.")
    notes: list[str] = []
    content = dict(raw) | {"images": _told_apart(raw["images"])}
    names = found_names(content["images"], images)
    if names:
        first = next(iter(names))
        notes.append(f"{len(names)} images lie in {images} by another name, such as {first} as {names[first]}.")
        content["images"] = [
            image | {"file_name": names.get(image.get("file_name"), image.get("file_name"))}
            for image in content["images"]
        ]
    if keypoints:
        content["categories"] = _named(raw, keypoints, path)
    return content, notes


def _named(raw: dict[str, Any], names: Sequence[str], path: str) -> list[Any]:
    """Return the categories, with names of keypoints for those that have keypoints annotated, but no names of them."""
    categories = raw.get("categories") or []
    annotated = {
        str(one.get("category_id")) for one in raw["annotations"] if isinstance(one, dict) and one.get("keypoints")
    }
    nameless = [
        isinstance(one, dict) and not one.get("keypoints") and (len(categories) == 1 or str(one.get("id")) in annotated)
        for one in categories
    ]
    if not any(nameless):
        raise InputError(f"{path} has names for all of its keypoints; change them there, and leave --keypoints out.")
    return [one | {"keypoints": [*names]} if lacks else one for one, lacks in zip(categories, nameless, strict=True)]


def _told_apart(images: list[Any]) -> list[Any]:
    """Return images with COCO Annotator's `path` in place of a `file_name` that lies in several folders."""
    paths: dict[str, set[str]] = {}
    for image in images:
        if isinstance(image, dict) and isinstance(image.get("path"), str) and isinstance(image.get("file_name"), str):
            paths.setdefault(image["file_name"], set()).add(image["path"])
    several = {name for name, places in paths.items() if len(places) > 1}
    if not several:
        return images
    return [
        image | {"file_name": image["path"]}
        if isinstance(image, dict) and isinstance(image.get("path"), str) and image.get("file_name") in several
        else image
        for image in images
    ]


def completed(content: dict[str, Any], path: str, notes: list[str]) -> dict[str, Any]:
    """Return the content with boxes around the keypoints of those who have none, or one without area."""
    annotations = entries(content["annotations"], (), f"{path}: annotation")
    images = {str(image.get("id")): image for image in content["images"] if isinstance(image, dict)}
    known = Known(image["id"] for image in images.values() if isinstance(image.get("id"), (int, str)))
    boxed = []
    made = 0
    for i, annotation in enumerate(annotations):
        box = None
        if _lacks_box(annotation):
            box = _box_around(
                annotation, f"{path}: annotation {i}", images.get(str(known.find(annotation.get("image_id"))))
            )
        made += box is not None
        boxed.append(annotation if box is None else annotation | {"bbox": box})
    if made:
        notes.append(
            f"{made} annotations have no box: each got one around its keypoints, with a margin of {MARGIN:.0%} of the "
            "longer side."
        )
    return content | {"annotations": boxed}


def _lacks_box(annotation: dict[str, Any]) -> bool:
    box = annotation.get("bbox")
    if box is None or box == []:
        return True
    try:
        return bool((np.array(box, float).reshape(4)[2:] <= 0).any())
    except (TypeError, ValueError, OverflowError):
        return False  # whoever checks values says what is wrong


def _box_around(annotation: dict[str, Any], what: str, image: dict[str, Any] | None) -> list[float] | None:
    """Return a box xywh around labelled keypoints, inside the image where its size is known; None without keypoints."""
    values = annotation.get("keypoints")
    if not isinstance(values, list) or not values or len(values) % 3:
        return None
    triples = numbers(values, (len(values),), f"{what}: 'keypoints'").reshape(-1, 3)
    triples = triples[triples[:, 2] > 0]
    if not len(triples):
        return None
    left, top, right, bottom = boxes_around(triples[None, :, :2], MARGIN)[0].astype(float)
    try:
        width, height = float((image or {})["width"]), float((image or {})["height"])
    except (KeyError, TypeError, ValueError, OverflowError):
        width = height = np.inf
    inside = (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
    if inside[0] < inside[2] and inside[1] < inside[3]:
        left, top, right, bottom = inside
    return [left, top, right - left, bottom - top]


def lost(content: dict[str, Any]) -> list[str]:
    """Return what the form cannot hold: nothing."""
    return []


def write(content: dict[str, Any], out: Path, images: Path | None) -> None:
    """Write one JSON file."""
    write_text(out, json.dumps(content))
