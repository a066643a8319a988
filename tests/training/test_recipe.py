"""Recipes: every shipped one loads, and a wrong one is refused with the line to write instead."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
yaml = pytest.importorskip("yaml")

import torch  # noqa: E402
from support import shapes_only  # noqa: E402

import leanpose.training.recipe as recipes  # noqa: E402
from leanpose.codecs import check_outputs, codec_of  # noqa: E402
from leanpose.errors import InputError  # noqa: E402
from leanpose.keypoint_sets import HALPE26, KeypointSet  # noqa: E402
from leanpose.models import create_model  # noqa: E402
from leanpose.models.counts import count_macs, count_parameters  # noqa: E402
from leanpose.training.augment import Augmentation  # noqa: E402
from leanpose.training.crops import DataSource  # noqa: E402
from leanpose.training.objectives import create_objective  # noqa: E402
from leanpose.training.recipe import Recipe, find_recipe, read_recipe  # noqa: E402
from leanpose.weights.record import Measurement  # noqa: E402

MakePeople = Callable[..., tuple[Path, Path]]
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
NEEDED = """\
model: lpn50
out: runs/test
train_data: [{annotations: train.json, images: images}]
val_data: {annotations: val.json, images: images}
"""
SUPERNET = (
    "model: litepose_supernet, supernet: {}, views: images, codec: associative_embedding, convention: classic, "
    "input_size: [256, 256]"
)


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(NEEDED)
    return file


def test_there_are_recipes_and_a_list_of_them() -> None:
    assert RECIPES
    text = (RECIPES[0].parent / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\((\w+)\.yaml\)", text)) == sorted(file.stem for file in RECIPES)


@functools.cache
def shipped(file: Path) -> Recipe:
    return read_recipe(file)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_shipped_recipes_load(file: Path) -> None:
    recipe = shipped(file)
    assert recipe.weights().input_size == recipe.input_size
    with torch.inference_mode(), shapes_only():
        network = create_model(recipe.model, len(recipe.weights().keypoint_set), **recipe.model_options)
        outputs = network.eval()(torch.zeros(1, 3, *recipe.training_size))
    check_outputs(codec_of(recipe.weights()), outputs, recipe.model)
    create_objective(recipe, getattr(network, "auxiliary", {}))
    text = file.read_text(encoding="utf-8")
    assert f"#   leanpose train {file.stem} data_root=" in text  # its head says how it is run
    assert recipe.out == f"runs/{file.stem}"
    assert file.stem.startswith(f"{recipe.model}_")


def test_the_table_says_which_recipes_are_untested() -> None:
    table = (RECIPES[0].parent / "README.md").read_text(encoding="utf-8")
    marked = {file: "†" in text for text, file in re.findall(r"\[([^\]]+)\]\((\w+\.yaml)\)", table)}
    assert marked == {file.name: shipped(file).status == "untested" for file in RECIPES}
    assert all(shipped(file).status for file in RECIPES)


ABLATIONS = (RECIPES[0].parents[1] / "docs" / "ablations.md").read_text(encoding="utf-8")
ROWS = re.findall(r"\| ([\d,]+) \| ([\d,]+) \| [^|]+ \| `leanpose train (\S+)(.*)` \|$", ABLATIONS, flags=re.MULTILINE)


@pytest.mark.parametrize("row", dict.fromkeys(ROWS), ids=lambda row: row[2] + row[3])
def test_commands_of_the_ablations_build_what_their_rows_say(row: tuple[str, ...]) -> None:
    parameters, macs, name, changes = row
    recipe = read_recipe(find_recipe(name), changes.split())
    with shapes_only():
        network = create_model(recipe.model, len(recipe.weights().keypoint_set), **recipe.model_options)
        counted = count_macs(network, recipe.input_size)
    assert (f"{count_parameters(network):,}", f"{counted['macs']:,}") == (parameters, macs)


def test_every_row_of_the_ablations_is_a_run_of_its_own() -> None:
    commands = dict.fromkeys(row[2:] for row in ROWS)
    outs = {read_recipe(find_recipe(name), changes.split()).out for name, changes in commands}
    assert len(outs) == len(commands) == 11
    assert ABLATIONS.count("`leanpose train ") == len(ROWS) == 12  # one network is in two tables


def test_mini_recipes_compare_networks() -> None:
    """Those for a GPU differ in the network alone."""
    files = [file for file in RECIPES if file.stem.endswith("_mini")]
    assert len(files) >= 5
    common = [dataclasses.replace(shipped(file), model="", model_options={}, out="", note="") for file in files]
    assert all(recipe == common[0] for recipe in common)


def test_shipped_recipes_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("lpn50_coco").samefile(RECIPES[0].parent / "lpn50_coco.yaml")
    with pytest.raises(InputError, match=r"There is no recipe 'lpn50_coca'\. Did you mean 'lpn50_coco'\?"):
        find_recipe("lpn50_coca")
    Path("lpn50_coco").mkdir()  # a folder is no recipe
    assert find_recipe("lpn50_coco").samefile(RECIPES[0].parent / "lpn50_coco.yaml")
    Path("mine").write_text(NEEDED)
    for path in ("mine", "lpn50_coco.yaml", "recipes/lpn50_coco", str(tmp_path / "lpn50_coco")):
        assert find_recipe(path) == Path(path)


def test_shipped_recipes_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes in the package come first: what lies beside an installed one belongs to somebody else."""
    for folder in ("leanpose/recipes", "recipes"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "lpn50_coco.yaml").write_text(NEEDED)
    (tmp_path / "recipes" / "dinner.yaml").write_text("soup: 1\n")
    monkeypatch.setattr(recipes, "__file__", str(tmp_path / "leanpose" / "training" / "recipe.py"))
    assert find_recipe("lpn50_coco") == tmp_path / "leanpose" / "recipes" / "lpn50_coco.yaml"
    with pytest.raises(InputError, match=r"There is no recipe 'dinner'\. Known: lpn50_coco\."):
        find_recipe("dinner")


def test_defaults(recipe_file: Path) -> None:
    data = DataSource("train.json", "images")
    assert read_recipe(recipe_file) == Recipe(
        model="lpn50", out="runs/test", train_data=[data], val_data=DataSource("val.json", "images")
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_encoding_means_nothing(encoding: str, recipe_file: Path) -> None:
    recipe_file.write_text(NEEDED + "note: Grüße\n", encoding=encoding)
    assert read_recipe(recipe_file).note == "Grüße"


def test_values_get_their_types(recipe_file: Path) -> None:
    more = "input_size: [128, 96]\nlearning_rate: 1\nsamples_per_epoch: 10\naugmentation: {flip: 0, rotation: 30}\n"
    recipe_file.write_text(NEEDED + more)
    recipe = read_recipe(recipe_file)
    assert recipe.input_size == (128, 96)
    assert (recipe.learning_rate, type(recipe.learning_rate)) == (1.0, float)
    assert recipe.samples_per_epoch == 10
    assert recipe.augmentation == Augmentation(flip=0.0, rotation=30.0)


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("learning_rate=1e-4", "learning_rate", 1e-4),
        ("input_size=[64, 48]", "input_size", (64, 48)),
        ("start=null", "start", None),
        ("start=runs/a=b.safetensors", "start", "runs/a=b.safetensors"),
        ("augmentation.flip=0.25", "augmentation", Augmentation(flip=0.25)),
        ("codec_options.sigma=3", "codec_options", {"sigma": 3}),
        ("val_data.images=other", "val_data", DataSource("val.json", "other")),
        ("train_data=[{annotations: b, images: c, share: 2}]", "train_data", [DataSource("b", "c", 2.0)]),
        ("channels_last=false", "channels_last", False),
        ("milestones=[1,2]", "milestones", [1, 2]),
        ("view_size=[64, 32]", "view_size", (64, 32)),
        ("view_size=null", "view_size", None),
        ("augmentation={zoom: 1.2, uniform: true}", "augmentation", Augmentation(zoom=1.2, uniform=True)),
    ],
)
def test_changes(recipe_file: Path, change: str, key: str, value: object) -> None:
    assert getattr(read_recipe(recipe_file, [change]), key) == value


def test_bottom_up_keys(recipe_file: Path) -> None:
    changes = [
        "model=litepose_xs",
        "views=persons",
        "convention=classic",
        "input_size=[256, 256]",
        "codec=associative_embedding",
        "loss_weights={pull: 1}",
    ]
    recipe = read_recipe(recipe_file, [*changes, "model_options.person_head=true"])
    assert (recipe.views, recipe.loss_weights) == ("persons", {"pull": 1.0})
    record = recipe.weights()
    assert (record.codec, record.model_options) == ("associative_embedding", {"person_head": True})


def test_keys_of_detectors(recipe_file: Path) -> None:
    changes = ["model=sfm_persons", "views=images", "convention=classic", "input_size=[256, 256]", "codec=center_box"]
    record = read_recipe(recipe_file, [*changes, "codec_options={}"]).weights()
    assert (record.name, record.task, record.codec) == ("sfm_persons.coco_256x256", "detection", "center_box")
    assert (record.box_codec, record.box_scales, record.flip_shift) == (None, (1.0, 0.75), False)


def test_training_shows_the_view_size_or_else_the_input_size(recipe_file: Path) -> None:
    recipe = read_recipe(recipe_file)
    assert recipe.training_size == recipe.input_size == (256, 192)
    smaller = read_recipe(recipe_file, ["view_size=[128, 96]"])
    assert smaller.training_size == (128, 96)
    assert smaller.input_size == smaller.weights().input_size == (256, 192)


def test_the_last_change_counts(recipe_file: Path) -> None:
    assert read_recipe(recipe_file, ["epochs=3", "epochs=4"]).epochs == 4


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("epoch: 3", "no key 'epoch'. Did you mean 'epochs'?"),
        ("augmentation: {flop: 1}", "augmentation has no key 'flop'. Did you mean 'flip'?"),
        ("val_data: {annotations: a, images: b, shar: 1}", "no key 'shar'. Did you mean 'share'?"),
        ("train_data: [{annotations: a, images: b, shar: 1}]", "no key 'shar'. Did you mean 'share'?"),
        ("3: 4", "no key '3'"),
        ("epochs: many", "epochs must be int or null, not many"),
        ("epochs: 3.5", "epochs must be int or null, not 3.5"),
        ("batch_size:", "needs a value for 'batch_size'"),
        ("epochs:", "Training without an end (epochs=null) and decay_epochs need schedule=wsd"),
        ("decay_epochs: 2", "decay_epochs need schedule=wsd"),
        ("{schedule: wsd, epochs: 3, decay_epochs: 4}", "decay_epochs must be at most epochs, 3, not 4"),
        ("{schedule: wsd, epochs: null, stages: 2}", "Training without an end has one stage"),
        ("augmentation: {flip: }", "needs a value for 'flip'"),
        ("input_size: [256]", "input_size must be tuple with 2 elements, not [256]"),
        ("input_size: 256x192", "input_size must be tuple, not 256x192"),
        ("optimizer: rmsprop", "optimizer must be one of 'adam', 'adamw', 'muon', 'sgd', not rmsprop"),
        ("convention: modern", "convention must be one of 'udp', 'classic', not modern"),
        ("precision: fp16", "precision must be one of 'auto', '32-true', 'bf16-mixed', '16-mixed', not fp16"),
        ("accelerator: tpu", "accelerator must be one of"),
        ("codec_options: 3", "codec_options must be dict, not 3"),
        ("val_data: {annotations: a}", "it lacks val_data.images"),
        ("epochs: 0", "epochs must be at least 1, not 0"),
        ("samples_per_epoch: 0", "samples_per_epoch must be at least 1, not 0"),
        ("threads: 0", "threads must be at least 1, not 0"),
        ("seed: -1", "seed must be at least 0, not -1"),
        ("weight_decay: -0.1", "weight_decay must be at least 0, not -0.1"),
        ("learning_rate: 0", "learning_rate must be above 0, not 0.0"),
        ("learning_rate: .nan", "learning_rate must be above 0, not nan"),
        ("layer_decay: 0", "layer_decay must be above 0 and at most 1, not 0.0"),
        ("layer_decay: 1.1", "layer_decay must be above 0 and at most 1, not 1.1"),
        ("gradient_clip: 0", "gradient_clip must be above 0, not 0.0"),
        ("padding: -1", "padding must be above 0, not -1.0"),
        ("ema_decay: 1", "ema_decay must be at least 0 and below 1, not 1.0"),
        ("augmentation: {flip: 2}", "flip must be between 0 and 1, not 2.0"),
        ("schedule: step", "needs milestones"),
        ("{epochs: 3, validate_every: 4}", "validate_every must be at most the number of epochs, 3, not 4"),
        ("views: crowd", "views must be one of 'images', 'persons' or null, not crowd"),
        ("view_size: 64", "view_size must be tuple[int, int] or null, not 64"),
        ("view_size: [64]", "view_size must be tuple[int, int] or null, not [64]"),
        ("max_minutes: long", "max_minutes must be float or null, not long"),
        ("views: persons", "Views of 'persons' need the codec associative_embedding or center_box, not 'udp'"),
        ("{views: images, codec: dark}", "need the codec associative_embedding or center_box, not 'dark'"),
        ("{views: images, codec: associative_embedding}", "need the convention classic, not 'udp'"),
        (
            "{views: images, codec: associative_embedding, convention: classic}",
            "need an input_size of equal sides, multiples of 64",
        ),
        ("codec: associative_embedding", "codec associative_embedding learns all persons in view: give views"),
        ("loss_weights: {pull: high}", "loss_weights must be float, not high"),
        ("loss_weights: 3", "loss_weights must be dict, not 3"),
        ("augmentation: {zoom: 0.3}", "scale must be below zoom, 0.3, not 0.3"),
        ("supernet: {input_size: [64]}", "The key supernet has no key 'input_size'. Did you mean 'input_sizes'?"),
        ("supernet: {input_sizes: }", "The key supernet needs a value for 'input_sizes'"),
        ("supernet: {}", "The key supernet needs the model litepose_supernet, not 'lpn50'"),
        ("{model: litepose_supernet, supernet: {}}", "The key supernet needs views, such as images"),
        *(
            (f"{{{SUPERNET}, {more}}}", message)
            for more, message in (
                ("view_size: [256, 256]", "Views of a supernet have its input_sizes: leave view_size out"),
                ("compile: true", "A supernet draws another network at each step: leave compile out"),
                ("supernet: {distillation: -1}", "distillation must be at least 0, not -1.0"),
                ("supernet: {input_sizes: [250]}", "input_size must be a multiple of 64, not 250"),
                ("supernet: {input_sizes: []}", "input_sizes must hold at least one size, such as 256"),
                ("supernet: {multipliers: [2]}", "multipliers must be above 0 and at most 1, not [2.0]"),
                ("model_options: {arch: prune_xl}", "There is no arch 'prune_xl'. Did you mean 'prune_l'?"),
            )
        ),
        ("freeze: backbone", "freeze must be list, not backbone"),
        ("stage_keys: 3", "stage_keys must be list, not 3"),
        ("stage_keys: [{epoch: 3}]", "stage_keys: 'epoch' cannot differ by stage. Did you mean 'epochs'?"),
        ("stage_keys: [{model: sfm}]", "stage_keys: 'model' cannot differ by stage."),
        ("stage_keys: [{epochs: many}]", "stage_keys: epochs must be int or null, not many"),
        ("stage_keys: [{learning_rate: 0}, {}]", "learning_rate must be above 0, not 0.0"),
        ("{stages: 3, stage_keys: [{}, {}]}", "stage_keys has 2 stages, not 3: leave stages out"),
        ("{schedule: wsd, epochs: null, stage_keys: [{}, {}]}", "Training without an end has one stage"),
        ("{schedule: wsd, stage_keys: [{epochs: null}, {}]}", "Training without an end has one stage"),
    ],
)
def test_refused_values(recipe_file: Path, more: str, message: str) -> None:
    values = yaml.safe_load(NEEDED) | yaml.safe_load(more)
    recipe_file.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError) as caught:
        read_recipe(recipe_file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "<class" not in str(caught.value)


def test_missing_keys(recipe_file: Path) -> None:
    recipe_file.write_text("model: lpn50\nval_data: {annotations: a, images: b}\n")
    with pytest.raises(InputError, match=r"recipe\.yaml: it lacks out, train_data\.$"):
        read_recipe(recipe_file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs", "'epochs' must have the form key=value"),
        ("epoch=3", "Did you mean 'epochs'"),
        ("batch_size=", "needs a value for 'batch_size'"),
        ("epochs=a", "epochs must be int or null, not a"),
        ("milestones=[1", r"'milestones=\[1' must have a value in YAML"),
        ("epochs.x=1", "epochs must be int or null"),
        ("train_data.0.share=2", "'train_data' holds no named values; give it as a whole"),
        ("model.name=lpn50", "'model' holds no named values"),
    ],
)
def test_refused_changes(recipe_file: Path, change: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_recipe(recipe_file, [change])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no recipe"),
        (b"- model: lpn50\n", "is no recipe"),
        (b"model: lpn50\nout: [\n", r"is not valid YAML \(.*line 3"),
        (b"model: a: b\n", r"is not valid YAML \(.*line 1"),
        (b"\xff\xfe\x00", "is not valid YAML"),
    ],
    ids=["empty", "list", "unclosed", "two_colons", "binary"],
)
def test_not_a_recipe(recipe_file: Path, content: bytes, message: str) -> None:
    recipe_file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_recipe(recipe_file)
    assert "\n" not in str(caught.value)


def test_unreadable_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no recipe"):
        read_recipe(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path)


@pytest.mark.parametrize("codec", ["detections", "detected_poses", "yolox"])
def test_codecs_without_targets_are_not_trained(codec: str, recipe_file: Path) -> None:
    with pytest.raises(
        InputError, match=f"codec {codec} only reads networks that others trained: give one with targets"
    ):
        read_recipe(recipe_file, [f"codec={codec}"])


def test_data_root_is_joined(recipe_file: Path, tmp_path: Path) -> None:
    recipe = read_recipe(recipe_file, ["data_root=sets", f"val_data.annotations={tmp_path / 'v.json'}"])
    assert recipe.sources() == [DataSource(str(Path("sets/train.json")), str(Path("sets/images")))]
    assert recipe.validation() == DataSource(str(tmp_path / "v.json"), str(Path("sets/images")))


def test_stages_have_keys_of_their_own(recipe_file: Path) -> None:
    recipe = read_recipe(recipe_file, ["epochs=30", "stage_keys=[{freeze: [conv1], epochs: 5}, {learning_rate: 1}]"])
    first, second = recipe.stage_recipes
    assert first == dataclasses.replace(recipe, stage_keys=[], stages=2, freeze=["conv1"], epochs=5)
    assert second == dataclasses.replace(recipe, stage_keys=[], stages=2, learning_rate=1.0)
    alike = read_recipe(recipe_file, ["stages=2"])
    assert alike.stage_recipes == [alike, alike]


def test_keypoints_may_be_those_of_a_file(recipe_file: Path, people: MakePeople) -> None:
    own = KeypointSet("own", ("right_hip", "nose", "left_hip"), (), "test")
    file, _ = people("own", keypoint_set=own)
    recipe = read_recipe(recipe_file, [f"data_root={file.parent}", f"keypoint_set={file.name}", "input_size=[64,48]"])
    record = recipe.weights()
    assert record.keypoint_set.keypoints == own.keypoints
    assert record.name == "lpn50.person_64x48"  # as its category is called
    with pytest.raises(InputError, match=r"There is no file .*cats\.json"):
        read_recipe(recipe_file, ["keypoint_set=cats.json"]).weights()
    assert read_recipe(recipe_file, ["keypoint_set=halpe26"]).weights().keypoint_set is HALPE26
    content = json.loads(file.read_text())
    content["categories"].append({"id": 2, "name": "cup", "keypoints": ["handle"]})
    (file.parent / "two.json").write_text(json.dumps(content))
    changes = [f"data_root={file.parent}", "keypoint_set=two.json", "val_data.category=cup"]
    recipe = read_recipe(recipe_file, changes)
    assert recipe.keypoints.keypoints == ("handle",) and recipe.validation().category == "cup"


def test_the_record(recipe_file: Path) -> None:
    changes = ["input_size=[64,48]", "codec=dark", "codec_options={sigma: 1.5}", "keypoint_set=lsp", "padding=1.1"]
    measured = (Measurement("AP", 0.5, "val.json", "annotated", False),)
    record = read_recipe(recipe_file, [*changes, "convention=classic", "licence=CC0", "note=a test"]).weights(measured)
    assert record.name == "lpn50.lsp_64x48"
    assert (record.model, record.input_size, record.keypoint_set.name) == ("lpn50", (64, 48), "lsp")
    assert (record.codec, record.codec_options) == ("dark", {"sigma": 1.5})
    assert (record.padding, record.convention, record.flip_shift) == (1.1, "classic", True)
    assert not read_recipe(recipe_file, ["convention=udp"]).weights().flip_shift
    assert (record.licence, record.note, record.metrics) == ("CC0", "a test", measured)
