"""What the forms of frame files have in common: a clip, a writer, and poses of what a file tells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.errors import InputError
from leanpose.io.values import shown
from leanpose.keypoint_sets import COCO, KeypointSet, keypoint_set_from_coco
from leanpose.structures import Frame, Poses

LARGEST = 2**53  # of whole numbers; floats are exact up to there
UNKNOWN_SIZE = (0, 0)  # of images, where a file does not tell it


@dataclass(frozen=True)
class Clip:
    """What holds for all frames of a file.

    Attributes:
        keypoint_set: of the poses of every frame.
        source: name of the video or folder that the frames come from.
        fps: nominal frames per second; None where there is no such rate. Each frame has its own time.
        provenance: how the poses were made (`Predictor.provenance`), JSON-ready.
    """

    keypoint_set: KeypointSet
    source: str = ""
    fps: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


class FrameWriter(ABC):
    """Takes the frames of one clip in their order. The end of a `with` block closes it, whatever ends the block."""

    @abstractmethod
    def write(self, frame: Frame) -> None:
        """Add a frame.

        Raises:
            InputError: the file cannot be written.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish the file, with all frames that were written; a second call does nothing."""

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class WriterAtEnd(FrameWriter):
    """A writer that keeps the poses of all frames until it is closed.

    Args:
        write_all: makes the file from all frames.
    """

    def __init__(self, path: Path, clip: Clip, write_all: Callable[[Path, Clip, Sequence[Frame]], None]) -> None:
        self._path, self._clip, self._write_all = path, clip, write_all
        self._frames: list[Frame] = []
        self._closed = False

    def write(self, frame: Frame) -> None:
        self._frames.append(replace(frame, image=None))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._write_all(self._path, self._clip, self._frames)


def set_of_names(names: Sequence[str], where: str | Path) -> KeypointSet:
    """Return the built-in keypoint set with these names, spelling aside, else one of its own without edges; without
    names COCO, since then there are no persons, and any set is right.

    Raises:
        InputError: a name stands twice.
    """
    if not names:
        return COCO
    return keypoint_set_from_coco([{"name": "custom", "keypoints": list(names)}], str(where))


def make_poses(
    keypoint_set: KeypointSet,
    keypoints: np.ndarray,
    scores: np.ndarray,
    ids: Sequence[int | None] | None = None,
    boxes_xyxy: np.ndarray | None = None,
    person_scores: np.ndarray | None = None,
    calibrated: bool = False,
) -> Poses:
    """Return Poses of what a file tells.

    Args:
        keypoints: (N, K, 2) x, y in image pixels, NaN where absent.
        scores: (N, K); NaN where the file has none: 1 where the keypoint has a place, else 0.
        ids: N identities; None where the file has none. They count where all persons have one.
        boxes_xyxy: (N, 4); without them the extent of the keypoints, zeros where there are none.
        person_scores: (N,); without them the mean of the keypoints' scores.
        calibrated: whether the scores are (`is_calibrated`); the raw ones are NaN then.
    """
    n, k = len(keypoints), len(keypoint_set)
    keypoints = np.asarray(keypoints, np.float32).reshape(n, k, 2)
    scores = np.asarray(scores, np.float32).reshape(n, k)
    placed = np.isfinite(keypoints[..., 0]) & np.isfinite(keypoints[..., 1])
    scores = np.where(np.isnan(scores), placed, scores).astype(np.float32)
    if boxes_xyxy is None:
        low = np.where(placed[..., None], keypoints, np.inf).min(axis=1)
        high = np.where(placed[..., None], keypoints, -np.inf).max(axis=1)
        boxes_xyxy = np.where(placed.any(axis=1, keepdims=True), np.hstack([low, high]), 0)
    known = ids is not None and len(ids) > 0 and None not in ids
    return Poses(
        np.where(placed[..., None], keypoints, np.nan).astype(np.float32),
        scores,
        np.asarray(boxes_xyxy, np.float32).reshape(n, 4),
        np.asarray(scores.mean(axis=1) if person_scores is None else person_scores, np.float32).reshape(n),
        keypoint_set,
        np.array(ids, np.int64) if known else None,
        np.full((n, k), np.nan, np.float32) if calibrated else None,
    )


def is_calibrated(provenance: Any) -> bool:
    """Return whether scores are calibrated, by what a file says of how they were made; False where it does not say."""
    return isinstance(provenance, Mapping) and provenance.get("calibrated") is True


def time_of(index: int, fps: float | None) -> float:
    """Return the time of a frame in seconds where the file has none: by the rate, NaN without one."""
    return index / fps if fps else float("nan")


def whole_number(value: Any, what: str) -> int:
    """Return a whole number; one that stands as text or as 7.0 is taken as one.

    Raises:
        InputError: it is none; `what` begins the message.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not number.is_integer() or abs(number) > LARGEST:
        raise InputError(f"{what} must be a whole number, not {shown(value)}.")
    return int(number)
