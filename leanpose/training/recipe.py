"""Recipes: one flat YAML file a training run, checked key by key."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from leanpose.codecs import CODECS
from leanpose.data.annotations import open_annotations
from leanpose.data.scenes import Views
from leanpose.errors import InputError, suggest
from leanpose.geometry import Convention, Size
from leanpose.keypoint_sets import KEYPOINT_SETS, KeypointSet, get_keypoint_set
from leanpose.models.litepose_arch import LitePoseArch, SearchSpace
from leanpose.training.augment import Augmentation
from leanpose.training.crops import DataSource
from leanpose.weights.record import Measurement, Task, Weights

SUPERNET = "litepose_supernet"
PROPOSAL_SCALES = (1.0, 0.5)  # of networks of keypoints that propose boxes; half the size finds large persons better
DETECTOR_SCALES = (1.0, 0.75)  # of networks that find boxes alone

STAGE_KEYS = {  # which may differ from stage to stage
    *("epochs", "samples_per_epoch", "batch_size", "validate_every", "max_minutes", "patience", "freeze"),
    *("optimizer", "learning_rate", "layer_decay", "weight_decay", "schedule", "milestones", "decay_epochs"),
    *("warmup_steps", "gradient_clip", "ema_decay", "freeze_batch_norm"),
    *("foreground_weight", "absent_weight", "loss_weights"),
}


@dataclass(frozen=True)
class Supernet:
    """How the networks inside a supernet are trained: at each step every process draws one, and an input size.

    Attributes:
        input_sizes: sides of the square views, multiples of 64; annotated persons are drawn at the size of the step.
        multipliers: factors on each of the supernet's widths, see leanpose.models.litepose_arch.SearchSpace.
        distillation: weight of the squared error to the heatmaps that the whole supernet has of the same views
            (in-place distillation, the loss "widest"); 0: none, as in the published training.
    """

    input_sizes: list[int] = field(default_factory=lambda: [256, 320, 384, 448, 512])
    multipliers: list[float] = field(default_factory=lambda: [1.0, 0.75, 0.5, 0.25])
    distillation: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """All that defines a training run.

    Attributes:
        model: name of the network.
        out: folder for checkpoints, logs and best.safetensors.
        data_root: folder that the paths of train_data and val_data start from.
        train_data: annotated sets to train on, with the share of each.
        val_data: set whose main figure, AP or MPII's PCKh@0.5, chooses the best epoch; it must have the wanted
            keypoint set.
        keypoint_set: "coco", "crowdpose", "mpii", "lsp" or "halpe26", or an annotation file whose category (that of
            val_data, where several have keypoints) names the keypoints; those of other sets are carried over by name.
        input_size: height and width of the network input in pixels.
        views: null trains on one person per crop. For networks that find everybody: "images" shows the center square
            of each image, "persons" the surroundings of each person; all persons in view are learned.
        view_size: height and width of what is shown in training; null: input_size.
        padding: factor on the person box, or with views "images" on the square over the short side.
        convention: "udp" or "classic", see leanpose.geometry.
        codec, codec_options: heatmap representation and its parameters.
        model_options: further constructor arguments of the network.
        supernet: for litepose_supernet, how its networks are drawn; null trains it as a whole. Evaluated and kept is
            the whole of it, at input_size, with statistics of batch norms of its own.
        start: .safetensors file to start from, or a name such as "lpn50", for which weights of the recipe's input_size
            come first; null trains from scratch. Public weights of RTMPose (rtmpose_s_26) and their .onnx files will do
            too. Of other keypoints, those of the same name keep their rows of the last layer. Which weights they are
            and their figure stand before the first epoch.
        teacher: the same of a trained network whose findings are learned beside the annotations, also where nothing is
            annotated (distillation, arXiv 1811.05419); null: none. It sees the same views; with the input size,
            convention and codec of the recipe its heatmaps or vectors are learned, else the keypoints that it finds,
            each by its score. Keypoints are joined by name. loss_weights.teacher, 1 unless given, says how much it
            counts.
        stages: runs one after another, each starting from the best of the one before (LPN's iterative training).
        stage_keys: keys that differ from stage to stage, one mapping for each, such as
            [{freeze: [backbone], epochs: 5}, {epochs: 20, learning_rate: 0.0001}]; there are as many stages then.
        epochs: of each stage; null, with schedule "wsd": without an end, until Ctrl-C.
        samples_per_epoch: persons per epoch; null: as many as there are.
        batch_size: persons per step, of all processes together.
        optimizer: "adam", "adamw", "muon" (see `leanpose.training.muon`) or "sgd" (momentum 0.9).
        learning_rate: at the top of the schedule.
        layer_decay: factor on the learning rate for each step in depth from the head, which learns at the full rate,
            towards the images: ViTPose has a step for each block, all others have twelve, of as many layers each; with
            0.85 the first layers learn at a seventh of the rate. 1: all learn alike.
        weight_decay: on matrices and kernels only.
        schedule: "cosine" to zero; "step": times 0.1 at each milestone; or "wsd" (warm-up, stable, decay;
            arXiv 2404.06395): constant, and over the last decay_epochs in a straight line to zero.
        milestones: epochs, for "step".
        decay_epochs: for "wsd". Where epochs is null, `resume=true decay_epochs=4` makes weights out of the run's last
            state in a folder of their own; the run can go on from the same state afterwards.
        warmup_steps: steps from 0 to the full learning rate.
        gradient_clip: largest norm of the gradient; null: none.
        ema_decay: decay of the moving average of the weights, which is what gets evaluated and kept; 0: none. After n
            steps it is at most (1 + n) / (10 + n), so that short runs are not held back by their start.
        foreground_weight: extra weight of the squared error on keypoints, see leanpose.codecs.losses.
        absent_weight: how much it counts, against a keypoint in view, that the heatmap stays empty of one that is known
            to lie outside the view or to be absent (`keypoint_weights` below 0); 0: such maps may show anything.
        loss_weights: of the parts of the loss, by name, where they differ: of bottom-up training from
            leanpose.training.objectives, of training-only heatmaps ("heatmaps_first" of sfm) from the network's.
        freeze_batch_norm: keep normalisation statistics as they are in the start file.
        freeze: parts of the network that stay as they are in the start file, such as [backbone].
        precision: Lightning's name, "32-true", "bf16-mixed", "16-mixed"; "auto": bf16-mixed where the processor or
            GPU multiplies bf16 itself, else 32-true. Elsewhere bf16 is emulated and many times slower.
        channels_last: memory layout of the network; faster on most CPUs and GPUs.
        compile: use torch.compile.
        augmentation: how strongly training views differ.
        validate_every: epochs between evaluations.
        flip_test: average with the mirrored crop when evaluating.
        seed: of initialisation, order and augmentation.
        accelerator: "auto", "cpu", "cuda" or "mps".
        threads: images decoded at once when crops are made.
        max_minutes: stop a stage after this time; null: no limit.
        patience: evaluations without a better figure after which a stage ends; null: none. Of the same figure, such as
            an AP of 0, a better PCK@0.1 is better.
        folds: for sets of few persons: parts of the only training set, images of one scene together. As many runs leave
            one part out each, the figures are of all persons, each found by the run that did not see it, and the
            weights come from a last run on everything, as long as was best for the parts. val_data then serves
            nothing but a figure that this last run prints. Not with max_minutes. null: one run.
        data, licence, note: words for the weights' record.
        status: "run", or "untested" for a recipe that nobody has run to its end; null: not said.
    """

    model: str
    out: str
    train_data: list[DataSource]
    val_data: DataSource
    data_root: str = "."
    keypoint_set: str = "coco"
    input_size: tuple[int, int] = (256, 192)
    views: Views | None = None
    view_size: tuple[int, int] | None = None
    padding: float = 1.25
    convention: Convention = "udp"
    codec: str = "udp"
    codec_options: dict[str, Any] = field(default_factory=dict)
    model_options: dict[str, Any] = field(default_factory=dict)
    supernet: Supernet | None = None
    start: str | None = None
    teacher: str | None = None
    stages: int = 1
    stage_keys: list[dict[str, Any]] = field(default_factory=list)
    epochs: int | None = 140
    samples_per_epoch: int | None = None
    batch_size: int = 32
    optimizer: Literal["adam", "adamw", "muon", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    layer_decay: float = 1.0
    weight_decay: float = 0.0
    schedule: Literal["cosine", "step", "wsd"] = "cosine"
    milestones: list[int] = field(default_factory=list)
    decay_epochs: int = 0
    warmup_steps: int = 0
    gradient_clip: float | None = None
    ema_decay: float = 0.999
    foreground_weight: float = 0.0
    absent_weight: float = 0.0
    loss_weights: dict[str, float] = field(default_factory=dict)
    freeze_batch_norm: bool = False
    freeze: list[str] = field(default_factory=list)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    channels_last: bool = True
    compile: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)
    validate_every: int = 1
    flip_test: bool = True
    seed: int = 0
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int = 2
    max_minutes: float | None = None
    patience: int | None = None
    folds: int | None = None
    data: str = ""
    licence: str = ""
    note: str = ""
    status: Literal["run", "untested"] | None = None

    def __post_init__(self) -> None:
        for name in ("stages", "epochs", "batch_size", "validate_every", "threads", "samples_per_epoch", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("seed", "warmup_steps", "decay_epochs", "weight_decay", "foreground_weight", "absent_weight"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must be at least 0, not {getattr(self, name)}.")
        for name in ("learning_rate", "padding", "gradient_clip", "max_minutes"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, not {getattr(self, name)}.")
        if self.epochs is not None and self.validate_every > self.epochs:
            raise InputError(
                f"validate_every must be at most the number of epochs, {self.epochs}, not {self.validate_every}: "
                "the best epoch is chosen by validation."
            )
        if self.folds is not None and not (self.folds > 1 and len(self.train_data) == 1 and self.epochs):
            raise InputError("folds must be 2 or more, of one training set, with a number of epochs; or leave it out.")
        if self.folds is not None and self.max_minutes is not None:
            raise InputError("All folds run for as many epochs: leave max_minutes out, or folds.")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay must be at least 0 and below 1, not {self.ema_decay}.")
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"layer_decay must be above 0 and at most 1, not {self.layer_decay}.")
        self._check_schedule()
        codec = CODECS.get(self.codec)
        if codec is not None and not (hasattr(codec, "encode") or hasattr(codec, "encode_maps")):
            raise InputError(f"The codec {self.codec} only reads networks that others trained: give one with targets.")
        if self.views is not None and self.task == "top_down":
            raise InputError(
                f"Views of '{self.views}' need the codec associative_embedding or center_box, not '{self.codec}'."
            )
        if self.views is not None and self.convention != "classic":
            raise InputError(f"Views of '{self.views}' need the convention classic, not '{self.convention}'.")
        height, width = self.input_size
        if self.views is not None and (height != width or height % 64):
            raise InputError(
                f"Views of '{self.views}' need an input_size of equal sides, multiples of 64, not {height}x{width}: "
                "it is the short side of a whole image."
            )
        if self.views is not None and self.teacher is not None:
            raise InputError("A teacher shows the keypoints of one person per crop: leave it out, or leave views out.")
        if self.views is None and self.task != "top_down":
            raise InputError(f"The codec {self.codec} learns all persons in view: give views, such as persons.")
        if self.supernet is not None:
            self._check_supernet()
        if self.stage_keys:
            self._check_stage_keys()

    def _check_supernet(self) -> None:
        assert self.supernet is not None
        if self.model != SUPERNET:
            raise InputError(f"The key supernet needs the model {SUPERNET}, not '{self.model}'.")
        if self.views is None:
            raise InputError("The key supernet needs views, such as images: its networks find all persons.")
        if self.view_size is not None:
            raise InputError("Views of a supernet have its input_sizes: leave view_size out.")
        if self.compile:
            raise InputError("A supernet draws another network at each step: leave compile out.")
        if not 0 <= self.supernet.distillation < math.inf:
            raise InputError(f"distillation must be at least 0, not {self.supernet.distillation}.")
        _ = self.search_space  # refuses what it cannot be

    def _check_stage_keys(self) -> None:
        if self.stages not in (1, len(self.stage_keys)):
            raise InputError(f"stage_keys has {len(self.stage_keys)} stages, not {self.stages}: leave stages out.")
        for keys in self.stage_keys:
            for key in keys.keys() - STAGE_KEYS:
                raise InputError(f"stage_keys: '{key}' cannot differ by stage.{suggest(key, STAGE_KEYS)}")
        if any(recipe.epochs is None for recipe in (self, *self.stage_recipes)):
            raise InputError("Training without an end has one stage: leave stage_keys out, or give epochs.")

    def _check_schedule(self) -> None:
        if self.schedule == "step" and not self.milestones:
            raise InputError("The schedule 'step' needs milestones, for example milestones=[90,120].")
        if self.schedule != "wsd" and (self.epochs is None or self.decay_epochs):
            raise InputError("Training without an end (epochs=null) and decay_epochs need schedule=wsd.")
        if self.epochs is None and self.stages > 1:
            raise InputError("Training without an end has one stage: leave stages out, or give epochs.")
        if self.epochs is not None and self.decay_epochs > self.epochs:
            raise InputError(f"decay_epochs must be at most epochs, {self.epochs}, not {self.decay_epochs}.")

    @functools.cached_property
    def stage_recipes(self) -> list[Recipe]:
        """What each stage does: this recipe with the stage's own keys."""
        if not self.stage_keys:
            return [self] * self.stages
        common = dataclasses.asdict(self) | {"stage_keys": [], "stages": len(self.stage_keys)}
        return [recipe_of(common | keys, "stage_keys") for keys in self.stage_keys]

    @property
    def keypoints(self) -> KeypointSet:
        """The keypoint set, built-in or named by the categories of a file."""
        path = Path(self.data_root) / self.keypoint_set
        if self.keypoint_set in KEYPOINT_SETS or not (path.suffix or path.is_dir()):
            return get_keypoint_set(self.keypoint_set)
        return _keypoints_of_file(str(path), self.val_data.category)

    @property
    def task(self) -> Task:
        """What the codec finds."""
        if self.codec not in CODECS:
            raise InputError(f"There is no codec '{self.codec}'.{suggest(self.codec, CODECS)}")
        return CODECS[self.codec].task

    @property
    def search_space(self) -> SearchSpace:
        """The networks that a supernet draws from."""
        assert self.supernet is not None
        widest = LitePoseArch.of(self.model_options.get("arch", "prune_l"))
        return SearchSpace(widest, tuple(self.supernet.multipliers), tuple(self.supernet.input_sizes))

    @property
    def training_size(self) -> Size:
        """Height and width of what is shown in training, the largest if they vary."""
        if self.supernet is not None:
            side = max(self.supernet.input_sizes)
            return side, side
        return self.view_size or self.input_size

    def sources(self) -> list[DataSource]:
        """Return the training sets with paths that start from data_root."""
        return [self._located(source) for source in self.train_data]

    def validation(self) -> DataSource:
        """Return the validation set with paths that start from data_root."""
        return self._located(self.val_data)

    def _located(self, source: DataSource) -> DataSource:
        root = Path(self.data_root)
        return dataclasses.replace(source, annotations=str(root / source.annotations), images=str(root / source.images))

    def weights(self, metrics: Sequence[Measurement] = ()) -> Weights:
        """Return the record of what this recipe trains."""
        height, width = self.input_size
        has_boxes = self.model_options.get("person_head", False)
        scales = PROPOSAL_SCALES if has_boxes else DETECTOR_SCALES if self.task == "detection" else (1.0,)
        return Weights(
            name=f"{self.model}.{self.keypoints.name}_{height}x{width}",
            model=self.model,
            input_size=self.input_size,
            keypoint_set=self.keypoints,
            task=self.task,
            padding=self.padding,
            convention=self.convention,
            codec=self.codec,
            codec_options=self.codec_options,
            box_codec="center_box" if has_boxes else None,
            box_scales=scales,
            flip_shift=self.convention == "classic" and self.views is None,
            model_options=self.model_options,
            licence=self.licence,
            data=self.data,
            recipe=f"leanpose train, seed {self.seed}, {self.epochs or 'endless'} epochs, {self.stages} stages",
            metrics=tuple(metrics),
            note=self.note,
        )


def find_recipe(recipe: str) -> Path:
    """Return the file of a recipe.

    Args:
        recipe: path of a YAML file, or the name of a recipe that comes with leanpose, such as "lpn50_coco".

    Raises:
        InputError: there is no recipe of this name; the nearest is suggested.
    """
    path = Path(recipe)
    if path.is_file() or path.suffix or path.name != recipe:
        return path
    package = Path(__file__).parents[1]
    folder = package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"  # else a checkout
    shipped = {file.stem: file for file in folder.glob("*.yaml")}
    if recipe not in shipped:
        raise InputError(f"There is no recipe '{recipe}'.{suggest(recipe, shipped)}")
    return shipped[recipe]


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe file.

    Args:
        path: YAML file whose keys are the attributes of Recipe.
        changes: "key=value" words that replace keys of the file; a dot reaches into a key ("augmentation.flip=0").

    Raises:
        InputError: the file is missing or no YAML mapping, a key is unknown (the nearest is suggested), a needed key is
            absent, or a value does not fit.
    """
    try:
        values = yaml.safe_load(Path(path).read_bytes())  # in any Unicode encoding
    except FileNotFoundError:
        raise InputError(f"There is no recipe {path}; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML ({_one_line(error)}).") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} is no recipe: it must hold key: value lines.")
    for change in changes:
        _apply(values, change)
    _check_keys(values, Recipe, "A recipe")
    if isinstance(values.get("augmentation"), dict):
        _check_keys(values["augmentation"], Augmentation, "The augmentation")
    if isinstance(values.get("supernet"), dict):
        _check_keys(values["supernet"], Supernet, "The key supernet")
    train_data = values.get("train_data")
    for source in [*(train_data if isinstance(train_data, list) else []), values.get("val_data")]:
        if isinstance(source, dict):
            _check_keys(source, DataSource, "A data set")
    return recipe_of(values, str(path))


def recipe_of(values: dict[str, Any], where: str) -> Recipe:
    """Return the recipe of some values; one of a wrong type raises InputError."""
    parser = _parser()
    try:
        return parser.instantiate(parser.parse_object({"recipe": values})).recipe
    except ArgumentError as error:
        raise InputError(f"{where}: {_reason(error)}.") from None


@functools.cache
def _keypoints_of_file(path: str, category: str | None) -> KeypointSet:
    """Return the keypoint set that an annotation file names, of one of its categories."""
    return open_annotations(path, None, category).keypoint_set


@functools.cache
def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe, "recipe")
    return parser


def _check_keys(values: dict[Any, Any], kind: type, name: str) -> None:
    """Refuse keys that are no fields of a dataclass, and empty values where its field may not be None."""
    known = {f.name: str(f.type) for f in dataclasses.fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{name} has no key '{key}'.{suggest(str(key), known)}")
        if value is None and "None" not in known[key]:
            raise InputError(f"{name} needs a value for '{key}', or no such line.")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _reason(error: ArgumentError) -> str:
    """Put an error of the parser into the words of a recipe."""
    message = _one_line(error).replace("recipe.", "").replace("typing.", "").rstrip(".")
    message = re.sub(r"<class '(\w+)'>", r"\1", message)
    message = re.sub(r"Literal\[(.*?)\]", r"one of \1", message)
    union = r'Parser key "([\w.]+)": Does not validate .*Subtypes: \[(.*), NoneType\] .*Given value: (.*)'
    message = re.sub(union, r"\1 must be \2 or null, not \3", message)
    message = re.sub(r"the following arguments are required: (.*)", r"it lacks \1", message)
    return re.sub(r'Parser key "([\w.]+)": Expected an? (.*)\. Got value: (.*)', r"\1 must be \2, not \3", message)


def _apply(values: dict[str, Any], change: str) -> None:
    """Put one "key=value" into the mapping; the value is read as YAML."""
    key, equals, text = change.partition("=")
    if not equals:
        raise InputError(f"'{change}' must have the form key=value, for example epochs=10.")
    *outer, last = key.split(".")
    for name in outer:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise InputError(f"'{change}' does not fit the recipe: '{name}' holds no named values; give it as a whole.")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"'{change}' must have a value in YAML, for example milestones=[90,120].") from None
