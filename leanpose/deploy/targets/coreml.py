"""CoreML, for iPhones and Macs: an .mlpackage folder of one input size. Converting works everywhere, running on a Mac."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from leanpose.deploy.targets import Request, Runner, Target, traced
from leanpose.deploy.targets.quiet import silent
from leanpose.errors import WeightsError, require

LARGEST_LOSS = 1e-6  # of a weight, as a share of the largest of its tensor


def _convert(request: Request, path: Path) -> None:
    coremltools = require("coremltools", "coreml")
    with silent():
        model = coremltools.convert(
            traced(request),
            convert_to="mlprogram",
            inputs=[coremltools.TensorType(request.input_name, request.example.shape)],
            outputs=[coremltools.TensorType(name) for name in request.output_names],
            compute_precision=coremltools.precision.FLOAT32,
            minimum_deployment_target=coremltools.target.iOS16,
        )
        model.save(str(path))


def _load(path: Path, names: Sequence[str]) -> Runner:
    coremltools = require("coremltools", "coreml")
    model = coremltools.models.MLModel(str(path))
    (given,) = (entry.name for entry in model.get_spec().description.input)
    return lambda images: model.predict({given: images})


def _check(request: Request, path: Path) -> None:
    """Compare the names, the input's shape and all kernels with the network's."""
    coremltools = require("coremltools", "coreml")
    with silent():
        model = coremltools.models.MLModel(str(path), skip_model_load=True)
        described = model.get_spec().description
        stored = coremltools.optimize.coreml.get_weights_metadata(model, weight_threshold=1)
    names = tuple(entry.name for entry in described.output)
    shape = tuple(described.input[0].type.multiArrayType.shape)
    if set(names) != set(request.output_names) or shape != tuple(request.example.shape):
        raise WeightsError(f"the CoreML file takes {shape} and gives {', '.join(names)}")
    found = [np.asarray(entry.val, np.float32) for entry in stored.values()]
    for name, tensor in request.network.state_dict().items():
        if tensor.ndim == 4 and not any(_is_same(tensor, values) for values in found):
            raise WeightsError(f"the CoreML file lacks the weights {name}")


def _is_same(tensor: torch.Tensor, values: np.ndarray) -> bool:
    kernel = tensor.numpy()
    return values.shape == kernel.shape and np.abs(values - kernel).max() <= LARGEST_LOSS * np.abs(kernel).max()


TARGET = Target(
    ".mlpackage", _convert, _load if sys.platform == "darwin" else None, {"coremltools": "coreml"}, check=_check,
    note="It runs on a Mac or iPhone only: here its names, shapes and weights were compared, not its outputs.",
)  # fmt: skip
