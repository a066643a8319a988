"""Each fault of an annotated set is found, alone, and a faultless set has none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from leanpose.data.faults import faults
from leanpose.data.image_faults import image_faults, look_at_images, shared_images
from leanpose.data.lenient import read_leniently
from leanpose.errors import InputError

Content = dict[str, Any]
NAMES = ["nose", "left_hip", "right_hip", "left_knee", "right_knee"]


@pytest.fixture
def content() -> Content:
    """Ten images of 200 x 100 pixels with a person each, seen from either side, the last with a hidden keypoint."""
    persons = []
    for i in range(10):
        x = 40 if i % 2 else -40
        keypoints = [100, 15, 2, 100 + x, 50, 2, 100 - x, 50, 2, 100 + x, 85, 2, 100 - x, 85, 1 if i == 9 else 2]
        persons.append({"id": i, "image_id": i, "category_id": 1, "bbox": [50, 10, 100, 80], "keypoints": keypoints})
    images = [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 100} for i in range(10)]
    return {
        "images": images,
        "annotations": persons,
        "categories": [{"id": 1, "name": "person", "keypoints": [*NAMES]}],
    }


def kinds(content: Content) -> dict[str, int]:
    found = faults(read_leniently(content, "x.json", Path()))
    return {finding.kind: len(finding.cases) for finding in found}


def test_a_faultless_set_has_no_faults(content: Content) -> None:
    assert kinds(content) == {}


def change(keys: str, value: Any) -> Callable[[Content], None]:
    """Return a function that puts a value to where keys lead, such as "annotations 2 bbox"."""

    def apply(content: Content) -> None:
        place: Any = content
        *path, last = [int(key) if key.isdigit() else key for key in keys.split()]
        for key in path:
            place = place[key]
        if callable(value):
            value(place[last])
        else:
            place[last] = value

    return apply


def for_all(key: str, value: Callable[[Any], Any]) -> Callable[[Content], None]:
    def apply(content: Content) -> None:
        for annotation in content["annotations"]:
            annotation[key] = value(annotation[key])

    return apply


def first_hidden(triples: list[float]) -> list[float]:
    return [*triples[:2], 0, *triples[3:]]


def with_visibility(visibility: int, triples: list[float]) -> list[float]:
    return [visibility if i % 3 == 2 else value for i, value in enumerate(triples)]


def twice(content: Content) -> None:
    content["annotations"].append(copy.deepcopy(content["annotations"][0]) | {"id": 99})


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (change("annotations 2 bbox", None), {"boxes missing": 1}),
        (change("annotations 2 bbox", [50, 10, 0, 80]), {"boxes without area": 1}),
        (change("annotations 2 bbox", "wide"), {"boxes broken": 1, "boxes missing": 1}),
        (change("annotations 2 bbox", [300, 10, 50, 50]), {"boxes outside": 1, "boxes that do not fit": 1}),
        (change("annotations 2 bbox", [50, 10, 100, 99]), {"boxes beyond the edge": 1}),
        (change("annotations 2 bbox", [80, 10, 100, 80]), {"boxes that do not fit": 1}),
        (change("annotations 2 keypoints 0", 220), {"keypoints outside": 1, "boxes that do not fit": 1}),
        (change("annotations 2 keypoints", [1, 2, 2]), {"keypoint counts": 1}),
        (change("annotations 2 keypoints 0", "a"), {"keypoints broken": 1}),
        (change("annotations 2 keypoints 2", 3), {"visibility unknown": 1}),
        (change("annotations 2 id", 3), {"ids clashing": 1}),
        (change("annotations 2 image_id", 77), {"ids dangling": 1}),
        (change("annotations 2 category_id", 77), {"ids dangling": 1}),
        (change("annotations 2", 5), {"entries broken": 1}),
        (change("images 2 id", 3), {"ids clashing": 1, "ids dangling": 1}),
        (change("images 2 file_name", "3.png"), {"images listed twice": 1}),
        (change("images 2 file_name", None), {"entries broken": 1}),
        (change("categories", []), {"keypoints unnamed": 1}),
        (change("categories 0 keypoints 1", "leftmost_hip"), {"flip pairs": 2, "sigmas": 1}),
        (for_all("keypoints", first_hidden), {"keypoints never labelled": 1}),
        (for_all("keypoints", partial(with_visibility, 0)), {"visibility never set": 10}),
        (for_all("keypoints", lambda t: [0] * 15), {"nobody labelled": 1}),
        (for_all("keypoints", partial(with_visibility, 2)), {"visibility of one kind": 1}),
        (twice, {"persons annotated twice": 1}),
    ],
)  # fmt: skip
def test_each_fault_is_found(content: Content, plant: Callable[[Content], None], found: dict[str, int]) -> None:
    plant(content)
    assert kinds(content) == found


def test_keypoints_at_the_origin_are_found(content: Content) -> None:
    content["annotations"][2]["keypoints"][:3] = [0, 0, 2]
    assert kinds(content)["keypoints at 0, 0"] == 1


def test_hidden_keypoints_may_lie_outside_a_box(content: Content) -> None:
    content["annotations"][2]["bbox"] = [50, 10, 100, 45]
    content["annotations"][2]["keypoints"][9:] = [140, 85, 1, 60, 85, 1]
    assert kinds(content) == {}


def test_small_persons_and_a_wide_range_are_found(content: Content) -> None:
    for annotation in content["annotations"][:6]:
        annotation |= {"bbox": [98, 13, 4, 4], "keypoints": [100, 15, 2, *[0] * 12]}
    finding = next(f for f in faults(read_leniently(content, "x.json", Path())) if f.kind == "scales")
    assert [case.text.split(" ")[0] for case in finding.cases] == ["60%", "a"]


def test_sides_against_most_are_found_where_nearly_all_agree(content: Content) -> None:
    assert "sides against most" not in kinds(content)
    facing = content["annotations"][1]["keypoints"]
    content["annotations"] = [content["annotations"][i % 2] | {"id": i, "keypoints": facing} for i in range(30)]
    content["annotations"][4]["keypoints"] = [*facing[:3], *facing[6:9], *facing[3:6], *facing[12:], *facing[9:12]]
    content["annotations"] = [
        one | {"image_id": i % 10, "bbox": [50 - i, 10, 100 + i, 80]} for i, one in enumerate(content["annotations"])
    ]
    finding = next(f for f in faults(read_leniently(content, "x.json", Path())) if f.kind == "sides against most")
    assert [case.person for case in finding.cases] == [4]


def test_one_of_several_categories_is_chosen(content: Content) -> None:
    content["categories"].append({"id": 2, "name": "dog", "keypoints": ["left_ear", "right_ear"]})
    content["annotations"].append(
        {"id": 50, "image_id": 1, "category_id": 2, "bbox": [1, 1, 9, 9], "keypoints": [2] * 6}
    )
    with pytest.raises(InputError, match="person, dog; choose with --category"):
        kinds(content)
    annotated = read_leniently(content, "x.json", Path(), "dog")
    assert annotated.person_ids == ["annotation 50"] and annotated.triples.shape == (1, 2, 3)
    with pytest.raises(InputError, match="Did you mean 'dog'"):
        read_leniently(content, "x.json", Path(), "dogs")


def test_what_is_no_set_is_refused() -> None:
    with pytest.raises(InputError, match="no COCO-style file"):
        read_leniently([], "x.json", Path())


def test_images_are_looked_at(content: Content, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(10):
        scene = cv2.resize(random.integers(0, 255, (5, 10, 3), np.uint8), (200, 100), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / f"{i}.png"), scene)
        if i == 3:
            cv2.imwrite(str(tmp_path / "4.jpg"), cv2.resize(scene, (180, 90)))
    content["images"][4]["file_name"] = "4.jpg"  # 3.png again, in another size
    (tmp_path / "5.png").write_bytes(b"no image")
    (tmp_path / "6.png").unlink()
    annotated = read_leniently(json.loads(json.dumps(content)), "x.json", tmp_path)
    looks = look_at_images(annotated)
    found = {finding.kind: finding.cases for finding in image_faults(annotated, looks)}
    assert {kind: [case.image for case in cases] for kind, cases in found.items()} == {
        "images missing": [6], "images unreadable": [5], "images of another size": [4], "images alike": [4],
    }  # fmt: skip
    assert "4.jpg looks like 3.png" in found["images alike"][0].text
    other = read_leniently({"images": [{"id": 1, "file_name": "4.jpg"}], "annotations": []}, "val.json", tmp_path)
    (shared,) = shared_images(annotated, looks, other, look_at_images(other), "val.json")
    assert shared.level == "error" and [case.image for case in shared.cases] == [3, 4]
