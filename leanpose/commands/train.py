"""Train a network, or make the recipe for a set of one's own: verb `train`."""

from __future__ import annotations

import inspect
import shlex
from typing import Any

from leanpose.errors import InputError
from leanpose.training.folds import train_folds
from leanpose.training.loop import train, trains_on_cuda
from leanpose.training.memory import keep_freed_memory
from leanpose.training.new import new_recipe
from leanpose.training.recipe import Recipe, find_recipe, read_recipe


def train_recipe(
    *words: str,
    new: str | None = None,
    images: str | None = None,
    out: str | None = None,
    category: str | None = None,
    model: str | None = None,
    minutes: float | None = None,
) -> str:
    """Train a network from a recipe, `leanpose train RECIPE key=value ...`. Or make a recipe for a set of your own,
    `leanpose train --new EXPORT --images DIR`, that fits the set and this machine, and say what to type next.

    Args:
        words: YAML file, or the name of a recipe that comes with leanpose, such as lpn50_coco; then key=value
            for its keys, such as epochs=10 or augmentation.flip=0. resume=true goes on with the run in its `out`.
        new: what an annotation tool exported, a file or folder. A recipe for it is made, with its training and
            validation sets, and nothing is trained; the other options go with this one.
        images: folder of the images; without it the folder of the export.
        out: folder to make, for train.json, val.json and recipe.yaml; without it my.
        category: name or id of the category that is meant, where several have keypoints.
        model: weights to start from, such as rtmpose_s, lpn50 or a file; auto, or without it: the best that are on
            this machine.
        minutes: how long training may take here; without it 15.
    """
    options: dict[str, Any] = {"images": images, "out": out, "category": category, "model": model, "minutes": minutes}
    given = {name: value for name, value in options.items() if value is not None}
    if new is None:
        for name in given:
            raise InputError(f"--{name} goes with --new; keys of a recipe are given as key=value.")
        return _train(words)
    if words:
        raise InputError(f"--new makes a recipe and takes none: leave {' '.join(words)} out.")
    recipe = new_recipe(new, **given)
    return f"Next: leanpose train {shlex.quote(str(recipe))}"


def _train(words: tuple[str, ...]) -> str:
    if not words:
        raise InputError("Give a recipe, leanpose train RECIPE; or make one, leanpose train --new EXPORT --images DIR.")
    recipe, *changes = words
    resumes = [change.removeprefix("resume=").lower() for change in changes if change.startswith("resume=")]
    if not {"true", "false"}.issuperset(resumes):
        raise InputError(f"resume must be true or false, not '{resumes[-1]}'.")
    others = [change for change in changes if not change.startswith("resume=")]
    read = read_recipe(find_recipe(recipe), others)
    if not trains_on_cuda(read):  # where the crops leave this memory for the device's
        keep_freed_memory()
    best = (train if read.folds is None else train_folds)(read, resume=resumes[-1:] == ["true"])
    return f"The best weights are in {best}."


_KEYS = inspect.cleandoc(inspect.getdoc(Recipe) or "").partition("Attributes:\n")[2]
train_recipe.__doc__ = f"{train_recipe.__doc__}".replace(
    "type next.\n", f"type next.\n\n    Keys of a recipe:\n\n{_KEYS}\n", 1
)  # so that `leanpose train --help` lists them
