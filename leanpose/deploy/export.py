"""Export: a network in the form that a device runs, with its record beside it and a proof that it is the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from leanpose.data.annotations import open_annotations
from leanpose.deploy.describe import write_sidecar
from leanpose.deploy.device_int8 import to_int8
from leanpose.deploy.end_to_end import OUTPUTS, EndToEnd, check_readable
from leanpose.deploy.failing_layer import conversion_fault
from leanpose.deploy.parity import TOLERANCE, ExportReport, noise_inputs, prove, real_inputs, report_of
from leanpose.deploy.targets import Request, Target, TargetName, require_all, target_of
from leanpose.errors import InputError, WeightsError
from leanpose.inference.engines import TorchEngine
from leanpose.io.files import write_together
from leanpose.io.preflight import check_needs
from leanpose.models.batch_norm import fold_batch_norm
from leanpose.models.checkpoints import load_network
from leanpose.weights.catalogue import find_weights
from leanpose.weights.metadata import read_metadata
from leanpose.weights.record import METADATA_KEY, Weights
from leanpose.weights.sidecar import is_exported, sidecar_path

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
        samples: of int8, how many of them: ranges reach to their extremes, so many make them coarse.
        max_drop: of int8, largest loss of AP (or PCKh@0.5), in points of 100.
        storage: "float16" stores kernels of ONNX and OpenVINO in half the space; computation stays in float32.

    Raises:
        InputError: an argument cannot be used, or a file of others lies in the way.
        MissingPackageError: the target's packages are not installed.
        WeightsError: the converter cannot take the network, or the file does not compute the same; nothing is written.
    """
    target = target_of(to)
    _check_options(to, target, Path(out), end_to_end, int8, storage)
    for name, value in (("samples", samples), ("max_drop", max_drop)):
        if not value > 0:
            raise InputError(f"{name} must be above 0, not {value}.")
    if (data is None) != (images is None):
        raise InputError("data and images belong together: give the annotation file and the folder of its images.")
    if int8 and data is None:
        raise InputError("int8 needs persons to set its ranges by: give --data and --images.")
    path = find_weights(model, ".safetensors")
    if path.suffix != ".safetensors":
        raise InputError(f"{path.name} is exported already; give a .safetensors file.")
    require_all(target)
    check_needs(
        packages=("faster_coco_eval",) if int8 else (),
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
    compared = partial(report_of, TorchEngine(network, weights), request, target, inputs, out)
    report: list[ExportReport] = []

    def write(folder: Path) -> None:
        file = folder / Path(out).name
        with conversion_fault(to, target, request):
            target.convert(request, file)
        found = compared(file)
        prove(found, storage)
        if int8 and annotated and images:
            ranges = real_inputs(weights, open_annotations(calibration, images) if calibration else annotated, samples)
            found = to_int8(request, target, file, compared, ranges, annotated, max_drop)
        write_sidecar(request, target, file, int8, found)
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


def _request(network: torch.nn.Module, weights: Weights, storage: Any, end_to_end: bool) -> Request:
    height, width = weights.input_size
    if end_to_end:
        crops = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        return Request(EndToEnd(network, weights).eval(), crops, weights, OUTPUTS, storage, end_to_end)
    example = torch.zeros(1, 3, height, width)
    with torch.inference_mode():
        names = tuple(network(example))
    return Request(network, example, weights, names, storage)
