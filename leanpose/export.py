"""Export to ONNX: one file with the network, its record, and a proof that it computes the same."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from leanpose import geometry
from leanpose.checkpoints import load_network
from leanpose.codecs import create_codec
from leanpose.data.coco_style import read_samples
from leanpose.errors import InputError, WeightsError
from leanpose.files import write_atomically
from leanpose.pictures import read_picture
from leanpose.predict import network_images
from leanpose.runtime import OnnxRuntimeEngine, TorchEngine, top_down_heatmaps
from leanpose.weights import Weights, find_weights

OPSET = 18
MOST_CROPS = 64  # of the comparison
# How far heat-map values may differ, as a share of the largest one. Keypoints are reported, not judged: where two
# peaks of one map are about equal, the smallest difference moves a keypoint from one to the other.
TOLERANCE = {"float32": 1e-3, "float16": 0.03}


@dataclass(frozen=True)
class ExportReport:
    """How near an exported file is to its network.

    Attributes:
        file: the ONNX file.
        megabytes: its size.
        crops: how many crops were compared.
        heatmap_difference: largest absolute difference of two heat-map values.
        pixel_difference: largest distance of two decoded keypoints with a score above 0.2, network-input pixels.
    """

    file: str
    megabytes: float
    crops: int
    heatmap_difference: float
    pixel_difference: float

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.megabytes:.1f} MB; on {self.crops} crops heat maps differ by at most "
            f"{self.heatmap_difference:.2g}, keypoints by {self.pixel_difference:.2g} input pixels"
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
        model: .safetensors file.
        out: .onnx file to write.
        data: COCO-style file whose persons are compared (the first 64); without it both see noise.
        images: folder of its pictures.
        storage: "float16" stores kernels in half the space; computation stays in float32.

    Raises:
        WeightsError: the exported file does not compute the same; nothing is written then.
    """
    if Path(out).suffix != ".onnx":
        raise InputError(f"The output must end in .onnx, not {Path(out).name}.")
    if storage not in TOLERANCE:
        raise InputError(f"storage must be 'float32' or 'float16', not '{storage}'.")
    if (data is None) != (images is None):
        raise InputError("data and images belong together: give the annotation file and the folder of its pictures.")
    path = find_weights(model)
    if path.suffix != ".safetensors":
        raise InputError(f"{path.name} is exported already; give a .safetensors file.")
    network, weights = load_network(path)
    inputs = _comparison_inputs(weights, data, images)
    report: list[ExportReport] = []

    def write(temporary: Path) -> None:
        onnx.save(to_onnx(network, weights, storage), temporary)
        compared, largest = _compare(network, weights, temporary, inputs, out)
        report.append(compared)
        if not compared.heatmap_difference <= TOLERANCE[storage] * largest:
            raise WeightsError(f"The export failed its check and was not written: {report[0]}.")

    write_atomically(out, write)
    return report[0]


def to_onnx(
    network: torch.nn.Module, weights: Weights, storage: Literal["float32", "float16"] = "float32"
) -> onnx.ModelProto:
    """Return a network as an ONNX model with its record in the metadata and a free batch size."""
    images = torch.zeros(2, 3, *weights.input_size)
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
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
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


def _comparison_inputs(weights: Weights, data: str | None, images: str | None) -> np.ndarray:
    """Return (N, 3, h, w) network inputs: crops of annotated persons, or noise."""
    if data is None or images is None:
        return np.random.default_rng(0).standard_normal((4, 3, *weights.input_size)).astype(np.float32)
    samples = read_samples(data, images)[:MOST_CROPS]
    crops = [network_images(read_picture(s.image_path), s.box_xyxy[None], weights)[0] for s in samples]
    return np.concatenate(crops)


def _compare(
    network: torch.nn.Module, weights: Weights, file: Path, images: np.ndarray, name: str
) -> tuple[ExportReport, float]:
    """Return how near a file is to its network, and the largest heat-map value."""
    expected = top_down_heatmaps(TorchEngine(network, weights)(images), weights.model)
    found = OnnxRuntimeEngine(file)(images)["heatmaps"]
    codec = create_codec(weights.codec, **weights.codec_options)
    size = (expected.shape[2], expected.shape[3])
    (points_a, scores), (points_b, _) = (codec.decode(heatmaps) for heatmaps in (expected, found))
    moved = geometry.heatmap_to_input(points_a - points_b, weights.input_size, size, weights.convention)
    distances = np.linalg.norm(moved, axis=2)[scores > 0.2]
    report = ExportReport(
        file=name,
        megabytes=file.stat().st_size / 1e6,
        crops=len(images),
        heatmap_difference=float(np.abs(expected - found).max()),
        pixel_difference=float(distances.max()) if distances.size else 0.0,
    )
    return report, float(np.abs(expected).max())
