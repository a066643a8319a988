"""int8: quantise a network for ONNX Runtime and OpenVINO, with layers left in float until accuracy is kept."""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
from onnxruntime.quantization.shape_inference import quant_pre_process

from leanpose.data.annotations import open_annotations
from leanpose.deploy.int8 import most_harmful, write_int8
from leanpose.deploy.parity import real_inputs
from leanpose.deploy.targets.onnx import to_onnx
from leanpose.errors import InputError, MissingPackageError, WeightsError
from leanpose.evaluation.evaluate import measure
from leanpose.evaluation.timing import medians_in_turns
from leanpose.inference.engines import EngineName, load_engine
from leanpose.io.files import write_atomically
from leanpose.io.preflight import check_needs
from leanpose.models.checkpoints import load_network
from leanpose.weights.catalogue import EXPORTED, INT8, SUFFIXES, find_weights, read_record
from leanpose.weights.metadata import read_metadata
from leanpose.weights.record import Measurement, Weights

REPORT_KEY = "leanpose.quantization"  # in the file's metadata
ENGINES: tuple[EngineName, ...] = ("onnxruntime", "openvino")
OPSET = 17  # at least, of files that others exported
RANKING_INPUTS = 12
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
        max_drop: largest loss of AP (or PCKh@0.5, or recall), in points of 100.
        refine: for a network that proposes persons: the network that finds their keypoints; AP is then that of both.
            Without it, recall of the persons counts for a network that finds boxes alone.

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
        exports=(data, calibration or data),
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
            figures = measure(refine, annotated, boxes="found", detector=str(file))[0]
        else:
            figures = measure(str(file), annotated)[0]
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
        alone = "annotated" if weights.task == "top_down" else "none"
        boxes = f"proposing for {refine}" if refine else alone
        measured = Measurement(figure, after, Path(data).name, boxes, False, weights.input_size)
        record = dataclasses.replace(weights, name=f"{weights.name}{INT8}", metrics=(measured,))
        write_atomically(out, lambda temporary: _save(small, temporary, record, report[0]))
    return report[0]


def _float_file(model: str) -> Path:
    """Return the file of a model in float32: .safetensors, or .onnx where there is none."""
    if Path(model).suffix in EXPORTED:
        raise InputError(f"{Path(model).name} is exported: give the .safetensors file that it is made of.")
    if Path(model).suffix not in SUFFIXES:
        with suppress(WeightsError):
            return find_weights(model, ".safetensors")
    path = find_weights(model, int8=False)
    if path.suffix == ".onnx" and REPORT_KEY in read_metadata(path):
        raise InputError(f"{path.name} is int8 already: give the file in float32 that it was made of.")
    return path


def _own_form(path: Path, weights: Weights) -> onnx.ModelProto:
    """Return a public ONNX file as `to_onnx` writes: the input "images", a newer opset, named nodes, a record."""
    model = onnx.load(path)
    if next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")) < OPSET:
        model = onnx.version_converter.convert_version(model, OPSET)
    graph = model.graph
    learned = {tensor.name for tensor in graph.initializer}
    (given,) = (entry for entry in graph.input if entry.name not in learned)
    for i, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
        node.input[:] = ["images" if name == given.name else name for name in node.input]
    given.name = "images"
    onnx.helper.set_model_props(model, weights.to_metadata())
    return model


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
        write_int8(prepared, small, weights, inputs, ranking[:count])
        values[count] = measure(small)[1]
        return values[count] >= lowest

    if is_enough(0):
        return values[0], []
    ranking = most_harmful(prepared, inputs[:RANKING_INPUTS])
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
        write_int8(prepared, small, weights, inputs, ranking[:high])
    return values[high], ranking[:high]


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
