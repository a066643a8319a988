"""The Dockerfile, which no check here builds: what it copies is there, let through, and all that a build needs."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
COPIED = [
    name for line in DOCKERFILE if line.startswith("COPY ") and "--from" not in line for name in line.split()[1:-1]
]


def test_what_it_copies_is_there_and_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored  # all but what is named
    assert {line[1:] for line in ignored if line.startswith("!")} == set(COPIED)
    assert all((ROOT / name).exists() for name in COPIED)


def test_it_copies_all_that_a_wheel_is_made_of() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for line in ('packages = ["leanpose"]', '"recipes" = ', 'readme = "README.md"', '["LICENSE", "licenses/*"]'):
        assert line in project  # as the next line expects
    assert {*COPIED} == {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "licenses", "recipes", "leanpose"}


def test_its_last_stage_runs_the_server_as_a_user_without_tools_to_build() -> None:
    last = DOCKERFILE[max(i for i, line in enumerate(DOCKERFILE) if line.startswith("FROM ")) :]
    assert any(line.startswith("USER 1") for line in last)
    assert any(line.startswith("HEALTHCHECK ") and "/healthz" in line for line in last)
    assert not any(word in line for line in last for word in ("apt-get", "pip ", "npm"))
    assert last[-1].startswith('ENTRYPOINT ["leanpose", "serve"')
