"""Write files whole or not at all: to a temporary name in the same folder, then rename. A file that is written bit by
bit is renamed when it is complete (WholeFile), or holds whole lines at any time (LineFile)."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
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
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):  # never made, or moved to its place
            temporary.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(8)}{path.suffix}")  # short, since a name has at most 255 bytes


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be written ({error.strerror or error}); free space or choose another place.")


def make_folder(path: str | Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        InputError: the disk is full, or the folder above cannot be written.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(Path(path), error) from None


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
    with _folder_beside(path) as temporary:
        write(temporary)
        if path.is_dir():
            path.rmdir()
        os.replace(temporary, path)


def write_together(path: str | Path, write: Callable[[Path], object]) -> None:
    """Make several files, or folders, that belong together: none has its name before all are complete.

    Args:
        path: one of them; all lie in its folder, and take the place of what has their names there. Missing folders
            above are made.
        write: called with a temporary folder beside them; must write them there.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    with _folder_beside(path) as temporary:
        write(temporary)
        for made in sorted(temporary.iterdir()):
            place = path.with_name(made.name)
            if place.is_dir():
                shutil.rmtree(place)
            os.replace(made, place)


@contextlib.contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """Make a temporary folder beside a path; it is gone afterwards. Raises InputError where it cannot be written."""
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # moved to its place, unless something went wrong


class LineFile:
    """A text file in UTF-8 that holds whole lines at any time: what is written is there, whatever ends the process.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb", buffering=0)
        except OSError as error:
            raise _unwritable(self._path, error) from None

    def write(self, lines: str) -> None:
        """Add lines, each with its end."""
        data = lines.encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise _unwritable(self._path, error) from None

    def close(self) -> None:
        self._file.close()


class WholeFile:
    """A file that is written bit by bit under a temporary name in the same folder, and has its own once it is closed.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._temporary = _temporary(self._path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("wb")
        except OSError as error:
            raise _unwritable(self._path, error) from None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.close()
            self._temporary.unlink()  # half a file is worth nothing
            raise _unwritable(self._path, error) from None

    def flush(self) -> None:
        """Do nothing: the file counts when it is closed."""

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._file.close()
            os.replace(self._temporary, self._path)
        except OSError as error:
            raise _unwritable(self._path, error) from None
        finally:
            with contextlib.suppress(OSError):  # moved to its place
                self._temporary.unlink()
