"""Whole images at the top left of inputs of a fixed size, without any file of weights."""

from __future__ import annotations

import numpy as np
import pytest

from leanpose.errors import InputError
from leanpose.geometry import letterbox
from leanpose.inference.bottom_up import BottomUp
from leanpose.inference.detect import NetworkDetector
from leanpose.weights.public import PUBLIC
from leanpose.weights.record import Weights

IMAGE = np.full((480, 640, 3), 200, np.uint8)


class Constant:
    """A network that gives the same outputs for any input, which it keeps."""

    def __init__(self, weights: Weights, **outputs: np.ndarray) -> None:
        self.weights, self.outputs = weights, outputs

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.images = images
        return self.outputs


def test_the_published_example() -> None:
    laid, matrix = letterbox(IMAGE, (416, 416), 114)
    assert (laid[:312] == 200).all() and (laid[312:] == 114).all()
    np.testing.assert_allclose(matrix, [[[0.65, 0, 0], [0, 0.65, 0]]])


def test_large_images_do_not_alias() -> None:
    stripes = np.zeros((2000, 2000, 3), np.uint8)
    stripes[::2] = 255
    laid, _ = letterbox(stripes, (400, 400), 0)
    assert laid.std() < 30  # 127 where every fifth row is taken


def test_boxes_come_back_to_the_image() -> None:
    dets = np.array([[[65, 65, 130, 130, 0.9]]], np.float32)
    network = Constant(PUBLIC["yolox_tiny"].record, dets=dets, labels=np.zeros((1, 1), np.int64))
    boxes, scores = NetworkDetector(network)(IMAGE)
    np.testing.assert_allclose(boxes, [[100, 100, 200, 200]], rtol=1e-6)
    np.testing.assert_allclose(scores, [0.9])
    assert network.images.shape == (1, 3, 416, 416)
    assert network.images[0, 0, 0, 0] == 200 and network.images[0, 0, -1, 0] == 114  # without normalisation


def test_keypoints_come_back_to_the_image() -> None:
    keypoints = np.full((1, 1, 17, 3), [320, 240, 0.8], np.float32)
    network = Constant(
        PUBLIC["rtmo_s"].record, dets=np.array([[[0, 0, 400, 400, 0.7]]], np.float32), keypoints=keypoints
    )
    poses = BottomUp(network).poses(np.full((960, 1280, 3), 200, np.uint8))
    np.testing.assert_allclose(poses.keypoints, np.full((1, 17, 2), [640, 480]))
    np.testing.assert_allclose(poses.person_scores, [0.7])


def test_a_letterbox_has_one_size() -> None:
    with pytest.raises(InputError, match="takes images of one size"):
        NetworkDetector(Constant(PUBLIC["yolox_tiny"].record), scales=(1.0, 0.5))
