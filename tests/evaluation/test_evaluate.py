"""Evaluation: the official numbers, the rescoring rule, and files that are whole or absent."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support import DATA, needs

pytest.importorskip("faster_coco_eval")

import leanpose.evaluation.evaluate as evaluation
from leanpose.data.annotations import open_annotations
from leanpose.data.coco import CocoSet, area_of
from leanpose.errors import InputError, WeightsError
from leanpose.evaluation.evaluate import Metrics, evaluate, measure, predict_image
from leanpose.inference.predictor import Predictor
from leanpose.io.images import read_image
from leanpose.keypoint_sets import COCO, CROWDPOSE, HALPE26, LSP, KeypointSet
from leanpose.metrics.coco_ap import COCO_KEYS, CROWDPOSE_KEYS
from leanpose.structures import ImageBoxes, Poses
from leanpose.weights.record import Weights

OFFICIAL = DATA / "eval" / "coco_val2014_100"
TRUTH = OFFICIAL / "person_keypoints_val2014_100.json"
FAKE = OFFICIAL / "person_keypoints_val2014_fakekeypoints100_results.json"
FIXTURES = DATA / "fixtures" / "crowdpose"
needs_crowdpose = needs(FIXTURES)
needs_official = needs(OFFICIAL)

MakePeople = Callable[..., tuple[Path, Path]]


class Oracle:
    """A predictor that finds the annotated persons of a file, moved by `error` pixels.

    Args:
        scores: (K,) of every person.
    """

    bottom_up = False
    rescored, carry_to = Predictor.rescored, Predictor.carry_to

    def __init__(
        self, annotations: Path, images: Path, keypoint_set: KeypointSet = COCO, error: float = 0, scores: float = 0.9
    ) -> None:
        self.weights = Weights("oracle", "lpn50", (64, 48), keypoint_set)
        self.keypoint_set, self._settings = keypoint_set, {}  # type: ignore[var-annotated]
        self.samples = open_annotations(annotations, images).samples(keypoint_set)
        self.error = error
        self.scores = np.full(len(keypoint_set), scores, np.float32)

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> Poses:
        nearest = [min(self.samples, key=lambda s: float(np.abs(s.box_xyxy - box).sum())) for box in boxes]
        keypoints = np.stack([np.nan_to_num(s.keypoints) + self.error for s in nearest]).astype(np.float32)
        scores = np.tile(self.scores, (len(boxes), 1))
        return Poses(keypoints, scores, boxes, scores.mean(1), self.weights.keypoint_set).to(self.keypoint_set)

    def stream(self, paths: list[str], boxes: list[np.ndarray]) -> Iterator[tuple[np.ndarray, Poses]]:
        for path, its_boxes in zip(paths, boxes, strict=True):
            image = read_image(path)
            yield image, self(image, its_boxes)


@pytest.fixture
def use_oracle(monkeypatch: pytest.MonkeyPatch) -> Callable[[Oracle], None]:
    """Return a function that lets `evaluate` load an oracle instead of a file."""
    return lambda oracle: monkeypatch.setattr(evaluation, "Predictor", lambda *_, **__: oracle)


def boxes_of(image: ImageBoxes) -> np.ndarray:
    assert image.boxes_xyxy is not None
    return image.boxes_xyxy


def change(file: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


@needs_official
def test_the_published_figures_of_the_fake_results() -> None:
    metrics = open_annotations(TRUTH, None).score(json.loads(FAKE.read_text()), COCO)
    expected = (0.372, 0.636, 0.348, 0.384, 0.386, 0.514, 0.734, 0.504, 0.508, 0.522)
    assert tuple(metrics) == COCO_KEYS
    assert tuple(round(value, 3) for value in metrics.values()) == expected


@needs_official
def test_equals_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO
    cocoeval = pytest.importorskip("pycocotools.cocoeval").COCOeval
    results = json.loads(FAKE.read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco(str(TRUTH))
        official = cocoeval(truth, truth.loadRes(str(FAKE)), "keypoints")
        official.evaluate()
        official.accumulate()
        official.summarize()
    metrics = open_annotations(TRUTH, None).score(results, COCO)
    np.testing.assert_allclose(list(metrics.values()), official.stats, rtol=0, atol=1e-5)


@pytest.mark.parametrize("boxes", ["gt", "detections"])
def test_an_oracle_is_perfect(
    boxes: str, people: MakePeople, use_oracle: Callable[[Oracle], None], tmp_path: Path
) -> None:
    annotations, images = people(count=5)
    use_oracle(Oracle(annotations, images))
    if boxes == "detections":
        entries = json.loads(annotations.read_text())["annotations"]
        found = [{"image_id": e["image_id"], "bbox": e["bbox"], "score": 0.5, "category_id": 1} for e in entries]
        boxes = str(tmp_path / "detections.json")
        Path(boxes).write_text(json.dumps(found))
    out = tmp_path / "new" / "out"
    metrics = evaluate("oracle", data=str(annotations), images=str(images), boxes=boxes, out=str(out))
    assert metrics["AP"] == metrics["AR"] == pytest.approx(1)

    assert sorted(file.name for file in out.iterdir()) == ["metrics.json", "results.json"]
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert tuple(metrics) == COCO_KEYS
    results = json.loads((out / "results.json").read_text())
    assert len(results) == 5
    assert all(r.keys() == {"image_id", "category_id", "keypoints", "bbox", "score"} for r in results)
    assert all(len(r["keypoints"]) == 51 for r in results)
    assert {r["score"] for r in results} == {0.45 if boxes != "gt" else 0.9}
    assert open_annotations(annotations, None).score(results, COCO) == metrics  # the file can be scored again


def test_a_network_may_find_more_than_is_annotated(people: MakePeople, use_oracle: Callable[[Oracle], None]) -> None:
    annotations, images = people(count=3)
    use_oracle(Oracle(annotations, images, HALPE26))
    assert evaluate("oracle", data=str(annotations), images=str(images))["AP"] == pytest.approx(1)


def test_confused_colours_change_the_figures(people: MakePeople) -> None:
    annotations, images = people(count=3)
    model = "lpn50.coco_128x96_int8"
    figures = [
        measure(model, open_annotations(annotations, images), channel_order=order)[1] for order in (None, "rgb", "bgr")
    ]
    assert figures[0] == figures[1] != figures[2]


def test_errors_of_the_keypoints_cost_ap(people: MakePeople, use_oracle: Callable[[Oracle], None]) -> None:
    annotations, images = people(count=5)
    figures = []
    for error in (0, 2, 4, 30):
        use_oracle(Oracle(annotations, images, error=error))
        figures.append(evaluate("oracle", data=str(annotations), images=str(images))["AP"])
    assert figures == sorted(figures, reverse=True)
    assert len(set(figures)) == 4
    assert figures[-1] == 0


def test_the_category_of_the_file_is_used(people: MakePeople, use_oracle: Callable[[Oracle], None]) -> None:
    annotations, images = people(count=3)

    def edit(content: dict[str, Any]) -> None:
        content["categories"].insert(0, {"id": 1, "name": "dog"})
        content["categories"][1]["id"] = 7
        for annotation in content["annotations"]:
            annotation["category_id"] = 7

    change(annotations, edit)
    use_oracle(Oracle(annotations, images))
    assert evaluate("oracle", data=str(annotations), images=str(images))["AP"] == pytest.approx(1)


def test_another_keypoint_set_with_its_own_model(people: MakePeople, use_oracle: Callable[[Oracle], None]) -> None:
    annotations, images = people(count=3, keypoint_set=LSP)
    use_oracle(Oracle(annotations, images, LSP))
    assert evaluate("oracle", data=str(annotations), images=str(images))["AP"] == pytest.approx(1)


def as_crowdpose(annotations: Path, *indices: float) -> None:
    """Let a file look like CrowdPose's: its name of the head, crowd indices of the images, no area."""

    def edit(content: dict[str, Any]) -> None:
        (category,) = content["categories"]
        category["keypoints"] = [name.replace("top_head", "head") for name in category["keypoints"]]
        for image, index in zip(content["images"], indices, strict=True):
            image["crowdIndex"] = index
        for annotation in content["annotations"]:
            del annotation["area"]

    change(annotations, edit)


def test_crowdpose_has_its_own_figures(
    people: MakePeople, use_oracle: Callable[[Oracle], None], tmp_path: Path
) -> None:
    annotations, images = people(count=3, keypoint_set=CROWDPOSE)
    as_crowdpose(annotations, 0.1, 0.15, 0.9)
    use_oracle(Oracle(annotations, images, CROWDPOSE))
    metrics = evaluate("oracle", data=str(annotations), images=str(images), out=str(tmp_path / "out"))
    assert tuple(metrics) == CROWDPOSE_KEYS
    assert metrics["AP"] == metrics["AP easy"] == metrics["AP hard"] == pytest.approx(1)
    assert metrics["AP medium"] == -1
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert open_annotations(annotations, None).score(results, CROWDPOSE) == metrics


def test_every_image_or_none_has_a_crowd_index(people: MakePeople, use_oracle: Callable[[Oracle], None]) -> None:
    annotations, images = people(count=2, keypoint_set=CROWDPOSE)
    as_crowdpose(annotations, 0.5, 0.5)
    use_oracle(Oracle(annotations, images, CROWDPOSE))
    change(annotations, lambda content: content["images"][1].pop("crowdIndex"))
    with pytest.raises(InputError, match="'crowdIndex' of image 1 must be a number"):
        evaluate("oracle", data=str(annotations), images=str(images))
    change(annotations, lambda content: content["images"][0].pop("crowdIndex"))
    assert "APL" in evaluate("oracle", data=str(annotations), images=str(images))  # as of any COCO-style file


@needs_crowdpose
@pytest.mark.parametrize("boxes", ["gt", str(FIXTURES / "test_crowdpose_det_AP_40.json")], ids=["gt", "detections"])
def test_real_images_of_crowdpose(boxes: str, use_oracle: Callable[[Oracle], None]) -> None:
    annotations = FIXTURES / "test_crowdpose.json"
    for error, ap in ((0, 1), (200, 0)):
        use_oracle(Oracle(annotations, FIXTURES, CROWDPOSE, error=error))
        metrics = evaluate("oracle", data=str(annotations), images=str(FIXTURES), boxes=boxes)
        assert metrics["AP"] == metrics["AP medium"] == pytest.approx(ap)
        assert metrics["AP easy"] == metrics["AP hard"] == -1


@needs_crowdpose
def test_a_network_of_crowdpose_runs_in_detected_boxes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from leanpose.models import create_model
    from leanpose.models.checkpoints import save_network

    file = str(tmp_path / "a.safetensors")
    save_network(file, create_model("lpn50", 14), Weights("a", "lpn50", (64, 48), CROWDPOSE))
    data, boxes = FIXTURES / "test_crowdpose.json", FIXTURES / "test_crowdpose_det_AP_40.json"
    metrics = evaluate(
        file, data=str(data), images=str(FIXTURES), boxes=str(boxes), flip_test=True, out=str(tmp_path), threads=1
    )
    assert tuple(metrics) == CROWDPOSE_KEYS
    results = json.loads((tmp_path / "results.json").read_text())
    assert {len(result["keypoints"]) for result in results} == {3 * 14}
    detected = {tuple(np.round(entry["bbox"], 2)) for entry in json.loads(boxes.read_text())}
    assert {tuple(result["bbox"]) for result in results} <= detected
    assert open_annotations(data, None).score(results, CROWDPOSE) == metrics


@pytest.mark.parametrize(
    ("keypoint_scores", "expected"),
    [
        ([0.9] * 17, 0.5 * 0.9),
        ([0.8] * 8 + [0.1] * 9, 0.5 * 0.8),  # those not above 0.2 do not count
        ([0.8] * 2 + [0.6] * 2 + [0.2] * 13, 0.5 * 0.7),
        ([0.1] * 17, 0.0),
    ],
)
def test_rescoring(keypoint_scores: list[float], expected: float, people: MakePeople) -> None:
    annotations, images = people(count=1)
    oracle = Oracle(annotations, images)
    oracle.scores = np.array(keypoint_scores, np.float32)
    (image,) = open_annotations(annotations, images).images()
    image = replace(image, scores=np.array([0.5], np.float32))
    (result,) = predict_image(oracle, image)  # type: ignore[arg-type]
    assert result["score"] == pytest.approx(expected, abs=1e-6)


def test_duplicates_are_removed_and_the_better_box_stays(people: MakePeople) -> None:
    annotations, images = people(count=1)
    (image,) = open_annotations(annotations, images).images()
    box = boxes_of(image)
    boxes = np.concatenate([box, box + 1, box + 2]).astype(np.float32)
    crowded = replace(image, boxes_xyxy=boxes, scores=np.array([0.5, 0.8, 0.6], np.float32))
    (result,) = predict_image(Oracle(annotations, images), crowded)  # type: ignore[arg-type]
    assert result["bbox"][0] == pytest.approx(boxes[1, 0], abs=0.01)
    assert result["score"] == pytest.approx(0.8 * 0.9, abs=1e-6)


def test_persons_apart_are_both_kept(people: MakePeople) -> None:
    annotations, images = people(count=1)
    (image,) = open_annotations(annotations, images).images()
    two = replace(image, boxes_xyxy=np.tile(boxes_of(image), (2, 1)), scores=np.array([0.5, 0.8], dtype=np.float32))
    oracle: Any = Oracle(annotations, images)

    def apart(path: str, boxes: np.ndarray) -> Poses:
        poses = oracle(path, boxes)
        return replace(poses, keypoints=poses.keypoints + np.array([0, 40], np.float32)[:, None, None])

    predictor: Any = apart
    predictor.rescored = oracle.rescored
    results = predict_image(predictor, two)
    assert [r["score"] for r in results] == pytest.approx([0.72, 0.45], abs=1e-6)  # best first


def test_annotated_boxes_by_image(people: MakePeople) -> None:
    annotations, folder = people(count=3)

    def edit(content: dict[str, Any]) -> None:
        first = content["annotations"][0]
        content["annotations"].append(first | {"id": 9, "bbox": [1, 2, 30, 40]})
        content["annotations"].append(first | {"id": 10, "image_id": 2, "keypoints": [0] * 51})
        content["annotations"].append(first | {"id": 11, "image_id": 3, "iscrowd": 1})

    change(annotations, edit)
    images = open_annotations(annotations, folder).images()
    assert [(p.image_id, len(boxes_of(p))) for p in images] == [(1, 2), (2, 1), (3, 1)]
    assert images[0].path == str(folder / "1.png")
    assert boxes_of(images[0])[1].tolist() == [1, 2, 30, 41]
    assert images[0].scores.tolist() == [1, 1]


def test_two_entries_of_one_file_stay_two_images(people: MakePeople) -> None:
    annotations, images = people(count=2)
    change(annotations, lambda content: content["images"][1].update(file_name="1.png"))
    assert [p.image_id for p in open_annotations(annotations, images).images()] == [1, 2]


def test_detected_boxes(people: MakePeople, tmp_path: Path) -> None:
    annotations, images = people(count=3)
    file = tmp_path / "boxes.json"
    entries = [
        {"image_id": 2, "bbox": [1, 2, 30, 40], "score": 0.25},
        {"image_id": 2, "bbox": [5, 6, 0, 40], "score": 0.5},  # no area
        {"image_id": 2, "bbox": [-3, 2.5, 30, 40], "score": 0.75, "category_id": 1},
        {"image_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5, "category_id": 2},
        {"image_id": 99, "bbox": [1, 2, 30, 40], "score": 0.5},
    ]
    file.write_text(json.dumps(entries))
    annotated = open_annotations(annotations, images)
    (image,) = annotated.images(file)
    assert (image.image_id, image.path) == (2, str(images / "2.png"))
    assert boxes_of(image).tolist() == [[1, 2, 31, 42], [-3, 2.5, 27, 42.5]]
    assert image.scores.tolist() == [0.25, 0.75]
    file.write_text(json.dumps(entries[3:]))
    with pytest.raises(
        InputError, match=r"holds no box of a person for any image of .*; is it the file of another set"
    ):
        annotated.images(file)


def test_a_model_of_another_set_is_refused(
    people: MakePeople, use_oracle: Callable[[Oracle], None], tmp_path: Path
) -> None:
    annotations, images = people(count=2, keypoint_set=LSP)
    use_oracle(Oracle(annotations, images, COCO))
    with pytest.raises(InputError, match=r"people\.json has the keypoints 'lsp', but oracle predicts 'coco'"):
        evaluate("oracle", data=str(annotations), images=str(images), out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_one_of_several_categories(people: MakePeople, use_oracle: Callable[[Oracle], None]) -> None:
    annotations, images = people(count=2)
    use_oracle(Oracle(annotations, images))
    change(annotations, lambda content: content["categories"].append({"id": 2, "name": "cup", "keypoints": ["handle"]}))
    with pytest.raises(InputError, match="choose one of 'person', 'cup' with --category"):
        evaluate("oracle", data=str(annotations), images=str(images))
    assert evaluate("oracle", data=str(annotations), images=str(images), category="person")["AP"] > 0.99


def test_an_area_that_is_absent_is_a_part_of_the_box(
    people: MakePeople, use_oracle: Callable[[Oracle], None], capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, images = people(count=2)
    change(annotations, lambda content: content["annotations"][1].pop("area"))
    use_oracle(Oracle(annotations, images))
    evaluate("oracle", data=str(annotations), images=str(images))
    assert "people.json: 1 annotations have no 'area'; 0.53 of their box is taken." in capsys.readouterr().err
    box = json.loads(annotations.read_text())["annotations"][1]["bbox"]
    persons = CocoSet(json.loads(annotations.read_text()), "people.json", None).persons
    assert area_of(persons[1]) == pytest.approx(0.53 * box[2] * box[3])


def test_an_image_of_another_size_is_refused(people: MakePeople, tmp_path: Path) -> None:
    annotations, images = people(count=1)
    change(annotations, lambda content: content["images"][0].update(width=120, height=100))
    with pytest.raises(InputError, match=r"1\.png has 100 x 120 pixels, but its annotations are for 120 x 100"):
        evaluate("lpn50", data=str(annotations), images=str(images), out=str(tmp_path / "out"), threads=1)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_when_an_image_is_missing(people: MakePeople, tmp_path: Path) -> None:
    annotations, images = people(count=2)
    (images / "2.png").unlink()
    with pytest.raises(InputError, match=r"2\.png"):
        evaluate("lpn50", data=str(annotations), images=str(images), out=str(tmp_path / "out"), threads=1)
    assert not (tmp_path / "out").exists()


def test_the_bundled_model_runs_through(people: MakePeople, tmp_path: Path) -> None:
    annotations, images = people(count=2)
    metrics = evaluate("lpn50", data=str(annotations), images=str(images), flip_test=True, out=str(tmp_path), threads=1)
    assert 0 <= metrics["AP"] <= metrics["AP50"] <= 1
    results = json.loads((tmp_path / "results.json").read_text())
    assert [r["image_id"] for r in results] == [1, 2]
    unflipped = predict_image(
        evaluation.Predictor("lpn50", threads=1, detector=None), open_annotations(annotations, images).images()[0]
    )
    assert unflipped[0]["keypoints"] != results[0]["keypoints"]


def test_no_results_score_zero(people: MakePeople) -> None:
    annotations, _ = people(count=2)
    metrics = open_annotations(annotations, None).score([], COCO)
    assert [metrics[key] for key in ("AP", "AP50", "AR")] == [0, 0, 0]
    assert metrics["APL"] == -1  # there is no large person


def test_results_of_unknown_images_are_refused(people: MakePeople) -> None:
    annotations, _ = people(count=2)
    result = {"image_id": 77, "category_id": 1, "keypoints": [1.0] * 51, "score": 1.0}
    with pytest.raises(InputError, match=r"name 1 images that .* does not have, such as 77"):
        open_annotations(annotations, None).score([result], COCO)


def test_sizes_without_persons_are_minus_one(people: MakePeople, use_oracle: Callable[[Oracle], None]) -> None:
    annotations, images = people(count=2)
    for entry_area, absent in ((50 * 50, "APL"), (200 * 200, "APM")):
        content = json.loads(annotations.read_text())
        content["annotations"] = [entry | {"area": entry_area} for entry in content["annotations"]]
        annotations.write_text(json.dumps(content))
        use_oracle(Oracle(annotations, images))
        metrics = evaluate("oracle", data=str(annotations), images=str(images))
        assert metrics[absent] == -1
        assert metrics["AP"] == pytest.approx(1)


def test_metrics_print_as_a_table() -> None:
    lines = str(Metrics({"AP": 0.3724, "AP50": 1.0, "APM": -1.0})).splitlines()
    assert [line.split() for line in lines] == [["AP", "AP50", "APM"], ["37.2", "100.0", "-"]]
    assert len(lines[0]) == len(lines[1])
    assert str(Metrics({"AP": 0.5, "AP medium": 0.25})).splitlines() == ["   AP  AP medium", " 50.0       25.0"]


def test_empty_boxes_give_no_results(people: MakePeople, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), np.uint8))
    nobody = ImageBoxes(str(tmp_path / "a.png"), 1, np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    assert predict_image(evaluation.Predictor("lpn50", threads=1, detector=None), nobody) == []


Rectangles = Any  # the class RectanglePeople of conftest.py
TOP_DOWN = Weights("crops", "crops", (256, 192), codec="dark", codec_options={"sigma": 2.0})
BOTTOM_UP = Weights(
    "all.coco_256x256", "all", (256, 256), task="bottom_up", convention="classic", codec="associative_embedding"
)


@pytest.fixture
def scenes(tmp_path: Path, rectangle_people: Rectangles) -> tuple[str, str]:
    """An annotation file and a folder of three images: of two persons, of one, and of nobody."""
    keypoints = list(COCO.keypoints)
    content: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "person", "keypoints": keypoints, "skeleton": []}],
    }
    images = [
        {"red": (30, 20, 130, 300, 150), "green": (200, 40, 330, 310, 250)},
        {"blue": (100, 100, 170, 290, 200)},
        {},
    ]
    for number, boxes in enumerate(images, 1):
        image = rectangle_people.image(330, 500, **boxes)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image[..., ::-1])
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 500, "height": 330})
        for left, top, right, bottom, _ in boxes.values():
            points = rectangle_people.keypoints(rectangle_people.edges((left, top, right, bottom)))
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": 0,
                    "num_keypoints": 17,
                    "keypoints": [float(v) for point in points for v in (*point, 2)],
                }
            )
    file = tmp_path / "scenes.json"
    file.write_text(json.dumps(content))
    return str(file), str(tmp_path)


@pytest.fixture
def made_up(networks: dict[str, Any], rectangle_people: Rectangles) -> dict[str, Any]:
    """Two networks that can be loaded: "crops" and "all"."""
    networks |= {"crops": rectangle_people(TOP_DOWN), "all": rectangle_people(BOTTOM_UP, person_head=True)}
    return networks


def test_crowdpose_in_detected_boxes(
    scenes: tuple[str, str], networks: dict[str, Any], rectangle_people: Rectangles, tmp_path: Path
) -> None:
    """By level: of two persons in an easy image both are detected, one of them twice; in a hard one nobody is."""
    data, images = scenes
    networks["crowds"] = rectangle_people(replace(TOP_DOWN, keypoint_set=CROWDPOSE))
    detections = []

    def edit(content: dict[str, Any]) -> None:
        content["categories"][0]["keypoints"] = list(CROWDPOSE.keypoints)
        for annotation in content["annotations"]:
            left, top, width, height = annotation["bbox"]
            points = rectangle_people.keypoints((left, top, left + width, top + height), CROWDPOSE)
            annotation |= {"keypoints": [float(v) for point in points for v in (*point, 2)], "num_keypoints": 14}
            detections.append({"image_id": annotation["image_id"], "bbox": annotation["bbox"], "score": 0.75})

    change(Path(data), edit)
    as_crowdpose(Path(data), 0.1, 0.9, 0.5)
    boxes = tmp_path / "detections.json"
    twice = detections[0] | {"score": 0.5}
    boxes.write_text(json.dumps([*detections[:2], twice]))
    out = tmp_path / "out"
    metrics = evaluate("crowds", data=data, images=images, boxes=str(boxes), out=str(out))
    assert metrics["AP easy"] == pytest.approx(1)
    assert (metrics["AP medium"], metrics["AP hard"]) == (-1, 0)
    assert metrics["AR"] == pytest.approx(2 / 3)
    results = json.loads((out / "results.json").read_text())
    assert [(r["image_id"], r["bbox"]) for r in results] == [(1, d["bbox"]) for d in (detections[1], detections[0])]


def test_images_only(scenes: tuple[str, str]) -> None:
    images = open_annotations(*scenes).images(None)
    assert [(p.image_id, Path(p.path).name, p.boxes_xyxy) for p in images] == [
        (number, f"{number}.png", None) for number in (1, 2, 3)
    ]


@pytest.mark.parametrize("boxes", [None, "found"])
@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("scales", [None, [0.5, 1.0]])
def test_a_bottom_up_network_is_measured(
    boxes: str | None, flip_test: bool, scales: list[float] | None, scenes: tuple[str, str], made_up: dict[str, Any]
) -> None:
    data, images = scenes
    metrics = evaluate("all", data=data, images=images, boxes=boxes, flip_test=flip_test, scales=scales)
    assert metrics["AP"] == metrics["AR"] == pytest.approx(1)
    short_sides = [shape[2] for shape in made_up["all"].calls]
    assert (
        short_sides == [side for side in ((256,) if scales is None else (256, 128)) for _ in range(1 + flip_test)] * 3
    )


def test_results_of_a_bottom_up_network(scenes: tuple[str, str], made_up: dict[str, Any], tmp_path: Path) -> None:
    """As the network gives them: neither judged anew nor without duplicates."""
    data, images = scenes
    evaluate("all", data=data, images=images, out=str(tmp_path / "out"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [r["image_id"] for r in results] == [1, 1, 2]
    predictor = Predictor("all")
    expected = [entry for n in (1, 2, 3) for entry in predictor(tmp_path / f"{n}.png").to_coco_results(n)]
    assert results == expected


def test_found_boxes_are_refined(scenes: tuple[str, str], made_up: dict[str, Any], tmp_path: Path) -> None:
    data, images = scenes
    metrics = evaluate("crops", data=data, images=images, boxes="found", detector="all", out=str(tmp_path / "out"))
    assert metrics["AP"] == metrics["AR"] == pytest.approx(1)
    # Three images in two sizes; the three persons of all images share a call.
    assert [len(shapes) for shapes in (made_up["all"].calls, made_up["crops"].calls)] == [6, 1]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [r["image_id"] for r in results] == [1, 1, 2]
    assert results[0]["score"] == pytest.approx((250 / 255) ** 2, abs=0.1)  # of the box times of the keypoints
    assert results[1]["score"] == pytest.approx((150 / 255) ** 2, abs=0.1)
    predictor = Predictor("crops", detector="all")
    expected = [entry for n in (1, 2, 3) for entry in predictor(tmp_path / f"{n}.png").to_coco_results(n)]
    assert results == expected


@pytest.mark.parametrize("boxes", [None, "gt"])
def test_the_detector_is_not_loaded_for_annotated_boxes(
    boxes: str | None, scenes: tuple[str, str], made_up: dict[str, Any]
) -> None:
    data, images = scenes
    metrics = evaluate("crops", data=data, images=images, boxes=boxes, detector="absent.onnx")
    assert metrics["AP"] == pytest.approx(1)
    assert made_up["all"].calls == []


def test_each_image_as_one_person(scenes: tuple[str, str], made_up: dict[str, Any], tmp_path: Path) -> None:
    data, images = scenes
    evaluate("crops", data=data, images=images, boxes="image", detector="absent.onnx", out=str(tmp_path / "out"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    predictor = Predictor("crops", detector=None)
    expected = [entry for n in (1, 2, 3) for entry in predictor(tmp_path / f"{n}.png").to_coco_results(n)]
    assert results == expected and len(results) == 3


def test_doubtful_persons_may_be_left_out_before_they_are_ranked(
    scenes: tuple[str, str], made_up: dict[str, Any]
) -> None:
    data, images = scenes
    recall = [evaluate("all", data=data, images=images, min_person_score=least)["AR"] for least in (0.0, 1.0)]
    assert recall == [pytest.approx(1), 0]


def test_a_person_who_is_not_found_costs_ap(scenes: tuple[str, str], made_up: dict[str, Any]) -> None:
    data, images = scenes
    dark = read_image(f"{images}/2.png") // 20
    cv2.imwrite(f"{images}/2.png", dark[..., ::-1])
    for model, boxes in (("all", None), ("crops", "found")):
        assert evaluate(model, data=data, images=images, boxes=boxes, detector="all")["AR"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("boxes", ["gt", "detections.json"])
def test_a_bottom_up_network_takes_no_boxes(boxes: str, scenes: tuple[str, str], made_up: dict[str, Any]) -> None:
    data, images = scenes
    with pytest.raises(InputError, match="all finds persons without boxes; leave --boxes out"):
        evaluate("all", data=data, images=images, boxes=boxes)


def test_unusable_detectors_and_scales(scenes: tuple[str, str], made_up: dict[str, Any], tmp_path: Path) -> None:
    data, images = scenes
    out = str(tmp_path / "out")
    with pytest.raises(WeightsError, match="crops finds one person per crop"):
        evaluate("crops", data=data, images=images, boxes="found", detector="crops", out=out)
    with pytest.raises(WeightsError, match=r"There is no file absent\.onnx"):
        evaluate("crops", data=data, images=images, boxes="found", detector="absent.onnx", out=out)
    with pytest.raises(InputError, match="scales must be"):
        evaluate("all", data=data, images=images, scales=[1.0, 0.0], out=out)
    assert not (tmp_path / "out").exists()
