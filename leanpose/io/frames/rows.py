"""Tidy rows: one a keypoint, with the columns of tidy CSV, Parquet and `poses_table`.

A frame without persons has one row, empty after its time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from leanpose.errors import InputError
from leanpose.io.frames.interface import UNKNOWN_SIZE, make_poses
from leanpose.io.own_files import TIDY_COLUMNS
from leanpose.keypoint_sets import KeypointSet
from leanpose.structures import Frame, Poses

NAN = float("nan")


class Row(NamedTuple):
    """One keypoint of one person in one frame; NaN and None where there is nothing."""

    frame: int
    time_s: float
    id: int | None = None
    keypoint: str | None = None
    x: float = NAN
    y: float = NAN
    score: float = NAN


COLUMNS = TIDY_COLUMNS  # the fields of Row


def rows_of(frame: Frame) -> Iterator[Row]:
    """Return the rows of a frame, person by person."""
    poses = frame.poses
    if len(poses) == 0:
        yield Row(frame.index, frame.time_s)
    for i in range(len(poses)):
        identity = None if poses.ids is None else int(poses.ids[i])
        values = np.column_stack([poses.keypoints[i], poses.scores[i]]).tolist()
        for name, (x, y, score) in zip(poses.keypoint_set.keypoints, values, strict=True):
            yield Row(frame.index, frame.time_s, identity, name, x, y, score)


def frames_of(
    rows: Iterable[Row], names: Sequence[str], keypoint_set: KeypointSet, where: str | Path, calibrated: bool = False
) -> Iterator[Frame]:
    """Put rows together again, frame by frame; the rows of a frame stand together. Persons are told apart by their ids;
    without ids a keypoint that comes again begins the next person.

    Args:
        names: of the keypoints as the rows spell them, in the order of the set.
        calibrated: as of `make_poses`.

    Raises:
        InputError: a keypoint is not one of the set, or a person has it twice.
    """
    position = {name: k for k, name in enumerate(names)}
    for index, group in groupby(rows, key=lambda row: row.frame):
        persons: list[dict[int, Row]] = []
        ids: list[int | None] = []
        time_s = NAN
        for row in group:
            time_s = row.time_s
            if row.keypoint is None:
                continue
            k = position.get(row.keypoint)
            if k is None:
                raise InputError(f"{where}: frame {index} has the keypoint '{row.keypoint}', which is not in the set.")
            if row.id is None:
                new = not persons or ids[-1] is not None or k in persons[-1]
                place = len(persons) if new else len(persons) - 1
            else:
                place = ids.index(row.id) if row.id in ids else len(persons)
            if place == len(persons):
                persons.append({})
                ids.append(row.id)
            if k in persons[place]:
                raise InputError(f"{where}: frame {index} has '{row.keypoint}' of id {row.id} twice; keep one of them.")
            persons[place][k] = row
        yield Frame(index, time_s, _poses(persons, ids, keypoint_set, calibrated), UNKNOWN_SIZE)


def _poses(persons: list[dict[int, Row]], ids: list[int | None], keypoint_set: KeypointSet, calibrated: bool) -> Poses:
    values = np.full((len(persons), len(keypoint_set), 3), np.nan)
    for i, person in enumerate(persons):
        for k, row in person.items():
            values[i, k] = row.x, row.y, row.score
    return make_poses(keypoint_set, values[..., :2], values[..., 2], ids, calibrated=calibrated)
