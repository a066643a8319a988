from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from leanpose.codecs.center_box import CenterBox
from leanpose.errors import InputError

SIZE = (64, 48)  # height, width
PEOPLE = [[2.0, 3.0, 14.0, 40.0], [20.5, 10.25, 44.0, 60.5], [30.0, 1.0, 36.5, 8.0]]


def encode(boxes: list[list[float]], codec: CenterBox | None = None, size: tuple[int, int] = SIZE) -> Any:
    """Return the targets of one image: centers (H, W), distances (4, H, W), weights (H, W), NumPy."""
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(boxes, dtype=torch.float32).view(1, -1, 4)
    targets = (codec or CenterBox()).encode_maps(tensor, torch.ones(1, len(boxes), dtype=torch.bool), size)
    return tuple(target[0].numpy() for target in (targets[0][:, 0], *targets[1:]))


def raw(centers: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return targets as a network gives them: logits and logarithms."""
    inside = centers.clip(1e-6, 1 - 1e-6)
    return np.log(inside / (1 - inside)), np.log(distances)


def maps_of(people: list[tuple[int, int, float, tuple[float, float, float, float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Return raw maps with single peaks: x, y, score, distances of each person."""
    centers, distances = np.zeros(SIZE), np.ones((4, *SIZE))
    for x, y, score, edges in people:
        centers[y, x], distances[:, y, x] = score, edges
    return raw(centers, distances)


# ---- encode and decode


def test_boxes_come_back() -> None:
    centers, distances, _ = encode(PEOPLE)
    boxes, scores = CenterBox().decode_maps(*raw(centers, distances))
    assert boxes.dtype == scores.dtype == np.float32
    np.testing.assert_allclose(boxes[np.argsort(boxes[:, 0])], PEOPLE, atol=1e-4)
    np.testing.assert_allclose(scores, 1, atol=1e-5)


def test_every_pixel_of_a_gaussian_gives_its_box() -> None:
    centers, distances, weights = encode(PEOPLE[:1])
    y, x = np.nonzero(weights)
    assert len(y) > 20
    assert np.array_equal(weights > 0, centers > 0)
    left, top, right, bottom = distances[:, y, x]
    found = np.stack([x - left, y - top, x + right, y + bottom], axis=1)
    np.testing.assert_allclose(found, np.tile(PEOPLE[0], (len(y), 1)), atol=1e-4)
    assert (distances[:, weights == 0] == 1).all()


@pytest.mark.parametrize("reverse", [False, True])
def test_of_overlapping_persons_the_smaller_has_the_pixels(reverse: bool) -> None:
    large, small = [4.0, 4.0, 44.0, 60.0], [10.0, 10.0, 18.0, 26.0]
    centers, distances, weights = encode([small, large] if reverse else [large, small])
    of_small, of_large = (encode([box]) for box in (small, large))
    inside = of_small[0] > 0
    np.testing.assert_array_equal(centers, np.maximum(of_small[0], of_large[0]))
    for map_, small_map, large_map in zip((distances, weights), of_small[1:], of_large[1:], strict=True):
        np.testing.assert_array_equal(map_, np.where(inside, small_map, large_map))
    assert (inside & (of_large[0] > 0)).any()
    boxes, _ = CenterBox().decode_maps(*raw(centers, distances))
    np.testing.assert_allclose(sorted(boxes.tolist()), [large, small], atol=1e-4)


def test_boxes_are_cut_at_the_border() -> None:
    centers, distances, _ = encode([[-30.0, -20.0, 10.0, 30.0], [40.0, 50.0, 100.0, 80.0]])
    boxes, _ = CenterBox().decode_maps(*raw(centers, distances))
    np.testing.assert_allclose(sorted(boxes.tolist()), [[-0.5, -0.5, 10, 30], [40, 50, 47.5, 63.5]], atol=1e-4)


# ---- encode


def test_the_gaussian_follows_the_box() -> None:
    centers, _, weights = encode([[4.0, 10.0, 36.0, 58.0]], CenterBox(alpha=0.75))
    assert np.argwhere(centers == 1).tolist() == [[34, 20]]
    # sigma is 0.75 / 6 of 32 and 48: 4 and 6; 3 sigma end 12 and 18 pixels away.
    assert centers[34, 24] == pytest.approx(np.exp(-0.5), rel=1e-6)
    assert centers[28, 20] == pytest.approx(np.exp(-0.5), rel=1e-6)
    assert centers[34, 32] == pytest.approx(np.exp(-4.5), rel=1e-5)
    assert centers[34, 33] == centers[15, 20] == 0
    assert centers[16, 20] > 0
    assert weights.sum() == pytest.approx(np.log(33 * 49), rel=1e-5)
    np.testing.assert_allclose(weights / weights.max(), centers, rtol=1e-5)


def test_centers_are_rounded() -> None:
    centers, _, _ = encode([[3.0, 3.0, 9.4, 10.4], [30.0, 30.0, 37.2, 39.2]])
    assert np.argwhere(centers == 1).tolist() == [[7, 6], [35, 34]]


def test_a_tiny_box_has_one_pixel_with_positive_distances() -> None:
    centers, distances, weights = encode([[10.1, 20.1, 10.3, 20.2]])
    assert np.argwhere(centers > 0).tolist() == np.argwhere(weights > 0).tolist() == [[20, 10]]
    np.testing.assert_allclose(distances[:, 20, 10], [0.1, 0.1, 0.3, 0.2], atol=1e-5)


@pytest.mark.parametrize(
    "box",
    [
        [-20.0, 5.0, -1.0, 30.0],  # beside the map
        [5.0, 70.0, 20.0, 90.0],  # below it
        [20.0, 5.0, 20.0, 30.0],  # without width
        [20.0, 30.0, 10.0, 40.0],  # the wrong way round
        [float("nan"), 5.0, 20.0, 30.0],
    ],
)
def test_boxes_without_area_in_the_map_are_left_out(box: list[float]) -> None:
    for found, expected in zip(encode([box, PEOPLE[0]]), encode(PEOPLE[:1]), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("boxes", [[], [[5.0, 70.0, 20.0, 90.0]]])
def test_no_person(boxes: list[list[float]]) -> None:
    centers, distances, weights = encode(boxes)
    assert centers.shape == weights.shape == SIZE
    assert not centers.any()
    assert not weights.any()
    assert distances.shape == (4, *SIZE)
    assert (distances == 1).all()


def test_images_of_a_batch_do_not_touch_one_another() -> None:
    torch = pytest.importorskip("torch")
    boxes = torch.full((3, 4, 4), float("nan"))
    boxes[0, :3] = torch.tensor(PEOPLE)
    boxes[2, 1] = boxes[2, 3] = torch.tensor(PEOPLE[1])
    valid = ~boxes.isnan().any(dim=2)
    valid[2, 3] = False
    targets = CenterBox().encode_maps(boxes.requires_grad_(), valid, SIZE)
    assert [tuple(target.shape) for target in targets] == [(3, 1, *SIZE), (3, 4, *SIZE), (3, *SIZE)]
    assert all(target.dtype == torch.float32 and not target.requires_grad for target in targets)
    for image, people in enumerate((PEOPLE, [], PEOPLE[1:2])):
        for found, expected in zip(targets, encode(people), strict=True):
            np.testing.assert_array_equal(found[image].squeeze(0).numpy(), expected)


# ---- decode


def test_the_best_come_first_and_no_more_than_wanted() -> None:
    small = (2.0, 3.0, 2.0, 3.0)
    centers, box_logs = maps_of([(5, 5, 0.3, small), (20, 20, 0.9, small), (40, 40, 0.05, small), (30, 50, 0.6, small)])
    boxes, scores = CenterBox().decode_maps(centers, box_logs)
    np.testing.assert_allclose(scores, [0.9, 0.6, 0.3], atol=1e-5)
    np.testing.assert_allclose(boxes[0], [18, 17, 22, 23], atol=1e-5)
    assert len(CenterBox(max_people=2).decode_maps(centers, box_logs)[0]) == 2
    assert len(CenterBox(score_threshold=0.5).decode_maps(centers, box_logs)[0]) == 2
    assert len(CenterBox(score_threshold=0.01).decode_maps(centers, box_logs)[0]) == 4


def test_boxes_that_overlap_a_better_one_are_left_out() -> None:
    wide = (10.0, 10.0, 10.0, 10.0)
    # IoU of neighbours 4 pixels apart: 16 / 24 = 0.67; 8 apart: 12 / 28 = 0.43.
    centers, box_logs = maps_of([(16, 20, 0.9, wide), (20, 20, 0.8, wide), (24, 20, 0.7, wide)])
    # The second goes; the third overlaps only the second that much and stays.
    np.testing.assert_allclose(CenterBox().decode_maps(centers, box_logs)[1], [0.9, 0.7], atol=1e-5)
    assert len(CenterBox(nms_iou=0.4).decode_maps(centers, box_logs)[0]) == 1
    assert len(CenterBox(nms_iou=0.7).decode_maps(centers, box_logs)[0]) == 3


def test_only_the_highest_of_3x3_pixels_counts() -> None:
    tiny = (0.4, 0.4, 0.4, 0.4)
    centers, box_logs = maps_of([(10, 10, 0.9, tiny), (11, 11, 0.8, tiny), (13, 10, 0.7, tiny), (0, 63, 0.6, tiny)])
    np.testing.assert_allclose(CenterBox().decode_maps(centers, box_logs)[1], [0.9, 0.7, 0.6], atol=1e-5)


def test_a_plateau_is_one_person() -> None:
    centers, box_logs = maps_of([(10, 10, 0.9, (5, 5, 5, 5)), (11, 10, 0.9, (6, 5, 4, 5))])
    boxes, _ = CenterBox().decode_maps(centers, box_logs)
    np.testing.assert_allclose(boxes, [[5, 5, 15, 15]], atol=1e-5)


def test_unusable_values_are_no_persons() -> None:
    wide = (10.0, 10.0, 10.0, 10.0)
    centers, box_logs = maps_of([(10, 10, 0.9, wide), (20, 20, 0.8, wide), (40, 40, 0.7, wide)])
    centers[10, 10], box_logs[2, 20, 20] = np.nan, np.nan
    assert CenterBox().decode_maps(centers, box_logs)[0].shape == (1, 4)
    nothing = CenterBox().decode_maps(np.full(SIZE, np.nan), np.full((4, *SIZE), np.nan))
    assert nothing[0].shape == (0, 4)
    assert nothing[1].shape == (0,)
    assert nothing[0].dtype == nothing[1].dtype == np.float32


def test_extreme_values_stay_in_the_map() -> None:
    boxes, scores = CenterBox().decode_maps(np.full(SIZE, 1e30), np.full((4, *SIZE), 1e30))
    assert boxes.tolist() == [[-0.5, -0.5, 47.5, 63.5]]
    assert scores.tolist() == [1.0]
    boxes, scores = CenterBox().decode_maps(np.full(SIZE, -1e30), np.full((4, *SIZE), -1e30))
    assert len(boxes) == len(scores) == 0


# ---- arguments


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": 0}, "Give alpha as a number above 0, not 0."),
        ({"alpha": 1.5}, "Give alpha as a number up to 1, not 1.5."),
        ({"max_people": 0}, "Give max_people as a whole number of 1 or more, not 0."),
        ({"max_people": 2.0}, "Give max_people as a whole number of 1 or more, not 2.0."),
        ({"score_threshold": -0.1}, "Give score_threshold as a number in 0..1, not -0.1."),
        ({"nms_iou": float("nan")}, "Give nms_iou as a number in 0..1, not nan."),
        ({"nms_iou": True}, "Give nms_iou as a number in 0..1, not True."),
    ],
)
def test_wrong_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        CenterBox(**parameters)
    assert str(caught.value) == message


def test_wrong_shapes() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match=r"boxes_xyxy \(B, P, 4\) and valid \(B, P\)"):
        CenterBox().encode_maps(torch.zeros(2, 3, 4), torch.zeros(2, 4), SIZE)
    with pytest.raises(InputError, match=r"boxes_xyxy \(B, P, 4\)"):
        CenterBox().encode_maps(torch.zeros(3, 4), torch.zeros(3), SIZE)
    with pytest.raises(InputError, match=r"centers \(H, W\)"):
        CenterBox().decode_maps(np.zeros((1, *SIZE)), np.zeros((4, *SIZE)))
    with pytest.raises(InputError, match=r"box_logs \(4, H, W\)"):
        CenterBox().decode_maps(np.zeros(SIZE), np.zeros((2, *SIZE)))
    with pytest.raises(InputError, match="at least one pixel"):
        CenterBox().decode_maps(np.zeros((0, 4)), np.zeros((4, 0, 4)))


def test_decoding_does_not_import_torch() -> None:
    code = (
        "import sys, numpy as np; from leanpose.codecs.center_box import CenterBox;"
        "CenterBox().decode_maps(np.zeros((8, 8)), np.zeros((4, 8, 8))); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_decode_gives_boxes_in_input_pixels() -> None:
    """One person in the middle of a map of stride 4, seen by a network with an input of 4 times the map's size."""
    centers, box_logs = np.full((1, 1, *SIZE), -9, np.float32), np.zeros((1, 4, *SIZE), np.float32)
    centers[0, 0, 5, 6] = 3
    box_logs[0, :, 5, 6] = np.log([1, 2, 3, 4])
    outputs = {"centers": centers, "box_logs": box_logs}
    boxes, scores = CenterBox().decode(outputs, (4 * SIZE[0], 4 * SIZE[1]))
    np.testing.assert_allclose(boxes, [[20, 12, 36, 36]], rtol=1e-6)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-3)), rtol=1e-6)


def test_merge_flipped_of_a_perfect_network_changes_nothing() -> None:
    random = np.random.default_rng(0)
    outputs = {"centers": random.random((1, 1, *SIZE)), "box_logs": random.random((1, 4, *SIZE))}
    mirrored = {name: maps[..., ::-1] for name, maps in outputs.items()}
    mirrored["box_logs"] = mirrored["box_logs"][:, [2, 1, 0, 3]]
    for name, maps in CenterBox().merge_flipped(outputs, mirrored, [0]).items():
        np.testing.assert_allclose(maps, outputs[name])
