"""From a network in float32 to one in bytes: what is rounded, how, and which layers lose most by it.

One ONNX file serves both engines and all processors: activations are unsigned bytes (QUInt8), weights 7 bits in signed
bytes with one scale per channel, each tensor between a QuantizeLinear and a DequantizeLinear. (Signed activations leave
ONNX Runtime's fast path on x86.) Both engines add the products of two neighbouring bytes in 16 bits on x86 without
VNNI, where 2 x 255 x 127 does not fit and 2 x 255 x 64 does. Always in float stay what weighs positions, as attention
does, SiLUs, and what follows the last layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from tqdm import tqdm

from leanpose.weights.record import Weights

LARGEST_WEIGHT = 64
RANGE_INPUTS, MEAN_INPUTS = 4, 64
LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
SILU_FLOOR = -6.0  # x * sigmoid(x) is -0.015 there


class _Feeds(CalibrationDataReader):
    """Network inputs one after another, in the form that ONNX Runtime's tools ask for."""

    def __init__(self, inputs: Sequence[np.ndarray]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(({"images": images} for images in self._inputs), None)


def write_int8(
    prepared: Path, small: Path, weights: Weights, inputs: Sequence[np.ndarray], float_layers: list[str]
) -> None:
    """Write the network of `prepared`, in float32 with folded norms, to `small`, in bytes but for some layers by name.

    Args:
        inputs: (1, 3, h, w) float32 each, by which the ranges of activations are set.
    """
    corrected = prepared.with_name("corrected.onnx")
    onnx.save(_with_corrected_biases(prepared, inputs, float_layers), corrected)
    excluded = float_layers + _attention(prepared) + _behind_the_last_layer(prepared)
    _quantize(corrected, small, inputs, _silu_ranges(prepared, inputs), nodes_to_exclude=excluded)
    model = onnx.load(small)
    onnx.helper.set_model_props(model, weights.to_metadata())
    onnx.save(model, small)


def _quantize(
    source: Path, small: Path, inputs: Sequence[np.ndarray], silu_ranges: dict[str, Any], **nodes: list[str]
) -> None:
    """Write a file with bytes; where there are SiLUs, only layers are in bytes: their gates lose too much."""
    quantize_static(
        str(source),
        str(small),
        _Feeds(inputs),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,  # weights up to LARGEST_WEIGHT
        op_types_to_quantize=["Conv"] if silu_ranges else None,
        extra_options={"TensorQuantOverrides": silu_ranges},
        **nodes,
    )


def _silu_ranges(prepared: Path, inputs: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return the ranges of what goes into SiLUs, as overrides of ONNX Runtime: they begin at SILU_FLOOR, below which
    next to nothing comes out, however far values reach."""
    model = onnx.load(prepared)
    names = _silu_inputs(model)
    highest = dict.fromkeys(names, 0.0)
    for tensors in _watched(model, names, inputs) if names else ():
        for name in names:
            highest[name] = max(highest[name], float(tensors[name].max()))
    low = np.float32(SILU_FLOOR)
    return {name: [{"rmin": low, "rmax": np.float32(value)}] for name, value in highest.items()}


def _with_corrected_biases(prepared: Path, inputs: Sequence[np.ndarray], float_layers: list[str]) -> onnx.ModelProto:
    """Return a network whose convolutions have their means back, which rounded kernels move, in their biases.

    What a rounded kernel adds to its output on average is what rounding adds to the kernel times the mean input.
    """
    model = onnx.load(prepared)
    learned = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    convolutions = [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in learned and node.name not in float_layers
    ]
    means = _channel_means(model, {node.input[0] for node in convolutions}, inputs[:: len(inputs) // MEAN_INPUTS or 1])
    for node in convolutions:
        kernel = learned[node.input[1]].astype(np.float64)  # (outputs, inputs of a group, h, w)
        scale = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / LARGEST_WEIGHT
        scale[scale == 0] = 1
        added = (np.round(kernel / scale) * scale - kernel).sum(axis=(2, 3))
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        of_group = means[node.input[0]].reshape(groups, 1, -1)
        shift = (added.reshape(groups, -1, added.shape[1]) * of_group).sum(axis=2).ravel()
        bias = learned[node.input[2]] if len(node.input) > 2 else np.zeros(len(kernel))
        name = f"{node.name}_corrected_bias"
        model.graph.initializer.append(onnx.numpy_helper.from_array((bias - shift).astype(np.float32), name))
        node.input[2:] = [name]
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)
    return model


def _channel_means(model: onnx.ModelProto, names: set[str], inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the mean (C,) of each channel of some tensors (1, C, h, w) over network inputs."""
    means: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for tensors in _watched(model, names, inputs):
        for name, of_inputs in means.items():
            of_inputs.append(tensors[name].mean(axis=(0, 2, 3)))
    return {name: np.mean(of_inputs, axis=0) for name, of_inputs in means.items()}


def _watched(
    model: onnx.ModelProto, names: Iterable[str], inputs: Sequence[np.ndarray]
) -> Iterator[dict[str, np.ndarray]]:
    """Yield for each network input the values of some tensors, the input and the outputs by name."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    inner = {*names} - {"images"} - {output.name for output in model.graph.output}
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inner)
    session = onnxruntime.InferenceSession(watched.SerializeToString())
    outputs = [output.name for output in session.get_outputs()]
    for images in inputs:
        yield {"images": images} | dict(zip(outputs, session.run(None, {"images": images}), strict=True))


def _silu_inputs(model: onnx.ModelProto) -> set[str]:
    """Return the tensors x of which x * sigmoid(x) is made."""
    gates = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Sigmoid"}
    return {
        gates[name] for node in model.graph.node if node.op_type == "Mul" for name in node.input
        if gates.get(name) in node.input
    }  # fmt: skip


def _attention(prepared: Path) -> list[str]:
    """Return the nodes that weigh positions: softmax, and products of two activations. Each weight is about one in the
    number of positions, which bytes cannot tell from 0, and they cost little."""
    graph = onnx.load(prepared).graph
    learned = {tensor.name for tensor in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "Softmax" or (node.op_type == "MatMul" and not learned & {*node.input})
    ]


def _behind_the_last_layer(prepared: Path) -> list[str]:
    """Return the nodes whose results reach no learned layer any more, such as those that turn numbers into boxes: bytes
    cannot hold a position to the pixel, and they cost little."""
    return [node.name for node in _tail(onnx.load(prepared).graph)]


def _tail(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    needed: set[str] = set()  # by layers
    tail, layers = [], _layers(graph)
    for node in reversed(graph.node):
        if node.name in layers or needed & {*node.output}:
            needed |= {*node.input}
        else:
            tail.append(node)
    return tail


def _layers(graph: onnx.GraphProto) -> list[str]:
    """Return the nodes with learned kernels."""
    learned = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type in LAYERS and node.input[1] in learned]


def most_harmful(prepared: Path, inputs: Sequence[np.ndarray]) -> list[str]:
    """Rank layers by what each of them alone, in bytes, destroys of what the last layers give: most noise first."""
    model = onnx.load(prepared)
    graph = model.graph
    layers = _layers(graph)
    tail = _tail(graph)
    ends = {name for node in tail for name in node.input} | {output.name for output in graph.output}
    ends -= {name for node in tail for name in node.output} | {tensor.name for tensor in graph.initializer} | {""}
    values = list(_watched(model, ends, inputs))
    ranges, alone, harm = _silu_ranges(prepared, inputs), prepared.with_name("alone.onnx"), {}
    for name in tqdm(layers, "ranking layers", unit="layer", disable=None):
        _quantize(prepared, alone, inputs[:RANGE_INPUTS], ranges, nodes_to_quantize=[name])
        found = _watched(onnx.load(alone), ends, inputs)
        noise = [
            np.square(f[end] - v[end]).mean() / np.square(v[end]).mean()
            for f, v in zip(found, values, strict=True)
            for end in ends
        ]
        harm[name] = float(np.mean(noise))
    return sorted(layers, key=lambda name: -harm[name])
