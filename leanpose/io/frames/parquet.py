"""Tidy rows as Parquet, in row groups, so that memory does not grow; the file is there once it is closed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leanpose.errors import InputError, require
from leanpose.io.files import WholeFile
from leanpose.io.frames.interface import Clip, FrameWriter, is_calibrated, set_of_names, time_of
from leanpose.io.frames.rows import COLUMNS, Row, frames_of, rows_of
from leanpose.io.own_files import PARQUET_KEY
from leanpose.keypoint_sets import KeypointSet
from leanpose.structures import Frame

GROUP = 20_000  # rows in a row group


class ParquetWriter(FrameWriter):
    """Rows are kept up to a row group."""

    def __init__(self, path: Path, clip: Clip) -> None:
        require("pyarrow", "tables")
        import pyarrow as pa
        import pyarrow.parquet as pq

        head = {
            "keypoint_set": clip.keypoint_set.to_dict(),
            "source": clip.source,
            "fps": clip.fps,
            "provenance": dict(clip.provenance),
        }
        types = (pa.int64(), pa.float64(), pa.int64(), pa.string(), pa.float32(), pa.float32(), pa.float32())
        metadata = {PARQUET_KEY: json.dumps(head).encode()}
        self._schema = pa.schema(list(zip(COLUMNS, types, strict=True)), metadata=metadata)
        self._rows: list[Row] = []
        self._file = WholeFile(path)
        self._writer = pq.ParquetWriter(self._file, self._schema)

    def write(self, frame: Frame) -> None:
        self._rows += rows_of(frame)
        if len(self._rows) >= GROUP:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pydict(_columns(self._rows), schema=self._schema))
        self._rows.clear()

    def close(self) -> None:
        if not self._file.closed:
            if self._rows:
                self._write_group()
            self._writer.close()
            self._file.close()


def _columns(rows: list[Row]) -> dict[str, list[Any]]:
    """Return the columns of rows; NaN is nothing, as None."""
    columns = zip(*([None if value != value else value for value in row] for row in rows), strict=True)
    return {name: list(values) for name, values in zip(COLUMNS, columns, strict=True)}


def read_parquet(path: Path, fps: float | None) -> Iterator[Frame]:
    """Read tidy Parquet, row group by row group; of others than ours in two passes, the first for the names."""
    require("pyarrow", "tables")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in COLUMNS if name not in file.schema_arrow.names]:
                raise InputError(f"{path} lacks the column '{missing[0]}'; tidy Parquet has {', '.join(COLUMNS)}.")
            head = json.loads((file.schema_arrow.metadata or {}).get(PARQUET_KEY, b"{}"))
            names, keypoint_set = _names(file, head, path)
            yield from frames_of(_rows(file, fps), names, keypoint_set, path, is_calibrated(head.get("provenance")))
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is no Parquet file that can be read ({error}).") from None


def _names(file: Any, head: dict[str, Any], path: Path) -> tuple[tuple[str, ...], KeypointSet]:
    """Return the names of the keypoints as the file has them, and their set."""
    if head:
        keypoint_set = KeypointSet.from_dict(head["keypoint_set"])
        return keypoint_set.keypoints, keypoint_set
    batches = file.iter_batches(columns=["keypoint"])
    found = dict.fromkeys(name for batch in batches for name in batch.column(0).to_pylist() if name is not None)
    return tuple(found), set_of_names(tuple(found), path)


def _rows(file: Any, fps: float | None) -> Iterator[Row]:
    for batch in file.iter_batches(GROUP, columns=list(COLUMNS)):
        for frame, time_s, identity, keypoint, *values in zip(
            *(batch.column(name).to_pylist() for name in COLUMNS), strict=True
        ):
            x, y, score = (float("nan") if value is None else value for value in values)
            time = time_of(frame, fps) if time_s is None else time_s
            person = None if identity is None or identity != identity else int(identity)
            yield Row(frame, time, person, keypoint, x, y, score)
