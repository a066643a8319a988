"""Codecs of networks that give lists of persons: as exported with suppression inside, and YOLOX's raw rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leanpose.codecs import DetectedPoses, Detections, Yolox, create_codec
from leanpose.errors import InputError, WeightsError
from leanpose.inference.detect import NetworkDetector
from leanpose.weights.record import Weights

SIZE = (416, 416)  # height, width


def dets(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(1, -1, 5)


def found(*rows: list[float], labels: list[int] | None = None, **parameters: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what Detections reads from rows x1, y1, x2, y2, score."""
    outputs = {"dets": dets(*rows), "labels": np.array([labels or [0] * len(rows)], np.int64)}
    return Detections(**parameters).decode(outputs, SIZE)


# ---- boxes


def test_boxes_come_best_first_above_the_threshold() -> None:
    low, high = [10.0, 20.0, 30.0, 60.0, 0.5], [100.0, 20.0, 130.0, 60.0, 0.9]
    boxes, scores = found(low, high, [0, 0, 5, 5, 0.05], [0, 0, 5, 5, 0.01])
    np.testing.assert_array_equal(boxes, [high[:4], low[:4]])
    np.testing.assert_allclose(scores, [0.9, 0.5])
    assert boxes.dtype == scores.dtype == np.float32
    assert len(found(low, high, score_threshold=0.6)[0]) == len(found(low, high, max_people=1)[0]) == 1


def test_only_persons_are_read() -> None:
    rows = [[0, 0, 5, 5, 0.9], [0, 0, 6, 6, 0.8], [0, 0, 7, 7, 0.7]]
    assert found(*rows, labels=[0, 2, 0])[0][:, 2].tolist() == [5, 7]
    assert found(*rows, labels=[0, 2, 0], person=2)[0][:, 2].tolist() == [6]


@pytest.mark.filterwarnings("error")
def test_rows_that_fill_up_the_list_are_no_persons() -> None:
    nan = float("nan")
    rows: list[list[float]] = [
        [0] * 5,
        [-1] * 5,
        [5, 5, 5, 9, 0.9],
        [9, 5, 5, 9, 0.9],
        [0, 0, nan, 5, 0.9],
        [0, 0, 5, 5, nan],
    ]
    boxes, scores = found(*rows, [1, 1, 4, 4, 0.2], score_threshold=0.0)
    assert boxes.tolist() == [[1, 1, 4, 4]] and len(scores) == 1
    for boxes, scores in (found(*rows), found()):
        assert boxes.shape == (0, 4) and scores.shape == (0,)


class Network:
    """An engine that finds a box of 32 input pixels at every size."""

    weights = Weights("boxes", "boxes", (64, 64), task="detection", convention="classic", codec="detections")

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return {"dets": dets([16, 16, 48, 48, 0.9], [0, 0, 0, 0, 0]), "labels": np.zeros((1, 2), np.int64)}


def test_a_network_with_such_outputs_is_a_detector() -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    boxes, scores = NetworkDetector(Network())(image)
    np.testing.assert_allclose(boxes, [[32, 32, 96, 96]], atol=1e-4)
    np.testing.assert_allclose(scores, [0.9])
    assert len(NetworkDetector(Network(), scales=(1.0, 2.0))(image)[0]) == 2  # 32 and 16 pixels wide: an IoU of 0.1


# ---- persons with keypoints


def test_poses_come_best_first() -> None:
    keypoints = np.random.default_rng(0).random((1, 4, 17, 3)).astype(np.float32)
    outputs = {"dets": dets([0, 0, 9, 9, 0.2], [0, 0, 9, 9, 0.05], [5, 0, 9, 9, 0.8], [0] * 5), "keypoints": keypoints}
    places, scores, person_scores = DetectedPoses().decode(outputs, (640, 640))
    np.testing.assert_array_equal(places, keypoints[0, [2, 0], :, :2])
    np.testing.assert_array_equal(scores, keypoints[0, [2, 0], :, 2])
    np.testing.assert_allclose(person_scores, [0.8, 0.2])
    assert len(DetectedPoses(max_people=1).decode(outputs, (640, 640))[0]) == 1


@pytest.mark.parametrize("rows", [0, 3])
def test_no_person_is_no_pose(rows: int) -> None:
    outputs = {"dets": np.zeros((1, rows, 5), np.float32), "keypoints": np.zeros((1, rows, 17, 3), np.float32)}
    places, scores, person_scores = DetectedPoses(score_threshold=0.0).decode(outputs, (640, 640))
    assert (places.shape, scores.shape, person_scores.shape) == ((0, 17, 2), (0, 17), (0,))


# ---- YOLOX


def output(people: dict[int, list[float]], cells: int = 3549, classes: int = 80) -> dict[str, np.ndarray]:
    """Return raw rows that are empty but for some cells: x, y, log w, log h, thing, person."""
    rows = np.zeros((1, cells, 5 + classes), np.float32)
    for cell, values in people.items():
        rows[0, cell, : len(values)] = values
    return {"output": rows}


def test_cells_of_all_grids_give_boxes_in_input_pixels() -> None:
    """At 416 the grids have 52, 26 and 13 cells a side: 2704, 676 and 169."""
    people = {
        52 * 2 + 3: [0.5, 0.25, np.log(2), np.log(4), 0.9, 0.8],  # cell x 3, y 2 of stride 8
        2704 + 26 * 10 + 20: [0.0, 0.0, np.log(4), np.log(5), 0.9, 0.9],  # x 20, y 10 of 16
        2704 + 676 + 168: [0.5, 0.5, 0.0, 0.0, 0.9, 0.5],  # the last of 32
    }
    boxes, scores = Yolox().decode(output(people), SIZE)
    np.testing.assert_allclose(scores, [0.81, 0.72, 0.45], rtol=1e-6)
    np.testing.assert_allclose(
        boxes, [[288, 120, 352, 200], [20, 2, 36, 34], [384, 384, 416, 416]], rtol=1e-5, atol=1e-4
    )
    assert boxes.dtype == scores.dtype == np.float32


def test_grids_of_other_sizes() -> None:
    wide = output({80 * 3 + 70: [0, 0, 0, 0, 1, 1]}, cells=80 * 40 + 40 * 20 + 20 * 10)
    assert Yolox().decode(wide, (320, 640))[0].tolist() == [[556, 20, 564, 28]]
    assert Yolox().decode(output({}, cells=8400), (640, 640))[0].shape == (0, 4)
    one = output({5: [0.5, 0.5, 0, 0, 1, 1]}, cells=16, classes=1)
    assert create_codec("yolox", strides=[16]).decode(one, (64, 64))[0].tolist() == [[16, 16, 32, 32]]
    for size in ((640, 640), (400, 416)):
        with pytest.raises(WeightsError, match="give the input size and strides of the network"):
            Yolox().decode(output({}), size)
    with pytest.raises(WeightsError, match=r"5 \+ classes"):
        Yolox().decode(output({}, classes=0), SIZE)


def test_boxes_that_overlap_a_better_one_go() -> None:
    wide = [np.log(10), np.log(10), 1.0]
    # On one row, 10 cells wide: neighbours share 9 of 11 cells' widths, those 4 apart 6 of 14.
    people = {2600: [0, 0, *wide, 0.9], 2601: [0, 0, *wide, 0.8], 2604: [0, 0, *wide, 0.7], 2700: [0, 0, *wide, 0.31]}
    assert Yolox().decode(output(people), SIZE)[1].tolist() == pytest.approx([0.9, 0.7, 0.31])
    assert len(Yolox(nms_iou=0.9).decode(output(people), SIZE)[1]) == 4
    assert len(Yolox(nms_iou=0.4).decode(output(people), SIZE)[1]) == 2
    assert len(Yolox(max_people=1).decode(output(people), SIZE)[1]) == 1
    assert len(Yolox(score_threshold=0.5).decode(output(people), SIZE)[1]) == 2


@pytest.mark.filterwarnings("error")
def test_unusable_rows_and_too_many() -> None:
    people = {7: [np.nan, 0, 0, 0, 1, 1], 9: [0, 0, 0, 0, np.nan, 1], 11: [0, 0, 1e30, 0, 1, 0.5]}
    boxes, scores = Yolox().decode(output(people), SIZE)
    assert np.isfinite(boxes).all() and scores.tolist() == [0.5]
    everywhere = output({})
    everywhere["output"][0, :, 4:6] = 1
    assert len(Yolox().decode(everywhere, SIZE)[0]) == 200


# ---- arguments


@pytest.mark.parametrize("codec", [Detections(), DetectedPoses(), Yolox()], ids=lambda codec: type(codec).__name__)
def test_lists_have_no_flip_test(codec: Any) -> None:
    with pytest.raises(InputError, match="has no flip test") as caught:
        codec.merge_flipped({}, {}, [0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("detections", {"score_threshold": 2}, "Give score_threshold as a number in 0..1, not 2."),
        ("detections", {"nms_iou": -1}, "Give nms_iou as a number in 0..1, not -1."),
        ("detections", {"max_people": 0}, "Give max_people as a whole number of 1 or more, not 0."),
        ("detections", {"person": -1}, "Give person as a whole number of 0 or more, not -1."),
        ("detected_poses", {"score_threshold": True}, "Give score_threshold as a number in 0..1, not True."),
        ("detected_poses", {"max_people": 1.5}, "Give max_people as a whole number of 1 or more, not 1.5."),
        ("yolox", {"nms_iou": "0.5"}, "Give nms_iou as a number in 0..1, not '0.5'."),
        ("yolox", {"strides": []}, "Give strides as whole numbers of 1 or more, not []."),
        ("yolox", {"strides": 8}, "Give strides as whole numbers of 1 or more, not 8."),
        ("yolox", {"strides": [8, 0]}, "Give each of strides as a whole number of 1 or more, not 0."),
    ],
)
def test_wrong_parameters(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        create_codec(name, **parameters)
    assert str(caught.value) == message


def test_wrong_shapes() -> None:
    with pytest.raises(InputError, match=r"dets \(1, N, 5\) and labels \(1, N\), not \(1, 2, 5\) and \(1, 3\)"):
        Detections().decode({"dets": np.zeros((1, 2, 5)), "labels": np.zeros((1, 3))}, SIZE)
    with pytest.raises(InputError, match=r"of one image, not \(2, 3, 5\)"):
        Detections().decode({"dets": np.zeros((2, 3, 5)), "labels": np.zeros((2, 3))}, SIZE)
    with pytest.raises(InputError, match=r"keypoints \(1, N, K, 3\), not \(1, 2, 5\) and \(1, 2, 17, 2\)"):
        DetectedPoses().decode({"dets": np.zeros((1, 2, 5)), "keypoints": np.zeros((1, 2, 17, 2))}, SIZE)
