"""Small videos that tests make for themselves."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanpose.video.source import Shot, Source
from leanpose.weights.record import Weights

TICK = Fraction(1, 90000)
TOP_DOWN = Weights("crops", "crops", (128, 96), codec="dark", codec_options={"sigma": 2.0})  # of RectanglePeople


def four_colours(height: int = 48, width: int = 64) -> np.ndarray:
    """Return an image with red, blue, green and grey quarters: top left, top right, bottom left, bottom right."""
    image = np.full((height, width, 3), 150, np.uint8)
    top, left = height // 2, width // 2
    image[:top, :left], image[:top, left:], image[top:, :left] = (200, 30, 30), (30, 30, 200), (30, 200, 30)
    return image


def corners(image: np.ndarray) -> str:
    """Return which colours of `four_colours` the four corners have, as letters, row by row."""
    letters = ""
    for y, x in ((8, 8), (8, -9), (-9, 8), (-9, -9)):
        pixel = image[y, x].astype(int)
        letters += "-" if np.ptp(pixel) < 60 else "rgb"[pixel.argmax()]
    return letters


def make_clip(
    path: Path,
    images: Sequence[np.ndarray],
    times: Sequence[float] | None = None,
    sound: str | None = None,
    pixels: str = "yuv420p",
    tags: dict[str, int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write images, (H, W, 3) uint8 RGB with even sides, as H.264 with a second of sound if a codec of it is given.

    Args:
        times: seconds of each image; None: 10 a second.
        tags: attributes of frames and encoder, such as color_trc.
        options: of the muxer.
    """
    av = pytest.importorskip("av")
    times = [i / 10 for i in range(len(images))] if times is None else times
    with av.open(str(path), "w", options=options or {}) as container:
        audio = container.add_stream(sound, 44100) if sound else None
        if audio:
            audio.bit_rate = 64000
        if images:
            stream = container.add_stream("libx264", 10, {"bf": "0", "preset": "ultrafast"})
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt, stream.codec_context.time_base, stream.codec_context.gop_size = pixels, TICK, 5
            for name, value in (tags or {}).items():
                setattr(stream.codec_context, name, value)
        for image, time_s in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if tags:
                frame = frame.reformat(format=pixels, dst_colorspace=tags["colorspace"])
            frame.pts, frame.time_base = round(time_s / TICK), TICK
            container.mux(stream.encode(frame))
        if audio:
            for part in range(43):
                samples = av.AudioFrame.from_ndarray(_tone(part), format="fltp", layout="mono")
                samples.sample_rate, samples.pts = 44100, 1024 * part
                container.mux(audio.encode(samples))
            container.mux(audio.encode(None))
        if images:
            container.mux(stream.encode(None))
    return path


def _tone(part: int) -> np.ndarray:
    return np.sin(np.arange(1024 * part, 1024 * (part + 1)) / 20)[None].astype(np.float32)


def turn(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a display matrix, x' = a x + c y and y' = b x + d y, into an MP4 file."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    one = 1 << 16
    data[start : start + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def read_clip(path: Path) -> list[tuple[float, np.ndarray]]:
    """Return times in seconds and images of all frames, as another reader than ours sees them."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        return [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def source_of(images: Any, live: bool = False, name: str = "clip", rate: float = 10.0) -> Source:
    """Return a source of images, which may be a generator function."""

    def shots() -> Any:
        for i, image in enumerate(images() if callable(images) else images):
            yield Shot(i, i / rate, image)

    return Source(name, shots, rate, None if callable(images) else len(images), live)


class Camera:
    """What OpenCV's VideoCapture is for camera 0, with images that are given; it vanishes after them.

    Attributes:
        images: (H, W, 3) uint8 BGR.
    """

    images: Sequence[np.ndarray] = ()

    def __init__(self, number: int) -> None:
        self._there = number == 0
        self._left = iter(self.images)

    def open(self, number: int) -> None:
        self.__init__(number)  # type: ignore[misc]

    def isOpened(self) -> bool:  # noqa: N802
        return self._there

    def read(self) -> tuple[bool, np.ndarray | None]:
        image = next(self._left, None)
        return image is not None, image

    def get(self, _: int) -> float:
        return 30.0

    def release(self) -> None:
        self._there = False


class Detector:
    """Finds the red and the green rectangle.

    Attributes:
        calls: images that it looked at so far.
    """

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls += 1
        boxes = []
        for channel in (0, 1):
            rows, columns = np.nonzero(image[..., channel] > 100)
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        return np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.9, np.float32)
