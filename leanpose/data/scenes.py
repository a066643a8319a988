"""Scenes: all annotated persons of an image, for networks that find everybody at once, and what is known where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np

from leanpose.data.entries import Image, Person
from leanpose.errors import InputError
from leanpose.geometry import Size
from leanpose.io.values import FARTHEST
from leanpose.structures import Scene

Views = Literal["images", "persons"]

MAX_PEOPLE = 30  # in one scene
ALL_KNOWN, BOX_KNOWN, NOTHING_KNOWN = 255, 128, 0  # about the persons at a pixel of an image


def scenes_of(image: Image, persons: Sequence[Person], triples: np.ndarray, views: Views) -> list[Scene]:
    """Return the scenes of one image: itself, or the surroundings of each person with labelled keypoints.

    Args:
        persons: all of the image, crowds too.
        triples: (P, K, 3) their keypoints, in the order that is wanted.
    """
    if image.size is None:
        raise InputError(f"{image.what} lacks its 'width' and 'height' in pixels.")
    height, width = image.size
    seen: list[np.ndarray] = []
    boxes: list[np.ndarray] = []
    ignored: list[tuple[np.ndarray, int]] = []
    for i in sorted(range(len(persons)), key=lambda i: -persons[i].xywh[2:].prod()):
        person = persons[i]
        if person.box_xyxy is None:
            continue
        kept = not person.crowd and len(boxes) < MAX_PEOPLE
        if kept:
            seen.append(triples[i])
            boxes.append(person.box_xyxy)
        if not kept or not person.labelled:
            level = BOX_KNOWN if kept else NOTHING_KNOWN
            ignored += [(polygon, level) for polygon in _outlines(person, person.box_xyxy)]
    if not seen:
        return []
    middle, half = np.array([width - 1, height - 1]) / 2, (min(width, height) - 1) / 2
    whole = np.concatenate([middle - half, middle + half]).astype(np.float32)
    points = np.stack(seen)
    labelled = points[..., 2] > 0
    shown = [box for box, some in zip(boxes, labelled, strict=True) if some.any()] if views == "persons" else [whole]
    return [
        Scene(
            image_path=image.path,
            image_id=image.id,
            box_xyxy=box,
            keypoints=np.where(labelled[..., None], points[..., :2], np.nan).astype(np.float32),
            visibility=points[..., 2].astype(np.int8),
            boxes_xyxy=np.stack(boxes),
            ignored=tuple(ignored),
            image_size=image.size,
        )
        for box in shown
    ]


def _outlines(person: Person, box: np.ndarray) -> list[np.ndarray]:
    """Return the (n, 2) polygons of a person, in image pixels; its box where it has none we can read.

    A run-length mask (COCO's crowds) is turned into its outlines.
    """
    segmentation = person.entry.get("segmentation")
    try:
        if isinstance(segmentation, list) and segmentation:
            return [_polygon(polygon) for polygon in segmentation]
        if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), list):
            return _outlines_of_runs(segmentation, person.image.size)
    except (LookupError, OverflowError, TypeError, ValueError):
        raise InputError(f"{person.what}: its 'segmentation' is neither polygons nor a run-length mask.") from None
    x1, y1, x2, y2 = box
    return [np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], dtype=np.float32)]


def _polygon(values: Any) -> np.ndarray:
    points = np.array(values, dtype=np.float64).reshape(-1, 2)
    if not len(points) or not (np.abs(points) <= FARTHEST).all():
        raise ValueError("not a number")
    return points.astype(np.float32)


def _outlines_of_runs(segmentation: dict[str, Any], size: Size | None) -> list[np.ndarray]:
    """Return the outlines of a mask in runs of 0 and 1 in turn, column after column."""
    height, width = (int(side) for side in segmentation["size"])
    counts = np.array(segmentation["counts"], dtype=np.int64)
    if (height, width) != size or counts.ndim != 1 or (counts < 0).any() or counts.sum() != height * width:
        raise ValueError("not the size of the image")
    mask = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8).reshape(width, height).T
    outlines, _ = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [outline.reshape(-1, 2).astype(np.float32) for outline in outlines]


def known_map(scene: Scene, image_size: Size) -> np.ndarray:
    """Draw what is known where: (H, W) uint8 of ALL_KNOWN, BOX_KNOWN and NOTHING_KNOWN."""
    known = np.full(image_size, ALL_KNOWN, dtype=np.uint8)
    for polygon, level in sorted(scene.ignored, key=lambda region: -region[1]):
        cv2.fillPoly(known, [np.round(polygon).astype(np.int32)], level)
    return known
