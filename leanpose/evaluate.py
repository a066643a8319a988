"""Evaluate a model on an annotated set: one loop writes predictions, another scores the file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from leanpose.data.coco_style import read_annotations, read_detections, read_samples
from leanpose.data.mpii import is_mpii, read_persons
from leanpose.errors import InputError
from leanpose.files import write_text
from leanpose.keypoint_sets import MPII, KeypointSet
from leanpose.metrics import check_metric_truth, is_crowdpose, keypoint_metrics
from leanpose.pckh import pckh_metrics, read_truth, truth_file
from leanpose.predict import DEFAULT_FINDER, Predictor
from leanpose.preflight import check_needs
from leanpose.runtime import EngineName
from leanpose.structures import Sample


@dataclass(frozen=True)
class PictureBoxes:
    """One picture to predict, with its person boxes if they are known.

    Attributes:
        path: file of the picture.
        image_id: as the annotation file has it.
        boxes_xyxy: (N, 4) float32 picture pixels; None: the persons are searched for.
        scores: (N,) float32 confidence of the boxes; 1 for annotated ones.
        category_id: of the persons in the annotation file.
        persons: of MPII, the place of each box in the list of persons, from 0: each gets one pose, as it is.
    """

    path: str
    image_id: int | str
    boxes_xyxy: np.ndarray | None
    scores: np.ndarray
    category_id: int = 1
    persons: tuple[int, ...] | None = None


def annotated_boxes(annotations: str | Path, images: str | Path) -> list[PictureBoxes]:
    """Return the pictures of an annotation file with the boxes of its persons.

    Those are all persons of MPII's list, and all with labelled keypoints of a COCO-style file.
    """
    if is_mpii(annotations):
        return _mpii_boxes(annotations, images)
    category = _person_category(read_annotations(annotations)[0])
    samples = sorted(read_samples(annotations, images), key=_picture)
    pictures = []
    for (path, _), group in groupby(samples, key=_picture):
        persons = list(group)
        boxes = np.stack([p.box_xyxy for p in persons])
        pictures.append(PictureBoxes(path, persons[0].image_id, boxes, np.ones(len(boxes), np.float32), category))
    return pictures


def _mpii_boxes(annotations: str | Path, images: str | Path) -> list[PictureBoxes]:
    by_picture: dict[str, list[int]] = {}
    samples = read_persons(annotations, images)
    for person, sample in enumerate(samples):
        if np.isnan(sample.box_xyxy).any():
            raise InputError(f"{annotations}: person {person} has no place: its centre is -1 or its scale not above 0.")
        by_picture.setdefault(sample.image_path, []).append(person)
    return [
        PictureBoxes(
            path,
            samples[persons[0]].image_id,
            np.stack([samples[person].box_xyxy for person in persons]),
            np.ones(len(persons), np.float32),
            persons=tuple(persons),
        )
        for path, persons in by_picture.items()
    ]


def pictures_only(annotations: str | Path, images: str | Path) -> list[PictureBoxes]:
    """Return all pictures of a COCO-style file, without boxes."""
    content = _pictures_with_all(annotations)
    category = _person_category(content)
    none = np.zeros(0, np.float32)
    return [
        PictureBoxes(str(Path(images) / image["file_name"]), image["id"], None, none, category)
        for image in content["images"]
    ]


def _picture(sample: Sample) -> tuple[str, str]:
    return sample.image_path, str(sample.image_id)


def _pictures_with_all(annotations: str | Path) -> dict[str, Any]:
    """Read a COCO-style file; refuse MPII's, whose figure wants one pose for each person of its list."""
    if is_mpii(annotations):
        raise InputError(
            f"{annotations} is a list of MPII persons, each of whom gets one pose: use a network that takes boxes, and "
            "the boxes of the list."
        )
    return read_annotations(annotations)[0]


def _person_category(content: dict[str, Any]) -> int:
    return next(category.get("id", 1) for category in content["categories"] if category.get("keypoints"))


def detected_boxes(annotations: str | Path, images: str | Path, detections: str | Path) -> list[PictureBoxes]:
    """Return the pictures of a COCO-style file with the boxes of a person-detection file."""
    content = _pictures_with_all(annotations)
    category = _person_category(content)
    by_picture: dict[Any, list[dict[str, Any]]] = {}
    for entry in read_detections(detections):
        by_picture.setdefault(entry["image_id"], []).append(entry)
    pictures = []
    for image in content["images"]:
        entries = [e for e in by_picture.get(image["id"], []) if min(e["bbox"][2:]) > 0]
        if entries:
            xywh = np.array([e["bbox"] for e in entries], dtype=np.float32)
            boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
            scores = np.array([e["score"] for e in entries], dtype=np.float32)
            path = str(Path(images) / image["file_name"])
            pictures.append(PictureBoxes(path, image["id"], boxes, scores, category))
    if not pictures:
        raise InputError(f"{detections} holds no box for any picture of {annotations}; is it the file of another set?")
    return pictures


def check_truth(annotations: str | Path, keypoint_set: KeypointSet, model: str) -> None:
    """Raise InputError where an annotation file cannot score a model.

    That is where it has other keypoints, lacks a key that only the metric needs, or (MPII's) has no ground truth of the
    same persons beside it.
    """
    if not is_mpii(annotations):
        content, file_set = read_annotations(annotations)
        _check_keypoints(file_set, keypoint_set, annotations, model)
        check_metric_truth(content, keypoint_set, annotations, crowdpose=is_crowdpose(content, keypoint_set))
        return
    listed = len(read_persons(annotations, ""))
    _check_keypoints(MPII, keypoint_set, annotations, model)
    truth = truth_file(annotations)
    known = len(read_truth(truth).keypoints)
    if known != listed:
        raise InputError(f"{truth} is the ground truth of {known} persons, but {annotations} lists {listed}.")


def _check_keypoints(file_set: KeypointSet, model_set: KeypointSet, annotations: str | Path, model: str) -> None:
    if file_set.keypoints != model_set.keypoints:
        raise InputError(
            f"{annotations} has the keypoints '{file_set.name}', but {model} predicts '{model_set.name}'; "
            "use a set and a model of the same keypoints."
        )


def predict_picture(predictor: Predictor, picture: PictureBoxes) -> list[dict[str, Any]]:
    """Return one picture's persons in the COCO results form.

    Persons in boxes are rescored, and duplicates left out. Those of MPII stay as they are, and each has one key more:
    `person`, the place in the list of persons, from 0.
    """
    poses = predictor(picture.path, picture.boxes_xyxy)
    if picture.persons is not None:
        results = poses.to_coco_results(picture.image_id, picture.category_id)
        return [result | {"person": person} for result, person in zip(results, picture.persons, strict=True)]
    if picture.boxes_xyxy is not None:
        poses = predictor.rescored(poses, picture.scores)
    return poses.to_coco_results(picture.image_id, picture.category_id)


class Metrics(dict[str, float]):
    """Figures by name, 0 to 1; prints as two lines in percent."""

    def __str__(self) -> str:
        cells = [(key, f"{100 * value:.1f}" if value >= 0 else "-") for key, value in self.items()]
        widths = [max(5, *map(len, cell)) for cell in cells]
        return "\n".join(
            "  ".join(f"{text:>{width}}" for text, width in zip(row, widths, strict=True))
            for row in zip(*cells, strict=True)
        )


def score(annotations: str | Path, results: Iterable[dict[str, Any]], predictor: Predictor) -> Metrics:
    """Return the figures of results against an annotation file, by the metric that is official for it.

    The first figure is the main one.
    """
    if is_mpii(annotations):
        return Metrics(pckh_metrics(truth_file(annotations), list(results)))
    return Metrics(keypoint_metrics(annotations, list(results), predictor.weights.keypoint_set))


def evaluate(
    model: str,
    *,
    data: str,
    images: str,
    boxes: str | None = None,
    finder: str = DEFAULT_FINDER,
    flip_test: bool = False,
    scales: list[float] | None = None,
    out: str | None = None,
    engine: EngineName = "auto",
    threads: int | None = None,
    device: str = "cpu",
) -> Metrics:
    """Measure a model on an annotated set with the metric that is official for it.

    Args:
        model: name or file (.onnx, .safetensors).
        data: COCO-style annotation file; or MPII's list of persons (valid.json of HRNet, or valid.h5) with its ground
            truth gt_valid.mat beside it.
        images: folder of its pictures.
        boxes: "gt" for the annotated boxes, "found" for those that the finder proposes, or a person-detection file
            (COCO results form). Without it "gt"; networks that find people themselves take none.
        finder: name or file of the network that proposes persons, for boxes "found".
        flip_test: average with the mirrored picture.
        scales: for networks that find people themselves: average over pictures of several sizes, such as [0.5,1,2].
        out: folder for results.json (COCO results form; of MPII with the place of each `person` in the list) and
            metrics.json; none is written without it.
        engine: "auto", "onnxruntime", "openvino" or "torch".
        threads: threads of the network.
        device: "cpu"; "cuda", "tensorrt", "coreml" or "directml" with a build of ONNX Runtime that has them; "gpu" or
            "npu" with OpenVINO; "cuda" or "mps" with torch.

    Returns:
        AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL, each 0 to 1. For CrowdPose (its keypoints, and pictures with
        a `crowdIndex`): AP, AP50, AP75, AR, AR50, AR75, AP easy, AP medium, AP hard. For MPII: PCKh@0.5, PCKh@0.1,
        and at 0.5 head, shoulder, elbow, wrist, hip, knee, ankle. -1 where the set has no such person.
    """
    check_needs(
        packages=() if is_mpii(data) else ("faster_coco_eval",),
        files=(data,),
        folders=(images,),
        places=() if out is None else (Path(out) / "results.json",),
    )
    predictor = Predictor(
        model,
        engine=engine,
        flip_test=flip_test,
        threads=threads,
        device=device,
        finder=finder if boxes == "found" else None,
        min_person_score=0.0,  # the metric ranks persons itself
        scales=scales or (1.0,),
    )
    check_truth(data, predictor.weights.keypoint_set, model)
    if predictor.bottom_up and boxes not in (None, "found"):
        raise InputError(f"{model} finds people without boxes; leave --boxes out.")
    if predictor.bottom_up or boxes == "found":
        pictures = pictures_only(data, images)
    elif boxes in (None, "gt"):
        pictures = annotated_boxes(data, images)
    else:
        pictures = detected_boxes(data, images, boxes)
    check_needs(files=(picture.path for picture in pictures))
    results: list[dict[str, Any]] = []
    for picture in tqdm(pictures, "predicting", unit="picture", disable=None):
        results += predict_picture(predictor, picture)
    metrics = score(data, results, predictor)
    if out is not None:
        write_text(Path(out) / "results.json", json.dumps(results))
        write_text(Path(out) / "metrics.json", json.dumps(metrics, indent=1))
    return metrics
