"""Samples a second of training in float32, channels-last and bf16, and the share of time that goes into data.

    python benchmarks/training_throughput.py [--model lpn50] [--input-size 128x96] [--steps 20] [--threads 2]

A step fetches a batch of crops, makes views and target maps of them (augmentation, normalisation, encoding), and trains
the network on them. The kinds of training take turns, so that a busy machine slows all; medians. Crops are made of
noise: time does not depend on what they show.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from leanpose.evaluation.timing import machine
from leanpose.models import create_model
from leanpose.structures import Sample
from leanpose.training.augment import Augmentation
from leanpose.training.crops import CropSet, DataSource, MixedSampler
from leanpose.training.module import PoseTraining
from leanpose.training.recipe import Recipe

AUGMENTATION = Augmentation(half_body=0.3, shift=0.02, brightness=0.2, contrast=0.2, saturation=0.2)
WARM_UP = 3
KINDS = {"float32": (False, False), "float32, channels-last": (True, False), "bf16, channels-last": (True, True)}


def samples(folder: Path, count: int = 256) -> list[Sample]:
    """Return persons with 17 random keypoints in one image of noise."""
    random = np.random.default_rng(0)
    path = str(folder / "noise.png")
    cv2.imwrite(path, random.integers(0, 256, (480, 640, 3), dtype=np.uint8))
    persons = []
    for _ in range(count):
        x, y, w, h = random.uniform((0, 0, 60, 120), (400, 200, 240, 280))
        points = random.uniform((x, y), (x + w, y + h), (17, 2)).astype(np.float32)
        box = np.array([x, y, x + w, y + h], dtype=np.float32)
        persons.append(Sample(path, 0, box, points, np.full(17, 2, dtype=np.int8)))
    return persons


class Kind:
    """One kind of training; `step` does one step and notes the seconds of its parts."""

    def __init__(self, recipe: Recipe, bf16: bool) -> None:
        self.size = recipe.input_size
        self.module = PoseTraining(recipe, create_model(recipe.model), total_steps=1000)
        self.module.log = lambda *_, **__: None  # type: ignore[method-assign]
        self.optimizer = self.module.configure_optimizers()["optimizer"]
        self.bf16 = bf16
        self.seconds: dict[str, list[float]] = {"fetch": [], "views and targets": [], "all": []}

    def step(self, batches: Any) -> None:
        began = time.perf_counter()
        batch = next(batches)
        fetched = time.perf_counter()
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if self.bf16 else nullcontext():
            loss = self.module.training_step(batch, 0)
        loss.backward()
        self.optimizer.step()
        ended = time.perf_counter()
        self._views_and_targets(batch)  # once more, alone, to know their time
        parts = fetched - began, time.perf_counter() - ended, ended - began
        for name, value in zip(self.seconds, parts, strict=True):
            self.seconds[name].append(value)

    def _views_and_targets(self, batch: dict[str, torch.Tensor]) -> None:
        _, annotations = self.module.views(batch)
        outputs = {"heatmaps": torch.empty(1, 1, self.size[0] // 4, self.size[1] // 4)}  # only their size counts
        self.module.objective.codec.encode(annotations["keypoints"], annotations["weights"], outputs, self.size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lpn50")
    parser.add_argument("--input-size", default="128x96")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    height, width = map(int, options.input_size.split("x"))
    size, nowhere = (height, width), DataSource("", "")
    kinds = {}
    for name, (channels_last, bf16) in KINDS.items():
        recipe = Recipe(
            options.model, "", [nowhere], nowhere,
            input_size=size, codec="dark", augmentation=AUGMENTATION, channels_last=channels_last,
        )  # fmt: skip
        kinds[name] = Kind(recipe, bf16)
    with TemporaryDirectory() as folder:
        crops = CropSet(samples(Path(folder)), size)
    steps = options.steps + WARM_UP
    sampler = MixedSampler([len(crops)], [1.0], len(kinds) * steps * options.batch_size)
    loader: DataLoader[Any] = DataLoader(crops, options.batch_size, sampler=sampler, collate_fn=lambda batch: batch)
    batches = iter(loader)
    for _ in range(steps):
        for kind in kinds.values():
            kind.step(batches)
    words = ", ".join(f"{name} {value}" for name, value in machine().items())
    print(f"{words}\n{options.model} {height}x{width}, batches of {options.batch_size}, {options.threads} threads")
    for name, kind in kinds.items():
        fetch, views, whole = (statistics.median(values[WARM_UP:]) for values in kind.seconds.values())
        rate, waiting, preparing = options.batch_size / whole, 100 * fetch / whole, 100 * views / whole
        print(
            f"{name:>24}: {rate:6.1f} samples per second; {waiting:.1f} % of the time waiting for crops, "
            f"{preparing:.1f} % for views and targets"
        )


if __name__ == "__main__":
    main()
