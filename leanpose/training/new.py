"""A recipe for a set of one's own: the export of an annotation tool becomes train.json, val.json and recipe.yaml."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from leanpose.data.coco import CocoSet
from leanpose.data.completed import completed
from leanpose.data.formats import read_export
from leanpose.data.split import group_names, split
from leanpose.errors import InputError, note
from leanpose.io.files import write_text
from leanpose.io.preflight import check_needs
from leanpose.keypoint_sets import KEYPOINT_SETS
from leanpose.training.plan import FEW_PERSONS, Plan, SmallSet, as_yaml, choose_start, plan, seconds_per_person

MINUTES = 15.0
VALIDATION, MOST_IN_VALIDATION = 0.2, 500  # share of the persons, and how many at most


def new_recipe(
    export: str,
    images: str | None = None,
    out: str = "my",
    *,
    category: str | None = None,
    model: str = "auto",
    minutes: float = MINUTES,
    seed: int = 0,
) -> Path:
    """Make a folder with a recipe for an export and this machine, and the sets that it trains and measures on.

    Images that look nearly the same come into the same set. With few persons there is one set, for training in folds.

    Args:
        export: file or folder, as `leanpose.data.formats.read_export` takes it.
        images: folder of the images; None: the export, or the folder that it lies in.
        out: folder to make; train.json and recipe.yaml, and val.json unless there are folds.
        category: name or id of the one that is meant, where several have keypoints.
        model: as of `leanpose.training.plan.choose_start`.
        minutes: that training may take here.
        seed: of the split and the training.

    Returns:
        The recipe's file.

    Raises:
        InputError: `out` is there and not empty, or the export cannot be used; nothing is written then.
        WeightsError: there are no such weights to start from.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{out} is there already: choose another folder with --out, or remove it.")
    if not minutes > 0:
        raise InputError(f"minutes must be above 0, not {minutes:g}.")
    check_needs(packages=("tensorboard", "faster_coco_eval"), places=(folder / "recipe.yaml",))
    start, record = choose_start(model)
    image_folder = Path(images) if images else Path(export) if Path(export).is_dir() else Path(export).parent
    content = _with_persons(_completed(export, image_folder, category), export, image_folder)
    sets = _parts(content, export, image_folder, seed)
    train, *validation = (CocoSet(part, export, image_folder) for part in sets.values())
    data = SmallSet(
        train.keypoint_set,
        persons=len(train.samples()),
        held_out=len(validation[0].samples()) if validation else 0,
        scenes=0 if validation else len({*group_names(content, "scene", images=image_folder)}),
    )
    if data.folds == 1:
        raise InputError(f"{export} shows one scene, which cannot be parted to measure on: annotate further images.")
    chosen = plan(data, start, record, minutes, seconds_per_person)
    words = {
        "data": (f"{record.data}; then {Path(export).name}" if record.data else Path(export).name, ""),
        "note": (f"started from {start} ({record.licence})", ""),
    }
    recipe = folder / "recipe.yaml"
    head = f"{Path(export).name}: {data.persons} persons. Made by leanpose train --new; change what you like.\n\n"
    for name, part in sets.items():
        write_text(folder / name, json.dumps(part))
    files = _files(folder, image_folder, data)
    write_text(recipe, as_yaml(f"{head}  leanpose train {shlex.quote(str(recipe))}\n\n", chosen | files | words))
    return recipe


def _files(folder: Path, images: Path, data: SmallSet) -> Plan:
    """Return the keys of a recipe that name files."""
    known = KEYPOINT_SETS.get(data.keypoint_set.name) is data.keypoint_set
    train, val = ({"annotations": name, "images": str(images.absolute())} for name in ("train.json", "val.json"))
    return {
        "out": (str(folder.absolute() / "run"), ""),
        "data_root": (str(folder.absolute()), ""),
        "train_data": ([train], ""),
        "val_data": (train, "measures nothing that counts, since there are folds") if data.folds else (val, ""),
        "keypoint_set": (data.keypoint_set.name, "") if known else ("train.json", "as the file names them"),
    }


def _completed(export: str, images: Path, category: str | None) -> dict[str, Any]:
    """Return the COCO-style content of an export, and say what was guessed."""
    read = read_export(export, images, category)
    content, notes = completed(read.content)
    for line in (*read.notes, *notes):
        note(f"{export}: {line}")
    return content


def _with_persons(content: dict[str, Any], export: str, images: Path) -> dict[str, Any]:
    """Return the content without the images that show nobody to learn, which would be dealt into parts like others."""
    shown = {person.image_id for person in CocoSet(content, export, images).samples()}
    kept = content | {
        "images": [image for image in content["images"] if image["id"] in shown],
        "annotations": [one for one in content["annotations"] if one["image_id"] in shown],
    }
    if empty := len(content["images"]) - len(kept["images"]):
        note(f"{export}: {empty} images without a person with labelled keypoints are left out.")
    return kept


def _parts(content: dict[str, Any], export: str, images: Path, seed: int) -> dict[str, dict[str, Any]]:
    """Return what is written, by the names of the files: one set of few persons, else two."""
    persons = len(CocoSet(content, export, images).samples())
    if persons < FEW_PERSONS:
        return {"train.json": content}
    share = min(VALIDATION, MOST_IN_VALIDATION / persons)
    return split(content, {"train.json": 1 - share, "val.json": share}, "scene", seed, images=images)
