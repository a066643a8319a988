"""Walking stick figures with known keypoints, for tests of tracking and smoothing, and what a network would find."""

from __future__ import annotations

import numpy as np

from leanpose.geometry import boxes_around
from leanpose.keypoint_sets import COCO
from leanpose.structures import Poses

RATE = 30.0
# x away from the middle, y from the top, swing of x, of a person of height 1
BODY = {
    "nose": (0.0, 0.09, 0.0), "eye": (0.03, 0.05, 0.0), "ear": (0.06, 0.07, 0.0), "shoulder": (0.13, 0.2, 0.0),
    "elbow": (0.18, 0.36, 0.03), "wrist": (0.2, 0.52, 0.06), "hip": (0.09, 0.53, 0.0), "knee": (0.1, 0.74, 0.05),
    "ankle": (0.12, 0.95, 0.09),
}  # fmt: skip


def walker(seconds: np.ndarray, start: float, speed: float, top: float, height: float) -> np.ndarray:
    """Return (T, 17, 2) keypoints of a person who walks to the right, speed in pixels a second."""
    points = []
    for name in COCO.keypoints:
        side = {"left": 1, "right": -1}.get(name.partition("_")[0], 0)
        x, y, swing = BODY[name.removeprefix("left_").removeprefix("right_")]
        swings = side * swing * np.sin(2 * np.pi * seconds)
        points.append(
            np.stack(
                [start + speed * seconds + (side * x + swings) * height, np.full_like(seconds, top + y * height)],
                axis=1,
            )
        )
    return np.stack(points, axis=1)


def poses_of(keypoints: np.ndarray, ids: np.ndarray | None = None, score: float = 0.8) -> Poses:
    """Return Poses of persons (N, 17, 2), all scores the same."""
    points = keypoints.astype(np.float32)
    scores = np.full(points.shape[:2], score, np.float32)
    return Poses(points, scores, boxes_around(points), scores[:, 0], COCO, ids)


def found_poses(keypoints: np.ndarray, random: np.random.Generator, noise: float = 0.01) -> Poses:
    """Return what a network finds of persons (N, 17, 2): in any order, with noise of this share of their height."""
    heights = np.ptp(keypoints[..., 1], axis=1)[:, None, None]
    return poses_of(random.permutation(keypoints + noise * heights * random.normal(0, 1, keypoints.shape)))
