"""Tidy CSV: one row a keypoint."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

from leanpose.errors import InputError
from leanpose.io.files import LineFile
from leanpose.io.frames.interface import Clip, FrameWriter, set_of_names, time_of, whole_number
from leanpose.io.frames.lines import whole_lines
from leanpose.io.frames.rows import COLUMNS, Row, frames_of, rows_of
from leanpose.structures import Frame


class TidyCsvWriter(FrameWriter):
    """The rows of a frame are whole and in the file once `write` returns."""

    def __init__(self, path: Path, clip: Clip) -> None:
        self._file = LineFile(path)
        self._file.write(",".join(COLUMNS) + "\n")

    def write(self, frame: Frame) -> None:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        for row in rows_of(frame):
            digits = (_cell(row.time_s, 6), row.id, row.keypoint, _cell(row.x, 2), _cell(row.y, 2), _cell(row.score, 4))
            table.writerow([row.frame, *digits])
        self._file.write(text.getvalue())

    def close(self) -> None:
        self._file.close()


def _cell(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""


def read_tidy_csv(path: Path, fps: float | None) -> Iterator[Frame]:
    """Read tidy CSV, in two passes, the first for the names of the keypoints."""
    names = tuple(dict.fromkeys(row.keypoint for row in _rows(path, fps) if row.keypoint is not None))
    yield from frames_of(_rows(path, fps), names, set_of_names(names, path), path)


def _rows(path: Path, fps: float | None) -> Iterator[Row]:
    try:
        table = csv.reader(whole_lines(path))
        place = {name: i for i, name in enumerate(next(table, []))}
        if missing := [name for name in COLUMNS if name not in place]:
            raise InputError(f"{path} lacks the column '{missing[0]}'; tidy CSV has {', '.join(COLUMNS)}.")
        for number, cells in enumerate(table, 2):
            if len(cells) < len(place):
                raise InputError(f"{path}: row {number} has {len(cells)} cells, and there are {len(place)} columns.")
            yield _row([cells[place[name]] for name in COLUMNS], fps, f"{path}: row {number}")
    except csv.Error as error:
        raise InputError(f"{path} is not valid CSV ({error}).") from None


def _row(cells: list[str], fps: float | None, where: str) -> Row:
    frame, time_s, identity, keypoint, *values = cells
    index = whole_number(frame, f"{where}: 'frame'")
    person = whole_number(identity, f"{where}: 'id'") if identity else None
    try:
        time, x, y, score = (float(value) if value else math.nan for value in (time_s, *values))
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from None
    return Row(index, time if time_s else time_of(index, fps), person, keypoint or None, x, y, score)
