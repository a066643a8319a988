"""SimCC: a keypoint as two vectors, one for each axis, whose bins are finer than the pixels of the input.

Source: Li et al., "SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation", arXiv 2107.03332,
in the exact form of RTMPose (arXiv 2303.07399). Differs: the divergence is summed over bins and averaged over persons
and keypoints, where RTMPose's code averages over bins and keypoints and sums over persons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from leanpose.codecs.flip import fuse_flip
from leanpose.codecs.heatmap import check_positive
from leanpose.codecs.interface import Outputs
from leanpose.errors import InputError, WeightsError
from leanpose.geometry import Size
from leanpose.weights.record import Task

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SimCC:
    """A Gaussian on the nearest bin of each axis; decoded by argmax.

    Bin i lies at i / split input pixels, in any convention. The outputs are simcc_x (N, K, split * w) and simcc_y
    (N, K, split * h), of any range.

    Args:
        split: bins per input pixel, > 0.
        sigma: standard deviations of the target Gaussians of x and y, bins, > 0. Published: 4.9, 5.66 for inputs of
            256x192, and 6, 6.93 for 384x288.
        beta: factor on outputs and targets before the softmax of the loss, > 0.

    Raises:
        InputError: a parameter is out of its range.
    """

    split: float = 2.0
    sigma: tuple[float, float] = (4.9, 5.66)
    beta: float = 10.0

    task: ClassVar[Task] = "top_down"
    output_names: ClassVar[tuple[str, ...]] = ("simcc_x", "simcc_y")

    def __post_init__(self) -> None:
        check_positive("split", self.split)
        check_positive("beta", self.beta)
        if not isinstance(self.sigma, (list, tuple)) or len(self.sigma) != 2:
            raise InputError(f"Give sigma as two numbers above 0, of x and y, not {self.sigma!r}.")
        for value in self.sigma:
            check_positive("both values of sigma", value)
        object.__setattr__(self, "sigma", tuple(self.sigma))  # JSON knows no tuples

    def decode(self, outputs: Outputs, input_size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Find one keypoint in each pair of vectors.

        Returns:
            keypoints (N, K, 2) float32 in input pixels, and scores (N, K) float32, the smaller of both maxima, which
            may pass 1. Where it is not positive the keypoint is not found: (0, 0) and the score 0. With NaN in a
            vector: (0, 0) and the score NaN.

        Raises:
            WeightsError: the vectors do not fit the input's size.
        """
        vectors = [np.asarray(outputs[name], dtype=np.float32) for name in self.output_names]
        self._check_bins([vector.shape for vector in vectors], input_size)
        bins = [vector.argmax(axis=2) for vector in vectors]  # (N, K) each
        maxima = [np.take_along_axis(v, i[..., None], axis=2)[..., 0] for v, i in zip(vectors, bins, strict=True)]
        scores = np.maximum(np.minimum(*maxima), 0)
        keypoints = np.where((scores > 0)[..., None], np.stack(bins, axis=2) / self.split, 0)  # NaN compares false
        return keypoints.astype(np.float32), scores

    def merge_flipped(self, outputs: Outputs, mirrored: Outputs, flip_index: Sequence[int] | np.ndarray) -> Outputs:
        """Average the vectors of the image with those of the mirrored one, of which x is turned back.

        As published there is no shift, although the reversed peak of pixel x is that of x + 1 - 1 / split.
        """
        x, y = ((outputs[name], mirrored[name]) for name in self.output_names)
        return {
            "simcc_x": fuse_flip(x[0][:, :, None], x[1][:, :, None], flip_index, shift=False)[:, :, 0],
            "simcc_y": fuse_flip(y[0][..., None], y[1][..., None], flip_index, shift=False)[..., 0],
        }

    def encode(
        self,
        keypoints: torch.Tensor,
        weights: torch.Tensor,
        outputs: Mapping[str, torch.Tensor],
        input_size: Size,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Draw the targets: Gaussians of peak 1 on the nearest bins, in float32 and without gradient.

        A keypoint whose Gaussian lies more than 3 sigma outside of either vector, or that is NaN, gets the weight 0;
        where the weight is 0 the targets are 0.

        Raises:
            InputError: the shapes of keypoints and weights do not fit.
            WeightsError: the vectors do not fit the input's size.
        """
        import torch

        if keypoints.ndim != 3 or keypoints.shape[2] != 2 or keypoints.shape[:2] != weights.shape:
            raise InputError(
                "encode needs keypoints (B, K, 2) and weights (B, K), "
                f"not {tuple(keypoints.shape)} and {tuple(weights.shape)}."
            )
        self._check_bins([tuple(outputs[name].shape) for name in self.output_names], input_size)
        lengths = [outputs[name].shape[2] for name in self.output_names]
        with torch.no_grad():
            centers = (keypoints.to(torch.float32) * self.split).round()  # (B, K, 2)
            reach = 3 * centers.new_tensor(self.sigma)
            meets = (centers - reach < centers.new_tensor(lengths)) & (centers + reach + 1 >= 0)  # NaN compares false
            learned = weights.to(torch.float32) * meets.all(dim=2)
            targets = {}
            for axis, (name, length) in enumerate(zip(self.output_names, lengths, strict=True)):
                offsets = torch.arange(length, device=centers.device) - centers[..., axis, None]
                values = torch.exp(-(offsets**2) / (2 * self.sigma[axis] ** 2))
                targets[name] = values.masked_fill(~(learned > 0)[..., None], 0.0)
        return targets, learned

    def loss(
        self,
        outputs: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor],
        weights: torch.Tensor,
        foreground_weight: float,
    ) -> torch.Tensor:
        """Return the mean over all B * K keypoints, those of weight 0 included, of the weighted sum for x and y of
        KL(softmax(beta * target) || softmax(beta * output)).

        Raises:
            InputError: foreground_weight is not 0: there is no background in a softmax.
        """
        if foreground_weight:
            raise InputError("The codec simcc has no foreground_weight: leave it out.")
        divergence = weights.new_zeros(weights.shape)
        for name in self.output_names:
            found = (self.beta * outputs[name].float()).log_softmax(dim=2)
            wanted = (self.beta * targets[name]).log_softmax(dim=2)
            divergence = divergence + (wanted.exp() * (wanted - found)).sum(dim=2)
        return (divergence * weights).mean()

    def _check_bins(self, shapes: Sequence[tuple[int, ...]], input_size: Size) -> None:
        height, width = input_size
        lengths = [round(self.split * side) for side in (width, height)]
        if any(len(shape) != 3 for shape in shapes) or [shape[2] for shape in shapes] != lengths:
            raise WeightsError(
                f"The codec simcc with split {self.split:g} reads simcc_x (N, K, {lengths[0]}) and simcc_y (N, K, "
                f"{lengths[1]}) of an input of {height}x{width}, not {shapes[0]} and {shapes[1]}: give the input size "
                "and split of the network."
            )
        if shapes[0][:2] != shapes[1][:2]:
            raise WeightsError(f"simcc_x and simcc_y must be of the same keypoints, not {shapes[0]} and {shapes[1]}.")
