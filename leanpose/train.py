"""Train a network from a recipe: one loop for all methods, on Lightning."""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from leanpose.checkpoints import load_network, load_state, read_state, save_network
from leanpose.codecs import create_codec
from leanpose.data.loader import CropSet, MixedSampler, read_sources
from leanpose.errors import InputError
from leanpose.evaluate import PictureBoxes, annotated_boxes, check_truth, pictures_only, score
from leanpose.files import write_bytes, write_text
from leanpose.keypoint_sets import get_keypoint_set
from leanpose.models import create_model
from leanpose.models.counts import count_parameters
from leanpose.objectives import create_objective
from leanpose.pose_training import PoseTraining
from leanpose.preflight import check_needs
from leanpose.recipe import Recipe, find_recipe, read_recipe
from leanpose.runtime import top_down_heatmaps
from leanpose.weights import Weights, find_weights

QUIET = (  # warnings of Lightning, as regular expressions, that say nothing about a recipe
    "Checkpoint directory .* exists and is not empty",  # logs lie in it, or the run is resumed
    ".* does not have many workers",  # crops are in memory
    ".*LeafSpec.* is deprecated",
    "It is recommended to use `self.log",  # every process scores all of the validation set
)


class KeepBest(Callback):
    """Score each validation, print one line, and keep the weights with the best first figure as best.safetensors.

    It stands before the moving average in the list of callbacks, so that it still sees the averaged weights.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best = -1.0
        self._began = time.monotonic()

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, PoseTraining)
        recipe, (height, width) = module.recipe, module.record.input_size
        steps, loader = module.total_steps, trainer.train_dataloader
        assert loader is not None
        done = f", going on after epoch {trainer.current_epoch}" if trainer.current_epoch else ""
        parts = f" ({trainer.world_size} processes)" if trainer.world_size > 1 else ""
        what = "pictures" if recipe.views == "pictures" else "persons"
        _say(
            module,
            f"{self.folder.name}: {recipe.model} at {height}x{width}, {len(loader.dataset)} {what}, {recipe.epochs} "
            f"epochs of {steps // recipe.epochs} steps on {trainer.strategy.root_device}{parts}{done}",
        )

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, PoseTraining)
        recipe = module.recipe
        metrics = score(recipe.validation().annotations, module.results, module._predictor)
        module.log_dict(metrics)
        loss = module.mean_loss()
        minutes = (time.monotonic() - self._began) / 60
        figures = [f"{name} {100 * value:.1f}" for name, value in metrics.items()]
        figure = next(iter(metrics.values()))
        better = figure > self.best
        _say(
            module,
            f"epoch {trainer.current_epoch + 1}/{recipe.epochs}  {minutes:.1f} min  loss {loss:.6f}  "
            f"{'  '.join(figures[:2])}{'  best' if better else ''}",
        )
        if better:
            self.best = figure
        if better and trainer.is_global_zero:
            suffix = ", flip test" if recipe.flip_test else ""
            shown = "whole pictures" if recipe.views else "annotated boxes"
            key = f"{Path(recipe.val_data.annotations).name}, {shown}{suffix}"
            record = recipe.weights({f"{name} ({key})": value for name, value in metrics.items()})
            save_network(self.folder / "best.safetensors", module.network, record)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


def _say(module: LightningModule, line: str) -> None:
    """Print one line on the first process, above the progress bar if there is one."""
    module.print(line)
    sys.stdout.flush()


def train(recipe: Recipe, resume: bool = False) -> Path:
    """Run a recipe to its end.

    Ctrl-C leaves the state of the last whole epoch; `resume` goes on from there and gives what an unbroken run gives.
    Under torchrun every process takes its part of each batch.

    Args:
        recipe: what to train and how.
        resume: go on with the run in recipe.out.

    Returns:
        The file best.safetensors in recipe.out: the best epoch of the last stage.
    """
    out = Path(recipe.out)
    if not resume and any(out.glob("stage*/last.ckpt")):
        raise InputError(f"{out} holds a run already; add resume=true to go on with it, or choose another out.")
    _check(recipe)
    sets = read_sources(recipe.sources(), get_keypoint_set(recipe.keypoint_set), recipe.views)
    validation = recipe.validation()
    check_truth(validation.annotations, get_keypoint_set(recipe.keypoint_set), "the recipe")
    pictures = (pictures_only if recipe.views else annotated_boxes)(validation.annotations, validation.images)
    samples = [sample for samples in sets for sample in samples]
    check_needs(
        packages=("tensorboard", "faster_coco_eval"),
        files=[sample.image_path for sample in samples] + [picture.path for picture in pictures],
    )
    crops = CropSet(samples, recipe.training_size, recipe.padding, recipe.convention, threads=recipe.threads)
    write_text(
        out / "recipe.yaml",
        yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(recipe))), sort_keys=False),
    )
    best = _start(recipe)
    teacher = _teacher(recipe)
    for stage in range(recipe.stages):
        folder = out / f"stage{stage}"
        with _quiet():
            _run_stage(recipe, stage, folder, best, teacher, crops, [len(s) for s in sets], pictures)
        best = folder / "best.safetensors"
        if not best.is_file():
            raise InputError(f"{folder} ended before its first validation: give it more max_minutes.")
    assert best is not None
    if int(os.environ.get("RANK", 0)) == 0:
        write_bytes(out / "best.safetensors", best.read_bytes())
    return out / "best.safetensors"


def _check(recipe: Recipe) -> None:
    """Raise InputError or WeightsError for what would fail only after the pictures were decoded."""
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if recipe.batch_size % processes:
        raise InputError(f"batch_size {recipe.batch_size} must be a multiple of the {processes} processes.")
    if recipe.accelerator == "cuda" and not torch.cuda.is_available():
        raise InputError("This torch finds no CUDA device: use accelerator=cpu, or install a torch with CUDA.")
    create_codec(recipe.codec, **recipe.codec_options)
    network = _network(recipe, _start(recipe)).eval()
    check_needs(places=(Path(recipe.out) / "best.safetensors",), megabytes=40e-6 * count_parameters(network))
    if recipe.layer_decay != 1 and not hasattr(network, "depth_of"):
        raise InputError(f"'{recipe.model}' does not number its layers: leave layer_decay out.")
    objective = create_objective(recipe, network)
    _teacher(recipe)
    with torch.inference_mode():
        for size in (recipe.input_size, recipe.training_size):
            outputs = network(torch.zeros(1, 3, *size))  # refuses sides that do not suit its strides
            objective.check(outputs)


def _start(recipe: Recipe) -> Path | None:
    return find_weights(recipe.start, ".safetensors") if recipe.start else None


def _network(recipe: Recipe, start: Path | None) -> torch.nn.Module:
    network = create_model(recipe.model, len(get_keypoint_set(recipe.keypoint_set)), **recipe.model_options)
    if start is not None:
        load_state(network, read_state(start)[0], start.name)
    return network


def _teacher(recipe: Recipe) -> torch.nn.Module | None:
    """Return the network of recipe.teacher, which must draw such maps as the recipe's network learns."""
    if recipe.teacher is None:
        return None
    path = find_weights(recipe.teacher, ".safetensors")
    teacher, record = load_network(path)
    theirs, ours = _maps(record), _maps(recipe.weights())
    for key, value in ours.items():
        if theirs[key] != value:
            raise InputError(f"{path.name} cannot teach: its {key} is {theirs[key]}, not {value} as the recipe's.")
    with torch.inference_mode():
        top_down_heatmaps(teacher(torch.zeros(1, 3, *recipe.input_size)), path.name)  # refuses bottom-up ones
    return teacher


def _maps(record: Weights) -> dict[str, Any]:
    """Return what two networks must share for one to learn the other's heat maps of the same views."""
    keys = ("input_size", "mean", "std", "channel_order", "convention")
    sigma = create_codec(record.codec, **record.codec_options).sigma
    return {key: getattr(record, key) for key in keys} | {"keypoint set": record.keypoint_set.name, "sigma": sigma}


def train_recipe(recipe: str, *changes: str) -> str:
    """Train a network from a recipe.

    Args:
        recipe: YAML file, or the name of a recipe that comes with leanpose, such as lpn50_coco.
        changes: key=value for keys of the recipe, such as epochs=10 or augmentation.flip=0; resume=true goes on
            with the run in the recipe's `out`.
    """
    words = [change.removeprefix("resume=").lower() for change in changes if change.startswith("resume=")]
    if not {"true", "false"}.issuperset(words):
        raise InputError(f"resume must be true or false, not '{words[-1]}'.")
    others = [change for change in changes if not change.startswith("resume=")]
    best = train(read_recipe(find_recipe(recipe), others), resume=words[-1:] == ["true"])
    return f"The best weights are in {best}."


_KEYS = inspect.cleandoc(inspect.getdoc(Recipe) or "").partition("Attributes:\n")[2]
train_recipe.__doc__ = f"{train_recipe.__doc__}".replace(
    "from a recipe.\n", f"from a recipe.\n\n    Keys of a recipe:\n\n{_KEYS}\n", 1
)  # so that `leanpose train --help` lists them


def _run_stage(
    recipe: Recipe,
    stage: int,
    folder: Path,
    start: Path | None,
    teacher: torch.nn.Module | None,
    crops: CropSet,
    lengths: list[int],
    pictures: list[PictureBoxes],
) -> None:
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    seed = recipe.seed + stage
    seed_everything(seed, verbose=False)
    crops.seed = seed
    wanted = recipe.samples_per_epoch or sum(lengths)
    steps_per_epoch = max(1, wanted // recipe.batch_size)
    sampler = MixedSampler(
        lengths,
        [source.share for source in recipe.train_data],
        steps_per_epoch * recipe.batch_size,
        seed,
        rank,
        processes,
    )
    loader = DataLoader(crops, recipe.batch_size // processes, sampler=sampler, collate_fn=_as_it_is)
    validation: DataLoader[int] = DataLoader(range(len(pictures)), batch_size=None, collate_fn=_as_it_is)  # type: ignore[arg-type]
    module = PoseTraining(recipe, _network(recipe, start), recipe.epochs * steps_per_epoch, pictures, teacher)
    last = folder / "last.ckpt"
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer = _trainer(recipe, folder, steps_per_epoch)
        crops.to(trainer.strategy.root_device)
        if teacher is not None:
            teacher.to(trainer.strategy.root_device)
        trainer.fit(module, loader, validation, ckpt_path=str(last) if last.is_file() else None)
    except SystemExit as error:  # Lightning turns Ctrl-C into an exit and switches further ones off
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, on_interrupt)
        kept = "the last whole epoch is kept" if last.is_file() else "no epoch of this stage was complete"
        raise KeyboardInterrupt(f"stopped; {kept}, add resume=true to the same command to go on") from None


def _trainer(recipe: Recipe, folder: Path, steps_per_epoch: int) -> Trainer:
    processes, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return Trainer(
        accelerator=recipe.accelerator,
        devices=local,
        num_nodes=processes // local,
        strategy="ddp" if processes > 1 else "auto",
        precision=recipe.precision,
        max_epochs=recipe.epochs,
        max_time=timedelta(minutes=recipe.max_minutes) if recipe.max_minutes else None,
        gradient_clip_val=recipe.gradient_clip,
        check_val_every_n_epoch=recipe.validate_every,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, steps_per_epoch),
        use_distributed_sampler=False,
        enable_progress_bar=sys.stdout.isatty(),
        enable_model_summary=False,
        callbacks=_callbacks(recipe, folder),
        logger=[
            CSVLogger(folder, name="csv"),  # a folder a run: a resumed one would delete what is there
            TensorBoardLogger(folder, name=None, version="tensorboard"),
        ],
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's tips and warnings off the terminal that say nothing about the user's recipe."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for words in QUIET:
            warnings.filterwarnings("ignore", words)
        yield


def _callbacks(recipe: Recipe, folder: Path) -> list[Callback]:
    keep_last = ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    callbacks: list[Callback] = [KeepBest(folder)]
    if recipe.ema_decay > 0:
        callbacks.append(WeightAveraging(multi_avg_fn=_moving_average(recipe.ema_decay)))
    return [*callbacks, keep_last]


def _moving_average(decay: float) -> Callable[[Any, Any, torch.Tensor | int], None]:
    """Return the update of a moving average that is short at first: after n updates its decay is (1 + n) / (10 + n)."""

    def update(averaged: Any, current: Any, updates: torch.Tensor | int) -> None:
        n = float(updates)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, updates)

    return update


def _as_it_is(batch: Any) -> Any:
    """Collate function for batches that the set has already put together."""
    return batch
