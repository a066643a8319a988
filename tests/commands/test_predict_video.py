"""`leanpose predict` of videos: what is written, where, and what remains whatever ends the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clips import TOP_DOWN, Camera, Detector, four_colours, make_clip, read_clip, source_of

import leanpose.commands.predict as predict
import leanpose.commands.predict_video as predict_video
from leanpose.commands.cli import main
from leanpose.errors import MissingPackageError
from leanpose.inference.predictor import Predictor
from leanpose.io.frames import read_frames
from leanpose.io.images import write_image
from leanpose.structures import Frame

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rectangle_people: Any) -> Path:
    """A folder with clip.mp4, 12 frames in which a person, red, goes to the right; a small network stands for all."""

    def network(*_: object, **__: object) -> Predictor:
        return Predictor(rectangle_people(TOP_DOWN), detector=Detector())

    monkeypatch.setattr(predict, "Predictor", network)
    monkeypatch.chdir(tmp_path)
    images = [rectangle_people.image(64, 96, red=(10 + 2 * i, 10, 40 + 2 * i, 60, 220)) for i in range(12)]
    make_clip(tmp_path / "clip.mp4", images, sound="aac")
    return tmp_path


def files_in(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def frames_of(path: str) -> list[Frame]:
    return list(read_frames(path))


def test_lines_and_an_annotated_video(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "clip.mp4", "--track"]) == 0
    assert files_in("poses") == ["clip.jsonl", "clip.mp4"]
    printed = capsys.readouterr()
    assert printed.out.startswith("clip.mp4: 12 frames, 1.0 persons each, ") and printed.out.count("\n") == 1
    assert printed.out.endswith(f" frames a second, {Path('poses/clip.jsonl')}, {Path('poses/clip.mp4')}\n")
    frames = frames_of("poses/clip.jsonl")
    assert [frame.time_s for frame in frames] == pytest.approx([i / 10 for i in range(12)])
    assert all(frame.poses.ids is not None and frame.poses.ids.tolist() == [1] for frame in frames)
    head = json.loads(Path("poses/clip.jsonl").read_text().splitlines()[0])
    assert (head["source"], head["leanpose"]["track"]) == ("clip.mp4", True)
    drawn, plain = read_clip(Path("poses/clip.mp4")), read_clip(Path("clip.mp4"))
    assert [time_s for time_s, _ in drawn] == pytest.approx([time_s for time_s, _ in plain], abs=1e-4)
    changed = [(abs(a.astype(int) - b) > 60).any(axis=2).mean() for (_, a), (_, b) in zip(drawn, plain, strict=True)]
    assert min(changed) > 0.005 and max(changed) < 0.5
    assert main(["predict", "clip.mp4"]) == 0  # own results are replaced


def test_tables_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--format", "jsonl, csv,coco,openpose", "--smooth", "recorded", "--out", "out"]
    assert main(["predict", "clip.mp4", *words]) == 0
    openpose = [f"clip_openpose/clip_{i:012d}_keypoints.json" for i in range(12)]
    assert files_in("out") == sorted(["clip.csv", "clip.jsonl", "clip_coco.json", *openpose])
    assert len(frames_of("out/clip_coco.json")) == 12
    assert main(["predict", "clip.mp4", *words]) == 0  # own results, folders too, are replaced


def test_several_videos_of_one_name(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "two").mkdir()
    data = (desk / "clip.mp4").read_bytes()
    (desk / "two" / "clip.mp4").write_bytes(data[:-300])  # what tells where its images are
    assert main(["predict", "clip.mp4", "two/clip.mp4", "--format", "jsonl"]) == 2
    assert "two/clip.mp4 cannot be read as a video" in capsys.readouterr().err
    assert not Path("poses").exists()  # seen before any work
    make_clip(desk / "two" / "clip.mp4", [four_colours(64, 96)] * 3)
    assert main(["predict", "clip.mp4", "two/clip.mp4", "--format", "jsonl"]) == 0
    assert files_in("poses") == ["clip-2.jsonl", "clip.jsonl"]


def test_a_folder_as_a_video(desk: Path, rectangle_people: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "frames").mkdir()
    for i in (1, 2, 10):
        write_image(desk / f"frames/{i}.png", rectangle_people.image(64, 96, red=(10 + i, 10, 40 + i, 60, 220)))
    for words in (["frames"], ["frames/*.png"], [f"frames/{i}.png" for i in (1, 10, 2)]):
        assert main(["predict", *words, "--as-video", "--frame-rate", "5"]) == 0
        frames = frames_of("poses/frames.jsonl")
        assert [frame.time_s for frame in frames] == pytest.approx([0, 0.2, 0.4])
        assert np.diff([frame.poses.boxes_xyxy[0, 0] for frame in frames]).tolist() == pytest.approx([1, 8], abs=1)
    assert len(read_clip(Path("poses/frames.mp4"))) == 3
    assert main(["predict", "frames", "--format", "json"]) == 0  # images, as ever
    assert "poses/2.json" in [f"poses/{name}" for name in files_in("poses")]


def test_a_cut_off_clip_leaves_what_was_found(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [np.random.default_rng(i).integers(0, 90, (64, 96, 3), np.uint8) for i in range(30)]
    clip = make_clip(desk / "cut.mkv", images)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    assert main(["predict", "cut.mkv"]) == 2
    printed = capsys.readouterr()
    count = len(frames_of("poses/cut.jsonl"))
    assert count > 5 and len(read_clip(Path("poses/cut.mp4"))) == count
    assert f"cut.mkv: {count} of about " in printed.out
    assert printed.err.startswith(f"leanpose: cut.mkv is cut off: it ends after {count} images")
    assert main(["predict", "cut.mkv", "clip.mp4"]) == 2  # the other one is done
    assert "leanpose: 1 of 2 videos could not be used to their end" in capsys.readouterr().err
    assert len(frames_of("poses/clip.jsonl")) == 12


def test_a_camera_that_vanishes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "images", [image[..., ::-1] for _, image in read_clip(Path("clip.mp4"))])
    assert main(["predict", "0"]) == 2
    assert capsys.readouterr().err == "leanpose: The camera 0 gives no more images, after 11; is it still there?\n"
    assert 1 <= len(frames_of("poses/camera-0.jsonl")) <= 11
    assert main(["predict", "4"]) == 2
    assert capsys.readouterr().err.startswith("leanpose: There is no camera 4, or it is in use")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clip.mp4", "--format", "json"], "There is no format 'json' of videos. Did you mean 'jsonl'?"),
        (["clip.mp4", "--format", "jsonl,image"], "There is no format 'image' of videos."),
        (["clip.mp4", "photo.jpg"], "Some of these are videos and some are not"),
        (["clip.mp4", "--boxes", "1,2,3,4"], "--boxes is for images"),
        (["photo.jpg", "--track"], "--track, --detect-every, --smooth and --frame-rate are for videos"),
        (["clip.mp4", "--smooth", "much"], "--smooth cannot be 'much'"),
        (["clip.mp4", "--detect-every", "0"], "detect_every must be at least 1, not 0"),
        (["clip.mp4", "--frame-rate", "25"], "has times of its own"),
        (["clip.mp4", "--out", "."], "The results would overwrite clip.mp4"),
        (["clip.mp4", "--out", "out.mp4"], "--out is a folder, not a file: --out out puts the results into it."),
        (["clip.mp4", "--out", "plain", "--format", "deeplabcut"], "clip_deeplabcut.csv cannot be written"),
        (["empty", "--as-video"], "The folder empty holds no images"),
        (["absent.mp4"], "There is no video absent.mp4; check the path."),
    ],
)
def test_bad_words_are_one_sentence(
    words: list[str], message: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "empty").mkdir()
    (desk / "plain").touch()
    before = sorted(desk.rglob("*"))
    assert main(["predict", *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert sorted(desk.rglob("*")) == before


@pytest.mark.parametrize("name", ["clip.mp4", "clip.jsonl"])
def test_files_of_others_stay(name: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "poses").mkdir()
    (desk / "poses" / name).write_bytes(b"theirs")
    assert main(["predict", "clip.mp4"]) == 2
    assert f"{Path('poses', name)}, which leanpose did not write" in capsys.readouterr().err
    assert files_in("poses") == [name]


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["predict", "clip.mp4"]) == 2
    assert capsys.readouterr().err.startswith("leanpose: This needs the package av: pip install")
    with pytest.raises(MissingPackageError):
        predict.predict_files(["clip.mp4"])


def test_progress_without_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(predict_video, "SECONDS_A_LINE", 0.0)
    assert main(["predict", "clip.mp4", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 13 and lines[3].startswith("clip.mp4: 4 of about 12 frames, 1.0 persons each, ")


def test_ctrl_c_leaves_what_was_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    image = read_clip(Path("clip.mp4"))[0][1]

    def endless() -> Iterator[np.ndarray]:
        for i in range(100_000):
            if i == 40:
                signal.raise_signal(signal.SIGINT)
            yield image

    monkeypatch.setattr(predict_video, "open_source", lambda *_: source_of(endless))
    handler = signal.getsignal(signal.SIGINT)
    assert main(["predict", "clip.mp4", "--smooth", "recorded"]) == 130
    assert signal.getsignal(signal.SIGINT) is handler
    frames = frames_of("poses/clip.jsonl")
    assert 40 <= len(frames) < 200 and len(read_clip(Path("poses/clip.mp4"))) == len(frames)
    assert capsys.readouterr().err == f"leanpose: stopped after {len(frames)} frames, which are written\n"


ENDLESS = """
import sys
from conftest import RectanglePeople
from clips import TOP_DOWN, Detector, source_of
import leanpose.commands.predict as predict, leanpose.commands.predict_video as predict_video
from leanpose.inference.predictor import Predictor
predict.Predictor = lambda *_, **__: Predictor(RectanglePeople(TOP_DOWN), detector=Detector())
image = RectanglePeople.image(64, 96, red=(10, 10, 40, 60, 220))
def endless():
    while True:
        yield image
predict_video.open_source = lambda *_: source_of(endless)
predict.predict_files(["clip.mp4"], track=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no such signal")
def test_a_kill_leaves_whole_lines_and_a_playable_file() -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.Popen([sys.executable, "-c", ENDLESS], env=os.environ | {"PYTHONPATH": path})
    lines = Path("poses/clip.jsonl")
    try:
        while not lines.exists() or lines.read_bytes().count(b"\n") < 60:
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert lines.read_bytes().endswith(b"\n")
    frames = frames_of("poses/clip.jsonl")
    assert len(frames) >= 59 and all(len(frame.poses) == 1 for frame in frames)
    drawn = read_clip(Path("poses/clip.mp4"))
    assert len(frames) - 40 <= len(drawn) <= len(frames) + 1
    assert main(["predict", "clip.mp4"]) == 0  # ours, so replaced
