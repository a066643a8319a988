"""The folder of a job: on a disk, or at an address that fsspec reaches. A file in it is whole or absent."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from leanpose.errors import InputError, require
from leanpose.io.files import write_bytes
from leanpose.io.images import is_url, open_url
from leanpose.io.preflight import check_needs

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}(\.\w+)?")  # names that `write_bytes` leaves where its process is killed


def filesystem(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the address as that file system writes it.

    Args:
        address: a path, in which all signs but "://" stand for themselves, or an address such as "s3://bucket/images".

    Raises:
        InputError: fsspec knows no such addresses, a package for them is not installed, or they cannot be reached.
        MissingPackageError: fsspec is not installed.
    """
    core = require("fsspec.core", "batch")
    if "://" not in address:
        return core.get_filesystem_class("file")(), Path(os.path.abspath(address)).as_posix()
    try:
        fs, name = core.url_to_fs(address, use_listings_cache=False)
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"{address} cannot be reached: {str(error).rstrip('.')}.") from None
    return fs, name


def is_local(fs: Any) -> bool:
    """Whether a file system is that of this machine."""
    return "file" in (fs.protocol if isinstance(fs.protocol, (tuple, list)) else [fs.protocol])


def opened(source: str) -> Any:
    """Open a file at a path or an address for reading; of addresses of the web only from the beginning to the end.

    Raises:
        FileNotFoundError: there is none.
        IsADirectoryError: it is a folder, or something that never ends, such as a pipe.
        InputError: as `filesystem`.
        Exception: the file system's own.
    """
    if is_url(source):
        return open_url(source)
    fs, path = filesystem(source)
    if not is_local(fs):
        return fs.open(path, "rb")
    if os.path.exists(path) and not os.path.isfile(path):
        raise IsADirectoryError(path)
    return Path(path).open("rb")


@dataclass(frozen=True)
class Store:
    """Names in it have slashes.

    Attributes:
        address: a folder, or an address such as "s3://bucket/poses".
    """

    address: str

    @cached_property
    def _place(self) -> tuple[Any, str]:
        fs, root = filesystem(self.address)
        return fs, root.rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self._place[1]}/{name}"

    def check(self) -> None:
        """See that a folder on a disk can be written, and leave everything as it is.

        Raises:
            InputError: it cannot, or it is a file.
        """
        fs, root = self._place
        if not is_local(fs):
            return
        if os.path.isfile(root):
            raise InputError(f"{self.address} is a file; choose a folder for the results.")
        check_needs(places=[root])

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole; what had its name is gone.

        Raises:
            InputError: the disk is full, or the place cannot be written.
        """
        fs, path = self._place[0], self._path(name)
        if is_local(fs):
            write_bytes(path, data)
            return
        with self._saying(name, "written"):
            fs.pipe_file(path, data)  # object stores show a file when it is complete

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None where there is none.

        Raises:
            InputError: it cannot be read; so do all below.
        """
        with self._saying(name, "read"), suppress(FileNotFoundError):
            data: bytes = self._place[0].cat_file(self._path(name))
            return data
        return None

    def exists(self, name: str) -> bool:
        with self._saying(name, "read"):
            return bool(self._place[0].exists(self._path(name)))

    def names(self, folder: str = "") -> set[str]:
        """Return the names of what lies in a folder, which need not exist, without hidden files."""
        with self._saying(folder, "read"), suppress(FileNotFoundError):
            found = self._place[0].ls(self._path(folder).rstrip("/"), detail=False)
            names = {path.rstrip("/").rpartition("/")[2] for path in found}
            return {name for name in names if not name.startswith(".")}
        return set()

    def remove(self, name: str) -> None:
        """Remove a file or folder, if it is there."""
        fs, path = self._place[0], self._path(name)
        with self._saying(name, "removed"), suppress(FileNotFoundError):  # another job may remove it, too
            fs.rm(path, recursive=True)

    def sweep(self) -> None:
        """Remove what processes left that were killed while they wrote."""
        fs, root = self._place
        if is_local(fs):
            for path in Path(root).rglob(".*"):
                if _TEMPORARY.fullmatch(path.name):
                    path.unlink(missing_ok=True)

    @contextmanager
    def _saying(self, name: str, done: str) -> Iterator[None]:
        """Make one sentence of what a file system raises."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # each file system has errors of its own
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{self.address}/{name} cannot be {done} ({reason}).") from None
