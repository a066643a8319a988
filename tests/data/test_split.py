from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from leanpose.data.split import folds, split
from leanpose.errors import InputError


def content(names: list[str], **keys: list[Any]) -> dict[str, Any]:
    """Return a COCO-style content with an image of each name, with further keys of these values, and two persons in
    each."""
    images = [
        {"id": i, "file_name": name} | {key: values[i] for key, values in keys.items()} for i, name in enumerate(names)
    ]
    annotations = [{"id": n, "image_id": n // 2} for n in range(2 * len(names))]
    return {"info": {"year": 1}, "images": images, "annotations": annotations, "categories": [{"name": "person"}]}


def names_of(part: dict[str, Any]) -> set[str]:
    return {image["file_name"] for image in part["images"]}


NAMES = [f"{i}.jpg" for i in range(50)]
PARTS = {"train": 0.8, "val": 0.2}


def test_every_image_lands_in_one_part_with_its_persons() -> None:
    whole = content(NAMES)
    parts = split(whole, {"train": 0.7, "val": 0.2, "test": 0.1})
    assert {name: len(part["images"]) for name, part in parts.items()} == {"train": 35, "val": 10, "test": 5}
    assert set.union(*map(names_of, parts.values())) == {*NAMES}
    for part in parts.values():
        ids = {image["id"] for image in part["images"]}
        assert len(part["annotations"]) == 2 * len(ids) and {a["image_id"] for a in part["annotations"]} == ids
        assert part["info"] == whole["info"] and part["categories"] == whole["categories"]


def test_ids_and_order_change_nothing_and_the_seed_does() -> None:
    first = names_of(split(content(NAMES), PARTS)["val"])
    other_ids = content(NAMES[::-1])
    for entry in other_ids["images"]:
        entry["id"] = f"x{entry['id']}"
    for annotation in other_ids["annotations"]:
        annotation["image_id"] = f"x{annotation['image_id']}"
    assert names_of(split(other_ids, PARTS)["val"]) == first
    assert names_of(split(content(NAMES), PARTS, seed=1)["val"]) != first


@pytest.mark.parametrize("group", ["video", r"^(\w)_", r"^\w"])
def test_groups_stay_together_and_shares_are_met_as_well_as_they_allow(group: str) -> None:
    sizes = {"a": 30, "b": 20, "c": 19, "d": 11, "e": 10, "f": 10}
    names = [f"{letter}_{i}.jpg" for letter, size in sizes.items() for i in range(size)]
    parts = split(content(names, video=[name[0] for name in names]), PARTS, by="group", group=group)
    letters = {name: {one[0] for one in names_of(part)} for name, part in parts.items()}
    assert not letters["train"] & letters["val"]
    assert abs(len(parts["val"]["images"]) - 20) <= 1


def test_images_that_look_the_same_stay_together(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = []
    for i in range(12):
        scene = cv2.resize(random.integers(0, 255, (6, 8, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
        for j, image in enumerate((scene, cv2.resize(scene, (100, 75)), scene[4:-4, 5:-3])):
            names.append(f"{j}_{i}.png")
            cv2.imwrite(str(tmp_path / names[-1]), image)
    parts = split(content(names), {"a": 0.5, "b": 0.5}, by="scene", images=tmp_path)
    scenes = [{name.split("_")[1] for name in names_of(part)} for part in parts.values()]
    assert not scenes[0] & scenes[1] and len(scenes[0]) == len(scenes[1]) == 6


def test_folds_validate_on_every_image_once() -> None:
    pairs = folds(content(NAMES), 4)
    validated = [name for _, val in pairs for name in names_of(val)]
    assert sorted(validated) == sorted(NAMES)
    for train, val in pairs:
        assert len(val["images"]) in (12, 13) and names_of(train) == {*NAMES} - names_of(val)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"parts": {"train": 0.8, "val": 0.3}}, "sum to 1"),
        ({"parts": {"train": 0.999, "val": 0.001}}, "No image is left for the part 'val'"),
        ({"by": "group"}, "give both or neither"),
        ({"by": "group", "group": "(["}, "no regular expression"),
        ({"by": "group", "group": "^x"}, "not found in the name 0.jpg"),
        ({"by": "scene"}, "give their folder"),
    ],
)
def test_what_does_not_fit_is_said(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        split(content(NAMES), **{"parts": PARTS} | change)


def test_ids_must_be_clear() -> None:
    with pytest.raises(InputError, match="stands twice"):
        split({"images": [{"id": 1, "file_name": name} for name in "abcdefgh"], "annotations": []}, PARTS)
    dangling = content(NAMES)
    dangling["annotations"][3]["image_id"] = 99
    with pytest.raises(InputError, match="Annotation 3 belongs to image 99"):
        split(dangling, PARTS)
    with pytest.raises(InputError, match="60 folds"):
        folds(content(NAMES), 60)
    with pytest.raises(InputError, match="There are no images to split"):
        split(content([]), PARTS)
