"""What a verb needs is looked for before it works: packages, files, folders, and places to write to with room."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from leanpose.errors import InputError, require


def check_needs(
    *,
    packages: Iterable[str] = (),
    files: Iterable[str | Path] = (),
    exports: Iterable[str | Path] = (),
    folders: Iterable[str | Path] = (),
    places: Iterable[str | Path] = (),
    megabytes: float = 1,
) -> None:
    """Raise what would stop the work, with the remedy, and leave everything as it is.

    Args:
        packages: import names of what the extra "train" brings.
        files: to read.
        exports: annotation files, or folders of them, to read.
        folders: to read from.
        places: files or folders to write; missing folders above them will be made.
        megabytes: that will be written to each place.

    Raises:
        MissingPackageError: a package is not installed.
        InputError: a file or folder is missing or may not be read, or a place cannot be written or lacks room.
    """
    for package in packages:
        require(package, "train")
    for file in (*files, *(export for export in exports if not os.path.isdir(export))):
        if not os.path.isfile(file):
            raise InputError(f"There is no file {file}; check the path.")
        if not os.access(file, os.R_OK):
            raise InputError(f"{file} may not be read; change its rights.")
    for folder in folders:
        if not os.path.isdir(folder):
            raise InputError(f"There is no folder {folder}; check the path.")
    for place in places:
        _check_place(Path(place), megabytes)


def _check_place(place: Path, megabytes: float) -> None:
    above = next((folder for folder in place.absolute().parents if os.path.exists(folder)), Path("/"))
    folder = place if place.is_dir() else above
    try:
        with tempfile.TemporaryFile(dir=folder):  # rights alone do not tell: the disk may be read-only
            free = shutil.disk_usage(folder).free / 1e6
    except OSError as error:
        raise InputError(f"{place} cannot be written ({error.strerror or error}); choose another place.") from None
    if free < megabytes:
        raise InputError(
            f"{place} needs about {max(1, megabytes):.0f} MB, and {folder} has room for {free:.0f} MB: free space or "
            "choose another place."
        )
