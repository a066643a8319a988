"""Annotation files: what is read, what is left out, and one clear error for each kind of broken file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import DATA, needs

from leanpose.data.annotations import open_annotations
from leanpose.data.coco import CocoSet
from leanpose.data.entries import clipped
from leanpose.data.scenes import ALL_KNOWN, BOX_KNOWN, MAX_PEOPLE, NOTHING_KNOWN, Views, known_map
from leanpose.errors import InputError
from leanpose.keypoint_sets import COCO, LSP, KeypointSet
from leanpose.structures import ImageBoxes, Scene

FISH = KeypointSet("fish", ("head", "tail"), (("head", "tail"),), "test")
UNLABELLED = [0, 0, 0, 0, 0, 0]


def content(**changes: Any) -> dict[str, Any]:
    """Return a file of one image with one person of two keypoints; changes go into the annotation."""
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
    (sample,) = open_annotations(written(tmp_path, content()), tmp_path / "images").samples()
    assert sample.image_path == str(tmp_path / "images" / "a.jpg")
    assert sample.image_id == 7
    np.testing.assert_array_equal(sample.box_xyxy, [10, 20, 39, 59])
    np.testing.assert_array_equal(sample.keypoints, np.array([[12.5, 25], [np.nan, np.nan]], np.float32))
    assert sample.visibility.tolist() == [2, 0]


def test_the_keypoint_set_is_that_of_the_file(tmp_path: Path) -> None:
    keypoint_set = open_annotations(written(tmp_path, content()), tmp_path).keypoint_set
    assert keypoint_set.keypoints == ("head", "tail")
    assert keypoint_set.edges == (("head", "tail"),)


def test_a_part_of_the_images(tmp_path: Path) -> None:
    values = content()
    values["images"] += [{"id": 8, "file_name": "b.jpg"}, {"id": "x", "file_name": "c.jpg"}]
    values["annotations"] += [values["annotations"][0] | {"id": i, "image_id": i} for i in (8, "x")]
    whole = open_annotations(written(tmp_path, values), tmp_path)
    assert isinstance(whole, CocoSet)
    part = whole.part({"x", 7})
    assert [image.image_id for image in part.images(None)] == [7, "x"]
    assert [sample.image_id for sample in part.samples()] == [7, "x"]
    assert len(whole.persons) == len(whole.images(None)) == 3


def test_lsp_is_carried_to_coco_by_name(tmp_path: Path, people: Callable[..., tuple[Path, Path]]) -> None:
    file, images = people(keypoint_set=LSP, count=1)
    annotation = json.loads(file.read_text())["annotations"][0]
    triples = np.array(annotation["keypoints"]).reshape(-1, 3)
    (sample,) = open_annotations(file, images).samples(COCO)
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
    (sample,) = open_annotations(written(tmp_path, content(keypoints=[1, 2, 1, 3, 4, 2])), tmp_path).samples()
    assert sample.visibility.tolist() == [1, 2]
    np.testing.assert_array_equal(sample.keypoints, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"iscrowd": 1}, id="crowd"),
        pytest.param({"bbox": None, "keypoints": UNLABELLED}, id="no box"),
        pytest.param({"bbox": [200, 20, 30, 40]}, id="outside the image"),
        pytest.param({"keypoints": [12, 25, 0, 5, 5, 0]}, id="nothing labelled"),
    ],
)
def test_persons_that_cannot_be_trained_on_are_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    values = content(**changes)
    values["annotations"].append(content(bbox=[1, 2, 3, 4])["annotations"][0])
    (sample,) = open_annotations(written(tmp_path, values), tmp_path).samples()
    np.testing.assert_array_equal(sample.box_xyxy, [1, 2, 3, 5])


@pytest.mark.parametrize(
    ("xywh", "size", "expected"),
    [
        ([10, 20, 30, 40], (80, 100), [10, 20, 39, 59]),  # the last pixel inside
        ([-5, -6, 30, 40], (80, 100), [0, 0, 29, 39]),  # the start is moved, the size stays
        ([90, 70, 30, 40], (80, 100), [90, 70, 99, 79]),
        ([90.5, 70, 30, 40], None, [90.5, 70, 119.5, 109]),  # an image of unknown size clips nothing
        ([10, 20, 1, 40], (80, 100), None),  # one pixel wide: both edges on it
        ([10, 20, -3, 40], (80, 100), None),
        ([100, 20, 30, 40], (80, 100), None),
    ],
)
def test_boxes_are_clipped_as_the_hrnet_family_does(
    xywh: list[float], size: tuple[int, int] | None, expected: list[float] | None
) -> None:
    box = clipped(np.array(xywh, float), size)
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
    "no categories": (without("categories"), "exactly one category with 'keypoints' is needed, found 0"),
    "categories is a mapping": (content() | {"categories": {"id": 1}}, "'categories' must be a list"),
    "images is a mapping": (content() | {"images": {}}, "no COCO-style file"),
    "image without id": (without("id", "images"), "image 0 lacks the key 'id'"),
    "image without file_name": (without("file_name", "images"), "image 0 lacks the key 'file_name'"),
    "image is a number": (content() | {"images": [5]}, "image 0 must be a mapping"),
    "image id is a list": (
        content() | {"images": [{"id": [7], "file_name": "a"}]},
        "'id' of image 0 must be a whole number or a word, not",
    ),
    "annotation without image_id": (without("image_id", "annotations"), "annotation 0 lacks the key 'image_id'"),
    "category without keypoints": (without("keypoints", "categories"), "exactly one category with 'keypoints'"),
    "too few keypoints": (content(keypoints=[1, 2, 2]), "has 3 keypoint numbers, but the category names 2 keypoints"),
    "unknown image": (content(image_id=8), "annotation 0 belongs to image 8, not in 'images'"),
    "keypoints are words": (content(keypoints=["a"] * 6), "annotation 0: 'keypoints' must be 6 numbers"),
    "keypoints are one number": (content(keypoints=5), "annotation 0: 'keypoints' must be 6 numbers"),
    "NaN keypoint": (
        content(keypoints=[float("nan"), 2, 2, 0, 0, 0]),
        r"'keypoints' must be 6 numbers \(no NaN",
    ),
    "box of three numbers": (content(bbox=[1, 2, 3]), "annotation 0: 'bbox' must be 4 numbers"),
    "box of words": (content(bbox=["1", "2", "3", "wide"]), "annotation 0: 'bbox' must be 4 numbers"),
    "NaN box": (content(bbox=[1, 2, float("nan"), 4]), r"annotation 0: 'bbox' must be 4 numbers \(no NaN"),
    "box of infinite numbers": (content(bbox=[1, 2, 10**400, 4]), "annotation 0: 'bbox' must be 4 numbers"),
    "crowd in words": (content(iscrowd="yes"), "annotation 0: 'iscrowd' must be a number"),
    "wide image": (
        content() | {"images": [{"id": 7, "file_name": "a", "width": "wide", "height": 5}]},
        "image 0: 'width' must be a number",
    ),
    "endless number": ('{"images": ' + "9" * 5000 + "}", "is not valid JSON"),
    "no annotation": (content() | {"annotations": []}, "holds no person with a box and a labelled keypoint"),
    "only crowds": (content(iscrowd=1), "holds no person with a box and a labelled keypoint of the set 'fish'"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    values, message = BROKEN[kind]
    file = written(tmp_path, values)
    with pytest.raises(InputError, match=message) as caught:
        open_annotations(file, tmp_path).samples()
    assert "set.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_set_without_the_wanted_keypoints_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labelled keypoint of the set 'coco'"):
        open_annotations(written(tmp_path, content()), tmp_path).samples(COCO)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no file .*absent\.json; check the path"):
        open_annotations(tmp_path / "absent.json", tmp_path).samples()


def test_a_folder_or_binary_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "binary.json"):
        with pytest.raises(InputError, match="cannot be read"):
            open_annotations(path, tmp_path).samples()


def persons(*changes: dict[str, Any], **image: Any) -> dict[str, Any]:
    """Return a file of one image with one person for each of the changes; `image` changes the image."""
    values = content()
    values["images"][0] |= image
    values["annotations"] = [content(**change)["annotations"][0] for change in changes]
    return values


def scenes_of(tmp_path: Path, values: dict[str, Any], views: Views = "images") -> list[Scene]:
    return open_annotations(written(tmp_path, values), tmp_path / "images").scenes(FISH, views)


def test_an_image_becomes_a_scene_of_all_its_persons(tmp_path: Path) -> None:
    small = {"bbox": [60, 10, 10, 20], "keypoints": [61, 11, 1, 62, 12, 2]}
    (scene,) = scenes_of(tmp_path, persons(small, {}))
    assert scene.image_path == str(tmp_path / "images" / "a.jpg")
    assert scene.image_id == 7
    np.testing.assert_array_equal(scene.boxes_xyxy, [[10, 20, 39, 59], [60, 10, 69, 29]])  # the larger one first
    expected = np.array([[[12.5, 25], [np.nan, np.nan]], [[61, 11], [62, 12]]], np.float32)
    np.testing.assert_array_equal(scene.keypoints, expected)
    assert scene.visibility.tolist() == [[2, 0], [1, 2]]
    arrays = (scene.keypoints, scene.visibility, scene.boxes_xyxy)
    assert [array.dtype.name for array in arrays] == ["float32", "int8", "float32"]
    assert scene.ignored == ()


@pytest.mark.parametrize(
    ("width", "height", "square"),
    [(100, 80, [10, 0, 89, 79]), (80, 101, [0, 10.5, 79, 89.5]), (60, 60, [0, 0, 59, 59])],
)
def test_views_of_images_are_laid_around_the_center_square(
    tmp_path: Path, width: int, height: int, square: list[float]
) -> None:
    (scene,) = scenes_of(tmp_path, persons({}, {}, width=width, height=height))
    np.testing.assert_array_equal(scene.box_xyxy, np.array(square, np.float32))


def test_views_of_persons_are_laid_around_each_with_labelled_keypoints(tmp_path: Path) -> None:
    unlabelled = {"bbox": [40, 0, 50, 60], "keypoints": UNLABELLED}
    values = persons({"bbox": [1, 2, 10, 20]}, unlabelled, {"bbox": [5, 6, 20, 30]}, {"iscrowd": 1})
    scenes = scenes_of(tmp_path, values, "persons")
    np.testing.assert_array_equal([scene.box_xyxy for scene in scenes], [[5, 6, 24, 35], [1, 2, 10, 21]])
    for scene in scenes:  # everybody is in each
        np.testing.assert_array_equal(scene.boxes_xyxy, [[40, 0, 89, 59], [5, 6, 24, 35], [1, 2, 10, 21]])
        assert {level for _, level in scene.ignored} == {NOTHING_KNOWN, BOX_KNOWN}


def test_scenes_come_in_the_order_of_the_images(tmp_path: Path) -> None:
    values = persons({"image_id": 2}, {"image_id": 9}, {"image_id": 2})
    values["images"] = [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 80} for i in (9, 5, 2)]
    scenes = scenes_of(tmp_path, values)  # 5 has nobody
    assert [(scene.image_id, len(scene.visibility)) for scene in scenes] == [(9, 1), (2, 2)]


def test_persons_without_area_are_in_no_scene(tmp_path: Path) -> None:
    (scene,) = scenes_of(
        tmp_path, persons({"bbox": [10, 20, 0, 40], "keypoints": UNLABELLED}, {"bbox": [200, 20, 30, 40]}, {})
    )
    np.testing.assert_array_equal(scene.boxes_xyxy, [[10, 20, 39, 59]])
    assert scene.ignored == ()


def runs(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask as COCO's run lengths: of 0 and 1 in turn, column after column."""
    flat = mask.T.ravel().astype(int)
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *ends, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *lengths] if flat[0] else lengths}


def rectangles(*corners: tuple[int, int, int, int]) -> np.ndarray:
    """Return an (80, 100) mask that is true inside x1, y1, x2, y2, edges included."""
    mask = np.zeros((80, 100), bool)
    for x1, y1, x2, y2 in corners:
        mask[y1 : y2 + 1, x1 : x2 + 1] = True
    return mask


def polygon(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    return [x1, y1, x2, y1, x2, y2, x1, y2]


BOX = rectangles((10, 20, 39, 59))  # of `content`
ONE, TWO = (50, 5, 70, 30), (3, 40, 20, 79)
OUTLINES: dict[str, tuple[Any, np.ndarray]] = {
    "polygon": ([polygon(*ONE)], rectangles(ONE)),
    "polygon between pixels": ([polygon(50.4, 4.6, 69.6, 30.4)], rectangles(ONE)),
    "two polygons": ([polygon(*ONE), polygon(*TWO)], rectangles(ONE, TWO)),
    "polygon over the border": ([polygon(-20, 40, 20, 200)], rectangles((0, 40, 20, 79))),
    "run lengths": (runs(rectangles(ONE)), rectangles(ONE)),
    "run lengths of two parts": (runs(rectangles(ONE, TWO)), rectangles(ONE, TWO)),
    "run lengths from the first pixel": (runs(rectangles((0, 0, 30, 9))), rectangles((0, 0, 30, 9))),
    "compressed run lengths": ({"size": [80, 100], "counts": "PPYo0"}, BOX),
    "none": (None, BOX),
    "no polygon": ([], BOX),
}


@pytest.mark.parametrize("kind", OUTLINES)
@pytest.mark.parametrize("level", [BOX_KNOWN, NOTHING_KNOWN])
def test_crowds_and_persons_without_keypoints_are_ignored(tmp_path: Path, kind: str, level: int) -> None:
    segmentation, mask = OUTLINES[kind]
    change = {"iscrowd": 1} if level == NOTHING_KNOWN else {"keypoints": UNLABELLED}
    (scene,) = scenes_of(tmp_path, persons(change | {"segmentation": segmentation}, {"bbox": [5, 6, 20, 30]}))
    known = known_map(scene, (80, 100))
    np.testing.assert_array_equal(known, np.where(mask, level, ALL_KNOWN))
    boxes = [[5, 6, 24, 35]]
    if level == BOX_KNOWN:  # still a person, whose box is learned
        boxes.insert(0, [10, 20, 39, 59])
        assert np.isnan(scene.keypoints[0]).all()
        assert scene.visibility[0].tolist() == [0, 0]
    np.testing.assert_array_equal(scene.boxes_xyxy, boxes)


def test_the_largest_persons_are_kept_and_the_others_ignored(tmp_path: Path) -> None:
    sides = np.random.default_rng(0).permutation(np.arange(5, 5 + MAX_PEOPLE + 3)).tolist()
    values = persons(*({"bbox": [side, 0, side, side]} for side in sides))
    (scene,) = scenes_of(tmp_path, values)
    assert len(scene.visibility) == MAX_PEOPLE
    assert scene.boxes_xyxy[:, 0].tolist() == list(range(MAX_PEOPLE + 7, 7, -1))
    expected = np.where(rectangles((5, 0, 9, 4), (6, 0, 11, 5), (7, 0, 13, 6)), NOTHING_KNOWN, ALL_KNOWN)
    np.testing.assert_array_equal(known_map(scene, (80, 100)), expected)
    assert len(scenes_of(tmp_path, values, "persons")) == MAX_PEOPLE


@pytest.mark.parametrize("side", ["width", "height"])
@pytest.mark.parametrize("value", [None, 0])
def test_scenes_need_the_size_of_their_image(tmp_path: Path, side: str, value: Any) -> None:
    with pytest.raises(InputError, match=r"set\.json: image 0 lacks its 'width' and 'height' in pixels"):
        scenes_of(tmp_path, persons({}, **{side: value}))


def test_scenes_of_other_keypoints_are_an_error(tmp_path: Path) -> None:
    file = written(tmp_path, content())
    with pytest.raises(InputError, match=r"set\.json has the keypoints 'fish', not 'coco'"):
        open_annotations(file, tmp_path).scenes(COCO)


@pytest.mark.parametrize(
    ("values", "views"),
    [
        (content() | {"annotations": []}, "images"),
        (content(iscrowd=1), "images"),
        (content(bbox=[10, 20, 0, 40], keypoints=UNLABELLED), "images"),
        (content(keypoints=UNLABELLED), "persons"),
    ],
    ids=["no annotation", "only crowds", "no area", "nothing labelled"],
)
def test_a_file_without_scenes_is_an_error(tmp_path: Path, values: dict[str, Any], views: Views) -> None:
    with pytest.raises(InputError, match=r"set\.json holds no image with an annotated person"):
        scenes_of(tmp_path, values, views)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3]],
        [["a", "b"]],
        [5],
        [[1, 2, float("nan"), 4]],
        {"counts": [10, 5]},
        {"counts": [10, 5], "size": [80, 100]},
        {"counts": [8005, -5], "size": [80, 100]},
        {"counts": ["a"], "size": [80, 100]},
        {"counts": [8000], "size": 8000},
    ],
    ids=str,
)
def test_a_broken_segmentation_is_one_clear_error(tmp_path: Path, segmentation: Any) -> None:
    values = persons({"segmentation": segmentation}, {"iscrowd": 1, "segmentation": segmentation})
    message = r"set\.json: annotation 1: its 'segmentation' is neither polygons nor a run-length mask"
    with pytest.raises(InputError, match=message):
        scenes_of(tmp_path, values)
    del values["annotations"][1]
    assert len(scenes_of(tmp_path, values)) == 1  # nobody looks at those of labelled persons


def scene(*ignored: tuple[list[float], int]) -> Scene:
    """Return a scene of nobody with regions x1, y1, x2, y2 at levels."""
    regions = tuple((np.array(polygon(*corners), np.float32).reshape(-1, 2), level) for corners, level in ignored)
    return Scene("a.png", 1, np.zeros(4), np.zeros((0, 2, 2)), np.zeros((0, 2), np.int8), np.zeros((0, 4)), regions)


@pytest.mark.parametrize("swapped", [False, True])
def test_of_overlapping_regions_the_least_known_counts(swapped: bool) -> None:
    regions = [([10, 10, 50, 50], BOX_KNOWN), ([30, 30, 70, 70], NOTHING_KNOWN)]
    known = known_map(scene(*reversed(regions) if swapped else regions), (80, 100))
    assert (known.dtype.name, known.shape) == ("uint8", (80, 100))
    expected = np.full((80, 100), ALL_KNOWN)
    expected[10:51, 10:51] = BOX_KNOWN
    expected[30:71, 30:71] = NOTHING_KNOWN
    np.testing.assert_array_equal(known, expected)


def test_where_nothing_is_ignored_all_is_known() -> None:
    assert (known_map(scene(), (20, 30)) == ALL_KNOWN).all()
    assert ALL_KNOWN > BOX_KNOWN > NOTHING_KNOWN == 0  # 0 is also what lies outside the image


def detected(tmp_path: Path, values: Any) -> list[ImageBoxes]:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(values))
    return open_annotations(written(tmp_path, content()), tmp_path).images(boxes)


def test_detections_of_other_categories_are_left_out(tmp_path: Path) -> None:
    person = {"image_id": 7, "bbox": [-3, 2, 300, 4], "score": 0.5, "category_id": 1}
    unnamed = {"image_id": 7, "bbox": [1, 2, 3, 4], "score": 0.25}
    (image,) = detected(tmp_path, [person, person | {"category_id": 3}, unnamed])
    assert image.boxes_xyxy is not None
    assert image.boxes_xyxy.tolist() == [[-3, 2, 297, 6], [1, 2, 4, 6]]  # as they are, not clipped
    assert image.scores.tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"annotations": []}, "no detection file: it must hold a list"),
        ([{"image_id": 7, "bbox": [1, 2, 3, 4]}], "detection 0 lacks the key 'score'"),
        ([{"bbox": [1, 2, 3, 4], "score": 1}], "detection 0 lacks the key 'image_id'"),
        ([{"image_id": 7, "bbox": [1, 2, 3], "score": 1}], "detection 0: 'bbox' must be 4 numbers"),
        ([{"image_id": 7, "bbox": [1, 2, 3, 4], "score": "high"}], "detection 0: 'score' must be a number"),
        ([[1, 2, 3, 4]], "detection 0 must be a mapping"),
        (
            [{"image_id": 7, "bbox": [1, 80, 3, 4], "score": 1}],
            "lies outside the image of 100 x 80 pixels",
        ),
        ([{"image_id": 8, "bbox": [1, 2, 3, 4], "score": 1}], "holds no box of a person for any image of"),
    ],
)
def test_a_broken_detection_file_is_one_clear_error(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        detected(tmp_path, values)


@needs(DATA)
@pytest.mark.parametrize(("name", "count"), [("coco/val", 410), ("lspet/val", 500), ("lsp/train", 2158)])
def test_real_sets_hold_the_persons_that_their_readme_counts(name: str, count: int) -> None:
    folder = name.partition("/")[0]
    samples = open_annotations(DATA / f"{name}.json", DATA / folder / "images").samples(COCO)
    assert len(samples) == count
    assert all(Path(sample.image_path).is_file() for sample in samples[:20])


@needs(DATA)
def test_real_scenes_hold_the_persons_that_real_samples_are() -> None:
    folder = DATA / "coco"
    annotated = open_annotations(folder / "val.json", folder / "images")
    samples = annotated.samples()
    images, around = (annotated.scenes(COCO, views) for views in ("images", "persons"))
    assert len({scene.image_path for scene in images}) == len(images) <= 280
    assert len(around) == len(samples)  # a view each
    assert sum(int((scene.visibility > 0).any(axis=1).sum()) for scene in images) == len(samples)


def test_keypoint_weights_are_carried_by_name(tmp_path: Path) -> None:
    wanted = KeypointSet("other", ("tail", "fin", "head"), (), "test")
    changes = {"keypoints": [12, 25, 2, 14, 25, 2], "keypoint_weights": [0.25, 0.5]}
    (sample,) = open_annotations(written(tmp_path, content(**changes)), None).samples(wanted)
    assert sample.keypoint_weights.tolist() == [0.5, 0, 0.25]
    (sample,) = open_annotations(written(tmp_path, content()), None).samples()
    assert sample.keypoint_weights.tolist() == [1, 0]  # without the key every labelled one counts in full
    (sample,) = open_annotations(written(tmp_path, content(keypoint_weights=[0.5, -0.25])), None).samples()
    assert sample.keypoint_weights.tolist() == [0.5, -0.25]  # the second is known to be absent


@pytest.mark.parametrize("weights", [[1.0], [1.5, 0], [-0.1, 0], [1, -1.5], ["one", 1], 0.5])
def test_keypoint_weights_that_are_none(tmp_path: Path, weights: object) -> None:
    with pytest.raises(InputError, match="annotation 0: 'keypoint_weights' must"):
        open_annotations(written(tmp_path, content(keypoint_weights=weights)), None)
