"""ONNX models of many archs from one export: exporting takes seconds, exchanging the weights does not."""

from __future__ import annotations

import copy

import onnx
import torch
from onnx import numpy_helper

from leanpose.deploy.targets.onnx import to_onnx
from leanpose.models.batch_norm import fold_batch_norm
from leanpose.models.litepose import InvertedBottleneck, LitePose
from leanpose.weights.record import Weights


class OnnxTemplate:
    """Exports LitePose networks that differ in their widths alone; the first one takes seconds."""

    def __init__(self) -> None:
        self._models: dict[tuple[bool, ...], onnx.ModelProto] = {}  # by which blocks add their input

    def model_of(self, network: LitePose) -> onnx.ModelProto:
        """Return what `leanpose.deploy.targets.onnx.to_onnx` returns of a network, without a record in the metadata."""
        kind = tuple(block.adds_input for block in network.modules() if isinstance(block, InvertedBottleneck))
        if kind not in self._models:
            self._models[kind] = _exported(network)
        model = onnx.ModelProto()
        model.CopyFrom(self._models[kind])
        state = fold_batch_norm(network).state_dict()
        assert state.keys() <= {tensor.name for tensor in model.graph.initializer}
        for tensor in model.graph.initializer:
            if tensor.name in state:
                tensor.CopyFrom(numpy_helper.from_array(state[tensor.name].numpy(), tensor.name))
        _adapt_shapes(model.graph)
        return model


def _exported(network: LitePose) -> onnx.ModelProto:
    """Export a copy with noise as its weights, since the exporter stores equal tensors, such as zeros, once."""
    noisy = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in noisy.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1)
    model = to_onnx(noisy, Weights("template", "litepose", (64, 64), task="bottom_up"))
    del model.metadata_props[:]
    return model


def _adapt_shapes(graph: onnx.GraphProto) -> None:
    """Make the groups of depthwise convolutions, and the shapes that are noted, those that follow from the weights."""
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    channels: dict[str, int] = {}  # of maps
    for node in graph.node:
        inputs = [channels[name] for name in node.input if name in channels]
        if node.op_type in ("Conv", "ConvTranspose"):
            shape = shapes[node.input[1]]
            outputs = [shape[1 if node.op_type == "ConvTranspose" else 0]]
            for attribute in node.attribute:
                if attribute.name == "group" and attribute.i > 1:
                    attribute.i = shape[0]
        elif node.op_type == "Concat":
            outputs = [sum(inputs)]
        elif node.op_type == "Split":
            outputs = [inputs[0] // len(node.output)] * len(node.output)
        else:
            outputs = inputs[:1] * len(node.output)
        channels |= zip(node.output, outputs, strict=True)
    for value in graph.value_info:
        noted = value.type.tensor_type.shape.dim
        if value.name in shapes:
            for axis, length in zip(noted, shapes[value.name], strict=True):
                axis.dim_value = length
        elif value.name in channels:
            noted[1].dim_value = channels[value.name]
