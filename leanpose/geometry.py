"""Where things are: box -> crop matrix -> crop, and back. The coordinate convention lives here and nowhere else.

The center of the top-left pixel is (0, 0), in images, network inputs and heatmaps alike. Two ways to lay the
network's pixel grid over a box exist:

* "udp", the unbiased one (Huang et al., arXiv 1911.07524): the box's left and right edge fall on the *centers* of the
  first and last pixel, so a size is counted as width - 1 and mirroring a crop mirrors its heatmap exactly. The
  scale is one number for both axes, taken from the height.
* "classic" (HRNet, SimpleBaseline, LPN as published): a size is counted as width, the box's center goes to width / 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeVar

import cv2
import numpy as np

Convention = Literal["udp", "classic"]
Size = tuple[int, int]  # (height, width)
Array = TypeVar("Array")  # a NumPy array or a torch tensor

CONVENTIONS: tuple[Convention, ...] = ("udp", "classic")
FEWEST_SHARED = 3  # keypoints, below which two poses cannot be told to be of one person


def _extent(size: Size, convention: Convention) -> tuple[float, float]:
    """Width and height of a pixel grid as the convention counts them."""
    height, width = size
    return (width - 1.0, height - 1.0) if convention == "udp" else (float(width), float(height))


def grid_center(size: Size, convention: Convention = "udp") -> tuple[float, float]:
    """Return x, y of the point of a pixel grid where a box's center falls."""
    width, height = _extent(size, convention)
    return width / 2, height / 2


def _like(values: tuple[float, float], array: Array) -> Array:
    if isinstance(array, np.ndarray):
        return np.asarray(values, dtype=array.dtype)  # type: ignore[return-value]
    return array.new_tensor(values)  # type: ignore[attr-defined]


def input_to_heatmap(xy: Array, input_size: Size, heatmap_size: Size, convention: Convention = "udp") -> Array:
    """Carry points from network-input pixels to heatmap pixels.

    Args:
        xy: (..., 2) points, a floating NumPy array or torch tensor; the result is of the same kind.
    """
    (w, h), (hw, hh) = _extent(input_size, convention), _extent(heatmap_size, convention)
    return xy * _like((hw / w, hh / h), xy)  # type: ignore[operator]


def heatmap_to_input(xy: Array, input_size: Size, heatmap_size: Size, convention: Convention = "udp") -> Array:
    """Carry points from heatmap pixels to network-input pixels; the inverse of `input_to_heatmap`."""
    return input_to_heatmap(xy, heatmap_size, input_size, convention)


def padded_boxes(boxes_xyxy: np.ndarray, aspect: float, padding: float) -> tuple[np.ndarray, np.ndarray]:
    """Return centers (N, 2) and sizes (N, 2), width and height, of boxes extended to an aspect ratio and padded.

    Args:
        boxes_xyxy: (N, 4) pixels.
        aspect: width / height that every box is extended to (never cut).
        padding: factor on the extended size, 1.25 in most of the field.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    height = np.maximum(height, width / aspect)
    return centers, np.stack([height * aspect, height], axis=1) * padding


def crop_matrices(
    boxes_xyxy: np.ndarray,
    input_size: Size,
    padding: float = 1.25,
    convention: Convention = "udp",
    degrees: float = 0.0,
) -> np.ndarray:
    """Return (N, 2, 3) float64 matrices from image pixels to network-input pixels, one per box.

    Args:
        boxes_xyxy: (N, 4) pixels.
        input_size: (height, width) of the network input.
        padding: factor on the box after it was extended to the input's aspect ratio.
        convention: "udp" or "classic", see the head of this file.
        degrees: rotation of the crop's frame; positive turns the content counter-clockwise as seen on screen.
    """
    height, width = input_size
    centers, sizes = padded_boxes(boxes_xyxy, width / height, padding)
    scales = _extent(input_size, convention)[1] / sizes[:, 1]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotations = scales[:, None, None] * np.array([[cos, sin], [-sin, cos]])
    shifts = np.array(grid_center(input_size, convention)) - np.einsum("nij,nj->ni", rotations, centers)
    return np.concatenate([rotations, shifts[:, :, None]], axis=2)


def image_matrix(
    image_size: Size, short_side: int, multiple: int = 64, longest: float = 4.0
) -> tuple[np.ndarray, Size]:
    """Lay a network input over a whole image, as the HigherHRNet family does ("classic" convention).

    The short side becomes `short_side` pixels, the long side as much as it needs, up to a multiple; the image's
    center falls on the input's center, and what the image does not cover is black.

    Args:
        image_size: (height, width) in pixels.
        short_side: of the network input, a multiple of `multiple`.
        multiple: both sides of the input are multiples of it.
        longest: the input's long side is at most this many short sides; narrower images get smaller in it.

    Returns:
        (1, 2, 3) float64 matrix from image pixels to input pixels, and the input's (height, width).
    """
    short, long = min(image_size), max(image_size)
    scale = min(short_side / short, longest * short_side / long)
    long_side = math.ceil(scale * long / multiple - 1e-9) * multiple
    height, width = (short_side, long_side) if image_size[0] <= image_size[1] else (long_side, short_side)
    center = np.array([int(image_size[1] / 2 + 0.5), int(image_size[0] / 2 + 0.5)])
    shift = np.array([width, height]) / 2 - scale * center
    return np.array([[[scale, 0, shift[0]], [0, scale, shift[1]]]]), (height, width)


def letterbox(image: np.ndarray, input_size: Size, border: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay a whole image as large as it fits at the top left of a network input, as the YOLOX family does.

    Sizes and positions count pixel edges: x in the image is x times the scale in the input. Images more than twice as
    large are averaged down, so that they do not alias.

    Args:
        image: (H, W, 3) uint8.
        input_size: (height, width) of the network input.
        border: pixel value of what the image does not cover.

    Returns:
        (height, width, 3) uint8, and the (1, 2, 3) float64 matrix from image pixels to input pixels.
    """
    scale = min(input_size[0] / image.shape[0], input_size[1] / image.shape[1])
    height, width = (max(1, int(side * scale)) for side in image.shape[:2])
    laid = np.full((*input_size, 3), border, dtype=np.uint8)
    method = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    laid[:height, :width] = cv2.resize(image, (width, height), interpolation=method)
    return laid, np.array([[[scale, 0, 0], [0, scale, 0]]])


def relaid_maps(
    maps: np.ndarray, old: tuple[np.ndarray, Size], new: tuple[np.ndarray, Size], map_size: tuple[int, ...]
) -> np.ndarray:
    """Bring maps of one input of an image to where they lie in another: bilinear, the outermost pixels repeated.

    Inputs of several sizes have black borders of different shares, so that enlarging their maps is not enough.

    Args:
        maps: (K, h, w) float32, outer edges on the outer edges of the old input.
        old: the (1, 2, 3) matrix and the (height, width) of the input that the maps belong to, of `image_matrix`.
        new: those of the input that they shall lie on.
        map_size: (height, width) of the result.

    Returns:
        (K, *map_size) float32, outer edges on the outer edges of the new input.
    """
    (old_matrix, old_size), (new_matrix, new_size) = old, new
    scale = old_matrix[0, 0, 0] / new_matrix[0, 0, 0]
    shift = old_matrix[0, :, 2] - scale * new_matrix[0, :, 2]  # old input = scale * new input + shift
    old_stride = np.array(old_size[::-1]) / maps.shape[:0:-1]
    new_stride = np.array(new_size[::-1]) / map_size[::-1]
    factor = scale * new_stride / old_stride
    offset = (factor - 1) / 2 + shift / old_stride  # from pixel centers to pixel centers
    matrix = np.column_stack([np.diag(factor), offset])
    result = np.empty((len(maps), *map_size), dtype=np.float32)
    for single, relaid in zip(np.ascontiguousarray(maps, dtype=np.float32), result, strict=True):
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(single, matrix, map_size[::-1], dst=relaid, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return result


def invert(matrices: np.ndarray) -> np.ndarray:
    """Return the inverses of (N, 2, 3) affine matrices."""
    linear = np.linalg.inv(matrices[:, :, :2])
    return np.concatenate([linear, -linear @ matrices[:, :, 2:]], axis=2)


def transform(points: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Apply (N, 2, 3) affine matrices to (N, K, 2) points."""
    return points @ matrices[:, :, :2].transpose(0, 2, 1) + matrices[:, None, :, 2]


def crop(image: np.ndarray, matrix: np.ndarray, input_size: Size) -> np.ndarray:
    """Cut one crop out of an image: bilinear, black outside.

    Where the crop is less than half the size of its region, the region is first averaged down by a whole number, so
    that large photographs do not alias.

    Args:
        image: (H, W, 3) uint8.
        matrix: (2, 3) image pixels -> crop pixels.
        input_size: (height, width) of the crop.

    Returns:
        (height, width, 3) uint8.
    """
    height, width = input_size
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    factor = int(1 / scale) if scale > 0 else 1
    if factor >= 2:
        image, matrix = _averaged_down(image, matrix, input_size, factor)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)


def _averaged_down(
    image: np.ndarray, matrix: np.ndarray, input_size: Size, factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shrink the part of the image that the crop needs by a whole factor; return it and its matrix."""
    height, width = input_size
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], dtype=np.float64)
    needed = transform(corners, invert(matrix[None]))[0]
    limits = np.array([image.shape[1], image.shape[0]])
    start = np.clip(np.floor(needed.min(0)).astype(int) - factor, 0, limits)
    stop = np.clip(np.ceil(needed.max(0)).astype(int) + 2 * factor, 0, limits)  # one block may be lost to rounding
    small_w, small_h = (stop - start) // factor
    if min(small_w, small_h) == 0:
        return image, matrix
    (left, top), (right, bottom) = start, start + factor * np.array([small_w, small_h])
    small = cv2.resize(image[top:bottom, left:right], (int(small_w), int(small_h)), interpolation=cv2.INTER_AREA)
    # a small pixel's center lies in the middle of its factor x factor block: image = factor * small + offset
    offset = start + (factor - 1) / 2
    linear = matrix[:, :2] * factor
    return small, np.column_stack([linear, matrix[:, :2] @ offset + matrix[:, 2]])


def iou(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Return (N, M) intersection over union of (N, 4) and (M, 4) boxes xyxy."""
    start = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    stop = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    shared = np.prod(np.clip(stop - start, 0, None), axis=2)
    area_a, area_b = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes_a, boxes_b))
    return shared / np.maximum(area_a[:, None] + area_b[None] - shared, 1e-12)


def boxes_around(keypoints: np.ndarray, margin: float = 0.1) -> np.ndarray:
    """Return (N, 4) float32 boxes xyxy around (N, K, 2) keypoints, wider by a margin on each side.

    Keypoints that are NaN do not count; a person of none gets a box of NaN. The margin is a share of the longer side,
    at least one pixel.
    """
    known = ~np.isnan(keypoints)
    start = np.min(keypoints, axis=1, initial=np.inf, where=known)
    stop = np.max(keypoints, axis=1, initial=-np.inf, where=known)
    reach = np.maximum(margin * (stop - start).max(axis=1, keepdims=True, initial=0), 1)
    boxes = np.concatenate([start - reach, stop + reach], axis=1).astype(np.float32)
    return np.where(np.isfinite(boxes), boxes, np.float32(np.nan))


def box_nms(boxes_xyxy: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Return the positions of the boxes to keep, best score first.

    Greedy: a box goes when its IoU with a better one that was kept is above the threshold.
    """
    overlapping = iou(boxes_xyxy, boxes_xyxy) > threshold  # (N, N)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if not overlapping[index, kept].any():
            kept.append(int(index))
    return np.array(kept, dtype=int)


def joint_scores(
    boxes_xyxy: np.ndarray, found: Sequence[tuple[np.ndarray, np.ndarray]], threshold: float
) -> np.ndarray:
    """Return what boxes are worth that several looks at an image may have found: (N,) float32 in 0..1.

    It is the mean of the best look's score and the mean of all looks. A look's score is the best among its boxes whose
    IoU is above the threshold, 0 where it has none.

    Args:
        boxes_xyxy: (N, 4).
        found: of each look, boxes (M, 4) and their scores (M,) in 0..1.
    """
    looks = np.zeros((len(found), len(boxes_xyxy)))
    for look, (boxes, scores) in zip(looks, found, strict=True):
        same = iou(boxes_xyxy, boxes) > threshold  # (N, M)
        look[:] = np.where(same, scores, 0.0).max(axis=1, initial=0.0)
    return ((looks.max(axis=0) + looks.sum(axis=0) / len(found)) / 2).astype(np.float32)


def oks(
    keypoints_a: np.ndarray,
    keypoints_b: np.ndarray,
    areas_a: np.ndarray,
    areas_b: np.ndarray,
    sigmas: np.ndarray,
) -> np.ndarray:
    """Return (N, M) object keypoint similarity between two groups of predicted persons.

    The mean over keypoints of exp(-d^2 / (2 area (2 sigma)^2)), with the mean of the two areas, as the HRNet family
    uses it to find duplicates. (COCO's metric, which counts labelled keypoints only, is in metrics.py.)

    Args:
        keypoints_a: (N, K, 2) pixels.
        keypoints_b: (M, K, 2) pixels.
        areas_a: (N,) square pixels.
        areas_b: (M,) square pixels.
        sigmas: (K,) OKS sigmas.
    """
    return _similarities_of_pairs(keypoints_a, keypoints_b, areas_a, areas_b, sigmas).mean(axis=2)


def _similarities_of_pairs(
    keypoints_a: np.ndarray,
    keypoints_b: np.ndarray,
    areas_a: np.ndarray,
    areas_b: np.ndarray,
    sigmas: np.ndarray,
) -> np.ndarray:
    """Return (N, M, K) similarities of single keypoints, whose means `oks` gives."""
    squared = np.sum((keypoints_a[:, None] - keypoints_b[None]) ** 2, axis=3)  # (N, M, K)
    area = (areas_a[:, None] + areas_b[None]) / 2 + np.spacing(1)
    return np.exp(-squared / (2 * area[..., None] * (2 * sigmas) ** 2))


def similarities(found: np.ndarray, truth: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Return (N, K) similarities of keypoints, exp(-d^2 / (2 area (2 sigma)^2)), as COCO's metric averages them.

    Args:
        found, truth: (N, K, 2) pixels; NaN gives NaN.
        areas: (N,) of the annotated persons, square pixels.
        sigmas: (K,) OKS sigmas.
    """
    squared = np.sum((found - truth) ** 2, axis=2)  # (N, K)
    return np.exp(-squared / (2 * (areas[:, None] + np.spacing(1)) * (2 * sigmas) ** 2))


def oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: np.ndarray,
    threshold: float = 0.9,
    counted: np.ndarray | None = None,
) -> np.ndarray:
    """Return the positions of the persons to keep, best score first.

    Greedy: a person goes when its OKS to a better one that was kept is above the threshold.

    Args:
        keypoints, areas, sigmas: as of `oks`.
        scores: (N,) of the persons.
        threshold: 0..1.
        counted: (N, K) bool, which keypoints count: of two persons those that count of both; who share fewer than
            FEWEST_SHARED, of sets with as many, are not the same. None: all count.
    """
    if counted is None:
        counted = np.ones(keypoints.shape[:2], dtype=bool)
    both = counted[:, None] & counted[None]  # (N, N, K)
    shared = both.sum(axis=2)
    total = (_similarities_of_pairs(keypoints, keypoints, areas, areas, sigmas) * both).sum(axis=2)
    similarity = np.where(shared >= min(FEWEST_SHARED, len(sigmas)), total / np.maximum(shared, 1), 0.0)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(similarity[i, j] <= threshold for j in kept):
            kept.append(int(i))
    return np.array(kept, dtype=int)
