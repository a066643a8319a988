"""The residual blocks of ResNets, and the stages of ResNet-50, -101 and -152.

Paper: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385.
Original: github.com/KaimingHe/deep-residual-networks (MIT).
Differs: the stride of a block is on its 3x3 convolution, not on the first 1x1 ("ResNet v1.5"), as in the
ImageNet weights of PyTorch that SimpleBaseline starts from.
"""

from __future__ import annotations

from torch import Tensor, nn

from leanpose.models.layers import conv_norm

EXPANSION = 4  # output channels of a block / channels of its 3x3 convolution


class BasicBlock(nn.Module):
    """3x3 with the stride, 3x3; plus the input, projected if it must be: the block of ResNet-18 and -34.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        stride: 1 keeps the size, 2 halves it.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, channels, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
        residual = self.relu(self.bn1(self.conv1(features)))
        residual = self.bn2(self.conv2(residual))
        return self.relu(residual + self.downsample(features))


class Bottleneck(nn.Module):
    """1x1 to `channels`, 3x3 with the stride, 1x1 to 4 * `channels`; plus the input, projected if it must be.

    Args:
        in_channels: channels of the input.
        channels: channels of the 3x3 convolution.
        stride: 1 keeps the size, 2 halves it.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, 4 * channels, H / stride, W / stride)."""
        residual = self.relu(self.bn1(self.conv1(features)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return self.relu(residual + self.downsample(features))


def resnet_stage(in_channels: int, channels: int, num_blocks: int, stride: int) -> nn.Sequential:
    """Chain bottlenecks, of which the first changes channels and size: (B, in_channels, H, W) to
    (B, 4 * channels, H / stride, W / stride)."""
    first = Bottleneck(in_channels, channels, stride)
    others = (Bottleneck(channels * EXPANSION, channels, stride=1) for _ in range(num_blocks - 1))
    return nn.Sequential(first, *others)


def _projection(in_channels: int, channels: int, stride: int) -> nn.Module:
    """Bring the input of a block to the shape of its output, if the two differ."""
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    return nn.Sequential(*conv_norm(in_channels, channels, kernel_size=1, stride=stride))
