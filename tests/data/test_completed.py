"""What a category lacks is filled in, by a rule that is said, and what it has stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leanpose.data.completed import completed
from leanpose.data.sigmas import PART_OF_DISTANCE, sigmas_by_repetition, sigmas_by_scale
from leanpose.errors import InputError
from leanpose.keypoint_sets import COCO, keypoint_set_from_coco

AREA = 1600.0  # of every person: distances are shares of 40 pixels


def content(points: np.ndarray, names: list[str], **category: Any) -> dict[str, Any]:
    """Return a set of persons with keypoints (N, K, 2), NaN unlabelled, each in an image of its own."""
    persons = []
    for i, places in enumerate(points):
        seen = np.isfinite(places[:, 0])
        triples = np.column_stack([np.nan_to_num(places), 2 * seen])
        person = {"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 50, 60], "area": AREA, "iscrowd": 0}
        persons.append(person | {"keypoints": triples.ravel().tolist(), "num_keypoints": int(seen.sum())})
    images = [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 200} for i in range(len(points))]
    entry = {"id": 1, "name": "crab", "keypoints": names, "skeleton": []} | category
    return {"images": images, "annotations": persons, "categories": [entry]}


def row(*places: float) -> np.ndarray:
    """Return one person with keypoints on a line."""
    return np.array([[[x, 5] for x in places]], float)


def test_all_is_filled_in_and_said() -> None:
    given = content(np.repeat(row(10, 14, 30), 3, 0), ["claw-L", "claw-R", "eye_stalk"])
    filled, notes = completed(given)
    (category,) = filled["categories"]
    assert category["flip_pairs"] == [["claw-L", "claw-R"]]
    assert sorted(map(sorted, category["skeleton"])) == [[1, 2], [2, 3]]
    assert category["sigmas"] == pytest.approx(
        [0.28 * 0.1, 0.28 * 0.1, 0.107]
    )  # 4, 4 and 16 pixels of 40, at most 0.107
    assert {*category["guessed"]} == {"flip_pairs", "skeleton", "sigmas"}
    assert len(notes) == 3 and all(category["guessed"][key] in " ".join(notes) for key in category["guessed"])
    assert given["categories"][0]["skeleton"] == []  # stays as it was
    keypoint_set = keypoint_set_from_coco([category], "crabs.json")
    assert keypoint_set.flip_index.tolist() == [1, 0, 2]
    assert keypoint_set.oks_sigmas.tolist() == category["sigmas"]


def test_what_is_there_stays() -> None:
    own = {"flip_pairs": [["a", "c"]], "skeleton": [[1, 3]], "sigmas": [0.1, 0.2, 0.3]}
    filled, notes = completed(content(row(1, 2, 3), ["a", "b", "c"], **own))
    assert notes == () and filled["categories"][0].items() >= own.items() and "guessed" not in filled["categories"][0]
    filled, notes = completed(content(row(1, 2, 3), ["a", "b", "c"], **own), [0.5, 0.5, 0.5])
    assert filled["categories"][0]["sigmas"] == [0.5, 0.5, 0.5] and notes == ()


def test_the_keypoints_of_a_built_in_set_have_all() -> None:
    given = content(np.zeros((1, 17, 2)), [*COCO.keypoints])
    assert completed(given) == (given, ())
    with pytest.raises(InputError, match="are those of 'coco', which has sigmas"):
        completed(given, [0.1] * 17)


@pytest.mark.parametrize("sigmas", [[0.1], [0.1, 0], [0.1, float("nan")]])
def test_sigmas_that_do_not_fit(sigmas: list[float]) -> None:
    with pytest.raises(InputError, match="--sigmas must be 2 numbers above 0"):
        completed(content(row(1, 2), ["a", "b"]), sigmas)


def test_sigmas_by_name_come_before_the_scale() -> None:
    sigmas = completed(content(row(1, 3, 5), ["Left Knee", "tip", "nose"]))[0]["categories"][0]["sigmas"]
    assert sigmas == pytest.approx([0.087, PART_OF_DISTANCE * 0.05, 0.026])


def test_sigmas_without_any_measure() -> None:
    nobody = content(np.full((1, 2, 2), np.nan), ["a", "b"])
    filled, _ = completed(nobody)
    assert filled["categories"][0]["sigmas"] == [0.079, 0.079]
    assert filled["categories"][0]["skeleton"] == []
    assert np.isnan(sigmas_by_scale(nobody)).all()


def test_a_skeleton_of_keypoints_that_are_never_seen_together() -> None:
    points = np.array([[[0, 0], [4, 0], [np.nan, np.nan]], [[np.nan, np.nan], [np.nan, np.nan], [5, 5]]])
    assert completed(content(points, ["a", "b", "c"]))[0]["categories"][0]["skeleton"] == [[1, 2]]


def test_sigmas_from_repeated_annotation() -> None:
    """Two annotators of known spread give it back, by COCO's definition: E[d^2 / area] = sigma^2."""
    draw = np.random.default_rng(0)
    sigmas = np.array([0.03, 0.1])
    middle = np.repeat(draw.uniform(10, 40, (2000, 1, 1, 2)), 2, axis=1).repeat(2, axis=2)
    spread = draw.normal(size=middle.shape) * (sigmas * np.sqrt(AREA / 2))[:, None]  # in x and in y
    points = (middle + spread).reshape(-1, 2, 2)
    given = content(points, ["nose", "tip"])
    assert sigmas_by_repetition(given)[1] == 0  # each in an image of its own
    for i, person in enumerate(given["annotations"]):
        person["image_id"] = i // 2
    found, persons = sigmas_by_repetition(given)
    assert persons == 2000
    np.testing.assert_allclose(found, sigmas, rtol=0.05)
    (category,) = completed(given)[0]["categories"]
    assert category["sigmas"] == pytest.approx(found, abs=1e-4)
    assert "from 2000 persons who are annotated more than once: nose, tip" in category["guessed"]["sigmas"]


def test_some_who_overlap_are_no_repetition() -> None:
    given = content(np.repeat(row(10, 20), 600, 0), ["a", "b"])
    for i in range(10):
        given["annotations"][2 * i]["image_id"] = given["annotations"][2 * i + 1]["image_id"]
    assert sigmas_by_repetition(given)[1] == 0  # 10 pairs of 600 persons
    given["annotations"] = given["annotations"][:100]
    assert sigmas_by_repetition(given)[1] == 10
