"""The plan of a job: what is to be done, in parts, written down before the work begins.

A part is done whole, by one process, and has one name; so a part that is done twice is the same file.
"""

from __future__ import annotations

import io
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

from leanpose.batch.sources import Item, Kind
from leanpose.batch.store import Store
from leanpose.errors import InputError

IMAGES = 256  # in a part of a large job
FEWEST = 8  # in a part of a small one
BYTES = 64 * 2**20  # of files in a part of images, at most
PARTS = 64  # of a small job, about, so that all actors have some
SHARD = 1000  # parts in a file of the plan, and in a folder of results


@dataclass(frozen=True)
class Part:
    """What one process does at a time: images, or one tar file or video.

    Attributes:
        kind: of all its sources.
        sources: paths or addresses.
    """

    kind: Kind
    sources: tuple[str, ...]


@dataclass
class Totals:
    """How much a plan holds; `size` is in bytes, as far as sizes are known."""

    parts: int = 0
    images: int = 0
    tars: int = 0
    videos: int = 0
    size: int = 0

    def count(self, item: Item) -> None:
        """Count one item in."""
        self.images += item.kind == "image"
        self.tars += item.kind == "tar"
        self.videos += item.kind == "video"
        self.size += item.size

    def __str__(self) -> str:
        counts = {"image": self.images, "tar file": self.tars, "video": self.videos}
        return ", ".join(f"{count:,} {kind}{'s' * (count != 1)}" for kind, count in counts.items() if count)


def divide(items: Iterable[Item], totals: Totals) -> Iterator[Part]:
    """Yield parts of FEWEST to IMAGES images, and at most BYTES bytes; each tar file and video is one of its own.

    Args:
        totals: counts what is yielded.
    """
    every = iter(items)
    first = list(islice(every, IMAGES * PARTS))
    most = max(FEWEST, min(IMAGES, len(first) // PARTS))
    images: list[str] = []
    size = 0
    for item in chain(first, every):
        totals.count(item)
        if item.kind != "image":
            totals.parts += 1
            yield Part(item.kind, (item.source,))
            continue
        if images and (len(images) == most or size + item.size > BYTES):
            totals.parts += 1
            yield Part("image", tuple(images))
            images, size = [], 0
        images.append(item.source)
        size += item.size
    if images:
        totals.parts += 1
        yield Part("image", tuple(images))


def write_plan(store: Store, parts: Iterable[Part]) -> None:
    """Write a plan, SHARD parts at a time, as Parquet with the columns kind and sources.

    Names are bytes in it, since those of old file systems are not always UTF-8.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    every = iter(parts)
    for number in range(2**62):
        some = list(islice(every, SHARD))
        if not some:
            return
        names = [[source.encode("utf-8", "surrogateescape") for source in part.sources] for part in some]
        columns = {"kind": [part.kind for part in some], "sources": names}
        schema = pa.schema([("kind", pa.string()), ("sources", pa.list_(pa.binary()))])
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns, schema=schema), buffer, compression="zstd")
        store.write(_shard(number), buffer.getvalue())


def _shard(number: int) -> str:
    return f"plan/shard-{number:06d}.parquet"


@dataclass
class Plan:
    """A plan that was written; parts are read when they are asked for.

    Attributes:
        store: the folder of the job.
    """

    store: Store
    _shard: tuple[int, list[Part]] = field(default=(-1, []), init=False, repr=False)

    def __call__(self, number: int) -> Part:
        """Return a part by its number, from 0.

        Raises:
            InputError: the plan is not there.
        """
        shard, place = divmod(number, SHARD)
        if self._shard[0] != shard:
            self._shard = shard, self._read(shard)
        return self._shard[1][place]

    def _read(self, shard: int) -> list[Part]:
        import pyarrow.parquet as pq

        data = self.store.read(_shard(shard))
        if data is None:
            raise InputError(
                f"{platform.node()} does not see {self.store.address}/{_shard(shard)}; "
                "--out must be a place that all machines share."
            )
        rows = pq.read_table(io.BytesIO(data)).to_pylist()
        return [Part(row["kind"], tuple(map(_name, row["sources"]))) for row in rows]


def _name(source: bytes) -> str:
    return source.decode("utf-8", "surrogateescape")
