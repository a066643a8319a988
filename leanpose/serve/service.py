"""What stands behind every address: networks, the line of images, and numbers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from leanpose.io.draw import draw_poses
from leanpose.io.images import encoded
from leanpose.io.results import to_json
from leanpose.serve.faults import RefusedError
from leanpose.serve.metrics import Metrics
from leanpose.serve.networks import Networks
from leanpose.serve.options import DrawOptions
from leanpose.serve.pool import Job, Pool
from leanpose.serve.settings import Settings
from leanpose.serve.uploads import Upload, read_upload
from leanpose.structures import Poses


@dataclass(frozen=True)
class Asked:
    """One image that a client sent, and what it wants of it.

    Attributes:
        model: name of a served network.
        upload: the image.
        boxes, least: as of a `Job`.
    """

    model: str
    upload: Upload
    boxes: Any = None
    least: float | None = None


Finish = Callable[[Asked, np.ndarray, Poses], Any]


class Service:
    """Networks that work for many clients.

    Args:
        settings: of the service.

    Raises:
        WeightsError: a network is missing, or the default one cannot be loaded.
        InputError: no such engine or device.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.networks = Networks(settings)
        limits = settings.limits
        self._pool = Pool(self.networks.load, self.networks.default.workers, limits.waiting, limits.seconds)
        self.metrics.waiting.set_function(lambda: self._pool.waiting)
        self.live = 0

    def close(self) -> None:
        """Finish what waits."""
        self._pool.close()

    async def run(self, asked: Sequence[Asked], finish: Finish) -> list[Any]:
        """Return what `finish` makes of each image and its poses, in threads of the pool, once all are done.

        Raises:
            BusyError: there is no room for them.
            RefusedError: they take too long.
            Exception: of the first that failed.
        """
        futures = [
            asyncio.wrap_future(future) for future in self._pool.submit([self._job(one, finish) for one in asked])
        ]
        seconds = self.settings.limits.seconds
        try:
            _, late = await asyncio.wait(futures, timeout=seconds)
        finally:
            for future in futures:  # those that have not begun never will
                future.cancel()
        if late:
            sentence = f"This took longer than {seconds:g} s; send it again later."
            raise RefusedError(503, sentence, Retry_After="5")
        for fault in [future.exception() for future in futures]:
            if fault is not None:
                raise fault
        return [future.result() for future in futures]

    def _job(self, asked: Asked, finish: Finish) -> Job:
        return Job(
            model=asked.model,
            read=partial(read_upload, asked.upload, self.settings.limits),
            finish=partial(finish, asked),
            boxes=asked.boxes,
            least=asked.least,
        )

    def result(self, asked: Asked, image: np.ndarray, poses: Poses) -> dict[str, Any]:
        """Return what a client gets for an image, and count it."""
        self.metrics.images.labels(asked.model).inc()
        self.metrics.persons.labels(asked.model).inc(len(poses))
        provenance = self.networks.load(asked.model).provenance
        if asked.least is not None:
            provenance = provenance | {"min_person_score": asked.least}
        return to_json(asked.upload.name, (image.shape[0], image.shape[1]), poses, provenance)

    def json(self, asked: Asked, image: np.ndarray, poses: Poses) -> bytes:
        """Return that as JSON."""
        return json.dumps(self.result(asked, image, poses)).encode()

    def drawn(self, options: DrawOptions, asked: Asked, image: np.ndarray, poses: Poses) -> bytes:
        """Return the image file with the poses drawn."""
        self.result(asked, image, poses)
        drawn = cv2.cvtColor(draw_poses(image, poses, min_score=options.min_score), cv2.COLOR_RGB2BGR)
        return encoded(drawn, Path(f"drawn.{options.format}"))

    @contextmanager
    def live_connection(self) -> Iterator[None]:
        """Count a WebSocket while it is open."""
        self.live += 1
        self.metrics.live.set(self.live)
        try:
            yield
        finally:
            self.live -= 1
            self.metrics.live.set(self.live)
