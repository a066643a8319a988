"""Any JSON value in any place of a file that others wrote gives a result or an InputError, nothing else.

A few seconds of it belong to every run; LEANPOSE_FUZZ=20000 looks at that many files of each kind, new ones each time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("faster_coco_eval")
pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanpose.commands.boxes import read_boxes
from leanpose.data.annotations import AnnotatedSet, open_annotations
from leanpose.data.scenes import known_map
from leanpose.errors import InputError
from leanpose.keypoint_sets import COCO

COUNT = int(os.environ.get("LEANPOSE_FUZZ", 0))
fuzz = settings(
    max_examples=COUNT or 120,
    derandomize=not COUNT,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, -1, 1.5, 1e308, 10**400, float("nan"), float("inf"), "", "1", "nan", "\ud800", "\0", [], {}]
)
VALUES = st.one_of(
    ODD,
    st.recursive(
        st.one_of(ODD, st.integers(), st.floats(), st.text(max_size=5)),
        lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=8,
    ),
)


def places(content: Any) -> list[tuple[Any, Any]]:
    """Return all (container, key or position) in a JSON value."""
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else []
    return [place for key in keys for place in ((content, key), *places(content[key]))]


@st.composite
def spoilt(draw: st.DrawFn, good: Callable[[], Any]) -> Any:
    """Return a good file with one to three of its values replaced, or all of it."""
    content = good()
    for _ in range(draw(st.integers(1, 3))):
        where = places(content)
        i = draw(st.integers(-1, len(where) - 1))
        if i < 0:
            return draw(VALUES)
        container, key = where[i]
        if draw(st.booleans()):
            container[key] = draw(VALUES)
        else:
            del container[key]
    return content


def coco() -> dict[str, Any]:
    """Return a file of two images with a person each, a person without keypoints and a crowd."""
    triples = [float(v) for i in range(17) for v in (10 + i, 20 + 2 * i, 2 - i % 3)]
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 10, 30, 50], "area": 900, "iscrowd": 0}
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 60, "crowdIndex": 0.5} for i in (1, 2)],
        "annotations": [
            person | {"keypoints": triples, "num_keypoints": 11, "segmentation": [[1, 2, 30, 4, 5, 60]]},
            person | {"id": 2, "image_id": 2, "keypoints": triples},
            person | {"id": 3, "keypoints": [], "segmentation": [[1, 2, 30, 4, 5, 60]]},
            person | {"id": 4, "iscrowd": 1, "segmentation": {"size": [60, 40], "counts": [100, 200, 2100]}},
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": [[1, 2]]}],
    }


def mpii() -> list[dict[str, Any]]:
    joints = [[10.0 + i, 20.0 + i] for i in range(16)]
    person = {"center": [20, 30], "scale": 0.2, "joints": joints, "joints_vis": [1] * 16}
    return json.loads(json.dumps([person | {"image": f"{i}.png"} for i in (1, 2)]))


def detections() -> list[dict[str, Any]]:
    return [{"image_id": i, "category_id": 1, "bbox": [5, 10, 30, 50], "score": 0.5} for i in (1, 2)]


def boxes() -> dict[str, Any]:
    return {"1.png": [[5, 10, 30, 50]], "set/2.png": [[5, 10, 30, 50], [1, 2, 3, 4]]}


def written(folder: Path, content: Any) -> Path:
    file = folder / "file.json"
    file.write_text(json.dumps(content))
    return file


def use(annotated: AnnotatedSet) -> None:
    """Do all that is done with a set; what one of them refuses, another may take."""

    def scenes(views: Any) -> None:
        for scene in annotated.scenes(COCO, views):
            known_map(scene, (60, 40))

    def score() -> None:
        annotated.check(annotated.keypoint_set, "the model")
        for image in annotated.images():
            assert image.boxes_xyxy is not None and np.isfinite(image.boxes_xyxy).all()
        figures = annotated.score([], annotated.keypoint_set)
        assert all(-1 <= figure <= 1 for figure in figures.values())

    def samples() -> None:
        for sample in [*annotated.samples(), *annotated.samples(COCO)]:
            assert np.isfinite(sample.box_xyxy).all()
            assert (np.isfinite(sample.keypoints).all(axis=1) == (sample.visibility > 0)).all()

    for action in (samples, lambda: scenes("images"), lambda: scenes("persons"), annotated.everybody, score):
        try:
            action()
        except InputError as error:
            assert str(error) and "\n" not in str(error)


@fuzz
@given(content=st.one_of(spoilt(coco), spoilt(mpii)))
def test_annotations(content: Any, tmp_path: Path) -> None:
    try:
        annotated = open_annotations(written(tmp_path, content), tmp_path)
    except InputError as error:
        assert "file.json" in str(error) and "\n" not in str(error)
        return
    use(annotated)


@fuzz
@given(content=spoilt(detections))
def test_detections(content: Any, tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(coco()))
    try:
        images = open_annotations(truth, tmp_path).images(written(tmp_path, content))
    except InputError as error:
        assert "file.json" in str(error) and "\n" not in str(error)
        return
    assert all(image.boxes_xyxy is not None and np.isfinite(image.boxes_xyxy).all() for image in images)


@fuzz
@given(content=st.one_of(spoilt(boxes), spoilt(coco), spoilt(mpii)))
def test_boxes(content: Any, tmp_path: Path) -> None:
    try:
        every = read_boxes(str(written(tmp_path, content)), ["1.png", "set/2.png", "http://example.org/3.png"])
    except InputError as error:
        assert "file.json" in str(error) and "\n" not in str(error)
        return
    assert all(np.isfinite(its.boxes).all() for its in every)


def test_the_files_are_good_before_they_are_spoilt(tmp_path: Path) -> None:
    for content in (coco(), mpii()):
        annotated = open_annotations(written(tmp_path, content), tmp_path)
        assert len(annotated.samples(COCO)) == len(annotated.images()) == 2
    truth = open_annotations(written(tmp_path, coco()), tmp_path)
    assert len(truth.scenes(COCO)) == 2
    truth.check(COCO, "the model")
    assert len(truth.images(written(tmp_path, detections()))) == 2
    assert [len(its.boxes) for its in read_boxes(str(written(tmp_path, boxes())), ["1.png", "set/2.png"])] == [1, 2]
