"""Copy the sound of a video file into another, packet by packet, without decoding it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leanpose.errors import note


class Sound:
    """The sound of a file on its way into another, where it is in time with the images.

    Args:
        file: name of a video file; one without sound gives nothing.
        into: the open container to which a stream is added. Sound that it cannot hold is left out, with a note.
    """

    def __init__(self, file: str, into: Any) -> None:
        import av

        self._file = av.open(file)
        streams, images = self._file.streams.audio, self._file.streams.video[0]
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None
        if not streams:
            return
        codec = streams[0].codec_context.name
        if codec not in into.supported_codecs:
            note(f"{file}: its sound ({codec}) does not go into MP4 and is left out.")
            return
        self._stream = into.add_stream_from_template(streams[0])
        self._start = float((images.start_time or 0) * (images.time_base or 0))  # of the first image
        self._packets = self._file.demux(streams[0])

    def until(self, time_s: float) -> Iterator[Any]:
        """Yield the packets that are heard up to a time, in seconds from the first image; each comes once."""
        import av

        while True:
            try:
                packet = self._next or next(self._packets, None)
            except (av.FFmpegError, OSError):  # the reader of the images says so
                packet = None
            self._next = packet
            if packet is None or (packet.pts is not None and packet.pts * packet.time_base - self._start > time_s):
                return
            self._next = None
            if packet.dts is None or packet.pts * packet.time_base < self._start:  # the last one is empty
                continue
            shift = round(self._start / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = self._stream
            yield packet

    def close(self) -> None:
        """Close the file that is read."""
        self._file.close()
