from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanpose.codecs import AssociativeEmbedding, create_codec
from leanpose.codecs.associative_embedding import (
    COCO_ORDER,
    enlarge,
    find_candidates,
    flip_back,
    grouping_order,
    merge_scales,
)
from leanpose.errors import InputError

SIZE = (64, 48)  # height, width
PEAKS_ONLY = AssociativeEmbedding(adjust=False, refine=False)


def maps_of(
    peaks: Sequence[tuple[int, int, int, float, float]], num_keypoints: int = 3, num_tags: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Single bright pixels (keypoint, x, y, value, tag), elsewhere heatmaps and tags of 0."""
    heatmaps = np.zeros((num_keypoints, *SIZE), dtype=np.float32)
    tags = np.zeros((num_keypoints, *SIZE, num_tags), dtype=np.float32)
    for keypoint, x, y, value, tag in peaks:
        heatmaps[keypoint, y, x] = value
        tags[keypoint, y, x] = tag
    return heatmaps, tags


def random_maps(num_tags: int, seed: int = 0, steps: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Coarse values and tags, so that many are equal."""
    rng = np.random.default_rng(seed)
    heatmaps = (rng.integers(-4, steps, (5, *SIZE)) / steps).astype(np.float32) ** 9
    tags = (rng.integers(-12, 13, (5, *SIZE, num_tags)) / 8).astype(np.float32)
    return heatmaps, tags


# ---- round trip


@pytest.mark.parametrize("num_tags", [1, 2])
@pytest.mark.parametrize("codec", [PEAKS_ONLY, AssociativeEmbedding(refine=False), AssociativeEmbedding()])
def test_round_trip(codec: AssociativeEmbedding, num_tags: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    corners = np.array([[3, 3], [26, 3], [3, 34], [26, 34]])
    places = corners[:, None] + rng.uniform(3, 17, (4, 17, 2))  # (people, K, 2); no person near another
    visibility = rng.integers(0, 3, (4, 17))
    visibility[:, 0] = 2
    heatmaps, indices, valid = codec.encode_maps(
        torch.from_numpy(places)[None], torch.from_numpy(visibility)[None], SIZE
    )
    assert valid[0].tolist() == (visibility > 0).tolist()
    tags = np.zeros((17, SIZE[0] * SIZE[1], num_tags), dtype=np.float32)
    for person in range(4):
        for keypoint in np.flatnonzero(visibility[person]):
            tags[keypoint, indices[0, person, keypoint]] = 3 * person + 3 + rng.normal(0, 0.1, num_tags)
    keypoints, scores, person_scores = codec.decode_maps(heatmaps[0].numpy(), tags.reshape(17, *SIZE, num_tags))

    # Keypoint 0 opens the people; its peaks are equal, so they come in reading order.
    order = np.lexsort(np.trunc(places[:, 0]).T)
    places, visible = places[order], visibility[order] > 0
    expected = np.trunc(places)
    if codec.adjust:  # a target is symmetric, so both steps are towards zero
        expected = expected + 0.25
    assert keypoints.dtype == scores.dtype == person_scores.dtype == np.float32
    np.testing.assert_array_equal(keypoints[visible], expected[visible])
    np.testing.assert_array_equal(scores[visible], 1)
    np.testing.assert_allclose(person_scores, visible.mean(axis=1), atol=1e-6)
    if not codec.refine:
        assert np.isnan(keypoints[~visible]).all()
        assert (scores[~visible] == 0).all()


# ---- encode


def test_target_is_the_largest_of_equal_patches_at_truncated_places() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    places = rng.uniform(-3, [SIZE[1] + 3, SIZE[0] + 3], (2, 6, 5, 2))
    places[0, 0, 0] = -0.5, -0.99  # truncated to pixel 0
    visibility = rng.integers(0, 3, (2, 6, 5))
    visibility[0, 0, 0] = 1
    heatmaps, indices, valid = AssociativeEmbedding().encode_maps(
        torch.from_numpy(places), torch.from_numpy(visibility), SIZE
    )
    y, x = np.indices(SIZE)
    expected = np.zeros((2, 5, *SIZE))
    for image, person, keypoint in np.ndindex(2, 6, 5):
        column, row = np.trunc(places[image, person, keypoint])
        counts = visibility[image, person, keypoint] > 0 and 0 <= column < SIZE[1] and 0 <= row < SIZE[0]
        assert valid[image, person, keypoint] == counts
        assert indices[image, person, keypoint] == (row * SIZE[1] + column if counts else 0)
        if counts:
            patch = np.exp(-((x - column) ** 2 + (y - row) ** 2) / 8)
            patch[(abs(x - column) > 7) | (abs(y - row) > 7)] = 0
            expected[image, keypoint] = np.maximum(expected[image, keypoint], patch)
    assert valid[0, 0, 0]
    np.testing.assert_array_equal(heatmaps.numpy(), expected.astype(np.float32))


@pytest.mark.parametrize(("sigma", "radius"), [(1, 4), (2.0, 7), (1.5, 5)])
def test_patch_ends_one_pixel_after_three_sigma(sigma: float, radius: int) -> None:
    torch = pytest.importorskip("torch")
    heatmaps, _, _ = AssociativeEmbedding(sigma).encode_maps(torch.full((1, 1, 1, 2), 20.0), torch.ones(1, 1, 1), SIZE)
    rows, columns = heatmaps[0, 0].nonzero(as_tuple=True)
    for places in (rows.tolist(), columns.tolist()):
        assert (min(places), max(places)) == (20 - radius, 20 + radius)


def test_which_keypoints_are_valid() -> None:
    torch = pytest.importorskip("torch")
    nan, inf = np.nan, np.inf
    places = [[20, 30], [20, 30], [-1, 30], [-0.9, 30], [48, 30], [47.9, 63.9], [20, 64], [nan, 3], [3, inf]]
    visibility = torch.tensor([[[0, 1, 2, 2, 2, 2, 2, 2, 2]]])
    heatmaps, indices, valid = AssociativeEmbedding().encode_maps(
        torch.tensor([[places]], dtype=torch.float64), visibility, SIZE
    )
    assert valid[0, 0].tolist() == [False, True, False, True, False, True, False, False, False]
    assert indices[0, 0].tolist() == [0, 30 * 48 + 20, 0, 30 * 48, 0, 64 * 48 - 1, 0, 0, 0]
    assert heatmaps[0].amax(dim=(1, 2)).tolist() == valid[0, 0].tolist()


@pytest.mark.parametrize("shape", [(2, 3, 4), (0, 3, 4), (2, 0, 4)])
def test_encode_result_is_without_gradient_and_may_be_without_people(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    keypoints = torch.full((*shape, 2), 20.0, requires_grad=True)
    heatmaps, indices, valid = AssociativeEmbedding().encode_maps(keypoints, torch.ones(shape), SIZE)
    assert heatmaps.shape == (shape[0], 4, *SIZE)
    assert indices.shape == valid.shape == shape
    assert (heatmaps.dtype, indices.dtype, valid.dtype) == (torch.float32, torch.int64, torch.bool)
    assert not heatmaps.requires_grad
    assert heatmaps.sum() > 0 or 0 in shape


def test_encode_refuses_other_shapes() -> None:
    torch = pytest.importorskip("torch")
    for keypoints, visibility in [((2, 17, 2), (2, 17)), ((2, 3, 17, 3), (2, 3, 17)), ((2, 3, 17, 2), (2, 3, 1))]:
        with pytest.raises(InputError, match=r"keypoints \(B, P, K, 2\)"):
            AssociativeEmbedding().encode_maps(torch.zeros(keypoints), torch.zeros(visibility), SIZE)


# ---- peaks


@pytest.mark.parametrize("nms_kernel", [1, 3, 5])
@pytest.mark.parametrize("count", [3, 1000])
def test_candidates_are_the_highest_pixels_of_their_window(nms_kernel: int, count: int) -> None:
    heatmaps, tags = random_maps(num_tags=1)
    reach = nms_kernel // 2
    expected = []
    for keypoint, single in enumerate(heatmaps):
        peaks = [
            (-single[y, x], y, x)
            for y, x in np.ndindex(SIZE)
            if single[y, x] > 0.1
            and single[y, x] == single[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1].max()
        ]
        expected += [(keypoint, y, x) for _, y, x in sorted(peaks)[:count]]
    found = find_candidates(heatmaps, tags, nms_kernel, threshold=0.1, count=count)
    assert list(zip(*(index.tolist() for index in found), strict=True)) == expected


def test_peaks_at_the_border_move_outwards() -> None:
    heatmaps, tags = maps_of([(0, 0, 0, 0.9, 1), (1, 47, 63, 0.9, 1), (2, 0, 30, 0.9, 1)])
    heatmaps[2, 30, 1] = heatmaps[2, 31, 0] = 0.5
    keypoints, _, _ = AssociativeEmbedding(refine=False).decode_maps(heatmaps, tags)
    # For what is outside stands the border pixel itself.
    assert keypoints.tolist() == [[[0.25, 0.25], [47.75, 63.75], [0.25, 30.75]]]


# ---- grouping


def test_people_come_in_the_order_in_which_they_are_opened() -> None:
    heatmaps, tags = maps_of([(0, 5, 5, 0.5, 1), (0, 20, 5, 0.9, 4), (1, 5, 20, 0.7, 1.2), (1, 40, 40, 0.3, 8)])
    keypoints, scores, person_scores = PEAKS_ONLY.decode_maps(heatmaps, tags)
    nan = [np.nan, np.nan]
    np.testing.assert_array_equal(keypoints, [[[20, 5], nan, nan], [[5, 5], [5, 20], nan], [nan, [40, 40], nan]])
    np.testing.assert_allclose(scores, [[0.9, 0, 0], [0.5, 0.7, 0], [0, 0.3, 0]])
    np.testing.assert_allclose(person_scores, [0.3, 0.4, 0.1], rtol=1e-6)


def test_people_with_the_same_tag_stay_two() -> None:
    people, _ = PEAKS_ONLY.group(*maps_of([(0, 5, 5, 0.5, 1), (0, 20, 5, 0.9, 1)]))
    assert len(people) == 2


def test_mean_tag_follows_the_members() -> None:
    # 0.9 is within 1 of 0 and moves the mean to 0.45, so that 1.4 is within 1 as well.
    chain = [(0, 5, 5, 0.5, 0.0), (1, 20, 5, 0.9, 0.9), (2, 30, 5, 0.9, 1.4)]
    assert len(PEAKS_ONLY.group(*maps_of(chain))[0]) == 1
    assert len(PEAKS_ONLY.group(*maps_of([chain[0], chain[2]]))[0]) == 2


def test_thresholds() -> None:
    maps = maps_of([(0, 5, 5, 0.5, 0), (1, 20, 5, 0.25, 0.5)])
    assert len(PEAKS_ONLY.group(*maps)[0]) == 1
    apart = AssociativeEmbedding(adjust=False, refine=False, tag_threshold=0.5)  # 0.5 is not nearer than 0.5
    assert len(apart.group(*maps)[0]) == 2
    fewer = AssociativeEmbedding(adjust=False, refine=False, detection_threshold=0.25)  # and not above 0.25
    assert fewer.decode_maps(*maps)[1].tolist() == [[0.5, 0, 0]]


PUBLISHED = {  # in all configs of LitePose's repository
    "max_people": 30,
    "detection_threshold": 0.1,
    "tag_threshold": 1.0,
    "nms_kernel": 5,
    "use_detection_value": True,
    "ignore_too_much": False,
    "adjust": True,
    "refine": True,
}


def test_the_defaults_are_the_published_values() -> None:
    codec = AssociativeEmbedding()
    assert {name: getattr(codec, name) for name in PUBLISHED} == PUBLISHED


@pytest.mark.parametrize(("tag", "persons"), [(0.99, 1), (1.0, 2)])
def test_tags_nearer_than_1_join_by_default(tag: float, persons: int) -> None:
    assert len(PEAKS_ONLY.group(*maps_of([(0, 5, 5, 0.5, 0), (1, 20, 5, 0.5, tag)]))[0]) == persons


@pytest.mark.parametrize(("apart", "persons"), [(2, 1), (3, 2)])
def test_a_peak_is_the_highest_of_5_by_5_pixels_by_default(apart: int, persons: int) -> None:
    maps = maps_of([(0, 20, 20, 0.9, 0), (0, 20 + apart, 20 + apart, 0.8, 5)])
    assert len(PEAKS_ONLY.group(*maps)[0]) == persons


def test_detection_threshold_is_not_rounded_to_float32() -> None:
    maps = maps_of([(0, 5, 5, 0.1, 0), (1, 20, 5, np.nextafter(np.float32(0.1), np.float32(0)), 0)])
    assert PEAKS_ONLY.decode_maps(*maps)[1].tolist() == [[np.float32(0.1), 0, 0]]  # float32(0.1) is above 0.1


def test_use_detection_value_prefers_the_higher_of_two_peaks_that_are_near_enough() -> None:
    maps = maps_of([(0, 5, 5, 0.9, 0), (1, 20, 5, 0.4, 0.1), (1, 30, 5, 0.8, 0.4)])
    by_value = AssociativeEmbedding(adjust=False, refine=False)
    by_tag = AssociativeEmbedding(adjust=False, refine=False, use_detection_value=False)
    assert by_value.decode_maps(*maps)[0][0, 1].tolist() == [30, 5]
    assert by_tag.decode_maps(*maps)[0][0, 1].tolist() == [20, 5]


def test_max_people_limits_peaks_of_a_map_and_who_can_be_joined() -> None:
    peaks = [(0, 5 + 8 * i, 5, 0.9 - 0.1 * i, 3.0 * i) for i in range(4)]
    assert len(AssociativeEmbedding(max_people=2).group(*maps_of(peaks))[0]) == 2
    peaks = [*peaks[:2], (1, 5, 20, 0.9, 6), (2, 5, 30, 0.9, 6)]
    two = AssociativeEmbedding(adjust=False, refine=False, max_people=2)
    assert len(two.group(*maps_of(peaks))[0]) == 4  # the third cannot be joined, so a fourth is opened
    two = AssociativeEmbedding(adjust=False, refine=False, max_people=2, ignore_too_much=True)
    assert len(two.group(*maps_of(peaks))[0]) == 2


def test_grouping_order_is_that_of_coco_for_14_and_17_keypoints_as_published() -> None:
    assert sorted(COCO_ORDER) == list(range(17))
    assert list(grouping_order(17)) == list(COCO_ORDER)
    assert list(grouping_order(14)) == [0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13]
    assert list(grouping_order(15)) == list(range(15))


@pytest.mark.parametrize(("num_keypoints", "first"), [(14, 11), (17, 11), (13, 7)])
def test_grouping_begins_at_the_first_keypoint_of_its_order(num_keypoints: int, first: int) -> None:
    peaks = [(7, 5, 5, 0.5, 0), (11, 20, 20, 0.5, 5)]
    people, _ = PEAKS_ONLY.group(*maps_of(peaks, num_keypoints))
    assert (people[0, :, 2] > 0).nonzero()[0].tolist() == [first]


# ---- refine


def plain_refine(people: np.ndarray, heatmaps: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """The published search of all pixels, for each keypoint that a person lacks."""
    people = people.copy()
    height, width = heatmaps.shape[1:]
    for person in people:
        found = person[:, 2] > 0
        mean = person[found, 3:].mean(axis=0)
        for keypoint in np.flatnonzero(~found):
            single = heatmaps[keypoint]
            rating = single - np.round(np.sqrt(((tags[keypoint] - mean) ** 2).sum(axis=2)))
            y, x = divmod(int(rating.argmax()), width)
            if single[y, x] > 0:
                right = single[y, min(x + 1, width - 1)] > single[y, max(x - 1, 0)]
                down = single[min(y + 1, height - 1), x] > single[max(y - 1, 0), x]
                person[keypoint, :3] = x + 0.25 + 0.5 * right, y + 0.25 + 0.5 * down, single[y, x]
    return people


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_tags", [1, 2, 3])
def test_refine_equals_the_search_of_all_pixels(num_tags: int, seed: int) -> None:
    heatmaps, tags = random_maps(num_tags, seed)
    heatmaps[2] *= 0.01  # below the short list
    heatmaps[3] = -abs(heatmaps[3])  # nothing to take
    tags[4] += 3  # nobody's
    people, person_scores = AssociativeEmbedding(refine=False).group(heatmaps, tags)
    refined, same_scores = AssociativeEmbedding().group(heatmaps, tags)
    np.testing.assert_array_equal(refined, plain_refine(people, heatmaps, tags))
    np.testing.assert_array_equal(same_scores, person_scores)
    assert (refined[:, 2, 2] > 0).any()
    assert np.isnan(AssociativeEmbedding().decode_maps(heatmaps, tags)[0][:, 3]).all()


def test_refine_takes_a_weak_peak_with_the_right_tag_before_a_strong_one_of_somebody_else() -> None:
    peaks = [(0, 5, 5, 0.9, 3), (0, 20, 5, 0.8, -3), (1, 6, 30, 0.9, 3), (1, 21, 40, 0.05, -3)]
    keypoints, scores, person_scores = AssociativeEmbedding().decode_maps(*maps_of(peaks, num_keypoints=2))
    assert keypoints[1, 1].tolist() == [21.25, 40.25]
    np.testing.assert_allclose(scores[1], [0.8, 0.05])
    np.testing.assert_allclose(person_scores, [0.9, 0.4], rtol=1e-6)


# ---- decode: other inputs


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_tags", [1, 2])
@pytest.mark.parametrize("value", [0.0, 0.25, -1.0, np.nan, np.inf])
def test_maps_without_peaks_give_nobody(value: float, num_tags: int) -> None:
    maps = np.full((17, *SIZE), value, dtype=np.float32), np.zeros((17, *SIZE, num_tags))
    keypoints, scores, person_scores = AssociativeEmbedding(detection_threshold=0.25).decode_maps(*maps)
    assert keypoints.shape == (0, 17, 2)
    assert scores.shape == (0, 17)
    assert person_scores.shape == (0,)
    assert keypoints.dtype == scores.dtype == person_scores.dtype == np.float32


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_no_peaks(bad: float) -> None:
    heatmaps, tags = maps_of([(0, 5, 5, 0.9, 1), (1, 20, 20, 0.9, 1), (1, 40, 40, 0.8, 1)])
    tags[1, 20, 20] = bad
    heatmaps[2, 50, 40] = bad
    keypoints, _, _ = AssociativeEmbedding(refine=False).decode_maps(heatmaps, tags)
    np.testing.assert_array_equal(keypoints, [[[5.25, 5.25], [40.25, 40.25], [np.nan, np.nan]]])


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 7), (3, 3)])
def test_tiny_maps(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    heatmaps, tags = rng.random((3, *size), dtype=np.float32), rng.random((3, *size, 2), dtype=np.float32)
    keypoints, _, _ = AssociativeEmbedding().decode_maps(heatmaps, tags)
    assert np.isfinite(keypoints).all()
    assert len(keypoints)


def test_decode_takes_any_float_type_and_layout_and_leaves_it_unchanged() -> None:
    maps = random_maps(num_tags=2)
    expected = AssociativeEmbedding().decode_maps(*maps)
    planes = np.ascontiguousarray(maps[1].transpose(3, 0, 1, 2)).transpose(1, 2, 3, 0)
    for heatmaps, tags in [
        (np.asfortranarray(maps[0].astype(np.float64)), np.asfortranarray(maps[1].astype(np.float64))),
        (maps[0], planes),
    ]:
        before = heatmaps.copy(), tags.copy()
        for actual, wanted in zip(AssociativeEmbedding().decode_maps(heatmaps, tags), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)
        np.testing.assert_array_equal(heatmaps, before[0])
        np.testing.assert_array_equal(tags, before[1])


@pytest.mark.parametrize(
    "shapes",
    [
        ((1, 3, 8, 8), (3, 8, 8, 1)),
        ((3, 8, 8), (3, 8, 8)),
        ((3, 8, 8), (2, 8, 8, 1)),
        ((3, 8, 8), (3, 8, 8, 0)),
        ((3, 0, 8), (3, 0, 8, 1)),
    ],
)
def test_decode_refuses_other_shapes(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(InputError, match=r"heatmaps \(K, H, W\) and tags \(K, H, W, T\)"):
        AssociativeEmbedding().decode_maps(*(np.zeros(shape, dtype=np.float32) for shape in shapes))


def test_decoding_never_imports_torch() -> None:
    script = (
        "import sys, numpy\n"
        "from leanpose.codecs import AssociativeEmbedding\n"
        "from leanpose.codecs.associative_embedding import flip_back, merge_scales\n"
        "assert 'scipy' not in sys.modules\n"  # slow to import
        "rng = numpy.random.default_rng(0)\n"
        "small, large = rng.random((1, 2, 8, 8)), rng.random((1, 2, 16, 16))\n"
        "maps = merge_scales({'heatmaps_4': small, 'tags': small, 'heatmaps_2': large})\n"
        "heatmaps, tags = (flip_back(each, [1, 0]) for each in maps)\n"
        "assert len(AssociativeEmbedding().decode_maps(heatmaps[0], tags[0, ..., None])[2])\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True)


# ---- from the network's outputs to maps


@pytest.mark.parametrize("size", [(16, 24), (8, 12), (11, 29)])
def test_enlarge_equals_torch(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    maps = np.random.default_rng(0).normal(0, 1, (2, 3, 8, 12)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(maps), size, mode="bilinear", align_corners=False)
    enlarged = enlarge(maps, size)
    np.testing.assert_allclose(enlarged, expected.numpy(), rtol=0, atol=1e-5)
    assert enlarged.dtype == np.float32
    assert not np.shares_memory(enlarged, maps)


def test_merge_scales_is_the_mean_of_the_heat_maps_and_the_tags_enlarged() -> None:
    rng = np.random.default_rng(0)
    small, tags, large = (rng.random((2, 3, s, s), dtype=np.float32) for s in (4, 4, 8))
    before = large.copy()
    heatmaps, merged_tags = merge_scales({"heatmaps_4": small, "tags": tags, "heatmaps_2": large})
    np.testing.assert_allclose(heatmaps, (enlarge(small, (8, 8)) + large) / 2)
    np.testing.assert_array_equal(merged_tags, enlarge(tags, (8, 8)))
    np.testing.assert_array_equal(large, before)


def test_flip_back_undoes_a_mirror() -> None:
    maps = np.random.default_rng(0).random((2, 3, 4, 5))
    mirrored = maps[:, [1, 0, 2], :, ::-1]
    np.testing.assert_array_equal(flip_back(mirrored, [1, 0, 2]), maps)
    np.testing.assert_array_equal(flip_back(mirrored[0], np.array([1, 0, 2])), maps[0])
    for flip_index in ([0, 1], [0, 0, 1], [1, 2, 3]):
        with pytest.raises(InputError, match="flip_index"):
            flip_back(maps, flip_index)


# ---- parameters


def test_parameters_cannot_be_changed_and_are_known_to_create_codec() -> None:
    codec = create_codec("associative_embedding", max_people=5, refine=False)
    assert codec == AssociativeEmbedding(max_people=5, refine=False)
    with pytest.raises(FrozenInstanceError):
        codec.max_people = 1


@pytest.mark.parametrize(
    "parameters",
    [
        *({"sigma": 0}, {"sigma": "2"}),
        *({"max_people": 0}, {"max_people": 2.0}, {"max_people": True}),
        *({"detection_threshold": -0.1}, {"detection_threshold": float("nan")}, {"detection_threshold": False}),
        *({"tag_threshold": 0}, {"tag_threshold": float("inf")}),
        *({"nms_kernel": 4}, {"nms_kernel": -1}, {"nms_kernel": 5.0}),
        *({"use_detection_value": 1}, {"ignore_too_much": None}, {"adjust": "yes"}, {"refine": 0}, {"upsample": 1}),
    ],
    ids=str,
)
def test_parameters_are_checked(parameters: dict[str, Any]) -> None:
    (name,) = parameters
    with pytest.raises(InputError, match=f"Give {name} as "):
        AssociativeEmbedding(**parameters)


def test_the_lowest_parameters_find_one_person_at_the_highest_pixels() -> None:
    codec = AssociativeEmbedding(max_people=1, detection_threshold=0, nms_kernel=1, adjust=False)
    heatmaps = np.random.default_rng(0).random((3, *SIZE), dtype=np.float32)
    keypoints, scores, person_scores = codec.decode_maps(heatmaps, np.zeros((3, *SIZE, 1), np.float32))
    highest = [np.unravel_index(heatmap.argmax(), SIZE)[::-1] for heatmap in heatmaps]
    np.testing.assert_array_equal(keypoints, [highest])
    np.testing.assert_array_equal(scores, [heatmaps.max(axis=(1, 2))])
    np.testing.assert_allclose(person_scores, scores.mean(axis=1), rtol=1e-6)


def test_decode_reads_outputs_by_name_and_gives_input_pixels_best_first() -> None:
    random = np.random.default_rng(0)
    small, large = (random.random((1, 3, 8 * s, 8 * s), dtype=np.float32) for s in (1, 2))
    outputs = {"heatmaps_4": small, "tags": small, "heatmaps_2": large}
    codec = AssociativeEmbedding(upsample=False)
    keypoints, scores, person_scores = codec.decode(outputs, (32, 32))
    heatmaps, tags = merge_scales(outputs)
    expected, expected_scores, expected_person_scores = codec.decode_maps(heatmaps[0], tags[0, ..., None])
    order = np.argsort(-expected_person_scores, kind="stable")
    np.testing.assert_allclose(keypoints, 2 * expected[order])  # a map of stride 2, convention classic
    np.testing.assert_array_equal(scores, expected_scores[order])
    np.testing.assert_array_equal(person_scores, expected_person_scores[order])


def test_the_flip_test_of_a_perfect_network_finds_the_same() -> None:
    random = np.random.default_rng(1)
    small, large = (random.random((1, 3, 8 * s, 8 * s), dtype=np.float32) for s in (1, 2))
    outputs = {"heatmaps_4": small, "tags": small, "heatmaps_2": large}
    mirrored = {name: flip_back(maps, [1, 0, 2]) for name, maps in outputs.items()}
    codec = AssociativeEmbedding(tag_threshold=0.1)
    merged = codec.merge_flipped(outputs, mirrored, [1, 0, 2])
    assert codec.merge(merged, (32, 32))[1].shape == (3, 32, 32, 2)
    doubled = {name: np.concatenate([maps, maps]) for name, maps in outputs.items()}
    for found, expected in zip(codec.decode(merged, (32, 32)), codec.decode(doubled, (32, 32)), strict=True):
        np.testing.assert_array_equal(found, expected)
