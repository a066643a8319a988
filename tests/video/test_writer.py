"""Annotated video: same times, same sound, playable at any moment."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from clips import corners, four_colours, make_clip, read_clip

from leanpose.errors import InputError
from leanpose.io.own_files import is_own
from leanpose.video.source import open_source
from leanpose.video.writer import VideoWriter, fitted

av = pytest.importorskip("av")


def write(path: Path, images: list[np.ndarray], times: list[float], sound: str | None = None) -> Path:
    writer = VideoWriter(path, 10, sound)
    for image, time_s in zip(images, times, strict=True):
        writer.write(image, time_s)
    writer.close()
    return path


def test_images_have_their_times(tmp_path: Path) -> None:
    times = [0, 0.1, 0.15, 0.9, 1.0]
    found = read_clip(write(tmp_path / "new" / "out.mp4", [four_colours()] * 5, times))
    assert [time_s for time_s, _ in found] == pytest.approx(times, abs=1e-4)
    assert {corners(image) for _, image in found} == {"rbg-"}
    again = list(open_source(tmp_path / "new" / "out.mp4").shots())
    np.testing.assert_allclose(again[0].image[10, 10], (200, 30, 30), atol=6)  # the same colours again
    assert [shot.time_s for shot in again] == pytest.approx(times, abs=1e-4)


def test_nothing_is_made_before_the_first_image(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", 10)
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_it_is_playable_at_any_moment_and_known_as_ours(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", 10)
    for i in range(60):
        writer.write(four_colours(), i / 10)
    shutil.copy(tmp_path / "out.mp4", tmp_path / "killed.mp4")
    writer.close()
    assert 30 <= len(read_clip(tmp_path / "killed.mp4")) <= 60
    assert len(read_clip(tmp_path / "out.mp4")) == 60
    assert is_own(tmp_path / "out.mp4") and is_own(tmp_path / "killed.mp4")
    assert not is_own(make_clip(tmp_path / "theirs.mp4", [four_colours()] * 20))
    with av.open(str(tmp_path / "out.mp4")) as container:  # an ordinary MP4, with a list of its images
        assert container.streams.video[0].frames == 60
        assert container.streams.video[0].codec_context.name == "h264"


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_the_sound_is_copied(name: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / name, [four_colours()] * 10, sound="aac")
    write(tmp_path / "out.mp4", [four_colours()] * 10, [i / 10 for i in range(10)], str(clip))
    copied = sound_of(tmp_path / "out.mp4")
    original = [packet for packet in sound_of(clip) if packet[0] >= 0]  # an encoder's run-up may come before
    assert len(copied) > 35 and [data for _, data in copied] == [data for _, data in original][: len(copied)]
    assert [time_s for time_s, _ in copied] == pytest.approx([t for t, _ in original][: len(copied)], abs=0.03)


def sound_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(float(p.pts * p.time_base), bytes(p)) for p in packets if p.size]


def test_sound_that_does_not_fit_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = make_clip(tmp_path / "clip.avi", [four_colours()] * 3, sound="wmav2")
    write(tmp_path / "out.mp4", [four_colours()] * 3, [0, 0.1, 0.2], str(clip))
    assert capsys.readouterr().err == f"leanpose: {clip}: its sound (wmav2) does not go into MP4 and is left out.\n"
    assert len(read_clip(tmp_path / "out.mp4")) == 3


def test_without_x264_it_is_mpeg_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    found = read_clip(write(tmp_path / "out.mp4", [four_colours()] * 3, [0, 0.1, 0.5]))
    assert [time_s for time_s, _ in found] == pytest.approx([0, 0.1, 0.5], abs=1e-4)
    assert corners(found[0][1]) == "rbg-"


def test_odd_and_other_sizes(tmp_path: Path) -> None:
    images = [four_colours(45, 33), four_colours(90, 66), four_colours(20, 60)]
    found = [image for _, image in read_clip(write(tmp_path / "out.mp4", images, [0, 0.1, 0.2]))]
    assert {image.shape for image in found} == {(46, 34, 3)}
    assert corners(found[0]) == corners(found[1]) == "rbg-"
    assert found[2][15:].max() < 40  # laid into the size of the first, black below
    assert fitted(images[0], (46, 34))[45, 33].tolist() == [150, 150, 150]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(InputError, match=r"out\.mp4 cannot be written \(Is a directory\)"):
        write(tmp_path / "out.mp4", [four_colours()], [0])
