"""Poses, Sample and Scene: checks when made, selection, JSON and COCO forms."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from typing import Any

import numpy as np
import pytest

from leanpose.errors import InputError, MissingPackageError
from leanpose.io.own_files import csv_header
from leanpose.keypoint_sets import COCO, CROWDPOSE, LSP
from leanpose.structures import Poses, Sample, Scene


def some_poses(n: int = 3, ids: bool = False) -> Poses:
    random = np.random.default_rng(n)
    return Poses(
        random.uniform(0, 300, (n, 17, 2)).astype(np.float32),
        random.uniform(0, 1, (n, 17)).astype(np.float32),
        np.tile(np.array([10, 20, 110, 220], np.float32), (n, 1)),
        np.linspace(0.2, 0.9, n, dtype=np.float32),
        COCO,
        np.arange(n) + 40 if ids else None,
    )


def fields(poses: Poses) -> dict[str, Any]:
    return {f.name: getattr(poses, f.name) for f in dataclasses.fields(poses)}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("keypoints", np.zeros((3, 16, 2)), r"keypoints must be an array of shape \(3, 17, 2\), not \(3, 16, 2\)"),
        ("keypoints", np.zeros((3, 17, 3)), "keypoints"),
        ("keypoints", [[0, 0]], "keypoints must be an array .*, not list"),
        ("scores", np.zeros((3, 17, 1)), "scores"),
        ("scores", np.zeros((2, 17)), "scores"),
        ("boxes_xyxy", np.zeros((3, 5)), "boxes_xyxy"),
        ("boxes_xyxy", [[0, 0, 1, 1]] * 3, "boxes_xyxy must be an array .*, not list"),
        ("person_scores", np.zeros((3, 1)), "person_scores"),
        ("ids", np.zeros(2, int), "ids"),
        ("keypoint_set", CROWDPOSE, r"\(3, 14, 2\)"),
        ("keypoint_set", "coco", r"must be a KeypointSet, not 'coco'; give get_keypoint_set\('coco'\)"),
        ("keypoint_set", None, r"must be a KeypointSet, not None; give leanpose\.COCO"),
    ],
)
def test_poses_check_their_shapes(field: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Poses(**fields(some_poses()) | {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("box_xyxy", np.zeros((1, 4))), ("keypoints", np.zeros((16, 2))), ("visibility", np.zeros((17, 1)))],
)
def test_samples_check_their_shapes(field: str, value: np.ndarray) -> None:
    good: dict[str, Any] = {
        "image_path": "a.jpg",
        "image_id": 1,
        "box_xyxy": np.zeros(4),
        "keypoints": np.zeros((17, 2)),
        "visibility": np.zeros(17),
    }
    Sample(**good)
    with pytest.raises(InputError, match=field):
        Sample(**good | {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("box_xyxy", np.zeros((1, 4))),
        ("keypoints", np.zeros((3, 16, 2))),
        ("keypoints", np.zeros((2, 17, 2))),
        ("boxes_xyxy", np.zeros((2, 4))),
        ("boxes_xyxy", [[0, 0, 1, 1]] * 3),
    ],
)
def test_scenes_check_their_shapes(field: str, value: object) -> None:
    good: dict[str, Any] = {
        "image_path": "a.jpg",
        "image_id": 1,
        "box_xyxy": np.zeros(4),
        "keypoints": np.zeros((3, 17, 2)),
        "visibility": np.zeros((3, 17)),
        "boxes_xyxy": np.zeros((3, 4)),
    }
    assert Scene(**good).ignored == ()
    with pytest.raises(InputError, match=field):
        Scene(**good | {field: value})


def test_poses_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        some_poses().scores = np.zeros((3, 17))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("index", "chosen"),
    [
        (1, [1]),
        (-1, [2]),
        (np.int64(0), [0]),
        (slice(1, None), [1, 2]),
        (slice(0, 0), []),
        (np.array([2, 0]), [2, 0]),
        (np.array([True, False, True]), [0, 2]),
        (np.array([], dtype=int), []),
    ],
)
def test_selection(index: Any, chosen: list[int]) -> None:
    poses = some_poses(ids=True)
    part = poses[index]
    assert len(part) == len(chosen)
    for name in ("keypoints", "scores", "boxes_xyxy", "person_scores", "ids"):
        np.testing.assert_array_equal(getattr(part, name), getattr(poses, name)[chosen])
    assert part.keypoint_set is COCO


def test_selection_outside_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        some_poses()[3]


def test_keypoints_by_name() -> None:
    poses = some_poses()
    np.testing.assert_array_equal(poses["left_ear"], np.column_stack([poses.keypoints[:, 3], poses.scores[:, 3]]))
    assert Poses.empty(COCO)["nose"].shape == (0, 3)
    with pytest.raises(InputError, match=r"There is no keypoint 'noes'\. Did you mean 'nose'\?"):
        poses["noes"]


def test_another_keypoint_set() -> None:
    poses = some_poses(ids=True)
    moved = poses.to(CROWDPOSE)
    assert moved.keypoint_set is CROWDPOSE and moved.keypoints.dtype == np.float32
    np.testing.assert_array_equal(moved["left_wrist"], poses["left_wrist"])
    assert np.isnan(moved["neck"][:, :2]).all() and not moved["neck"][:, 2].any()
    for name in ("boxes_xyxy", "person_scores", "ids"):
        np.testing.assert_array_equal(getattr(moved, name), getattr(poses, name))
    with pytest.raises(InputError, match=r"give get_keypoint_set\('crowdpose'\)"):
        poses.to("crowdpose")  # type: ignore[arg-type]


def test_rows_have_the_columns_of_the_csv() -> None:
    poses = some_poses(2)
    poses.keypoints[1, 0] = np.nan
    first, second = poses.to_rows()
    assert ["image", *first] == csv_header(COCO.keypoints)
    assert (second["person"], second["x2"]) == (1, 110) and second["score"] == pytest.approx(0.9)
    assert np.isnan(second["nose_x"]) and first["nose_y"] == poses.keypoints[0, 0, 1]
    assert [row["id"] for row in some_poses(2, ids=True).to_rows()] == [40, 41]


def test_iteration_gives_each_person_once() -> None:
    persons = list(some_poses(ids=True))
    assert [len(p) for p in persons] == [1, 1, 1]
    assert [int(p.ids[0]) for p in persons if p.ids is not None] == [40, 41, 42]


@pytest.mark.parametrize(
    ("poses", "text"),
    [
        (some_poses(1), "Poses(1 person, 17 coco keypoints)"),
        (some_poses(3), "Poses(3 persons, 17 coco keypoints)"),
        (Poses.empty(LSP), "Poses(0 persons, 14 lsp keypoints)"),
    ],
)
def test_prints_short(poses: Poses, text: str) -> None:
    assert repr(poses) == text


def test_empty() -> None:
    poses = Poses.empty(LSP)
    assert len(poses) == 0 and list(poses) == []
    assert poses.to_dicts() == [] and poses.to_coco_results(1) == []


def test_to_dicts() -> None:
    poses = some_poses(2)
    poses.keypoints[1, 3] = np.nan  # left_ear
    first, second = json.loads(json.dumps(poses.to_dicts(), allow_nan=False))
    assert list(first) == ["score", "box_xyxy", "keypoints"]
    assert list(first["keypoints"]) == list(COCO.keypoints)
    assert first["box_xyxy"] == [10, 20, 110, 220]
    assert set(COCO.keypoints) - set(second["keypoints"]) == {"left_ear"}
    nose = second["keypoints"]["nose"]
    np.testing.assert_allclose([nose["x"], nose["y"]], poses.keypoints[1, 0], atol=0.0051)
    np.testing.assert_allclose(nose["score"], poses.scores[1, 0], atol=0.000051)
    np.testing.assert_allclose(second["score"], poses.person_scores[1], atol=0.000051)


def test_to_dicts_with_ids() -> None:
    assert [person["id"] for person in json.loads(json.dumps(some_poses(2, ids=True).to_dicts()))] == [40, 41]


@pytest.mark.parametrize("identity", [np.int64(5), np.uint8(5), np.str_("000005")])
def test_ids_out_of_tables_are_ready_for_json(identity: Any) -> None:
    poses = some_poses()
    category: Any = np.int32(1)
    for entry in json.loads(json.dumps(poses.to_coco_results(identity, category_id=category))):
        assert (entry["image_id"], entry["category_id"]) == (identity.item(), 1)


def test_to_coco_results() -> None:
    poses = some_poses(2)
    poses.keypoints[0, 5] = np.nan
    first, second = json.loads(json.dumps(poses.to_coco_results(285, category_id=3), allow_nan=False))
    assert set(first) == {"image_id", "category_id", "keypoints", "bbox", "score"}
    assert (first["image_id"], first["category_id"], first["bbox"]) == (285, 3, [10, 20, 100, 200])
    assert len(first["keypoints"]) == 51
    assert first["keypoints"][15:17] == [0, 0]
    triples = np.reshape(second["keypoints"], (17, 3))
    np.testing.assert_allclose(triples[:, :2], poses.keypoints[1], atol=0.000051)
    np.testing.assert_allclose(triples[:, 2], poses.scores[1], atol=0.000051)


def test_to_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    """benchmarks/foreign_packages.py checks the same with the package itself."""
    monkeypatch.setitem(sys.modules, "supervision", types.SimpleNamespace(KeyPoints=types.SimpleNamespace))
    keypoints, scores = np.ones((2, 17, 2), np.float32), np.full((2, 17), 0.5, np.float32)
    keypoints[1, 3], scores[0, 4] = np.nan, 0.1
    ones = np.ones((2, 4), np.float32)
    poses = Poses(keypoints, scores, ones, ones[:, 0], COCO)
    found: Any = poses.to_supervision()
    assert found.xy[1, 3].tolist() == [0, 0] and np.isfinite(found.xy).all()
    assert (~found.visible).nonzero()[0].tolist() == [0, 1] and (~found.visible).nonzero()[1].tolist() == [4, 3]
    assert found.keypoint_confidence is scores and found.detection_confidence.tolist() == [1, 1]
    assert found.class_id.tolist() == [0, 0] and found.data.keys() == {"xyxy"}
    tracked: Any = dataclasses.replace(poses, ids=np.array([5, 6])).to_supervision(min_score=0.05)
    assert tracked.data["tracker_id"].tolist() == [5, 6] and (~tracked.visible).sum() == 1
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingPackageError, match="pip install supervision"):
        poses.to_supervision()
