"""Export: a network in the form that a device runs, with its record beside it and a proof that it is the same."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from leanpose.codecs import codec_of
from leanpose.data.annotations import AnnotatedSet, open_annotations
from leanpose.deploy.describe import app_recipe
from leanpose.deploy.end_to_end import OUTPUTS, EndToEnd, check_readable
from leanpose.deploy.failing_layer import conversion_fault
from leanpose.deploy.parity import (
    TOLERANCE,
    ExportReport,
    as_crops,
    compare,
    milliseconds,
    noise_inputs,
    read_points,
    real_inputs,
)
from leanpose.deploy.targets import Outputs, Request, Runner, Target, TargetName, require_all, target_of
from leanpose.errors import InputError, WeightsError
from leanpose.evaluation.evaluate import measure
from leanpose.inference.engines import TorchEngine
from leanpose.inference.preprocess import normalised
from leanpose.io.files import write_together
from leanpose.io.preflight import check_needs
from leanpose.models.batch_norm import fold_batch_norm
from leanpose.models.checkpoints import load_network
from leanpose.weights.catalogue import INT8, find_weights
from leanpose.weights.metadata import read_metadata
from leanpose.weights.record import METADATA_KEY, Weights
from leanpose.weights.sidecar import is_exported, sidecar, sidecar_path

MOST_INPUTS = 64  # of the comparison


def export(
    model: str,
    *,
    out: str,
    to: TargetName = "onnx",
    end_to_end: bool = False,
    int8: bool = False,
    data: str | None = None,
    images: str | None = None,
    calibration: str | None = None,
    samples: int = 256,
    max_drop: float = 1.0,
    storage: Literal["float32", "float16"] = "float32",
) -> ExportReport:
    """Write a network for a device, with a JSON file beside it that says what an app must do, and compare both.

    Args:
        model: name or .safetensors file.
        out: file to write, whose ending is that of the target: .onnx, .xml (OpenVINO), .ncnn.param, .tflite (LiteRT),
            .mlpackage (CoreML), .pte (ExecuTorch).
        to: the target: "onnx", "openvino", "ncnn", "litert", "coreml" or "executorch".
        end_to_end: put preprocessing and decoding into the graph: crops in bytes in, keypoints and scores out.
        int8: turn weights and activations into bytes (LiteRT; for ONNX there is `leanpose quantize`).
        data: COCO-style file whose persons are compared (64 of them); without it both see noise. Of int8, what accuracy
            is measured on.
        images: folder of its images.
        calibration: of int8, annotation file whose persons set the ranges of activations, with images in the same
            folder; without it `data`.
        samples: of int8, how many of them.
        max_drop: of int8, largest loss of AP (or PCKh@0.5), in points of 100.
        storage: "float16" stores kernels of ONNX and OpenVINO in half the space; computation stays in float32.

    Raises:
        InputError: an argument cannot be used, or a file of others lies in the way.
        MissingPackageError: the target's packages are not installed.
        WeightsError: the converter cannot take the network, or the file does not compute the same; nothing is written.
    """
    target = target_of(to)
    _check_options(to, target, Path(out), end_to_end, int8, storage)
    if (data is None) != (images is None):
        raise InputError("data and images belong together: give the annotation file and the folder of its images.")
    if int8 and data is None:
        raise InputError("int8 needs persons to set its ranges by: give --data and --images.")
    path = find_weights(model, ".safetensors")
    if path.suffix != ".safetensors":
        raise InputError(f"{path.name} is exported already; give a .safetensors file.")
    require_all(target)
    check_needs(
        exports=[file for file in (data, calibration) if file],
        folders=() if images is None else (images,),
        places=(out,),
        megabytes=3 * path.stat().st_size / 1e6,  # kernels may be stored as float16
    )
    _check_ours(target.files(Path(out)))
    network, weights = load_network(path)
    if end_to_end:
        check_readable(weights)
    weights = _for(weights, target)
    annotated = None if data is None or images is None else open_annotations(data, images)
    inputs = noise_inputs(weights) if annotated is None else real_inputs(weights, annotated, MOST_INPUTS)
    folded = fold_batch_norm(network)
    request = _request(target.rewrite(folded) if target.rewrite else folded, weights, storage, end_to_end)
    report: list[ExportReport] = []

    def write(folder: Path) -> None:
        file = folder / Path(out).name
        with conversion_fault(to, target, request):
            target.convert(request, file)
        found = _proof(TorchEngine(network, weights), request, target, file, inputs, out)
        if int8 and annotated and images:
            ranges = real_inputs(weights, open_annotations(calibration, images) if calibration else annotated, samples)
            found = _to_int8(request, target, file, found, ranges, annotated, max_drop)
        _describe(request, target, file, int8, found)
        report.append(found)

    write_together(out, write)
    return report[0]


def _check_options(to: str, target: Target, out: Path, end_to_end: bool, int8: bool, storage: str) -> None:
    if not out.name.endswith(target.suffix) or out.name == target.suffix:
        raise InputError(f"The output must end in {target.suffix}, not {out.name}.")
    if storage not in TOLERANCE:
        raise InputError(f"storage must be 'float32' or 'float16', not '{storage}'.")
    if storage == "float16" and to not in ("onnx", "openvino"):
        raise InputError(f"float16 storage is for onnx and openvino: leave it out for {to}.")
    if end_to_end and not target.end_to_end:
        raise InputError(f"--end-to-end is for onnx, openvino and litert: leave it out for {to}.")
    if int8 and target.quantize is None:
        how = "`leanpose quantize` makes int8 ONNX files, for ONNX Runtime and OpenVINO" if to != "ncnn" else (
            "ncnn's own tool ncnn2int8 makes int8 files"
        )  # fmt: skip
        raise InputError(f"--int8 is for litert: {how}.")
    if int8 and end_to_end:
        raise InputError("int8 files hold the network alone: leave --end-to-end out.")


def _check_ours(files: Sequence[Path]) -> None:
    """Raise InputError where a file lies in the way that leanpose did not write."""
    first = files[0]
    for file in files:
        if file.exists() and not (is_exported(file, first) or _is_own_onnx(file)):
            raise InputError(f"{file} is there already and not as leanpose wrote it: move it, or choose another name.")
    if sidecar_path(first).exists() and not first.exists():
        raise InputError(f"{sidecar_path(first)} is there already, without its network: choose another name.")


def _is_own_onnx(file: Path) -> bool:
    try:
        return file.suffix == ".onnx" and any(key.startswith(METADATA_KEY) for key in read_metadata(file))
    except WeightsError:
        return False


def _for(weights: Weights, target: Target) -> Weights:
    """Return the record of a network in a file of one input size: whole images are laid into it."""
    if weights.task == "top_down" or target.any_size:
        return weights
    return dataclasses.replace(weights, fit="letterbox", box_scales=(1.0,))


def _decoded(engine: TorchEngine, crops: np.ndarray) -> dict[str, np.ndarray]:
    """Return keypoints and scores of crops (N, h, w, 3) as prediction finds them in torch's outputs."""
    weights = engine.weights
    keypoints, scores = codec_of(weights).decode(engine(normalised(crops, weights)), weights.input_size)
    return {"keypoints": keypoints, "scores": scores if weights.calibration is None else weights.calibration(scores)}


def _as_they_are(outputs: Outputs, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return outputs["keypoints"], outputs["scores"]


def _request(network: torch.nn.Module, weights: Weights, storage: Any, end_to_end: bool) -> Request:
    height, width = weights.input_size
    if end_to_end:
        crops = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        return Request(EndToEnd(network, weights).eval(), crops, weights, OUTPUTS, storage, end_to_end)
    example = torch.zeros(1, 3, height, width)
    with torch.inference_mode():
        names = tuple(network(example))
    return Request(network, example, weights, names, storage)


def _proof(
    engine: TorchEngine, request: Request, target: Target, file: Path, inputs: Sequence[np.ndarray], name: str
) -> ExportReport:
    """Return how near a file is to its network.

    Raises:
        WeightsError: not near enough.
    """
    weights = request.weights
    megabytes = sum(map(_bytes, target.files(file))) / 1e6
    if target.load is None:
        assert target.check is not None
        target.check(request, file)
        return ExportReport(name, megabytes, 0, None, None, note=target.note)
    exported = target.load(file, request.output_names)
    network: Runner = engine
    read: Callable[..., Any] = partial(read_points, weights)
    if request.end_to_end:
        inputs = [as_crops(given, weights) for given in inputs]
        network, read = partial(_decoded, engine), _as_they_are
    largest, distance = compare(network, exported, inputs, read)
    report = ExportReport(
        name, megabytes, len(inputs), largest, distance, milliseconds(exported, inputs[0]), note=target.note
    )
    if not largest <= TOLERANCE[request.storage]:
        raise WeightsError(f"The export failed its check and was not written: {report}.")
    return report


def _bytes(file: Path) -> int:
    return sum(map(_bytes, file.iterdir())) if file.is_dir() else file.stat().st_size


def _to_int8(
    request: Request, target: Target, file: Path, proof: ExportReport, ranges: Sequence[np.ndarray],
    annotated: AnnotatedSet, max_drop: float,
) -> ExportReport:  # fmt: skip
    """Put bytes in place of a float file, if it stays as accurate; return its report."""
    assert target.quantize is not None and target.load is not None
    with tempfile.TemporaryDirectory() as folder:
        values = []
        small = Path(folder) / file.name
        for network in (file, small):
            if network == small:
                target.quantize(file, small, ranges)
            _describe(request, target, network, network == small, proof)
            metrics = measure(str(network), annotated)[0]
            figure, value = next(iter(metrics.items()))
            values.append(value)
        exported = target.load(small, request.output_names)
        time, megabytes = milliseconds(exported, ranges[0]), small.stat().st_size / 1e6
        before, after = values
        if after < before - max_drop / 100:
            raise WeightsError(
                f"int8 loses too much: {figure} {100 * after:.1f} instead of {100 * before:.1f}; give more samples, or "
                "allow a larger --max-drop."
            )
        file.write_bytes(small.read_bytes())
    return dataclasses.replace(
        proof, megabytes=megabytes, milliseconds=time, figure=figure, values=(before, after),
        note="The differences are those of the float32 file that the bytes were made of.",
    )  # fmt: skip


def _describe(request: Request, target: Target, file: Path, int8: bool, report: ExportReport) -> None:
    """Write the sidecar of a file."""
    weights = request.weights
    weights = dataclasses.replace(weights, name=f"{weights.name}{INT8}") if int8 else weights
    with torch.inference_mode():
        shapes = {name: tuple(values.shape) for name, values in request.network(request.example).items()}
    found = dataclasses.asdict(report) | {"file": file.name}
    scales = getattr(target.load(file, request.output_names), "scales", {}) if int8 and target.load else {}
    more = {"app": app_recipe(request, shapes, scales), "end_to_end": request.end_to_end, "report": found}
    sidecar_path(file).write_text(sidecar(weights, target.files(file), more), "utf-8")
