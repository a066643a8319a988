"""Predictor: the bundled network on a real photograph, and the way of coordinates with networks that are made up."""

from __future__ import annotations

import copy
import dataclasses
import json
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from leanpose.errors import InputError, WeightsError
from leanpose.geometry import Convention, heatmap_to_input, oks
from leanpose.inference.bottom_up import BottomUp
from leanpose.inference.detect import NetworkDetector
from leanpose.inference.engines import ENGINES, EngineName, OnnxRuntimeEngine, load_engine
from leanpose.inference.predictor import CHUNK, DETECTORS, MODELS, Predictor
from leanpose.inference.preprocess import box_inputs, check_boxes
from leanpose.inference.top_down import rescored
from leanpose.io.images import read_image
from leanpose.keypoint_sets import COCO, CROWDPOSE
from leanpose.structures import Poses
from leanpose.weights.catalogue import BUNDLED, find_weights
from leanpose.weights.record import Weights

ASTRONAUT = Path(__file__).parents[2] / "docs" / "assets" / "astronaut.png"
BOXES = np.array([[60, 0, 400, 512], [80, 10, 380, 460], [-50, -20, 300, 700], [100, 100, 300, 400]], np.float32)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("lpn50.coco_256x192", threads=1, detector=None)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return read_image(ASTRONAUT)


def assert_same(a: Poses, b: Poses, atol: float = 1e-3) -> None:
    for name in ("keypoints", "scores", "boxes_xyxy", "person_scores"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=atol, err_msg=name)


def test_whole_image_is_one_person(predictor: Predictor, astronaut: np.ndarray) -> None:
    poses = predictor(ASTRONAUT)
    assert poses.keypoints.shape == (1, 17, 2) and poses.keypoints.dtype == np.float32
    assert poses.scores.shape == (1, 17) and poses.keypoint_set.keypoints == COCO.keypoints
    assert poses.boxes_xyxy.tolist() == [[0, 0, 511, 511]]  # from the first pixel's center to the last one's
    np.testing.assert_allclose(poses.person_scores, poses.scores.mean(axis=1))
    assert_same(poses, predictor(astronaut, boxes=[0, 0, 511, 511]), atol=0)


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("boxes", [None, [60, 0, 400, 512]])
def test_astronaut(flip_test: bool, boxes: list[int] | None) -> None:
    """Her face and shoulders are where they are; she looks at us, so her left is at the right."""
    poses = Predictor("lpn50.coco_256x192", flip_test=flip_test, threads=1, detector=None)(ASTRONAUT, boxes)
    at = dict(zip(COCO.keypoints, poses.keypoints[0], strict=True))
    for name, place in {
        "nose": (223, 127),
        "left_eye": (244, 105),
        "right_eye": (202, 105),
        "left_shoulder": (305, 225),
        "right_shoulder": (130, 205),
    }.items():
        distance = np.hypot(*(at[name] - place))
        assert distance < (15 if name in ("nose", "left_eye", "right_eye") else 45), (name, at[name])
    assert at["right_eye"][0] < at["nose"][0] < at["left_eye"][0]
    assert at["right_ear"][0] < at["right_eye"][0] and at["left_eye"][0] < at["left_ear"][0]
    assert at["nose"][1] + 40 < min(at["left_shoulder"][1], at["right_shoulder"][1])
    assert poses.scores[0, :5].min() > 0.5


def test_several_boxes_equal_single_calls(predictor: Predictor, astronaut: np.ndarray) -> None:
    together = predictor(astronaut, BOXES)
    np.testing.assert_array_equal(together.boxes_xyxy, BOXES)
    for i, box in enumerate(BOXES):
        assert_same(together[i], predictor(astronaut, box))
    assert np.abs(together.keypoints[0] - together.keypoints[3]).max() > 20


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_batch_size_does_not_matter(predictor: Predictor, astronaut: np.ndarray, batch_size: int) -> None:
    other = Predictor("lpn50.coco_256x192", threads=1, batch_size=batch_size, detector=None)
    assert_same(other(astronaut, BOXES), predictor(astronaut, BOXES))


@pytest.mark.parametrize("flip_test", [False, True])
def test_cutting_the_image_moves_the_keypoints(astronaut: np.ndarray, flip_test: bool) -> None:
    """The padded box lies inside the cut, so the network sees the same pixels."""
    predictor = Predictor("lpn50.coco_256x192", flip_test=flip_test, threads=1, detector=None)
    box = np.array([130, 60, 290, 273], np.float32)
    left, top = 61, 20
    cut = predictor(astronaut[top:400, left:420], box - (left, top, left, top))
    moved = cut.keypoints + np.array([left, top])
    np.testing.assert_allclose(moved, predictor(astronaut, box).keypoints, rtol=0, atol=1e-2)


def test_twice_the_image_gives_twice_the_coordinates(predictor: Predictor, astronaut: np.ndarray) -> None:
    """Pixel (x, y) becomes a block whose center is (2 x + 0.5, 2 y + 0.5)."""
    large = astronaut.repeat(2, axis=0).repeat(2, axis=1)
    box = np.array([60, 0, 400, 512], np.float32)
    small, double = predictor(astronaut, box), predictor(large, box * 2 + 0.5)
    np.testing.assert_allclose(double.keypoints[0, :3], small.keypoints[0, :3] * 2 + 0.5, rtol=0, atol=6)


def test_flip_test_changes_a_little(predictor: Predictor, astronaut: np.ndarray) -> None:
    flipping = Predictor("lpn50.coco_256x192", flip_test=True, threads=1, detector=None)
    plain, flipped = predictor(astronaut), flipping(astronaut)
    distances = np.linalg.norm(plain.keypoints[0, :5] - flipped.keypoints[0, :5], axis=1)
    assert 0 < distances.max() < 15


def test_grey_image(predictor: Predictor, astronaut: np.ndarray) -> None:
    grey = astronaut.mean(axis=2).astype(np.uint8)
    assert_same(predictor(grey), predictor(grey[..., None].repeat(3, axis=2)), atol=0)
    assert np.hypot(*(predictor(grey).keypoints[0, 0] - (223, 127))) < 25


@pytest.mark.parametrize("shape", [(8, 8), (1, 1), (1, 500), (500, 2)])
def test_small_images(predictor: Predictor, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    poses = predictor(image)
    assert np.isfinite(poses.keypoints).all() and np.isfinite(poses.scores).all()
    reach = 1.25 * max(shape[0], shape[1] * 4 / 3, shape[0] * 4 / 3)
    assert np.abs(poses.keypoints).max() <= max(shape) + reach


def test_huge_image(predictor: Predictor, astronaut: np.ndarray) -> None:
    """A 24-megapixel photograph with the astronaut enlarged in it."""
    image = np.zeros((4000, 6000, 3), np.uint8)
    image[: 512 * 7, 1000 : 1000 + 512 * 7] = astronaut.repeat(7, axis=0).repeat(7, axis=1)
    poses = predictor(image, [1000 + 60 * 7, 0, 1000 + 400 * 7, 512 * 7])
    x, y = poses.keypoints[0, 0]
    assert np.hypot(x - 1000 - 223 * 7, y - 127 * 7) < 15 * 7
    assert np.isfinite(predictor(image).keypoints).all()


def test_results_are_ready_for_json(predictor: Predictor, astronaut: np.ndarray) -> None:
    for boxes in (None, BOXES, [[0, 0, 1e-6, 1e-6]], [[-9e5, -9e5, 9e5, 9e5]], [[0, 0, 5e5, 1]]):
        persons = json.loads(json.dumps(predictor(astronaut, boxes).to_dicts(), allow_nan=False))
        assert all(len(person["keypoints"]) == 17 for person in persons)


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), ()])
def test_no_boxes_no_persons(predictor: Predictor, astronaut: np.ndarray, boxes: Any) -> None:
    poses = predictor(astronaut, boxes)
    assert len(poses) == 0 and poses.keypoints.shape == (0, 17, 2)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([np.nan, 0, 10, 10], r"Box 0 \(nan, 0, 10, 10\) has a coordinate that is not a number"),
        ([[0, 0, 10, 10], [0, 0, np.inf, 10]], r"Box 1 \(0, 0, inf, 10\) has a coordinate that is not a number"),
        ([0, 0, 1e30, 1e30], "not a number of pixels"),
        ([0, 0, 10**400, 1], "Boxes must be numbers"),
        ([0, 0, None, 1], "not a number of pixels"),
        ([10, 10, 10, 20], r"Box 0 \(10, 10, 10, 20\) has no area"),
        ([10, 10, 5, 20], "has no area"),
        ([10, 20, 20, 10], "has no area"),
        ([512, 0, 600, 10], r"Box 0 \(512, 0, 600, 10\) lies outside the image of 512 x 512 pixels"),
        ([-20, 0, 0, 10], "lies outside"),
        ([0, -20, 10, -1], "lies outside"),
        ([0, 600, 10, 700], "lies outside"),
        ([0, 0, 10], r"shape \(N, 4\): .*this is \(1, 3\)"),
        (np.zeros((1, 1, 4)), r"shape \(N, 4\)"),
        (np.zeros((2, 5)), r"shape \(N, 4\)"),
        (5, r"shape \(N, 4\)"),
        ([[0, 0, 1, 1], [0, 0]], "Boxes must be numbers"),
        ("0,0,1,1", "Boxes must be numbers"),
        ({"x": 1}, "Boxes must be numbers"),
    ],
)
def test_unusable_boxes(predictor: Predictor, astronaut: np.ndarray, boxes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        predictor(astronaut, boxes)


@pytest.mark.parametrize(
    ("boxes", "found"),
    [
        (None, [[0, 0, 29, 19]]),
        ([1, 2, 3, 4], [[1, 2, 3, 4]]),
        (((1, 2, 3, 4), (-5, 0, 1, 9)), [[1, 2, 3, 4], [-5, 0, 1, 9]]),
        (np.array([[1, 2, 3, 4]], np.int64), [[1, 2, 3, 4]]),
    ],
)
def test_check_boxes(boxes: Any, found: list[list[float]]) -> None:
    result = check_boxes(boxes, (20, 30))
    assert result.dtype == np.float32 and result.tolist() == found


def test_unusable_options() -> None:
    with pytest.raises(InputError, match="batch_size must be at least 1, not 0"):
        Predictor("lpn50", batch_size=0)


class DotFinder:
    """A network whose heatmaps are the red of its input, read where the record says that heat-map pixels lie."""

    def __init__(self, weights: Weights, heatmap_size: tuple[int, int] = (32, 24)) -> None:
        self.weights = weights
        height, width = heatmap_size
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2).astype(float)
        self._places = heatmap_to_input(grid, weights.input_size, heatmap_size, weights.convention)
        self.calls: list[int] = []

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.calls.append(len(images))
        red = images[:, 0] * self.weights.std[0] / 255 + self.weights.mean[0] / 255  # (B, h, w), 0 to 1
        x, y = self._places[..., 0], self._places[..., 1]
        left, top = (np.floor(v).astype(int).clip(0, n - 2) for v, n in ((x, red.shape[2]), (y, red.shape[1])))
        right_part, lower_part = x - left, y - top
        upper = red[:, top, left] * (1 - right_part) + red[:, top, left + 1] * right_part
        lower = red[:, top + 1, left] * (1 - right_part) + red[:, top + 1, left + 1] * right_part
        maps = upper * (1 - lower_part) + lower * lower_part
        return {"heatmaps": maps[:, None].repeat(len(self.weights.keypoint_set), 1).astype(np.float32)}


def dot(x: float, y: float, size: tuple[int, int], spread: float) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    red = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * spread**2))
    return np.dstack([red, np.zeros_like(red), np.zeros_like(red)]).round().astype(np.uint8)


@pytest.mark.parametrize("convention", ["udp", "classic"])
@pytest.mark.parametrize("scale", [1, 2, 9])
@pytest.mark.parametrize("place", [(61.0, 83.5), (44.4, 100.2)])
def test_a_dot_is_found_in_place(convention: Convention, scale: int, place: tuple[float, float]) -> None:
    """To a fifth of a heat-map pixel, through cropping, averaging, decoding and the way back."""
    record = Weights("dot", "dot", (128, 96), codec="dark", codec_options={"sigma": 2.0}, convention=convention)
    x, y = place[0] * scale, place[1] * scale
    image = dot(x, y, (160 * scale, 120 * scale), 8 * scale)
    poses = Predictor(DotFinder(record), detector=None)(image, [10.3 * scale, 20.7 * scale, 100 * scale, 140.2 * scale])
    heatmap_pixel = 119.5 * scale * 1.25 / 32
    np.testing.assert_allclose(poses.keypoints[0], [[x, y]] * 17, rtol=0, atol=0.2 * heatmap_pixel)
    assert poses.scores.min() > 0.9


@pytest.mark.parametrize(("convention", "shift"), [("udp", False), ("classic", True)])
def test_the_flip_test_leaves_a_dot_in_place(convention: Convention, shift: bool) -> None:
    record = Weights(
        "dot", "dot", (128, 96), codec="dark", codec_options={"sigma": 2.0}, convention=convention, flip_shift=shift
    )
    engine = DotFinder(record)
    image = dot(61, 83.5, (160, 120), 8)
    one, two = (Predictor(engine, flip_test=flip, detector=None)(image, [10, 20, 100, 140]) for flip in (False, True))
    np.testing.assert_allclose(two.keypoints, one.keypoints, rtol=0, atol=0.75)
    assert engine.calls == [1, 1, 1]


def test_a_bias_is_taken_off_in_image_pixels() -> None:
    image = dot(61, 83.5, (160, 120), 8)
    plain, moved = (
        Predictor(DotFinder(Weights("dot", "dot", (128, 96), codec="heatmap", bias=bias)), detector=None)(
            image, [10, 20, 100, 140]
        )
        for bias in (0.0, 1.5)
    )
    np.testing.assert_allclose(plain.keypoints - moved.keypoints, 1.5, rtol=0, atol=1e-4)


def test_persons_are_batched() -> None:
    engine = DotFinder(Weights("dot", "dot", (128, 96), codec="heatmap"))
    Predictor(engine, batch_size=4, detector=None)(np.zeros((50, 50, 3), np.uint8), [[0, 0, 20, 30]] * 10)
    assert engine.calls == [4, 4, 2]


@pytest.mark.parametrize(("order", "channels"), [("rgb", (200, 100, 50)), ("bgr", (50, 100, 200))])
def test_normalisation_follows_the_record(order: Any, channels: tuple[int, int, int]) -> None:
    record = Weights("x", "x", (32, 24), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 8.0), channel_order=order, padding=1.0)
    image = np.full((64, 48, 3), (200, 100, 50), np.uint8)
    images, matrices = box_inputs(image, np.array([[8, 8, 32, 40], [10, 10, 34, 42]], np.float32), record)
    assert images.shape == (2, 3, 32, 24) and images.dtype == np.float32 and images.flags.c_contiguous
    assert matrices.shape == (2, 2, 3)
    expected = [(channels[i] - (i + 1.0)) / (4.0, 5.0, 8.0)[i] for i in range(3)]
    np.testing.assert_allclose(images, np.broadcast_to(np.reshape(expected, (1, 3, 1, 1)), images.shape), rtol=1e-5)


def test_the_padding_of_the_record_is_used() -> None:
    """A wider record sees more of the image: the white frame around the box comes into the crop."""
    image = np.full((100, 100, 3), 255, np.uint8)
    image[30:70, 35:65] = 0
    record = Weights("x", "x", (32, 24), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), padding=1.0)
    box = np.array([[36, 31, 63, 68]], np.float32)
    tight, wide = (box_inputs(image, box, dataclasses.replace(record, padding=p))[0] for p in (1.0, 1.5))
    assert tight.max() < 1 and wide[..., 0].min() == 255


def test_a_bottom_up_network_is_refused_in_one_sentence() -> None:
    class Tags:
        weights = Predictor("lpn50", detector=None).weights

        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            return {"tags": images}

    with pytest.raises(WeightsError, match="'lpn50' gives tags, but the codec dark reads heatmaps"):
        Predictor(Tags(), detector=None)(np.zeros((64, 64, 3), np.uint8))


Rectangles = Any  # the class RectanglePeople of conftest.py
TOP_DOWN = Weights("crops", "crops", (128, 96), codec="dark", codec_options={"sigma": 2.0})
BOTTOM_UP = Weights(
    "all.coco_256x256", "all", (256, 256), task="bottom_up", convention="classic", codec="associative_embedding"
)
PEOPLE = {  # the best is not the first
    "red": (30, 20, 130, 300, 180),
    "green": (200, 40, 330, 310, 250),
    "blue": (400, 100, 470, 290, 140),
}
BY_SCORE = ("green", "red", "blue")


@pytest.fixture
def crowd(rectangle_people: Rectangles) -> np.ndarray:
    """An image of 330 x 500 pixels with three persons."""
    return rectangle_people.image(330, 500, **PEOPLE)


def places_of(rectangles: Rectangles, names: tuple[str, ...] = BY_SCORE) -> np.ndarray:
    return np.stack([rectangles.keypoints(rectangles.edges(PEOPLE[name])) for name in names])


@pytest.mark.parametrize("person_head", [False, True])
@pytest.mark.parametrize("flip_test", [False, True])
def test_found_persons_are_refined(
    person_head: bool, flip_test: bool, crowd: np.ndarray, rectangle_people: Rectangles
) -> None:
    network, detector = rectangle_people(TOP_DOWN), rectangle_people(BOTTOM_UP, person_head)
    poses = Predictor(network, flip_test=flip_test, detector=detector)(crowd)
    assert network.calls == [(3, 3, 128, 96)] * (2 if flip_test else 1)  # all persons in one call
    assert {shape[0] for shape in detector.calls} == {1}  # the flip test is for the network, not for its detector
    assert len(detector.calls) == len(detector.weights.box_scales)
    places = places_of(rectangle_people)
    # A pixel of the heatmap of the largest person is 1.25 * 281 / 32 = 11 pixels of the image.
    np.testing.assert_allclose(poses.keypoints, places, rtol=0, atol=5)
    edges = np.stack([rectangle_people.edges(PEOPLE[name]) for name in BY_SCORE])
    np.testing.assert_allclose(poses.boxes_xyxy, edges, rtol=0, atol=3 if person_head else 30)
    keypoint_scores = poses.scores.mean(axis=1)
    box_scores = (poses.person_scores / keypoint_scores) ** 2
    brightness = np.array([PEOPLE[name][4] / 255 for name in BY_SCORE])
    np.testing.assert_allclose(box_scores, brightness, rtol=0.15)
    np.testing.assert_allclose(keypoint_scores, brightness, rtol=0.15)
    assert poses.keypoint_set is TOP_DOWN.keypoint_set


def test_the_detector_only_proposes(crowd: np.ndarray, rectangle_people: Rectangles) -> None:
    """Its keypoints need not be those of the network."""
    network = rectangle_people(TOP_DOWN)
    detector = rectangle_people(dataclasses.replace(BOTTOM_UP, keypoint_set=CROWDPOSE))
    poses = Predictor(network, detector=detector)(crowd)
    assert poses.keypoint_set is COCO
    np.testing.assert_allclose(poses.keypoints, places_of(rectangle_people), rtol=0, atol=5)


def test_found_persons_are_batched(crowd: np.ndarray, rectangle_people: Rectangles) -> None:
    network = rectangle_people(TOP_DOWN)
    Predictor(network, detector=rectangle_people(BOTTOM_UP), batch_size=2)(crowd)
    assert [shape[0] for shape in network.calls] == [2, 1]


@pytest.mark.parametrize("bottom_up", [False, True])
def test_min_person_score(bottom_up: bool, crowd: np.ndarray, rectangle_people: Rectangles) -> None:
    network = rectangle_people(BOTTOM_UP if bottom_up else TOP_DOWN)

    def found(score: float) -> Poses:
        return Predictor(network, detector=rectangle_people(BOTTOM_UP), min_person_score=score)(crowd)

    everybody = found(0)
    scores = everybody.person_scores.tolist()
    assert len(everybody) == 3 and scores == sorted(scores, reverse=True)
    for score, count in ((scores[2], 3), (scores[2] + 1e-4, 2), (scores[1] + 1e-4, 1), (1, 0)):
        assert_same(found(score), everybody[:count], atol=0)


def test_default_min_person_score(rectangle_people: Rectangles) -> None:
    """Who finds people alone scores them lower."""
    assert Predictor(rectangle_people(TOP_DOWN), detector=None).min_person_score == 0.35
    assert Predictor(rectangle_people(BOTTOM_UP)).min_person_score == 0.2
    assert Predictor(rectangle_people(BOTTOM_UP), min_person_score=0).min_person_score == 0


def test_min_person_score_is_for_searches_only(crowd: np.ndarray, rectangle_people: Rectangles) -> None:
    for detector in (None, rectangle_people(BOTTOM_UP)):
        predictor = Predictor(rectangle_people(TOP_DOWN), detector=detector, min_person_score=1.0)
        assert len(predictor(crowd, [[0, 0, 99, 99], [100, 100, 199, 199]])) == 2
    assert len(Predictor(rectangle_people(TOP_DOWN), detector=None, min_person_score=1.0)(crowd)) == 1


@pytest.mark.parametrize("boxes", [[30, 20, 130, 300], [], [[200, 40, 330, 310]] * 2])
def test_given_boxes_skip_the_detector(boxes: list[Any], crowd: np.ndarray, rectangle_people: Rectangles) -> None:
    network, detector = rectangle_people(TOP_DOWN), rectangle_people(BOTTOM_UP)
    poses = Predictor(network, detector=detector)(crowd, boxes)
    assert detector.calls == []
    assert len(poses) == len(np.reshape(boxes, (-1, 4)))  # also where two boxes hold the same person
    assert_same(poses, Predictor(network, detector=None)(crowd, boxes), atol=0)


def test_without_a_detector_the_image_is_one_person(crowd: np.ndarray, rectangle_people: Rectangles) -> None:
    poses = Predictor(rectangle_people(TOP_DOWN), detector=None)(crowd)
    assert poses.boxes_xyxy.tolist() == [[0, 0, 499, 329]]


def test_a_person_that_is_proposed_twice_is_one(crowd: np.ndarray, rectangle_people: Rectangles) -> None:
    class Twice(rectangle_people):
        """The best person has two centers, one with a box that is too wide for suppression to take it out."""

        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().__call__(images)
            (_, _, y, x) = np.unravel_index(outputs["centers"].argmax(), outputs["centers"].shape)
            outputs["centers"][..., y, x + 2] = outputs["centers"].max() - 0.1
            outputs["box_logs"][..., y, x + 2] = outputs["box_logs"][..., y, x] + [0.9, 0, 0.9, 0]
            return outputs

    detector = Twice(BOTTOM_UP, person_head=True)
    assert len(NetworkDetector(detector, (1.0,))(crowd)[0]) == 4
    network = rectangle_people(TOP_DOWN)
    poses = Predictor(network, detector=detector)(crowd)
    assert network.calls[0][0] == 4
    assert len(poses) == 3


class Middle:
    """A network that sees every keypoint in the middle of its input."""

    weights = TOP_DOWN

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        y, x = np.mgrid[:32, :24]
        peak = 0.9 * np.exp(-((x - 12) ** 2 + (y - 16) ** 2) / 8)
        return {"heatmaps": np.broadcast_to(peak, (len(images), 17, 32, 24)).astype(np.float32)}


@pytest.mark.parametrize(("apart", "likeness", "found"), [(4, 0.96, 1), (10, 0.78, 1), (20, 0.51, 2)])
def test_found_persons_that_nearly_agree_are_one(apart: int, likeness: float, found: int) -> None:
    """From an OKS of 0.6 on; as the HRNet family evaluates boxes of a file, from 0.9 on."""
    boxes = np.array([[100, 100, 200, 233], [100 + apart, 100, 200 + apart, 233]], np.float32)
    scores = np.array([0.81, 0.64], np.float32)
    predictor = Predictor(Middle(), detector=lambda image: (boxes, scores))
    image = np.zeros((400, 400, 3), np.uint8)
    two = predictor(image, boxes)
    area = np.array([125 * 166.7])
    alike = oks(two.keypoints[:1], two.keypoints[1:], area, area, COCO.oks_sigmas)
    assert alike == pytest.approx(likeness, abs=0.01)
    poses = predictor(image)
    assert poses.boxes_xyxy.tolist() == boxes[:found].tolist()
    np.testing.assert_allclose(poses.person_scores, [0.81, 0.72][:found], rtol=0.02)
    assert len(predictor.rescored(two, scores)) == (1 if likeness > 0.9 else 2)


@pytest.mark.parametrize(("sure", "found"), [(17, 2), (5, 1), (3, 1), (2, 2)])
def test_a_part_of_a_found_person_is_no_other(sure: int, found: int) -> None:
    """The box of a part shows the first keypoints in the same places; what it guesses of the others does not count."""
    poses = Poses(
        np.zeros((2, 17, 2), np.float32),
        np.full((2, 17), 0.9, np.float32),
        np.array([[0, 0, 100, 200], [0, 0, 100, 90]], np.float32),
        np.full(2, 0.9, np.float32),
        COCO,
    )
    poses.keypoints[1, sure % 17 :] += 80
    poses.scores[1, sure:] = 0.1
    ones = np.array([1.0, 0.9], np.float32)
    assert len(rescored(poses, ones, TOP_DOWN, found=True)) == found
    assert len(rescored(poses, ones, TOP_DOWN)) == 2


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0)])
def test_a_bottom_up_network_needs_no_detector(
    flip_test: bool, scales: tuple[float, ...], crowd: np.ndarray, rectangle_people: Rectangles
) -> None:
    network, detector = rectangle_people(BOTTOM_UP), rectangle_people(BOTTOM_UP)
    predictor = Predictor(network, flip_test=flip_test, detector=detector, scales=scales)
    poses = predictor(crowd)
    assert predictor.bottom_up and not Predictor(rectangle_people(TOP_DOWN), detector=None).bottom_up
    assert detector.calls == []
    assert len(network.calls) == (2 if flip_test else 1) * len(scales)
    np.testing.assert_allclose(poses.keypoints, places_of(rectangle_people), rtol=0, atol=3)
    assert_same(poses, BottomUp(network, flip_test, scales).poses(crowd), atol=0)


@pytest.mark.parametrize("boxes", [[0, 0, 20, 20], [], [[np.nan] * 4], "everywhere"])
def test_a_bottom_up_network_takes_no_boxes(boxes: Any, crowd: np.ndarray, rectangle_people: Rectangles) -> None:
    with pytest.raises(InputError, match=r"finds persons without boxes; leave them out") as caught:
        Predictor(rectangle_people(BOTTOM_UP))(crowd, boxes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("person_head", [False, True])
@pytest.mark.parametrize("size", [(330, 500), (1, 1), (1, 500), (3000, 20)])
def test_nobody_is_found(size: tuple[int, int], person_head: bool, rectangle_people: Rectangles) -> None:
    network, detector = rectangle_people(TOP_DOWN), rectangle_people(BOTTOM_UP, person_head)
    for predictor in (Predictor(network, detector=detector), Predictor(detector)):
        poses = predictor(np.zeros((*size, 3), np.uint8))
        assert len(poses) == 0 and poses.keypoints.shape == (0, 17, 2)
        assert poses.keypoints.dtype == poses.person_scores.dtype == np.float32
        assert poses.to_dicts() == []
    assert network.calls == []


def test_a_grey_image_is_searched_too(rectangle_people: Rectangles) -> None:
    """Grey is red, green and blue in one place: three persons for this detector, one without duplicates."""
    grey = rectangle_people.image(330, 500, red=PEOPLE["green"])[..., 0]
    poses = Predictor(rectangle_people(TOP_DOWN), detector=rectangle_people(BOTTOM_UP))(grey)
    np.testing.assert_allclose(poses.keypoints, places_of(rectangle_people, ("green",)), rtol=0, atol=5)


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        ("litpose_xs", "There are no weights 'litpose_xs'"),
        ("absent.onnx", r"There is no file absent\.onnx"),
        ("lpn50", r"lpn50\.coco_.* finds one person per crop"),
    ],
)
def test_unusable_detectors(detector: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        Predictor("lpn50", detector=detector)(ASTRONAUT)
    assert "\n" not in str(caught.value)


def test_detectors_have_names_too(crowd: np.ndarray, networks: dict[str, Any], rectangle_people: Rectangles) -> None:
    networks |= {"crops": rectangle_people(TOP_DOWN), "all": rectangle_people(BOTTOM_UP)}
    assert len(Predictor("crops", detector="all")(crowd)) == 3
    networks |= {MODELS[-1]: networks["crops"], DETECTORS[-1]: networks["all"]}
    assert len(Predictor()(crowd)) == 3


def test_the_astronaut_is_found() -> None:
    """By the bundled detector, refined by the bundled network."""
    poses = Predictor(threads=1)(ASTRONAUT)
    assert len(poses) == 1
    left, top, right, bottom = poses.boxes_xyxy[0]
    assert left < 202 and top < 105 and right > 244 and bottom > 225  # around her eyes and shoulders
    assert np.hypot(*(poses.keypoints[0, COCO.keypoints.index("nose")] - (223, 127))) < 30


@pytest.mark.parametrize("method", ["pickle", "deepcopy"])
def test_a_predictor_of_names_can_be_pickled(method: str) -> None:
    predictor = Predictor(
        Path(find_weights("lpn50.coco_128x96_int8")), threads=1, batch_size=3, detector=None, min_person_score=0.5
    )
    other = pickle.loads(pickle.dumps(predictor)) if method == "pickle" else copy.deepcopy(predictor)
    assert other is not predictor and other.min_person_score == 0.5
    assert_same(other(ASTRONAUT), predictor(ASTRONAUT), atol=0)


def test_processes_that_are_spawned_take_a_predictor() -> None:
    predictor = Predictor("lpn50.coco_128x96_int8", threads=1, detector=None)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (poses,) = pool.map(predictor, [str(ASTRONAUT)])
    assert_same(poses, predictor(ASTRONAUT), atol=0)


def test_a_predictor_of_engines_cannot_be_pickled(rectangle_people: Rectangles) -> None:
    for words in ({"model": rectangle_people(TOP_DOWN)}, {"detector": rectangle_people(BOTTOM_UP)}):
        with pytest.raises(TypeError, match="make it with names or files of networks"):
            pickle.dumps(Predictor(**words))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("broken", ["network", "detector", "bottom-up"])
def test_a_network_that_gives_nan_is_named(
    broken: str, flip_test: bool, value: float, crowd: np.ndarray, rectangle_people: Rectangles
) -> None:
    class Broken(rectangle_people):
        """One value of one output is wrong."""

        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().__call__(images)
            next(reversed(outputs.values())).flat[7] = value
            return outputs

    network, detector = rectangle_people(TOP_DOWN), rectangle_people(BOTTOM_UP, person_head=True)
    if broken == "network":
        network = Broken(TOP_DOWN)
    elif broken == "detector":
        detector = Broken(BOTTOM_UP, person_head=True)
    else:
        network = Broken(BOTTOM_UP)
    predictor = Predictor(network, detector=detector, flip_test=flip_test)
    with pytest.raises(WeightsError, match=r"The network (crops|all\.coco_256x256) gives NaN or infinite values"):
        predictor(crowd)
    with pytest.raises(WeightsError, match="gives NaN"):
        list(predictor.stream([crowd] * 3))


def crowds(rectangle_people: Rectangles) -> list[np.ndarray]:
    """Images of different sizes with none to three persons."""
    names = [(), ("red",), ("green", "blue"), BY_SCORE, ("blue",)]
    return [
        rectangle_people.image(330 + 10 * i, 500 - 20 * i, **{name: PEOPLE[name] for name in names[i % 5]})
        for i in range(2 * CHUNK + 3)
    ]


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("bottom_up", [False, True])
def test_a_stream_gives_what_single_calls_give(bottom_up: bool, flip_test: bool, rectangle_people: Rectangles) -> None:
    images = crowds(rectangle_people)
    network, detector = rectangle_people(BOTTOM_UP if bottom_up else TOP_DOWN), rectangle_people(BOTTOM_UP)
    predictor = Predictor(network, detector=detector, flip_test=flip_test, batch_size=4)
    expected = [predictor(image) for image in images]
    assert {len(poses) for poses in expected} == {0, 1, 2, 3}
    network.calls.clear()
    for result, given, single in zip(predictor.stream(images), images, expected, strict=True):
        np.testing.assert_array_equal(result[0], given)
        assert_same(result[1], single, atol=1e-4)
    if not bottom_up:
        persons = [shape[0] for shape in network.calls[:: 2 if flip_test else 1]]
        in_chunks = [sum(map(len, expected[i : i + CHUNK])) for i in range(0, len(images), CHUNK)]
        full = [min(4, n - i) for n in in_chunks for i in range(0, n, 4)]
        assert persons == full  # persons of several images in one call


def test_a_stream_takes_boxes_and_names_faults(tmp_path: Path, rectangle_people: Rectangles) -> None:
    images = crowds(rectangle_people)[:4]
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for file, image in zip(files, images, strict=True):
        cv2.imwrite(str(file), image[..., ::-1])
    files[1].write_bytes(b"no image")
    boxes = [[[0, 0, 99, 99]], None, [[30, 20, 130, 300], [200, 40, 330, 310]], [[10, 10, 5, 5]]]
    predictor = Predictor(rectangle_people(TOP_DOWN), detector=None)
    results = list(predictor.stream(files, boxes, on_error="yield"))
    assert [isinstance(result, InputError) for result in results] == [False, True, False, True]
    assert "1.png" in str(results[1]) and "has no area" in str(results[3])
    for i in (0, 2):
        result = results[i]
        assert not isinstance(result, InputError)
        np.testing.assert_array_equal(result[0], images[i])
        assert_same(result[1], predictor(images[i], boxes[i]), atol=1e-4)


def test_a_stream_reads_only_a_little_ahead(rectangle_people: Rectangles) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield rectangle_people.image(64, 48)

    stream = Predictor(rectangle_people(TOP_DOWN), detector=None).stream(endless())
    for done in range(1, 4 * CHUNK):
        next(stream)
        assert taken - done <= 2 * CHUNK
    stream.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The threads of each engine of ONNX Runtime that is loaded."""
    opened: list[int | None] = []

    class Noted(OnnxRuntimeEngine):
        def __init__(self, path: Path, threads: int | None = None, device: str = "cpu") -> None:
            opened.append(threads)
            super().__init__(path, threads, device)

    monkeypatch.setitem(ENGINES, "onnxruntime", ((".onnx",), Noted))
    return opened


def test_several_images_at_once(opened: list[int | None]) -> None:
    """With ONNX Runtime on the CPU, each on one thread; order, faults and poses stay those of single calls."""
    predictor = Predictor("lpn50.coco_256x192_int8", threads=3)
    photo = read_image(ASTRONAUT)
    images = [photo, photo[:, ::-1], "absent.png", *(photo[: 512 - 8 * i] for i in range(8)), photo[:9, :9]]
    expected = [predictor(image) for image in images if not isinstance(image, str)]
    assert opened == [3, 3]  # network and detector
    taken = 0

    def counted() -> Iterator[Any]:
        nonlocal taken
        for image in images:
            taken += 1
            yield image

    for done, result in enumerate(predictor.stream(counted(), on_error="yield")):
        assert taken - done <= 2 * 3
        if done == 2:
            assert isinstance(result, InputError) and "absent.png" in str(result)
        else:
            assert not isinstance(result, InputError)
            np.testing.assert_array_equal(result[0], images[done])
            assert_same(result[1], expected.pop(0), atol=1e-2)
    assert not expected
    assert set(opened[2:]) == {1}


def test_images_one_after_another(opened: list[int | None]) -> None:
    """Where a network has one thread, cannot be loaded again or shared by threads, or there is one image."""
    photo, name = read_image(ASTRONAUT), "lpn50.coco_256x192_int8"
    for predictor, images in (
        (Predictor(name, threads=3, detector=None), [photo]),  # with all its threads
        (Predictor(name, threads=1, detector=None), [photo, photo]),
        (Predictor(load_engine(name, threads=2), threads=2, detector=None), [photo, photo]),
        (Predictor(name, "openvino", threads=2, detector=None), [photo, photo]),
    ):
        for result in predictor.stream(images):
            assert_same(result[1], predictor(photo), atol=1e-4)
    assert opened == [3, 1, 2]  # nothing was loaded for a stream


def test_an_empty_stream() -> None:
    assert list(Predictor("lpn50", detector=None).stream([])) == []


def test_the_least_score_of_a_person_goes_by_call(rectangle_people: Rectangles) -> None:
    image = crowds(rectangle_people)[3]
    predictor = Predictor(rectangle_people(TOP_DOWN), detector=rectangle_people(BOTTOM_UP))
    scores = predictor(image).person_scores
    between = float(scores[:2].mean())
    assert len(scores) == 3 and len(predictor(image, min_person_score=between)) == 1
    assert [len(poses) for _, poses in predictor.stream([image] * 2, min_person_score=between)] == [1, 1]
    with pytest.raises(InputError, match="min_person_score must be 0 to 1, not 50"):
        predictor(image, min_person_score=50)


def test_the_whole_image_in_words(rectangle_people: Rectangles) -> None:
    image = crowds(rectangle_people)[4]
    network, detector = rectangle_people(TOP_DOWN), rectangle_people(BOTTOM_UP)
    expected = Predictor(network, detector=None)(image)
    predictor = Predictor(network, detector=detector)
    assert_same(predictor(image, boxes="image"), expected)
    for _, poses in predictor.stream([image] * 2, boxes="image"):
        assert_same(poses, expected)
    assert_same(Predictor(network, detector="none")(image), expected)
    assert detector.calls == []


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch"])
def test_threads_may_share_a_predictor(engine: EngineName, astronaut: np.ndarray) -> None:
    pytest.importorskip(engine)
    predictor = Predictor("lpn50", engine, threads=1, detector=None)
    boxes = [[10 * i, 0, 300 + 10 * i, 500] for i in range(16)]
    expected = [predictor(astronaut, box) for box in boxes]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(partial(predictor, astronaut), boxes), expected, strict=True):
            assert_same(found, alone)


@pytest.mark.parametrize(
    ("engine", "kind"), [("onnxruntime", ".onnx"), ("openvino", ".onnx"), ("torch", ".safetensors")]
)
def test_results_say_which_file_they_are_from(engine: EngineName, kind: str) -> None:
    pytest.importorskip(engine)
    made = Predictor("lpn50", engine, threads=1, detector=None).provenance
    assert made["sha256"] == BUNDLED[made["model"]][kind] and made["detector"] is None
