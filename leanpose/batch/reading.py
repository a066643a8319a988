"""From a part of a plan to what is estimated at a time: the bytes of an image, or a video by its name."""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from leanpose.batch.plan import Part
from leanpose.batch.store import filesystem, is_local
from leanpose.errors import InputError
from leanpose.io.images import SUFFIXES, download

AHEAD = 4  # images that are fetched while one is worked on
TRIES = 3  # to fetch one
PAUSE = 1.0  # seconds before the second try; twice as long before each further one


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
        frame: of a video the first frame that is lacking.
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
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            return Image(source, fetch(source))
        except (FileNotFoundError, IsADirectoryError):
            return Failure(source, "missing", f"There is no image {source}.")
        except InputError as error:
            return Failure(source, "unusable", str(error))
        except Exception as error:  # each file system has errors of its own
            reason = error
            if isinstance(error, PermissionError):
                break
    return Failure(source, "unreachable", f"{source} cannot be read ({reason}).")


def fetch(source: str) -> bytes:
    """Return the content of a file, at a path or an address.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is too large, or its address is of no kind that is known.
        Exception: the file system's own.
    """
    if source.lower().startswith(("http://", "https://")):
        return download(source)
    if "://" not in source:
        return Path(source).read_bytes()
    fs, path = filesystem(source)
    data: bytes = fs.cat_file(path)
    return data


def _members(source: str) -> Iterator[Task | Failure]:
    """Yield the images of a tar file from its beginning to its end, by fsspec's name tar://MEMBER::SOURCE."""
    try:
        fs, path = filesystem(source)
        with fs.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as tar:
            for member in tar:
                if not member.isfile() or PurePosixPath(member.name.lower()).suffix not in SUFFIXES:
                    continue
                data = tar.extractfile(member)
                if data is not None:
                    yield Image(f"tar://{member.name}::{source}", data.read())
    except FileNotFoundError:
        yield Failure(source, "missing", f"There is no file {source}.")
    except (tarfile.TarError, EOFError, OSError) as error:
        yield Failure(source, "unusable", f"{source} cannot be read as a tar file ({error}); is it whole?")


@contextmanager
def on_disk(source: str) -> Iterator[str]:
    """Give a name under which a video can be opened; one at an address is copied to a temporary file first."""
    if "://" not in source or source.lower().startswith(("http://", "https://")):
        yield source
        return
    fs, path = filesystem(source)
    if is_local(fs):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copied = os.path.join(folder, PurePosixPath(path).name)
        fs.get_file(path, copied)
        yield copied
