"""Flip test: the heatmaps of an image and of its mirror image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leanpose.errors import InputError


def fuse_flip(
    heatmaps: np.ndarray, heatmaps_of_mirrored: np.ndarray, flip_index: Sequence[int] | np.ndarray, shift: bool
) -> np.ndarray:
    """Average the heatmaps of an image with those of its mirror image, mirrored back.

    Args:
        heatmaps: (N, K, H, W) float32, of the image.
        heatmaps_of_mirrored: the same shape, of the image mirrored left to right, as the network gave them.
        flip_index: K integers, a permutation: for each keypoint the one it becomes in a mirror (left and
            right exchanged).
        shift: move the maps of the mirror image one pixel to the right before the mean, keeping column 0.
            True for networks trained with the classical input stride, whose mirrored maps lie one pixel off;
            false for those trained with UDP.

    Returns:
        (N, K, H, W) float32.

    Raises:
        InputError: the shapes differ, or flip_index is not a permutation of the K keypoints.
    """
    if heatmaps.shape != heatmaps_of_mirrored.shape or heatmaps.ndim != 4:
        raise InputError(
            "fuse_flip needs two arrays of the same shape (N, K, H, W), "
            f"not {heatmaps.shape} and {heatmaps_of_mirrored.shape}."
        )
    fused = flip_back(heatmaps_of_mirrored, flip_index)
    if shift:
        fused[..., 1:] = fused[..., :-1].copy()
    fused += heatmaps
    fused *= 0.5
    return fused


def flip_back(maps: np.ndarray, flip_index: Sequence[int] | np.ndarray) -> np.ndarray:
    """Turn the maps of a mirrored image into those of the image.

    Args:
        maps: (..., K, H, W), of the image mirrored left to right, as the network gave them.
        flip_index: K integers, a permutation: for each keypoint the one it becomes in a mirror.

    Returns:
        (..., K, H, W), a new array.

    Raises:
        InputError: flip_index is not a permutation of the K keypoints.
    """
    if sorted(flip_index) != list(range(maps.shape[-3])):
        raise InputError(f"flip_index must hold each of the {maps.shape[-3]} keypoints once, not {list(flip_index)}.")
    return maps[..., list(flip_index), :, ::-1]
