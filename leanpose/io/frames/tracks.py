"""Identities as an axis: each has a place in every frame, filled or not. For forms of one column an individual."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from leanpose.io.frames.interface import make_poses
from leanpose.keypoint_sets import KeypointSet
from leanpose.structures import Frame, Poses

TRACKED, UNTRACKED = "id_", "person_"


def individuals(frames: Sequence[Frame]) -> list[str]:
    """Return the names of all individuals: id_7 for identity 7; person_0, person_1 for places in untracked frames; one
    that is never there where nobody is."""
    names: set[tuple[str, int]] = set()
    for frame in frames:
        names |= set(_keys(frame.poses))
    return [f"{kind}{number}" for kind, number in sorted(names or {(UNTRACKED, 0)})]


def _keys(poses: Poses) -> list[tuple[str, int]]:
    if poses.ids is None:
        return [(UNTRACKED, i) for i in range(len(poses))]
    return [(TRACKED, int(one)) for one in poses.ids]


def values_of(poses: Poses, names: Sequence[str]) -> np.ndarray:
    """Return (I, K, 3) float32 x, y, score of each individual; NaN where it is not there."""
    values = np.full((len(names), len(poses.keypoint_set), 3), np.nan, np.float32)
    place = {name: i for i, name in enumerate(names)}
    for n, (kind, number) in enumerate(_keys(poses)):
        values[place[f"{kind}{number}"]] = np.column_stack([poses.keypoints[n], poses.scores[n]])
    return values


def identities(names: Sequence[str]) -> list[int] | None:
    """Return the identities of individuals: 7 for id_7; None where they are places (person_0) or a single animal
    without a name; else their numbers in the list."""
    if all(re.fullmatch(rf"{TRACKED}-?\d+", name) for name in names):
        return [int(name.removeprefix(TRACKED)) for name in names]
    if all(re.fullmatch(rf"{UNTRACKED}\d+|", name) for name in names):
        return None
    return list(range(len(names)))


def poses_of(values: np.ndarray, ids: Sequence[int] | None, keypoint_set: KeypointSet) -> Poses:
    """Return the Poses of one frame: of the individuals with any value.

    Args:
        values: (I, K, 3) x, y, score; NaN where there is none.
        ids: of `identities`.
    """
    there = np.flatnonzero(np.isfinite(values).any(axis=(1, 2))).tolist()
    return make_poses(
        keypoint_set, values[there, :, :2], values[there, :, 2], None if ids is None else [ids[i] for i in there]
    )
