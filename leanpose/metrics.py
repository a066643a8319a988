"""Official figures from results and ground truth: keypoint AP of COCO and of CrowdPose, by faster-coco-eval."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.errors import InputError, require
from leanpose.keypoint_sets import CROWDPOSE, KeypointSet

COCO_KEYS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
CROWDPOSE_KEYS = ("AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP easy", "AP medium", "AP hard")

# Crowd index of the pictures of a level: from the first number on, below the second.
CROWD_LEVELS = {"AP easy": (-math.inf, 0.2), "AP medium": (0.2, 0.8), "AP hard": (0.8, math.inf)}
CROWDPOSE_AREA = 0.53  # of a person, as a part of the box: CrowdPose has no masks

RESULT_KEYS = ("image_id", "category_id", "keypoints", "score")


def keypoint_metrics(
    annotations: str | Path, results: list[dict[str, Any]], keypoint_set: KeypointSet
) -> dict[str, float]:
    """Return the figures of the metric that is official for a ground truth, 0 to 1.

    That is `crowdpose_metrics` where `is_crowdpose` says so, and `coco_keypoint_metrics` for everything else. Arguments
    and errors are theirs.
    """
    metric = crowdpose_metrics if is_crowdpose(_read(annotations), keypoint_set) else coco_keypoint_metrics
    return metric(annotations, results, keypoint_set)


def is_crowdpose(content: dict[str, Any], keypoint_set: KeypointSet) -> bool:
    """Tell whether a ground truth is CrowdPose's: its 14 keypoints in its order, and pictures with a `crowdIndex`."""
    return keypoint_set.keypoints == CROWDPOSE.keypoints and any("crowdIndex" in image for image in content["images"])


def coco_keypoint_metrics(
    annotations: str | Path, results: list[dict[str, Any]], keypoint_set: KeypointSet
) -> dict[str, float]:
    """Return the ten figures of the COCO keypoint evaluation, 0 to 1.

    Args:
        annotations: COCO-style ground truth with `area` and `iscrowd`.
        results: COCO results form: image_id, category_id, keypoints (3 K numbers), score.
        keypoint_set: gives the OKS sigmas.

    Returns:
        AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL; -1 where the ground truth has no such person.

    Raises:
        InputError: a file or a result that cannot be used, such as a result of a picture that the file does not have.
    """
    if not results:
        return dict.fromkeys(COCO_KEYS, 0.0)
    content = _read(annotations)
    check_metric_truth(content, keypoint_set, annotations, crowdpose=False)
    return _Evaluation(content, results, keypoint_set, annotations).figures()


def crowdpose_metrics(
    annotations: str | Path, results: list[dict[str, Any]], keypoint_set: KeypointSet
) -> dict[str, float]:
    """Return the nine figures of the CrowdPose evaluation, 0 to 1.

    COCO's keypoint evaluation (20 persons a picture, greedy matching by OKS), but a person's area is 0.53 times that of
    the box, nothing is told apart by size, and AP is also given by how crowded a picture is: easy where its crowd index
    is below 0.2, medium from 0.2 on, hard from 0.8 on. A person without visible keypoints (`num_keypoints` 0) counts
    neither way. As crowdposetools since October 2020 (github.com/Jeff-sjtu/CrowdPose, cocoeval.py), where the three
    levels of older releases are wrong; it rounds them to four digits.

    Args:
        annotations: CrowdPose's ground truth, a COCO-style file whose pictures have a `crowdIndex`; `area` is not used.
        results: COCO results form: image_id, category_id, keypoints (3 K numbers), score.
        keypoint_set: gives the OKS sigmas.

    Returns:
        AP, AP50, AP75, AR, AR50, AR75, AP easy, AP medium, AP hard; -1 where the ground truth has no such person.

    Raises:
        InputError: a file or a result that cannot be used, such as a result of a picture that the file does not have.
    """
    content = _read(annotations)
    check_metric_truth(content, keypoint_set, annotations, crowdpose=True)
    for annotation in content["annotations"]:
        _, _, width, height = annotation["bbox"]
        annotation["area"] = height * width * CROWDPOSE_AREA
    evaluation = _Evaluation(content, results, keypoint_set, annotations)
    figures = evaluation.figures()
    for level, (lowest, end) in CROWD_LEVELS.items():
        pictures = [image["id"] for image in content["images"] if lowest <= image["crowdIndex"] < end]
        figures[level] = evaluation.figures(pictures)["AP"]
    return {key: figures[key] for key in CROWDPOSE_KEYS}


def check_metric_truth(
    content: dict[str, Any], keypoint_set: KeypointSet, where: str | Path, *, crowdpose: bool
) -> None:
    """Raise InputError where a ground truth lacks what a metric needs.

    Args:
        content: of a COCO-style file.
        keypoint_set: that of the results.
        where: name of the file, for messages.
        crowdpose: for `crowdpose_metrics`; False: for `coco_keypoint_metrics`.
    """
    area = "bbox" if crowdpose else "area"
    for i, annotation in enumerate(content["annotations"]):
        for key in ("id", "image_id", "category_id", area, "iscrowd", "num_keypoints", "keypoints"):
            if key not in annotation:
                raise InputError(f"{where}: annotation {i} lacks the key '{key}', which the metric needs.")
        _check_count(annotation["keypoints"], keypoint_set, f"{where}: annotation {i}")
    for i, image in enumerate(content["images"] if crowdpose else ()):
        index = image.get("crowdIndex")
        if not isinstance(index, (int, float)) or not math.isfinite(index):
            raise InputError(f"{where}: image {i} needs a number as 'crowdIndex', as CrowdPose's metric does.")


def _check_result(result: dict[str, Any], i: int, keypoint_set: KeypointSet) -> None:
    for key in RESULT_KEYS:
        if key not in result:
            raise InputError(f"Result {i} lacks the key '{key}'.")
    _check_count(result["keypoints"], keypoint_set, f"Result {i}")
    if not np.isfinite([*result["keypoints"], result["score"]]).all():  # NaN would match any person
        raise InputError(f"Result {i} holds a NaN or an infinite number.")


def _check_count(numbers: list[float], keypoint_set: KeypointSet, where: str) -> None:
    if len(numbers) != 3 * len(keypoint_set):
        raise InputError(
            f"{where} has {len(numbers)} keypoint numbers, but the keypoints '{keypoint_set.name}' are "
            f"{len(keypoint_set)}, which makes {3 * len(keypoint_set)}."
        )


def _read(annotations: str | Path) -> dict[str, Any]:
    try:
        content = json.loads(Path(annotations).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{annotations} cannot be read as a COCO-style file ({error}).") from None
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise InputError(f"{annotations} is no COCO-style file: it needs the lists images, annotations and categories.")
    return content


class _Evaluation:
    """Results beside a ground truth, ready to be scored on all pictures or on some.

    faster-coco-eval wants whole numbers as ids of pictures, so they are numbered here, whole numbers in their own
    order: that of the evaluation where scores are equal.

    Args:
        content: of a COCO-style file with all keys that the metric needs; stays as it is.
        results: as of `coco_keypoint_metrics`; stay as they are.
        keypoint_set: gives the OKS sigmas.
        where: name of the file, for messages.
    """

    def __init__(
        self, content: dict[str, Any], results: list[dict[str, Any]], keypoint_set: KeypointSet, where: str | Path
    ) -> None:
        for i, result in enumerate(results):
            _check_result(result, i, keypoint_set)
        ids = sorted(
            {image["id"] for image in content["images"]}, key=lambda image_id: (isinstance(image_id, str), image_id)
        )
        unknown = {result["image_id"] for result in results}.difference(ids)
        if unknown:
            raise InputError(
                f"The results name {len(unknown)} pictures that {where} does not have, such as {min(unknown, key=str)}."
            )
        self.coco_eval = require("faster_coco_eval", "train")
        self.sigmas = keypoint_set.oks_sigmas
        self.numbers = {image_id: number for number, image_id in enumerate(ids, 1)}
        images = [{**image, "id": self.numbers[image["id"]]} for image in content["images"]]
        persons = [self._numbered(person) for person in content["annotations"] if person["image_id"] in self.numbers]
        self.truth = self.coco_eval.COCO({**content, "images": images, "annotations": persons})
        # A result's size is that of its box, as in the official tools, or that of its keypoints.
        keys = (*RESULT_KEYS, "bbox") if all(result.get("bbox") for result in results) else RESULT_KEYS
        found = [self._numbered({key: result[key] for key in keys}) for result in results]
        # loadRes of faster-coco-eval 1.6.5 fails on an empty list.
        self.found = self.truth.loadRes(found) if found else self.coco_eval.COCO({**content, "annotations": []})

    def _numbered(self, entry: dict[str, Any]) -> dict[str, Any]:
        return {**entry, "image_id": self.numbers[entry["image_id"]]}

    def figures(self, pictures: list[int | str] | None = None) -> dict[str, float]:
        """Return the figures of COCO_KEYS, on the pictures of these ids; None: on all."""
        evaluation = self.coco_eval.COCOeval_faster(
            self.truth, self.found, "keypoints", print_function=lambda *_: None, kpt_oks_sigmas=self.sigmas
        )
        if pictures is not None:
            evaluation.params.imgIds = [self.numbers[image_id] for image_id in pictures]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return {key: float(value) for key, value in zip(COCO_KEYS, evaluation.stats, strict=False)}
