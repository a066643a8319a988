"""The examples of docs/serve.md, run as they stand against a service."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve.serving import serving

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
ASTRONAUT = PAGE.parent / "assets" / "astronaut.png"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with the photos that the examples name, and the address of a service."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("photo.jpg", "other.jpg"):
        shutil.copy(ASTRONAUT, folder / name)
    with serving("lpn50") as address:
        yield folder, address


def examples(language: str) -> str:
    (block,) = [
        block for block in re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL) if "/v1/poses" in block
    ]
    return block


def run(place: tuple[Path, str], *words: str) -> str:
    folder, address = place
    line = [word.replace("http://127.0.0.1:8000/", address) for word in words]
    return subprocess.run(line, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(place: tuple[Path, str]) -> None:
    answers = [run(place, "sh", "-c", line) for line in examples("sh").splitlines()]
    alone, other, two, boxed = map(json.loads, answers[:4])
    assert len(alone["persons"]) == len(boxed["persons"]) == 1
    assert alone["persons"] == other["persons"] == two[0]["persons"] == two[1]["persons"]
    assert boxed["persons"][0]["box_xyxy"] == [120, 40, 380, 470]
    assert (place[0] / "drawn.jpg").read_bytes().startswith(b"\xff\xd8")


def test_python(place: tuple[Path, str]) -> None:
    assert "{'x': " in run(place, sys.executable, "-c", examples("python"))


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_javascript(place: tuple[Path, str]) -> None:
    file = 'const file = new Blob([require("node:fs").readFileSync("photo.jpg")]);'
    code = f"(async () => {{ {file} {examples('javascript')} }})()"
    assert "score: " in run(place, "node", "-e", code)
