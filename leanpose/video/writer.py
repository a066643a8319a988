"""Write annotated video: H.264 in MP4 that stays playable whatever ends the work, with the sound of its source."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from leanpose.errors import InputError, require
from leanpose.io.own_files import VIDEO_COMMENT
from leanpose.video.sound import Sound

TICK = Fraction(1, 60000)  # seconds; the usual frame rates are whole numbers of it
# Encoders, the best first, with their options. Without B-frames times begin at 0 in a file that is cut off, too.
ENCODERS = {"libx264": {"preset": "veryfast", "crf": "21", "bf": "0"}, "mpeg4": {"qscale": "3", "bf": "0"}}
# MP4 in fragments while it is written, which a kill leaves playable, and ordinary MP4 once it is closed
MUXER = {"movflags": "hybrid_fragmented", "flush_packets": "1"}
BT709, LIMITED = 1, 1  # colour space and range, as ITU-T H.273 and FFmpeg number them


class VideoWriter:
    """Write images with their times into an MP4 file, which is made at the first of them.

    What was written up to about a second ago is playable at any moment. The images are H.264 where PyAV's build has
    x264, else MPEG-4; their size is that of the first one, up to even numbers, and others are laid into it.

    Args:
        path: of the file; missing folders are made.
        frame_rate: images per second, about; times are those of the images.
        sound: file whose sound is copied; None: there is none.

    Raises:
        MissingPackageError: the package av is not installed.
    """

    def __init__(self, path: str | Path, frame_rate: float, sound: str | None = None) -> None:
        require("av", "video")
        self._path, self._frame_rate, self._sound_file = Path(path), frame_rate, sound
        self._container: Any = None
        self._sound: Sound | None = None
        self._latest = -1  # ticks

    def write(self, image: np.ndarray, time_s: float) -> None:
        """Write an image, (H, W, 3) uint8 RGB, that is shown at a time, in seconds, later than those before.

        Raises:
            InputError: the file cannot be written.
        """
        import av

        try:
            if self._container is None:
                self._open(image.shape[0], image.shape[1])
            frame = av.VideoFrame.from_ndarray(fitted(image, self._size), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED)
            self._latest = max(round(time_s / TICK), self._latest + 1)
            frame.pts, frame.time_base = self._latest, TICK
            for packet in self._sound.until(time_s) if self._sound else ():
                self._container.mux(packet)
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        """Finish the file, if there is one.

        Raises:
            InputError: the file cannot be written.
        """
        import av

        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            with container:
                container.mux(self._stream.encode(None))
        except (av.FFmpegError, OSError) as error:
            raise self._unwritable(error) from None
        finally:
            if self._sound:
                self._sound.close()

    def _open(self, height: int, width: int) -> None:
        import av

        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._path), "w", options=MUXER)
        self._container.metadata["comment"] = VIDEO_COMMENT.decode()
        encoder = next(name for name in ENCODERS if name in av.codecs_available)
        rate = Fraction(self._frame_rate).limit_denominator(1001)
        stream = self._stream = self._container.add_stream(encoder, rate, ENCODERS[encoder])
        self._size = stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base, context.gop_size = TICK, max(1, round(self._frame_rate))
        context.colorspace = context.color_trc = context.color_primaries = BT709
        context.color_range = LIMITED
        self._sound = Sound(self._sound_file, self._container) if self._sound_file else None

    def _unwritable(self, error: Any) -> InputError:
        reason = getattr(error, "strerror", None) or error
        return InputError(f"{self._path} cannot be written ({reason}); free space or choose another place.")


def fitted(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an image (H, W, 3) of the size (height, width): with its last row or column repeated where that is all
    that lacks, else scaled to fit, with black at its right and lower side."""
    (height, width), (rows, columns) = size, image.shape[:2]
    if (rows + rows % 2, columns + columns % 2) != size:
        scale = min(height / rows, width / columns)
        rows, columns = max(1, round(rows * scale)), max(1, round(columns * scale))
        laid = np.zeros((height, width, 3), np.uint8)
        laid[:rows, :columns] = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
        return laid
    if (rows, columns) == size:
        return image
    return cv2.copyMakeBorder(image, 0, height - rows, 0, width - columns, cv2.BORDER_REPLICATE)
