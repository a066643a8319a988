"""RTMPose: the CSPNeXt backbone to stride 32, one map per keypoint, an attention unit over keypoints, and two vectors.

Paper: Jiang, Lu, Zhang, Ma, Han, Lyu, Li, Chen, "RTMPose: Real-Time Multi-Person Pose Estimation based on MMPose",
arXiv 2303.07399; backbone: "RTMDet", arXiv 2212.07784; attention unit: "Transformer Quality in Linear Time", arXiv
2202.10447; output: "SimCC", arXiv 2107.03332.
Original: github.com/open-mmlab/mmpose (Apache-2.0); nothing of its code is here. Layers, sizes and order are those of
the published ONNX file of RTMPose-s with 26 keypoints, whose outputs this network gives.
Differs: initialisation is ours. Names of the state dict are those of the original as far as the file holds them, the
others (norms, which are folded there) a reconstruction, untested against a .pth file.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import hardsigmoid, relu, silu

from leanpose.errors import InputError
from leanpose.models.layers import BINS_PER_PIXEL, check_input_size, init_convs_kaiming

STRIDE = 32
WIDTHS = (64, 128, 256, 512, 1024)  # of the stem and the four stages, at width 1
DEPTHS = (3, 6, 6, 3)  # blocks of the four stages, at depth 1
POOLS = (5, 9, 13)
HIDDEN, VALUES, KEYS = 256, 512, 128  # of the attention unit


class ConvNormSiLU(nn.Sequential):
    """Convolve with an odd kernel, normalise, activate: (B, in_channels, H, W) to
    (B, channels, H / stride, W / stride)."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        conv = nn.Conv2d(in_channels, channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
        super().__init__(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels), activate=nn.SiLU(inplace=True)))


class Block(nn.Module):
    """3x3, depthwise 5x5, 1x1; plus the input, if wanted.

    Args:
        channels: C, of the input and the output.
        residual: whether the input is added.
    """

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = ConvNormSiLU(channels, channels, kernel_size=3)
        self.conv2 = nn.Sequential(
            OrderedDict(
                depthwise_conv=ConvNormSiLU(channels, channels, kernel_size=5, groups=channels),
                pointwise_conv=ConvNormSiLU(channels, channels, kernel_size=1),
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        found = self.conv2(self.conv1(features))
        return found + features if self.residual else found


class ChannelAttention(nn.Module):
    """Multiply every channel by a gate in [0, 1] computed from the means of all channels.

    Args:
        channels: C, of the input and the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        return features * hardsigmoid(self.fc(features.mean(dim=(2, 3), keepdim=True)))


class CrossStage(nn.Module):
    """Two halves of the channels, of which one passes through blocks; joined, weighted and mixed.

    Args:
        channels: C, of the input and the output, even.
        num_blocks: in the one half.
        residual: whether blocks add their input.
    """

    def __init__(self, channels: int, num_blocks: int, residual: bool) -> None:
        super().__init__()
        half = channels // 2
        self.short_conv = ConvNormSiLU(channels, half, kernel_size=1)
        self.main_conv = ConvNormSiLU(channels, half, kernel_size=1)
        self.blocks = nn.Sequential(*(Block(half, residual) for _ in range(num_blocks)))
        self.attention = ChannelAttention(2 * half)
        self.final_conv = ConvNormSiLU(2 * half, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        short = self.short_conv(features)
        features = torch.cat([self.blocks(self.main_conv(features)), short], dim=1)
        return self.final_conv(self.attention(features))


class PyramidPooling(nn.Module):
    """Join maxima over surroundings of several sizes: spatial pyramid pooling, arXiv 1406.4729.

    Args:
        channels: C, of the input and the output, even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = ConvNormSiLU(channels, half, kernel_size=1)
        self.poolings = nn.ModuleList(nn.MaxPool2d(side, stride=1, padding=side // 2) for side in POOLS)
        self.conv2 = ConvNormSiLU(half * (1 + len(POOLS)), channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        features = self.conv1(features)
        return self.conv2(torch.cat([features, *(pool(features) for pool in self.poolings)], dim=1))


class CSPNeXt(nn.Module):
    """Stem to stride 2 and four stages to stride 32.

    Args:
        width: factor on WIDTHS.
        depth: factor on DEPTHS; each stage has a block at least.

    Attributes:
        channels: C, of the last stage.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        stem, *widths = (int(width * channels) for channels in WIDTHS)
        half = int(width * WIDTHS[0] // 2)
        self.stem = nn.Sequential(
            ConvNormSiLU(3, half, kernel_size=3, stride=2),
            ConvNormSiLU(half, half, kernel_size=3),
            ConvNormSiLU(half, stem, kernel_size=3),
        )
        blocks1, blocks2, blocks3, blocks4 = (max(round(depth * blocks), 1) for blocks in DEPTHS)
        width1, width2, width3, self.channels = widths
        self.stage1 = nn.Sequential(ConvNormSiLU(stem, width1, 3, stride=2), CrossStage(width1, blocks1, True))
        self.stage2 = nn.Sequential(ConvNormSiLU(width1, width2, 3, stride=2), CrossStage(width2, blocks2, True))
        self.stage3 = nn.Sequential(ConvNormSiLU(width2, width3, 3, stride=2), CrossStage(width3, blocks3, True))
        self.stage4 = nn.Sequential(
            ConvNormSiLU(width3, self.channels, 3, stride=2),
            PyramidPooling(self.channels),
            CrossStage(self.channels, blocks4, False),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, C, H/32, W/32)."""
        return self.stage4(self.stage3(self.stage2(self.stage1(self.stem(images)))))


class ScaleNorm(nn.Module):
    """Divide each vector by its root mean square, and multiply all by one learned number.

    Args:
        channels: C, length of the vectors.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = channels**-0.5
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        size = vectors.norm(dim=2, keepdim=True) * self.scale
        return vectors / size.clamp(min=1e-5) * self.g


class ChannelScale(nn.Module):
    """Multiply each channel by a learned number.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        return vectors * self.scale


class GatedAttention(nn.Module):
    """Attention with one head, squared ReLU in place of the softmax, and gates; plus the scaled input.

    Args:
        channels: C, of the input and the output.
        values: of each token.
        keys: length of queries and keys, which are one vector, scaled and shifted in two ways.
    """

    def __init__(self, channels: int, values: int, keys: int) -> None:
        super().__init__()
        self.sizes = (values, values, keys)
        self.ln = ScaleNorm(channels)
        self.uv = nn.Linear(channels, sum(self.sizes), bias=False)
        self.gamma = nn.Parameter(0.02 * torch.randn(2, keys))
        self.beta = nn.Parameter(torch.zeros(2, keys))
        self.o = nn.Linear(values, channels, bias=False)
        self.res_scale = ChannelScale(channels)
        for layer in (self.uv, self.o):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        gates, values, base = silu(self.uv(self.ln(tokens))).split(self.sizes, dim=2)
        queries, keys = (base.unsqueeze(2) * self.gamma + self.beta).unbind(dim=2)  # (B, N, keys) each
        attention = relu(queries @ keys.transpose(1, 2) / math.sqrt(self.sizes[2])).square()  # (B, N, N)
        return self.res_scale(tokens) + self.o(gates * (attention @ values))


class KeypointHead(nn.Module):
    """One map per keypoint, which becomes a token; attention among the tokens; two vectors of bins each.

    Args:
        channels: of the features.
        num_keypoints: K.
        grid: (height, width) of the features.
        bins: length of the vectors of x and of y.
    """

    def __init__(self, channels: int, num_keypoints: int, grid: tuple[int, int], bins: tuple[int, int]) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(channels, num_keypoints, kernel_size=7, padding=3)
        cells = grid[0] * grid[1]
        self.mlp = nn.Sequential(ScaleNorm(cells), nn.Linear(cells, HIDDEN, bias=False))
        self.gau = GatedAttention(HIDDEN, VALUES, KEYS)
        self.cls_x, self.cls_y = (nn.Linear(HIDDEN, length, bias=False) for length in bins)
        for layer in (self.cls_x, self.cls_y):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Map (B, C, H, W) to simcc_x (B, K, bins of x) and simcc_y (B, K, bins of y)."""
        tokens = self.gau(self.mlp(self.final_layer(features).flatten(2)))  # (B, K, HIDDEN)
        return {"simcc_x": self.cls_x(tokens), "simcc_y": self.cls_y(tokens)}


class RTMPose(nn.Module):
    """CSPNeXt and the head of RTMPose.

    Args:
        width, depth: of CSPNeXt.
        num_keypoints: K.
        input_size: (height, width) of the images in pixels, multiples of 32: the head knows their places.

    Raises:
        InputError: `input_size`, `width` or `depth` is not such a value.
    """

    def __init__(
        self, width: float, depth: float, num_keypoints: int = 17, input_size: Sequence[int] = (256, 192)
    ) -> None:
        super().__init__()
        if len(input_size) != 2 or any(side < STRIDE or side % STRIDE for side in input_size):
            raise InputError(f"input_size must be a height and a width, multiples of {STRIDE}, not {input_size}.")
        if not width >= 1 / 32 or not depth > 0:
            raise InputError(f"width must be at least 1/32 and depth above 0, not {width} and {depth}.")
        height, across = input_size
        self.input_size = (height, across)
        self.backbone = CSPNeXt(width, depth)
        self.head = KeypointHead(
            self.backbone.channels,
            num_keypoints,
            (height // STRIDE, across // STRIDE),
            (BINS_PER_PIXEL * across, BINS_PER_PIXEL * height),
        )
        init_convs_kaiming(self)
        nn.init.normal_(self.head.final_layer.weight, std=0.001)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Estimate the keypoints of one person per image.

        Args:
            images: (B, 3, H, W), normalised; H and W those of `input_size`.

        Returns:
            simcc_x: (B, K, 2W), simcc_y: (B, K, 2H): unbounded, trained to be largest in the bin, half a pixel wide,
            of the keypoint's x and y.

        Raises:
            InputError: the images have another size.
        """
        check_input_size(images, self.input_size)
        return self.head(self.backbone(images))


def rtmpose_t(
    num_keypoints: int = 17, input_size: Sequence[int] = (256, 192), width: float = 0.375, depth: float = 0.167
) -> RTMPose:
    """RTMPose-t. Arguments as of `RTMPose`."""
    return RTMPose(width, depth, num_keypoints, input_size)


def rtmpose_s(
    num_keypoints: int = 17, input_size: Sequence[int] = (256, 192), width: float = 0.5, depth: float = 0.33
) -> RTMPose:
    """RTMPose-s. Arguments as of `RTMPose`."""
    return RTMPose(width, depth, num_keypoints, input_size)


def rtmpose_m(
    num_keypoints: int = 17, input_size: Sequence[int] = (256, 192), width: float = 0.75, depth: float = 0.67
) -> RTMPose:
    """RTMPose-m. Arguments as of `RTMPose`."""
    return RTMPose(width, depth, num_keypoints, input_size)


def rtmpose_l(
    num_keypoints: int = 17, input_size: Sequence[int] = (256, 192), width: float = 1.0, depth: float = 1.0
) -> RTMPose:
    """RTMPose-l. Arguments as of `RTMPose`."""
    return RTMPose(width, depth, num_keypoints, input_size)
