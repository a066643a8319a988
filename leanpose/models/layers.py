"""Building blocks, initialisation and checks that two or more networks share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, fx, nn

from leanpose.errors import InputError, suggest

HeadKind = Literal["heatmaps", "simcc"]

BINS_PER_PIXEL = 2  # of simcc_x and simcc_y, as codecs.simcc.SimCC reads them
SIMCC_STRIDE = 16  # of the maps that SimCCHead flattens


class Auxiliary(NamedTuple):
    """Outputs of a network in train mode only, to be learned beside its final ones.

    A network that has some lists them in its attribute `auxiliary`, under the name of the first of its final outputs
    and a suffix, which all of these have ("heatmaps_first"; "simcc_x_first", which stands for simcc_y_first too).

    Attributes:
        keypoints: which of the network's K keypoints the maps show, in this order; None: all.
        weight: of the loss of these maps; that of the final ones has 1.
    """

    keypoints: tuple[int, ...] | None = None
    weight: float = 1.0


class GlobalContext(nn.Module):
    """Add to every pixel one vector computed from an attention-weighted mean of all pixels.

    From "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond", arXiv 1904.11492.
    A new block is the identity: its last convolution starts at zero.

    Args:
        channels: C, of the input and the output.
        hidden: width of the bottleneck that transforms the context vector.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv_mask = nn.Conv2d(channels, 1, kernel_size=1)
        self.channel_add_conv = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size=1),
            nn.LayerNorm([hidden, 1, 1]),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, kernel_size=1),
        )
        # The softmax cancels this bias: it has no effect and no gradient, but published weights hold it.
        nn.init.zeros_(self.conv_mask.get_parameter("bias"))
        self.start_as_identity()

    def start_as_identity(self) -> None:
        """Set the last convolution to zero, so that the block returns its input."""
        for parameter in self.channel_add_conv[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        attention = self.conv_mask(features).flatten(2).softmax(dim=2)  # (B, 1, H*W), sums to 1
        context = features.flatten(2) @ attention.transpose(1, 2)  # (B, C, 1)
        return features + self.channel_add_conv(context.unsqueeze(3))  # (B, C, 1, 1), broadcast


class SqueezeExcitation(nn.Module):
    """Multiply every channel by a gate in (0, 1) computed from the means of all channels.

    From "Squeeze-and-Excitation Networks", arXiv 1709.01507.

    Args:
        channels: C, of the input and the output.
        hidden: width of the bottleneck between the means and the gates.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        gates = self.fc(features.mean(dim=(2, 3)))  # (B, C)
        return features * gates[:, :, None, None]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SimCCHead(nn.Module):
    """One map per keypoint at stride 16, flattened, and a linear layer for each axis: two vectors of bins.

    From "SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation", arXiv 2107.03332, where the
    maps come from a 1x1 convolution; features of a finer stride are brought to 16 by the same convolution.

    Args:
        channels: C, of the features.
        num_keypoints: K.
        input_size: (height, width) of the images in pixels, multiples of 16: the linear layers know their places.
        stride: of the features, 16 or less.

    Raises:
        InputError: `input_size` is not such a size.
    """

    def __init__(self, channels: int, num_keypoints: int, input_size: Sequence[int], stride: int) -> None:
        super().__init__()
        if len(input_size) != 2 or any(side < SIMCC_STRIDE or side % SIMCC_STRIDE for side in input_size):
            raise InputError(
                f"input_size must be a height and a width, for the head 'simcc' multiples of {SIMCC_STRIDE}, not "
                f"{input_size}."
            )
        height, width = input_size
        self.input_size = (height, width)
        patch = SIMCC_STRIDE // stride
        self.maps = nn.Conv2d(channels, num_keypoints, kernel_size=patch, stride=patch)
        cells = height * width // SIMCC_STRIDE**2
        self.x, self.y = (nn.Linear(cells, BINS_PER_PIXEL * side) for side in (width, height))
        for layer in (self.x, self.y):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Map (B, C, H / stride, W / stride) to simcc_x (B, K, 2W) and simcc_y (B, K, 2H)."""
        cells = self.maps(features).flatten(2)  # (B, K, H/16 * W/16)
        return {"simcc_x": self.x(cells), "simcc_y": self.y(cells)}


class PersonHead(nn.Module):
    """Where persons are and how large, as `codecs.center_box.CenterBox` reads it (ours, in none of the papers).

    Args:
        in_channels: channels of the features at stride 4.
        channels: channels inside.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Sequential(*conv_norm(in_channels, channels, kernel_size=1), nn.ReLU6(inplace=True)),
            nn.Sequential(*conv_norm(channels, channels, kernel_size=5, groups=channels), nn.ReLU6(inplace=True)),
        )
        self.center = nn.Conv2d(channels, 1, kernel_size=1)
        self.box = nn.Conv2d(channels, 4, kernel_size=1)
        self.start_empty()

    def start_empty(self) -> None:
        """Set the last layers so that no pixel is a center and edges are 8 pixels away."""
        for layer, value in ((self.center, math.log(0.01 / 0.99)), (self.box, math.log(8))):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, value)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Map (B, in_channels, H, W) to centers (B, 1, H, W) and box_logs (B, 4, H, W)."""
        features = self.conv(features)
        return {"centers": self.center(features), "box_logs": self.box(features)}


def conv_norm(in_channels: int, channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolve with an odd kernel, normalise: (B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
    return [
        nn.Conv2d(in_channels, channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
    ]


def upsample(in_channels: int, channels: int, groups: int = 1) -> list[nn.Module]:
    """Double the size with a transposed convolution, normalise, clip below 0: (B, in_channels, H, W) to
    (B, channels, 2H, 2W)."""
    return [
        nn.ConvTranspose2d(in_channels, channels, kernel_size=4, stride=2, padding=1, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]


def init_convs_kaiming(network: nn.Module) -> None:
    """Draw all convolution weights of a network from N(0, sqrt(2 / fan_in)) and set their biases to zero.

    fan_in is the number of products summed in one output value. For a transposed convolution that is
    kernel / stride taps on each axis, where `torch.nn.init.kaiming_normal_` would count output channels.
    Source: He et al., "Delving Deep into Rectifiers", arXiv 1502.01852, equation 10.
    """
    for conv in network.modules():
        if not isinstance(conv, nn.Conv2d | nn.ConvTranspose2d):
            continue
        fan_in = conv.in_channels / conv.groups * math.prod(conv.kernel_size)
        if isinstance(conv, nn.ConvTranspose2d):
            fan_in /= math.prod(conv.stride)
        nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_in))
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)


def check_choice(option: str, value: str, choices: Any) -> None:
    """Raise InputError if the value of an option is none of `choices`, a Literal type of strings."""
    if value not in get_args(choices):
        raise InputError(f"Unknown {option} '{value}'.{suggest(str(value), get_args(choices))}")


def check_input_sides(images: Tensor, multiple: int) -> None:
    """Check that the sides of a batch of images suit the strides of a network.

    Nothing is checked while a network is traced, compiled or exported: there the sides may be symbols.

    Args:
        images: (B, 3, H, W).
        multiple: H and W have to be multiples of it, in pixels.

    Raises:
        InputError: a side is no multiple; the message names the nearest sides that are.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or isinstance(images, fx.Proxy):
        return
    for name, side in zip(("height", "width"), images.shape[-2:], strict=True):
        if side % multiple or not side:
            below, above = side // multiple * multiple, (side // multiple + 1) * multiple
            nearest = f"{below} or {above}" if below else str(above)
            raise InputError(
                f"The network input has {name} {side}, but both sides must be multiples of {multiple}: "
                f"use {name} {nearest}."
            )


def check_input_size(images: Tensor, size: tuple[int, int]) -> None:
    """Check the size of a batch of images, except while the network is traced, compiled or exported.

    Args:
        images: (B, 3, H, W).
        size: (height, width) that the network was made for.

    Raises:
        InputError: the images have another one.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or isinstance(images, fx.Proxy):
        return
    if tuple(images.shape[-2:]) != size:
        found, wanted = (f"{height}x{width}" for height, width in (images.shape[-2:], size))
        raise InputError(
            f"The network input is {found}, but this network was made for {wanted}: "
            f"create it with the option input_size=({images.shape[-2]}, {images.shape[-1]})."
        )
