"""The lines of docs/devices.md for files of other projects' runtimes; skipped where these are not installed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for package in ("torch", "ncnn", "pnnx"):
    pytest.importorskip(package)

import leanpose  # noqa: E402
from leanpose.deploy.export import export  # noqa: E402
from leanpose.inference.predictor import Predictor  # noqa: E402


def test_the_lines_for_ncnn_in_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(leanpose.__file__).parent.parent
    block = (root / "docs/devices.md").read_text().rpartition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    shutil.copy(root / "docs/assets/astronaut.png", "photo.png")
    export("lpn50", to="ncnn", out="lpn50.ncnn.param")
    names: dict[str, Any] = {}
    exec(block, names)
    expected = Predictor("lpn50", engine="torch", threads=1, detector=None)("photo.png", [100, 20, 360, 360])
    distances = np.linalg.norm(np.array(names["keypoints"]) - expected.keypoints[0], axis=1)
    assert distances[:5].max() < 5  # the face's, image pixels; a heatmap pixel is 7 wide
