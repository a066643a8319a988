"""Boxes against annotated persons."""

from __future__ import annotations

import numpy as np
import pytest

from leanpose.metrics.person_recall import match, recall

ONE, TWO, CROWD = [0, 0, 10, 20], [50, 0, 60, 20], [100, 0, 160, 40]
FAR = [200, 200, 210, 220]


def boxes(*values: list[int]) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 4)


def test_each_person_is_met_once_by_the_best_box() -> None:
    right, persons = match(boxes(ONE, ONE, [50, 2, 60, 22], FAR), boxes(ONE, TWO), np.zeros(2, bool))
    assert right.tolist() == [1, 0, 1, 0]
    assert persons.tolist() == [0, -1, 1, -1]


def test_boxes_on_a_crowd_are_neither_right_nor_false() -> None:
    right, persons = match(boxes([110, 5, 120, 25], CROWD, [95, 0, 108, 20], FAR), boxes(CROWD), np.ones(1, bool))
    np.testing.assert_array_equal(right, [np.nan, np.nan, np.nan, 0])
    assert persons.tolist() == [-1] * 4


def test_half_of_the_union_is_enough() -> None:
    assert match(boxes([0, 0, 10, 10]), boxes([0, 0, 10, 20]), np.zeros(1, bool))[0].tolist() == [1]
    assert match(boxes([0, 0, 10, 9]), boxes([0, 0, 10, 20]), np.zeros(1, bool))[0].tolist() == [0]


def test_recall_counts_boxes_until_there_are_too_many_false_ones() -> None:
    scores = [np.array([0.9, 0.5, 0.3]), np.array([0.8, 0.4, 0.2])]
    right = [np.array([1.0, 0.0, np.nan]), np.array([1.0, 0.0, 1.0])]
    assert recall(scores, right, 4, false_boxes=0) == pytest.approx(2 / 4)
    assert recall(scores, right, 4, false_boxes=0.5) == pytest.approx(2 / 4)
    assert recall(scores, right, 4) == pytest.approx(3 / 4)


def test_nothing_found() -> None:
    assert recall([np.zeros(0)], [np.zeros(0)], 3) == 0.0
