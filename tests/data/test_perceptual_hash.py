from __future__ import annotations

import cv2
import numpy as np
import pytest

from leanpose.data.perceptual_hash import Fingerprint, fingerprint, similar_pairs


def scene(seed: int) -> np.ndarray:
    """Return an image of smooth patches, (240, 320, 3)."""
    patches = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), np.uint8)
    return cv2.resize(patches, (320, 240), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def scenes() -> list[Fingerprint]:
    return [fingerprint(scene(seed)) for seed in range(40)]


@pytest.mark.parametrize(
    "changed",
    [
        cv2.imdecode(cv2.imencode(".jpg", scene(7), [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_COLOR),
        cv2.resize(scene(7), (128, 96), interpolation=cv2.INTER_AREA),
        cv2.convertScaleAbs(scene(7), alpha=0.8, beta=20),
        scene(7)[8:-8, 10:-10],
        scene(7)[:, :-20],
    ],
    ids=["encoded anew", "resized", "other brightness", "cropped", "cropped on one side"],
)
def test_the_same_image_is_found_and_no_other(changed: np.ndarray, scenes: list[Fingerprint]) -> None:
    assert list(similar_pairs([fingerprint(np.ascontiguousarray(changed))], scenes)) == [(0, 7)]


def test_each_pair_stands_once(scenes: list[Fingerprint]) -> None:
    assert list(similar_pairs(scenes)) == []
    assert list(similar_pairs([scenes[3], scenes[5], scenes[3]])) == [(0, 2)]
    assert list(similar_pairs([], scenes)) == [] == list(similar_pairs(scenes, []))


def test_images_of_one_grey_are_alike_where_it_is_the_same() -> None:
    black, also, white = (fingerprint(np.full((50, 60, 3), value, np.uint8)) for value in (10, 11, 250))
    assert list(similar_pairs([black, also, white])) == [(0, 1)]
