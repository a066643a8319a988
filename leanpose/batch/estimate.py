"""What is found in an image or a video, as rows of the result's tables; or in a process of its own, which may die."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, Protocol

import cv2
import numpy as np

from leanpose.batch.reading import Clip, Failure, Image, Task, failure_of, on_disk
from leanpose.errors import InputError, LeanposeError, MissingPackageError
from leanpose.inference.predictor import Predictor
from leanpose.io.images import decode_image
from leanpose.structures import Poses
from leanpose.video.source import open_source

TRIES = 2  # how often something may end its process before it counts as the cause
ROUNDED = 1e-3  # seconds to which files round the times of frames


@dataclass
class Found:
    """What was found, and what it cost.

    Attributes:
        persons: rows of the table of persons.
        failures: what could not be worked on.
        images: how many were worked on, frames of videos among them.
        seconds: by stage.
    """

    persons: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    images: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("decode", "predict"), 0.0))

    def add(self, other: Found) -> None:
        """Take over what another holds."""
        self.persons += other.persons
        self.failures += other.failures
        self.images += other.images
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


class Estimate(Protocol):
    """What finds persons; it does not raise for what an image or video holds."""

    def __call__(self, task: Task) -> Found: ...


class Estimator:
    """Finds persons with a Predictor.

    Args:
        predictor: is called with one image at a time, so that what is found does not depend on others.
        frame_rate: frames of a video per second to look at, about; None: all.
        frames: of a video, at most; None: all.
    """

    def __init__(self, predictor: Predictor, frame_rate: float | None, frames: int | None = None) -> None:
        self.predictor, self.frame_rate, self.frames = predictor, frame_rate, frames

    def __call__(self, task: Task) -> Found:
        found, frame = Found(), 0 if isinstance(task, Clip) else None
        try:
            with closing(self._shots(task)) as shots:
                began = time.perf_counter()
                for image, frame, time_s in islice(shots, self.frames):
                    found.seconds["decode"] += time.perf_counter() - began
                    self._image(image, task.source, frame, time_s, found)
                    frame = None if frame is None else frame + 1
                    began = time.perf_counter()
        except MissingPackageError:
            raise  # of this machine
        except (InputError, OSError) as error:
            found.failures.append(replace(failure_of(task.source, error), frame=frame))
        except Exception as error:  # an image must not end the job, whatever it does to a decoder or a network
            kind = type(error).__name__
            message = str(error) if isinstance(error, LeanposeError) else f"{task.source}: {error}"
            found.failures.append(Failure(task.source, kind, message, frame))
        return found

    def _shots(self, task: Task) -> Generator[tuple[np.ndarray, int | None, float | None]]:
        """Yield images, (H, W, 3) uint8 RGB, with frame and seconds of those of a video: the first frame in each
        1 / frame_rate seconds."""
        if isinstance(task, Image):
            yield decode_image(task.data, task.source), None, None
            return
        with on_disk(task.source) as name:
            try:
                latest = -1
                with closing(open_source(name).shots()) as shots:
                    for shot in shots:
                        tick = shot.index if self.frame_rate is None else int((shot.time_s + ROUNDED) * self.frame_rate)
                        if tick > latest:
                            latest = tick
                            yield shot.image, shot.index, shot.time_s
            except InputError as error:
                raise InputError(str(error).replace(name, task.source)) from None

    def _image(self, image: np.ndarray, source: str, frame: int | None, time_s: float | None, found: Found) -> None:
        began = time.perf_counter()
        [result] = self.predictor.batch([(lambda: image, None)])
        found.seconds["predict"] += time.perf_counter() - began
        if isinstance(result, InputError):
            raise result
        found.persons += rows(result[1], image.shape[:2], source, frame, time_s)
        found.images += 1


def rows(
    poses: Poses, size: tuple[int, ...], source: str, frame: int | None, time_s: float | None
) -> Iterable[dict[str, Any]]:
    """Yield a row per person, without the columns that are the same in the whole job."""
    for person in range(len(poses)):
        yield {
            "source": source,
            "frame": frame,
            "time_s": time_s,
            "height": size[0],
            "width": size[1],
            "person": person,
            "score": float(poses.person_scores[person]),
            "box_xyxy": poses.boxes_xyxy[person],
            "keypoints_x": poses.keypoints[person, :, 0],
            "keypoints_y": poses.keypoints[person, :, 1],
            "keypoint_scores": poses.scores[person],
        }


class Alone:
    """An Estimate in a process of its own, for what may have ended one.

    What ends it TRIES times becomes a Failure of the kind "died". The process ends with this one, however that ends.

    Args:
        make: makes the Estimate; it is pickled.

    Raises:
        InputError: by a call, where the process does not come up, whatever it should work on.
    """

    def __init__(self, make: Callable[[], Estimate]) -> None:
        self._make = make
        self._process: Any = None
        self._pipe: Connection | None = None

    def __call__(self, task: Task) -> Found:
        for _ in range(TRIES):
            pipe = self._pipe or self._start()
            try:
                pipe.send(task)
                found: Found = pipe.recv()
                return found
            except (EOFError, OSError):
                self.close()
        return Found(failures=[Failure(task.source, "died", f"{task.source} ended its process {TRIES} times.")])

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._make), daemon=True)
        self._process.start()
        theirs.close()  # so that each end is read to its end when the other process is gone
        try:
            self._pipe.recv()
        except (EOFError, OSError):
            self.close()
            raise InputError(
                "A second process does not come up beside an actor; give it memory, with fewer actors on a machine."
            ) from None
        return self._pipe

    def close(self) -> None:
        """End the process, if there is one."""
        if self._pipe is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._pipe = None


def _serve(pipe: Connection, make: Callable[[], Estimate]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    estimate = make()
    pipe.send(None)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(estimate(task))


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@dataclass(frozen=True)
class Recipe:
    """Makes an Estimator in another process.

    Attributes:
        predictor: makes the Predictor.
        sha256: of the model's file, which must be the same everywhere.
        frame_rate, frames: as of an Estimator.
    """

    predictor: Callable[[], Predictor]
    sha256: str | None
    frame_rate: float | None
    frames: int | None = None

    def __call__(self) -> Estimator:
        cv2.setNumThreads(1)  # the network's threads are those that the cluster counts
        predictor = self.predictor()
        found = predictor.provenance["sha256"]
        if found != self.sha256:
            raise InputError(
                f"{predictor.weights.name} is another file on this machine (SHA-256 {found}, not {self.sha256}); "
                "give all machines the same."
            )
        return Estimator(predictor, self.frame_rate, self.frames)
