"""Write files whole or not at all: to a temporary name in the same folder, then rename."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from leanpose.errors import InputError

BLOCK = 4096  # bytes; the least that a file takes on most disks


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Make a file that is complete or absent.

    Args:
        path: final name; missing folders are made.
        write: called with a temporary path of the same suffix in the same folder; must write the file there.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")  # short, since a name has at most 255 bytes
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):  # never made, or moved to its place
            temporary.unlink()


def check_writable(path: Path, count: int) -> None:
    """Raise InputError where files cannot be written, before work begins; nothing is left behind.

    A small file is written into the folder and taken away again, with the folders that were made for it.

    Args:
        path: one of the files, all of one folder.
        count: how many there will be; the disk must have a block for each.
    """
    probe, made = path.with_name(f".{secrets.token_hex(8)}"), []
    try:
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(BLOCK))
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        for remove in (probe.unlink, *(folder.rmdir for folder in made)):
            with contextlib.suppress(OSError):  # never made, or in use by others
                remove()
    if free < BLOCK * count:
        raise InputError(f"The disk of {path.parent} is full; free space or choose another place.")


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be written ({error.strerror or error}); free space or choose another place.")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically in UTF-8; what UTF-8 lacks, in file names of old systems, is escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a binary file atomically."""
    write_atomically(path, lambda temporary: temporary.write_bytes(data))
