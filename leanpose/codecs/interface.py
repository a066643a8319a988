"""What every codec can do, by task.

A codec reads the outputs of a network by their names and speaks of input pixels: how maps lie over the input, and what
the flip test does to them, is its own business. Its task says what it finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from leanpose.geometry import Size
from leanpose.weights.record import Task

if TYPE_CHECKING:
    import torch

Outputs = Mapping[str, np.ndarray]


class Codec(Protocol):
    """A codec of any task.

    Attributes:
        task: "top_down": the keypoints of one person per input; "bottom_up": all persons of an image; "detection":
            the boxes of all persons.
        output_names: the outputs of the network that decode reads.
    """

    task: ClassVar[Task]
    output_names: ClassVar[tuple[str, ...]]

    def merge_flipped(self, outputs: Outputs, mirrored: Outputs, flip_index: Sequence[int] | np.ndarray) -> Outputs:
        """Join the outputs for inputs with those for the mirrored inputs, into something that decode takes.

        Args:
            outputs, mirrored: as the network gave them.
            flip_index: K integers, for each keypoint the one that it becomes in a mirror.
        """
        ...


class TopDownCodec(Codec, Protocol):
    """A codec of one person per input."""

    def decode(self, outputs: Outputs, input_size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Return keypoints (N, K, 2) float32 in input pixels and scores (N, K) of N inputs of one size."""
        ...

    def encode(
        self,
        keypoints: torch.Tensor,
        weights: torch.Tensor,
        outputs: Mapping[str, torch.Tensor],
        input_size: Size,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return targets of the shapes of `outputs`, by name, and weights (B, K) of those that can be learned.

        Args:
            keypoints: (B, K, 2) input pixels; anything where unlabelled.
            weights: (B, K), 0 where unlabelled.
        """
        ...

    def loss(
        self,
        outputs: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor],
        weights: torch.Tensor,
        foreground_weight: float,
    ) -> torch.Tensor:
        """Return a scalar; weights (B, K) say how much each keypoint counts."""
        ...


class BottomUpCodec(Codec, Protocol):
    """A codec of all persons of an image."""

    def decode(self, outputs: Outputs, input_size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return keypoints (P, K, 2) float32 in input pixels, NaN where lacking, scores (P, K) and the persons' scores
        (P,), of one image, best first."""
        ...


class DetectionCodec(Codec, Protocol):
    """A codec of boxes.

    Attributes:
        score_threshold: of boxes.
        nms_iou: of two boxes with a larger IoU only the better one counts.
        max_people: most boxes of an image.
    """

    @property
    def score_threshold(self) -> float: ...

    @property
    def nms_iou(self) -> float: ...

    @property
    def max_people(self) -> int: ...

    def decode(self, outputs: Outputs, input_size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes_xyxy (P, 4) float32 in input pixels and scores (P,) of one image, best first."""
        ...
