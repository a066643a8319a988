"""Figures over time, on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from walkers import poses_of, walker

from leanpose.metrics.over_time import identity_figures, jitter, lag_s

SECONDS = np.arange(60) / 30
TWO = np.stack([walker(SECONDS, 100, 50, 50, 200), walker(SECONDS, 500, 50, 50, 200)], axis=1)


def test_identities_are_counted() -> None:
    truth = [poses_of(people, np.array([4, 7])) for people in TWO[:10]]
    swapped = [poses_of(people, np.array([1, 2] if i < 6 else [2, 1])) for i, people in enumerate(TWO[:10])]
    assert identity_figures(truth, swapped) == {"switches": 2, "IDF1": 0.6, "ids": 2, "recall": 1}
    broken = [poses_of(TWO[i, :1], np.array([1 if i < 5 else 3])) for i in range(10)]
    assert identity_figures(truth, broken) == {"switches": 1, "IDF1": 2 * 5 / 30, "ids": 2, "recall": 0.5}
    elsewhere = [poses_of(people + 300, np.array([1, 2])) for people in TWO[:10]]
    assert identity_figures(truth, elsewhere)["recall"] == 0
    nobody = [poses_of(people[:0]) for people in TWO[:10]]
    assert identity_figures(truth, nobody) == {"switches": 0, "IDF1": 0, "ids": 0, "recall": 0}
    assert identity_figures(nobody, nobody)["IDF1"] == 0


def test_jitter_is_that_of_second_differences() -> None:
    errors = np.zeros((5, 1, 2))
    errors[2, 0] = (3, 4)  # differences 1, -2, 1 times 5
    assert jitter(errors) == pytest.approx(5 * np.sqrt(6 / 3))
    assert jitter(np.arange(10.0)[:, None, None] * np.ones(2)) == pytest.approx(0)
    errors[4] = np.nan
    assert jitter(errors) == pytest.approx(5 * np.sqrt(5 / 2))


@pytest.mark.parametrize("late_s", [0.0, 0.04, -0.02])
def test_lag_is_found_whatever_the_offset(late_s: float) -> None:
    late = walker(SECONDS - late_s, 100, 50, 50, 200) + 3
    late[20:25] = np.nan
    assert lag_s(late, TWO[:, 0], 30) == pytest.approx(late_s, abs=0.004)
