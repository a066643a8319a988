"""Decoding, flip test and targets against the stored output of LPN's official functions (shared/goldens)."""

from __future__ import annotations

import numpy as np
import pytest
from support import load_lpn_decode

from leanpose.codecs import BetaSoftArgmax, Heatmap, fuse_flip

COCO_FLIP_INDEX = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
STRIDE = 4
# Item 2, keypoints whose soft position ends on .5: which way it is rounded depends on the platform.
KNIFE_EDGES = [0, 8, 10]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load_lpn_decode()


def without_knife_edges(values: np.ndarray) -> np.ndarray:
    """(N, K, ...) -> the entries that no rounding can change."""
    keep = np.ones(values.shape[:2], dtype=bool)
    keep[2:, [k for k in KNIFE_EDGES if k < values.shape[1]]] = False
    return values[keep]


@pytest.mark.parametrize(("shift", "name"), [(False, "argmax"), (True, "quarter")])
def test_heatmap_decode(golden: dict[str, np.ndarray], shift: bool, name: str) -> None:
    keypoints, scores = Heatmap(shift=shift).decode_maps(golden["heatmaps"])
    np.testing.assert_array_equal(keypoints, golden[f"{name}.coords"])
    np.testing.assert_array_equal(scores, golden["argmax.maxvals"][..., 0])


@pytest.mark.parametrize("beta", [1, 100, 160])
def test_soft_argmax_decode(golden: dict[str, np.ndarray], beta: int) -> None:
    keypoints, scores = BetaSoftArgmax(beta=beta, shift=False).decode_maps(golden["heatmaps"])
    np.testing.assert_allclose(keypoints, golden[f"soft{beta}.coords"], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(
        without_knife_edges(scores), without_knife_edges(golden[f"soft{beta}.maxvals"][..., 0])
    )


def test_official_lpn_decode(golden: dict[str, np.ndarray]) -> None:
    keypoints, scores = BetaSoftArgmax().decode_maps(golden["heatmaps"])
    np.testing.assert_allclose(
        without_knife_edges(keypoints),
        without_knife_edges(golden["soft160_quarter.coords"]),
        rtol=0,
        atol=1e-4,
    )
    np.testing.assert_array_equal(without_knife_edges(scores), without_knife_edges(golden["soft160.maxvals"][..., 0]))


@pytest.mark.parametrize(("shift", "name"), [(False, "flip.fused_noshift"), (True, "flip.fused_shift")])
def test_fuse_flip(golden: dict[str, np.ndarray], shift: bool, name: str) -> None:
    mirrored = golden["flip.raw_output_of_flipped_image"]
    fused = fuse_flip(golden["heatmaps"], mirrored, COCO_FLIP_INDEX[: mirrored.shape[1]], shift=shift)
    np.testing.assert_array_equal(fused, golden[name])


@pytest.mark.parametrize("codec", [Heatmap(), BetaSoftArgmax()])
def test_targets(golden: dict[str, np.ndarray], codec: Heatmap | BetaSoftArgmax) -> None:
    torch = pytest.importorskip("torch")
    keypoints = torch.from_numpy(golden["target.joints_xy"] / STRIDE)[None]
    visibility = torch.from_numpy(golden["target.vis"])[None]
    heatmaps, weights = codec.encode_maps(keypoints, visibility, (64, 48))
    np.testing.assert_allclose(heatmaps[0].numpy(), golden["target.heatmap"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(weights[0].numpy(), golden["target.weight"][:, 0])
