"""How many of a set's annotated persons a detector finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from leanpose.data.annotations import AnnotatedSet, read_annotated
from leanpose.data.coco import CocoSet, area_of
from leanpose.data.entries import Person
from leanpose.errors import InputError
from leanpose.inference.detect import Detector
from leanpose.metrics.person_recall import match, recall
from leanpose.structures import ImageBoxes

LEAST_SCORE = 0.01  # of boxes that count, low enough for several false ones per image
SIZES = {  # square root of a person's area in pixels, as COCO's metric parts them
    "all": (0.0, np.inf),
    "small": (0.0, 32.0),
    "medium": (32.0, 96.0),
    "large": (96.0, np.inf),
}


class Found(NamedTuple):
    """What a detector finds in one image.

    Attributes:
        image: the image.
        boxes_xyxy: (N, 4) image pixels, best first.
        scores: (N,).
        right, persons: (N,) each, whether a box is right and whose it is, as of `metrics.person_recall.match`.
        people: who is annotated, crowds too.
    """

    image: ImageBoxes
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    persons: np.ndarray
    people: list[Person]

    def to_coco_results(self) -> list[dict[str, Any]]:
        """Return the boxes in the COCO results form."""
        x1, y1, x2, y2 = self.boxes_xyxy.astype(float).T
        boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).round(3).tolist()
        common = {"image_id": self.image.image_id, "category_id": self.image.category_id}
        return [common | {"bbox": box, "score": float(score)} for box, score in zip(boxes, self.scores, strict=True)]


def whole_images(annotated: AnnotatedSet) -> CocoSet:
    """Return a set that names everybody in an image.

    Raises:
        InputError: it is of another kind.
    """
    if not isinstance(annotated, CocoSet):
        raise InputError(f"{annotated.path} is no COCO-style file, which names everybody in an image.")
    return annotated


def find_persons(detector: Detector, annotated: CocoSet, image: ImageBoxes) -> Found:
    """Look for the persons of one image of a set."""
    people = [p for p in annotated.persons if p.image.id == image.image_id and p.box_xyxy is not None]
    truth = np.array([person.box_xyxy for person in people], dtype=np.float32).reshape(-1, 4)
    crowd = np.array([person.crowd for person in people], dtype=bool)
    boxes, scores = detector(read_annotated(image.path, image.image_size))
    return Found(image, boxes, scores, *match(boxes, truth, crowd), people)


def recalls(found: Sequence[Found], false_boxes: float) -> dict[str, float]:
    """Return the shares of the persons that are found, 0 to 1, at a number of false boxes per image: of "all", and of
    "small", "medium" and "large" ones, -1 where there is none of a size."""
    sizes = [np.sqrt([area_of(person) for person in one.people]) for one in found]
    figures = {}
    for name, (low, high) in SIZES.items():
        total, counted = 0, []
        for one, areas in zip(found, sizes, strict=True):
            meant = [not person.crowd and low <= size < high for person, size in zip(one.people, areas, strict=True)]
            total += sum(meant)
            others = [hit == 1 and not meant[person] for hit, person in zip(one.right, one.persons, strict=True)]
            counted.append(np.where(others, np.nan, one.right))
        figures[name] = recall([one.scores for one in found], counted, total, false_boxes) if total else -1.0
    return figures


def detector_figures(found: Sequence[Found]) -> dict[str, float]:
    """Return what `evaluate` says of a detector: "recall@1" and "recall@3", at one and at three false boxes per image;
    and "small", "medium" and "large", at one."""
    at_one = recalls(found, 1.0)
    return {"recall@1": at_one.pop("all"), "recall@3": recalls(found, 3.0)["all"], **at_one}
