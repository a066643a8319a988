"""Files are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from leanpose.errors import InputError
from leanpose.io.files import copy, write_atomically, write_bytes, write_folder_atomically, write_text


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_write(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "folder" / "a.txt", "grün")
    write_bytes(tmp_path / "b.bin", b"1")
    write_bytes(str(tmp_path / "b.bin"), b"22")
    copy(tmp_path / "b.bin", tmp_path / "other" / "c.bin")
    assert everything_in(tmp_path) == {"new/folder/a.txt": "grün".encode(), "b.bin": b"22", "other/c.bin": b"22"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("a fault of ours")])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def fail(temporary: Path) -> None:
        assert temporary.parent == tmp_path and temporary.suffix == ".txt"
        temporary.write_bytes(b"half")
        raise error

    with pytest.raises(InputError if isinstance(error, OSError) else ValueError, match=str(error.args[-1])):
        write_atomically(path, fail)
    assert everything_in(tmp_path) == {"a.txt": b"old"}


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    before = everything_in(tmp_path)
    for path in ("file/a.txt", "file/deeper/a.txt", "folder", "x" * 300 + ".txt", "x" * 300 + "/a.txt"):
        with pytest.raises(InputError, match="cannot be written"):
            write_text(tmp_path / path, "new")
    assert everything_in(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize("name", ["x" * 250 + ".json", "." + "x" * 250, "写" * 83 + ".jpg"])
def test_names_as_long_as_disks_allow(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "new")
    assert os.listdir(tmp_path) == [name]


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        write_text(folder / "sub/a.txt", "a")

    def fail(folder: Path) -> None:
        fill(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"out cannot be written \(No space left on device\)"):
        write_folder_atomically(tmp_path / "new/out", fail)
    assert not [*(tmp_path / "new").iterdir()]
    (tmp_path / "empty").mkdir()
    for name in ("new/out", "empty"):
        write_folder_atomically(tmp_path / name, fill)
        assert (tmp_path / name / "sub/a.txt").read_text() == "a"
    with pytest.raises(InputError, match="cannot be written"):
        write_folder_atomically(tmp_path / "empty", fill)  # which is not empty now
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]
