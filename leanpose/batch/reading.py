"""From a part of a plan to what is estimated at a time: the bytes of an image, or a video by its name."""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
import urllib.error
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import PurePosixPath
from typing import IO, Any, TypeVar

from leanpose.batch.plan import Part
from leanpose.batch.store import filesystem, is_local, opened
from leanpose.errors import InputError
from leanpose.io.images import LARGEST, SUFFIXES, download, is_url

AHEAD = 4  # images that are fetched while one is worked on
TRIES = 3  # to fetch one
PAUSE = 1.0  # seconds before the second try; twice as long before each further one
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_BROKEN = (tarfile.TarError, EOFError)  # what a damaged tar file raises
_GONE = (404, 410)  # answers of the web that mean that there is nothing
_LATER = (408, 425, 429)  # answers below 500 after which one may ask again

_T = TypeVar("_T")


@dataclass(frozen=True)
class Image:
    """An image in memory, as it is stored."""

    source: str
    data: bytes


@dataclass(frozen=True)
class Clip:
    """A video that will be opened by its name."""

    source: str


@dataclass(frozen=True)
class Failure:
    """What could not be worked on.

    Attributes:
        source: of the image or video.
        kind: "missing", "unreachable", "unusable" (what it holds), "died" (it ended its process), or the name of
            another error.
        message: what was wrong, in words.
        frame: of a video the first that was not worked on.
    """

    source: str
    kind: str
    message: str
    frame: int | None = None


Task = Image | Clip


def tasks(part: Part) -> Iterator[Task | Failure]:
    """Yield what a part holds, in order; images are fetched ahead."""
    if part.kind == "video":
        return map(Clip, part.sources)
    if part.kind == "tar":
        return chain.from_iterable(map(_members, part.sources))
    return _fetched(part.sources)


def _fetched(sources: tuple[str, ...]) -> Iterator[Task | Failure]:
    with ThreadPoolExecutor(AHEAD) as pool:
        waiting: deque[Future[Task | Failure]] = deque()
        try:
            for source in sources:
                waiting.append(pool.submit(_fetch, source))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _fetch(source: str) -> Task | Failure:
    try:
        return Image(source, patiently(lambda: fetch(source)))
    except Exception as error:
        return failure_of(source, error)


def patiently(act: Callable[[], _T]) -> _T:
    """Return what a function returns that reads; where it raises what may pass, it is called TRIES times."""
    for attempt in count(1):
        try:
            return act()
        except Exception as error:  # each file system has errors of its own
            if attempt == TRIES or not _may_pass(error):
                raise
        _pause(attempt)
    raise AssertionError


def _may_pass(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in _LATER
    return not isinstance(error, (*_ABSENT, *_BROKEN, PermissionError, InputError))


def _pause(attempt: int) -> None:
    time.sleep(PAUSE * 2 ** (attempt - 1))


def failure_of(source: str, error: Exception) -> Failure:
    """Return the row of a file that could not be read."""
    if isinstance(error, _ABSENT) or (isinstance(error, urllib.error.HTTPError) and error.code in _GONE):
        return Failure(source, "missing", f"There is no file {source}.")
    if isinstance(error, _BROKEN):
        return Failure(source, "unusable", f"{source} cannot be read as a tar file ({error}); is it whole?")
    if isinstance(error, InputError):
        return Failure(source, "unusable", str(error))
    return Failure(source, "unreachable", f"{source} cannot be read ({error}).")


def fetch(source: str) -> bytes:
    """Return the content of a file, at a path or an address.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is larger than LARGEST, or its address is of no kind that is known.
        Exception: the file system's own.
    """
    if is_url(source):
        return download(source)
    with opened(source) as file:
        return _limited(file, source)


def _limited(file: IO[bytes], name: str) -> bytes:
    data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise InputError(f"{name} is larger than {LARGEST >> 20} MiB; no image is.")
    return data


class _Header(tarfile.TarInfo):
    """The header of a member. tarfile takes a file for whole that ends without its end mark; here it is not."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def _members(source: str) -> Iterator[Task | Failure]:
    """Yield the images of a tar file from its beginning to its end, by fsspec's name tar://MEMBER::SOURCE."""
    given = 0  # members, which are passed over where the file has to be opened again
    for attempt in count(1):
        try:
            with opened(source) as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_Header) as tar:
                for member in islice(filter(_is_image, tar), given, None):
                    task = _member(tar, member, source)
                    given += 1
                    yield task
            return
        except Exception as error:  # each file system has errors of its own
            broken_line = is_url(source) and isinstance(error, _BROKEN)
            if attempt == TRIES or not (_may_pass(error) or broken_line):
                yield failure_of(source, error)
                return
        _pause(attempt)


def _is_image(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    return member.isfile() and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo, source: str) -> Task | Failure:
    name = f"tar://{member.name}::{source}"
    file = tar.extractfile(member)
    assert file is not None  # as of all members that are files
    try:
        return Image(name, _limited(file, name))
    except InputError as error:
        return failure_of(name, error)


@contextmanager
def on_disk(source: str) -> Iterator[str]:
    """Give a name under which a video can be opened; one at an address is copied to a temporary file first.

    Raises:
        FileNotFoundError: there is none.
        Exception: the file system's own.
    """
    if is_url(source):
        yield source
        return
    fs, path = filesystem(source)
    if is_local(fs):
        if not os.path.isfile(path):
            raise FileNotFoundError(path)
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copied = os.path.join(folder, f"video{PurePosixPath(path).suffix}")
        patiently(lambda: fs.get_file(path, copied))
        yield copied
