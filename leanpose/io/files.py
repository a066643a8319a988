"""Write files whole or not at all: to a temporary name in the same folder, then rename."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from leanpose.errors import InputError


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


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be written ({error.strerror or error}); free space or choose another place.")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically in UTF-8; what UTF-8 lacks, in file names of old systems, is escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a binary file atomically."""
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def copy(source: str | Path, path: str | Path) -> None:
    """Copy a file atomically."""
    write_atomically(path, lambda temporary: shutil.copyfile(source, temporary))


def write_folder_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Make a folder that is complete or absent.

    Args:
        path: final name, of no folder or an empty one; missing folders above are made.
        write: called with a temporary folder beside it; must write the files there.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        if path.is_dir():
            path.rmdir()
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # moved to its place, unless something went wrong
