"""LitePose: single-branch bottom-up network of inverted bottlenecks with large kernels and a fusion deconv head.

Paper: Wang et al., "Lite Pose: Efficient Architecture Design for 2D Human Pose Estimation", arXiv 2205.01271.
Original: github.com/mit-han-lab/litepose (MIT).
Differs: widths must be multiples of 8, as all of the original are, so that hidden widths, six times as much, need not
be rounded. Names, shapes and order of the state dict are those of the original, so its weights load. The person head is
ours. Which networks there are is in `litepose_arch`; the network that holds narrower ones, in `litepose_supernet`.
The published MACs (1.2, 5.0, 7.8 and 13.7 G for XS, S, M and L) come from an old ptflops, which counts transposed
convolutions on their output pixels, four times too many, and adds norms and activations: they are 1.36 to 1.49 times
those of the convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from leanpose.models.layers import PersonHead, check_input_sides, conv_norm
from leanpose.models.litepose_arch import (
    ARCHS,
    EXPANSION,
    FIRST_CHANNELS,
    PERSON_CHANNELS,
    STAGE_STRIDES,
    Head,
    LitePoseArch,
)


class InvertedBottleneck(nn.Module):
    """1x1 to more channels, depthwise k x k with the stride, 1x1 to fewer; plus the input if the shapes allow.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        stride: 1 keeps the size, 2 halves it.
        kernel_size: k, odd.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, kernel_size: int) -> None:
        super().__init__()
        hidden = EXPANSION * in_channels
        self.inv = _conv(in_channels, hidden, kernel_size=1)
        self.depth_conv = _conv(hidden, hidden, kernel_size, stride, groups=hidden)
        self.point_conv = nn.Sequential(*conv_norm(hidden, channels, kernel_size=1))
        self.adds_input = stride == 1 and in_channels == channels

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
        residual = self.point_conv(self.depth_conv(self.inv(features)))
        return residual + features if self.adds_input else residual


class SeparablePrediction(nn.Module):
    """Depthwise 5x5, then 1x1 to the predicted maps.

    Args:
        in_channels: channels of the input.
        channels: number of maps.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *conv_norm(in_channels, in_channels, kernel_size=5, groups=in_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, channels, kernel_size=1, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H, W)."""
        return self.conv(features)


class LitePose(nn.Module):
    """Inverted bottlenecks to stride 16, three up-sampling steps to stride 2, heatmaps and tags of all persons.

    Args:
        arch: its widths, depths, kernel and head; its input size plays no part.
        num_keypoints: K, number of heatmaps at each scale, and of tag maps.
        person_head: also predict where persons are and how large (ours, not in the paper).
    """

    def __init__(self, arch: LitePoseArch, num_keypoints: int = 17, person_head: bool = False) -> None:
        super().__init__()
        self.arch = arch
        stem_width, stage_widths, head_widths = arch.stem_width, arch.stage_widths, arch.head_widths
        width1, width2, width3, width4 = stage_widths
        head0, head1, head2 = head_widths
        self.num_keypoints = num_keypoints
        self.first = nn.Sequential(
            _conv(3, FIRST_CHANNELS, kernel_size=3, stride=2),
            _conv(FIRST_CHANNELS, FIRST_CHANNELS, kernel_size=3, groups=FIRST_CHANNELS),
            *conv_norm(FIRST_CHANNELS, stem_width, kernel_size=1),
        )
        self.stage = nn.Sequential(
            *(
                _stage(*shape, arch.kernel_size)
                for shape in zip(
                    (stem_width, width1, width2, width3), stage_widths, arch.stage_depths, STAGE_STRIDES, strict=True
                )
            )
        )
        self.deconv_refined = nn.ModuleList([_double(width4, head0), _double(head0, head1), _double(head1, head2)])
        self.deconv_raw = nn.ModuleList()
        self.deconv_bnrelu = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True)) for width in head_widths
        )
        self.final_refined = nn.ModuleList(
            [SeparablePrediction(head1, 2 * num_keypoints), SeparablePrediction(head2, num_keypoints)]
        )
        self.final_raw = nn.ModuleList()
        self.fuses = arch.head == "fusion"
        if self.fuses:
            self.deconv_raw.extend([_double(width3, head0), _double(width2, head1), _double(width1, head2)])
            self.final_raw.extend(
                [SeparablePrediction(width1, 2 * num_keypoints), SeparablePrediction(stem_width, num_keypoints)]
            )
        self.finds_persons = person_head
        if person_head:
            self.person = PersonHead(head1 + width1, PERSON_CHANNELS)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Estimate heatmaps of all persons at two scales, and tags that tell the persons apart.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 16.

        Returns:
            heatmaps_4: (B, K, H/4, W/4), unbounded; trained to be 1 on keypoints and 0 far from them.
            tags: (B, K, H/4, W/4), unbounded; trained to be near each other on the keypoints of one person.
            heatmaps_2: (B, K, H/2, W/2), as heatmaps_4.
            centers, box_logs: with the person head, (B, 1, H/4, W/4) log-odds that a person's box has its center
                there, and (B, 4, H/4, W/4) logarithms of the distances, in pixels of these maps, to its left, top,
                right and bottom edge.

        Raises:
            InputError: a side of the images is no multiple of 16.
        """
        check_input_sides(images, multiple=16)
        x0 = self.first(images)  # (B, stem_width, H/2, W/2)
        x1 = self.stage[0](x0)  # (B, stage_widths[0], H/4, W/4)
        x2 = self.stage[1](x1)  # (B, stage_widths[1], H/8, W/8)
        x3 = self.stage[2](x2)  # (B, stage_widths[2], H/16, W/16)
        x4 = self.stage[3](x3)  # (B, stage_widths[3], H/16, W/16)
        refined0 = self._upsample(0, x4, x3)  # (B, head_widths[0], H/8, W/8)
        refined1 = self._upsample(1, refined0, x2)  # (B, head_widths[1], H/4, W/4)
        refined2 = self._upsample(2, refined1, x1)  # (B, head_widths[2], H/2, W/2)
        maps_4 = self._predict(0, refined1, x1)  # (B, 2K, H/4, W/4)
        heatmaps_4, tags = maps_4.split(self.num_keypoints, dim=1)  # (B, K, H/4, W/4) each
        heatmaps_2 = self._predict(1, refined2, x0)  # (B, K, H/2, W/2)
        outputs = {"heatmaps_4": heatmaps_4, "tags": tags, "heatmaps_2": heatmaps_2}
        if self.finds_persons:
            outputs |= self.person(torch.cat([refined1, x1], dim=1))
        return outputs

    def _upsample(self, step: int, refined: Tensor, raw: Tensor) -> Tensor:
        """Double the size of the features of the head, and of those of the backbone, and add them."""
        features = self.deconv_refined[step](refined)
        if self.fuses:
            features = features + self.deconv_raw[step](raw)
        return self.deconv_bnrelu[step](features)

    def _predict(self, output: int, refined: Tensor, raw: Tensor) -> Tensor:
        """Predict maps from the features of the head, and from those of the backbone, and add them."""
        maps = self.final_refined[output](refined)
        return maps + self.final_raw[output](raw) if self.fuses else maps


def _conv(in_channels: int, channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolve, normalise, clip to 0..6: (B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
    return nn.Sequential(*conv_norm(in_channels, channels, kernel_size, stride, groups), nn.ReLU6(inplace=True))


def _stage(in_channels: int, channels: int, num_blocks: int, stride: int, kernel_size: int) -> nn.Sequential:
    """Chain blocks, of which the first changes channels and size: (B, in_channels, H, W) to
    (B, channels, H / stride, W / stride)."""
    first = InvertedBottleneck(in_channels, channels, stride, kernel_size)
    others = (InvertedBottleneck(channels, channels, 1, kernel_size) for _ in range(num_blocks - 1))
    return nn.Sequential(first, *others)


def _double(in_channels: int, channels: int) -> nn.ConvTranspose2d:
    """Double the size: (B, in_channels, H, W) to (B, channels, 2H, 2W)."""
    return nn.ConvTranspose2d(in_channels, channels, kernel_size=4, stride=2, padding=1, bias=False)


def litepose(
    num_keypoints: int = 17, arch: LitePoseArch | Mapping[str, Any] | str = "prune_l", person_head: bool = False
) -> LitePose:
    """LitePose of any arch.

    Args:
        num_keypoints, person_head: as of `LitePose`.
        arch: a name of `litepose_arch.ARCHS`, or an arch as itself or as a mapping, such as a recipe holds.
    """
    return LitePose(LitePoseArch.of(arch), num_keypoints, person_head)


def litepose_xs(
    num_keypoints: int = 17, kernel_size: int = 7, head: Head = "fusion", person_head: bool = False
) -> LitePose:
    """LitePose-XS. Arguments as of `LitePose` and its arch."""
    return LitePose(replace(ARCHS["search_xs"], kernel_size=kernel_size, head=head), num_keypoints, person_head)


def litepose_s(
    num_keypoints: int = 17, kernel_size: int = 7, head: Head = "fusion", person_head: bool = False
) -> LitePose:
    """LitePose-S. Arguments as of `LitePose` and its arch."""
    return LitePose(replace(ARCHS["search_s"], kernel_size=kernel_size, head=head), num_keypoints, person_head)


def litepose_m(
    num_keypoints: int = 17, kernel_size: int = 7, head: Head = "fusion", person_head: bool = False
) -> LitePose:
    """LitePose-M. Arguments as of `LitePose` and its arch."""
    return LitePose(replace(ARCHS["search_m"], kernel_size=kernel_size, head=head), num_keypoints, person_head)


def litepose_l(
    num_keypoints: int = 17, kernel_size: int = 7, head: Head = "fusion", person_head: bool = False
) -> LitePose:
    """LitePose-L. Arguments as of `LitePose` and its arch."""
    return LitePose(replace(ARCHS["search_l"], kernel_size=kernel_size, head=head), num_keypoints, person_head)
