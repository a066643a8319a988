"""Detectors: an image in, the boxes of its persons out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from leanpose import geometry
from leanpose.codecs import DetectionCodec, check_outputs, codec_of, create_codec
from leanpose.errors import InputError
from leanpose.inference.bottom_up import BottomUp, check_whole_images, short_sides
from leanpose.inference.engines import Engine
from leanpose.inference.preprocess import image_input

# Boxes lie on eighths of a pixel. The last digits of a network's sums differ between processors, threads and browsers;
# without this they would move the crop, and an int8 network answers to a change of one grey level.
STEPS = 8


class Detector(Protocol):
    """What finds persons for a top-down network; a plain function will do."""

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes_xyxy (N, 4) in image pixels and scores (N,) in 0..1 of an image (H, W, 3) uint8 RGB."""
        ...


class NetworkDetector:
    """A network as a detector: one of the task "detection", or a bottom-up one, by the outputs that propose boxes or,
    where it has none, by the boxes around the poses that it finds.

    Args:
        engine: the network with its record.
        scales: sizes of the image from which boxes are collected, as factors on the record's input size; None: those
            of the record. Of boxes that several sizes give, the best one stays and all count (`geometry.joint_scores`).
        score_threshold: of boxes; None: that of the record.

    Raises:
        WeightsError: the record is of a top-down network, or has another convention than "classic".
        InputError: there is no scale, or one is not above 0 or larger than 10.
    """

    def __init__(
        self, engine: Engine, scales: Sequence[float] | None = None, score_threshold: float | None = None
    ) -> None:
        weights = engine.weights
        check_whole_images(weights)
        self.engine, self.weights = engine, weights
        scales = weights.box_scales if scales is None else scales
        self.short_sides = short_sides(weights, scales)
        self.codec: DetectionCodec | None = None
        if weights.task == "detection":
            self.codec = codec_of(weights)
        elif weights.box_codec is not None:
            self.codec = create_codec(weights.box_codec, **weights.box_codec_options)
        else:
            self._people = BottomUp(engine, scales=scales)
        if self.codec is not None and score_threshold is not None:
            self.codec = replace(self.codec, score_threshold=score_threshold)  # type: ignore[type-var]

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes_xyxy (N, 4) float32 inside the image, in eighths of a pixel, and scores (N,), best first."""
        if self.codec is None:
            poses = self._people.poses(image)
            boxes, scores = poses.boxes_xyxy, poses.person_scores
        else:
            found = [self._at(self.codec, image, side) for side in self.short_sides]
            boxes, scores = (np.concatenate(values) for values in zip(*found, strict=True))
            best = geometry.box_nms(boxes, scores, self.codec.nms_iou)[: self.codec.max_people]
            boxes, scores = boxes[best], scores[best]
            if len(found) > 1:
                scores = geometry.joint_scores(boxes, found, self.codec.nms_iou)
                best = np.argsort(-scores, kind="stable")
                boxes, scores = boxes[best], scores[best]
        height, width = image.shape[:2]
        boxes = boxes.clip(0, [width - 1, height - 1, width - 1, height - 1])
        boxes = (np.round(boxes * STEPS) / STEPS).astype(np.float32)
        kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return boxes[kept], scores[kept]

    def _at(self, codec: DetectionCodec, image: np.ndarray, short_side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (N, 4) in image pixels and scores (N,) that are seen at one size."""
        inputs, matrix, input_size = image_input(image, self.weights, short_side)
        outputs = self.engine(inputs)
        check_outputs(codec, outputs, self.weights.model)
        boxes, scores = codec.decode(outputs, input_size)
        corners = geometry.transform(boxes.reshape(1, -1, 2), geometry.invert(matrix))
        return corners.reshape(-1, 4), scores


def detected(detector: Detector, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what a detector finds in an image, as boxes_xyxy (N, 4) float32 and scores (N,) float32.

    Raises:
        InputError: it gives something else.
    """
    found: Any = detector(image)
    try:
        boxes, scores = (np.asarray(values, dtype=np.float32) for values in found)
    except (TypeError, ValueError):
        raise InputError("A detector must give boxes (N, 4) and scores (N,), two arrays of numbers.") from None
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    if boxes.shape != (scores.size, 4) or scores.ndim != 1:
        raise InputError(f"A detector must give boxes (N, 4) and scores (N,), not {boxes.shape} and {scores.shape}.")
    sensible = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & np.isfinite(scores)
    if not sensible.all():
        raise InputError(
            f"The detector gives the box {boxes[~sensible][0].tolist()} with the score {scores[~sensible][0]}; boxes "
            "must be x1, y1, x2, y2 with x1 < x2 and y1 < y2."
        )
    return boxes, scores
