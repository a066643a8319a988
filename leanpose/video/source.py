"""Where frames come from: a video file, a stream of a network, a camera, or a folder of images."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import cv2
import numpy as np

from leanpose.errors import InputError
from leanpose.io.images import SUFFIXES, VIDEOS, find_images, read_image

LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtp", "udp", "tcp", "srt", "mms")  # of addresses that never are images
IMAGES_PER_SECOND = 30.0  # of a folder, unless somebody says otherwise

VideoSource = str | os.PathLike[str] | int | Sequence[str]


@dataclass(frozen=True, eq=False)
class Shot:
    """One image out of a source, before persons are found in it.

    Attributes:
        index: its number in the source, from 0; of a camera some may be missing.
        time_s: when it is shown, seconds from the first one.
        image: (H, W, 3) uint8 RGB, upright.
    """

    index: int
    time_s: float
    image: np.ndarray


@dataclass(frozen=True, eq=False)
class Source:
    """A source that was opened.

    Attributes:
        name: what results call it.
        shots: gives the images, each time from the beginning. An InputError in place of one ends them.
        frame_rate: images per second that the source states, about; times are those of the images.
        count: how many images there are, about; None: nobody knows.
        live: whether images come when they come, and are lost where nobody takes them.
        path: of a file, whose sound can be copied; None: there is none.
    """

    name: str
    shots: Callable[[], Generator[Shot]]
    frame_rate: float
    count: int | None = None
    live: bool = False
    path: str | None = None


def is_video(source: str) -> bool:
    """Whether a word of the command line is a video: a camera's number, an address of a stream, or the name or address
    of a video file."""
    parts = urlparse(source)
    if source.isdecimal() and not os.path.exists(source):
        return True
    if "://" in source and parts.scheme.lower() in LIVE_SCHEMES:
        return True
    name = parts.path if "://" in source else source
    return Path(name).suffix.lower() in VIDEOS.split() and not os.path.isdir(source)


def videos_among(sources: Sequence[str], as_video: bool) -> list[VideoSource]:
    """Return the videos among the words of a command line, in which images are none, or one.

    Args:
        as_video: take folders, globs and lists of images as one video.

    Raises:
        InputError: some are videos and some are images.
    """
    videos: list[VideoSource] = [source for source in dict.fromkeys(sources) if is_video(source)]
    if videos and len(videos) < len(set(sources)):
        raise InputError("Some of these are videos and some are not; predict each kind in a call of its own.")
    return videos or ([list(sources)] if as_video else [])


def open_source(source: VideoSource, frame_rate: float | None = None) -> Source:
    """Open a source, and see that it gives images.

    Args:
        source: path of a video file, number of a camera, address of a stream (rtsp, http and others), or a folder,
            glob or list of images, which are frames in natural order: frame 2 before frame 10.
        frame_rate: images per second of such a folder; None: IMAGES_PER_SECOND. Others have times of their own.

    Raises:
        InputError: there is no such source, it holds no video, or its frame rate is given or not above 0.
        MissingPackageError: a file or stream, but the package av is not installed.
    """
    if frame_rate is not None and not frame_rate > 0:
        raise InputError(f"The frame rate must be above 0, not {frame_rate}.")
    names = [str(source)] if isinstance(source, (str, os.PathLike, int)) else [str(name) for name in source]
    if not names:
        raise InputError("There are no images; give the names of some.")
    first = names[0]
    is_image = "://" not in first and Path(first).suffix.lower() in SUFFIXES
    if len(names) > 1 or os.path.isdir(first) or is_image:
        return _images(names, frame_rate or IMAGES_PER_SECOND)
    if frame_rate is not None:
        raise InputError(f"{first} has times of its own; leave the frame rate out, which is for folders of images.")
    if first.isdecimal() and not os.path.exists(first):
        return _camera(int(first))
    from leanpose.video.decode import open_file

    return open_file(first)


def _images(names: Sequence[str], frame_rate: float) -> Source:
    files = sorted(find_images(names), key=_natural)
    name = names[0] if len(names) == 1 and os.path.isdir(names[0]) else os.path.dirname(files[0]) or "frames"

    def shots() -> Generator[Shot]:
        for index, file in enumerate(files):
            yield Shot(index, index / frame_rate, read_image(file))

    return Source(name, shots, frame_rate, len(files))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts frame2 before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d+)", name)]


def _camera(number: int) -> Source:
    camera = cv2.VideoCapture(number)
    if not camera.isOpened() or not camera.read()[0]:
        camera.release()
        raise InputError(f"There is no camera {number}, or it is in use; look at its number and its rights.")

    def shots() -> Generator[Shot]:
        if not camera.isOpened():
            camera.open(number)
        began, index = None, 0
        try:
            while True:
                given, image = camera.read()
                now = time.monotonic()
                if not given:
                    raise InputError(f"The camera {number} gives no more images, after {index}; is it still there?")
                began = now if began is None else began
                yield Shot(index, now - began, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                index += 1
        finally:
            camera.release()

    return Source(f"camera-{number}", shots, camera.get(cv2.CAP_PROP_FPS) or IMAGES_PER_SECOND, live=True)
