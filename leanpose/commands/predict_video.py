"""From videos to result files: poses frame by frame in the forms of `leanpose.io.frames`, and annotated video."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from leanpose.commands.predict import check_places, result_names
from leanpose.errors import InputError, require, suggest
from leanpose.inference.predictor import Predictor
from leanpose.io.draw import draw_poses
from leanpose.io.frames import FORMS, Clip, check_place, open_writer
from leanpose.io.preflight import check_needs
from leanpose.structures import Frame
from leanpose.video.source import VideoSource, open_source
from leanpose.video.video import Video
from leanpose.video.writer import VideoWriter

DEFAULT_FORMATS = "jsonl,video"
SECONDS_A_LINE = 10.0  # between lines about progress where there is no terminal
MEGABYTES = 100  # that a disk must have room for


class Sink(Protocol):
    """What takes frames: a FrameWriter, or an annotated video."""

    def write(self, frame: Frame) -> None: ...

    def close(self) -> None: ...


def predict_videos(
    videos: Sequence[VideoSource],
    load: Callable[[], Predictor],
    out: Path,
    format: str | None,
    min_score: float | None,
    frame_rate: float | None,
    watched: Mapping[str, Any],
) -> None:
    """Find the persons in videos, one after another, and write the results as they come.

    Args:
        videos: as a Video takes them.
        load: gives the predictor, once all else is known to be in order.
        out: folder for the results.
        format: names of FORMS and "video", with commas between; None: DEFAULT_FORMATS.
        min_score: as of `draw_poses`.
        frame_rate: of images that are taken as a video.
        watched: track, smooth and detect_every, as of a Video.

    Raises:
        InputError: a source, option or place of results cannot be used; or what a source lacks, after the results of
            what it gave.
        KeyboardInterrupt: it was stopped by Ctrl-C; all that was found is written.
    """
    formats = _parse_formats(DEFAULT_FORMATS if format is None else format)
    opened = [open_source(video, frame_rate) for video in videos]
    names = result_names(source.name for source in opened)
    places = {name: {form: out / (stem + _ending(form)) for form in formats} for name, stem in names.items()}
    _check(out, [source.path for source in opened if source.path], places)
    predictor = load()
    faults = 0
    for source in opened:
        video = Video(source, predictor, **watched)
        try:
            _predict_one(video, places[source.name], min_score)
        except InputError as error:
            if len(opened) == 1:
                raise
            print(f"leanpose: {error}", file=sys.stderr)
            faults += 1
    if faults:
        raise InputError(f"{faults} of {len(opened)} videos could not be used to their end; they are named above.")


def _parse_formats(text: str) -> list[str]:
    formats = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in formats:
        if name not in (*FORMS, "video"):
            raise InputError(f"There is no format '{name}' of videos.{suggest(name, [*FORMS, 'video'])}")
    if "video" in formats:
        require("av", "video")
    return formats


def _check(out: Path, read: list[str], places: Mapping[str, Mapping[str, Path]]) -> None:
    """Raise what would keep results from their places."""
    for each in places.values():
        check_places(out, read, [place for form, place in each.items() if form != "openpose"])
        for form, place in each.items():
            if form != "video":
                check_place(form, place)
    check_needs(places=[place for each in places.values() for place in each.values()][:1], megabytes=MEGABYTES)


def _ending(form: str) -> str:
    return ".mp4" if form == "video" else FORMS[form].ending


def _predict_one(video: Video, places: dict[str, Path], min_score: float | None) -> None:
    """Write the results of one video, and say at the end, whatever ends it, where they are."""
    progress = _Progress(video)
    with ExitStack() as ends, _stopped_by_ctrl_c(video) as stopped:
        ends.callback(progress.finish, places)
        sinks: list[Sink] = []
        for frame in progress.of(video):
            if not sinks:  # a source without a frame leaves no files
                opened = [_sink(form, place, video, min_score) for form, place in places.items()]
                sinks = [ends.enter_context(closing(sink)) for sink in opened]
            for sink in sinks:
                sink.write(frame)
    if stopped:
        raise KeyboardInterrupt(f"stopped after {progress.count} frames, which are written")


def _sink(form: str, place: Path, video: Video, min_score: float | None) -> Sink:
    source = video.source
    if form == "video":
        return _AnnotatedVideo(VideoWriter(place, source.frame_rate, source.path), min_score)
    clip = Clip(video.predictor.keypoint_set, source.name, source.frame_rate, video.provenance)
    return open_writer(form, place, clip)


class _AnnotatedVideo:
    """Draws persons into frames and writes them."""

    def __init__(self, writer: VideoWriter, min_score: float | None) -> None:
        self._writer, self._min_score = writer, min_score

    def write(self, frame: Frame) -> None:
        self._writer.write(draw_poses(frame.image, frame.poses, min_score=self._min_score), frame.time_s)

    def close(self) -> None:
        self._writer.close()


class _Progress:
    """A bar with frames a second on a terminal, a line now and then elsewhere.

    Attributes:
        count: frames so far.
    """

    def __init__(self, video: Video) -> None:
        self._name, self._total, self.count = video.source.name, video.source.count, 0
        self._persons = 0
        self._began = self._told = time.monotonic()

    def of(self, video: Video) -> Iterator[Frame]:
        """Pass the frames on and show how many there were."""
        bar = tqdm(video, self._name, self._total, unit="frame", disable=None)
        for frame in bar:
            yield frame
            self.count += 1
            self._persons += len(frame.poses)
            if bar.disable and time.monotonic() - self._told > SECONDS_A_LINE:
                self._told = time.monotonic()
                print(self._line(), flush=True)

    def finish(self, places: dict[str, Path]) -> None:
        """Print the last line, with the files; nothing where there was no frame."""
        if self.count:
            print(self._line() + "".join(f", {place}" for place in places.values()))

    def _line(self) -> str:
        of = f" of about {self._total}" if self._total and self._total > self.count else ""
        persons, rate = self._persons / self.count, self.count / (time.monotonic() - self._began)
        return f"{self._name}: {self.count}{of} frames, {persons:.1f} persons each, {rate:.1f} frames a second"


@contextmanager
def _stopped_by_ctrl_c(video: Video) -> Iterator[list[int]]:
    """Let the first Ctrl-C stop the source, so that what is on its way gets through, and the second what hangs.

    Yields:
        A list, empty unless the source was stopped.
    """
    stopped: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield stopped
        return

    def stop(number: int, _: Any) -> None:
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)
        video.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
