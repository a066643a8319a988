"""BottomUp and NetworkDetector: everybody is found in the right place, whatever the image's size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from leanpose.errors import InputError, WeightsError
from leanpose.geometry import image_matrix
from leanpose.inference.bottom_up import BottomUp
from leanpose.inference.detect import NetworkDetector
from leanpose.inference.preprocess import image_input
from leanpose.keypoint_sets import COCO, CROWDPOSE
from leanpose.weights.record import Weights

RECORD = Weights(
    "made.coco_256x256", "made", (256, 256), task="bottom_up", convention="classic", codec="associative_embedding"
)
Rectangles = Any  # the class RectanglePeople of conftest.py


def record(**options: Any) -> Weights:
    """The record with some parameters of the codec changed."""
    return replace(RECORD, codec_options=options)


# height, width -> rectangles with brightness; the best comes first
IMAGES: dict[tuple[int, int], dict[str, tuple[int, int, int, int, int]]] = {
    (480, 640): {"green": (40, 60, 200, 430, 250), "red": (330, 20, 500, 470, 200), "blue": (540, 200, 620, 400, 150)},
    (427, 640): {"green": (41, 60, 203, 401, 250), "red": (330, 21, 503, 420, 200)},
    (640, 427): {"blue": (10, 60, 171, 401, 250), "red": (230, 321, 403, 620, 200)},
    (333, 333): {"red": (40, 33, 141, 301, 250), "blue": (200, 7, 320, 280, 200)},
    (256, 256): {"red": (40, 33, 141, 201, 250), "blue": (150, 7, 250, 240, 200)},
    (120, 100): {"red": (10, 10, 50, 110, 250), "blue": (60, 15, 95, 100, 200)},
    (200, 1500): {"red": (100, 10, 180, 190, 250), "blue": (1300, 15, 1400, 195, 200)},
    (1500, 200): {"red": (10, 100, 190, 400, 250), "green": (20, 1200, 160, 1450, 200)},
    (8, 8): {"red": (2, 1, 6, 7, 250)},
    (7, 9): {"red": (2, 1, 6, 6, 250)},
    (1, 500): {"red": (100, 0, 200, 1, 250), "green": (300, 0, 480, 1, 200)},
    (500, 1): {"red": (0, 100, 1, 200, 250)},
    (6000, 8000): {"red": (1000, 500, 3000, 5500, 250), "green": (5001, 1003, 7007, 5900, 200)},
}
LARGE = {(6000, 8000)}


def scale_of(size: tuple[int, int], short_side: int = 256) -> float:
    """Input pixels an image pixel; no image is longer than four times its short side in the input."""
    return min(short_side / min(size), 4 * short_side / max(size))


def expected(rectangles: Rectangles, boxes: dict[str, tuple[int, int, int, int, int]]) -> np.ndarray:
    return np.stack([rectangles.keypoints(rectangles.edges(box)) for box in boxes.values()])


@pytest.mark.parametrize("size", IMAGES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(
    ("options", "flip_test", "scales"),
    [
        ({}, False, (1.0,)),
        ({"upsample": False}, False, (1.0,)),
        ({}, True, (1.0,)),
        ({"upsample": False}, True, (0.5, 1.0, 2.0)),
    ],
    ids=["upsampled", "plain", "flip test", "three scales"],
)
def test_people_are_found_in_place(
    size: tuple[int, int],
    options: dict[str, Any],
    flip_test: bool,
    scales: tuple[float, ...],
    rectangle_people: Rectangles,
) -> None:
    boxes = IMAGES[size]
    network = BottomUp(rectangle_people(record(**options)), flip_test, scales)
    poses = network.poses(rectangle_people.image(*size, **boxes))
    places = expected(rectangle_people, boxes)
    assert poses.keypoints.shape == places.shape  # nobody is missing, nobody twice
    assert poses.keypoints.dtype == poses.scores.dtype == poses.boxes_xyxy.dtype == poses.person_scores.dtype
    assert poses.keypoints.dtype == np.float32 and poses.keypoint_set is COCO
    # Half a pixel of the finer maps is a pixel of the input; averaged over sizes, peaks are less sharp.
    pixels = (1.1 if len(scales) == 1 else 2.0) / scale_of(size)
    np.testing.assert_allclose(poses.keypoints, places, rtol=0, atol=pixels + 0.5)
    assert (np.diff(poses.person_scores) <= 0).all() and poses.person_scores.min() > 0.3
    reach = poses.keypoints - poses.boxes_xyxy[:, None, :2], poses.boxes_xyxy[:, None, 2:] - poses.keypoints
    assert min(part.min() for part in reach) >= 0.99


@pytest.mark.parametrize("size", IMAGES.keys() - {(1, 500), (500, 1)}, ids=lambda size: f"{size[0]}x{size[1]}")
def test_boxes_of_the_person_head(size: tuple[int, int], rectangle_people: Rectangles) -> None:
    boxes = IMAGES[size]
    network = rectangle_people(RECORD, person_head=True)
    found, scores = NetworkDetector(network, (1.0,))(rectangle_people.image(*size, **boxes))
    height, width = size
    assert found.dtype == scores.dtype == np.float32
    edges = np.stack([rectangle_people.edges(box) for box in boxes.values()])
    np.testing.assert_allclose(found, edges, rtol=0, atol=1 / scale_of(size) + 0.5)
    np.testing.assert_allclose(scores, [box[4] / 255 for box in boxes.values()], atol=0.03)
    assert (found >= 0).all() and (found <= [width - 1, height - 1] * 2).all()
    assert len(network.calls) == 1


def test_boxes_are_cut_at_the_image(rectangle_people: Rectangles) -> None:
    """At the image's edge and, since the input is wider than this image, in the black beside it."""

    class Wide(rectangle_people):
        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().__call__(images)
            return outputs | {"box_logs": np.full_like(outputs["box_logs"], np.log(30))}  # map pixels, on each side

    image = rectangle_people.image(427, 640, red=(0, 0, 300, 427, 250), green=(560, 100, 640, 300, 200))
    boxes, _ = NetworkDetector(Wide(RECORD, person_head=True), (1.0,))(image)
    reach = 30 * 4 * 427 / 256  # image pixels
    np.testing.assert_allclose(boxes, [[0, 13, 149 + reach, 413], [600 - reach, 0, 639, 200 + reach]], atol=4)


def test_nobody_is_found_beside_the_image(rectangle_people: Rectangles) -> None:
    """An image that is a little too narrow for its input, and a network that sees somebody in the black."""

    class Haunted(rectangle_people):
        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().__call__(images)
            outputs["centers"][:, 0, 30, 1], outputs["box_logs"][:, :, 30, 1] = 3, 0
            return outputs

    boxes, scores = NetworkDetector(Haunted(RECORD, person_head=True), (1.0,))(np.zeros((256, 257, 3), np.uint8))
    assert boxes.shape == (0, 4) and scores.shape == (0,)
    boxes, _ = NetworkDetector(Haunted(RECORD, person_head=True), (1.0,))(np.zeros((256, 320, 3), np.uint8))
    assert len(boxes) == 1  # here it is in the image


def test_boxes_without_a_person_head(rectangle_people: Rectangles) -> None:
    network = rectangle_people(RECORD)
    image = rectangle_people.image(480, 640, **IMAGES[480, 640])
    boxes, scores = NetworkDetector(network)(image)
    poses = BottomUp(network).poses(image)
    np.testing.assert_allclose(boxes, poses.boxes_xyxy.clip(0, [639, 479, 639, 479]), rtol=0, atol=1 / 16)
    np.testing.assert_array_equal(scores, poses.person_scores)
    assert len(boxes) == 3


def test_the_last_digits_of_a_network_move_no_box(rectangle_people: Rectangles) -> None:
    class Other(rectangle_people):
        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            return {name: maps * np.float32(1 + 1e-6) for name, maps in super().__call__(images).items()}

    image = rectangle_people.image(480, 640, **IMAGES[480, 640])
    boxes, other = (NetworkDetector(kind(RECORD, person_head=True))(image)[0] for kind in (rectangle_people, Other))
    np.testing.assert_array_equal(boxes, other)


def mirrored(keypoints: np.ndarray, width: int) -> np.ndarray:
    return (keypoints * (-1, 1) + (width - 1, 0))[:, COCO.flip_index]


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("size", [(480, 640), (427, 640), (333, 333), (120, 100)])
def test_a_mirrored_image_has_mirrored_people(
    size: tuple[int, int], flip_test: bool, rectangle_people: Rectangles
) -> None:
    network = BottomUp(rectangle_people(record(upsample=False)), flip_test)
    image = rectangle_people.image(*size, **IMAGES[size])
    poses, other = network.poses(image), network.poses(np.ascontiguousarray(image[:, ::-1]))
    np.testing.assert_allclose(other.person_scores, poses.person_scores, atol=0.03)
    places = mirrored(other.keypoints, size[1])
    np.testing.assert_allclose(places, poses.keypoints, rtol=0, atol=2.2 / scale_of(size) + 0.5)
    unnamed = other.keypoints * (-1, 1) + (size[1] - 1, 0)
    assert np.abs(unnamed - poses.keypoints).max() > 10 / scale_of(size)  # left and right are not mixed up


def test_the_flip_test_looks_twice_and_averages(rectangle_people: Rectangles) -> None:
    class OneSided(rectangle_people):
        """Sees people in the mirrored image only half as well."""

        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().__call__(images)
            for name in ("heatmaps_4", "heatmaps_2"):
                outputs[name] *= 0.5 ** (len(self.calls) // 3)  # the third call is the second of the flip test
            return outputs

    image = rectangle_people.image(480, 640, **IMAGES[480, 640])
    network = OneSided(RECORD)
    one, two = (BottomUp(network, flip_test).poses(image) for flip_test in (False, True))
    assert network.calls == [(1, 3, 256, 384)] * 3
    np.testing.assert_allclose(two.scores, one.scores * 0.75, atol=0.02)
    np.testing.assert_allclose(two.keypoints, one.keypoints, rtol=0, atol=4)


def test_the_tags_of_the_mirrored_image_count_too(rectangle_people: Rectangles) -> None:
    """Two persons whose tags differ only in the mirrored image are still two."""

    class Untagged(rectangle_people):
        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().__call__(images)
            outputs["tags"][:] = 1 if len(self.calls) == 1 else outputs["tags"]
            return outputs

    image = rectangle_people.image(480, 640, **IMAGES[480, 640])
    found = BottomUp(Untagged(RECORD), flip_test=True).poses(image)
    np.testing.assert_allclose(found.keypoints, BottomUp(rectangle_people()).poses(image).keypoints, atol=4)


@pytest.mark.parametrize(
    ("scales", "sides"),
    [
        ((1.0,), [256]),
        ((0.5, 1, 2), [256, 128, 512]),
        ((2, 1, 0.5), [256, 128, 512]),
        ((0.5, 2), [128, 512]),  # the one nearest to 1 gives the tags
        ((1, 1.01, 1), [256]),  # the same multiple of 64
        ((0.01,), [64]),
    ],
)
def test_scales_are_sizes_of_the_input(
    scales: tuple[float, ...], sides: list[int], rectangle_people: Rectangles
) -> None:
    network = rectangle_people()
    BottomUp(network, scales=scales).poses(np.zeros((300, 300, 3), np.uint8))
    assert [shape[2:] for shape in network.calls] == [(side, side) for side in sides]


def test_heat_maps_are_averaged_over_the_scales(rectangle_people: Rectangles) -> None:
    class Nearsighted(rectangle_people):
        """Sees nothing in small inputs, and has other tags in them."""

        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().__call__(images)
            return {name: maps * 0 for name, maps in outputs.items()} if images.shape[2] < 256 else outputs

    image = rectangle_people.image(480, 640, **IMAGES[480, 640])
    one, two = (BottomUp(Nearsighted(RECORD), scales=scales).poses(image) for scales in ((1,), (0.5, 1)))
    np.testing.assert_allclose(two.person_scores, one.person_scores / 2, rtol=1e-4)
    np.testing.assert_allclose(two.keypoints, one.keypoints, rtol=0, atol=1e-3)


@pytest.mark.parametrize("scales", [(), [], (0,), (1, -1), (-0.5,), (float("nan"),), (float("inf"),), (1, 1e9)])
def test_unusable_scales(scales: Any, rectangle_people: Rectangles) -> None:
    with pytest.raises(InputError, match="scales must be") as caught:
        BottomUp(rectangle_people(), scales=scales)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("codec", ["udp", "heatmap"])
def test_a_network_of_single_persons_finds_nobody(codec: str, rectangle_people: Rectangles) -> None:
    with pytest.raises(WeightsError, match=r"made\.coco_256x256 finds one person per crop") as caught:
        BottomUp(rectangle_people(replace(RECORD, task="top_down", codec=codec)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flip_test", [False, True])
def test_a_record_of_all_persons_with_a_network_of_single_ones(flip_test: bool, rectangle_people: Rectangles) -> None:
    class Single(rectangle_people):
        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            return {"heatmaps": super().__call__(images)["heatmaps_4"]}

    for find in (BottomUp(Single(RECORD), flip_test).poses, NetworkDetector(Single(RECORD))):
        with pytest.raises(WeightsError, match="'made' gives heatmaps, but the codec associative_embedding reads"):
            find(np.zeros((60, 60, 3), np.uint8))


def test_a_parameter_that_the_codec_does_not_have(rectangle_people: Rectangles) -> None:
    with pytest.raises(InputError, match=r"no parameter 'upsampel'\. Did you mean 'upsample'\?"):
        BottomUp(rectangle_people(record(upsampel=True)))


@pytest.mark.parametrize("person_head", [False, True])
@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (1, 1), (1, 500), (500, 1), (480, 640), (6000, 8000)])
def test_an_empty_image(
    size: tuple[int, int], flip_test: bool, person_head: bool, rectangle_people: Rectangles
) -> None:
    network = rectangle_people(RECORD, person_head)
    image = np.zeros((*size, 3), np.uint8)
    poses = BottomUp(network, flip_test).poses(image)
    assert len(poses) == 0 and poses.keypoints.shape == (0, 17, 2) and poses.boxes_xyxy.shape == (0, 4)
    boxes, scores = NetworkDetector(network)(image)
    assert boxes.shape == (0, 4) and scores.shape == (0,)
    assert {array.dtype.name for array in (poses.keypoints, poses.boxes_xyxy, boxes, scores)} == {"float32"}


def test_more_people_than_30(rectangle_people: Rectangles) -> None:
    class Crowd(rectangle_people):
        """Sees 96 persons on a grid, whatever the image."""

        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().__call__(images)
            centers, box_logs = np.full_like(outputs["centers"], -20), np.full_like(outputs["box_logs"], 1.1)
            centers[..., 4::8, 4::8] = 2.0
            return outputs | {"centers": centers, "box_logs": box_logs}

    boxes, scores = NetworkDetector(Crowd(RECORD, person_head=True), (1.0,))(np.zeros((480, 640, 3), np.uint8))
    assert len(boxes) == 96 and scores.min() > 0.8


def test_maps_of_nan_hold_nobody(rectangle_people: Rectangles) -> None:
    class Broken(rectangle_people):
        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            return {name: np.full_like(maps, np.nan) for name, maps in super().__call__(images).items()}

    network = Broken(RECORD, person_head=True)
    image = rectangle_people.image(480, 640, **IMAGES[480, 640])
    assert len(BottomUp(network).poses(image)) == len(NetworkDetector(network)(image)[0]) == 0


def test_lacking_keypoints_are_nan_and_do_not_count_for_the_box(rectangle_people: Rectangles) -> None:
    network = rectangle_people(record(refine=False), absent=("left_ankle", "right_ankle"))
    box = (100, 50, 300, 450, 250)
    poses = BottomUp(network).poses(rectangle_people.image(480, 640, red=box))
    lacking = np.array([name.endswith("ankle") for name in COCO.keypoints])
    assert np.isnan(poses.keypoints[0, lacking]).all() and np.isfinite(poses.keypoints[0, ~lacking]).all()
    assert (poses.scores[0] > 0).tolist() == (~lacking).tolist()
    places = rectangle_people.keypoints(rectangle_people.edges(box))[~lacking]
    margin = 0.1 * np.ptp(places, axis=0).max()
    around = np.concatenate([places.min(axis=0) - margin, places.max(axis=0) + margin])
    np.testing.assert_allclose(poses.boxes_xyxy[0], around, atol=4)


def test_other_keypoints(rectangle_people: Rectangles) -> None:
    network = BottomUp(rectangle_people(replace(RECORD, keypoint_set=CROWDPOSE)), flip_test=True)
    box = (100, 50, 300, 450, 250)
    poses = network.poses(rectangle_people.image(480, 640, red=box))
    places = rectangle_people.keypoints(rectangle_people.edges(box), CROWDPOSE)
    np.testing.assert_allclose(poses.keypoints, [places], rtol=0, atol=3)


@pytest.mark.parametrize(("order", "channels"), [("rgb", (200, 100, 50)), ("bgr", (50, 100, 200))])
def test_the_input_of_an_image_follows_the_record(order: Any, channels: tuple[int, int, int]) -> None:
    weights = replace(RECORD, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 8.0), channel_order=order)
    image = np.full((300, 300, 3), (200, 100, 50), np.uint8)
    inputs, matrix, size = image_input(image, weights)
    assert inputs.shape == (1, 3, 256, 256) and inputs.dtype == np.float32 and inputs.flags.c_contiguous
    assert size == (256, 256) and matrix.shape == (1, 2, 3)
    values = [(channels[i] - (i + 1.0)) / (4.0, 5.0, 8.0)[i] for i in range(3)]
    np.testing.assert_allclose(inputs[0, :, 128, 128], values, rtol=1e-5)


def test_the_input_of_an_image_may_have_another_size() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    inputs, matrix, size = image_input(image, RECORD, 448)
    assert inputs.shape == (1, 3, 448, 640) and size == (448, 640)
    np.testing.assert_array_equal(matrix, image_matrix((480, 640), 448)[0])
