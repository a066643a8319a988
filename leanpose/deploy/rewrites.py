"""Layers in another form that computes the same, for converters that cannot take them as they are, or only slowly."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from leanpose.models.layers import GlobalContext

# Which places of a kernel of four meet the pixel before, at and after an output's own, for even and odd outputs
TAPS = (((0, 3), (1, 1)), ((1, 2), (2, 0)))
MOST_TAPS = 25  # of a depthwise kernel that XNNPACK has fast code for


def with_summed_contexts(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose `GlobalContext`s are `SummedContext`s: ncnn knows no norm over the channels of a
    map, and LiteRT's converter stops at the matrix product."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, GlobalContext):
            module.__class__ = SummedContext
    return network


def with_small_kernels(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose large depthwise kernels are `RowSlices`: on XNNPACK, which LiteRT and ExecuTorch
    use, one of 7x7 takes 20 times as long as one of 5x5."""
    network = copy.deepcopy(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d) and RowSlices.fits(module):
            network.set_submodule(name, RowSlices(module))
    return network


def for_litert(network: nn.Module) -> nn.Module:
    """Return a copy of a network that LiteRT's converter takes, and takes right.

    It makes one operator for each group of a deconvolution, of which lpn50 has 256: these become `SubPixel`. And it
    enlarges 2 pixels to 3 by other ones than torch: this is done by their numbers.
    """
    network = with_small_kernels(with_summed_contexts(network))
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.ConvTranspose2d) and module.groups > 1 and SubPixel.fits(module):
            network.set_submodule(name, SubPixel(module))
    graph = fx.symbolic_trace(network)
    enlarging = [node for node in graph.graph.nodes if node.target is functional.interpolate]
    enlarging = [node for node in enlarging if node.kwargs.get("mode") == "nearest" and node.kwargs.get("size")]
    for node in enlarging:
        node.target, node.kwargs = _nearest, {"size": node.kwargs["size"]}
    graph.recompile()
    return graph if enlarging else network


def _nearest(features: Tensor, size: Sequence[int]) -> Tensor:
    """Do what `functional.interpolate` does in the mode "nearest"; where sides do not divide, by numbers of pixels."""
    if not any(new % old for new, old in zip(size, features.shape[2:], strict=True)):
        return functional.interpolate(features, size=tuple(size), mode="nearest")
    for axis, new in zip((2, 3), size, strict=True):
        features = features.index_select(axis, torch.arange(new) * features.shape[axis] // new)
    return features


class SummedContext(GlobalContext):
    """`GlobalContext` with its weighted mean of pixels as a product and a sum, and layers of vectors behind it, not of
    maps of one pixel."""

    def forward(self, features: Tensor) -> Tensor:
        attention = self.conv_mask(features).flatten(2).softmax(dim=2)  # (B, 1, H*W), sums to 1
        context = (features.flatten(2) * attention).sum(dim=2)  # (B, C)
        first, norm, _, last = cast(Iterable[Any], self.channel_add_conv)
        hidden = functional.linear(context, first.weight.flatten(1), first.bias)
        hidden = functional.layer_norm(hidden, hidden.shape[1:], norm.weight.flatten(), norm.bias.flatten(), norm.eps)
        added = functional.linear(hidden.relu(), last.weight.flatten(1), last.bias)
        return features + added[:, :, None, None]


class SubPixel(nn.Module):
    """A deconvolution that doubles the size as a convolution, with four times the channels, that are then interleaved.

    Args:
        deconvolution: with kernel 4, stride 2, padding 1; see `fits`.
    """

    def __init__(self, deconvolution: nn.ConvTranspose2d) -> None:
        super().__init__()
        groups, channels = deconvolution.groups, deconvolution.out_channels
        weight = deconvolution.weight.detach().unflatten(0, (groups, -1)).transpose(1, 2)  # (groups, out, in, 4, 4)
        kernel = weight.new_zeros(*weight.shape[:2], 2, 2, weight.shape[2], 3, 3)
        for odd_row, row_taps in enumerate(TAPS):
            for odd_column, column_taps in enumerate(TAPS):
                for row, from_row in row_taps:
                    for column, from_column in column_taps:
                        kernel[:, :, odd_row, odd_column, :, row, column] = weight[..., from_row, from_column]
        self.conv = nn.Conv2d(deconvolution.in_channels, 4 * channels, kernel_size=3, padding=1, groups=groups)
        bias = deconvolution.bias if deconvolution.bias is not None else torch.zeros(channels)
        with torch.no_grad():
            self.conv.weight.copy_(kernel.reshape(self.conv.weight.shape))
            self.conv.bias.copy_(bias.repeat_interleave(4))  # type: ignore[union-attr]

    @staticmethod
    def fits(module: nn.ConvTranspose2d) -> bool:
        """Whether a deconvolution doubles the size with a kernel of 4."""
        form = module.kernel_size, module.stride, module.padding, module.output_padding, module.dilation
        return form == ((4, 4), (2, 2), (1, 1), (0, 0), (1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, 2H, 2W)."""
        return functional.pixel_shuffle(self.conv(features), 2)


class RowSlices(nn.Module):
    """A depthwise convolution as a sum of some with fewer rows, each of at most MOST_TAPS.

    Args:
        convolution: see `fits`.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.height, width = convolution.kernel_size
        self.padding = cast(tuple[int, int], convolution.padding)
        self.slices = nn.ModuleList()
        for kernel in convolution.weight.detach().split(MOST_TAPS // width, dim=2):
            part = copy.deepcopy(convolution)
            part.kernel_size, part.padding = kernel.shape[2:], (0, 0)
            part.weight = nn.Parameter(kernel.clone())  # LiteRT's converter mixes up kernels that share memory
            part.bias = None if len(self.slices) else convolution.bias
            self.slices.append(part)

    @staticmethod
    def fits(module: nn.Conv2d) -> bool:
        """Whether a convolution is depthwise, and of more than MOST_TAPS."""
        height, width = module.kernel_size
        depthwise = module.groups == module.in_channels == module.out_channels and module.dilation == (1, 1)
        return depthwise and height * width > MOST_TAPS >= width

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to what the convolution gives."""
        rows, columns = self.padding
        padded = functional.pad(features, (columns, columns, rows, rows))
        last = padded.shape[2] - self.height  # first row under the kernel at its lowest place
        top, total = 0, None
        for part in self.slices:
            below = top + cast(nn.Conv2d, part).kernel_size[0]
            found = part(padded[:, :, top : last + below])
            total = found if total is None else total + found
            top = below
        return cast(Tensor, total)
