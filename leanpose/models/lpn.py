"""LPN, the Lightweight Pose Network: thin depthwise blocks with attention, and group deconvolutions.

Paper: Zhang, Tang, Wu, "Simple and Lightweight Human Pose Estimation", arXiv 1911.10346.
Original: github.com/zhang943/lpn-pytorch (MIT; evaluation only).
Differs: the default initialisation is ours, made for training from scratch on little data;
`init="published"` is that of the original. Names, shapes and order of the state dict are those of the
original, so its weights load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from leanpose.models.layers import (
    GlobalContext,
    HeadKind,
    SimCCHead,
    SqueezeExcitation,
    check_choice,
    check_input_sides,
    check_input_size,
    conv_norm,
    init_convs_kaiming,
    upsample,
)

Attention = Literal["gc", "se", "none"]
Init = Literal["kaiming", "published"]

HEAD_CHANNELS = 256
ATTENTION_MODULES = {"gc": GlobalContext, "se": SqueezeExcitation, "none": nn.Identity}


class LightweightBottleneck(nn.Module):
    """1x1, depthwise 3x3 with the stride, 1x1, attention; plus the input, projected if it must be.

    Args:
        in_channels: channels of the input.
        channels: channels of all three convolutions and of the output: nothing is narrower inside.
        stride: 1 keeps the size, 2 halves it.
        attention: "gc", "se" or "none".
    """

    def __init__(self, in_channels: int, channels: int, stride: int, attention: Attention) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, groups=channels, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(*conv_norm(in_channels, channels, kernel_size=1, stride=stride))
        self.att = ATTENTION_MODULES[attention](channels, max(16, channels // 16))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
        residual = self.relu(self.bn1(self.conv1(features)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.att(self.bn3(self.conv3(residual)))
        return self.relu(residual + self.downsample(features))


class LPN(nn.Module):
    """Thin residual network to stride 16, two group deconvolutions to stride 4, one heatmap per keypoint.

    With the head "simcc", not in the paper, two vectors per keypoint in place of the deconvolutions and heatmaps.

    Args:
        blocks_per_stage: number of bottlenecks in layer1 to layer4.
        num_keypoints: K, number of heatmaps.
        attention: what follows every bottleneck: "gc" global context, "se" squeeze and excitation, "none".
        init: "kaiming" trains well from scratch on little data; "published" is that of the original.
        head: "heatmaps", or "simcc", see `SimCCHead`.
        input_size: (height, width) of the images in pixels; for the head "simcc" alone.

    Raises:
        InputError: `attention`, `init` or `head` is none of these, or `input_size` does not suit the head.
    """

    def __init__(
        self,
        blocks_per_stage: tuple[int, int, int, int],
        num_keypoints: int = 17,
        attention: Attention = "gc",
        init: Init = "kaiming",
        head: HeadKind = "heatmaps",
        input_size: Sequence[int] = (256, 192),
    ) -> None:
        super().__init__()
        check_choice("attention", attention, Attention)
        check_choice("init", init, Init)
        check_choice("head", head, HeadKind)

        blocks1, blocks2, blocks3, blocks4 = blocks_per_stage
        self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, blocks1, 1, attention)
        self.layer2 = _stage(64, 128, blocks2, 2, attention)
        self.layer3 = _stage(128, 256, blocks3, 2, attention)
        self.layer4 = _stage(256, 512, blocks4, 1, attention)  # stride 1, where a ResNet has 2
        self.simcc = SimCCHead(512, num_keypoints, input_size, stride=16) if head == "simcc" else None
        if head == "heatmaps":
            self.deconv_layers = nn.Sequential(*_upsample(512), *_upsample(HEAD_CHANNELS))
            self.final_layer = nn.Conv2d(HEAD_CHANNELS, num_keypoints, kernel_size=1)

        if init == "kaiming":
            self._init_kaiming()
        else:
            self._init_published()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Estimate the heatmaps of one person per image.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 16, or with the head "simcc" those of `input_size`.

        Returns:
            heatmaps: (B, K, H/4, W/4), unbounded; trained to be 1 on the keypoint and 0 far from it. Or, with the head
            "simcc", simcc_x: (B, K, 2W) and simcc_y: (B, K, 2H), trained to be largest in the keypoint's bin.

        Raises:
            InputError: the images have not such a size.
        """
        check_input_sides(images, multiple=16)
        if self.simcc is not None:
            check_input_size(images, self.simcc.input_size)
        features = self.relu(self.bn1(self.conv1(images)))  # (B, 64, H/2, W/2)
        features = self.maxpool(features)  # (B, 64, H/4, W/4)
        features = self.layer1(features)  # (B, 64, H/4, W/4)
        features = self.layer2(features)  # (B, 128, H/8, W/8)
        features = self.layer3(features)  # (B, 256, H/16, W/16)
        features = self.layer4(features)  # (B, 512, H/16, W/16)
        if self.simcc is not None:
            return self.simcc(features)
        features = self.deconv_layers(features)  # (B, 256, H/4, W/4)
        return {"heatmaps": self.final_layer(features)}  # (B, K, H/4, W/4)

    def _init_kaiming(self) -> None:
        """Kaiming normal, residual branches small and without attention at first, heatmaps near zero."""
        init_convs_kaiming(self)
        for module in self.modules():
            if isinstance(module, LightweightBottleneck):
                nn.init.constant_(module.bn3.weight, 0.3)
            elif isinstance(module, GlobalContext):
                module.start_as_identity()
        if self.simcc is None:
            nn.init.normal_(self.final_layer.weight, std=0.001)

    def _init_published(self) -> None:
        """All convolution weights from N(0, 0.001), attention included; biases stay as constructed."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.001)


def _stage(in_channels: int, channels: int, num_blocks: int, stride: int, attention: Attention) -> nn.Sequential:
    """Chain bottlenecks, of which the first changes channels and size: (B, in_channels, H, W) to
    (B, channels, H / stride, W / stride)."""
    first = LightweightBottleneck(in_channels, channels, stride, attention)
    others = (LightweightBottleneck(channels, channels, 1, attention) for _ in range(num_blocks - 1))
    return nn.Sequential(first, *others)


def _upsample(in_channels: int) -> list[nn.Module]:
    """Double the size with a group deconvolution, mix channels with a 1x1: (B, in_channels, H, W) to
    (B, 256, 2H, 2W)."""
    return [
        *upsample(in_channels, HEAD_CHANNELS, groups=math.gcd(in_channels, HEAD_CHANNELS)),
        *conv_norm(HEAD_CHANNELS, HEAD_CHANNELS, kernel_size=1),
        nn.ReLU(inplace=True),
    ]


def lpn50(
    num_keypoints: int = 17,
    attention: Attention = "gc",
    init: Init = "kaiming",
    head: HeadKind = "heatmaps",
    input_size: Sequence[int] = (256, 192),
) -> LPN:
    """LPN-50. Arguments as of `LPN`."""
    return LPN((3, 4, 6, 3), num_keypoints, attention, init, head, input_size)


def lpn101(
    num_keypoints: int = 17,
    attention: Attention = "gc",
    init: Init = "kaiming",
    head: HeadKind = "heatmaps",
    input_size: Sequence[int] = (256, 192),
) -> LPN:
    """LPN-101. Arguments as of `LPN`."""
    return LPN((3, 4, 23, 3), num_keypoints, attention, init, head, input_size)


def lpn152(
    num_keypoints: int = 17,
    attention: Attention = "gc",
    init: Init = "kaiming",
    head: HeadKind = "heatmaps",
    input_size: Sequence[int] = (256, 192),
) -> LPN:
    """LPN-152. Arguments as of `LPN`."""
    return LPN((3, 8, 36, 3), num_keypoints, attention, init, head, input_size)
