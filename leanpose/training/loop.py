"""Train a network from a recipe: one loop for all methods, on Lightning."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from leanpose.codecs import check_outputs, codec_of
from leanpose.data.annotations import AnnotatedSet, open_annotations, scored_set
from leanpose.errors import InputError, WeightsError, note
from leanpose.evaluation.finding import whole_images
from leanpose.io.files import copy, write_text
from leanpose.io.preflight import check_needs
from leanpose.keypoint_sets import without_partner
from leanpose.models import create_model
from leanpose.models.batch_norm import measure_batch_norm, unmeasured_norms
from leanpose.models.checkpoints import load_network, load_start
from leanpose.models.counts import count_parameters
from leanpose.models.litepose_supernet import LitePoseSupernet, reorder_channels
from leanpose.structures import ImageBoxes
from leanpose.training.crops import CropSet, MixedSampler, read_sources
from leanpose.training.module import DetectorTraining, PoseTraining, freeze
from leanpose.training.objectives import create_objective
from leanpose.training.recipe import Recipe
from leanpose.training.run_state import KeepBest, WholeCheckpoints, check_resume, epochs_done
from leanpose.training.supernet import SupernetTraining
from leanpose.training.teacher import Teacher
from leanpose.weights.catalogue import find_weights, read_record

QUIET = (  # warnings of Lightning, as regular expressions, that say nothing about a recipe
    "Checkpoint directory .* exists and is not empty",  # logs lie in it, or the run is resumed
    ".* does not have many workers",  # crops are in memory
    ".*LeafSpec.* is deprecated",
    "It is recommended to use `self.log",  # every process scores all of the validation set
    "The dirpath has changed",  # a decay goes on from the state of another folder
)

MEASURED = 512  # persons by whose views norms without statistics get theirs
BF16_UNITS = ("avx512_bf16", "amx_bf16", "arm_bf16")  # of processors, as torch names them


class _Part(NamedTuple):
    """What is trained in one go: a stage, or the decay of a run without an end."""

    recipe: Recipe
    folder: Path
    state: Path  # what it goes on from, if that is there
    seed: int


class _Data(NamedTuple):
    """Crops of the training sets with their lengths, and the validation set with what is predicted in it."""

    crops: CropSet
    lengths: list[int]
    annotated: AnnotatedSet
    images: list[ImageBoxes]


def train(recipe: Recipe, resume: bool = False, callbacks: Sequence[Callback] = ()) -> Path:
    """Run a recipe to its end.

    Ctrl-C leaves the state of the last whole epoch; `resume` goes on from there and gives what an unbroken run gives.
    Under torchrun every process takes its part of each batch. A run without an end (epochs null) that is resumed with
    decay_epochs lets its learning rate fall to zero in a folder of its own, decayN after N epochs, and keeps the state
    that it came from.

    Args:
        recipe: what to train and how.
        resume: go on with the run in recipe.out.
        callbacks: further ones of Lightning, for each stage.

    Returns:
        The file best.safetensors in recipe.out: the best epoch of the last stage.

    Raises:
        InputError: a value of the recipe or a file that cannot be used, or a run that cannot go on with this recipe;
            all before images are decoded. Later, a loss that is no number.
    """
    out = Path(recipe.out)
    if recipe.folds is not None:
        raise InputError("This recipe has folds, which leanpose.training.folds.train_folds runs; or leave them out.")
    if recipe.status == "untested":
        note("this recipe is untested: nobody has run it to its end.")
    if resume:
        check_resume(recipe, out)
    elif any(out.glob("stage*/last.ckpt")):
        raise InputError(f"{out} holds a run already; add resume=true to go on with it, or choose another out.")
    check_recipe(recipe)
    parts = _parts(recipe, out)
    sets = read_sources(recipe.sources(), recipe.keypoints, recipe.views)
    validation = recipe.validation()
    annotated = open_annotations(validation.annotations, validation.images, validation.category)
    annotated.check(scored_set(annotated, recipe.keypoints), "the recipe")
    annotated.samples()  # refuses a set without persons, which would choose no epoch
    if recipe.task == "detection":
        whole_images(annotated)  # refuses a set whose images do not name everybody
    images = annotated.images(None if recipe.views else "gt")
    samples = [sample for samples in sets for sample in samples]
    check_needs(
        packages=("tensorboard", "faster_coco_eval"),
        files=[sample.image_path for sample in samples] + [image.path for image in images],
    )
    crops = CropSet(samples, recipe.training_size, recipe.padding, recipe.convention, threads=recipe.threads)
    write_recipe(recipe, out)
    best = _start(recipe)
    teacher = _teacher(recipe)
    data = _Data(crops, [len(samples) for samples in sets], annotated, images)
    for part in parts:
        with _quiet():
            _run_part(part, best, teacher, data, callbacks)
        best = part.folder / "best.safetensors"
        if not best.is_file():
            raise InputError(f"{part.folder} ended before its first validation: give it more max_minutes.")
    assert best is not None
    if int(os.environ.get("RANK", 0)) == 0:
        copy(best, out / "best.safetensors")
    return out / "best.safetensors"


def write_recipe(recipe: Recipe, out: Path) -> None:
    """Write the recipe of a run into its folder, from where `check_resume` reads it."""
    values = json.loads(json.dumps(dataclasses.asdict(recipe)))
    write_text(out / "recipe.yaml", yaml.safe_dump(values, sort_keys=False))


def _parts(recipe: Recipe, out: Path) -> list[_Part]:
    """Return what is trained one after another."""
    if recipe.epochs is not None or not recipe.decay_epochs:
        stages = [(own, out / f"stage{i}", recipe.seed + i) for i, own in enumerate(recipe.stage_recipes)]
        return [_Part(own, folder, folder / "last.ckpt", seed) for own, folder, seed in stages]
    state = out / "stage0" / "last.ckpt"
    if not state.is_file():
        raise InputError(f"{out} has no state to decay from: leave decay_epochs out until one epoch is done.")
    done = epochs_done(state)
    folder = out / f"decay{done}"
    own = folder / "last.ckpt"
    end = done + recipe.decay_epochs
    part = dataclasses.replace(recipe, epochs=end, validate_every=min(recipe.validate_every, recipe.decay_epochs))
    return [_Part(part, folder, own if own.is_file() else state, recipe.seed)]


def check_recipe(recipe: Recipe) -> None:
    """Raise InputError or WeightsError for what would fail only after the images were decoded."""
    processes = int(os.environ.get("WORLD_SIZE", 1))
    for stage in recipe.stage_recipes:
        if stage.batch_size % processes:
            raise InputError(f"batch_size {stage.batch_size} must be a multiple of the {processes} processes.")
    if recipe.accelerator == "cuda" and not torch.cuda.is_available():
        raise InputError("This torch finds no CUDA device: use accelerator=cpu, or install a torch with CUDA.")
    codec = codec_of(recipe.weights())
    network = _network(recipe, _start(recipe)).eval()
    check_needs(places=(Path(recipe.out) / "best.safetensors",), megabytes=40e-6 * count_parameters(network))
    for stage in recipe.stage_recipes:
        create_objective(stage, getattr(network, "auxiliary", {}))  # refuses weights of losses that there are not
        freeze(network.requires_grad_(), stage.freeze)
    _teacher(recipe)
    with torch.inference_mode():
        for size in dict.fromkeys((recipe.input_size, recipe.training_size)):
            outputs = network(torch.zeros(1, 3, *size))  # refuses sides that do not suit its strides
            check_outputs(codec, outputs, recipe.model)


def _start(recipe: Recipe) -> Path | None:
    return find_weights(recipe.start, ".safetensors", input_size=recipe.input_size) if recipe.start else None


def _network(recipe: Recipe, start: Path | None) -> torch.nn.Module:
    network = create_model(recipe.model, len(recipe.keypoints), **recipe.model_options)
    if start is not None:
        load_start(network, start, recipe.weights())
        if isinstance(network, LitePoseSupernet) and _model_of(start) != recipe.model:
            reorder_channels(network)  # of a static network, whose channels come in any order
    return network


def _model_of(start: Path) -> str:
    try:
        return read_record(start).model
    except WeightsError:  # tensors alone will do
        return ""


def _teacher(recipe: Recipe) -> Teacher | None:
    if recipe.teacher is None:
        return None
    return Teacher(*load_network(find_weights(recipe.teacher, ".safetensors")), recipe.weights(), recipe.training_size)


def _run_part(
    part: _Part, start: Path | None, teacher: Teacher | None, data: _Data, callbacks: Sequence[Callback]
) -> None:
    recipe, folder, crops, images = part.recipe, part.folder, data.crops, data.images
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    seed_everything(part.seed, verbose=False)
    crops.seed = part.seed
    wanted = recipe.samples_per_epoch or sum(data.lengths)
    steps_per_epoch = max(1, wanted // recipe.batch_size)
    sampler = MixedSampler(
        data.lengths,
        [source.share for source in recipe.train_data],
        steps_per_epoch * recipe.batch_size,
        part.seed,
        rank,
        processes,
    )
    loader = DataLoader(crops, recipe.batch_size // processes, sampler=sampler, collate_fn=_as_it_is)
    validation: DataLoader[int] = DataLoader(range(len(images)), batch_size=None, collate_fn=_as_it_is)  # type: ignore[arg-type]
    total_steps = None if recipe.epochs is None else recipe.epochs * steps_per_epoch
    network = _network(recipe, start)
    if recipe.supernet is not None:
        module: PoseTraining = SupernetTraining(recipe, network, total_steps, images, crops)
    elif recipe.task == "detection":
        module = DetectorTraining(recipe, network, total_steps, whole_images(data.annotated))
    else:
        scored = scored_set(data.annotated, recipe.keypoints)
        module = PoseTraining(recipe, network, total_steps, images, teacher, scored)
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer = _trainer(recipe, folder, steps_per_epoch, [*_callbacks(recipe, folder, data.annotated), *callbacks])
        crops.to(trainer.strategy.root_device)
        if teacher is not None:
            teacher.to(trainer.strategy.root_device)
        if start is not None and start == _start(recipe) and not part.state.is_file():
            module.to(trainer.strategy.root_device)
            if unmeasured_norms(module.network):
                measure_batch_norm(module.network, _first_inputs(module, data))
            _say_start(start, module, data, rank)
        trainer.fit(module, loader, validation, ckpt_path=str(part.state) if part.state.is_file() else None)
    except SystemExit as error:  # Lightning turns Ctrl-C into an exit and switches further ones off
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, on_interrupt)
        kept = (
            "the last whole epoch is kept" if any(folder.glob("last.ckpt")) else "no epoch of this stage was complete"
        )
        raise KeyboardInterrupt(f"stopped; {kept}, add resume=true to the same command to go on") from None


def _first_inputs(module: PoseTraining, data: _Data) -> Iterator[torch.Tensor]:
    """Yield batches of what the first epoch shows, for statistics."""
    recipe, count = module.recipe, min(MEASURED, sum(data.lengths))
    draws = list(MixedSampler(data.lengths, [source.share for source in recipe.train_data], count, data.crops.seed))
    for first in range(0, count, recipe.batch_size):
        batch = data.crops.__getitems__(draws[first : first + recipe.batch_size])
        yield module.views({name: values.to(module.device) for name, values in batch.items()})[0]


def _say_start(start: Path, module: PoseTraining, data: _Data, rank: int) -> None:
    """Print which weights training starts from, whether they are of another input size, and their figure here."""
    name, figure = next(iter(module.measured(data.annotated).items()))
    (height, width), theirs = module.record.input_size, start.stem
    try:
        record = read_record(start)
    except WeightsError:  # tensors alone will do
        record = module.record
    if record.input_size != module.record.input_size:
        theirs += ", trained at {}x{}, here {height}x{width}".format(*record.input_size, height=height, width=width)
    if new := without_partner(record.keypoint_set, module.record.keypoint_set):
        theirs += f", without {', '.join(new)}"
    if rank == 0:
        print(f"start: {theirs}; {name} {100 * figure:.1f} before epoch 1", flush=True)


def _trainer(recipe: Recipe, folder: Path, steps_per_epoch: int, callbacks: list[Callback]) -> Trainer:
    processes, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return Trainer(
        accelerator=recipe.accelerator,
        devices=local,
        num_nodes=processes // local,
        strategy="ddp" if processes > 1 else "auto",
        precision=precision_of(recipe),
        max_epochs=recipe.epochs or -1,
        max_time=timedelta(minutes=recipe.max_minutes) if recipe.max_minutes else None,
        gradient_clip_val=recipe.gradient_clip,
        check_val_every_n_epoch=recipe.validate_every,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, steps_per_epoch),
        use_distributed_sampler=False,
        enable_progress_bar=sys.stdout.isatty(),
        enable_model_summary=False,
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        logger=[
            CSVLogger(folder, name="csv"),  # a folder per run: a resumed one would delete what is there
            TensorBoardLogger(folder, name=None, version="tensorboard"),
        ],
    )


def precision_of(recipe: Recipe) -> Any:
    """Return Lightning's name of a recipe's precision; "auto" is bf16 where the hardware multiplies it."""
    if recipe.precision != "auto":
        return recipe.precision
    if trains_on_cuda(recipe):
        multiplies = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # of other devices, such as MPS, none is asked for bf16
        able = torch.cpu.get_capabilities()
        multiplies = recipe.accelerator in ("auto", "cpu") and any(able.get(unit) for unit in BF16_UNITS)
    return "bf16-mixed" if multiplies else "32-true"


def trains_on_cuda(recipe: Recipe) -> bool:
    """Return whether a CUDA device of this machine trains the recipe."""
    return recipe.accelerator in ("auto", "cuda") and torch.cuda.is_available()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's tips and warnings off the terminal that say nothing about the user's recipe."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for words in QUIET:
            warnings.filterwarnings("ignore", words)
        yield


def _callbacks(recipe: Recipe, folder: Path, annotated: AnnotatedSet) -> list[Callback]:
    keep_last = ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    callbacks: list[Callback] = [KeepBest(folder, annotated)]
    if recipe.ema_decay > 0:
        callbacks.append(WeightAveraging(multi_avg_fn=moving_average(recipe.ema_decay)))
    return [*callbacks, keep_last]


def moving_average(decay: float) -> Callable[[Any, Any, torch.Tensor | int], None]:
    """Return the update of a moving average that is short at first: after n updates its decay is (1 + n) / (10 + n)."""

    def update(averaged: Any, current: Any, updates: torch.Tensor | int) -> None:
        n = float(updates)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, updates)

    return update


def _as_it_is(batch: Any) -> Any:
    """Collate function for batches that the set has already put together."""
    return batch
