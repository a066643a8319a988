"""The files around the package agree with one another and can be read by those who read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import leanpose

yaml = pytest.importorskip("yaml")

ROOT = Path(leanpose.__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PYTHONS = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(file: str | Path) -> Any:
    return yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))


def test_the_version_is_one() -> None:
    (version,) = re.findall(r'^version = "(.+)"$', PROJECT, flags=re.MULTILINE)
    assert leanpose.__version__ == version
    assert read("CITATION.cff")["version"] == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_workflow_tests_the_oldest_and_the_newest_python() -> None:
    job = read(".github/workflows/test.yml")["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == [PYTHONS[0], PYTHONS[-1]]
    assert f'requires-python = ">={PYTHONS[0]}"' in PROJECT
    assert "make test" in [step.get("run") for step in job["steps"]]


def test_commits_are_checked_by_the_same_ruff() -> None:
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert f"\nruff=={repository['rev'].removeprefix('v')}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_forms_for_issues_ask_something(form: Path) -> None:
    content = read(form)
    assert content["name"] and content["description"]
    assert any(field.get("validations", {}).get("required") for field in content["body"])
    assert all(field["attributes"]["label"] for field in content["body"])


def test_there_are_forms_for_issues() -> None:
    assert [form.stem for form in FORMS] == ["bug", "feature"]


def test_type_checkers_are_told_of_our_types() -> None:
    assert (ROOT / "leanpose" / "py.typed").exists()


def test_every_public_name_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: leanpose\.(\w+)$", reference, flags=re.MULTILINE)) == sorted(leanpose.__all__)
