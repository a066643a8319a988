"""The report of an evaluation: who is paired with whom, its figures, and its page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("faster_coco_eval")
pytest.importorskip("matplotlib")

from leanpose.commands.cli import main
from leanpose.data.annotations import open_annotations
from leanpose.errors import InputError, MissingPackageError
from leanpose.evaluation.evaluate import evaluate
from leanpose.evaluation.pairs import paired
from leanpose.evaluation.plots import read_logs, training_curves, training_logs
from leanpose.evaluation.report import Report
from leanpose.evaluation.report_page import report_page, write_report
from leanpose.keypoint_sets import COCO, KeypointSet
from leanpose.structures import Poses
from leanpose.weights.record import Weights

MakePeople = Callable[..., tuple[Path, Path]]
Rectangles = Any
DOT = KeypointSet("dot", ("dot",), (), "test")
BOXES = {1: ((20, 30, 80, 170), (150, 20, 220, 180)), 2: ((40, 40, 120, 190),)}


def annotation_file(file: Path, boxes: dict[int, Any], keypoints: Callable[[Any], np.ndarray], names: Any) -> Path:
    """Write a COCO-style file of boxes x1, y1, x2, y2 by image, with the keypoints (K, 2) that a function gives."""
    people: list[dict[str, Any]] = []
    for image, of_image in boxes.items():
        for left, top, right, bottom in of_image:
            size = [right - left, bottom - top]
            triples = [float(v) for point in keypoints((left, top, right, bottom)) for v in (*point, 2)]
            known = {"image_id": image, "category_id": 1, "area": size[0] * size[1] / 2, "iscrowd": 0}
            people.append(known | {"id": len(people) + 1, "bbox": [left, top, *size], "keypoints": triples})
    images = [{"id": i, "file_name": f"{i}.png", "width": 260, "height": 200} for i in boxes]
    categories = [{"id": 1, "name": "thing", "keypoints": [*names], "skeleton": []}]
    file.write_text(json.dumps({"images": images, "annotations": people, "categories": categories}))
    return file


@pytest.fixture
def scenes(tmp_path: Path, rectangle_people: Rectangles) -> tuple[Path, Path]:
    """Two images with the persons of BOXES; the second person of the first is annotated but not to be seen."""
    for image, (first, *_) in BOXES.items():
        drawn = rectangle_people.image(200, 260, red=(*first, 250))
        cv2.imwrite(str(tmp_path / f"{image}.png"), drawn[..., ::-1])

    def keypoints(box: Any) -> np.ndarray:
        return rectangle_people.keypoints(np.array(box) - 0.5) + np.array([3, 4])  # annotated 5 pixels away

    return annotation_file(tmp_path / "scenes.json", BOXES, keypoints, COCO.keypoints), tmp_path


@pytest.fixture
def made_up(networks: dict[str, Any], rectangle_people: Rectangles) -> None:
    """Two networks that can be loaded: "crops" and "all"."""
    networks["crops"] = rectangle_people(Weights("crops", "lpn50", (128, 96), codec="dark", codec_options={"sigma": 2}))
    bottom_up = rectangle_people().weights
    networks["all"] = rectangle_people(bottom_up, person_head=True)


@pytest.mark.parametrize("arguments", [["all"], ["crops", "--boxes", "found", "--detector", "all"]])
def test_found_persons_are_those_whose_boxes_meet(
    arguments: list[str], scenes: tuple[Path, Path], made_up: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The person who is not found costs PCK, but adds nothing to the errors of those who are."""
    data, images = scenes
    out = images / "report"
    line = ["evaluate", *arguments, "--data", str(data), "--images", str(images)]
    assert main([*line, "--report", str(out)]) == 0
    figures, table = capsys.readouterr().out.split("\n\n")
    assert main(line) == 0
    assert capsys.readouterr().out == figures + "\n"  # without a report as ever
    assert "3 annotated persons in 2 images, 1 of them not found." in table
    assert len(table.splitlines()) == 2 + 1 + 17
    content = json.loads((out / "report.json").read_text())
    everything, *single = content["keypoints"]
    assert [one["name"] for one in single] == list(COCO.keypoints)
    assert (everything["found"], everything["annotated"]) == (2 * 17, 3 * 17)
    assert everything["mean"]["value"] == pytest.approx(5, abs=1)
    assert everything["pck"]["0.2"]["value"] == pytest.approx(2 / 3)
    assert [group["persons"] for group in content["sizes"]] == [1, 1, 1]
    assert sum(group["keypoints"] for group in content["scores"]) == 2 * 17
    html = (out / "report.html").read_text()
    assert html.count("image/svg+xml") == 4 and html.count("image/jpeg") == 2  # no image of whom nobody found


def test_in_annotated_boxes_everybody_is_found(scenes: tuple[Path, Path], made_up: None) -> None:
    data, images = scenes
    content = json.loads(data.read_text())
    del content["annotations"][1], content["images"][0]  # who is not to be seen, and the image with nobody else
    del content["annotations"][0]
    data.write_text(json.dumps(content))
    metrics = evaluate("crops", data=str(data), images=str(images), report=str(images / "report"))
    assert metrics.report is not None and metrics.report.settings["persons"] == "annotated boxes"
    assert metrics.report.errors[0].mean.value == pytest.approx(5, abs=1.5)


def test_mpii_is_refused_before_anything_is_predicted(mpii_people: MakePeople, tmp_path: Path) -> None:
    data, images = mpii_people()
    with pytest.raises(InputError, match="PCKh"):
        evaluate("absent.onnx", data=str(data), images=str(images), report=str(tmp_path / "report"))
    assert not (tmp_path / "report").exists()


def test_without_matplotlib(scenes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match="matplotlib"):
        evaluate("absent.onnx", data=str(scenes[0]), images=str(scenes[1]), report=str(scenes[1] / "report"))


def result(image: int, box: tuple[float, ...], keypoints: Any, score: float) -> dict[str, Any]:
    poses = Poses(
        np.array([keypoints], np.float32),
        np.full((1, len(keypoints)), score, np.float32),
        np.array([box], np.float32),
        np.array([score], np.float32),
        DOT,
    )
    return poses.to_coco_results(image)[0]


def test_the_best_result_comes_first_and_nobody_is_taken_twice(tmp_path: Path) -> None:
    boxes = {1: ((0, 0, 100, 100), (20, 0, 120, 100))}
    data = annotation_file(tmp_path / "a.json", boxes, lambda box: np.array([box[:2]]), ["dot"])
    results = [
        result(1, (0, 0, 100, 100), [(2, 0)], 0.5),
        result(1, (5, 0, 105, 100), [(5, 0)], 0.9),  # takes the first person
        result(1, (200, 0, 230, 100), [(9, 9)], 0.8),  # meets nobody
    ]
    annotated = open_annotations(data, None)
    pairs = paired(annotated, results, annotated.keypoint_set)
    assert pairs.found[:, 0].tolist() == [[5, 0], [2, 0]]
    np.testing.assert_allclose(pairs.scores[:, 0], [0.9, 0.5])
    assert pairs.lengths.tolist() == [99, 99]  # from the first pixel's center to the last one's


def test_one_keypoint_without_sides_or_torso_or_edges(tmp_path: Path) -> None:
    boxes = {i: ((40, 40, 140, 90),) for i in range(1, 5)}
    data = annotation_file(tmp_path / "a.json", boxes, lambda box: np.array([(60, 60)]), ["dot"])
    results = [result(i, boxes[i][0], [(60 + 9 * i, 60)], i / 5) for i in range(1, 4)]
    for i in boxes:
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((200, 260, 3), 90, np.uint8))
    annotated = open_annotations(data, tmp_path)
    report = Report("m", "a.json", {}, {"AP": -1}, paired(annotated, results, annotated.keypoint_set))
    assert report.length == "box"
    assert [e.name for e in report.errors] == ["all", "dot"]
    assert report.errors[1].mean.value == pytest.approx(18)
    assert report.errors[1].pck[0.2].value == pytest.approx(2 / 4)
    assert report.worst(9) == [2, 1, 0]
    write_report(report, tmp_path / "report")
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [person["error"] for person in content["persons"]] == pytest.approx([27 / 99, 18 / 99, 9 / 99])


def test_nobody_found(tmp_path: Path) -> None:
    data = annotation_file(tmp_path / "a.json", {1: ((0, 0, 50, 50),)}, lambda box: np.array([(9, 9)]), ["dot"])
    annotated = open_annotations(data, tmp_path)
    report = Report("m", "a.json", {}, {"AP": 0}, paired(annotated, [], annotated.keypoint_set))
    assert str(report).splitlines()[-1].split() == [
        "dot",
        "0/1",
        "0.0",
        "(0.0",
        "to",
        "0.0)",
        *["0.0", "(0.0", "to", "0.0)"],
        *"---",
    ]
    assert "Largest errors" not in report_page(report)
    assert report.to_dict()["keypoints"][0]["mean"]["value"] is None


def test_curves_of_the_run_in_whose_folder_the_model_lies(tmp_path: Path) -> None:
    """Stages stand one behind another, and what a resumed run repeats counts once."""
    rows = {
        "stage0/csv/version_0": ["0,3,2.0,", "0,3,,0.1", "1,7,1.0,"],
        "stage0/csv/version_1": ["1,7,1.5,", "1,7,,0.2"],
        "stage1/csv/version_0": ["0,3,0.5,", "0,3,,0.4"],
    }
    for folder, lines in rows.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "metrics.csv").write_text("\n".join(["epoch,step,loss,AP", *lines]))
    logs = training_logs(tmp_path / "best.safetensors")
    assert [str(log.parent.relative_to(tmp_path)) for log in logs] == [*rows]
    assert training_logs(tmp_path / "stage1" / "best.safetensors") == logs
    assert training_logs(tmp_path / "elsewhere" / "on" / "best.onnx") == []
    assert read_logs(logs, ["AP", "PCK@0.1"]) == ({1: 2.0, 2: 1.5, 3: 0.5}, {"AP": {1: 10.0, 2: 20.0, 3: 40.0}})
    drawn = training_curves(logs, ["AP"])
    assert drawn is not None and drawn.startswith(b"<?xml")
    assert training_curves([], ["AP"]) is None
