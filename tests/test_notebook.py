"""The notebook runs from top to bottom, and is committed without results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import leanpose

pytest.importorskip("faster_coco_eval")
pytest.importorskip("matplotlib")

ROOT = Path(leanpose.__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
CODE = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]

LAST = """
assert len(poses) == 1 and person["keypoints"]["nose"]["score"] > 0.5
assert metrics["AP"] > 0.5
"""


def test_it_holds_no_results() -> None:
    assert CODE
    assert not any(cell["outputs"] or cell["execution_count"] for cell in CODE)


def test_it_runs(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    shutil.copy(ROOT / "docs" / "assets" / "astronaut.png", tmp_path / "assets")
    script = "\n".join(["".join(cell["source"]) for cell in CODE] + [LAST])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "TMPDIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "left_shoulder" in run.stdout and "AP" in run.stdout
