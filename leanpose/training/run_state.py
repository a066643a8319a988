"""What a training run keeps on disk: its best and its last weights, its whole state, and whether it can go on."""

from __future__ import annotations

import dataclasses
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from leanpose.data.annotations import AnnotatedSet
from leanpose.errors import InputError
from leanpose.io.files import copy, write_atomically
from leanpose.models import create_model
from leanpose.models.checkpoints import load_state, save_network
from leanpose.training.module import PoseTraining
from leanpose.training.recipe import Recipe, read_recipe
from leanpose.weights.record import Measurement

# Keys of a recipe that may change when a run goes on: where it began, how long it goes, on which machine, what it says.
FREE_KEYS = {
    *("start", "out", "data_root", "epochs", "decay_epochs", "max_minutes", "patience", "validate_every", "flip_test"),
    *("accelerator", "precision", "channels_last", "compile", "threads", "data", "licence", "note", "status"),
}


class KeepBest(Callback):
    """Score each validation, print one line, and keep the weights: the latest as last.safetensors, those with the best
    first figure as best.safetensors; of the same figure, such as an AP of 0, those with the best PCK@0.1. Training ends
    after as many validations in a row without a better figure as the recipe has patience for.

    It stands before the moving average in the list of callbacks, so that it still sees the averaged weights.
    """

    def __init__(self, folder: Path, annotated: AnnotatedSet) -> None:
        self.folder = folder
        self.annotated = annotated
        self.best: tuple[float, ...] | None = None
        self.since_best = 0  # validations
        self._began = time.monotonic()

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, PoseTraining)
        recipe, (height, width) = module.recipe, module.record.input_size
        loader = trainer.train_dataloader
        assert loader is not None
        done = f", going on after epoch {trainer.current_epoch}" if trainer.current_epoch else ""
        parts = f" ({trainer.world_size} processes)" if trainer.world_size > 1 else ""
        what = "images" if recipe.views == "images" else "persons"
        _say(
            module,
            f"{self.folder.name}: {recipe.model} at {height}x{width}, {len(loader.dataset)} {what}, "
            f"{recipe.epochs or 'endless'} epochs of {len(loader)} steps, {trainer.precision}, on "
            f"{trainer.strategy.root_device}{parts}{done}",
        )
        self._stop_in_time(trainer, recipe)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, PoseTraining)
        recipe = module.recipe
        metrics, near = module.figures(self.annotated)
        module.log_dict(metrics | near)
        loss = module.mean_loss()
        minutes = (time.monotonic() - self._began) / 60
        shown = [*[*metrics.items()][:2], *near.items()]
        figures = [f"{name} {100 * value:.1f}" if value >= 0 else f"{name} -" for name, value in shown]
        figure = (next(iter(metrics.values())), *near.values())
        better = self.best is None or figure > self.best
        self.since_best = 0 if better else self.since_best + 1
        self._stop_in_time(trainer, recipe)
        epochs = "" if recipe.epochs is None else f"/{recipe.epochs}"
        _say(
            module,
            f"epoch {trainer.current_epoch + 1}{epochs}  {minutes:.1f} min  loss {loss:.6f}  "
            f"{'  '.join(figures)}{'  best' if better else ''}{'  patience ends' if trainer.should_stop else ''}",
        )
        if better:
            self.best = figure
        if trainer.is_global_zero:
            data = Path(recipe.val_data.annotations).name
            boxes = "none" if recipe.views else "annotated"
            record = recipe.weights(
                [Measurement(*figure, data, boxes, recipe.flip_test, recipe.input_size) for figure in metrics.items()]
            )
            last = self.folder / "last.safetensors"
            module.save(last, record)
            if better:
                copy(last, self.folder / "best.safetensors")

    def _stop_in_time(self, trainer: Trainer, recipe: Recipe) -> None:
        if recipe.patience is not None and self.since_best >= recipe.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "since_best": self.since_best, "folder": self.folder.name}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict.get("folder", self.folder.name) == self.folder.name:  # else another part of the run begins
            best = state_dict["best"]
            self.best = (best,) if isinstance(best, float) else best  # one number: of runs begun before PCK counted
            self.since_best = state_dict.get("since_best", 0)


def _say(module: LightningModule, line: str) -> None:
    """Print one line on the first process, above the progress bar if there is one."""
    module.print(line)
    sys.stdout.flush()


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, whole or not at all: a run that is killed while it writes one keeps the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        write_atomically(path, lambda temporary: super(WholeCheckpoints, self).save_checkpoint(checkpoint, temporary))


def check_resume(recipe: Recipe, out: Path) -> None:
    """Raise InputError where the run in a folder cannot go on with a recipe; nothing is written.

    That is where there is none, where a key outside FREE_KEYS differs, or where a state is damaged.
    """
    if not (out / "recipe.yaml").is_file():
        raise InputError(f"There is no run in {out} to go on with; check out, or leave resume=true out.")
    wanted = dataclasses.asdict(recipe)
    for key, theirs in dataclasses.asdict(read_recipe(out / "recipe.yaml")).items():
        if key not in FREE_KEYS and wanted[key] != theirs:
            raise InputError(
                f"The run in {out} has {key}: {theirs}, not {wanted[key]}; go on with its own recipe, or begin "
                f"a new run in another out, from its weights if you like (start={out}/stage0/best.safetensors)."
            )
    for path in out.glob("*/last.ckpt"):
        epochs_done(path)


def epochs_done(checkpoint: Path) -> int:
    """Return how many epochs a checkpoint has behind it.

    Raises:
        InputError: the file is absent or damaged.
    """
    return int(_read(checkpoint)["epoch"]) + 1


def _read(checkpoint: Path) -> dict[str, Any]:
    if not checkpoint.is_file():
        raise InputError(f"There is no {checkpoint}: it is written after each epoch, so wait for the first.")
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        return {key: state[key] for key in ("epoch", "state_dict")}
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
        raise InputError(
            f"{checkpoint} is damaged; put a copy in its place, or delete it to begin this part of the run anew."
        ) from None


def save_average(run: Path, path: Path) -> None:
    """Write the moving average in the last state of a run's first stage as .safetensors, kernels as float16: a place to
    go on from (recipe key `start`).

    Raises:
        InputError: there is no such run, or its state is absent or damaged.
    """
    recipe = read_recipe(run / "recipe.yaml")
    network = create_model(recipe.model, len(recipe.keypoints), **recipe.model_options)
    averaged = _read(run / "stage0" / "last.ckpt")["state_dict"]
    load_state(network, {name.removeprefix("network."): tensor for name, tensor in averaged.items()}, str(run))
    save_network(path, network, recipe.weights(), half=True)
