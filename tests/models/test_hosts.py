"""SimpleBaseline, Hourglass, HRNet and ViTPose: published names, and where a module can refine their features.

Sizes and gradients are tested with those of all other networks in test_models.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support import shapes_only
from torch import nn

from leanpose.errors import InputError
from leanpose.models import create_model, hourglass, hrnet, vitpose
from leanpose.models.batch_norm import fold_batch_norm
from leanpose.models.hourglass import Hourglass, HourglassModule, hourglass_52
from leanpose.models.hrnet import HRNet, HRNetBackbone
from leanpose.models.layers import Auxiliary
from leanpose.models.simple_baseline import SimpleBaseline
from leanpose.models.vitpose import Block, DropPath, ViTPose, vitpose_s
from leanpose.weights.record import Weights

# From the code and the configurations of the official repositories: names of tensors and their shapes.
STATE_SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "hrnet_w32": {
        "conv1.weight": (64, 3, 3, 3),
        "bn2.running_mean": (64,),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.3.conv3.weight": (256, 64, 1, 1),
        "transition1.0.0.weight": (32, 256, 3, 3),
        "transition1.1.0.0.weight": (64, 256, 3, 3),
        "stage2.0.branches.0.0.conv1.weight": (32, 32, 3, 3),
        "stage2.0.branches.1.3.bn2.weight": (64,),
        "stage2.0.fuse_layers.0.1.0.weight": (32, 64, 1, 1),
        "stage2.0.fuse_layers.1.0.0.0.weight": (64, 32, 3, 3),
        "transition2.2.0.0.weight": (128, 64, 3, 3),
        "stage3.3.fuse_layers.2.0.0.0.weight": (32, 32, 3, 3),
        "stage3.3.fuse_layers.2.0.0.1.weight": (32,),
        "stage3.3.fuse_layers.2.0.1.0.weight": (128, 32, 3, 3),
        "transition3.3.0.0.weight": (256, 128, 3, 3),
        "stage4.1.fuse_layers.3.0.2.1.num_batches_tracked": (),
        "stage4.2.fuse_layers.0.3.0.weight": (32, 256, 1, 1),
        "final_layer.weight": (17, 32, 1, 1),
        "final_layer.bias": (17,),
    },
    "hrnet_w48": {
        "transition1.1.0.0.weight": (96, 256, 3, 3),
        "stage4.2.branches.3.3.conv2.weight": (384, 384, 3, 3),
        "final_layer.weight": (17, 48, 1, 1),
    },
    "vitpose_b": {
        "backbone.pos_embed": (1, 193, 768),
        "backbone.patch_embed.proj.weight": (768, 3, 16, 16),
        "backbone.patch_embed.proj.bias": (768,),
        "backbone.blocks.0.norm1.weight": (768,),
        "backbone.blocks.0.attn.qkv.weight": (2304, 768),
        "backbone.blocks.0.attn.qkv.bias": (2304,),
        "backbone.blocks.11.attn.proj.weight": (768, 768),
        "backbone.blocks.11.norm2.bias": (768,),
        "backbone.blocks.11.mlp.fc1.weight": (3072, 768),
        "backbone.blocks.11.mlp.fc2.weight": (768, 3072),
        "backbone.last_norm.weight": (768,),
        "keypoint_head.deconv_layers.0.weight": (768, 256, 4, 4),
        "keypoint_head.deconv_layers.1.running_var": (256,),
        "keypoint_head.deconv_layers.3.weight": (256, 256, 4, 4),
        "keypoint_head.deconv_layers.4.bias": (256,),
        "keypoint_head.final_layer.weight": (17, 256, 1, 1),
        "keypoint_head.final_layer.bias": (17,),
    },
    "vitpose_s": {
        "backbone.pos_embed": (1, 193, 384),
        "backbone.blocks.11.mlp.fc1.weight": (1536, 384),
        "keypoint_head.deconv_layers.0.weight": (384, 256, 4, 4),
    },
}


@pytest.mark.parametrize("name", STATE_SHAPES)
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    with shapes_only():
        state = create_model(name).state_dict()
    assert {key: tuple(state[key].shape) for key in STATE_SHAPES[name] if key in state} == STATE_SHAPES[name]


def test_the_last_stage_of_hrnet_forms_its_highest_resolution_alone() -> None:
    with shapes_only():
        state = create_model("hrnet_w32").state_dict()
    assert not [key for key in state if key.startswith("stage4.2.fuse_layers.") and key.split(".")[3] != "0"]
    fused = {key.split(".")[3] for key in state if key.startswith("stage4.1.fuse_layers.")}
    assert fused == {"0", "1", "2", "3"}


def test_hrnet_features_are_those_before_the_last_convolution() -> None:
    torch.manual_seed(0)
    network = HRNet(8, num_keypoints=5).eval()
    backbone = HRNetBackbone(8).eval()
    backbone.load_state_dict({key: value for key, value in network.state_dict().items() if "final" not in key})
    images = torch.randn(1, 3, 64, 96)
    features = backbone.features(images)
    assert features.shape == (1, 8, 16, 24)
    torch.testing.assert_close(network.final_layer(features), network(images)["heatmaps"])
    assert features.amax(dim=(1, 2, 3)).item() > 0
    with pytest.raises(InputError, match="width 80, but both sides must be multiples of 32"):
        backbone.features(torch.zeros(1, 3, 64, 80))


@pytest.mark.parametrize(
    ("host", "channels", "size", "map_size"),
    [
        (lambda refine: SimpleBaseline((1, 1, 1, 1), 5, refine), 256, (64, 96), (16, 24)),
        (lambda refine: Hourglass(5, 2, refine), 256, (128, 128), (32, 32)),
        (lambda refine: HRNet(32, 5, refine), 32, (64, 96), (16, 24)),
        (lambda refine: ViTPose(384, 5, input_size=(64, 96), refine=refine), 384, (64, 96), (4, 6)),
    ],
    ids=["simple_baseline", "hourglass", "hrnet", "vitpose"],
)
def test_a_module_can_refine_the_features(
    host: Callable[[nn.Module | None], nn.Module],
    channels: int,
    size: tuple[int, int],
    map_size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hourglass, "WIDTHS", (256, *(8,) * 5))  # smaller, but for the refined features
    monkeypatch.setattr(hourglass, "BLOCKS", (1,) * 6)
    torch.manual_seed(0)
    refine = nn.Conv2d(channels, channels, kernel_size=1)
    nn.init.constant_(refine.weight, 3.0)
    nn.init.constant_(refine.bias, 2.0)
    seen = []
    refine.register_forward_hook(lambda _, inputs, output: seen.extend([*inputs, output]))
    network, stock = host(refine), host(None)
    head = network.keypoint_head if isinstance(network, ViTPose) else network.final_layer
    head.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    assert (refine.weight == 3.0).all()
    assert (refine.bias == 2.0).all()  # the host initialises its own parameters only

    names = list(network.state_dict())
    assert [name for name in names if not name.startswith("refine.")] == list(stock.state_dict())
    last = min(i for i, name in enumerate(names) if name.startswith(("final_layer.", "keypoint_head.")))
    assert names[last - 2 : last] == ["refine.weight", "refine.bias"]

    images = torch.randn(2, 3, *size)
    network(images)["heatmaps"].sum().backward()
    assert [features.shape for features in seen] == [(2, channels, *map_size)] * 3
    assert seen[2] is seen[1]  # nothing stands between it and the head
    assert refine.weight.grad.abs().max() > 0

    nn.init.dirac_(refine.weight)
    nn.init.zeros_(refine.bias)
    stock.load_state_dict({name: value for name, value in network.state_dict().items() if "refine" not in name})
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images)["heatmaps"], stock.eval()(images)["heatmaps"])


def test_stacked_hourglasses_learn_from_early_heatmaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hourglass, "WIDTHS", (8,) * 6)
    monkeypatch.setattr(hourglass, "BLOCKS", (1,) * 6)
    torch.manual_seed(0)
    network = hourglass_52(num_keypoints=5, num_stacks=3)
    assert network.auxiliary == {"heatmaps_stack1": Auxiliary(), "heatmaps_stack2": Auxiliary()}
    assert hourglass_52().auxiliary == {}
    images = torch.randn(2, 3, 128, 128)
    outputs = network(images)
    assert list(outputs) == ["heatmaps", "heatmaps_stack1", "heatmaps_stack2"]
    assert {maps.shape for maps in outputs.values()} == {(2, 5, 32, 32)}
    outputs["heatmaps_stack1"].square().sum().backward()
    assert network.hourglasses[0][1].weight.grad.abs().max() > 0
    assert network.hourglasses[1][1].weight.grad is None
    network.zero_grad()
    network(images)["heatmaps"].square().sum().backward()
    assert network.hourglasses[0][1].weight.grad.abs().max() > 0  # through the stacks that follow
    assert network.early_layers[0].weight.grad is None  # heatmaps are not fed on
    assert list(network.eval()(images)) == ["heatmaps"]
    with pytest.raises(InputError, match="num_stacks must be at least 1, not 0"):
        hourglass_52(num_stacks=0)


def test_an_hourglass_joins_all_sizes() -> None:
    torch.manual_seed(0)
    module = HourglassModule((4, 4, 6), (1, 1, 1)).eval()
    features = torch.randn(1, 4, 8, 8)
    sizes = []
    for level in (module.across, module.inside.across, module.inside.inside):
        level.register_forward_hook(lambda _, inputs, output: sizes.append(tuple(output.shape)))
    assert module(features).shape == features.shape
    assert sorted(sizes) == [(1, 4, 4, 4), (1, 4, 8, 8), (1, 6, 2, 2)]


def test_a_block_of_vitpose_computes_what_that_of_torch_does() -> None:
    torch.manual_seed(0)
    block = Block(24, num_heads=3, drop_path=0.0).double()
    options = {"dropout": 0.0, "activation": "gelu", "layer_norm_eps": 1e-6, "batch_first": True, "norm_first": True}
    expected = nn.TransformerEncoderLayer(24, 3, 96, **options).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    names = {
        **{"attn.qkv.weight": "self_attn.in_proj_weight", "attn.qkv.bias": "self_attn.in_proj_bias"},
        **{"attn.proj.weight": "self_attn.out_proj.weight", "attn.proj.bias": "self_attn.out_proj.bias"},
    }
    state = {
        names.get(name, name).replace("mlp.fc1", "linear1").replace("mlp.fc2", "linear2"): value
        for name, value in block.state_dict().items()
    }
    expected.load_state_dict(state)
    tokens = torch.randn(2, 7, 24, dtype=torch.float64)
    torch.testing.assert_close(block(tokens), expected(tokens))


@pytest.fixture
def embedding() -> nn.Module:
    """Return a backbone for 64x48 that gives its tokens as they are before the first block, in double precision."""
    torch.manual_seed(0)
    backbone = vitpose_s(input_size=(64, 48)).backbone.double()
    backbone.blocks = nn.Sequential()
    backbone.last_norm = nn.Identity()  # type: ignore[assignment]
    return backbone


def test_every_patch_gets_its_place_and_that_of_the_class_token(embedding: nn.Module) -> None:
    nn.init.zeros_(embedding.patch_embed.proj.bias)
    places = embedding.pos_embed[0]
    assert places.shape == (1 + 4 * 3, 384)
    features = embedding(torch.zeros(1, 3, 64, 48, dtype=torch.float64))[0]  # (384, 4, 3)
    for row in range(4):
        for column in range(3):
            torch.testing.assert_close(features[:, row, column], places[1 + 3 * row + column] + places[0])


def test_patches_of_vitpose_begin_two_pixels_early(embedding: nn.Module) -> None:
    images = torch.zeros(1, 3, 64, 48, dtype=torch.float64, requires_grad=True)
    embedding(images)[0, :, 1, 2].sum().backward()
    rows, columns = images.grad[0, 0].nonzero().T
    assert (rows.unique().tolist(), columns.unique().tolist()) == ([*range(14, 30)], [*range(30, 46)])
    images.grad = None
    embedding(images)[0, :, 0, 0].sum().backward()  # beyond the edge there is nothing
    rows, columns = images.grad[0, 0].nonzero().T
    assert (rows.unique().tolist(), columns.unique().tolist()) == ([*range(14)], [*range(14)])


def test_drop_path_leaves_out_samples_in_train_mode_only() -> None:
    torch.manual_seed(0)
    residual = torch.randn(1000, 2, 3)
    layer = DropPath(0.25)
    factors = layer(residual) / residual
    assert ((factors == 0) | ((factors - 4 / 3).abs() < 1e-5)).all()
    dropped = (factors == 0).flatten(1)
    assert (dropped.all(1) == dropped.any(1)).all()
    assert dropped.all(1).float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert layer.eval()(residual) is residual
    assert DropPath(0.0).train()(residual) is residual


def test_drop_path_of_vitpose() -> None:
    torch.manual_seed(0)
    network = vitpose_s(num_keypoints=5, drop_path=0.3, input_size=(32, 32))
    rates = [block.drop_path.rate for block in network.backbone.blocks]
    assert rates == pytest.approx([0.3 * block / 11 for block in range(12)])
    images = torch.randn(4, 3, 32, 32)
    features = network.backbone
    with torch.no_grad():
        assert not torch.equal(features(images), features(images))
        network.eval()
        assert torch.equal(features(images), features(images))
        stock = vitpose_s(num_keypoints=5, input_size=(32, 32))
        stock.load_state_dict(network.state_dict())
        torch.testing.assert_close(stock.train().backbone(images), features(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_path": 1.0}, "drop_path must be at least 0 and below 1, not 1.0."),
        ({"drop_path": -0.1}, "drop_path must be at least 0 and below 1, not -0.1."),
        ({"input_size": (256, 200)}, "input_size must be a height and a width, multiples of 16, not (256, 200)."),
        ({"input_size": [256]}, "input_size must be a height and a width, multiples of 16, not [256]."),
        ({"input_size": (0, 192)}, "input_size must be a height and a width, multiples of 16, not (0, 192)."),
    ],
)
def test_wrong_options_of_vitpose_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        create_model("vitpose_s", **options)
    assert str(caught.value) == message


def test_vitpose_refuses_images_of_another_size() -> None:
    network = create_model("vitpose_s", input_size=[64, 48])
    message = r"The network input is 48x64, but .* made for 64x48: .* option input_size=\(48, 64\)\."
    with pytest.raises(InputError, match=message):
        network(torch.zeros(1, 3, 48, 64))


def test_depths_of_vitpose() -> None:
    network = ViTPose(384, refine=nn.Conv2d(384, 384, kernel_size=1))
    assert network.num_depths == 14
    depths = {name: network.depth_of(name) for name, _ in network.named_parameters()}
    assert set(depths.values()) == set(range(14))
    assert depths["backbone.pos_embed"] == depths["backbone.patch_embed.proj.bias"] == 0
    assert depths["backbone.blocks.0.norm1.weight"] == 1
    assert depths["backbone.blocks.11.mlp.fc2.bias"] == 12
    rest = ("backbone.last_norm.weight", "refine.weight", "keypoint_head.deconv_layers.0.weight")
    assert {depths[name] for name in rest} == {13}


@pytest.mark.parametrize("name", ["hourglass_52", "hrnet_w32", "vitpose_s"])
def test_norms_fold_and_onnx_computes_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    from leanpose.deploy.targets.onnx import to_onnx

    monkeypatch.setattr(hourglass, "WIDTHS", (8, 8, 16, 16, 16, 24))  # the same networks, but less of everything
    monkeypatch.setattr(hourglass, "BLOCKS", (1,) * 6)
    monkeypatch.setattr(hrnet, "BLOCKS", 1)
    monkeypatch.setattr(hrnet, "MODULES", (1, 1, 2))
    monkeypatch.setattr(vitpose, "DEPTH", 2)
    size = (128, 128) if name == "hourglass_52" else (64, 96)
    options = {"hourglass_52": {"num_stacks": 2}, "vitpose_s": {"input_size": [64, 96]}}.get(name, {})
    torch.manual_seed(0)
    network = create_model(name, **options).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    images = torch.randn(3, 3, *size)
    with torch.no_grad():
        expected = network(images)["heatmaps"]
        folded = fold_batch_norm(network)
        torch.testing.assert_close(folded(images)["heatmaps"], expected, rtol=0, atol=1e-5 * expected.abs().max())
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]

    model = to_onnx(network, Weights(name, name, size, model_options=options))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for count in (1, 3):
        found = session.run(["heatmaps"], {"images": images[:count].numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), expected[:count], rtol=0, atol=1e-4 * expected.abs().max())
