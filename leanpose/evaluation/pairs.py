"""Annotated persons and what a model found of them, one beside the other."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from leanpose.data.annotations import AnnotatedSet
from leanpose.data.coco import CocoSet
from leanpose.errors import InputError
from leanpose.keypoint_sets import KeypointSet
from leanpose.metrics.pck import pck, person_lengths
from leanpose.metrics.person_recall import match
from leanpose.structures import Sample


@dataclass(frozen=True, eq=False)
class Pairs:
    """N annotated persons with what was found of them.

    Attributes:
        keypoint_set: of both.
        persons: as they are annotated.
        found: (N, K, 2) float64 image pixels; NaN where a keypoint or the whole person was not found.
        scores: (N, K) float64, 0 there.
    """

    keypoint_set: KeypointSet
    persons: list[Sample]
    found: np.ndarray
    scores: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """(N, K, 2) image pixels; NaN where not annotated."""
        return np.stack([person.keypoints for person in self.persons])

    @property
    def boxes_xyxy(self) -> np.ndarray:
        """(N, 4) annotated boxes."""
        return np.stack([person.box_xyxy for person in self.persons])

    @property
    def lengths(self) -> np.ndarray:
        """(N,) pixels by which errors are measured; see `person_lengths`."""
        return person_lengths(self.truth, self.boxes_xyxy, self.keypoint_set)


def paired(annotated: AnnotatedSet, results: list[dict[str, Any]], keypoint_set: KeypointSet) -> Pairs:
    """Return all persons with labelled keypoints and what was found of them.

    Results are taken from the best score on, each for the free person of its image whose box it meets best, with an IoU
    of at least 0.5; a result in an annotated box is of that person.

    Args:
        annotated: a COCO-style set.
        results: COCO results form, of its images.
        keypoint_set: that of the results.

    Raises:
        InputError: the set is a list of MPII persons.
    """
    if not isinstance(annotated, CocoSet):
        raise InputError(
            f"{annotated.path} is a list of MPII persons, whose figure is PCKh: errors of keypoints are reported of "
            "COCO-style files."
        )
    persons = annotated.samples(keypoint_set)
    places, by_image = defaultdict(list), defaultdict(list)
    for i, person in enumerate(persons):
        places[person.image_id].append(i)
    for result in results:
        by_image[result["image_id"]].append(result)
    triples = np.zeros((len(persons), len(keypoint_set), 3))
    for image_id, its_places in places.items():
        its_results = sorted(by_image[image_id], key=lambda result: -result["score"])
        boxes = np.array([result["bbox"] for result in its_results], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        truth = np.stack([persons[i].box_xyxy for i in its_places])
        for result, person in zip(its_results, match(boxes, truth, np.zeros(len(truth), bool))[1], strict=True):
            if person >= 0:
                triples[its_places[person]] = np.reshape(result["keypoints"], (-1, 3))
    absent = (triples == 0).all(axis=2, keepdims=True)  # as a keypoint without a place is written
    return Pairs(keypoint_set, persons, np.where(absent, np.nan, triples[..., :2]), triples[..., 2])


def near_share(annotated: AnnotatedSet, results: list[dict[str, Any]], keypoint_set: KeypointSet) -> dict[str, float]:
    """Return PCK@0.1, the mean over keypoints; arguments as of `paired`.

    It moves where AP says little: of few persons, or of a network that has just begun. -1 where nothing counts; nothing
    for MPII, whose own figure is of this kind.
    """
    if not isinstance(annotated, CocoSet):
        return {}
    pairs = paired(annotated, results, keypoint_set)
    shares = pck(pairs.found, pairs.truth, pairs.lengths, 0.1)
    known = shares[np.isfinite(shares)]
    return {"PCK@0.1": float(known.mean()) if len(known) else -1.0}
