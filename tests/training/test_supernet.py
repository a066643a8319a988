"""Supernet training: what is drawn, targets at the drawn size, what is evaluated and kept, where it starts from."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")

import torch

from leanpose.data.annotations import open_annotations
from leanpose.geometry import input_to_heatmap
from leanpose.inference.engines import TorchEngine
from leanpose.models import create_model
from leanpose.models.batch_norm import calibrate_batch_norm
from leanpose.models.checkpoints import load_network, read_state, save_network
from leanpose.models.litepose_arch import ARCHS, LitePoseArch, SearchSpace
from leanpose.models.litepose_supernet import reorder_channels
from leanpose.training.augment import NO_AUGMENTATION, Augmentation
from leanpose.training.crops import CropSet, DataSource
from leanpose.training.loop import _network, train
from leanpose.training.recipe import Recipe, Supernet
from leanpose.training.supernet import SupernetTraining
from leanpose.weights.record import Weights

ARCH = LitePoseArch(16, (16, 24, 24, 32), (16, 24, 16), (1, 1, 1, 1), kernel_size=5)
OPTIONS = {"arch": ARCH.as_dict(), "person_head": True}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_recipe(people: Callable[..., tuple[Path, Path]], tmp_path: Path) -> Callable[..., Recipe]:
    """Return a function from keys to a recipe of one epoch of two steps on eight images."""
    annotations, images = people(count=8)
    data = DataSource(str(annotations), str(images))
    values: dict[str, Any] = {
        "model": "litepose_supernet",
        "model_options": OPTIONS,
        "supernet": Supernet(input_sizes=[64, 128]),
        "out": str(tmp_path / "run"),
        "train_data": [data],
        "val_data": data,
        "input_size": (64, 64),
        "views": "images",
        "padding": 1.0,
        "codec": "associative_embedding",
        "codec_options": {"upsample": False},
        "convention": "classic",
        "epochs": 1,
        "batch_size": 4,
        "ema_decay": 0.0,
        "flip_test": False,
        "accelerator": "cpu",
        "precision": "32-true",
    }
    return lambda **changes: Recipe(**values | changes)


def crops_of(recipe: Recipe) -> CropSet:
    data = recipe.train_data[0]
    scenes = open_annotations(data.annotations, data.images).scenes(recipe.weights().keypoint_set, "images")
    return CropSet(scenes, recipe.training_size, recipe.padding, recipe.convention)


def training(recipe: Recipe, seed: int = 0) -> SupernetTraining:
    torch.manual_seed(seed)
    crops = crops_of(recipe)
    crops.seed = recipe.seed
    return SupernetTraining(recipe, create_model(recipe.model, **recipe.model_options), 10, (), crops)


def random_file(path: Path, model: str, options: dict[str, Any]) -> Path:
    """Write weights whose every tensor is drawn."""
    network = create_model(model, **options)
    for tensor in network.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) + 0.5)
    record = Weights(model, model, (64, 64), task="bottom_up", codec="associative_embedding", model_options=options)
    save_network(path, network, record)
    return path


def test_draws_depend_on_seed_step_and_rank_alone(make_recipe: Callable[..., Recipe]) -> None:
    module, again, other = (training(make_recipe(seed=seed)) for seed in (3, 3, 4))
    draws = [module.drawn(step, rank) for step in range(40) for rank in range(2)]
    assert draws == [again.drawn(step, rank) for step in range(40) for rank in range(2)]
    for others in (
        [other.drawn(step, rank) for step in range(40) for rank in range(2)],
        [module.drawn(step, 1 - rank) for step in range(40) for rank in range(2)],
    ):
        assert sum(one == another for one, another in zip(draws, others, strict=True)) < 8
    space = SearchSpace(ARCH, input_sizes=(64, 128))
    assert all(arch in space for arch in draws)
    for name, values in space.choices().items():
        assert {space.genes(arch)[name] for arch in draws} == set(values), name


@pytest.mark.parametrize("augmentation", [Augmentation(shift=0.1, brightness=0.3, half_body=0.0), Augmentation(flip=1)])
def test_what_is_learned_is_made_at_the_drawn_size(
    augmentation: Augmentation, make_recipe: Callable[..., Recipe]
) -> None:
    sizes = [256, 320, 384, 448, 512]
    module = training(make_recipe(augmentation=augmentation, supernet=Supernet(input_sizes=sizes)))
    batch = module.crops.__getitems__([(0, 0), (1, 1)])
    ramp = torch.arange(batch["crops"].shape[1]).float() / 4  # colours that say where in the crop a pixel is
    batch["crops"][..., 0], batch["crops"][..., 1] = ramp.byte(), ramp.byte()[:, None]
    codec: Any = module.objective.codec
    largest, expected = module._views_at(batch, 512)
    for size in sizes:
        images, annotations = module._views_at(batch, size)
        assert images.shape == (2, 3, size, size)
        close: dict[str, Any] = {"rtol": 0, "atol": 1e-3, "equal_nan": True}
        for name in ("keypoints", "boxes_xyxy"):
            torch.testing.assert_close(annotations[name], expected[name] * (size / 512), **close)
        inner = torch.linspace(0.2, 0.8, 7)
        one, other = (
            image[:, :, (inner * side).round().long()][..., (inner * side).round().long()]
            for image, side in ((images, size), (largest, 512))
        )
        assert (one - other)[:, :2].abs().max() < 0.06, size  # a step of the ramp is 1 / 57

        maps = (size // 4, size // 4)
        points = input_to_heatmap(annotations["keypoints"], (size, size), maps, "classic")
        _, indices, valid = codec.encode_maps(points, annotations["visibility"], maps)
        assert valid.sum() > 8
        for b, p, k in valid.nonzero().tolist():
            x, y = points[b, p, k].trunc().long().tolist()
            assert indices[b, p, k] == y * maps[1] + x


def test_the_widest_network_teaches_the_drawn_one(make_recipe: Callable[..., Recipe]) -> None:
    without, with_it = (
        training(
            make_recipe(
                supernet=Supernet(input_sizes=[64], multipliers=[0.5], distillation=weight),
                augmentation=NO_AUGMENTATION,  # all pixels are of images without ignored regions
            )
        )
        for weight in (0.0, 2.0)
    )
    batch = without.crops.__getitems__([(0, 0), (1, 1), (2, 2), (3, 3)])
    plain, taught = without.losses(batch), with_it.losses(batch)
    assert {*taught} - {*plain} == {"widest"}
    for name, loss in plain.items():
        assert torch.equal(loss, taught[name])
    for (name, one), other in zip(without.network.named_buffers(), with_it.network.buffers(), strict=True):
        assert torch.equal(one, other), name  # it leaves no trace in the running statistics

    network: Any = with_it.network
    inputs, _ = with_it._views_at(batch, 64)
    outputs, wanted = network(inputs, with_it.drawn(0, 0)), network(inputs)
    squares = [((outputs[name] - wanted[name].clamp(min=0)) ** 2).mean() for name in ("heatmaps_4", "heatmaps_2")]
    torch.testing.assert_close(taught["widest"], 2 * sum(squares))

    taught["widest"].backward()
    gradient = network.stage[3][0].inv[0].weight.grad
    assert gradient[:, :16].abs().max() > 0
    assert gradient[:, 16:].abs().max() == 0  # half of 24 channels is 16, and the widest network is not trained here


def test_the_kept_file_is_what_was_evaluated(
    make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The averaged weights of the whole network, with statistics of batch norms that are computed for it."""
    evaluated: list[torch.nn.Module] = []
    call = TorchEngine.__call__

    def spy(self: TorchEngine, images: np.ndarray) -> dict[str, np.ndarray]:
        evaluated.append(self.network)
        return call(self, images)

    monkeypatch.setattr(TorchEngine, "__call__", spy)
    recipe = make_recipe(ema_decay=0.9, learning_rate=0.01)
    state, metadata = read_state(train(recipe))
    record = Weights.from_metadata(metadata, "best")
    assert (record.model, record.model_options, record.input_size) == ("litepose_supernet", OPTIONS, (64, 64))

    saved = torch.load(tmp_path / "run" / "stage0" / "last.ckpt", weights_only=False)["state_dict"]
    network: Any = create_model(recipe.model, **recipe.model_options)
    network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in saved.items()})
    module = SupernetTraining(recipe, network, 10, (), crops_of(recipe))
    inputs = list(module._calibration_inputs())
    assert [len(batch) for batch in inputs] == [4, 4]
    assert not torch.equal(network.first[0][1].running_mean, state["first.0.1.running_mean"])
    calibrate_batch_norm(network, inputs)
    for used in (state, evaluated[-1].state_dict()):
        for name, tensor in network.state_dict().items():
            assert torch.equal(used[name], tensor), name


def test_losses_are_logged_by_name(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    train(make_recipe(supernet=Supernet(input_sizes=[64, 128], distillation=1.0)))
    (log,) = (tmp_path / "run" / "stage0" / "csv").glob("*/metrics.csv")
    rows = [row for row in csv.DictReader(log.open()) if row["loss"]]
    names = ("heatmaps", "push", "pull", "centers", "boxes", "widest")
    assert rows
    for row in rows:
        parts = [float(row[f"loss {name}"]) for name in names]
        assert min(parts[0], parts[-1]) > 0
        assert float(row["loss"]) == pytest.approx(sum(parts), rel=1e-4)


def test_it_starts_from_a_static_network_in_order_of_importance(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    start = random_file(tmp_path / "static.safetensors", "litepose", OPTIONS)
    network = _network(make_recipe(start=str(start)), start)
    static: Any = load_network(start)[0]
    reorder_channels(static)
    assert not torch.equal(static.state_dict()["first.2.weight"], read_state(start)[0]["first.2.weight"])
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, static.state_dict()[name]), name


def test_it_goes_on_from_a_supernet_as_it_is(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    start = random_file(tmp_path / "supernet.safetensors", "litepose_supernet", OPTIONS)
    network = _network(make_recipe(start=str(start)), start)
    for name, tensor in read_state(start)[0].items():
        assert torch.equal(tensor, network.state_dict()[name]), name


def test_a_network_of_the_repository_starts_a_supernet(make_recipe: Callable[..., Recipe]) -> None:
    """The named networks are archs, and any of them can be the widest."""
    options = {"arch": "search_xs", "person_head": True}
    recipe = make_recipe(model_options=options)
    assert recipe.search_space == SearchSpace(ARCHS["search_xs"], input_sizes=(64, 128))
    assert replace(recipe, supernet=None).training_size == (64, 64)
    assert recipe.training_size == (128, 128)
