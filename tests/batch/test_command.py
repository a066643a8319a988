"""`leanpose batch`: what is wrong with a command line is said before anything is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from batch.stubs import write_images

from leanpose.commands.cli import main

NETWORK = ["--model", "lpn50.coco_128x96_int8", "--boxes", "image"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["images"], "Say with --out where the results go."),
        (["images", "--out", "out", "--dry-run"], "--dry-run writes nothing: leave --out out."),
        (["images", "--out", "out", "--boxes", "all"], "--boxes is 'found' or 'image', not 'all'."),
        (["images", "--out", "out", "--actors", "0"], "must be at least 1."),
        (["images", "--out", "out", "--threads", "0"], "must be at least 1."),
        (["images", "--dry-run", "--samples", "-1"], "must be at least 1."),
        (["images", "--out", "out", "--frame-rate", "-1"], "--frame-rate and --price must be 0 or above."),
        (["images", "--dry-run", "--price", "-0.1"], "--frame-rate and --price must be 0 or above."),
        (["images", "--out", "out", "--frame-rate", "nan"], "--frame-rate cannot be 'nan'"),
        (["images", "--out", "out", "--frame-rate", "fast"], "--frame-rate cannot be 'fast'"),
        (["images", "--out", "out", "--actor", "2"], "Did you mean '--actors'?"),
        (["images", "--out", "out", "--model", "lpn5"], "lpn5"),
        (["images", "--out", "out", "--keypoints", "cocoa"], "cocoa"),
        (["no", "--out", "out"], "There is no no; check the path."),
        (["empty", "--out", "out"], "empty holds no images, tar files or videos."),
        (["images", "list.csv", "--out", "out"], "list.csv has the columns a, b; say with --column"),
        (["images", "--out", "list.csv"], "list.csv is a file; choose a folder for the results."),
        (["images", "--out", "list.csv/out"], "list.csv/out cannot be written (Not a directory)"),
        (["images", "--out", "empty/../images"], "holds 000.png, but no job of leanpose; choose another --out."),
        (["images", "--out", "nothing://a"], "nothing://a cannot be reached: Protocol not known: nothing."),
        (["nothing://a", "--out", "out"], "nothing://a cannot be reached: Protocol not known: nothing."),
    ],
)
def test_wrong_options(
    words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images", 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("a,b\n1,2\n")
    network = [] if "--model" in words else NETWORK[:2]
    boxes = [] if "--boxes" in words else NETWORK[2:]
    assert main(["batch", *words, *network, *boxes]) == 2
    printed = capsys.readouterr()
    assert reason in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert files == ["empty", "images", "images/000.png", "images/001.png", "list.csv"]


def test_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not os.path.exists("/proc/self"):
        pytest.skip("needs a place where nothing can be made")
    write_images(tmp_path, 1)
    assert main(["batch", str(tmp_path), "--out", "/proc/self/out", *NETWORK]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_other_options_than_those_of_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from leanpose.batch.job import Work, planned
    from leanpose.batch.store import Store
    from leanpose.inference.predictor import Predictor

    write_images(tmp_path / "images", 2)
    work = Work(Predictor(NETWORK[1], detector=None, threads=1), 1.0)
    planned(Store(str(tmp_path / "out")), [str(tmp_path / "images")], None, work)
    capsys.readouterr()
    line = ["batch", str(tmp_path / "images"), "--out", str(tmp_path / "out"), *NETWORK]
    for options, reason in (
        (["--flip-test"], "flip_test False, not True"),
        (["--frame-rate", "0"], "frame_rate 1.0, not none"),
    ):
        assert main([*line, *options]) == 2
        assert capsys.readouterr().err == f"leanpose: {tmp_path}/out holds a job with {reason}; choose another --out.\n"


def test_names_mean_the_same_to_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors do not run in the folder where the command line was typed."""
    import shutil

    import leanpose.commands.batch as command
    from leanpose.weights.catalogue import find_weights

    seen: list[Any] = []
    monkeypatch.setattr(command, "planned", lambda store, *rest: seen.append(store))
    monkeypatch.setattr(command, "run", lambda store, parts, work, cluster: seen.append(work))
    monkeypatch.chdir(tmp_path)
    shutil.copy(find_weights(NETWORK[1]), "my.onnx")
    assert main(["batch", "images", "--out", "out", "--model", "my.onnx", "--boxes", "image"]) == 0
    store, work = seen
    assert store.address == str(tmp_path / "out")
    monkeypatch.chdir("/")
    assert work.worker(None, None).args[0]().predictor.weights.model == "lpn50"
