"""HEViTPose, reconstruction: cascaded group attention with spatial reduction, and two deconvolutions.

Paper: Wu et al., "HEViTPose: High-Efficiency Vision Transformer for Human Pose Estimation", arXiv 2311.13615;
journal version in Scientific Reports, 2026, doi 10.1038/s41598-026-35859-x.
Original: github.com/T1sweet/HEViTPose (MIT; README and images, no code).
Differs: this is a reconstruction from the abstract, the published images and arithmetic, not the authors' model.
The images show the order of the parts of a block and the flow inside the attention. Channels, depths, groups,
heads, reductions and the widths of the head are fitted to the published sizes (T 3.21 M parameters and 1.75 G,
S 5.88 M and 3.64 G, B 10.63 M and 5.58 G at 256x256 with 16 keypoints); other settings fit them as well. All but the
attention follows EfficientViT (arXiv 2305.07027). The published G leave out products of two activations and count
norms, biases and ReLUs; `leanpose.models.counts` does the reverse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from leanpose.errors import InputError
from leanpose.models.layers import ChannelNorm, check_choice, check_input_sides, conv_norm, init_convs_kaiming, upsample

SpatialReduction = Literal["conv", "separable", "depthwise", "avgpool"]
Subsample = Literal["efficientvit", "conv"]
Attention = Literal["cgsr", "none"]
Triple = tuple[int, int, int]

STRIDES = (4, 8, 16)  # of the three stages


class Residual(nn.Module):
    """Add to the input what a branch makes of it; a new branch gives zero, so a new block is the identity.

    Args:
        *branch: layers that keep the shape, in which a batch norm is the last one with weights.
    """

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def start_as_identity(self) -> None:
        """Set the weight of the last batch norm to zero."""
        *_, last = (module for module in self.branch.modules() if isinstance(module, nn.BatchNorm2d))
        nn.init.zeros_(last.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        return features + self.branch(features)


class SpatialReductionAttention(nn.Module):
    """Multi-head attention of all pixels to the cells of a coarser grid, computed from the same pixels.

    From "Pyramid Vision Transformer", arXiv 2102.12122, with a norm before each of queries, keys and values and
    one behind the output. There is no code for positions.

    Args:
        channels: c, of the input and the output.
        heads: h, divides c.
        reduction: R, side of a cell of the coarser grid in pixels; 1 attends to the pixels themselves.
        sr: how a cell is made of its pixels: "conv" R x R, "separable" R x R depthwise and 1x1, "depthwise", "avgpool".
        sr_shared: keys and values are computed from the same cells; else each from its own.
    """

    def __init__(self, channels: int, heads: int, reduction: int, sr: SpatialReduction, sr_shared: bool) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (channels / heads) ** -0.5
        self.reduce_keys = _spatial_reduction(channels, reduction, sr)
        self.reduce_values = None if sr_shared else _spatial_reduction(channels, reduction, sr)
        self.query, self.key, self.value = (
            nn.Sequential(ChannelNorm(channels), nn.Conv2d(channels, channels, kernel_size=1)) for _ in range(3)
        )
        self.mix = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, c, H, W) to (B, c, H, W). N = HW pixels, M = HW / R^2 cells, heads of width d = c / h."""
        cells = self.reduce_keys(features)  # (B, c, H/R, W/R)
        value_cells = cells if self.reduce_values is None else self.reduce_values(features)
        queries = self._split(self.query(features)).transpose(2, 3)  # (B, h, N, d)
        keys = self._split(self.key(cells)) * self.scale  # (B, h, d, M)
        values = self._split(self.value(value_cells)).transpose(2, 3)  # (B, h, M, d)
        weights = (queries @ keys).softmax(dim=3)  # (B, h, N, M); autocast computes it in float32
        mixed = (weights @ values).transpose(1, 2).flatten(2)  # (B, N, c)
        mixed = self.norm(self.mix(mixed))
        return mixed.transpose(1, 2).reshape_as(features)  # (B, c, H, W)

    def _split(self, features: Tensor) -> Tensor:
        """Map (B, c, H, W) to (B, h, c / h, HW)."""
        return features.unflatten(1, (self.heads, -1)).flatten(3)


class CascadedGroupAttention(nn.Module):
    """CGSR-MHA: attention in each group of channels by itself, one after another, and a projection of all of them.

    Args:
        channels: C, of the input and the output.
        groups: G, divides C.
        cascade: every group but the first one also sees the output of the one before it, added to its channels.
        heads, reduction, sr, sr_shared: as of `SpatialReductionAttention`, of each group.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        cascade: bool,
        heads: int,
        reduction: int,
        sr: SpatialReduction,
        sr_shared: bool,
    ) -> None:
        super().__init__()
        self.cascade = cascade
        self.groups = nn.ModuleList(
            SpatialReductionAttention(channels // groups, heads, reduction, sr, sr_shared) for _ in range(groups)
        )
        self.projection = nn.Sequential(nn.ReLU(inplace=True), *conv_norm(channels, channels, kernel_size=1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        parts = features.chunk(len(self.groups), dim=1)  # (B, C / G, H, W) each
        outputs: list[Tensor] = []
        for i, group in enumerate(self.groups):
            outputs.append(group(parts[i] + outputs[-1] if self.cascade and outputs else parts[i]))
        return self.projection(torch.cat(outputs, dim=1))


class SqueezeExcite(nn.Module):
    """Multiply every channel by a gate in (0, 1) computed from the means of all channels.

    From "Squeeze-and-Excitation Networks", arXiv 1709.01507; of convolutions with biases, as in EfficientViT, where
    `SqueezeExcitation` of LPN has linear layers without.

    Args:
        channels: C, of the input and the output.
        hidden: width of the bottleneck between the means and the gates.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, kernel_size=1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        return features * self.gates(features.mean(dim=(2, 3), keepdim=True))


class HEViTPose(nn.Module):
    """Three stages to stride 16, two transposed convolutions to stride 4, one heatmap per keypoint.

    Args:
        dims: C1, C2, C3, channels of the stages at strides 4, 8 and 16.
        depths: number of blocks of the stages.
        num_keypoints: K, number of heatmaps.
        groups: G, groups of channels in the attention; divides all of `dims`.
        heads: of each group; divides the C / G channels of a group in every stage.
        reductions: R of the stages, side in pixels of what is one key and value; 1 leaves the pixels as they are.
            The sides of the images have to be multiples of 16 and of stride x R in every stage: 32 by default.
        sr: how R x R pixels become one: "conv", "separable", "depthwise" or "avgpool".
        sr_shared: keys and values are computed from the same of them.
        stem_overlap: 0 to 5, pixels that neighbouring patches of the stem share (PEOW): kernel minus stride 4.
        ffn_ratio: how many times wider than their input feed-forward parts are inside.
        subsample: between the stages: "efficientvit", or "conv", one 3x3 with stride 2.
        squeeze_excite: gate channels in the subsampling "efficientvit".
        head_widths: channels after the two transposed convolutions.
        attention: "cgsr", or "none", which leaves it out of all blocks.
        cascade: each group of the attention also sees the output of the one before it.

    Raises:
        InputError: an option is none of these, or does not divide what it must.
    """

    def __init__(
        self,
        dims: Triple,
        depths: Triple = (1, 2, 3),
        num_keypoints: int = 17,
        groups: int = 8,
        heads: int = 2,
        reductions: Triple = (8, 4, 2),
        sr: SpatialReduction = "conv",
        sr_shared: bool = True,
        stem_overlap: int = 3,
        ffn_ratio: int = 2,
        subsample: Subsample = "efficientvit",
        squeeze_excite: bool = True,
        head_widths: tuple[int, int] = (192, 96),
        attention: Attention = "cgsr",
        cascade: bool = True,
    ) -> None:
        super().__init__()
        check_choice("sr", sr, SpatialReduction)
        check_choice("subsample", subsample, Subsample)
        check_choice("attention", attention, Attention)
        _check_numbers(3, dims=dims, depths=depths, reductions=reductions)
        _check_numbers(2, head_widths=head_widths)
        if stem_overlap not in range(6):
            raise InputError(f"stem_overlap must be a whole number of 0 to 5, not {stem_overlap}.")
        if attention == "cgsr":
            _check_groups(dims, groups, heads)

        def stage(index: int) -> nn.Sequential:
            blocks = []
            for _ in range(depths[index]):
                blocks += _local(dims[index], ffn_ratio)
                if attention == "cgsr":
                    group_options = heads, reductions[index], sr, sr_shared
                    blocks.append(Residual(CascadedGroupAttention(dims[index], groups, cascade, *group_options)))
                blocks += _local(dims[index], ffn_ratio)
            return nn.Sequential(*blocks)

        def halve(index: int) -> nn.Sequential:
            if subsample == "conv":
                return nn.Sequential(*conv_norm(dims[index], dims[index + 1], kernel_size=3, stride=2))
            return _subsample(dims[index], dims[index + 1], ffn_ratio, squeeze_excite)

        cells = [stride * reduction for stride, reduction in zip(STRIDES, reductions, strict=True)]
        self.multiple = math.lcm(STRIDES[-1], *(cells if attention == "cgsr" else ()))
        kernel_size = 4 + stem_overlap
        padding = kernel_size // 2 if kernel_size % 2 else stem_overlap // 2
        self.stem = nn.Sequential(
            nn.Conv2d(3, dims[0], kernel_size, stride=4, padding=padding, bias=False),
            nn.BatchNorm2d(dims[0]),
        )
        self.stage1, self.subsample1 = stage(0), halve(0)
        self.stage2, self.subsample2 = stage(1), halve(1)
        self.stage3 = stage(2)
        self.deconv_layers = nn.Sequential(*upsample(dims[2], head_widths[0]), *upsample(*head_widths))
        self.final_layer = nn.Conv2d(head_widths[1], num_keypoints, kernel_size=1)
        self._init()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Estimate the heatmaps of one person per image.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 32, or as `reductions` says.

        Returns:
            heatmaps: (B, K, H/4, W/4), unbounded; trained to be 1 on the keypoint and 0 far from it.

        Raises:
            InputError: a side of the images is no such multiple.
        """
        check_input_sides(images, multiple=self.multiple)
        features = self.stage1(self.stem(images))  # (B, C1, H/4, W/4)
        features = self.stage2(self.subsample1(features))  # (B, C2, H/8, W/8)
        features = self.stage3(self.subsample2(features))  # (B, C3, H/16, W/16)
        features = self.deconv_layers(features)  # (B, head_widths[1], H/4, W/4)
        return {"heatmaps": self.final_layer(features)}  # (B, K, H/4, W/4)

    def _init(self) -> None:
        """Kaiming normal convolutions, blocks that are the identity, heatmaps near zero."""
        init_convs_kaiming(self)
        for module in self.modules():
            if isinstance(module, Residual):
                module.start_as_identity()
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.001)
        nn.init.normal_(self.final_layer.weight, std=0.001)


def _check_numbers(count: int, **options: Sequence[int]) -> None:
    """Check that each option is so many numbers from 1."""
    for name, values in options.items():
        if len(values) != count or min(values) < 1:
            raise InputError(f"{name} must be {count} numbers from 1, not {values}.")


def _check_groups(dims: Sequence[int], groups: int, heads: int) -> None:
    """Check that the channels of every stage can be cut into groups, and those into heads."""
    for channels in dims:
        if groups < 1 or channels % groups:
            raise InputError(f"groups must divide the channels of all stages, {tuple(dims)}: {groups} does not.")
        if heads < 1 or (channels // groups) % heads:
            widths = tuple(channels // groups for channels in dims)
            raise InputError(f"heads must divide the channels of a group in all stages, {widths}: {heads} does not.")


def _local(channels: int, ffn_ratio: int) -> list[nn.Module]:
    """Mix neighbouring pixels, then channels: (B, channels, H, W) to the same."""
    hidden = ffn_ratio * channels
    return [
        Residual(*conv_norm(channels, channels, kernel_size=3, groups=channels)),
        Residual(
            *conv_norm(channels, hidden, kernel_size=1),
            nn.ReLU(inplace=True),
            *conv_norm(hidden, channels, kernel_size=1),
        ),
    ]


def _spatial_reduction(channels: int, reduction: int, sr: SpatialReduction) -> nn.Module:
    """Make one of R x R pixels: (B, channels, H, W) to (B, channels, H / R, W / R)."""
    if reduction == 1:
        return nn.Identity()
    if sr == "avgpool":
        return nn.AvgPool2d(reduction)
    groups = 1 if sr == "conv" else channels
    conv = nn.Conv2d(channels, channels, reduction, stride=reduction, groups=groups)
    return nn.Sequential(conv, nn.Conv2d(channels, channels, kernel_size=1)) if sr == "separable" else conv


def _subsample(in_channels: int, channels: int, ffn_ratio: int, squeeze_excite: bool) -> nn.Sequential:
    """Halve the size as EfficientViT does: (B, in_channels, H, W) to (B, channels, H / 2, W / 2)."""
    hidden = 4 * in_channels
    return nn.Sequential(
        *_local(in_channels, ffn_ratio),
        *conv_norm(in_channels, hidden, kernel_size=1),
        nn.ReLU(inplace=True),
        *conv_norm(hidden, hidden, kernel_size=3, stride=2, groups=hidden),
        nn.ReLU(inplace=True),
        *([SqueezeExcite(hidden, in_channels)] if squeeze_excite else []),
        *conv_norm(hidden, channels, kernel_size=1),
        *_local(channels, ffn_ratio),
    )


hevitpose_t = partial(HEViTPose, dims=(64, 128, 192))
hevitpose_s = partial(HEViTPose, dims=(128, 176, 272))
hevitpose_b = partial(HEViTPose, dims=(128, 256, 384))
