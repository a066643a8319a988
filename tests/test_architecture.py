"""Rules of the package that no linter knows. Who may import whom is in pyproject.toml (import-linter)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import leanpose

PACKAGE = Path(leanpose.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NOT_NETWORKS = {"__init__.py", "layers.py", "counts.py", "batch_norm.py"}
NETWORKS = [path for path in sorted((PACKAGE / "models").glob("*.py")) if path.name not in NOT_NETWORKS]

# All that an application needs; these work without the extra "train".
WITHOUT_TORCH = (
    "leanpose",
    "leanpose.boxes",
    "leanpose.cli",
    "leanpose.codecs",
    "leanpose.data.annotations",
    "leanpose.data.coco_style",
    "leanpose.data.mpii",
    "leanpose.draw",
    "leanpose.evaluate",
    "leanpose.bottom_up",
    "leanpose.detect",
    "leanpose.preprocess",
    "leanpose.top_down",
    "leanpose.geometry",
    "leanpose.losses",
    "leanpose.metrics",
    "leanpose.model_table",
    "leanpose.pckh",
    "leanpose.pictures",
    "leanpose.predict",
    "leanpose.runtime",
    "leanpose.structures",
    "leanpose.weights",
)


def loaded_by(*modules: str) -> set[str]:
    """Names of all modules that a fresh Python holds after importing these."""
    code = f"import sys, {', '.join(modules)}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_inference_does_not_import_torch() -> None:
    loaded = loaded_by(*WITHOUT_TORCH)
    assert loaded >= set(WITHOUT_TORCH)
    assert not loaded & {"torch", "lightning", "safetensors", "onnx", "faster_coco_eval"}


def test_the_package_itself_imports_next_to_nothing() -> None:
    assert not loaded_by("leanpose") & {"torch", "cv2", "onnxruntime", "scipy"}


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.name)
def test_every_network_names_its_paper_and_source(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    for what in ("Paper:", "arXiv", "Original:", "Differs:"):
        assert what in docstring, f"the docstring that opens {path.name} lacks '{what}'"


def test_files_are_named_after_their_topic() -> None:
    vague = {"utils", "util", "core", "common", "helpers", "helper", "base", "misc"}
    names = [path.relative_to(PACKAGE) for path in FILES]
    assert not [name for name in names if vague & {part.removesuffix(".py") for part in name.parts}]


PUBLIC_NAMES = {
    *("COCO", "CROWDPOSE", "LSP", "MPII", "KeypointSet", "get_keypoint_set"),
    *("LeanposeError", "InputError", "WeightsError", "MissingPackageError"),
    *("Poses", "Sample", "Weights", "Predictor", "load_engine", "read_picture", "draw_poses"),
    *("create_codec", "create_model", "list_models"),
}


def test_public_names_are_pinned_and_importable() -> None:
    assert set(leanpose.__all__) == PUBLIC_NAMES
    for name in PUBLIC_NAMES:
        assert getattr(leanpose, name).__module__.startswith("leanpose") or name.isupper()
