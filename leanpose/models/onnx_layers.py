"""Read an ONNX file, whose norms are folded, back into the network that it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, fx, nn

from leanpose.errors import WeightsError
from leanpose.geometry import Size
from leanpose.models.batch_norm import fold_batch_norm, unfold_batch_norm

TOLERANCE = 1e-3  # of two values of one output, as a share of the largest one
LAYERS = {"Conv": nn.Conv2d, "MatMul": nn.Linear}


def read_onnx_layers(network: nn.Module, path: Path, input_size: Size) -> None:
    """Put the values of an ONNX file into a network that has the same layers in the same order.

    Convolutions and linear layers without bias are told by their order, all else by its name, and then both have to
    give the same for an input of noise. The network's norms do nothing afterwards but add what was the bias of the
    convolution before (`unfold_batch_norm`).

    Args:
        network: in evaluation mode, changed in place; its forward must be one that `torch.fx` can trace.
        path: .onnx file in float32.
        input_size: (height, width) of the images that both take.

    Raises:
        WeightsError: the file is no ONNX file, or holds another network.
    """
    try:
        graph = onnx.load(path).graph
        stored = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    except FileNotFoundError:
        raise WeightsError(f"There is no file {path}; check the path.") from None
    except Exception:  # of a damaged protocol buffer
        raise WeightsError(f"{path} is not a usable onnx file.") from None
    folded = fold_batch_norm(network)
    wanted = folded.state_dict()
    values = {name: tensor for name, tensor in stored.items() if name in wanted}
    theirs = [node for node in graph.node if node.op_type in LAYERS and node.input[1] in stored]
    ours = _layers(folded)
    kinds = [type(layer) for layer in ours.values()]
    if kinds == [LAYERS[node.op_type] for node in theirs]:
        for name, node in zip(ours, theirs, strict=True):
            tensors = [stored[tensor] for tensor in node.input[1:]]
            values |= zip((f"{name}.weight", f"{name}.bias"), tensors, strict=False)
            if node.op_type == "MatMul":
                values[f"{name}.weight"] = tensors[0].T
            if f"{name}.bias" in wanted and len(tensors) == 1:  # exporters leave out zeros
                values[f"{name}.bias"] = torch.zeros_like(wanted[f"{name}.bias"])
    used = {tensor for node in theirs for tensor in node.input} | wanted.keys()
    others = [tensor for name, tensor in stored.items() if name not in used]
    for name in wanted.keys() - values.keys():  # constants may have got other names and axes of length 1
        alike = [tensor for tensor in others if _sides(tensor) == _sides(wanted[name]) != []]
        if len(alike) == 1:
            values[name] = alike[0].reshape(wanted[name].shape)
    fits = all(name in values and values[name].shape == tensor.shape for name, tensor in wanted.items())
    if fits:
        folded.load_state_dict(values)
    if not fits or not _same_outputs(folded, path, input_size):
        raise WeightsError(f"{path.name} holds another network than this {type(network).__name__}; check its size.")
    unfold_batch_norm(network, folded)


def _same_outputs(network: nn.Module, path: Path, input_size: Size) -> bool:
    """Whether a network gives what ONNX Runtime gives."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = torch.randn(1, 3, *input_size, generator=torch.Generator().manual_seed(0))
    names = [output.name for output in session.get_outputs()]
    expected = dict(zip(names, session.run(None, {session.get_inputs()[0].name: images.numpy()}), strict=True))
    with torch.inference_mode():
        found = {name: values.numpy() for name, values in network(images).items()}
    return found.keys() == expected.keys() and all(
        np.abs(found[name] - values).max() <= TOLERANCE * np.abs(values).max() for name, values in expected.items()
    )


def _layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the convolutions and linear layers of a network by name, in the order in which they run."""
    calls = [str(node.target) for node in fx.Tracer().trace(network).nodes if node.op == "call_module"]
    layers = {name: network.get_submodule(name) for name in calls}
    return {name: layer for name, layer in layers.items() if isinstance(layer, tuple(LAYERS.values()))}


def _sides(tensor: Tensor) -> list[int]:
    """Return the shape of a tensor without axes of length 1."""
    return [side for side in tensor.shape if side != 1]
