"""Draw how far found keypoints lie from annotated ones, which are green rings."""

from __future__ import annotations

import cv2
import numpy as np

from leanpose.io.draw import CASING, Colour, draw_poses
from leanpose.structures import Poses

TRUTH: Colour = (72, 224, 96)
MARGIN = 0.15  # around the person, a share of the longer side
_SHIFT = 4  # OpenCV takes coordinates as integers of 1/16 pixel


def draw_errors(image: np.ndarray, pose: Poses, truth: np.ndarray, width: int) -> np.ndarray:
    """Return a person as found, and a green line from each keypoint to the ring where it is annotated.

    Args:
        image: (H, W, 3) uint8 RGB.
        pose: one person in pixels of the image, whose keypoints are all drawn that have a place.
        truth: (K, 2) image pixels; NaN where not annotated.
        width: of the result, in pixels.

    Returns:
        (h, width, 3) uint8 RGB: the square around box, found and annotated keypoints, as far as the image goes.
    """
    left, top, right, bottom = _window(image.shape[:2], pose, truth)
    zoom = width / (right - left)
    height = max(1, round(zoom * (bottom - top)))
    way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    cut = cv2.resize(image[top:bottom, left:right], (width, height), interpolation=way)

    def moved(points: np.ndarray) -> np.ndarray:
        return (points - [left - 0.5, top - 0.5]) * zoom - 0.5

    found = moved(pose.keypoints[0])
    box = moved(pose.boxes_xyxy.reshape(2, 2)).reshape(1, 4)
    there = np.ones_like(pose.scores)
    shown = Poses(found[None].astype(np.float32), there, box.astype(np.float32), there[:, 0], pose.keypoint_set)
    canvas = draw_poses(cut, shown, thickness=0.7)
    for place, true in zip(found, moved(truth), strict=True):
        if np.isfinite(true).all():
            _mark(canvas, place, true, max(3.0, width / 70))
    return canvas


def _window(size: tuple[int, ...], pose: Poses, truth: np.ndarray) -> tuple[int, int, int, int]:
    """Return first column and row, columns and rows behind the last, of what is shown of an image (height, width)."""
    points = np.concatenate([pose.keypoints[0], truth, pose.boxes_xyxy.reshape(2, 2)])
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    reach = max(8.0, (0.5 + MARGIN) * (high - low).max())
    limit = np.array(size[::-1])
    center = np.clip((low + high) / 2, 0, limit - 1)
    start = np.clip(np.floor(center - reach), 0, limit - 1).astype(int)
    stop = np.clip(np.ceil(center + reach), start + 1, limit).astype(int)
    return int(start[0]), int(start[1]), int(stop[0]), int(stop[1])


def _mark(canvas: np.ndarray, found: np.ndarray, true: np.ndarray, radius: float) -> None:
    """Draw a ring at the annotated place and a line to it from the found one, if there is one."""
    way = found - true
    distance = np.hypot(*way)
    apart = distance > radius  # NaN compares false
    for colour, width in ((CASING, 3), (TRUTH, 1)):
        if apart:
            cv2.line(canvas, _fixed(true + way * radius / distance), _fixed(found), colour, width, cv2.LINE_AA, _SHIFT)
        cv2.circle(canvas, _fixed(true), _fixed(np.array([radius]))[0], colour, width, cv2.LINE_AA, _SHIFT)


def _fixed(point: np.ndarray) -> list[int]:
    return np.rint(np.clip(point, -(2**20), 2**20) * 2**_SHIFT).astype(int).tolist()
