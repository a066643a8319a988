"""Video: the persons in every frame, in order. Decoding, detection, poses and whoever takes the frames overlap."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import Any, get_args

import numpy as np

from leanpose.errors import InputError
from leanpose.inference.detect import Detector
from leanpose.inference.engines import Engine
from leanpose.inference.predictor import Predictor
from leanpose.structures import Frame, Poses
from leanpose.tracking import LiveSmoother, Tracker, smooth_recorded
from leanpose.video import Smooth
from leanpose.video.ahead import read_ahead
from leanpose.video.between import BetweenDetections
from leanpose.video.source import Shot, Source, VideoSource, open_source

SHOTS_AHEAD = 4  # images that are decoded and wait
FRAMES_AHEAD = 4  # frames that are done and wait
MOST_BETWEEN = 8  # images that wait while a thread detects in the next of its turn
WEAK = 0.2  # score of persons from which on they keep an identity, though not start one


class Video:
    """Find the persons in every frame of a video, camera or folder of images.

        for frame in leanpose.Video("clip.mp4", track=True):
            print(frame.time_s, frame.poses.ids)

    At most some dozens of frames are in memory, however long the video. Whoever is slow holds up the reading of a file;
    of a camera or live stream the frames between are lost, so that none is older than the work on it. Iterating again
    starts a file anew.

    Args:
        source: path of a video file, number of a camera, address of a stream, a folder, glob or list of images in
            natural order, or an opened Source.
        model: as of a Predictor, or a Predictor, with its detector.
        detector: as of a Predictor.
        track: give each person an identity, `frame.poses.ids`; smoothing and rarer detection do so too.
        smooth: "live": each person's keypoints smoothed at once; "recorded": more, with what comes next, half a second
            later; "off".
        detect_every: frames from one detection to the next. Between them persons are looked for where they should be,
            or where one is lost, detected again.
        frame_rate: images per second of a folder; None: 30. Videos have times of their own.
        options: further arguments of the Predictor that is made of the model.

    Attributes:
        source: the opened Source.
        predictor: what finds the persons.

    Raises:
        InputError: there is no such source, or an argument is not one of these.
        MissingPackageError: a video file or stream, but the package av is not installed.
    """

    def __init__(
        self,
        source: VideoSource | Source,
        model: str | Path | Engine | Predictor = "auto",
        detector: str | Path | Engine | Detector | None = "auto",
        *,
        track: bool = False,
        smooth: Smooth = "off",
        detect_every: int = 1,
        frame_rate: float | None = None,
        **options: Any,
    ) -> None:
        if smooth not in get_args(Smooth):
            raise InputError(f"smooth must be 'off', 'live' or 'recorded', not '{smooth}'.")
        if detect_every < 1:
            raise InputError(f"detect_every must be at least 1, not {detect_every}; 1 detects in every frame.")
        if isinstance(model, Predictor) and (options or detector != "auto"):
            raise InputError(f"{', '.join(options) or 'detector'}: give these to the Predictor, which has its own.")
        self.source = source if isinstance(source, Source) else open_source(source, frame_rate)
        self.predictor = model if isinstance(model, Predictor) else Predictor(model, detector=detector, **options)
        if detect_every > 1 and (self.predictor.bottom_up or not self.predictor.searches):
            raise InputError(f"{self.predictor.weights.name} works without a detector here; leave detect_every at 1.")
        self._tracks = track or smooth != "off" or detect_every > 1  # both need identities
        self._smooth, self._detect_every = smooth, detect_every
        self._stopped = threading.Event()

    @property
    def provenance(self) -> dict[str, Any]:
        """What a file of results says of how they were made; JSON-ready."""
        own = {"track": self._tracks, "detect_every": self._detect_every, "smooth": self._smooth}
        return self.predictor.provenance | own

    def stop(self) -> None:
        """Take no more images from the source; the iteration ends with the frames of those that were taken."""
        self._stopped.set()

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame with its image, in order.

        Raises:
            InputError: an image of the source cannot be used, or a camera gives no more; after all frames before it.
            WeightsError: the network gives NaN.
        """
        faults: list[InputError] = []
        live = self.source.live
        shots = read_ahead(self._until_fault(faults), 1 if live else SHOTS_AHEAD, newest=live)
        frames = self._found(shots)
        if self._smooth == "live":
            frames = _smoothed(frames)
        elif self._smooth == "recorded":
            frames = smooth_recorded(frames)
        try:
            yield from read_ahead(frames, 1 if live else FRAMES_AHEAD, newest=live)
        finally:
            self._stopped.clear()
        if faults:
            raise faults[0]

    def _until_fault(self, faults: list[InputError]) -> Generator[Shot]:
        """Yield the shots up to the first fault, which is kept, so that all that was found before gets through."""
        try:
            with closing(self.source.shots()) as shots:
                for shot in shots:
                    if self._stopped.is_set():
                        return
                    yield shot
        except InputError as error:
            faults.append(error)

    def _found(self, shots: Generator[Shot]) -> Iterator[Frame]:
        """Yield the frames with the persons in them, with ids where they are needed."""
        start = self.predictor.min_person_score
        tracker = Tracker(start, min(WEAK, start))
        if self._detect_every > 1:
            ahead = 0 if self.source.live else min(self._detect_every, MOST_BETWEEN)
            between = BetweenDetections(self.predictor, tracker, self._detect_every, ahead)
            return starmap(_frame, between.found(shots))
        if self._tracks:
            return _tracked(self._each_alone(shots, tracker.keep_score), tracker)
        return self._each_alone(shots, None)

    def _each_alone(self, shots: Iterable[Shot], least: float | None) -> Iterator[Frame]:
        """Yield frames whose persons are detected in each, on several at once where the predictor can."""
        taken: deque[tuple[int, float]] = deque()

        def images() -> Iterator[np.ndarray]:
            for shot in shots:
                taken.append((shot.index, shot.time_s))
                yield shot.image

        for image, poses in self.predictor.stream(images(), live=self.source.live, min_person_score=least):
            yield _frame(Shot(*taken.popleft(), image), poses)


def _frame(shot: Shot, poses: Poses) -> Frame:
    return Frame(shot.index, shot.time_s, poses, (shot.image.shape[0], shot.image.shape[1]), shot.image)


def _tracked(frames: Iterable[Frame], tracker: Tracker) -> Iterator[Frame]:
    for frame in frames:
        yield replace(frame, poses=tracker(frame.poses, frame.time_s))


def _smoothed(frames: Iterable[Frame]) -> Iterator[Frame]:
    smooth = LiveSmoother()
    for frame in frames:
        yield replace(frame, poses=smooth(frame.poses, frame.time_s))
