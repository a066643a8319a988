"""Decoding inside a graph: what torch reads is what the codecs read, and ONNX Runtime agrees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from support import one_layer  # noqa: E402

from leanpose.codecs import UDP, BetaSoftArgmax, Dark, Heatmap, SimCC, codec_of  # noqa: E402
from leanpose.deploy.end_to_end import READERS, EndToEnd, _chances, _read_simcc, check_readable  # noqa: E402
from leanpose.deploy.parity import as_crops  # noqa: E402
from leanpose.errors import WeightsError  # noqa: E402
from leanpose.inference.preprocess import normalised  # noqa: E402
from leanpose.keypoint_sets import LSP  # noqa: E402
from leanpose.weights.calibration import Calibration  # noqa: E402
from leanpose.weights.record import Weights  # noqa: E402

RECORD = Weights("one.lsp_64x48", "lpn50", (64, 48), LSP, codec="dark", codec_options={"blur": 5})


def peaks(count: int = 150) -> np.ndarray:
    """Return maps (2, count, 32, 24) of Gaussians in and around them, with noise; two maps have no positive value."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :24]
    places = rng.uniform([-2, -2], [26, 34], (2, count, 2))[..., None, None]
    squared = (x - places[:, :, 0]) ** 2 + (y - places[:, :, 1]) ** 2
    maps = rng.uniform(0.05, 1, (2, count, 1, 1)) * np.exp(-squared / 4.5) + rng.normal(0, 0.02, squared.shape)
    maps[0, 0], maps[0, 1] = -1, 0
    return maps.astype(np.float32)


@pytest.mark.parametrize(
    "codec", [Heatmap(), Heatmap(shift=False), BetaSoftArgmax(), Dark(), Dark(blur=5), UDP(), UDP(blur=1)], ids=str
)
def test_maps_are_read_as_the_codec_reads_them(codec: Any) -> None:
    maps = peaks()
    keypoints, scores = READERS[type(codec)](torch.from_numpy(maps), codec)
    expected, expected_scores = codec.decode_maps(maps)
    np.testing.assert_allclose(keypoints.numpy(), expected, atol=1e-4)
    np.testing.assert_array_equal(scores.numpy(), expected_scores)


def test_vectors_are_read_as_the_codec_reads_them() -> None:
    vectors = [np.random.default_rng(i).normal(-2, 1, (3, 17, n)).astype(np.float32) for i, n in enumerate((96, 128))]
    vectors[0][0, 0] = -1  # nothing found
    keypoints, scores = _read_simcc(torch.from_numpy(vectors[0]), torch.from_numpy(vectors[1]), SimCC())
    expected, expected_scores = SimCC().decode(dict(zip(("simcc_x", "simcc_y"), vectors, strict=True)), (64, 48))
    np.testing.assert_array_equal(keypoints.numpy(), expected)
    np.testing.assert_array_equal(scores.numpy(), expected_scores)
    assert (scores[0, 0] == 0) and (scores > 0).any()


def test_chances_are_those_of_the_calibration() -> None:
    calibration = Calibration((0.1, 0.3, 0.8), ((0.0, 0.2, 0.9), (0.1, 0.1, 1.0)))
    scores = np.random.default_rng(0).uniform(-0.2, 1.2, (50, 2)).astype(np.float32)
    np.testing.assert_allclose(_chances(torch.from_numpy(scores), calibration).numpy(), calibration(scores), atol=1e-6)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_crops_become_the_inputs_of_prediction(order: Any) -> None:
    weights = Weights("one.lsp_64x48", "lpn50", (64, 48), LSP, codec="dark", channel_order=order)
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), np.uint8)
    network = one_layer(14)
    with torch.inference_mode():
        found = EndToEnd(network, weights)(torch.from_numpy(crops))
        maps = network(torch.from_numpy(normalised(crops, weights)))["heatmaps"].numpy()
    expected, scores = codec_of(weights).decode({"heatmaps": maps}, (64, 48))
    np.testing.assert_allclose(found["keypoints"].numpy(), expected, atol=1e-3)
    np.testing.assert_allclose(found["scores"].numpy(), scores, atol=1e-5)
    np.testing.assert_array_equal(as_crops(normalised(crops, weights), weights), crops)


def test_networks_that_find_everybody_are_refused() -> None:
    record = Weights("b", "litepose_xs", (64, 64), LSP, task="bottom_up", codec="associative_embedding")
    with pytest.raises(WeightsError, match="sorting keypoints into persons does not fit"):
        check_readable(record)
