"""A job: a plan, its parts spread over a cluster, and an account of it. What is done stays, and the rest can follow."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from leanpose.batch.cluster import Cluster, spread
from leanpose.batch.estimate import Recipe
from leanpose.batch.plan import SHARD, Part, Plan, Totals, divide, write_plan
from leanpose.batch.sources import Item, absolute, find_items
from leanpose.batch.store import Store
from leanpose.batch.tables import persons_table
from leanpose.batch.worker import BEGUN, Done, Worker, persons_file, persons_folder
from leanpose.errors import InputError, note
from leanpose.inference.predictor import Predictor

MANIFEST, REPORT = "manifest.json", "report.json"
VERSION = 1  # of the manifest and the tables
LINE_SECONDS = 60  # from one line about what was reached to the next
SAMPLES_AT_A_TIME = 10  # images of a trial that an actor is given
LARGE = 4  # tar files and videos, each, that a trial looks into


@dataclass(frozen=True)
class Work:
    """What a job finds, and how.

    Attributes:
        predictor: its arguments go to all machines.
        frame_rate: frames of a video per second to look at, about; None: all.
    """

    predictor: Predictor
    frame_rate: float | None

    def worker(self, parts: Any, store: Store | None, limit: int | None = None) -> partial[Worker]:
        """Return what makes a worker in another process; `limit` is of images in a part, and of frames in a video."""
        provenance = self.predictor.provenance
        recipe = Recipe(self.predictor.__reduce__()[0], provenance["sha256"], self.frame_rate, limit)
        table = partial(persons_table, keypoint_set=self.predictor.keypoint_set, provenance=provenance)
        return partial(Worker, recipe, parts, store, table, limit)

    def describe(self) -> dict[str, Any]:
        """Return what makes two results the same; JSON-ready."""
        return self.predictor.provenance | {
            "keypoint_set": self.predictor.keypoint_set.name,
            "frame_rate": self.frame_rate,
        }


@dataclass
class Account:
    """What a run did: images, persons, failures by kind, seconds of all actors by stage, and processes that worked."""

    images: int = 0
    persons: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    nodes: set[str] = field(default_factory=set)
    elapsed: float = 0.0

    def add(self, done: Done) -> None:
        """Count one part in."""
        self.images += done.images
        self.persons += done.persons
        self.failures.update(done.failures)
        self.seconds.update(done.seconds)
        self.nodes.add(done.node)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, with images per second of the clock."""
        return {
            "images": self.images,
            "persons": self.persons,
            "failures": dict(self.failures),
            "seconds": dict(self.seconds),
            "elapsed": self.elapsed,
            "images_per_second": self.images / self.elapsed if self.elapsed else 0.0,
            "processes": sorted(self.nodes),
        }

    def __str__(self) -> str:
        rate = f": {self.images / self.elapsed:,.1f} images/s" if self.elapsed and self.images else ""
        lines = [f"{self.images:,} images, {self.persons:,} persons in {duration(self.elapsed)}{rate}"]
        if total := sum(self.seconds.values()):
            shares = ", ".join(f"{stage} {seconds / total:.0%}" for stage, seconds in self.seconds.items())
            lines.append(f"time of the actors: {shares}")
        if self.failures:
            lines.append("failures: " + ", ".join(f"{count:,} {kind}" for kind, count in self.failures.most_common()))
        return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return a time in words, such as "3 h 20 min"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def planned(store: Store, words: Sequence[str], column: str | None, work: Work) -> int:
    """Return the number of parts of a job; where it is new, list what is to be done and write the plan first.

    Raises:
        InputError: the folder holds another job or cannot be written, or nothing is found under one of the words.
    """
    store.check()
    wanted = {"job": VERSION, "sources": list(map(absolute, words)), "column": column} | work.describe()
    if (known := store.read(MANIFEST)) is not None:
        return _known_parts(store, known, wanted)
    if others := store.names() - {"plan"}:
        raise InputError(f"{store.address} holds {min(others)}, but no job of leanpose; choose another --out.")
    totals = Totals()
    write_plan(store, divide(find_items(words, column), totals))
    store.write(MANIFEST, json.dumps(wanted | {"plan": asdict(totals)}, indent=1).encode())
    note(f"{totals}; the plan is written, parts: {totals.parts:,}.")
    return totals.parts


def _known_parts(store: Store, known: bytes, wanted: Mapping[str, Any]) -> int:
    """Return the number of parts of a job that was begun before, if it is the same."""
    try:
        manifest = json.loads(known)
        parts = int(manifest["plan"]["parts"])
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{store.address}/{MANIFEST} is not that of a job of leanpose; choose another --out."
        ) from None
    for key, value in wanted.items():
        if manifest.get(key) != value:
            raise InputError(
                f"{store.address} holds a job with {key} {_word(manifest.get(key))}, not {_word(value)}; "
                "choose another --out."
            )
    return parts


def _word(value: Any) -> str:
    return "none" if value is None else ", ".join(value) if isinstance(value, list) else str(value)


def missing(store: Store, parts: int) -> np.ndarray:
    """Return the numbers of the parts that are not done, int64."""
    numbers = []
    for shard in range(-(-parts // SHARD)):
        done = store.names(persons_folder(shard))
        within = range(shard * SHARD, min(parts, (shard + 1) * SHARD))
        numbers += [number for number in within if persons_file(number).rpartition("/")[2] not in done]
    return np.array(numbers, np.int64)


def run(store: Store, parts: int, work: Work, cluster: Cluster) -> Account:
    """Do what is missing of a job.

    Raises:
        InputError: the cluster is not there, or a machine of it has other weights.
        KeyboardInterrupt: with what was reached.
    """
    numbers = missing(store, parts)
    if len(numbers) < parts:
        note(f"{parts - len(numbers):,} of {parts:,} parts are done; {len(numbers):,} are left.")
    account = Account()
    if len(numbers):
        account = _spread(work.worker(Plan(store), store), numbers, cluster, parts)
        store.write(REPORT, json.dumps(account.to_dict(), indent=1).encode())
    with suppress(InputError):  # somebody else may still write there, who started the same job
        store.remove(BEGUN)
        store.sweep()
    return account


def _spread(worker: Any, numbers: Sequence[int] | np.ndarray, cluster: Cluster, parts: int) -> Account:
    account = Account()
    began = told = time.monotonic()
    done = parts - len(numbers)
    try:
        for result in spread(worker, numbers, cluster):
            done += 1
            account.add(result)
            account.elapsed = time.monotonic() - began
            if time.monotonic() - told >= LINE_SECONDS:
                told = time.monotonic()
                note(f"{done:,} of {parts:,} parts; {str(account).replace(chr(10), '; ')}")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{done:,} of {parts:,} parts are done; the same line goes on with the rest") from None
    return account


def trial(
    words: Sequence[str], column: str | None, work: Work, cluster: Cluster, samples: int
) -> tuple[Totals, Account]:
    """Work on a sample and write nothing.

    Args:
        samples: images, about; of tar files and videos LARGE of each are looked into, as far as makes as many images.

    Returns:
        What the job would have, and what the sample took.
    """
    totals, size = Totals(), SAMPLES_AT_A_TIME
    kept: dict[str, list[Item]] = {"image": [], "tar": [], "video": []}
    chance = random.Random(0)

    def sampled(items: Iterable[Item]) -> Iterable[Item]:
        seen: Counter[str] = Counter()
        for item in items:
            seen[item.kind] += 1
            some, most = kept[item.kind], samples if item.kind == "image" else LARGE
            if len(some) < most:
                some.append(item)
            elif (place := chance.randrange(seen[item.kind])) < most:  # each is kept with the same chance
                some[place] = item
            yield item

    for _ in divide(sampled(find_items(words, column)), totals):
        pass
    names = [item.source for item in kept["image"]]
    parts = [Part("image", tuple(names[start : start + size])) for start in range(0, len(names), size)]
    parts += [Part(item.kind, (item.source,)) for item in kept["tar"] + kept["video"]]
    worker = work.worker(parts.__getitem__, None, max(size, samples // LARGE))
    return totals, _spread(worker, range(len(parts)), cluster, len(parts))
