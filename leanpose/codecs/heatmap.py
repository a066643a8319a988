"""Classical heatmaps (SimpleBaseline, HRNet): a Gaussian on the nearest pixel, read by argmax and shift.

Source: Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", arXiv 1804.06208, in the exact
form that LPN (arXiv 1911.10346) was trained and evaluated with. `HeatmapCodec`, the Gaussian targets and the
search for the peak are shared by the other codecs of one person.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from leanpose.codecs.flip import fuse_flip
from leanpose.codecs.interface import Outputs
from leanpose.codecs.losses import heatmap_mse
from leanpose.errors import InputError
from leanpose.geometry import Convention, Size, heatmap_to_input, input_to_heatmap
from leanpose.weights.record import Task

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class HeatmapCodec(ABC):
    """One heatmap per keypoint of one person: the output "heatmaps", (N, K, h / s, w / s).

    Subclasses say how one map is drawn and read, in heatmap pixels; the center of the top-left pixel is (0, 0).

    Args:
        convention: how maps lie over the input, see leanpose.geometry.
        flip_shift: in the flip test, move the mirrored maps by one pixel, see `fuse_flip`.
    """

    convention: Convention = "udp"
    flip_shift: bool = False

    task: ClassVar[Task] = "top_down"
    output_names: ClassVar[tuple[str, ...]] = ("heatmaps",)

    @abstractmethod
    def encode_maps(
        self, keypoints: torch.Tensor, visibility: torch.Tensor, heatmap_size: Size
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, K, 2) heatmap pixels, (B, K), above 0 where labelled, (H, W) -> maps (B, K, H, W), labelled (B, K)."""

    @abstractmethod
    def decode_maps(self, heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, K, H, W) -> keypoints (N, K, 2) in heatmap pixels, scores (N, K), float32."""

    def decode(self, outputs: Outputs, input_size: Size) -> tuple[np.ndarray, np.ndarray]:
        keypoints, scores = self.decode_maps(outputs["heatmaps"])
        height, width = outputs["heatmaps"].shape[2:]
        return heatmap_to_input(keypoints, input_size, (height, width), self.convention), scores

    def merge_flipped(self, outputs: Outputs, mirrored: Outputs, flip_index: Sequence[int] | np.ndarray) -> Outputs:
        return {"heatmaps": fuse_flip(outputs["heatmaps"], mirrored["heatmaps"], flip_index, self.flip_shift)}

    def encode(
        self,
        keypoints: torch.Tensor,
        weights: torch.Tensor,
        outputs: Mapping[str, torch.Tensor],
        input_size: Size,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        height, width = outputs["heatmaps"].shape[2:]
        points = input_to_heatmap(keypoints, input_size, (height, width), self.convention)
        heatmaps, labelled = self.encode_maps(points, weights, (height, width))
        return {"heatmaps": heatmaps}, labelled * weights

    def loss(
        self,
        outputs: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor],
        weights: torch.Tensor,
        foreground_weight: float,
    ) -> torch.Tensor:
        """Return `heatmap_mse`; a keypoint's squared error counts by its weight."""
        return heatmap_mse(outputs["heatmaps"].float(), targets["heatmaps"], weights.sqrt(), foreground_weight)


@dataclass(frozen=True)
class Heatmap(HeatmapCodec):
    """Gaussian on the nearest pixel; decoded by argmax and a quarter-pixel shift to the higher neighbour.

    Args:
        sigma: standard deviation of the target Gaussian, heatmap pixels, > 0.
        shift: whether decode adds the quarter-pixel shift.

    Raises:
        InputError: sigma is not positive.
    """

    sigma: float = 2.0
    shift: bool = True

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)

    def encode_maps(
        self, keypoints: torch.Tensor, visibility: torch.Tensor, heatmap_size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the target: peak 1 on the nearest pixel, zero more than 3 sigma away from it on either axis.

        Arguments, results and errors are those of `gaussian_targets`.
        """
        return gaussian_targets(keypoints, visibility, heatmap_size, self.sigma, quantized=True, windowed=True)

    def decode_maps(self, heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find one keypoint in each heatmap.

        Args:
            heatmaps: (N, K, H, W), any range.

        Returns:
            keypoints (N, K, 2) float32, x and y in heatmap pixels, and scores (N, K) float32, the maximum of
            each map. A map without a positive value gives (0, 0); a map with NaN gives (0, 0) and the score
            NaN.

        Raises:
            InputError: heatmaps does not have four axes, or its maps have no pixels.
        """
        heatmaps = check_heatmaps(heatmaps)
        peaks, scores = find_peaks(heatmaps)
        keypoints = peaks.astype(np.float32)
        if self.shift:
            keypoints = shift_quarter(heatmaps, keypoints)
        return keypoints, scores


def gaussian_targets(
    keypoints: torch.Tensor,
    visibility: torch.Tensor,
    heatmap_size: tuple[int, int],
    sigma: float,
    *,
    quantized: bool,
    windowed: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a Gaussian of peak 1 for each labelled keypoint, on the keypoints' device, without gradient.

    Args:
        keypoints: (B, K, 2), x and y in heatmap pixels; may lie outside the map, may be NaN (then not
            labelled).
        visibility: (B, K), 0 unlabelled, 1 hidden, 2 visible; 1 and 2 are treated alike.
        heatmap_size: (H, W).
        sigma: standard deviation, heatmap pixels.
        quantized: center the Gaussian on the rounded position instead of the exact one.
        windowed: set it to zero more than 3 sigma away from the rounded position, on each axis.

    Returns:
        heatmaps (B, K, H, W) float32 in 0..1, and weights (B, K) float32: 1 where the keypoint is labelled
        and its window meets the map, else 0 with an empty map. As published, rounding is int(position + 0.5),
        which truncates towards zero, and a window that ends just before row or column 0 keeps weight 1.

    Raises:
        InputError: the shapes of keypoints and visibility do not fit.
    """
    import torch

    if keypoints.ndim != 3 or keypoints.shape[2] != 2 or keypoints.shape[:2] != visibility.shape:
        raise InputError(
            "encode needs keypoints (B, K, 2) and visibility (B, K), "
            f"not {tuple(keypoints.shape)} and {tuple(visibility.shape)}."
        )
    height, width = heatmap_size
    radius = 3 * sigma
    with torch.no_grad():
        exact = keypoints.to(torch.float32)
        rounded = torch.trunc(exact + 0.5)
        size = torch.tensor([width, height], device=exact.device)
        meets_map = ((rounded - radius < size) & (rounded + radius + 1 >= 0)).all(dim=2)  # NaN compares false
        labelled = (visibility > 0) & meets_map  # (B, K)

        def profile(axis: int, length: int) -> torch.Tensor:
            """The Gaussian along one axis: (B, K, length)."""
            pixels = torch.arange(length, device=exact.device, dtype=torch.float32)
            centers = rounded if quantized else exact
            values = torch.exp(-((pixels - centers[..., axis, None]) ** 2) / (2 * sigma**2))
            if windowed:
                values = values.masked_fill((pixels - rounded[..., axis, None]).abs() > radius, 0.0)
            return values.masked_fill(~labelled[..., None], 0.0)

        # (B, K, H, 1) * (B, K, 1, W) -> (B, K, H, W)
        heatmaps = profile(1, height)[:, :, :, None] * profile(0, width)[:, :, None, :]
        return heatmaps, labelled.to(torch.float32)


def find_peaks(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the highest pixel of each heatmap.

    Args:
        heatmaps: (N, K, H, W) float32.

    Returns:
        peaks (N, K, 2) int64, x and y in heatmap pixels, (0, 0) where the maximum is not positive; and
        maxima (N, K) float32. Of equal pixels the first in reading order counts.
    """
    num_people, num_keypoints, height, width = heatmaps.shape
    flat = heatmaps.reshape(num_people, num_keypoints, height * width)
    index = flat.argmax(axis=2)
    maxima = np.take_along_axis(flat, index[..., None], axis=2)[..., 0]  # (N, K)
    index = np.where(maxima > 0, index, 0)  # NaN compares false
    return np.stack([index % width, index // width], axis=2), maxima


def shift_quarter(heatmaps: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Move each keypoint a quarter pixel towards the higher neighbour, on each axis (arXiv 1804.06208).

    Args:
        heatmaps: (N, K, H, W) float32.
        keypoints: (N, K, 2) float32, heatmap pixels, inside the map.

    Returns:
        (N, K, 2) float32, new. The neighbours are those of p = floor(keypoint + 0.5); only keypoints with
        1 < p < size - 1 on both axes move, and not along an axis whose two neighbours are equal.
    """
    height, width = heatmaps.shape[2:]
    x, y = np.moveaxis(np.floor(keypoints + 0.5).astype(np.int64), 2, 0)  # (N, K) each
    n, k = np.nonzero((x > 1) & (x < width - 1) & (y > 1) & (y < height - 1))
    x, y = x[n, k], y[n, k]
    dx = heatmaps[n, k, y, x + 1] - heatmaps[n, k, y, x - 1]
    dy = heatmaps[n, k, y + 1, x] - heatmaps[n, k, y - 1, x]
    shifted = keypoints.copy()
    shifted[n, k] += 0.25 * np.sign(np.stack([dx, dy], axis=1))
    return shifted


def check_heatmaps(heatmaps: np.ndarray) -> np.ndarray:
    """Return heatmaps (N, K, H, W) as float32, or raise InputError when the shape cannot be decoded."""
    heatmaps = np.asarray(heatmaps, dtype=np.float32)
    if heatmaps.ndim != 4 or 0 in heatmaps.shape[2:]:
        raise InputError(f"decode needs heatmaps (N, K, H, W) with at least one pixel, not {heatmaps.shape}.")
    return heatmaps


def check_positive(name: str, value: float) -> None:
    """Raise InputError when a codec parameter is not a number above zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise InputError(f"Give {name} as a number above 0, not {value!r}.")


def check_share(name: str, value: float) -> None:
    """Raise InputError when a codec parameter is not a number in 0..1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(f"Give {name} as a number in 0..1, not {value!r}.")


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raise InputError when a codec parameter is not a whole number, or below the least."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"Give {name} as a whole number of {least} or more, not {value!r}.")
