"""The folder of a job: on a disk or in an object store, for which fsspec's memory:// stands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("fsspec")

from leanpose.batch.store import Store, filesystem, is_local
from leanpose.errors import InputError


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "disk":
        return Store(str(tmp_path / "a job::of 100%"))
    return Store(f"memory://{tmp_path.name}/job")


def test_files_are_whole_or_absent(store: Store) -> None:
    store.check()
    assert (store.read("a/b"), store.exists("a/b"), store.names(), store.names("a")) == (None, False, set(), set())
    store.remove("a")
    store.write("a/b", b"1")
    store.write("a/b", b"22")
    store.write("c", b"")
    assert (store.read("a/b"), store.exists("a/b"), store.names(), store.names("a")) == (b"22", True, {"a", "c"}, {"b"})
    store.remove("a/b")
    store.remove("a")
    store.remove("a")
    assert (store.read("a/b"), store.names()) == (None, {"c"})


def test_what_a_killed_process_left(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("a/b.parquet", b"1")
    (tmp_path / "a" / ".0123456789abcdef.parquet").write_bytes(b"half")
    (tmp_path / ".0123456789abcdef").write_bytes(b"half")
    (tmp_path / ".mine").write_bytes(b"")
    assert (store.names(), store.names("a")) == ({"a"}, {"b.parquet"})
    store.sweep()
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".mine", "a", "b.parquet"]
    Store("memory://elsewhere").sweep()


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file is a file; choose a folder"):
        Store(str(tmp_path / "file")).check()
    with pytest.raises(InputError, match="cannot be written"):
        Store(str(tmp_path / "file" / "job")).check()
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\)"):
        Store(str(tmp_path / "file" / "job")).write("a", b"")
    with pytest.raises(InputError, match=r"a cannot be read \(Not a directory\)"):
        Store(str(tmp_path / "file" / "job")).read("a")
    with pytest.raises(InputError, match="a cannot be removed"):
        Store(str(tmp_path / "file" / "job")).remove("a")


def test_a_full_disk() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with pytest.raises(InputError, match="cannot be written"):
        Store("/dev/full/job").check()


@pytest.mark.parametrize("address", ["nothing://a", "zip://a::nothing://b"])
def test_addresses_that_nobody_knows(address: str) -> None:
    with pytest.raises(InputError, match=r"cannot be reached: Protocol not known: nothing\."):
        Store(address).read("a")


@pytest.mark.parametrize("name", ["a::b.jpg", "data:x", "file:x", "~a", "C:a", "a b%20#?.jpg", "ü\udcff"])
def test_a_path_is_taken_as_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fs, path = filesystem(name)
    assert is_local(fs) and path == str(tmp_path / name)
