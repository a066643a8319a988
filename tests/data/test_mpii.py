"""MPII's lists of persons: places and keypoints counted from 0, both forms of file, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import DATA, needs

from leanpose import geometry
from leanpose.data.annotations import open_annotations
from leanpose.data.mpii import MpiiSet
from leanpose.errors import InputError
from leanpose.keypoint_sets import COCO, CROWDPOSE, MPII, KeypointSet
from leanpose.metrics.pckh import read_truth

FIXTURE = DATA / "fixtures" / "mpii" / "test_mpii.json"
NEWELL = DATA / "eval" / "mpii" / "valid.h5"
TRUTH = DATA / "eval" / "mpii" / "detections_our_format.mat"  # of the persons of valid.h5
needs_shared = needs(FIXTURE, NEWELL)


def person(**changes: Any) -> dict[str, Any]:
    """Return a person as HRNet's files have it; `...` takes a key out."""
    joints = [[100.0 + 3 * i, 200.0 + 5 * i] for i in range(16)]
    entry = {"image": "a.jpg", "center": [130.0, 220.0], "scale": 0.5, "joints": joints, "joints_vis": [1] * 16}
    return {key: value for key, value in (entry | changes).items() if value is not ...}


def written(folder: Path, content: Any) -> Path:
    file = folder / "valid.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def newell(folder: Path, **changes: Any) -> Path:
    """Write the same person, and one with a hidden wrist and without left ankle, as Newell's files have them."""
    h5py = pytest.importorskip("h5py")
    part = np.tile(np.array(person()["joints"]), (2, 1, 1))
    visible = np.ones((2, 16))
    part[1, 5], visible[1, 5], visible[1, 10] = 0, 0, 0
    arrays = {
        "imgname": np.array([b"a.jpg", b"b.jpg"]),
        "center": np.array([[130.0, 220 + 15 * 0.5]] * 2),
        "scale": np.array([0.5, 0.5]) * 1.25,
        "part": part,
        "visible": visible,
        "normalize": np.array([20.0, 20.0]),
    } | changes
    file = folder / "valid.h5"
    with h5py.File(file, "w") as content:
        for key, value in arrays.items():
            if value is not ...:
                content[key] = value
    return file


def opened(file: Path, images: str | Path = "images") -> MpiiSet:
    annotated = open_annotations(file, images)
    assert isinstance(annotated, MpiiSet)
    return annotated


def test_a_person_is_read_as_hrnet_does(tmp_path: Path) -> None:
    """Box and matrix against HRNet's arithmetic: center lowered, scale times 1.25, one pixel off."""
    file = written(tmp_path, [person(joints_vis=[0] + [1] * 15)])
    (sample,) = opened(file).samples()
    assert (sample.image_path, sample.image_id) == (str(Path("images") / "a.jpg"), "a.jpg")
    assert sample.box_xyxy.tolist() == [79, 176.5, 179, 276.5]  # 100 pixels about (129, 226.5)
    assert sample.visibility.tolist() == [0] + [2] * 15
    assert np.isnan(sample.keypoints[0]).all()
    assert sample.keypoints[1:].tolist() == [[99 + 3 * i, 199 + 5 * i] for i in range(1, 16)]
    matrix = geometry.crop_matrices(sample.box_xyxy[None], (256, 256), 1.25, "classic")[0]
    stretch = 256 / (200 * 0.5 * 1.25)
    np.testing.assert_allclose(matrix[:, :2], np.eye(2) * stretch)
    np.testing.assert_allclose(matrix[:, 2], 128 - stretch * np.array([129, 226.5]))


def test_newell_has_lowered_and_enlarged_already(tmp_path: Path) -> None:
    whole, part = opened(newell(tmp_path)).persons
    (expected,) = opened(written(tmp_path, [person()])).persons
    np.testing.assert_allclose(whole.box_xyxy, expected.box_xyxy)
    np.testing.assert_allclose(whole.keypoints, expected.keypoints)
    assert whole.image_path == expected.image_path
    assert set(whole.visibility) == {2}
    assert part.visibility.tolist() == [2] * 5 + [0] + [2] * 4 + [1] + [2] * 5
    assert np.isnan(part.keypoints[5]).all() and np.isfinite(part.keypoints[10]).all()


def test_a_test_file_has_no_keypoints(tmp_path: Path) -> None:
    files = (
        written(tmp_path, [person(joints=..., joints_vis=...)] * 2),
        newell(tmp_path, part=..., visible=...),
    )
    for file in files:
        persons = opened(file).persons
        assert [p.visibility.any() for p in persons] == [False, False]
        assert persons[0].box_xyxy.tolist() == [79, 176.5, 179, 276.5]
        with pytest.raises(InputError, match="holds no person with a place and a labelled keypoint of the set 'mpii'"):
            opened(file).samples()


def test_a_person_without_a_place_is_no_sample(tmp_path: Path) -> None:
    file = written(tmp_path, [person(center=[-1, -1]), person(scale=0), person(image="b.jpg")])
    persons = opened(file).persons
    assert [bool(np.isnan(p.box_xyxy).all()) for p in persons] == [True, True, False]
    assert [s.image_id for s in opened(file).samples()] == ["b.jpg"]


@pytest.mark.parametrize(("keypoint_set", "shared"), [(COCO, 12), (CROWDPOSE, 14), (MPII, 16)])
def test_keypoints_are_carried_over_by_name(tmp_path: Path, keypoint_set: KeypointSet, shared: int) -> None:
    file = written(tmp_path, [person()])
    (sample,) = opened(file).samples(keypoint_set)
    assert sample.keypoints.shape == (len(keypoint_set), 2)
    assert (sample.visibility > 0).sum() == shared
    assert (np.isfinite(sample.keypoints).all(axis=1) == (sample.visibility > 0)).all()
    place = keypoint_set.keypoints.index("left_knee")
    assert sample.keypoints[place].tolist() == [99 + 3 * 4, 199 + 5 * 4]


def test_persons_without_a_wanted_keypoint_are_no_samples(tmp_path: Path) -> None:
    only_pelvis = person(joints_vis=[0] * 6 + [1] + [0] * 9)
    file = written(tmp_path, [only_pelvis, person(image="b.jpg")])
    assert len(opened(file).samples()) == 2
    assert [s.image_id for s in opened(file).samples(COCO)] == ["b.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is no COCO-style file, and no list of MPII persons either"),
        ([{"image_id": 1, "bbox": [0, 0, 5, 5], "score": 1}], "no list of MPII persons"),
        ([5], "no list of MPII persons"),
        ([person(), 5], "person 1 must be a mapping"),
        ([person(), person(scale=...)], "person 1 lacks the key 'scale'"),
        ([person(image=5)], "'image' must be a word"),
        ([person(center=[1.0])], "person 0: 'center' must be 2 numbers"),
        ([person(center=[1.0, float("nan")])], "person 0: 'center' must be 2 numbers"),
        ([person(scale="large")], "person 0: 'scale' must be a number"),
        ([person(scale=[1, 2])], "person 0: 'scale' must be a number"),
        ([person(joints=[[1, 2]] * 17)], "person 0: 'joints' must be 16 x 2 numbers"),
        ([person(joints=[[1, 2]] * 15 + [[1]])], "person 0: 'joints' must be 16 x 2 numbers"),
        ([person(joints_vis=...)], "person 0: 'joints_vis' must be 16 numbers"),
    ],
)
def test_a_broken_list_is_one_clear_error(tmp_path: Path, content: Any, message: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(InputError, match=message) as caught:
        opened(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imgname": ...}, r"needs the arrays imgname \(of words\), center and scale"),
        ({"imgname": np.zeros((2, 16))}, r"needs the arrays imgname \(of words\)"),
        ({"center": ...}, "'center' must be 2 x 2 numbers"),
        ({"center": np.zeros((3, 2))}, "'center' must be 2 x 2 numbers"),
        ({"scale": np.array([1, np.nan])}, "'scale' must be 2 numbers"),
        ({"part": np.zeros((2, 14, 2))}, "'part' must be 2 x 16 x 2 numbers"),
        ({"visible": np.zeros((2, 14))}, "'visible' must be 2 x 16 numbers"),
    ],
)
def test_broken_arrays_are_one_clear_error(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = newell(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as caught:
        opened(file)
    assert str(file) in str(caught.value)


def test_what_is_no_hdf5_file(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    with pytest.raises(InputError, match=r"There is no file .*absent\.h5"):
        opened(tmp_path / "absent.h5")
    (tmp_path / "junk.h5").write_text("junk")
    (tmp_path / "folder.h5").mkdir()
    for name in ("junk.h5", "folder.h5"):
        with pytest.raises(InputError, match=f"{name} cannot be read as an HDF5 file"):
            opened(tmp_path / name)


@needs_shared
def test_real_persons_of_both_forms_agree_with_the_ground_truth() -> None:
    pytest.importorskip("h5py")
    images = FIXTURE.parent
    persons, listed = opened(FIXTURE, images).persons, opened(NEWELL, images).persons
    truth = read_truth(TRUTH)
    assert (len(persons), len(listed), len(truth.keypoints)) == (5, 2958, 2958)
    for i, (one, other) in enumerate(zip(persons, listed[:5], strict=True)):
        assert one.image_id == other.image_id and Path(one.image_path).is_file()
        np.testing.assert_allclose(one.box_xyxy, other.box_xyxy, rtol=0, atol=0.01)
        assert ((one.visibility > 0) == (other.visibility > 0)).all()
        labelled = truth.labelled[i]
        assert ((one.visibility > 0) == labelled).all()
        np.testing.assert_allclose(one.keypoints[labelled], truth.keypoints[i][labelled], rtol=0, atol=1e-3)
        np.testing.assert_allclose(other.keypoints[labelled], truth.keypoints[i][labelled], rtol=0, atol=1)
    assert {int(v) for sample in listed for v in sample.visibility} == {0, 1, 2}
