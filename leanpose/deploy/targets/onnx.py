"""ONNX, for ONNX Runtime on every system and in browsers."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from leanpose.deploy.targets import Request, Runner, Target
from leanpose.inference.engines import session_options
from leanpose.models.batch_norm import fold_batch_norm
from leanpose.weights.catalogue import END_TO_END_KEY
from leanpose.weights.record import Weights

OPSET = 18
STRIDE = 32  # whole images have sides that are multiples of it, of 64 even in `image_input`


def to_onnx(
    network: torch.nn.Module, weights: Weights, storage: Literal["float32", "float16"] = "float32"
) -> onnx.ModelProto:
    """Return a network as an ONNX model with its record in the metadata and a free batch size.

    Networks that find persons themselves also take images of any size, in multiples of their stride.
    """
    network = fold_batch_norm(network)
    images = torch.zeros(2, 3, *weights.input_size)
    with torch.inference_mode():
        outputs = tuple(network(images))
    return model_of(Request(network, images, weights, outputs, storage))


def model_of(request: Request) -> onnx.ModelProto:
    """Return what a request asks for as an ONNX model."""
    example = torch.cat([request.example, request.example])[:2]  # torch takes an axis of length 1 to be always so
    axes: dict[int, Any] = {0: torch.export.Dim("batch")}
    if request.weights.task != "top_down":
        height, width = (torch.export.Dim(side, min=2, max=4096) for side in ("height", "width"))
        axes |= {2: STRIDE * height, 3: STRIDE * width}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            request.network,
            (example,),
            input_names=[request.input_name],
            output_names=[*request.output_names],
            dynamic_shapes=(axes,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip_traces(model)
    if request.storage == "float16":
        _store_half(model)
    for key, value in request.weights.to_metadata().items():
        model.metadata_props.add(key=END_TO_END_KEY if request.end_to_end else key, value=value)
    onnx.checker.check_model(model)
    return model


def _strip_traces(model: onnx.ModelProto) -> None:
    """Take out what the exporter notes about the Python source, such as paths of this machine."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _store_half(model: onnx.ModelProto) -> None:
    """Store kernels and matrices as float16, each with a cast back to float32 that engines fold at load."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            name = tensor.name
            half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name + "_half")
            tensor.CopyFrom(half)
            casts.append(onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _convert(request: Request, path: Path) -> None:
    onnx.save(model_of(request), path)


def _load(path: Path, names: Sequence[str]) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), session_options(1), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda images: dict(zip(names, session.run([*names], {given.name: images}), strict=True))


TARGET = Target(".onnx", _convert, _load, {"onnxscript": "train"}, any_size=True, end_to_end=True)
