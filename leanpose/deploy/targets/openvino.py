"""OpenVINO's IR, for Intel's processors, graphics and NPUs: an .xml file and a .bin file with the weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from leanpose.deploy.targets import Request, Runner, Target
from leanpose.deploy.targets.onnx import model_of
from leanpose.errors import require


def _convert(request: Request, path: Path) -> None:
    openvino = require("openvino", "openvino")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        onnx.save(model_of(request), file)
        openvino.save_model(openvino.convert_model(str(file)), str(path), compress_to_fp16=request.storage == "float16")


def _load(path: Path, names: Sequence[str]) -> Runner:
    openvino = require("openvino", "openvino")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda images: dict(zip(names, compiled({0: images}).values(), strict=True))


TARGET = Target(
    ".xml", _convert, _load, {"onnxscript": "train", "openvino": "openvino"}, beside=(".bin",), any_size=True,
    end_to_end=True,
)  # fmt: skip
