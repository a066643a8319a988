"""PCK, the percentage of correct keypoints: how many lie within a part of a length of where they are.

Source: Yang and Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts", PAMI 2013, who take the longer
side of the person's box as the length; sets of sport poses take the torso, left shoulder to right hip.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from leanpose.errors import InputError
from leanpose.keypoint_sets import KeypointSet, side_and_part

TORSO = (("left", "shoulder"), ("right", "hip"))

Length = Literal["torso", "box"]


def length_of(keypoint_set: KeypointSet) -> Length:
    """Return what errors are measured by: the torso where the set has both of its ends, else the box's longer side."""
    return "torso" if {*TORSO} <= {*map(side_and_part, keypoint_set.keypoints)} else "box"


def person_lengths(keypoints: np.ndarray, boxes_xyxy: np.ndarray, keypoint_set: KeypointSet) -> np.ndarray:
    """Return (N,) pixels, as `length_of` says, of persons (N, K, 2) in boxes (N, 4); NaN where there is none."""
    if length_of(keypoint_set) == "torso":
        return torso_lengths(keypoints, keypoint_set)
    return (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).max(axis=1).astype(float)


def torso_lengths(keypoints: np.ndarray, keypoint_set: KeypointSet) -> np.ndarray:
    """Return (N,) pixels, NaN where an end is not annotated or both lie in one place, of persons (N, K, 2).

    Raises:
        InputError: the set lacks a left shoulder or a right hip.
    """
    names = [*map(side_and_part, keypoint_set.keypoints)]
    if not {*TORSO} <= {*names}:
        raise InputError(f"A torso needs left_shoulder and right_hip, which the set '{keypoint_set.name}' lacks.")
    shoulder, hip = (keypoints[:, names.index(name)] for name in TORSO)
    lengths = np.linalg.norm(shoulder - hip, axis=1)
    return np.where(lengths > 0, lengths, np.nan)


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
