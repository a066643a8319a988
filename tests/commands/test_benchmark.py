"""The verb benchmark: steps that add up to what predict does, a report, a recommendation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from leanpose.commands.benchmark import (
    STEPS,
    BenchmarkReport,
    Row,
    benchmark,
    boxes_in,
    comparable,
    find_everybody,
    find_in_boxes,
    recommend,
)
from leanpose.commands.cli import main
from leanpose.errors import InputError, WeightsError
from leanpose.evaluation.timing import machine
from leanpose.inference.detect import NetworkDetector
from leanpose.inference.engines import load_engine
from leanpose.inference.predictor import Predictor
from leanpose.inference.preprocess import check_boxes
from leanpose.inference.top_down import TopDown
from leanpose.io.images import decode_image

PHOTO = Path(__file__).parents[2] / "docs" / "assets" / "astronaut.png"


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WARM_UP": 1, "FEWEST_RUNS": 2, "SECONDS": 0.0}.items():
        monkeypatch.setattr(f"leanpose.commands.benchmark.{name}", value)


@pytest.mark.parametrize("persons", [1, 3, 20])
def test_the_steps_in_boxes_are_those_of_predict(persons: int) -> None:
    data = PHOTO.read_bytes()
    predictor, detector = Predictor("lpn50", threads=1), NetworkDetector(load_engine("litepose_xs", threads=1))
    poses, seconds = find_in_boxes(TopDown(predictor.engine), detector, data, persons)
    pixels = decode_image(data, "photo")
    expected = predictor(pixels, boxes_in(pixels.shape[:2], persons))
    np.testing.assert_array_equal(poses.keypoints, expected.keypoints)
    np.testing.assert_array_equal(poses.person_scores, expected.person_scores)
    assert tuple(seconds) == STEPS
    assert min(seconds.values()) > 0


def test_the_steps_of_a_network_that_finds_everybody_are_those_of_predict() -> None:
    data = PHOTO.read_bytes()
    poses, seconds = find_everybody(load_engine("litepose_xs", threads=1), data)
    expected = Predictor("litepose_xs", threads=1, min_person_score=0.0)(decode_image(data, "photo"))
    np.testing.assert_array_equal(poses.keypoints, expected.keypoints)
    assert tuple(seconds) == tuple(step for step in STEPS if step != "find")


@pytest.mark.parametrize("size", [(480, 640), (64, 48), (1080, 1920)])
@pytest.mark.parametrize("persons", [1, 2, 16, 100])
def test_boxes_lie_in_the_image(size: tuple[int, int], persons: int) -> None:
    boxes = boxes_in(size, persons)
    assert boxes.shape == (persons, 4)
    check_boxes(boxes, size)
    assert boxes.min() >= 0
    assert (boxes[:, 2:] <= np.array(size[::-1]) - 1).all()


def test_report_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    threads = cv2.getNumThreads()
    words = ["benchmark", "lpn50", "litepose_xs", "--engine", "onnxruntime", "--persons", "1,2", "--fps", "0.1"]
    assert main([*words, "--image", str(PHOTO), "--out", str(out)]) == 0
    assert cv2.getNumThreads() == threads
    printed = capsys.readouterr().out
    report = json.loads(out.read_text())
    assert [(row["model"].split(".")[0], row["persons"]) for row in report["rows"]] == [
        ("lpn50", 1), ("lpn50", 2), ("litepose_xs", 0),
    ]  # fmt: skip
    for row in report["rows"]:
        total = sum(value for step, value in row["milliseconds"].items() if step != "draw")
        assert row["frames_per_second"] == pytest.approx(1000 / total)
        assert row["model"] in printed
    assert report["image"] == "astronaut.png, 512 x 512"
    assert report["machine"]["cores"] >= 1
    assert report["machine"].keys() >= {"processor", "system", "numpy", "onnxruntime"}
    assert "For 0.1 images per second here: --model lpn50." in printed
    ((kind, value),) = report["rows"][0]["figures"].items()
    assert f"ranked by {kind}: {100 * value:.1f}" in printed


KIND = "AP (val.json, annotated boxes, no flip test)"
OTHER_KIND = "AP (val.json, whole images, no flip test)"


def row(model: str, milliseconds: float, figure: float | None, persons: int = 1, kind: str = KIND) -> Row:
    figures = {} if figure is None else {kind: figure}
    return Row(model, "onnxruntime", 1, persons, {"network": milliseconds, "draw": 500.0}, 0.1, 100.0, figures)


ROWS = [
    row("small", 10, 0.3),
    row("large", 50, 0.5),
    row("large", 5, 0.9, persons=4),
    row("unknown", 9, None),
    row("other", 8, 0.99, kind=OTHER_KIND),
]


@pytest.mark.parametrize(
    ("fps", "words"),
    [
        (10, f"--model large .*ranked by {re.escape(KIND)}: 50.0"),  # 20 a second
        (30, f"--model small .*ranked by {re.escape(KIND)}: 30.0"),
        (105, f"--model other .*ranked by {re.escape(KIND)}: -"),  # others come last, the fastest first
        (300, "No model reaches 300 images per second here; large on onnxruntime is the fastest with 200.0"),
    ],
)
def test_recommendation(fps: float, words: str) -> None:
    assert re.search(words, recommend(ROWS, fps))


def test_the_kind_of_figure_compared_is_that_of_most_models() -> None:
    assert comparable(ROWS) == KIND
    assert comparable([row("other", 8, 0.99, kind=OTHER_KIND)] * 3 + ROWS[:2]) == KIND  # three rows of one model
    assert comparable([row("unknown", 9, None)]) is None
    assert "ranked by speed" in recommend([row("unknown", 9, None)], 1)


def test_the_table_has_a_column_for_each_step() -> None:
    lines = str(BenchmarkReport(machine(), "an image", ROWS, None)).splitlines()
    assert lines[3].split() == ["model", "engine", "threads", "persons", *STEPS, "±", "images/s", "MB", "AP"]
    assert lines[4].split()[:4] == ["small", "onnxruntime", "1", "1"]
    assert [line.split()[-1] for line in lines[4:9]] == ["30.0", "50.0", "90.0", "-", "-"]
    assert lines[-1] == f"last column: {KIND}; -: not measured"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "tensorrt"}, "There is no engine 'tensorrt'"),
        ({"persons": "1,two"}, "persons must be whole numbers above 0"),
        ({"threads": "0"}, "threads must be whole numbers above 0"),
        ({"fps": 0.0}, "fps must be above 0"),
        ({"out": "report.txt"}, "written as .json, not report.txt"),
        ({"image": "absent.jpg"}, "absent.jpg cannot be read"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        benchmark("lpn50", **arguments)


def test_unknown_model() -> None:
    with pytest.raises(WeightsError, match="There are no weights 'lpn5'"):
        benchmark("lpn5")
