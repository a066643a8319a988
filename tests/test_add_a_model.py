"""Who follows docs/add-a-model.md to the letter has a network that passes the tests of all networks, and trains."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import leanpose

pytest.importorskip("lightning")
pytest.importorskip("onnxscript")

ROOT = Path(leanpose.__file__).parents[1]
PAGE = (ROOT / "docs" / "add-a-model.md").read_text(encoding="utf-8")
NETWORK_FILE, ENTRY = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
(RECIPE,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
SHOW, TRAIN = (shlex.split(line) for line in re.findall(r"^    leanpose (.+)$", PAGE, flags=re.MULTILINE))
END = "}  # fmt: skip\n"  # of the table of networks


def run(folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the network that the page adds."""
    copy = tmp_path_factory.mktemp("repository")
    for folder in ("leanpose", "tests", "docs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "weights").symlink_to(ROOT / "weights")

    (named,) = re.findall(r"^`(leanpose/models/\w+\.py)`", PAGE, flags=re.MULTILINE)
    (copy / named).write_text(NETWORK_FILE, encoding="utf-8")
    table = copy / "leanpose" / "networks.py"
    before, end, after = table.read_text(encoding="utf-8").rpartition(END)
    entry = ENTRY.partition("    ...\n")[2].removesuffix(END)
    assert end and entry
    table.write_text(before + entry + end + after, encoding="utf-8")
    row = run(copy, "leanpose", *SHOW).splitlines()[-1]
    networks = copy / "docs" / "networks.md"
    networks.write_text(f"{networks.read_text(encoding='utf-8').rstrip()}\n{row}\n", encoding="utf-8")
    return copy


def test_the_tests_of_all_networks_take_it(repository: Path) -> None:
    files = ("tests/models/test_models.py", "tests/commands/test_models.py", "tests/test_architecture.py")
    chosen = "mobile_baseline or in_the_table or show_the_table or has_a_row"
    printed = run(repository, "pytest", "-v", "-p", "no:cacheprovider", *files, "-k", chosen)
    for test in (
        "test_forward_and_backward[mobile_baseline]",
        "test_the_table_has_these_counts[mobile_baseline]",
        "test_every_constructor_is_in_the_table",
        "test_every_network_has_a_row",
        "test_the_docs_show_the_table_as_it_is",
        "test_every_network_names_its_paper_and_source[mobile_baseline.py]",
    ):
        assert f"{test} PASSED" in printed


def test_it_has_no_fault_of_style(repository: Path) -> None:
    for words in (("check",), ("format", "--check")):
        run(repository, "ruff", *words, "--no-cache", "leanpose/models/mobile_baseline.py", "leanpose/networks.py")


def test_its_recipe_trains(repository: Path, people: Callable[..., tuple[Path, Path]]) -> None:
    (repository / "coco").mkdir()
    annotations, images = people(count=2)
    shutil.copytree(images, repository / "coco" / "images")
    for name in ("train.json", "val.json"):
        shutil.copy(annotations, repository / "coco" / name)
    (repository / TRAIN[1]).write_text(RECIPE, encoding="utf-8")
    run(repository, "leanpose", *TRAIN, "epochs=1", "batch_size=2", "accelerator=cpu", "threads=1")
    (weights,) = set(re.findall(r"`(\S+/best\.safetensors)`", re.sub(r"\s+", " ", PAGE)))
    assert (repository / weights).exists()
