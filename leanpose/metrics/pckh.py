"""PCKh, the figure of MPII: how many keypoints are found to within a part of the size of the person's head.

The ground truth is MPII's MATLAB file (gt_valid.mat of HRNet). The head's size is 0.6 times the diagonal of its box.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from leanpose.errors import InputError
from leanpose.io.values import numbers
from leanpose.keypoint_sets import MPII, KeypointSet, mapping, without_partner

HEAD_SIZE = 0.6  # of the diagonal of the head's box
NOT_COUNTED = ("pelvis", "thorax")  # in the mean

# Rows of the table, each the plain mean of its keypoints.
ROWS = {"head": ("head_top",)} | {
    name: (f"left_{name}", f"right_{name}") for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
}
PCKH_KEYS = ("PCKh@0.5", "PCKh@0.1", *ROWS)

# MPII's keypoints as `dataset_joints` of the ground truth spells them.
SHORT_NAMES = [
    "rank", "rkne", "rhip", "lhip", "lkne", "lank", "pelv", "thor", "neck", "head",
    "rwri", "relb", "rsho", "lsho", "lelb", "lwri",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class PckhTruth:
    """MPII's ground truth of N persons.

    Attributes:
        path: its file.
        keypoints: (N, 16, 2) float64 in image pixels, the top-left pixel's center at (0, 0).
        labelled: (N, 16) bool.
        head_sizes: (N,) float64 pixels, 0.6 times the diagonal of the head's box.
    """

    path: Path
    keypoints: np.ndarray
    labelled: np.ndarray
    head_sizes: np.ndarray


def truth_file(annotations: str | Path) -> Path:
    """Return where the ground truth of a list of MPII persons lies: gt_valid.mat beside valid.json or valid.h5."""
    path = Path(annotations)
    return path.with_name(f"gt_{path.stem}.mat")


def read_truth(path: str | Path) -> PckhTruth:
    """Read MPII's ground truth, a MATLAB file that counts pixels from 1.

    Raises:
        InputError: there is no such file, or it cannot be used.
    """
    if not Path(path).is_file():
        raise InputError(f"PCKh needs the boxes of heads: put MPII's MATLAB file at {path} (gt_valid.mat of HRNet).")
    try:
        content = loadmat(path)
    except Exception:  # damaged files raise errors of many kinds
        raise InputError(f"{path} cannot be read as a MATLAB file (of a version below 7.3).") from None
    names = [str(np.ravel(name)[0]) for name in np.ravel(content.get("dataset_joints", [])) if np.size(name)]
    if names != SHORT_NAMES:
        raise InputError(f"{path} is no ground truth of MPII: 'dataset_joints' must be {' '.join(SHORT_NAMES)}.")
    k, n = len(MPII), np.shape(content.get("jnt_missing"))[-1:]
    labelled = _array(content, "jnt_missing", (k, *n), path).T == 0
    keypoints = _array(content, "pos_gt_src", (k, 2, *n), path).transpose(2, 0, 1) - 1
    low, high = _array(content, "headboxes_src", (2, 2, *n), path)
    head_sizes = HEAD_SIZE * np.linalg.norm(high - low, axis=0)
    if not (np.isfinite(keypoints[labelled]).all() and np.isfinite(head_sizes).all() and (head_sizes > 0).all()):
        raise InputError(f"{path} holds a labelled keypoint that is no number, or a head without a size.")
    return PckhTruth(Path(path), keypoints, labelled, head_sizes)


def _array(content: dict[str, Any], key: str, shape: tuple[int, ...], path: str | Path) -> np.ndarray:
    array = content.get(key)
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype.kind not in "biuf":
        raise InputError(f"{path} is no ground truth of MPII: '{key}' must be an array of numbers of shape {shape}.")
    return array.astype(np.float64)


def pckh_metrics(truth: PckhTruth, results: list[dict[str, Any]], keypoint_set: KeypointSet = MPII) -> dict[str, float]:
    """Return the share of keypoints that are found, 0 to 1, as the evaluation of MPII and HRNet's script do.

    A keypoint is found where it lies at most 0.5 (or 0.1) head sizes from its annotation. The main figures are means
    over all labelled keypoints but pelvis and thorax, so that a keypoint counts as often as it is labelled.

    Published figures "@0.1" of the HRNet family are too high: its script takes them at 0.11.

    Args:
        truth: the ground truth, see `read_truth`.
        results: one entry per person: `person`, the position in the list from 0, and `keypoints`, 3 numbers for each of
            the 16, of which x and y are used, in image pixels with the top-left pixel's center at (0, 0).
        keypoint_set: that of the results: MPII's keypoints, in any order.

    Returns:
        PCKh@0.5 and PCKh@0.1, then, at 0.5, head, shoulder, elbow, wrist, hip, knee, ankle, each the mean of left and
        right; -1 where nobody has such a keypoint.

    Raises:
        InputError: a file or a result that cannot be used; a person without a result, or with two.
    """
    if without_partner(keypoint_set, MPII):
        raise InputError(f"PCKh needs MPII's keypoints; these results have those of '{keypoint_set.name}'.")
    found = _found(results, truth)[:, mapping(keypoint_set, MPII)]
    distances = np.linalg.norm(found - truth.keypoints, axis=2) / truth.head_sizes[:, None]  # (N, K)
    counts = truth.labelled.sum(axis=0)  # (K,)
    counted = np.array([name not in NOT_COUNTED for name in MPII.keypoints])

    def hits(threshold: float) -> np.ndarray:
        return ((distances <= threshold) & truth.labelled).sum(axis=0)

    figures = {
        f"PCKh@{threshold}": _share(hits(threshold)[counted].sum(), counts[counted].sum()) for threshold in (0.5, 0.1)
    }
    for row, names in ROWS.items():
        where = [MPII.keypoints.index(name) for name in names]
        shares = [_share(hits(0.5)[k], counts[k]) for k in where]
        figures[row] = -1.0 if min(shares) < 0 else sum(shares) / len(shares)
    return figures


def _share(hits: int, count: int) -> float:
    return float(hits / count) if count else -1.0


def _found(results: list[dict[str, Any]], truth: PckhTruth) -> np.ndarray:
    """Return the keypoints of results as (N, 16, 2) float64."""
    n = len(truth.keypoints)
    found = np.full((n, len(MPII), 2), np.nan)
    for i, result in enumerate(results):
        person = result.get("person")
        if not isinstance(person, int) or not 0 <= person < n:
            raise InputError(
                f"Result {i} needs the number of its 'person', 0 to {n - 1} in {truth.path}, not {person}."
            )
        triples = numbers(result.get("keypoints"), (3 * len(MPII),), f"Result {i}: 'keypoints'")
        found[person] = triples.reshape(-1, 3)[:, :2]
    if len(results) != n or np.isnan(found).any():
        raise InputError(
            f"PCKh needs one result for each of the {n} persons of {truth.path}; these are {len(results)}."
        )
    return found
