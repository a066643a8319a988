"""Examples of the pages in docs run as they stand there, on the demo image in place of the reader's own."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import make_clip

import leanpose
from leanpose import Predictor
from leanpose.inference.preprocess import box_inputs
from leanpose.weights.catalogue import BUNDLED_FOLDER

ROOT = Path(leanpose.__file__).parent.parent
FACE = 5  # nose, eyes and ears come first in COCO's set


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "docs/assets/astronaut.png", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", blocks("index.md"), ids=["dictionaries", "OpenCV"])
def test_the_quickstart(block: str, desk: Path) -> None:
    exec(block, {})


def test_video(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photograph = leanpose.read_image("photo.jpg")
    make_clip(desk / "clip.mp4", [photograph] * 3)
    (block,) = blocks("video.md")
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["drawn"].shape == photograph.shape
    assert re.match(r"0\.00 s: person 1 has the nose at 2\d\d, 1\d\d\n0\.10 s: person 1 ", capsys.readouterr().out)


def test_onnx_without_leanpose(desk: Path) -> None:
    shutil.copy(BUNDLED_FOLDER / "lpn50.coco_256x192_int8.onnx", desk)
    (block,) = blocks("onnx.md")
    assert "import leanpose" not in block and "from leanpose" not in block
    names: dict[str, Any] = {}
    exec(block, names)

    box = np.array([[names[side] for side in ("left", "top", "right", "bottom")]])
    predictor = Predictor("lpn50.coco_256x192_int8")
    inputs, _ = box_inputs(np.ascontiguousarray(names["image"]), box, predictor.weights)
    np.testing.assert_allclose(names["pixels"].transpose(2, 0, 1), inputs[0], atol=1e-5)

    poses = predictor("photo.jpg", boxes=box)
    distances = np.linalg.norm(names["keypoints"] - poses.keypoints[0], axis=1)
    assert distances[:FACE].max() < 4.5  # image pixels; 4.1 measured, and a heatmap pixel is 7 wide
    assert poses.raw_scores is not None
    np.testing.assert_allclose(names["heatmaps"].max(axis=(1, 2)), poses.raw_scores[0], atol=1e-3)
    np.testing.assert_allclose(names["scores"], poses.scores[0], atol=2e-3)


@pytest.mark.parametrize("block", blocks("results-formats.md"), ids=["files", "pandas", "xarray", "angles"])
def test_results_of_videos(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("pandas", "xarray"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["made_up_walker.py", "walker.jsonl"])
    runpy.run_path(str(ROOT / "benchmarks/made_up_walker.py"), run_name="__main__")
    exec(block, {})
    printed = capsys.readouterr().out
    assert printed
    if "differentiate" in block:
        speed = int(printed.split()[0])
        assert 165 <= speed <= 175  # made: 170
