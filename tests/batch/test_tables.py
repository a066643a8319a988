"""The tables of a result."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

import pyarrow.parquet as pq

from leanpose.batch.estimate import rows
from leanpose.batch.reading import Failure
from leanpose.batch.tables import failures_table, persons_table
from leanpose.io.own_files import is_own
from leanpose.keypoint_sets import COCO
from leanpose.structures import Poses

PROVENANCE = {"model": "a", "sha256": "b", "flip_test": False}


def two_persons() -> Poses:
    random = np.random.default_rng(0)
    keypoints = random.normal(size=(2, 17, 2)).astype(np.float32)
    keypoints[1, 3] = np.nan
    scores = random.random((2, 17), np.float32)
    return Poses(keypoints, scores, random.random((2, 4), np.float32), np.array([0.9, 0.5], np.float32), COCO)


def test_persons(tmp_path: Path) -> None:
    poses = two_persons()
    found = [*rows(poses, (40, 30), "a ü.mp4", 7, 0.25), *rows(poses, (4, 3), "\udcff.jpg", None, None)]
    data = persons_table(found, COCO, PROVENANCE)
    assert data == persons_table(found, COCO, PROVENANCE)
    table = pq.read_table(io.BytesIO(data)).to_pylist()
    assert [(row["source"], row["person"]) for row in table] == [
        ("a ü.mp4", 0),
        ("a ü.mp4", 1),
        ("\\udcff.jpg", 0),
        ("\\udcff.jpg", 1),
    ]
    first, second = table[:2]
    assert (first["frame"], first["time_s"], first["height"], first["width"]) == (7, 0.25, 40, 30)
    assert (first["model"], first["sha256"]) == ("a", "b")
    assert first["score"] == np.float32(0.9)
    np.testing.assert_array_equal(first["box_xyxy"], poses.boxes_xyxy[0])
    np.testing.assert_array_equal(first["keypoints_x"], poses.keypoints[0, :, 0])
    np.testing.assert_array_equal(first["keypoints_y"], poses.keypoints[0, :, 1])
    np.testing.assert_array_equal(first["keypoint_scores"], poses.scores[0])
    assert second["keypoints_x"][3] is None and second["keypoints_y"][3] is None
    assert (table[2]["frame"], table[2]["time_s"]) == (None, None)
    head = json.loads(pq.read_schema(io.BytesIO(data)).metadata[b"leanpose"])
    assert head["provenance"] == PROVENANCE and head["keypoint_set"]["keypoints"] == list(COCO.keypoints)
    (tmp_path / "a.parquet").write_bytes(data)
    assert is_own(tmp_path / "a.parquet")


def test_nobody_is_a_table_of_the_same_columns() -> None:
    empty, full = (
        persons_table(found, COCO, PROVENANCE) for found in ([], list(rows(two_persons(), (4, 3), "a", 0, 0)))
    )
    assert pq.read_schema(io.BytesIO(empty)) == pq.read_schema(io.BytesIO(full))
    assert pq.read_table(io.BytesIO(empty)).num_rows == 0


def test_failures() -> None:
    found = [Failure("a.jpg", "missing", "There is no file a.jpg."), Failure("\udcff.mp4", "unusable", "\udcff", 3)]
    assert pq.read_table(io.BytesIO(failures_table(found))).to_pylist() == [
        {"source": "a.jpg", "kind": "missing", "message": "There is no file a.jpg.", "frame": None},
        {"source": "\\udcff.mp4", "kind": "unusable", "message": "\\udcff", "frame": 3},
    ]
