"""UDP: Gaussian targets at the exact position, read by a Newton step that is also taken at the border.

Source: Huang et al., "The Devil is in the Details: Delving into Unbiased Data Processing for Human Pose
Estimation", CVPR 2020, arXiv 1911.07524. The other half of UDP, the unbiased map between image and heat
map, is in geometry.py. As in the authors' code the blur mirrors the map at its border (mmpose 1.x takes zeros
there). What differs: a step is left out where the map has no proper maximum, and is limited as in DARK; only
the pixels around each peak are blurred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leanpose.codecs.dark import check_blur, log_around_peaks, newton_step
from leanpose.codecs.heatmap import HeatmapCodec, check_heatmaps, check_positive, find_peaks, gaussian_targets

if TYPE_CHECKING:
    import torch

FLOOR = 1e-3  # the logarithm is taken of values not below this, as published


@dataclass(frozen=True)
class UDP(HeatmapCodec):
    """Gaussian at the exact position in a window; decoded by argmax, blur, logarithm and one Newton step.

    Args:
        sigma: standard deviation of the target Gaussian, heatmap pixels, > 0.
        blur: side of the square blur kernel of decode, odd, 1 for none; its standard deviation follows from
            it (0.3 * ((blur - 1) / 2 - 1) + 0.8, OpenCV's rule). Published: 11 with sigma 2, 17 with sigma 3.

    Raises:
        InputError: sigma is not positive, or blur is not odd.
    """

    sigma: float = 2.0
    blur: int = 11

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)
        check_blur(self.blur)

    def encode_maps(
        self, keypoints: torch.Tensor, visibility: torch.Tensor, heatmap_size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the target: peak 1 at the exact position, zero more than 3 sigma away from the nearest pixel.

        Arguments, results and errors are those of `gaussian_targets`.
        """
        return gaussian_targets(keypoints, visibility, heatmap_size, self.sigma, quantized=False, windowed=True)

    def decode_maps(self, heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find one keypoint in each heatmap.

        From the highest pixel m of the map, with L the logarithm of the blurred map (mirrored at its border),
        padded by repeating its outermost pixels, the keypoint is m - L''(m)^-1 L'(m). It follows that a
        peak on the outermost row or column is placed half a pixel outside it.

        Args:
            heatmaps: (N, K, H, W), any range.

        Returns:
            keypoints (N, K, 2) float32, x and y in heatmap pixels, and scores (N, K) float32, the maximum of
            each map before the blur. A map without a positive value gives (0, 0); a map with NaN gives (0, 0)
            and the score NaN.

        Raises:
            InputError: heatmaps does not have four axes, or its maps have no pixels.
        """
        heatmaps = check_heatmaps(heatmaps)
        peaks, scores = find_peaks(heatmaps)
        keypoints = peaks.astype(np.float32)
        height, width = heatmaps.shape[2:]
        log = log_around_peaks(heatmaps, peaks, reach=1, blur=self.blur, reflect=True, floor=FLOOR)
        # Padding: beyond the outermost row or column, then the peak's own, stands the same one again.
        x, y = peaks[..., 0], peaks[..., 1]
        log[0] = np.where(y == 0, log[1], log[0])
        log[2] = np.where(y == height - 1, log[1], log[2])
        log[:, 0] = np.where(x == 0, log[:, 1], log[:, 0])
        log[:, 2] = np.where(x == width - 1, log[:, 1], log[:, 2])
        above, center, below = log[:, 1]
        left, _, right = log[1]
        step = newton_step(
            dx=(right - left) / 2,
            dy=(below - above) / 2,
            dxx=right - 2 * center + left,
            dyy=below - 2 * center + above,
            dxy=(log[2, 2] + log[0, 0] + 2 * center - left - right - above - below) / 2,
        )
        return keypoints + np.where(scores[..., None] > 0, step, 0), scores
