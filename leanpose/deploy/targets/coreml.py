"""CoreML, for iPhones and Macs: an .mlpackage folder of one input size, made everywhere and run on a Mac."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from leanpose.deploy.targets import Request, Runner, Target, traced
from leanpose.errors import WeightsError, require
from leanpose.io.quiet import silent

CONVOLUTIONS = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
LARGEST_LOSS = 1e-5  # of a weight, as a share of the largest of its tensor


def _convert(request: Request, path: Path) -> None:
    with silent():
        coremltools = require("coremltools", "coreml")
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
    """Compare the names, the input's shape and the kernels with the network's."""
    coremltools = require("coremltools", "coreml")
    with silent():
        model = coremltools.models.MLModel(str(path), skip_model_load=True)
        described = model.get_spec().description
        stored = coremltools.optimize.coreml.get_weights_metadata(model, weight_threshold=1)
    names = tuple(entry.name for entry in described.output)
    shape = tuple(described.input[0].type.multiArrayType.shape)
    if set(names) != set(request.output_names) or shape != tuple(request.example.shape):
        raise WeightsError(f"The CoreML file takes {shape} and gives {', '.join(names)}, and was not written.")
    found = [np.asarray(entry.val, np.float32) for entry in stored.values()]
    for name, kernel in _kernels(request).items():
        if not any(_is_same(kernel, values) for values in found):
            raise WeightsError(f"The CoreML file lacks the weights of the layer {name}, and was not written.")


def _kernels(request: Request) -> dict[str, torch.Tensor]:
    """Return the kernels of the convolutions that a network uses when it predicts, by the names of their layers."""
    kernels: dict[str, torch.Tensor] = {}
    names = {layer: name for name, layer in request.network.named_modules()}

    def note(layer: torch.nn.Module, *_: object) -> None:
        kernels[names[layer]] = layer.get_parameter("weight").detach()

    hooks = [layer.register_forward_hook(note) for layer in names if isinstance(layer, CONVOLUTIONS)]
    with torch.inference_mode():
        request.network(request.example)
    for hook in hooks:
        hook.remove()
    return kernels


def _is_same(tensor: torch.Tensor, values: np.ndarray) -> bool:
    """Whether values are a kernel's, or a multiple of it for each channel, where a factor behind it was taken in."""
    kernel = tensor.numpy()
    if values.shape != kernel.shape:
        return False
    rows, found = kernel.reshape(len(kernel), -1), values.reshape(len(kernel), -1)
    factors = (rows * found).sum(1, keepdims=True) / np.maximum((rows * rows).sum(1, keepdims=True), 1e-30)
    return np.abs(factors * rows - found).max() <= LARGEST_LOSS * np.abs(found).max()


TARGET = Target(
    ".mlpackage", _convert, _load if sys.platform == "darwin" else None, {"coremltools": "coreml"}, check=_check,
    note="It runs on a Mac or iPhone only: here its names, shapes and weights were compared, not its outputs.",
)  # fmt: skip
