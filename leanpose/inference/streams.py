"""Many images with their boxes, from a source to workers and back in order; files are read ahead."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from copy import deepcopy
from itertools import repeat
from operator import length_hint
from typing import Any, TypeVar

import numpy as np

from leanpose.errors import InputError
from leanpose.io.images import Source, read_image

READERS = 2  # threads that read images ahead
_NONE_LEFT = object()

Reading = tuple[Callable[[], np.ndarray], Any]  # what waits for an image that is being read, and its boxes
Result = TypeVar("Result")


def pairs(images: Iterable[Source], boxes: Iterable[Any] | None) -> Iterator[tuple[Source, Any]]:
    """Return the images with their boxes, None for each where there are none.

    Raises:
        InputError: one is given in place of many, or their numbers differ; where these are not known before, the error
            comes after the last pair. Boxes of an iterator may go on.
    """
    one_array = isinstance(images, np.ndarray) and images.ndim < 4
    for name, given in (("images", images), ("boxes", () if boxes is None else boxes)):
        many = hasattr(given, "__iter__") or hasattr(given, "__getitem__")
        if not many or isinstance(given, (str, bytes)) or (given is images and one_array):
            raise InputError(f"A stream takes a list of {name}, not one {type(given).__name__}; put it into a list.")
    if isinstance(images, Sized) and isinstance(boxes, Sized) and len(images) != len(boxes):
        raise InputError(f"There are {len(images)} images, but {len(boxes)} entries of boxes; give one for each.")
    return _pairs(images, boxes)


def _pairs(images: Iterable[Source], boxes: Iterable[Any] | None) -> Iterator[tuple[Source, Any]]:
    others = repeat(None) if boxes is None else iter(boxes)
    for count, image in enumerate(images):
        its_boxes = next(others, _NONE_LEFT)
        if its_boxes is _NONE_LEFT:
            raise InputError(f"The boxes end after {count} images, which go on; give boxes for each, [] for nobody.")
        yield image, its_boxes
    if length_hint(others):
        raise InputError("The images end before their boxes; give one for each.")


def in_order(
    work: Callable[[Sequence[Reading]], list[Result]],
    source: Iterator[tuple[Source, Any]],
    workers: int,
    size: int,
    live: bool = False,
    fill: bool = True,
) -> Generator[Result]:
    """Yield what `work` makes of chunks of images, one result per image.

    Args:
        source: images with their boxes. Where it raises, what was taken before is worked on and yielded first.
        workers: threads that work; each has a chunk more waiting.
        size: images in a chunk.
        live: yield a chunk's results before the next image is taken.
        fill: whether a chunk waits for more images while no worker is busy.
    """
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(workers) as pool:
        chunk: list[Reading] = []
        running: deque[Future[list[Result]]] = deque()
        end: Exception | None = None
        try:
            while end is None:
                try:
                    chunk.append(_taken(*next(source), readers))
                except Exception as error:  # StopIteration, or what the source raises
                    end = error
                idle = not fill and all(future.done() for future in running)
                if chunk and (idle or end is not None or len(chunk) == size):
                    running.append(pool.submit(work, chunk))
                    chunk = []
                while running and (live or end is not None or len(running) == 2 * workers or running[0].done()):
                    yield from running.popleft().result()
        finally:
            for future in running:
                future.cancel()
    if not isinstance(end, StopIteration):
        raise end


def raised(found: Generator[Result | InputError]) -> Generator[Result]:
    """Pass on what was found; raise the first that is an InputError."""
    with closing(found):
        for result in found:
            if isinstance(result, InputError):
                raise result
            yield result


def _taken(image: Source, boxes: Any, readers: ThreadPoolExecutor) -> Reading:
    """Let an image be read; what is no file is copied before the source goes on, since that may fill it anew."""
    reading = readers.submit(_read, image)
    if not isinstance(image, (str, os.PathLike)):
        reading.exception()  # waits
    return reading.result, deepcopy(boxes)


def _read(image: Source) -> np.ndarray:
    array = read_image(image)
    return array.copy() if isinstance(image, np.ndarray) else array
