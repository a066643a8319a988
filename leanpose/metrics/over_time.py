"""Figures of what happens from frame to frame: identities that hold, keypoints that do not shake, and lag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.optimize import linear_sum_assignment

from leanpose import geometry
from leanpose.structures import Poses

SAME = 0.5  # OKS from which on somebody found is the true person


def identity_figures(truth: Sequence[Poses], found: Sequence[Poses]) -> dict[str, float]:
    """Judge the ids of persons found in the frames of a video.

    Somebody found may be a true person from an OKS of 0.5 on. "switches" counts how often a true person gets another id
    than the one before, as CLEAR MOT does (Bernardin and Stiefelhagen 2008): pairs that still hold are kept, the others
    made anew. "IDF1" joins each true person with at most one id for the whole video, the best ones: 2 IDTP /
    (true + found) persons of all frames (Ristani et al., arXiv 1609.01775).

    Args:
        truth: with ids, for each frame; keypoints that are NaN do not count.
        found: with ids, for each frame.

    Returns:
        "switches", "IDF1" (0 to 1), "ids" (how many were found) and "recall" (share of true persons that were found).
    """
    pairs: Counter[tuple[int, int]] = Counter()  # true id, found id
    last: dict[int, int] = {}
    switches = matched = 0
    for true, seen in zip(truth, found, strict=True):
        true_ids, ids = _ids(true), _ids(seen)
        alike = likeness_to_truth(true, seen)
        pairs.update((true_ids[i], ids[j]) for i, j in zip(*np.nonzero(alike >= SAME), strict=True))
        kept = np.array([[last.get(i) == j for j in ids] for i in true_ids], dtype=bool).reshape(alike.shape)
        worth = np.where(alike >= SAME, alike + 1000 * kept, 0)
        for i, j in zip(*linear_sum_assignment(worth, maximize=True), strict=True):
            if worth[i, j] > 0:
                switches += last.get(true_ids[i], ids[j]) != ids[j]
                last[true_ids[i]], matched = ids[j], matched + 1
    rows, columns = sorted({i for i, _ in pairs}), sorted({j for _, j in pairs})
    counts = np.array([[pairs[i, j] for j in columns] for i in rows]).reshape(len(rows), len(columns))
    together = counts[linear_sum_assignment(counts, maximize=True)].sum()
    true_count, found_count = sum(map(len, truth)), sum(map(len, found))
    return {
        "switches": switches,
        "IDF1": float(2 * together / max(true_count + found_count, 1)),
        "ids": len({identity for poses in found for identity in _ids(poses)}),
        "recall": matched / max(true_count, 1),
    }


def _ids(poses: Poses) -> list[int]:
    return [] if poses.ids is None else poses.ids.tolist()


def likeness_to_truth(truth: Poses, found: Poses) -> np.ndarray:
    """Return (N, M) OKS of true and found persons over the keypoints that are true; those not found count as 0."""
    result = np.zeros((len(truth), len(found)))
    sizes = truth.boxes_xyxy[:, 2:] - truth.boxes_xyxy[:, :2]
    for row, keypoints, area in zip(result, truth.keypoints, sizes.prod(axis=1), strict=True):
        known = np.isfinite(keypoints).all(axis=1)
        areas, sigmas = np.full(len(found), area), truth.keypoint_set.oks_sigmas[known]
        alike = geometry.similarities(found.keypoints[:, known], keypoints[known], areas, sigmas)
        row[:] = np.nan_to_num(alike).sum(axis=1) / max(known.sum(), 1)
    return result


def jitter(errors: np.ndarray) -> float:
    """Return the root mean square of the second differences over time of errors (T, ..., 2), pixels a frame squared.

    Where one of three frames is NaN there is none.
    """
    return float(np.sqrt(np.nanmean(np.sum(np.diff(errors, 2, axis=0) ** 2, axis=-1))))


def lag_s(found: np.ndarray, truth: np.ndarray, rate: float, longest_s: float = 0.2) -> float:
    """Return the seconds by which found places come after the true ones: the shift in time of the truth, which is taken
    as straight between frames, with the smallest mean square difference; offsets that stay do not count.

    Args:
        found, truth: (T, P, 2) pixels; NaN where not found.
        rate: frames a second.
        longest_s: largest shift that is tried, either way.
    """
    times = np.arange(len(truth))
    inner = slice(int(longest_s * rate) + 1, -int(longest_s * rate) - 1)
    shifts = np.arange(-longest_s, longest_s + 1e-9, 0.001)
    moving = make_interp_spline(times, truth, k=1)
    costs = []
    for shift in shifts:
        error = (found - moving(times - shift * rate))[inner]
        costs.append(np.nanmean((error - np.nanmean(error, axis=0)) ** 2))
    return float(shifts[int(np.argmin(costs))])
