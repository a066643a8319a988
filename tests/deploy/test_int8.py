"""Files of others in bytes: small networks as their exporters write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from leanpose.deploy.int8 import most_harmful, write_int8  # noqa: E402
from leanpose.deploy.quantize import _own_form  # noqa: E402
from leanpose.weights.catalogue import read_record  # noqa: E402
from leanpose.weights.record import Weights  # noqa: E402

RECORD = Weights("foreign", "foreign", (16, 16), task="detection", convention="classic", codec="detections")


def foreign(path: Path) -> Path:
    """A convolution, SiLU, a convolution of large kernels that cancel out, and boxes made of what it gives."""
    random = np.random.default_rng(0)
    helper, tensor = onnx.helper, onnx.numpy_helper.from_array
    cancelling = random.normal(size=(4, 8, 1, 1)) + 40 * np.tile([1, -1], 4)[None, :, None, None]
    first = random.normal(size=(4, 3, 3, 3))
    learned = {
        "a": np.repeat(first, 2, axis=0),  # channels alike, which the second convolution takes from one another
        "b": cancelling,
        "c": random.normal(size=(4, 4, 1, 1)),
        "stride": np.array(8.0),
    }
    nodes = [
        helper.make_node("Conv", ["input", "a"], ["x"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["x"], ["gate"]),
        helper.make_node("Mul", ["x", "gate"], ["silu"]),
        helper.make_node("Conv", ["silu", "b"], ["y"]),
        helper.make_node("Conv", ["y", "c"], ["z"]),
        helper.make_node("Mul", ["z", "stride"], ["dets"]),
    ]
    numbers = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("input", numbers, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("dets", numbers, None)],
        [tensor(value.astype(np.float32), name) for name, value in learned.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    return path


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    path = tmp_path / "prepared.onnx"
    onnx.save(_own_form(foreign(tmp_path / "foreign.onnx"), RECORD), path)
    return path


@pytest.fixture
def inputs() -> list[np.ndarray]:
    return list(np.random.default_rng(1).normal(size=(4, 1, 3, 16, 16)).astype(np.float32))


def outputs(path: Path, name: str, images: np.ndarray) -> Any:
    return onnxruntime.InferenceSession(str(path)).run(["dets"], {name: images})[0]


def test_the_own_form_computes_the_same_and_is_a_model(prepared: Path, inputs: list[np.ndarray]) -> None:
    foreign_file = prepared.with_name("foreign.onnx")
    np.testing.assert_allclose(outputs(prepared, "images", inputs[0]), outputs(foreign_file, "input", inputs[0]))
    assert read_record(prepared).name == "foreign"
    names = [node.name for node in onnx.load(prepared).graph.node]
    assert all(names) and len(set(names)) == len(names)


def test_silus_and_what_follows_the_last_layer_stay_in_float(prepared: Path, inputs: list[np.ndarray]) -> None:
    small = prepared.with_name("small.onnx")
    write_int8(prepared, small, RECORD, inputs, [])
    graph = onnx.load(small).graph
    from_bytes = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    assert all(node.input[1] in from_bytes for node in graph.node if node.op_type == "Conv")
    products = [node for node in graph.node if node.op_type == "Mul"]
    assert products and not any(name.startswith("stride_") for node in products for name in node.input)
    rounded = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert not rounded & {"gate", "dets"}  # neither gates nor boxes
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scale = next(value for name, value in values.items() if name.startswith("x_") and name.endswith("scale"))
    zero = next(value for name, value in values.items() if name.startswith("x_") and name.endswith("zero_point"))
    assert -6.1 < -float(zero) * float(scale) <= 0  # the range of what goes into a SiLU begins at -6


def test_the_layer_that_breaks_all_comes_first(prepared: Path, inputs: list[np.ndarray]) -> None:
    ranking = most_harmful(prepared, inputs)
    assert len(ranking) == 3
    assert ranking[0] == next(node.name for node in onnx.load(prepared).graph.node if node.output[0] == "y")
