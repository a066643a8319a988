"""The plan of a job: parts of a good size, and flat memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

from leanpose.batch.plan import BYTES, FEWEST, IMAGES, PARTS, SHARD, Part, Plan, Totals, divide, write_plan
from leanpose.batch.sources import Item
from leanpose.batch.store import Store
from leanpose.errors import InputError


def parts_of(items: list[Item]) -> list[Part]:
    totals = Totals()
    parts = list(divide(items, totals))
    assert totals.parts == len(parts)
    return parts


def images(count: int, size: int = 0) -> list[Item]:
    return [Item(f"{number}.jpg", "image", size) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "most"), [(0, 0), (1, 1), (20, FEWEST), (PARTS * 20, 20), (PARTS * IMAGES + 1000, IMAGES)]
)
def test_every_image_is_in_one_part(count: int, most: int) -> None:
    parts = parts_of(images(count))
    assert [source for part in parts for source in part.sources] == [item.source for item in images(count)]
    assert max((len(part.sources) for part in parts), default=0) == most


def test_large_images() -> None:
    assert [len(part.sources) for part in parts_of(images(9, BYTES // 2))] == [2, 2, 2, 2, 1]
    assert [len(part.sources) for part in parts_of(images(3, BYTES * 2))] == [1, 1, 1]


def test_tar_files_and_videos_are_parts_of_their_own() -> None:
    items = [*images(2), Item("a.tar", "tar", 5), *images(1), Item("a.mp4", "video"), Item("b.tar", "tar")]
    totals = Totals()
    parts = list(divide(items, totals))
    assert parts == [
        Part("tar", ("a.tar",)),
        Part("video", ("a.mp4",)),
        Part("tar", ("b.tar",)),
        Part("image", ("0.jpg", "1.jpg", "0.jpg")),
    ]
    assert totals == Totals(4, 3, 2, 1, 5)
    assert str(totals) == "3 images, 2 tar files, 1 video"


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    parts = [Part("image", (f"{number} ü::%.jpg", "s3://a/\udcff.jpg")) for number in range(2 * SHARD + 1)]
    store = Store(str(tmp_path))
    write_plan(store, iter(parts))
    plan = Plan(store)
    for number in (0, SHARD - 1, SHARD, 2 * SHARD, 1):
        assert plan(number) == parts[number]
    assert len(store.names("plan")) == 3


def test_a_machine_that_does_not_see_the_plan(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not see .*shard-000000.parquet; --out must be a place that all"):
        Plan(Store(str(tmp_path)))(0)


def test_memory_does_not_grow_with_a_job() -> None:
    def many(count: int) -> Iterator[Item]:
        for number in range(count):
            yield Item(f"{number:0100d}.jpg", "image")

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in divide(many(count), Totals()):
            pass
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    first = IMAGES * PARTS
    assert peak(3 * first) < 1.2 * peak(first)
