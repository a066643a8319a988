"""Parts of a plan, each done once whatever ends its process, with the same bytes on all ways."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")

from batch.stubs import Hashes, StubWork, results, sources_in, table_rows, write_images

from leanpose.batch.plan import Part
from leanpose.batch.store import Store
from leanpose.batch.worker import Worker, errors_file, persons_file
from leanpose.errors import InputError


def worker(store: Store | None, parts: list[Part], hashes: Hashes | None = None, limit: int | None = None) -> Worker:
    return StubWork(hashes or Hashes()).worker(parts.__getitem__, store, limit)()


@pytest.fixture
def parts(tmp_path: Path) -> list[Part]:
    """Two parts: of three images and one that is missing, and of two images."""
    paths = list(map(str, write_images(tmp_path / "images", 5)))
    return [Part("image", (*paths[:2], str(tmp_path / "no.jpg"), paths[2])), Part("image", tuple(paths[3:]))]


def test_a_part(parts: list[Part], tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    work = worker(store, parts)
    done = work(0)
    assert (done.number, done.images, done.persons, done.failures) == (0, 3, 3, Counter(missing=1))
    assert set(done.seconds) == {"fetch", "decode", "predict", "write"} and str(os.getpid()) in done.node
    work(1)
    assert sorted(results(tmp_path / "out")) == sorted([errors_file(0), persons_file(0), persons_file(1)])
    assert store.names("begun") == set()
    assert sources_in(store, 2) == [*parts[0].sources[:2], parts[0].sources[3], *parts[1].sources]
    [row] = table_rows(store, 2)
    assert (row["source"], row["kind"]) == (parts[0].sources[2], "missing")


def test_a_part_that_is_done_is_not_done_again(parts: list[Part], tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    worker(store, parts)(1)
    store.write("begun/1", b"")
    before = os.stat(tmp_path / "out" / persons_file(1))
    done = worker(store, [], Hashes("."))(1)  # it would end this process
    assert (done.number, done.images) == (1, 0)
    assert os.stat(tmp_path / "out" / persons_file(1)).st_mtime_ns == before.st_mtime_ns
    assert store.names("begun") == set()


@pytest.mark.parametrize("address", ["disk", "memory"])
def test_all_ways_give_the_same_bytes(address: str, parts: list[Part], tmp_path: Path) -> None:
    def files(name: str) -> tuple[Store, list[bytes | None]]:
        store = Store(str(tmp_path / name) if address == "disk" else f"memory://{tmp_path.name}/{name}")
        return store, [store.read(persons_file(0)), store.read(errors_file(0))]

    for name, begun in (("plain", False), ("begun", True)):
        store = files(name)[0]
        if begun:
            store.write("begun/0", b"")
        worker(store, parts)(0)
        assert not store.exists("begun/0")
    assert None not in files("plain")[1]
    assert files("begun")[1] == files("plain")[1]
    store.remove(persons_file(0))
    worker(store, parts)(0)  # once more in the same place
    assert files("begun")[1] == files("plain")[1]


def test_errors_of_a_broken_try_do_not_stay(parts: list[Part], tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    worker(store, parts)(0)
    store.remove(persons_file(0))  # killed after the errors were written
    store.write("begun/0", b"")
    cv2.imwrite(parts[0].sources[2], np.zeros((8, 8, 3), np.uint8))
    assert worker(store, parts)(0).failures == Counter()
    assert sources_in(store, 1) == list(parts[0].sources) and table_rows(store, 1) == []


def test_poison_costs_itself_only(parts: list[Part], tmp_path: Path) -> None:
    out, poison = tmp_path / "out", parts[1].sources[0]
    code = f"""if __name__ == '__main__':
    from batch.stubs import *
    StubWork(Hashes({poison!r})).worker({parts!r}.__getitem__, Store({str(out)!r}))()(1)"""
    code = code.replace("Part(", "__import__('leanpose.batch.plan').batch.plan.Part(")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -9
    store = Store(str(out))
    assert (store.names("begun"), store.names("persons")) == ({"1"}, set())
    done = worker(store, parts, Hashes(poison))(1)  # this process outlives it
    assert (done.images, done.failures) == (1, Counter(died=1))
    assert sources_in(store, 2) == [parts[1].sources[1]]
    assert [(row["source"], row["kind"]) for row in table_rows(store, 2)] == [(poison, "died")]
    assert store.names("begun") == set()


def test_a_trial_writes_nothing(parts: list[Part], tmp_path: Path) -> None:
    done = worker(None, parts, limit=2)(0)
    assert (done.images, done.persons) == (2, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


def test_a_place_that_cannot_be_written(parts: list[Part], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Not a directory"):
        worker(Store(str(tmp_path / "file")), parts)(0)
