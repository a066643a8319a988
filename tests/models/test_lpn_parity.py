"""LPN against the official network (github.com/zhang943/lpn-pytorch): keys, outputs, layer by layer."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch
from support import GOLDENS
from torch import Tensor, nn

from leanpose.models import create_model

GOLDEN = GOLDENS / "lpn50.safetensors"
BLOCKS_PER_STAGE = {"lpn50": (3, 4, 6, 3), "lpn101": (3, 4, 23, 3), "lpn152": (3, 8, 36, 3)}


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    """Random weights under their own names, and the official network's "golden.*" input and outputs."""
    if not GOLDEN.exists():
        pytest.skip(f"{GOLDEN} is not here; it does not come with the repository")
    return pytest.importorskip("safetensors.torch").load_file(GOLDEN)


@pytest.fixture
def golden_lpn50(golden: dict[str, Tensor]) -> nn.Module:
    network = create_model("lpn50").eval()
    network.load_state_dict({key: value for key, value in golden.items() if not key.startswith("golden.")})
    return network


def test_float64_output_equals_official(golden: dict[str, Tensor], golden_lpn50: nn.Module) -> None:
    with torch.no_grad():
        heatmaps = golden_lpn50.double()(golden["golden.input"].double())["heatmaps"]
    torch.testing.assert_close(heatmaps, golden["golden.output_fp64"], atol=1e-9, rtol=0)


def test_float32_output_and_backbone_equal_official(golden: dict[str, Tensor], golden_lpn50: nn.Module) -> None:
    seen: dict[str, Tensor] = {}
    golden_lpn50.layer4.register_forward_hook(lambda module, inputs, output: seen.update(layer4=output))
    with torch.no_grad():
        heatmaps = golden_lpn50(golden["golden.input"])["heatmaps"]
    torch.testing.assert_close(seen["layer4"], golden["golden.layer4"], atol=1e-3, rtol=0)
    torch.testing.assert_close(heatmaps, golden["golden.output"], atol=1e-3, rtol=0)


# Measured once on the official network in float64, with the weights of `fill` and the input of `image`:
# mean, standard deviation (unbiased), max |y|, y[0,0,0,0], y[0,5,20,13], y[0,16,-1,-1]
WEIGHT_FREE_GOLDENS = [
    ("lpn50", 256, 192, (-1.615371354, 12.868758461, 44.746866414, -1.716480870, 14.180172849, -8.360641635)),
    ("lpn50", 384, 288, (-1.715073612, 13.141542802, 44.778604402, -1.908948175, 16.978150935, -8.669674573)),
    (
        "lpn101",
        256,
        192,
        (-0.882735064, 28.163683115, 131.373679048, -3.215761388, 23.281189087, -10.661978582),
    ),
    (
        "lpn101",
        384,
        288,
        (-0.908819031, 29.435061808, 128.460146624, -3.394603635, 24.789960736, -11.661804993),
    ),
    (
        "lpn152",
        256,
        192,
        (-8.408724230, 49.954531854, 191.841785181, -10.046642482, 74.058259361, -18.498899784),
    ),
    (
        "lpn152",
        384,
        288,
        (-9.031175529, 52.783649868, 192.870350361, -9.945243377, 71.895417920, -19.734508689),
    ),
]
STAGE_MEAN_STD = {  # lpn50 at 256x192
    "layer1": (2.808343, 2.493707),
    "layer2": (3.067782, 3.630284),
    "layer3": (4.246596, 4.890336),
    "layer4": (4.857972, 6.274482),
    "deconv_layers": (5.329929, 8.732718),
}


@pytest.mark.parametrize(("name", "height", "width", "expected"), WEIGHT_FREE_GOLDENS)
def test_float64_statistics_equal_official(name: str, height: int, width: int, expected: tuple[float, ...]) -> None:
    with torch.no_grad():
        y = filled(name)(image(height, width))["heatmaps"]
    actual = (y.mean(), y.std(), y.abs().max(), y[0, 0, 0, 0], y[0, 5, 20, 13], y[0, 16, -1, -1])
    assert [value.item() for value in actual] == pytest.approx(expected, abs=1e-8, rel=0)


def test_float64_stage_statistics_equal_official() -> None:
    network = filled("lpn50")
    seen: dict[str, Tensor] = {}
    for stage in STAGE_MEAN_STD:
        network.get_submodule(stage).register_forward_hook(
            lambda module, inputs, output, stage=stage: seen.update({stage: (output.mean(), output.std())})
        )
    with torch.no_grad():
        network(image(256, 192))
    for stage, expected in STAGE_MEAN_STD.items():
        assert [value.item() for value in seen[stage]] == pytest.approx(expected, abs=1e-5, rel=0), stage


def test_every_parameter_but_the_mask_bias_has_a_gradient() -> None:
    network = filled("lpn50").train()
    heatmaps = network(torch.cat([image(64, 64), image(64, 64).flip(3)]))["heatmaps"]
    (heatmaps - 1).square().mean().backward()
    for key, parameter in network.named_parameters():
        largest = parameter.grad.abs().max()
        if key.endswith("conv_mask.bias"):  # the softmax cancels it
            assert largest < 1e-12, key
        else:
            assert largest > 1e-9, key


@pytest.mark.parametrize("name", BLOCKS_PER_STAGE)
def test_state_dict_has_official_keys_shapes_and_order(name: str) -> None:
    actual = [(key, tuple(value.shape)) for key, value in create_model(name).state_dict().items()]
    assert actual == official_state(BLOCKS_PER_STAGE[name])


def image(height: int, width: int) -> Tensor:
    noise = np.random.RandomState(7).standard_normal((1, 3, height, width))
    return torch.from_numpy(noise)


def filled(name: str) -> nn.Module:
    """The network in float64, each tensor filled from a generator seeded with the name of the tensor."""
    network = create_model(name).double().eval()
    network.load_state_dict({key: fill(key, tensor) for key, tensor in network.state_dict().items()})
    return network


def fill(key: str, tensor: Tensor) -> Tensor:
    generator = np.random.RandomState(zlib.crc32(key.encode()))
    normal = torch.from_numpy(generator.standard_normal(tensor.numel())).reshape(tensor.shape)
    uniform = torch.from_numpy(generator.random_sample(tensor.numel())).reshape(tensor.shape)
    if key.endswith("num_batches_tracked"):
        return torch.ones_like(tensor)
    if tensor.ndim == 4:
        is_deconv = tensor.shape[1:] == (1, 4, 4)
        fan = 4 * (tensor.shape[0] // 256) if is_deconv else math.prod(tensor.shape[1:])
        return normal * math.sqrt(2 / fan)
    if key.endswith("running_mean"):
        return 0.1 * normal
    if key.endswith("running_var"):
        return 0.5 + uniform
    if key.endswith("bn3.weight"):
        return 0.05 + 0.2 * uniform
    if key.endswith(".weight"):
        return 0.5 + uniform
    return 0.1 * normal


def official_state(blocks_per_stage: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Keys and shapes of the official state dict, in its order."""
    state: list[tuple[str, tuple[int, ...]]] = []

    def add(key: str, *shape: int) -> None:
        state.append((key, shape))

    def add_batch_norm(key: str, channels: int) -> None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            add(f"{key}.{name}", channels)
        add(f"{key}.num_batches_tracked")

    def add_conv_and_batch_norm(conv: str, batch_norm: str, *shape: int, channels: int) -> None:
        add(f"{conv}.weight", *shape)
        add_batch_norm(batch_norm, channels)

    add_conv_and_batch_norm("conv1", "bn1", 64, 3, 7, 7, channels=64)
    previous = 64
    for stage, (c, num_blocks) in enumerate(zip((64, 128, 256, 512), blocks_per_stage, strict=True), start=1):
        hidden = max(16, c // 16)
        for block in range(num_blocks):
            key = f"layer{stage}.{block}"
            add_conv_and_batch_norm(f"{key}.conv1", f"{key}.bn1", c, previous, 1, 1, channels=c)
            add_conv_and_batch_norm(f"{key}.conv2", f"{key}.bn2", c, 1, 3, 3, channels=c)
            add_conv_and_batch_norm(f"{key}.conv3", f"{key}.bn3", c, c, 1, 1, channels=c)
            if stage > 1 and block == 0:
                downsample = f"{key}.downsample"
                add_conv_and_batch_norm(f"{downsample}.0", f"{downsample}.1", c, previous, 1, 1, channels=c)
            add(f"{key}.att.conv_mask.weight", 1, c, 1, 1)
            add(f"{key}.att.conv_mask.bias", 1)
            add(f"{key}.att.channel_add_conv.0.weight", hidden, c, 1, 1)
            add(f"{key}.att.channel_add_conv.0.bias", hidden)
            add(f"{key}.att.channel_add_conv.1.weight", hidden, 1, 1)
            add(f"{key}.att.channel_add_conv.1.bias", hidden, 1, 1)
            add(f"{key}.att.channel_add_conv.3.weight", c, hidden, 1, 1)
            add(f"{key}.att.channel_add_conv.3.bias", c)
            previous = c
    for first, in_channels in ((0, 512), (6, 256)):
        layers = [f"deconv_layers.{first + offset}" for offset in (0, 1, 3, 4)]
        add_conv_and_batch_norm(layers[0], layers[1], in_channels, 1, 4, 4, channels=256)
        add_conv_and_batch_norm(layers[2], layers[3], 256, 256, 1, 1, channels=256)
    add("final_layer.weight", 17, 256, 1, 1)
    add("final_layer.bias", 17)
    return state
