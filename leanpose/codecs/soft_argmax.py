"""Beta-Soft-Argmax: heatmaps read by the mean position under a sharpened softmax.

Source: Zhang et al., "Simple and Lightweight Human Pose Estimation", arXiv 1911.10346 (LPN), and its code,
which adds the quarter-pixel shift after the soft-argmax. Used at test time only; training is that of
`Heatmap`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leanpose.codecs.heatmap import Heatmap, HeatmapCodec, check_heatmaps, check_positive, shift_quarter

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BetaSoftArgmax(HeatmapCodec):
    """Gaussian on the nearest pixel; decoded by soft-argmax and a shift of a quarter pixel.

    Two separate switches: beta 160 is the published optimum together with the shift; without the shift a beta
    near 40 localises better. Maps with two peaks, or with a peak below about 0.1, are placed between the
    peaks or pulled to the middle of the map.

    Args:
        sigma: standard deviation of the target Gaussian, heatmap pixels, > 0.
        beta: factor on the heatmap before the softmax, > 0; the larger, the nearer to argmax.
        shift: whether decode adds the quarter-pixel shift.

    Raises:
        InputError: sigma or beta is not positive.
    """

    sigma: float = 2.0
    beta: float = 160.0
    shift: bool = True

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)
        check_positive("beta", self.beta)

    def encode_maps(
        self, keypoints: torch.Tensor, visibility: torch.Tensor, heatmap_size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the target of `Heatmap` with the same sigma: same arguments, results and errors."""
        return Heatmap(sigma=self.sigma).encode_maps(keypoints, visibility, heatmap_size)

    def decode_maps(self, heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find one keypoint in each heatmap: the mean pixel position under softmax(beta * map).

        Args:
            heatmaps: (N, K, H, W), any range.

        Returns:
            keypoints (N, K, 2) float32, x and y in heatmap pixels, and scores (N, K) float32, the value of
            the map at the soft position rounded half to even, before the shift: not the map's maximum, and
            near zero or negative where the map has no clear peak. A map with NaN gives (0, 0) and the score
            NaN.

        Raises:
            InputError: heatmaps does not have four axes, or its maps have no pixels.
        """
        heatmaps = check_heatmaps(heatmaps)
        height, width = heatmaps.shape[2:]
        softmax = heatmaps - heatmaps.max(axis=(2, 3), keepdims=True)
        softmax *= np.float32(self.beta)
        np.exp(softmax, out=softmax)  # (N, K, H, W), not yet divided by its sum
        column_sums, row_sums = softmax.sum(axis=2), softmax.sum(axis=3)  # (N, K, W), (N, K, H)
        total = column_sums.sum(axis=2)  # (N, K), at least 1
        x = (column_sums * np.arange(width, dtype=np.float32)).sum(axis=2) / total
        y = (row_sums * np.arange(height, dtype=np.float32)).sum(axis=2) / total
        keypoints = np.nan_to_num(np.stack([x, y], axis=2))  # (N, K, 2)
        columns, rows = np.moveaxis(np.rint(keypoints).astype(np.int64), 2, 0)  # (N, K) each
        n, k = np.indices(x.shape)
        scores = np.where(np.isnan(x), np.float32(np.nan), heatmaps[n, k, rows, columns])
        if self.shift:
            keypoints = shift_quarter(heatmaps, keypoints)
        return keypoints, scores
