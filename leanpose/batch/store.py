"""The folder of a job: on a disk, or at an address that fsspec reaches. A file in it is whole or absent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from leanpose.errors import InputError, require
from leanpose.io.files import write_bytes


def filesystem(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the address as that file system writes it.

    Args:
        address: a path, or an address such as "s3://bucket/images".

    Raises:
        InputError: fsspec knows no such addresses, or a package for them is not installed.
        MissingPackageError: fsspec is not installed.
    """
    core = require("fsspec.core", "batch")
    try:
        fs, name = core.url_to_fs(address, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise InputError(f"{address} cannot be reached: {str(error).rstrip('.')}.") from None
    return fs, name


def is_local(fs: Any) -> bool:
    """Whether a file system is that of this machine."""
    return "file" in (fs.protocol if isinstance(fs.protocol, (tuple, list)) else [fs.protocol])


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

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole; what had its name is gone.

        Raises:
            InputError: the disk is full, or the place cannot be written.
        """
        fs, path = self._place[0], self._path(name)
        if is_local(fs):
            write_bytes(Path(path), data)
            return
        try:
            fs.pipe_file(path, data)  # object stores show a file when it is complete
        except Exception as error:  # each file system has errors of its own
            raise InputError(f"{self.address}/{name} cannot be written ({error}).") from None

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None where there is none."""
        try:
            data: bytes = self._place[0].cat_file(self._path(name))
        except FileNotFoundError:
            return None
        return data

    def exists(self, name: str) -> bool:
        return bool(self._place[0].exists(self._path(name)))

    def names(self, folder: str) -> set[str]:
        """Return the names of what lies in a folder, which need not exist."""
        try:
            found = self._place[0].ls(self._path(folder), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {path.rstrip("/").rpartition("/")[2] for path in found}

    def remove(self, name: str) -> None:
        """Remove a file or folder, if it is there."""
        fs, path = self._place[0], self._path(name)
        if fs.exists(path):
            fs.rm(path, recursive=True)
