"""A person cut out, with rings where keypoints are annotated."""

from __future__ import annotations

import numpy as np
import pytest

from leanpose.io.draw_errors import TRUTH, draw_errors
from leanpose.keypoint_sets import KeypointSet
from leanpose.structures import Poses

PAIR = KeypointSet("pair", ("a", "b"), (("a", "b"),), "test")


def pose(keypoints: list[list[float]], box: list[float]) -> Poses:
    scores = np.zeros((1, 2), np.float32)
    return Poses(np.array([keypoints], np.float32), scores, np.array([box], np.float32), scores[:, 0], PAIR)


def test_a_ring_around_each_annotated_place_and_a_line_from_there() -> None:
    image = np.full((300, 400, 3), 60, np.uint8)
    before = image.copy()
    truth = np.array([[150.0, 100], [np.nan, np.nan]])
    drawn = draw_errors(image, pose([[190, 100], [150, 180]], [100, 50, 200, 250]), truth, 365)
    assert drawn.shape[1] == 365 and (image == before).all()
    green = (np.abs(drawn.astype(int) - TRUTH).max(axis=2) < 60).nonzero()
    # the square of 1.3 times 200 pixels around (150, 150) begins at (20, 20)
    zoom = 365 / 260
    (x, y), reach = (np.array([150.0, 100]) - 20) * zoom, 365 / 70
    assert green[1].min() == pytest.approx(x - reach, abs=2)
    assert green[1].max() == pytest.approx((190 - 20) * zoom, abs=2)
    assert [green[0].min(), green[0].max()] == pytest.approx([y - reach, y + reach], abs=2)


@pytest.mark.parametrize("found", [[[np.nan, np.nan], [-900, 5]], [[5, 5], [6, 6]]])
def test_odd_places_stay_within_the_image(found: list[list[float]]) -> None:
    image = np.zeros((30, 50, 3), np.uint8)
    drawn = draw_errors(image, pose(found, [2, 2, 12, 22]), np.array([[60.0, 3], [4, 4]]), 120)
    assert drawn.shape[1] == 120 and drawn.any()
