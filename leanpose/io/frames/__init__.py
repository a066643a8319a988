"""Files of frames: what a video's poses are written to, and read from again. This is the gate; each form is a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from leanpose.errors import InputError, require, suggest
from leanpose.io.frames.coco import CocoWriter, read_coco
from leanpose.io.frames.deeplabcut import deeplabcut_writer, read_deeplabcut
from leanpose.io.frames.interface import Clip, FrameWriter
from leanpose.io.frames.lines import HEAD, JsonLinesWriter, read_json_lines
from leanpose.io.frames.movement import movement_writer, read_movement
from leanpose.io.frames.openpose import OpenPoseWriter, read_openpose
from leanpose.io.frames.parquet import ParquetWriter, read_parquet
from leanpose.io.frames.posetrack import PoseTrackWriter
from leanpose.io.frames.rows import COLUMNS
from leanpose.io.frames.tables import poses_table, to_xarray
from leanpose.io.frames.tidy_csv import TidyCsvWriter, read_tidy_csv
from leanpose.io.own_files import is_own, is_own_folder
from leanpose.structures import Frame

__all__ = ["FORMS", "Clip", "FrameWriter", "check_place", "open_writer", "poses_table", "read_frames", "to_xarray"]


@dataclass(frozen=True)
class Form:
    """One form of frame files.

    Attributes:
        ending: what follows the name of the clip in the name of the file, or of the folder.
        writer: makes a writer from a path and the clip.
        packages: import names of what it needs of the extra "tables".
    """

    ending: str
    writer: Callable[[Path, Clip], FrameWriter]
    packages: tuple[str, ...] = ()


FORMS = {
    "jsonl": Form(".jsonl", JsonLinesWriter),
    "csv": Form(".csv", TidyCsvWriter),
    "parquet": Form(".parquet", ParquetWriter, ("pyarrow",)),
    "coco": Form("_coco.json", CocoWriter),
    "openpose": Form("_openpose", OpenPoseWriter),
    "posetrack": Form("_posetrack.json", PoseTrackWriter),
    "deeplabcut": Form("_deeplabcut.csv", deeplabcut_writer),
    "movement": Form(".nc", movement_writer, ("xarray",)),
}


def open_writer(form: str, path: str | Path, clip: Clip) -> FrameWriter:
    """Open a file, or of OpenPose a folder, for the frames of a clip.

    Args:
        form: a name of FORMS. jsonl, csv and openpose are whole after every frame; parquet, coco and posetrack go
            to the disk as they come and are there once closed; deeplabcut and movement keep all poses until closed.
        path: by custom the clip's name with `FORMS[form].ending`; missing folders are made.
        clip: keypoint set, source, rate, and how the poses were made.

    Raises:
        InputError: as `check_place`, or the file cannot be written.
        MissingPackageError: the form needs a package that is not installed.
    """
    check_place(form, path)
    return FORMS[form].writer(Path(path), clip)


def check_place(form: str, path: str | Path) -> None:
    """Raise what would keep `open_writer` from its work, and leave everything as it is.

    Raises:
        InputError: there is no such form, or the path holds what leanpose did not write.
        MissingPackageError: the form needs a package that is not installed.
    """
    if form not in FORMS:
        raise InputError(f"There is no format '{form}'.{suggest(form, FORMS)}")
    for package in FORMS[form].packages:
        require(package, "tables")
    path = Path(path)
    own = is_own_folder if form == "openpose" else is_own
    if (path.exists() or path.is_symlink()) and not own(path):
        raise InputError(f"The results would overwrite {path}, which leanpose did not write; choose another place.")


def read_frames(path: str | Path, fps: float | None = None) -> Iterator[Frame]:
    """Read a file or folder of frames, which is known by what it holds, not by its name.

    Args:
        path: in one of FORMS, by leanpose or by others; also a list of COCO results.
        fps: frames per second, from which times follow where the file has none.

    Returns:
        The frames in the file's order, without images. What a form cannot hold is made up for: boxes are the extent of
        the keypoints, person scores the mean of the keypoints' scores, scores 1 where there is a place, image
        sizes (0, 0), and times NaN without `fps`.

    Raises:
        InputError: there is no such file, it has none of the forms, or a value in it cannot be used.
        MissingPackageError: the form needs a package that is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file {path}; check the path.")
    return _reader(path)(path, fps)


def _reader(path: Path) -> Callable[[Path, float | None], Iterator[Frame]]:
    if path.is_dir():
        return read_openpose
    with path.open("rb") as file:
        start = file.readline(1 << 20)
    if start.startswith(b"PAR1"):
        return read_parquet
    if start.startswith((b"CDF", b"\x89HDF")):
        return read_movement
    line = start.decode("utf-8-sig", "replace").strip()
    if line.startswith(("{", "[")):
        return read_json_lines if _is_head(line) else read_coco
    try:
        cells = next(csv.reader([line]), [""])
    except csv.Error:  # no text, such as a video
        cells = [""]
    if cells[:1] == ["scorer"]:
        return read_deeplabcut
    if {*COLUMNS} <= {*cells}:
        return read_tidy_csv
    raise InputError(f"{path} has none of the formats {', '.join(FORMS)}.")


def _is_head(line: str) -> bool:
    """Whether a line is the first of our JSON lines."""
    try:
        return {HEAD, "source", "keypoint_set"} <= json.loads(line).keys()
    except (ValueError, AttributeError, RecursionError):
        return False
