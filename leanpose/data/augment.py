"""Random views of person crops: one affine a person (flip, scale, rotate, shift, half body), then colour.

Runs on whole batches, on the device of its tensors. The random numbers are an argument, drawn a sample by the loader,
so that a view depends on seed, epoch and sample alone, never on batch size, process or device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import grid_sample

from leanpose.errors import InputError
from leanpose.geometry import Convention, Size, grid_centre
from leanpose.keypoint_sets import KeypointSet

NOISE = 12  # random numbers a view needs, uniform in (0, 1)


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

    def __post_init__(self) -> None:
        for name in ("flip", "rotation_probability", "half_body", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be between 0 and 1, not {getattr(self, name)}.")
        for name in ("scale", "rotation", "shift"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least 0, not {getattr(self, name)}.")
        if self.scale >= 1:
            raise InputError(f"scale must be below 1, not {self.scale}.")


NO_AUGMENTATION = Augmentation(flip=0, scale=0, rotation=0)


def augment(
    crops: torch.Tensor,
    keypoints: torch.Tensor,
    visibility: torch.Tensor,
    noise: torch.Tensor,
    settings: Augmentation,
    input_size: Size,
    keypoint_set: KeypointSet,
    convention: Convention = "udp",
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw one view of each crop.

    Args:
        crops: (B, H, W, 3) uint8, the network's view in the middle with a margin around it, at the same scale.
        keypoints: (B, K, 2) float32 crop pixels; anything where unlabelled.
        visibility: (B, K) 0, 1 or 2.
        noise: (B, NOISE) float32, uniform in (0, 1).
        input_size: (height, width) of the views.

    Returns:
        images (B, 3, height, width) float32 0..255, keypoints (B, K, 2) input pixels, visibility (B, K).
    """
    crop_size = (crops.shape[1], crops.shape[2])
    keypoints = torch.nan_to_num(keypoints)
    linear, centre = _views(keypoints, visibility, noise, settings, crop_size, input_size, keypoint_set, convention)
    middle = keypoints.new_tensor(grid_centre(input_size, convention))

    images = _sample(crops, linear, centre, middle, input_size)
    images = _colour(images, noise[:, 8:11], settings)
    inverse = torch.linalg.inv(linear)
    keypoints = (keypoints - centre[:, None]) @ inverse.transpose(1, 2) + middle

    mirrored = noise[:, 0] < settings.flip  # left and right change their names
    partner = torch.as_tensor(keypoint_set.flip_index, device=keypoints.device)
    keypoints = torch.where(mirrored[:, None, None], keypoints[:, partner], keypoints)
    visibility = torch.where(mirrored[:, None], visibility[:, partner], visibility)
    return images, keypoints, visibility


def _normal(uniform: torch.Tensor) -> torch.Tensor:
    """Turn uniform numbers into standard normal ones."""
    return math.sqrt(2) * torch.erfinv((2 * uniform - 1).clamp(-0.999999, 0.999999))


def _views(
    keypoints: torch.Tensor,
    visibility: torch.Tensor,
    noise: torch.Tensor,
    settings: Augmentation,
    crop_size: Size,
    input_size: Size,
    keypoint_set: KeypointSet,
    convention: Convention,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return linear parts (B, 2, 2), input -> crop pixels, and centres (B, 2) of the views in crop pixels."""
    height, width = input_size
    zoom = 1 + settings.scale * _normal(noise[:, 1]).clamp(-1, 1)
    degrees = settings.rotation * _normal(noise[:, 2]).clamp(-2, 2)
    angle = torch.deg2rad(degrees) * (noise[:, 3] < settings.rotation_probability)
    shift = settings.shift * height * _normal(noise[:, 4:6]).clamp(-2, 2)

    centre = keypoints.new_tensor(grid_centre(crop_size, convention)).expand(len(keypoints), 2)
    if settings.half_body > 0:
        halves, spans, usable = _half_bodies(keypoints, visibility, noise[:, 7], width / height, keypoint_set)
        chosen = usable & (noise[:, 6] < settings.half_body)
        centre = torch.where(chosen[:, None], halves, centre)
        zoom = torch.where(chosen, zoom * (spans / height).clamp(0.4, 1.5), zoom)

    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    mirror = torch.where(noise[:, 0] < settings.flip, -1.0, 1.0)
    linear = torch.stack([cos * mirror, -sin, sin * mirror, cos], dim=1).view(-1, 2, 2)
    return linear, centre + shift


def _half_bodies(
    keypoints: torch.Tensor,
    visibility: torch.Tensor,
    which: torch.Tensor,
    aspect: float,
    keypoint_set: KeypointSet,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return centre (B, 2) and height (B,) of one half of each person, and (B,) whether it has one.

    As in the HRNet family: of persons with more than 8 labelled keypoints, the upper or the lower half (hips, knees,
    ankles) with at least 3 of them; around their mean, 1.5 times their extent.
    """
    lower = torch.tensor(
        [name.endswith(("hip", "knee", "ankle", "pelvis")) for name in keypoint_set.keypoints],
        device=keypoints.device,
    )
    labelled = visibility > 0  # (B, K)
    wants_lower = (which < 0.5)[:, None]
    enough_lower = ((labelled & lower).sum(1) > 2)[:, None]
    enough_upper = ((labelled & ~lower).sum(1) > 2)[:, None]
    takes_lower = (wants_lower & enough_lower) | ~enough_upper
    half = labelled & torch.where(takes_lower, lower, ~lower)  # (B, K)

    inside = half[..., None]
    count = inside.sum(1).clamp(min=1)
    centre = (keypoints * inside).sum(1) / count
    low = keypoints.masked_fill(~inside, torch.inf).amin(1)
    high = keypoints.masked_fill(~inside, -torch.inf).amax(1)
    extent = (high - low).clamp(min=1) * 1.5
    span = torch.maximum(extent[:, 1], extent[:, 0] / aspect)
    usable = (labelled.sum(1) > 8) & (half.sum(1) > 2)
    return centre, torch.nan_to_num(span, posinf=1.0, neginf=1.0), usable


def _sample(
    crops: torch.Tensor, linear: torch.Tensor, centre: torch.Tensor, middle: torch.Tensor, input_size: Size
) -> torch.Tensor:
    """Return (B, 3, height, width) float32: the crops seen through input -> crop affines, black outside."""
    height, width = input_size
    device = crops.device
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    grid = torch.stack([x, y], dim=-1).view(1, -1, 2).float() - middle  # (1, h w, 2)
    points = grid @ linear.transpose(1, 2) + centre[:, None]  # (B, h w, 2) crop pixels
    last = points.new_tensor([crops.shape[2] - 1, crops.shape[1] - 1])
    points = (points * (2 / last) - 1).view(-1, height, width, 2)  # -1 and 1: centres of first and last pixel
    pictures = crops.permute(0, 3, 1, 2).float()
    return grid_sample(pictures, points, mode="bilinear", padding_mode="zeros", align_corners=True)


def _colour(images: torch.Tensor, noise: torch.Tensor, settings: Augmentation) -> torch.Tensor:
    """Change brightness, contrast and saturation of (B, 3, h, w) images, each by its own factor a picture."""
    strengths = (settings.brightness, settings.contrast, settings.saturation)
    if not any(strengths):
        return images
    factors = 1 + (2 * noise - 1) * images.new_tensor(strengths)  # (B, 3)
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = images.mean(dim=1, keepdim=True)
    return (grey + (images - grey) * saturation).clamp(0, 255)
