"""Swapped sides are found by a network, in persons who stand, lie and hang; others are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from leanpose.data.lenient import LenientSet, read_leniently
from leanpose.errors import InputError
from leanpose.evaluation.swaps import evidence, swapped_sides
from leanpose.inference.predictor import Predictor
from leanpose.keypoint_sets import COCO
from leanpose.weights.record import Weights

TOP_DOWN = Weights("crops", "crops", (128, 96), codec="dark", codec_options={"sigma": 2.0})
FLIP = COCO.flip_index


def turned(points: np.ndarray, turns: int, side: int) -> np.ndarray:
    """Return points of a square image after quarter turns, counter-clockwise."""
    for _ in range(turns):
        points = np.stack([points[..., 1], side - 1 - points[..., 0]], axis=-1)
    return points


@pytest.fixture
def planted(tmp_path: Path, rectangle_people: Any) -> tuple[LenientSet, Predictor]:
    """Persons who stand, lie on either side and hang, each once as it is and once swapped, which are the odd ones."""
    images, annotations = [], []
    box = (70, 40, 110, 150)
    upright = rectangle_people.image(200, 200, red=(*box, 200))
    for number in range(8):
        turns, swapped = divmod(number, 2)
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.rot90(upright, turns)[..., ::-1])
        points = turned(rectangle_people.keypoints(rectangle_people.edges(box)), turns, 200)
        points = points[FLIP] if swapped else points
        corners = turned(rectangle_people.edges(box).reshape(2, 2), turns, 200)
        low, high = corners.min(0), corners.max(0)
        annotations.append({
            "id": number, "image_id": number, "bbox": [*low, *(high - low)],
            "keypoints": np.column_stack([points, np.full(17, 2)]).ravel().tolist(),
        })  # fmt: skip
        images.append({"id": number, "file_name": f"{number}.png", "width": 200, "height": 200})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "keypoints": [*COCO.keypoints]}]}
    return read_leniently(content, "x.json", tmp_path), Predictor(rectangle_people(TOP_DOWN), detector=None)


def test_swapped_sides_are_found_and_no_others(planted: tuple[LenientSet, Predictor]) -> None:
    annotated, predictor = planted
    (finding,), found = swapped_sides(annotated, predictor, [True] * 8)
    assert sorted(case.person or 0 for case in finding.cases) == [1, 3, 5, 7] == sorted(found)
    assert finding.level == "error"
    for person, poses in found.items():
        assert np.abs(poses.keypoints[0] - annotated.keypoints[person][FLIP]).max() < 4


def test_what_cannot_be_seen_is_left_out(planted: tuple[LenientSet, Predictor]) -> None:
    annotated, predictor = planted
    annotated.boxes_xywh[3] = [900, 900, 10, 10]  # outside its image
    (finding,), _ = swapped_sides(annotated, predictor, [number != 5 for number in range(8)])
    assert sorted(case.person or 0 for case in finding.cases) == [1, 7]


def test_a_network_of_other_keypoints_is_refused(planted: tuple[LenientSet, Predictor]) -> None:
    _, predictor = planted
    wheels = {"id": 1, "keypoints": [f"{side}_wheel_{i}" for side in ("left", "right") for i in range(8)] + ["roof"]}
    other = read_leniently({"images": [], "annotations": [], "categories": [wheels]}, "x.json", Path())
    with pytest.raises(InputError, match="crops knows 0 of the file's pairs"):
        swapped_sides(other, predictor, [])


def test_evidence_is_the_difference_of_both_similarities() -> None:
    annotated = np.array([[[0.0, 0], [100, 0], [50, 50]], [[100, 0], [0, 0], [50, 50]], [[np.nan] * 2] * 3])
    found = np.tile(annotated[:1], (3, 1, 1))
    values = evidence(annotated, found, np.ones((3, 3)), np.full(3, 100.0), np.array([1, 0, 2]))
    np.testing.assert_allclose(values, [-1, 1, 0], atol=1e-6)
