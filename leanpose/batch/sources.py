"""What a job works on: from the words of a command line to images, tar files of images (WebDataset) and videos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from leanpose.batch.lists import LISTS, entries
from leanpose.batch.store import filesystem, is_local
from leanpose.errors import InputError, LeanposeError, require
from leanpose.io.images import SUFFIXES, VIDEOS, is_url, matches

Kind = Literal["image", "tar", "video"]
TARS = (".tar", ".tgz", ".tar.gz")


class Item(NamedTuple):
    """One file to work on.

    Attributes:
        source: its path, or its address.
        kind: what it is.
        size: bytes, 0 where nobody knows.
    """

    source: str
    kind: Kind
    size: int = 0


def kind_of(name: str) -> Kind | None:
    """Return what a file is by its suffix; None: nothing that is worked on."""
    name = name.lower()
    suffix = PurePosixPath(name).suffix
    if name.endswith(TARS):
        return "tar"
    if suffix in VIDEOS.split():
        return "video"
    return "image" if suffix in SUFFIXES else None


def absolute(word: str) -> str:
    """Return a name that means the same in all folders."""
    return word if "://" in word else os.path.abspath(word)


def find_items(words: Iterable[str], column: str | None = None) -> Iterator[Item]:
    """Yield what is to be worked on, in an order that depends on names alone; no more than one folder is in memory.

    Args:
        words: files, folders with all that is below them, globs, or addresses of them; of lists (Parquet, CSV, JSON,
            JSON lines, text) the files that they name, relative to the list's folder. A word that is given twice
            counts once; what a list names twice, or two words hold, is yielded twice.
        column: of lists that have columns; None: the first of `lists.COLUMNS` that is there.

    Raises:
        InputError: nothing is found under one of the words, or a list cannot be read.
        MissingPackageError: there is a video, but the package av is not installed.
    """
    for word in dict.fromkeys(words):
        empty = True
        try:
            for item in _items(word, column):
                if item.kind == "video":
                    require("av", "video")
                empty = False
                yield item
        except LeanposeError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise InputError(f"{word} cannot be read ({error}); look at its rights.") from None
        if empty:
            raise InputError(f"{word} holds no images, tar files or videos.")


def _items(word: str, column: str | None) -> Iterator[Item]:
    if is_url(word):
        path = word.partition("?")[0]
        if path.lower().endswith(LISTS):
            yield from _listed(word, path.rpartition("/")[0], column)
        else:
            yield Item(word, kind_of(path) or "image")
        return
    fs, path = filesystem(word)
    inside = word.partition("::")[2] if "://" in word else ""  # what "zip://*.jpg::photos.zip" looks into
    if fs.isdir(path):
        yield from _below(fs, path, inside)
    elif fs.exists(path):
        if not kind_of(path) and not path.lower().endswith(LISTS):
            raise InputError(f"{word} is no image, tar file, video or list ({', '.join(LISTS)}).")
        yield from _file(fs, path, fs.size(path), inside, column)
    elif found := _matching(fs, path):
        for match, size in found:
            if kind_of(match) or path.lower().endswith(LISTS):
                yield from _file(fs, match, size, inside, column)
    else:
        raise InputError(f"There is no {word}; check the path.")


def _matching(fs: Any, pattern: str) -> list[tuple[str, int | None]]:
    """Return the files that a glob stands for, by name, with their sizes."""
    if is_local(fs):
        found = [(Path(match).as_posix(), os.path.getsize(match)) for match in matches(pattern)]
    else:
        entries = fs.glob(pattern, detail=True).values()
        found = sorted((entry["name"], entry.get("size")) for entry in entries if entry["type"] != "directory")
    return [(path, size) for path, size in found if not _is_hidden(path)]


def _file(fs: Any, path: str, size: int | None, inside: str, column: str | None) -> Iterator[Item]:
    name = _name(fs, path, inside)
    if kind := kind_of(path):
        yield Item(name, kind, size or 0)
    else:
        yield from _listed(name, _name(fs, path.rpartition("/")[0], inside), column)


def _name(fs: Any, path: str, inside: str) -> str:
    if is_local(fs):
        return path
    name: str = fs.unstrip_protocol(path)
    return f"{name}::{inside}" if inside else name


def _is_hidden(path: str) -> bool:
    return path.rpartition("/")[2].startswith(".")


def _below(fs: Any, folder: str, inside: str) -> Iterator[Item]:
    """Yield the files below a folder by name, without hidden ones; links to folders are not followed."""
    for entry in sorted(fs.ls(folder, detail=True), key=lambda entry: entry["name"]):
        path = entry["name"].rstrip("/")
        if _is_hidden(path) or path == folder.rstrip("/"):
            continue
        if entry["type"] == "directory":
            yield from _below(fs, path, inside)
        elif (kind := kind_of(path)) and not (is_local(fs) and os.path.isdir(path)):
            yield Item(_name(fs, path, inside), kind, entry.get("size") or 0)


def _listed(source: str, folder: str, column: str | None) -> Iterator[Item]:
    """Yield what a list names.

    Args:
        source: path or address of the list.
        folder: that names are relative to.
    """
    for name in entries(source, column):
        if "://" in name:
            _check_scheme(name.partition("://")[0].lower(), source)
            yield Item(name, kind_of(name.partition("?")[0]) or "image")
        else:
            path = name if os.path.isabs(name) else f"{folder}/{name}"
            yield Item(path, kind_of(path) or "image")


@cache
def _check_scheme(scheme: str, source: str) -> None:
    """Raise InputError where addresses in a list are of a kind that cannot be read here."""
    if is_url(f"{scheme}://"):
        return
    try:
        require("fsspec.core", "batch").get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        raise InputError(f"{source} names {scheme}:// addresses ({str(error).rstrip('.')}).") from None
