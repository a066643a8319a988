"""The model and detector "auto": the strongest on this machine, and choosing by speed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leanpose.commands.choose as choose
import leanpose.weights.catalogue as catalogue
from leanpose import Predictor
from leanpose.commands.choose import fast_enough
from leanpose.commands.cli import main
from leanpose.errors import InputError
from leanpose.inference.engines import load_engine
from leanpose.inference.predictor import DETECTORS, MODELS
from leanpose.weights.catalogue import on_this_machine
from leanpose.weights.public import BEST, PUBLIC
from leanpose.weights.record import Weights

ASTRONAUT = Path(__file__).parents[2] / "docs" / "assets" / "astronaut.png"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set; public weights whose names are put into it lie on this machine."""
    names: set[str] = set()
    monkeypatch.setattr(catalogue, "local_file", lambda row: Path(row.name) if row.name in names else None)
    return names


class Empty:
    """A network that finds nothing, with the record of public weights."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        if self.weights.task == "detection":
            return {"dets": np.zeros((1, 0, 5), np.float32), "labels": np.zeros((1, 0), np.int64)}
        h, w = (2 * side for side in self.weights.input_size)
        k = len(self.weights.keypoint_set)
        return {"simcc_x": np.zeros((len(images), k, w)), "simcc_y": np.zeros((len(images), k, h))}


def test_orders_hold_public_weights_of_the_right_task_and_end_with_ours() -> None:
    assert {PUBLIC[name].record.task for name in MODELS[:-1]} == {"top_down"}
    assert {PUBLIC[name].record.task for name in DETECTORS[:-1]} == {"detection"}
    assert (MODELS[-1], DETECTORS[-1]) == ("sfm", "sfm_persons")
    assert BEST[0] in MODELS and BEST[1] in DETECTORS


def test_the_first_that_is_here(here: set[str], networks: dict[str, Any]) -> None:
    assert on_this_machine(MODELS) == ["sfm"]
    here |= {"rtmpose_s", "rtmpose_t", "yolox_tiny"}
    assert on_this_machine(MODELS) == ["rtmpose_s", "rtmpose_t", "sfm"]
    networks |= {name: Empty(PUBLIC[name].record) for name in here}
    predictor = Predictor()
    assert predictor.weights.name == "rtmpose_s"
    assert predictor.provenance["detector"] == "yolox_tiny"
    assert len(predictor(ASTRONAUT)) == 0
    assert Predictor(engine="torch", detector=None).weights.model == "sfm"  # torch cannot run public files


@pytest.mark.parametrize(
    ("fps", "chosen"),
    [
        (1, ("rtmpose_m", "yolox_m")),
        (6, ("rtmpose_m", "yolox_tiny")),  # the model counts more than the detector
        (15, ("sfm", "yolox_tiny")),
        (1000, ("sfm", "sfm_persons")),  # none is fast enough: the fastest
    ],
)
def test_chosen_by_speed(
    fps: float, chosen: tuple[str, str], here: set[str], networks: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    here |= {"rtmpose_m", "yolox_m", "yolox_tiny"}
    seconds = {"rtmpose_m": 0.1, "sfm": 0.01, "yolox_m": 0.4, "yolox_tiny": 0.05, "sfm_persons": 0.02}
    networks |= {name: Empty(PUBLIC[name].record) for name in here}
    monkeypatch.setattr(choose, "load_engine", lambda name, *_: networks.get(name) or load_engine(name))
    times = iter([seconds[name] for name in ("rtmpose_m", "sfm", "yolox_m", "yolox_tiny", "sfm_persons")])
    monkeypatch.setattr(choose, "_seconds", lambda call: (call(), next(times))[1])
    assert fast_enough(fps, "auto", 1, "cpu") == chosen
    assert " with ".join(chosen) in capsys.readouterr().err


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan")])
def test_no_such_speed(fps: float) -> None:
    with pytest.raises(InputError, match="--fps must be above 0"):
        fast_enough(fps, "auto", 1, "cpu")


def test_the_command_line_advises_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEANPOSE_WEIGHTS", str(tmp_path / "weights"))
    shutil.copy(ASTRONAUT, tmp_path / "a.png")
    predict = ["predict", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--format", "json"]
    assert main(predict) == 0
    assert "`leanpose download best` (rtmpose_m and yolox_tiny, 75 MB" in capsys.readouterr().err
    assert main(predict) == 0
    assert "download best" not in capsys.readouterr().err


def test_fps_and_a_model_contradict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(ASTRONAUT), "--out", str(tmp_path / "out"), "--fps", "5", "--model", "lpn50"]) == 2
    assert "--fps chooses model and detector" in capsys.readouterr().err


def test_keypoints_of_another_set_by_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["predict", str(ASTRONAUT), "--out", str(out), "--format", "csv", "--model", "lpn50.coco_128x96_int8"]
    assert main([*arguments, "--boxes", "image", "--keypoints", "crowdpose"]) == 0
    header = (out / "poses.csv").read_text().splitlines()[0]
    assert "left_knee_x" in header and "neck_x" in header and "left_eye_x" not in header
    assert main([*arguments, "--keypoints", "crowdpos"]) == 2
    assert "Did you mean 'crowdpose'?" in capsys.readouterr().err
