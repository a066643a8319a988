"""From images to network inputs: persons cut out of their boxes, or whole images; and normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np

from leanpose import geometry
from leanpose.errors import InputError
from leanpose.io.values import FARTHEST
from leanpose.weights.record import Weights


def normalised(crops: np.ndarray, weights: Weights) -> np.ndarray:
    """Turn crops (N, h, w, 3) uint8 RGB into network inputs (N, 3, h, w) float32, as a record says."""
    if weights.channel_order == "bgr":
        crops = crops[..., ::-1]
    scale = 1 / np.array(weights.std, dtype=np.float32)
    inputs = crops.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    inputs *= scale[:, None, None]
    inputs -= (np.array(weights.mean, dtype=np.float32) * scale)[:, None, None]
    return inputs


def box_inputs(
    images: np.ndarray | Sequence[np.ndarray], boxes_xyxy: np.ndarray, weights: Weights
) -> tuple[np.ndarray, np.ndarray]:
    """Cut persons out of images and normalise them as a record says.

    Args:
        images: (H, W, 3) uint8 RGB, or such an image for each box.
        boxes_xyxy: (N, 4) pixels, N at least 1.

    Returns:
        (N, 3, h, w) float32 network inputs, and the (N, 2, 3) matrices from image to input pixels.
    """
    matrices = geometry.crop_matrices(boxes_xyxy, weights.input_size, weights.padding, weights.convention)
    sources = repeat(images) if isinstance(images, np.ndarray) else images
    crops = [geometry.crop(*pair, weights.input_size) for pair in zip(sources, matrices, strict=False)]
    return normalised(np.stack(crops), weights), matrices


def image_input(
    image: np.ndarray, weights: Weights, short_side: int | None = None
) -> tuple[np.ndarray, np.ndarray, geometry.Size]:
    """Make the network input of a whole image, as a record says.

    Args:
        image: (H, W, 3) uint8 RGB.
        short_side: of the input, in place of the record's; a letterbox has its own size.

    Returns:
        (1, 3, h, w) float32, the (1, 2, 3) matrix from image to input pixels, and (h, w).
    """
    if weights.fit == "letterbox":
        laid, matrix = geometry.letterbox(image, weights.input_size, weights.border)
        return normalised(laid[None], weights), matrix, weights.input_size
    matrix, input_size = geometry.image_matrix(image.shape[:2], short_side or weights.input_size[0])
    return normalised(geometry.crop(image, matrix[0], input_size)[None], weights), matrix, input_size


def check_boxes(boxes: Any, image_size: tuple[int, int]) -> np.ndarray:
    """Return boxes as (N, 4) float32, or raise InputError for a box that no person can be in.

    Args:
        boxes: (N, 4) or (4,) xyxy in image pixels; None stands for the whole image.
        image_size: (height, width) in pixels.
    """
    height, width = image_size
    if boxes is None:
        return np.array([[0, 0, max(width - 1, 1), max(height - 1, 1)]], dtype=np.float32)
    try:
        array = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError("Boxes must be numbers: x1,y1,x2,y2 in pixels, one box per person.") from None
    if array.size == 0:
        return np.zeros((0, 4), dtype=np.float32)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"Boxes must have the shape (N, 4): x1, y1, x2, y2 in pixels; this is {array.shape}.")
    for i, (x1, y1, x2, y2) in enumerate(array):
        box = f"Box {i} ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
        if not (np.abs(array[i]) < FARTHEST).all():  # NaN compares false
            raise InputError(f"{box} has a coordinate that is not a number of pixels; give x1, y1, x2, y2.")
        if x2 <= x1 or y2 <= y1:
            raise InputError(f"{box} has no area; give x1, y1, x2, y2 with x1 < x2 and y1 < y2.")
        if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
            raise InputError(f"{box} lies outside the image of {width} x {height} pixels.")
    return array.astype(np.float32)
