"""Exports of annotation tools, written by their documented forms with the oddities that they are known for: each is
read as it is meant, or refused with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from leanpose.commands.boxes import read_boxes
from leanpose.data.annotations import open_annotations
from leanpose.data.coco import CocoSet
from leanpose.data.formats import Export, form_of, read_export
from leanpose.errors import InputError
from leanpose.keypoint_sets import COCO

EXPORTS = Path(__file__).parent / "exports"


def image(path: Path) -> None:
    """Write an image of 60 x 40 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((40, 60, 3), 90, np.uint8))


@pytest.fixture
def tool(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies the export of a tool, makes images beside it, and returns its folder."""

    def make(name: str, *images: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(EXPORTS / name, folder)
        for one in images:
            image(folder / one)
        return folder

    return make


def persons(export: Export) -> list[tuple[str, list[float], list[float]]]:
    """Return file name, box and keypoints of each annotation."""
    names = {image["id"]: image["file_name"] for image in export.content["images"]}
    return [
        (names[one["image_id"]], [round(v, 3) for v in one["bbox"]], [round(v, 3) for v in one["keypoints"]])
        for one in export.content["annotations"]
    ]


def test_cvat(tool: Callable[..., Path]) -> None:
    folder = tool("cvat", "images/default/pond/a.png")
    export = read_export(folder / "person_keypoints_default.json", folder / "images/default")
    assert export.form == "coco"
    assert persons(export) == [("pond/a.png", [10, 8, 30, 20], [12.5, 10, 2, 20, 9, 1, 0, 0, 0, 38, 26.5, 2])]
    assert export.content["annotations"][0]["attributes"]["track_id"] == 0
    assert export.content["categories"] == [
        {
            "id": 1,
            "name": "fish",
            "supercategory": "",
            "keypoints": ["head", "l_fin", "r_fin", "tail"],
            "skeleton": [[1, 4], [2, 1]],
        }
    ]
    assert export.notes == ("1 annotations of other categories are left out.",)
    annotated = open_annotations(folder / "person_keypoints_default.json", folder / "images/default")
    assert annotated.keypoint_set.flip_index.tolist() == [0, 2, 1, 3]
    assert annotated.samples()[0].image_path == str(folder / "images/default/pond/a.png")


def test_label_studio_as_coco(tool: Callable[..., Path]) -> None:
    folder = tool("label_studio_coco", "photos/a.png", "photos/b.png")
    export = read_export(folder / "result.json", folder / "photos")
    assert persons(export) == [
        ("images/a.png", [10, 8, 30, 20], [12, 10, 2, 38, 26, 2]),
        ("../../label-studio/data/media/upload/1/b.png", [8, 8, 24, 14], [10, 10, 2, 30, 20, 2]),
    ]
    assert [note.split(":")[0] for note in export.notes] == [
        f"2 images lie in {folder / 'photos'} by another name, such as images/0a1b2c3d-a.png as images/a.png.",
        "1 annotations have no box",
    ]
    paths = {sample.image_path for sample in open_annotations(folder / "result.json", folder / "photos").samples()}
    assert paths == {str(folder / "photos/a.png"), str(folder / "photos/b.png")}
    assert read_export(folder / "result.json", None).content["images"][0]["file_name"] == "images/0a1b2c3d-a.png"


def test_roboflow(tool: Callable[..., Path]) -> None:
    folder = tool("roboflow", "a_png.rf.0a1b2c3d4e5f.jpg", "b.png")
    export = read_export(folder / "_annotations.coco.json", folder)
    assert [person[0] for person in persons(export)] == ["a_png.rf.0a1b2c3d4e5f.jpg", "b.png"]
    assert export.content["categories"][0]["id"] == 1  # not the one without keypoints before it
    assert len(open_annotations(folder / "_annotations.coco.json", folder).samples()) == 2


def test_roboflow_of_one_image_several_times(tool: Callable[..., Path]) -> None:
    folder = tool("roboflow", "a.png")
    content = json.loads((folder / "_annotations.coco.json").read_text())
    content["images"][1]["file_name"] = "a_png.rf.ffff.jpg"  # augmented twice: neither is the image itself
    (folder / "two.json").write_text(json.dumps(content))
    names = [one["file_name"] for one in read_export(folder / "two.json", folder).content["images"]]
    assert names == ["a_png.rf.0a1b2c3d4e5f.jpg", "a_png.rf.ffff.jpg"]


def test_coco_annotator(tool: Callable[..., Path]) -> None:
    folder = tool("coco_annotator", "fish/one/a.png", "fish/two/a.png")
    export = read_export(folder / "fish.json", folder / "fish")
    assert [person[0] for person in persons(export)] == ["/datasets/fish/one/a.png", "/datasets/fish/two/a.png"]
    samples = open_annotations(folder / "fish.json", folder / "fish").samples()
    assert [sample.image_path for sample in samples] == [str(folder / f"fish/{one}/a.png") for one in ("one", "two")]


def test_labelme(tool: Callable[..., Path]) -> None:
    folder = tool("labelme", "img/a.png", "img/b.png")
    export = read_export(folder / "ann", None)
    assert export.form == form_of(folder / "ann/a.json") == "labelme"
    assert persons(export) == [
        ("../img/a.png", [10, 8, 30, 20], [12.5, 10, 2, 38, 26.5, 1]),
        ("../img/a.png", [49, 29, 2, 2], [50, 30, 2, 0, 0, 0]),
        ("../img/b.png", [8, 8, 24, 14], [10, 10, 2, 30, 20, 2]),
    ]
    assert export.notes[0] == "1 shapes of the kind polygon are left out."
    assert export.notes[1] == "The keypoints of 'fish' are in the order in which they appear: head, tail."
    given = read_export(folder / "ann", None, keypoints=["tail", "fin", "head"])
    assert persons(given)[0][2] == [38, 26.5, 1, 0, 0, 0, 12.5, 10, 2]
    with pytest.raises(InputError, match=r"a\.json.*'tail' is none of the keypoints given. Did you mean 'tails'"):
        read_export(folder / "ann", None, keypoints=["tails", "head"])
    samples = open_annotations(folder / "ann", folder / "img").samples()
    assert {Path(one.image_path).resolve() for one in samples} == {folder / "img" / name for name in ("a.png", "b.png")}


def test_makesense(tool: Callable[..., Path]) -> None:
    folder = tool("makesense")
    export = read_export(folder, None)
    assert export.form == form_of(folder / "points.csv") == "makesense"
    assert persons(export) == [
        ("a.png", [10, 8, 30, 20], [12, 10, 2, 38, 26, 2]),
        ("a.png", [45, 5, 10, 10], [50, 12, 2, 0, 0, 0]),
        ("b.png", [5, 5, 20, 20], [10, 10, 2, 0, 0, 0]),
    ]
    with pytest.raises(InputError, match=r"line 3: a person of a\.png has the keypoint 'head' twice, and nothing says"):
        read_export(folder / "points.csv", None)
    boxes = open_annotations(folder / "rectangles.csv", None).everybody()
    assert [len(one.boxes_xyxy) for one in boxes if one.boxes_xyxy is not None] == [2, 1]
    assert read_export(folder / "rectangles.csv", None).content["categories"][0]["keypoints"] == []


def test_yolo(tool: Callable[..., Path]) -> None:
    folder = tool("yolo", "images/train/a.png", "images/val/b.png", "images/val/nobody.png")
    export = read_export(folder / "data.yaml", None)
    assert persons(export) == [
        ("images/train/a.png", [15, 10, 30, 20], [15, 10, 2, 30, 10, 1, 0, 0, 0, 45, 30, 2]),
        ("images/train/a.png", [12, 8, 6, 4], [0] * 12),
        ("images/val/b.png", [15, 10, 30, 20], [15, 10, 2, *[0] * 9]),
    ]
    assert len(export.content["images"]) == 3
    assert export.content["categories"][0]["flip_pairs"] == [["l_fin", "r_fin"]]
    assert export.notes[0].startswith("'test' is left out: there is no ")
    assert export.notes[1].startswith("train, val are read together")
    assert export.notes[2] == "1 images have no label file: they are taken to show nobody."
    for part, count in (("train", 1), ("val", 1)):
        samples = open_annotations(folder / "labels" / part, folder / "images" / part).samples()
        assert len(samples) == count and Path(samples[0].image_path).is_file()


SETTINGS = "train: images\nval: images\nnames: [fish, crab]\n"


@pytest.mark.parametrize(
    ("settings", "row", "message"),
    [
        ("kpt_shape: [1, 2]", "0 .5 .5 .1 .1 .5", r"a\.txt: line 1 has 6 numbers, but kpt_shape \[1, 2\] makes 7"),
        ("kpt_shape: [1, 2]", "0 30 20 9 9 30 20", r"a\.txt: line 1 is not in shares of the image"),
        ("kpt_shape: [1, 2]", "2 .5 .5 .1 .1 .5 .5", r"a\.txt: line 1: there is no class 2; the YAML names 2"),
        ("kpt_shape: [1, 2]", "0 .5 .5 .1 .1 .5 x", r"a\.txt: line 1 must be 7 numbers"),
        ("kpt_shape: [1, 4]", "", r"set\.yaml: 'kpt_shape' must be \[keypoints, 2 or 3\]"),
        ("kpt_shape: [2, 2]\nflip_idx: [1, 1]", "", "'flip_idx' must hold each number from 0 to 1 once"),
        ("kpt_shape: [3, 2]\nflip_idx: [1, 2, 0]", "", "'flip_idx' must swap keypoints in pairs"),
        ("kpt_shape: [2, 2]\nkpt_names: {0: [a]}", "", "the class 'fish' needs 2 names of keypoints"),
        ("nc: 2", "", r"set\.yaml is no data YAML of YOLO-pose, which has the key 'kpt_shape'"),
        ("bodyparts: [a]", "", "is the file of a DeepLabCut project; give a CollectedData CSV"),
        ("kpt_shape: [", "", r"set\.yaml is no YAML file that can be read"),
    ],
)
def test_yolo_is_refused_with_the_line(settings: str, row: str, message: str, tmp_path: Path) -> None:
    image(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(row)
    (tmp_path / "set.yaml").write_text(SETTINGS + settings)
    with pytest.raises(InputError, match=message):
        read_export(tmp_path / "set.yaml", None)


def test_names_are_given_to_the_coco_category_that_has_keypoints(tmp_path: Path) -> None:
    """Roboflow's category above it has none; names that are there are not overlooked."""
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 30, 20], "keypoints": [5, 6, 2, 9, 9, 2]}
        ],
        "categories": [{"id": 0, "name": "animals"}, {"id": 1, "name": "crab"}],
    }
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    export = read_export(file, None, keypoints=["claw", "eye"])
    assert [(one["name"], one["keypoints"]) for one in export.content["categories"]] == [("crab", ["claw", "eye"])]
    content["categories"][1]["keypoints"] = ["0", "1"]
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"has names for all of its keypoints.*leave --keypoints out"):
        read_export(file, None, keypoints=["claw", "eye"])


def test_yolo_without_names_or_visibility(tmp_path: Path) -> None:
    image(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("1 .5 .5 .5 .5 .5 .5 0 0\n")
    (tmp_path / "set.yaml").write_text(SETTINGS + "kpt_shape: [2, 2]")
    export = read_export(tmp_path / "set.yaml", None)
    assert export.content["categories"][0]["keypoints"] == ["keypoint_1", "keypoint_2"]
    assert persons(export) == [("images/a.png", [15, 10, 30, 20], [30, 20, 2, 0, 0, 0])]
    named = read_export(tmp_path / "set.yaml", None, keypoints=["a", "b"]).content["categories"][0]
    assert (named["name"], named["keypoints"]) == ("crab", ["a", "b"])
    (tmp_path / "labels/a.txt").rename(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"none of 1 images has a label file; the first would be .*labels/a\.txt"):
        read_export(tmp_path / "set.yaml", None)
    (tmp_path / "labels/a.txt").touch()
    flips = COCO.flip_index.tolist()
    (tmp_path / "set.yaml").write_text(f"train: images\nnames: [person]\nkpt_shape: [17, 3]\nflip_idx: {flips}")
    assert open_annotations(tmp_path / "set.yaml", None).keypoint_set == COCO


def test_a_folder_of_labels_without_its_yaml(tool: Callable[..., Path]) -> None:
    folder = tool("yolo", "images/train/a.png")
    (folder / "data.yaml").rename(folder / "data.yml")
    (folder / "labels/broken.yaml").write_text("[")  # of somebody else
    assert form_of(folder) == form_of(folder / "labels/train") == "yolo"
    (folder / "data.yml").unlink()
    with pytest.raises(InputError, match="nor YOLO's labels below a data YAML with kpt_shape"):
        form_of(folder / "labels/train")


def test_deeplabcut(tool: Callable[..., Path]) -> None:
    folder = tool("deeplabcut", "pond/a.png", "pond/b.png")
    export = read_export(folder / "CollectedData_ann.csv", folder / "pond")
    assert persons(export) == [
        ("labeled-data/pond/a.png", [9.95, 7.45, 30.6, 21.6], [12.5, 10, 2, 38, 26.5, 2]),
        ("labeled-data/pond/b.png", [9, 9, 2, 2], [10, 10, 2, 0, 0, 0]),
    ]
    assert export.content["images"][0] | {"id": 1} == {
        "id": 1,
        "file_name": "labeled-data/pond/a.png",
        "width": 60,
        "height": 40,
    }
    several = read_export(folder / "multi.csv", None)
    assert [person[2] for person in persons(several)] == [[12.5, 10, 2], [50, 30, 2], [10, 10, 2]]
    assert "The body parts of 'single' belong to no animal; they are left out." in several.notes
    image(folder / "pond/border.png")
    (folder / "border.csv").write_text("scorer,a,a,a,a\nbodyparts,n,n,m,m\ncoords,x,y,x,y\npond/border.png,1,1,58,39\n")
    assert persons(read_export(folder / "border.csv", folder))[0][1] == [0, 0, 60, 40]  # not beyond the image
    samples = open_annotations(folder / "multi.csv", folder).samples()
    assert samples[0].image_path == str(folder / "pond/a.png")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("scorer,a,a,a\nbodyparts,n,n,n\ncoords,x,y,likelihood\n0,1,2,.5", "holds predictions"),
        ("scorer,a,a\nbodyparts,n,n\ncoords,x,z\nb.png,1,2", "must have the columns x and y"),
        ("scorer,a,a\nbodyparts,n,n\nb.png,1,2", "its first rows must be scorer, bodyparts and coords"),
        ("scorer,a,a\nbodyparts,n,n\ncoords,x,y\nb.png,1", r"line 4 has 2 columns, but the header has 3"),
        ("scorer,a,a\nbodyparts,n,n\ncoords,x,y\nb.png,1,", r"line 4: n has only one of x and y"),
        ("scorer,a,a\nbodyparts,n,n\ncoords,x,y\nb.png,1,up", r"line 4: y of n must be a number"),
        ("scorer,a,a\nbodyparts,n,n\ncoords,x,y\nb.png,1,2\nb.png,1,2", r"line 5: the image b.png has a line before"),
        ("a,1,2,b.png,60", "is of no known form: .* and this has 5"),
        ("a,1,x,b.png,60,40", "line 1: 'x' must be a number"),
        ("a,1,2,b.png,60,40\na,1,2", r"line 2 has 3 columns"),
        ("a,1,2,b.png,60,40\nb,1,2,b.png,50,40", r"line 2: b.png has another size"),
    ],
)
def test_tables_are_refused_with_the_line(rows: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(rows)
    with pytest.raises(InputError, match=message) as caught:
        read_export(tmp_path / "labels.csv", None)
    assert "labels.csv" in str(caught.value)


def test_label_studio(tool: Callable[..., Path]) -> None:
    folder = tool("label_studio", "a.png", "pond/b.png")
    export = read_export(folder / "project-1.json", folder)
    assert export.form == "label_studio"
    assert persons(export) == [
        ("a.png", [12, 8, 30, 20], [15, 10, 2, 36, 24, 2]),
        ("pond/b.png", [29, 19, 2, 2], [30, 20, 2, 0, 0, 0]),
    ]
    assert export.notes[0] == "1 regions of the kind choices are left out."


def test_what_is_of_no_known_form(tmp_path: Path) -> None:
    for name, message in (
        ("a.zip", "is an archive; unpack it"),
        ("a.xml", "is XML, which is not read; export as COCO JSON"),
    ):
        (tmp_path / name).write_text("x")
        with pytest.raises(InputError, match=message):
            form_of(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read as annotations"):
        form_of(tmp_path)
    (tmp_path / "min.json").write_text('[{"image": "/data/upload/1/a.png", "id": 1, "annotation_id": 3, "kp": []}]')
    with pytest.raises(InputError, match="is Label Studio's JSON-MIN, which lacks"):
        form_of(tmp_path / "min.json")
    (tmp_path / "mpii.json").write_text('[{"image": "a.png", "center": [1, 1], "scale": 1}]')
    assert form_of(tmp_path / "mpii.json") == "mpii"
    with pytest.raises(InputError, match="is a list of MPII persons, which has no COCO-style content"):
        read_export(tmp_path / "mpii.json", None)


def two_categories(folder: Path) -> Path:
    """Write a file of hands and cups, on which no person is."""
    person = {"image_id": 1, "bbox": [5, 5, 20, 20], "area": 200, "iscrowd": 0}
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}],
        "annotations": [
            person | {"id": 1, "category_id": 5, "keypoints": [6, 6, 2, 20, 20, 2]},
            person | {"id": 2, "category_id": 6, "keypoints": [8, 8, 2]},
            person | {"id": 3, "category_id": 7},
        ],
        "categories": [
            {"id": 5, "name": "hand", "keypoints": ["L1", "R1"], "skeleton": []},
            {"id": 6, "name": "cup", "keypoints": ["handle"], "skeleton": []},
            {"id": 7, "name": "person"},
        ],
    }
    file = folder / "two.json"
    file.write_text(json.dumps(content))
    return file


def test_one_of_several_categories_is_chosen(tmp_path: Path) -> None:
    file = two_categories(tmp_path)
    for open_ in (lambda: read_export(file, None), lambda: open_annotations(file, None)):
        with pytest.raises(InputError, match="found 2; choose one of 'hand', 'cup' with --category"):
            open_()
    for name in ("cup", "6"):
        assert persons(read_export(file, None, name)) == [("a.png", [5, 5, 20, 20], [8, 8, 2])]
        annotated = open_annotations(file, None, name)
        assert annotated.keypoint_set.keypoints == ("handle",)
        assert len(annotated.samples()) == 1
    with pytest.raises(InputError, match=r"no category with keypoints and the name or id 'cap'\. Did you mean 'cup'"):
        open_annotations(file, None, "cap")


def test_a_set_without_persons_is_opened_and_scored(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval")
    annotated = open_annotations(two_categories(tmp_path), None, "hand")
    assert isinstance(annotated, CocoSet)
    assert [len(annotated.part(ids).persons) for ids in ([1], [])] == [1, 0]
    assert annotated.keypoint_set.flip_index.tolist() == [1, 0]
    annotated.check(annotated.keypoint_set, "the model")
    result = {"image_id": 1, "category_id": 5, "keypoints": [6, 6, 1, 20, 20, 1], "score": 1}
    assert annotated.score([result], annotated.keypoint_set)["AP"] == pytest.approx(1)
    (scene,) = annotated.scenes(annotated.keypoint_set)
    assert len(scene.keypoints) == 1


def test_predict_takes_boxes_of_any_form(tool: Callable[..., Path]) -> None:
    folder = tool("makesense", "a.png", "b.png")
    images = [str(folder / name) for name in ("a.png", "b.png")]
    for boxes in (folder / "rectangles.csv", folder):
        assert [len(one.boxes) for one in read_boxes(str(boxes), images)] == [2, 1]
    folder = tool("labelme", "img/a.png", "img/b.png")
    images = [str(folder / "img" / name) for name in ("a.png", "b.png")]
    assert [len(one.boxes) for one in read_boxes(str(folder / "ann"), images)] == [2, 1]
    assert [len(one.boxes) for one in read_boxes(str(folder / "ann/a.json"), images)] == [2, 0]
