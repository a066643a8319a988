"""Random views of person crops: one affine per person (flip, scale, rotate, shift, half body), then colour.

Runs on whole batches, on the device of its tensors. The random numbers are an argument, drawn a sample by the loader,
so that a view depends on seed, epoch and sample alone, never on batch size, process or device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import grid_sample

from leanpose.errors import InputError
from leanpose.geometry import Convention, Size, grid_center
from leanpose.keypoint_sets import KeypointSet

NOISE = 12  # random numbers that a view needs, uniform in (0, 1)


@dataclass(frozen=True)
class Augmentation:
    """How strongly views differ. All zero: the crop itself.

    Attributes:
        flip: probability of mirroring.
        scale: standard deviation of the zoom factor around 1, cut at one deviation.
        rotation: standard deviation of the angle in degrees, cut at two deviations.
        rotation_probability: share of views that are rotated.
        shift: standard deviation of the shift as a share of the input's height, cut at two deviations.
        half_body: probability that a person with more than 8 labelled keypoints is cut to the upper or lower half.
        brightness, contrast, saturation: largest relative change of each.
        zoom: the mean zoom factor; a larger one shows more and all of it smaller.
        uniform: draw zoom, angle and shift evenly between plus and minus the above, instead of normally.
    """

    flip: float = 0.5
    scale: float = 0.3
    rotation: float = 40.0
    rotation_probability: float = 0.6
    shift: float = 0.0
    half_body: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    zoom: float = 1.0
    uniform: bool = False

    def __post_init__(self) -> None:
        for name in ("flip", "rotation_probability", "half_body", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be between 0 and 1, not {getattr(self, name)}.")
        for name in ("scale", "rotation", "shift"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least 0, not {getattr(self, name)}.")
        if not self.scale < self.zoom < math.inf:
            raise InputError(f"scale must be below zoom, {self.zoom}, not {self.scale}.")


NO_AUGMENTATION = Augmentation(flip=0, scale=0, rotation=0)


@dataclass(frozen=True, eq=False)
class RandomViews:
    """The affines of a batch of views, input -> crop pixels: crop = linear @ (input - middle) + center.

    Attributes:
        linear: (B, 2, 2).
        center: (B, 2) crop pixels; what the middle of a view shows.
        middle: (2,) input pixels.
        mirrored: (B,) whether left and right are exchanged.
        colours: (B, 3) factors of brightness, contrast and saturation.
        input_size: (height, width) of the views.
    """

    linear: torch.Tensor
    center: torch.Tensor
    middle: torch.Tensor
    mirrored: torch.Tensor
    colours: torch.Tensor
    input_size: Size

    def at_size(self, input_size: Size, convention: Convention = "udp") -> RandomViews:
        """Return views of another (height, width) that show the same, in larger or smaller pixels."""
        middle = self.middle.new_tensor(grid_center(input_size, convention))
        return replace(self, linear=self.linear * (self.middle / middle), middle=middle, input_size=input_size)

    def images(self, crops: torch.Tensor) -> torch.Tensor:
        """Return (B, C, height, width) float32 of crops (B, H, W, C) uint8; bilinear, 0 outside.

        The first three channels change colour, further ones do not.
        """
        images = _sample(crops, self.linear, self.center, self.middle, self.input_size)
        if (self.colours == 1).all():
            return images
        return torch.cat([_coloured(images[:, :3], self.colours), images[:, 3:]], dim=1)

    def points(self, points: torch.Tensor) -> torch.Tensor:
        """Carry (B, ..., 2) crop pixels to input pixels."""
        inverse = torch.linalg.inv(self.linear).transpose(1, 2)
        flat = points.flatten(1, -2) - self.center[:, None]
        return (flat @ inverse + self.middle).view_as(points)

    def boxes(self, boxes_xyxy: torch.Tensor) -> torch.Tensor:
        """Carry (B, P, 4) boxes to input pixels; a turned box becomes the one around its turned inner ellipse."""
        centers = self.points((boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2)
        halves = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]) / 2
        inverse = torch.linalg.inv(self.linear)
        halves = (halves.square() @ inverse.square().transpose(1, 2)).sqrt()
        return torch.cat([centers - halves, centers + halves], dim=-1)

    def names(self, values: torch.Tensor, keypoint_set: KeypointSet, dim: int) -> torch.Tensor:
        """Exchange left and right along the axis of keypoints, in mirrored views."""
        partner = torch.as_tensor(keypoint_set.flip_index, device=values.device)
        mirrored = self.mirrored.view(-1, *[1] * (values.ndim - 1))
        return torch.where(mirrored, values.index_select(dim, partner), values)


def augment(
    crops: torch.Tensor,
    keypoints: torch.Tensor,
    weights: torch.Tensor,
    noise: torch.Tensor,
    settings: Augmentation,
    input_size: Size,
    keypoint_set: KeypointSet,
    convention: Convention = "udp",
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw one view of the crop of each person.

    Args:
        crops: (B, H, W, 3) uint8, the network's view in the middle with a margin around it, at the same scale.
        keypoints: (B, K, 2) float32 crop pixels; anything where unlabelled.
        weights: (B, K), above 0 where labelled.
        noise: (B, NOISE) float32, uniform in (0, 1).
        input_size: (height, width) of the views.

    Returns:
        images (B, 3, height, width) float32 0..255, keypoints (B, K, 2) input pixels, weights (B, K).
    """
    keypoints = torch.nan_to_num(keypoints)
    crop_size = (crops.shape[1], crops.shape[2])
    halves = None
    if settings.half_body > 0:
        halves = _half_bodies(keypoints, weights, noise[:, 7], input_size[1] / input_size[0], keypoint_set)
    views = draw_views(noise, settings, crop_size, input_size, convention, halves)
    return (
        views.images(crops),
        views.names(views.points(keypoints), keypoint_set, dim=1),
        views.names(weights, keypoint_set, dim=1),
    )


def _normal(uniform: torch.Tensor) -> torch.Tensor:
    """Turn uniform numbers into standard normal ones."""
    return math.sqrt(2) * torch.erfinv((2 * uniform - 1).clamp(-0.999999, 0.999999))


def draw_views(
    noise: torch.Tensor,
    settings: Augmentation,
    crop_size: Size,
    input_size: Size,
    convention: Convention = "udp",
    halves: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
) -> RandomViews:
    """Turn uniform numbers into views.

    Args:
        noise: (B, NOISE) float32, uniform in (0, 1).
        crop_size: (height, width) of the crops, whose middle a view shows if it is not shifted.
        input_size: (height, width) of the views, at the scale of the crops if zoom is 1.
        halves: for half-body views, where to look instead; see `_half_bodies`.
    """
    height = input_size[0]
    deviates = 2 * noise - 1 if settings.uniform else _normal(noise)
    zoom = settings.zoom + settings.scale * deviates[:, 1].clamp(-1, 1)
    degrees = settings.rotation * deviates[:, 2].clamp(-2, 2)
    angle = torch.deg2rad(degrees) * (noise[:, 3] < settings.rotation_probability)
    shift = settings.shift * height * deviates[:, 4:6].clamp(-2, 2)

    center = noise.new_tensor(grid_center(crop_size, convention)).expand(len(noise), 2)
    if halves is not None:
        middles, spans, usable = halves
        chosen = usable & (noise[:, 6] < settings.half_body)
        center = torch.where(chosen[:, None], middles, center)
        zoom = torch.where(chosen, zoom * (spans / height).clamp(0.4, 1.5), zoom)

    mirrored = noise[:, 0] < settings.flip
    mirror = torch.where(mirrored, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    strengths = noise.new_tensor([settings.brightness, settings.contrast, settings.saturation])
    return RandomViews(
        linear=torch.stack([cos * mirror, -sin, sin * mirror, cos], dim=1).view(-1, 2, 2),
        center=center + shift,
        middle=noise.new_tensor(grid_center(input_size, convention)),
        mirrored=mirrored,
        colours=1 + (2 * noise[:, 8:11] - 1) * strengths,
        input_size=input_size,
    )


def _half_bodies(
    keypoints: torch.Tensor,
    weights: torch.Tensor,
    which: torch.Tensor,
    aspect: float,
    keypoint_set: KeypointSet,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return center (B, 2) and height (B,) of one half of each person, and (B,) whether it has one.

    As in the HRNet family: of persons with more than 8 labelled keypoints, the upper or the lower half (hips, knees,
    ankles) with at least 3 of them; around their mean, 1.5 times their extent.
    """
    lower = torch.tensor(
        [name.endswith(("hip", "knee", "ankle", "pelvis")) for name in keypoint_set.keypoints],
        device=keypoints.device,
    )
    labelled = weights > 0  # (B, K)
    wants_lower = (which < 0.5)[:, None]
    enough_lower = ((labelled & lower).sum(1) > 2)[:, None]
    enough_upper = ((labelled & ~lower).sum(1) > 2)[:, None]
    takes_lower = (wants_lower & enough_lower) | ~enough_upper
    half = labelled & torch.where(takes_lower, lower, ~lower)  # (B, K)

    inside = half[..., None]
    count = inside.sum(1).clamp(min=1)
    center = (keypoints * inside).sum(1) / count
    low = keypoints.masked_fill(~inside, torch.inf).amin(1)
    high = keypoints.masked_fill(~inside, -torch.inf).amax(1)
    extent = (high - low).clamp(min=1) * 1.5
    span = torch.maximum(extent[:, 1], extent[:, 0] / aspect)
    usable = (labelled.sum(1) > 8) & (half.sum(1) > 2)
    return center, torch.nan_to_num(span, posinf=1.0, neginf=1.0), usable


def _sample(
    crops: torch.Tensor, linear: torch.Tensor, center: torch.Tensor, middle: torch.Tensor, input_size: Size
) -> torch.Tensor:
    """Return (B, C, height, width) float32: the crops seen through input -> crop affines, black outside."""
    height, width = input_size
    device = crops.device
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    grid = torch.stack([x, y], dim=-1).view(1, -1, 2).float() - middle  # (1, h w, 2)
    points = grid @ linear.transpose(1, 2) + center[:, None]  # (B, h w, 2) crop pixels
    last = points.new_tensor([crops.shape[2] - 1, crops.shape[1] - 1])
    points = (points * (2 / last) - 1).view(-1, height, width, 2)  # -1 and 1: centers of first and last pixel
    images = crops.permute(0, 3, 1, 2).float()
    return grid_sample(images, points, mode="bilinear", padding_mode="zeros", align_corners=True)


def _coloured(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Multiply brightness, contrast and saturation of (B, 3, h, w) images by (B, 3) factors."""
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = images.mean(dim=1, keepdim=True)
    return (grey + (images - grey) * saturation).clamp(0, 255)
