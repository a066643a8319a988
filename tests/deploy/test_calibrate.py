"""Calibrating scores: lines fit the shares of right keypoints, and only the record of the file changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from leanpose.commands.cli import main  # noqa: E402
from leanpose.deploy.calibrate import calibrate, fitted, judged  # noqa: E402
from leanpose.errors import InputError  # noqa: E402
from leanpose.inference.predictor import Predictor  # noqa: E402
from leanpose.keypoint_sets import COCO, HALPE26  # noqa: E402
from leanpose.models import create_model  # noqa: E402
from leanpose.models.checkpoints import read_state, save_network  # noqa: E402
from leanpose.weights.catalogue import find_weights, read_record  # noqa: E402
from leanpose.weights.record import Weights  # noqa: E402

People = Callable[..., tuple[Path, Path]]


def test_lines_are_the_shares_of_each_keypoint() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(0.01, 1, (40_000, 2))
    right = random.uniform(0, 1, scores.shape) < scores ** np.array([1, 3])
    calibration = fitted(scores, right, "x.json")
    assert len(calibration.raw) <= 16 and calibration.data == "x.json"
    tried = np.linspace(0.1, 0.9, 9)[:, None].repeat(2, axis=1)
    np.testing.assert_allclose(calibration(tried), tried ** np.array([1, 3]), atol=0.03)


def test_few_persons_lean_on_all_keypoints() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(0.01, 1, (500, 3))
    right = random.uniform(0, 1, scores.shape) < scores
    scores[4:, 2] = 0  # of the last keypoint four were found, by chance all wrong
    right[:, 2] = False
    at_high = fitted(scores, right, "")(np.full((1, 3), 0.9))[0]
    assert at_high[0] == pytest.approx(0.9, abs=0.1) and 0.6 < at_high[2] < 0.95


def test_the_size_of_raw_scores_means_nothing() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(0.01, 1, (1000, 2))
    right = random.uniform(0, 1, scores.shape) < scores
    large, tiny = fitted(scores, right, "")(scores), fitted(1e-7 * scores, right, "")(1e-7 * scores)
    np.testing.assert_allclose(tiny, large, atol=1e-4)


def test_one_keypoint_is_enough() -> None:
    calibration = fitted(np.array([[0.5, 0.0]]), np.array([[True, False]]), "")
    assert calibration(np.array([[0.5, 0.5]])).tolist() == [[1, 1]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return a file of each kind."""
    folder = tmp_path_factory.mktemp("files")
    network = folder / "lpn50.safetensors"
    save_network(network, create_model("lpn50"), Weights(network.stem, "lpn50", (64, 48)))
    return {".onnx": str(find_weights("lpn50.coco_128x96_int8")), ".safetensors": str(network)}


@pytest.mark.parametrize("kind", [".onnx", ".safetensors"])
def test_only_the_record_changes(
    kind: str, files: dict[str, str], people: People, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, images = people(count=6)
    out = tmp_path / f"calibrated{kind}"
    assert main(["calibrate", files[kind], "--data", str(data), "--images", str(images), "--out", str(out)]) == 0
    assert "in people.json" in capsys.readouterr().out
    record = read_record(out)
    assert record.calibration is not None and record.calibration.data == "people.json"
    if kind == ".onnx":
        assert onnx.load(out).graph == onnx.load(files[kind]).graph
    else:
        for name, tensor in read_state(files[kind])[0].items():
            assert (read_state(out)[0][name] == tensor).all()
    image = images / "1.png"
    before, after = (
        Predictor(file, detector=None, min_person_score=0)(image, [10, 5, 90, 110]) for file in (files[kind], str(out))
    )
    np.testing.assert_array_equal(after.keypoints, before.keypoints)
    np.testing.assert_array_equal(after.person_scores, before.person_scores)
    raw = before.scores if before.raw_scores is None else before.raw_scores
    np.testing.assert_array_equal(after.raw_scores, raw)
    np.testing.assert_array_equal(after.scores, record.calibration(raw))


def test_the_error_falls_and_a_second_run_gives_the_same(files: dict[str, str], people: People, tmp_path: Path) -> None:
    data, images = people(count=12)
    run = partial(calibrate, data=str(data), images=str(images))
    first = run(files[".onnx"], out=str(tmp_path / "a.onnx"))
    assert first.errors[1] < 0.05 < first.errors[0]
    again = run(str(tmp_path / "a.onnx"), out=str(tmp_path / "b.onnx"))  # from raw scores
    assert again.errors == first.errors
    assert read_record(tmp_path / "b.onnx") == read_record(tmp_path / "a.onnx")


def test_a_network_that_finds_persons_itself(tmp_path: Path, rectangle_people: Any) -> None:
    """It is judged by the persons that it finds; others, and those that nobody annotated, do not count."""
    import cv2

    image = rectangle_people.image(200, 300, red=(20, 30, 80, 170, 250), green=(150, 20, 220, 180, 200))
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    annotations: list[dict[str, Any]] = []
    for box in ((20, 30, 80, 170), (230, 100, 290, 180)):  # the second is not found
        keypoints = rectangle_people.keypoints(np.array(box) - 0.5)
        triples = np.column_stack([keypoints, np.full(17, 2)])
        triples[9] = 0  # not annotated
        size = [box[2] - box[0], box[3] - box[1]]
        known = {"image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 16, "area": size[0] * size[1] * 0.5}
        places = {"bbox": [*box[:2], *size], "keypoints": triples.ravel().tolist()}
        annotations.append({"id": len(annotations), **known, **places})
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 300, "height": 200}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": []}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    predictor = Predictor(rectangle_people(), min_person_score=0)
    scores, right = judged(predictor, str(tmp_path / "a.json"), str(tmp_path))
    assert scores.shape == (1, 17) and (scores > 0).all()
    assert right[0].tolist() == [i != 9 for i in range(17)]


def test_a_larger_set_is_carried_and_the_rest_gets_the_mean(people: People, tmp_path: Path) -> None:
    network = tmp_path / "rtmpose.safetensors"
    record = Weights(
        network.stem, "rtmpose_t", (64, 64), keypoint_set=HALPE26, convention="classic", codec="simcc",
        model_options={"input_size": [64, 64]},
    )  # fmt: skip
    save_network(network, create_model("rtmpose_t", 26, input_size=(64, 64)), record)
    data, images = people()
    out = tmp_path / "calibrated.safetensors"
    calibrate(str(network), data=str(data), images=str(images), out=str(out))
    calibration = read_record(out).calibration
    assert calibration is not None and len(calibration.chance) == 26
    lines = dict(zip(HALPE26.keypoints, calibration.chance, strict=True))
    others = {lines[name] for name in HALPE26.keypoints if name not in COCO.keypoints}
    np.testing.assert_allclose([*others], [np.mean([lines[name] for name in COCO.keypoints], axis=0)], atol=1e-4)


def test_what_cannot_be(files: dict[str, str], people: People, mpii_people: People, tmp_path: Path) -> None:
    data, images = people()
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        calibrate(files[".onnx"], data=str(data), images=str(images), out=str(tmp_path / "x.safetensors"))
    with pytest.raises(InputError, match="no COCO-style file"):
        mpii, folder = mpii_people()
        calibrate(files[".onnx"], data=str(mpii), images=str(folder), out=str(tmp_path / "x.onnx"))
    assert not (tmp_path / "x.onnx").exists()
