"""DARK: Gaussian targets at the exact position, read by a Newton step on the logarithm of the blurred map.

Source: Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020,
arXiv 1910.06278. What differs from it: a step is left out where the map has no proper maximum, and is limited
to `MAX_STEP`; only the pixels around each peak are blurred.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from leanpose.codecs.heatmap import HeatmapCodec, check_heatmaps, check_positive, find_peaks, gaussian_targets
from leanpose.errors import InputError

if TYPE_CHECKING:
    import torch

MAX_STEP = 1.0  # heatmap pixels on each axis; the derivatives say little about places further away
FLOOR = 1e-10  # the logarithm is taken of values not below this, as published


@dataclass(frozen=True)
class Dark(HeatmapCodec):
    """Gaussian at the exact position; decoded by argmax, blur, logarithm and one Newton step.

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
        """Draw the target: a Gaussian of peak 1 at the exact position, over the whole map.

        Arguments, results and errors are those of `gaussian_targets`.
        """
        return gaussian_targets(keypoints, visibility, heatmap_size, self.sigma, quantized=False, windowed=False)

    def decode_maps(self, heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find one keypoint in each heatmap.

        From the highest pixel m of the map, with L the logarithm of the blurred map (blurred with a zero
        border), the keypoint is m - L''(m)^-1 L'(m) (equation 9 of the paper). The published blur then scales
        each map back to its old maximum; that adds a constant to L, which no derivative sees, so it is not
        done here. Peaks within two pixels of the border, where L'' is not known, stay on their pixel.

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
        x, y = peaks[..., 0], peaks[..., 1]
        inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)  # (N, K)
        log = log_around_peaks(heatmaps, peaks, reach=2, blur=self.blur, reflect=False, floor=FLOOR)
        center = log[2, 2]
        step = newton_step(  # second derivatives over two pixels, as published
            dx=(log[2, 3] - log[2, 1]) / 2,
            dy=(log[3, 2] - log[1, 2]) / 2,
            dxx=(log[2, 4] - 2 * center + log[2, 0]) / 4,
            dyy=(log[4, 2] - 2 * center + log[0, 2]) / 4,
            dxy=(log[3, 3] - log[1, 3] - log[3, 1] + log[1, 1]) / 4,
        )
        return keypoints + np.where(inside[..., None], step, 0), scores


def log_around_peaks(
    heatmaps: np.ndarray, peaks: np.ndarray, *, reach: int, blur: int, reflect: bool, floor: float
) -> np.ndarray:
    """Compute the logarithm of the Gaussian-blurred maps, at the pixels around the peaks only.

    Args:
        heatmaps: (N, K, H, W) float32.
        peaks: (N, K, 2) integer, x and y in heatmap pixels, inside the map.
        reach: how many pixels around the peak are wanted.
        blur: side of the blur kernel, odd; the kernel is that of cv2.GaussianBlur with sigma 0.
        reflect: whether the blur sees, outside the map, the map mirrored about its outermost pixels
            (cv2.BORDER_REFLECT_101), or zeros.
        floor: the logarithm is taken of values not below this.

    Returns:
        (S, S, N, K) float32, S = 2 * reach + 1: rows, then columns, [reach, reach] being the peak.
    """
    num_people, num_keypoints, height, width = heatmaps.shape
    side = 2 * reach + 1
    offsets = np.arange(side + blur - 1) - (reach + blur // 2)  # (P,), the pixels that the blur needs
    rows = peaks[..., 1, None] + offsets  # (N, K, P)
    columns = peaks[..., 0, None] + offsets
    patches = heatmaps[
        np.arange(num_people)[:, None, None, None],
        np.arange(num_keypoints)[:, None, None],
        _mirror(rows, height)[..., :, None],
        _mirror(columns, width)[..., None, :],
    ]  # (N, K, P, P)
    if not reflect:
        inside_rows = (rows >= 0) & (rows < height)
        inside_columns = (columns >= 0) & (columns < width)
        patches = np.where(inside_rows[..., :, None] & inside_columns[..., None, :], patches, np.float32(0))
    band = _band(side, blur)
    blurred = band @ patches @ band.T  # (S, P) (N, K, P, P) (P, S) -> (N, K, S, S)
    return np.moveaxis(np.log(np.maximum(blurred, np.float32(floor))), (2, 3), (0, 1))


@cache
def _band(side: int, blur: int) -> np.ndarray:
    """Return the matrix (S, S + blur - 1) whose rows hold the blur kernel, each one pixel further."""
    kernel = cv2.getGaussianKernel(blur, 0).astype(np.float32)[:, 0]
    band = np.zeros((side, side + blur - 1), dtype=np.float32)
    for row in range(side):
        band[row, row : row + blur] = kernel
    return band


def _mirror(index: np.ndarray, length: int) -> np.ndarray:
    """Fold pixel numbers outside 0 ... length - 1 back at the outermost pixels."""
    period = 2 * (length - 1)
    index = np.abs(index) % max(period, 1)
    return np.minimum(index, period - index)


def newton_step(dx: np.ndarray, dy: np.ndarray, dxx: np.ndarray, dyy: np.ndarray, dxy: np.ndarray) -> np.ndarray:
    """Compute the step from a pixel to the maximum of the parabola that has these derivatives there.

    Args:
        dx, dy, dxx, dyy, dxy: (N, K) each, first and second derivatives.

    Returns:
        (N, K, 2), x and y: -Hessian^-1 gradient, each axis limited to MAX_STEP. Zero where there is no such
        maximum: the Hessian is singular (to float32 precision), not negative definite or NaN.
    """
    determinant = dxx * dyy - dxy * dxy
    has_maximum = (dxx < 0) & (determinant > np.finfo(np.float32).eps)  # NaN compares false
    divisor = np.where(has_maximum, determinant, 1)
    step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=-1) / divisor[..., None]
    return np.where(has_maximum[..., None], step.clip(-MAX_STEP, MAX_STEP), 0)


def check_blur(blur: int) -> None:
    """Raise InputError when blur is not an odd integer above zero."""
    if isinstance(blur, bool) or not isinstance(blur, int) or blur < 1 or blur % 2 == 0:
        raise InputError(f"Give blur as an odd integer above 0, for example 11, not {blur!r}.")
