"""The network that a search found, as files to go on with: its arch, its weights, and a recipe that trains it on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import yaml

from leanpose.errors import InputError
from leanpose.io.files import write_text
from leanpose.models.checkpoints import save_network
from leanpose.models.litepose_arch import LitePoseArch
from leanpose.search.judge import Judge
from leanpose.training.recipe import Recipe, read_recipe
from leanpose.weights.record import Weights

ARCH, WEIGHTS, RECIPE = "arch.json", "weights.safetensors", "recipe.yaml"
# Of training on, where the supernet has no recipe beside it.
TRAINING = {"epochs": 50, "batch_size": 16, "learning_rate": 1e-3, "warmup_steps": 100, "gradient_clip": 5.0}


def run_recipe(supernet: str | Path) -> Recipe | None:
    """Return the recipe of the training run that a supernet's file lies in, None where it lies in none."""
    for folder in (Path(supernet).parent, Path(supernet).parent.parent):  # best.safetensors, stage0/last.safetensors
        if (folder / "recipe.yaml").is_file():
            try:
                recipe = read_recipe(folder / "recipe.yaml")
            except InputError:  # a file of others
                continue
            if recipe.supernet is not None:
                return recipe
    return None


def export_found(judge: Judge, arch: LitePoseArch, folder: Path) -> None:
    """Write an arch as arch.json, its network, calibrated, as weights.safetensors, and recipe.yaml, which trains it on.

    The recipe is that of the supernet's run, where its file lies in one, for this one network; else it learns the
    images of the search.
    """
    network, record = judge.network(arch)
    write_text(folder / ARCH, json.dumps(arch.as_dict(), indent=1))
    save_network(folder / WEIGHTS, network, record)
    base = run_recipe(judge.task.supernet)
    values = _from_search(judge, record) if base is None else _from_run(base)
    values |= {
        "model": record.model,
        "out": str(folder / "run"),
        "start": str(folder / WEIGHTS),
        "input_size": list(record.input_size),
        "model_options": json.loads(json.dumps(record.model_options, default=dict)),
    }
    lines = [
        "# Trains the network on that leanpose search found, from the weights that it has in the supernet.",
        "# Settings are those of the supernet's run."
        if base is not None
        else "# It learns the images of the search and is validated on them: put your own sets there.",
        "#",
        f"#   leanpose train {folder / RECIPE}",
        "#",
    ]
    write_text(folder / RECIPE, "\n".join([*lines, yaml.safe_dump(values, sort_keys=False, default_flow_style=None)]))


def _from_run(recipe: Recipe) -> dict[str, Any]:
    """Return the keys of a supernet's recipe that are not the usual ones, without those that only a supernet has."""
    usual = {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(Recipe)
    }
    values = dataclasses.asdict(recipe)
    kept = {name for name in values if getattr(recipe, name) != usual[name]} - {"supernet", "status", "note"}
    return json.loads(json.dumps({name: value for name, value in values.items() if name in kept}))


def _from_search(judge: Judge, record: Weights) -> dict[str, Any]:
    data = {"annotations": judge.task.data, "images": judge.task.images}
    return {
        "train_data": [data],
        "val_data": data,
        "keypoint_set": record.keypoint_set.name,
        "views": "images",
        "padding": 1.0,
        "convention": record.convention,
        "codec": record.codec,
        "codec_options": dict(record.codec_options),
        **TRAINING,
    }
