"""The wheel, not the clone: installed alone in a new environment, it does what the README says."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from test_readme import BLOCKS, PREDICTIONS, ROOT, VIDEO, put_images


def run(words: list[str], folder: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=folder, env=clean | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, since building leaves files behind
    for name in ("leanpose", "recipes", "licenses"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(source)], folder)
    (file,) = folder.glob("*.whl")
    return file


def link_requirements(package: Distribution, site: Path) -> None:
    """Link what a package requires, and what that requires, extras aside, into a folder of packages."""
    for requirement in map(Requirement, package.requires or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            required = distribution(requirement.name)
            for part in {file.parts[0] for file in required.files or ()} - {"..", "__pycache__"}:
                if not (site / part).exists():
                    (site / part).symlink_to(str(required.locate_file(part)))
            link_requirements(required, site)


def test_the_base_install_runs_the_readme(wheel: Path, tmp_path: Path) -> None:
    """Its requirements are linked, not installed, which would take most of the time."""
    run([sys.executable, "-m", "venv", "--without-pip", "env"], tmp_path)
    programs = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    python = str(programs / "python")
    run([sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", str(wheel)], tmp_path)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run([python, "-c", code], tmp_path).strip())
    (installed,) = site.glob("leanpose-*.dist-info")
    link_requirements(Distribution.at(installed), site)
    put_images(tmp_path)
    for line in PREDICTIONS:
        if VIDEO in line:  # which needs an extra
            continue
        run([str(programs / "leanpose"), *shlex.split(line)[1:]], tmp_path)
    assert any((tmp_path / "poses").iterdir())
    (example,) = [text for kind, text in BLOCKS if kind == "python"]
    run([python, "-c", example], tmp_path)
    assert "lpn50" in run([str(programs / "leanpose"), "models"], tmp_path)
    code = "import importlib.util as found; print(found.find_spec('torch'))"
    assert run([python, "-c", code], tmp_path).strip() == "None"


def test_it_holds_the_page_with_the_files_that_the_build_put_there(wheel: Path) -> None:
    page = ROOT / "leanpose" / "serve" / "page"
    files = {file.relative_to(ROOT).as_posix() for file in page.rglob("*") if file.is_file()}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert files <= names
    if not any("/vendor/" in file for file in files):
        pytest.skip("this clone was installed without the browser's files")
    for package, file in (("onnxruntime-web", "ort-wasm-simd-threaded.wasm"), ("swagger-ui-dist", "swagger-ui.css")):
        folder = f"leanpose/serve/page/vendor/{package}"
        assert {f"{folder}/{file}", f"{folder}/LICENSE"} <= names


TRAINER = """
import leanpose
from leanpose.models.checkpoints import load_network
from leanpose.training.recipe import find_recipe
from leanpose.weights.catalogue import find_weights
print(leanpose.__file__, find_recipe("lpn50_coco"), sep="\\n")
file = find_weights("sfm", ".safetensors")
load_network(file)
print(file)
"""


def test_with_torch_it_has_a_network_to_train_and_to_export_and_the_recipes(wheel: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    files = run([sys.executable, "-c", TRAINER], tmp_path, PYTHONPATH=str(site)).splitlines()
    assert len(files) == 3 and all(Path(file).is_relative_to(site) for file in files)
