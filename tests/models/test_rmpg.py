"""RMPG: sizes of its variants, identity at the start, relations against plain formulas, nodes, hosts, body parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support import shapes_only
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from leanpose.deploy.targets.onnx import to_onnx
from leanpose.errors import InputError
from leanpose.keypoint_sets import COCO, CROWDPOSE, MPII, KeypointSet
from leanpose.models import create_model, rmpg
from leanpose.models.batch_norm import fold_batch_norm
from leanpose.models.counts import count_parameters
from leanpose.models.layers import Auxiliary, ChannelNorm
from leanpose.models.rmpg import RMPG
from leanpose.models.rmpg_hierarchical import GROUPS, HierarchicalRMPG, rmpg_hierarchical
from leanpose.weights.record import Weights

RELATIONS = ["token", "position", "node", "none"]
CONTEXTS = ["bottom_up", "top_down"]
OF_256 = 3_105_024  # parameters of RMPG(256)


def make_random(network: nn.Module) -> None:
    """Give norms statistics and weights that do something, so that no graph is the identity; eval mode."""
    for module in network.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)


@pytest.mark.parametrize(
    ("branching", "of_256", "of_768"),
    [
        ((2,), 1_772_288, 15_933_696),
        ((2, 2), 2_659_840, 23_904_768),
        ((2, 2, 2), OF_256, 27_894_528),
        ((4, 4), 2_217_472, 19_923_456),
        ((2, 2, 2, 2), 3_329_024, 29_893_632),
    ],
    ids=str,
)
def test_parameters_by_branching(branching: tuple[int, ...], of_256: int, of_768: int) -> None:
    with shapes_only():
        assert count_parameters(RMPG(256, branching)) == of_256
        assert count_parameters(RMPG(768, list(branching))) == of_768


@pytest.mark.parametrize(
    ("channels", "options", "parameters"),
    [
        (32, {}, 49_440),
        (48, {}, 110_448),
        (128, {}, 778_368),
        (256, {"ffn_ratio": 4}, 4_027_904),
        (256, {"relation": "position"}, OF_256),
        (256, {"relation": "node"}, OF_256),
        (256, {"relation": "none"}, OF_256 - 18 * 256**2 * 7 // 4 - 6 * 256 * 3),  # no queries, no keys
        (256, {"context": "top_down"}, OF_256),
        (256, {"norm": "layer"}, OF_256),
        (256, {"conv_bias": False}, OF_256 - 3 * 256 * 3),
    ],
    ids=str,
)
def test_parameters_by_option(channels: int, options: dict, parameters: int) -> None:
    with shapes_only():
        assert count_parameters(RMPG(channels, **options)) == parameters


@pytest.mark.parametrize("ffn_ratio", [0, 4])
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("relation", RELATIONS)
def test_a_new_graph_is_the_identity(relation: str, context: str, ffn_ratio: int) -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 16, 20, 12)
    for norm in ("batch", "layer"):
        graph = RMPG(16, (2, 2, 2), relation, context, ffn_ratio, norm=norm)
        for training in (True, False):
            graph.train(training)
            assert torch.equal(graph(features), features)
    other = RMPG(16, (2, 2, 2), relation, context, ffn_ratio, zero_init=False)
    assert (other(features) - features).abs().max() > 0.1


def tokens(relation: str, shape: tuple[int, ...], num_slices: int) -> list[list[tuple]]:
    """Where the tokens of a map (C, H, W) lie: lists of indices that attend to one another."""
    width = shape[0] // num_slices
    parts = [slice(i * width, (i + 1) * width) for i in range(num_slices)]
    pixels = [(y, x) for y in range(shape[1]) for x in range(shape[2])]
    if relation == "node":
        return [[(part,) for part in parts]]
    if relation == "position":
        return [[(part, *pixel) for part in parts] for pixel in pixels]
    return [[(part, *pixel) for part in parts for pixel in pixels]]


def related(relation: str, query: np.ndarray, key: np.ndarray, value: np.ndarray, num_slices: int) -> np.ndarray:
    """Replace each token by the mean of the values, weighted by exp(query . key / sqrt(width))."""
    context = np.empty_like(query)
    of_maps = (tokens(relation, maps.shape, num_slices) for maps in (query, key))
    for queries, keys in zip(*of_maps, strict=True):
        for index in queries:
            token = query[index]
            weights = [math.exp((token * key[other]).sum() / math.sqrt(token.size)) for other in keys]
            total = sum(weight * value[other] for weight, other in zip(weights, keys, strict=True))
            context[index] = total / sum(weights)
    return context


def averaged(maps: np.ndarray, block: int) -> np.ndarray:
    """Average (C, H, W) over blocks of pixels; those at the edges are smaller."""
    rows, columns = (range(0, side, block) for side in maps.shape[1:])
    means = [[maps[:, y : y + block, x : x + block].mean(axis=(1, 2)) for x in columns] for y in rows]
    return np.array(means).transpose(2, 0, 1)


@pytest.mark.parametrize("num_slices", [2, 4])
@pytest.mark.parametrize("relation", RELATIONS)
def test_relation_against_plain_formula(relation: str, num_slices: int) -> None:
    torch.manual_seed(0)
    graph = RMPG(8, (num_slices,), relation, kv_grid=2).double()
    make_random(graph)
    if relation != "none":
        nn.init.constant_(graph.query[1].weight, 5)  # so that some tokens matter much more than others
    features = torch.randn(2, 8, 5, 3, dtype=torch.float64)
    with torch.no_grad():
        normed = graph.norm(features)
        value = graph.value(normed).numpy()
        if relation == "none":
            expected = value
        else:
            query, key = (conv(normed).numpy() for conv in (graph.query, graph.key))
            if relation == "token":  # 5x3 to 2x1
                key, value = (np.array([averaged(maps, 3) for maps in batch]) for batch in (key, value))
            images = zip(query, key, value, strict=True)
            expected = np.array([related(relation, *maps, num_slices) for maps in images])
        found = (graph(features) - features).numpy()
    assert np.abs(expected).max() > 0.2
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_feed_forward_part_against_plain_formula() -> None:
    torch.manual_seed(0)
    graph = RMPG(4, (2,), "none", ffn_ratio=3).double()
    make_random(graph)
    features = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    assert graph.ffn is not None
    norm, wide, _, narrow = graph.ffn
    with torch.no_grad():
        found = graph(features)
        maps = features + graph.value(graph.norm(features))
        hidden = torch.einsum("oi,bihw->bohw", wide.weight[:, :, 0, 0], norm(maps)) + wide.bias[:, None, None]
        assert hidden.shape == (2, 12, 3, 2)
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        expected = maps + torch.einsum("oi,bihw->bohw", narrow.weight[:, :, 0, 0], hidden) + narrow.bias[:, None, None]
    torch.testing.assert_close(found, expected)


def test_layer_norm_over_channels_of_each_pixel() -> None:
    torch.manual_seed(0)
    norm, features = ChannelNorm(6), 3 + 2 * torch.randn(2, 6, 3, 4)
    centered = features - features.mean(dim=1, keepdim=True)
    torch.testing.assert_close(norm(features), centered / (centered.square().mean(dim=1, keepdim=True) + 1e-5).sqrt())


def key_sizes(graph: RMPG, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return how many pixels the keys and values of a graph have on maps of some size."""
    found: set[int] = set()

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        assert query.shape[2] == 2 * math.prod(size)
        found.update((key.shape[2] // 2, value.shape[2] // 2))
        return torch.zeros_like(query)

    monkeypatch.setattr(rmpg, "scaled_dot_product_attention", attend)
    graph(torch.zeros(1, 8, *size))
    return found


@pytest.mark.parametrize(
    ("size", "kv_grid", "pooled"),
    [
        ((64, 48), 16, 16 * 12),
        ((64, 64), 16, 16 * 16),
        ((16, 12), 16, 16 * 12),
        ((17, 12), 16, 9 * 6),
        ((33, 40), 16, 11 * 14),
        ((64, 48), 8, 8 * 6),
        ((64, 48), None, 64 * 48),
    ],
    ids=str,
)
def test_keys_and_values_are_averaged_down_to_the_grid(
    size: tuple[int, int], kv_grid: int | None, pooled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert key_sizes(RMPG(8, kv_grid=kv_grid), size, monkeypatch) == {pooled}


def test_slices_keep_their_order() -> None:
    torch.manual_seed(0)
    graph = RMPG(16).eval()
    for i, part in enumerate(graph.parts):
        make_random(part)
        nn.init.zeros_(part.value[1].weight)
        nn.init.zeros_(part.value[1].bias)
        for j, leaf in enumerate(part.parts):
            nn.init.zeros_(leaf.value[1].weight)
            nn.init.constant_(leaf.value[1].bias, 10 * i + j)
    features = torch.randn(2, 16, 6, 4)
    added = (graph(features) - features)[0, :, 0, 0]
    expected = torch.tensor([0.0, 1, 10, 11]).repeat_interleave(4)
    torch.testing.assert_close(added, expected)


def test_nodes_by_path() -> None:
    torch.manual_seed(0)
    graph = RMPG(16)
    make_random(graph)
    features = torch.randn(2, 16, 6, 4)
    with torch.no_grad():
        nodes = graph.nodes(features)
        assert {path: maps.shape[1] for path, maps in nodes.items()} == {
            (): 16,
            (0,): 8,
            (1,): 8,
            (0, 0): 4,
            (0, 1): 4,
            (1, 0): 4,
            (1, 1): 4,
        }
        assert torch.equal(nodes[()], graph(features))
        torch.testing.assert_close(nodes[1,], graph.parts[1](features[:, 8:]))
        torch.testing.assert_close(nodes[1, 0], graph.parts[1].parts[0](features[:, 8:12]))
    assert set(RMPG(16, (4, 4)).nodes(features)) == {(), (0,), (1,), (2,), (3,)}


@pytest.mark.parametrize("context", CONTEXTS)
def test_where_the_context_comes_from(context: str) -> None:
    torch.manual_seed(0)
    graph = RMPG(16, context=context)
    make_random(graph)
    seen = []
    graph.norm.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    features = torch.randn(2, 16, 6, 4)
    with torch.no_grad():
        nodes = graph.nodes(features)
        refined = torch.cat([nodes[0,], nodes[1,]], dim=1)
        ((given, normed),) = seen
        assert torch.equal(given, refined if context == "bottom_up" else features)
        assert not torch.equal(refined, features)
        tokens = graph.query(normed), graph.key(normed), graph.value(normed)
        torch.testing.assert_close(nodes[()], refined + rmpg.RELATIONS["token"](*tokens, 2))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("relation", RELATIONS)
def test_a_gradient_reaches_every_parameter_after_one_step(relation: str, context: str) -> None:
    torch.manual_seed(0)
    graph = RMPG(16, (2, 2, 2), relation, context, ffn_ratio=4, kv_grid=4)
    features, target = torch.randn(2, 2, 16, 6, 4)

    def learning() -> set[str]:
        """Names of the parameters that have a gradient."""
        graph.zero_grad()
        (graph(features) - target).square().mean().backward()
        return {name for name, parameter in graph.named_parameters() if parameter.grad.abs().max() > 1e-12}

    names = [name for name, _ in graph.named_parameters()]
    assert learning() == {name for name in names if ".".join(name.split(".")[-3:-1]).endswith(("value.1", "ffn.3"))}
    torch.optim.SGD(graph.parameters(), lr=1.0).step()
    graph.eval()  # in train mode, a norm takes out the bias before it
    assert learning() == set(names)


@pytest.mark.parametrize("relation", RELATIONS[:3])
def test_softmax_is_float32_under_mixed_precision(relation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query, key, value = (factor * torch.randn(64, 8, 6, 5) for factor in (6, 6, 1))  # large products
    query, key, value = (maps.bfloat16().double() for maps in (query, key, value))

    def coarse(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        products = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        return products.softmax(dim=-1) @ value

    relate = rmpg.RELATIONS[relation]
    exact = relate(query, key, value, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = relate(query.float(), key.float(), value.float(), 2)
    assert found.dtype == torch.bfloat16
    monkeypatch.setattr(rmpg, "scaled_dot_product_attention", coarse)
    torch.testing.assert_close(relate(query, key, value, 2), exact)
    rounded = relate(query.bfloat16(), key.bfloat16(), value.bfloat16(), 2)
    assert (found - exact).square().mean() < (rounded - exact).square().mean() / 10


def test_mixed_precision() -> None:
    torch.manual_seed(0)
    graph = RMPG(16, ffn_ratio=2, kv_grid=4)
    make_random(graph)
    features = torch.randn(2, 16, 12, 10)
    expected = graph(features)
    with torch.autocast("cpu", torch.bfloat16):
        found = graph(features)
    found.sum().backward()
    assert 0 < (found - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("host", ["simple_baseline_50", "hourglass_52", "hrnet_w32", "vitpose_s"])
def test_stock_weights_of_the_host_give_the_same_heatmaps_at_first(host: str) -> None:
    torch.manual_seed(0)
    options = {"input_size": (64, 32)} if host.startswith("vitpose") else {}
    images = torch.randn(1, 3, *((128, 128) if host.startswith("hourglass") else (64, 32)))
    refined, plain = (create_model(name, **options).eval() for name in (f"{host}_rmpg", host))
    missing, unexpected = refined.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("refine.") for name in missing)
    with torch.no_grad():
        torch.testing.assert_close(refined(images), plain(images), rtol=0, atol=0)
        nn.init.ones_(refined.refine.value[1].weight)
        assert (refined(images)["heatmaps"] - plain(images)["heatmaps"]).abs().max() > 1e-4


def test_options_of_hosts() -> None:
    with shapes_only():
        stacked = create_model("hourglass_52_rmpg", num_keypoints=3, num_stacks=2, relation="node", branching=[2])
        vitpose = create_model("vitpose_s_rmpg", input_size=[64, 96], drop_path=0.5, context="top_down", ffn_ratio=1)
    assert list(stacked.auxiliary) == ["heatmaps_stack1"]
    assert (stacked.refine.relation, len(stacked.refine.parts)) == ("node", 0)
    assert vitpose.backbone.grid == (4, 6)
    assert (vitpose.refine.context, len(vitpose.refine.ffn)) == ("top_down", 4)


class WithoutBackbone(HierarchicalRMPG):
    """The hierarchical network on images that are only made smaller, without the layers that it then has no use for."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for name, _ in list(self.named_children()):
            if name not in ("neck", "supervised", "free", "final_layer", "heads"):
                delattr(self, name)

    def features(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 3, H/4, W/4)."""
        return avg_pool2d(images, 4)


def small_hierarchical() -> HierarchicalRMPG:
    """Return a network with a supervised graph and free ones of all relations."""
    torch.manual_seed(0)
    free = [
        RMPG(16, (2,), kv_grid=5),
        RMPG(16, (2,), "position", norm="layer"),
        RMPG(16, (2,), "node", "top_down", ffn_ratio=2),
    ]
    network = WithoutBackbone(3, 17, 16, [RMPG(16, relation="none")], free, GROUPS[17], (1, 1, 1))
    make_random(network)
    return network


def test_every_head_sees_its_node() -> None:
    network, images = small_hierarchical(), torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        network.training = True  # but not its norms
        outputs = network(images)
        nodes = network.supervised[0].nodes(network.neck(avg_pool2d(images, 4)))
        assert len(outputs) == 8
        for name, path in {
            **{"body": (), "upper": (0,), "lower": (1,)},
            **{"head": (0, 0), "arms": (0, 1), "left_leg": (1, 0), "right_leg": (1, 1)},
        }.items():
            expected = network.heads[f"heatmaps_{name}"](nodes[path])
            torch.testing.assert_close(outputs[f"heatmaps_{name}"], expected)
        torch.testing.assert_close(outputs["heatmaps"], network.final_layer(network.free(nodes[()])))


@pytest.mark.parametrize("keypoint_set", [COCO, CROWDPOSE, MPII], ids=lambda keypoint_set: keypoint_set.name)
def test_parts_of_the_body_by_name(keypoint_set: KeypointSet) -> None:
    with shapes_only():
        network = rmpg_hierarchical(len(keypoint_set), channels=8, width=8)
    names = set(keypoint_set.keypoints)
    arms = {name for name in names if name.endswith(("_shoulder", "_elbow", "_wrist"))}
    legs = {f"{side}_{joint}" for side in ("left", "right") for joint in ("hip", "knee", "ankle")}
    lower = legs | (names & {"pelvis"})
    expected = {
        "body": names,
        "upper": names - lower,
        "lower": lower,
        "head": names - lower - arms | {"left_shoulder", "right_shoulder"},
        "arms": arms,
        "left_leg": {name for name in legs if name.startswith("left_")},
        "right_leg": {name for name in legs if name.startswith("right_")},
    }
    weights = {"body": 1, "upper": 1 / 2, "lower": 1 / 2}
    assert list(network.auxiliary) == [f"heatmaps_{part}" for part in expected]
    for part, wanted in expected.items():
        keypoints, weight = network.auxiliary[f"heatmaps_{part}"]
        assert [*map(keypoint_set.keypoints.__getitem__, keypoints)] == [
            name for name in keypoint_set.keypoints if name in wanted
        ]
        assert weight == weights.get(part, 1 / 4)
        assert network.heads[f"heatmaps_{part}"].out_channels == len(wanted)


def test_options_of_the_hierarchical_network() -> None:
    groups = [[0, 1, 2], [3, 4], [0], [1, 2], [3], [4]]
    with shapes_only():
        of_five = rmpg_hierarchical(5, groups=groups, num_supervised=2, level_weights=[2, 0.5], channels=16, width=8)
        bare = rmpg_hierarchical(num_supervised=0, num_free=0)
    halves = Auxiliary((0, 1, 2), 0.25), Auxiliary((3, 4), 0.25)
    assert list(of_five.auxiliary.values()) == 2 * [Auxiliary((0, 1, 2, 3, 4), 2.0), *halves]
    assert list(of_five.auxiliary)[3:] == ["heatmaps_body_2", "heatmaps_upper_2", "heatmaps_lower_2"]
    assert (len(of_five.supervised), len(of_five.free)) == (2, 1)
    assert bare.auxiliary == {}
    assert count_parameters(bare) == 28_536_113 - 33 * 17 + 32 * 128 + 2 * 128 + 129 * 17


def test_export_computes_the_same_and_leaves_the_heads_out() -> None:
    network = small_hierarchical()
    for parameter in network.heads.parameters():
        nn.init.constant_(parameter, 0.125)
    model = to_onnx(network, Weights("a", "rmpg_hierarchical", (96, 64), COCO))
    assert [output.name for output in model.graph.output] == ["heatmaps"]
    stored = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    assert len([values for values in stored if values.ndim == 4]) > 15
    assert not [values for values in stored if values.size > 1 and (values == 0.125).all()]

    session = onnxruntime.InferenceSession(model.SerializeToString())
    for count in (1, 3):
        images = np.random.default_rng(0).standard_normal((count, 3, 96, 64)).astype(np.float32)
        (found,) = session.run(None, {"images": images})
        with torch.no_grad():
            expected = network(torch.from_numpy(images))["heatmaps"].numpy()
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "options", "left"),  # norms that are left, in each graph
    [
        ("simple_baseline_50_rmpg", {}, 2),
        ("vitpose_s_rmpg", {"input_size": (64, 96)}, 1),
        ("rmpg_hierarchical", {"width": 8}, 1),
    ],
)
def test_fold_batch_norm(name: str, options: dict, left: int) -> None:
    torch.manual_seed(0)
    network = create_model(name, **options).double()
    make_random(network)
    folded = fold_batch_norm(network)
    modules = list(folded.modules())
    norms, graphs = ([m for m in modules if isinstance(m, kind)] for kind in (nn.BatchNorm2d, RMPG))
    assert len(norms) == left * len(graphs) > 0
    images = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), network(images))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hrnet_w32_rmpg", {"branching": [3, 2]}, "branching [3, 2] needs channels in multiples of 6, not 32."),
        ("hrnet_w32_rmpg", {"branching": []}, "branching must be numbers of at least 2, such as 2, 2, 2, not []."),
        ("hrnet_w32_rmpg", {"branching": (2, 1)}, "branching must be numbers of at least 2"),
        (
            "hrnet_w32_rmpg",
            {"branchings": (2, 2)},
            "hrnet_w32_rmpg has no option 'branchings'. Did you mean 'branching'?",
        ),
        ("hrnet_w32_rmpg", {"refine": None}, "The model hrnet_w32_rmpg has no option 'refine'."),
        ("hourglass_52_rmpg", {"stacks": 2}, "hourglass_52_rmpg has no option 'stacks'. Did you mean 'num_stacks'?"),
        ("hrnet_w48_rmpg", {"relation": "tokens"}, "Unknown relation 'tokens'. Did you mean 'token'?"),
        ("vitpose_s_rmpg", {"context": "up"}, "Unknown context 'up'. Known: bottom_up, top_down."),
        ("vitpose_s_rmpg", {"input_size": (64, 100)}, "input_size must be a height and a width, multiples of 16"),
        ("simple_baseline_50_rmpg", {"norm": "group"}, "Unknown norm 'group'. Known: batch, layer."),
        ("simple_baseline_50_rmpg", {"ffn_ratio": -1}, "ffn_ratio must be at least 0, not -1."),
        ("hourglass_52_rmpg", {"kv_grid": 0}, "kv_grid must be at least 1, or none, not 0."),
        ("rmpg_hierarchical", {"channels": 100}, "branching [2, 2, 2] needs channels in multiples of 8, not 100."),
        ("rmpg_hierarchical", {"num_keypoints": 5}, "17, 16 or 14 keypoints, not of 5: give the option groups"),
        ("rmpg_hierarchical", {"groups": [[0]] * 5 + [[17]]}, "groups must be six lists of keypoints from 0 to 16"),
        ("rmpg_hierarchical", {"groups": [[0]] * 5}, "groups must be six lists of keypoints from 0 to 16"),
        ("rmpg_hierarchical", {"groups": [[0]] * 5 + [[]]}, "groups must be six lists of keypoints from 0 to 16"),
        ("rmpg_hierarchical", {"num_free": -1}, "num_supervised and num_free must be at least 0, not 1 and -1."),
        ("rmpg_hierarchical", {"level_weights": [1, -1]}, "level_weights must be at most three numbers of at least 0"),
        ("rmpg_hierarchical", {"level_weights": [1] * 4}, "level_weights must be at most three numbers of at least 0"),
    ],
    ids=str,
)
def test_wrong_option_is_refused(name: str, options: dict, message: str) -> None:
    with shapes_only(), pytest.raises(InputError) as caught:
        create_model(name, **options)
    assert message in str(caught.value)
