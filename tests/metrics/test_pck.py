"""PCK by the torso, and by the box."""

from __future__ import annotations

import numpy as np
import pytest

from leanpose.errors import InputError
from leanpose.keypoint_sets import COCO, KeypointSet
from leanpose.metrics.pck import length_of, pck, person_lengths, torso_lengths


def person() -> np.ndarray:
    keypoints = np.full((17, 2), 50.0)
    keypoints[COCO.keypoints.index("left_shoulder")] = 0, 0
    keypoints[COCO.keypoints.index("right_hip")] = 30, 40
    return keypoints


def test_within_a_fifth_of_the_torso() -> None:
    truth = np.stack([person(), person(), person()])
    truth[1, 0] = np.nan  # not annotated
    truth[2, COCO.keypoints.index("right_hip")] = np.nan  # no torso: the person does not count
    lengths = torso_lengths(truth, COCO)
    np.testing.assert_array_equal(lengths, [50, 50, np.nan])
    found = np.stack([person(), person(), person()])
    found[0, 0, 0] += 10.0  # right
    found[1, 0] = 0  # of what is not annotated
    found[0, 1, 1] += 10.1  # wrong
    found[1, 2] = np.nan  # not found
    shares = pck(found, truth, lengths)
    np.testing.assert_array_equal(shares[:4], [1, 0.5, 0.5, 1])
    assert pck(found, truth, lengths, 0.21)[1] == 1


def test_a_keypoint_that_nobody_annotates_has_no_share() -> None:
    truth = person()[None].copy()
    truth[0, 3] = np.nan
    assert np.isnan(pck(truth, truth, torso_lengths(truth, COCO))[3])


def test_a_set_without_a_torso() -> None:
    with pytest.raises(InputError, match="left_shoulder and right_hip"):
        torso_lengths(np.zeros((1, 1, 2)), KeypointSet("dot", ("dot",), (), "test", (0.1,)))


def test_the_box_where_there_is_no_torso() -> None:
    keypoints, boxes = person()[None], np.array([[10.0, 20, 40, 90]])
    dot = KeypointSet("dot", ("dot",), (), "test")
    assert (length_of(COCO), length_of(dot)) == ("torso", "box")
    assert person_lengths(keypoints, boxes, COCO).tolist() == [50]
    assert person_lengths(keypoints[:, :1], boxes, dot).tolist() == [70]


def test_a_torso_in_any_spelling_but_not_without_length() -> None:
    spelled = KeypointSet("two", ("RHip", "Left Shoulder"), (), "test")
    lengths = torso_lengths(np.array([[[0.0, 0], [3, 4]], [[1, 1], [1, 1]]]), spelled)
    np.testing.assert_array_equal(lengths, [5, np.nan])
