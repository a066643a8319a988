from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from leanpose.codecs import CODECS, UDP, BetaSoftArgmax, Dark, Heatmap, HeatmapCodec, codec_of, create_codec, fuse_flip
from leanpose.codecs.dark import log_around_peaks, newton_step
from leanpose.errors import InputError, WeightsError
from leanpose.geometry import CONVENTIONS, Convention, heatmap_to_input
from leanpose.weights.record import Weights

if TYPE_CHECKING:
    import torch

SIZE = (64, 48)  # height, width
# Those of one heatmap per keypoint; the others have test files of their own.
OF_ONE_PERSON: dict[str, type[Any]] = {name: make for name, make in CODECS.items() if issubclass(make, HeatmapCodec)}
every_codec = pytest.mark.parametrize("codec", [make() for make in OF_ONE_PERSON.values()], ids=list(OF_ONE_PERSON))


def gaussian_maps(keypoints: np.ndarray, sigma: float = 2.0) -> np.ndarray:
    """Exact Gaussians of peak 1: (N, K, 2) -> (N, K, 64, 48)."""
    y, x = np.indices(SIZE)
    squared = (x - keypoints[..., 0, None, None]) ** 2 + (y - keypoints[..., 1, None, None]) ** 2
    return np.exp(-squared / (2 * sigma**2)).astype(np.float32)


def random_places(margin: float, count: int = 8) -> np.ndarray:
    """(count, 17, 2) sub-pixel places, at least margin pixels inside the map."""
    rng = np.random.default_rng(0)
    return rng.uniform(margin, [SIZE[1] - 1 - margin, SIZE[0] - 1 - margin], (count, 17, 2))


def distances(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.linalg.norm(found - expected, axis=-1)


# ---- decode


@pytest.mark.parametrize(
    ("codec", "largest", "mean"),
    [
        # Half a pixel on both axes is 0.71; the mean distance of a random place from its pixel is 0.38.
        (Heatmap(shift=False), 0.71, 0.39),
        # With the right quarter chosen, at most a quarter remains on each axis: 0.354.
        (Heatmap(), 0.36, 0.20),
        (Dark(), 0.005, 0.005),
        (UDP(), 0.005, 0.005),
        # The mean errors of the table in section 2.3 of the LPN sheet: .042, .326, .162.
        (BetaSoftArgmax(beta=20, shift=False), 0.1, 0.05),
        (BetaSoftArgmax(shift=False), 0.6, 0.34),
        (BetaSoftArgmax(), 0.36, 0.17),
    ],
)
def test_exact_gaussians_are_found_to_the_precision_of_the_codec(
    codec: HeatmapCodec, largest: float, mean: float
) -> None:
    places = random_places(margin=8)
    keypoints, scores = codec.decode_maps(gaussian_maps(places))
    assert keypoints.dtype == scores.dtype == np.float32
    assert keypoints.shape == (8, 17, 2)
    assert distances(keypoints, places).max() < largest
    assert distances(keypoints, places).mean() < mean
    assert scores.min() > 0.9


@pytest.mark.parametrize("codec", [Dark(), UDP()])
@pytest.mark.parametrize("sigma", [1.5, 3.0])
def test_newton_codecs_do_not_need_to_know_sigma(codec: HeatmapCodec, sigma: float) -> None:
    places = random_places(margin=14)
    keypoints, _ = codec.decode_maps(gaussian_maps(places, sigma))
    assert distances(keypoints, places).max() < 0.05


@pytest.mark.parametrize("codec", [Dark(), UDP()])
def test_newton_codecs_withstand_noise_better_than_the_quarter_shift(codec: HeatmapCodec) -> None:
    places = random_places(margin=8)
    noise = np.random.default_rng(1).normal(0, 0.02, (8, 17, *SIZE)).astype(np.float32)
    maps = gaussian_maps(places) + noise
    error = distances(codec.decode_maps(maps)[0], places).mean()
    assert error < 0.5 * distances(Heatmap().decode_maps(maps)[0], places).mean()


BORDER_PEAKS = np.array([[[0, 30], [47, 30], [20, 0], [20, 63], [0, 0], [47, 63], [47, 0]]], dtype=np.float32)


@pytest.mark.parametrize("codec", [Heatmap(), Dark(), Heatmap(shift=False)])
def test_border_peaks_stay_on_their_pixel(codec: HeatmapCodec) -> None:
    keypoints, _ = codec.decode_maps(gaussian_maps(BORDER_PEAKS))
    np.testing.assert_array_equal(keypoints, BORDER_PEAKS)


def test_udp_moves_border_peaks_half_a_pixel_outwards() -> None:
    keypoints, _ = UDP().decode_maps(gaussian_maps(BORDER_PEAKS))
    outwards = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [-1, -1], [1, 1], [1, -1]]) / 2
    np.testing.assert_allclose(keypoints[0], BORDER_PEAKS[0] + outwards, atol=1e-3)


def test_udp_refines_along_the_border() -> None:
    places = np.array([[[0, 30.3], [47, 30.7], [20.4, 0], [20.8, 63]]])
    keypoints, _ = UDP().decode_maps(gaussian_maps(places))
    free_axis = [1, 1, 0, 0]
    error = np.abs(keypoints - places)[0, range(4), free_axis]
    assert error.max() < 0.05


def test_soft_argmax_at_the_border_is_pulled_inwards_by_less_than_half_a_pixel() -> None:
    keypoints, _ = BetaSoftArgmax(shift=False).decode_maps(gaussian_maps(BORDER_PEAKS))
    assert np.abs(keypoints - BORDER_PEAKS).max() < 0.5


@every_codec
def test_no_people(codec: HeatmapCodec) -> None:
    keypoints, scores = codec.decode_maps(np.zeros((0, 17, *SIZE), dtype=np.float32))
    assert keypoints.shape == (0, 17, 2)
    assert scores.shape == (0, 17)
    assert keypoints.dtype == scores.dtype == np.float32


@every_codec
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, 0.7, -0.3, 1e30])
def test_constant_maps_give_finite_places_and_the_value_as_score(codec: HeatmapCodec, value: float) -> None:
    keypoints, scores = codec.decode_maps(np.full((1, 2, *SIZE), value, dtype=np.float32))
    assert np.isfinite(keypoints).all()
    assert (scores == np.float32(value)).all()
    is_soft = isinstance(codec, BetaSoftArgmax)
    np.testing.assert_allclose(keypoints, [[[23.5, 31.5]] * 2] if is_soft else 0, atol=1e-3)


@every_codec
@pytest.mark.filterwarnings("error")
def test_one_nan_makes_the_score_nan_and_touches_no_other_map(codec: HeatmapCodec) -> None:
    maps = gaussian_maps(random_places(margin=8, count=2))
    expected, expected_scores = codec.decode_maps(maps)
    maps[0, 3, 5, 6] = np.nan
    maps[1, 4] = np.nan
    expected[[0, 1], [3, 4]] = 0
    expected_scores[[0, 1], [3, 4]] = np.nan
    keypoints, scores = codec.decode_maps(maps)
    np.testing.assert_array_equal(keypoints, expected)
    np.testing.assert_array_equal(scores, expected_scores)


@every_codec
def test_a_batch_gives_what_its_items_give(codec: HeatmapCodec) -> None:
    maps = np.random.default_rng(0).normal(0, 0.3, (5, 17, *SIZE)).astype(np.float32)
    maps[1:] += gaussian_maps(random_places(margin=0, count=4))
    keypoints, scores = codec.decode_maps(maps)
    singles = [codec.decode_maps(maps[i : i + 1]) for i in range(5)]
    np.testing.assert_allclose(keypoints, np.concatenate([single[0] for single in singles]), atol=1e-5)
    np.testing.assert_array_equal(scores, np.concatenate([single[1] for single in singles]))


@every_codec
def test_noise_moves_no_keypoint_more_than_a_pixel_from_the_map(codec: HeatmapCodec) -> None:
    maps = np.random.default_rng(0).normal(0, 1, (20, 17, *SIZE)).astype(np.float32)
    keypoints, _ = codec.decode_maps(maps)
    assert (keypoints >= -1).all()
    assert (keypoints <= np.array([48, 64])).all()


@every_codec
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 7), (3, 3), (5, 5)])
def test_tiny_maps(codec: HeatmapCodec, size: tuple[int, int]) -> None:
    keypoints, _ = codec.decode_maps(np.random.default_rng(0).random((3, 2, *size), dtype=np.float32))
    assert np.isfinite(keypoints).all()


@every_codec
def test_decode_takes_any_float_type_and_layout_and_leaves_it_unchanged(codec: HeatmapCodec) -> None:
    maps = gaussian_maps(random_places(margin=8, count=2))
    expected, _ = codec.decode_maps(maps)
    strided = np.asfortranarray(maps.astype(np.float64))
    before = strided.copy()
    keypoints, _ = codec.decode_maps(strided)
    np.testing.assert_allclose(keypoints, expected, atol=1e-5)
    np.testing.assert_array_equal(strided, before)


@every_codec
@pytest.mark.parametrize("shape", [(17, 64, 48), (1, 17, 0, 48)])
def test_decode_refuses_other_shapes(codec: HeatmapCodec, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\(N, K, H, W\)"):
        codec.decode_maps(np.zeros(shape, dtype=np.float32))


# ---- the parts of the Newton decoding


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("blur", [1, 3, 11, 17])
@pytest.mark.parametrize("peak", [(24, 30), (2, 61), (45, 2)])
def test_log_around_peaks_equals_the_logarithm_of_the_whole_map_blurred(
    reflect: bool, blur: int, peak: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).random(SIZE, dtype=np.float32)
    pad = 0 if reflect else blur // 2
    padded = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    blurred = cv2.GaussianBlur(padded, (blur, blur), 0)[pad : pad + SIZE[0], pad : pad + SIZE[1]]
    x, y = peak
    expected = np.log(np.maximum(blurred[y - 2 : y + 3, x - 2 : x + 3], 0.1))
    found = log_around_peaks(image[None, None], np.array([[peak]]), reach=2, blur=blur, reflect=reflect, floor=0.1)
    np.testing.assert_allclose(found[:, :, 0, 0], expected, atol=1e-5)


def test_newton_step_finds_the_maximum_of_a_parabola() -> None:
    maximum = np.array([0.4, -0.7])
    hessian = np.array([[-2.0, 0.5], [0.5, -1.0]])
    dx, dy = -hessian @ maximum
    step = newton_step(*(np.array([[value]]) for value in (dx, dy, -2.0, -1.0, 0.5)))
    np.testing.assert_allclose(step, [[maximum]])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("derivatives", "expected"),
    [
        ((0.1, 0.1, 0.0, 0.0, 0.0), (0, 0)),  # flat
        ((0.1, 0.1, -1.0, 0.0, 0.0), (0, 0)),  # ridge
        ((0.1, 0.1, -1.0, 1.0, 0.0), (0, 0)),  # saddle
        ((0.1, 0.1, 1.0, 1.0, 0.0), (0, 0)),  # minimum
        ((0.1, 0.1, -1.0, -1.0, 2.0), (0, 0)),  # oblique saddle
        ((np.nan, 0.1, -1.0, np.nan, 0.0), (0, 0)),
        ((5.0, -0.2, -1.0, -1.0, 0.0), (1, -0.2)),  # too far on one axis
    ],
)
def test_newton_step_is_safe(derivatives: tuple[float, ...], expected: tuple[float, float]) -> None:
    step = newton_step(*(np.array([[value]]) for value in derivatives))
    np.testing.assert_allclose(step, [[expected]])


# ---- encode


def encode(
    codec: HeatmapCodec, places: np.ndarray, visibility: np.ndarray | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    torch = pytest.importorskip("torch")
    if visibility is None:
        visibility = np.full(places.shape[:2], 2)
    return codec.encode_maps(torch.from_numpy(places), torch.from_numpy(visibility), SIZE)


@pytest.mark.parametrize(
    ("codec", "largest"),
    [(Dark(), 0.005), (UDP(), 0.005)],
)
def test_round_trip_of_unquantized_codecs(codec: HeatmapCodec, largest: float) -> None:
    places = random_places(margin=8)
    keypoints, _ = codec.decode_maps(encode(codec, places)[0].numpy())
    assert distances(keypoints, places).max() < largest


@pytest.mark.parametrize("codec", [Heatmap(), Heatmap(shift=False), BetaSoftArgmax(), BetaSoftArgmax(beta=40)])
def test_round_trip_of_quantized_codecs_gives_the_nearest_pixel(codec: HeatmapCodec) -> None:
    places = random_places(margin=8)
    keypoints, _ = codec.decode_maps(encode(codec, places)[0].numpy())
    np.testing.assert_allclose(keypoints, np.floor(places + 0.5), atol=2e-3)


def test_dark_target_is_the_exact_gaussian() -> None:
    places = random_places(margin=0)
    np.testing.assert_allclose(encode(Dark(), places)[0].numpy(), gaussian_maps(places), atol=1e-6)


def test_udp_target_is_the_exact_gaussian_in_a_window_about_the_nearest_pixel() -> None:
    place = np.array([[[20.3, 30.6]]])
    expected = np.zeros((1, 1, *SIZE), dtype=np.float32)
    window = np.s_[:, :, 31 - 6 : 31 + 7, 20 - 6 : 20 + 7]
    expected[window] = gaussian_maps(place)[window]
    np.testing.assert_allclose(encode(UDP(), place)[0].numpy(), expected, atol=1e-6)


@every_codec
def test_which_keypoints_count(codec: HeatmapCodec) -> None:
    places = np.array([[[20, 30], [20, 30], [20, 30], [-8.6, 30], [-8.4, 30], [20, 69.6], [20, 69.4], [np.nan, 3]]])
    visibility = np.array([[0, 1, 2, 2, 2, 2, 2, 2]])
    heatmaps, weights = encode(codec, places, visibility)
    assert weights.tolist() == [[0, 1, 1, 0, 1, 0, 1, 0]]
    assert heatmaps.isfinite().all()
    assert (heatmaps[weights == 0] == 0).all()


@every_codec
def test_encode_result_is_float32_on_the_same_device_without_gradient(codec: HeatmapCodec) -> None:
    torch = pytest.importorskip("torch")
    keypoints = torch.full((2, 3, 2), 20.0, dtype=torch.float64, requires_grad=True)
    visibility = torch.ones((2, 3), dtype=torch.int64)
    heatmaps, weights = codec.encode_maps(keypoints, visibility, SIZE)
    assert heatmaps.shape == (2, 3, *SIZE)
    assert weights.shape == (2, 3)
    for tensor in (heatmaps, weights):
        assert tensor.dtype == torch.float32
        assert tensor.device == keypoints.device
        assert not tensor.requires_grad
    on_meta, weights_on_meta = codec.encode_maps(keypoints.to("meta"), visibility.to("meta"), SIZE)
    assert on_meta.device.type == weights_on_meta.device.type == "meta"


@every_codec
def test_encode_of_no_people(codec: HeatmapCodec) -> None:
    heatmaps, weights = encode(codec, np.zeros((0, 17, 2)))
    assert heatmaps.shape == (0, 17, *SIZE)
    assert weights.shape == (0, 17)


@every_codec
def test_encode_refuses_other_shapes(codec: HeatmapCodec) -> None:
    with pytest.raises(InputError, match=r"visibility \(B, K\)"):
        encode(codec, np.zeros((2, 17, 2)), np.zeros((2, 17, 1)))
    with pytest.raises(InputError, match=r"keypoints \(B, K, 2\)"):
        encode(codec, np.zeros((2, 17, 3)))


# ---- flip test


def test_fuse_flip_of_a_perfect_network_changes_nothing() -> None:
    maps = gaussian_maps(random_places(margin=8, count=2))
    flip_index = [1, 0, *range(2, 17)]
    mirrored = maps[:, flip_index, :, ::-1]
    np.testing.assert_array_equal(fuse_flip(maps, mirrored, flip_index, shift=False), maps)


def test_fuse_flip_shift_moves_right_and_keeps_column_0() -> None:
    mirrored = np.array([4, 3, 2, 1], dtype=np.float32).reshape(1, 1, 1, 4)
    fused = fuse_flip(np.zeros_like(mirrored), mirrored, [0], shift=True)
    assert fused.ravel().tolist() == [0.5, 0.5, 1.0, 1.5]
    assert mirrored.ravel().tolist() == [4, 3, 2, 1]


def test_fuse_flip_refuses_what_does_not_fit() -> None:
    maps = np.zeros((1, 2, 4, 4), dtype=np.float32)
    with pytest.raises(InputError, match="same shape"):
        fuse_flip(maps, maps[:, :1], [0, 1], shift=False)
    for flip_index in ([0], [0, 0], [1, 2]):
        with pytest.raises(InputError, match="flip_index"):
            fuse_flip(maps, maps, flip_index, shift=False)


# ---- the table


@pytest.mark.parametrize("name", list(OF_ONE_PERSON))
def test_create_codec(name: str) -> None:
    codec = create_codec(name, sigma=3)
    assert codec == OF_ONE_PERSON[name](sigma=3)
    with pytest.raises(FrozenInstanceError):
        codec.sigma = 1


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("heatmaps", {}, "Did you mean 'heatmap'?"),
        (
            "xyz",
            {},
            "Known: associative_embedding, beta_soft_argmax, center_box, dark, detected_poses, detections, heatmap, "
            "simcc, udp, yolox.",
        ),
        ("dark", {"sigmas": 2}, "Did you mean 'sigma'?"),
        ("heatmap", {"sigma": 0}, "sigma"),
        ("heatmap", {"sigma": float("nan")}, "sigma"),
        ("heatmap", {"sigma": "2"}, "sigma"),
        ("udp", {"sigma": -1}, "sigma"),
        ("udp", {"blur": 10}, "blur"),
        ("dark", {"blur": -1}, "blur"),
        ("dark", {"blur": 11.0}, "blur"),
        ("beta_soft_argmax", {"beta": 0}, "beta"),
    ],
)
def test_create_codec_refuses(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        create_codec(name, **parameters)
    assert message in str(raised.value)


@pytest.mark.parametrize("convention", CONVENTIONS)
@every_codec
def test_decode_gives_input_pixels(codec: HeatmapCodec, convention: Convention) -> None:
    codec = dataclasses.replace(codec, convention=convention)
    maps = gaussian_maps(random_places(4))
    keypoints, scores = codec.decode({"heatmaps": maps}, (256, 192))
    on_maps, expected_scores = codec.decode_maps(maps)
    np.testing.assert_array_equal(keypoints, heatmap_to_input(on_maps, (256, 192), SIZE, convention))
    np.testing.assert_array_equal(scores, expected_scores)


def test_encode_and_loss_speak_of_input_pixels() -> None:
    torch = pytest.importorskip("torch")
    codec = Dark(sigma=2.0)
    keypoints = torch.tensor([[[96.0, 128.0], [20.0, 20.0], [500.0, 500.0]]])
    weights = torch.tensor([[1.0, 0.25, 1.0]])
    outputs = {"heatmaps": torch.zeros(1, 3, *SIZE)}
    targets, learned = codec.encode(keypoints, weights, outputs, (256, 192))
    assert learned.tolist() == [[1.0, 0.25, 0.0]]  # the last lies outside
    found, _ = codec.decode({"heatmaps": targets["heatmaps"].numpy()}, (256, 192))
    np.testing.assert_allclose(found[0, :2], keypoints[0, :2], atol=0.05)
    squares = targets["heatmaps"].square().mean((2, 3))
    expected = 0.5 * (squares * learned).mean()
    assert codec.loss(outputs, targets, learned, 0.0).item() == pytest.approx(expected.item())


def test_merge_flipped_follows_the_flip_shift() -> None:
    maps = np.random.default_rng(0).random((2, 2, *SIZE), dtype=np.float32)
    for shift in (False, True):
        merged = Heatmap(flip_shift=shift).merge_flipped({"heatmaps": maps}, {"heatmaps": maps}, [1, 0])
        np.testing.assert_array_equal(merged["heatmaps"], fuse_flip(maps, maps, [1, 0], shift))


def test_the_codec_of_a_record_has_its_options_convention_and_flip_shift() -> None:
    record = Weights("a", "lpn50", (256, 192), codec="dark", codec_options={"sigma": 1.5}, convention="classic")
    assert codec_of(dataclasses.replace(record, flip_shift=True)) == Dark(1.5, convention="classic", flip_shift=True)
    with pytest.raises(WeightsError, match="a has the task bottom_up, but its codec dark is for top_down"):
        codec_of(dataclasses.replace(record, task="bottom_up"))
    with pytest.raises(InputError, match="There is no codec 'drak'"):
        codec_of(dataclasses.replace(record, codec="drak"))


def test_decoding_never_imports_torch() -> None:
    script = (
        "import sys, numpy\n"
        "from leanpose.codecs import CODECS, fuse_flip\n"
        "maps = numpy.ones((1, 2, 8, 8), dtype=numpy.float32)\n"
        f"for name in {list(OF_ONE_PERSON)}:\n"
        "    CODECS[name]().decode_maps(fuse_flip(maps, maps, [1, 0], shift=True))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True)
