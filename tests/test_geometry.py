"""Coordinates: conventions, crops, and the official image coordinates of LPN (shared/goldens)."""

from __future__ import annotations

import numpy as np
import pytest
from support import load_lpn_decode

from leanpose.codecs import BetaSoftArgmax, Heatmap
from leanpose.geometry import (
    CONVENTIONS,
    Convention,
    Size,
    boxes_around,
    crop,
    crop_matrices,
    grid_center,
    heatmap_to_input,
    image_matrix,
    input_to_heatmap,
    invert,
    iou,
    joint_scores,
    oks,
    oks_nms,
    padded_boxes,
    relaid_maps,
    transform,
)
from leanpose.keypoint_sets import COCO

INPUT, HEATMAP = (256, 192), (64, 48)  # height, width
# Item 2, keypoints whose soft position ends on .5: which way it is rounded depends on the platform.
KNIFE_EDGES = [0, 8, 10]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load_lpn_decode()


def box_around(center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The (N, 4) box of the published code's center and scale, the latter in units of 200 pixels."""
    return np.concatenate([center - 100 * scale, center + 100 * scale], axis=-1).reshape(-1, 4)


def to_image(keypoints: np.ndarray, golden: dict[str, np.ndarray]) -> np.ndarray:
    """Carry (3, 17, 2) heat-map pixels to the images as leanpose does."""
    boxes = box_around(golden["center"], golden["scale"])
    matrices = crop_matrices(boxes, INPUT, padding=1.0, convention="classic")
    return transform(heatmap_to_input(keypoints, INPUT, HEATMAP, "classic"), invert(matrices))


@pytest.mark.parametrize(
    ("name", "center", "scale", "degrees"),
    [("affine.rot0", (320, 240), (1.2, 1.6), 0), ("affine.rot33", (101.5, 333.25), (0.6225, 0.83), 33)],
)
def test_official_matrices(
    golden: dict[str, np.ndarray],
    name: str,
    center: tuple[float, float],
    scale: tuple[float, float],
    degrees: float,
) -> None:
    boxes = box_around(np.array(center), np.array(scale))
    matrix = crop_matrices(boxes, INPUT, padding=1.0, convention="classic", degrees=degrees)[0]
    np.testing.assert_allclose(matrix, golden[name], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        (Heatmap(shift=False), "argmax"),
        (Heatmap(), "quarter"),
        (BetaSoftArgmax(shift=False), "soft160"),
        (BetaSoftArgmax(), "soft160_quarter"),
    ],
)
def test_official_image_coordinates(golden: dict[str, np.ndarray], codec: Heatmap | BetaSoftArgmax, name: str) -> None:
    n, k = golden["heatmaps"].shape[:2]
    keep = np.ones((n, k), dtype=bool)
    keep[2:, [edge for edge in KNIFE_EDGES if edge < k]] = name != "soft160_quarter"
    found = to_image(codec.decode_maps(golden["heatmaps"])[0], golden)
    np.testing.assert_allclose(found[keep], golden[f"{name}.preds_image"][keep], rtol=0, atol=1e-3)


def test_official_chain_after_the_network(golden: dict[str, np.ndarray]) -> None:
    keypoints, _ = BetaSoftArgmax().decode_maps(golden["flip.fused_shift"])
    wanted = golden["flip.fused_shift.soft160_quarter.preds_image"]
    np.testing.assert_allclose(to_image(keypoints, golden), wanted, rtol=0, atol=1e-3)


def test_official_oks(golden: dict[str, np.ndarray]) -> None:
    keypoints, areas, scores = golden["oks.keypoints"][..., :2], golden["oks.area"], golden["oks.score"]
    similarity = oks(keypoints, keypoints, areas, areas, COCO.oks_sigmas)
    np.testing.assert_allclose(similarity, golden["oks.matrix"], rtol=0, atol=1e-12)
    for threshold in (0.9, 0.5):
        kept = oks_nms(keypoints, scores, areas, COCO.oks_sigmas, threshold)
        assert kept.tolist() == golden[f"oks.keep_thr{threshold}"].tolist()


BOXES = np.array([[10, 20, 110, 220], [-30, 5, 400, 90], [3.5, 2.25, 5, 9]], np.float32)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("degrees", [0, 33, -120])
def test_to_the_heat_map_and_back(convention: Convention, degrees: float) -> None:
    points = np.random.default_rng(0).uniform(-50, 500, (3, 17, 2))
    matrices = crop_matrices(BOXES, INPUT, 1.25, convention, degrees)
    there = input_to_heatmap(transform(points, matrices), INPUT, HEATMAP, convention)
    back = transform(heatmap_to_input(there, INPUT, HEATMAP, convention), invert(matrices))
    np.testing.assert_allclose(back, points, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("convention", "corner"),
    [("udp", (191, 255)), ("classic", (192, 256))],  # where the lower right corner of the padded box falls
)
def test_the_padded_box_fills_the_input(convention: Convention, corner: tuple[float, float]) -> None:
    centers, sizes = padded_boxes(BOXES, 192 / 256, 1.25)
    corners = np.stack([centers - sizes / 2, centers, centers + sizes / 2], axis=1)
    found = transform(corners, crop_matrices(BOXES, INPUT, 1.25, convention))
    middle = grid_center(INPUT, convention)
    # The one scale of both axes is taken from the height, so in udp the width is met to a third of a pixel only.
    np.testing.assert_allclose(found[:, :, 1], [[0, middle[1], corner[1]]] * 3, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[:, :, 0], [[0, middle[0], corner[0]]] * 3, rtol=0, atol=0.2)


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((0, 0, 100, 200), (150, 200)),  # too narrow: widened
        ((0, 0, 300, 100), (300, 400)),  # too flat: heightened
        ((5, 5, 155, 205), (150, 200)),  # fits
    ],
)
def test_padded_boxes_extend_and_never_cut(box: tuple[float, ...], size: tuple[float, float]) -> None:
    centers, sizes = padded_boxes(np.array([box]), 0.75, 1.5)
    np.testing.assert_allclose(centers[0], [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    np.testing.assert_allclose(sizes[0], np.array(size) * 1.5)


@pytest.mark.parametrize(
    ("convention", "difference"),
    [("udp", 0.0), ("classic", 0.75)],  # the latter is why published networks move the mirrored map by a pixel
)
def test_mirroring_a_crop_mirrors_its_heat_map(convention: Convention, difference: float) -> None:
    points = np.random.default_rng(0).uniform(0, 190, (50, 2))
    mirrored = points * (-1, 1) + (INPUT[1] - 1, 0)
    there = input_to_heatmap(points, INPUT, HEATMAP, convention) * (-1, 1) + (HEATMAP[1] - 1, 0)
    found = input_to_heatmap(mirrored, INPUT, HEATMAP, convention)
    np.testing.assert_allclose(found - there, [[difference, 0]] * 50, rtol=0, atol=1e-12)


def test_mirroring_the_image_mirrors_the_crop() -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (120, 90, 3), np.uint8)
    box = np.array([[11, 7, 60, 95.5]])
    mirrored_box = np.array([[89 - 60, 7, 89 - 11, 95.5]])
    ours, theirs = (
        crop(side, crop_matrices(b, (64, 48))[0], (64, 48)).astype(int)
        for side, b in ((image, box), (image[:, ::-1].copy(), mirrored_box))
    )
    # OpenCV places samples on a grid of 1/32 pixel, which in noise is worth up to 8 levels an axis.
    assert np.abs(ours - theirs[:, ::-1]).max() <= 16
    assert np.abs(ours - theirs).max() > 100


def test_positive_degrees_turn_the_content_counter_clockwise() -> None:
    matrix = crop_matrices(np.array([[0, 0, 100, 100]]), (101, 101), 1.0, degrees=90)
    right_of_the_middle = transform(np.array([[[75.0, 50.0]]]), matrix)[0, 0]
    np.testing.assert_allclose(right_of_the_middle, [50, 25], atol=1e-9)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_torch_tensors_are_carried_too(convention: Convention) -> None:
    torch = pytest.importorskip("torch")
    points = np.random.default_rng(0).uniform(0, 190, (4, 17, 2)).astype(np.float32)
    found = input_to_heatmap(torch.from_numpy(points), INPUT, HEATMAP, convention)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), input_to_heatmap(points, INPUT, HEATMAP, convention), rtol=1e-6)


def test_transform_of_one_matrix_by_hand() -> None:
    matrix = np.array([[[2.0, 1.0, 10.0], [0.0, 3.0, -5.0]]])
    np.testing.assert_allclose(transform(np.array([[[1.0, 2.0], [0.0, 0.0]]]), matrix), [[[14, 1], [10, -5]]])
    np.testing.assert_allclose(transform(np.array([[[14.0, 1.0]]]), invert(matrix)), [[[1, 2]]], atol=1e-12)


def ramp(height: int, width: int) -> np.ndarray:
    """An image whose red grows with x and whose green grows with y, from 2 to 252; blue is full.

    Values between two levels are dithered, so that rounding has no preference anywhere.
    """
    red = np.linspace(2, 252, width)
    green = np.linspace(2, 252, height)
    image = np.stack(np.broadcast_arrays(red, green[:, None], 255.0), axis=2)
    return np.floor(image + np.random.default_rng(0).uniform(0, 1, image.shape)).clip(0, 255).astype(np.uint8)


def misplacement(image: np.ndarray, matrix: np.ndarray, size: Size, margin: float) -> np.ndarray:
    """By how many crop pixels a crop of `ramp` is misplaced: on average in x and y, at most in x and y.

    Looks at pixels only that lie at least `margin` image pixels inside the image.
    """
    height, width = image.shape[:2]
    result = crop(image, matrix, size).astype(float)
    y, x = np.mgrid[: size[0], : size[1]]
    places = transform(np.stack([x, y], axis=2).reshape(1, -1, 2), invert(matrix[None]))[0]
    inside = ((places >= margin) & (places <= np.array([width, height]) - 1 - margin)).all(axis=1)
    assert inside.mean() > 0.3
    slopes = 250 / np.array([width - 1, height - 1])  # levels per image pixel
    errors = result.reshape(-1, 3)[inside, :2] - (2 + slopes * places[inside])
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    return np.append(errors.mean(axis=0), np.abs(errors).max(axis=0)) / np.tile(slopes / scale, 2)


@pytest.mark.parametrize("factor", [0.4, 1, 1.9, *range(2, 21), 2.5, 7.3])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.37, 0.81), (5.0, 3.0)])
def test_crop_of_a_ramp_is_in_place(factor: float, offset: tuple[float, float]) -> None:
    """An offset between the image and its averaged copy shows as a quarter crop pixel or more."""
    size = (32, 24)
    x, y = offset
    box = np.array([[x, y, x + 23 * factor, y + 31 * factor]])
    matrix = crop_matrices(box, size, 1.0)[0]
    image = ramp(int(y + 31 * factor) + 23, int(x + 23 * factor) + 17)
    found = misplacement(image, matrix, size, margin=1.5 * factor)
    assert np.abs(found[:2]).max() < 0.1, found
    assert np.abs(found[2:]).max() < 0.5, found  # pixel by pixel, rounding to 8 bits included


@pytest.mark.parametrize("degrees", [33, -90, 180])
@pytest.mark.parametrize("factor", [1, 3, 8])
def test_turned_crop_of_a_ramp_is_in_place(degrees: float, factor: int) -> None:
    image = ramp(40 * factor, 50 * factor)
    box = np.array([[4.3, 5.7, 4.3 + 24 * factor, 5.7 + 30 * factor]])
    matrix = crop_matrices(box, (32, 24), 1.0, degrees=degrees)[0]
    assert np.abs(misplacement(image, matrix, (32, 24), margin=1.5 * factor)[:2]).max() < 0.1


@pytest.mark.parametrize("factor", range(1, 21))
@pytest.mark.parametrize("odd", [0, 1, 7])
def test_crop_at_the_borders(factor: int, odd: int) -> None:
    """Full inside the image and black outside; what lies nearer than 1.6 crop pixels to the border may be mixed."""
    height, width = 31 * factor + odd, 23 * factor + odd
    white = np.full((height, width, 3), 255, np.uint8)
    matrix = crop_matrices(np.array([[0, 0, width, height]]), (64, 48), 1.6)[0] / [[2], [2]]
    size = (32, 24)
    result = crop(white, matrix, size)[..., 0]
    y, x = np.mgrid[: size[0], : size[1]]
    places = transform(np.stack([x, y], axis=2).reshape(1, -1, 2), invert(matrix[None]))[0].reshape(*size, 2)
    depth = np.minimum(places + 0.5, np.array([width, height]) - 0.5 - places).min(axis=2)  # px inside the border
    depth *= np.sqrt(np.linalg.det(matrix[:, :2]))  # crop pixels
    assert (result[depth > 1.6] == 255).all() and (depth > 1.6).any()
    assert (result[depth < -1.6] == 0).all() and (depth < -1.6).any()


def test_large_images_do_not_alias() -> None:
    """One-pixel stripes become an even grey, not stripes of another width."""
    stripes = np.zeros((600, 600, 3), np.uint8)
    stripes[:, ::2] = 255
    result = crop(stripes, crop_matrices(np.array([[50, 50, 549, 549]]), (50, 50), 1.0)[0], (50, 50))
    assert np.abs(result.astype(float) - 127.5).max() < 2


@pytest.mark.parametrize("factor", [1, 12])
def test_crop_beside_the_image_is_black(factor: int) -> None:
    white = np.full((40, 40, 3), 255, np.uint8)
    box = np.array([[5000, 5000, 5000 + 20 * factor, 5000 + 30 * factor]])
    assert not crop(white, crop_matrices(box, (32, 24))[0], (32, 24)).any()


def test_crop_without_change() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    matrix = np.array([[1.0, 0, -3], [0, 1, -4]])
    np.testing.assert_array_equal(crop(image, matrix, (10, 8)), image[4:14, 3:11])


def test_iou() -> None:
    a = np.array([[0, 0, 10, 10], [100, 100, 120, 110]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4], [3, 3, 3, 3]], np.float32)
    np.testing.assert_allclose(iou(a, b), np.array([[1, 1 / 3, 0, 0.04, 0], [0.0] * 5]), atol=1e-6)
    assert iou(a, b[:0]).shape == (2, 0)


def test_several_looks_make_one_score() -> None:
    one, other = np.array([[0.0, 0, 10, 20]]), np.array([[50.0, 0, 60, 20]])
    near = one + np.array([0.0, 0, 0, 2])
    looks = [
        (np.concatenate([one, other]), np.array([0.6, 0.3], np.float32)),
        (np.concatenate([near, near]), np.array([0.4, 0.5], np.float32)),
        (np.zeros((0, 4)), np.zeros(0, np.float32)),
    ]
    scores = joint_scores(np.concatenate([one, other]), looks, 0.5)
    np.testing.assert_allclose(scores, [(0.6 + (0.6 + 0.5) / 3) / 2, (0.3 + 0.3 / 3) / 2], rtol=1e-6)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(joint_scores(one, looks, 0.95), [(0.6 + 0.6 / 3) / 2], rtol=1e-6)
    assert joint_scores(np.zeros((0, 4)), looks, 0.5).shape == (0,)


def test_oks_by_hand() -> None:
    """One keypoint of sigma 0.1 that is 20 px off in an area of 10000: exp(-400 / (2 * 10000 * 0.04))."""
    a, b = np.array([[[0.0, 0.0], [5.0, 5.0]]]), np.array([[[20.0, 0.0], [5.0, 5.0]]])
    found = oks(a, b, np.array([8000.0]), np.array([12000.0]), np.array([0.1, 0.1]))
    np.testing.assert_allclose(found, [[(np.exp(-0.5) + 1) / 2]])


@pytest.mark.parametrize(
    ("scores", "threshold", "kept"),
    [
        ([0.1, 0.9, 0.5], 0.9, [1, 2]),  # 0 lies on 2, which is better
        ([0.5, 0.9, 0.1], 0.9, [1, 0]),
        ([0.5, 0.5, 0.5], 0.9, [0, 1]),  # the first of equals stays
        ([0.5, 0.9, 0.1], 1.0, [1, 0, 2]),  # at the threshold is not above it
    ],
)
def test_oks_nms_keeps_the_better_and_sorts(scores: list[float], threshold: float, kept: list[int]) -> None:
    persons = np.zeros((3, 17, 2))
    persons[1] += 500
    found = oks_nms(persons, np.array(scores), np.full(3, 5000.0), COCO.oks_sigmas, threshold)
    assert found.tolist() == kept


def test_oks_nms_of_nobody() -> None:
    assert oks_nms(np.zeros((0, 17, 2)), np.zeros(0), np.zeros(0), COCO.oks_sigmas).tolist() == []


@pytest.mark.parametrize(
    ("image", "short_side", "size"),  # (height, width) each
    [
        ((480, 640), 256, (256, 384)),  # these are HigherHRNet's
        ((480, 640), 448, (448, 640)),
        ((480, 640), 512, (512, 704)),
        ((427, 640), 448, (448, 704)),
        ((1080, 1920), 512, (512, 960)),
        ((640, 480), 256, (384, 256)),
        ((512, 512), 512, (512, 512)),
        ((512, 1024), 512, (512, 1024)),  # nothing is added where it fits
        ((333, 333 * 3), 448, (448, 448 * 3)),  # also where the scale is no short number
        ((512, 1025), 512, (512, 1088)),
        ((3, 4), 256, (256, 384)),
        ((1, 1), 256, (256, 256)),
        ((100, 400), 256, (256, 1024)),
        ((100, 401), 256, (256, 1024)),  # no longer than four short sides
        ((1, 500), 256, (256, 1024)),
        ((500, 1), 256, (1024, 256)),
        ((1, 10**6), 128, (128, 512)),
    ],
)
def test_an_image_fits_its_input(image: Size, short_side: int, size: Size) -> None:
    matrix, found = image_matrix(image, short_side)
    assert found == size and matrix.shape == (1, 2, 3) and matrix.dtype == np.float64
    scale = min(short_side / min(image), 4 * short_side / max(image))
    np.testing.assert_allclose(matrix[0, :, :2], scale * np.eye(2))
    height, width = image
    middle = np.array([int(width / 2 + 0.5), int(height / 2 + 0.5)])
    np.testing.assert_allclose(transform(middle[None, None], matrix)[0, 0], [size[1] / 2, size[0] / 2], atol=1e-6)
    # As published, the middle of an odd side is half a pixel too far.
    corners = transform(np.array([[[0, 0], [width, height]]]), matrix)[0]
    assert (corners[0] >= -scale / 2 - 1e-6).all() and (corners[1] <= np.array(size[::-1]) + 1e-6).all()


def test_the_longest_input_can_be_chosen() -> None:
    matrix, size = image_matrix((100, 1000), 96, multiple=32, longest=2)
    assert size == (96, 192)
    assert matrix[0, 0, 0] == matrix[0, 1, 1] == pytest.approx(0.192)


def test_the_image_is_black_where_it_ends() -> None:
    matrix, size = image_matrix((50, 400), 64)
    result = crop(np.full((50, 400, 3), 255, np.uint8), matrix[0], size)
    rows = result[..., 0].mean(axis=1)
    assert size == (64, 256) and (rows[17:47] == 255).all()
    assert (rows[:15] == 0).all() and (rows[49:] == 0).all()


@pytest.mark.parametrize("image", [(480, 640), (427, 640), (100, 120), (333, 333), (20, 300), (300, 20)])
@pytest.mark.parametrize(("old_side", "new_side"), [(128, 256), (512, 256), (256, 256), (192, 448)])
@pytest.mark.parametrize("strides", [(2, 2), (4, 2), (2, 1)])
def test_maps_of_another_input_are_laid_in_place(
    image: Size, old_side: int, new_side: int, strides: tuple[int, int]
) -> None:
    """Maps that hold the place in the image still hold it."""
    (old, old_size), (new, new_size) = (image_matrix(image, side) for side in (old_side, new_side))

    def ramps(matrix: np.ndarray, size: Size, stride: int) -> np.ndarray:
        y, x = (np.arange(side // stride) * stride + stride / 2 for side in size)  # the middle of the map's pixels
        places = transform(np.stack(np.meshgrid(x, y), axis=2).reshape(1, -1, 2), invert(matrix))
        return places.reshape(len(y), len(x), 2).transpose(2, 0, 1).astype(np.float32)

    maps = ramps(old, old_size, strides[0])
    expected = ramps(new, new_size, strides[1])
    result = relaid_maps(maps, (old, old_size), (new, new_size), expected.shape[1:])
    assert result.shape == expected.shape and result.dtype == np.float32
    inside = (
        (expected >= maps.min(axis=(1, 2))[:, None, None]) & (expected <= maps.max(axis=(1, 2))[:, None, None])
    ).all(0)
    assert inside.mean() > 0.7
    pixel = strides[0] / old[0, 0, 0]  # of the old map; OpenCV places samples on a grid of 1/32 pixel
    np.testing.assert_allclose(result[:, inside], expected[:, inside], rtol=0, atol=pixel / 16)
    assert result.min() >= maps.min() - 1e-3 and result.max() <= maps.max() + 1e-3  # nothing is made up beside them


def test_boxes_around_keypoints() -> None:
    nan = np.nan
    keypoints = np.array(
        [
            [[10, 20], [110, 60], [30, 40]],  # the margin is a tenth of the longer side
            [[nan, nan], [110, 60], [30, 40]],
            [[nan, nan], [5, 7], [nan, nan]],  # a single keypoint: one pixel
            [[1, 1], [1, 4], [1, 2]],
            [[nan, nan], [nan, nan], [nan, nan]],
        ],
        np.float32,
    )
    boxes = boxes_around(keypoints)
    assert boxes.dtype == np.float32
    expected: list[list[float]] = [[0, 10, 120, 70], [22, 32, 118, 68], [4, 6, 6, 8], [0, 0, 2, 5], [nan] * 4]
    np.testing.assert_allclose(boxes, expected, rtol=1e-6)
    np.testing.assert_allclose(boxes_around(keypoints[:1], margin=0.25), [[-15, -5, 135, 85]])


def test_boxes_around_nobody() -> None:
    boxes = boxes_around(np.zeros((0, 17, 2), np.float32))
    assert boxes.shape == (0, 4) and boxes.dtype == np.float32
