"""Where frames come from: each kind of source gives upright RGB images with their times, or one clear sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clips import Camera, corners, four_colours, make_clip, turn
from support import Host

from leanpose.errors import InputError, MissingPackageError
from leanpose.io.images import write_image
from leanpose.video.decode import HLG, PQ, tone_curve
from leanpose.video.source import Shot, is_video, open_source, videos_among


def shots(source: Any, frame_rate: float | None = None) -> list[Shot]:
    return list(open_source(source, frame_rate).shots())


def until_fault(source: Any) -> tuple[int, str]:
    """Return how many shots come before the error, and its sentence."""
    found = []
    with pytest.raises(InputError) as caught:
        for shot in open_source(source).shots():
            found.append(shot.index)
    return len(found), str(caught.value)


def test_a_clip_of_variable_frame_rate(tmp_path: Path) -> None:
    times = [0, 0.1, 0.15, 0.9, 1.0]
    source = open_source(make_clip(tmp_path / "clip.mp4", [four_colours()] * 5, times))
    assert (source.count, source.live, source.path) == (5, False, str(tmp_path / "clip.mp4"))
    for _ in range(2):  # from the beginning each time
        found = list(source.shots())
        assert [shot.index for shot in found] == [0, 1, 2, 3, 4]
        assert [shot.time_s for shot in found] == pytest.approx(times)
    assert found[0].image.shape == (48, 64, 3) and found[0].image.dtype == np.uint8
    np.testing.assert_allclose(found[0].image[10, 10], (200, 30, 30), atol=6)
    assert corners(found[4].image) == "rbg-"


def test_times_begin_with_the_first_image(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", [four_colours()] * 3, [5, 5.5, 6])
    assert [shot.time_s for shot in shots(clip)] == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), "rbg-"),
        ((0, 1, -1, 0), "gr-b"),  # a phone held upright: a quarter turn clockwise
        ((-1, 0, 0, -1), "-gbr"),
        ((0, -1, 1, 0), "b-rg"),
        ((-1, 0, 0, 1), "br-g"),  # mirrored
    ],
)
def test_a_rotated_phone_clip(matrix: tuple[int, int, int, int], expected: str, tmp_path: Path) -> None:
    (shot,) = shots(turn(make_clip(tmp_path / "clip.mp4", [four_colours()]), *matrix))  # of one frame, too
    assert shot.image.shape == ((64, 48, 3) if matrix[0] == 0 else (48, 64, 3))
    assert corners(shot.image) == expected


@pytest.mark.parametrize("size", [(50, 34), (2160, 3840)])
def test_odd_sizes_and_4k(size: tuple[int, int], tmp_path: Path) -> None:
    (shot,) = shots(make_clip(tmp_path / "clip.mp4", [four_colours(*size)]))
    assert shot.image.shape == (*size, 3) and corners(shot.image) == "rbg-"


def test_an_odd_number_of_rows(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.webm"), "w") as container:
        stream = container.add_stream("libvpx-vp9", 10)
        stream.height, stream.width, stream.pix_fmt = 45, 33, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(four_colours(45, 33), format="rgb24")))
        container.mux(stream.encode(None))
    (shot,) = shots(tmp_path / "clip.webm")
    assert shot.image.shape == (45, 33, 3) and corners(shot.image) == "rbg-"


@pytest.mark.parametrize(("transfer", "white"), [(PQ, 148), (HLG, 191)])  # white paper, by ITU-R BT.2408
def test_hdr_becomes_8_bit_rgb(transfer: int, white: int, tmp_path: Path) -> None:
    tags = {"color_trc": transfer, "colorspace": 9, "color_primaries": 9}
    image = np.full((64, 64, 3), white, np.uint8)
    clip = make_clip(tmp_path / "clip.mp4", [image], pixels="yuv420p10le", tags=tags)
    (shot,) = shots(clip)
    np.testing.assert_allclose(shot.image, 190, atol=4)  # half of the light, in sRGB
    curve = tone_curve(transfer).astype(int)
    assert curve[0] == 0 and curve[255] == 255 and (np.diff(curve) >= 0).all()


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    images = [np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8) for i in range(30)]
    for name, options in (("fast.mp4", {"movflags": "faststart"}), ("clip.mkv", None), ("late.mp4", None)):
        clip = make_clip(tmp_path / name, images, options=options)
        clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    for name in ("fast.mp4", "clip.mkv"):
        count, message = until_fault(str(tmp_path / name))
        assert 5 < count < 20 and f"{name} is cut off: it ends after {count} images, at " in message
    with pytest.raises(InputError, match=r"late\.mp4 cannot be read as a video \(.*\); is it whole\?"):
        open_source(tmp_path / "late.mp4")  # what tells where its images are comes last


def test_a_file_that_is_damaged_in_the_middle(tmp_path: Path) -> None:
    images = [np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8) for i in range(30)]
    clip = make_clip(tmp_path / "clip.mp4", images)
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20000] = bytes(20000)
    clip.write_bytes(data)
    count, message = until_fault(str(clip))
    assert 15 < count < 30
    assert re.search(r"clip\.mp4 is damaged: \d+ pieces of it could not be decoded\.", message)


def test_a_file_without_video(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.m4v", [], sound="aac")
    with pytest.raises(InputError, match=r"clip\.m4v holds no video, only audio; give a file with images in it\."):
        open_source(clip)


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 100, None])
def test_what_is_no_video(content: bytes | None, tmp_path: Path) -> None:
    pytest.importorskip("av")
    if content is not None:
        (tmp_path / "clip.mp4").write_bytes(content)
    expected = "There is no video" if content is None else r"cannot be read as a video \("
    with pytest.raises(InputError, match=expected) as caught:
        open_source(tmp_path / "clip.mp4")
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_sentence_names_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"needs the package av: pip install .*\[video\]"):
        open_source("clip.mp4")


def test_a_clip_of_a_host(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", [four_colours()] * 3)
    with Host(files={"/clip.mp4": clip.read_bytes()}).running() as host:
        source = open_source(f"{host.address.replace('//', '//me:secret@')}/clip.mp4")
        assert len(list(source.shots())) == 3
    assert (source.live, source.path, source.name) == (False, None, f"{host.address}/clip.mp4")
    with pytest.raises(InputError, match=r"cannot be read as a video \(.*\); is the address right"):
        open_source(f"{host.address}/clip.mp4")


def test_a_camera_that_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "images", [four_colours()[..., ::-1]] * 6)
    source = open_source(0)
    assert source.live and source.count is None and source.name == "camera-0"
    first = next(source.shots())
    assert corners(first.image) == "rbg-"  # RGB
    count, message = until_fault("0")
    assert count == 5  # one showed that the camera is there
    assert message == "The camera 0 gives no more images, after 5; is it still there?"
    with pytest.raises(InputError, match="There is no camera 7, or it is in use"):
        open_source(7)


def test_a_folder_of_frames(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write_image(tmp_path / f"frame{number}.png", np.full((20, 30, 3), number, np.uint8))
    for source in (str(tmp_path), f"{tmp_path}/*.png", [str(tmp_path / f"frame{n}.png") for n in (10, 2, 1)]):
        found = shots(source, frame_rate=4)
        assert [int(shot.image[0, 0, 0]) for shot in found] == [1, 2, 10]
        assert [shot.time_s for shot in found] == [0, 0.25, 0.5]
    opened = open_source(str(tmp_path))
    assert (opened.frame_rate, opened.count, opened.live) == (30, 3, False)
    (tmp_path / "frame2.png").write_bytes(b"no image")
    count, message = until_fault(str(tmp_path))
    assert count == 1 and "frame2.png is not an image" in message


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        open_source(tmp_path)
    with pytest.raises(InputError, match="There are no images"):
        open_source([])


def test_frame_rates_are_for_folders(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", [four_colours()])
    with pytest.raises(InputError, match="has times of its own; leave the frame rate out"):
        open_source(clip, frame_rate=25)
    with pytest.raises(InputError, match="must be above 0, not 0"):
        open_source(tmp_path, frame_rate=0)


def test_what_is_a_video_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for word in ("clip.mp4", "A.MOV", "0", "rtsp://host/x", "udp://@:5000", "https://host/clip.webm?x=1"):
        assert is_video(word), word
    Path("3").write_bytes(b"")
    Path("folder.avi").mkdir()
    for word in ("photo.jpg", "3", "folder.avi", "frames/*.png", "https://host/photo.jpg", "https://host/"):
        assert not is_video(word), word
    assert videos_among(["a.mp4", "0", "a.mp4"], as_video=False) == ["a.mp4", "0"]
    assert videos_among(["b.png", "a.png"], as_video=True) == [["b.png", "a.png"]]
    assert videos_among(["b.png", "a.png"], as_video=False) == []
    with pytest.raises(InputError, match="Some of these are videos and some are not"):
        videos_among(["a.mp4", "a.png"], as_video=True)
