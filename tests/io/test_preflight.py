"""What is missing is said first: packages, files, folders, rights and room, before a verb works."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import leanpose.evaluation.evaluate as evaluation
from leanpose.commands.cli import main
from leanpose.errors import InputError, MissingPackageError, install_line
from leanpose.evaluation.evaluate import evaluate
from leanpose.io.preflight import check_needs

MakePeople = Callable[..., tuple[Path, Path]]
OPTIONAL = (
    "torch",
    "lightning",
    "yaml",
    "faster_coco_eval",
    "onnx",
    "onnxscript",
    "safetensors",
    "tensorboard",
    "h5py",
)


def on_base_install(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a Python that has only what the base install brings."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({OPTIONAL}))\n"  # so that importing them fails
        "from leanpose.commands.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "lpn50", "--data", "{annotations}", "--images", "{images}"),
        ("export", "lpn50", "--out", "{folder}/a.onnx"),
        ("quantize", "lpn50", "--data", "{annotations}", "--images", "{images}", "--out", "{folder}/a.onnx"),
        ("convert", "a.pth", "--model", "lpn50", "--out", "{folder}/a.safetensors"),
        ("train", "lpn50_mini"),
        ("models", "lpn50", "--measure"),
    ],
    ids=lambda words: words[0],
)
def test_a_base_install_says_what_to_install(words: tuple[str, ...], people: MakePeople, tmp_path: Path) -> None:
    annotations, images = people(count=1)
    places = {"annotations": annotations, "images": images, "folder": tmp_path / "new"}
    run = on_base_install(*(word.format(**places) for word in words))
    assert run.returncode == 2 and run.stdout == ""
    (line,) = run.stderr.splitlines()  # so no progress either
    assert line.startswith("leanpose: This needs the package ")
    assert line.endswith(install_line("train"))
    assert not places["folder"].exists()


def test_a_base_install_lists_the_networks() -> None:
    run = on_base_install("models", "lpn50", "--format", "json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)[0]["name"] == "lpn50"


def no_work(*_: Any, **__: Any) -> Any:
    raise AssertionError("the work began")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": "absent.json"}, InputError, r"There is no file absent\.json"),
        ({"images": "absent"}, InputError, "There is no folder absent"),
        ({"out": "{file}"}, InputError, "cannot be written"),
        ({"out": "{file}/further"}, InputError, "cannot be written"),
    ],
)
def test_evaluate_looks_before_it_loads(
    change: dict[str, str],
    error: type[Exception],
    message: str,
    people: MakePeople,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("faster_coco_eval")
    annotations, images = people(count=1)
    monkeypatch.setattr(evaluation, "Predictor", no_work)
    wanted = {"data": str(annotations), "images": str(images)}
    wanted |= {key: value.format(file=annotations) for key, value in change.items()}
    with pytest.raises(error, match=message):
        evaluate("lpn50", **wanted)  # type: ignore[arg-type]


def test_evaluate_misses_an_image_before_it_predicts(people: MakePeople, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faster_coco_eval")
    annotations, images = people(count=3)
    last = sorted(images.iterdir())[-1]
    last.unlink()
    monkeypatch.setattr(evaluation, "predict_image", no_work)
    with pytest.raises(InputError, match=f"There is no file .*{last.name}"):
        evaluate("lpn50", data=str(annotations), images=str(images))


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingPackageError, match=r"the package onnxscript: pip install .*\[train\]"):
        check_needs(packages=("json", "onnxscript"))


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "new" / "deeper" / "a.onnx"
    check_needs(places=(deep, tmp_path / "a.onnx", tmp_path))
    assert list(tmp_path.iterdir()) == []  # looking leaves nothing behind
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=30_000_000))
    check_needs(places=(deep,), megabytes=29)
    with pytest.raises(InputError, match=r"a\.onnx needs about 31 MB, and .* has room for 30 MB: free space or choose"):
        check_needs(places=(deep,), megabytes=31)


def test_a_place_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # rights do not bind root, who may run the tests
    with pytest.raises(InputError, match=r"a\.json cannot be written \(Permission denied\); choose another place"):
        check_needs(places=(tmp_path / "a.json",))


@pytest.mark.parametrize(
    ("verb", "worker", "words"),
    [
        ("export", "deploy.export.load_network", ("lpn50", "--out", "{file}/a.onnx")),
        (
            "quantize",
            "deploy.quantize.load_network",
            ("lpn50", "--data", "{file}", "--images", ".", "--out", "{file}/a.onnx"),
        ),
        (
            "convert",
            "models.checkpoints.load_state",
            ("{checkpoint}", "--model", "lpn50", "--out", "{file}/a.safetensors"),
        ),
        ("train", "training.loop.read_sources", ("lpn50_mini", "out={file}/run")),
        ("benchmark", "commands.benchmark.load_engine", ("lpn50", "--out", "{file}/a.json")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_verb_looks_where_it_will_write(
    verb: str,
    worker: str,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch = pytest.importorskip("torch")
    file, checkpoint = tmp_path / "file.json", tmp_path / "a.pth"
    file.write_text("{}")
    torch.save({"final_layer.weight": torch.zeros(17, 1)}, checkpoint)
    monkeypatch.setattr(f"leanpose.{worker}", no_work)
    assert main([verb, *(word.format(file=file, checkpoint=checkpoint) for word in words)]) == 2
    assert f"{file}" in (said := capsys.readouterr().err) and "cannot be written" in said
