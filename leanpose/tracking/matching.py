"""How alike persons are, by keypoints and boxes, and who is who."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from leanpose import geometry
from leanpose.structures import Poses


def keypoint_likeness(a: Poses, b: Poses, strays: np.ndarray | float = 0.0) -> np.ndarray:
    """Return (N, M) how well the keypoints of N and M persons agree, 0 to 1.

    That is OKS with the mean of the areas of both boxes, in which a keypoint counts by the lower of its two scores. So
    the two halves of a person that only one of two boxes holds do not make two persons of it. Keypoints that are
    absent in one do not count; persons without a common keypoint have 0.

    Args:
        strays: (N,) how far each of the first persons may have gone from their place, as a share of their size (the
            root of the box's area); widens the bell of OKS.
    """
    n, m = len(a), len(b)
    areas = ((_areas(a.boxes_xyxy)[:, None] + _areas(b.boxes_xyxy)) / 2).ravel()  # (N M,)
    stray = np.repeat(np.broadcast_to(strays, n), m)[:, None]
    sigmas = np.hypot(a.keypoint_set.oks_sigmas, stray / 2)  # (N M, K)
    pairs = geometry.similarities(np.repeat(a.keypoints, m, axis=0), np.tile(b.keypoints, (n, 1, 1)), areas, sigmas)
    weights = np.minimum(np.repeat(a.scores, m, axis=0), np.tile(b.scores, (n, 1))).clip(0)
    weights = np.where(np.isfinite(pairs), weights, 0)
    means = (np.nan_to_num(pairs) * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-6)
    return means.reshape(n, m)


def likeness(a: Poses, b: Poses, strays: np.ndarray | float = 0.0) -> np.ndarray:
    """Return (N, M) how alike N and M persons are, 0 to 1: the mean of `keypoint_likeness` and of the IoU of their
    boxes, which are grown on each side by `strays` sizes (buffered IoU, arXiv 2211.14317)."""
    reach = np.broadcast_to(strays, len(a))
    boxes = [
        geometry.iou(_grown(a.boxes_xyxy[i : i + 1], reach[i]), _grown(b.boxes_xyxy, reach[i])) for i in range(len(a))
    ]
    overlaps = np.concatenate(boxes) if boxes else np.zeros((0, len(b)))
    return (keypoint_likeness(a, b, strays) + overlaps) / 2


def assign(worth: np.ndarray, allowed: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs (row, column) of the largest total worth, each row and column at most once, all allowed.

    Args:
        worth: (N, M), above 0.
        allowed: (N, M) bool.
    """
    rows, columns = linear_sum_assignment(np.where(allowed, worth, 0), maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if allowed[i, j]]


def without_doubles(poses: Poses, threshold: float) -> np.ndarray:
    """Return the positions of the persons to keep: of two whose keypoints are more alike than the threshold, the one
    with the higher score stays."""
    alike = keypoint_likeness(poses, poses) > threshold
    kept: list[int] = []
    for i in np.argsort(-poses.person_scores, kind="stable"):
        if not alike[i, kept].any():
            kept.append(int(i))
    return np.sort(np.array(kept, dtype=int))


def _areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    return np.prod((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).clip(1e-3), axis=1)


def sizes(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Return (N,) sizes of persons in pixels, the roots of the areas of their boxes (N, 4)."""
    return np.sqrt(_areas(boxes_xyxy))


def _grown(boxes_xyxy: np.ndarray, share: float) -> np.ndarray:
    reach = share * sizes(boxes_xyxy)[:, None]
    return np.concatenate([boxes_xyxy[:, :2] - reach, boxes_xyxy[:, 2:] + reach], axis=1)
