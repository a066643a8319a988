"""`leanpose train --new`: sets and a recipe for an export, each choice with its reason, and that it trains."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
yaml = pytest.importorskip("yaml")
pytest.importorskip("lightning")

from leanpose.commands.cli import main  # noqa: E402
from leanpose.errors import InputError  # noqa: E402
from leanpose.keypoint_sets import COCO, HALPE26, LSP, KeypointSet  # noqa: E402
from leanpose.models import create_model  # noqa: E402
from leanpose.models.checkpoints import save_network  # noqa: E402
from leanpose.training import new, plan  # noqa: E402
from leanpose.training.new import new_recipe  # noqa: E402
from leanpose.training.plan import SmallSet, choose_start  # noqa: E402
from leanpose.training.recipe import read_recipe  # noqa: E402
from leanpose.weights.catalogue import read_record  # noqa: E402
from leanpose.weights.record import Weights  # noqa: E402

MakePeople = Callable[..., tuple[Path, Path]]
SIMCC = Weights("r", "rtmpose_s", (256, 192), HALPE26, convention="classic", codec="simcc")
HEATMAPS = Weights("l", "lpn50", (256, 192), COCO, codec="dark", codec_options={"sigma": 2.0, "blur": 7})
TOOL = KeypointSet("tool", ("tip", "pivot", "end"), (), "a test")


@pytest.fixture
def start(tmp_path: Path, short_lpn: None) -> Path:
    """Write weights of a short lpn50 at 64x48."""
    file = tmp_path / "start.safetensors"
    record = Weights("lpn50.coco_64x48", "lpn50", (64, 48), codec="dark", codec_options={"sigma": 1.5, "blur": 5})
    save_network(file, create_model("lpn50"), record)
    return file


def planned(data: SmallSet, record: Weights = HEATMAPS, minutes: float = 15, seconds: float = 0.05) -> dict[str, Any]:
    chosen = plan.plan(data, "start", record, minutes, lambda _: seconds)
    assert all(reason for key, (_, reason) in chosen.items() if key in ("augmentation", "samples_per_epoch", "start"))
    return {key: value for key, (value, _) in chosen.items()}


def test_few_persons_become_a_recipe_with_folds_that_trains(
    people: MakePeople, start: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    annotations, images = people(count=6, keypoint_set=LSP)
    my = tmp_path / "my own"
    words = ["--images", str(images), "--out", str(my), "--model", str(start), "--minutes", "0.1"]
    assert main(["train", "--new", str(annotations), *words]) == 0
    assert {file.name for file in my.iterdir()} == {"train.json", "recipe.yaml"}
    line = capfd.readouterr().out.strip().splitlines()[-1]
    leanpose, *command = shlex.split(line.removeprefix("Next: "))
    assert leanpose == "leanpose"
    text = (my / "recipe.yaml").read_text()
    assert "# 12 of 14 keypoints are joined by name; new: neck, top_head" in text
    assert "# 6 persons are too few to part them once" in text
    recipe = read_recipe(my / "recipe.yaml")
    assert (recipe.model, recipe.input_size, recipe.keypoint_set, recipe.folds) == ("lpn50", (64, 48), "lsp", 5)
    assert recipe.stage_recipes[0].freeze[-1] == "deconv_layers"
    short = ("folds=2", "samples_per_epoch=2", "batch_size=2", "stage_keys=[{epochs: 1}]", "accelerator=cpu")
    assert main([*command, *short]) == 0
    record = read_record(my / "run" / "best.safetensors")
    assert (record.keypoint_set.name, record.metrics[0].data) == ("lsp", "train.json, 2-fold")
    assert main(["train", "--new", str(annotations), *words]) == 2  # nothing is written over
    assert "is there already" in capfd.readouterr().err


def test_more_persons_are_parted_by_image(
    people: MakePeople, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new, "FEW_PERSONS", 10)
    annotations, images = people(count=10)
    recipe = read_recipe(new_recipe(str(annotations), str(images), str(tmp_path / "my"), model=str(start)))
    train, val = (
        json.loads(Path(source.annotations).read_text()) for source in (recipe.sources()[0], recipe.validation())
    )
    names = [{image["file_name"] for image in part["images"]} for part in (train, val)]
    assert [len(part) for part in names] == [8, 2]
    assert not names[0] & names[1]
    assert recipe.folds is None
    assert recipe.stage_recipes[1].patience == plan.PATIENCE


def test_own_keypoints_and_their_pairs_go_into_the_file(people: MakePeople, start: Path, tmp_path: Path) -> None:
    annotations, images = people(count=4)
    content = json.loads(annotations.read_text())
    content["categories"] = [{"id": 1, "name": "tool", "keypoints": ["tip", "pivot", "left_end", "right_end"]}]
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][:12]
    annotations.write_text(json.dumps(content))
    recipe = read_recipe(new_recipe(str(annotations), str(images), str(tmp_path / "my"), model=str(start), minutes=0.1))
    assert recipe.keypoint_set == "train.json"
    assert recipe.keypoints.keypoints == ("tip", "pivot", "left_end", "right_end")
    np.testing.assert_array_equal(recipe.keypoints.flip_index, [0, 1, 3, 2])
    assert (recipe.augmentation.flip, recipe.augmentation.half_body) == (0.5, 0)


def test_images_that_show_nobody_are_left_out(
    people: MakePeople, start: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A fifth of the images might else show nobody to measure on."""
    annotations, images = people(count=6)
    content = json.loads(annotations.read_text())
    del content["annotations"][:3]
    content["annotations"][0]["keypoints"] = [0] * 51
    annotations.write_text(json.dumps(content))
    recipe = read_recipe(new_recipe(str(annotations), str(images), str(tmp_path / "my"), model=str(start), minutes=0.1))
    train = json.loads(Path(recipe.sources()[0].annotations).read_text())
    assert [[image["id"] for image in train["images"]], len(train["annotations"]), recipe.folds] == [[5, 6], 2, 2]
    assert "4 images without a person with labelled keypoints are left out" in capfd.readouterr().err


def test_what_is_not_known_or_not_people_is_not_done_to_views() -> None:
    tool, person = planned(SmallSet(TOOL, 200, 50, 0)), planned(SmallSet(LSP, 200, 50, 0))
    assert (tool["augmentation"]["flip"], tool["augmentation"]["half_body"], tool["flip_test"]) == (0, 0, False)
    assert (person["augmentation"]["flip"], person["augmentation"]["half_body"], person["flip_test"]) == (
        0.5,
        0.1,
        True,
    )


def test_the_plan_fits_the_time() -> None:
    data = SmallSet(LSP, 1000, 200, 0)
    epochs = plan.HEAD_EPOCHS + plan.EPOCHS
    for minutes, seconds in ((10, 0.03), (20, 0.06)):
        views = planned(data, SIMCC, minutes, seconds)["samples_per_epoch"] * epochs
        taken = seconds * (views + epochs * plan.EVALUATION * 200)
        assert taken == pytest.approx(60 * minutes * plan.SHARE_OF_TIME, rel=0.05)
    many = planned(data, SIMCC, 1000, 0.001)["samples_per_epoch"] * epochs
    assert many == pytest.approx(plan.AT_MOST * 1000**0.5, rel=0.05)
    folds = planned(SmallSet(LSP, 60, 0, 60), SIMCC, 5)
    whole = planned(SmallSet(LSP, 60, 12, 0), SIMCC, 5)
    assert folds["folds"] == plan.FOLDS
    assert folds["samples_per_epoch"] < whole["samples_per_epoch"] / 4
    assert planned(SmallSet(LSP, 6, 0, 3), SIMCC)["folds"] == 3
    assert planned(SmallSet(LSP, 6, 0, 3), SIMCC, 0.01)["samples_per_epoch"] == 32  # it trains, however little


def test_heatmaps_become_smaller_where_time_is_short() -> None:
    data = SmallSet(LSP, 1000, 200, 0)
    assert planned(data, HEATMAPS, 30)["input_size"] == [256, 192]
    short = planned(data, HEATMAPS, 6)
    assert (short["input_size"], short["codec_options"]) == ([128, 96], {"sigma": 1.5, "blur": 5})
    assert planned(data, SIMCC, 6)["input_size"] == [256, 192]  # whose layers know their places


def test_auto_is_the_best_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_start("auto")[0] == "lpn50"
    monkeypatch.setattr(plan, "on_this_machine", lambda names: [*names])
    monkeypatch.setattr(plan, "find_weights", lambda name, *_: name)
    monkeypatch.setattr(plan, "read_record", lambda name: dataclasses.replace(HEATMAPS, name=str(name)))
    assert [choose_start(name)[1].name for name in ("auto", "rtmpose_s", "sfm")] == [
        "rtmpose_s_26",
        "rtmpose_s_26",
        "sfm",
    ]


def test_seconds_are_measured() -> None:
    sfm = {"model": ("sfm", ""), "codec": ("dark", ""), "input_size": ([64, 64], ""), "accelerator": ("cpu", "")}
    assert plan.seconds_per_person(sfm, batch=2, steps=1) > 0


def test_what_cannot_be_used_is_said_before_anything_is_written(
    people: MakePeople, start: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    annotations, images = people(count=1)
    my = tmp_path / "my"
    new_words = ["train", "--new", str(annotations), "--images", str(images), "--out", str(my)]
    for words, message in (
        ([*new_words, "--model", str(start)], "shows one scene"),
        ([*new_words, "--model", "litepose_xs"], "finds all persons at once"),
        ([*new_words, "--model", "lpn5"], "Did you mean 'lpn50'?"),
        ([*new_words, "--minutes", "0"], "minutes must be above 0"),
        ([*new_words, "--category", "dog"], "no category"),
        ([*new_words, "epochs=3"], "--new makes a recipe and takes none: leave epochs=3 out"),
        (["train", "lpn50_coco", "--out", "runs"], "--out goes with --new; keys of a recipe are given as key=value"),
        (["train", "lpn50_coco", "--out", "my"], "--out goes with --new"),  # also what is there without them
        (["train", "lpn50_coco", "--minutes", "15"], "--minutes goes with --new"),
        (["train"], "Give a recipe, leanpose train RECIPE; or make one"),
        (["train", "--new", str(tmp_path / "absent.json")], "absent.json"),
    ):
        assert main(words) == 2
        error = capfd.readouterr().err
        assert message in error.splitlines()[-1]
        assert not my.exists()
    with pytest.raises(InputError):
        new_recipe(str(annotations), str(images), str(annotations))
