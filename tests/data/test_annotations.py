"""The gate: whatever form an annotation file has, one object reads it, and what means nothing changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from leanpose.data.annotations import open_annotations, read_annotated
from leanpose.errors import InputError
from leanpose.keypoint_sets import COCO, CROWDPOSE, LSP, MPII

MakePeople = Callable[..., tuple[Path, Path]]
Content = dict[str, Any]


@pytest.fixture
def perfect(people: MakePeople) -> Callable[..., float]:
    """Return a function that changes a file of three persons and returns the AP of an answer without errors."""
    pytest.importorskip("faster_coco_eval")
    file, images = people(count=3)
    original = json.loads(file.read_text())

    def score(change: Callable[[Content], Any] = lambda content: None) -> float:
        content = json.loads(json.dumps(original))
        change(content)
        file.write_text(json.dumps(content))
        annotated = open_annotations(file, images)
        annotated.check(COCO, "the oracle")
        results = []
        for image in annotated.images():
            of_image = [s for s in annotated.samples(COCO) if s.image_id == image.image_id]
            for sample in of_image:
                triples = np.column_stack([np.nan_to_num(sample.keypoints), np.ones(17)])
                results.append(
                    {
                        "image_id": image.image_id,
                        "category_id": image.category_id,
                        "keypoints": triples.ravel().tolist(),
                        "score": 1.0,
                    }
                )
        return annotated.score(results, COCO)["AP"]

    return score


def every(entries: str, **values: Any) -> Callable[[Content], None]:
    """Return a change of all entries of a list; functions are called with the entry, `...` takes a key out."""

    def change(content: Content) -> None:
        for entry in content[entries]:
            for key, value in values.items():
                entry[key] = value(entry) if callable(value) else value
                if value is ...:
                    del entry[key]

    return change


def both(*changes: Callable[[Content], None]) -> Callable[[Content], None]:
    def change_all(content: Content) -> None:
        for change in changes:
            change(content)

    return change_all


MEANS_NOTHING: dict[str, Callable[[Content], Any]] = {
    "annotation ids from 0": every("annotations", id=lambda a: a["id"] - 1),
    "annotation ids repeated": every("annotations", id=5),
    "annotation ids as words": every("annotations", id="person"),
    "no annotation ids": every("annotations", id=...),
    "order of annotations": lambda content: content["annotations"].reverse(),
    "order of images": lambda content: content["images"].reverse(),
    "ids of images as text": both(
        every("images", id=lambda i: str(i["id"])), every("annotations", image_id=lambda a: str(a["image_id"]))
    ),
    "ids of images as text in one list": every("annotations", image_id=lambda a: str(a["image_id"])),
    "ids of images with a point": every("annotations", image_id=lambda a: float(a["image_id"])),
    "category 0": both(every("categories", id=0), every("annotations", category_id=0)),
    "category as word": both(every("categories", id="human"), every("annotations", category_id="human")),
    "category as text in one list": every("categories", id="1"),
    "no id of the category": both(every("categories", id=...), every("annotations", category_id=3)),
    "no category_id": every("annotations", category_id=...),
    "no num_keypoints": every("annotations", num_keypoints=...),
    "num_keypoints 0": every("annotations", num_keypoints=0),
    "num_keypoints null": every("annotations", num_keypoints=None),
    "iscrowd null": every("annotations", iscrowd=None),
    "iscrowd false": every("annotations", iscrowd=False),
    "iscrowd as text": every("annotations", iscrowd="0"),
    "no iscrowd": every("annotations", iscrowd=...),
    "area as text": every("annotations", area=lambda a: str(a["area"])),
    "size as text": every("images", width="100", height="120"),
    "size null": every("images", width=None, height=None),
    "box as text": every("annotations", bbox=lambda a: [str(v) for v in a["bbox"]]),
    "visibility as a score": every("annotations", keypoints=lambda a: [0.93 if v == 2 else v for v in a["keypoints"]]),
    "visibility of a byte": every("annotations", keypoints=lambda a: [255 if v == 2 else v for v in a["keypoints"]]),
    "other spelling": every("categories", keypoints=lambda c: [k.replace("_", "-").title() for k in c["keypoints"]]),
    "other order": both(
        every("categories", keypoints=lambda c: c["keypoints"][::-1]),
        every("annotations", keypoints=lambda a: np.reshape(a["keypoints"], (-1, 3))[::-1].ravel().tolist()),
    ),
    "a track without keypoints": lambda content: content["annotations"].append(
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 0, 0], "area": 0, "keypoints": [], "num_keypoints": 0}
    ),
    "a ball": both(
        lambda content: content["categories"].append({"id": 2, "name": "ball"}),
        lambda content: content["annotations"].append({"image_id": 1, "category_id": 2, "bbox": [5, 5, 9, 9]}),
    ),
    "one file under two ids": every("images", file_name="1.png"),
}


@pytest.mark.parametrize("kind", MEANS_NOTHING)
def test_what_means_nothing_changes_no_figure(kind: str, perfect: Callable[..., float]) -> None:
    assert perfect(MEANS_NOTHING[kind]) == pytest.approx(1)


REFUSED: dict[str, tuple[Callable[[Content], Any], str]] = {
    "image ids repeated": (every("images", id=1), r"1\.png and 2\.png have the same image id 1; number"),
    "image id of another type": (
        both(every("images", id=1, file_name="a"), lambda c: c["images"].__delitem__(slice(1, 3))),
        r"annotation 1 belongs to image 2, not in 'images'",
    ),
    "image id a list": (every("annotations", image_id=[1]), r"annotation 0 belongs to image \[1\], not in 'images'"),
    "image id no whole number": (every("images", id=1.5), "'id' of image 0 must be a whole number or a word, not 1.5"),
    "another category": (
        every("annotations", category_id=0),
        "has the category_id 0, but .* persons has the id 1; give",
    ),
    "no category among several": (
        both(every("annotations", category_id=...), lambda c: c["categories"].append({"id": 2, "name": "ball"})),
        "annotation 0 lacks the key 'category_id'",
    ),
    "no id among several": (
        both(every("categories", id=...), lambda c: c["categories"].append({"id": 2, "name": "ball"})),
        "the category of persons needs an 'id'",
    ),
    "area 0": (every("annotations", area=0), "'area' is 0, far too little for a box of .* give the person's area"),
    "area 1": (every("annotations", area=1), "'area' is 1, far too little for a box of"),
    "area below 0": (every("annotations", area=-5), "'area' is -5, far too little"),
    "area NaN": (every("annotations", area=float("nan")), "annotation 0: 'area' must be a number .* not NaN"),
    "area in words": (every("annotations", area="large"), "annotation 0: 'area' must be a number .* not \"large\""),
    "nobody labelled": (every("annotations", keypoints=[0] * 51), "counts nobody, so that it gives no figure"),
    "only crowds": (every("annotations", iscrowd=1), "counts nobody"),
    "visibility below 0": (
        every("annotations", keypoints=lambda a: [-1 if v == 2 else v for v in a["keypoints"]]),
        "counts nobody",
    ),
    "visibility NaN": (
        every("annotations", keypoints=lambda a: [float("nan") if v == 2 else v for v in a["keypoints"]]),
        "annotation 0: 'keypoints' must be 51 numbers",
    ),
    "other keypoints": (
        every("categories", keypoints=lambda c: ["snout", *c["keypoints"][1:]]),
        "but the oracle predicts 'coco': without a partner are snout, nose; use",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_spoil_figures_is_refused(kind: str, perfect: Callable[..., float]) -> None:
    change, message = REFUSED[kind]
    with pytest.raises(InputError, match=message) as caught:
        perfect(change)
    assert "people.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_count_of_keypoints_is_told(perfect: Callable[..., float], capsys: pytest.CaptureFixture[str]) -> None:
    perfect()
    assert capsys.readouterr().err == ""
    perfect(every("annotations", num_keypoints=0))
    assert "'num_keypoints' of 3 annotations is not the number of their labelled keypoints" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_encoding_of_a_file_means_nothing(
    encoding: str, people: MakePeople, mpii_people: MakePeople, tmp_path: Path
) -> None:
    for file, images in (people(count=2), mpii_people(count=2)):
        file.write_text(file.read_text(), encoding=encoding)
        assert len(open_annotations(file, images).samples()) == 2


def test_samples_come_from_every_form(people: MakePeople, mpii_people: MakePeople) -> None:
    for make, file_set in ((people, COCO), (mpii_people, MPII)):
        annotated = open_annotations(*make(count=2))
        assert annotated.keypoint_set is file_set
        for wanted in (file_set, CROWDPOSE):
            samples = annotated.samples(wanted)
            assert [s.keypoints.shape for s in samples] == [(len(wanted), 2)] * 2
            assert all(Path(s.image_path).is_file() for s in samples)


def test_scenes_need_all_persons_of_an_image(people: MakePeople, mpii_people: MakePeople) -> None:
    assert len(open_annotations(*people(count=2)).scenes(COCO, "persons")) == 2
    with pytest.raises(InputError, match=r"valid\.json is a list of MPII persons, which lacks many persons"):
        open_annotations(*mpii_people(count=2)).scenes(MPII)


def test_scenes_are_joined_by_name(people: MakePeople) -> None:
    file, images = people(keypoint_set=LSP, count=1)
    (own,) = open_annotations(file, images).scenes(LSP)
    (other,) = open_annotations(file, images).scenes(CROWDPOSE)  # the same 14 keypoints in another order
    for i, name in enumerate(CROWDPOSE.keypoints):
        np.testing.assert_array_equal(other.keypoints[:, i], own.keypoints[:, LSP.keypoints.index(name)])


@pytest.mark.parametrize("name", ["sub\\1.png", "./sub/1.png", "photos/sub/1.png", "C:\\photos\\sub\\1.png"])
def test_names_of_another_machine_are_found(name: str, people: MakePeople) -> None:
    file, images = people(count=1)
    (images / "sub").mkdir()
    (images / "1.png").rename(images / "sub" / "1.png")
    file.write_text(file.read_text().replace('"1.png"', json.dumps(name)))
    (sample,) = open_annotations(file, images).samples()
    assert Path(sample.image_path) == images / "sub" / "1.png"


def test_two_names_never_become_one_image(people: MakePeople) -> None:
    file, images = people(count=2)
    (images / "2.png").unlink()
    file.write_text(file.read_text().replace('"1.png"', '"a/1.png"').replace('"2.png"', '"b/1.png"'))
    paths = [Path(sample.image_path) for sample in open_annotations(file, images).samples()]
    assert paths == [images / "a" / "1.png", images / "b" / "1.png"]  # neither is there


def test_everybody_is_there_for_boxes(people: MakePeople, mpii_people: MakePeople) -> None:
    file, _ = people(count=2)
    content = json.loads(file.read_text())
    content["annotations"][0]["keypoints"] = []
    content["annotations"][1]["iscrowd"] = 1
    del content["categories"]  # nor does anybody need to say what keypoints there are
    file.write_text(json.dumps(content))
    for annotated, counts in (
        (open_annotations(file, None), [1, 0]),
        (open_annotations(*mpii_people(count=2)), [1, 1]),
    ):
        boxes = [image.boxes_xyxy for image in annotated.everybody()]
        assert [b is not None and len(b) for b in boxes] == counts


def test_detections_are_of_the_category_of_persons(people: MakePeople, tmp_path: Path) -> None:
    file, folder = people(count=3)
    content = json.loads(file.read_text())
    both(every("categories", id=7), every("annotations", category_id=7))(content)
    box: dict[str, Any] = {"bbox": [1, 2, 30, 40], "score": "0.5"}
    for others, kept in (([], [1, 2, 3]), ([{"id": 1, "name": "dog"}], [1, 3])):
        file.write_text(json.dumps({**content, "categories": [*content["categories"], *others]}))
        boxes = tmp_path / "boxes.json"
        entries: list[dict[str, Any]] = [
            {"image_id": "1", "category_id": 7},
            {"image_id": 2, "category_id": 1},
            {"image_id": 3},
        ]
        boxes.write_text(json.dumps([box | entry for entry in [*entries, {"image_id": 3, "category_id": 5}]]))
        images = open_annotations(file, folder).images(boxes)
        assert [(p.image_id, p.scores.tolist()) for p in images] == [(i, [0.5]) for i in kept]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no file .*absent\.json"):
        open_annotations(tmp_path / "absent.json", tmp_path)


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, np.zeros((30, 40, 3), np.uint8))
    for size in (None, (30, 40)):
        assert read_annotated(path, size).shape == (30, 40, 3)
    with pytest.raises(InputError, match=r"a\.png has 40 x 30 pixels, but its annotations are for 30 x 40: .* by EXIF"):
        read_annotated(path, (40, 30))
    with pytest.raises(InputError, match=r"a\.png has 40 x 30 pixels, but .* 80 x 60: it was resized after"):
        read_annotated(path, (60, 80))
