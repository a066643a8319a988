"""The recipe that fits a small set, a network and the time there is: every choice with its reason."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import yaml

from leanpose.errors import InputError
from leanpose.keypoint_sets import COCO, KeypointSet, without_partner
from leanpose.models import create_model
from leanpose.training.augment import NOISE
from leanpose.training.depths import head_parts
from leanpose.training.loop import precision_of
from leanpose.training.module import PoseTraining
from leanpose.training.recipe import recipe_of
from leanpose.weights.catalogue import find_weights, on_this_machine, read_record
from leanpose.weights.public import PUBLIC
from leanpose.weights.record import Weights

AUTO = ("rtmpose_s_26", "lpn50")  # the first of these that is here; the last comes with leanpose
FEW_PERSONS = 100  # with fewer, no part of them is large enough to measure on
FOLDS = 5
HEAD_EPOCHS, EPOCHS = 2, 10  # of the head alone, then of everything; each ends with an evaluation
SHARE_OF_TIME = 0.8  # for steps and evaluations; the rest is for starting, decoding and writing
PATIENCE = 4
RATES = {"simcc": (5e-4, 1e-4)}  # of the head alone and of everything, by codec
HEATMAP_RATES = (2e-3, 1e-3)  # of all others
LAYER_DECAY = 0.85
EVALUATION = 1.3  # cost of finding a person, in training steps of one
ENOUGH, AT_MOST = 280, 1000  # views of persons in a run, times the square root of the number of persons
SMALLER = (1.0, 0.75, 0.5)  # sizes of the input of networks with heatmaps, times that of the start
SMALLEST = 96  # pixels, of the short side of such an input
PEOPLE = {"left_shoulder", "right_shoulder", "left_hip", "right_hip"}  # keypoints by which a set shows people

Plan = dict[str, tuple[Any, str]]  # keys of a recipe, with value and reason; no reason where nothing was chosen


@dataclass(frozen=True)
class SmallSet:
    """What a plan asks of a set.

    Attributes:
        keypoint_set: its keypoints.
        persons: to train on; with few of them also those to measure on, by folds.
        held_out: persons of the validation set, 0 with folds.
        scenes: groups of images of which none may be parted.
    """

    keypoint_set: KeypointSet
    persons: int
    held_out: int
    scenes: int

    @property
    def folds(self) -> int | None:
        """How many parts are left out one after another; None: there is a validation set."""
        return None if self.held_out else min(FOLDS, self.scenes)


def choose_start(model: str) -> tuple[str, Weights]:
    """Return the weights to start from, a name or a file, and their record.

    Args:
        model: weights as `leanpose.weights.catalogue.find_weights` takes them; the name of one of RTMPose's networks
            stands for its weights with 26 keypoints. "auto": the first of AUTO that is on this machine.

    Raises:
        InputError: they do not find the keypoints of one person at a time.
        WeightsError: there are none.
    """
    start = on_this_machine(AUTO)[0] if model == "auto" else f"{model}_26" if f"{model}_26" in PUBLIC else model
    record = read_record(find_weights(start, ".safetensors"))
    if record.task != "top_down":
        raise InputError(f"{model} finds all persons at once: choose weights for one person, such as lpn50.")
    return start, record


def plan(data: SmallSet, start: str, record: Weights, minutes: float, seconds: Callable[[Plan], float]) -> Plan:
    """Choose the keys of a recipe, all but those that name files.

    Args:
        start, record: as `choose_start` gives them.
        minutes: that all runs may take together.
        seconds: what a training step takes for one person, by the plan so far; see `seconds_per_person`.
    """
    chosen = _network(data.keypoint_set, start, record)
    runs = (data.folds or 0) + 1
    available = 60 * minutes * SHARE_OF_TIME / runs
    evaluated = (HEAD_EPOCHS + EPOCHS) * EVALUATION * (data.held_out or data.persons / runs)
    step, views = seconds(chosen), 0.0
    fixed = record.codec == "simcc"  # whose layers know their places
    for factor in (one for one in SMALLER if one == 1 or (not fixed and one * min(record.input_size) >= SMALLEST)):
        views = available / (step * factor**2) - evaluated
        chosen |= _at_size(record, factor)
        if views >= ENOUGH * math.sqrt(data.persons):
            break
    made = f"as often as {f'{runs} runs' if runs > 1 else 'one run'} in {minutes:g} minutes on this machine can"
    return chosen | _length(data.persons, views, made) | _stages(data, record)


def _network(keypoint_set: KeypointSet, start: str, record: Weights) -> Plan:
    """Return the keys that come with the start, and how views of the keypoints may differ."""
    new = without_partner(record.keypoint_set, keypoint_set)
    joined = f"{len(keypoint_set) - len(new)} of {len(keypoint_set)} keypoints are joined by name"
    return {
        "model": (record.model, ""),
        "start": (start, f"{joined}; new: {', '.join(new)}" if new else joined),
        "input_size": ([*record.input_size], "as the start was trained"),
        "convention": (record.convention, ""),
        "padding": (record.padding, ""),
        "codec": (record.codec, ""),
        "codec_options": (dict(record.codec_options), ""),
        "model_options": (dict(record.model_options), ""),
        "augmentation": _augmentation(keypoint_set),
        "flip_test": (_mirrors(keypoint_set), "whether an evaluation averages with the mirrored image"),
    }


def _length(persons: int, views: float, made: str) -> Plan:
    """Return the keys that say how many views a run has.

    Args:
        views: that fit into the time.
        made: in words, how many that are.
    """
    enough, most = ENOUGH * math.sqrt(persons), AT_MOST * math.sqrt(persons)
    if views > most:
        made = "the most that is chosen for so few"
    elif views < enough:
        made += "; more would help (--minutes)"
    batch = 16 if persons < 400 else 32
    per_epoch = batch * max(2, round(min(views, most) / batch / (HEAD_EPOCHS + EPOCHS)))
    times = per_epoch * (HEAD_EPOCHS + EPOCHS) / persons
    return {
        "samples_per_epoch": (per_epoch, f"each person is seen {times:.0f} times in a run, {made}"),
        "batch_size": (batch, "small, so that few persons make many steps" if batch < 32 else ""),
    }


def _at_size(record: Weights, factor: float) -> Plan:
    """Return the keys that go with an input of a size in parts of the start's."""
    if factor == 1:
        return {}
    size = [16 * round(factor * side / 16) for side in record.input_size]
    options = dict(record.codec_options)
    if "sigma" in options:
        options["sigma"] = max(1.5, factor * options["sigma"])
    if "blur" in options:
        options["blur"] = 5
    return {
        "input_size": (size, "smaller than the start's: with that, there would be too few steps in this time"),
        "codec_options": (options, "narrower peaks on the smaller heatmaps"),
    }


def _stages(data: SmallSet, record: Weights) -> Plan:
    """Return the keys that say in which order and how fast it learns."""
    with torch.device("meta"):
        network = create_model(record.model, len(data.keypoint_set), **record.model_options)
    head = head_parts(network)
    body = [name for name, part in network.named_children() if name not in head and [*part.parameters()]]
    head_rate, rate = RATES.get(record.codec, HEATMAP_RATES)
    everything = {"epochs": EPOCHS, "learning_rate": rate, "layer_decay": LAYER_DECAY}
    ends = ""
    if not data.folds:
        everything["patience"] = PATIENCE
        ends = f"; it ends after {PATIENCE} evaluations without a better figure (patience)"
    return {
        "folds": (
            data.folds,
            f"{data.persons} persons are too few to part them once: each is measured by a run that did not see it",
        ),
        "stage_keys": (
            [{"freeze": body, "epochs": HEAD_EPOCHS, "learning_rate": head_rate}, everything],
            "first the head alone, which is new in part, so that it spoils nothing; then everything, the slower the "
            f"nearer to the images (layer_decay), since the first layers serve any image{ends}",
        ),
        "optimizer": ("adamw", ""),
        "weight_decay": (0.05, ""),
        "warmup_steps": (10, ""),
        "gradient_clip": (5.0, ""),
        "ema_decay": (0.99, "an average over about 100 steps, since there are few"),
        "foreground_weight": (0.0 if record.codec == "simcc" else 8.0, ""),
        "seed": (0, ""),
    }


def _mirrors(keypoint_set: KeypointSet) -> bool:
    """Whether it is known what a mirror does to the keypoints."""
    return bool((keypoint_set.flip_index != np.arange(len(keypoint_set))).any())


def _augmentation(keypoint_set: KeypointSet) -> tuple[dict[str, float], str]:
    people = PEOPLE.isdisjoint(without_partner(keypoint_set, COCO))
    mirrors = _mirrors(keypoint_set)
    values = {
        "flip": 0.5 if mirrors else 0.0,
        "scale": 0.25,
        "rotation": 30.0,
        "half_body": 0.1 if people else 0.0,
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.2,
    }
    flip = "left and right are known, so views are mirrored" if mirrors else "no pairs of left and right: no mirroring"
    return values, f"{flip}; {'half bodies, since these are people' if people else 'no half bodies: no people'}"


def seconds_per_person(so_far: Plan, batch: int = 16, steps: int = 2) -> float:
    """Return what a training step takes here for one person with COCO's keypoints, from a few with images of noise."""
    nothing = {"out": "", "train_data": [], "val_data": {"annotations": "", "images": ""}}
    recipe = recipe_of({key: value for key, (value, _) in so_far.items()} | nothing, "the plan")
    device = torch.device("cuda" if recipe.accelerator in ("auto", "cuda") and torch.cuda.is_available() else "cpu")
    network = create_model(recipe.model, len(recipe.keypoints), **recipe.model_options)
    module = PoseTraining(recipe, network, steps).to(device)
    optimizer = module.configure_optimizers()["optimizer"]
    side = max(recipe.input_size)
    views = {
        "crops": torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, device=device),
        "keypoints": torch.full((batch, len(recipe.keypoints), 2), side / 2, device=device),
        "weights": torch.ones(batch, len(recipe.keypoints), device=device),
        "noise": torch.rand(batch, NOISE, device=device),
    }
    bf16 = precision_of(recipe) == "bf16-mixed"
    began = 0.0
    for step in range(steps + 1):
        if step == 1:  # the first one sets things up
            began = time.monotonic()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = torch.stack([*module.losses(views).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # waits for a GPU
    return (time.monotonic() - began) / steps / batch


def as_yaml(head: str, values: Mapping[str, tuple[Any, str]]) -> str:
    """Return a recipe as YAML with the reasons as comments; keys without a value are left out.

    Args:
        head: what stands at its top.
    """
    lines = [f"# {line}".rstrip() for line in head.splitlines()]
    for key, (value, reason) in values.items():
        if value is None or value == {}:
            continue
        lines += textwrap.wrap(reason, 116, initial_indent="# ", subsequent_indent="# ")
        several = isinstance(value, list) and isinstance(value[0], dict)
        lines += [f"{key}:", *(f"  - {_flow(one)}" for one in value)] if several else [f"{key}: {_flow(value)}"]
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("...\n").strip()
