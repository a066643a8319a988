"""Training in folds: who is measured by which run, one figure of all, and what going on repeats."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
yaml = pytest.importorskip("yaml")
pytest.importorskip("lightning")

from leanpose.data.annotations import open_annotations  # noqa: E402
from leanpose.data.coco import CocoSet  # noqa: E402
from leanpose.errors import InputError  # noqa: E402
from leanpose.models.checkpoints import read_state  # noqa: E402
from leanpose.training.folds import _of_length, train_folds  # noqa: E402
from leanpose.training.loop import train  # noqa: E402
from leanpose.training.module import PoseTraining  # noqa: E402
from leanpose.training.recipe import Recipe, read_recipe  # noqa: E402
from leanpose.weights.record import Weights  # noqa: E402

MakeRecipe = Callable[..., Recipe]
pytestmark = pytest.mark.usefixtures("short_lpn")


@pytest.fixture
def make_recipe(people: Callable[..., tuple[Path, Path]], tmp_path: Path) -> MakeRecipe:
    """Return a function from key=value words to a recipe of three folds of six persons, in two stages."""
    annotations, images = people("people", count=6)
    data = {"annotations": str(annotations), "images": str(images)}
    values = {
        "model": "lpn50",
        "out": str(tmp_path / "run"),
        "train_data": [data],
        "val_data": data,
        "input_size": [64, 48],
        "codec": "dark",
        "codec_options": {"sigma": 1.5, "blur": 5},
        "folds": 3,
        "stage_keys": [{"epochs": 2, "freeze": ["layer1"]}, {"epochs": 3, "patience": 1}],
        "samples_per_epoch": 4,
        "batch_size": 4,
        "flip_test": False,
        "accelerator": "cpu",
        "threads": 1,
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    return lambda *changes: read_recipe(file, changes)


def test_all_persons_are_measured_by_runs_that_did_not_see_them(
    make_recipe: MakeRecipe, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    best = train_folds(recipe)
    out = tmp_path / "run"
    assert best == out / "best.safetensors"
    left_out: list[int] = []
    for fold in ("fold0", "fold1", "fold2"):
        parts = [json.loads((out / fold / f"{name}.json").read_text()) for name in ("train", "val")]
        seen, unseen = ({image["id"] for image in part["images"]} for part in parts)
        assert not seen & unseen
        assert len(seen | unseen) == 6
        found = json.loads((out / fold / "stage1" / "found" / "3.json").read_text())
        assert {person["image_id"] for person in found} == unseen
        left_out += unseen
    assert sorted(left_out) == [1, 2, 3, 4, 5, 6]

    results = json.loads((out / "results.json").read_text())
    assert sorted(person["image_id"] for person in results) == [1, 2, 3, 4, 5, 6]
    record = Weights.from_metadata(read_state(best)[1], "best")
    whole = open_annotations(recipe.train_data[0].annotations, recipe.train_data[0].images)
    figures = whole.score(results, recipe.keypoints)
    assert {figure.metric: figure.value for figure in record.metrics} == pytest.approx(figures)
    assert {figure.data for figure in record.metrics} == {"people.json, 3-fold"}
    last = read_recipe(out / "all" / "recipe.yaml")
    assert (last.folds, last.train_data) == (None, recipe.train_data)
    output = capfd.readouterr().out
    assert f"after epoch {last.stage_keys[-1]['epochs']}, each found by the run that had not seen it" in output
    assert "fold0: 2 left out" in output

    with pytest.raises(InputError, match="holds a run already; add resume=true"):
        train_folds(recipe)
    monkeypatch.setattr(PoseTraining, "training_step", None)  # nothing is trained again
    assert train_folds(recipe, resume=True).read_bytes() == best.read_bytes()


def test_the_epoch_is_the_best_of_all_folds_together(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last run is as long, its first stage is whole, and nothing is chosen on the way."""
    score = CocoSet.score

    def second_is_best(self: CocoSet, results: list[dict[str, object]], *others: object) -> dict[str, float]:
        if len(results) < 6 or (tmp_path / "run" / "all").exists():
            return {"AP": 0.1}
        place = json.dumps(results[0]["keypoints"])
        files = (tmp_path / "run" / "fold0" / "stage1" / "found").glob("*.json")
        (epoch,) = (int(file.stem) for file in files if place in file.read_text())
        return {"AP": 0.9 if epoch == 2 else 0.2}

    assert score is not None
    monkeypatch.setattr(CocoSet, "score", second_is_best)
    record = Weights.from_metadata(read_state(train_folds(make_recipe("learning_rate=0.01", "folds=2")))[1], "best")
    assert [(figure.metric, figure.value) for figure in record.metrics] == [("AP", 0.9)]
    first, last = read_recipe(tmp_path / "run" / "all" / "recipe.yaml").stage_recipes
    assert (first.epochs, first.validate_every, first.freeze) == (2, 2, ["layer1"])
    assert (last.epochs, last.validate_every, last.patience) == (2, 2, None)


def test_folds_that_are_broken_off_go_on(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ("learning_rate=0.003", "folds=2", "stage_keys=[{epochs: 1}, {epochs: 2}]")
    whole = train_folds(make_recipe(f"out={tmp_path / 'whole'}", *short))
    broken = make_recipe(f"out={tmp_path / 'broken'}", *short)
    step, steps = PoseTraining.training_step, iter(range(100))

    def interrupted(self: PoseTraining, *arguments: object) -> object:
        if next(steps) == 5:  # the second fold, in the second epoch of its second stage
            raise RuntimeError
        return step(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(PoseTraining, "training_step", interrupted)
        train_folds(broken)
    assert (tmp_path / "broken" / "fold1" / "stage1").exists() and not (tmp_path / "broken" / "all").exists()
    best = train_folds(broken, resume=True)
    (one, metadata), (other, again) = read_state(whole), read_state(best)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert metadata == again


def test_what_folds_refuse_before_anything_is_written(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    for changes, message in (
        (["folds=7"], "There are not enough images or groups for 7 folds"),
        (["model_options={attention: all}"], "Unknown attention 'all'"),
        (["keypoint_set=lsp"], "has the keypoints 'coco', but the recipe predicts 'lsp'"),
    ):
        with pytest.raises(InputError, match=message):
            train_folds(make_recipe(*changes))
        assert not (tmp_path / "run").exists()
    for stages in ("max_minutes=1", "stage_keys=[{epochs: 1}, {max_minutes: 1}]"):
        with pytest.raises(InputError, match="All folds run for as many epochs: leave max_minutes out"):
            make_recipe(stages)
    with pytest.raises(InputError, match="folds must be 2 or more, of one training set"):
        make_recipe("folds=1")
    with pytest.raises(InputError, match="This recipe has folds, which"):
        train(make_recipe())
    with pytest.raises(InputError, match="There is no run in"):
        train_folds(make_recipe(), resume=True)


def test_no_fold_is_left_without_persons(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe()
    annotations = Path(recipe.train_data[0].annotations)
    content = json.loads(annotations.read_text())
    annotations.write_text(json.dumps(content | {"annotations": content["annotations"][:2]}))
    with pytest.raises(InputError, match="One of the folds is left without persons"):
        train_folds(recipe)
    assert not (tmp_path / "run").exists()


def test_a_last_run_of_one_stage_has_a_decay_that_fits(make_recipe: MakeRecipe) -> None:
    recipe = _of_length(make_recipe("stage_keys=[]", "schedule=wsd", "epochs=9", "decay_epochs=4"), 3)
    assert (recipe.epochs, recipe.validate_every, recipe.decay_epochs) == (3, 3, 3)
