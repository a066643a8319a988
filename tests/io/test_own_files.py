"""New results replace those of leanpose and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from leanpose.commands.predict import predict_files
from leanpose.errors import InputError
from leanpose.io.images import read_image
from leanpose.io.own_files import is_own
from leanpose.weights.record import Weights

RESULTS = {"json": "a.json", "csv": "poses.csv", "coco": "coco.json", "image": "a.png"}


@pytest.fixture
def predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, networks: dict[str, Any], rectangle_people: Any
) -> Callable[..., None]:
    """Return a function that writes the results of in/a.png, with one person, into out; the folder is made current."""
    networks["crops"] = rectangle_people(Weights("crops", "crops", (128, 96), codec="dark"))
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    cv2.imwrite("in/a.png", rectangle_people.image(100, 80, red=(20, 10, 60, 90, 200))[..., ::-1])

    def run(form: str, source: str = "in/a.png", out: str = "out") -> None:
        predict_files([source], "crops", "image", out, form)

    return run


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_own_results_are_replaced(suffix: str, predict: Callable[..., None]) -> None:
    cv2.imwrite(f"in/b{suffix}", read_image("in/a.png")[..., ::-1])
    for _ in range(2):
        predict(",".join(RESULTS), f"in/b{suffix}")
    assert all(is_own(path) for path in Path("out").iterdir()) and len(list(Path("out").iterdir())) == 4


FOREIGN = {
    "json": ['{"shapes": []}', "[]", "{", "", '{"image": "a.png", "persons": []}'],
    "csv": ["my,table\n", "", "image,person,score,x1,y1,x2,y2\n", "image,person,score,x1,y1,x2,y2,nose_x\n"],
    "coco": [
        '{"images": [], "annotations": [], "categories": []}',
        '{"info": {"description": "three weeks of work"}, "images": [], "annotations": [], "categories": []}',
        '{"images": [], "annotations": [{"id": 1, "keypoints": []}], "categories": []}',
        '{"images": [], "annotations": 3, "categories": []}',
    ],
    "image": ["no image", ""],
}


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in FOREIGN.items() for text in texts])
def test_files_of_others_stay(form: str, text: str, predict: Callable[..., None]) -> None:
    path = Path("out", RESULTS[form])
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(
        InputError, match=f"would overwrite .*{path.name}, which leanpose did not write; choose another"
    ):
        predict(",".join(RESULTS))
    assert path.read_text() == text and list(Path("out").iterdir()) == [path]


def test_a_folder_in_the_place_of_a_file_stays(predict: Callable[..., None]) -> None:
    Path("out/a.json").mkdir(parents=True)
    with pytest.raises(InputError, match="would overwrite"):
        predict("json")


def changed(form: str) -> None:
    """Change a result as its owner may, with an editor or another tool."""
    path = Path("out", RESULTS[form])
    if form == "image":
        cv2.imwrite(str(path), read_image(path)[..., ::-1])
    elif form == "csv":
        path.write_text(path.read_text().replace("\n", ",checked\n"))
    else:
        content = json.loads(path.read_text())
        if form == "json":
            content["note"] = "good"
        else:
            del content["annotations"][0]["score"]
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("form", RESULTS)
def test_results_that_were_changed_stay(form: str, predict: Callable[..., None]) -> None:
    predict(form)
    changed(form)
    with pytest.raises(InputError, match="which leanpose did not write"):
        predict(form)


def test_older_results_have_no_info(predict: Callable[..., None]) -> None:
    predict("coco")
    content = json.loads(Path("out/coco.json").read_text())
    del content["info"]
    Path("out/coco.json").write_text(json.dumps(content))
    predict("coco")
    assert "info" in json.loads(Path("out/coco.json").read_text())


def test_results_with_the_former_word_for_an_image_are_replaced(predict: Callable[..., None]) -> None:
    predict("json,csv")
    for file in Path("out").iterdir():
        file.write_text(file.read_text().replace("image", "picture", 1))
        assert "picture" in file.read_text()
    predict("json,csv")
    assert not any("picture" in file.read_text() for file in Path("out").iterdir())


def test_a_photograph_beside_results_stays(predict: Callable[..., None]) -> None:
    """Its JSON in the same folder does not make it a drawn image."""
    predict("json", out="in")
    Path("other").mkdir()
    cv2.imwrite("other/a.png", np.zeros((50, 40, 3), np.uint8))
    with pytest.raises(InputError, match=r"would overwrite in.a\.png, which leanpose did not write"):
        predict("image", "other/a.png", "in")
