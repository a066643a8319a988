"""What an actor of a job does: a part of the plan, once, whatever happened before.

The files of a part: `begun/N` from its beginning to its end; `errors/.../part-N.parquet` where something failed; and
`persons/.../part-N.parquet`, which is written last and says that the part is done. Where a part was begun and not
done, something in it may have ended the process; then its images go one by one into a process of their own.
"""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from leanpose.batch.estimate import Alone, Estimate, Found
from leanpose.batch.plan import SHARD, Part
from leanpose.batch.reading import Failure, tasks
from leanpose.batch.store import Store
from leanpose.batch.tables import failures_table

BEGUN = "begun"


def persons_file(number: int) -> str:
    """Return the name of a part's table of persons, whose being there says that the part is done."""
    return f"{persons_folder(number // SHARD)}/part-{number:09d}.parquet"


def persons_folder(shard: int) -> str:
    return f"persons/shard={shard:06d}"


def errors_file(number: int) -> str:
    """Return the name of a part's table of failures."""
    return f"errors/shard={number // SHARD:06d}/part-{number:09d}.parquet"


@dataclass(frozen=True)
class Done:
    """What became of a part.

    Attributes:
        number: of the part.
        images: how many were worked on, frames of videos among them.
        persons: how many were found.
        failures: how many images, tar files and videos could not be worked on, by kind.
        seconds: by stage: "fetch" (waiting for files), "decode", "predict", "write".
        node: the machine's name and process.
    """

    number: int
    images: int = 0
    persons: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    node: str = ""


class Worker:
    """Does parts by their numbers.

    Args:
        make: makes the Estimate, here and in processes of their own; it is pickled.
        parts: gives a part by its number.
        store: the folder of the job; None: results are counted and not written.
        table: makes the file of persons out of rows.
        limit: images that are worked on in a part, at most; a video counts as one.
    """

    def __init__(
        self,
        make: Callable[[], Estimate],
        parts: Callable[[int], Part],
        store: Store | None,
        table: Callable[[list[dict[str, object]]], bytes],
        limit: int | None = None,
    ) -> None:
        self._make, self._parts, self._store, self._table, self._limit = make, parts, store, table, limit
        self._estimate = make()

    def __call__(self, number: int) -> Done:
        """Do a part, unless it is done."""
        node = f"{platform.node()}:{os.getpid()}"
        if self._store is None:
            return _done(number, self._found(self._parts(number), self._estimate), node)
        begun = f"{BEGUN}/{number}"
        if self._store.exists(persons_file(number)):
            self._store.remove(begun)
            return Done(number, node=node)
        part = self._parts(number)
        careful = self._store.exists(begun)
        if careful:
            alone = Alone(self._make)
            try:
                found = self._found(part, alone)
            finally:
                alone.close()
        else:
            self._store.write(begun, b"")
            found = self._found(part, self._estimate)
        began = time.perf_counter()
        if found.failures:
            self._store.write(errors_file(number), failures_table(found.failures))
        elif careful:
            self._store.remove(errors_file(number))  # what failed before it was begun again
        self._store.write(persons_file(number), self._table(found.persons))
        self._store.remove(begun)
        found.seconds["write"] = time.perf_counter() - began
        return _done(number, found, node)

    def _found(self, part: Part, estimate: Estimate) -> Found:
        found = Found()
        began = time.perf_counter()
        for task in islice(tasks(part), self._limit):
            found.seconds["fetch"] = found.seconds.get("fetch", 0.0) + time.perf_counter() - began
            if isinstance(task, Failure):
                found.failures.append(task)
            else:
                found.add(estimate(task))
            began = time.perf_counter()
        return found


def _done(number: int, found: Found, node: str) -> Done:
    kinds = Counter(failure.kind for failure in found.failures)
    return Done(number, found.images, len(found.persons), kinds, found.seconds, node)
