"""The README's commands and its example are run, on the demo image in place of the reader's own, and a clip of it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from clips import make_clip

import leanpose
from leanpose.commands.cli import main

ROOT = Path(leanpose.__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
PREDICTIONS = [
    line.partition("#")[0] for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if "predict" in line
]
VIDEO = "clip.mp4"


def put_images(folder: Path) -> None:
    """Put what the README's commands name into a folder."""
    image = (ROOT / "docs/assets/astronaut.png").read_bytes()
    (folder / "holiday").mkdir()
    for name in ("photo.jpg", "holiday/beach.png"):
        (folder / name).write_bytes(image)
    (folder / "boxes.json").write_text('{"beach.png": [[20, 10, 380, 512]]}')


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    put_images(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", PREDICTIONS)
def test_predict_lines_run(desk: Path, line: str) -> None:
    if VIDEO in line:
        make_clip(desk / VIDEO, [leanpose.read_image(desk / "photo.jpg")] * 2)
    assert main(shlex.split(line)[1:]) == 0
    assert any((desk / "poses").iterdir())


def test_there_are_lines_to_run() -> None:
    assert len(PREDICTIONS) == 4 and VIDEO in PREDICTIONS[-1]


def test_the_example_runs(desk: Path) -> None:
    (example,) = [text for kind, text in BLOCKS if kind == "python"]
    names: dict[str, object] = {}
    exec(example, names)
    assert repr(names["poses"]) == "Poses(1 person, 17 coco keypoints)"
    assert names["drawn"].shape == names["image"].shape  # type: ignore[attr-defined]


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()
