"""Poses joined and checked; what is smoothed of them: the keypoints and both corners of the box, P = K + 2 points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from leanpose.errors import InputError
from leanpose.structures import Poses

LEAST_WEIGHT = 1e-4  # of a point: one that never scores keeps a place


def joined(poses: Sequence[Poses]) -> Poses:
    """Return the persons of some Poses of the same kind, at least one, as one."""
    names = ("keypoints", "scores", "boxes_xyxy", "person_scores", "ids", "raw_scores")
    values = {name: [getattr(one, name) for one in poses] for name in names}
    known: dict[str, Any] = {name: np.concatenate(parts) for name, parts in values.items() if parts[0] is not None}
    return replace(poses[0], **known)


def check_ids(poses: Poses) -> None:
    """Raise InputError where persons have no ids, or two the same."""
    if len(poses) and poses.ids is None:
        raise InputError("Smoothing needs to know who is who: give the poses to a leanpose.tracking.Tracker first.")
    if poses.ids is not None and len(np.unique(poses.ids)) < len(poses):
        raise InputError(f"Two persons of one image have the same id: {sorted(poses.ids.tolist())}.")


def check_time(time_s: float, before_s: float) -> float:
    """Return a time that is not before another one, -inf at the start; else raise InputError."""
    if not before_s <= time_s < math.inf:
        raise InputError(f"Times must be seconds that do not fall, not {time_s} after {before_s}.")
    return time_s


def points_of(poses: Poses) -> np.ndarray:
    """Return (N, K + 2, 2) float64 keypoints and box corners."""
    corners = poses.boxes_xyxy.reshape(len(poses), 2, 2)
    return np.concatenate([poses.keypoints, corners], axis=1).astype(np.float64)


def with_points(poses: Poses, points: np.ndarray) -> Poses:
    """Return the poses with other keypoints and boxes, (N, K + 2, 2)."""
    points = points.astype(np.float32)
    return replace(poses, keypoints=points[:, :-2], boxes_xyxy=points[:, -2:].reshape(len(poses), 4))


def weights_of(poses: Poses) -> np.ndarray:
    """Return (N, K + 2) how much points count, above 0: 1 from twice the least score on, in proportion below it."""
    weights = (poses.scores / (2 * poses.least_score())).clip(LEAST_WEIGHT, 1)
    return np.pad(weights, ((0, 0), (0, 2)), constant_values=1).astype(np.float64)
