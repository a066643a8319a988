"""What the benchmarks of `leanpose batch` share: jobs without a network, and the processes of a job."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.batch.estimate import Estimate, Found, rows
from leanpose.batch.plan import Part
from leanpose.batch.reading import Failure, Image, Task
from leanpose.batch.store import Store
from leanpose.batch.tables import persons_table
from leanpose.batch.worker import Worker
from leanpose.errors import InputError
from leanpose.io.images import decode_image
from leanpose.keypoint_sets import COCO
from leanpose.structures import Poses

STUB = {"model": "stand-in", "sha256": None}


class Nothing:
    """Finds nobody, without a look."""

    def __call__(self, task: Task) -> Found:
        return Found(images=1)


class Pixels:
    """Finds one person in each image, whose keypoints are a hash of the pixels."""

    def __call__(self, task: Task) -> Found:
        assert isinstance(task, Image)
        try:
            image = decode_image(task.data, task.source)
        except InputError as error:
            return Found(failures=[Failure(task.source, "unusable", str(error))])
        hashed = np.frombuffer(hashlib.sha256(image.tobytes()).digest(), np.uint8).astype(np.float32)
        keypoints, scores = np.resize(hashed, (1, 17, 2)), np.resize(hashed, (1, 17))
        poses = Poses(keypoints, scores, hashed[None, :4], hashed[:1], COCO)
        return Found(list(rows(poses, image.shape[:2], task.source, None, None)), images=1)


@dataclass(frozen=True)
class StandIn:
    """A job without a network, as `job.Work` is one with."""

    make: Callable[[], Estimate]

    def worker(self, parts: Callable[[int], Part], store: Store | None, limit: int | None = None) -> Any:
        return partial(
            Worker, self.make, parts, store, partial(persons_table, keypoint_set=COCO, provenance=STUB), limit
        )

    def describe(self) -> dict[str, Any]:
        return STUB


def processes() -> dict[int, str]:
    """Return the names of all processes below this one, by number."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:  # it is gone
                parents.pop(int(folder.name), None)
    found: list[int] = [os.getpid()]
    for number in found:  # which grows
        found += [child for child, parent in parents.items() if parent == number]
    return {number: names[number] for number in found[1:]}
