"""Training losses. They use the methods of the tensors they are given, so this file does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanpose.errors import InputError

if TYPE_CHECKING:
    import torch


def heatmap_mse(
    predicted: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, foreground_weight: float = 0.0
) -> torch.Tensor:
    """Compute half the weighted mean squared error of heat maps.

    With foreground_weight 0 it is the published loss of SimpleBaseline, HRNet and LPN: for each keypoint
    0.5 * mean over batch and pixels of (w * predicted - w * target)^2, then the mean over all K keypoints,
    those of weight zero included.

    Args:
        predicted: (B, K, H, W).
        target: (B, K, H, W), in 0..1.
        weights: (B, K), 0 for keypoints that do not count.
        foreground_weight: >= 0; each pixel's squared error is multiplied by 1 + foreground_weight * target.

    Returns:
        A scalar with gradient.

    Raises:
        InputError: the shapes do not fit, or foreground_weight is negative.
    """
    if predicted.shape != target.shape or predicted.shape[:2] != weights.shape:
        raise InputError(
            "heatmap_mse needs two tensors (B, K, H, W) and weights (B, K), "
            f"not {tuple(predicted.shape)}, {tuple(target.shape)} and {tuple(weights.shape)}."
        )
    if foreground_weight < 0:
        raise InputError(f"Give foreground_weight as a number not below 0, not {foreground_weight}.")
    squared_error = ((predicted - target) * weights[:, :, None, None]) ** 2
    if foreground_weight > 0:
        squared_error = squared_error * (1 + foreground_weight * target)
    return 0.5 * squared_error.mean()
