"""Maps of one image in several sizes, brought to one size."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np


def merge_scales(outputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Bring the outputs of a bottom-up network to one size.

    Args:
        outputs: float32, heatmaps_4 and tags (B, K, h, w), heatmaps_2 (B, K, 2h, 2w).

    Returns:
        heatmaps (B, K, 2h, 2w) float32, the mean of both, and tags (B, K, 2h, 2w) float32, enlarged.
    """
    size = outputs["heatmaps_2"].shape[2:]
    heatmaps = enlarge(outputs["heatmaps_4"], size)
    heatmaps += outputs["heatmaps_2"]
    heatmaps *= 0.5
    return heatmaps, enlarge(outputs["tags"], size)


def enlarge(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Enlarge maps (..., h, w) float32 to (..., *size), a new array, bilinearly, outer edges on outer edges."""
    height, width = size
    result = np.empty((*maps.shape[:-2], height, width), dtype=np.float32)
    flat = np.ascontiguousarray(maps, dtype=np.float32).reshape(-1, *maps.shape[-2:])
    for single, enlarged in zip(flat, result.reshape(-1, height, width), strict=True):
        cv2.resize(single, (width, height), dst=enlarged, interpolation=cv2.INTER_LINEAR)
    return result
