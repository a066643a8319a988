"""Networks that do all of the decoding themselves: boxes, and boxes with keypoints, as mmdeploy exports them.

Suppression of overlapping boxes, by score and IoU, is part of these networks. Sources: YOLOX (arXiv 2107.08430) and
RTMDet (arXiv 2212.07784) for boxes, RTMO (arXiv 2312.07526) for persons with keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leanpose.codecs.heatmap import check_count, check_share
from leanpose.codecs.interface import Outputs
from leanpose.errors import InputError
from leanpose.geometry import Size
from leanpose.weights.record import Task


@dataclass(frozen=True)
class Detections:
    """Boxes of things of several kinds, of which the persons are read.

    The outputs are dets (1, N, 5), left, top, right, bottom in input pixels and score in 0..1, and labels (1, N).

    Args:
        score_threshold: decode returns persons whose score is above it, in 0..1.
        nms_iou: of two boxes with a larger IoU, from several sizes of the image, only the better one counts, in 0..1;
            the network has done it for each size.
        max_people: decode returns no more persons, >= 1.
        person: the label of persons, >= 0.

    Raises:
        InputError: a parameter is out of its range.
    """

    score_threshold: float = 0.05
    nms_iou: float = 0.65
    max_people: int = 200
    person: int = 0

    task: ClassVar[Task] = "detection"
    output_names: ClassVar[tuple[str, ...]] = ("dets", "labels")

    def __post_init__(self) -> None:
        check_share("score_threshold", self.score_threshold)
        check_share("nms_iou", self.nms_iou)
        check_count("max_people", self.max_people)
        check_count("person", self.person, least=0)

    def decode(self, outputs: Outputs, input_size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes_xyxy (P, 4) float32 in input pixels and scores (P,) float32 of one image, best first.

        Rows without a finite box of some area, with which networks fill up their lists, are left out.

        Raises:
            InputError: the outputs have other shapes, or are of several images.
        """
        dets, labels = outputs["dets"], outputs["labels"]
        if labels.shape != dets.shape[:2]:
            raise InputError(f"decode needs dets (1, N, 5) and labels (1, N), not {dets.shape} and {labels.shape}.")
        best = _best(dets, self.score_threshold, self.max_people, among=labels == self.person)
        found = dets[0, best].astype(np.float32)
        return found[:, :4], found[:, 4]

    def merge_flipped(self, outputs: Outputs, mirrored: Outputs, flip_index: Sequence[int] | np.ndarray) -> Outputs:
        """Raise InputError: there is nothing to average."""
        raise no_flip_test("detections")


@dataclass(frozen=True)
class DetectedPoses:
    """Persons with their keypoints.

    The outputs are dets (1, N, 5), left, top, right, bottom in input pixels and score in 0..1, and keypoints
    (1, N, K, 3), x and y in input pixels and score in 0..1.

    Args:
        score_threshold: decode returns persons whose score is above it, in 0..1.
        max_people: decode returns no more persons, >= 1.

    Raises:
        InputError: a parameter is out of its range.
    """

    score_threshold: float = 0.1
    max_people: int = 50

    task: ClassVar[Task] = "bottom_up"
    output_names: ClassVar[tuple[str, ...]] = ("dets", "keypoints")

    def __post_init__(self) -> None:
        check_share("score_threshold", self.score_threshold)
        check_count("max_people", self.max_people)

    def decode(self, outputs: Outputs, input_size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return keypoints (P, K, 2) in input pixels, scores (P, K) and person scores (P,), all float32, of one image,
        best first.

        Rows without a finite box of some area, with which networks fill up their lists, are left out.

        Raises:
            InputError: the outputs have other shapes, or are of several images.
        """
        dets, keypoints = outputs["dets"], outputs["keypoints"]
        if keypoints.ndim != 4 or keypoints.shape[:2] != dets.shape[:2] or keypoints.shape[3] != 3:
            raise InputError(
                f"decode needs dets (1, N, 5) and keypoints (1, N, K, 3), not {dets.shape} and {keypoints.shape}."
            )
        best = _best(dets, self.score_threshold, self.max_people)
        found = keypoints[0, best].astype(np.float32)
        return found[..., :2], found[..., 2], dets[0, best, 4].astype(np.float32)

    def merge_flipped(self, outputs: Outputs, mirrored: Outputs, flip_index: Sequence[int] | np.ndarray) -> Outputs:
        """Raise InputError: there is nothing to average."""
        raise no_flip_test("detected_poses")


def no_flip_test(codec: str) -> InputError:
    """Return the error for codecs of lists, whose entries have no partners in the list for a mirrored image."""
    return InputError(f"The codec {codec} has no flip test, since lists of persons cannot be averaged: leave it out.")


def _best(dets: np.ndarray, threshold: float, most: int, among: np.ndarray | None = None) -> np.ndarray:
    """Return the rows of dets (1, N, 5) that are persons, best first; of those in `among` (1, N), if given."""
    if dets.ndim != 3 or dets.shape[0] != 1 or dets.shape[2] != 5:
        raise InputError(f"decode needs dets (1, N, 5), of one image, not {dets.shape}.")
    usable = np.isfinite(dets).all(axis=2) & (dets[..., 2:4] > dets[..., :2]).all(axis=2) & (dets[..., 4] > threshold)
    rows = np.flatnonzero(usable if among is None else usable & among)
    return rows[np.argsort(-dets[0, rows, 4], kind="stable")][:most]
