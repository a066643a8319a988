"""The tutorial's commands run as they stand on its page, in short: fewer images, one small epoch."""

from __future__ import annotations

import contextlib
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")

import leanpose
from leanpose.commands.cli import main

ROOT = Path(leanpose.__file__).parent.parent
PAGE = (ROOT / "docs" / "own-keypoints.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE, flags=re.DOTALL)
SHORTER = {  # what is put behind a command that begins so
    "python docs/tutorial/make_scissors.py": "--count 6",
    "leanpose train my/recipe.yaml": "samples_per_epoch=4 batch_size=4 stage_keys=[] epochs=1 input_size=[64,48]",
}


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line, comments=True)
    words += next((more.split() for start, more in SHORTER.items() if line.startswith(start)), [])
    program, *arguments = words
    if program == "leanpose":
        assert main(arguments) == 0, line
        return
    assert program == "python"
    script, *arguments = arguments
    with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(ROOT / script), run_name="__main__")


def test_from_the_export_to_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from leanpose.training import new

    monkeypatch.setattr(new, "seconds_per_person", lambda *_: 0.05)  # which takes longer than all that follows
    monkeypatch.chdir(tmp_path)
    for language, text in BLOCKS:
        if language == "python":
            exec(text, {})
            continue
        for line in text.splitlines():
            run(line, monkeypatch)
    assert "PCK@0.1" in capsys.readouterr().out
    made = ("check/check.html", "parts/test.json", "my/run/best.safetensors", "report/report.html", "poses/new.jpg")
    assert [file for file in (*made, "scissors.onnx") if not Path(file).is_file()] == []


def test_each_step_has_its_command() -> None:
    lines = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
    verbs = ("data check", "data convert", "data split", "train --new", "train my", "evaluate", "predict", "export")
    assert [verb for verb in verbs if not any(line.startswith(f"leanpose {verb}") for line in lines)] == []


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", PAGE))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / "docs" / target).exists()
