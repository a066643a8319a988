"""Depthwise convolutions in float32 where the rest of a network is trained in bfloat16 on a CPU.

oneDNN has no fast kernels for their gradients in bfloat16, nor in float32 for those of kernels wider than 3. A step of
LitePose-XS, whose kernels are 7 x 7, takes a third of the time with what is here (benchmarks/depthwise_training.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

COLUMNS = 3  # of a kernel, whose gradient is computed at once


def keep_depthwise_in_float32(network: nn.Module) -> None:
    """Let a network's depthwise convolutions compute in float32 under autocast on CPUs.

    Those of stride 1 with wide kernels get their gradient in parts there, with and without autocast. Parameters and
    their names stay, and outputs and gradients but for rounding.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.groups == module.in_channels > 1:
            module.__class__ = IN_FLOAT32.get(type(module), type(module))


class _Conv2d(nn.Conv2d):
    def forward(self, maps: Tensor) -> Tensor:
        if maps.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(maps)
        with torch.autocast("cpu", enabled=False):
            return super().forward(maps.float()).to(torch.get_autocast_dtype("cpu"))

    def _conv_forward(self, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve float32 maps (B, C, H, W)."""
        simple = self.stride == self.dilation == (1, 1) and self.padding_mode == "zeros"
        if not simple or isinstance(self.padding, str) or self.kernel_size[1] <= COLUMNS or maps.device.type != "cpu":
            return super()._conv_forward(maps, weight, bias)
        convolved: Tensor = _WideConvolution.apply(maps, weight, self.padding)
        return convolved if bias is None else convolved + bias.view(-1, 1, 1)


class _ConvTranspose2d(nn.ConvTranspose2d):
    def forward(self, maps: Tensor, output_size: list[int] | None = None) -> Tensor:
        if maps.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(maps, output_size)
        with torch.autocast("cpu", enabled=False):
            return super().forward(maps.float(), output_size).to(torch.get_autocast_dtype("cpu"))


IN_FLOAT32: dict[type, type] = {nn.Conv2d: _Conv2d, nn.ConvTranspose2d: _ConvTranspose2d}


class _WideConvolution(torch.autograd.Function):
    """A depthwise convolution of stride 1 that computes the gradient of its kernels a few columns at a time."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.padding = padding
        return nn.functional.conv2d(maps, weight, None, 1, padding, 1, maps.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        maps, weight = ctx.saved_tensors
        rows, columns = ctx.padding
        of_maps = of_weight = None
        if ctx.needs_input_grad[0]:
            of_maps = conv2d_input(maps.shape, weight, gradient, 1, ctx.padding, 1, maps.shape[1])
        if ctx.needs_input_grad[1]:
            padded = nn.functional.pad(maps, (columns, columns))
            parts = []
            for first in range(0, weight.shape[3], COLUMNS):
                shape = weight[..., first : first + COLUMNS].shape
                seen = padded[..., first : first + gradient.shape[3] + shape[3] - 1]
                parts.append(conv2d_weight(seen, shape, gradient, 1, (rows, 0), 1, maps.shape[1]))
            of_weight = torch.cat(parts, dim=3)
        return of_maps, of_weight, None
