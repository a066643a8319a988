"""How far scores are from the chances that they stand for."""

from __future__ import annotations

import numpy as np


def expected_calibration_error(scores: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Return the mean distance, 0 to 1, between score and share of right ones, over bins of equal width.

    Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 2.

    Args:
        scores: (N,), at least one; beyond 0..1 they count as 0 or 1.
        right: (N,) bool.
        bins: how many.
    """
    scores = np.clip(scores, 0, 1)
    places = np.minimum((scores * bins).astype(int), bins - 1)
    excess = np.bincount(places, weights=scores - right, minlength=bins)  # of all in a bin together
    return float(np.abs(excess).sum() / len(scores))
