"""Calibrated scores: lines from raw scores to chances, in the record and in poses."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from leanpose.errors import WeightsError
from leanpose.inference.top_down import rescored
from leanpose.keypoint_sets import COCO, KeypointSet
from leanpose.structures import Poses
from leanpose.weights.calibration import Calibration, calibrated
from leanpose.weights.record import METADATA_KEY, Weights

PAIR = KeypointSet("pair", ("tip", "root"), (), "test", (0.1, 0.1))
LINES = Calibration((0.2, 0.6), ((0.0, 1.0), (0.1, 0.3)), "held_back.json")


def poses_of(scores: list[float]) -> Poses:
    keypoints = np.array([[[5.0, 5.0], [9.0, 9.0]]], np.float32)
    box = np.array([[0, 0, 20, 20]], np.float32)
    return Poses(keypoints, np.array([scores], np.float32), box, np.array([0.7], np.float32), PAIR)


def test_each_keypoint_has_its_line_which_is_level_beyond_its_ends() -> None:
    scores = np.array([[0.1, 0.1], [0.2, 0.2], [0.5, 0.5], [1.2, 1.2]])
    np.testing.assert_allclose(LINES(scores), [[0, 0.1], [0, 0.1], [0.75, 0.25], [1, 0.3]], atol=1e-6)
    assert LINES(scores).dtype == np.float32


def test_what_was_not_found_stays_so() -> None:
    got = LINES(np.array([[np.nan, 0.0], [-0.2, np.nan]]))
    np.testing.assert_array_equal(got, [[np.nan, 0], [0, np.nan]])


@pytest.mark.parametrize(
    ("raw", "chance"),
    [
        ((), ()),
        ((0.1,), ()),
        ((0.1, 0.2), ((0.1,),)),
        ((0.2, 0.1), ((0.1, 0.2),)),
        ((0.1, 0.2), ((0.2, 0.1),)),
        ((0.1, 0.2), ((0.1, 1.2),)),
        ((0.1, 0.2), ((0.1, float("nan")),)),
    ],
)
def test_points_that_are_no_lines(raw: Any, chance: Any) -> None:
    with pytest.raises(WeightsError, match="calibration"):
        Calibration(raw, chance)


def test_calibrated_poses_keep_raw_scores_places_and_the_order_of_persons() -> None:
    raw = poses_of([0.5, 0.5])
    assert calibrated(raw, None) is raw
    poses = calibrated(raw, LINES)
    np.testing.assert_allclose(poses.scores, [[0.75, 0.25]], atol=1e-6)
    assert poses.raw_scores is raw.scores and poses.keypoints is raw.keypoints
    np.testing.assert_array_equal(poses.person_scores, raw.person_scores)
    record = Weights("x", "x", (32, 32), keypoint_set=PAIR)
    boxes = np.ones(1, np.float32)
    np.testing.assert_array_equal(
        rescored(poses, boxes, record).person_scores, rescored(raw, boxes, record).person_scores
    )
    turned = KeypointSet("turned", ("root", "other", "tip"), (), "test", (0.1, 0.1, 0.1))
    carried = poses[0].to(turned)
    assert carried.raw_scores is not None
    np.testing.assert_allclose(carried.raw_scores, [[0.5, 0, 0.5]])
    np.testing.assert_allclose(carried.scores, [[0.25, 0, 0.75]], atol=1e-6)


def test_what_counts_as_there() -> None:
    raw = poses_of([0.3, 0.3])
    assert raw.present((20, 20)).tolist() == [[True, True]]
    assert raw.present((20, 20), 0.31).tolist() == [[False, False]]
    poses = calibrated(poses_of([0.5, 0.5]), LINES)  # chances 0.75 and 0.25
    assert poses.present((20, 20)).tolist() == [[True, False]]
    assert poses.present((20, 20), 0.2).tolist() == [[True, True]]
    assert poses.present((20, 9), 0.2).tolist() == [[True, False]]  # x = 9 is the first column outside
    assert raw.present((20, 9)).tolist() == [[True, True]]


def test_the_record_carries_it() -> None:
    record = Weights("x", "x", (32, 32), keypoint_set=PAIR, calibration=LINES)
    assert Weights.from_metadata(record.to_metadata(), "x") == record
    with pytest.raises(WeightsError, match="one line of chances per keypoint"):
        dataclasses.replace(record, keypoint_set=COCO)


def test_records_of_the_former_format_have_none() -> None:
    record = Weights("x", "x", (32, 32), keypoint_set=PAIR)
    entry = json.loads(record.to_metadata()[METADATA_KEY]) | {"format": 2}
    del entry["calibration"]
    assert Weights.from_metadata({METADATA_KEY: json.dumps(entry)}, "x") == record
