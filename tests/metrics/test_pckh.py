"""PCKh: published figures of a published prediction, cases worked out by hand, and files that are no ground truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from support import DATA, needs

from leanpose.errors import InputError
from leanpose.keypoint_sets import MPII
from leanpose.metrics.pckh import PCKH_KEYS, SHORT_NAMES, pckh_metrics, read_truth, truth_file

OFFICIAL = DATA / "eval" / "mpii"
needs_official = needs(OFFICIAL)
K = len(MPII)
NAMES = np.array([SHORT_NAMES], dtype=object)
HEAD = 10.0  # pixels: 0.6 times the diagonal of the boxes below


def results_of(keypoints: np.ndarray) -> list[dict[str, Any]]:
    """Return results with (N, 16, 2) keypoints."""
    triples = np.concatenate([keypoints, np.ones((*keypoints.shape[:2], 1))], axis=2)
    return [{"person": i, "keypoints": triples[i].ravel().tolist()} for i in range(len(triples))]


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Ground truth of three persons, whose keypoints lie on a diagonal; the last has no labelled ankles."""
    side = HEAD / 0.6 / np.sqrt(2)
    points = np.arange(K)[:, None, None] * 10.0 + 50 + np.zeros((K, 2, 3))
    content = {
        "dataset_joints": NAMES,
        "pos_gt_src": points,
        "jnt_missing": np.zeros((K, 3), np.uint8),
        "headboxes_src": np.stack([np.full((2, 3), 20.0), np.full((2, 3), 20.0 + side)]),
    }
    content["jnt_missing"][[0, 5], 2] = 1
    savemat(tmp_path / "gt_valid.mat", content)
    return tmp_path / "gt_valid.mat"


@needs_official
def test_the_published_figures_of_a_published_prediction() -> None:
    file = OFFICIAL / "detections_our_format.mat"
    found = loadmat(file)["pos_pred_src"].transpose(2, 0, 1) - 1
    figures = pckh_metrics(read_truth(file), results_of(found))
    assert tuple(figures) == PCKH_KEYS
    printed = {key: f"{100 * value:.3f}" for key, value in figures.items()}
    assert printed == {
        "PCKh@0.5": "82.337", "PCKh@0.1": "28.975", "head": "95.600", "shoulder": "92.714", "elbow": "83.365",
        "wrist": "76.736", "hip": "81.928", "knee": "73.363", "ankle": "65.446",
    }  # fmt: skip


@needs_official
def test_head_sizes_are_those_that_newell_gives() -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(OFFICIAL / "valid.h5") as file:
        normalize = file["normalize"][:]
    sizes = read_truth(OFFICIAL / "detections_our_format.mat").head_sizes
    np.testing.assert_allclose(sizes, normalize, rtol=0, atol=1e-4)


def test_the_ground_truth_counts_from_one(truth: Path) -> None:
    people = read_truth(truth)
    assert people.keypoints.shape == (3, K, 2)
    assert people.keypoints[1, 2].tolist() == [69, 69]
    assert people.labelled.sum(axis=1).tolist() == [16, 16, 14]
    np.testing.assert_allclose(people.head_sizes, HEAD)


def test_figures_worked_out_by_hand(truth: Path) -> None:
    found = read_truth(truth).keypoints.copy()
    assert set(pckh_metrics(read_truth(truth), results_of(found)).values()) == {1.0}
    position = {name: k for k, name in enumerate(MPII.keypoints)}
    found[:, position["pelvis"]] += 1000  # does not count in the mean
    found[2, position["left_ankle"]] += 1000  # is not labelled
    found[0, position["left_knee"]] += [3, 4.01]  # just too far
    found[1, position["left_knee"]] += [2.99, 4]  # just near enough, but not at 0.1
    found[0, position["head_top"]] += [0.99, 0]
    found[0, position["right_wrist"]] += [0, 1.01]
    figures = pckh_metrics(read_truth(truth), results_of(found))
    labelled = 3 * 14 - 2
    assert figures["PCKh@0.5"] == pytest.approx((labelled - 1) / labelled)
    assert figures["PCKh@0.1"] == pytest.approx((labelled - 3) / labelled)
    assert figures["knee"] == pytest.approx((2 / 3 + 1) / 2)
    assert all(value == 1 for key, value in figures.items() if key not in ("PCKh@0.5", "PCKh@0.1", "knee"))


def without_right_ankles(truth: Path, *persons: int) -> None:
    content = {key: value for key, value in loadmat(truth).items() if not key.startswith("__")}
    content["jnt_missing"][MPII.keypoints.index("right_ankle"), persons] = 1
    savemat(truth, content)


def test_left_and_right_weigh_the_same_in_their_row(truth: Path) -> None:
    """Unlike in the mean over all, where a keypoint counts as often as it is labelled."""
    without_right_ankles(truth, 1)
    found = read_truth(truth).keypoints.copy()
    found[0, MPII.keypoints.index("right_ankle")] += 1000
    figures = pckh_metrics(read_truth(truth), results_of(found))
    assert figures["ankle"] == 0.5  # none of one right, two of two left
    assert figures["PCKh@0.5"] == pytest.approx(38 / 39)


def test_a_row_without_labelled_keypoints_is_minus_one(truth: Path) -> None:
    without_right_ankles(truth, 0, 1)
    figures = pckh_metrics(read_truth(truth), results_of(read_truth(truth).keypoints))
    assert figures.pop("ankle") == -1
    assert set(figures.values()) == {1.0}


def test_where_the_ground_truth_lies() -> None:
    assert truth_file("annot/valid.json") == Path("annot/gt_valid.mat")
    assert truth_file(Path("valid.h5")) == Path("gt_valid.mat")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda results: results.pop(), "one result for each of the 3 persons of .*; these are 2"),
        (lambda results: results.append(results[0]), "one result for each of the 3 persons of .*; these are 4"),
        (lambda results: results[0].update(person=1), "one result for each of the 3 persons"),
        (lambda results: results[1].update(person=3), "Result 1 needs the number of its 'person', 0 to 2 in .*, not 3"),
        (lambda results: results[1].pop("person"), "Result 1 needs the number of its 'person'"),
        (lambda results: results[2]["keypoints"].pop(), "Result 2: 'keypoints' must be 48 numbers"),
        (lambda results: results[2].pop("keypoints"), "Result 2: 'keypoints' must be 48 numbers"),
        (lambda results: results[2]["keypoints"].__setitem__(0, float("nan")), r"Result 2: .*\(no NaN"),
    ],
)
def test_unusable_results(truth: Path, edit: Callable[[list[dict[str, Any]]], Any], message: str) -> None:
    results = results_of(np.zeros((3, K, 2)))
    edit(results)
    with pytest.raises(InputError, match=message):
        pckh_metrics(read_truth(truth), results)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_joints": ...}, "'dataset_joints' must be rank rkne"),
        ({"dataset_joints": NAMES[:, ::-1]}, "'dataset_joints' must be rank rkne"),
        ({"dataset_joints": 5}, "'dataset_joints' must be rank rkne"),
        ({"jnt_missing": ...}, "'jnt_missing' must be an array"),
        ({"jnt_missing": "none"}, "'jnt_missing' must be an array"),
        ({"pos_gt_src": ...}, r"'pos_gt_src' must be an array of numbers of shape \(16, 2, 3\)"),
        ({"pos_gt_src": np.zeros((K, 2, 2))}, "'pos_gt_src' must be an array"),
        ({"headboxes_src": np.zeros((2, 2, 3))}, "a head without a size"),
        ({"pos_gt_src": np.full((K, 2, 3), np.nan)}, "a labelled keypoint that is no number"),
    ],
)
def test_unusable_ground_truth(truth: Path, changes: dict[str, Any], message: str) -> None:
    content = {**loadmat(truth), **changes}
    savemat(truth, {key: value for key, value in content.items() if value is not ... and not key.startswith("__")})
    with pytest.raises(InputError, match=message) as caught:
        read_truth(truth)
    assert str(truth) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"junk", b"MATLAB 5.0 MAT-file" + b" " * 200])
def test_a_file_that_is_no_matlab_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gt.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"gt\.mat cannot be read as a MATLAB file"):
        read_truth(tmp_path / "gt.mat")


def test_a_missing_ground_truth_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"put MPII's MATLAB file at .*gt_valid\.mat"):
        read_truth(tmp_path / "gt_valid.mat")
