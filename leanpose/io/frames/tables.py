"""Frames as one pandas table or one xarray dataset."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from leanpose.errors import InputError, require
from leanpose.io.frames.rows import COLUMNS, rows_of
from leanpose.io.frames.tracks import individuals, values_of
from leanpose.structures import Frame

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def poses_table(frames: Iterable[Frame]) -> pd.DataFrame:
    """Return tidy rows, one a keypoint, with the columns of tidy CSV and Parquet.

    Args:
        frames: of a video, `read_frames` or made by hand.

    Returns:
        frame, time_s, id (Int64, missing where untracked), keypoint, x, y in image pixels (NaN where absent), score. A
        frame without persons has one row, empty after its time.

    Raises:
        MissingPackageError: pandas is not installed.
    """
    require("pandas", "tables")
    import pandas as pd

    table = pd.DataFrame.from_records([row for frame in frames for row in rows_of(frame)], columns=list(COLUMNS))
    return table.astype({"frame": "int64", "id": "Int64", "x": "float32", "y": "float32", "score": "float32"})


def to_xarray(frames: Iterable[Frame], fps: float | None = None, source: str = "") -> xr.Dataset:
    """Return a dataset in the layout of the package `movement` (movement.neuroinformatics.dev, version 0.15).

    Args:
        frames: all with the same keypoint set.
        fps: nominal frames per second, for the attribute of that name; the times are those of the frames.
        source: name of the video, for the attribute source_file.

    Returns:
        `position` (time, space, keypoints, individuals) float32 x, y in image pixels and `confidence` (time, keypoints,
        individuals) float32, NaN where an individual is not there. Individuals are id_7 for identity 7, and person_0,
        person_1 ... for places in the frame where poses are untracked. `time` is in seconds, or in frames where a
        frame has no time; `frame` (time) is the number of each.

    Raises:
        InputError: there is no frame, or keypoint sets differ.
        MissingPackageError: xarray is not installed.
    """
    require("xarray", "tables")
    import xarray as xr

    frames = list(frames)
    if not frames:
        raise InputError("There are no frames to make a dataset of; give at least one.")
    keypoint_set = frames[0].poses.keypoint_set
    if any(frame.poses.keypoint_set != keypoint_set for frame in frames):
        raise InputError("Frames of one dataset must have one keypoint set; carry them to one with Poses.to.")
    names = individuals(frames)
    values = np.stack([values_of(frame.poses, names) for frame in frames])  # (T, I, K, 3)
    numbers, times = [frame.index for frame in frames], [frame.time_s for frame in frames]
    timed = bool(np.isfinite(times).all())
    attributes: dict[str, Any] = {"source_software": "leanpose", "ds_type": "poses"}
    attributes |= {"time_unit": "seconds" if timed else "frames", "source_file": source}
    return xr.Dataset(
        {
            "position": (("time", "space", "keypoints", "individuals"), values[..., :2].transpose(0, 3, 2, 1)),
            "confidence": (("time", "keypoints", "individuals"), values[..., 2].transpose(0, 2, 1)),
        },
        {
            "time": times if timed else numbers,
            "space": ["x", "y"],
            "keypoints": list(keypoint_set.keypoints),
            "individuals": np.array(names, dtype="U"),
            "frame": ("time", numbers),
        },
        attributes | ({"fps": float(fps)} if fps else {}),
    )
