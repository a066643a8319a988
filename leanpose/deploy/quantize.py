"""int8: quantise a network for ONNX Runtime and OpenVINO, with layers left in float until accuracy is kept.

One ONNX file serves both engines and all processors: activations are unsigned bytes (QUInt8), weights 7 bits in signed
bytes with one scale per channel, each tensor between a QuantizeLinear and a DequantizeLinear. (Signed activations leave
ONNX Runtime's fast path on x86.) Both engines add the products of two neighbouring bytes in 16 bits on x86 without
VNNI, where 2 x 255 x 127 does not fit and 2 x 255 x 64 does. What weighs positions, as attention does, always stays in
float.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from leanpose.data.annotations import open_annotations
from leanpose.deploy.export import real_inputs, to_onnx
from leanpose.errors import InputError, MissingPackageError, WeightsError
from leanpose.evaluation.evaluate import measure
from leanpose.evaluation.timing import medians_in_turns
from leanpose.inference.engines import EngineName, load_engine
from leanpose.io.files import write_atomically
from leanpose.io.preflight import check_needs
from leanpose.models.checkpoints import load_network
from leanpose.weights.catalogue import INT8, SUFFIXES, find_weights, read_record
from leanpose.weights.metadata import read_metadata
from leanpose.weights.record import Measurement, Weights

REPORT_KEY = "leanpose.quantization"  # in the file's metadata
ENGINES: tuple[EngineName, ...] = ("onnxruntime", "openvino")
LARGEST_WEIGHT = 64
OPSET = 17  # of files that others exported
RANKING_INPUTS, RANGE_INPUTS, MEAN_INPUTS = 12, 4, 64
LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
SILU_FLOOR = -6.0  # x * sigmoid(x) is -0.015 there
TIMED_RUNS = 30


@dataclass(frozen=True)
class QuantizeReport:
    """What a network costs and is worth before and after.

    Attributes:
        file: the int8 file.
        megabytes: (before, after) of the files.
        figure: name of the metric that was kept, "AP" or "PCKh@0.5".
        values: (before, after), 0 to 1.
        milliseconds: engine -> (before, after), median of one network input on one thread.
        float_layers: nodes that were left in float besides those of attention.
    """

    file: str
    megabytes: tuple[float, float]
    figure: str
    values: tuple[float, float]
    milliseconds: dict[str, tuple[float, float]]
    float_layers: list[str]

    def __str__(self) -> str:
        before, after = (100 * value for value in self.values)
        lines = [
            f"{self.file}: {self.megabytes[1]:.1f} MB (float32 {self.megabytes[0]:.1f} MB), {len(self.float_layers)} "
            "layers in float",
            f"{self.figure} {after:.1f} (float32 {before:.1f})",
        ]
        lines += [
            f"{engine}, one thread: {after:.2f} ms (float32 {before:.2f} ms, ratio {before / after:.2f})"
            for engine, (before, after) in self.milliseconds.items()
        ]
        return "\n".join(lines)


def quantize(
    model: str,
    *,
    data: str,
    images: str,
    out: str,
    calibration: str | None = None,
    samples: int = 256,
    max_drop: float = 0.5,
    refine: str | None = None,
) -> QuantizeReport:
    """Turn a network into int8, and keep layers in float until accuracy is nearly that of float32.

    Args:
        model: name, .safetensors file, or an ONNX file in float32, as public weights are.
        data: annotation file to measure accuracy on.
        images: folder of its images.
        out: .onnx file to write.
        calibration: annotation file whose persons set the ranges of activations, with images in the same folder;
            without it `data`.
        samples: how many of them.
        max_drop: largest loss of AP (or PCKh@0.5), in points of 100.
        refine: for a network that proposes persons: the network that finds their keypoints; AP is then that of both.

    Raises:
        InputError: an argument or file cannot be used.
        WeightsError: accuracy is not kept even with most layers in float; nothing is written then.
    """
    if Path(out).suffix != ".onnx":
        raise InputError(f"The output must end in .onnx, not {Path(out).name}.")
    for name, value in (("samples", samples), ("max_drop", max_drop)):
        if not value > 0:
            raise InputError(f"{name} must be above 0, not {value}.")
    path = _float_file(model)
    if refine:
        find_weights(refine)
    megabytes = path.stat().st_size / 1e6
    check_needs(
        packages=("onnxscript", "faster_coco_eval"),
        files=(data, calibration or data),
        folders=(images,),
        places=(out,),
        megabytes=megabytes,
    )
    check_needs(places=(tempfile.gettempdir(),), megabytes=10 * megabytes)  # two float files, and some on the way
    weights = read_record(path)
    annotated = open_annotations(data, images)
    inputs = real_inputs(weights, open_annotations(calibration, images) if calibration else annotated, samples)

    def figure_of(file: Path) -> tuple[str, float]:
        if refine:
            figures, _ = measure(refine, annotated, boxes="found", detector=str(file))
        else:
            figures, _ = measure(str(file), annotated)
        return next(iter(figures.items()))

    report: list[QuantizeReport] = []
    with tempfile.TemporaryDirectory() as folder, _quiet():
        exported, prepared, small = (Path(folder) / name for name in ("float.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save(_own_form(path, weights) if path.suffix == ".onnx" else to_onnx(*load_network(path)), exported)
        quant_pre_process(str(exported), str(prepared), skip_symbolic_shape=True)
        figure, before = figure_of(exported)
        after, float_layers = _keep_accuracy(prepared, small, weights, inputs, before - max_drop / 100, figure_of)
        milliseconds = _milliseconds(exported, small, inputs[0])
        sizes = exported.stat().st_size / 1e6, small.stat().st_size / 1e6
        report.append(QuantizeReport(out, sizes, figure, (before, after), milliseconds, float_layers))
        alone = "none" if weights.task == "bottom_up" else "annotated"
        boxes = f"proposing for {refine}" if refine else alone
        measured = Measurement(figure, after, Path(data).name, boxes, False, weights.input_size)
        record = dataclasses.replace(weights, name=f"{weights.name}{INT8}", metrics=(measured,))
        write_atomically(out, lambda temporary: _save(small, temporary, record, report[0]))
    return report[0]


def _float_file(model: str) -> Path:
    """Return the file of a model in float32: .safetensors, or .onnx where there is none."""
    if Path(model).suffix not in SUFFIXES:
        with suppress(WeightsError):
            return find_weights(model, ".safetensors")
    path = find_weights(model, int8=False)
    if path.suffix == ".onnx" and REPORT_KEY in read_metadata(path):
        raise InputError(f"{path.name} is int8 already: give the file in float32 that it was made of.")
    return path


def _own_form(path: Path, weights: Weights) -> onnx.ModelProto:
    """Return a public ONNX file as `to_onnx` writes: the input "images", a newer opset, named nodes, a record."""
    model = onnx.version_converter.convert_version(onnx.load(path), OPSET)
    graph = model.graph
    learned = {tensor.name for tensor in graph.initializer}
    (given,) = (entry for entry in graph.input if entry.name not in learned)
    for i, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
        node.input[:] = ["images" if name == given.name else name for name in node.input]
    given.name = "images"
    onnx.helper.set_model_props(model, weights.to_metadata())
    return model


class _Feeds(CalibrationDataReader):
    """Network inputs one after another, in the form that ONNX Runtime's tools ask for."""

    def __init__(self, inputs: Sequence[np.ndarray]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(({"images": images} for images in self._inputs), None)


def _keep_accuracy(
    prepared: Path,
    small: Path,
    weights: Weights,
    inputs: Sequence[np.ndarray],
    lowest: float,
    measure: Callable[[Path], tuple[str, float]],
) -> tuple[float, list[str]]:
    """Write the int8 file with as few float layers, the most harmful first, as its figure needs to be `lowest`.

    Returns:
        The figure and the names of the layers in float.
    """

    ranking: list[str] = []
    values: dict[int, float] = {}  # by the number of layers in float

    def is_enough(count: int) -> bool:
        _write_int8(prepared, small, weights, inputs, ranking[:count])
        values[count] = measure(small)[1]
        return values[count] >= lowest

    if is_enough(0):
        return values[0], []
    ranking = _most_harmful(prepared, inputs[:RANKING_INPUTS])
    low, high = 0, 1  # too few, and to try
    while not is_enough(high):
        if high >= len(ranking) // 2:
            raise WeightsError(
                f"int8 loses too much: {100 * max(values.values()):.1f} instead of {100 * lowest:.1f} with {high} "
                "layers in float; calibrate on more samples, or allow a larger max_drop."
            )
        low, high = high, 2 * high
    while high - low > max(1, high // 8):
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    if high != next(reversed(values)):
        _write_int8(prepared, small, weights, inputs, ranking[:high])
    return values[high], ranking[:high]


def _write_int8(
    prepared: Path, small: Path, weights: Weights, inputs: Sequence[np.ndarray], float_layers: list[str]
) -> None:
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
    tail = []
    for node in reversed(graph.node):
        if _is_layer(node, graph) or needed & {*node.output}:
            needed |= {*node.input}
        else:
            tail.append(node)
    return tail


def _is_layer(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    return node.op_type in LAYERS and node.input[1] in {tensor.name for tensor in graph.initializer}


def _most_harmful(prepared: Path, inputs: Sequence[np.ndarray]) -> list[str]:
    """Rank layers by what each of them alone, in bytes, destroys of what the last layers give: most noise first."""
    model = onnx.load(prepared)
    graph = model.graph
    layers = [node.name for node in graph.node if _is_layer(node, graph)]
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


def _milliseconds(exported: Path, small: Path, images: np.ndarray) -> dict[str, tuple[float, float]]:
    """Time both files on one thread, turn by turn, on each engine that is installed."""
    times: dict[str, tuple[float, float]] = {}
    for name in ENGINES:
        try:
            engines = [load_engine(file, name, threads=1) for file in (exported, small)]
        except MissingPackageError:
            continue
        before, after = (partial(engine, images) for engine in engines)
        medians = medians_in_turns({"before": before, "after": after}, TIMED_RUNS)
        times[name] = medians["before"], medians["after"]
    return times


def _save(small: Path, path: Path, record: Weights, report: QuantizeReport) -> None:
    """Write the int8 file with its own record and the report in its metadata."""
    model = onnx.load(small)
    onnx.helper.set_model_props(model, record.to_metadata() | {REPORT_KEY: json.dumps(dataclasses.asdict(report))})
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the hints of ONNX Runtime's quantiser off the terminal: what it advises is done."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
