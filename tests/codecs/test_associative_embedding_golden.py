"""Targets, maps and grouping against the stored output of the official LitePose code (shared/goldens)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from support import GOLDENS, golden_file, litepose_keypoints, needs

from leanpose.codecs import AssociativeEmbedding
from leanpose.codecs.associative_embedding import enlarge, find_candidates, flip_back, merge_scales

GROUP = golden_file("litepose_group")  # made by the scripts that section 8 of the LitePose sheet describes
LOSS = golden_file("litepose_loss")
NETWORK = GOLDENS / "litepose_xs_crowdpose.safetensors"

CROWDPOSE_FLIP_INDEX = [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12, 13]

CROWDPOSE_BODY = [
    *((-0.5, -0.6), (0.5, -0.6), (-0.75, -0.15), (0.75, -0.15), (-0.8, 0.3), (0.8, 0.3), (-0.35, 0.3), (0.35, 0.3)),
    *((-0.4, 0.9), (0.4, 0.9), (-0.4, 1.5), (0.4, 1.5), (0, -1.3), (0, -0.85)),
]
COCO_BODY = [(0, -1.1), (-0.12, -1.2), (0.12, -1.2), (-0.25, -1.1), (0.25, -1.1), *CROWDPOSE_BODY[:12]]
# Seed, body, map height and width, people (x, y, size), their tags, number of tag maps, share of lacking keypoints.
DRAWN: dict[str, tuple[Any, ...]] = {
    "A": (
        *(11, CROWDPOSE_BODY, 128, 128),
        [(22, 40, 16), (60, 36, 14), (100, 44, 18), (38, 96, 15), (90, 98, 14)],
        *([-4, -1.5, 1, 3.5, 6], 1, 0.12),
    ),
    "B": (
        *(12, COCO_BODY, 96, 160),
        [(24, 40, 16), (62, 46, 15), (104, 42, 17), (138, 50, 14)],
        *([-3, 0, 2.5, 5], 2, 0.10),
    ),
    "C": (13, CROWDPOSE_BODY, 128, 128, [(40, 52, 20), (52, 56, 20), (96, 60, 20)], [0, 0.6, 2.4], 2, 0.25),
    "G": (14, CROWDPOSE_BODY, 128, 128, [(30, 50, 18), (70, 60, 18), (104, 70, 16)], [-2, 0.5, 3], 1, 0.05),
    "H": (
        *(1000, CROWDPOSE_BODY, 128, 128),
        [(30, 50, 18), (50, 60, 18), (75, 55, 18), (98, 60, 16)],
        *([0, 0.3, 0.6, 0.9], 1, 0.15),
    ),
}
SAME_MAPS = {"D": "C", "E": "A"}
OPTIONS: dict[str, dict[str, Any]] = {
    "D": {"use_detection_value": False, "tag_threshold": 0.5, "nms_kernel": 3, "detection_threshold": 0.2},
    "E": {"max_people": 3, "ignore_too_much": True},
}
CASES = "ABCDEFGH"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return pytest.importorskip("safetensors.numpy").load_file(GROUP)


@pytest.fixture(scope="module")
def maps(golden: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Case -> heatmaps (K, H, W) and tags (K, H, W, T)."""
    result = {"F": (golden["F.det"][0], np.zeros((14, 32, 32, 1), np.float32))}
    for case in DRAWN:
        result[case] = draw(case, golden[f"{case}.stray_index"], golden[f"{case}.stray_value"])
    return result | {case: result[other] for case, other in SAME_MAPS.items()}


def draw(case: str, stray_index: np.ndarray, stray_value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw the maps of one case, as section 8.2 of the LitePose sheet lays down."""
    seed, body, height, width, people, person_tags, num_tags, lacking = DRAWN[case]
    rng = np.random.default_rng(seed)
    heatmaps = rng.uniform(0, 0.02, (len(body), height, width)).astype(np.float32)
    tags = rng.normal(0, 0.05, (len(body), height, width, num_tags)).astype(np.float32)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    for (center_x, center_y, size), person_tag in zip(people, person_tags, strict=True):
        for keypoint, (body_x, body_y) in enumerate(body):
            x = center_x + body_x * size + rng.normal(0, 0.04 * size)
            y = center_y + body_y * size + rng.normal(0, 0.04 * size)
            drawn = rng.random() > lacking and 0 <= x < width and 0 <= y < height
            peak = rng.uniform(0.35, 1)
            if drawn:
                squared = (columns - x) ** 2 + (rows - y) ** 2
                single = heatmaps[keypoint]
                values = peak * np.exp(-squared / 8) + (single * np.float32(0.5)).astype(np.float64)
                heatmaps[keypoint] = np.maximum(single.astype(np.float64), values)
                for channel in range(num_tags):
                    tags[keypoint, squared <= 25, channel] = person_tag + rng.normal(0, 0.08)
    if case == "G":
        heatmaps[0] *= np.float32(0.05)
    heatmaps.reshape(-1)[stray_index] = stray_value
    return heatmaps, tags


def test_drawn_maps_are_those_of_the_golden_file(maps: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    with pytest.importorskip("safetensors").safe_open(GROUP, "np") as file:
        metadata = file.metadata()
    for case in DRAWN:
        for name, array in zip(("det", "tag"), maps[case], strict=True):
            assert hashlib.sha256(array.tobytes()).hexdigest() == metadata[f"sha256.{case}.{name}"]


@pytest.mark.parametrize("case", CASES)
def test_highest_peaks(
    golden: dict[str, np.ndarray], maps: dict[str, tuple[np.ndarray, np.ndarray]], case: str
) -> None:
    heatmaps, tags = maps[case]
    options = OPTIONS.get(case, {})
    count = options.get("max_people", 30)
    k, y, x = find_candidates(heatmaps, tags, options.get("nms_kernel", 5), threshold=0, count=count)
    np.testing.assert_array_equal(k, np.repeat(np.arange(len(heatmaps)), count))
    np.testing.assert_array_equal(heatmaps[k, y, x].reshape(-1, count), golden[f"{case}.val_k"][0])
    places = np.stack([x, y], axis=1).reshape(-1, count, 2)
    expected_places, expected_tags = golden[f"{case}.loc_k"][0].copy(), golden[f"{case}.tag_k"][0].copy()
    if case == "B":  # two equal values, which torch may order either way; ours come in reading order
        tied = np.flatnonzero(np.diff(golden["B.val_k"][0, 11]) == 0)[0] + np.arange(2)
        in_reading_order = tied[np.lexsort(expected_places[11, tied].T)]
        expected_places[11, tied] = expected_places[11, in_reading_order]
        expected_tags[11, tied] = expected_tags[11, in_reading_order]
    np.testing.assert_array_equal(places, expected_places)
    np.testing.assert_array_equal(tags[k, y, x].reshape(expected_tags.shape), expected_tags)


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("adjust", [False, True])
@pytest.mark.parametrize("case", [case for case in CASES if case not in "FH"])
def test_people(
    golden: dict[str, np.ndarray],
    maps: dict[str, tuple[np.ndarray, np.ndarray]],
    case: str,
    adjust: bool,
    refine: bool,
) -> None:
    codec = AssociativeEmbedding(adjust=adjust, refine=refine, **OPTIONS.get(case, {}))
    check_people(codec, maps[case], golden, f"{case}.adj{adjust:d}_ref{refine:d}")


def check_people(
    codec: AssociativeEmbedding, maps: tuple[np.ndarray, np.ndarray], golden: dict[str, np.ndarray], key: str
) -> None:
    expected = golden[f"{key}.ans"]
    people, person_scores = codec.group(*maps)
    np.testing.assert_array_equal(people[..., :2], expected[..., :2])
    np.testing.assert_allclose(people[..., 2:], expected[..., 2:], rtol=0, atol=1e-6)
    np.testing.assert_allclose(person_scores, golden[f"{key}.scores"], rtol=0, atol=1e-6)
    keypoints, scores, again = codec.decode_maps(*maps)
    np.testing.assert_array_equal(scores, people[..., 2])
    np.testing.assert_array_equal(keypoints, np.where(scores[..., None] > 0, people[..., :2], np.nan))
    np.testing.assert_array_equal(again, person_scores)


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("adjust", [False, True])
def test_nobody(
    golden: dict[str, np.ndarray], maps: dict[str, tuple[np.ndarray, np.ndarray]], adjust: bool, refine: bool
) -> None:
    assert golden[f"F.adj{adjust:d}_ref{refine:d}.ans"].shape == (0,)
    keypoints, scores, person_scores = AssociativeEmbedding(adjust=adjust, refine=refine).decode_maps(*maps["F"])
    assert keypoints.shape == (0, 14, 2)
    assert scores.shape == (0, 14)
    assert person_scores.shape == (0,)


def test_equal_costs_are_decided_as_by_scipy(
    golden: dict[str, np.ndarray], maps: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    check_people(AssociativeEmbedding(), maps["H"], golden, "H.scipy_adj1_ref1")
    # munkres exchanges keypoints between the third person and the fourth; the others are the same.
    people, _ = AssociativeEmbedding(refine=False).group(*maps["H"])
    same = (people == golden["H.adj1_ref0.ans"]).all(axis=(1, 2))
    assert same.tolist() == [True, True, False, False, True]


# ---- targets


@pytest.mark.parametrize(("scale", "size"), [(0, 32), (1, 64)])
def test_targets(scale: int, size: int) -> None:
    torch = pytest.importorskip("torch")
    golden = pytest.importorskip("safetensors.torch").load_file(LOSS)
    keypoints, visibility = litepose_keypoints(golden, scale)
    heatmaps, indices, valid = AssociativeEmbedding().encode_maps(keypoints, visibility, (size, size))
    expected = golden[f"target.heatmaps.{scale}"]
    assert torch.equal(heatmaps[: len(expected), : expected.shape[1]], expected)
    # Officially the indices count through all maps, and each person's valid ones come first.
    packed = torch.zeros_like(golden[f"target.joints.{scale}"])
    for image in range(3):
        for person in range(packed.shape[1]):
            (k,) = valid[image, person].nonzero(as_tuple=True)
            packed[image, person, : len(k), 0] = (k * size * size + indices[image, person, k]).to(torch.int32)
            packed[image, person, : len(k), 1] = 1
    assert torch.equal(packed, golden[f"target.joints.{scale}"])


# ---- from the network to the maps


@needs(NETWORK)
def test_merged_flipped_and_enlarged_maps_equal_official() -> None:
    torch = pytest.importorskip("torch")
    golden = pytest.importorskip("safetensors.torch").load_file(NETWORK)
    from leanpose.models import create_model

    network = create_model("litepose_xs", num_keypoints=14).eval()
    not_weights = ("input", "output.", "feat.", "refined.", "infer.")
    network.load_state_dict({key: value for key, value in golden.items() if not key.startswith(not_weights)})
    with torch.no_grad():
        plain = network(golden["input"])
        mirrored = network(golden["input"].flip(3))
    heatmaps, tags = merge_scales({name: output.numpy() for name, output in plain.items()})
    mirrored_maps = merge_scales({name: output.numpy() for name, output in mirrored.items()})
    heatmaps_flip, tags_flip = (flip_back(maps, CROWDPOSE_FLIP_INDEX) for maps in mirrored_maps)
    final_heatmaps = (enlarge(heatmaps, (256, 256)) + enlarge(heatmaps_flip, (256, 256))) / 2
    final_tags = np.stack([enlarge(tags, (256, 256)), enlarge(tags_flip, (256, 256))], axis=-1)
    for key, actual in {
        "infer.heatmap": heatmaps,
        "infer.tag": tags,
        "infer.heatmap_flip": heatmaps_flip,
        "infer.tag_flip": tags_flip,
        "infer.final_heatmap_s4": final_heatmaps[..., ::4, ::4],
        "infer.final_tags_s4": final_tags[:, :, ::4, ::4],
    }.items():
        np.testing.assert_allclose(actual, golden[key].numpy(), rtol=0, atol=5e-5, err_msg=key)
