"""data check, split, show and stats: what they print and write, exit codes, and files of others that stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from leanpose.commands.cli import main
from leanpose.data.drawing import annotated_poses, drawn
from leanpose.data.lenient import read_leniently
from leanpose.io.images import read_image

MakePeople = Callable[..., tuple[Path, Path]]


def textured(file: Path, images: Path) -> None:
    """Give each image a background of its own, since images of `people` are alike, and hide one keypoint."""
    content = json.loads(file.read_text())
    content["annotations"][0]["keypoints"][2] = 1
    for i, image in enumerate(content["images"]):
        size = (image["width"], image["height"])
        patches = np.random.default_rng(i).integers(0, 255, (8, 8, 3), np.uint8)
        cv2.imwrite(str(images / image["file_name"]), cv2.resize(patches, size, interpolation=cv2.INTER_CUBIC))
    file.write_text(json.dumps(content))


@pytest.fixture
def data(people: MakePeople) -> tuple[Path, Path]:
    file, images = people(count=6)
    textured(file, images)
    return file, images


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_check_of_a_faultless_set(data: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    file, images = data
    assert run("data", "check", file, "--images", images, "--model", "none") == 0
    assert capsys.readouterr().out.splitlines() == [f"{file}: 6 images, 6 persons", "no faults"]


def test_check_tells_faults_in_words_json_and_a_page(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, images = data
    content = json.loads(file.read_text())
    content["annotations"][2]["bbox"][0] += 40
    content["annotations"][3]["keypoints"] = [1, 2, 3]
    file.write_text(json.dumps(content))
    val = tmp_path / "val.json"
    val.write_text(json.dumps(content | {"images": content["images"][:1], "annotations": []}))
    out = tmp_path / "out"
    words = ("data", "check", file, "--images", images, "--against", f"{val}={images}", "--model", "none", "--out", out)
    assert run(*words) == 1
    printed = capsys.readouterr().out
    assert "error: boxes that do not fit, 1: " in printed and "error: keypoint counts, 1: " in printed
    report = json.loads((out / "check.json").read_text())
    assert {one["kind"]: one["count"] for one in report["findings"]} == {
        "keypoint counts": 1, "boxes that do not fit": 1, "images in both sets": 1, "boxes beyond the edge": 1,
    }  # fmt: skip
    page = (out / "check.html").read_text()
    assert "boxes that do not fit (1)" in page and page.count("<img") == 4
    assert run(*words) == 1  # its own files may be replaced
    (out / "check.json").write_text("{}")
    assert run(*words) == 2
    assert "is not of leanpose data check" in capsys.readouterr().err


def test_check_with_a_network_that_knows_other_keypoints_says_so(
    data: tuple[Path, Path], rectangle_people: type, networks: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    file, images = data
    content = json.loads(file.read_text())
    content["categories"][0]["keypoints"] = [f"spot_{i}" for i in range(17)]
    file.write_text(json.dumps(content))
    assert run("data", "check", file, "--images", images, "--model", "lpn50") == 0
    assert "note: lpn50" in (printed := capsys.readouterr().out) and "warning: sigmas, 17" in printed
    networks["all"] = rectangle_people()
    assert run("data", "check", file, "--images", images, "--model", "all") == 2
    assert "looks at whole images" in capsys.readouterr().err


def test_split_writes_parts_and_never_over_others(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, images = data
    out = tmp_path / "out"
    words = ("data", "split", file, "--images", images, "--out", out, "--parts", "train=0.5,val=0.5", "--by", "scene")
    assert run(*words) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"{out / 'val.json'}: 3 images (50.0%), 3 persons"
    parts = [json.loads((out / f"{name}.json").read_text()) for name in ("train", "val")]
    assert sorted(image["id"] for part in parts for image in part["images"]) == [1, 2, 3, 4, 5, 6]
    assert run(*words) == 2
    assert "train.json is there already" in capsys.readouterr().err
    assert run("data", "split", file, "--images", images, "--out", tmp_path, "--parts", "a/b=1") == 2


def test_show_writes_sheets(data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, images = data
    assert run("data", "show", file, "--images", images, "--out", tmp_path / "sheets", "--only", "3.png,5") == 0
    assert "1 sheet of 2 images" in capsys.readouterr().out
    assert read_image(tmp_path / "sheets" / "sheet_001.png").shape[1] == 1280
    assert run("data", "show", file, "--images", images, "--out", tmp_path / "sheets") == 2
    assert run("data", "show", file, "--images", images, "--out", tmp_path, "--only", "9.png") == 2
    assert "There is no image '9.png'" in capsys.readouterr().err
    (tmp_path / "elsewhere").mkdir()
    assert run("data", "show", file, "--images", tmp_path / "elsewhere", "--out", tmp_path / "blank") == 2
    assert "elsewhere holds none of the images" in capsys.readouterr().err and not (tmp_path / "blank").exists()


def test_hidden_keypoints_look_different(data: tuple[Path, Path]) -> None:
    file, images = data
    content = json.loads(file.read_text())
    sheets = []
    for visibility in (0, 1, 2):
        content["annotations"][0]["keypoints"][2] = visibility
        poses = annotated_poses(read_leniently(content, "x.json", images), [0])
        sheets.append(drawn(np.zeros((120, 100, 3), np.uint8), poses))
    assert all((sheets[i] != sheets[i - 1]).any() for i in range(3))


def test_stats_counts_and_plots(data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    file, images = data
    assert run("data", "stats", file, "--images", images, "--out", tmp_path / "out") == 0
    assert "6 persons, 6 of them with keypoints" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "out" / "stats.json").read_text())
    nose = numbers["keypoints"]["nose"]
    assert (nose["labelled"], nose["visible"], nose["hidden"]) == (6, 5, 1) and 0 < nose["spread"] < 0.1
    assert numbers["persons_per_image"] == [0, 6]
    assert (tmp_path / "out" / "stats.html").read_text().count("<img") == 4
