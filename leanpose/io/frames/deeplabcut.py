"""DeepLabCut's CSV: a row a frame, and x, y, likelihood of every body part of every individual as columns.

Form: deeplabcut.github.io/DeepLabCut/docs/standardDeepLabCut_UserGuide.html; of one animal, the row of individuals is
missing.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from leanpose.errors import InputError
from leanpose.io.files import write_atomically
from leanpose.io.frames.interface import UNKNOWN_SIZE, Clip, FrameWriter, WriterAtEnd, set_of_names, time_of
from leanpose.io.frames.tracks import identities, individuals, poses_of, values_of
from leanpose.io.own_files import DEEPLABCUT_SCORER
from leanpose.structures import Frame

COORDS = ("x", "y", "likelihood")


def deeplabcut_writer(path: Path, clip: Clip) -> FrameWriter:
    """Return a writer that keeps all frames, since the header names every individual."""
    return WriterAtEnd(path, clip, _write)


def _write(path: Path, clip: Clip, frames: Sequence[Frame]) -> None:
    names = individuals(frames)
    columns = list(product(names, clip.keypoint_set.keypoints, COORDS))
    header = [("scorer", *[DEEPLABCUT_SCORER] * len(columns))]
    header += zip(("individuals", "bodyparts", "coords"), *columns, strict=True)

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerows(header)
            for frame in frames:
                values = values_of(frame.poses, names).ravel().astype(float).round(4).tolist()
                table.writerow([frame.index, *("" if math.isnan(value) else value for value in values)])

    write_atomically(path, write)


def read_deeplabcut(path: Path, fps: float | None) -> Iterator[Frame]:
    """Read the CSV of one animal or several; frames have the number of their row, or its place where it is a name."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _frames(csv.reader(file), path, fps)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8 ({error}).") from None
    except csv.Error as error:
        raise InputError(f"{path} is not valid CSV ({error}).") from None


def _frames(table: Iterator[list[str]], path: Path, fps: float | None) -> Iterator[Frame]:
    header = {}
    for row in table:
        header[row[0] if row else ""] = row
        if row and row[0] == "coords":
            break
    if missing := [name for name in ("bodyparts", "coords") if name not in header]:
        raise InputError(f"{path} lacks the row '{missing[0]}' above its numbers, which DeepLabCut's CSV has.")
    coords = header["coords"]
    used = [i for i, coord in enumerate(coords) if coord in COORDS]
    of_columns = header.get("individuals", [""] * len(coords))
    if min(map(len, (of_columns, header["bodyparts"]))) < len(coords):
        raise InputError(f"{path}: the rows above its numbers must have the same length.")
    names = list(dict.fromkeys(of_columns[i] for i in used))
    parts = list(dict.fromkeys(header["bodyparts"][i] for i in used))
    places = [(names.index(of_columns[i]), parts.index(header["bodyparts"][i]), COORDS.index(coords[i])) for i in used]
    keypoint_set, ids = set_of_names(parts, path), identities(names)
    for number, row in enumerate(table):
        values = np.full((len(names), len(parts), 3), np.nan, np.float32)
        try:
            for i, place in zip(used, places, strict=True):
                values[place] = float(row[i]) if row[i] else math.nan
        except (ValueError, IndexError):
            raise InputError(f"{path}: row {number} below the header must have {len(coords)} numbers.") from None
        index = int(row[0]) if row[0].isdecimal() else number
        yield Frame(index, time_of(index, fps), poses_of(values, ids, keypoint_set), UNKNOWN_SIZE)
