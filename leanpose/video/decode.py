"""Decode video files and streams with PyAV: upright 8-bit RGB images with the times at which they are shown."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Generator, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import cv2
import numpy as np

from leanpose.errors import InputError, require
from leanpose.video.source import LIVE_SCHEMES, Shot, Source

if TYPE_CHECKING:
    import av

SILENT_SECONDS = 10.0  # after which an address that sends nothing counts as gone
OPTIONS = {"rtsp_transport": "tcp"}  # UDP would lose packets
CUT_OFF = 0.9  # of the stated duration: where a file ends earlier, a part of it is missing
HD_HEIGHT = 720  # rows from which on untagged video has the colours of BT.709, below of BT.601
UNSPECIFIED, PQ, HLG = 2, 16, 18  # of colour spaces, and transfer functions of HDR (ITU-T H.273)
WHITE = 203.0  # cd/m2 of diffuse white in HDR (ITU-R BT.2408)
PEAK = 1000.0  # cd/m2 of what is still told apart


def open_file(name: str) -> Source:
    """Open a video file or a stream of a network.

    Raises:
        InputError: there is none, it holds no video, or is cut off before its first image.
        MissingPackageError: the package av is not installed.
    """
    require("av", "video")
    container = _opened(name)
    try:
        if not container.streams.video:
            raise InputError(f"{name} holds no video, only {_kinds(container)}; give a file with images in it.")
        stream = container.streams.video[0]
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        seconds = _seconds(container)
        count = stream.frames or (round(seconds * rate) if seconds else None)
    except BaseException:
        container.close()
        raise
    unused = [container]

    def shots() -> Generator[Shot]:
        with unused.pop() if unused else _opened(name) as opened:
            yield from _decoded(opened, name, rate, live)

    scheme = urlparse(name).scheme.lower() if "://" in name else ""
    live = scheme in LIVE_SCHEMES or (scheme in ("http", "https") and seconds is None)
    shown = re.sub(r"//[^/@]*@", "//", name) if scheme else name  # without a password
    return Source(shown, shots, rate, None if live else count, live, None if scheme else name)


def _opened(name: str) -> av.container.InputContainer:
    import av

    address = "://" in name
    if not address and not os.path.isfile(name):
        raise InputError(f"There is no video {name}; check the path.")
    try:
        return av.open(name, options=OPTIONS if address else {}, timeout=SILENT_SECONDS if address else None)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        doubt = "is the address right and the host there" if address else "is it whole"
        raise InputError(f"{name} cannot be read as a video ({reason}); {doubt}?") from None


def _kinds(container: av.container.InputContainer) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _seconds(container: Any) -> float | None:
    """Return the duration that a container states."""
    import av

    return container.duration / av.time_base if container.duration else None


def _decoded(container: Any, name: str, rate: float, live: bool) -> Generator[Shot]:
    """Yield what can be decoded; at the end, raise InputError where some of it could not, or is missing."""
    import av

    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    clock, reading = _Clock(1 / rate), _Reading()
    index = 0
    for packet in reading.packets(container.demux(stream, *container.streams.audio[:1])):  # sound is only looked at
        if packet.stream.type == "video":
            for frame in reading.decoded(packet):
                yield Shot(index, clock.seconds(frame), to_rgb(frame, stream.codec_context.color_trc))
                index += 1
    seconds, start = _seconds(container), (container.start_time or 0) / av.time_base
    if live:
        raise InputError(f"{name} has ended after {index} images{reading.end}; is it still there?")
    if index == 0:
        raise InputError(f"{name} holds no image that can be decoded{reading.end}.")
    if reading.end or (seconds is not None and reading.reached - start < CUT_OFF * seconds):
        raise InputError(f"{name} is cut off: it ends after {index} images, at {clock.latest:.1f} s{reading.end}.")
    if reading.faults:
        raise InputError(f"{name} is damaged: {reading.faults} pieces of it could not be decoded.")


class _Clock:
    """The times of frames, which grow: where a frame has none, or an earlier one, it comes one step after the last."""

    def __init__(self, step: float) -> None:
        self._step, self._first, self.latest = step, 0.0, -math.inf

    def seconds(self, frame: Any) -> float:
        """Return when a frame is shown, seconds from the first one."""
        stated = None if frame.pts is None else float(frame.pts * frame.time_base)
        if self.latest == -math.inf:
            self._first, self.latest = stated or 0.0, 0.0
        elif stated is not None and stated - self._first > self.latest:
            self.latest = stated - self._first
        else:
            self.latest += self._step
        return self.latest


class _Reading:
    """What happens while a file is read.

    Attributes:
        reached: seconds up to which it has packets, of images or sound.
        faults: packets that could not be decoded.
        end: why reading ended before the end of the file, in brackets; "" where it did not.
    """

    def __init__(self) -> None:
        self.reached, self.faults, self.end = 0.0, 0, ""

    def packets(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Pass packets on, up to the first that cannot be read."""
        import av

        try:
            for packet in packets:
                if packet.pts is not None:
                    self.reached = max(self.reached, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                yield packet
        except (av.FFmpegError, OSError) as error:
            self.end = f" ({error.strerror})"

    def decoded(self, packet: Any) -> list[Any]:
        """Return the frames that a packet completes."""
        import av

        try:
            return list(packet.decode())
        except av.FFmpegError:
            self.faults += 1
            return []


def to_rgb(frame: Any, transfer: int) -> np.ndarray:
    """Return a decoded frame as (H, W, 3) uint8 RGB, upright; where its transfer function is PQ or HLG, with HDR's
    brightness mapped to sRGB's."""
    untagged_hd = frame.colorspace == UNSPECIFIED and frame.height >= HD_HEIGHT
    source = "ITU709" if untagged_hd else None  # of others what the frame says
    image = frame.to_ndarray(format="rgb24", src_colorspace=source, dst_colorspace="ITU601")  # else PyAV 16 skips it
    if transfer in (PQ, HLG):
        image = cv2.LUT(image, tone_curve(transfer))
    return _upright(image, frame)


def _upright(image: np.ndarray, frame: Any) -> np.ndarray:
    """Turn and mirror an image as the display matrix of its video says, by quarter turns."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return image
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
    if abs(b) > abs(a):  # rows become columns
        image, a, d = image.transpose(1, 0, 2), c, b
    image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image)


@cache
def tone_curve(transfer: int) -> np.ndarray:
    """Return (256,) uint8: an 8-bit value of HDR video to that of sRGB.

    The inverse of the transfer function (ITU-R BT.2100) gives cd/m2; Reinhard's curve (Photographic Tone Reproduction,
    2002, equation 4) brings WHITE to about half of sRGB's light and PEAK to all of it.

    Args:
        transfer: PQ or HLG, for a display of 1000 cd/m2.
    """
    signal = np.arange(256) / 255
    if transfer == PQ:
        root = signal ** (1 / 78.84375)
        light = 10000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        light = 1000 * scene**1.2
    bright = light / WHITE
    linear = np.clip(bright * (1 + bright / (PEAK / WHITE) ** 2) / (1 + bright), 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    curve: np.ndarray = np.rint(255 * encoded).astype(np.uint8)
    return curve
