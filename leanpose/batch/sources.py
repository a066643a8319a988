"""What a job works on: from the words of a command line to images, tar files of images (WebDataset) and videos."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

from leanpose.batch.store import filesystem, is_local
from leanpose.errors import InputError, suggest
from leanpose.io.images import SUFFIXES, VIDEOS

Kind = Literal["image", "tar", "video"]
COLUMNS = ("source", "path", "url", "image", "file_name", "filename", "file")  # of lists, the first that is there
LISTS = (".parquet", ".csv", ".json", ".jsonl", ".txt")
TARS = (".tar", ".tgz", ".tar.gz")
_ROWS = 10_000  # of a Parquet list in memory


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


def find_items(words: Iterable[str], column: str | None = None) -> Iterator[Item]:
    """Yield what is to be worked on, in an order that depends on names alone; nothing is kept in memory.

    Args:
        words: files, folders with all that is below them, globs, or addresses of them; of lists (Parquet, CSV, JSON,
            JSON lines, text) the files that they name, relative to the list's folder.
        column: of lists that have columns; None: the first of COLUMNS that is there.

    Raises:
        InputError: nothing is found under one of the words, or a list cannot be read.
    """
    for word in words:
        empty = True
        for item in _items(word, column):
            empty = False
            yield item
        if empty:
            raise InputError(f"{word} holds no images, tar files or videos.")


def _items(word: str, column: str | None) -> Iterator[Item]:
    if word.lower().startswith(("http://", "https://")):
        yield Item(word, kind_of(word.partition("?")[0]) or "image")
        return
    fs, path = filesystem(word)
    if fs.isdir(path):
        yield from (item for item in _below(fs, path) if item is not None)
    elif fs.exists(path):
        if path.lower().endswith(LISTS):
            yield from _listed(fs, path, column)
        elif kind := kind_of(path):
            yield Item(_name(fs, path), kind, fs.size(path) or 0)
        else:
            raise InputError(f"{word} is no image, tar file, video or list ({', '.join(LISTS)}).")
    elif matches := fs.glob(path):
        for match in sorted(matches):
            if kind := kind_of(match):
                yield Item(_name(fs, match), kind, fs.size(match) or 0)
    else:
        raise InputError(f"There is no {word}; check the path.")


def _name(fs: Any, path: str) -> str:
    return path if is_local(fs) else fs.unstrip_protocol(path)


def _below(fs: Any, folder: str) -> Iterator[Item | None]:
    """Yield the files below a folder by name, without hidden ones; links to folders are not followed."""
    for entry in sorted(fs.ls(folder, detail=True), key=lambda entry: entry["name"]):
        path = entry["name"].rstrip("/")
        if path.rpartition("/")[2].startswith(".") or path == folder.rstrip("/"):
            continue
        if entry["type"] == "directory":
            if not entry.get("islink"):
                yield from _below(fs, path)
        elif kind := kind_of(path):
            yield Item(_name(fs, path), kind, entry.get("size") or 0)


def _listed(fs: Any, path: str, column: str | None) -> Iterator[Item]:
    folder = _name(fs, path.rpartition("/")[0])
    for name in _names(fs, path, column):
        source = name if "://" in name or name.startswith("/") else f"{folder}/{name}"
        yield Item(source, kind_of(source.partition("?")[0] if "://" in source else source) or "image")


def _names(fs: Any, path: str, column: str | None) -> Iterator[str]:
    """Yield the entries of a list."""
    suffix = PurePosixPath(path.lower()).suffix
    with fs.open(path, "rb") as file:
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            table = pq.ParquetFile(file)
            name = _column(table.schema_arrow.names, column, path)
            for batch in table.iter_batches(_ROWS, columns=[name]):
                yield from map(str, batch.column(0).to_pylist())
            return
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        try:
            if suffix == ".csv":
                rows = csv.DictReader(text)
                name = _column(rows.fieldnames or (), column, path)
                yield from (row[name] for row in rows)
            elif suffix == ".json":
                entries = json.load(text)
                if not isinstance(entries, list):
                    raise InputError(f"{path} must be a list of names, or of objects with them.")
                yield from (_entry(entry, column, path) for entry in entries)
            elif suffix == ".jsonl":
                yield from (_entry(json.loads(line), column, path) for line in text if line.strip())
            else:
                yield from (line.strip() for line in text if line.strip())
        except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
            raise InputError(f"{path} cannot be read as a list ({error}).") from None


def _entry(entry: Any, column: str | None, path: str) -> str:
    if isinstance(entry, dict):
        return str(entry[_column(entry, column, path)])
    if isinstance(entry, str):
        return entry
    raise InputError(f"{path} must hold names, or objects with them, not {entry!r}.")


def _column(names: Iterable[str], column: str | None, path: str) -> str:
    """Return the column of a list that holds the names."""
    known = list(names)
    if column is not None:
        if column not in known:
            raise InputError(f"{path} has no column '{column}'.{suggest(column, known)}")
        return column
    for name in COLUMNS:
        if name in known:
            return name
    raise InputError(f"{path} has the columns {', '.join(known)}; say with --column which one holds the names.")
