"""SimCC: the published rule in numbers, its targets and loss, and what cannot be decoded."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanpose.codecs import SimCC, codec_of, create_codec
from leanpose.errors import InputError, WeightsError
from leanpose.geometry import crop_matrices, invert, transform
from leanpose.keypoint_sets import COCO
from leanpose.weights.record import Weights

SIZE = (256, 192)  # height, width


def vectors(bins: Any, values: Any = 1.0, size: tuple[int, int] = SIZE, split: float = 2.0) -> dict[str, np.ndarray]:
    """Return outputs whose only values are at the bins (N, K, 2), x and y; values (N, K, 2) or one for all."""
    bins = np.asarray(bins)
    values = np.broadcast_to(values, bins.shape)
    outputs = {}
    for axis, (name, side) in enumerate((("simcc_x", size[1]), ("simcc_y", size[0]))):
        outputs[name] = np.zeros((*bins.shape[:2], round(side * split)), np.float32)
        np.put_along_axis(outputs[name], bins[..., axis, None], values[..., axis, None].astype(np.float32), axis=2)
    return outputs


# ---- decode


def test_published_vectors_in_a_box() -> None:
    """A person of 100 x 200 pixels in RTMPose's crop of 192 x 256."""
    keypoints, scores = SimCC().decode(vectors([[[192, 256], [0, 0], [383, 511]]]), SIZE)
    matrices = crop_matrices(np.array([[100, 50, 200, 250]]), SIZE, 1.25, "classic")
    in_image = transform(keypoints, invert(matrices))
    np.testing.assert_allclose(in_image[0], [(150.0, 150.0), (56.25, 25.0), (243.2617, 274.5117)], atol=1e-4)
    assert scores.tolist() == [[1, 1, 1]]
    np.testing.assert_allclose(transform(np.array([[[56.25, 25]]]), matrices), 0, atol=1e-9)
    square = crop_matrices(np.array([[0, 0, 100, 100]]), SIZE, 1.25, "classic")
    np.testing.assert_allclose(192 / square[0, 0, 0], 125)
    np.testing.assert_allclose(256 / square[0, 1, 1], 166.667, rtol=1e-5)


def test_the_score_is_the_smaller_maximum_and_may_pass_1() -> None:
    keypoints, scores = SimCC().decode(
        vectors([[[10, 20]] * 4], [[[0.5, 0.7], [0.9, 0.2], [1.2, 1.1], [0.4, -3]]]), SIZE
    )
    np.testing.assert_allclose(scores, [[0.5, 0.2, 1.1, 0]], rtol=1e-6)
    np.testing.assert_array_equal(keypoints[0, :3], [[5, 10]] * 3)
    assert keypoints.dtype == scores.dtype == np.float32


@pytest.mark.filterwarnings("error")
def test_not_found() -> None:
    outputs = {"simcc_x": np.zeros((1, 5, 384)), "simcc_y": np.zeros((1, 5, 512))}
    outputs["simcc_x"][0, 1, 7] = 0.5  # only one of both
    outputs["simcc_x"][0, 2] = outputs["simcc_y"][0, 2] = -0.3
    outputs["simcc_x"][0, 3, 7], outputs["simcc_y"][0, 3, 9] = np.nan, 0.5
    outputs["simcc_x"][0, 4, 7], outputs["simcc_y"][0, 4, 9] = 0.5, 0.5
    keypoints, scores = SimCC().decode(outputs, SIZE)
    assert keypoints.tolist() == [[[0, 0]] * 4 + [[3.5, 4.5]]]
    np.testing.assert_array_equal(scores, [[0, 0, 0, np.nan, 0.5]])


def test_no_people_and_other_sizes() -> None:
    keypoints, scores = SimCC().decode(vectors(np.zeros((0, 26, 2), int)), SIZE)
    assert keypoints.shape == (0, 26, 2) and scores.shape == (0, 26)
    keypoints, _ = SimCC(split=3.0).decode(vectors([[[300, 100]]], size=(64, 128), split=3.0), (64, 128))
    np.testing.assert_allclose(keypoints, [[[100, 100 / 3]]], rtol=1e-6)


@given(st.integers(0, 383), st.integers(0, 511), st.floats(1e-3, 10))
@settings(max_examples=50, deadline=None)
def test_every_bin_is_found(x: int, y: int, value: float) -> None:
    keypoints, scores = SimCC().decode(vectors([[[x, y]]], value), SIZE)
    assert keypoints.tolist() == [[[x / 2, y / 2]]]
    np.testing.assert_allclose(scores, value, rtol=1e-6)


def test_decode_refuses_vectors_of_another_input() -> None:
    for outputs, size, split in (
        (vectors([[[1, 1]]]), (384, 288), 2.0),
        (vectors([[[1, 1]]]), SIZE, 3.0),
        ({"simcc_x": np.zeros((1, 384)), "simcc_y": np.zeros((1, 512))}, SIZE, 2.0),
    ):
        with pytest.raises(WeightsError, match=r"reads simcc_x \(N, K, \d+\) .*: give the input size and split"):
            SimCC(split=split).decode(outputs, size)
    with pytest.raises(WeightsError, match="of the same keypoints"):
        SimCC().decode({"simcc_x": np.zeros((1, 2, 384)), "simcc_y": np.zeros((1, 3, 512))}, SIZE)


# ---- flip test


def test_merge_flipped_of_a_mirrored_input_changes_nothing() -> None:
    random = np.random.default_rng(0)
    outputs = {"simcc_x": random.random((3, 17, 384)), "simcc_y": random.random((3, 17, 512))}
    mirrored = {
        "simcc_x": outputs["simcc_x"][:, COCO.flip_index, ::-1],
        "simcc_y": outputs["simcc_y"][:, COCO.flip_index],
    }
    merged = SimCC().merge_flipped(outputs, mirrored, COCO.flip_index)
    for name, vector in outputs.items():
        np.testing.assert_allclose(merged[name], vector)


def test_merge_flipped_averages() -> None:
    there, back = vectors([[[10, 20], [30, 40]]], 0.8), vectors([[[383 - 30, 40], [383 - 14, 20]]], 0.4)
    merged = SimCC().merge_flipped(there, back, [1, 0])
    np.testing.assert_allclose(
        [merged["simcc_x"][0, 0, [10, 14]], merged["simcc_x"][0, 1, [30, 14]]], [[0.4, 0.2], [0.6, 0]]
    )
    np.testing.assert_allclose([merged["simcc_y"][0, 0, 20], merged["simcc_y"][0, 1, 40]], 0.6)
    with pytest.raises(InputError, match="flip_index"):
        SimCC().merge_flipped(there, back, [0, 0])


# ---- encode


def encode(keypoints: Any, weights: Any = None, codec: SimCC | None = None) -> tuple[dict[str, Any], Any]:
    torch = pytest.importorskip("torch")
    keypoints = torch.as_tensor(np.asarray(keypoints, np.float64))
    weights = torch.ones(keypoints.shape[:2]) if weights is None else torch.as_tensor(weights)
    outputs = {"simcc_x": torch.zeros(*keypoints.shape[:2], 384), "simcc_y": torch.zeros(*keypoints.shape[:2], 512)}
    return (codec or SimCC()).encode(keypoints, weights, outputs, SIZE)


def test_round_trip_to_a_quarter_of_a_pixel() -> None:
    places = np.random.default_rng(0).uniform(0, [191, 255], (8, 17, 2))
    targets, weights = encode(places)
    keypoints, scores = SimCC().decode({name: target.numpy() for name, target in targets.items()}, SIZE)
    assert np.abs(keypoints - places).max() <= 0.25 + 1e-4
    assert (scores == 1).all() and (weights == 1).all()


def test_the_target_is_a_gaussian_of_peak_1_on_the_nearest_bin() -> None:
    targets, _ = encode([[[50.2, 100.4]]], codec=SimCC(sigma=(4.0, 6.0)))
    x, y = targets["simcc_x"][0, 0].numpy(), targets["simcc_y"][0, 0].numpy()
    np.testing.assert_allclose(x, np.exp(-((np.arange(384) - 100) ** 2) / 32), atol=1e-6)
    np.testing.assert_allclose(y, np.exp(-((np.arange(512) - 201) ** 2) / 72), atol=1e-6)


def test_which_keypoints_count() -> None:
    # 3 sigma are 14.7 and 16.98 bins: 7.35 and 8.49 pixels.
    places = [
        [50, 50],
        [50, 50],
        [-7, 50],
        [-8, 50],
        [199, 50],
        [200, 50],
        [50, -8.5],
        [50, -9.5],
        [50, 265],
        [np.nan, 5],
    ]
    targets, weights = encode([places], [[1, 0, 1, 1, 1, 1, 0.5, 1, 1, 1]])
    np.testing.assert_allclose(weights, [[1, 0, 1, 0, 1, 0, 0.5, 0, 0, 0]])
    for target in targets.values():
        assert target.isfinite().all() and (target[weights == 0] == 0).all()
        assert not target.requires_grad


def test_encode_refuses_what_does_not_fit() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match=r"keypoints \(B, K, 2\) and weights \(B, K\)"):
        encode(np.zeros((1, 3, 2)), np.zeros((1, 4)))
    outputs = {"simcc_x": torch.zeros(1, 3, 192), "simcc_y": torch.zeros(1, 3, 256)}
    with pytest.raises(WeightsError, match="give the input size and split"):
        SimCC().encode(torch.zeros(1, 3, 2), torch.ones(1, 3), outputs, SIZE)


# ---- loss


def log_softmax(values: np.ndarray) -> np.ndarray:
    shifted = values - values.max(axis=2, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True))


def test_loss_equals_an_independent_computation() -> None:
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    outputs = {"simcc_x": random.normal(size=(2, 3, 384)), "simcc_y": random.normal(size=(2, 3, 512))}
    targets, weights = encode(random.uniform(0, [191, 255], (2, 3, 2)), random.random((2, 3)))
    expected = 0.0
    for name, output in outputs.items():
        wanted, found = log_softmax(10 * targets[name].double().numpy()), log_softmax(10 * output)
        expected += ((np.exp(wanted) * (wanted - found)).sum(axis=2) * weights.numpy()).sum() / 6
    given_outputs = {name: torch.as_tensor(output) for name, output in outputs.items()}
    loss = SimCC().loss(given_outputs, targets, weights, 0.0)
    assert loss.ndim == 0 and loss.item() == pytest.approx(expected, rel=1e-5)


def test_loss_and_its_gradient_are_zero_at_the_target() -> None:
    pytest.importorskip("torch")
    targets, weights = encode([[[50, 60], [100.3, 200.7], [500, 500]]])
    outputs = {name: (target + 0.25).requires_grad_() for name, target in targets.items()}  # a softmax sees no offset
    outputs["simcc_x"].data[0, 2] += 5  # of weight 0
    loss = SimCC().loss(outputs, targets, weights, 0.0)
    loss.backward()
    assert abs(loss.item()) < 1e-5
    for output in outputs.values():
        assert output.grad.abs().max() < 1e-6


def test_loss_has_no_foreground_weight() -> None:
    targets, weights = encode([[[50, 60]]])
    with pytest.raises(InputError, match="has no foreground_weight"):
        SimCC().loss(targets, targets, weights, 1.0)


# ---- parameters


def test_json_lists_become_tuples() -> None:
    codec = create_codec("simcc", sigma=[6.0, 6.93])
    assert codec == SimCC(sigma=(6.0, 6.93)) and codec.sigma == (6.0, 6.93) and hash(codec)
    record = Weights("a", "rtmpose", SIZE, codec="simcc", codec_options={"sigma": [6.0, 6.93]}, convention="classic")
    assert codec_of(Weights.from_metadata(record.to_metadata(), "a.onnx")) == codec


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"split": 0}, "Give split as a number above 0, not 0."),
        ({"beta": -1}, "Give beta as a number above 0, not -1."),
        ({"sigma": 4.9}, "Give sigma as two numbers above 0, of x and y, not 4.9."),
        ({"sigma": [4.9]}, "Give sigma as two numbers above 0, of x and y, not [4.9]."),
        ({"sigma": [4.9, 0]}, "Give both values of sigma as a number above 0, not 0."),
    ],
)
def test_wrong_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        SimCC(**parameters)
    assert str(caught.value) == message


def test_decoding_does_not_import_torch() -> None:
    code = (
        "import sys, numpy as np; from leanpose.codecs import SimCC; x = np.zeros((1, 1, 16));"
        "SimCC().decode({'simcc_x': x, 'simcc_y': x}, (8, 8)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
