"""int8: accuracy is kept, layers are left in float where it is not, and the file tells."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import torch  # noqa: E402

import leanpose.deploy.int8 as int8  # noqa: E402
import leanpose.deploy.quantize as quantize_module  # noqa: E402
from leanpose.commands.cli import main  # noqa: E402
from leanpose.deploy.quantize import REPORT_KEY, quantize  # noqa: E402
from leanpose.errors import InputError, WeightsError  # noqa: E402
from leanpose.inference.engines import load_engine  # noqa: E402
from leanpose.inference.predictor import Predictor  # noqa: E402
from leanpose.io.images import read_image  # noqa: E402
from leanpose.models import create_model, lpn  # noqa: E402
from leanpose.models.checkpoints import load_network, save_network  # noqa: E402
from leanpose.weights.catalogue import find_weights, read_record  # noqa: E402
from leanpose.weights.record import Weights  # noqa: E402

PHOTO = Path(__file__).parents[2] / "docs" / "assets" / "astronaut.png"
BOX = [60.0, 0.0, 400.0, 511.0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of lpn50 for smaller inputs, which is quicker."""
    network, record = load_network(find_weights("lpn50", ".safetensors"))
    file = tmp_path_factory.mktemp("model") / "lpn50.small.safetensors"
    save_network(file, network, replace(record, name=file.stem, input_size=(192, 144)))
    return str(file)


@pytest.fixture(scope="module", autouse=True)
def little_work() -> Iterator[None]:
    """Translate each network and rank its layers once, which takes most of the time, and time few runs."""
    translated: dict[str, Any] = {}
    ranked: dict[str, list[str]] = {}
    translate, rank = quantize_module.to_onnx, quantize_module.most_harmful

    def once(network: torch.nn.Module, weights: Weights) -> Any:
        if weights.name not in translated:
            translated[weights.name] = translate(network, weights)
        return translated[weights.name]

    def rank_once(prepared: Path, inputs: Any) -> list[str]:
        name = read_record(prepared).name
        if name not in ranked:
            ranked[name] = rank(prepared, inputs)
        return ranked[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize_module, "to_onnx", once)
        patch.setattr(quantize_module, "most_harmful", rank_once)
        patch.setattr(quantize_module, "TIMED_RUNS", 3)
        yield


@pytest.fixture(scope="module")
def photo_set(model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The photograph, annotated with what the float32 network finds: its AP there is 1."""
    poses = Predictor(model, engine="torch")(PHOTO, BOX)
    triples = np.concatenate([poses.keypoints[0], np.full((17, 1), 2.0)], axis=1)
    x1, y1, x2, y2 = BOX
    height, width = read_image(PHOTO).shape[:2]
    content = {
        "images": [{"id": 1, "file_name": PHOTO.name, "width": width, "height": height}],
        "annotations": [
            {
                "id": 1, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1], "iscrowd": 0,
                "area": 0.5 * (x2 - x1) * (y2 - y1), "num_keypoints": 17, "keypoints": triples.ravel().tolist(),
            }
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(poses.keypoint_set.keypoints), "skeleton": []}],
    }  # fmt: skip
    file = tmp_path_factory.mktemp("photo") / "photo.json"
    file.write_text(json.dumps(content))
    return {"data": str(file), "images": str(PHOTO.parent)}


@pytest.fixture(scope="module")
def quantized(model: str, photo_set: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An int8 file of lpn50, and what the command printed."""
    out = tmp_path_factory.mktemp("out") / "lpn50_int8.onnx"
    words = ["quantize", model, "--data", photo_set["data"], "--images", photo_set["images"], "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        printed: list[Any] = []
        patch.setattr("builtins.print", lambda *values, **_: printed.extend(values))
        assert main([*words, "--max-drop", "20"]) == 0
    return out, "\n".join(map(str, printed))


def test_weights_are_bytes_and_heatmaps_nearly_the_same(model: str, quantized: tuple[Path, str]) -> None:
    file, printed = quantized
    graph = onnx.load(file).graph
    kernels = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert max(np.abs(onnx.numpy_helper.to_array(kernel)).max() for kernel in kernels) == 64  # 7 bits, all of them
    weighing = [node for node in graph.node if node.op_type in ("Softmax", "MatMul")]
    outputs = {name for node in weighing for name in node.output}
    assert outputs  # attention weighs positions in float
    assert not any(outputs & {*node.input} for node in graph.node if node.op_type == "QuantizeLinear")
    original = load_engine(model, "torch")
    images = np.random.default_rng(0).standard_normal((2, 3, *original.weights.input_size)).astype(np.float32)
    poses = [Predictor(engine, detector=None)(PHOTO, BOX) for engine in (original, load_engine(file))]
    sure = (poses[0].scores > 0.4) & (poses[1].scores > 0.2)
    assert sure.sum() >= 8
    distances = np.linalg.norm(poses[0].keypoints - poses[1].keypoints, axis=2)[sure]
    assert distances.max() < 20  # image pixels; a pixel of the heatmap is 9
    for engine in (load_engine(file), load_engine(file, "openvino")):
        assert engine(images)["heatmaps"].shape == (2, 17, 48, 36)
    assert str(file) in printed


def test_the_file_tells_what_was_measured(model: str, quantized: tuple[Path, str], photo_set: dict[str, Any]) -> None:
    file, printed = quantized
    record = load_engine(file).weights
    original = load_engine(model, "torch").weights
    assert record.name == f"{original.name}_int8"
    assert record.codec == original.codec
    (figure,) = record.metrics
    assert (figure.metric, figure.data, figure.boxes, figure.flip_test) == ("AP", "photo.json", "annotated", False)
    (entry,) = [entry.value for entry in onnx.load(file).metadata_props if entry.key == REPORT_KEY]
    report = json.loads(entry)
    assert report["figure"] == "AP"
    assert report["values"] == [pytest.approx(1.0), figure.value]
    assert report["megabytes"][1] < 0.4 * report["megabytes"][0]
    assert set(report["milliseconds"]) >= {"onnxruntime"}
    for engine, (before, after) in report["milliseconds"].items():
        assert f"{engine}, one thread: {after:.2f} ms (float32 {before:.2f} ms" in printed


def convolutions_in_float(file: str | Path) -> list[str]:
    graph = onnx.load(file).graph
    quantized = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return [node.name for node in graph.node if "Conv" in node.op_type and node.input[1] not in quantized]


@pytest.mark.parametrize("needed", [1, 3])
def test_layers_stay_in_float_until_accuracy_is_kept(
    needed: int, photo_set: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a measure that wants so many convolutions in float, and an lpn50 of one block a stage."""
    monkeypatch.setattr(lpn, "lpn50", partial(lpn.LPN, (1, 1, 1, 1)))
    torch.manual_seed(0)
    model = str(tmp_path / "lpn50.short.safetensors")
    save_network(model, create_model("lpn50"), Weights("lpn50.short", "lpn50", (64, 48)))
    counts: list[int] = []  # the float network's first

    def measured(file: str, *_: Any) -> tuple[dict[str, float], list[Any]]:
        counts.append(len(convolutions_in_float(file)))
        return {"AP": 0.5 if counts[-1] >= needed else 0.4}, []

    monkeypatch.setattr(quantize_module, "measure", measured)
    report = quantize(model, **photo_set, out=str(tmp_path / "a.onnx"), samples=1)
    assert counts[1:] == [0, 1, 2, 4, 3][: 2 * needed]  # as many as are needed and no more
    in_float = convolutions_in_float(tmp_path / "a.onnx")
    assert len(in_float) == needed
    assert set(in_float) == set(report.float_layers)


@pytest.mark.parametrize("groups", [1, 3])
def test_rounded_kernels_keep_the_means_of_their_outputs(groups: int, tmp_path: Path) -> None:
    helper, numbers = onnx.helper, onnx.TensorProto.FLOAT
    random = np.random.default_rng(0)
    tensors = {
        "pointwise": random.normal(size=(6, 3 // groups, 1, 1)).astype(np.float32),
        "last": random.normal(size=(2, 6, 1, 1)).astype(np.float32),
        "bias": random.normal(size=6).astype(np.float32),
    }

    def network(tensors: dict[str, np.ndarray]) -> Any:
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["images", "pointwise", "bias"], ["first"], "first", group=groups),
                helper.make_node("Conv", ["first", "last"], ["heatmaps"], "last"),
            ],
            "two convolutions",
            [helper.make_tensor_value_info("images", numbers, ["batch", 3, "height", "width"])],
            [helper.make_tensor_value_info(name, numbers, None) for name in ("first", "heatmaps")],
            [onnx.numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def means(model: Any) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(model.SerializeToString())
        return [output.mean(axis=(0, 2, 3)) for output in session.run(None, {"images": images})]

    images = random.uniform(1, 3, (1, 3, 8, 8)).astype(np.float32)
    onnx.save(network(tensors), tmp_path / "float.onnx")
    expected = means(network(tensors))
    corrected = int8._with_corrected_biases(tmp_path / "float.onnx", [images], [])
    of_first = int8._with_corrected_biases(tmp_path / "float.onnx", [images], ["last"])
    assert "last_corrected_bias" not in {tensor.name for tensor in of_first.graph.initializer}
    for tensor in corrected.graph.initializer:
        if len(tensor.dims) == 4:
            kernel = onnx.numpy_helper.to_array(tensor)
            scale = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / 64
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.round(kernel / scale) * scale, tensor.name))
    for mean, wanted in zip(means(corrected), expected, strict=True):
        np.testing.assert_allclose(mean, wanted, atol=1e-5)


def test_nothing_is_written_where_accuracy_cannot_be_kept(
    model: str, photo_set: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([{"AP": 0.5}, *[{"AP": 0.1}] * 100])
    monkeypatch.setattr(quantize_module, "measure", lambda *_: (next(figures), []))
    monkeypatch.setattr(quantize_module, "write_int8", lambda *_: None)
    monkeypatch.setattr(quantize_module, "most_harmful", lambda *_: [f"layer{i}" for i in range(16)])
    with pytest.raises(WeightsError, match=r"int8 loses too much: 10\.0 instead of 49\.5 with 8 layers in float"):
        quantize(model, **photo_set, out=str(tmp_path / "a.onnx"), samples=1)
    assert list(tmp_path.iterdir()) == []


def test_a_detector_is_judged_with_the_network_that_refines(
    short_litepose: None, photo_set: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []

    def measured(model: str, annotated: Any, **options: Any) -> tuple[dict[str, float], list[Any]]:
        calls.append({"model": model, **options})
        return {"AP": 0.5}, []

    monkeypatch.setattr(quantize_module, "measure", measured)
    record = read_record(find_weights("litepose_xs", ".safetensors"))
    network = create_model(record.model, len(record.keypoint_set), **record.model_options)
    file = str(tmp_path / "litepose_xs.safetensors")
    save_network(file, network, record)
    quantize(file, **photo_set, out=str(tmp_path / "a.onnx"), samples=1, refine="lpn50")
    assert [(call["model"], call["boxes"]) for call in calls] == [("lpn50", "found")] * 2
    assert load_engine(tmp_path / "a.onnx").weights.metrics[0].boxes == "proposing for lpn50"
    image_sizes = [engine(np.zeros((1, 3, 64, 128), np.float32))["centers"].shape for engine in both(tmp_path)]
    assert image_sizes == [(1, 1, 16, 32)] * 2  # sides stay free


def both(folder: Path) -> list[Callable[[np.ndarray], dict[str, np.ndarray]]]:
    return [load_engine(folder / "a.onnx", engine) for engine in ("onnxruntime", "openvino")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out": "a.safetensors"}, "The output must end in .onnx, not a.safetensors"),
        ({"out": "a.onnx", "samples": 0}, "samples must be above 0, not 0"),
        ({"out": "a.onnx", "max_drop": -1.0}, "max_drop must be above 0, not -1.0"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str, model: str, photo_set: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=message):
        quantize(model, **photo_set, **arguments)
