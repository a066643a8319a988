"""Random views: pixels and keypoints move together, and a view depends on its random numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from leanpose.data.augment import NO_AUGMENTATION, NOISE, Augmentation, augment  # noqa: E402
from leanpose.errors import InputError  # noqa: E402
from leanpose.geometry import CONVENTIONS, Convention  # noqa: E402
from leanpose.keypoint_sets import COCO, KeypointSet  # noqa: E402

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


def blobs(centres: torch.Tensor, radius: float = 3.0) -> torch.Tensor:
    """Return (B, *CROP, 3) uint8 pictures, each with one Gaussian blob around its centre (B, 2)."""
    y, x = torch.meshgrid(torch.arange(CROP[0]), torch.arange(CROP[1]), indexing="ij")
    squared = (x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2
    return (250 * torch.exp(-squared / (2 * radius**2))).round().to(torch.uint8)[..., None].expand(-1, -1, -1, 3)


def centroid(image: torch.Tensor) -> torch.Tensor:
    """Return x, y of the centre of mass of (3, h, w)."""
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
    centres = torch.from_numpy(random.uniform([20, 26], [52, 70], (count, 2)).astype(np.float32))
    noise = random_noise(count)
    images, moved, _ = augment(
        blobs(centres), centres[:, None], torch.full((count, 1), 2), noise, settings, INPUT, NOSE, convention
    )
    points = moved[:, 0]
    inside = ((points > 11) & (points < torch.tensor([INPUT[1] - 12, INPUT[0] - 12]))).all(1)  # the whole blob
    assert inside.sum() >= 10
    found = torch.stack([centroid(image) for image in images[inside]])
    distances = (found - points[inside]).norm(dim=1)
    assert distances.max() < 0.3
    assert (points - (centres - torch.tensor([MARGIN[1], MARGIN[0]]))).norm(dim=1).max() > 3  # views do differ


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
def test_half_body_centres_on_the_half(which: float) -> None:
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


def test_brightness_multiplies_each_picture_by_its_factor() -> None:
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
