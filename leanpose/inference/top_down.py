"""Top-down: the keypoints of one person per box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from leanpose import geometry
from leanpose.codecs import TopDownCodec, check_outputs, codec_of
from leanpose.inference.engines import Engine
from leanpose.inference.preprocess import box_inputs
from leanpose.structures import Poses
from leanpose.weights.calibration import calibrated
from leanpose.weights.record import Weights

KEYPOINT_THRESHOLD = 0.2  # keypoints whose raw score is below it do not count for a person's score
NMS_THRESHOLD = 0.9  # OKS above which two persons are the same
FOUND_NMS_THRESHOLD = 0.6  # the same of persons that a detector found, by the keypoints that both show


class TopDown:
    """Images and boxes in, one pose per box out.

    Args:
        engine: a network of the task "top_down", with its record.
        flip_test: also run mirrored and average.
        batch_size: most crops in one call of the network.
    """

    def __init__(self, engine: Engine, flip_test: bool = False, batch_size: int = 16) -> None:
        self.engine, self.weights = engine, engine.weights
        self.codec: TopDownCodec = codec_of(engine.weights)
        self.flip_test = flip_test
        self.batch_size = batch_size

    def poses(self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]) -> list[Poses]:
        """Return the poses of each image; the persons of all images share calls of the network.

        Args:
            images: (H, W, 3) uint8 RGB each.
            boxes_xyxy: (N, 4) pixels for each.
        """
        everywhere = np.concatenate([np.zeros((0, 4), np.float32), *boxes_xyxy])
        sources = [image for image, boxes in zip(images, boxes_xyxy, strict=True) for _ in boxes]
        keypoints, scores = self._in_boxes(sources, everywhere)
        results, start = [], 0
        for boxes in boxes_xyxy:
            these = slice(start, start := start + len(boxes))
            person_scores = scores[these].mean(axis=1)
            poses = Poses(keypoints[these], scores[these], boxes, person_scores, self.weights.keypoint_set)
            results.append(calibrated(poses, self.weights.calibration))
        return results

    def _in_boxes(self, images: Sequence[np.ndarray], boxes_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return keypoints (N, K, 2) in image pixels and scores (N, K) of the persons in boxes (N, 4), each of its
        own image."""
        k = len(self.weights.keypoint_set)
        parts = [(np.zeros((0, k, 2), np.float32), np.zeros((0, k), np.float32))]
        for i in range(0, len(boxes_xyxy), self.batch_size):
            batch = slice(i, i + self.batch_size)
            inputs, matrices = box_inputs(images[batch], boxes_xyxy[batch], self.weights)
            outputs: Mapping[str, np.ndarray] = self.engine(inputs)
            check_outputs(self.codec, outputs, self.weights.model)
            if self.flip_test:
                mirrored = self.engine(np.ascontiguousarray(inputs[..., ::-1]))
                outputs = self.codec.merge_flipped(outputs, mirrored, self.weights.keypoint_set.flip_index)
            parts.append(self.decode(outputs, matrices))
        keypoints, scores = (np.concatenate(values) for values in zip(*parts, strict=True))
        return keypoints, scores

    def decode(self, outputs: Mapping[str, np.ndarray], matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn the outputs of the network into keypoints.

        Args:
            outputs: for N inputs.
            matrices: (N, 2, 3) from image to input pixels, as of `box_inputs`.

        Returns:
            (N, K, 2) float32 keypoints in image pixels and (N, K) raw scores.
        """
        keypoints, scores = self.codec.decode(outputs, self.weights.input_size)
        keypoints = geometry.transform(keypoints, geometry.invert(matrices)) - self.weights.bias
        return keypoints.astype(np.float32), scores


def rescored(poses: Poses, box_scores: np.ndarray, weights: Weights, found: bool = False) -> Poses:
    """Judge persons by box and keypoints and leave out duplicates, best first.

    As the HRNet family evaluates: a person's score is its box score times the mean of its raw keypoint scores above 0.2
    (0 if there are none), and greedy OKS-NMS at 0.9 on the padded boxes' areas removes duplicates.

    Args:
        box_scores: (N,) confidence of each person's box.
        weights: record of the network that gave the poses.
        found: whether a detector found them. One of its boxes may hold a part of a person that another holds whole, so
            then only keypoints count that have scores above 0.2 in both poses, and 0.6 is enough.
    """
    scores = poses.scores if poses.raw_scores is None else poses.raw_scores
    confident = scores > KEYPOINT_THRESHOLD
    means = (scores * confident).sum(1) / np.maximum(confident.sum(1), 1)
    person_scores = (box_scores * means).astype(np.float32)
    height, width = weights.input_size
    _, sizes = geometry.padded_boxes(poses.boxes_xyxy, width / height, weights.padding)
    same = (FOUND_NMS_THRESHOLD, confident) if found else (NMS_THRESHOLD, None)
    sigmas = poses.keypoint_set.oks_sigmas
    kept = geometry.oks_nms(poses.keypoints, person_scores, sizes.prod(axis=1), sigmas, *same)
    return replace(poses, person_scores=person_scores)[kept]


def confidences(box_scores: np.ndarray) -> np.ndarray:
    """Return how much a detector's scores of boxes (N,) count for persons: their square roots.

    The keypoints tell persons from things better than the detector does.
    """
    return np.sqrt(box_scores.clip(min=0))
