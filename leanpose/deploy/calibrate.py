"""Calibrate keypoint scores: what they are worth is fitted on annotated persons and kept in the file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from safetensors.torch import save_file
from scipy.optimize import isotonic_regression
from tqdm import tqdm

from leanpose.data.annotations import open_annotations, scored_set
from leanpose.data.coco import CocoSet, area_of
from leanpose.errors import InputError
from leanpose.geometry import similarities
from leanpose.inference.engines import EngineName, load_engine
from leanpose.inference.predictor import Predictor
from leanpose.io.files import write_atomically
from leanpose.io.preflight import check_needs
from leanpose.keypoint_sets import KeypointSet, mapping
from leanpose.metrics.calibration_error import expected_calibration_error
from leanpose.metrics.person_recall import match
from leanpose.models.checkpoints import read_state
from leanpose.structures import Poses, Sample
from leanpose.weights.calibration import Calibration
from leanpose.weights.catalogue import EXPORTED, find_weights, read_record
from leanpose.weights.record import Weights

RIGHT = 0.5  # similarity above which a keypoint is right
POINTS = 16  # at most, of a line
PRIOR = 16  # keypoints


@dataclass(frozen=True)
class CalibrationReport:
    """What scores say of keypoints before and after.

    Attributes:
        file: the calibrated file.
        data: name of the annotation file that the figures are of.
        keypoints: how many were found there.
        right: share of them that are annotated and have a similarity above 0.5.
        errors: (before, after) expected calibration error, 0 to 1.
    """

    file: str
    data: str
    keypoints: int
    right: float
    errors: tuple[float, float]

    def __str__(self) -> str:
        before, after = (100 * error for error in self.errors)
        return (
            f"{self.file}: of {self.keypoints} keypoints in {self.data} {100 * self.right:.1f} % are right; "
            f"expected calibration error {before:.1f} % before, {after:.1f} % after"
        )


def calibrate(
    model: str,
    *,
    data: str,
    images: str,
    out: str,
    check: str | None = None,
    flip_test: bool = False,
    engine: EngineName = "auto",
    threads: int | None = None,
) -> CalibrationReport:
    """Make scores of keypoints say how likely these are right: annotated, and with a similarity (OKS) above 0.5.

    A line from raw scores to such chances goes into the record of a copy of the file; keypoints and the order of
    persons stay as they are. A network for one person looks into the annotated boxes; one that finds persons itself
    is judged by those whose box meets an annotated one with an IoU of at least 0.5.

    Args:
        model: name or file (.onnx, .safetensors).
        data: COCO-style annotation file to fit on, best of images that the model was not trained on.
        images: folder of its images, and of those of check.
        out: file to write, of the same kind as the model's.
        check: another annotation file, for the figures; by default they are of data itself.
        flip_test: average with the mirrored image, for scores with the flip test.
        engine: "auto", "onnxruntime", "openvino" or "torch".
        threads: threads of the network.

    Raises:
        InputError: an argument or file cannot be used, or nobody is found.
    """
    path = find_weights(model)
    if path.suffix in EXPORTED:
        raise InputError(
            f"{path.name} is exported: calibrate the .safetensors file that it is made of, and export that."
        )
    if Path(out).suffix != path.suffix:
        raise InputError(f"The output must end in {path.suffix} as {path.name} does, not {Path(out).name}.")
    check_needs(
        packages=("onnx", "safetensors"),
        exports=(data, *(() if check is None else (check,))),
        folders=(images,),
        places=(out,),
        megabytes=path.stat().st_size / 1e6,
    )
    predictor = raw_predictor(path, flip_test, engine, threads)
    scores, right = judged(predictor, data, images)
    calibration = fitted(scores, right, Path(data).name)
    if check is not None:
        scores, right = judged(predictor, check, images)
    found = scores > 0
    errors = [expected_calibration_error(values[found], right[found]) for values in (scores, calibration(scores))]
    record = read_record(path)
    record = replace(record, calibration=_of_all(calibration, predictor.keypoint_set, record.keypoint_set))
    write_atomically(out, lambda temporary: _copy(path, temporary, record))
    share = float(right[found].mean())
    return CalibrationReport(out, Path(check or data).name, int(found.sum()), share, (errors[0], errors[1]))


def raw_predictor(
    model: str | Path, flip_test: bool = False, engine: EngineName = "auto", threads: int | None = None
) -> Predictor:
    """Return a Predictor of raw scores, which keeps everybody."""
    network = load_engine(model, engine, threads)
    network.weights = replace(network.weights, calibration=None)
    return Predictor(network, flip_test=flip_test, detector=None, min_person_score=0.0)


def judged(predictor: Predictor, data: str, images: str) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (N, K) of annotated persons that are found, 0 where a keypoint is not, and whether it is right,
    (N, K) bool.

    Raises:
        InputError: the file is no COCO-style one, or nobody is found.
    """
    scores, right = [], []
    for _, poses, persons, areas in found_persons(predictor, data, images):
        truth = np.stack([person.keypoints for person in persons])
        similar = similarities(poses.keypoints, truth, areas, poses.keypoint_set.oks_sigmas)
        scores.append(np.where(poses.scores > 0, poses.scores, 0))
        right.append(similar > RIGHT)  # NaN, where a keypoint is not annotated, compares false
    if not scores or not np.concatenate(scores).any():
        raise InputError(f"{predictor.weights.name} finds none of the persons of {data}.")
    return np.concatenate(scores), np.concatenate(right)


def found_persons(
    predictor: Predictor, data: str, images: str
) -> Iterator[tuple[np.ndarray, Poses, list[Sample], np.ndarray]]:
    """Yield each image in which annotated persons are found: (H, W, 3) uint8 RGB, N poses, the N annotated persons and
    their areas (N,) in pixels."""
    annotated = open_annotations(data, images)
    if not isinstance(annotated, CocoSet):
        raise InputError(f"{data} is no COCO-style file, whose persons have an area.")
    predictor.carry_to(scored_set(annotated, predictor.keypoint_set))
    annotated.check(predictor.keypoint_set, predictor.weights.name)
    counted = [p for p in annotated.persons if p.labelled and p.box_xyxy is not None and not p.crowd]
    by_image: dict[object, list[tuple[Sample, float]]] = defaultdict(list)
    for sample, person in zip(annotated.samples(predictor.keypoint_set), counted, strict=True):
        by_image[sample.image_id].append((sample, area_of(person)))
    asked = [image for image in annotated.images("gt") if image.image_id in by_image]
    check_needs(files=(image.path for image in asked))
    boxes = None if predictor.bottom_up else [image.boxes_xyxy for image in asked]
    with closing(predictor.stream([image.path for image in asked], boxes)) as results:
        for image, (array, poses) in zip(tqdm(asked, "predicting", unit="image", disable=None), results, strict=True):
            persons, areas = zip(*by_image[image.image_id], strict=True)
            places = np.arange(len(persons))
            if predictor.bottom_up:
                truth = np.stack([person.box_xyxy for person in persons])
                places = match(poses.boxes_xyxy, truth, np.zeros(len(truth), bool))[1]
                poses, places = poses[places >= 0], places[places >= 0]
            if len(places):
                yield array, poses, [persons[i] for i in places], np.array(areas)[places]


def fitted(scores: np.ndarray, right: np.ndarray, data: str) -> Calibration:
    """Return lines that never fall and are nearest to the shares of right ones.

    The found keypoints are sorted by score into groups of equal size; a point is the mean score of a group and the
    share of right ones in it, made never to fall by isotonic regression (Zadrozny and Elkan, "Transforming Classifier
    Scores into Accurate Multiclass Probability Estimates", 2002). Each keypoint has shares of its own, in which the
    share of all keypoints counts as PRIOR more of them.

    Args:
        scores: (N, K) raw, 0 where not found; at least one is.
        right: (N, K) bool.
        data: what they are of.
    """
    found = scores > 0
    edges = np.unique(np.quantile(scores[found], np.linspace(0, 1, POINTS + 1)))[1:-1]
    groups = np.searchsorted(edges, scores, side="right")  # (N, K)

    def sums(values: np.ndarray) -> np.ndarray:
        """Sum what was found, by keypoint and group: (K, M)."""
        totals = np.zeros((scores.shape[1], len(edges) + 1))
        np.add.at(totals, (np.nonzero(found)[1], groups[found]), values[found])
        return totals

    counts, hits, total = sums(np.ones_like(scores)), sums(right), sums(scores)
    used = counts.any(axis=0)
    counts, hits, total = counts[:, used], hits[:, used], total[:, used]
    raw = total.sum(axis=0) / counts.sum(axis=0)
    shared = hits.sum(axis=0) / counts.sum(axis=0)
    shares = (hits + PRIOR * shared) / (counts + PRIOR)
    lines = [
        isotonic_regression(of_one, weights=count + PRIOR).x.round(4).clip(0, 1)
        for of_one, count in zip(shares, counts, strict=True)
    ]
    return Calibration(tuple(raw.tolist()), tuple(tuple(line.tolist()) for line in lines), data)


def _of_all(calibration: Calibration, some: KeypointSet, everything: KeypointSet) -> Calibration:
    """Return a calibration for a larger set; keypoints without a line of their own get the mean of the others'."""
    if some.keypoints == everything.keypoints:
        return calibration
    mean = tuple(np.mean(calibration.chance, axis=0).round(4).tolist())
    places = mapping(some, everything)
    return replace(calibration, chance=tuple(calibration.chance[i] if i >= 0 else mean for i in places))


def _copy(path: Path, target: Path, record: Weights) -> None:
    """Write a file of weights with another record."""
    if path.suffix == ".onnx":
        model = onnx.load(path)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, metadata | record.to_metadata())
        onnx.save(model, target)
    else:
        state, metadata = read_state(path)
        save_file(state, target, metadata | record.to_metadata())
