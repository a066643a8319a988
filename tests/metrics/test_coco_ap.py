"""The CrowdPose metric: against a plain version of its rules, official figures, and cases worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import DATA, needs

pytest.importorskip("faster_coco_eval")

from leanpose.data.annotations import open_annotations
from leanpose.errors import InputError
from leanpose.keypoint_sets import COCO, CROWDPOSE, LSP, KeypointSet
from leanpose.metrics.coco_ap import COCO_KEYS, CROWDPOSE_KEYS

OFFICIAL = DATA / "eval" / "crowdpose"
needs_official = needs(OFFICIAL)

# As crowdposetools writes them (github.com/Jeff-sjtu/CrowdPose, cocoeval.py).
SIGMAS = np.array([0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]) / 10
NAMES = [*CROWDPOSE.keypoints[:12], "head", "neck"]
THRESHOLDS = np.linspace(0.5, 0.95, 10)

MakePeople = Callable[..., tuple[Path, Path]]
Content = dict[str, Any]


# Made-up files


def person(number: int, image_id: int | str, shift: float = 0, **changes: Any) -> dict[str, Any]:
    """Return a person in a box of 40 x 100 pixels, whose keypoints lie on a grid, as CrowdPose annotates one."""
    points = np.array([(10 * (i % 3) + shift, 20 * (i // 3) + shift) for i in range(14)]) + 10
    keypoints = np.column_stack([points, np.full(14, 2)]).ravel().tolist()
    box = [shift, shift, 40.0, 100.0]
    entry = {"id": number, "image_id": image_id, "category_id": 1, "bbox": box, "iscrowd": 0, "num_keypoints": 14}
    return entry | {"keypoints": keypoints} | changes


def content(crowd_indices: list[float], persons: list[dict[str, Any]] | None = None) -> Content:
    """Return a CrowdPose file of images 1, 2, ... with one person each, or with the persons given."""
    images: list[dict[str, Any]] = [
        {"id": i, "file_name": f"{i}.jpg", "crowdIndex": index, "width": 640, "height": 480}
        for i, index in enumerate(crowd_indices, 1)
    ]
    persons = [person(100 + image["id"], image["id"]) for image in images] if persons is None else persons
    category = {"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[16, 14]]}
    return {"images": images, "annotations": persons, "categories": [category]}


def found(entry: dict[str, Any], score: float = 0.5, shift: float = 0) -> dict[str, Any]:
    """Return a result that finds a person, its keypoints moved to the right by `shift` pixels."""
    triples = np.array(entry["keypoints"], dtype=float).reshape(-1, 3) + np.array([shift, 0, 0])
    return {
        "image_id": entry["image_id"],
        "category_id": 1,
        "keypoints": triples.ravel().tolist(),
        "score": score,
    }


def figures_of(file: Path, results: list[dict[str, Any]], keypoint_set: KeypointSet) -> dict[str, float]:
    return open_annotations(file, None).score(results, keypoint_set)


def written(folder: Path, values: Any) -> Path:
    file = folder / "crowd.json"
    file.write_text(values if isinstance(values, str) else json.dumps(values))
    return file


def perturbed(persons: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Return results with errors of all sizes: about each person none, one or two, and some of nobody."""
    random = np.random.default_rng(seed)
    results = []
    for entry in persons:
        triples = np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
        size = np.sqrt(entry["bbox"][2] * entry["bbox"][3])
        for _ in range(random.integers(0, 3)):
            points = triples[:, :2] + random.normal(0, size * random.uniform(0, 0.15), (14, 2))
            points += size * (random.random() < 0.1)
            numbers = np.column_stack([points, random.random(14)]).ravel()
            results.append(found(entry, round(float(random.random()), 2)) | {"keypoints": numbers.round(2).tolist()})
    return results


# The rules, plainly


def plain_oks(entry: dict[str, Any], result: dict[str, Any]) -> float:
    truth = np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
    points = np.array(result["keypoints"], dtype=float).reshape(-1, 3)[:, :2]
    left, top, width, height = entry["bbox"]
    labelled = truth[:, 2] > 0
    if labelled.any():
        offsets = (points - truth[:, :2])[labelled]
    else:  # how far outside a box of three times the size
        low, high = np.array([left - width, top - height]), np.array([left + 2 * width, top + 2 * height])
        offsets = np.maximum(low - points, 0) + np.maximum(points - high, 0)
        labelled[:] = True
    squares = (offsets**2).sum(1) / (2 * SIGMAS[labelled]) ** 2 / (0.53 * width * height + np.spacing(1)) / 2
    return float(np.exp(-squares).mean())


def plain_matches(
    persons: list[dict[str, Any]], results: list[dict[str, Any]], threshold: float
) -> list[tuple[float, bool, bool]]:
    """Return score, hit and whether it does not count, for each of one image's results."""
    ignored = [bool(p["iscrowd"] or p["num_keypoints"] == 0) for p in persons]
    order = sorted(range(len(persons)), key=lambda i: ignored[i])
    taken: set[int] = set()
    matches = []
    for result in sorted(results, key=lambda r: -r["score"])[:20]:
        best, match = min(threshold, 1 - 1e-10), -1
        for i in order:
            if i in taken and not persons[i]["iscrowd"]:
                continue
            if match >= 0 and not ignored[match] and ignored[i]:
                break
            oks = plain_oks(persons[i], result)
            if oks >= best:
                best, match = oks, i
        if match >= 0:
            taken.add(match)
        matches.append((result["score"], match >= 0, match >= 0 and ignored[match]))
    return matches


def plain_figures(truth: Content, results: list[dict[str, Any]], images: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return precision, mean over the recalls, and highest recall, at each threshold; -1 without persons."""
    precisions, recalls = [], []
    for threshold in THRESHOLDS:
        matches = []
        count = 0
        for image in sorted(images):
            persons = [a for a in truth["annotations"] if a["image_id"] == image]
            count += sum(not p["iscrowd"] and p["num_keypoints"] > 0 for p in persons)
            matches += plain_matches(persons, [r for r in results if r["image_id"] == image], threshold)
        hits = [hit for _, hit, ignored in sorted(matches, key=lambda m: -m[0]) if not ignored]
        if not count:
            return np.full(10, -1.0), np.full(10, -1.0)
        right = np.cumsum(hits)
        recall = right / count
        precision = right / np.arange(1, len(hits) + 1)
        at = [np.max(precision[recall >= r], initial=0) for r in np.linspace(0, 1, 101)]
        precisions.append(np.mean(at))
        recalls.append(recall[-1] if len(hits) else 0)
    return np.array(precisions), np.array(recalls)


def plain_crowdpose(truth: Content, results: list[dict[str, Any]]) -> list[float]:
    index = {image["id"]: image["crowdIndex"] for image in truth["images"]}
    precision, recall = plain_figures(truth, results, list(index))
    levels = [
        [i for i in index if index[i] < 0.2],
        [i for i in index if 0.2 <= index[i] < 0.8],
        [i for i in index if index[i] >= 0.8],
    ]
    return [
        *(figure for values in (precision, recall) for figure in (values.mean(), values[0], values[5])),
        *(plain_figures(truth, results, images)[0].mean() for images in levels),
    ]


# Tests


def test_the_sigmas_are_those_of_crowdpose() -> None:
    np.testing.assert_allclose(CROWDPOSE.oks_sigmas, SIGMAS, rtol=0, atol=1e-12)


@needs_official
def test_official_figures_of_the_example() -> None:
    results = json.loads((OFFICIAL / "example_crowdpose_preds.json").read_text())
    truth = OFFICIAL / "example_crowdpose_val.json"
    metrics = figures_of(truth, results, CROWDPOSE)
    # Printed by xtcocotools 1.14.3 (which rounds the last three to four digits) and by the example of faster-coco-eval.
    expected = (0.7877215935879303, 0.9881188118811886, 0.7314356435643564, 0.8222222222222223, 1, 0.7777777777777778)
    assert tuple(metrics) == CROWDPOSE_KEYS
    assert list(metrics.values())[:6] == pytest.approx(expected, abs=1e-12)
    assert [round(metrics[key], 4) for key in CROWDPOSE_KEYS[6:]] == [1.0, 0.9802, 0.4116]
    assert list(metrics.values()) == pytest.approx(plain_crowdpose(json.loads(truth.read_text()), results), abs=1e-12)


def part_of_validation(count: int) -> tuple[Content, list[dict[str, Any]]]:
    """Return the first images of CrowdPose's validation set, and results of its persons with errors."""
    whole = json.loads((OFFICIAL / "crowdpose_val.json").read_text())
    images = whole["images"][:count]
    ids = {image["id"] for image in images}
    persons = [annotation for annotation in whole["annotations"] if annotation["image_id"] in ids]
    return whole | {"images": images, "annotations": persons}, perturbed(persons, seed=1)


@needs_official
def test_official_figures_of_a_whole_set(tmp_path: Path) -> None:
    truth, results = part_of_validation(2000)
    metrics = figures_of(written(tmp_path, truth), results, CROWDPOSE)
    # Of these very files by xtcocotools 1.14.3, on NumPy 1.26.
    expected = (0.162897, 0.327862, 0.138552, 0.371402, 0.544953, 0.364999, 0.1675, 0.1613, 0.1747)
    assert len(results) == 8466
    assert list(metrics.values()) == pytest.approx(expected, abs=5e-5)


@needs_official
def test_equals_the_plain_version_on_real_crowds(tmp_path: Path) -> None:
    truth, results = part_of_validation(80)
    assert any(p["iscrowd"] for p in truth["annotations"])
    assert any(p["num_keypoints"] == 0 for p in truth["annotations"])
    metrics = figures_of(written(tmp_path, truth), results, CROWDPOSE)
    assert list(metrics.values()) == pytest.approx(plain_crowdpose(truth, results), abs=1e-12)


def test_equals_the_plain_version_on_made_up_crowds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    persons = []
    for number in range(1, 61):
        entry = person(number, image_id=number % 7 + 1, shift=float(random.uniform(0, 60)))
        triples = np.array(entry["keypoints"]).reshape(-1, 3)
        triples[random.random(14) < 0.3] = 0
        triples[:, 2] = np.minimum(triples[:, 2], random.integers(1, 3))
        if number % 10 == 0:
            triples[:] = 0
        visible = int((triples[:, 2] == 2).sum())
        persons.append(entry | {"keypoints": triples.ravel().tolist(), "num_keypoints": visible})
        persons[-1]["iscrowd"] = int(number % 15 == 0)
    truth = content([0, 0.1, 0.2, 0.3, 0.8, 0.9, 1.5], persons)
    results = perturbed(persons, seed=2)
    metrics = figures_of(written(tmp_path, truth), results, CROWDPOSE)
    expected = plain_crowdpose(truth, results)
    assert list(metrics.values()) == pytest.approx(expected, abs=1e-12)
    assert all(0.02 < figure < 0.98 for figure in expected)  # or the comparison would say little


@pytest.mark.parametrize("oks", [0.499, 0.501, 0.749, 0.751, 0.949, 0.951])
def test_the_area_is_a_part_of_the_box(oks: float, tmp_path: Path) -> None:
    truth = content([0.5])
    truth["annotations"][0]["area"] = 1e6  # not used
    shifts = np.linspace(0, 40, 400_001)
    rates = 1 / (2 * 0.53 * 40 * 100 * (2 * SIGMAS) ** 2)
    reached = sum(np.exp(-rate * shifts**2) for rate in rates) / len(rates)
    shift = shifts[np.abs(reached - oks).argmin()]
    metrics = figures_of(written(tmp_path, truth), [found(truth["annotations"][0], shift=shift)], CROWDPOSE)
    assert metrics["AP"] == metrics["AR"] == metrics["AP medium"] == pytest.approx((oks >= THRESHOLDS).mean())
    assert (metrics["AP50"], metrics["AP75"]) == (oks >= 0.5, oks >= 0.75)


@pytest.mark.parametrize(
    ("index", "level"),
    [
        (0, "AP easy"),
        (0.1, "AP easy"),
        (0.19, "AP easy"),
        (0.2, "AP medium"),
        (0.79, "AP medium"),
        (0.8, "AP hard"),
        (1, "AP hard"),
        (3.02, "AP hard"),  # the highest of the validation set
    ],
)
def test_levels_of_crowding(index: float, level: str, tmp_path: Path) -> None:
    truth = content([index])
    metrics = figures_of(written(tmp_path, truth), [found(truth["annotations"][0])], CROWDPOSE)
    levels = {key: metrics[key] for key in CROWDPOSE_KEYS[6:]}
    assert levels.pop(level) == metrics["AP"] == pytest.approx(1)
    assert set(levels.values()) == {-1}


def test_a_level_sees_its_own_images_only(tmp_path: Path) -> None:
    truth = content([0.0, 0.5, 0.9])
    easy, medium, _ = truth["annotations"]
    results = [found(easy, 0.1), found(medium, 0.9, shift=300)]
    metrics = figures_of(written(tmp_path, truth), results, CROWDPOSE)
    assert metrics["AP"] == pytest.approx(34 / 101 / 2)  # one of three found, after a miss
    assert [metrics[key] for key in CROWDPOSE_KEYS[6:]] == pytest.approx([1, 0, 0])


def test_no_results_score_zero(tmp_path: Path) -> None:
    metrics = figures_of(written(tmp_path, content([0.0, 0.9])), [], CROWDPOSE)
    assert list(metrics.values()) == [0, 0, 0, 0, 0, 0, 0, -1, 0]


def test_persons_that_do_not_count(tmp_path: Path) -> None:
    """Nobody has to find a person without visible keypoints, and whoever does has made no mistake."""
    hidden = person(2, 1, shift=200, num_keypoints=0)
    truth = content([0.5], [person(1, 1), hidden])
    file = written(tmp_path, truth)
    for results in ([found(truth["annotations"][0])], [found(truth["annotations"][0]), found(hidden, 0.9)]):
        assert figures_of(file, results, CROWDPOSE)["AP"] == pytest.approx(1)
    assert figures_of(written(tmp_path, content([0.5], [hidden])), [found(hidden)], CROWDPOSE)["AP"] == -1


@pytest.mark.parametrize(("misses", "ap"), [(19, 1 / 20), (20, 0.0)])
def test_the_best_twenty_of_an_image_count(misses: int, ap: float, tmp_path: Path) -> None:
    truth = content([0.5])
    entry = truth["annotations"][0]
    results = [found(entry, 0.1), *(found(entry, 0.9, shift=300) for _ in range(misses))]
    assert figures_of(written(tmp_path, truth), results, CROWDPOSE)["AP"] == pytest.approx(ap)


def test_ids_of_images_may_be_words(tmp_path: Path) -> None:
    truth = content([0.0, 0.5])
    expected = figures_of(written(tmp_path, truth), [found(truth["annotations"][1])], CROWDPOSE)
    for entries, key in ((truth["images"], "id"), (truth["annotations"], "image_id")):
        for entry in entries:
            entry[key] = {1: "zoo", 2: "0017"}[entry[key]]
    result = found(truth["annotations"][1])
    assert figures_of(written(tmp_path, truth), [result], CROWDPOSE) == expected
    with pytest.raises(InputError, match="such as 17"):
        figures_of(written(tmp_path, truth), [result | {"image_id": 17}], CROWDPOSE)


def test_arguments_stay_as_they_are(tmp_path: Path) -> None:
    truth = content([0.5])
    results = [found(truth["annotations"][0]) | {"bbox": [0, 0, 40, 100]}, found(truth["annotations"][0])]
    before = json.dumps(results)
    figures_of(written(tmp_path, truth), results, CROWDPOSE)
    assert json.dumps(results) == before


def test_the_file_decides_which_metric_it_is(tmp_path: Path, people: MakePeople) -> None:
    """LSP has CrowdPose's 14 keypoints by name, and a set in CrowdPose's form need not have a crowd index."""
    truth = content([0.5])
    results = [found(truth["annotations"][0])]
    assert tuple(figures_of(written(tmp_path, truth), results, CROWDPOSE)) == CROWDPOSE_KEYS
    assert tuple(figures_of(written(tmp_path, truth), [], CROWDPOSE)) == CROWDPOSE_KEYS

    truth["annotations"][0]["area"] = 2000.0
    del truth["images"][0]["crowdIndex"]
    assert tuple(figures_of(written(tmp_path, truth), results, CROWDPOSE)) == COCO_KEYS

    assert sorted(LSP.keypoints) == sorted(CROWDPOSE.keypoints)
    for keypoint_set in (LSP, COCO):
        file, _ = people(keypoint_set.name, keypoint_set=keypoint_set)
        values = json.loads(file.read_text())
        for image in values["images"]:
            image["crowdIndex"] = 0.5
        file.write_text(json.dumps(values))
        persons = [found(entry) for entry in values["annotations"]]
        metrics = figures_of(file, persons, keypoint_set)
        assert tuple(metrics) == COCO_KEYS
        assert metrics["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, r"The results name 1 images that .*crowd\.json does not have, such as 77"),
        ({"keypoints": [1.0] * 51}, "Result 0 has 51 keypoint numbers, but the keypoints 'crowdpose' are 14"),
        ({"keypoints": [float("nan")] * 42}, "Result 0: 'keypoints' must be 42 numbers"),
        ({"score": float("inf")}, "Result 0: 'score' must be a number"),
        ("score", "Result 0 lacks the key 'score'"),
        ("category_id", "Result 0 lacks the key 'category_id'"),
    ],
)
def test_results_that_cannot_be_used(change: str | dict[str, Any], message: str, tmp_path: Path) -> None:
    truth = content([0.5])
    result = found(truth["annotations"][0])
    if isinstance(change, str):
        del result[change]
    else:
        result |= change
    with pytest.raises(InputError, match=message):
        figures_of(written(tmp_path, truth), [result], CROWDPOSE)


def test_results_of_other_categories_do_not_count(tmp_path: Path) -> None:
    truth = content([0.5])
    person, dog = found(truth["annotations"][0]), found(truth["annotations"][0], score=0.9) | {"category_id": 2}
    assert figures_of(written(tmp_path, truth), [person, dog], CROWDPOSE)["AP"] == pytest.approx(1)
    assert figures_of(written(tmp_path, truth), [dog], CROWDPOSE)["AP"] == 0


def test_nobody_and_no_results_give_no_figure(people: MakePeople, tmp_path: Path) -> None:
    crowd = written(tmp_path, content([0.5], []))
    assert set(figures_of(crowd, [], CROWDPOSE).values()) == {-1}
    file, _ = people()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    assert figures_of(file, [], COCO) == dict.fromkeys(COCO_KEYS, -1.0)


@pytest.mark.parametrize("index", [None, "high", float("nan")])
def test_every_image_needs_a_crowd_index(index: Any, tmp_path: Path) -> None:
    truth = content([0.5, 0.5])
    truth["images"][1]["crowdIndex"] = index
    if index is None:
        del truth["images"][1]["crowdIndex"]
    with pytest.raises(InputError, match="'crowdIndex' of image 1 must be a number"):
        figures_of(written(tmp_path, truth), [], CROWDPOSE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{", "is not valid JSON"),
        ([], "is no COCO-style file"),
        ({"images": []}, "it needs the lists"),
    ],
)
def test_files_that_are_no_truth(values: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        figures_of(written(tmp_path, values), [], CROWDPOSE)
    with pytest.raises(InputError, match=r"There is no file .*nothing\.json"):
        figures_of(tmp_path / "nothing.json", [], CROWDPOSE)
