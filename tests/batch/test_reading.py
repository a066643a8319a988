"""What a part holds: images fetched ahead, members of tar files, and rows for what cannot be read."""

from __future__ import annotations

import io
import os
import tarfile
import urllib.error
from pathlib import Path

import pytest

pytest.importorskip("fsspec")

import fsspec
from batch.stubs import write_images
from support import Host

import leanpose.batch.reading as reading
from leanpose.batch.plan import Part
from leanpose.batch.reading import Clip, Failure, Image, on_disk, tasks


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses so far, none of which is made."""
    made: list[float] = []
    monkeypatch.setattr("leanpose.batch.reading.time.sleep", made.append)
    return made


def found(*sources: object, kind: str = "image") -> list[Clip | Image | Failure]:
    return list(tasks(Part(kind, tuple(map(str, sources)))))  # type: ignore[arg-type]


def kinds(*sources: object, kind: str = "image") -> list[str]:
    """Return what becomes of sources, "" for each that is read."""
    return [task.kind if isinstance(task, Failure) else "" for task in found(*sources, kind=kind)]


def test_images_come_in_order(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 20)
    assert found(*paths) == [Image(str(path), path.read_bytes()) for path in paths]


def test_who_stops_early_waits_for_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def fetch(source: str) -> bytes:
        fetched.append(source)
        return b""

    monkeypatch.setattr(reading, "fetch", fetch)
    some = tasks(Part("image", tuple(map(str, range(100)))))
    next(iter(some))
    some.close()  # type: ignore[attr-defined]
    assert len(fetched) <= 2 * reading.AHEAD + 1


def test_files_that_cannot_be_read(tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_images(tmp_path, 1)[0]
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    sources = [tmp_path / "no.jpg", tmp_path / "folder.jpg", path / "a.jpg", tmp_path / "pipe.jpg", "nothing://a"]
    assert kinds(*sources, path) == ["missing"] * 4 + ["unusable", ""]
    assert found(sources[0]) == [Failure(str(sources[0]), "missing", f"There is no file {sources[0]}.")]
    monkeypatch.setattr(reading, "LARGEST", 10)
    [failure] = found(path)
    assert isinstance(failure, Failure) and failure.kind == "unusable" and "is larger than" in failure.message
    assert not pauses


def test_object_stores(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/a.jpg", b"123")
    name = f"memory://{tmp_path.name}/a.jpg"
    assert found(name) == [Image(name, b"123")]
    assert kinds(f"memory://{tmp_path.name}/b.jpg") == ["missing"]
    with on_disk(name) as copied:
        assert Path(copied).read_bytes() == b"123"
    assert not os.path.exists(copied)


def test_the_web(pauses: list[float]) -> None:
    with Host(files={"/a%20b.jpg": b"123"}).running() as host:
        name = f"{host.address}/a b.jpg"
        assert found(name) == [Image(name, b"123")]
        assert kinds(f"{host.address}/c.jpg") == ["missing"]
        assert not pauses
    assert kinds(name) == ["unreachable"]
    assert pauses == [1.0, 2.0]


@pytest.mark.parametrize(
    ("error", "asked", "kind"),
    [
        (ConnectionResetError("reset"), 3, "unreachable"),
        (RuntimeError("odd"), 3, "unreachable"),
        (PermissionError("no"), 1, "unreachable"),
        (urllib.error.HTTPError("u", 503, "busy", {}, None), 3, "unreachable"),  # type: ignore[arg-type]
        (urllib.error.HTTPError("u", 429, "too many", {}, None), 3, "unreachable"),  # type: ignore[arg-type]
        (urllib.error.HTTPError("u", 403, "forbidden", {}, None), 1, "unreachable"),  # type: ignore[arg-type]
        (urllib.error.HTTPError("u", 410, "gone", {}, None), 1, "missing"),  # type: ignore[arg-type]
    ],
)
def test_what_is_asked_for_again(error: Exception, asked: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def fail(source: str) -> bytes:
        calls.append(source)
        raise error

    monkeypatch.setattr(reading, "fetch", fail)
    assert kinds("s3://a/b.jpg") == [kind]
    assert len(calls) == asked


def test_an_address_that_is_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((OSError("lost"), OSError("lost"), b"123"))

    def fetch(source: str) -> bytes:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(reading, "fetch", fetch)
    assert found("s3://a/b.jpg") == [Image("s3://a/b.jpg", b"123")]


MEMBERS = {"a.jpg": b"1" * 700, "a.json": b"{}", "sub/b c.PNG": b"2", "._a.jpg": b"x", "a.cls": b"5", "c.webp": b"3"}


def make_tar(path: Path, mode: str = "w") -> Path:
    """Write a tar file of MEMBERS, a folder, and a link."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        folder, link = tarfile.TarInfo("folder.jpg"), tarfile.TarInfo("link.jpg")
        folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "a.jpg"
        tar.addfile(folder)
        tar.addfile(link)
        for name, data in MEMBERS.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_images_of_a_tar_file(mode: str, tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a b.tar", mode)
    names = ["a.jpg", "sub/b c.PNG", "c.webp"]
    expected = [Image(f"tar://{name}::{path}", MEMBERS[name]) for name in names]
    assert found(path, kind="tar") == expected
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}.tar", path.read_bytes())
    assert [task.data for task in found(f"memory://{tmp_path.name}.tar", kind="tar")] == [e.data for e in expected]  # type: ignore[union-attr]
    assert expected[1].source == f"tar://sub/b c.PNG::{path}"
    if mode == "w":
        assert fsspec.open(expected[1].source).open().read() == b"2"  # it is a name that fsspec knows


def test_a_tar_file_that_is_cut_off_anywhere(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar")
    whole, data = kinds(path, kind="tar"), path.read_bytes()
    assert whole == ["", "", ""]
    end = len(data.rstrip(b"\0"))
    for length in (0, 100, 512, 1024, 1536, 1800, 2300, 3000, 4096, end - 600, end - 10):
        path.write_bytes(data[:length])
        *read, last = found(path, kind="tar")
        assert isinstance(last, Failure) and last.kind == "unusable" and "is it whole?" in last.message, length
        assert all(isinstance(task, Image) for task in read), length
    path.write_bytes(data[:2560] + b"x" * 512 + data[3072:])  # a header in the middle
    assert kinds(path, kind="tar")[-1] == "unusable"
    path.write_bytes(b"no tar file" * 100)
    assert kinds(path, kind="tar") == ["unusable"]


def test_odd_tar_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tarfile.open(tmp_path / "empty.tar", "w").close()
    assert kinds(tmp_path / "empty.tar", tmp_path / "no.tar", kind="tar") == ["missing"]
    path = make_tar(tmp_path / "a.tar")
    monkeypatch.setattr(reading, "LARGEST", 100)
    assert kinds(path, kind="tar") == ["unusable", "", ""]  # one member is too large, the others are read


@pytest.mark.parametrize("lengths", [True, False])
def test_a_tar_file_on_a_line_that_breaks(lengths: bool, tmp_path: Path, pauses: list[float]) -> None:
    content = make_tar(tmp_path / "a.tar").read_bytes()
    with Host(files={"/a.tar": content}, breaks={"/a.tar": [3000, 4000]}, lengths=lengths).running() as host:
        name = f"{host.address}/a.tar"
        assert [task.source for task in found(name, kind="tar")] == [
            f"tar://{member}::{name}" for member in ("a.jpg", "sub/b c.PNG", "c.webp")
        ]
        assert pauses == [1.0, 2.0]
        assert kinds(f"{host.address}/no.tar", kind="tar") == ["missing"]
    assert kinds(name, kind="tar") == ["unreachable"]


def test_videos_are_opened_by_their_names(tmp_path: Path) -> None:
    assert found("a.mp4", kind="video") == [Clip("a.mp4")]
    (tmp_path / "a.mp4").touch()
    for name in (str(tmp_path / "a.mp4"), f"file://{tmp_path}/a.mp4"):
        with on_disk(name) as path:
            assert path == str(tmp_path / "a.mp4")
    with on_disk("https://h/a.mp4") as path:
        assert path == "https://h/a.mp4"
    with pytest.raises(FileNotFoundError), on_disk(str(tmp_path / "no.mp4")):
        pass
