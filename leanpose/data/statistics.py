"""Numbers of an annotated set: persons, their sizes, and where and how often keypoints are labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from leanpose.data.faults import person_sides
from leanpose.data.lenient import LenientSet

Counts = tuple[int, int, int, float]  # of a keypoint: labelled, visible, hidden, and the spread of its places


@dataclass(frozen=True, eq=False)
class Statistics:
    """I images, N persons (without crowds), K keypoints.

    Attributes:
        per_image: (I,) int persons.
        sides: (N,) square root of the area of each box, pixels; NaN without a box.
        places: (N, K, 2) keypoints in their boxes, 0 to 1 from left to right and top to bottom; NaN where unlabelled.
        labelled_persons: how many have a labelled keypoint.
        keypoints: by name.
    """

    per_image: np.ndarray
    sides: np.ndarray
    places: np.ndarray
    labelled_persons: int
    keypoints: dict[str, Counts]

    @property
    def images(self) -> int:
        return len(self.per_image)

    @property
    def empty_images(self) -> int:
        """Images without persons."""
        return int((self.per_image == 0).sum())

    @property
    def persons(self) -> int:
        return len(self.sides)

    @property
    def sides_px(self) -> tuple[float, float, float]:
        """The 5th, 50th and 95th percentile of the sides; NaN without persons."""
        known = self.sides[np.isfinite(self.sides)]
        low, middle, high = np.percentile(known, [5, 50, 95]) if len(known) else [np.nan] * 3
        return float(low), float(middle), float(high)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready numbers; NaN is null."""
        names = ("labelled", "visible", "hidden", "spread")
        return {
            "images": self.images,
            "empty_images": self.empty_images,
            "persons": self.persons,
            "labelled_persons": self.labelled_persons,
            "persons_per_image": np.bincount(self.per_image, minlength=1).tolist(),
            "side_px": dict(zip(("p5", "p50", "p95"), map(_plain, self.sides_px), strict=True)),
            "keypoints": {
                name: dict(zip(names, map(_plain, counts), strict=True)) for name, counts in self.keypoints.items()
            },
        }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)


def statistics(annotated: LenientSet) -> Statistics:
    """Return the numbers of an annotated set."""
    persons = ~annotated.crowd
    boxes, triples = annotated.boxes_xyxy[persons], annotated.triples[persons]
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    places = (annotated.keypoints[persons] - boxes[:, None, :2]) / sides[:, None]
    image_of = annotated.image_of[persons]
    names = annotated.keypoint_set.keypoints if annotated.keypoint_set else ()
    v = triples[..., 2]
    return Statistics(
        per_image=np.bincount(image_of[image_of >= 0], minlength=len(annotated.names)),
        sides=person_sides(annotated)[persons],
        places=places,
        labelled_persons=int((v > 0).any(axis=1).sum()),
        keypoints={
            name: (
                int((v[:, k] > 0).sum()),
                int((v[:, k] == 2).sum()),
                int((v[:, k] == 1).sum()),
                _spread(places[:, k]),
            )
            for k, name in enumerate(names)
        },
    )


def _spread(places: np.ndarray) -> float:
    """Return the standard deviation of (N, 2) places, root mean square of both axes; NaN for none."""
    known = places[np.isfinite(places).all(axis=1)]
    return float(np.sqrt(known.var(axis=0).mean())) if len(known) else float("nan")
