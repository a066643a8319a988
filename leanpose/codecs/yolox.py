"""YOLOX as its authors export it: one row per grid cell, not yet placed nor freed of overlapping boxes.

Source: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430, and its code. Differs: only persons are
read, and of them only the CANDIDATES best are compared with one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leanpose.codecs.detections import no_flip_test
from leanpose.codecs.heatmap import check_count, check_share
from leanpose.codecs.interface import Outputs
from leanpose.errors import InputError, WeightsError
from leanpose.geometry import Size, box_nms
from leanpose.weights.record import Task

CANDIDATES = 1000
LARGEST_LOG = 10.0  # of a side in cells; keeps the exponential finite


@dataclass(frozen=True)
class Yolox:
    """A box for each cell of several grids over the input.

    The output is (1, cells, 5 + classes): x and y of the box's center from the cell's top left corner, in cells; the
    logarithms of its width and height in cells; whether there is a thing, and its classes, all in 0..1. Persons are
    the first class. Cells come row by row, the grids in the order of `strides`.

    Args:
        score_threshold: decode returns persons whose score, thing times class, is above it, in 0..1.
        nms_iou: of two boxes with a larger IoU, decode returns only the better one, in 0..1.
        max_people: decode returns no more persons, >= 1.
        strides: sides of the cells of each grid, input pixels, >= 1.

    Raises:
        InputError: a parameter is out of its range.
    """

    score_threshold: float = 0.05
    nms_iou: float = 0.45
    max_people: int = 200
    strides: tuple[int, ...] = (8, 16, 32)

    task: ClassVar[Task] = "detection"
    output_names: ClassVar[tuple[str, ...]] = ("output",)

    def __post_init__(self) -> None:
        check_share("score_threshold", self.score_threshold)
        check_share("nms_iou", self.nms_iou)
        check_count("max_people", self.max_people)
        if not isinstance(self.strides, (list, tuple)) or not self.strides:
            raise InputError(f"Give strides as whole numbers of 1 or more, not {self.strides!r}.")
        for stride in self.strides:
            check_count("each of strides", stride)
        object.__setattr__(self, "strides", tuple(self.strides))  # JSON knows no tuples

    def decode(self, outputs: Outputs, input_size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes_xyxy (P, 4) float32 in input pixels and scores (P,) float32 of one image, best first.

        Raises:
            WeightsError: the output does not fit the input's size.
        """
        output = np.asarray(outputs["output"], dtype=np.float32)
        corners, strides = self._cells(input_size)
        if output.ndim != 3 or output.shape[:2] != (1, len(corners)) or output.shape[2] < 6:
            raise WeightsError(
                f"The codec yolox with strides {self.strides} reads (1, {len(corners)}, 5 + classes) of an input of "
                f"{input_size[0]}x{input_size[1]}, not {output.shape}: give the input size and strides of the network."
            )
        rows = output[0]
        scores = rows[:, 4] * rows[:, 5]
        usable = np.flatnonzero(np.isfinite(rows[:, :4]).all(axis=1) & (scores > self.score_threshold))
        best = usable[np.argsort(-scores[usable], kind="stable")][:CANDIDATES]
        rows, scores, strides = rows[best], scores[best], strides[best, None]
        centers = rows[:, :2] * strides + corners[best]
        sides = np.exp(np.minimum(rows[:, 2:4], LARGEST_LOG)) * strides
        boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
        kept = box_nms(boxes, scores, self.nms_iou)[: self.max_people]
        return boxes[kept], scores[kept]

    def merge_flipped(self, outputs: Outputs, mirrored: Outputs, flip_index: Sequence[int] | np.ndarray) -> Outputs:
        """Raise InputError: boxes that differ cannot be averaged."""
        raise no_flip_test("yolox")

    def _cells(self, input_size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Return the top left corners (C, 2), x and y, and the sides (C,) of all cells, float32 input pixels."""
        corners = []
        for stride in self.strides:
            rows, columns = np.indices((input_size[0] // stride, input_size[1] // stride))
            corners.append(stride * np.stack([columns, rows], axis=2).reshape(-1, 2))
        strides = np.repeat(self.strides, [len(grid) for grid in corners])
        return np.concatenate(corners).astype(np.float32), strides.astype(np.float32)
