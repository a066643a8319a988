"""A set goes out in a form and comes back the same, up to what the form cannot hold, which is named; any value in any
place of an export gives a result or an InputError, nothing else."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanpose.commands.cli import main
from leanpose.data.formats import FORMS, read_export
from leanpose.errors import InputError
from leanpose.metrics.coco_ap import AREA_OF_BOX

EXPORTS = Path(__file__).parent / "exports"
FILES = {"yolo": "out", "labelme": "out", "makesense": "out", "deeplabcut": "out.csv", "coco": "out.json"}
WIDTH, HEIGHT = 60, 40
# What the sentences of each form say that comes back otherwise, or not at all
LOSES = {
    "coco": (),
    "yolo": ("crowd", "outside"),
    "labelme": ("crowd", "never labelled", "order"),
    "makesense": ("crowd", "hidden", "never labelled", "order", "images without", "whom"),
    "deeplabcut": ("crowd", "hidden", "boxes", "without labelled", "category"),
}
some = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    """Return a set whose persons stand side by side, so that boxes do not overlap."""
    names = draw(st.lists(st.sampled_from(["nose", "left eye", "fin-L", "Größe", "a,b"]), min_size=1, unique=True))
    images = [
        {"id": i, "file_name": f"{folder}{i}.png", "width": WIDTH, "height": HEIGHT}
        for i, folder in enumerate(draw(st.lists(st.sampled_from(["", "sub/", "ü b/"]), min_size=1, max_size=3)))
    ]
    persons: list[dict[str, Any]] = []
    for image in images:
        for place in range(draw(st.integers(0, 3))):
            left, width = 1 + 20 * place, draw(st.integers(2, 17))
            points = [
                [left + width * draw(st.floats(0, 1)), 3 + 30 * draw(st.floats(0, 1)), v] if v else [0, 0, 0]
                for v in draw(st.lists(st.integers(0, 2), min_size=len(names), max_size=len(names)))
            ]
            persons.append(
                {
                    "id": len(persons) + 1,
                    "image_id": image["id"],
                    "category_id": 3,
                    "bbox": [left, 3, width, 30],
                    "area": AREA_OF_BOX * width * 30,
                    "iscrowd": int(draw(st.integers(0, 9)) == 0),
                    "num_keypoints": sum(point[2] > 0 for point in points),
                    "keypoints": [float(v) for point in points for v in point],
                }
            )
    category = {"id": 3, "name": "fish", "keypoints": names, "skeleton": []}
    return {"images": images, "annotations": persons, "categories": [category]}


def seen(content: dict[str, Any], loses: tuple[str, ...]) -> list[Any]:
    """Return each image's persons as a form keeps them that loses something: boxes and keypoints by name."""
    names = content["categories"][0]["keypoints"]
    found = []
    for image in content["images"]:
        persons: list[Any] = []
        for one in content["annotations"]:
            triples = np.reshape(one["keypoints"], (-1, 3))
            points = {
                name: (round(x, 4), round(y, 4), 2 if "hidden" in loses else int(v))
                for name, (x, y, v) in zip(names, triples.tolist(), strict=True)
                if v > 0
            }
            if one["image_id"] != image["id"] or (one["iscrowd"] and "crowd" in loses):
                continue
            if points or "without labelled" not in loses:
                box = [] if "boxes" in loses else [round(v, 4) for v in one["bbox"]]
                persons.append((box, one["iscrowd"], sorted(points.items())))
        if persons or "images without" not in loses:
            found.append((image["file_name"].removeprefix("images/"), sorted(persons)))
    return sorted(found)


@pytest.mark.parametrize("form", LOSES)
@some
@given(content=contents())
def test_a_round_trip_loses_what_was_named(form: str, content: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "round"
    shutil.rmtree(folder, ignore_errors=True)
    for image in content["images"]:
        (folder / "images" / image["file_name"]).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "1.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        shutil.copy(folder / "1.png", folder / "images" / image["file_name"])
    (folder / "in.json").write_text(json.dumps(content))
    given = read_export(folder / "in.json", None).content
    assert seen(given, ()) == seen(content, ())
    named = " ".join(FORMS[form].lost(given))
    out = folder / FILES[form]
    FORMS[form].write(given, out, folder / "images" if form == "yolo" else None)
    loses = LOSES[form]
    expected = seen(content, loses)
    if not any(points for _, persons in expected for _, _, points in persons) and form in ("makesense", "labelme"):
        return  # nothing says what the keypoints are
    back = read_export(out, None)
    assert back.form == form
    assert seen(back.content, loses) == expected
    if form not in ("labelme", "makesense"):  # which know the keypoints that they have
        assert back.content["categories"][0]["keypoints"] == content["categories"][0]["keypoints"]
    if any(one["iscrowd"] for one in content["annotations"]) and "crowd" in loses:
        assert "crowd regions" in named
    assert ("hidden" in named) == (
        "hidden" in loses and any(v == 1 for one in content["annotations"] for v in one["keypoints"][2::3])
    )


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(EXPORTS / "cvat/person_keypoints_default.json")
    out = tmp_path / "fish.json"
    assert main(["data", "convert", source, str(out), "--to", "coco"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{out}: 1 annotations in 2 images, from coco.\n"
    category = json.loads(out.read_text())["categories"][0]
    assert category["flip_pairs"] == [["l_fin", "r_fin"]]
    assert len(category["sigmas"]) == 4 and {*category["guessed"]} == {"flip_pairs", "sigmas"}
    assert "'flip_pairs' of 'fish' is guessed: by left and right in the names, l_fin with r_fin." in told.err
    assert main(["data", "convert", source, str(out), "--to", "coco"]) == 2
    assert "is there already, and nothing is overwritten" in capsys.readouterr().err
    csv = str(tmp_path / "fish.csv")
    assert main(["data", "convert", source, csv, "--to", "deeplabcut"]) == 0
    assert "deeplabcut cannot hold that 1 labelled keypoints are hidden." in capsys.readouterr().err
    sigmas = ["--to", "coco", "--sigmas", "[0.1,0.2,0.2,0.1]"]
    assert main(["data", "convert", csv, str(tmp_path / "own.json"), *sigmas]) == 0
    assert json.loads((tmp_path / "own.json").read_text())["categories"][0]["sigmas"] == [0.1, 0.2, 0.2, 0.1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out.txt", "--to", "coco"], "The output of coco is a file that ends in .json"),
        (["out", "--to", "yolo"], "need their images beside them, which are copied; give --images"),
        (["out", "--to", "labelme", "--sigmas", "[1]"], "labelme holds no sigmas"),
        (["out.json", "--to", "coco", "--sigmas", "[1]"], "--sigmas must be 4 numbers above 0"),
        (["out.json", "--to", "coco", "--category", "net"], "no category with keypoints and the name or id 'net'"),
        (["out", "--to", "xml"], "--to cannot be 'xml'"),
    ],
)
def test_what_cannot_be_converted_leaves_nothing(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "convert", str(EXPORTS / "cvat/person_keypoints_default.json"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_two_images_with_one_label_file_are_refused(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"a.{kind}", "width": 9, "height": 9} for i, kind in enumerate(("png", "jpg"))]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "x", "keypoints": ["k"]}]}
    with pytest.raises(InputError, match=r"Two images would have the file a\.json in the output"):
        FORMS["labelme"].write(content, tmp_path / "out", None)
    assert not [*tmp_path.iterdir()]


ODD = [
    "",
    "x",
    "nan",
    "inf",
    "-1",
    "1e999",
    "9" * 400,
    "null",
    "{}",
    "[]",
    '"',
    "\0",
    "true",
    "2",
    "../..",
    "é",
    "\n",
    ",",
]


@pytest.mark.parametrize("export", sorted(path.relative_to(EXPORTS).as_posix() for path in EXPORTS.rglob("*.*")))
def test_spoilt_exports_give_a_sentence(export: str, tmp_path: Path) -> None:
    """Replace a word of a file by an odd one, again and again."""
    draw = random.Random(export)
    root = export.split("/")[0]
    shutil.copytree(EXPORTS / root, tmp_path / root)
    for part, name in (("train", "a"), ("val", "b")):
        (tmp_path / root / "images" / part).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / root / "images" / part / f"{name}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    text = (EXPORTS / export).read_text()
    spots = [i for i in range(len(text)) if text[i].isalnum() or text[i] in '",:[{']
    for _ in range(60):
        start = draw.choice(spots)
        end = start + draw.choice([1, 1, 2, 4, 9])
        (tmp_path / export).write_text(text[:start] + draw.choice(ODD) + text[end:])
        for path in (tmp_path / export, tmp_path / root / "data.yaml" if root == "yolo" else tmp_path / export):
            try:
                content = read_export(path, tmp_path / root).content
            except InputError as error:
                assert str(error) and "\n" not in str(error), repr(str(error))
                continue
            k = len(content["categories"][0]["keypoints"])
            for one in content["annotations"]:
                assert np.isfinite(one["keypoints"]).all() and len(one["keypoints"]) == 3 * k
                assert np.isfinite(one["bbox"]).all() and np.isfinite(one["area"])
