"""Annotation files: what is read, what is left out, and one clear error for each kind of broken file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanpose.data.coco_style import box_from_xywh, read_annotations, read_detections, read_samples
from leanpose.errors import InputError
from leanpose.keypoint_sets import COCO, LSP

REAL = Path(__file__).resolve().parents[3] / "shared/data"


def content(**changes: Any) -> dict[str, Any]:
    """Return a file of one picture with one person of two keypoints; changes go into the annotation."""
    annotation = {
        "id": 1,
        "image_id": 7,
        "category_id": 1,
        "bbox": [10, 20, 30, 40],
        "keypoints": [12.5, 25, 2, 0, 0, 0],
    }
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 80}],
        "annotations": [annotation | changes],
        "categories": [{"id": 1, "name": "fish", "keypoints": ["head", "tail"], "skeleton": [[1, 2]]}],
    }


def written(tmp_path: Path, values: Any) -> Path:
    file = tmp_path / "set.json"
    file.write_text(values if isinstance(values, str) else json.dumps(values))
    return file


def test_a_person_becomes_a_sample(tmp_path: Path) -> None:
    (sample,) = read_samples(written(tmp_path, content()), tmp_path / "pictures")
    assert sample.image_path == str(tmp_path / "pictures" / "a.jpg")
    assert sample.image_id == 7
    np.testing.assert_array_equal(sample.box_xyxy, [10, 20, 39, 59])
    np.testing.assert_array_equal(sample.keypoints, np.array([[12.5, 25], [np.nan, np.nan]], np.float32))
    assert sample.visibility.tolist() == [2, 0]


def test_the_keypoint_set_is_that_of_the_file(tmp_path: Path) -> None:
    _, keypoint_set = read_annotations(written(tmp_path, content()))
    assert keypoint_set.keypoints == ("head", "tail")
    assert keypoint_set.edges == (("head", "tail"),)


def test_lsp_is_carried_to_coco_by_name(tmp_path: Path, people: Callable[..., tuple[Path, Path]]) -> None:
    file, images = people(keypoint_set=LSP, count=1)
    annotation = json.loads(file.read_text())["annotations"][0]
    triples = np.array(annotation["keypoints"]).reshape(-1, 3)
    (sample,) = read_samples(file, images, COCO)
    shared = set(LSP.keypoints) & set(COCO.keypoints)
    assert len(shared) == 12
    for i, name in enumerate(COCO.keypoints):
        if name in shared:
            np.testing.assert_allclose(sample.keypoints[i], triples[LSP.keypoints.index(name), :2], atol=1e-4)
            assert sample.visibility[i] == 2
        else:
            assert np.isnan(sample.keypoints[i]).all()
            assert sample.visibility[i] == 0


def test_hidden_keypoints_stay_labelled(tmp_path: Path) -> None:
    (sample,) = read_samples(written(tmp_path, content(keypoints=[1, 2, 1, 3, 4, 2])), tmp_path)
    assert sample.visibility.tolist() == [1, 2]
    np.testing.assert_array_equal(sample.keypoints, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"iscrowd": 1}, id="crowd"),
        pytest.param({"bbox": [10, 20, 0, 40]}, id="no width"),
        pytest.param({"bbox": [10, 20, 30, 0]}, id="no height"),
        pytest.param({"bbox": [200, 20, 30, 40]}, id="outside the picture"),
        pytest.param({"keypoints": [12, 25, 0, 5, 5, 0]}, id="nothing labelled"),
    ],
)
def test_persons_that_cannot_be_trained_on_are_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    values = content(**changes)
    values["annotations"].append(content(bbox=[1, 2, 3, 4])["annotations"][0])
    (sample,) = read_samples(written(tmp_path, values), tmp_path)
    np.testing.assert_array_equal(sample.box_xyxy, [1, 2, 3, 5])


@pytest.mark.parametrize(
    ("xywh", "picture", "expected"),
    [
        ([10, 20, 30, 40], {"width": 100, "height": 80}, [10, 20, 39, 59]),  # the last pixel inside
        ([-5, -6, 30, 40], {"width": 100, "height": 80}, [0, 0, 29, 39]),  # the start is moved, the size stays
        ([90, 70, 30, 40], {"width": 100, "height": 80}, [90, 70, 99, 79]),
        ([90.5, 70, 30, 40], {}, [90.5, 70, 119.5, 109]),  # a picture of unknown size clips nothing
        ([90, 70, 30, 40], {"width": None, "height": None}, [90, 70, 119, 109]),
        ([10, 20, 1, 40], {"width": 100, "height": 80}, None),  # one pixel wide: both edges on it
        ([10, 20, -3, 40], {"width": 100, "height": 80}, None),
        ([100, 20, 30, 40], {"width": 100, "height": 80}, None),
    ],
)
def test_boxes_are_clipped_as_the_hrnet_family_does(
    xywh: list[float], picture: dict[str, Any], expected: list[float] | None
) -> None:
    box = box_from_xywh(xywh, picture)
    if expected is None:
        assert box is None
    else:
        np.testing.assert_array_equal(box, np.array(expected, np.float32))


def without(key: str, where: str | None = None) -> dict[str, Any]:
    values = content()
    del (values if where is None else values[where][0])[key]
    return values


BROKEN: dict[str, tuple[Any, str]] = {
    "not JSON": ('{"images": [', r"is not valid JSON \(.*line 1\)"),
    "a list": ([1], "no COCO-style file"),
    "no images": (without("images"), "no COCO-style file"),
    "no annotations": (without("annotations"), "no COCO-style file"),
    "no categories": (without("categories"), "no COCO-style file"),
    "images is a mapping": (content() | {"images": {}}, "no COCO-style file"),
    "image without id": (without("id", "images"), "image 0 lacks the key 'id'"),
    "image without file_name": (without("file_name", "images"), "image 0 lacks the key 'file_name'"),
    "image is a number": (content() | {"images": [5]}, "image 0 must be a mapping"),
    "image id is a list": (
        content() | {"images": [{"id": [7], "file_name": "a"}]},
        "image 0 needs a number or a word as 'id'",
    ),
    "annotation without image_id": (without("image_id", "annotations"), "annotation 0 lacks the key 'image_id'"),
    "annotation without bbox": (without("bbox", "annotations"), "annotation 0 lacks the key 'bbox'"),
    "annotation without keypoints": (without("keypoints", "annotations"), "annotation 0 lacks the key 'keypoints'"),
    "category without keypoints": (without("keypoints", "categories"), "exactly one category with 'keypoints'"),
    "too few keypoints": (content(keypoints=[1, 2, 2]), "has 3 keypoint numbers, but the category names 2 keypoints"),
    "unknown picture": (content(image_id=8), "annotation 0 belongs to image 8, not in 'images'"),
    "keypoints are words": (content(keypoints=["a"] * 6), "annotation 0: 'keypoints' must be a list of numbers"),
    "keypoints are one number": (content(keypoints=5), "annotation 0: 'keypoints' must be a list of numbers"),
    "keypoints are nothing": (content(keypoints=None), "annotation 0: 'keypoints' must be a list of numbers"),
    "NaN keypoint": (
        content(keypoints=[float("nan"), 2, 2, 0, 0, 0]),
        "'keypoints' must be a list of numbers, without",
    ),
    "box of three numbers": (content(bbox=[1, 2, 3]), "annotation 0: 'bbox' must be a list of 4 numbers"),
    "box of words": (content(bbox=["1", "2", "3", "4"]), "annotation 0: 'bbox' must be a list of 4 numbers"),
    "NaN box": (content(bbox=[1, 2, float("nan"), 4]), "annotation 0: 'bbox' must be a list of 4 numbers, without NaN"),
    "no annotation": (content() | {"annotations": []}, "holds no person with a box and a labelled keypoint"),
    "only crowds": (content(iscrowd=1), "holds no person with a box and a labelled keypoint of the set 'fish'"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    values, message = BROKEN[kind]
    file = written(tmp_path, values)
    with pytest.raises(InputError, match=message) as caught:
        read_samples(file, tmp_path)
    assert "set.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_set_without_the_wanted_keypoints_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labelled keypoint of the set 'coco'"):
        read_samples(written(tmp_path, content()), tmp_path, COCO)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no file .*absent\.json; check the path"):
        read_samples(tmp_path / "absent.json", tmp_path)


def test_a_folder_or_binary_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "binary.json"):
        with pytest.raises(InputError, match="cannot be read"):
            read_samples(path, tmp_path)


def test_detections_of_other_categories_are_left_out(tmp_path: Path) -> None:
    person = {"image_id": 7, "bbox": [-3, 2, 300, 4], "score": 0.5, "category_id": 1}
    unnamed = {"image_id": 7, "bbox": [1, 2, 3, 4], "score": 0.25}
    file = written(tmp_path, [person, person | {"category_id": 3}, unnamed])
    assert read_detections(file) == [person, unnamed]  # as they are, not clipped


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"annotations": []}, "no detection file: it must hold a list"),
        ([{"image_id": 7, "bbox": [1, 2, 3, 4]}], "detection 0 lacks the key 'score'"),
        ([{"bbox": [1, 2, 3, 4], "score": 1}], "detection 0 lacks the key 'image_id'"),
        ([{"image_id": 7, "bbox": [1, 2, 3], "score": 1}], "detection 0: 'bbox' must be a list of 4 numbers"),
        ([{"image_id": 7, "bbox": [1, 2, 3, 4], "score": "high"}], "detection 0: 'score' must be a number"),
        ([[1, 2, 3, 4]], "detection 0 must be a mapping"),
    ],
)
def test_a_broken_detection_file_is_one_clear_error(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_detections(written(tmp_path, values))


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is not on this machine")
@pytest.mark.parametrize(("name", "count"), [("coco/val", 410), ("lspet/val", 500), ("lsp/train", 2158)])
def test_real_sets_hold_the_persons_that_their_readme_counts(name: str, count: int) -> None:
    folder = name.partition("/")[0]
    samples = read_samples(REAL / f"{name}.json", REAL / folder / "images", COCO)
    assert len(samples) == count
    assert all(Path(sample.image_path).is_file() for sample in samples[:20])
