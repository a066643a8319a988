"""Depthwise convolutions under autocast: computed in float32, with the plain network's outputs and gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from leanpose.models import create_model
from leanpose.training.crops import DataSource
from leanpose.training.depthwise import keep_depthwise_in_float32
from leanpose.training.module import PoseTraining
from leanpose.training.recipe import Recipe

BFLOAT16, FLOAT32 = torch.bfloat16, torch.float32


class Gradients(TorchDispatchMode):
    """Collects the number type and the groups of every convolution whose gradient is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[torch.dtype, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            self.seen.append((args[0].dtype, args[9]))
        return func(*args, **(kwargs or {}))


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 16, (5, 7), padding=(1, 2), groups=8),
        nn.Conv2d(16, 16, 7, stride=2, padding=3, groups=16, bias=False),
        nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1, groups=16),
        nn.Conv2d(16, 4, 1, groups=4),
    )


def images() -> torch.Tensor:
    return torch.randn(2, 3, 20, 24, generator=torch.Generator().manual_seed(1)).requires_grad_()


def gradients(network: nn.Module, autocast: bool = True) -> list[torch.Tensor]:
    inputs = images()
    with torch.autocast("cpu", BFLOAT16, enabled=autocast):
        loss = network(inputs).float().square().sum()
    return list(torch.autograd.grad(loss, [inputs, *network.parameters()]))


def test_only_depthwise_gradients_are_computed_in_float32() -> None:
    network = small_network()
    keep_depthwise_in_float32(network)
    with Gradients() as computed:
        gradients(network)
    wide = 1 + 3  # calls for 7 columns: the maps' gradient, then that of three columns of the kernel, of three, of one
    assert computed.seen == [(BFLOAT16, 4), (FLOAT32, 16), (FLOAT32, 16), *[(FLOAT32, 8)] * wide, (BFLOAT16, 1)]


@pytest.mark.parametrize("autocast", [True, False])
def test_gradients_are_those_of_the_plain_network(autocast: bool) -> None:
    plain = small_network()
    changed = copy.deepcopy(plain)
    keep_depthwise_in_float32(changed)
    assert changed.state_dict().keys() == plain.state_dict().keys()
    for found, right in zip(gradients(changed, autocast), gradients(plain, autocast=False), strict=True):
        assert found.dtype == FLOAT32
        assert (found - right).abs().max() <= (0.03 if autocast else 1e-6) * right.abs().max()


def test_training_does_so() -> None:
    nowhere = DataSource("", "")
    recipe = Recipe("lpn50", "", [nowhere], nowhere, input_size=(64, 48), codec="dark")
    network = PoseTraining(recipe, create_model("lpn50"), total_steps=1).network
    with Gradients() as computed, torch.autocast("cpu", BFLOAT16):
        network(torch.randn(2, 3, 64, 48))["heatmaps"].float().sum().backward()
    assert (FLOAT32, 512) in computed.seen and (BFLOAT16, 512) not in computed.seen


def test_the_next_layer_gets_bfloat16_and_copies_stay_as_they_are() -> None:
    network = small_network()[:4]
    keep_depthwise_in_float32(network)
    for copied in (network, copy.deepcopy(network)):
        with torch.inference_mode(), torch.autocast("cpu", BFLOAT16):
            assert copied(images()).dtype == BFLOAT16
        with torch.inference_mode():
            torch.testing.assert_close(copied(images()), small_network()[:4](images()))
