"""Can every network learn? Train each on 16 persons until it knows them by heart, and measure AP on the same 16.

    python benchmarks/overfit.py --data coco/train.json --images coco/images

The real `leanpose train` runs, without augmentation, from random weights: a network, target or decoder that is wrong
stays below an AP of 95. Images with one annotated person are taken, so that LitePose has nobody to learn besides.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from leanpose.models.checkpoints import load_network
from leanpose.training.augment import NO_AUGMENTATION
from leanpose.training.crops import DataSource
from leanpose.training.loop import train
from leanpose.training.recipe import Recipe
from leanpose.weights.record import Weights

SYSTEMS = ("sfm", "lpn50", "hevitpose_t", "litepose_xs", "simple_baseline_50_rmpg", "rmpg_hierarchical")
WANTED = 0.95
SIDE = 128
BOTTOM_UP_FACTOR = 5  # on the steps: tags come after heatmaps
LABELLED, SMALLEST = 12, 96  # keypoints and box sides in pixels of the chosen persons


def choose(annotations: Path, persons: int, file: Path) -> None:
    """Write the first `persons` images of a COCO-style file with one large, well annotated person."""
    content = json.loads(annotations.read_text())
    of_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    chosen = [
        entries[0]
        for entries in of_image.values()
        if len(entries) == 1
        and sum(v > 0 for v in entries[0]["keypoints"][2::3]) >= LABELLED
        and min(entries[0]["bbox"][2:]) >= SMALLEST
    ][:persons]
    images = {annotation["image_id"] for annotation in chosen}
    content["annotations"] = chosen
    content["images"] = [image for image in content["images"] if image["id"] in images]
    file.write_text(json.dumps(content))


def overfit(name: str, source: DataSource, out: Path, args: argparse.Namespace) -> Weights:
    """Train one network on the set, and return the record of its best weights."""
    changes: dict[str, Any] = {}
    if name.startswith("litepose"):
        changes = {
            "views": "images", "codec": "associative_embedding", "convention": "classic", "padding": 1.0,
            "loss_weights": {"pull": 0.01, "push": 0.01}, "learning_rate": 4e-3, "foreground_weight": 20.0,
            "epochs": BOTTOM_UP_FACTOR * args.steps // args.steps_per_epoch,
        }  # fmt: skip
    elif name.startswith("vitpose"):
        changes = {"model_options": {"input_size": [SIDE, SIDE]}}
    values = {
        "model": name, "out": str(out), "train_data": [source], "val_data": source, "input_size": (SIDE, SIDE),
        "codec": "dark", "codec_options": {"sigma": 1.5, "blur": 5}, "epochs": args.steps // args.steps_per_epoch,
        "samples_per_epoch": args.persons * args.steps_per_epoch, "batch_size": args.persons, "learning_rate": 1e-3,
        "warmup_steps": 20, "gradient_clip": 5.0, "foreground_weight": 8.0, "ema_decay": 0.0, "flip_test": False,
        "augmentation": NO_AUGMENTATION, "accelerator": "auto",
    }  # fmt: skip
    if "views" in changes:
        values["codec_options"] = {}
    return load_network(train(Recipe(**(values | changes))))[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=SYSTEMS, help="networks; default: one of each system")
    parser.add_argument("--data", type=Path, required=True, help="COCO-style annotation file")
    parser.add_argument("--images", required=True, help="folder of its images")
    parser.add_argument("--persons", type=int, default=16)
    parser.add_argument("--steps", type=int, default=100, help="optimizer steps, each on all persons")
    parser.add_argument("--steps-per-epoch", type=int, default=25, help="AP is measured after each epoch")
    args = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "persons.json"
        choose(args.data, args.persons, file)
        for name in args.names:
            began = time.perf_counter()
            record = overfit(name, DataSource(str(file), args.images), Path(folder) / name, args)
            ap = next(measured.value for measured in record.metrics if measured.metric == "AP")
            seconds = time.perf_counter() - began
            lines.append(f"{name:<28}{100 * ap:5.1f}  {seconds:5.0f} s{'' if ap > WANTED else '  below 95'}")
    print(f"\n{'network':<28}   AP")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
