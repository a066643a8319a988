"""Errors by keypoint with their intervals."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from leanpose.metrics.keypoint_errors import keypoint_errors
from leanpose.metrics.pck import pck

NAMES = ("tip", "handle")


def test_figures_worked_out_by_hand() -> None:
    truth = np.full((5, 2, 2), 10.0)
    found = truth.copy()
    found[:, 0, 0] += [0, 1, 2, 3, 30]  # of the tip
    found[:, 1, 1] += [4, 8, 0, 0, 0]
    truth[2:, 1] = np.nan  # two handles are annotated
    found[0, 1] = np.nan  # one of them is found
    both, tip, handle = keypoint_errors(found, truth, np.full(5, 20.0), range(5), NAMES, (0.1, 0.5))
    assert [both.name, tip.name, handle.name] == ["all", *NAMES]
    assert [(e.annotated, e.found) for e in (both, tip, handle)] == [(7, 6), (5, 5), (2, 1)]
    assert [tip.pck[f].value for f in (0.1, 0.5)] == pytest.approx([0.6, 0.8])
    assert [handle.pck[f].value for f in (0.1, 0.5)] == pytest.approx([0, 0.5])  # what is not found is wrong
    assert both.pck[0.5].value == pytest.approx(0.65)  # keypoints count alike
    assert [e.mean.value for e in (tip, handle, both)] == pytest.approx([7.2, 8, 7.6])
    assert [e.median.value for e in (tip, handle, both)] == pytest.approx([2, 8, 5])
    assert tip.relative.value == pytest.approx(7.2 / 20)


def test_medians_are_those_of_numpy() -> None:
    random = np.random.default_rng(0)
    truth, moves = np.zeros((40, 3, 2)), random.normal(size=(40, 3, 2))
    moves[random.uniform(size=(40, 3)) < 0.3] = np.nan
    errors = keypoint_errors(truth + moves, truth, np.ones(40), range(40), ("a", "b", "c"))[1:]
    expected = np.nanmedian(np.linalg.norm(moves, axis=2), axis=0)
    np.testing.assert_allclose([e.median.value for e in errors], expected)


def test_shares_are_those_of_pck() -> None:
    random = np.random.default_rng(1)
    truth, moves = np.zeros((50, 2, 2)), random.normal(size=(50, 2, 2))
    lengths = random.uniform(2, 9, 50)
    lengths[::7] = np.nan  # such persons do not count
    errors = keypoint_errors(truth + moves, truth, lengths, range(50), NAMES, (0.2,))
    shares = pck(truth + moves, truth, lengths, 0.2)
    np.testing.assert_allclose([e.pck[0.2].value for e in errors], [shares.mean(), *shares])


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    random = np.random.default_rng(2)
    held = []
    for _ in range(60):
        found = np.zeros((40, 1, 2))
        found[:, 0, 0] = random.exponential(5, 40)
        mean = keypoint_errors(found, np.zeros_like(found), np.ones(40), range(40), ("a",), ())[0].mean
        held.append(mean.low < 5 < mean.high)
    assert np.mean(held) > 0.85  # 95 % of them in the long run, somewhat fewer of skewed errors


def test_persons_of_one_image_are_no_more_evidence_than_it() -> None:
    """Whoever repeats each person in its image has learned nothing."""
    random = np.random.default_rng(3)
    found, images = random.normal(size=(30, 1, 2)), np.arange(30)
    truth, lengths = np.zeros_like(found), np.ones(30)
    once, *_ = keypoint_errors(found, truth, lengths, images, ("a",))
    again = np.repeat(np.arange(30), 4)
    four, *_ = keypoint_errors(found[again], truth[again], lengths[again], images[again], ("a",))
    assert dataclasses.astuple(four.mean) == pytest.approx(dataclasses.astuple(once.mean))


def test_the_same_figures_each_time() -> None:
    found = np.random.default_rng(4).normal(size=(9, 2, 2))
    first, second = (keypoint_errors(found, np.zeros_like(found), np.ones(9), range(9), NAMES) for _ in range(2))
    assert first == second


def test_nothing_to_measure() -> None:
    """A keypoint that nobody annotates, and a set of nobody."""
    truth = np.zeros((3, 2, 2))
    truth[:, 1] = np.nan
    both, tip, handle = keypoint_errors(truth, truth, np.ones(3), range(3), NAMES)
    assert math.isnan(handle.mean.value) and math.isnan(handle.pck[0.1].low) and handle.annotated == 0
    assert both.mean == tip.mean and both.pck[0.1].value == 1
    nobody, *_ = keypoint_errors(np.zeros((0, 2, 2)), np.zeros((0, 2, 2)), np.zeros(0), [], NAMES)
    assert math.isnan(nobody.median.value)
