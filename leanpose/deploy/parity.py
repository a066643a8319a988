"""The proof of an export: what a file and its network give for the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from leanpose import geometry
from leanpose.codecs import Heatmap, codec_of
from leanpose.data.annotations import AnnotatedSet, read_annotated
from leanpose.deploy.targets import Outputs, Request, Runner, Target
from leanpose.errors import WeightsError
from leanpose.evaluation.timing import medians_in_turns
from leanpose.inference.engines import TorchEngine
from leanpose.inference.preprocess import box_inputs, image_input, normalised
from leanpose.weights.record import Weights

MIN_SCORE = 0.2  # of keypoints that are compared
TIMED_RUNS = 10
# How far an output's values may differ, as a share of the largest one. Keypoints are reported, not judged: where two
# peaks of one map are about equal, the smallest difference moves a keypoint from one to the other.
TOLERANCE = {"float32": 1e-3, "float16": 0.03}


@dataclass(frozen=True)
class ExportReport:
    """How near an exported file is to its network.

    Attributes:
        file: the file, or the folder.
        megabytes: its size, with what lies beside it.
        inputs: how many network inputs were compared.
        difference: largest difference of two values of one output, as a share of the largest value of this output; None
            where nothing here can run the file.
        pixel_difference: largest distance of two decoded keypoints with a score above 0.2, network-input pixels; of
            networks that find persons themselves, of the highest peaks of the finer heatmaps; of detectors, of the
            corners of the best box.
        milliseconds: median of one network input, on one thread.
        figure: of int8, the name of the metric that was measured before and after; else None.
        values: of int8, (before, after), 0 to 1.
        note: what else a user must know.
    """

    file: str
    megabytes: float
    inputs: int
    difference: float | None
    pixel_difference: float | None
    milliseconds: float | None = None
    figure: str | None = None
    values: tuple[float, float] | None = None
    note: str = ""

    def __str__(self) -> str:
        size = f"{self.file}: {self.megabytes:.1f} MB"
        if self.difference is None:
            return f"{size}. {self.note}"
        lines = [
            f"{size}; on {self.inputs} network inputs its outputs differ by at most "
            f"{self.difference:.2g} of their largest value, keypoints by {self.pixel_difference:.2g} input pixels"
        ]
        if self.milliseconds is not None:
            lines.append(f"{self.milliseconds:.2f} ms for one input, on one thread")
        if self.values is not None:
            lines.append(
                "{} {:.1f} (float32 {:.1f})".format(self.figure, *(100 * value for value in self.values[::-1]))
            )
        return "\n".join([*lines, self.note] if self.note else lines)


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


def noise_inputs(weights: Weights) -> list[np.ndarray]:
    """Return 4 network inputs (1, 3, h, w) of noise."""
    return [*np.random.default_rng(0).standard_normal((4, 1, 3, *weights.input_size)).astype(np.float32)]


def _spread(values: list[Any], count: int) -> list[Any]:
    """Return at most `count` of the values, at even distances."""
    return [values[i * len(values) // count] for i in range(count)] if len(values) > count else values


def as_crops(inputs: np.ndarray, weights: Weights) -> np.ndarray:
    """Return the crops (N, h, w, 3) uint8 RGB of network inputs (N, 3, h, w): what `normalised` was given."""
    pixels = inputs.transpose(0, 2, 3, 1) * np.array(weights.std, np.float32) + np.array(weights.mean, np.float32)
    pixels = pixels[..., ::-1] if weights.channel_order == "bgr" else pixels
    return np.ascontiguousarray(np.rint(pixels).clip(0, 255).astype(np.uint8))


def difference(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> float:
    """Return the largest difference of two values of one output, as a share of the largest value of this output; NaN
    where there is one."""
    shares = [np.abs(found[key] - maps).max() / np.abs(maps).max() for key, maps in expected.items()]
    return max(map(float, shares)) if np.isfinite(shares).all() else float("nan")


def report_of(
    engine: TorchEngine, request: Request, target: Target, inputs: Sequence[np.ndarray], name: str, file: Path
) -> ExportReport:
    """Return how near a file is to its network.

    Args:
        engine: the network in torch.
        request: what was converted.
        inputs: (1, 3, h, w) each, on which both are compared.
        name: of the file, for the report.
        file: the result.

    Raises:
        WeightsError: nothing here can run the file, and what it holds is not the network's.
    """
    megabytes = sum(map(_bytes, target.files(file))) / 1e6
    if target.load is None:
        assert target.check is not None
        target.check(request, file)
        return ExportReport(name, megabytes, 0, None, None, note=target.note)
    exported = target.load(file, request.output_names)
    network: Runner = engine
    read: Callable[..., Any] = partial(read_points, request.weights)
    if request.end_to_end:
        inputs = [as_crops(given, request.weights) for given in inputs]
        network, read = partial(_decoded, engine), _as_they_are
    largest, distance = compare(network, exported, inputs, read)
    time = milliseconds(exported, inputs[0])
    return ExportReport(name, megabytes, len(inputs), largest, distance, time, note=target.note)


def prove(report: ExportReport, storage: Literal["float32", "float16"]) -> None:
    """Raise WeightsError where a file of float numbers is not near enough to its network."""
    most = TOLERANCE[storage]
    if report.difference is not None and not report.difference <= most:
        raise WeightsError(
            f"The export failed its check and was not written: on {report.inputs} network inputs its outputs differ by "
            f"up to {report.difference:.2g} of their largest value, and {most:g} is allowed."
        )


def _bytes(file: Path) -> int:
    return sum(map(_bytes, file.iterdir())) if file.is_dir() else file.stat().st_size


def compare(
    network: Runner, exported: Runner, inputs: Sequence[np.ndarray], read: Callable[[Outputs, np.ndarray], Any]
) -> tuple[float, float]:
    """Return how far a file is from its network.

    Args:
        network, exported: inputs -> named outputs.
        inputs: what both are given, one after another.
        read: (outputs, input) -> keypoints (N, K, 2) in input pixels and scores (N, K).

    Returns:
        The largest `difference`, and the largest distance of two keypoints with a score above MIN_SCORE, pixels.
    """
    largest = distance = 0.0
    for given in inputs:
        expected, found = network(given), exported(given)
        largest = float(np.maximum(largest, difference(expected, found)))  # NaN stays
        (points_a, scores), (points_b, _) = read(expected, given), read(found, given)
        distance = max(distance, float(np.linalg.norm(points_a - points_b, axis=2)[scores > MIN_SCORE].max(initial=0)))
    return largest, distance


def read_points(weights: Weights, outputs: Outputs, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return keypoints (N, K, 2) in input pixels and scores (N, K); of a bottom-up network the highest peaks, of a
    detector two corners of the best box, with its score."""
    size: geometry.Size = (given.shape[2], given.shape[3])
    if weights.task == "top_down":
        return codec_of(weights).decode(outputs, size)
    if weights.task == "detection":
        boxes, scores = replace(codec_of(weights), score_threshold=0.0, max_people=1).decode(outputs, size)
        return boxes.reshape(-1, 2, 2), scores[:, None].repeat(2, axis=1)
    return Heatmap(convention=weights.convention).decode({"heatmaps": outputs["heatmaps_2"]}, size)


def milliseconds(exported: Runner, given: np.ndarray) -> float:
    """Return the median time of one input."""
    return medians_in_turns({"": partial(exported, given)}, TIMED_RUNS)[""]


def _decoded(engine: TorchEngine, crops: np.ndarray) -> dict[str, np.ndarray]:
    """Return keypoints and scores of crops (N, h, w, 3) as prediction finds them in torch's outputs."""
    weights = engine.weights
    keypoints, scores = codec_of(weights).decode(engine(normalised(crops, weights)), weights.input_size)
    return {"keypoints": keypoints, "scores": scores if weights.calibration is None else weights.calibration(scores)}


def _as_they_are(outputs: Outputs, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return outputs["keypoints"], outputs["scores"]
