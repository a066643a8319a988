"""Persons as a map of their centers and, at each pixel, the distances to the four edges of the box around it.

Source: Liu et al., "Training-Time-Friendly Network for Real-Time Object Detection" (TTFNet), arXiv 1909.00700.
Differs: there is one class, the Gaussian's sigma is not rounded to whole pixels, and the weights are for boxes in
map pixels, not in image pixels.

The network gives `centers`, logits, and `box_logs`, logarithms of distances in map pixels. Training compares
`box_logs.exp()` with the distances that `CenterBox.encode_maps` returns; `CenterBox.decode` takes both as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import cv2
import numpy as np

from leanpose.codecs.heatmap import check_count, check_positive, check_share
from leanpose.codecs.interface import Outputs
from leanpose.errors import InputError
from leanpose.geometry import Convention, Size, box_nms, heatmap_to_input
from leanpose.weights.record import Task

if TYPE_CHECKING:
    import torch

SMALLEST_DISTANCE = 0.1  # map pixels; distances are targets of an exponential
SMALLEST_SIGMA = 1 / 6  # map pixels; then 3 sigma reach half a pixel


@dataclass(frozen=True)
class CenterBox:
    """An elliptical Gaussian at each person's center; the distances to the box's edges where it is above zero.

    A box is x1, y1, x2, y2 in map pixels, the center of the top-left pixel being (0, 0).

    Args:
        alpha: size of the Gaussian, in 0..1: its sigma on each axis is alpha / 6 of the box's side, so that it ends,
            at 3 sigma, at this share of the box.
        max_people: decode returns no more persons, >= 1.
        score_threshold: decode returns persons whose score is above it, in 0..1.
        nms_iou: of two boxes with a larger IoU, decode returns only the better one, in 0..1.
        convention: how maps lie over the input, see leanpose.geometry.

    Raises:
        InputError: a parameter is out of its range.
    """

    alpha: float = 0.54
    max_people: int = 300
    score_threshold: float = 0.1
    nms_iou: float = 0.5
    convention: Convention = "classic"

    task: ClassVar[Task] = "detection"
    output_names: ClassVar[tuple[str, ...]] = ("centers", "box_logs")

    def __post_init__(self) -> None:
        check_positive("alpha", self.alpha)
        if self.alpha > 1:
            raise InputError(f"Give alpha as a number up to 1, not {self.alpha!r}.")
        check_count("max_people", self.max_people)
        check_share("score_threshold", self.score_threshold)
        check_share("nms_iou", self.nms_iou)

    def encode_maps(
        self, boxes_xyxy: torch.Tensor, valid: torch.Tensor, heatmap_size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw the targets of all persons, on the boxes' device, without gradient.

        Args:
            boxes_xyxy: (B, P, 4), map pixels. They are cut at the map's border (-0.5 and W - 0.5 or H - 0.5); those
                of which nothing is left, or with NaN, are left out.
            valid: (B, P) bool, false where there is no person.
            heatmap_size: (H, W).

        Returns:
            centers (B, 1, H, W) float32 in 0..1: exactly 1 on the pixel nearest to each box's center, 0 more than 3
                sigma away from it on either axis; where Gaussians overlap, the larger value.
            distances (B, 4, H, W) float32: from the pixel's center left, top, right and bottom to the edges of the
                smallest box whose Gaussian is above 0 there, at least 0.1 map pixels; 1 where there is no box.
            weights (B, H, W) float32, >= 0: the Gaussian of this box, divided by its sum, times
                log((width + 1) * (height + 1)); 0 where there is no box.

        Raises:
            InputError: the shapes of boxes_xyxy and valid do not fit.
        """
        import torch

        if boxes_xyxy.ndim != 3 or boxes_xyxy.shape[2] != 4 or boxes_xyxy.shape[:2] != valid.shape:
            raise InputError(
                "encode needs boxes_xyxy (B, P, 4) and valid (B, P), "
                f"not {tuple(boxes_xyxy.shape)} and {tuple(valid.shape)}."
            )
        height, width = heatmap_size
        with torch.no_grad():
            last = torch.tensor([width - 1, height - 1], device=boxes_xyxy.device, dtype=torch.float32)
            corners, present = _largest_first(boxes_xyxy, valid, last)
            sides = corners[:, :, 1] - corners[:, :, 0]  # (B, P, xy)
            middles = corners.mean(dim=2).round().maximum(torch.zeros_like(last)).minimum(last)  # (B, P, xy), whole
            sigmas = (sides * self.alpha / 6).clamp(min=SMALLEST_SIGMA)

            def profile(axis: int, length: int) -> torch.Tensor:
                """The Gaussians along one axis: (B, P, length)."""
                offsets = torch.arange(length, device=last.device) - middles[..., axis, None]
                sigma = sigmas[..., axis, None]
                values = torch.exp(-(offsets**2) / (2 * sigma**2))
                return values.masked_fill((offsets.abs() > 3 * sigma) | ~present[..., None], 0.0)

            rows, columns = profile(1, height), profile(0, width)
            totals = rows.sum(dim=2) * columns.sum(dim=2)  # (B, P), of the whole Gaussian
            scales = torch.log1p(sides).sum(dim=2) / totals.clamp(min=1.0)  # (B, P); totals is 1 or more, or 0

            centers = rows.new_zeros(len(rows), height, width)
            weights = torch.zeros_like(centers)
            owners = torch.full_like(centers, -1, dtype=torch.int64)
            for person in range(rows.shape[1]):
                gaussian = rows[:, person, :, None] * columns[:, person, None, :]  # (B, H, W)
                inside = gaussian > 0
                centers = torch.maximum(centers, gaussian)
                weights = torch.where(inside, gaussian * scales[:, person, None, None], weights)
                owners = torch.where(inside, person, owners)
            return centers[:, None], _distances(corners, owners), weights

    def decode(self, outputs: Outputs, input_size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Find the persons of one image in the outputs of a network.

        Args:
            outputs: centers (1, 1, h, w) and box_logs (1, 4, h, w).
            input_size: (height, width) of the network's input.

        Returns:
            boxes_xyxy (N, 4) float32 in input pixels and scores (N,) float32 in 0..1, best first.
        """
        boxes, scores = self.decode_maps(outputs["centers"][0, 0], outputs["box_logs"][0])
        height, width = outputs["centers"].shape[2:]
        corners = heatmap_to_input(boxes.reshape(-1, 2), input_size, (height, width), self.convention)
        return corners.reshape(-1, 4), scores

    def merge_flipped(self, outputs: Outputs, mirrored: Outputs, flip_index: Sequence[int] | np.ndarray) -> Outputs:
        """Average the maps of the image with those of the mirrored one, turned back."""
        back = {name: maps[..., ::-1] for name, maps in mirrored.items()}
        back["box_logs"] = back["box_logs"][:, [2, 1, 0, 3]]  # left and right change places
        return {name: (outputs[name] + back[name]) / 2 for name in self.output_names}

    def decode_maps(self, centers: np.ndarray, box_logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the persons of one image: peaks of the map of centers, without boxes that overlap a better one.

        Args:
            centers: (H, W), logits.
            box_logs: (4, H, W), logarithms of the distances left, top, right, bottom in map pixels.

        Returns:
            boxes_xyxy (N, 4) float32, map pixels, cut at the map's border; and scores (N,) float32 in 0..1, the
            sigmoid of the logits; best first. Peaks are the highest of their 3x3 pixels; where a value is NaN,
            or a logit infinite, there is none.

        Raises:
            InputError: the shapes do not fit, or the maps have no pixels.
        """
        logits, logs = np.asarray(centers, dtype=np.float32), np.asarray(box_logs, dtype=np.float32)
        if logits.ndim != 2 or 0 in logits.shape or logs.shape != (4, *logits.shape):
            raise InputError(
                "decode needs centers (H, W) with at least one pixel and box_logs (4, H, W), "
                f"not {logits.shape} and {logs.shape}."
            )
        height, width = logits.shape
        usable = np.isfinite(logits) & ~np.isnan(logs).any(axis=0)
        logits = np.where(usable, logits, -np.inf).astype(np.float32)
        # Of equal neighbours all are peaks here; their boxes are left to the suppression below.
        peaks = usable & (logits == cv2.dilate(logits, np.ones((3, 3), np.uint8)))
        y, x = np.nonzero(peaks)
        scores = 1 / (1 + np.exp(-logits[y, x].astype(np.float64).clip(-50, 50)))
        best = np.argsort(-scores, kind="stable")
        best = best[scores[best] > self.score_threshold][: self.max_people]
        y, x, scores = y[best], x[best], scores[best].astype(np.float32)
        left, top, right, bottom = np.exp(np.minimum(logs[:, y, x], math.log(height + width)))
        boxes = np.stack([x - left, y - top, x + right, y + bottom], axis=1)  # (N, 4)
        boxes = boxes.clip(-0.5, np.array([width, height, width, height]) - 0.5).astype(np.float32)
        kept = box_nms(boxes, scores, self.nms_iou)
        return boxes[kept], scores[kept]


def _largest_first(
    boxes_xyxy: torch.Tensor, valid: torch.Tensor, last: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut boxes at the map's border and sort them by area, so that the smallest is drawn last and wins.

    Args:
        boxes_xyxy: (B, P, 4); NaN where not known.
        valid: (B, P) bool.
        last: (2,), x and y of the map's last pixel.

    Returns:
        corners (B, Q, 2, 2), corner and xy, and present (B, Q) bool. Q is the largest number of boxes in an image;
        those that are not there come behind, with corners 0.
    """
    corners = boxes_xyxy.to(last.dtype).unflatten(2, (2, 2))
    corners = corners.maximum(last.new_tensor(-0.5)).minimum(last + 0.5)
    sides = corners[:, :, 1] - corners[:, :, 0]
    present = valid.bool() & (sides > 0).all(dim=2)  # NaN compares false
    order = sides.prod(dim=2).masked_fill(~present, -1.0).argsort(dim=1, descending=True, stable=True)
    order = order[:, : int(present.sum(dim=1).max()) if present.numel() else 0]
    corners = corners.gather(1, order[:, :, None, None].expand(-1, -1, 2, 2))
    present = present.gather(1, order)
    return corners.masked_fill(~present[..., None, None], 0.0), present


def _distances(corners: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
    """Return (B, 4, H, W): from each pixel to the edges of the box that owns it, or 1 where none does.

    Args:
        corners: (B, P, 2, 2).
        owners: (B, H, W), index of a box, or -1.
    """
    import torch

    batch, height, width = owners.shape
    if not corners.shape[1]:
        return corners.new_ones(batch, 4, height, width)
    x, y = torch.arange(width, device=owners.device), torch.arange(height, device=owners.device)
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"))  # (xy, H, W)
    edges = corners.flatten(2).transpose(1, 2)  # (B, 4, P)
    chosen = owners.clamp(min=0).flatten(1)[:, None].expand(-1, 4, -1)
    edges = edges.gather(2, chosen).unflatten(2, (height, width))  # (B, 4, H, W)
    found = torch.cat([pixels - edges[:, :2], edges[:, 2:] - pixels], dim=1).clamp(min=SMALLEST_DISTANCE)
    return torch.where(owners[:, None] >= 0, found, 1.0)
