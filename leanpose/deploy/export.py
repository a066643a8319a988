"""Export to ONNX: one file with the network, its record, and a proof that it computes the same."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from leanpose import geometry
from leanpose.codecs import Heatmap, codec_of
from leanpose.data.annotations import AnnotatedSet, open_annotations, read_annotated
from leanpose.errors import InputError, WeightsError
from leanpose.inference.engines import OnnxRuntimeEngine, TorchEngine
from leanpose.inference.preprocess import box_inputs, image_input
from leanpose.io.files import write_atomically
from leanpose.io.preflight import check_needs
from leanpose.models.batch_norm import fold_batch_norm
from leanpose.models.checkpoints import load_network
from leanpose.weights.catalogue import find_weights
from leanpose.weights.record import Weights

OPSET = 18
STRIDE = 32  # whole images have sides that are multiples of it, of 64 even in `image_input`
MOST_INPUTS = 64  # of the comparison
# How far an output's values may differ, as a share of the largest one. Keypoints are reported, not judged: where two
# peaks of one map are about equal, the smallest difference moves a keypoint from one to the other.
TOLERANCE = {"float32": 1e-3, "float16": 0.03}


@dataclass(frozen=True)
class ExportReport:
    """How near an exported file is to its network.

    Attributes:
        file: the ONNX file.
        megabytes: its size.
        inputs: how many network inputs were compared.
        difference: largest difference of two values of one output, as a share of the largest value of this output.
        pixel_difference: largest distance of two decoded keypoints with a score above 0.2, network-input pixels; of
            networks that find persons themselves, of the highest peaks of the finer heatmaps.
    """

    file: str
    megabytes: float
    inputs: int
    difference: float
    pixel_difference: float

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.megabytes:.1f} MB; on {self.inputs} network inputs its outputs differ by at most "
            f"{self.difference:.2g} of their largest value, keypoints by {self.pixel_difference:.2g} input pixels"
        )


def export(
    model: str,
    *,
    out: str,
    data: str | None = None,
    images: str | None = None,
    storage: Literal["float32", "float16"] = "float32",
) -> ExportReport:
    """Write a network with its preprocessing and codec to an ONNX file and compare both.

    Args:
        model: name or .safetensors file.
        out: .onnx file to write.
        data: COCO-style file whose persons are compared (64 of them); without it both see noise.
        images: folder of its images.
        storage: "float16" stores kernels in half the space; computation stays in float32.

    Raises:
        WeightsError: the exported file does not compute the same; nothing is written then.
    """
    if Path(out).suffix != ".onnx":
        raise InputError(f"The output must end in .onnx, not {Path(out).name}.")
    if storage not in TOLERANCE:
        raise InputError(f"storage must be 'float32' or 'float16', not '{storage}'.")
    if (data is None) != (images is None):
        raise InputError("data and images belong together: give the annotation file and the folder of its images.")
    path = find_weights(model, ".safetensors")
    if path.suffix != ".safetensors":
        raise InputError(f"{path.name} is exported already; give a .safetensors file.")
    check_needs(
        packages=("onnxscript",),
        exports=() if data is None else (data,),
        folders=() if images is None else (images,),
        places=(out,),
        megabytes=2 * path.stat().st_size / 1e6,  # kernels may be stored as float16
    )
    network, weights = load_network(path)
    if data is None or images is None:
        inputs = [*np.random.default_rng(0).standard_normal((4, 1, 3, *weights.input_size)).astype(np.float32)]
    else:
        inputs = real_inputs(weights, open_annotations(data, images), MOST_INPUTS)
    report: list[ExportReport] = []

    def write(temporary: Path) -> None:
        onnx.save(to_onnx(network, weights, storage), temporary)
        report.append(_compare(network, weights, temporary, inputs, out))
        if not report[0].difference <= TOLERANCE[storage]:
            raise WeightsError(f"The export failed its check and was not written: {report[0]}.")

    write_atomically(out, write)
    return report[0]


def to_onnx(
    network: torch.nn.Module, weights: Weights, storage: Literal["float32", "float16"] = "float32"
) -> onnx.ModelProto:
    """Return a network as an ONNX model with its record in the metadata and a free batch size.

    Networks that find persons themselves also take images of any size, in multiples of their stride.
    """
    network = fold_batch_norm(network)
    images = torch.zeros(2, 3, *weights.input_size)
    axes: dict[int, Any] = {0: torch.export.Dim("batch")}
    if weights.task != "top_down":
        height, width = (torch.export.Dim(side, min=2, max=4096) for side in ("height", "width"))
        axes |= {2: STRIDE * height, 3: STRIDE * width}
    with torch.inference_mode():
        outputs = list(network(images))
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            network,
            (images,),
            input_names=["images"],
            output_names=outputs,
            dynamic_shapes={"images": axes},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip_traces(model)
    if storage == "float16":
        _store_half(model)
    for key, value in weights.to_metadata().items():
        model.metadata_props.add(key=key, value=value)
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


def real_inputs(weights: Weights, annotated: AnnotatedSet, count: int) -> list[np.ndarray]:
    """Return at most `count` network inputs (1, 3, h, w) from all over a set: its persons, or whole images."""
    samples = annotated.samples()
    if weights.task != "top_down":
        images = list({sample.image_path: sample for sample in samples}.values())
        return [
            image_input(read_annotated(sample.image_path, sample.image_size), weights)[0]
            for sample in _spread(images, count)
        ]
    return [
        box_inputs(read_annotated(sample.image_path, sample.image_size), sample.box_xyxy[None], weights)[0]
        for sample in _spread(samples, count)
    ]


def _spread(values: list[Any], count: int) -> list[Any]:
    """Return at most `count` of the values, at even distances."""
    return [values[i * len(values) // count] for i in range(count)] if len(values) > count else values


def _compare(
    network: torch.nn.Module, weights: Weights, file: Path, inputs: list[np.ndarray], name: str
) -> ExportReport:
    """Return how near a file is to its network."""
    engines = TorchEngine(network, weights), OnnxRuntimeEngine(file)
    difference = distance = 0.0
    for images in inputs:
        expected, found = (engine(images) for engine in engines)
        shares = [np.abs(found[key] - maps).max() / np.abs(maps).max() for key, maps in expected.items()]
        difference = max(difference, *map(float, shares)) if np.isfinite(shares).all() else float("nan")
        input_size = (images.shape[2], images.shape[3])
        (points_a, scores), (points_b, _) = (_points(outputs, input_size, weights) for outputs in (expected, found))
        distance = max(distance, float(np.linalg.norm(points_a - points_b, axis=2)[scores > 0.2].max(initial=0)))
    return ExportReport(name, file.stat().st_size / 1e6, len(inputs), difference, distance)


def _points(
    outputs: Mapping[str, np.ndarray], input_size: geometry.Size, weights: Weights
) -> tuple[np.ndarray, np.ndarray]:
    """Return keypoints (N, K, 2) in input pixels and scores (N, K); of a bottom-up network the highest peaks."""
    if weights.task == "top_down":
        return codec_of(weights).decode(outputs, input_size)
    return Heatmap(convention=weights.convention).decode({"heatmaps": outputs["heatmaps_2"]}, input_size)
