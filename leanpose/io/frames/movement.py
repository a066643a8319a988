"""NetCDF files in the layout of the package `movement` (movement.neuroinformatics.dev, version 0.15)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.errors import InputError, require
from leanpose.io.files import write_atomically
from leanpose.io.frames.interface import UNKNOWN_SIZE, Clip, FrameWriter, WriterAtEnd, set_of_names, time_of
from leanpose.io.frames.tables import to_xarray
from leanpose.io.frames.tracks import identities, poses_of
from leanpose.structures import Frame

DIMENSIONS = ("time", "individuals", "keypoints", "space")  # in the order in which frames are taken out


def movement_writer(path: Path, clip: Clip) -> FrameWriter:
    """Return a writer that keeps all frames, since a dataset holds every individual in every frame."""
    require("xarray", "tables")
    return WriterAtEnd(path, clip, _write)


def _write(path: Path, clip: Clip, frames: Sequence[Frame]) -> None:
    if frames:  # else there is nothing that a dataset could hold
        dataset = to_xarray(frames, clip.fps, clip.source)
        write_atomically(path, lambda temporary: dataset.to_netcdf(temporary, engine="scipy"))


def read_movement(path: Path, fps: float | None) -> Iterator[Frame]:
    """Read a dataset of poses, ours (NetCDF 3) or one that movement saved (NetCDF 4)."""
    require("xarray", "tables")
    import xarray as xr

    try:
        dataset = xr.load_dataset(path)
    except Exception as error:  # of a broken file readers raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no NetCDF file that can be read ({reason}).") from None
    yield from frames_of_dataset(dataset, path, fps)


def frames_of_dataset(dataset: Any, where: str | Path, fps: float | None) -> Iterator[Frame]:
    """Return the frames of a dataset in movement's layout.

    Raises:
        InputError: it lacks positions, or a dimension of them.
    """
    if "position" not in dataset or {*dataset["position"].dims} != {*DIMENSIONS}:
        raise InputError(f"{where} must have the variable 'position' with the dimensions {', '.join(DIMENSIONS)}.")
    position = dataset["position"].transpose(*DIMENSIONS).sel(space=["x", "y"]).values
    confidence = np.full(position.shape[:3], np.nan, np.float32)
    if "confidence" in dataset:
        confidence = dataset["confidence"].transpose(*DIMENSIONS[:3]).values
    values = np.concatenate([position, confidence[..., None]], axis=3)
    keypoint_set = set_of_names([str(name) for name in dataset["keypoints"].values], where)
    ids = identities([str(name) for name in dataset["individuals"].values])
    times, fps = dataset["time"].values, fps or dataset.attrs.get("fps")
    seconds = dataset.attrs.get("time_unit") != "frames"
    numbers = dataset["frame"].values if "frame" in dataset else np.arange(len(times)) if seconds else times
    for number, time, in_frame in zip(numbers.tolist(), times.tolist(), values, strict=True):
        time_s = float(time) if seconds else time_of(int(number), fps)
        yield Frame(int(number), time_s, poses_of(in_frame, ids, keypoint_set), UNKNOWN_SIZE)
