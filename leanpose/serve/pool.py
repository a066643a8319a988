"""Many clients, few networks: images wait in one line for the threads that work on them."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leanpose.errors import InputError
from leanpose.inference.predictor import CHUNK, Predictor
from leanpose.structures import Poses

WAIT_S = 0.003  # for more images to share calls of a network


class BusyError(Exception):
    """The line is full.

    Attributes:
        seconds: after which there should be room.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True)
class Job:
    """One image to work on.

    Attributes:
        model: what the Pool gets its Predictor by.
        read: returns the image, (H, W, 3) uint8 RGB, or raises InputError.
        finish: turns the image and its poses into what the client gets.
        boxes: as of a call of the Predictor.
        least: person score; None: the Predictor's.
    """

    model: str
    read: Callable[[], np.ndarray]
    finish: Callable[[np.ndarray, Poses], Any]
    boxes: Any = None
    least: float | None = None
    future: Future[Any] = field(default_factory=Future)


class Pool:
    """Threads that work on jobs in the order in which they come: reading, networks and writing of an image in one.

    With an engine that threads may share there are several, and each has one image, which is faster on a CPU than
    sharing calls. Else one thread takes all images that wait for the same network, up to CHUNK, and gives those that
    are about to come a moment.

    Args:
        load: returns the Predictor of a model's name, which may be loaded then.
        workers: as of a Predictor.
        waiting: most jobs that wait.
        longest_s: seconds that a job may have to wait, by what the last ones took.
    """

    def __init__(
        self, load: Callable[[str], Predictor], workers: int, waiting: int, longest_s: float = math.inf
    ) -> None:
        self._load = load
        self._together = 1 if workers > 1 else CHUNK
        self._most, self._longest_s = waiting, longest_s
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds = 0.1  # a job takes, on average over the last ones
        self._threads = [threading.Thread(target=self._work, name=f"worker {i}", daemon=True) for i in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._jobs)

    def submit(self, jobs: Sequence[Job]) -> list[Future[Any]]:
        """Put jobs into the line, all or none; return what their `finish` returns, or what was raised.

        Raises:
            BusyError: there is no room.
        """
        with self._changed:
            wait = len(self._jobs) * self._seconds / len(self._threads)
            if wait > self._longest_s or len(self._jobs) + len(jobs) > self._most:
                raise BusyError(max(1, math.ceil(wait / 2)))
            self._jobs.extend(jobs)
            self._changed.notify_all()
        return [job.future for job in jobs]

    def close(self) -> None:
        """Finish what waits, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while jobs := self._next():
            start = time.perf_counter()
            running = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if running:
                _run(self._load, running)
                self._seconds += 0.1 * ((time.perf_counter() - start) / len(running) - self._seconds)

    def _next(self) -> list[Job]:
        """Wait for jobs and take some of one network; none: the pool is closed and all are done."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if self._together > 1 and self._jobs:
                self._changed.wait_for(lambda: len(self._jobs) >= self._together or self._closed, WAIT_S)
            taken = [self._jobs.popleft()] if self._jobs else []
            while self._jobs and len(taken) < self._together and self._jobs[0].model == taken[0].model:
                taken.append(self._jobs.popleft())
            return taken


def _run(load: Callable[[str], Predictor], jobs: Sequence[Job]) -> None:
    """Work on jobs of one network and set their futures."""
    try:
        predictor = load(jobs[0].model)
        least = [predictor.min_person_score if job.least is None else job.least for job in jobs]
        found = predictor.of_a_worker.batch([(job.read, job.boxes) for job in jobs], min(least))
    except Exception as error:  # of a network; each client is told
        for job in jobs:
            job.future.set_exception(error)
        return
    for job, result, score in zip(jobs, found, least, strict=True):
        try:
            if isinstance(result, InputError):
                raise result
            image, poses = result
            searched = job.boxes is None and predictor.searches
            job.future.set_result(job.finish(image, poses[poses.person_scores >= score] if searched else poses))
        except Exception as error:
            job.future.set_exception(error)
