"""What a keypoint's score is worth: lines from the codec's raw scores to the chance that the keypoint is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leanpose.errors import WeightsError
from leanpose.structures import Poses


@dataclass(frozen=True)
class Calibration:
    """For each of K keypoints a line of M points from raw scores to chances, level beyond its ends.

    The chance is that the keypoint is in the image, annotated, and found with a similarity (OKS of this one keypoint)
    above 0.5.

    Args:
        raw: M raw scores, rising.
        chance: for each keypoint M chances, 0 to 1, never falling.
        data: name of the annotation file that it was fitted on.

    Raises:
        WeightsError: the points are no such lines.
    """

    raw: tuple[float, ...]
    chance: tuple[tuple[float, ...], ...]
    data: str = ""

    def __post_init__(self) -> None:
        if not self.raw or not self.chance or {len(line) for line in self.chance} != {len(self.raw)}:
            raise WeightsError("A calibration needs as many chances of each keypoint as raw scores, at least one.")
        raw, chance = np.array(self.raw, np.float64), np.array(self.chance, np.float64)
        rises = (np.diff(raw) > 0).all() and (np.diff(chance) >= 0).all()  # NaN compares false
        if not (rises and ((chance >= 0) & (chance <= 1)).all()):
            raise WeightsError("The raw scores of a calibration must rise, its chances never fall and lie in 0..1.")

    @staticmethod
    def of(values: Mapping[str, Any]) -> Calibration:
        """Return what `dataclasses.asdict` made values of, also after JSON, which knows no tuples."""
        return Calibration(tuple(values["raw"]), tuple(map(tuple, values["chance"])), values["data"])

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return the chances (N, K), float32, of raw scores (N, K): 0 where these are not above 0, as of a keypoint
        that was not found; NaN stays NaN."""
        chances = np.empty(scores.shape, np.float32)
        for k, line in enumerate(self.chance):
            chances[:, k] = np.where(scores[:, k] <= 0, 0, np.interp(scores[:, k], self.raw, line))
        return chances


def calibrated(poses: Poses, calibration: Calibration | None) -> Poses:
    """Return poses of raw scores with chances in their place; without a calibration, as they are."""
    return poses if calibration is None else replace(poses, scores=calibration(poses.scores), raw_scores=poses.scores)
