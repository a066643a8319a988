"""Rules of the package that no linter knows. Who may import whom is in pyproject.toml (import-linter)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import leanpose
from leanpose.errors import install_line

PACKAGE = Path(leanpose.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NOT_NETWORKS = {"__init__.py", "layers.py", "counts.py", "batch_norm.py", "checkpoints.py"}
NOT_NETWORKS |= {"litepose_arch.py", "onnx_layers.py"}
NETWORKS = [path for path in sorted((PACKAGE / "models").glob("*.py")) if path.name not in NOT_NETWORKS]

# All that an application needs; these folders and modules work without the extra "train".
WITHOUT_TORCH = (
    *("codecs", "data", "evaluation", "inference", "io", "metrics", "tracking", "video", "weights"),
    *(
        "commands/cli.py",
        "commands/angles.py",
        "commands/boxes.py",
        "commands/download.py",
        "commands/models.py",
        "commands/predict.py",
        "commands/predict_video.py",
    ),
    "models/litepose_arch.py",
)
NEED_TORCH = {"torch", "lightning", "safetensors", "onnx", "faster_coco_eval", "yaml"}


def loaded_by(*modules: str) -> set[str]:
    """Names of all modules that a fresh Python holds after importing these."""
    code = f"import sys, {', '.join(modules)}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_inference_does_not_import_torch() -> None:
    files = [*PACKAGE.glob("*.py"), *(PACKAGE / name for name in WITHOUT_TORCH if name.endswith(".py"))]
    files += [file for name in WITHOUT_TORCH for file in (PACKAGE / name).rglob("*.py")]
    modules = [".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in files]
    loaded = loaded_by(*(module.removesuffix(".__init__") for module in modules if module != "leanpose.__main__"))
    assert "leanpose.inference.predictor" in loaded
    assert not loaded & NEED_TORCH


def test_the_top_floor_is_small() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 12


def test_the_package_itself_imports_next_to_nothing() -> None:
    assert not loaded_by("leanpose") & {"torch", "cv2", "onnxruntime", "scipy"}


def test_all_names_are_there_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import leanpose\nfrom leanpose import *\n"
        "assert hasattr(leanpose, 'create_model') and 'lpn50' in list_models() and leanpose.__version__\n"
        "try: create_model('lpn50')\n"
        "except MissingPackageError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert install_line("train") in run.stdout


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
    *("Poses", "Frame", "Sample", "Weights", "Predictor", "Video", "load_engine"),
    *("read_image", "write_image", "draw_poses"),
    *("create_codec", "create_model", "list_models"),
}


def test_public_names_are_pinned_and_importable() -> None:
    assert set(leanpose.__all__) == PUBLIC_NAMES
    for name in PUBLIC_NAMES:
        assert getattr(leanpose, name).__module__.startswith("leanpose") or name.isupper()
