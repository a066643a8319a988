"""One set of tests over all networks, and what creating them by name promises."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing

import pytest
import torch
from torch import nn

import leanpose.models
from leanpose.errors import InputError, WeightsError
from leanpose.models import MODELS, create_model, list_models
from leanpose.models.counts import count_macs, count_parameters

# name, options, input size -> parameters, MACs, attention MACs
COUNTS = [
    ("litepose_xs", {}, (256, 256), 1_675_912, 885_841_920, 0),
    ("litepose_xs", {"num_keypoints": 14}, (256, 256), 1_675_552, 882_892_800, 0),
    ("litepose_xs", {"person_head": True}, (256, 256), 1_679_469, 899_604_480, 0),
    ("litepose_s", {}, (448, 448), 2_731_624, 3_624_375_552, 0),
    ("litepose_s", {"num_keypoints": 14}, (448, 448), 2_731_240, 3_614_139_648, 0),
    ("litepose_m", {}, (448, 448), 3_534_336, 5_275_717_888, 0),
    ("litepose_m", {"num_keypoints": 14}, (448, 448), 3_533_808, 5_263_675_648, 0),
    ("litepose_m", {"person_head": True}, (448, 448), 3_539_045, 5_332_316_416, 0),
    ("litepose_l", {}, (512, 512), 5_738_672, 9_979_297_792, 0),
    ("litepose_l", {"num_keypoints": 14}, (512, 512), 5_738_120, 9_961_996_288, 0),
    ("lpn50", {}, (256, 192), 2_911_153, 1_068_144_640, 1_572_864),
    ("lpn50", {}, (384, 288), 2_911_153, 2_403_112_960, 3_538_944),
    ("lpn50", {"num_keypoints": 16}, (256, 256), 2_910_896, 1_423_087_616, 2_097_152),
    ("lpn50", {"attention": "none"}, (256, 192), 2_732_689, 1_066_401_792, 0),
    ("lpn101", {}, (256, 192), 5_353_458, 1_504_458_752, 2_408_448),
    ("lpn101", {}, (384, 288), 5_353_458, 3_384_645_632, 5_419_008),
    ("lpn101", {"attention": "none"}, (256, 192), 5_026_193, 1_501_741_056, 0),
    ("lpn152", {}, (256, 192), 7_377_459, 1_942_722_560, 3_440_640),
    ("lpn152", {}, (384, 288), 7_377_459, 4_370_585_600, 7_741_440),
    ("lpn152", {"attention": "none"}, (256, 192), 6_918_801, 1_938_849_792, 0),
    ("simple_baseline_50", {}, (256, 192), 33_999_697, 5_426_380_800, 0),
    ("simple_baseline_50", {}, (384, 288), 33_999_697, 12_209_356_800, 0),
    ("simple_baseline_101", {}, (256, 192), 52_991_825, 9_062_842_368, 0),
    ("simple_baseline_101", {}, (384, 288), 52_991_825, 20_391_395_328, 0),
    ("simple_baseline_152", {}, (256, 192), 68_635_473, 12_699_303_936, 0),
    ("simple_baseline_152", {}, (384, 288), 68_635_473, 28_573_433_856, 0),
]
# name -> tensors in the published state dict, and how many values its float buffers hold
STATE_SIZES = {
    "litepose_xs": (679, 41_344),
    "litepose_s": (679, 50_848),
    "litepose_m": (679, 61_808),
    "litepose_l": (679, 81_040),
    "lpn50": (466, 26_624),
    "lpn101": (908, 52_736),
    "lpn152": (1350, 75_776),
    "simple_baseline_50": (338, 54_656),
    "simple_baseline_101": (644, 106_880),
    "simple_baseline_152": (950, 152_960),
}
# name -> outputs, each of one map a keypoint, and their strides
OUTPUT_STRIDES = {name: {"heatmaps": 4} for name in MODELS}
OUTPUT_STRIDES |= {name: {"heatmaps_4": 4, "tags": 4, "heatmaps_2": 2} for name in list_models("litepose_*")}


@pytest.mark.parametrize("name", MODELS)
def test_forward_and_backward(name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, num_keypoints=5)
    images = torch.randn(2, 3, 64, 96)

    outputs = network(images)
    shapes = {output: (2, 5, 64 // stride, 96 // stride) for output, stride in OUTPUT_STRIDES[name].items()}
    assert {output: maps.shape for output, maps in outputs.items()} == shapes
    sum(maps.square().mean() for maps in outputs.values()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key

    network.eval().double()
    with torch.no_grad():
        both = network(images.double())
        first = network(images[:1].double())
    for output, maps in both.items():
        assert maps.isfinite().all(), output
        torch.testing.assert_close(maps[:1], first[output])  # in eval mode, one picture does not change another's maps


@pytest.mark.parametrize(("name", "options", "input_size", "parameters", "macs", "attention_macs"), COUNTS, ids=str)
def test_counts(
    name: str, options: dict, input_size: tuple[int, int], parameters: int, macs: int, attention_macs: int
) -> None:
    network = create_model(name, **options)
    assert count_parameters(network) == parameters
    assert count_macs(network, input_size) == {"macs": macs, "attention_macs": attention_macs}


@pytest.mark.parametrize("name", STATE_SIZES)
def test_state_sizes(name: str) -> None:
    network = create_model(name)
    buffer_values = sum(buffer.numel() for buffer in network.buffers() if buffer.is_floating_point())
    assert (len(network.state_dict()), buffer_values) == STATE_SIZES[name]


def test_every_model_has_counts() -> None:
    assert {name for name, *_ in COUNTS} == set(MODELS) == set(STATE_SIZES)


def test_counting_leaves_the_network_as_it_is() -> None:
    network = create_model("lpn50").train()
    count_macs(network, (64, 64))
    assert network.training
    assert network.conv1.weight.device.type == "cpu"
    assert network.bn1.num_batches_tracked == 0


def test_every_constructor_is_in_the_table() -> None:
    constructors = {}
    for info in pkgutil.iter_modules(leanpose.models.__path__):
        module = importlib.import_module(f"leanpose.models.{info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_") and builds_a_network(function):
                constructors[name] = function
    assert constructors == MODELS


def builds_a_network(function: typing.Callable) -> bool:
    """Whether a function returns a network whose forward takes pictures, rather than a building block."""
    returned = typing.get_type_hints(function).get("return")
    return (
        inspect.isclass(returned)
        and issubclass(returned, nn.Module)
        and "images" in inspect.signature(returned.forward).parameters
    )


def test_list_models() -> None:
    assert list_models() == list(MODELS)
    assert list_models("lpn*") == ["lpn50", "lpn101", "lpn152"]
    assert list_models("yolo*") == []


def test_unknown_model_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"Unknown model 'lpn-50'\. Did you mean 'lpn50'\?"):
        create_model("lpn-50")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"atention": "se"}, "no option 'atention'. Did you mean 'attention'?"),
        ({"attention": "cbam"}, "Unknown attention 'cbam'. Known: gc, none, se."),
        ({"init": "publish"}, "Unknown init 'publish'. Did you mean 'published'?"),
    ],
)
def test_wrong_option_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        create_model("lpn50", **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("litepose_xs", (256, 264), "width 264, but both sides must be multiples of 16: use width 256 or 272"),
        ("lpn50", (250, 192), "height 250, but both sides must be multiples of 16: use height 240 or 256"),
        ("lpn50", (256, 8), "width 8, but both sides must be multiples of 16: use width 16"),
        (
            "simple_baseline_50",
            (256, 176),
            "width 176, but both sides must be multiples of 32: use width 160 or 192",
        ),
    ],
)
def test_wrong_input_size_is_refused(name: str, size: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError) as caught:
        create_model(name)(torch.zeros(1, 3, *size))
    assert message in str(caught.value)


def test_export_keeps_sides_free() -> None:
    height, width = (16 * torch.export.Dim(side, min=2, max=32) for side in ("rows", "columns"))
    network = create_model("lpn50").eval()
    exported = torch.export.export(
        network, (torch.zeros(1, 3, 64, 96),), dynamic_shapes=({2: height, 3: width},)
    ).module()
    images = torch.randn(1, 3, 96, 64)
    torch.testing.assert_close(exported(images)["heatmaps"], network(images)["heatmaps"])


def test_lpn_kaiming_init_starts_without_attention() -> None:
    torch.manual_seed(0)
    network, without = create_model("lpn50").eval(), create_model("lpn50", attention="none").eval()
    without.load_state_dict({key: value for key, value in network.state_dict().items() if ".att." not in key})
    images = torch.randn(1, 3, 64, 64)
    assert (network.layer1[0].bn3.weight == 0.3).all()
    torch.testing.assert_close(network(images), without(images))


def test_lpn_published_init_draws_every_convolution_narrowly() -> None:
    torch.manual_seed(0)
    network = create_model("lpn50", init="published")
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    weights = torch.cat([conv.weight.flatten() for conv in convs])
    assert weights.std().item() == pytest.approx(0.001, rel=0.01)
    assert min(conv.weight.abs().max() for conv in convs) > 0
    assert (network.layer1[0].bn3.weight == 1).all()


def test_lpn_with_squeeze_excitation() -> None:
    network = create_model("lpn50", attention="se").eval()
    assert count_parameters(network) == 2_732_689 + sum(
        blocks * 2 * channels * max(16, channels // 16)
        for blocks, channels in zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)
    )
    assert network(torch.zeros(1, 3, 64, 64))["heatmaps"].shape == (1, 17, 16, 16)


@pytest.mark.parametrize("name", list_models("litepose_*"))
@pytest.mark.parametrize("head", ["fusion", "plain"])
def test_litepose_with_person_head(name: str, head: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, num_keypoints=5, head=head, person_head=True)
    images = torch.randn(2, 3, 64, 96)
    outputs = network(images)
    assert {output: tuple(maps.shape) for output, maps in outputs.items()} == {
        "heatmaps_4": (2, 5, 16, 24),
        "tags": (2, 5, 16, 24),
        "heatmaps_2": (2, 5, 32, 48),
        "centers": (2, 1, 16, 24),
        "box_logs": (2, 4, 16, 24),
    }
    for maps, start in ((outputs["centers"].sigmoid(), 0.01), (outputs["box_logs"].exp(), 8.0)):
        torch.testing.assert_close(
            maps, torch.full_like(maps, start), rtol=0.3, atol=0
        )  # nobody, 8 pixels to the edges
    (outputs["centers"].sum() + outputs["box_logs"].sum()).backward()
    assert network.stage[0][0].inv[0].weight.grad.abs().max() > 0  # the backbone learns from it too


def test_the_person_head_leaves_the_rest_of_litepose_as_it_is() -> None:
    torch.manual_seed(0)
    network = create_model("litepose_xs", person_head=True).eval()
    without = create_model("litepose_xs").eval()
    state = network.state_dict()
    rest = [key for key in state if not key.startswith("person.")]
    assert rest == list(without.state_dict()) == list(state)[: len(rest)]
    assert (len(rest), len(state)) == (679, 695)
    without.load_state_dict({key: state[key] for key in rest})
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs, expected = network(images), without(images)
    assert list(expected) == ["heatmaps_4", "tags", "heatmaps_2"]
    for output, maps in expected.items():
        assert torch.equal(outputs[output], maps)


def test_litepose_export_keeps_sides_free() -> None:
    height, width = (16 * torch.export.Dim(side, min=2, max=32) for side in ("rows", "columns"))
    network = create_model("litepose_xs", person_head=True).eval()
    exported = torch.export.export(
        network, (torch.zeros(1, 3, 64, 96),), dynamic_shapes=({2: height, 3: width},)
    ).module()
    images = torch.randn(1, 3, 96, 64)
    torch.testing.assert_close(exported(images), network(images))
