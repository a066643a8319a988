"""Detectors against annotated persons: recall by size, and what `evaluate` says and writes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("faster_coco_eval")

import torch

from leanpose.data.annotations import open_annotations
from leanpose.data.coco import CocoSet
from leanpose.errors import InputError
from leanpose.evaluation.evaluate import evaluate, measure
from leanpose.evaluation.finding import Found, detector_figures, find_persons, recalls, whole_images
from leanpose.models import create_model
from leanpose.models.checkpoints import save_network
from leanpose.weights.record import Weights

MakePeople = Callable[..., tuple[Path, Path]]
FAR = [0.0, 0.0, 8.0, 8.0]


@pytest.fixture
def annotated(people: MakePeople) -> CocoSet:
    """Four images of a person each, of whom the first is small and the last is large by the area."""
    file, images = people()
    content = json.loads(file.read_text())
    for annotation, area in zip(content["annotations"], (31.9**2, 32.0**2, 95.9**2, 96.0**2), strict=True):
        annotation["area"] = area
    file.write_text(json.dumps(content))
    return whole_images(open_annotations(file, images))


def found_in(annotated: CocoSet, answers: list[list[tuple[bool, float]]]) -> list[Found]:
    """Return what is found where each image's boxes are given as whether they are right, and their score."""
    found = []
    for image, boxes in zip(annotated.images("gt"), answers, strict=True):
        assert image.boxes_xyxy is not None
        places = np.array([image.boxes_xyxy[0] if right else FAR for right, _ in boxes], np.float32).reshape(-1, 4)
        scores = np.array([score for _, score in boxes], np.float32)
        found.append(find_persons(lambda _, answer=(places, scores): answer, annotated, image))
    return found


def test_recall_by_size(annotated: CocoSet) -> None:
    found = found_in(
        annotated, [[(True, 0.9)], [(False, 0.8), (True, 0.7)], [(False, 0.6)], [(False, 0.5), (True, 0.4)]]
    )
    assert recalls(found, 0.75) == {"all": 0.75, "small": 1.0, "medium": 0.5, "large": 1.0}
    assert recalls(found, 0.25) == {
        "all": 0.5,
        "small": 1.0,
        "medium": 0.5,
        "large": 0.0,
    }  # the third false one ends it
    figures = detector_figures(found)
    assert figures == {"recall@1": 0.75, "recall@3": 0.75, "small": 1.0, "medium": 0.5, "large": 1.0}


def test_a_size_without_persons_has_no_figure(annotated: CocoSet) -> None:
    part = annotated.part({image.image_id for image in annotated.images(None)[1:]})
    assert recalls(found_in(part, [[], [], []]), 1) == {"all": 0, "small": -1, "medium": 0, "large": 0}


def test_crowds_are_nobody(annotated: CocoSet, people: MakePeople) -> None:
    file, images = people("crowd", count=2)
    content = json.loads(file.read_text())
    content["annotations"][0]["iscrowd"] = 1
    file.write_text(json.dumps(content))
    crowd = whole_images(open_annotations(file, images))
    images_of = crowd.images(None)
    boxes = [person.box_xyxy for person in crowd.persons]
    found = [
        find_persons(lambda _, box=box: (box[None], np.ones(1, np.float32)), crowd, image)
        for box, image in zip(boxes, images_of, strict=True)
    ]
    assert np.isnan(found[0].right).all() and found[1].right.tolist() == [1]
    assert recalls(found, 0)["all"] == 1


@pytest.fixture
def detector_file(tmp_path: Path) -> str:
    """A small network that finds a person of 16 x 16 pixels at each pixel of its map that is a peak."""
    torch.manual_seed(0)
    network = create_model("sfm", head="persons", width=8, levels=2)
    record = Weights(
        "d.coco_64x64", "sfm", (64, 64), task="detection", codec="center_box", convention="classic",
        model_options={"head": "persons", "width": 8, "levels": 2},
    )  # fmt: skip
    save_network(tmp_path / "d.safetensors", network, record)
    return str(tmp_path / "d.safetensors")


def test_evaluate_measures_detectors(detector_file: str, people: MakePeople, tmp_path: Path) -> None:
    data, images = (str(path) for path in people())
    metrics = evaluate(detector_file, data=data, images=images, out=str(tmp_path / "out"))
    assert [*metrics] == ["recall@1", "recall@3", "small", "medium", "large"]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {result["image_id"] for result in results} == {1, 2, 3, 4} and len(results) > 4
    assert all(result["category_id"] == 1 and len(result["bbox"]) == 4 for result in results)
    assert all(0 < result["score"] < 0.1 for result in results)  # lower ones than it gives as a detector
    boxes = open_annotations(data, images).images(tmp_path / "out" / "results.json")  # it is a file for --boxes
    assert sum(len(image.boxes_xyxy) for image in boxes if image.boxes_xyxy is not None) == len(results)


def test_confused_colours_change_what_a_detector_gives(detector_file: str, people: MakePeople) -> None:
    annotated = open_annotations(*people())
    usual, confused = (measure(detector_file, annotated, channel_order=order).results for order in ("rgb", "bgr"))
    assert usual == measure(detector_file, annotated).results != confused


def test_what_detectors_are_not_asked(detector_file: str, people: MakePeople, tmp_path: Path) -> None:
    data, images = people()
    annotated = open_annotations(data, images)
    for options in ({"boxes": "gt"}, {"flip_test": True}):
        with pytest.raises(InputError, match="finds boxes: leave --boxes, --flip-test, --report and"):
            measure(detector_file, annotated, **options)
    with pytest.raises(InputError, match="leave --boxes, --flip-test, --report and --distributed out"):
        evaluate(detector_file, data=str(data), images=str(images), report=str(tmp_path / "report"))
    assert not (tmp_path / "report").exists()
