"""What is found in images and videos, here and in a process of its own."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("fsspec")

from batch.stubs import Hashes
from clips import four_colours, make_clip

from leanpose.batch.estimate import Alone, Estimate, Estimator, Found, Recipe
from leanpose.batch.reading import Clip, Image, Task
from leanpose.errors import InputError, MissingPackageError, WeightsError
from leanpose.inference.predictor import Predictor
from leanpose.keypoint_sets import COCO
from leanpose.structures import Poses


class Seen:
    """A Predictor that finds one person as large as the image, and keeps what it saw.

    Attributes:
        error: is raised at the image of this number.
    """

    keypoint_set = COCO

    def __init__(self, **error: Exception) -> None:
        self.images: list[np.ndarray] = []
        self.error = {int(number.strip("_")): one for number, one in error.items()}

    def batch(self, work: Any) -> list[Any]:
        [(read, _)] = work
        image = read()
        self.images.append(image)
        if error := self.error.get(len(self.images) - 1):
            if isinstance(error, InputError):
                return [error]
            raise error
        height, width = image.shape[:2]
        box = np.array([[0, 0, width, height]], np.float32)
        return [
            (
                image,
                Poses(
                    np.zeros((1, 17, 2), np.float32), np.ones((1, 17), np.float32), box, np.ones(1, np.float32), COCO
                ),
            )
        ]


def encoded(image: np.ndarray, suffix: str = ".png") -> Image:
    return Image(f"a{suffix}", cv2.imencode(suffix, image)[1].tobytes())


@pytest.mark.parametrize(
    ("image", "suffix"),
    [
        (np.full((8, 6), 50, np.uint8), ".png"),
        (np.full((8, 6, 4), 50, np.uint8), ".png"),
        (np.full((8, 6), 50 << 8 | 0xFF, np.uint16), ".png"),
        (np.full((8, 6, 3), 50, np.uint16), ".tif"),
        (np.full((8, 6), 50, np.uint8), ".jpg"),
    ],
)
def test_images_of_all_kinds_become_rgb(image: np.ndarray, suffix: str) -> None:
    predictor = Seen()
    found = Estimator(predictor, None)(encoded(image, suffix))  # type: ignore[arg-type]
    assert (found.images, found.failures, len(found.persons)) == (1, [], 1)
    assert predictor.images[0].shape == (8, 6, 3) and predictor.images[0].dtype == np.uint8
    [row] = found.persons
    assert (row["source"], row["frame"], row["time_s"], row["height"], row["width"]) == (f"a{suffix}", None, None, 8, 6)


@pytest.mark.parametrize("data", [b"", b"no image", encoded(four_colours(), ".jpg").data[:400]])
def test_images_that_cannot_be_used(data: bytes) -> None:
    found = Estimator(Seen(), None)(Image("a.jpg", data))  # type: ignore[arg-type]
    [failure] = found.failures
    assert (failure.source, failure.kind, failure.frame) == ("a.jpg", "unusable", None)
    assert failure.message.startswith("a.jpg ") and not found.images


def test_errors_of_a_network_are_rows_too() -> None:
    errors = {"_0": InputError("bad box."), "_1": WeightsError("gives NaN."), "_2": MemoryError("no room")}
    estimate = Estimator(Seen(**errors), None)  # type: ignore[arg-type]
    found = Found()
    for _ in range(4):
        found.add(estimate(encoded(four_colours())))
    assert [(failure.kind, failure.message) for failure in found.failures] == [
        ("unusable", "bad box."),
        ("WeightsError", "gives NaN."),
        ("MemoryError", "a.png: no room"),
    ]
    assert found.images == 1
    with pytest.raises(MissingPackageError):  # not a fault of the image
        Estimator(Seen(_0=MissingPackageError("av")), None)(encoded(four_colours()))  # type: ignore[arg-type]


def frames(
    path: Path, rate: float | None, limit: int | None = None, error: dict[str, Exception] | None = None
) -> Found:
    return Estimator(Seen(**error or {}), rate, limit)(Clip(str(path)))  # type: ignore[arg-type]


def indices(found: Found) -> list[int]:
    return [row["frame"] for row in found.persons]


def test_videos_by_frame_rate(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", [four_colours()] * 12)  # 10 a second
    assert indices(frames(clip, None)) == list(range(12))
    assert indices(frames(clip, 1.0)) == [0, 10]
    assert indices(frames(clip, 10.0)) == list(range(12))
    assert indices(frames(clip, 1000.0)) == list(range(12))
    assert indices(frames(clip, 4.0)) == [0, 3, 5, 8, 10]
    assert indices(frames(clip, 0.001)) == [0]
    assert indices(frames(clip, None, limit=3)) == [0, 1, 2]
    found = frames(clip, 4.0)
    np.testing.assert_allclose([row["time_s"] for row in found.persons], [0, 0.3, 0.5, 0.8, 1.0], atol=1e-6)
    assert (found.images, found.failures) == (5, [])


def test_varying_times(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.95, 1.05, 5.0, 5.01, 5.99, 6.0]
    clip = make_clip(tmp_path / "a.mp4", [four_colours()] * 8, times)
    assert indices(frames(clip, 1.0)) == [0, 3, 4, 7]  # the first in each second; none stands for the lacking seconds
    assert indices(frames(clip, 2.0)) == [0, 2, 3, 4, 6, 7]


def test_times_in_whole_milliseconds(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", [four_colours()] * 31, [number / 30 for number in range(31)])
    assert indices(frames(clip, 30.0)) == list(range(31))
    assert indices(frames(clip, 15.0)) == list(range(0, 31, 2))


def test_videos_that_cannot_be_used(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.mp4").touch()
    [failure] = frames(tmp_path / "a.mp4", 1.0).failures
    assert (failure.kind, failure.frame) == ("unusable", 0)
    [failure] = frames(tmp_path / "no.mp4", 1.0).failures
    assert (failure.kind, failure.frame) == ("missing", 0)
    make_clip(tmp_path / "none.mp4", [], sound="aac")
    [failure] = frames(tmp_path / "none.mp4", 1.0).failures
    assert "holds no video" in failure.message


def test_a_video_that_ends_early(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", [four_colours()] * 30, options={"movflags": "faststart"})
    clip.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * 0.7)])
    found = frames(clip, 5.0)
    [failure] = found.failures
    assert failure.kind == "unusable" and failure.frame == indices(found)[-1] + 1 and 0 < found.images < 15
    found = frames(clip, 5.0, error={"_2": RuntimeError("odd")})
    assert indices(found) == [0, 2]
    assert [(failure.kind, failure.frame) for failure in found.failures] == [("RuntimeError", 4)]


def test_a_video_in_an_object_store(tmp_path: Path) -> None:
    import fsspec

    clip = make_clip(tmp_path / "a.mp4", [four_colours()] * 3)
    memory, name = fsspec.filesystem("memory"), f"memory://{tmp_path.name}/a.mp4"
    memory.pipe_file(f"/{tmp_path.name}/a.mp4", clip.read_bytes())
    found = Estimator(Seen(), None)(Clip(name))  # type: ignore[arg-type]
    assert [row["source"] for row in found.persons] == [name] * 3
    memory.pipe_file(f"/{tmp_path.name}/a.mp4", b"no video")
    [failure] = Estimator(Seen(), None)(Clip(name)).failures  # type: ignore[arg-type]
    assert failure.message.startswith(f"{name} cannot be read as a video")  # always the same, without a temporary name


def test_a_process_of_its_own(tmp_path: Path) -> None:
    hashes = Hashes("poison", tmp_path / "log")
    alone = Alone(hashes)
    try:
        for name in ("a", "b", "poison", "c"):
            image = Image(name, name.encode())
            found = alone(image)
            if name == "poison":
                [failure] = found.failures
                assert (failure.kind, failure.message) == ("died", "poison ended its process 2 times.")
            else:
                np.testing.assert_equal(found.persons, hashes.estimate(image).persons)
    finally:
        alone.close()
    processes = (tmp_path / "log").read_text().split()
    assert len(set(processes)) == len(processes) == 3  # one, one for the second try, one for what followed
    assert str(os.getpid()) not in processes
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(int(process), 0)


def fail(message: str) -> Any:
    raise InputError(message)


def test_a_process_that_does_not_come_up(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="does not come up beside an actor"):
        Alone(partial(fail, "no such weights"))(Image("innocent.jpg", b""))
    assert "no such weights" in capfd.readouterr().err


@dataclass(frozen=True)
class Long:
    """Says who it is and works for long.

    Attributes:
        log: file for the number of its process.
    """

    log: Path

    def __call__(self) -> Estimate:
        return self.estimate

    def estimate(self, task: Task) -> Found:
        self.log.write_text(str(os.getpid()))
        time.sleep(100)
        return Found()


def test_a_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    code = f"from batch.test_estimate import *; Alone(Long(Path({log!r})))(Image('', b''))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", f"if __name__ == '__main__': exec({code!r})"], env=environment)
    latest = time.monotonic() + 60
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text():
        assert time.monotonic() < latest and parent.poll() is None
        time.sleep(0.01)
    child = int((tmp_path / "log").read_text())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while _runs(child):
        assert time.monotonic() < latest
        time.sleep(0.01)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_recipes_make_the_same_network_or_none() -> None:
    make = partial(Predictor, "lpn50.coco_128x96_int8", detector=None, threads=1)
    predictor = make()
    image = encoded(four_colours())
    found = Recipe(make, predictor.provenance["sha256"], None)()(image)
    np.testing.assert_array_equal(found.persons[0]["keypoints_x"], predictor(io.BytesIO(image.data)).keypoints[0, :, 0])
    with pytest.raises(InputError, match=r"is another file on this machine \(SHA-256 .*, not 00\)"):
        Recipe(make, "00", None)()
