"""Size of a network: parameters and multiply-adds."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

LAYER_OPERATORS = (torch.ops.aten.convolution, torch.ops.aten.mm, torch.ops.aten.addmm)


def count_parameters(model: nn.Module) -> int:
    """Number of learned values, frozen ones included, running statistics of batch norms not."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, input_size: tuple[int, int]) -> dict[str, int]:
    """Count the multiply-adds (MACs; FLOPs = 2 x MACs) that a network spends on one image in eval mode.

    Counted by `torch.utils.flop_counter` on a copy of the network without data, so it takes no arithmetic.
    Norms, biases, activations, softmax and sums are not counted.

    Args:
        model: network with `forward(images)`; left as it is.
        input_size: (height, width) in pixels.

    Returns:
        macs: of convolutions, transposed convolutions (weights x INPUT pixels) and linear layers.
        attention_macs: of products of two activations, such as attention-weighted sums.

    Raises:
        InputError: the network cannot take this input size.
    """
    model = copy.deepcopy(model).to("meta").eval()
    images = torch.zeros(1, 3, *input_size, dtype=next(model.parameters()).dtype, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    flops = counter.get_flop_counts()["Global"]
    layer_flops = sum(count for operator, count in flops.items() if operator in LAYER_OPERATORS)
    attention_flops = sum(flops.values()) - layer_flops
    return {"macs": layer_flops // 2, "attention_macs": attention_flops // 2}
