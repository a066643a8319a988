"""SFM-R: its wiring and its attention against plain formulas, and what the paper says about cost."""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leanpose.errors import InputError
from leanpose.models import create_model
from leanpose.models.batch_norm import fold_batch_norm
from leanpose.models.counts import count_macs, count_parameters
from leanpose.models.layers import Auxiliary
from leanpose.models.sfm import (
    SFM,
    MeanAndMax,
    NonLocalAttention,
    ResidualBlock,
    SecondOrderAttention,
    _attention,
    _fuse,
)

FUSIONS = {"none": 9, "encoder_to_encoder": 14, "decoder_to_encoder": 13, "decoder_to_decoder": 14, "all": 23}
BLOCKS = ("basic", "dw_separable", "inverted_residual", "bottleneck")
FORMS = ("second_order", "single_map", "pooled_map", "non_local", "none")


def shaken(network: nn.Module) -> nn.Module:
    """Return a network in eval mode, in float64, whose norms and biases do something."""
    generator = torch.Generator().manual_seed(3)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.3, generator=generator)
        elif isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.normal_(layer.weight, 0, 0.3, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.3, generator=generator)
    return network.eval().double()


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- cost


def test_the_cost_is_that_of_the_paper_within_two_percent() -> None:
    network = SFM(num_keypoints=16)
    counts = count_macs(network, (256, 256))
    macs = counts["macs"] + 16 * 64 * 64 * 64  # and the first head, which eval mode leaves out
    assert macs == 1_708_496_128
    assert count_parameters(network) == pytest.approx(1.5e6, rel=0.02)
    assert macs == pytest.approx(1.7e9, rel=0.02)
    assert macs + counts["attention_macs"] == pytest.approx(1.7e9, rel=0.02)


def test_bridges_cost_nothing() -> None:
    networks = [SFM(16, bridges=bridges) for bridges in FUSIONS]
    costs = [(count_parameters(network), count_macs(network, (256, 256))) for network in networks]
    assert costs == len(FUSIONS) * [(1_505_544, {"macs": 1_704_301_824, "attention_macs": 10_625_024})]
    states = [[(key, value.shape) for key, value in network.state_dict().items()] for network in networks]
    assert all(state == states[0] for state in states)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        *(({"bridges": bridges}, expected) for bridges, expected in FUSIONS.items()),
        ({"levels": 3}, 13),
        ({"topology": "single_u"}, 24),
        ({"topology": "single_u", "bridges": "none"}, 4),
    ],
    ids=str,
)
def test_number_of_fusions(options: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(inputs: list[Tensor], fusion: str) -> Tensor:
        made.append(len(inputs) - 1)
        return _fuse(inputs, fusion)

    monkeypatch.setattr(sys.modules[SFM.__module__], "_fuse", counted)
    network = SFM(2, width=8, **options).eval()
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert network.num_fusions == sum(made) == expected


# ---- wiring


def down(features: Tensor) -> Tensor:
    height, width = features.shape[2:]
    padded = nn.functional.pad(features, (0, width % 2, 0, height % 2), value=-math.inf)
    return torch.stack([padded[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(dim=0)


def up(features: Tensor, like: Tensor) -> Tensor:
    rows, columns = (torch.arange(n) * m // n for n, m in zip(like.shape[2:], features.shape[2:], strict=True))
    return features[:, :, rows][:, :, :, columns]


def mean(*features: Tensor) -> Tensor:
    return torch.stack(features).mean(dim=0)


def cascade_by_formula(network: SFM, x0: Tensor, bridges: str) -> tuple[Tensor, Tensor]:
    """Both heads' heatmaps, node after node as the sheet of the network writes them."""
    (e_nodes1, d_nodes1), (e_nodes2, d_nodes2) = (
        (pyramid.encoder, pyramid.decoder) for pyramid in (network.pyramid1, network.pyramid2)
    )
    e1: dict[int, Tensor] = {}
    d1: dict[int, Tensor] = {}
    e2: dict[int, Tensor] = {}
    d2: dict[int, Tensor] = {}
    ee, de, dd = (bridges in (kind, "all") for kind in list(FUSIONS)[1:4])
    for level in range(5):
        e1[level] = e_nodes1[level](down(e1[level - 1]) if level else x0)
    d1[4] = d_nodes1[4](e1[4])
    for level in (3, 2, 1, 0):
        d1[level] = d_nodes1[level](mean(e1[level], up(d1[level + 1], e1[level])))
    e2[0] = e_nodes2[0](mean(x0, *[e1[0]] * ee, d1[0]))
    for level in (1, 2, 3, 4):
        e2[level] = e_nodes2[level](mean(down(e2[level - 1]), *[e1[level]] * ee, *[d1[level]] * de))
    d2[4] = d_nodes2[4](mean(e2[4], *[d1[4]] * dd))
    for level in (3, 2, 1, 0):
        d2[level] = d_nodes2[level](mean(e2[level], up(d2[level + 1], e2[level]), *[d1[level]] * dd))
    return network.head1(d1[0]), network.head2(d2[0])


@pytest.mark.parametrize("bridges", FUSIONS)
def test_cascade_equals_the_formula_also_where_sides_are_odd(bridges: str) -> None:
    torch.manual_seed(0)
    network = shaken(SFM(3, width=8, stem_width=4, bridges=bridges))
    inputs = images(1, 3, 384, 288).double()  # columns of the levels: 72, 36, 18, 9, 5
    with torch.no_grad():
        x0 = network.stem(inputs)
        first, last = cascade_by_formula(network, x0, bridges)
        assert x0.shape == (1, 8, 96, 72)
        assert first.shape == last.shape == (1, 3, 96, 72)
        found = network(inputs)
        assert list(found) == ["heatmaps"]
        torch.testing.assert_close(found["heatmaps"], last)
        network.training = True  # this module alone: norms stay in eval mode
        found = network(inputs)
        torch.testing.assert_close(found, {"heatmaps": last, "heatmaps_first": first})


def test_bridges_do_something() -> None:
    networks = [SFM(2, width=8, bridges=bridges).eval() for bridges in FUSIONS]
    for network in networks:
        network.load_state_dict(networks[0].state_dict())
    with torch.no_grad():
        maps = [network(images(1, 3, 64, 64))["heatmaps"] for network in networks]
    for one, other in itertools.combinations(maps, 2):
        assert (one - other).abs().max() > 0.01 * one.abs().max()


@pytest.mark.parametrize("bridges", ["all", "none"])
def test_single_u_equals_the_formula(bridges: str) -> None:
    torch.manual_seed(0)
    network = shaken(SFM(3, topology="single_u", width=8, blocks_per_node=2, bridges=bridges))
    inputs = images(1, 3, 96, 72).double()
    encoder, decoder = network.pyramid1.encoder, network.pyramid1.decoder
    with torch.no_grad():
        e: list[Tensor] = [encoder[0](network.stem(inputs))]
        d: dict[int, Tensor] = {}
        for level in (1, 2, 3, 4):
            e.append(encoder[level](down(e[-1])))
        for level in (4, 3, 2, 1, 0):
            sources = [e[level]]
            if bridges == "all":
                sources += [up(e[other], e[level]) for other in range(level + 1, 5)]
                for other in range(level):
                    features = e[other]
                    for _ in range(level - other):
                        features = down(features)
                    sources.append(features)
            if level < 4:
                sources.append(up(d[level + 1], e[level]))
            d[level] = decoder[level](mean(*sources))
        torch.testing.assert_close(network(inputs), {"heatmaps": network.head1(d[0])})
    assert network.auxiliary == {}
    assert list(network.train()(torch.randn(2, 3, 64, 64).double())) == ["heatmaps"]


def test_mean_fusion_keeps_activations_bounded_where_the_sum_explodes() -> None:
    spreads: dict[str, list[float]] = {}
    for fusion in ("mean", "sum"):
        torch.manual_seed(0)
        network = SFM(fusion=fusion)
        pyramids = network.pyramid1, network.pyramid2
        nodes = [pyramid.decoder[level] for pyramid in pyramids for level in (4, 0)]
        spread: list[float] = []
        spreads[fusion] = spread
        for node in nodes:
            node.register_forward_hook(lambda _, __, output, spread=spread: spread.append(output.std().item()))
        with torch.no_grad():
            network(images(4, 3, 128, 128))
    assert max(spreads["mean"]) < 8
    assert min(spreads["mean"]) > 0.5
    assert spreads["sum"][3] > 100


@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_add_their_input(block: str) -> None:
    torch.manual_seed(0)
    layer = ResidualBlock(8, block, expansion=2)
    nn.init.zeros_(layer.residual[-1].weight)
    features = images(2, 8, 5, 6)
    expected = features if block == "inverted_residual" else features.relu()
    torch.testing.assert_close(layer(features), expected)


# ---- attention


def maps_by_formula(norm_of_conv: nn.Sequential, features: Tensor) -> Tensor:
    conv, norm = norm_of_conv
    maps = torch.einsum("kc,bchw->bkhw", conv.weight[:, :, 0, 0], features)
    mean, var, weight, bias = (
        values[:, None, None] for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (maps - mean) / (var + norm.eps).sqrt() * weight + bias


def attended_by_formula(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(query . key / sqrt k) over the keys, pixel after pixel; all (B, k, H, W)."""
    batch, channels, height, width = queries.shape
    attended = torch.zeros_like(queries)
    for b, y, x in itertools.product(range(batch), range(height), range(width)):
        places = list(itertools.product(range(keys.shape[2]), range(keys.shape[3])))
        likeness = [
            math.exp(sum(queries[b, c, y, x] * keys[b, c, i, j] for c in range(channels)) / math.sqrt(channels))
            for i, j in places
        ]
        for (i, j), weight in zip(places, likeness, strict=True):
            attended[b, :, y, x] += weight / sum(likeness) * values[b, :, i, j]
    return attended


def halved_by_formula(maps: Tensor) -> Tensor:
    """Means of each 2x2 pixels; at an odd edge of those that are there."""
    halves = [range(0, side, 2) for side in maps.shape[2:]]
    rows = [
        torch.stack([maps[:, :, i : i + 2, j : j + 2].mean(dim=(2, 3)) for j in halves[1]], dim=2) for i in halves[0]
    ]
    return torch.stack(rows, dim=2)


@pytest.mark.parametrize("max_keys", [12, 15])
@pytest.mark.parametrize("form", FORMS[:3])
def test_second_order_attention_equals_the_formula(form: str, max_keys: int) -> None:
    torch.manual_seed(0)
    attention = shaken(_attention(form, width=8, channels=3, max_keys=max_keys))
    assert isinstance(attention, SecondOrderAttention)
    x = images(2, 8, 3, 5).double()
    with torch.no_grad():
        attention.gate.weight *= 20
        if form == "pooled_map":
            assert isinstance(attention.maps, MeanAndMax)
            m = torch.stack([x.sum(dim=1) / 8, x.max(dim=1).values], dim=1)
        else:
            m = maps_by_formula(attention.maps, x)
        assert m.shape[1] == {"second_order": 3, "single_map": 1, "pooled_map": 2}[form]
        mk = halved_by_formula(m) if max_keys < 15 else m
        a2 = attended_by_formula(m, mk, 1 / (1 + (-mk).exp()))
        logits = torch.einsum("k,bkhw->bhw", attention.gate.weight[0, :, 0, 0], a2) + attention.gate.bias
        gate = 1 / (1 + (-logits).exp())
        torch.testing.assert_close(attention(x), x + x * gate[:, None])
    assert logits.std() > 0.01  # otherwise any attention would do


@pytest.mark.parametrize("max_keys", [12, 15])
def test_non_local_attention_equals_the_formula(max_keys: int) -> None:
    torch.manual_seed(0)
    attention = _attention("non_local", width=8, channels=3, max_keys=max_keys)
    x = images(2, 8, 3, 5)
    torch.testing.assert_close(attention(x), x)  # at first
    shaken(attention)
    assert isinstance(attention, NonLocalAttention)
    x = x.double()
    with torch.no_grad():
        queries, keys, values = (maps_by_formula(part, x) for part in (attention.query, attention.key, attention.value))
        if max_keys < 15:
            keys, values = halved_by_formula(keys), halved_by_formula(values)
        attended = attended_by_formula(queries, keys, values)
        torch.testing.assert_close(attention(x), x + maps_by_formula(attention.project, attended))


def test_attention_stands_where_it_is_wanted() -> None:
    levels = {
        tuple(level for level in range(5) if isinstance(pyramid.decoder[level][1], SecondOrderAttention))
        for network in (SFM(), SFM(hsa_levels=(1, 2, 3, 4)))
        for pyramid in (network.pyramid1, network.pyramid2)
    }
    assert levels == {(1, 2, 3, 4)}
    deep = SFM(hsa_levels=[3, 4], hsa_channels=4)
    assert [type(node[1]) for node in deep.pyramid2.decoder] == 3 * [nn.Identity] + 2 * [SecondOrderAttention]
    assert deep.pyramid2.decoder[3][1].gate.in_channels == 4


# ---- training


def test_initialisation() -> None:
    torch.manual_seed(0)
    network = SFM(hsa="non_local")
    assert network.stem[0].weight.std().item() == pytest.approx(math.sqrt(2 / (32 * 9)), rel=0.1)
    for head in (network.head1, network.head2):
        assert head.weight.std().item() == pytest.approx(0.001, rel=0.1)
        assert not head.bias.any()
    last_norms = {network.pyramid1.decoder[1][1].project[1], network.pyramid2.decoder[4][1].project[1]}
    assert not any(norm.weight.any() for norm in last_norms)
    assert (network.pyramid1.encoder[0][0].residual[4].weight == 1).all()


def test_both_heads_teach_the_network() -> None:
    torch.manual_seed(0)
    network = SFM(3, width=16)
    assert network.auxiliary == {"heatmaps_first": Auxiliary(keypoints=None, weight=1.0)}
    inputs = images(2, 3, 64, 64)
    network(inputs)["heatmaps_first"].square().mean().backward()
    assert network.head1.weight.grad.abs().max() > 0
    assert network.stem[0].weight.grad.abs().max() > 0
    assert network.head2.weight.grad is None
    assert network.pyramid2.encoder[0][0].residual[0].weight.grad is None

    network.zero_grad()
    network(inputs)["heatmaps"].square().mean().backward()
    assert network.head1.weight.grad is None
    for name, parameter in network.named_parameters():
        if not name.startswith("head1."):
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("form", FORMS)
def test_mixed_precision_computes_about_the_same(form: str) -> None:
    torch.manual_seed(0)
    network = SFM(3, width=16, hsa=form)
    nn.init.normal_(network.head2.weight, std=0.1)
    inputs = images(2, 3, 96, 72)
    expected = network(inputs)["heatmaps"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(inputs)["heatmaps"]
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().mean() < 0.05 * expected.abs().mean()
    found.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for name, p in network.named_parameters() if not name.startswith("head1."))


# ---- options and files


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topology": "single"}, "Unknown topology 'single'. Did you mean 'single_u'?"),
        ({"bridges": "decoder_to_decode"}, "Unknown bridges 'decoder_to_decode'. Did you mean 'decoder_to_decoder'?"),
        ({"fusion": "concatenate"}, "Unknown fusion 'concatenate'. Known: mean, sum."),
        ({"block": "bottlenek"}, "Unknown block 'bottlenek'. Did you mean 'bottleneck'?"),
        ({"hsa": "nonlocal"}, "Unknown hsa 'nonlocal'. Did you mean 'non_local'?"),
        ({"topology": "single_u", "bridges": "decoder_to_decoder"}, "must be 'all' or 'none' in the topology"),
        ({"width": 60}, "width must be a multiple of 8, such as 64, not 60."),
        ({"width": 0}, "width must be a multiple of 8, such as 64, not 0."),
        ({"levels": 1}, "levels must be at least 2, not 1."),
        ({"blocks_per_node": 0}, "blocks_per_node must be at least 1, not 0."),
        ({"stem_width": 0}, "stem_width must be at least 1, not 0."),
        ({"expansion": 0}, "expansion must be at least 1, not 0."),
        ({"hsa_max_keys": 0}, "hsa_max_keys must be at least 1, not 0."),
        ({"levels": 4, "hsa_levels": [1, 4]}, "hsa_levels must lie between 0 and 3, not [1, 4]."),
        ({"hsa_levels": (-1,)}, "hsa_levels must lie between 0 and 4, not [-1]."),
        ({"hsa_channels": 0}, "hsa_channels must be at least 1"),
        ({"hsa": "pooled_map", "hsa_channels": 4}, "for hsa 'second_order' and 'non_local' only"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        create_model("sfm", **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        *({"hsa": form} for form in FORMS),
        *({"block": block, "blocks_per_node": 2} for block in BLOCKS[1:]),
        {"topology": "single_u"},
        {"fusion": "sum", "levels": 3, "bridges": "none"},
    ],
    ids=str,
)
def test_all_norms_can_be_folded(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = shaken(SFM(3, width=16, **options))
    folded = fold_batch_norm(network)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(images(1, 3, 96, 72).double()), network(images(1, 3, 96, 72).double()))


def test_onnx_computes_the_same() -> None:
    pytest.importorskip("onnxscript")
    ort = pytest.importorskip("onnxruntime")
    from leanpose.deploy.targets.onnx import to_onnx
    from leanpose.keypoint_sets import LSP
    from leanpose.weights.record import Weights

    torch.manual_seed(0)
    options = {"width": 16, "levels": 4, "hsa_max_keys": 40}  # level 1 with 9x5 pixels is pooled
    network = shaken(SFM(14, **options)).float()
    model = to_onnx(network, Weights("sfm.test", "sfm", (72, 40), LSP, model_options=options))
    session = ort.InferenceSession(model.SerializeToString())
    for count in (1, 3):
        inputs = images(count, 3, 72, 40)
        (found,) = session.run(["heatmaps"], {"images": inputs.numpy()})
        with torch.no_grad():
            expected = network(inputs)["heatmaps"].numpy()
        assert found.shape == (count, 14, 18, 10)
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
