"""PCK, the percentage of correct keypoints: how many lie within a part of the torso's length of where they are.

Source: Yang and Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts", PAMI 2013; with the length of
the torso, left shoulder to right hip, as the sets of sport poses are measured.
"""

from __future__ import annotations

import numpy as np

from leanpose.errors import InputError
from leanpose.keypoint_sets import KeypointSet

TORSO = ("left_shoulder", "right_hip")


def torso_lengths(keypoints: np.ndarray, keypoint_set: KeypointSet) -> np.ndarray:
    """Return (N,) pixels, NaN where an end is not annotated, of persons (N, K, 2).

    Raises:
        InputError: the set lacks a left shoulder or a right hip.
    """
    names = keypoint_set.keypoints
    if not set(TORSO) <= set(names):
        raise InputError(f"PCK needs {' and '.join(TORSO)}, which the set '{keypoint_set.name}' lacks.")
    shoulder, hip = (keypoints[:, names.index(name)] for name in TORSO)
    return np.linalg.norm(shoulder - hip, axis=1)


def pck(found: np.ndarray, truth: np.ndarray, lengths: np.ndarray, fraction: float = 0.2) -> np.ndarray:
    """Return (K,) shares, 0 to 1, of annotated keypoints that are found within a fraction of a length; NaN without any.

    Args:
        found: (N, K, 2) pixels; NaN counts as not found.
        truth: (N, K, 2) pixels, NaN where not annotated.
        lengths: (N,) pixels; persons with NaN do not count.
        fraction: above 0.
    """
    annotated = np.isfinite(truth).all(axis=2) & np.isfinite(lengths)[:, None]
    near = np.linalg.norm(found - truth, axis=2) <= fraction * lengths[:, None]  # NaN compares false
    total = annotated.sum(axis=0)
    return np.where(total > 0, (near & annotated).sum(axis=0) / np.maximum(total, 1), np.nan)
