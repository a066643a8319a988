"""Expected calibration error."""

from __future__ import annotations

import numpy as np
import pytest

from leanpose.metrics.calibration_error import expected_calibration_error


def test_by_hand() -> None:
    scores = np.array([0.12, 0.18, 0.95, 1.3])  # two bins of two; the last counts as 1
    right = np.array([False, True, True, False])
    assert expected_calibration_error(scores, right) == pytest.approx((2 * 0.35 + 2 * 0.475) / 4)


def test_scores_that_are_chances_have_none_and_others_their_distance() -> None:
    random = np.random.default_rng(0)
    chances = random.uniform(0, 1, 200_000)
    right = random.uniform(0, 1, len(chances)) < chances
    assert expected_calibration_error(chances, right) < 0.005
    assert expected_calibration_error(np.clip(chances + 0.2, 0, 1), right) == pytest.approx(0.18, abs=0.01)
