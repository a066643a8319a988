"""Training on few persons in folds: figures of all of them, each found by a run that did not see it, then weights made
of all."""

from __future__ import annotations

import dataclasses
import json
import os
from itertools import chain
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from leanpose.data.annotations import AnnotatedSet, open_annotations, scored_set
from leanpose.data.coco import CocoSet
from leanpose.data.formats import read_export
from leanpose.data.split import folds
from leanpose.errors import InputError
from leanpose.evaluation.pairs import near_share
from leanpose.io.files import write_text
from leanpose.models.checkpoints import load_network, save_network
from leanpose.training.crops import DataSource
from leanpose.training.loop import check_recipe, train, write_recipe
from leanpose.training.module import PoseTraining
from leanpose.training.recipe import Recipe
from leanpose.training.run_state import check_resume
from leanpose.weights.record import Measurement


class KeepFound(Callback):
    """Write what each validation finds, in the COCO results form, to found/EPOCH.json in the folder of its stage."""

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, PoseTraining)
        assert trainer.checkpoint_callback is not None
        stage = Path(getattr(trainer.checkpoint_callback, "dirpath"))  # noqa: B009
        write_text(stage / "found" / f"{trainer.current_epoch + 1}.json", json.dumps(module.results))


def train_folds(recipe: Recipe, resume: bool = False) -> Path:
    """Run a recipe in `recipe.folds` folds, then on everything.

    Scenes are dealt into parts, and fold0, fold1 ... in recipe.out are the runs that leave one part each out. The last
    stage ends after the epoch at which the persons of all parts together are found best; with its length the run "all"
    trains on everything. Its last weights become best.safetensors, with the figures of the folds in their record, and
    what the folds found is in results.json (COCO results form). One choice, the epoch's, was made on these figures.

    Args:
        recipe: what to train, with a number of folds.
        resume: go on with the run in recipe.out; runs that have ended are not repeated.

    Returns:
        The file best.safetensors in recipe.out.

    Raises:
        InputError: as of `train`, or there are too few images for the folds, or too few that show persons.
    """
    assert recipe.folds is not None
    out = Path(recipe.out)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("Folds run in one process: leave torchrun out.")
    if resume:
        check_resume(recipe, out)
    elif (out / "recipe.yaml").is_file():
        raise InputError(f"{out} holds a run already; add resume=true to go on with it, or choose another out.")
    check_recipe(recipe)
    (source,) = recipe.sources()
    whole = open_annotations(source.annotations, source.images, source.category)
    whole.check(scored_set(whole, recipe.keypoints), "the recipe")
    content = read_export(source.annotations, source.images, source.category).content
    pairs = folds(content, recipe.folds, "scene", recipe.seed, images=source.images)
    _check_persons(pairs, recipe, source)
    write_recipe(recipe, out)
    for number, parts in enumerate(pairs):
        _run_fold(recipe, source, out / f"fold{number}", parts)
    epoch, metrics = _choose_epoch(recipe, whole, out)
    last = dataclasses.replace(_of_length(recipe, epoch), folds=None, out=str(out / "all"))
    print(f"all: everybody, for {epoch} epochs; its figure is of persons that it has seen", flush=True)
    weights = _finished(last)
    network, record = load_network(weights)
    data = f"{Path(source.annotations).name}, {recipe.folds}-fold"
    measured = tuple(
        Measurement(*metric, data, "none" if recipe.views else "annotated", recipe.flip_test, recipe.input_size)
        for metric in metrics.items()
    )
    save_network(out / "best.safetensors", network, dataclasses.replace(record, metrics=measured))
    return out / "best.safetensors"


def _check_persons(pairs: list[tuple[dict[str, Any], dict[str, Any]]], recipe: Recipe, source: DataSource) -> None:
    """Refuse folds of which one has nobody to learn or to measure on, since folds are made of images."""
    try:
        for part in chain(*pairs):
            CocoSet(part, source.annotations, Path(source.images)).samples(recipe.keypoints)
    except InputError as error:
        raise InputError(
            f"One of the folds is left without persons: choose fewer, or leave images without persons out. {error}"
        ) from None


def _run_fold(recipe: Recipe, source: DataSource, folder: Path, parts: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Train on one part and keep what is found in the other at each validation."""
    sources = []
    for name, part in zip(("train", "val"), parts, strict=True):
        write_text(folder / f"{name}.json", json.dumps(part))
        sources.append(DataSource(str((folder / f"{name}.json").absolute()), str(Path(source.images).absolute())))
    own = dataclasses.replace(
        _of_length(recipe), folds=None, out=str(folder), train_data=sources[:1], val_data=sources[1]
    )
    left_out = len(open_annotations(sources[1].annotations, sources[1].images).samples())
    print(f"{folder.name}: {left_out} left out", flush=True)
    _finished(own, KeepFound())


def _finished(recipe: Recipe, *callbacks: Callback) -> Path:
    """Return the best weights of a run; it begins, or goes on, unless it has ended."""
    best = Path(recipe.out) / "best.safetensors"
    return best if best.is_file() else train(recipe, (Path(recipe.out) / "recipe.yaml").is_file(), callbacks)


def _of_length(recipe: Recipe, epochs: int | None = None) -> Recipe:
    """Return the recipe in which validation chooses nothing: every stage before the last is validated at its end alone,
    none has patience, and the last has `epochs`, if given, and is validated after them.
    """
    assert recipe.epochs is not None
    every: dict[str, Any] = {} if epochs is None else {"epochs": epochs, "validate_every": epochs}
    if epochs is not None and recipe.decay_epochs > epochs:
        every["decay_epochs"] = epochs
    if not recipe.stage_keys:
        return dataclasses.replace(recipe, patience=None, **every)
    *before, last = recipe.stage_keys
    ends = [keys | {"validate_every": keys.get("epochs", recipe.epochs), "patience": None} for keys in before]
    return dataclasses.replace(recipe, patience=None, stage_keys=[*ends, last | {"patience": None} | every])


def _choose_epoch(recipe: Recipe, whole: AnnotatedSet, out: Path) -> tuple[int, dict[str, float]]:
    """Return the epoch of the last stage at which all persons are found best, and their figures; print them."""
    assert recipe.folds is not None
    stage = f"stage{len(recipe.stage_recipes) - 1}"
    folders = [out / f"fold{number}" for number in range(recipe.folds)]
    scored = scored_set(whole, recipe.keypoints)
    found = {
        int(file.stem): [json.loads((folder / stage / "found" / file.name).read_text()) for folder in folders]
        for file in (folders[0] / stage / "found").glob("*.json")
    }
    figures: dict[int, dict[str, float]] = {}
    ranks: dict[int, tuple[float, ...]] = {}
    for epoch, parts in found.items():
        results = [*chain(*parts)]
        figures[epoch] = whole.score(results, scored)
        ranks[epoch] = (next(iter(figures[epoch].values())), *near_share(whole, results, scored).values())
    epoch = max(sorted(ranks), key=lambda one: ranks[one])
    write_text(out / "results.json", json.dumps([*chain(*found[epoch])]))
    name, figure = next(iter(figures[epoch].items()))
    sets = [open_annotations(folder / "val.json", recipe.sources()[0].images) for folder in folders]
    spread = [one.score(part, scored)[name] for one, part in zip(sets, found[epoch], strict=True)]
    print(
        f"{recipe.folds}-fold: {name} {100 * figure:.1f} of all persons after epoch {epoch}, each found by the run "
        f"that had not seen it; single folds {100 * min(spread):.1f} to {100 * max(spread):.1f}",
        flush=True,
    )
    return epoch, figures[epoch]
