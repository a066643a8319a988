"""The tables of a job's result, as Parquet. docs/scale.md describes the columns.

The bytes depend on the rows alone, so that a part that is done again is the same file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leanpose.batch.reading import Failure
from leanpose.io.own_files import PARQUET_KEY
from leanpose.keypoint_sets import KeypointSet


def persons_table(rows: Sequence[Mapping[str, Any]], keypoint_set: KeypointSet, provenance: Mapping[str, Any]) -> bytes:
    """Return the Parquet file of persons; the keypoints' names and how they were found stand in its metadata.

    Args:
        rows: as `estimate.rows` makes them.
        keypoint_set: of all rows.
        provenance: as `Predictor.provenance`; `model` and `sha256` are columns too.
    """
    import pyarrow as pa

    floats = pa.list_(pa.float32())
    word = pa.dictionary(pa.int32(), pa.string())
    head = {"keypoint_set": keypoint_set.to_dict(), "provenance": dict(provenance)}
    schema = pa.schema(
        [
            ("source", pa.string()),
            ("frame", pa.int64()),
            ("time_s", pa.float64()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("person", pa.int32()),
            ("score", pa.float32()),
            ("box_xyxy", floats),
            ("keypoints_x", floats),
            ("keypoints_y", floats),
            ("keypoint_scores", floats),
            ("model", word),
            ("sha256", word),
        ],
        metadata={PARQUET_KEY: json.dumps(head).encode()},
    )
    same = {"model": provenance["model"], "sha256": provenance["sha256"]}
    columns = {name: [(dict(row) | same)[name] for row in rows] for name in schema.names}
    return _parquet(pa.table({name: _column(values) for name, values in columns.items()}, schema=schema))


def _column(values: list[Any]) -> list[Any]:
    """Return a column: arrays as lists in which NaN is nothing, and what UTF-8 lacks, in names, escaped."""
    if values and isinstance(values[0], str):
        return [value.encode("utf-8", "backslashreplace").decode() for value in values]
    if not values or not isinstance(values[0], np.ndarray):
        return values
    return [[None if value != value else value for value in array.tolist()] for array in values]


def failures_table(failures: Sequence[Failure]) -> bytes:
    """Return the Parquet file of what could not be worked on."""
    import pyarrow as pa

    schema = pa.schema(
        [("source", pa.string()), ("kind", pa.string()), ("message", pa.string()), ("frame", pa.int64())],
        metadata={PARQUET_KEY: b"{}"},
    )
    columns = {name: _column([getattr(failure, name) for failure in failures]) for name in schema.names}
    return _parquet(pa.table(columns, schema=schema))


def _parquet(table: Any) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
