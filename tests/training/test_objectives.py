"""What a batch asks of a network: views with what is annotated in them, and losses that are zero where it is met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jsonargparse")

import torch

from leanpose.codecs import check_outputs, create_codec
from leanpose.codecs.associative_embedding import AssociativeEmbedding
from leanpose.codecs.center_box import CenterBox
from leanpose.codecs.losses import heatmap_mse
from leanpose.data.scenes import ALL_KNOWN, BOX_KNOWN, NOTHING_KNOWN
from leanpose.errors import InputError, WeightsError
from leanpose.geometry import CONVENTIONS, Convention, input_to_heatmap
from leanpose.keypoint_sets import COCO
from leanpose.models import create_model
from leanpose.models.layers import Auxiliary
from leanpose.models.lpn import LPN
from leanpose.training.augment import NO_AUGMENTATION, NOISE, Augmentation, augment
from leanpose.training.crops import DataSource
from leanpose.training.objectives import (
    BOTTOM_UP_WEIGHTS,
    PERSON_WEIGHTS,
    Batch,
    BottomUp,
    Persons,
    TopDown,
    create_objective,
)
from leanpose.training.recipe import Recipe

SIDE, CROP = 64, 96
MARGIN = (CROP - SIDE) // 2
SMALL, LARGE = (SIDE // 4, SIDE // 4), (SIDE // 2, SIDE // 2)  # of the maps
IGNORED = (slice(8, 32), slice(32, 64))  # rows and columns of the input; whole pixels of all maps


def make_recipe(**changes: Any) -> Recipe:
    data = DataSource("people.json", "images")
    values: dict[str, Any] = {
        "model": "litepose_xs",
        "out": "run",
        "train_data": [data],
        "val_data": data,
        "input_size": (SIDE, SIDE),
        "views": "persons",
        "codec": "associative_embedding",
        "convention": "classic",
        "augmentation": NO_AUGMENTATION,
    }
    return Recipe(**values | changes)


def top_down_recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "model": "lpn50", "input_size": (64, 48), "views": None, "codec": "dark", "codec_options": {"sigma": 1.5},
        "convention": "udp", "augmentation": Augmentation(half_body=0.5, brightness=0.3),
    }  # fmt: skip
    return make_recipe(**values | changes)


def persons_recipe(**changes: Any) -> Recipe:
    return make_recipe(**{"model": "sfm_persons", "codec": "center_box", "views": "images"} | changes)


def random_noise(count: int) -> torch.Tensor:
    return torch.rand(count, NOISE, generator=torch.Generator().manual_seed(0))


def make_batch(known: int = ALL_KNOWN) -> Batch:
    """Return two crops: of two persons and one with a box alone, and of one person; one region is known as given."""
    random = np.random.default_rng(0)
    # left, top, right, bottom in the view; the second lies in the ignored region
    nobody = [np.nan] * 4
    places = np.array([[[4, 10, 24, 60], [36, 10, 60, 30], [26, 36, 50, 58]], [[20, 6, 44, 58], nobody, nobody]])
    boxes = places + MARGIN
    start, stop = boxes[..., None, :2], boxes[..., None, 2:]
    keypoints = start + (stop - start) * random.uniform(0.05, 0.95, (2, 3, 17, 2))
    visibility = random.integers(1, 3, (2, 3, 17))
    visibility[:, :, 4] = 0
    visibility[0, 1] = 0
    visibility[1, 1:] = 0
    keypoints[visibility == 0] = np.nan
    crops = random.integers(0, 256, (2, CROP, CROP, 4), dtype=np.uint8)
    crops[..., 3] = ALL_KNOWN
    crops[0, MARGIN:-MARGIN, MARGIN:-MARGIN, 3][IGNORED] = known
    return {
        "crops": torch.from_numpy(crops),
        "keypoints": torch.from_numpy(keypoints.astype(np.float32)),
        "visibility": torch.from_numpy(visibility.astype(np.int8)),
        "boxes_xyxy": torch.from_numpy(boxes.astype(np.float32)),
        "noise": random_noise(2),
    }


def perfect_outputs(annotations: Batch) -> dict[str, torch.Tensor]:
    """Return what a network should give: the targets themselves, and one tag a person, far from the others."""
    codec, person_codec = AssociativeEmbedding(), CenterBox()

    def on_maps(points: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return input_to_heatmap(points, (SIDE, SIDE), size, "classic")

    outputs = {}
    for name, size in (("heatmaps_4", SMALL), ("heatmaps_2", LARGE)):
        points = on_maps(annotations["keypoints"], size)
        outputs[name], indices, valid = codec.encode_maps(points, annotations["visibility"], size)
        if name == "heatmaps_4":
            tags = torch.zeros(2, 17, SMALL[0] * SMALL[1])
            for b, p, k in valid.nonzero().tolist():
                tags[b, k, indices[b, p, k]] = 20.0 * p
            outputs["tags"] = tags.view(2, 17, *SMALL)
    boxes = on_maps(annotations["boxes_xyxy"].unflatten(2, (2, 2)), SMALL).flatten(2)
    centers, distances, _ = person_codec.encode_maps(boxes, boxes.isfinite().all(2), SMALL)
    outputs["centers"] = torch.where(centers == 1, 30.0, -30.0)
    outputs["box_logs"] = distances.log()
    return outputs


def shrunk(region: tuple[slice, slice], stride: int) -> tuple[slice, slice]:
    rows, columns = (slice(part.start // stride, part.stop // stride) for part in region)
    return rows, columns


def test_the_recipe_chooses_the_objective() -> None:
    assert isinstance(create_objective(make_recipe(), {}), BottomUp)
    assert isinstance(create_objective(make_recipe(views="images"), {}), BottomUp)
    assert isinstance(create_objective(top_down_recipe(), {}), TopDown)
    assert isinstance(create_objective(persons_recipe(), {}), Persons)


def test_plain_views_are_the_middle_of_the_crops() -> None:
    batch = make_batch(known=BOX_KNOWN)
    images, annotations = create_objective(make_recipe(), {}).views(batch)
    middle = batch["crops"][:, MARGIN:-MARGIN, MARGIN:-MARGIN].permute(0, 3, 1, 2).float()
    torch.testing.assert_close(images, middle[:, :3], rtol=0, atol=0.02)
    torch.testing.assert_close(annotations["known"], middle[:, 3:], rtol=0, atol=0.02)
    close: dict[str, Any] = {"rtol": 0, "atol": 1e-4, "equal_nan": True}
    torch.testing.assert_close(annotations["keypoints"], batch["keypoints"] - MARGIN, **close)
    torch.testing.assert_close(annotations["boxes_xyxy"], batch["boxes_xyxy"] - MARGIN, **close)
    assert torch.equal(annotations["visibility"], batch["visibility"])


def test_mirrored_views_change_sides() -> None:
    batch = make_batch(known=NOTHING_KNOWN)
    plain_images, plain = create_objective(make_recipe(), {}).views(batch)
    flip = Augmentation(flip=1, scale=0, rotation=0)
    images, annotations = create_objective(make_recipe(augmentation=flip), {}).views(batch)
    for found, expected in ((images, plain_images), (annotations["known"], plain["known"])):
        torch.testing.assert_close(found[..., 1:], expected[..., 1:].flip(3), rtol=0, atol=0.05)  # the mirror is at W/2
    close: dict[str, Any] = {"rtol": 0, "atol": 1e-4, "equal_nan": True}
    mirrored = plain["keypoints"] * torch.tensor([-1.0, 1.0]) + torch.tensor([SIDE, 0.0])
    torch.testing.assert_close(annotations["keypoints"], mirrored[:, :, COCO.flip_index], **close)
    assert torch.equal(annotations["visibility"], batch["visibility"][:, :, COCO.flip_index])
    x1, y1, x2, y2 = plain["boxes_xyxy"].unbind(2)
    expected = torch.stack([SIDE - x2, y1, SIDE - x1, y2], dim=2)
    torch.testing.assert_close(annotations["boxes_xyxy"], expected, **close)


def test_views_have_the_size_that_training_shows() -> None:
    recipe = make_recipe(input_size=(256, 256), view_size=(SIDE, SIDE))
    images, annotations = create_objective(recipe, {}).views(make_batch())
    assert images.shape == (2, 3, SIDE, SIDE)
    assert annotations["known"].shape == (2, 1, SIDE, SIDE)
    losses = create_objective(recipe, {}).losses(perfect_outputs(annotations), annotations)  # at the scale of the view
    assert losses["heatmaps"].item() == 0


def test_maps_of_absent_keypoints_count_by_absent_weight() -> None:
    keypoints = torch.full((1, 17, 2), 20.0)
    keypoints[0, 1] = 500.0  # labelled, far outside the view
    weights = torch.ones(1, 17)
    weights[0, 2], weights[0, 3] = -0.5, 0.0  # known to be absent; nothing known
    annotations = {"keypoints": keypoints, "weights": weights}

    def loss(absent_weight: float, shown: int) -> float:
        objective = create_objective(top_down_recipe(absent_weight=absent_weight), {})
        targets, _ = objective.codec.encode(keypoints, weights, {"heatmaps": torch.zeros(1, 17, 16, 12)}, (64, 48))
        maps = targets["heatmaps"].clone()
        maps[0, shown] += 1
        return sum(value.item() for value in objective.losses({"heatmaps": maps}, annotations).values())

    whole = loss(1.0, shown=0)  # a pixel's error of 1 in a keypoint that is in view
    for absent_weight in (0.0, 0.25, 1.0):
        found = [loss(absent_weight, shown) for shown in (1, 2, 3)]
        assert found == pytest.approx([whole * absent_weight, whole * absent_weight * 0.5, 0.0])
        assert loss(absent_weight, shown=0) == pytest.approx(whole)


@pytest.mark.parametrize("changes", [{"views": "images"}, {"codec": "simcc", "codec_options": {}}])
def test_absent_weight_needs_one_person_and_heatmaps(changes: dict[str, Any]) -> None:
    recipe = make_recipe(absent_weight=0.5) if "views" in changes else top_down_recipe(absent_weight=0.5, **changes)
    with pytest.raises(InputError, match="absent_weight"):
        create_objective(recipe, {})


@pytest.mark.parametrize("foreground_weight", [0.0, 8.0])
def test_a_network_that_gives_the_targets_has_no_loss(foreground_weight: float) -> None:
    objective = create_objective(make_recipe(foreground_weight=foreground_weight), {})
    _, annotations = objective.views(make_batch(known=BOX_KNOWN))
    losses = objective.losses(perfect_outputs(annotations), annotations)
    assert list(losses) == ["heatmaps", "push", "pull", "centers", "boxes"]
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(dict.fromkeys(losses, 0), abs=1e-6)


def imperfect(maps: torch.Tensor) -> torch.Tensor:
    return 0.1 * maps + torch.randn(maps.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["heatmaps_2", "heatmaps_4", "tags", "centers", "box_logs"])
def test_every_output_counts(name: str) -> None:
    objective = create_objective(make_recipe(), {})
    _, annotations = objective.views(make_batch())
    outputs = perfect_outputs(annotations)
    outputs[name] = imperfect(outputs[name])
    losses = objective.losses(outputs, annotations)
    concerned = {"tags": {"pull"}, "centers": {"centers"}, "box_logs": {"boxes"}}.get(name, {"heatmaps"})
    assert {key for key, value in losses.items() if value > 1e-6} >= concerned
    rest = set(losses) - concerned - {"push", "centers"}
    assert all(losses[key] < 1e-6 for key in rest)


def noisy(maps: torch.Tensor, region: tuple[slice, slice]) -> torch.Tensor:
    """Return maps with other values inside a region of the first image."""
    changed = maps.clone()
    part = changed[0][(slice(None), *region)]
    part += torch.randn(part.shape, generator=torch.Generator().manual_seed(2))
    return changed


@pytest.mark.parametrize("known", [NOTHING_KNOWN, BOX_KNOWN, ALL_KNOWN])
def test_what_is_not_known_carries_no_loss(known: int) -> None:
    objective = create_objective(make_recipe(), {})
    _, annotations = objective.views(make_batch(known))
    generator = torch.Generator().manual_seed(3)
    outputs = {
        name: maps + 0.1 * torch.randn(maps.shape, generator=generator)
        for name, maps in perfect_outputs(annotations).items()
    }
    before = objective.losses(outputs, annotations)
    changed = outputs | {
        name: noisy(outputs[name], shrunk(IGNORED, 2 if name == "heatmaps_2" else 4))
        for name in ("heatmaps_2", "heatmaps_4", "centers", "box_logs")
    }
    after = objective.losses(changed, annotations)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert (
        same
        == {"push", "pull"}
        | {
            NOTHING_KNOWN: {"heatmaps", "centers", "boxes"},
            BOX_KNOWN: {"heatmaps"},
            ALL_KNOWN: set(),
        }[known]
    )
    outside = outputs | {name: noisy(outputs[name], (slice(0, 1), slice(0, 4))) for name in changed if name != "tags"}
    elsewhere = objective.losses(outside, annotations)
    assert elsewhere["heatmaps"] != before["heatmaps"]
    assert elsewhere["centers"] != before["centers"]


def test_maps_of_either_scale_are_masked() -> None:
    objective = create_objective(make_recipe(), {})
    _, annotations = objective.views(make_batch(BOX_KNOWN))
    perfect = perfect_outputs(annotations)
    for name, stride in (("heatmaps_2", 2), ("heatmaps_4", 4)):
        inside = perfect | {name: noisy(perfect[name], shrunk(IGNORED, stride))}
        assert objective.losses(inside, annotations)["heatmaps"].item() == 0
        rows, columns = shrunk(IGNORED, stride)
        beside = perfect | {name: noisy(perfect[name], (rows, slice(columns.start - 1, columns.start)))}
        assert objective.losses(beside, annotations)["heatmaps"].item() > 0


def test_what_lies_outside_the_image_carries_no_loss() -> None:
    batch = make_batch()
    batch["crops"][:, :, : MARGIN + 8] = 0  # the image begins at the view's 8th column
    objective = create_objective(make_recipe(), {})
    _, annotations = objective.views(batch)
    perfect = perfect_outputs(annotations)
    before = objective.losses(perfect, annotations)
    changed = perfect | {
        "heatmaps_4": noisy(perfect["heatmaps_4"], (slice(None), slice(0, 2))),
        "heatmaps_2": noisy(perfect["heatmaps_2"], (slice(None), slice(0, 4))),
        "centers": noisy(perfect["centers"], (slice(None), slice(0, 2))),
    }
    after = objective.losses(changed, annotations)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_person_without_keypoints_counts_as_a_box_alone() -> None:
    objective = create_objective(make_recipe(), {})
    batch = make_batch(known=BOX_KNOWN)
    _, annotations = objective.views(batch)
    outputs = perfect_outputs(annotations)
    row, column = 5, 12  # the middle of the second person's box (36, 10, 60, 30), at stride 4
    assert outputs["centers"][0, 0, row, column] == 30
    blind = outputs["centers"].clone()
    blind[0, 0, row, column] = -30
    losses = objective.losses(outputs | {"centers": blind}, annotations)
    assert losses["centers"] > 1e-3  # one of four centers missed
    assert losses["heatmaps"].item() == 0

    elsewhere = outputs["box_logs"].clone()
    elsewhere[0, :, row, column] += 1
    assert objective.losses(outputs | {"box_logs": elsewhere}, annotations)["boxes"] > 1e-5

    nothing_known = {**batch, "crops": make_batch(known=NOTHING_KNOWN)["crops"]}
    _, annotations = objective.views(nothing_known)
    assert objective.losses(outputs | {"centers": blind}, annotations)["centers"].item() == pytest.approx(0, abs=1e-6)


def test_boxes_alone_are_learned_as_beside_heatmaps() -> None:
    """What is for training only counts by its share; loss_weights are of all of them."""
    _, annotations = create_objective(make_recipe(), {}).views(make_batch(known=BOX_KNOWN))
    outputs = {name: imperfect(maps) for name, maps in perfect_outputs(annotations).items()}
    beside = create_objective(make_recipe(loss_weights=PERSON_WEIGHTS), {}).losses(outputs, annotations)
    outputs |= {f"{name}_first": outputs[name] for name in ("centers", "box_logs")}
    alone = create_objective(persons_recipe(loss_weights={"boxes": 3.0}), {"centers_first": Auxiliary(weight=0.5)})
    losses = alone.losses(outputs, annotations)
    assert [*losses] == ["centers", "boxes", "centers_first", "boxes_first"]
    torch.testing.assert_close(losses["centers"], beside["centers"])
    torch.testing.assert_close(losses["boxes"], beside["boxes"] * 3 / PERSON_WEIGHTS["boxes"])
    for name in ("centers", "boxes"):
        torch.testing.assert_close(losses[f"{name}_first"], losses[name] / 2)
        assert losses[name] > 0


def test_persons_that_are_not_there_change_nothing() -> None:
    """Fewer places for persons, with none of them lost, give the same losses."""
    objective = create_objective(make_recipe(), {})
    batch = make_batch()
    alone = {name: values[1:] for name, values in batch.items()}
    narrow = alone | {name: alone[name][:, :1] for name in ("keypoints", "visibility", "boxes_xyxy")}
    outputs = {name: maps[1:] + 0.1 for name, maps in perfect_outputs(objective.views(batch)[1]).items()}
    one, other = (objective.losses(outputs, objective.views(part)[1]) for part in (alone, narrow))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name])
        assert value.isfinite()


def test_views_without_anybody_have_finite_losses() -> None:
    objective = create_objective(make_recipe(), {})
    batch = make_batch()
    for name in ("keypoints", "boxes_xyxy"):
        batch[name] = torch.full_like(batch[name], torch.nan)
    batch["visibility"] = torch.zeros_like(batch["visibility"])
    images, annotations = objective.views(batch)
    network = create_model("litepose_xs", person_head=True)
    losses = objective.losses(network(images / 255), annotations)
    assert all(value.isfinite() for value in losses.values())
    assert all(losses[name].item() == 0 for name in ("push", "pull", "boxes"))
    assert losses["centers"] > 0 and losses["heatmaps"] > 0


def test_gradients_reach_all_outputs_and_parameters() -> None:
    torch.manual_seed(0)
    objective = create_objective(make_recipe(foreground_weight=2.0), {})
    images, annotations = objective.views(make_batch(BOX_KNOWN))
    network = create_model("litepose_xs", person_head=True)
    outputs = network((images - 127) / 60)
    for maps in outputs.values():
        maps.retain_grad()
    torch.stack([*objective.losses(outputs, annotations).values()]).sum().backward()
    for name, maps in outputs.items():
        assert maps.grad.isfinite().all(), name
        assert maps.grad.abs().max() > 0, name
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_huge_boxes_stay_finite() -> None:
    objective = create_objective(make_recipe(), {})
    _, annotations = objective.views(make_batch())
    outputs = perfect_outputs(annotations)
    outputs["box_logs"] = torch.full_like(outputs["box_logs"], 200.0).requires_grad_()
    loss = objective.losses(outputs, annotations)["boxes"]
    loss.backward()
    assert loss.isfinite()
    assert outputs["box_logs"].grad.isfinite().all()


def test_a_network_without_the_person_head_learns_the_rest() -> None:
    objective = create_objective(make_recipe(), {})
    _, annotations = objective.views(make_batch())
    outputs = {name: maps for name, maps in perfect_outputs(annotations).items() if name not in ("centers", "box_logs")}
    check_outputs(objective.codec, outputs, "litepose_xs")
    assert list(objective.losses(outputs, annotations)) == ["heatmaps", "push", "pull"]


def test_loss_weights_multiply() -> None:
    _, annotations = create_objective(make_recipe(), {}).views(make_batch())
    outputs = {name: imperfect(maps) for name, maps in perfect_outputs(annotations).items()}
    usual = create_objective(make_recipe(), {}).losses(outputs, annotations)
    other = create_objective(make_recipe(loss_weights={"pull": 1.0, "boxes": 0.0}), {}).losses(outputs, annotations)
    assert usual.keys() == other.keys() == BOTTOM_UP_WEIGHTS.keys()
    for name, value in usual.items():
        assert value > 0
        factor = {"pull": 1 / BOTTOM_UP_WEIGHTS["pull"], "boxes": 0.0}.get(name, 1.0)
        torch.testing.assert_close(other[name], value * factor)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"pul": 1.0}, "there is no loss 'pul'. Did you mean 'pull'?"),
        ({"oks": 1.0}, "there is no loss 'oks'. Known: boxes, centers, heatmaps, pull, push."),
        ({"push": -1.0}, "loss_weights.push must be at least 0, not -1.0"),
        ({"push": float("nan")}, "loss_weights.push must be at least 0, not nan"),
    ],
    ids=str,
)
def test_wrong_loss_weights_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(InputError) as caught:
        create_objective(make_recipe(loss_weights=weights), {})
    assert message in str(caught.value)


def test_networks_of_the_other_kind_are_refused() -> None:
    images = torch.zeros(1, 3, 64, 64)
    lpn, litepose = (create_model(name).eval() for name in ("lpn50", "litepose_xs"))
    single, everybody = lpn(images), litepose(images)
    bottom_up, top_down = (create_objective(recipe, {}).codec for recipe in (make_recipe(), top_down_recipe()))
    with pytest.raises(
        WeightsError, match=r"'lpn50' gives heatmaps, but the codec associative_embedding reads .*; its codec"
    ):
        check_outputs(bottom_up, single, "lpn50")
    with pytest.raises(WeightsError, match="but the codec dark reads heatmaps; its codec can be associative_embedding"):
        check_outputs(top_down, everybody, "litepose_xs")
    check_outputs(bottom_up, everybody, "litepose_xs")
    check_outputs(top_down, single, "lpn50")


def test_a_teacher_counts_also_where_nothing_is_labelled() -> None:
    recipe = top_down_recipe(teacher="teacher.safetensors", loss_weights={"teacher": 0.5}, foreground_weight=2.0)
    objective = create_objective(recipe, {})
    size, generator = (16, 12), torch.Generator().manual_seed(0)
    heatmaps, taught = (torch.rand(2, 17, *size, generator=generator) for _ in range(2))
    weights = torch.rand(2, 17, generator=generator)
    unlabelled = {"keypoints": torch.full((2, 17, 2), 20.0), "weights": torch.zeros(2, 17)}
    annotations = unlabelled | {"teacher_heatmaps": taught, "teacher_weights": weights}
    losses = objective.losses({"heatmaps": heatmaps}, annotations)
    assert losses["heatmaps"] == 0
    expected = 0.5 * heatmap_mse(heatmaps, taught, weights.sqrt(), 2.0)
    assert losses["teacher"].item() == pytest.approx(expected.item())
    assert objective.losses({"heatmaps": taught}, annotations)["teacher"] == 0

    points = torch.rand(2, 17, 2, generator=generator) * 40
    found = unlabelled | {"teacher_keypoints": points, "teacher_weights": weights}
    annotated = objective.losses({"heatmaps": heatmaps}, {"keypoints": points, "weights": weights})["heatmaps"]
    assert objective.losses({"heatmaps": heatmaps}, found)["teacher"].item() == pytest.approx(0.5 * annotated.item())
    with pytest.raises(InputError, match="there is no loss 'teacher'"):
        create_objective(top_down_recipe(loss_weights={"teacher": 1.0}), {})


@pytest.mark.parametrize("foreground_weight", [0.0, 3.0])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_top_down_is_augment_encode_and_mean_squared_error(convention: Convention, foreground_weight: float) -> None:
    recipe = top_down_recipe(convention=convention, foreground_weight=foreground_weight)
    random = np.random.default_rng(4)
    weights = torch.from_numpy(random.choice([0, 0.25, 1], (6, 17)).astype(np.float32))
    keypoints = torch.from_numpy(random.uniform(10, 60, (6, 17, 2)).astype(np.float32))
    keypoints[weights == 0] = torch.nan
    batch = {
        "crops": torch.from_numpy(random.integers(0, 256, (6, 96, 72, 3), dtype=np.uint8)),
        "keypoints": keypoints,
        "weights": weights,
        "noise": random_noise(6),
    }
    objective = create_objective(recipe, {})
    images, annotations = objective.views(batch)
    expected_images, points, seen = augment(
        batch["crops"], keypoints, weights, batch["noise"], recipe.augmentation, (64, 48), COCO, convention
    )
    assert torch.equal(images, expected_images)
    assert torch.equal(annotations["keypoints"], points)
    assert torch.equal(annotations["weights"], seen)

    heatmaps = torch.from_numpy(random.uniform(-0.2, 1, (6, 17, 16, 12)).astype(np.float32)).requires_grad_()
    on_maps = input_to_heatmap(points, (64, 48), (16, 12), convention)
    target, inside = create_codec("dark", sigma=1.5).encode_maps(on_maps, seen, (16, 12))
    errors = (heatmaps - target).square() * (1 + foreground_weight * target) / 2
    expected = (errors.mean((2, 3)) * inside * seen).mean()
    losses = objective.losses({"heatmaps": heatmaps}, annotations)
    assert list(losses) == ["heatmaps"]
    assert losses["heatmaps"].item() == pytest.approx(expected.item())
    assert inside.min() == 0 < inside.max()


def test_vectors_are_learned_and_taught() -> None:
    recipe = top_down_recipe(codec="simcc", codec_options={}, teacher="teacher.safetensors")
    objective = create_objective(recipe, {"simcc_x_first": Auxiliary(weight=0.5)})
    codec, generator = create_codec("simcc"), torch.Generator().manual_seed(0)

    def vectors() -> tuple[torch.Tensor, ...]:
        return tuple(torch.rand(2, 17, length, generator=generator) for length in (96, 128))

    (x, y), (first_x, first_y), (taught_x, taught_y) = vectors(), vectors(), vectors()
    points, weights = torch.rand(2, 17, 2, generator=generator) * 40, torch.ones(2, 17)
    annotations = {
        "keypoints": points, "weights": weights, "teacher_weights": weights,
        "teacher_simcc_x": taught_x, "teacher_simcc_y": taught_y,
    }  # fmt: skip
    final = {"simcc_x": x, "simcc_y": y}
    targets, learned = codec.encode(points, weights, final, (64, 48))
    losses = objective.losses(final | {"simcc_x_first": first_x, "simcc_y_first": first_y}, annotations)
    expected = {
        "simcc_x": codec.loss(final, targets, learned, 0),
        "simcc_x_first": 0.5 * codec.loss({"simcc_x": first_x, "simcc_y": first_y}, targets, learned, 0),
        "teacher": codec.loss(final, {"simcc_x": taught_x, "simcc_y": taught_y}, weights, 0),
    }
    assert losses.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss)
        assert loss > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda size: LPN((1, 1, 1, 1), head="simcc", input_size=size),
        lambda size: create_model("sfm", head="simcc", width=16, levels=2, input_size=size),
        lambda size: create_model("rtmpose_t", width=0.125, input_size=size),
    ],
    ids=["lpn", "sfm", "rtmpose"],
)
def test_networks_with_vectors_learn(make: Callable[[tuple[int, int]], torch.nn.Module]) -> None:
    """Four images of noise, whose keypoints lie elsewhere, are told apart."""
    torch.manual_seed(0)
    network = make((96, 64))
    recipe = top_down_recipe(codec="simcc", codec_options={}, input_size=(96, 64), convention="classic")
    objective = create_objective(recipe, getattr(network, "auxiliary", {}))
    images = torch.randn(4, 3, 96, 64)
    points = torch.rand(4, 17, 2) * torch.tensor([63.0, 95.0])
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        losses = objective.losses(network(images), {"keypoints": points, "weights": torch.ones(4, 17)})
        torch.stack([*losses.values()]).sum().backward()
        optimizer.step()
    with torch.no_grad():
        vectors = {name: network(images)[name].numpy() for name in ("simcc_x", "simcc_y")}
    found, scores = create_codec("simcc").decode(vectors, (96, 64))
    assert scores.min() > 0
    assert np.linalg.norm(found - points.numpy(), axis=2).mean() < 3  # pixels; by chance 30 or more


def test_training_only_heatmaps_are_learned_beside_the_final_ones() -> None:
    auxiliary = {"heatmaps_first": Auxiliary(), "heatmaps_arm": Auxiliary(keypoints=(9, 5, 7), weight=0.25)}
    random = np.random.default_rng(5)
    annotations = {
        "keypoints": torch.from_numpy(random.uniform(5, 45, (2, 17, 2)).astype(np.float32)),
        "weights": torch.from_numpy(random.integers(0, 2, (2, 17)).astype(np.float32)),
    }
    final, first, arm = (torch.from_numpy(random.uniform(0, 1, (2, k, 16, 12))).requires_grad_() for k in (17, 17, 3))
    outputs = {"heatmaps": final, "heatmaps_first": first, "heatmaps_arm": arm}
    recipe = top_down_recipe(foreground_weight=2.0)
    losses = create_objective(recipe, auxiliary).losses(outputs, annotations)
    points = input_to_heatmap(annotations["keypoints"], (64, 48), (16, 12), recipe.convention)
    target, weights = create_codec("dark", sigma=1.5).encode_maps(points, annotations["weights"], (16, 12))
    chosen = [9, 5, 7]
    assert losses.keys() == outputs.keys()
    for name, expected in {
        "heatmaps": heatmap_mse(final.float(), target, weights, 2.0),
        "heatmaps_first": heatmap_mse(first.float(), target, weights, 2.0),
        "heatmaps_arm": 0.25 * heatmap_mse(arm.float(), target[:, chosen], weights[:, chosen], 2.0),
    }.items():
        torch.testing.assert_close(losses[name], expected)
        assert expected > 0

    changed = top_down_recipe(foreground_weight=2.0, loss_weights={"heatmaps_first": 0.0, "heatmaps_arm": 0.5})
    others = create_objective(changed, auxiliary).losses(outputs, annotations)
    assert others["heatmaps_first"] == 0
    torch.testing.assert_close(others["heatmaps_arm"], 2 * losses["heatmaps_arm"])
    assert others["heatmaps"] == losses["heatmaps"]
    with pytest.raises(InputError, match="there is no loss 'heatmaps_last'"):
        create_objective(top_down_recipe(loss_weights={"heatmaps_last": 1.0}), auxiliary)
