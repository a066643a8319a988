"""Boxes for `predict`: which entry of a file belongs to which image, and what cannot be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from leanpose.commands.boxes import read_boxes
from leanpose.commands.predict import predict_files
from leanpose.errors import InputError

A, B = [10.0, 10.0, 90.0, 90.0], [30.0, 5.0, 80.0, 95.0]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with set/a/img.png and set/b/img.png of 100 x 120 pixels."""
    monkeypatch.chdir(tmp_path)
    for name in ("set/a", "set/b"):
        Path(name).mkdir(parents=True)
        cv2.imwrite(f"{name}/img.png", np.full((120, 100, 3), 90, np.uint8))
    return tmp_path


def given(content: Any, *images: str) -> list[Any]:
    """Return the boxes of each image that a file gives."""
    Path("boxes.json").write_text(json.dumps(content))
    return [np.asarray(its.boxes).tolist() for its in read_boxes("boxes.json", images)]


def coco(*names: str, **image: Any) -> dict[str, Any]:
    """Return a COCO-style file of images with the boxes A and B."""
    images = [{"id": i, "file_name": name, **image} for i, name in enumerate(names)]
    boxes = [[x1, y1, x2 - x1 + 1, y2 - y1 + 1] for x1, y1, x2, y2 in (A, B)]
    return {"images": images, "annotations": [{"image_id": i, "bbox": boxes[i]} for i in range(len(names))]}


@pytest.mark.parametrize("above", ["", "set/", "./set/", "set/b/../"])
@pytest.mark.parametrize("before", ["", "./", "set/", "../set/", "elsewhere/../"])
def test_names_match_by_whole_trailing_parts(above: str, before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not above:
        monkeypatch.chdir("set")
    for names in ([f"{before}a/img.png", f"{before}b/img.png"], [f"{before}a\\img.png", f"{before}b\\img.png"]):
        images = f"{above}a/img.png", f"{above}b/img.png"
        assert given(coco(*names), *images) == [[A], [B]]
        assert given(dict(zip(names, ([A], [B]), strict=True)), *images) == [[A], [B]]


def test_part_of_a_word_is_no_part_of_a_path() -> None:
    with pytest.raises(InputError, match="names none of the images"):
        given({"g.png": [A]}, "set/a/img.png")


def test_the_longest_name_counts() -> None:
    assert given({"img.png": [A], "a/img.png": [B]}, "set/a/img.png", "set/b/img.png") == [[B], [A]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"img.png": [A]}, r"the name img\.png fits both set/a/img\.png and set/b/img\.png; put the folder before it"),
        ({"a/img.png": [A], "./a/img.png": [B]}, r"2 entries that fit set/a/img\.png: a/img\.png, \./a/img\.png; give"),
        (coco("img.png", "img.png"), r"2 entries that fit set/a/img\.png: img\.png, img\.png"),
    ],
)
def test_what_cannot_be_told_is_refused(content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        given(content, "set/a/img.png", "set/b/img.png")


def test_images_without_an_entry_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert given({"a/img.png": [A]}, "set/a/img.png", "set/b/img.png") == [[A], []]
    assert "boxes.json has no entry for set/b/img.png: taken as images of nobody" in capsys.readouterr().err
    given({"a/img.png": [A], "b/img.png": []}, "set/a/img.png", "set/b/img.png")
    assert capsys.readouterr().err == ""


def test_names_of_urls() -> None:
    image = "http://example.org/set/img.png?size=large"
    for name in (image, "set/img.png", "img.png"):
        assert given({name: [A]}, image) == [[A]]


def test_only_persons_have_boxes() -> None:
    content = coco("a/img.png", "b/img.png") | {"categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]}
    for annotation, category in zip(content["annotations"], (1, "2"), strict=True):
        annotation["category_id"] = category
    assert given(content, "set/a/img.png", "set/b/img.png") == [[A], []]


def test_a_list_of_mpii_persons_has_boxes() -> None:
    person = {"image": "img.png", "center": [51.0, 46.0], "scale": 0.4}
    assert given([person], "set/a/img.png") == [[[10, 11, 90, 91]]]  # lowered by 6 pixels, and counted from 0


def test_an_image_of_another_size_has_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    content = coco("a/img.png", "b/img.png", width=100, height=120)
    content["images"][1] |= {"width": 120, "height": 100}
    Path("boxes.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="1 of 2 images could not be used"):
        predict_files(["set/a/img.png", "set/b/img.png"], boxes="boxes.json", out="out", format="json", threads=1)
    assert [path.name for path in Path("out").iterdir()] == ["img.json"]
    assert "set/b/img.png has 100 x 120 pixels, but its annotations are for 120 x 100" in capsys.readouterr().err


@pytest.mark.parametrize("cwd", [".", "set", "set/a"])
def test_coco_output_is_read_again_from_any_folder(cwd: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict_files(["set/a/img.png"], boxes="10,10,90,90", out="out", format="coco", threads=1)
    monkeypatch.chdir(cwd)
    image = str((folder / "set/a/img.png").relative_to(Path.cwd()))
    ((box,),) = (its.boxes for its in read_boxes(str(folder / "out/coco.json"), [image]))
    np.testing.assert_allclose(box, [10, 10, 89, 89])  # as annotated boxes are clipped
