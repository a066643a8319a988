"""RTMPose: published counts, the published file's outputs, and the way from an ONNX file to training."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import torch  # noqa: E402
from support import PUBLIC_FILES, needs, shapes_only  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import leanpose.deploy.quantize as quantize_module  # noqa: E402
from leanpose.deploy.quantize import quantize  # noqa: E402
from leanpose.deploy.targets.onnx import to_onnx  # noqa: E402
from leanpose.errors import InputError, WeightsError  # noqa: E402
from leanpose.inference.engines import OnnxRuntimeEngine, load_engine  # noqa: E402
from leanpose.inference.preprocess import box_inputs  # noqa: E402
from leanpose.io.images import read_image  # noqa: E402
from leanpose.keypoint_sets import COCO, HALPE26, LSP, KeypointSet  # noqa: E402
from leanpose.models import create_model  # noqa: E402
from leanpose.models.batch_norm import fold_batch_norm, measure_batch_norm, unmeasured_norms  # noqa: E402
from leanpose.models.checkpoints import convert, load_network, load_start, save_network  # noqa: E402
from leanpose.models.counts import count_macs, count_parameters  # noqa: E402
from leanpose.models.onnx_layers import read_onnx_layers  # noqa: E402
from leanpose.networks import NETWORKS, list_models  # noqa: E402
from leanpose.weights.record import Weights  # noqa: E402

PUBLISHED = PUBLIC_FILES / "rtmpose-s_simcc-body7_pt-body7-halpe26_700e-256x192-7f134165_20230605.onnx"
ASTRONAUT = Path(__file__).parents[2] / "docs" / "assets" / "astronaut.png"
SMALL = Weights(
    "rtmpose_t.halpe26_64x32", "rtmpose_t", (64, 32), HALPE26, convention="classic", codec="simcc",
    model_options={"width": 0.125, "input_size": [64, 32]},
)  # fmt: skip


def small_network(seed: int = 0, keypoint_set: KeypointSet = HALPE26) -> nn.Module:
    """Return a narrow RTMPose in evaluation mode whose norms and vectors do something."""
    torch.manual_seed(seed)
    network = create_model(SMALL.model, len(keypoint_set), **SMALL.model_options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    for name, parameter in network.head.named_parameters():
        if name.endswith((".g", ".scale", ".gamma", ".beta")):
            nn.init.uniform_(parameter, 0.5, 1.5)
    nn.init.normal_(network.head.final_layer.bias)
    return network.eval()


def noise(count: int = 2, size: tuple[int, int] = (64, 32)) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def outputs(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    with torch.inference_mode():
        return network(images)


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=tolerance)


def annotated() -> dict[str, Any]:
    """One person of the photograph, in COCO's form."""
    height, width = read_image(ASTRONAUT).shape[:2]
    person = {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [60, 0, 340, 511], "iscrowd": 0, "area": 80_000,
        "num_keypoints": 26, "keypoints": [200, 200, 2] * 26,
    }  # fmt: skip
    return {
        "images": [{"id": 1, "file_name": ASTRONAUT.name, "width": width, "height": height}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person", "keypoints": list(HALPE26.keypoints), "skeleton": []}],
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network as an ONNX file."""
    pytest.importorskip("onnxscript")
    file = tmp_path_factory.mktemp("rtmpose") / "small.onnx"
    onnx.save(to_onnx(small_network(), SMALL), file)
    return file


@pytest.mark.parametrize("name", list_models("rtmpose_*"))
def test_counts_are_the_published_ones(name: str) -> None:
    """The published multiply-adds are ours and two for each value that a norm gives."""
    norm_values = 0

    def count(_: nn.Module, inputs: tuple[Tensor]) -> None:
        nonlocal norm_values
        norm_values += inputs[0].numel()

    with shapes_only():
        network = create_model(name)
        macs = sum(count_macs(network, (256, 192)).values())
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_pre_hook(count)
        network(torch.zeros(1, 3, 256, 192))
    published = NETWORKS[name].published
    assert f"{count_parameters(network) / 1e6:.2f} M" == published.parameters
    assert f"{(macs + 2 * norm_values) / 1e9:.2f} G" == published.flops


@needs(PUBLISHED)
def test_outputs_are_those_of_the_published_file() -> None:
    network, record = load_network(PUBLISHED)
    assert (record.name, record.model, record.model_options) == ("rtmpose_s_26", "rtmpose_s", {})
    boxes = np.array([[120, 40, 380, 500], [0, 0, 512, 512], [180, 60, 300, 220]], np.float32)
    crops, _ = box_inputs(read_image(ASTRONAUT), boxes, record)
    images = torch.cat([torch.from_numpy(crops), noise(1, (256, 192))])
    expected = {name: torch.from_numpy(v) for name, v in load_engine(PUBLISHED, threads=1)(images.numpy()).items()}
    assert expected["simcc_x"].max() > 0.5
    assert_near(outputs(network, images), expected, 1e-4)

    assert len(unmeasured_norms(network)) == 39
    measure_batch_norm(network, images.split(2))
    assert not unmeasured_norms(network)
    assert network.backbone.stem[0].bn.running_var.std() > 0.01
    assert_near(outputs(network, images), expected, 1e-4)


@needs(PUBLISHED)
def test_the_published_file_holds_our_parameters() -> None:
    values = [tensor for tensor in onnx.load(PUBLISHED).graph.initializer if tensor.data_type == 1 and tensor.dims]
    network = create_model("rtmpose_s", 26)
    assert sum(np.prod(tensor.dims) for tensor in values) == count_parameters(fold_batch_norm(network))


@needs(PUBLISHED)
def test_the_published_file_is_converted(tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    record = convert(str(PUBLISHED), out=str(out))
    assert (record.name, record.keypoint_set) == ("rtmpose_s.halpe26_256x192_published", HALPE26)
    network, stored = load_network(out)
    assert stored.to_metadata() == record.to_metadata()
    images = noise(1, (256, 192))
    assert_near(outputs(network, images), outputs(load_network(PUBLISHED)[0], images), 0)
    assert len(unmeasured_norms(network)) == 39  # training measures them


def test_an_exported_network_comes_back(exported: Path, tmp_path: Path) -> None:
    expected = outputs(small_network(), noise())
    engine = {name: torch.from_numpy(v) for name, v in OnnxRuntimeEngine(exported, threads=1)(noise().numpy()).items()}
    assert_near(engine, expected, 1e-4)
    network, record = load_network(exported)
    assert record == SMALL
    assert_near(outputs(network, noise()), expected, 1e-4)
    convert(str(exported), out=str(tmp_path / "a.safetensors"))
    assert_near(outputs(load_network(tmp_path / "a.safetensors")[0], noise()), expected, 1e-4)
    with pytest.raises(InputError, match="says which network and keypoints it has: leave the options out"):
        convert(str(exported), model="rtmpose_t", out=str(tmp_path / "a.safetensors"))


def test_an_exported_network_is_quantised(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faster_coco_eval")
    monkeypatch.setattr(quantize_module, "TIMED_RUNS", 1)
    monkeypatch.setattr(quantize_module, "measure", lambda *_, **__: ({"AP": 0.5}, []))
    (tmp_path / "a.json").write_text(json.dumps(annotated()))
    shutil.copy(ASTRONAUT, tmp_path)
    out = tmp_path / "int8.onnx"
    report = quantize(str(exported), data=str(tmp_path / "a.json"), images=str(tmp_path), out=str(out), samples=1)
    assert not report.float_layers
    types = {node.op_type for node in onnx.load(out).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "MatMul"} <= types
    expected, found = (OnnxRuntimeEngine(file, threads=1)(noise().numpy()) for file in (exported, out))
    for name, values in expected.items():
        correlation = np.corrcoef(values.ravel(), found[name].ravel())[0, 1]
        assert 0.9 < correlation < 0.999999, name


@pytest.mark.parametrize("options", [{"width": 0.25}, {"depth": 0.67}, {"input_size": [32, 64]}], ids=str)
def test_the_onnx_file_of_another_network_is_refused(options: dict, exported: Path) -> None:
    network = create_model("rtmpose_t", 26, **SMALL.model_options | options).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(WeightsError, match=r"small\.onnx holds another network than this RTMPose"):
        read_onnx_layers(network, exported, network.input_size)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_layers_in_another_order_are_refused(exported: Path, tmp_path: Path) -> None:
    """Both halves of a stage have kernels of one shape; a file that runs the other one first is noticed."""
    model = onnx.load(exported)
    nodes = list(model.graph.node)
    first, second = (
        next(i for i, node in enumerate(nodes) if node.op_type == "Conv" and f"stage1.1.{name}" in node.input[1])
        for name in ("short_conv", "main_conv")
    )
    nodes.insert(first, nodes.pop(second))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for node in nodes:  # as files of others, without our names
        node.input[:] = [name.replace("backbone", "body") for name in node.input]
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("backbone", "body")
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(WeightsError, match=r"a\.onnx holds another network than this RTMPose"):
        load_network(tmp_path / "a.onnx")


def test_unusable_onnx_files(tmp_path: Path, exported: Path) -> None:
    with pytest.raises(WeightsError, match="There is no file"):
        read_onnx_layers(small_network(), tmp_path / "absent.onnx", (64, 32))
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="is not a usable onnx file"):
        read_onnx_layers(small_network(), tmp_path / "cut.onnx", (64, 32))
    other = onnx.load(exported)
    record = dataclasses.replace(SMALL, model="rtmw_l")
    onnx.helper.set_model_props(other, record.to_metadata())
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match="is of the network rtmw_l, which is none of ours"):
        load_network(tmp_path / "other.onnx")


def test_a_published_checkpoint_is_converted(tmp_path: Path) -> None:
    network = create_model("rtmpose_t", 26, input_size=(384, 288)).eval()
    torch.save({"meta": {"epoch": 420}, "state_dict": network.state_dict()}, tmp_path / "a.pth")
    out = tmp_path / "a.safetensors"
    record = convert(str(tmp_path / "a.pth"), model="rtmpose_t", out=str(out), input_size=(384, 288))
    assert (record.name, record.keypoint_set) == ("rtmpose_t.halpe26_384x288_published", HALPE26)
    assert (record.codec, record.codec_options, record.convention) == ("simcc", {"sigma": [6.0, 6.93]}, "classic")
    assert_near(outputs(load_network(out)[0], noise(1, (384, 288))), outputs(network, noise(1, (384, 288))), 0)
    with pytest.raises(InputError, match="Give --model with the name of the network"):
        convert(str(tmp_path / "a.pth"), out=str(out))


OWN = KeypointSet("own", ("tail", "Right-Knee", "nose"), (), "test")


@pytest.mark.parametrize(("target", "absent"), [(COCO, []), (LSP, []), (OWN, ["tail"])], ids=["coco", "lsp", "own"])
def test_keypoints_of_the_same_name_keep_their_rows(target: KeypointSet, absent: list[str], tmp_path: Path) -> None:
    source, network = small_network(), small_network(1, target)
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    file = tmp_path / "a.safetensors"
    save_network(file, source, SMALL)
    load_start(network, file, dataclasses.replace(SMALL, keypoint_set=target))
    spelling = {"top_head": "head", "Right-Knee": "right_knee"}
    for kind in ("weight", "bias"):
        theirs, ours = (getattr(one.head.final_layer, kind) for one in (source, network))
        for i, name in enumerate(target.keypoints):
            row = fresh[f"head.final_layer.{kind}"][i]
            if name not in absent:
                row = theirs[HALPE26.keypoints.index(spelling.get(name, name))]
            assert torch.equal(ours[i], row)
    assert torch.equal(network.head.gau.uv.weight, source.head.gau.uv.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": (256, 200)}, r"input_size must be a height and a width, multiples of 32, not \(256, 200\)"),
        ({"input_size": (256,)}, "input_size must be"),
        ({"width": 0.01}, "width must be at least 1/32"),
        ({"depth": 0}, "and depth above 0"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_model("rtmpose_t", **options)


def test_other_input_sizes_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"input is 64x64, but this network was made for 64x32: .*input_size=\(64, 64\)"
    ):
        small_network()(torch.zeros(1, 3, 64, 64))
