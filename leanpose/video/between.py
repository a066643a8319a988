"""Detection in every n-th frame only; between them persons are looked for where a tracker expects them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from leanpose.inference.predictor import Predictor
from leanpose.structures import Poses
from leanpose.tracking import Tracker
from leanpose.video.source import Shot


class BetweenDetections:
    """Find the persons of successive images, with ids; most of the images without a detector.

    An image between is searched by the detector, too, where the tracker has lost somebody; not where there was nobody.

    Args:
        predictor: top-down, with a detector.
        tracker: of this video alone.
        every: images from one detection to the next.
        ahead: images that are taken before the first one is done, so that a thread can detect in the next of its turn.
    """

    def __init__(self, predictor: Predictor, tracker: Tracker, every: int, ahead: int) -> None:
        self._predictor, self._tracker, self._every, self._ahead = predictor, tracker, every, ahead
        self._deserted = False  # whether the last detection found nobody

    def found(self, shots: Iterable[Shot]) -> Iterator[tuple[Shot, Poses]]:
        """Yield each image with its persons, in order."""
        coming: deque[tuple[Shot, Future[Poses] | None]] = deque()
        with ThreadPoolExecutor(1) as pool:
            for number, shot in enumerate(shots):
                coming.append((shot, None if number % self._every else pool.submit(self._detected, shot)))
                if len(coming) > self._ahead:
                    yield self._next(*coming.popleft())
            while coming:
                yield self._next(*coming.popleft())

    def _next(self, shot: Shot, detected: Future[Poses] | None) -> tuple[Shot, Poses]:
        if detected is None and (self._deserted or not self._tracker.due()):
            poses = self._in_boxes(shot.image, self._tracker.boxes(shot.time_s))
        else:
            poses = self._detected(shot) if detected is None else detected.result()
            self._deserted = len(poses) == 0
        return shot, self._tracker(poses, shot.time_s)

    def _detected(self, shot: Shot) -> Poses:
        return self._predictor(shot.image, min_person_score=self._tracker.keep_score)

    def _in_boxes(self, image: np.ndarray, boxes: np.ndarray) -> Poses:
        """Return the persons in boxes (N, 4), of those that lie in the image."""
        inside = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < image.shape[1::-1]).all(axis=1)
        poses = self._predictor(image, boxes[inside])
        return self._predictor.rescored(poses, np.ones(len(poses), np.float32))
