"""Train a network from a recipe: one loop for all methods, on Lightning."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from leanpose.checkpoints import load_state, read_state, save_network
from leanpose.codecs import create_codec
from leanpose.data.augment import augment
from leanpose.data.loader import CropSet, MixedSampler, read_sources
from leanpose.errors import InputError
from leanpose.evaluate import PictureBoxes, annotated_boxes, predict_picture, score
from leanpose.files import write_text
from leanpose.geometry import input_to_heatmap
from leanpose.keypoint_sets import get_keypoint_set
from leanpose.losses import heatmap_mse
from leanpose.models import create_model
from leanpose.predict import Predictor
from leanpose.recipe import Recipe, read_recipe
from leanpose.runtime import TorchEngine

Batch = dict[str, torch.Tensor]


class PoseTraining(LightningModule):
    """One stage of a recipe: the training step, the optimizer, and predictions for validation.

    Args:
        recipe: what to train and how.
        network: its network.
        total_steps: optimizer steps of the stage, for the schedule.
        pictures: what to predict in validation.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: torch.nn.Module,
        total_steps: int,
        pictures: Sequence[PictureBoxes] = (),
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.pictures = pictures
        if recipe.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network
        self.total_steps = total_steps
        self.record = recipe.weights()
        self.codec = create_codec(recipe.codec, **recipe.codec_options)
        self.results: list[dict[str, Any]] = []
        self._losses: list[torch.Tensor] = []
        self._forward = torch.compile(network) if recipe.compile else network

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        if self.recipe.freeze_batch_norm:
            for module in self.network.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def images_and_targets(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return normalised images (B, 3, h, w), keypoints (B, K, 2) in input pixels and visibility (B, K)."""
        record = self.record
        with torch.no_grad():
            images, keypoints, visibility = augment(
                batch["crops"],
                batch["keypoints"],
                batch["visibility"],
                batch["noise"],
                self.recipe.augmentation,
                record.input_size,
                record.keypoint_set,
                record.convention,
            )
            mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (record.mean, record.std))
            images = (images - mean) / std
        if self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, keypoints, visibility

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        images, keypoints, visibility = self.images_and_targets(batch)
        heatmaps = self._forward(images)["heatmaps"].float()  # (B, K, h / s, w / s)
        heatmap_size = (heatmaps.shape[2], heatmaps.shape[3])
        points = input_to_heatmap(keypoints, self.record.input_size, heatmap_size, self.record.convention)
        target, weights = self.codec.encode(points, visibility, heatmap_size)
        loss = heatmap_mse(heatmaps, target, weights, self.recipe.foreground_weight)
        self.log("loss", loss.detach(), prog_bar=True)
        self._losses.append(loss.detach())
        return loss

    def mean_loss(self) -> float:
        """Return the mean loss since the last call."""
        mean = torch.stack(self._losses).mean().item() if self._losses else math.nan
        self._losses.clear()
        return mean

    def on_validation_epoch_start(self) -> None:
        self.results = []
        engine = TorchEngine(self.network, self.record)
        self._predictor = Predictor(engine, flip_test=self.recipe.flip_test)

    def validation_step(self, picture: int, batch_index: int) -> None:
        self.results += predict_picture(self._predictor, self.pictures[picture])

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        kernels = [p for p in self.network.parameters() if p.ndim > 1]
        vectors = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [
            {"params": kernels, "weight_decay": recipe.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        if recipe.optimizer == "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, recipe.learning_rate, momentum=0.9)
        else:
            make = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
            optimizer = make(groups, recipe.learning_rate)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def learning_rate_factor(self, step: int) -> float:
        """Return the learning rate at an optimizer step as a share of its top."""
        recipe = self.recipe
        warmup = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
        if recipe.schedule == "cosine":
            return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.total_steps)))
        epoch = step * recipe.epochs // self.total_steps
        return warmup * 0.1 ** sum(epoch >= milestone for milestone in recipe.milestones)


class KeepBest(Callback):
    """Score each validation, print one line, and keep the weights of the best AP as best.safetensors.

    It stands before the moving average in the list of callbacks, so that it still sees the averaged weights.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best = -1.0
        self._began = time.monotonic()

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, PoseTraining)
        recipe = module.recipe
        metrics = score(recipe.validation().annotations, module.results, module._predictor)
        module.log_dict(metrics)
        if not trainer.is_global_zero:
            return
        minutes = (time.monotonic() - self._began) / 60
        better = metrics["AP"] > self.best
        print(
            f"epoch {trainer.current_epoch + 1}/{recipe.epochs}  {minutes:.1f} min  loss {module.mean_loss():.6f}  "
            f"AP {100 * metrics['AP']:.1f}  AP50 {100 * metrics['AP50']:.1f}{'  best' if better else ''}",
            flush=True,
        )
        if better:
            self.best = metrics["AP"]
            suffix = ", flip test" if recipe.flip_test else ""
            key = f"{Path(recipe.val_data.annotations).name}, annotated boxes{suffix}"
            record = recipe.weights({f"{name} ({key})": value for name, value in metrics.items()})
            save_network(self.folder / "best.safetensors", module.network, record)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


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
    sets = read_sources(recipe.sources(), get_keypoint_set(recipe.keypoint_set))
    validation = recipe.validation()
    pictures = annotated_boxes(validation.annotations, validation.images)
    samples = [sample for samples in sets for sample in samples]
    write_text(
        out / "recipe.yaml",
        yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(recipe))), sort_keys=False),
    )
    crops = CropSet(samples, recipe.input_size, recipe.padding, recipe.convention, threads=recipe.threads)
    best = Path(recipe.start) if recipe.start else None
    for stage in range(recipe.stages):
        folder = out / f"stage{stage}"
        _run_stage(recipe, stage, folder, best, crops, [len(s) for s in sets], pictures)
        best = folder / "best.safetensors"
    assert best is not None
    shutil.copyfile(best, out / "best.safetensors")
    return out / "best.safetensors"


def train_recipe(recipe: str, *changes: str) -> str:
    """Train a network from a recipe.

    Args:
        recipe: YAML file.
        changes: key=value for keys of the recipe, such as epochs=10 or augmentation.flip=0; resume=true goes on
            with the run in the recipe's `out`.
    """
    resume = "resume=true" in changes
    best = train(read_recipe(recipe, [c for c in changes if not c.startswith("resume=")]), resume)
    return f"The best weights are in {best}."


def _run_stage(
    recipe: Recipe,
    stage: int,
    folder: Path,
    start: Path | None,
    crops: CropSet,
    lengths: list[int],
    pictures: list[PictureBoxes],
) -> None:
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if recipe.batch_size % processes:
        raise InputError(f"batch_size {recipe.batch_size} must be a multiple of the {processes} processes.")
    seed = recipe.seed + stage
    seed_everything(seed, verbose=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
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

    network = create_model(recipe.model, len(get_keypoint_set(recipe.keypoint_set)), **recipe.model_options)
    if start is not None:
        load_state(network, read_state(start)[0], start.name)
    module = PoseTraining(recipe, network, recipe.epochs * steps_per_epoch, pictures)
    trainer = Trainer(
        accelerator=recipe.accelerator,
        devices=local,
        num_nodes=processes // local,
        strategy="ddp" if processes > 1 else "auto",
        precision=recipe.precision,  # type: ignore[arg-type]
        max_epochs=recipe.epochs,
        max_time={"seconds": round(recipe.max_minutes * 60)} if recipe.max_minutes else None,
        gradient_clip_val=recipe.gradient_clip,
        check_val_every_n_epoch=recipe.validate_every,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, steps_per_epoch),
        use_distributed_sampler=False,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        callbacks=_callbacks(recipe, folder),
        logger=[
            CSVLogger(folder, name=None, version="csv"),
            TensorBoardLogger(folder, name=None, version="tensorboard"),
        ],
    )
    last = folder / "last.ckpt"
    trainer.fit(module, loader, validation, ckpt_path=str(last) if last.is_file() else None)


def _callbacks(recipe: Recipe, folder: Path) -> list[Callback]:
    keep_last = ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    callbacks: list[Callback] = [KeepBest(folder)]
    if recipe.ema_decay > 0:
        callbacks.append(WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay)))
    return [*callbacks, keep_last]


def _as_it_is(batch: Any) -> Any:
    """Collate function for batches that the set has already put together."""
    return batch
