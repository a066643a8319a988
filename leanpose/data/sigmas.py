"""OKS sigmas of keypoints that nobody has published any for: from repeated annotation, or from the scale of the data.

A sigma says how far annotators differ about a keypoint, as a share of the square root of the person's area
(cocodataset.org/#keypoints-eval).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from leanpose.geometry import iou

SAME_PERSON = 0.8  # IoU of boxes from which on two annotations of an image are taken for one person
LEAST_REPEATED = 10  # persons who are annotated more than once, to believe that repetition is meant
LEAST_SHARE = 0.02  # of all persons; crowds have some who overlap so
LEAST_DEVIATIONS = 5  # of a keypoint

# Part of the distance to the nearest other keypoint (of medians over persons, in roots of areas) that a sigma is. It is
# fitted to COCO's 17 published sigmas; on 12,887 persons of COCO the rule gives these within a factor of 1.42, and of
# 1.21 in the root mean square (benchmarks/sigmas.py). At OKS 0.5 a keypoint may be off by two thirds of that distance.
PART_OF_DISTANCE = 0.28
SMALLEST, LARGEST = 0.007, 0.107  # of COCO-WholeBody's and COCO's


def persons_of(content: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Any]]:
    """Return keypoints (N, K, 2), NaN where unlabelled, boxes (N, 4) xyxy, areas (N,) and image ids of all who have an
    area and are no crowd, of a content as `read_export` gives it."""
    persons = [one for one in content["annotations"] if one["area"] > 0 and not one["iscrowd"] and one["num_keypoints"]]
    k = len(content["categories"][0]["keypoints"])
    triples = np.array([person["keypoints"] for person in persons], float).reshape(-1, k, 3)
    keypoints = np.where(triples[..., 2:] > 0, triples[..., :2], np.nan)
    boxes = np.array([person["bbox"] for person in persons], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    areas = np.array([person["area"] for person in persons], float)
    return keypoints, boxes, areas, [person["image_id"] for person in persons]


def sigmas_by_repetition(content: dict[str, Any]) -> tuple[np.ndarray, int]:
    """Return (K,) sigmas from persons who are annotated more than once, NaN where there are too few, and their number.

    sigma^2 is the mean over persons and annotations of d^2 / area, d the distance to the mean of a person's
    annotations, with n - 1 of n annotations counted.
    """
    keypoints, boxes, areas, image_ids = persons_of(content)
    groups = _same_persons(boxes, image_ids)
    k = keypoints.shape[1]
    if len(groups) < max(LEAST_REPEATED, LEAST_SHARE * len(keypoints)):
        return np.full(k, np.nan), 0
    sums, counts = np.zeros(k), np.zeros(k)
    for group in groups:
        its = keypoints[group]  # (n, K, 2)
        n = np.isfinite(its[..., 0]).sum(0)
        mean = np.nansum(its, axis=0) / np.maximum(n, 1)[:, None]
        squared = np.nansum((its - mean) ** 2, axis=(0, 2)) / areas[group].mean()
        sums += np.where(n > 1, squared, 0)
        counts += np.maximum(n - 1, 0)
    known = (counts >= LEAST_DEVIATIONS) & (sums > 0)
    return np.where(known, np.sqrt(sums / np.maximum(counts, 1)), np.nan), len(groups)


def _same_persons(boxes: np.ndarray, image_ids: list[Any]) -> list[list[int]]:
    """Return the positions of annotations that are of one person, for each who has several."""
    by_image: dict[Any, list[int]] = {}
    for i, image_id in enumerate(image_ids):
        by_image.setdefault(image_id, []).append(i)
    groups = []
    for places in by_image.values():
        same = iou(boxes[places], boxes[places]) > SAME_PERSON
        free = set(range(len(places)))
        for i in range(len(places)):
            group = [j for j in range(len(places)) if j in free and same[i, j]] if i in free else []
            free -= {*group}
            if len(group) > 1:
                groups.append([places[j] for j in group])
    return groups


def median_distances(content: dict[str, Any]) -> np.ndarray:
    """Return (K, K) medians over persons of the distances between keypoints, in square roots of the persons' areas; NaN
    where no person has both, and on the diagonal."""
    keypoints, _, areas, _ = persons_of(content)
    k = keypoints.shape[1]
    medians = np.full((k, k), np.nan)
    scaled = keypoints / np.sqrt(areas)[:, None, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no person has both
        for i in range(k):
            medians[i] = (
                np.nanmedian(np.linalg.norm(scaled - scaled[:, i : i + 1], axis=2), axis=0) if len(scaled) else np.nan
            )
    np.fill_diagonal(medians, np.nan)
    return medians


def sigmas_by_scale(content: dict[str, Any]) -> np.ndarray:
    """Return (K,) sigmas that are a part of the distance to the nearest other keypoint; NaN where nothing tells it."""
    medians = median_distances(content)
    nearest = np.min(medians, axis=1, initial=np.inf, where=np.isfinite(medians))
    sigmas = np.clip(PART_OF_DISTANCE * nearest, SMALLEST, LARGEST)
    return np.where(np.isfinite(nearest), sigmas, np.nan)
