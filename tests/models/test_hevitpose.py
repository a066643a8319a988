"""HEViTPose: its attention against the formula written out, its sizes part by part, its start and its options."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from support import shapes_only
from torch import Tensor, nn

from leanpose.errors import InputError
from leanpose.models import create_model
from leanpose.models.batch_norm import calibrate_batch_norm, fold_batch_norm
from leanpose.models.counts import count_macs, count_parameters
from leanpose.models.hevitpose import CascadedGroupAttention, Residual
from leanpose.weights.record import Weights

SIZES = ("t", "s", "b")
PARAMETERS = {"t": 3_186_768, "s": 5_924_096, "b": 10_528_848}  # 16 keypoints
MACS = {"t": 1_776_402_432, "s": 3_670_173_696, "b": 5_588_156_416}  # the same at 256x256, attention products included
# The smallest network in which every part occurs, several groups and heads among them.
SMALL = {"dims": [16, 24, 32], "depths": [1, 1, 1], "groups": 2, "head_widths": [16, 8]}


def randomise(module: nn.Module) -> nn.Module:
    """Give every norm and bias values that do something, and return the module in eval mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1, generator=generator)
                part.running_var.uniform_(0.5, 1.5, generator=generator)
            if isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
                part.weight.uniform_(0.5, 1.5, generator=generator)
            if getattr(part, "bias", None) is not None:
                part.bias.normal_(0, 0.3, generator=generator)
    return module.eval()


# ---- the attention


def slow_cells(layer: nn.Module, part: Tensor, reduction: int, sr: str) -> list[Tensor]:
    """Return the cells of a part (c, H, W), row by row, a vector (c,) each."""
    _, height, width = part.shape
    cells = []
    for y in range(0, height, reduction):
        for x in range(0, width, reduction):
            window = part[:, y : y + reduction, x : x + reduction]
            if reduction == 1:
                cells.append(window[:, 0, 0])
            elif sr == "avgpool":
                cells.append(window.mean(dim=(1, 2)))
            elif sr == "conv":
                cells.append(torch.stack([(kernel * window).sum() for kernel in layer.weight]) + layer.bias)
            else:
                depthwise = layer[0] if sr == "separable" else layer
                cell = (depthwise.weight[:, 0] * window).sum(dim=(1, 2)) + depthwise.bias
                cells.append(slow_linear(layer[1], cell) if sr == "separable" else cell)
    return cells


def slow_linear(layer: nn.Module, vector: Tensor) -> Tensor:
    return layer.weight.flatten(1) @ vector + layer.bias


def slow_norm(layer: nn.Module, vector: Tensor) -> Tensor:
    variance = (vector - vector.mean()).square().mean()
    return (vector - vector.mean()) / (variance + layer.eps).sqrt() * layer.weight + layer.bias


def slow_group(group: nn.Module, part: Tensor, heads: int, reduction: int, sr: str, sr_shared: bool) -> Tensor:
    """Return the output of one group for its part (c, H, W) of the channels."""
    channels, height, width = part.shape
    key_cells = slow_cells(group.reduce_keys, part, reduction, sr)
    value_cells = key_cells if sr_shared else slow_cells(group.reduce_values, part, reduction, sr)
    keys = [slow_linear(group.key[1], slow_norm(group.key[0], cell)) for cell in key_cells]
    values = [slow_linear(group.value[1], slow_norm(group.value[0], cell)) for cell in value_cells]
    output = torch.empty_like(part)
    for y in range(height):
        for x in range(width):
            query = slow_linear(group.query[1], slow_norm(group.query[0], part[:, y, x]))
            mixed = []
            for head in torch.arange(channels).chunk(heads):
                scores = [query[head] @ key[head] / math.sqrt(channels / heads) for key in keys]
                total = sum(math.exp(score) for score in scores)
                pairs = zip(scores, values, strict=True)
                mixed.append(sum(math.exp(score) / total * value[head] for score, value in pairs))
            output[:, y, x] = slow_norm(group.norm, slow_linear(group.mix, torch.cat(mixed)))
    return output


@pytest.mark.parametrize(
    ("cascade", "reduction", "sr", "sr_shared"),
    [
        (True, 2, "conv", True),
        (True, 2, "conv", False),
        (False, 2, "conv", True),
        (True, 4, "conv", True),
        (True, 2, "separable", True),
        (True, 2, "separable", False),
        (True, 2, "depthwise", True),
        (False, 4, "avgpool", True),
        (True, 1, "conv", True),
        (False, 1, "separable", False),
    ],
)
@torch.no_grad()
def test_attention_equals_the_formula(cascade: bool, reduction: int, sr: str, sr_shared: bool) -> None:
    torch.manual_seed(0)
    network = randomise(CascadedGroupAttention(18, 3, cascade, 2, reduction, sr, sr_shared).double())
    for group in network.groups:
        group.query[1].weight *= 3  # so that attention is far from uniform
    features = torch.randn(2, 18, 4, 8, dtype=torch.float64)

    expected = []
    for image in features:
        outputs: list[Tensor] = []
        for group, part in zip(network.groups, image.chunk(3), strict=True):
            seen = part + outputs[-1] if cascade and outputs else part
            outputs.append(slow_group(group, seen, 2, reduction, sr, sr_shared))
        _, conv, norm = network.projection.children()
        projected = torch.einsum("oc,chw->ohw", conv.weight[:, :, 0, 0], torch.cat(outputs).clamp(min=0))
        scale, shift, mean = (v[:, None, None] for v in (norm.weight, norm.bias, norm.running_mean))
        expected.append((projected - mean) / (norm.running_var[:, None, None] + norm.eps).sqrt() * scale + shift)
    torch.testing.assert_close(network(features), torch.stack(expected))


@pytest.mark.parametrize("cascade", [True, False])
def test_a_group_sees_itself_and_with_the_cascade_those_before_it(cascade: bool) -> None:
    torch.manual_seed(0)
    network = randomise(CascadedGroupAttention(16, 4, cascade, 2, 2, "conv", True))
    parts: list[Tensor] = []
    network.projection.register_forward_pre_hook(lambda _, inputs: parts.extend(inputs[0].clone().chunk(4, dim=1)))
    features = torch.randn(1, 16, 4, 4, requires_grad=True)
    network(features)
    seen = []
    for part in parts:
        (gradient,) = torch.autograd.grad(part.square().sum(), features, retain_graph=True)
        seen.append([bool(of_group.abs().max() > 1e-6) for of_group in gradient.chunk(4, dim=1)])
    assert seen == [[j == i or (cascade and j < i) for j in range(4)] for i in range(4)]


# ---- sizes


def published_counts(network: nn.Module) -> dict[str, int]:
    """Count as MMPose 0.29 does at 256x256: products of weights, norms, ReLUs and biases; none of two activations."""
    counts = dict.fromkeys(("conv", "deconv", "linear", "norm", "relu", "bias"), 0)

    def count(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        (features,) = inputs
        if isinstance(layer, nn.Conv2d):
            counts["conv"] += output[0, 0].numel() * layer.weight.numel()
            counts["bias"] += output.numel() if layer.bias is not None else 0
        elif isinstance(layer, nn.ConvTranspose2d):
            counts["deconv"] += features[0, 0].numel() * layer.weight.numel()
        elif isinstance(layer, nn.Linear):
            counts["linear"] += features.shape[1] * layer.weight.numel()
        elif isinstance(layer, nn.BatchNorm2d | nn.LayerNorm):
            counts["norm"] += 2 * features.numel()
        elif isinstance(layer, nn.ReLU):
            counts["relu"] += output.numel()

    for name, layer in network.named_modules():
        if not (isinstance(layer, nn.ReLU) and ".gates." in name):  # the sheet leaves out that of squeeze-excite
            layer.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 256, 256, device="meta"))
    return counts


@pytest.mark.parametrize(
    ("size", "total", "counts"),
    [
        ("t", 1_723_982_784, (1_227_603_968, 452_984_832, 9_830_400, 25_591_808, 7_061_504, 910_272)),
        ("s", 3_584_887_280, (2_990_868_480, 515_899_392, 23_420_928, 41_799_680, 11_489_280, 1_409_520)),
        ("b", 5_481_482_112, (4_772_888_576, 603_979_776, 39_321_600, 50_003_968, 13_533_184, 1_755_008)),
    ],
)
def test_counts_in_the_published_style(size: str, total: int, counts: tuple[int, ...]) -> None:
    with shapes_only():
        found = published_counts(create_model(f"hevitpose_{size}", 16))
    assert tuple(found.values()) == counts
    assert sum(found.values()) == total


@pytest.mark.parametrize(("size", "attention"), [("t", 388_224), ("s", 835_824), ("b", 1_526_016)])
def test_parameters_of_the_attention(size: str, attention: int) -> None:
    with shapes_only():
        without = create_model(f"hevitpose_{size}", 16, attention="none", groups=7)  # groups of nothing: not checked
        with_cascade, parallel = (create_model(f"hevitpose_{size}", 16, cascade=cascade) for cascade in (True, False))
    assert count_parameters(with_cascade) - count_parameters(without) == attention
    assert count_parameters(parallel) == count_parameters(with_cascade)
    assert not any(isinstance(module, CascadedGroupAttention) for module in without.modules())


def test_parameters_of_other_options() -> None:
    with shapes_only():
        wide, strided = (create_model("hevitpose_t", 16, **o) for o in ({"ffn_ratio": 3}, {"subsample": "conv"}))
    feed_forwards = {64: 2 + 1, 128: 4 + 2, 192: 6 + 1}  # in blocks, and beside them
    more = sum(number * (2 * width**2 + 2 * width) for width, number in feed_forwards.items())
    assert count_parameters(wide) == PARAMETERS["t"] + more
    convs = [m for part in (strided.subsample1, strided.subsample2) for m in part.modules() if isinstance(m, nn.Conv2d)]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(64, 128), (128, 192)]
    assert {(conv.kernel_size, conv.stride, conv.padding) for conv in convs} == {((3, 3), (2, 2), (1, 1))}


@pytest.mark.parametrize(
    ("overlap", "kernel_size", "padding", "totals"),
    [
        (0, 4, 0, ((3_180_432, 1_750_450_176), (5_911_424, 3_618_269_184), (10_516_176, 5_536_251_904))),
        (1, 5, 2, ((3_182_160, 1_757_528_064), (5_914_880, 3_632_424_960), (10_519_632, 5_550_407_680))),
        (2, 6, 1, ((3_184_272, 1_766_178_816), (5_919_104, 3_649_726_464), (10_523_856, 5_567_709_184))),
        (3, 7, 3, ((3_186_768, 1_776_402_432), (5_924_096, 3_670_173_696), (10_528_848, 5_588_156_416))),
        (4, 8, 2, ((3_189_648, 1_788_198_912), (5_929_856, 3_693_766_656), (10_534_608, 5_611_749_376))),
        (5, 9, 4, ((3_192_912, 1_801_568_256), (5_936_384, 3_720_505_344), (10_541_136, 5_638_488_064))),
    ],
)
def test_stems(overlap: int, kernel_size: int, padding: int, totals: tuple[tuple[int, int], ...]) -> None:
    for size, (parameters, macs) in zip(SIZES, totals, strict=True):
        with shapes_only():
            options = {"attention": "none", "depths": (1, 1, 1)}  # nothing but the stem differs
            network, default = (create_model(f"hevitpose_{size}", stem_overlap=o, **options) for o in (overlap, 3))
        assert (network.stem[0].kernel_size, network.stem[0].padding) == ((kernel_size,) * 2, (padding,) * 2)
        assert PARAMETERS[size] + count_parameters(network) - count_parameters(default) == parameters
        of_stem, of_default = (count_macs(n.stem, (256, 256))["macs"] for n in (network, default))
        assert MACS[size] + of_stem - of_default == macs
        assert network.stem(torch.zeros(1, 3, 64, 96, device="meta")).shape[2:] == (16, 24)


# ---- the start


def test_the_order_of_the_parts_of_a_block() -> None:
    network = create_model("hevitpose_t")

    def kind(part: Residual) -> str:
        first = part.branch[0]
        return "attention" if isinstance(first, CascadedGroupAttention) else f"{first.kernel_size[0]}/{first.groups}"

    for stage, width, depth in ((network.stage1, 64, 1), (network.stage2, 128, 2), (network.stage3, 192, 3)):
        assert [kind(part) for part in stage] == [f"3/{width}", "1/1", "attention", f"3/{width}", "1/1"] * depth


@pytest.mark.parametrize("training", [True, False])
def test_every_residual_part_starts_as_the_identity(training: bool) -> None:
    torch.manual_seed(0)
    network = create_model("hevitpose_t").train(training)
    same: list[bool] = []
    parts = [module for module in network.modules() if isinstance(module, Residual)]
    assert len(parts) == 5 * 6 + 2 * 4
    for part in parts:
        part.register_forward_hook(lambda _, inputs, output: same.append(torch.equal(inputs[0], output)))
    with torch.no_grad():
        network(torch.randn(2, 3, 64, 64))
        assert same == [True] * len(parts)
        same.clear()
        for part in parts:
            for norm in part.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    nn.init.ones_(norm.weight)
        network(torch.randn(2, 3, 64, 64))
    assert same == [False] * len(parts)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    network = create_model("hevitpose_t")
    linear = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Linear)])
    assert linear.std().item() == pytest.approx(0.02, rel=0.05)
    for layer in (network.deconv_layers[0], network.deconv_layers[3], network.final_layer):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert network.stem[0].weight.std().item() == pytest.approx(math.sqrt(2 / (3 * 7 * 7)), rel=0.05)
    zero = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and not m.weight.any()]
    assert len(zero) == 5 * 6 + 2 * 4
    biases = [value for name, value in network.named_parameters() if name.endswith("bias")]
    assert not any(bias.any() for bias in biases)


def test_after_one_step_a_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    network = create_model("hevitpose_t", 5).double()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    images, target = torch.randn(2, 3, 64, 96).double(), torch.rand(2, 5, 16, 24).double()
    for _ in range(2):
        optimiser.zero_grad()
        (network(images)["heatmaps"] - target).square().mean().backward()
        largest = {name: parameter.grad.abs().max().item() for name, parameter in network.named_parameters()}
        optimiser.step()
    # What is added to all keys of a head changes all scores of a pixel alike, and the softmax takes it out.
    without_effect = {name for name in largest if name.endswith(("key.0.bias", "key.1.bias"))}
    assert len(without_effect) == 2 * 8 * 6
    # What is added to all pixels in front of a 1x1 convolution with batch norm, the norm takes out in train mode.
    for subsample in ("subsample1", "subsample2"):
        without_effect |= {f"{subsample}.0.branch.1.bias", f"{subsample}.1.branch.4.bias"}
    assert max(largest[name] for name in without_effect) < 1e-16
    assert min(value for name, value in largest.items() if name not in without_effect) > 1e-10


# ---- precision, folding, export


@torch.no_grad()
def test_half_precision() -> None:
    torch.manual_seed(0)
    network = randomise(create_model("hevitpose_t"))
    images = torch.randn(2, 3, 64, 64)
    calibrate_batch_norm(network, [images])
    expected = network(images)["heatmaps"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(images)["heatmaps"]
    assert found.dtype == torch.bfloat16
    assert (found - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sr": "separable", "sr_shared": False, "cascade": False},
        {"sr": "avgpool", "subsample": "conv"},
        {"sr": "depthwise", "squeeze_excite": False, "reductions": [1, 1, 1]},
        {"attention": "none"},
    ],
    ids=str,
)
@torch.no_grad()
def test_batch_norms_fold(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = randomise(create_model("hevitpose_s", 5, **SMALL, **options))
    folded = fold_batch_norm(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    images = torch.randn(2, 3, 64, 96)
    expected = network(images)["heatmaps"]
    assert (folded(images)["heatmaps"] - expected).abs().max() < 1e-4 * expected.abs().max()


def test_export() -> None:
    pytest.importorskip("onnxscript")
    exporting = pytest.importorskip("leanpose.deploy.targets.onnx")
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    options = json.loads(json.dumps(SMALL))  # as they come back from a record
    network = randomise(create_model("hevitpose_t", 17, **options))
    model = exporting.to_onnx(network, Weights("small", "hevitpose_t", (64, 96), model_options=options))
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        images = torch.randn(count, 3, 64, 96)
        with torch.no_grad():
            expected = network(images)["heatmaps"].numpy()
        (found,) = session.run(["heatmaps"], {"images": images.numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


# ---- options


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hevitpose_t", {"groups": 7}, r"groups must divide the channels of all stages, \(64, 128, 192\): 7 does not"),
        ("hevitpose_t", {"groups": 0}, "groups must divide"),
        ("hevitpose_t", {"heads": 3}, r"channels of a group in all stages, \(8, 16, 24\): 3 does not"),
        ("hevitpose_s", {"heads": 4}, r"channels of a group in all stages, \(16, 22, 34\): 4 does not"),
        ("hevitpose_b", {"groups": 4, "heads": 0}, r"heads must divide .*\(32, 64, 96\): 0 does not"),
        ("hevitpose_t", {"sr": "seperable"}, r"Unknown sr 'seperable'\. Did you mean 'separable'\?"),
        ("hevitpose_t", {"subsample": "pool"}, r"Unknown subsample 'pool'\. Known: conv, efficientvit\."),
        ("hevitpose_t", {"attention": "gc"}, "Unknown attention 'gc'"),
        ("hevitpose_t", {"reductions": [8, 4]}, r"reductions must be 3 numbers from 1, not \[8, 4\]"),
        ("hevitpose_t", {"reductions": (8, 4, 0)}, r"reductions must be 3 numbers from 1, not \(8, 4, 0\)"),
        ("hevitpose_t", {"head_widths": (256, 256, 256)}, "head_widths must be 2 numbers from 1"),
        ("hevitpose_t", {"depths": (1, 2)}, "depths must be 3 numbers from 1"),
        ("hevitpose_t", {"dims": (64, 128)}, "dims must be 3 numbers from 1"),
        ("hevitpose_t", {"stem_overlap": 6}, "stem_overlap must be a whole number of 0 to 5, not 6"),
        ("hevitpose_t", {"stem_overlap": -1}, "stem_overlap must be a whole number of 0 to 5, not -1"),
        ("hevitpose_t", {"peow": 3}, "The model hevitpose_t has no option 'peow'"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_model(name, **options)


@pytest.mark.parametrize(
    ("options", "multiple"),
    [
        ({}, 32),
        ({"reductions": (4, 4, 2)}, 32),
        ({"reductions": (8, 4, 4)}, 64),
        ({"reductions": (1, 1, 1)}, 16),
        ({"reductions": (3, 1, 1)}, 48),
        ({"attention": "none"}, 16),
    ],
    ids=str,
)
def test_sides(options: dict[str, Any], multiple: int) -> None:
    with shapes_only():
        network = create_model("hevitpose_t", **(SMALL | options))
    height, width = 2 * multiple, 3 * multiple
    maps = network(torch.zeros(1, 3, height, width, device="meta"))["heatmaps"]
    assert maps.shape == (1, 17, height // 4, width // 4)
    message = f"width {width - 8}, but both sides must be multiples of {multiple}: use width {2 * multiple} or {width}"
    with pytest.raises(InputError, match=message):
        network(torch.zeros(1, 3, height, width - 8, device="meta"))
