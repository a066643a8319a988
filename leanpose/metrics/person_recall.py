"""How many of the annotated persons a detector's boxes meet, at a number of false boxes per image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leanpose.geometry import iou

MIN_IOU = 0.5  # of a box and the person that it meets


def match(boxes_xyxy: np.ndarray, truth_xyxy: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match the boxes of one image with its annotated persons, each with the free one of the largest IoU.

    Args:
        boxes_xyxy: (N, 4) image pixels, best first.
        truth_xyxy: (M, 4) image pixels.
        crowd: (M,) bool, which of them are regions of many persons.

    Returns:
        (N,) float, 1 where a box meets a person with an IoU of at least 0.5, 0 where it is false, NaN where more than
        half of it lies on a crowd; and (N,) int, the person's place, or -1.
    """
    right, persons = np.zeros(len(boxes_xyxy)), np.full(len(boxes_xyxy), -1)
    overlap = iou(boxes_xyxy, truth_xyxy) if len(truth_xyxy) else np.zeros((len(boxes_xyxy), 0))
    taken = np.zeros(len(truth_xyxy), dtype=bool)
    for i, row in enumerate(overlap):
        free = np.where(taken | crowd, 0, row)
        if free.size and free.max() >= MIN_IOU:
            best = int(free.argmax())
            taken[best], right[i], persons[i] = True, 1, best
        elif crowd.any():
            inside = np.minimum(boxes_xyxy[i, 2:], truth_xyxy[crowd, 2:]) - np.maximum(
                boxes_xyxy[i, :2], truth_xyxy[crowd, :2]
            )
            area = np.prod(boxes_xyxy[i, 2:] - boxes_xyxy[i, :2])
            if (np.prod(inside.clip(0), axis=1) > 0.5 * area).any():
                right[i] = np.nan
    return right, persons


def recall(
    scores: Sequence[np.ndarray], right: Sequence[np.ndarray], num_persons: int, false_boxes: float = 1.0
) -> float:
    """Return the share of the persons that boxes meet, counting the best boxes of all images together.

    Args:
        scores: (N,) of each image's boxes.
        right: (N,) of each image, as of `match`.
        num_persons: annotated in all images, without crowds; at least 1.
        false_boxes: how many per image may be among the boxes that count.
    """
    hits = np.concatenate(right)[np.argsort(-np.concatenate(scores), kind="stable")]
    counted = np.searchsorted(np.cumsum(hits == 0), false_boxes * len(scores), side="right")
    return float((hits[:counted] == 1).sum() / num_persons)
