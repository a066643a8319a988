"""Samples a second of the data path alone and of whole training steps, on the same machine in one run.

    python benchmarks/training_throughput.py [--model lpn50] [--input-size 128x96] [--steps 30] [--threads 2]

The data path is all that happens before the network: fetching crops, augmentation, normalisation and target maps.
Crops are made of noise: time does not depend on what they show.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from leanpose.data.augment import Augmentation
from leanpose.data.loader import CropSet, DataSource, MixedSampler
from leanpose.geometry import input_to_heatmap
from leanpose.models import create_model
from leanpose.recipe import Recipe
from leanpose.structures import Sample
from leanpose.train import PoseTraining

AUGMENTATION = Augmentation(half_body=0.3, shift=0.02, brightness=0.2, contrast=0.2, saturation=0.2)


def samples(folder: Path, count: int = 256) -> list[Sample]:
    """Return persons with 17 random keypoints in one picture of noise."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lpn50")
    parser.add_argument("--input-size", default="128x96")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    height, width = map(int, options.input_size.split("x"))
    size = (height, width)
    nowhere = DataSource("", "")
    recipe = Recipe(options.model, "", [nowhere], nowhere, input_size=size, codec="dark", augmentation=AUGMENTATION)
    with TemporaryDirectory() as folder:
        crops = CropSet(samples(Path(folder)), size)
    sampler = MixedSampler([len(crops)], [1.0], (options.steps + 3) * options.batch_size)
    loader: DataLoader[Any] = DataLoader(crops, options.batch_size, sampler=sampler, collate_fn=lambda batch: batch)
    module = PoseTraining(recipe, create_model(options.model), total_steps=1000)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer = module.configure_optimizers()["optimizer"]

    def data_alone(batch: dict[str, torch.Tensor]) -> None:
        _, annotations = module.views(batch)
        heatmap_size = (height // 4, width // 4)
        points = input_to_heatmap(annotations["keypoints"], size, heatmap_size)
        module.objective.codec.encode(points, annotations["visibility"], heatmap_size)

    def whole_step(batch: dict[str, torch.Tensor]) -> None:
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()

    rates = {}
    for name, work in (("data path alone", data_alone), ("training step", whole_step)):
        for step, batch in enumerate(loader):
            if step == 3:  # warm
                began = time.perf_counter()
            work(batch)
        rates[name] = options.steps * options.batch_size / (time.perf_counter() - began)
        print(f"{name:>16}: {rates[name]:8.1f} samples a second")
    ratio = rates["data path alone"] / rates["training step"]
    print(f"{options.model} {height}x{width}, {options.threads} threads: the data path is {ratio:.1f} times as fast")


if __name__ == "__main__":
    main()
