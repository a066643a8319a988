"""Official figures from results and ground truth: keypoint AP of COCO and of CrowdPose, by faster-coco-eval."""

from __future__ import annotations

import math
from typing import Any

from leanpose.errors import InputError, require
from leanpose.io.values import Id, Known, number, numbers, shown
from leanpose.keypoint_sets import CROWDPOSE, KeypointSet

COCO_KEYS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
CROWDPOSE_KEYS = ("AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP easy", "AP medium", "AP hard")

# Crowd index of the images of a level: from the first number on, below the second.
CROWD_LEVELS = {"AP easy": (-math.inf, 0.2), "AP medium": (0.2, 0.8), "AP hard": (0.8, math.inf)}
AREA_OF_BOX = 0.53  # a person's area as a part of the box, as CrowdPose takes it, which has no masks

RESULT_KEYS = ("image_id", "category_id", "keypoints", "score")


def keypoint_metrics(
    truth: dict[str, Any], results: list[dict[str, Any]], keypoint_set: KeypointSet, where: str
) -> dict[str, float]:
    """Return the figures of the metric that is official for a ground truth, 0 to 1.

    That is `crowdpose_metrics` where `is_crowdpose` says so, and `coco_keypoint_metrics` for everything else.

    Args:
        truth: a COCO-style ground truth with checked values, as the readers of leanpose.data make it: images with id,
            annotations with image_id, category_id, bbox, area, iscrowd, num_keypoints and keypoints, and one category.
            Its annotations need no id.
        results: COCO results form: image_id, category_id, keypoints (3 K numbers), score.
        keypoint_set: gives the OKS sigmas.
        where: name of the ground truth, for messages.

    Raises:
        InputError: a result that cannot be used, such as one of an image that the ground truth does not have.
    """
    metric = crowdpose_metrics if is_crowdpose(truth, keypoint_set) else coco_keypoint_metrics
    return metric(truth, results, keypoint_set, where)


def is_crowdpose(truth: dict[str, Any], keypoint_set: KeypointSet) -> bool:
    """Tell whether a ground truth is CrowdPose's: its 14 keypoints in its order, and images with a `crowdIndex`."""
    return keypoint_set.keypoints == CROWDPOSE.keypoints and any("crowdIndex" in image for image in truth["images"])


def coco_keypoint_metrics(
    truth: dict[str, Any], results: list[dict[str, Any]], keypoint_set: KeypointSet, where: str
) -> dict[str, float]:
    """Return the ten figures of the COCO keypoint evaluation, 0 to 1.

    Args, errors: those of `keypoint_metrics`.

    Returns:
        AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL; -1 where the ground truth has no such person.
    """
    return _Evaluation(truth, results, keypoint_set, where).figures()


def crowdpose_metrics(
    truth: dict[str, Any], results: list[dict[str, Any]], keypoint_set: KeypointSet, where: str
) -> dict[str, float]:
    """Return the nine figures of the CrowdPose evaluation, 0 to 1.

    COCO's keypoint evaluation (20 persons per image, greedy matching by OKS), but a person's area is 0.53 times that of
    the box, nothing is told apart by size, and AP is also given by how crowded an image is: easy where its crowd index
    is below 0.2, medium from 0.2 on, hard from 0.8 on. A person without visible keypoints (`num_keypoints` 0) counts
    neither way. As crowdposetools since October 2020 (github.com/Jeff-sjtu/CrowdPose, cocoeval.py), where the three
    levels of older releases are wrong; it rounds them to four digits.

    Args, errors: those of `keypoint_metrics`; images have a `crowdIndex`, and `area` is not used.

    Returns:
        AP, AP50, AP75, AR, AR50, AR75, AP easy, AP medium, AP hard; -1 where the ground truth has no such person.
    """
    persons = [
        person | {"area": person["bbox"][3] * person["bbox"][2] * AREA_OF_BOX} for person in truth["annotations"]
    ]
    evaluation = _Evaluation({**truth, "annotations": persons}, results, keypoint_set, where)
    figures = evaluation.figures()
    for level, (lowest, end) in CROWD_LEVELS.items():
        ids = [image["id"] for image in truth["images"] if lowest <= image["crowdIndex"] < end]
        figures[level] = evaluation.figures(ids)["AP"]
    return {key: figures[key] for key in CROWDPOSE_KEYS}


def _checked(result: Any, i: int, keypoint_set: KeypointSet) -> dict[str, Any]:
    """Return a result with numbers that are numbers; NaN would match any person."""
    for key in RESULT_KEYS:
        if not isinstance(result, dict) or key not in result:
            raise InputError(f"Result {i} lacks the key '{key}'.")
    count = 3 * len(keypoint_set)
    if isinstance(result["keypoints"], list) and len(result["keypoints"]) != count:
        raise InputError(
            f"Result {i} has {len(result['keypoints'])} keypoint numbers, but the keypoints '{keypoint_set.name}' are "
            f"{len(keypoint_set)}, which makes {count}."
        )
    keypoints = numbers(result["keypoints"], (count,), f"Result {i}: 'keypoints'").tolist()
    box = {"bbox": numbers(result["bbox"], (4,), f"Result {i}: 'bbox'").tolist()} if result.get("bbox") else {}
    return result | box | {"keypoints": keypoints, "score": number(result["score"], f"Result {i}: 'score'")}


class _Evaluation:
    """Results beside a ground truth, ready to be scored on all images or on some.

    faster-coco-eval wants whole numbers as ids, those of annotations unlike and above 0, so all are numbered here.
    Images whose ids are whole numbers keep their order: that of the evaluation where scores are equal.

    Arguments are those of `keypoint_metrics`, and stay as they are.
    """

    def __init__(
        self, truth: dict[str, Any], results: list[dict[str, Any]], keypoint_set: KeypointSet, where: str
    ) -> None:
        checked = [_checked(result, i, keypoint_set) for i, result in enumerate(results)]
        ids = sorted((image["id"] for image in truth["images"]), key=lambda one: (isinstance(one, str), one))
        known = Known(ids)
        found = [known.find(result["image_id"]) for result in checked]
        unknown = {shown(result["image_id"]) for result, one in zip(checked, found, strict=True) if one is None}
        if unknown:
            raise InputError(
                f"The results name {len(unknown)} images that {where} does not have, such as {min(unknown)}."
            )
        self.coco_eval = require("faster_coco_eval", "train")
        self.sigmas = keypoint_set.oks_sigmas
        self.numbers = {image_id: i for i, image_id in enumerate(ids, 1)}
        images = [{**image, "id": self.numbers[image["id"]]} for image in truth["images"]]
        persons = [
            {**person, "id": i, "image_id": self.numbers[person["image_id"]], "category_id": 1}
            for i, person in enumerate(truth["annotations"], 1)
        ]
        content = {"images": images, "annotations": persons, "categories": [{"id": 1, "name": "person"}]}
        self.truth = self.coco_eval.COCO(content)
        # A result's size is that of its box, as in the official tools, or that of its keypoints.
        keys = (*RESULT_KEYS, "bbox") if all(result.get("bbox") for result in checked) else RESULT_KEYS
        category = Known([truth["categories"][0]["id"]])
        entries = [
            {key: result[key] for key in keys} | {"image_id": self.numbers[one], "category_id": 1}
            for result, one in zip(checked, found, strict=True)
            if one is not None and category.find(result["category_id"]) is not None
        ]
        # loadRes of faster-coco-eval 1.6.5 fails on an empty list.
        self.found = self.truth.loadRes(entries) if entries else self.coco_eval.COCO({**content, "annotations": []})

    def figures(self, image_ids: list[Id] | None = None) -> dict[str, float]:
        """Return the figures of COCO_KEYS, on the images of these ids; None: on all."""
        evaluation = self.coco_eval.COCOeval_faster(
            self.truth, self.found, "keypoints", print_function=lambda *_: None, kpt_oks_sigmas=self.sigmas
        )
        if image_ids is not None:
            evaluation.params.imgIds = [self.numbers[image_id] for image_id in image_ids]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return {key: float(value) for key, value in zip(COCO_KEYS, evaluation.stats, strict=False)}
