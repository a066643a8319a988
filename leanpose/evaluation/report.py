"""What a model does on an annotated set, beyond the official figure: errors by keypoint, by size and by score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from leanpose.evaluation.pairs import Pairs
from leanpose.metrics.keypoint_errors import Figure, KeypointErrors, keypoint_errors
from leanpose.metrics.pck import Length, length_of

CURVE = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
SHOWN = (0.1, 0.2)  # fractions in tables
RIGHT = 0.1  # of a length, of keypoints by their score
GROUPS_OF_SIZE, GROUPS_OF_SCORE = 3, 10
LENGTHS: dict[Length, str] = {
    "torso": "the torso, left shoulder to right hip",
    "box": "the longer side of the annotated box",
}


@dataclass(frozen=True)
class SizeGroup:
    """Persons of similar size.

    Attributes:
        smallest, largest: longer side of the box, pixels.
        persons: how many.
        errors: of all keypoints.
    """

    smallest: float
    largest: float
    persons: int
    errors: KeypointErrors


@dataclass(frozen=True)
class ScoreGroup:
    """Found keypoints of similar score, all of them annotated.

    Attributes:
        lowest, highest: score.
        keypoints: how many.
        right: share, 0 to 1, within a tenth of a length.
        median: error in lengths.
    """

    lowest: float
    highest: float
    keypoints: int
    right: float
    median: float


@dataclass(frozen=True, eq=False)
class Report:
    """Errors of a model on an annotated set; prints as a table.

    Attributes:
        model: its name.
        data: name of the annotation file.
        settings: how it was measured, by what it concerns.
        metrics: the official figures.
        pairs: annotated persons and what was found of them.
    """

    model: str
    data: str
    settings: Mapping[str, str]
    metrics: Mapping[str, float]
    pairs: Pairs

    @property
    def length(self) -> Length:
        """What PCK and relative errors are measured by."""
        return length_of(self.pairs.keypoint_set)

    @cached_property
    def errors(self) -> list[KeypointErrors]:
        """Of all keypoints together, then of each."""
        return self._errors(np.arange(len(self.pairs.persons)))

    def _errors(self, persons: np.ndarray) -> list[KeypointErrors]:
        pairs = self.pairs
        return keypoint_errors(
            pairs.found[persons],
            pairs.truth[persons],
            pairs.lengths[persons],
            [pairs.persons[i].image_id for i in persons],
            pairs.keypoint_set.keypoints,
            CURVE,
        )

    @cached_property
    def relative(self) -> np.ndarray:
        """(N, K) errors in lengths; NaN where a keypoint is not annotated or not found, or the length not known."""
        distances = np.linalg.norm(self.pairs.found - self.pairs.truth, axis=2)
        return distances / self.pairs.lengths[:, None]

    @cached_property
    def sizes(self) -> list[SizeGroup]:
        """Groups of as many persons each, the smallest first."""
        boxes = self.pairs.boxes_xyxy
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        groups = np.array_split(np.argsort(sides, kind="stable"), GROUPS_OF_SIZE)
        return [
            SizeGroup(float(sides[group[0]]), float(sides[group[-1]]), len(group), self._errors(group)[0])
            for group in groups
            if len(group)
        ]

    @cached_property
    def scores(self) -> list[ScoreGroup]:
        """Groups of as many keypoints each, the lowest scores first."""
        known = np.isfinite(self.relative)
        scores, errors = self.pairs.scores[known], self.relative[known]
        groups = np.array_split(np.argsort(scores, kind="stable"), GROUPS_OF_SCORE)
        return [
            ScoreGroup(
                float(scores[group[0]]),
                float(scores[group[-1]]),
                len(group),
                float((errors[group] <= RIGHT).mean()),
                float(np.median(errors[group])),
            )
            for group in groups
            if len(group)
        ]

    @cached_property
    def person_errors(self) -> np.ndarray:
        """(N,) mean error of a person's keypoints in lengths; NaN where none is known."""
        known = np.isfinite(self.relative)
        totals = known.sum(axis=1)
        return np.where(totals > 0, np.where(known, self.relative, 0).sum(axis=1) / np.maximum(totals, 1), np.nan)

    def worst(self, count: int) -> list[int]:
        """Return the places of the persons with the largest errors, the worst first."""
        order = np.argsort(-self.person_errors, kind="stable")  # NaN is last
        return [int(i) for i in order[:count] if np.isfinite(self.person_errors[i])]

    @property
    def counts(self) -> str:
        """What the figures are of, as a sentence."""
        persons, images = len(self.pairs.persons), len({person.image_id for person in self.pairs.persons})
        missed = int(np.isnan(self.pairs.found).all(axis=(1, 2)).sum())
        unknown = int(np.isnan(self.pairs.lengths).sum())
        words = f"{persons} annotated persons in {images} images"
        words += f", {missed} of them not found" if missed else ""
        return words + (f"; {unknown} do not count, since their torso is not annotated" if unknown else "") + "."

    def __str__(self) -> str:
        header = table_header(self.length)
        rows = [header, *(table_row(errors) for errors in self.errors)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        return "\n".join([f"{self.counts} PCK: within this part of {LENGTHS[self.length]}.", *lines])

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, JSON-ready: None in place of NaN."""
        worst = [
            {"image": self.pairs.persons[i].image_path, "box_xyxy": self.pairs.boxes_xyxy[i].tolist()}
            | {"error": float(self.person_errors[i])}
            for i in self.worst(len(self.pairs.persons))
        ]
        return _plain(
            {
                "model": self.model,
                "data": self.data,
                "settings": dict(self.settings),
                "metrics": dict(self.metrics),
                "length": LENGTHS[self.length],
                "keypoints": [asdict(errors) for errors in self.errors],
                "sizes": [asdict(group) for group in self.sizes],
                "scores": [asdict(group) for group in self.scores],
                "persons": worst,
            }
        )


def table_header(length: Length) -> list[str]:
    """Return the names of the columns of `table_row`."""
    return [
        *("keypoint", "found", *(f"PCK@{f:g}, %" for f in SHOWN)),
        *("mean, pixels", "median, pixels", f"mean, % of {length}"),
    ]


def table_row(errors: KeypointErrors) -> list[str]:
    """Return a row of a table of keypoints: each figure with its interval."""
    shares = (in_words(errors.pck[f], 100) for f in SHOWN)
    found = f"{errors.found}/{errors.annotated}"
    return [errors.name, found, *shares, in_words(errors.mean), in_words(errors.median), in_words(errors.relative, 100)]


def in_words(figure: Figure, factor: float = 1) -> str:
    """Return a figure times a factor with its interval, such as "4.2 (3.9 to 4.6)"; "-" where there is none."""
    if math.isnan(figure.value):
        return "-"
    value, low, high = (f"{factor * end:.1f}" for end in (figure.value, figure.low, figure.high))
    return f"{value} ({low} to {high})"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
