"""What surrounds the code: API page, notebook, workflow, citation, types."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import leanpose

ROOT = Path(leanpose.__file__).parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_api_page_has_every_public_name() -> None:
    shown = re.findall(r"^::: leanpose\.(.+)\.(\w+)$", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: home for home, name in shown} == leanpose._HOME


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((ROOT / "docs/quickstart.ipynb").read_text(encoding="utf-8"))
    (tmp_path / "assets").mkdir()
    shutil.copy(ROOT / "docs/assets/astronaut.png", tmp_path / "assets")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            exec("".join(cell["source"]), names)
    assert len(names["poses"]) == 1 and names["drawn"].shape == names["image"].shape
    assert 0.2 < names["figures"]["AP"] <= 1
    assert "AP " in capsys.readouterr().out


def test_the_workflow_tests_the_first_and_the_last_python_that_are_promised() -> None:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["test"]
    promised = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
    assert job["strategy"]["matrix"]["python"] == [promised[0], promised[-1]]
    assert any(step.get("run", "").startswith("make test") for step in job["steps"])


def test_versions_agree() -> None:
    yaml = pytest.importorskip("yaml")
    (version,) = re.findall(r'^version = "(.+)"$', PROJECT, re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (ruff,) = re.findall(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"rev: v{ruff} " in hooks


def test_types_are_shipped() -> None:
    assert (ROOT / "leanpose/py.typed").is_file()
