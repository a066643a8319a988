"""Random views: pixels and keypoints move together, and a view depends on its random numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from leanpose.errors import InputError
from leanpose.geometry import CONVENTIONS, Convention
from leanpose.keypoint_sets import COCO, KeypointSet
from leanpose.training.augment import (
    NO_AUGMENTATION,
    NOISE,
    Augmentation,
    RandomViews,
    augment,
    draw_views,
)

INPUT = (64, 48)
CROP = (96, 72)
MARGIN = ((CROP[0] - INPUT[0]) // 2, (CROP[1] - INPUT[1]) // 2)
NOSE = KeypointSet("nose", ("nose",), (), "test")
STRONG = Augmentation(flip=0.5, scale=0.4, rotation=45, rotation_probability=0.8, shift=0.1, half_body=0.3)


def random_noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, NOISE, generator=torch.Generator().manual_seed(seed))


def random_crops(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, *CROP, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def people(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keypoints (count, 17, 2) inside the view's part of the crop, and visibility."""
    random = np.random.default_rng(seed)
    low, high = np.array([MARGIN[1], MARGIN[0]]), np.array([CROP[1] - MARGIN[1], CROP[0] - MARGIN[0]])
    keypoints = torch.from_numpy(random.uniform(low, high, (count, 17, 2)).astype(np.float32))
    return keypoints, torch.from_numpy(random.integers(0, 3, (count, 17)).astype(np.int8))


def blobs(centers: torch.Tensor, radius: float = 3.0) -> torch.Tensor:
    """Return (B, *CROP, 3) uint8 images, each with one Gaussian blob around its center (B, 2)."""
    y, x = torch.meshgrid(torch.arange(CROP[0]), torch.arange(CROP[1]), indexing="ij")
    squared = (x - centers[:, 0, None, None]) ** 2 + (y - centers[:, 1, None, None]) ** 2
    return (250 * torch.exp(-squared / (2 * radius**2))).round().to(torch.uint8)[..., None].expand(-1, -1, -1, 3)


def centroid(image: torch.Tensor) -> torch.Tensor:
    """Return x, y of the center of mass of (3, h, w)."""
    mass = image.mean(0)
    y, x = torch.meshgrid(torch.arange(mass.shape[0]), torch.arange(mass.shape[1]), indexing="ij")
    return torch.stack([(mass * x).sum(), (mass * y).sum()]) / mass.sum()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_no_augmentation_is_the_middle_of_the_crop(convention: Convention) -> None:
    crops = random_crops(3)
    keypoints, visibility = people(3)
    keypoints[0, 4] = torch.nan
    visibility[0, 4] = 0
    images, moved, seen = augment(
        crops, keypoints, visibility, random_noise(3), NO_AUGMENTATION, INPUT, COCO, convention
    )
    middle = crops[:, MARGIN[0] : -MARGIN[0], MARGIN[1] : -MARGIN[1]].permute(0, 3, 1, 2).float()
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, middle, rtol=0, atol=0.02)
    expected = keypoints - torch.tensor([MARGIN[1], MARGIN[0]])
    labelled = ~keypoints.isnan()
    torch.testing.assert_close(moved[labelled], expected[labelled], rtol=0, atol=1e-4)
    assert torch.isfinite(moved).all()
    assert torch.equal(seen, visibility)


VIEWS = {
    "flip": Augmentation(flip=1, scale=0, rotation=0),
    "zoom": Augmentation(flip=0, scale=0.4, rotation=0),
    "rotation": Augmentation(flip=0, scale=0, rotation=60, rotation_probability=1),
    "shift": Augmentation(flip=0, scale=0, rotation=0, shift=0.1),
    "all": STRONG,
}


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("settings", VIEWS.values(), ids=VIEWS)
def test_keypoints_follow_the_pixels(settings: Augmentation, convention: Convention) -> None:
    count = 60
    random = np.random.default_rng(3)
    centers = torch.from_numpy(random.uniform([20, 26], [52, 70], (count, 2)).astype(np.float32))
    noise = random_noise(count)
    images, moved, _ = augment(
        blobs(centers), centers[:, None], torch.full((count, 1), 2), noise, settings, INPUT, NOSE, convention
    )
    points = moved[:, 0]
    inside = ((points > 11) & (points < torch.tensor([INPUT[1] - 12, INPUT[0] - 12]))).all(1)  # the whole blob
    assert inside.sum() >= 10
    found = torch.stack([centroid(image) for image in images[inside]])
    distances = (found - points[inside]).norm(dim=1)
    assert distances.max() < 0.3
    assert (points - (centers - torch.tensor([MARGIN[1], MARGIN[0]]))).norm(dim=1).max() > 3  # views do differ


def test_flip_swaps_left_and_right_once() -> None:
    crops = random_crops(2)
    keypoints, visibility = people(2)
    images, moved, seen = augment(
        crops, keypoints, visibility, random_noise(2), Augmentation(flip=1, scale=0, rotation=0), INPUT, COCO
    )
    plain, points, _ = augment(crops, keypoints, visibility, random_noise(2), NO_AUGMENTATION, INPUT, COCO)
    torch.testing.assert_close(images, plain.flip(3), rtol=0, atol=0.05)
    left, right = COCO.keypoints.index("left_wrist"), COCO.keypoints.index("right_wrist")
    mirrored = torch.stack([INPUT[1] - 1 - points[..., 0], points[..., 1]], dim=-1)
    torch.testing.assert_close(moved[:, left], mirrored[:, right], rtol=0, atol=1e-4)
    torch.testing.assert_close(moved[:, right], mirrored[:, left], rtol=0, atol=1e-4)
    torch.testing.assert_close(moved[:, 0], mirrored[:, 0], rtol=0, atol=1e-4)
    assert torch.equal(seen, visibility[:, COCO.flip_index])


def test_about_the_wanted_share_is_flipped_and_rotated() -> None:
    keypoints, visibility = people(1)
    count = 400
    keypoints, visibility = keypoints.expand(count, -1, -1), visibility.expand(count, -1)
    settings = Augmentation(flip=0.25, scale=0, rotation=40, rotation_probability=0.6)
    _, moved, _ = augment(
        torch.zeros(count, *CROP, 3, dtype=torch.uint8),
        keypoints,
        visibility,
        random_noise(count),
        settings,
        INPUT,
        COCO,
    )
    # an orientation of the triangle nose, left eye, left ear: mirrored views turn it round
    nose, wrist, ankle = (moved[:, i] for i in (0, 9, 15))
    plain = keypoints[0]
    original = cross(plain[9] - plain[0], plain[15] - plain[0])
    swapped = cross(plain[10] - plain[0], plain[16] - plain[0])
    sides = cross(wrist - nose, ankle - nose)
    flipped = (sides - original).abs() > (sides + swapped).abs()
    assert 0.2 < flipped.float().mean() < 0.3
    unturned = torch.isclose((ankle - nose)[~flipped], plain[15] - plain[0], atol=1e-3).all(1)
    assert 0.3 < unturned.float().mean() < 0.5


def cross(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def test_limits_of_zoom_and_angle() -> None:
    points = torch.tensor([[36.0, 48.0], [46.0, 48.0]])
    pair = KeypointSet("pair", ("a", "b"), (), "test")
    count = 500
    settings = Augmentation(flip=0, scale=0.3, rotation=20, rotation_probability=1)
    _, moved, _ = augment(
        torch.zeros(count, *CROP, 3, dtype=torch.uint8),
        points.expand(count, -1, -1),
        torch.full((count, 2), 2),
        random_noise(count),
        settings,
        INPUT,
        pair,
    )
    step = moved[:, 1] - moved[:, 0]
    zoom = 10 / step.norm(dim=1)
    assert 0.7 - 1e-4 <= zoom.min() < 0.72
    assert 1.28 < zoom.max() <= 1.3 + 1e-4
    degrees = torch.rad2deg(torch.atan2(step[:, 1], step[:, 0])).abs()
    assert 36 < degrees.max() <= 40 + 1e-3


@pytest.mark.parametrize("which", [0.25, 0.75], ids=["lower", "upper"])
def test_half_body_centers_on_the_half(which: float) -> None:
    keypoints, _ = people(1, seed=2)
    visibility = torch.full((1, 17), 2)
    noise = random_noise(1)
    noise[:, 6:8] = torch.tensor([0.0, which])
    settings = Augmentation(flip=0, scale=0, rotation=0, half_body=1)
    _, moved, _ = augment(random_crops(1), keypoints, visibility, noise, settings, INPUT, COCO)
    half = moved[0, 11:] if which < 0.5 else moved[0, :11]
    middle = torch.tensor([(INPUT[1] - 1) / 2, (INPUT[0] - 1) / 2])
    torch.testing.assert_close(half.mean(0), middle, rtol=0, atol=1e-3)


def test_half_body_takes_the_half_that_is_labelled_and_zooms_in() -> None:
    keypoints, _ = people(1)
    keypoints[0, :11] = torch.tensor([36.0, 40.0]) + torch.linspace(-6, 6, 11)[:, None]
    visibility = torch.full((1, 17), 2)
    visibility[0, 11:15] = 0  # two ankles are no half
    noise = random_noise(1)
    noise[:, 6:8] = torch.tensor([0.0, 0.25])  # asks for the lower half
    settings = Augmentation(flip=0, scale=0, rotation=0, half_body=1)
    _, moved, _ = augment(random_crops(1), keypoints, visibility, noise, settings, INPUT, COCO)
    torch.testing.assert_close(moved[0, 5], torch.tensor([23.5, 31.5]), rtol=0, atol=1e-3)
    assert (moved[0, 10] - moved[0, 0])[1] == pytest.approx(12 / 0.4, abs=1e-3)  # 1.5 x 12 px: more than the limit


def test_half_body_needs_more_than_eight_labelled_keypoints() -> None:
    keypoints, visibility = people(2)
    visibility[:] = 2
    visibility[0, :9] = 0  # 8 are left
    noise = random_noise(2)
    noise[:, 6:8] = torch.tensor([0.0, 0.25])
    settings = Augmentation(flip=0, scale=0, rotation=0, half_body=1)
    _, moved, _ = augment(random_crops(2), keypoints, visibility, noise, settings, INPUT, COCO)
    plain = keypoints - torch.tensor([MARGIN[1], MARGIN[0]])
    torch.testing.assert_close(moved[0], plain[0], rtol=0, atol=1e-4)
    assert not torch.allclose(moved[1], plain[1], atol=1)


def test_a_view_does_not_depend_on_its_batch() -> None:
    crops, noise = random_crops(6), random_noise(6)
    keypoints, visibility = people(6)
    settings = Augmentation(0.5, 0.3, 40, 0.6, shift=0.1, half_body=0.5, brightness=0.3, contrast=0.3, saturation=0.3)
    together = augment(crops, keypoints, visibility, noise, settings, INPUT, COCO)
    for i in (0, 4):
        part = slice(i, i + 1)
        alone = augment(crops[part], keypoints[part], visibility[part], noise[part], settings, INPUT, COCO)
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], many[i], rtol=0, atol=1e-3)
    other = augment(crops, keypoints, visibility, random_noise(6, seed=9), settings, INPUT, COCO)
    assert not torch.allclose(other[0], together[0], atol=1)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colour_changes_within_range(name: str) -> None:
    crops, noise = random_crops(8), random_noise(8)
    keypoints, visibility = people(8)
    values: dict[str, Any] = {"flip": 0, "scale": 0, "rotation": 0, name: 1.0}
    images, moved, _ = augment(crops, keypoints, visibility, noise, Augmentation(**values), INPUT, COCO)
    plain, points, _ = augment(crops, keypoints, visibility, noise, NO_AUGMENTATION, INPUT, COCO)
    assert 0 <= images.min() < images.max() <= 255
    assert not torch.allclose(images, plain, atol=5)
    assert torch.equal(moved, points)


def test_brightness_multiplies_each_image_by_its_factor() -> None:
    crops = torch.full((4, *CROP, 3), 100, dtype=torch.uint8)
    keypoints, visibility = people(4)
    noise = random_noise(4)
    settings = Augmentation(flip=0, scale=0, rotation=0, brightness=0.5)
    images, _, _ = augment(crops, keypoints, visibility, noise, settings, INPUT, COCO)
    expected = 100 * (1 + 0.5 * (2 * noise[:, 8] - 1))
    torch.testing.assert_close(images.amax((1, 2, 3)), expected, rtol=0, atol=0.01)
    torch.testing.assert_close(images.amin((1, 2, 3)), expected, rtol=0, atol=0.01)


def test_saturation_keeps_the_mean_of_the_channels() -> None:
    crops = (random_crops(2) // 4 + 96).to(torch.uint8)  # far from the limits
    keypoints, visibility = people(2)
    settings = Augmentation(flip=0, scale=0, rotation=0, saturation=0.5)
    images, _, _ = augment(crops, keypoints, visibility, random_noise(2), settings, INPUT, COCO)
    plain, _, _ = augment(crops, keypoints, visibility, random_noise(2), NO_AUGMENTATION, INPUT, COCO)
    torch.testing.assert_close(images.mean(1), plain.mean(1), rtol=0, atol=0.01)
    assert not torch.allclose(images, plain, atol=1)


def test_outside_the_crop_is_black() -> None:
    crops = torch.full((40, *CROP, 3), 200, dtype=torch.uint8)
    keypoints, visibility = people(40)
    settings = Augmentation(flip=0, scale=0, rotation=0, shift=0.5)
    images, _, _ = augment(crops, keypoints, visibility, random_noise(40), settings, INPUT, COCO)
    assert images.min() == 0
    assert images.max() == pytest.approx(200)


SCENE_VIEWS = VIEWS | {
    "zoomed out": Augmentation(flip=0, scale=0.2, rotation=0, zoom=1.2),
    "uniform": Augmentation(flip=0.5, scale=0.4, rotation=45, rotation_probability=0.8, shift=0.1, uniform=True),
}
COLOURED = Augmentation(0.5, 0.4, 45, 0.8, shift=0.1, brightness=0.5, contrast=0.5, saturation=0.5)


def views_of(count: int, settings: Augmentation, convention: Convention = "udp") -> RandomViews:
    return draw_views(random_noise(count), settings, CROP, INPUT, convention)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("settings", SCENE_VIEWS.values(), ids=SCENE_VIEWS)
def test_all_points_of_a_view_follow_its_pixels(settings: Augmentation, convention: Convention) -> None:
    """Three dots a crop, each in two channels of which one does not change colour, stand for three persons."""
    count = 60
    random = np.random.default_rng(3)
    centers = torch.from_numpy(random.uniform([20, 26], [52, 70], (count, 3, 2)).astype(np.float32))
    views = views_of(count, settings, convention)
    points = views.points(centers[:, :, None])[:, :, 0]  # (B, P, K, 2), as scenes have them
    torch.testing.assert_close(points, views.points(centers))
    compared = 0
    for person in range(3):
        dots = blobs(centers[:, person])
        images = views.images(torch.cat([dots, dots[..., :1]], dim=3))
        assert images.shape == (count, 4, *INPUT)
        position = points[:, person]
        inside = ((position > 11) & (position < torch.tensor([INPUT[1] - 12, INPUT[0] - 12]))).all(1)
        for channels in (images[inside, :3], images[inside, 3:]):
            found = torch.stack([centroid(image) for image in channels])
            assert (found - position[inside]).norm(dim=1).max() < 0.3
        compared += int(inside.sum())
    assert compared >= 30


def test_points_that_are_not_there_stay_so() -> None:
    points = torch.full((5, 2, 17, 2), torch.nan)
    points[:, 0, 3] = torch.tensor([30.0, 40.0])
    moved = views_of(5, STRONG).points(points)
    assert moved.shape == points.shape
    assert torch.equal(moved.isnan(), points.isnan())
    assert views_of(5, STRONG).boxes(torch.full((5, 2, 4), torch.nan)).isnan().all()


def random_boxes(count: int) -> torch.Tensor:
    """Return (count, 4, 4) boxes xyxy in crops, each with an area, some beyond the border."""
    random = np.random.default_rng(5)
    start = random.uniform(-20, 60, (count, 4, 2))
    return torch.from_numpy(np.concatenate([start, start + random.uniform(1, 50, (count, 4, 2))], 2).astype(np.float32))


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """Return (B, P, 4, 2) of (B, P, 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([torch.stack(pair, -1) for pair in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))], -2)


@pytest.mark.parametrize("name", ["flip", "zoom", "shift", "zoomed out"])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_boxes_that_are_not_turned_are_exact(name: str, convention: Convention) -> None:
    boxes, views = random_boxes(40), views_of(40, SCENE_VIEWS[name], convention)
    moved = views.points(corners(boxes))
    expected = torch.cat([moved.amin(2), moved.amax(2)], dim=-1)
    torch.testing.assert_close(views.boxes(boxes), expected, rtol=0, atol=1e-4)
    assert not torch.allclose(expected, boxes, atol=3)


def test_turned_boxes_lie_inside_the_turned_rectangle_and_around_its_ellipse() -> None:
    boxes, views = random_boxes(200), views_of(200, SCENE_VIEWS["uniform"])
    found, moved = views.boxes(boxes), views.points(corners(boxes))
    largest = torch.cat([moved.amin(2), moved.amax(2)], dim=-1)
    inward = torch.tensor([1.0, 1.0, -1.0, -1.0])
    slack = (found - largest) * inward
    assert slack.min() > -1e-3
    assert slack.max() > 1  # it is not that of the corners
    torch.testing.assert_close(found[..., :2] + found[..., 2:], moved.mean(2) * 2, rtol=0, atol=1e-3)

    turns = torch.linspace(0, 2 * torch.pi, 721)
    circle = torch.stack([turns.cos(), turns.sin()], -1)  # (N, 2)
    middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    ellipse = views.points(middle[:, :, None] + half[:, :, None] * circle)
    around = torch.cat([ellipse.amin(2), ellipse.amax(2)], dim=-1)
    torch.testing.assert_close(found, around, rtol=0, atol=0.01)


def test_a_quarter_turn_exchanges_the_sides_of_a_box() -> None:
    views = RandomViews(
        linear=torch.tensor([[[0.0, -1.0], [1.0, 0.0]]]),
        center=torch.tensor([[40.0, 50.0]]),
        middle=torch.tensor([24.0, 32.0]),
        mirrored=torch.tensor([False]),
        colours=torch.ones(1, 3),
        input_size=INPUT,
    )
    found = views.boxes(torch.tensor([[[30.0, 48.0, 50.0, 52.0]]]))  # 20 wide, 4 high, around the center
    torch.testing.assert_close(found, torch.tensor([[[22.0, 22.0, 26.0, 42.0]]]))


@pytest.mark.parametrize("dim", [1, 2])
def test_names_change_sides_in_mirrored_views_only(dim: int) -> None:
    views = views_of(20, STRONG)
    assert 0 < views.mirrored.sum() < 20
    shape = (20, 17, 3) if dim == 1 else (20, 3, 17)
    values = torch.arange(20 * 17 * 3).view(shape)
    named = views.names(values, COCO, dim)
    swapped = values[:, COCO.flip_index] if dim == 1 else values[:, :, COCO.flip_index]
    for i, mirrored in enumerate(views.mirrored.tolist()):
        assert torch.equal(named[i], swapped[i] if mirrored else values[i])
    assert not torch.equal(named, values)


def test_uniform_draws_fill_the_stated_range() -> None:
    count = 2000
    settings = Augmentation(
        flip=0.5, scale=0.5, rotation=30, rotation_probability=1, shift=0.2, zoom=1.25, uniform=True
    )
    views = views_of(count, settings)
    zoom = torch.linalg.det(views.linear).abs().sqrt()
    degrees = torch.rad2deg(torch.atan2(-views.linear[:, 0, 1], views.linear[:, 1, 1]))
    shift = (views.center - torch.tensor([(CROP[1] - 1) / 2, (CROP[0] - 1) / 2])) / INPUT[0]
    for values, middle, reach in (
        (zoom, 1.25, 0.5),
        (degrees, 0.0, 30.0),
        (shift[:, 0], 0.0, 0.2),
        (shift[:, 1], 0.0, 0.2),
    ):
        deviates = (values - middle) / reach
        assert -1 - 1e-4 <= deviates.min() < -0.99
        assert 0.99 < deviates.max() <= 1 + 1e-4
        quarters = torch.histc(deviates, 4, -1, 1) / count
        assert (quarters - 0.25).abs().max() < 0.03


def test_normal_draws_lie_around_the_mean_zoom() -> None:
    views = views_of(2000, Augmentation(flip=0, scale=0.5, rotation=30, rotation_probability=1, zoom=1.25))
    zoom = torch.linalg.det(views.linear).sqrt()
    assert zoom.mean().item() == pytest.approx(1.25, abs=0.03)
    assert 0.75 - 1e-4 <= zoom.min() < zoom.max() <= 1.75 + 1e-4
    assert (zoom - 1.25).abs().median() < 0.5 * 0.75  # nearer to the middle than most of a range


def test_a_fourth_channel_does_not_change_colour() -> None:
    crops = torch.cat([random_crops(8), torch.full((8, *CROP, 1), 255, dtype=torch.uint8)], dim=3)
    crops[:, 30:60, 20:50, 3] = 128
    noise = random_noise(8)
    plain = Augmentation(0.5, 0.4, 45, 0.8, shift=0.1)
    coloured, expected = (draw_views(noise, settings, CROP, INPUT).images(crops) for settings in (COLOURED, plain))
    assert torch.equal(coloured[:, 3], expected[:, 3])
    assert not torch.allclose(coloured[:, :3], expected[:, :3], atol=5)
    three = draw_views(noise, COLOURED, CROP, INPUT).images(crops[..., :3])
    assert torch.equal(coloured[:, :3], three)  # and does not change the others
    assert expected[:, 3].min() == 0  # outside the crop


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zoom": 0.2}, "scale must be below zoom, 0.2, not 0.3"),
        ({"zoom": 0.75, "scale": 0.75}, "scale must be below zoom, 0.75, not 0.75"),
        ({"zoom": -1, "scale": 0}, "scale must be below zoom, -1, not 0"),
        ({"zoom": float("nan")}, "scale must be below zoom, nan, not 0.3"),
    ],
    ids=str,
)
def test_zoom_must_stay_above_zero(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Augmentation(**settings)
    Augmentation(zoom=1.5, scale=1.2)


@pytest.mark.parametrize(
    "setting",
    [
        ("flip", 1.5),
        ("flip", -0.1),
        ("rotation_probability", 2),
        ("half_body", -1),
        ("brightness", 1.01),
        ("contrast", -0.5),
        ("saturation", float("nan")),
        ("scale", -0.1),
        ("scale", 1),
        ("scale", float("nan")),
        ("rotation", -3),
        ("shift", -0.2),
        ("shift", float("inf")),
    ],
    ids=lambda setting: f"{setting[0]}={setting[1]}",
)
def test_invalid_settings(setting: Sequence[Any]) -> None:
    name, value = setting
    with pytest.raises(InputError, match=f"{name} must be .*{value}"):
        Augmentation(**{name: value})
