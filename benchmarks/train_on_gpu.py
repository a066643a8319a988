"""Train sfm, lpn50 and the person finder on a GPU that is there for minutes only.

    python benchmarks/train_on_gpu.py pack DATA PARTS [--mebibytes 55]       # tar files, where links are narrow
    for part in PARTS/*; do tar -xf $part -C THERE; done                     # on the machine with the GPU
    python benchmarks/train_on_gpu.py train THERE OUT [--minutes 4] [--recipes ...] [--set key=value ...]

DATA is the folder that benchmarks/complete_labels.py makes. Each recipe takes --minutes from reading its images to its
last evaluation: the first hundred steps are timed, then as many epochs are planned as fit, the last 40 % of them with a
falling learning rate. OUT gets RECIPE.safetensors for each; states and logs lie in OUT/runs. The recipes start from the
weights of this repository. --set changes keys of every recipe, for a dry run batch_size=8.
"""

from __future__ import annotations

import argparse
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from leanpose.training.loop import train
from leanpose.training.module import PoseTraining
from leanpose.training.recipe import read_recipe

ROOT = Path(__file__).parents[1]
RECIPES: dict[str, dict[str, object]] = {  # with larger steps on larger batches than one core likes
    "sfm_256x192_endless": {"batch_size": 128, "learning_rate": 0.002},
    "lpn50_256x192_cpu": {"start": "lpn50.coco_256x192", "batch_size": 128, "learning_rate": 0.002},
    "sfm_persons_256_endless": {"batch_size": 128, "learning_rate": 0.002},
}
MANY, FALLING = 1000, 400  # epochs before any are timed, and those of them with a falling rate
WARM, TIMED = 20, 100  # steps that are not timed, and steps that are
KEPT_BACK = 0.07  # of the time, for evaluations and for writing


class FitInto(Callback):
    """Plan as many epochs as fit before a deadline, once the steps are timed.

    Args:
        deadline: of `time.monotonic`, for the last step.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.began = 0.0

    def on_train_batch_end(self, trainer: Trainer, module: PoseTraining, *_: Any) -> None:  # type: ignore[override]
        if trainer.global_step not in (WARM, WARM + TIMED):
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if trainer.global_step == WARM:
            self.began = time.monotonic()
            return
        now = time.monotonic()
        steps = trainer.global_step + (self.deadline - now) / ((now - self.began) / TIMED)
        per_epoch = int(trainer.num_training_batches)
        epochs = max(trainer.current_epoch + 1, int(steps / per_epoch))
        trainer.fit_loop.max_epochs = trainer.check_val_every_n_epoch = epochs
        module.total_steps = epochs * per_epoch
        print(f"{1000 * (now - self.began) / TIMED:.0f} ms a step: {epochs} epochs", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    packing = actions.add_parser("pack")
    packing.add_argument("data", type=Path)
    packing.add_argument("parts", type=Path)
    packing.add_argument("--mebibytes", type=float, default=55)
    training = actions.add_parser("train")
    training.add_argument("data", type=Path)
    training.add_argument("out", type=Path)
    training.add_argument("--minutes", type=float, default=4)
    training.add_argument("--recipes", nargs="+", choices=RECIPES, default=[*RECIPES])
    training.add_argument("--set", nargs="+", default=[], metavar="key=value", dest="values")
    options = parser.parse_args()
    if options.action == "pack":
        pack(options.data, options.parts, int(options.mebibytes * 2**20))
        return
    for name in options.recipes:
        deadline = time.monotonic() + 60 * options.minutes * (1 - KEPT_BACK)
        values = RECIPES[name] | {
            "data_root": str(options.data), "out": str(options.out / "runs" / name), "schedule": "wsd",
            "epochs": MANY, "decay_epochs": FALLING, "validate_every": MANY, "warmup_steps": WARM + TIMED,
            "ema_decay": 0.998, "threads": 16,
        }  # fmt: skip
        words = [f"{key}={value}" for key, value in values.items()] + options.values
        best = train(read_recipe(ROOT / "recipes" / f"{name}.yaml", words), callbacks=[FitInto(deadline)])
        shutil.copy(best, options.out / f"{name}.safetensors")


def pack(data: Path, parts: Path, size: int) -> None:
    """Write a data root as tar files of at most `size` bytes of content each; links become what they point to."""
    parts.mkdir(parents=True, exist_ok=True)
    for number, files in enumerate(_split(sorted(_files(data)), size)):
        with tarfile.open(parts / f"{number}.tar", "w", dereference=True) as archive:
            for path in files:
                archive.add(path, path.relative_to(data))


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        yield from _files(path) if path.is_dir() else [path]


def _split(paths: list[Path], size: int) -> Iterator[list[Path]]:
    part: list[Path] = []
    filled = 0
    for path in paths:
        more = path.stat().st_size + 2 * tarfile.BLOCKSIZE
        if part and filled + more > size:
            yield part
            part, filled = [], 0
        part.append(path)
        filled += more
    yield part


if __name__ == "__main__":
    main()
