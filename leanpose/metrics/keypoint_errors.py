"""PCK and errors in pixels, for each keypoint and over all, with intervals of 95 %.

The intervals are percentiles of the figures of 1,000 draws with replacement, the bootstrap of Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 13. Images are drawn, with all their persons: what makes an image hard
(light, blur, a crowd) is common to its persons, so persons drawn one by one would look like more evidence than they
are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

FRACTIONS = (0.05, 0.1, 0.2)
DRAWS = 1000


@dataclass(frozen=True)
class Figure:
    """A figure with the ends of its interval of 95 %; NaN where there is nothing to measure."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class KeypointErrors:
    """What is known of one keypoint, or of all.

    Attributes:
        name: of the keypoint, or "all": the means of the keypoints' figures, so that each counts as much as another.
        annotated: how many there are of persons whose length is known.
        found: how many of them have a place.
        pck: by fraction of a length: shares of the annotated, 0 to 1, that lie so near; those not found do not.
        mean: pixels, of those found.
        median: pixels, of those found.
        relative: the mean in lengths, of those found.
    """

    name: str
    annotated: int
    found: int
    pck: dict[float, Figure]
    mean: Figure
    median: Figure
    relative: Figure


def keypoint_errors(
    found: np.ndarray,
    truth: np.ndarray,
    lengths: np.ndarray,
    images: Iterable[object],
    names: Sequence[str],
    fractions: Sequence[float] = FRACTIONS,
) -> list[KeypointErrors]:
    """Return the errors of all keypoints together, then of each.

    Args:
        found: (N, K, 2) pixels; NaN counts as not found.
        truth: (N, K, 2) pixels, NaN where not annotated.
        lengths: (N,) pixels that PCK and relative errors are measured by; persons with NaN do not count.
        images: N names, the image of each person.
        names: K names of keypoints.
        fractions: of a length, above 0, for PCK.
    """
    annotated = np.isfinite(truth).all(axis=2) & np.isfinite(lengths)[:, None]  # (N, K)
    errors = np.where(annotated, np.linalg.norm(found - truth, axis=2), np.nan)
    relative = errors / lengths[:, None]
    weights = _draws(images)
    shares = {f: _figures(_means(np.where(annotated, relative <= f, np.nan), weights)) for f in fractions}
    means, medians, of_length = (
        _figures(values) for values in (_means(errors, weights), _medians(errors, weights), _means(relative, weights))
    )
    counts, founds = annotated.sum(axis=0).tolist(), np.isfinite(errors).sum(axis=0).tolist()
    totals = zip(("all", *names), (sum(counts), *counts), (sum(founds), *founds), strict=True)
    return [
        KeypointErrors(
            name, count, there, {f: figures[i] for f, figures in shares.items()}, means[i], medians[i], of_length[i]
        )
        for i, (name, count, there) in enumerate(totals)
    ]


def _draws(images: Iterable[object]) -> np.ndarray:
    """Return how often each person counts, (1 + DRAWS, N): once, then as often as its image is drawn."""
    numbers: dict[object, int] = {}
    places = np.array([numbers.setdefault(image, len(numbers)) for image in images], dtype=int)
    total = len(numbers)
    drawn = np.random.default_rng(0).integers(total, size=(DRAWS, total)) if total else np.zeros((DRAWS, 0), int)
    counts = np.stack([np.bincount(row, minlength=total) for row in drawn])
    return np.concatenate([np.ones((1, len(places))), counts[:, places]])


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (1 + DRAWS, K) weighted means of values (N, K) that are not NaN."""
    known = np.isfinite(values)
    totals = weights @ known
    return np.where(totals > 0, weights @ np.where(known, values, 0) / np.maximum(totals, 1), np.nan)


def _medians(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (1 + DRAWS, K) weighted medians of values (N, K) that are not NaN."""
    medians = np.full((len(weights), values.shape[1]), np.nan)
    for k, column in enumerate(values.T):
        order = np.argsort(column)[: np.isfinite(column).sum()]  # NaN is last
        below = np.cumsum(weights[:, order], axis=1)
        some = below[:, -1] > 0 if len(order) else np.zeros(len(weights), bool)
        half = below[some, -1:] / 2
        ends = [(below[some] < half).sum(axis=1), (below[some] <= half).sum(axis=1)]  # where it lies between two
        medians[some, k] = np.mean([column[order[end]] for end in ends], axis=0)
    return medians


def _figures(values: np.ndarray) -> list[Figure]:
    """Return 1 + K figures of (1 + DRAWS, K) values: of the means over keypoints, then of each."""
    known = np.isfinite(values)
    totals = known.sum(axis=1)
    means = np.where(totals > 0, np.where(known, values, 0).sum(axis=1) / np.maximum(totals, 1), np.nan)
    figures = []
    for value, *draws in np.column_stack([means, values]).T.tolist():
        drawn = [draw for draw in draws if math.isfinite(draw)]
        low, high = np.percentile(drawn, [2.5, 97.5]).tolist() if drawn else (math.nan, math.nan)
        figures.append(Figure(value, low, high))
    return figures
