"""Evaluate a model on an annotated set: one loop writes predictions, another scores the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tqdm import tqdm

from leanpose.batch.cluster import Cluster, everywhere, needs_gpu, spread
from leanpose.data.annotations import AnnotatedSet, check_size, open_annotations, read_annotated, scored_set
from leanpose.errors import InputError, renamed, require
from leanpose.evaluation.finding import LEAST_SCORE, detector_figures, find_persons, whole_images
from leanpose.evaluation.pairs import paired
from leanpose.evaluation.plots import training_logs
from leanpose.evaluation.report import Report
from leanpose.evaluation.report_page import write_report
from leanpose.inference.detect import Detector, NetworkDetector
from leanpose.inference.engines import Engine, EngineName, load_engine
from leanpose.inference.predictor import DETECTORS, FindsBoxesError, Predictor
from leanpose.io.files import write_text
from leanpose.io.preflight import check_needs
from leanpose.structures import ImageBoxes, Poses


def predict_images(predictor: Predictor, images: Sequence[ImageBoxes]) -> Generator[list[dict[str, Any]]]:
    """Yield each image's persons in the COCO results form.

    Persons in boxes are rescored, and duplicates left out. Those of MPII stay as they are, and each has one key more:
    `person`, the place in the list of persons, from 0.

    Raises:
        InputError: an image cannot be read, or has another size than its annotations are for.
    """
    paths, boxes = [image.path for image in images], [image.boxes_xyxy for image in images]
    with closing(predictor.stream(paths, boxes)) as found:
        for image, result in zip(images, found, strict=True):
            array, poses = result
            check_size(array, image.path, image.image_size)
            yield _results(predictor, image, poses)


def predict_image(predictor: Predictor, image: ImageBoxes) -> list[dict[str, Any]]:
    """Return what `predict_images` yields for one image."""
    poses = predictor(read_annotated(image.path, image.image_size), image.boxes_xyxy)
    return _results(predictor, image, poses)


class Worker:
    """Predicts images by their numbers, in a process that `batch.cluster.spread` starts.

    Args:
        make: makes the Predictor.
        images: the same everywhere, which lie under the same names on each machine.
    """

    def __init__(self, make: Callable[[], Predictor], images: Sequence[ImageBoxes]) -> None:
        self._predictor, self._images = make(), images

    def __call__(self, number: int) -> tuple[int, list[dict[str, Any]]]:
        """Return the number, and what `predict_images` yields for the image."""
        return number, predict_image(self._predictor, self._images[number])


def _results(predictor: Predictor, image: ImageBoxes, poses: Poses) -> list[dict[str, Any]]:
    if image.persons is not None:
        results = poses.to_coco_results(image.image_id, image.category_id)
        return [result | {"person": person} for result, person in zip(results, image.persons, strict=True)]
    if image.boxes_xyxy is not None:
        poses = predictor.rescored(poses, image.scores)
    return poses.to_coco_results(image.image_id, image.category_id)


class Metrics(dict[str, float]):
    """Figures by name, 0 to 1; prints as two lines in percent.

    Attributes:
        report: what `evaluate --report` adds, which is printed below.
    """

    report: Report | None = None

    def __str__(self) -> str:
        cells = [(key, f"{100 * value:.1f}" if value >= 0 else "-") for key, value in self.items()]
        widths = [max(5, *map(len, cell)) for cell in cells]
        lines = [
            "  ".join(f"{text:>{width}}" for text, width in zip(row, widths, strict=True))
            for row in zip(*cells, strict=True)
        ]
        return "\n".join(lines if self.report is None else [*lines, "", str(self.report)])


class Measured(NamedTuple):
    """What `measure` returns: the figures, the results in the COCO results form, and what made them; None for a network
    that finds boxes, whose results are boxes."""

    metrics: Metrics
    results: list[dict[str, Any]]
    predictor: Predictor | None


def measure(
    model: str,
    annotated: AnnotatedSet,
    *,
    boxes: str | None = None,
    detector: str | Detector = DETECTORS[-1],
    flip_test: bool = False,
    scales: list[float] | None = None,
    min_person_score: float = 0.0,
    engine: EngineName = "auto",
    threads: int | None = None,
    device: str = "cpu",
    channel_order: Literal["rgb", "bgr"] | None = None,
    cluster: Cluster | None = None,
    needs_poses: bool = False,
) -> Measured:
    """Return the figures of a model on a set; arguments as of `evaluate`, the cluster to work on, if any, and whether
    networks that find boxes are refused."""
    network: str | Engine = model
    if channel_order is not None:
        network = load_engine(model, engine, threads, device)
        network.weights = replace(network.weights, channel_order=channel_order)
    try:
        predictor = Predictor(
            network,
            engine=engine,
            flip_test=flip_test,
            threads=threads,
            device=device,
            detector=detector if boxes == "found" else None,
            min_person_score=min_person_score,
            scales=scales or (1.0,),
        )
    except FindsBoxesError:
        if boxes is not None or flip_test or cluster is not None or needs_poses:
            raise InputError(
                f"{model} finds boxes: leave --boxes, --flip-test, --report and --distributed out."
            ) from None
        loaded = load_engine(network, engine, threads, device) if isinstance(network, str) else network
        return _measure_detector(loaded, annotated, scales)
    predictor.carry_to(scored_set(annotated, predictor.keypoint_set))
    annotated.check(predictor.keypoint_set, model)
    if predictor.bottom_up and boxes not in (None, "found"):
        raise InputError(f"{model} finds persons without boxes; leave --boxes out.")
    without = predictor.bottom_up or boxes in ("found", "image")
    images = annotated.images(None if without else boxes or "gt")
    check_needs(files=(image.path for image in images))
    if cluster is None:
        found: Iterable[tuple[int, list[dict[str, Any]]]] = enumerate(predict_images(predictor, images))
    else:
        found = spread(partial(Worker, predictor.__reduce__()[0], images), range(len(images)), cluster)
    found = sorted(tqdm(found, "predicting", len(images), unit="image", disable=None), key=itemgetter(0))
    results = [person for _, persons in found for person in persons]
    return Measured(Metrics(annotated.score(results, predictor.keypoint_set)), results, predictor)


def _measure_detector(engine: Engine, annotated: AnnotatedSet, scales: Sequence[float] | None) -> Measured:
    named, images = whole_images(annotated), annotated.images(None)
    check_needs(files=(image.path for image in images))
    detector = NetworkDetector(engine, scales, LEAST_SCORE)
    found = [find_persons(detector, named, image) for image in tqdm(images, "finding", unit="image", disable=None)]
    return Measured(Metrics(detector_figures(found)), [box for one in found for box in one.to_coco_results()], None)


def evaluate(
    model: str,
    *,
    data: str,
    images: str,
    category: str | None = None,
    boxes: str | None = None,
    detector: str = DETECTORS[-1],
    flip_test: bool = False,
    scales: list[float] | None = None,
    min_person_score: float = 0.0,
    out: str | None = None,
    report: str | None = None,
    engine: EngineName = "auto",
    threads: int | None = None,
    device: str = "cpu",
    channel_order: Literal["rgb", "bgr"] | None = None,
    distributed: bool = False,
    address: str | None = None,
    finder: str | None = None,
) -> Metrics:
    """Measure a model on an annotated set with the metric that is official for it.

    Args:
        model: name or file (.onnx, .safetensors), also of a network that finds boxes alone.
        data: COCO-style annotation file; the export of an annotation tool (see docs/annotations.md); or MPII's list of
            persons (valid.json of HRNet, or valid.h5) with its ground truth gt_valid.mat beside it.
        images: folder of its images.
        category: name or id of the category that is meant, where several have keypoints.
        boxes: "gt" for the annotated boxes, "found" for those that the detector proposes, "image" where each image is
            one person, or a person-detection file (COCO results form). Without it "gt"; networks that find persons
            themselves take none.
        detector: name or file of the network that proposes persons, for boxes "found".
        flip_test: average with the mirrored image.
        scales: for networks that find persons themselves: average over images of several sizes, such as [0.5,1,2].
        min_person_score: persons that a detector found are left out below this score; all count by default, since the
            metric ranks them.
        out: folder for results.json (COCO results form; of MPII with the place of each `person` in the list) and
            metrics.json; none is written without it.
        report: folder for report.html and report.json: PCK and errors in pixels by keypoint, size and score, with
            intervals of 95 %, the largest errors as images, and the curves of the model's training where it lies in the
            folder of its run. COCO-style files only.
        engine: "auto", "onnxruntime", "openvino", "torch", "litert" or "ncnn".
        threads: threads of the network.
        device: "cpu"; "cuda", "tensorrt", "coreml" or "directml" with a build of ONNX Runtime that has them; "gpu" or
            "npu" with OpenVINO; "cuda" or "mps" with torch. A number, such as 0, is a GPU.
        channel_order: "rgb" or "bgr" in place of the order of channels that the model was trained on, to see what it
            costs to confuse them.
        distributed: on all machines of a Ray cluster, which have the images and weights under the same names.
        address: of that cluster, as of `leanpose batch`; without it one on this machine is started.
        finder: the former name of detector; goes with the next release.

    Returns:
        AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL, each 0 to 1. For CrowdPose (its keypoints, and images with
        a `crowdIndex`): AP, AP50, AP75, AR, AR50, AR75, AP easy, AP medium, AP hard. For MPII: PCKh@0.5, PCKh@0.1,
        and at 0.5 head, shoulder, elbow, wrist, hip, knee, ankle. For a network that finds boxes: recall of the
        persons, those without keypoints too, at one and three false boxes per image, and at one of small, medium and
        large ones; see `evaluation.finding.detector_figures`. -1 where the set has no such person.
    """
    detector = renamed(detector, finder)
    if address is not None and not distributed:
        raise InputError("--address is that of a cluster; add --distributed.")
    if distributed and channel_order is not None:
        raise InputError("--channel-order works on one machine; leave --distributed out.")
    cluster = None
    if distributed:
        require("ray", "batch")
        threads = threads or 1
        cluster = Cluster(address, None, threads, needs_gpu(device))
        model, detector, images = everywhere(model), everywhere(detector), os.path.abspath(images)
    files = ((out, "results.json"), (report, "report.html"))
    places = [Path(folder) / name for folder, name in files if folder is not None]
    check_needs(packages=() if report is None else ("matplotlib",), exports=(data,), folders=(images,), places=places)
    annotated = open_annotations(data, images, category)
    if report is not None:
        paired(annotated, [], annotated.keypoint_set)  # refuses what has no such report
    metrics, results, predictor = measure(
        model,
        annotated,
        boxes=boxes,
        detector=detector,
        flip_test=flip_test,
        scales=scales,
        min_person_score=min_person_score,
        engine=engine,
        threads=threads,
        device=device,
        channel_order=channel_order,
        cluster=cluster,
        needs_poses=report is not None,
    )
    if out is not None:
        write_text(Path(out) / "results.json", json.dumps(results))
        write_text(Path(out) / "metrics.json", json.dumps(metrics, indent=1))
    if report is not None and predictor is not None:
        pairs = paired(annotated, results, predictor.keypoint_set)
        settings = _settings(predictor, boxes, detector, flip_test)
        metrics.report = Report(predictor.weights.name, Path(data).name, settings, metrics, pairs)
        write_report(metrics.report, Path(report), training_logs(Path(model)))
    return metrics


def _settings(predictor: Predictor, boxes: str | None, detector: str, flip_test: bool) -> dict[str, str]:
    """Return how a model was measured, in words."""
    height, width = predictor.weights.input_size
    sources = {None: "annotated boxes", "gt": "annotated boxes", "found": f"boxes that {detector} finds"}
    sources["image"] = "each image is one person"
    persons = "found by the network itself" if predictor.bottom_up else sources.get(boxes, f"boxes of {boxes}")
    return {
        "network": f"{predictor.weights.model}, input {height}x{width}",
        "persons": persons,
        "flip test": "yes" if flip_test else "no",
    }
