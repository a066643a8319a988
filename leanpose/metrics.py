"""Official figures from results and ground truth. COCO keypoint AP by faster-coco-eval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leanpose.errors import InputError, require
from leanpose.keypoint_sets import KeypointSet

COCO_KEYS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


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
    """
    coco_eval = require("faster_coco_eval", "train")
    if not results:
        return dict.fromkeys(COCO_KEYS, 0.0)
    truth = coco_eval.COCO(str(annotations))
    unknown = {result["image_id"] for result in results} - set(truth.getImgIds())
    if unknown:
        raise InputError(
            f"The results name {len(unknown)} pictures that {annotations} does not have, such as {min(unknown)}."
        )
    evaluation = coco_eval.COCOeval_faster(
        truth,
        truth.loadRes([dict(result) for result in results]),
        "keypoints",
        print_function=lambda *_: None,
        kpt_oks_sigmas=keypoint_set.oks_sigmas,
    )
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {key: float(value) for key, value in zip(COCO_KEYS, evaluation.stats, strict=False)}
