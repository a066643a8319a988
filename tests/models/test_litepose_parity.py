"""LitePose against the official network (github.com/mit-han-lab/litepose): keys, outputs, layer by layer, sizes."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support import GOLDENS, shapes_only
from torch import Tensor, nn

from leanpose.errors import InputError
from leanpose.models import create_model
from leanpose.models.counts import count_macs, count_parameters
from leanpose.models.litepose import LitePose
from leanpose.models.litepose_arch import ARCHS, Head, LitePoseArch

GOLDEN = GOLDENS / "litepose_xs_crowdpose.safetensors"
NUM_KEYPOINTS = 14
# In float32, what rounding alone moves (against float64): outputs 8e-6, features (of values up to 18) 2e-4.
OUTPUT_ATOL = 5e-5
FEATURE_ATOL = 1e-3
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
NOT_WEIGHTS = ("input", "output.", "feat.", "refined.", "infer.")

WIDTHS = {  # name -> stem width, stage widths, head widths
    "search_xs": (16, (16, 32, 48, 80), (16, 24, 24)),
    "search_s": (16, (16, 32, 48, 120), (32, 24, 32)),
    "search_m": (16, (24, 48, 72, 120), (64, 40, 32)),
    "search_l": (24, (24, 64, 96, 160), (64, 40, 32)),
    "search_4.5g": (24, (24, 64, 72, 160), (48, 24, 24)),
    "search_8g": (24, (16, 48, 96, 160), (48, 24, 24)),
    "prune_s": (16, (16, 32, 48, 80), (32, 24, 16)),
    "prune_m": (24, (24, 48, 72, 120), (48, 40, 24)),
    "prune_l": (24, (32, 64, 96, 160), (64, 48, 32)),
}
COUNTS: list[tuple[dict[str, Any], int, int]] = [  # variants of prune_s, 14 keypoints -> parameters, MACs at 512x512
    ({"kernel_size": 3}, 1_332_712, 2_569_764_864),
    ({"kernel_size": 5}, 1_483_240, 2_936_242_176),
    ({"kernel_size": 9}, 2_010_088, 4_218_912_768),
    ({"head": "plain"}, 1_666_536, 3_288_563_712),
]


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    """Random weights under their own names, and the official network's input, features and outputs."""
    if not GOLDEN.exists():
        pytest.skip(f"{GOLDEN} is not here; it does not come with the repository")
    return pytest.importorskip("safetensors.torch").load_file(GOLDEN)


@pytest.fixture
def golden_xs(golden: dict[str, Tensor]) -> nn.Module:
    network = create_model("litepose_xs", NUM_KEYPOINTS).eval()
    network.load_state_dict({key: value for key, value in golden.items() if not key.startswith(NOT_WEIGHTS)})
    return network


def test_float32_outputs_and_features_equal_official(golden: dict[str, Tensor], golden_xs: nn.Module) -> None:
    layers = {"feat.0": "first"}
    layers |= {f"feat.{stage + 1}": f"stage.{stage}" for stage in range(4)}
    layers |= {f"refined.{step}": f"deconv_bnrelu.{step}" for step in range(3)}
    seen: dict[str, Tensor] = {}
    for key, layer in layers.items():
        golden_xs.get_submodule(layer).register_forward_hook(
            lambda module, inputs, output, key=key: seen.update({key: output})
        )
    with torch.no_grad():
        outputs = golden_xs(golden["input"])
    seen["output.0"] = torch.cat([outputs["heatmaps_4"], outputs["tags"]], dim=1)
    seen["output.1"] = outputs["heatmaps_2"]
    for key, actual in seen.items():
        atol = OUTPUT_ATOL if key.startswith("output.") else FEATURE_ATOL
        torch.testing.assert_close(actual, golden[key], atol=atol, rtol=0, msg=f"{key} differs")


def test_float64_output_sums_equal_official(golden: dict[str, Tensor], golden_xs: nn.Module) -> None:
    with torch.no_grad():
        outputs = golden_xs.double()(golden["input"].double())
    assert outputs["heatmaps_4"][0, :3, 10, 10].tolist() == pytest.approx([-0.275102, 1.113980, -0.088224], abs=1e-5)
    sums = {name: output.sum().item() for name, output in outputs.items()}
    assert sums["heatmaps_4"] + sums["tags"] == pytest.approx(249.67025, abs=0.02)
    assert sums["heatmaps_2"] == pytest.approx(13575.1320, abs=0.02)


# Of LitePose-XS in float64 with drawn weights and input, from code whose outputs equal the official ones above, which a
# clone of the repository cannot see: mean, standard deviation (unbiased), max |y|, y[0, 0, 0, 0], y[0, 5, 3, 2].
WITHOUT_WEIGHTS = {
    "heatmaps_4": (-5.6923421202, 29.4283893688, 195.8888912232, -18.2821230871, 117.7538421977),
    "tags": (1.4292172047, 28.5246688281, 132.5565135654, -6.8461997175, 34.7298687233),
    "heatmaps_2": (-0.2020345709, 19.4362322949, 109.0809525495, -0.7513928770, -2.7054601085),
}


def drawn(key: str, tensor: Tensor) -> Tensor:
    """Fill a tensor of the state dict from a generator seeded with its name."""
    generator = np.random.RandomState(zlib.crc32(key.encode()))
    normal = torch.from_numpy(generator.standard_normal(tensor.numel())).reshape(tensor.shape)
    if tensor.ndim == 4:
        return normal * math.sqrt(2 / math.prod(tensor.shape[1:]))
    if key.endswith(("running_var", ".weight")):
        return 0.5 + normal.abs()
    return torch.ones_like(tensor) if tensor.ndim == 0 else 0.1 * normal


def test_float64_statistics() -> None:
    network = create_model("litepose_xs", NUM_KEYPOINTS).double().eval()
    network.load_state_dict({key: drawn(key, tensor) for key, tensor in network.state_dict().items()})
    noise = np.random.RandomState(7).standard_normal((1, 3, 64, 96))
    with torch.no_grad():
        outputs = network(torch.from_numpy(noise))
    found = {name: [y.mean(), y.std(), y.abs().max(), y[0, 0, 0, 0], y[0, 5, 3, 2]] for name, y in outputs.items()}
    assert found.keys() == WITHOUT_WEIGHTS.keys()
    for name, figures in found.items():
        assert [figure.item() for figure in figures] == pytest.approx(WITHOUT_WEIGHTS[name], abs=1e-8, rel=0), name


@pytest.mark.parametrize("head", ["fusion", "plain"])
@pytest.mark.parametrize("name", WIDTHS)
def test_state_dict_has_official_keys_shapes_and_order(name: str, head: Head) -> None:
    with shapes_only():
        network = LitePose(replace(ARCHS[name], head=head), NUM_KEYPOINTS)
    expected = official_state(*WIDTHS[name])
    assert len(expected) == 679
    if head == "plain":
        expected = [(key, shape) for key, shape in expected if not key.startswith(("deconv_raw", "final_raw"))]
    assert [(key, tuple(value.shape)) for key, value in network.state_dict().items()] == expected


@pytest.mark.parametrize(
    ("model", "options", "arch"),
    [
        ("litepose_xs", {}, "search_xs"),
        ("litepose_s", {}, "search_s"),
        ("litepose_m", {}, "search_m"),
        ("litepose_l", {}, "search_l"),
        ("litepose", {}, "prune_l"),
        ("litepose", {"arch": "prune_s"}, "prune_s"),
        ("litepose", {"arch": ARCHS["search_8g"].as_dict()}, "search_8g"),
        ("litepose_supernet", {}, "prune_l"),
    ],
    ids=str,
)
def test_named_networks_have_their_widths(model: str, options: dict[str, Any], arch: str) -> None:
    with shapes_only():
        network = create_model(model, NUM_KEYPOINTS, **options)
    actual = [(key, tuple(value.shape)) for key, value in network.state_dict().items()]
    assert actual == official_state(*WIDTHS[arch])


@pytest.mark.parametrize(("changes", "parameters", "macs"), COUNTS, ids=str)
def test_counts(changes: dict[str, Any], parameters: int, macs: int) -> None:
    arch = replace(ARCHS["prune_s"], **changes)
    with shapes_only():
        network = LitePose(arch, 14)
        counted = count_macs(network, (512, 512))
    assert count_parameters(network) == parameters
    assert counted == {"macs": macs, "attention_macs": 0}
    assert arch.macs(14) == macs


@pytest.mark.parametrize("person_head", [False, True])
@pytest.mark.parametrize("head", ["fusion", "plain"])
def test_an_arch_lists_the_layers_of_its_network(head: Head, person_head: bool) -> None:
    arch = LitePoseArch(8, (16, 24, 32, 40), (48, 56, 64), (1, 2, 1, 2), kernel_size=5, input_size=128, head=head)
    with shapes_only():
        network = LitePose(arch, 5, person_head)
        counted = count_macs(network, (128, 128))
    assert arch.macs(5, person_head) == counted["macs"]
    layers = {layer.name: layer for layer in arch.layers(5, person_head)}
    modules = dict(network.named_modules())
    assert layers.keys() == {name for name, module in modules.items() if isinstance(module, CONVOLUTIONS)}
    for name, layer in layers.items():
        conv: Any = modules[name]
        groups = layer.in_channels if layer.kind == "depthwise" else 1
        assert (conv.in_channels, conv.out_channels, conv.groups) == (layer.in_channels, layer.out_channels, groups)
        assert conv.kernel_size == (layer.kernel_size, layer.kernel_size)
        assert isinstance(conv, nn.ConvTranspose2d) == (layer.kind == "transposed")
    norms = {layer.norm: layer.out_channels for layer in layers.values() if layer.norm}
    assert norms == {name: norm.num_features for name, norm in modules.items() if isinstance(norm, nn.BatchNorm2d)}


def test_options_of_named_networks_reach_the_network() -> None:
    network = create_model("litepose_xs", kernel_size=3, head="plain")
    assert network.stage[3][9].depth_conv[0].kernel_size == (3, 3)
    assert not network.deconv_raw
    assert not network.final_raw


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("litepose_xs", {"head": "fuse"}, "Unknown head 'fuse'. Did you mean 'fusion'?"),
        ("litepose_xs", {"kernel_size": 4}, "kernel_size must be odd, such as 7, not 4."),
        ("litepose", {"arch": "prune_xl"}, "There is no arch 'prune_xl'. Did you mean 'prune_l'?"),
    ],
)
def test_wrong_option_is_refused(model: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        create_model(model, **options)
    assert message in str(caught.value)


def official_state(
    stem: int, stages: tuple[int, int, int, int], head: tuple[int, int, int]
) -> list[tuple[str, tuple[int, ...]]]:
    """Keys and shapes of the official state dict, in its order."""
    state: list[tuple[str, tuple[int, ...]]] = []

    def add_batch_norm(key: str, channels: int) -> None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            state.append((f"{key}.{name}", (channels,)))
        state.append((f"{key}.num_batches_tracked", ()))

    def add_conv(conv: str, *shape: int, batch_norm: str = "") -> None:
        state.append((f"{conv}.weight", shape))
        if batch_norm:
            add_batch_norm(batch_norm, shape[0])

    add_conv("first.0.0", 32, 3, 3, 3, batch_norm="first.0.1")
    add_conv("first.1.0", 32, 1, 3, 3, batch_norm="first.1.1")
    add_conv("first.2", stem, 32, 1, 1, batch_norm="first.3")
    previous = stem
    for stage, (width, num_blocks) in enumerate(zip(stages, (6, 8, 10, 10), strict=True)):
        for block in range(num_blocks):
            key, hidden = f"stage.{stage}.{block}", 6 * previous
            add_conv(f"{key}.inv.0", hidden, previous, 1, 1, batch_norm=f"{key}.inv.1")
            add_conv(f"{key}.depth_conv.0", hidden, 1, 7, 7, batch_norm=f"{key}.depth_conv.1")
            add_conv(f"{key}.point_conv.0", width, hidden, 1, 1, batch_norm=f"{key}.point_conv.1")
            previous = width
    for side, widths in (("refined", (stages[3], head[0], head[1])), ("raw", (stages[2], stages[1], stages[0]))):
        for step in range(3):
            add_conv(f"deconv_{side}.{step}", widths[step], head[step], 4, 4)
    for step in range(3):
        add_batch_norm(f"deconv_bnrelu.{step}.0", head[step])
    for side, pair in (("refined", (head[1], head[2])), ("raw", (stages[0], stem))):
        for output, (width, maps) in enumerate(zip(pair, (2 * NUM_KEYPOINTS, NUM_KEYPOINTS), strict=True)):
            key = f"final_{side}.{output}.conv"
            add_conv(f"{key}.0", width, 1, 5, 5, batch_norm=f"{key}.1")
            add_conv(f"{key}.3", maps, width, 1, 1)
    return state
