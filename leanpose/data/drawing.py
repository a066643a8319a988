"""Annotations drawn into their images: single persons for reports, and contact sheets of whole images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from leanpose.data.lenient import LenientSet
from leanpose.errors import InputError
from leanpose.io.draw import draw_poses
from leanpose.io.images import read_image
from leanpose.keypoint_sets import KeypointSet
from leanpose.structures import Poses

CELL = 320  # pixels, longer side of an image on a sheet
CAPTION = 22  # pixels, height of a line of text
COLUMNS, ROWS = 4, 3  # of images on a sheet
BACKGROUND, INK = (24, 26, 32), (235, 235, 232)
HIDDEN_SCORE = 0.25  # at which limbs and keypoints are drawn faintly
AROUND = 0.25  # of the larger side, shown around a person
NOTHING = KeypointSet("boxes", ("none",), (), "boxes without keypoints")


def annotated_poses(annotated: LenientSet, persons: Sequence[int] | np.ndarray) -> Poses:
    """Return annotated persons as Poses: visible keypoints have the score 1, hidden ones HIDDEN_SCORE."""
    chosen = np.asarray(persons, dtype=int)
    boxes, scores = annotated.boxes_xyxy[chosen].astype(np.float32), np.ones(len(chosen), np.float32)
    if annotated.keypoint_set is None:
        points, visible = np.full((len(chosen), 1, 2), np.nan, np.float32), np.zeros((len(chosen), 1), np.float32)
        return Poses(points, visible, boxes, scores, NOTHING)
    visible = np.array([0, HIDDEN_SCORE, 1], np.float32)[annotated.triples[chosen, :, 2].astype(int)]
    return Poses(annotated.keypoints[chosen].astype(np.float32), visible, boxes, scores, annotated.keypoint_set)


def drawn_person(image: np.ndarray, annotated: LenientSet, person: int, found: Poses | None = None) -> np.ndarray:
    """Return the part of an image around a person with its annotation drawn on it; at the right what was found there.

    Args:
        image: (H, W, 3) uint8 RGB.
        found: Poses of one person; None: there is only the annotation.
    """
    poses = annotated_poses(annotated, [person])
    places = np.concatenate([poses.keypoints[0], poses.boxes_xyxy.reshape(2, 2)])
    start, stop = np.nanmin(places, axis=0), np.nanmax(places, axis=0)
    reach = AROUND * max(*(stop - start), 8)
    low = np.clip(np.floor(start - reach), 0, np.array(image.shape[1::-1]) - 1).astype(int)
    high = np.maximum(np.ceil(stop + reach).astype(int), low + 1)
    part = image[low[1] : high[1], low[0] : high[0]]
    return beside([drawn(part, _moved(one, low)) for one in (poses, found) if one is not None])


def _moved(poses: Poses, start: np.ndarray) -> Poses:
    offset = start.astype(np.float32)
    return Poses(
        poses.keypoints - offset,
        poses.scores,
        poses.boxes_xyxy - np.tile(offset, 2),
        poses.person_scores,
        poses.keypoint_set,
    )


def drawn(image: np.ndarray, poses: Poses, labels: Sequence[str] | None = None) -> np.ndarray:
    """Return an image, scaled so that its longer side is CELL, with poses and boxes; hidden keypoints are rings."""
    scale = np.float32(CELL / max(image.shape[:2]))
    small = Poses(
        (poses.keypoints + np.float32(0.5)) * scale - np.float32(0.5),
        poses.scores,
        poses.boxes_xyxy * scale,
        poses.person_scores,
        poses.keypoint_set,
    )
    known = np.isfinite(small.boxes_xyxy).all(axis=1)
    names = None if labels is None else [label for label, there in zip(labels, known, strict=True) if there]
    canvas = draw_poses(scaled(image), small[known], min_score=0.2, boxes=True, labels=names)
    for x, y in small.keypoints[small.scores == np.float32(HIDDEN_SCORE)]:
        if np.isfinite([x, y]).all():
            cv2.circle(canvas, (round(float(x)), round(float(y))), 4, INK, 1, cv2.LINE_AA)
    return canvas


def scaled(image: np.ndarray) -> np.ndarray:
    """Return an image so large that its longer side is CELL."""
    scale = CELL / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def beside(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return images side by side, on as much height as the highest needs."""
    height = max(len(image) for image in images)
    row = np.full((height, sum(image.shape[1] for image in images), 3), BACKGROUND, np.uint8)
    left = 0
    for image in images:
        row[: len(image), left : left + image.shape[1]] = image
        left += image.shape[1]
    return row


def contact_sheets(annotated: LenientSet, images: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield sheets, (H, W, 3) uint8 RGB, of COLUMNS x ROWS images with their names, ids and drawn annotations.

    Args:
        images: places of the images.
    """
    step = COLUMNS * ROWS
    for start in range(0, len(images), step):
        cells = [_cell(annotated, image) for image in images[start : start + step]]
        cells += [np.full((1, CELL, 3), BACKGROUND, np.uint8)] * (-len(cells) % COLUMNS)
        yield np.vstack([beside(cells[i : i + COLUMNS]) for i in range(0, len(cells), COLUMNS)])


def _cell(annotated: LenientSet, image: int) -> np.ndarray:
    """Return an image of a sheet with two lines of text below."""
    persons = np.flatnonzero(annotated.image_of == image)
    try:
        array = read_image(annotated.paths[image])
        labels = [annotated.person_ids[person].removeprefix("annotation ") for person in persons]
        shown = drawn(array, annotated_poses(annotated, persons), labels)
        last = f"id {annotated.image_ids[image]}, {len(persons)} annotated"
    except InputError:
        shown, last = np.full((CELL // 2, CELL, 3), BACKGROUND, np.uint8), "cannot be read"
    text = np.full((2 * CAPTION, CELL, 3), BACKGROUND, np.uint8)
    for line, words in enumerate((_cut(annotated.names[image]), last)):
        cv2.putText(text, words, (4, 15 + line * CAPTION), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    padded = np.full((len(shown), CELL, 3), BACKGROUND, np.uint8)
    padded[:, : shown.shape[1]] = shown
    return np.vstack([padded, text])


def _cut(name: str) -> str:
    """Return a name in ASCII, as the font has it, without its beginning where it is too long for a cell."""
    plain = name.encode("ascii", "replace").decode()
    return plain if len(plain) <= 42 else f"...{plain[-39:]}"
