"""The values that travel between the parts: Poses (what prediction returns), Frame (an image of a video with its
Poses), Sample (one annotated person), Scene (all annotated persons of an image) and ImageBoxes (an image to predict).

They are frozen, check themselves when made and hold NumPy arrays only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from leanpose.errors import InputError, MissingPackageError, suggest
from leanpose.keypoint_sets import KEYPOINT_SETS, KeypointSet, convert

if TYPE_CHECKING:
    from supervision import KeyPoints

LEAST = 0.2  # raw score from which on a keypoint counts as there, unless somebody says otherwise
CALIBRATED_LEAST = 0.4  # the same of calibrated scores


def _check(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.shape != shape:
        found = array.shape if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(f"{name} must be an array of shape {shape}, not {found}.")


def _check_set(keypoint_set: object) -> None:
    if not isinstance(keypoint_set, KeypointSet):
        named = isinstance(keypoint_set, str) and keypoint_set in KEYPOINT_SETS
        how = f"get_keypoint_set('{keypoint_set}')" if named else "leanpose.COCO"
        raise InputError(f"keypoint_set must be a KeypointSet, not {keypoint_set!r}; give {how}.")


@dataclass(frozen=True, eq=False)
class Poses:
    """All persons found in one image.

    Attributes:
        keypoints: (N, K, 2) float32 x, y in image pixels; the center of the top-left pixel is (0, 0);
            NaN where a keypoint is absent.
        scores: (N, K) float32, about the chance that a keypoint is there and right, 0 to 1, where the weights are
            calibrated; else the codec's confidence, about 0 to 1.
        boxes_xyxy: (N, 4) float32 left, top, right, bottom in image pixels.
        person_scores: (N,) float32 confidence of each person.
        keypoint_set: names, edges and flip pairs of the K keypoints.
        ids: (N,) int64 identity over time, given by tracking; None for single images.
        raw_scores: (N, K) float32, the codec's confidence, where `scores` are calibrated, NaN where a file of results
            holds only these; None: `scores` are raw.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    boxes_xyxy: np.ndarray
    person_scores: np.ndarray
    keypoint_set: KeypointSet
    ids: np.ndarray | None = None
    raw_scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_set(self.keypoint_set)
        n, k = len(self.keypoints), len(self.keypoint_set)
        _check("keypoints", self.keypoints, (n, k, 2))
        _check("scores", self.scores, (n, k))
        _check("boxes_xyxy", self.boxes_xyxy, (n, 4))
        _check("person_scores", self.person_scores, (n,))
        if self.ids is not None:
            _check("ids", self.ids, (n,))
        if self.raw_scores is not None:
            _check("raw_scores", self.raw_scores, (n, k))

    @staticmethod
    def empty(keypoint_set: KeypointSet) -> Poses:
        """Return Poses of no person."""
        k = len(keypoint_set)
        zeros = np.zeros
        return Poses(
            zeros((0, k, 2), np.float32),
            zeros((0, k), np.float32),
            zeros((0, 4), np.float32),
            zeros(0, np.float32),
            keypoint_set,
        )

    def __len__(self) -> int:
        return len(self.keypoints)

    @overload
    def __getitem__(self, index: str) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: int | slice | np.ndarray) -> Poses: ...

    def __getitem__(self, index: str | int | slice | np.ndarray) -> Poses | np.ndarray:
        """Select persons by position, slice, mask or index array, as Poses again; or one keypoint of all persons by
        name, such as `poses["nose"]`: (N, 3) float32 x, y, score, NaN where it is absent.

        Raises:
            InputError: the set has no keypoint of this name.
        """
        if isinstance(index, str):
            names = self.keypoint_set.keypoints
            if index not in names:
                raise InputError(f"There is no keypoint '{index}'.{suggest(index, names)}")
            k = names.index(index)
            return np.column_stack([self.keypoints[:, k], self.scores[:, k]])
        chosen = np.atleast_1d(np.arange(len(self))[index])
        return replace(
            self,
            keypoints=self.keypoints[chosen],
            scores=self.scores[chosen],
            boxes_xyxy=self.boxes_xyxy[chosen],
            person_scores=self.person_scores[chosen],
            ids=None if self.ids is None else self.ids[chosen],
            raw_scores=None if self.raw_scores is None else self.raw_scores[chosen],
        )

    def __iter__(self) -> Iterator[Poses]:
        """Iterate over persons, each as Poses of length one."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        count = f"{len(self)} person" + ("" if len(self) == 1 else "s")
        return f"Poses({count}, {len(self.keypoint_set)} {self.keypoint_set.name} keypoints)"

    def least_score(self, min_score: float | None = None) -> float:
        """Return the score below which keypoints count as absent: the one given, or CALIBRATED_LEAST where scores are
        calibrated and LEAST where they are raw."""
        if min_score is not None:
            return min_score
        return LEAST if self.raw_scores is None else CALIBRATED_LEAST

    def present(self, image_size: tuple[int, int], min_score: float | None = None) -> np.ndarray:
        """Return which keypoints count as there, (N, K) bool: they have a place and at least `least_score(min_score)`.

        Where scores are calibrated they must also lie in the image, (height, width) in pixels, since they are chances
        of what is annotated there; (0, 0) stands for a size that is not known.
        """
        there: np.ndarray = np.isfinite(self.keypoints).all(axis=2) & (self.scores >= self.least_score(min_score))
        if self.raw_scores is not None and image_size != (0, 0):
            height, width = image_size
            there &= ((self.keypoints >= -0.5) & (self.keypoints <= np.array([width, height]) - 0.5)).all(axis=2)
        return there

    def to(self, keypoint_set: KeypointSet) -> Poses:
        """Carry the keypoints to another set, such as CROWDPOSE, by name; those that only it has are NaN, of score 0.

        Raises:
            InputError: it is no KeypointSet.
        """
        _check_set(keypoint_set)
        keypoints, scores = convert(self.keypoints, self.scores, self.keypoint_set, keypoint_set)
        raw = self.raw_scores
        if raw is not None:
            _, raw = convert(self.keypoints, raw, self.keypoint_set, keypoint_set)
        return replace(self, keypoints=keypoints, scores=scores, keypoint_set=keypoint_set, raw_scores=raw)

    def to_rows(self) -> list[dict[str, float]]:
        """Return one flat dict per person, with the columns of poses.csv but `image`, for `pandas.DataFrame(rows)`.

        The keys are person, id (if tracked), score, x1, y1, x2, y2, then x, y and score of every keypoint, such as
        nose_x, nose_y, nose_score; x and y are NaN where it is absent.
        """
        rows = []
        for i in range(len(self)):
            row: dict[str, float] = {"person": i}
            if self.ids is not None:
                row["id"] = int(self.ids[i])
            row["score"] = float(self.person_scores[i])
            row |= zip(("x1", "y1", "x2", "y2"), self.boxes_xyxy[i].tolist(), strict=True)
            for name, (x, y), score in zip(
                self.keypoint_set.keypoints, self.keypoints[i].tolist(), self.scores[i].tolist(), strict=True
            ):
                row |= {f"{name}_x": x, f"{name}_y": y, f"{name}_score": score}
            rows.append(row)
        return rows

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one JSON-ready dict per person: score, box_xyxy, id (if tracked), keypoints by name.

        Absent keypoints (NaN) are left out.
        """
        persons = []
        for i in range(len(self)):
            keypoints = {
                name: {"x": _rounded(x, 2), "y": _rounded(y, 2), "score": _rounded(score, 4)}
                for name, (x, y), score in zip(
                    self.keypoint_set.keypoints, self.keypoints[i], self.scores[i], strict=True
                )
                if np.isfinite([x, y]).all()
            }
            identity = {} if self.ids is None else {"id": int(self.ids[i])}
            persons.append(
                identity
                | {
                    "score": _rounded(self.person_scores[i], 4),
                    "box_xyxy": [_rounded(v, 2) for v in self.boxes_xyxy[i]],
                    "keypoints": keypoints,
                }
            )
        return persons

    def to_supervision(self, min_score: float | None = None) -> KeyPoints:
        """Return the persons as `supervision.KeyPoints` (supervision.roboflow.com, 0.29 or newer), for its annotators
        and filters.

        Args:
            min_score: keypoints below it are not `visible`; by default `least_score()`.

        Returns:
            `xy`, (0, 0) where a keypoint is absent; `visible`; `keypoint_confidence`; `detection_confidence`;
            `class_id` 0; and in `data` "xyxy", the boxes, and "tracker_id", the identities, if tracked.

        Raises:
            MissingPackageError: supervision is not installed; it is in no extra, since it brings another OpenCV.
        """
        try:
            from supervision import KeyPoints
        except ModuleNotFoundError:
            raise MissingPackageError("This needs the package supervision: pip install supervision") from None
        placed = np.isfinite(self.keypoints).all(axis=2)
        return KeyPoints(
            xy=np.where(placed[..., None], self.keypoints, 0),
            class_id=np.zeros(len(self), int),
            keypoint_confidence=self.scores,
            detection_confidence=self.person_scores,
            visible=placed & (self.scores >= self.least_score(min_score)),
            data={"xyxy": self.boxes_xyxy} | ({} if self.ids is None else {"tracker_id": self.ids}),
        )

    def to_coco_results(self, image_id: int | str, category_id: int | str = 1) -> list[dict[str, Any]]:
        """Return one entry a person in the COCO results form (keypoints as x, y, score triples, bbox as xywh).

        Ids may be NumPy's, as they come out of tables.
        """
        triples = np.concatenate([np.nan_to_num(self.keypoints), self.scores[..., None]], axis=-1)  # (N, K, 3)
        sizes = self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]
        return [
            {
                "image_id": _plain(image_id),
                "category_id": _plain(category_id),
                "keypoints": [_rounded(v, 4) for v in triples[i].ravel()],
                "bbox": [_rounded(v, 2) for v in (*self.boxes_xyxy[i, :2], *sizes[i])],
                "score": _rounded(self.person_scores[i], 6),
            }
            for i in range(len(self))
        ]


def _plain(identity: Any) -> Any:
    return identity.item() if isinstance(identity, np.generic) else identity


def _rounded(value: float, digits: int) -> float:
    return round(float(value), digits)


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a video or camera with the persons in it.

    Attributes:
        index: its number in the source, from 0.
        time_s: when it is shown, seconds from the first frame of the source.
        poses: in pixels of this image.
        image_size: (height, width) in pixels.
        image: (H, W, 3) uint8 RGB; None where nobody needs it any more, or the frame was read from a file of results.
    """

    index: int
    time_s: float
    poses: Poses
    image_size: tuple[int, int]
    image: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.image is not None:
            _check("image", self.image, (*self.image_size, 3))


@dataclass(frozen=True, eq=False)
class Sample:
    """One annotated person.

    Attributes:
        image_path: file of the image.
        image_id: id of the image in its annotation file.
        box_xyxy: (4,) float32 in image pixels.
        keypoints: (K, 2) float32 in image pixels; NaN where unlabelled.
        visibility: (K,) int8; 0 unlabelled, 1 labelled but hidden, 2 visible (COCO).
        weights: (K,) float32 in 0..1, how much each keypoint counts in training; where unlabelled down to -1: how much
            it counts that the keypoint is known to be absent. None: all alike.
        image_size: (height, width) in pixels that the annotation file states; None: it states none.
    """

    image_path: str
    image_id: int | str
    box_xyxy: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray
    weights: np.ndarray | None = None
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        k = len(self.visibility)
        _check("box_xyxy", self.box_xyxy, (4,))
        _check("keypoints", self.keypoints, (k, 2))
        _check("visibility", self.visibility, (k,))
        if self.weights is not None:
            _check("weights", self.weights, (k,))

    @property
    def keypoint_weights(self) -> np.ndarray:
        """(K,) float32: the weight of a labelled keypoint; below 0 for one that is known to be absent; else 0."""
        weights = np.ones(len(self.visibility)) if self.weights is None else self.weights
        return np.where(self.visibility > 0, weights, np.minimum(weights, 0)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Scene:
    """All annotated persons of one image, as seen in one view of it.

    Attributes:
        image_path: file of the image.
        image_id: id of the image in its annotation file.
        box_xyxy: (4,) float32 image pixels; what the view is laid around.
        keypoints: (P, K, 2) float32 in image pixels; NaN where unlabelled.
        visibility: (P, K) int8; 0 unlabelled, 1 labelled but hidden, 2 visible (COCO).
        boxes_xyxy: (P, 4) float32 in image pixels.
        ignored: regions where not all is annotated: an (n, 2) polygon in image pixels and a level of
            data.scenes each.
        image_size: (height, width) in pixels that the annotation file states.
    """

    image_path: str
    image_id: int | str
    box_xyxy: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray
    boxes_xyxy: np.ndarray
    ignored: tuple[tuple[np.ndarray, int], ...] = ()
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        p, k = self.visibility.shape
        _check("box_xyxy", self.box_xyxy, (4,))
        _check("keypoints", self.keypoints, (p, k, 2))
        _check("boxes_xyxy", self.boxes_xyxy, (p, 4))


@dataclass(frozen=True, eq=False)
class ImageBoxes:
    """One image to predict, with its person boxes if they are known.

    Attributes:
        path: file of the image.
        image_id: as the annotation file has it.
        boxes_xyxy: (N, 4) float32 image pixels; None: a detector finds the persons.
        scores: (N,) float32 confidence of the boxes; 1 for annotated ones.
        category_id: of the persons in the annotation file.
        persons: of MPII, the place of each box in the list of persons, from 0: each gets one pose, as it is.
        image_size: (height, width) in pixels that the annotation file states; None: it states none.
    """

    path: str
    image_id: int | str
    boxes_xyxy: np.ndarray | None
    scores: np.ndarray
    category_id: int | str = 1
    persons: tuple[int, ...] | None = None
    image_size: tuple[int, int] | None = None
