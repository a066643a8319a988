"""MPII from its files to its figures: evaluation of all persons of the list; training, alone and mixed with COCO."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat
from support import DATA, needs

from leanpose.data.annotations import open_annotations
from leanpose.errors import InputError
from leanpose.evaluation.evaluate import evaluate
from leanpose.keypoint_sets import MPII
from leanpose.metrics.pckh import PCKH_KEYS, pckh_metrics, read_truth
from leanpose.weights.record import Weights

FIXTURES = DATA / "fixtures" / "mpii"
TRUTH = DATA / "eval" / "mpii" / "detections_our_format.mat"  # its first five persons are those of the fixtures
needs_shared = needs(FIXTURES, TRUTH)

MakePeople = Callable[..., tuple[Path, Path]]
Rectangles = Any  # the class RectanglePeople of conftest.py
CROPS = Weights("crops", "crops", (256, 256), MPII, codec="dark", codec_options={"sigma": 2.0})


@pytest.fixture
def crops(networks: dict[str, Any], rectangle_people: Rectangles) -> Any:
    """A network that can be loaded as "crops"."""
    networks["crops"] = rectangle_people(CROPS)
    return networks["crops"]


@pytest.fixture
def crowd(tmp_path: Path, rectangle_people: Rectangles, write_mpii: Callable[..., Path]) -> tuple[str, str]:
    """A list of four persons in two images, in turn, of whom the last is the first once more; and the folder."""
    images = {
        "1.png": {"red": (30, 20, 130, 300, 150), "green": (200, 40, 330, 310, 250)},
        "2.png": {"blue": (100, 100, 170, 290, 200)},
    }
    for name, boxes in images.items():
        cv2.imwrite(str(tmp_path / name), rectangle_people.image(330, 500, **boxes)[..., ::-1])
    persons = []
    for name, colour in (("1.png", "green"), ("2.png", "blue"), ("1.png", "red"), ("1.png", "green")):
        box = rectangle_people.edges(images[name][colour])
        persons.append((name, box, rectangle_people.keypoints(box, MPII)))
    return str(write_mpii(persons)), str(tmp_path)


def change(file: str, edit: Callable[[list[dict[str, Any]]], Any]) -> None:
    content = json.loads(Path(file).read_text())
    edit(content)
    Path(file).write_text(json.dumps(content))


@pytest.mark.parametrize("flip_test", [False, True])
def test_every_person_of_the_list_gets_one_pose(
    flip_test: bool, crowd: tuple[str, str], crops: Any, tmp_path: Path
) -> None:
    data, images = crowd
    metrics = evaluate("crops", data=data, images=images, flip_test=flip_test, out=str(tmp_path / "out"))
    assert tuple(metrics) == PCKH_KEYS
    assert set(metrics.values()) == {1.0}
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert sorted((r["person"], r["image_id"]) for r in results) == [
        (0, "1.png"), (1, "2.png"), (2, "1.png"), (3, "1.png"),
    ]  # fmt: skip
    of = {r["person"]: r for r in results}
    assert of[0]["keypoints"] == of[3]["keypoints"]  # a duplicate stays
    assert of[0]["score"] == pytest.approx(np.mean(of[0]["keypoints"][2::3]), abs=1e-4)  # and scores stay as they are
    assert pckh_metrics(read_truth(tmp_path / "gt_valid.mat"), results) == metrics  # the file can be scored again


def test_errors_of_the_keypoints_cost_pckh(crowd: tuple[str, str], crops: Any, tmp_path: Path) -> None:
    data, images = crowd
    content = {key: value for key, value in loadmat(tmp_path / "gt_valid.mat").items() if key[0] != "_"}
    content["pos_gt_src"][MPII.keypoints.index("left_knee"), 0, :2] += 100
    savemat(tmp_path / "gt_valid.mat", content)
    metrics = evaluate("crops", data=data, images=images)
    assert metrics["PCKh@0.5"] == pytest.approx(1 - 2 / (4 * 14))
    assert metrics["knee"] == pytest.approx(0.75)
    assert metrics["ankle"] == 1


def test_newell_s_files_give_the_same_boxes(crowd: tuple[str, str], tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    data, images = crowd
    entries = json.loads(Path(data).read_text())
    with h5py.File(tmp_path / "valid.h5", "w") as file:
        file["imgname"] = [entry["image"] for entry in entries]  # words of any length
        file["scale"] = [1.25 * entry["scale"] for entry in entries]
        file["center"] = [entry["center"] + np.array([0, 15 * entry["scale"]]) for entry in entries]
    read = [open_annotations(file, images).images() for file in (data, tmp_path / "valid.h5")]
    for one, other in zip(*read, strict=True):
        assert (one.path, one.persons) == (other.path, other.persons)
        assert one.boxes_xyxy is not None and other.boxes_xyxy is not None
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, rtol=1e-5)


def test_persons_without_labelled_keypoints_are_predicted(crowd: tuple[str, str], crops: Any, tmp_path: Path) -> None:
    data, images = crowd
    change(data, lambda entries: [entry.pop(key) for entry in entries for key in ("joints", "joints_vis")])
    assert set(evaluate("crops", data=data, images=images).values()) == {1.0}


def test_a_set_that_cannot_be_measured(crowd: tuple[str, str], crops: Any, networks: dict[str, Any]) -> None:
    data, images = crowd
    out = str(Path(images) / "out")
    with pytest.raises(InputError, match=r"valid\.json has the keypoints 'mpii', but lpn50 predicts 'coco'"):
        evaluate("lpn50", data=data, images=images, out=out)
    networks["all"] = type(crops)(
        Weights("all", "all", (256, 256), MPII, task="bottom_up", convention="classic", codec="associative_embedding")
    )
    file = str(Path(images) / "boxes.json")
    for model, boxes in (("all", None), ("crops", "found"), ("crops", file)):
        with pytest.raises(InputError, match="each of whom gets one pose: use a network that takes boxes"):
            evaluate(model, data=data, images=images, out=out, boxes=boxes, detector="all")
    change(data, lambda entries: entries[1].update(center=[-1, -1]))
    with pytest.raises(InputError, match=r"valid\.json: person 1 has no place"):
        evaluate("crops", data=data, images=images, out=out)
    change(data, lambda entries: entries.pop())
    with pytest.raises(InputError, match=r"gt_valid\.mat is the ground truth of 4 persons, but .* lists 3"):
        evaluate("crops", data=data, images=images, out=out)
    (Path(images) / "gt_valid.mat").unlink()
    with pytest.raises(InputError, match=r"put MPII's MATLAB file at .*gt_valid\.mat"):
        evaluate("crops", data=data, images=images, out=out)
    assert not Path(out).exists()


def recipe_of(folder: Path, **values: Any) -> Any:
    pytest.importorskip("lightning")
    from leanpose.training.recipe import read_recipe

    common = {
        "model": "lpn50",
        "out": str(folder / "run"),
        "input_size": [64, 64],
        "codec": "dark",
        "codec_options": {"sigma": 1.5, "blur": 5},
        "epochs": 1,
        "batch_size": 2,
        "flip_test": False,
        "accelerator": "cpu",
    }
    (folder / "recipe.yaml").write_text(json.dumps(common | values))
    return read_recipe(folder / "recipe.yaml")


def test_training_on_mpii(mpii_people: MakePeople, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file, images = mpii_people(count=4)
    content = {key: value for key, value in loadmat(file.with_name("gt_valid.mat")).items() if key[0] != "_"}
    low, high = content["headboxes_src"]
    content["headboxes_src"] = np.stack([low, low + 10 * (high - low)])  # heads so large that some keypoints are found
    savemat(file.with_name("gt_valid.mat"), content)
    data = {"annotations": str(file), "images": str(images)}
    recipe = recipe_of(tmp_path, keypoint_set="mpii", train_data=[data], val_data=data)
    from leanpose.models.checkpoints import read_state
    from leanpose.training.loop import train

    best = train(recipe)
    record = Weights.from_metadata(read_state(best)[1], "best")
    figures = {figure.metric: figure.value for figure in record.metrics if figure.data == "valid.json"}
    assert tuple(figures) == PCKH_KEYS
    assert 0 < figures["PCKh@0.5"] < 1
    assert evaluate(str(best), data=str(file), images=str(images), threads=1) == pytest.approx(figures)
    *_, line = capfd.readouterr().out.splitlines()
    assert re.fullmatch(r"epoch 1/1  .*  loss 0\.\d+  PCKh@0\.5 \d+\.\d  PCKh@0\.1 \d+\.\d  best", line)


def test_the_best_epoch_is_chosen_by_the_first_figure(
    mpii_people: MakePeople, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = dict(zip(("annotations", "images"), map(str, mpii_people(count=2)), strict=True))
    recipe = recipe_of(tmp_path, keypoint_set="mpii", train_data=[data], val_data=data, epochs=3)
    from leanpose.data.mpii import MpiiSet
    from leanpose.models.checkpoints import read_state
    from leanpose.training.loop import train

    figures = iter([(0.2, 0.15), (0.5, 0.1), (0.4, 0.3)])
    monkeypatch.setattr(MpiiSet, "score", lambda *_: dict(zip(PCKH_KEYS, next(figures), strict=False)))
    record = Weights.from_metadata(read_state(train(recipe))[1], "best")
    assert [figure.value for figure in record.metrics] == [0.5, 0.1]
    _, *lines = capfd.readouterr().out.splitlines()
    assert [line.partition("PCKh@0.5 ")[2] for line in lines] == [
        "20.0  PCKh@0.1 15.0  best",
        "50.0  PCKh@0.1 10.0  best",
        "40.0  PCKh@0.1 30.0",
    ]


def test_a_coco_network_learns_from_mpii_by_name(people: MakePeople, mpii_people: MakePeople, tmp_path: Path) -> None:
    coco, mpii = (
        dict(zip(("annotations", "images"), map(str, make(count=2)), strict=True)) for make in (people, mpii_people)
    )
    recipe = recipe_of(tmp_path, train_data=[coco, mpii], val_data=coco)
    from leanpose.keypoint_sets import get_keypoint_set
    from leanpose.training.crops import read_sources
    from leanpose.training.loop import train

    _, carried = read_sources(recipe.sources(), get_keypoint_set("coco"))
    assert [int((sample.visibility > 0).sum()) for sample in carried] == [12, 12]
    assert train(recipe).is_file()


@needs_shared
def test_real_images(tmp_path: Path) -> None:
    """The official persons, boxes of heads and images; a network that has learned nothing hits little."""
    pytest.importorskip("torch")
    from leanpose.models import create_model
    from leanpose.models.checkpoints import save_network

    content = loadmat(TRUTH)
    keys = ("pos_gt_src", "headboxes_src", "jnt_missing")
    savemat(
        tmp_path / "gt_test_mpii.mat",
        {key: content[key][..., :5] for key in keys} | {"dataset_joints": content["dataset_joints"]},
    )
    data = tmp_path / "test_mpii.json"
    data.write_bytes((FIXTURES / "test_mpii.json").read_bytes())
    save_network(tmp_path / "a.safetensors", create_model("lpn50", 16), Weights("a", "lpn50", (64, 64), MPII))
    metrics = evaluate(str(tmp_path / "a.safetensors"), data=str(data), images=str(FIXTURES), out=str(tmp_path))
    assert 0 <= metrics["PCKh@0.1"] <= metrics["PCKh@0.5"] < 0.5
    results = json.loads((tmp_path / "results.json").read_text())
    assert [r["person"] for r in results] == [0, 1, 2, 3, 4]

    points = content["pos_gt_src"][..., :5].transpose(2, 0, 1) - 1
    for result in results:
        result["keypoints"] = np.column_stack([points[result["person"]], np.ones(16)]).ravel().tolist()
    assert set(pckh_metrics(read_truth(tmp_path / "gt_test_mpii.mat"), results).values()) == {1.0}
