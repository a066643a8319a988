"""From the words of a command line to what is worked on."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("fsspec")

import fsspec
from support import Host

from leanpose.batch.sources import Item, absolute, find_items, kind_of
from leanpose.errors import InputError, MissingPackageError


def found(*words: object, column: str | None = None) -> list[str]:
    return [item.source for item in find_items(map(str, words), column)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder with files of all kinds, some of them hidden."""
    names = ["b.JPG", "a.png", "sub/c d.webp", "sub/deep/e%20.jpg", "z.tar", "v.mp4", "notes.md", ".hidden.jpg",
             ".cache/f.jpg", "sub/._c.jpg"]  # fmt: skip
    for name in names:
        (tmp_path / "archive" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "archive" / name).write_bytes(b"x" * len(name))
    return tmp_path / "archive"


def test_kinds() -> None:
    names = ("a.jpg", "a.JPEG", "a.tar", "a.tar.gz", "a.TGZ", "a.mp4", "a.txt", "a", ".jpg")
    assert [kind_of(name) for name in names] == ["image", "image", "tar", "tar", "tar", "video", None, None, None]


def test_a_folder_with_all_below_it(archive: Path) -> None:
    names = ["a.png", "b.JPG", "sub/c d.webp", "sub/deep/e%20.jpg", "v.mp4", "z.tar"]
    pytest.importorskip("av")
    assert found(archive) == [str(archive / name) for name in names]
    items = {os.path.basename(item.source): item for item in find_items([str(archive)])}
    assert items["z.tar"] == Item(str(archive / "z.tar"), "tar", 5)


def test_links(archive: Path) -> None:
    (archive / "sub" / "loop").symlink_to(archive)
    (archive / "sub" / "loop.jpg").symlink_to(archive)
    (archive / "sub" / "link.jpg").symlink_to(archive / "a.png")
    (archive / "sub" / "broken.jpg").symlink_to(archive / "nowhere.jpg")
    names = [os.path.basename(name) for name in found(archive / "sub")]
    assert names == ["broken.jpg", "c d.webp", "e%20.jpg", "link.jpg"]  # the broken one will be a row of errors


def test_globs(archive: Path) -> None:
    assert found(archive / "*.[jp]*") == [str(archive / "a.png")]
    assert found(archive / "*.[Jp]*") == [str(archive / name) for name in ("a.png", "b.JPG")]
    assert found(archive / "**" / "*.webp") == [str(archive / "sub" / "c d.webp")]
    assert found(archive / "*.p*", archive / "*.p*") == [str(archive / "a.png")]
    (archive / "trip [2020]").mkdir()
    (archive / "trip [2020]" / "[x].jpg").touch()
    for word in ("trip [2020]", "trip [2020]/[x].jpg", "trip [2020]/*.jpg", "trip [2020]/[x].*"):
        assert found(archive / word) == [str(archive / "trip [2020]" / "[x].jpg")]


@pytest.mark.parametrize("name", ["a::b.jpg", "C:x.jpg", "ü \u2603.jpg", "100%.jpg", "q?.jpg", "-x.jpg", "a#b.jpg"])
def test_odd_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert found(name) == found(tmp_path) == [str(tmp_path / name)] == [absolute(name)]
    (tmp_path / "list.txt").write_text(f"{name}\n", "utf-8")
    assert found("list.txt") == [str(tmp_path / name)]


def test_object_stores(tmp_path: Path) -> None:
    memory, root = fsspec.filesystem("memory"), f"/{tmp_path.name}"
    for name in ("a.jpg", "sub/b c.jpg", "sub/.h.jpg", "n.txt.md"):
        memory.pipe_file(f"{root}/{name}", b"1234")
    memory.pipe_file(f"{root}/lists/list.txt", b"../a.jpg\n/b.jpg\nhttps://host/c")
    base = f"memory:/{root}"
    assert list(find_items([base])) == [
        Item(f"memory://{root}/a.jpg", "image", 4),
        Item(f"memory://{root}/sub/b c.jpg", "image", 4),
    ]
    assert found(f"{base}/*.jpg") == [f"memory://{root}/a.jpg"]
    assert found(f"{base}/sub/*") == [f"memory://{root}/sub/b c.jpg"]
    assert found(f"{base}/a.jpg") == [f"memory://{root}/a.jpg"]
    listed = [f"memory://{root}/lists/../a.jpg", "/b.jpg", "https://host/c"]
    assert found(f"{base}/lists/list.txt") == found(f"{base}/lists/*.txt") == listed


def test_inside_a_zip_file(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("x.jpg", "in/y.jpg"):
            file.writestr(name, name)
    both = [f"zip://in/y.jpg::{tmp_path}/a.zip", f"zip://x.jpg::{tmp_path}/a.zip"]
    assert found(f"zip://::{tmp_path}/a.zip") == both
    assert found(f"zip://*.jpg::{tmp_path}/a.zip") == both[1:]
    assert found(both[0]) == both[:1]


def test_addresses_of_the_web() -> None:
    words = ["http://h/a.jpg", "HTTPS://h/b?x=.tar", "https://h/s.tar?key=1"]
    assert [item.kind for item in find_items(words)] == ["image", "image", "tar"]
    with Host(files={"/sub/list.txt": b"a.jpg\nhttp://h/b.jpg\n/c.jpg\n"}).running() as host:
        names = [f"{host.address}/sub/a.jpg", "http://h/b.jpg", "/c.jpg"]
        assert found(f"{host.address}/sub/list.txt") == names


def test_lists(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "list.txt").write_text("a.jpg\nsub/b\n/c.tar\na.jpg\nfile:///d.mp4\nx.parquet\n")
    items = list(find_items([str(tmp_path / "list.txt")]))
    assert [item.kind for item in items] == ["image", "image", "tar", "image", "video", "image"]
    names = [f"{tmp_path}/a.jpg", f"{tmp_path}/sub/b", "/c.tar", f"{tmp_path}/a.jpg", "file:///d.mp4"]
    assert [item.source for item in items][:5] == names
    (tmp_path / "list.csv").write_text("x,where\n1,a.jpg\n")
    assert found(tmp_path / "list.csv", column="where") == [f"{tmp_path}/a.jpg"]
    (tmp_path / "odd.txt").write_text("a.jpg\nnothing://b.jpg\n")
    with pytest.raises(InputError, match=r"odd.txt names nothing:// addresses \(Protocol not known: nothing\)"):
        found(tmp_path / "odd.txt")


def test_nothing_there(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").touch()
    for word, reason in (
        (tmp_path / "empty", "empty holds no images, tar files or videos"),
        (tmp_path / "empty.txt", "holds no images"),
        (tmp_path / "no.jpg", "There is no .*; check the path"),
        (archive / "*.gif.jpg", "There is no "),
        (archive / "*.md", "holds no images"),
        (archive / "notes.md", r"notes.md is no image, tar file, video or list \(.parquet"),
        ("nothing://x", "cannot be reached: Protocol not known"),
        (f"zip://::{archive}/notes.md", "cannot be reached: File is not a zip file"),
    ):
        with pytest.raises(InputError, match=reason):
            found(word)


def test_a_folder_that_may_not_be_read(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"archive cannot be read \(.*Permission denied.*\); look at its rights"):
        found(archive)


def test_videos_need_their_package(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert len(found(archive / "sub")) == 2
    with pytest.raises(MissingPackageError, match="needs the package av"):
        found(archive)
