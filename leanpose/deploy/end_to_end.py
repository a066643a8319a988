"""A network with its preprocessing and its codec inside: crops in bytes in, keypoints and scores out.

What `codecs` reads with NumPy is done here with torch, by the same formulas, so that an app needs nothing but the
cutting of crops. Only codecs of one person per crop are in READERS.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import torch
from torch import Tensor, nn
from torch.nn import functional

from leanpose.codecs import UDP, BetaSoftArgmax, Dark, Heatmap, HeatmapCodec, SimCC, codec_of
from leanpose.codecs import dark as dark_constants
from leanpose.codecs import udp as udp_constants
from leanpose.errors import WeightsError
from leanpose.geometry import heatmap_to_input
from leanpose.weights.calibration import Calibration
from leanpose.weights.record import Weights

OUTPUTS = ("keypoints", "scores")
EPS = float(torch.finfo(torch.float32).eps)


class EndToEnd(nn.Module):
    """Crops (N, h, w, 3) uint8 RGB -> keypoints (N, K, 2) float32, x and y in crop pixels, and scores (N, K) float32:
    chances where the record has a calibration, else raw scores.

    Args:
        network: maps normalised crops to named outputs, in evaluation mode.
        weights: its record, of the task "top_down".

    Raises:
        WeightsError: the outputs cannot be read inside a graph.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, weights: Weights) -> None:
        super().__init__()
        check_readable(weights)
        self.network, self.codec, self.input_size = network, codec_of(weights), weights.input_size
        self.calibration, self.bgr = weights.calibration, weights.channel_order == "bgr"
        scale = 1 / torch.tensor(weights.std, dtype=torch.float32)
        self.register_buffer("scale", scale.view(1, 3, 1, 1))
        self.register_buffer("shift", (torch.tensor(weights.mean, dtype=torch.float32) * scale).view(1, 3, 1, 1))

    def forward(self, crops: Tensor) -> dict[str, Tensor]:
        images = crops.permute(0, 3, 1, 2).float()
        images = images.flip(1) if self.bgr else images
        outputs = self.network(images * self.scale - self.shift)
        if isinstance(self.codec, SimCC):
            keypoints, scores = _read_simcc(outputs["simcc_x"], outputs["simcc_y"], self.codec)
        else:
            heatmaps = outputs["heatmaps"]
            keypoints, scores = READERS[type(self.codec)](heatmaps, self.codec)
            size = (heatmaps.shape[2], heatmaps.shape[3])
            keypoints = heatmap_to_input(keypoints, self.input_size, size, self.codec.convention)
        if self.calibration is not None:
            scores = _chances(scores, self.calibration)
        return dict(zip(OUTPUTS, (keypoints, scores), strict=True))


def check_readable(weights: Weights) -> None:
    """Raise WeightsError where a network's outputs cannot become keypoints inside a graph."""
    if weights.task != "top_down":
        raise WeightsError(
            f"{weights.name} finds all persons of an image, and sorting keypoints into persons does not fit into a "
            "graph: export it without --end-to-end, or take a network of one person, such as lpn50."
        )
    if type(codec_of(weights)) not in (*READERS, SimCC):
        raise WeightsError(f"The codec {weights.codec} cannot be put into a graph: export without --end-to-end.")


def _peaks(heatmaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x and y (N, K) int64 of the highest pixels, (0, 0) where these are not positive, and their values."""
    width = heatmaps.shape[3]
    flat = heatmaps.flatten(2)
    index = flat.argmax(2, keepdim=True)
    maxima = flat.gather(2, index)[..., 0]
    index = torch.where(maxima > 0, index[..., 0], 0)
    return index % width, index // width, maxima


def _around(maps: Tensor, x: Tensor, y: Tensor, side: int) -> Tensor:
    """Return the squares (N, K, side, side) of maps (N, K, H, W) whose top left pixels are x, y (N, K)."""
    width = maps.shape[3]
    offsets = torch.arange(side, device=maps.device)
    offsets = (offsets[:, None] * width + offsets).flatten()
    index = (y * width + x)[..., None] + offsets
    return maps.flatten(2).gather(2, index).unflatten(2, (side, side))


def _read_heatmap(heatmaps: Tensor, codec: Heatmap) -> tuple[Tensor, Tensor]:
    """Do what `Heatmap.decode_maps` does."""
    x, y, scores = _peaks(heatmaps)
    keypoints = torch.stack([x, y], 2).float()
    return (_shifted(heatmaps, keypoints) if codec.shift else keypoints), scores


def _shifted(heatmaps: Tensor, keypoints: Tensor) -> Tensor:
    """Do what `shift_quarter` does."""
    height, width = heatmaps.shape[2:]
    x, y = (keypoints + 0.5).floor().long().unbind(2)
    patches = _around(functional.pad(heatmaps, (1, 1, 1, 1)), x, y, 3)
    steps = [patches[:, :, 1, 2] - patches[:, :, 1, 0], patches[:, :, 2, 1] - patches[:, :, 0, 1]]
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    return keypoints + torch.where(inside[..., None], 0.25 * torch.stack(steps, 2).sign(), 0.0)


def _read_soft_argmax(heatmaps: Tensor, codec: BetaSoftArgmax) -> tuple[Tensor, Tensor]:
    """Do what `BetaSoftArgmax.decode_maps` does."""
    height, width = heatmaps.shape[2:]
    softmax = (heatmaps * codec.beta).flatten(2).softmax(2).unflatten(2, (height, width))
    x = (softmax.sum(2) * torch.arange(width)).sum(2)
    y = (softmax.sum(3) * torch.arange(height)).sum(2)
    keypoints = torch.stack([x, y], 2)
    index = (y.round() * width + x.round()).long()
    scores = heatmaps.flatten(2).gather(2, index[..., None])[..., 0]
    return (_shifted(heatmaps, keypoints) if codec.shift else keypoints), scores


def _logs(heatmaps: Tensor, x: Tensor, y: Tensor, reach: int, blur: int, floor: float, mode: str) -> Tensor:
    """Do what `log_around_peaks` does: (N, K, S, S), S = 2 * reach + 1, rows before columns."""
    side, margin = 2 * reach + 1, reach + blur // 2
    kernel = torch.from_numpy(cv2.getGaussianKernel(blur, 0)[:, 0]).float()
    band = torch.stack([functional.pad(kernel, (row, side - 1 - row)) for row in range(side)])  # (S, S + blur - 1)
    padded = functional.pad(heatmaps, (margin,) * 4, mode=mode)
    patches = _around(padded, x, y, side + blur - 1)
    return (band @ patches @ band.T).clamp(min=floor).log()


def _read_dark(heatmaps: Tensor, codec: Dark) -> tuple[Tensor, Tensor]:
    """Do what `Dark.decode_maps` does."""
    x, y, scores = _peaks(heatmaps)
    height, width = heatmaps.shape[2:]
    log = _logs(heatmaps, x, y, 2, codec.blur, dark_constants.FLOOR, "constant").movedim((2, 3), (0, 1))
    center = log[2, 2]
    step = _newton_step(
        dx=(log[2, 3] - log[2, 1]) / 2,
        dy=(log[3, 2] - log[1, 2]) / 2,
        dxx=(log[2, 4] - 2 * center + log[2, 0]) / 4,
        dyy=(log[4, 2] - 2 * center + log[0, 2]) / 4,
        dxy=(log[3, 3] - log[1, 3] - log[3, 1] + log[1, 1]) / 4,
    )
    inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    return torch.stack([x, y], 2).float() + torch.where(inside[..., None], step, 0.0), scores


def _read_udp(heatmaps: Tensor, codec: UDP) -> tuple[Tensor, Tensor]:
    """Do what `UDP.decode_maps` does."""
    x, y, scores = _peaks(heatmaps)
    height, width = heatmaps.shape[2:]
    log = _logs(heatmaps, x, y, 1, codec.blur, udp_constants.FLOOR, "reflect")
    above, center_row, below = log.unbind(2)  # beyond the outermost pixels stand the same ones again
    above = torch.where((y == 0)[..., None], center_row, above)
    below = torch.where((y == height - 1)[..., None], center_row, below)
    left, middle, right = torch.stack([above, center_row, below], 3).unbind(2)  # columns of three rows each
    left = torch.where((x == 0)[..., None], middle, left)
    right = torch.where((x == width - 1)[..., None], middle, right)
    center = middle[..., 1]
    sides = left[..., 1] + right[..., 1] + middle[..., 0] + middle[..., 2]
    step = _newton_step(
        dx=(right[..., 1] - left[..., 1]) / 2,
        dy=(middle[..., 2] - middle[..., 0]) / 2,
        dxx=right[..., 1] - 2 * center + left[..., 1],
        dyy=middle[..., 2] - 2 * center + middle[..., 0],
        dxy=(right[..., 2] + left[..., 0] + 2 * center - sides) / 2,
    )
    return torch.stack([x, y], 2).float() + torch.where((scores > 0)[..., None], step, 0.0), scores


def _newton_step(dx: Tensor, dy: Tensor, dxx: Tensor, dyy: Tensor, dxy: Tensor) -> Tensor:
    """Do what `codecs.dark.newton_step` does."""
    determinant = dxx * dyy - dxy * dxy
    has_maximum = (dxx < 0) & (determinant > EPS)
    divisor = torch.where(has_maximum, determinant, 1.0)
    step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], 2) / divisor[..., None]
    limit = dark_constants.MAX_STEP
    return torch.where(has_maximum[..., None], step.clamp(-limit, limit), 0.0)


def _read_simcc(vectors_x: Tensor, vectors_y: Tensor, codec: SimCC) -> tuple[Tensor, Tensor]:
    """Do what `SimCC.decode` does."""
    bins = torch.stack([vectors_x.argmax(2), vectors_y.argmax(2)], 2).float()
    scores = torch.minimum(vectors_x.amax(2), vectors_y.amax(2)).clamp(min=0)
    return torch.where((scores > 0)[..., None], bins / codec.split, 0.0), scores


def _chances(scores: Tensor, calibration: Calibration) -> Tensor:
    """Do what a calibration does: lines through points, level beyond their ends, 0 where scores are not positive."""
    raw = torch.tensor(calibration.raw)
    lines = torch.tensor(calibration.chance)  # (K, M)
    inside = scores[..., None].clamp(calibration.raw[0], calibration.raw[-1])
    shares = ((inside - raw[:-1]) / (raw[1:] - raw[:-1])).clamp(0, 1)  # of each piece that lies below the score
    chances = lines[:, 0] + (shares * (lines[:, 1:] - lines[:, :-1])).sum(2)
    return torch.where(scores > 0, chances, 0.0)


READERS: dict[type[HeatmapCodec], Callable[[Tensor, HeatmapCodec], tuple[Tensor, Tensor]]] = {
    Heatmap: _read_heatmap,  # type: ignore[dict-item]
    BetaSoftArgmax: _read_soft_argmax,  # type: ignore[dict-item]
    Dark: _read_dark,  # type: ignore[dict-item]
    UDP: _read_udp,  # type: ignore[dict-item]
}
