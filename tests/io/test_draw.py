from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from leanpose.errors import InputError
from leanpose.io.draw import PALETTE, draw_poses
from leanpose.keypoint_sets import COCO, KEYPOINT_SETS, KeypointSet
from leanpose.structures import Poses

# x, y of a person who faces the viewer (so left is at the right), as shares of the height, in COCO's order.
STANDING = np.array(
    [
        (0.50, 0.08), (0.52, 0.06), (0.48, 0.06), (0.55, 0.07), (0.45, 0.07), (0.62, 0.20), (0.38, 0.20),
        (0.68, 0.35), (0.32, 0.35), (0.70, 0.50), (0.30, 0.50), (0.57, 0.52), (0.43, 0.52),
        (0.57, 0.75), (0.43, 0.75), (0.57, 0.97), (0.43, 0.97),
    ],
    dtype=np.float32,
)  # fmt: skip


def standing(height: float = 200, left: float = 0, top: float = 0, score: float = 0.9) -> Poses:
    box = np.array([[left, top, left + height, top + height]], np.float32)
    return Poses(
        (STANDING * height + (left, top))[None].astype(np.float32),
        np.full((1, 17), score, np.float32),
        box,
        np.ones(1, np.float32),
        COCO,
    )


def both(a: Poses, b: Poses) -> Poses:
    return Poses(
        np.concatenate([a.keypoints, b.keypoints]),
        np.concatenate([a.scores, b.scores]),
        np.concatenate([a.boxes_xyxy, b.boxes_xyxy]),
        np.concatenate([a.person_scores, b.person_scores]),
        COCO,
    )


def grey(height: int = 220, width: int = 220, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def between(image: np.ndarray, poses: Poses, a: str, b: str) -> np.ndarray:
    """The pixel in the middle of a limb, as signed RGB."""
    ends = [poses.keypoints[0, COCO.keypoints.index(name)] for name in (a, b)]
    x, y = np.rint(np.mean(ends, axis=0)).astype(int)
    return image[y, x].astype(int)


def changed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(H, W) bool, where two images differ."""
    return (a != b).any(axis=2)


@pytest.mark.parametrize(("upper", "lower"), [("shoulder", "elbow"), ("hip", "knee")])
def test_left_is_blue_right_is_orange_and_the_middle_neutral(upper: str, lower: str) -> None:
    poses = standing()
    image = draw_poses(grey(), poses)
    red, _, blue = between(image, poses, f"left_{upper}", f"left_{lower}")
    assert blue - red > 150
    red, _, blue = between(image, poses, f"right_{upper}", f"right_{lower}")
    assert red - blue > 150
    assert np.ptp(between(image, poses, f"left_{upper}", f"right_{upper}")) < 10


@pytest.mark.parametrize("value", [0, 255])
def test_shows_on_black_and_on_white(value: int) -> None:
    contrast = np.abs(draw_poses(grey(value=value), standing()).astype(int) - value).max(axis=2)
    assert (contrast > 200).sum() > 1000


def test_low_scores_are_faded() -> None:
    certain, unsure = (
        between(draw_poses(grey(), poses), poses, "left_hip", "left_knee") - 128
        for poses in (standing(score=0.9), standing(score=0.3))
    )
    assert 0 < np.abs(unsure).sum() < 0.7 * np.abs(certain).sum()


def test_a_limb_is_as_faint_as_its_less_certain_end() -> None:
    poses = standing()
    poses.scores[0, COCO.keypoints.index("left_knee")] = 0.3
    image, faint = draw_poses(grey(), poses), draw_poses(grey(), standing(score=0.3))
    for limb in (("left_hip", "left_knee"), ("left_knee", "left_ankle")):
        np.testing.assert_array_equal(between(image, poses, *limb), between(faint, poses, *limb))


def test_calibrated_scores_are_drawn_from_a_chance_of_four_tenths_and_inside_the_image() -> None:
    raw = standing(score=0.3)
    assert changed(draw_poses(grey(), raw), grey()).any()
    poses = replace(raw, raw_scores=raw.scores)
    np.testing.assert_array_equal(draw_poses(grey(), poses), grey())
    likely = replace(poses, scores=np.full_like(raw.scores, 0.4))
    assert changed(draw_poses(grey(), likely), grey()).any()
    outside = replace(likely, keypoints=likely.keypoints + np.float32(10_000))
    np.testing.assert_array_equal(draw_poses(grey(), outside), grey())


def test_below_min_score_nothing_is_drawn() -> None:
    np.testing.assert_array_equal(draw_poses(grey(), standing(score=0.4), min_score=0.5), grey())
    assert changed(draw_poses(grey(), standing(score=0.5), min_score=0.5), grey()).any()
    assert changed(draw_poses(grey(), standing(score=0.9), min_score=0.8), grey()).any()


def limb_width(height: float, thickness: float = 1.0) -> int:
    poses = standing(height)
    image = draw_poses(grey(840, 840), poses, thickness=thickness)
    y = round(0.86 * height)  # the left shin, that is upright; the right one lies left of it
    return int(changed(image, grey(840, 840))[y, height // 2 :].sum())


def test_thickness_grows_with_the_person_and_by_the_factor() -> None:
    tiny, small, large = limb_width(50), limb_width(200), limb_width(800)
    assert 2 <= tiny <= small < large <= 0.05 * 800
    assert limb_width(400, thickness=2) > limb_width(400)
    with pytest.raises(InputError, match="thickness"):
        draw_poses(grey(), standing(), thickness=0)


def test_positions_are_sub_pixel() -> None:
    mean_x = []
    for shift in (0, 0.25, 0.5):
        ink = cv2.subtract(draw_poses(grey(value=0), standing(left=shift)), grey(value=0)).sum(axis=(0, 2))
        mean_x.append(np.average(np.arange(220), weights=ink))
    np.testing.assert_allclose(np.diff(mean_x), 0.25, atol=0.07)


def test_keypoints_are_where_they_should_be() -> None:
    one = KeypointSet("one", ("tip",), (), "test")
    keypoints = np.array([[[60.3, 40.7]]], np.float32)
    ones = np.ones((1, 1), np.float32)
    poses = Poses(keypoints, ones, np.array([[0, 0, 100, 100]], np.float32), ones[0], one)
    weight = np.abs(draw_poses(grey(), poses, thickness=5).astype(int) - 128).sum(axis=2)
    y, x = np.indices(weight.shape)
    center = np.average(x, weights=weight), np.average(y, weights=weight)
    np.testing.assert_allclose(center, keypoints[0, 0], atol=0.1)


def test_the_input_stays_and_the_result_is_a_copy() -> None:
    image = grey()
    result = draw_poses(image, standing(), boxes=True)
    np.testing.assert_array_equal(image, grey())
    assert result.shape == image.shape and result.dtype == np.uint8
    empty = draw_poses(image, Poses.empty(COCO), boxes=True)
    np.testing.assert_array_equal(empty, image)
    assert not np.shares_memory(empty, image)


def test_a_path_is_accepted(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), grey())
    np.testing.assert_array_equal(draw_poses(tmp_path / "grey.png", standing()), draw_poses(grey(), standing()))


def test_nan_keypoints_are_skipped() -> None:
    poses = standing()
    poses.keypoints[0, COCO.keypoints.index("left_knee")] = np.nan
    image = draw_poses(grey(), poses)
    assert (between(image, standing(), "left_hip", "left_knee") == 128).all()
    assert (between(image, standing(), "right_hip", "right_knee") != 128).any()
    poses.keypoints[:] = np.nan
    np.testing.assert_array_equal(draw_poses(grey(), replace(poses, ids=np.array([1]))), grey())


@pytest.mark.parametrize("offset", [-1e9, -300.0, -50.0, 100.0, 300.0, 1e9])
def test_outside_the_image(offset: float) -> None:
    poses = standing(left=offset, top=offset)
    assert changed(draw_poses(grey(), poses, boxes=True), grey()).any() == (abs(offset) <= 100)
    labelled = draw_poses(grey(), replace(poses, ids=np.array([7])))
    assert changed(labelled, draw_poses(grey(), poses)).any()  # the label is moved into the image
    poses.keypoints[0, :10] = 50
    assert draw_poses(grey(), poses).shape == (220, 220, 3)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 400), (3000, 4000)])
def test_tiny_and_huge_images(size: tuple[int, int]) -> None:
    poses = replace(standing(height=min(size)), ids=np.array([123]))
    image = grey(*size)
    assert changed(draw_poses(image, poses, boxes=True), image).any()


def test_boxes_and_ids_are_optional_and_coloured_by_id() -> None:
    poses = standing(150, left=30, top=40)
    plain = draw_poses(grey(), poses)
    boxed = draw_poses(grey(), poses, boxes=True)
    assert changed(plain, boxed)[40, 30:180].all() and changed(plain, boxed)[40:190, 180].all()
    first, same, second = (draw_poses(grey(), replace(poses, ids=np.array([i])), boxes=True) for i in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert changed(first, boxed)[20:38, 30:60].any()  # the label
    assert (first[100, 180] != second[100, 180]).any()  # the box's right side
    assert changed(draw_poses(grey(), replace(poses, ids=np.array([1]))), plain).any()


def test_each_person_in_a_colour_of_its_own() -> None:
    first, second = standing(100), standing(100, left=110)
    image = draw_poses(grey(), both(first, second), colour="person")
    left, right, other = (
        between(image, poses, f"{side}_hip", f"{side}_knee")
        for poses, side in ((first, "left"), (first, "right"), (second, "left"))
    )
    np.testing.assert_array_equal(left, right)
    assert np.abs(left - other).max() > 50
    tracked = draw_poses(grey(), replace(second, ids=np.array([1])), colour="person", labels=[""])
    np.testing.assert_array_equal(between(tracked, second, "left_hip", "left_knee"), other)  # by id, not by place
    with pytest.raises(InputError, match="colour must be 'side' or 'person', not 'limb'"):
        draw_poses(grey(), first, colour="limb")  # type: ignore[arg-type]


def test_labels_of_ones_own() -> None:
    poses = standing(150, left=30, top=40)
    plain, labelled = draw_poses(grey(), poses), draw_poses(grey(), poses, labels=["0.93"])
    assert changed(plain, labelled)[20:38, 30:60].any()
    tracked = replace(poses, ids=np.array([7]))
    np.testing.assert_array_equal(draw_poses(grey(), tracked), draw_poses(grey(), tracked, labels=["7"]))
    with pytest.raises(InputError, match="labels must hold one text per person, 1, not 2"):
        draw_poses(grey(), poses, labels=["a", "b"])


def test_larger_persons_lie_on_top() -> None:
    large, small = standing(200), standing(100, left=30, top=60)
    image = draw_poses(grey(), both(large, small))
    np.testing.assert_array_equal(image, draw_poses(draw_poses(grey(), small), large))
    np.testing.assert_array_equal(image, draw_poses(grey(), both(small, large)))
    assert changed(image, draw_poses(draw_poses(grey(), large), small)).any()


@pytest.mark.parametrize("name", KEYPOINT_SETS)
def test_every_built_in_set_shows_all_colours(name: str) -> None:
    keypoint_set = KEYPOINT_SETS[name]
    k = len(keypoint_set)
    side = max(220, 8 * k)
    angle = 2 * np.pi * np.arange(k) / k
    keypoints = side / 2 + (side / 2 - 20) * np.stack([np.cos(angle), np.sin(angle)], axis=-1)[None]
    box = np.array([[20, 20, side - 20, side - 20]], np.float32)
    poses = Poses(keypoints.astype(np.float32), np.ones((1, k), np.float32), box, np.ones(1, np.float32), keypoint_set)
    image = draw_poses(np.full((side, side, 3), 128, np.uint8), poses)
    for colour in PALETTE.values():
        assert (image == colour).all(axis=2).sum() > 20


def test_faces_and_hands_of_many_keypoints_have_small_discs() -> None:
    """They show on the face of a person of 400 pixels, and differ from eyes and elbows."""

    def area(keypoint: str) -> int:
        names = (keypoint, "left_foot_of_nobody")
        keypoints = np.array([[[110, 20], [110, 420]]], np.float32)
        box, ones = np.array([[0, 20, 200, 420]], np.float32), np.ones((1, 2), np.float32)
        poses = Poses(keypoints, ones, box, ones[0, :1], KeypointSet("two", names, (), "test"))
        blank = np.full((440, 220, 3), 128, np.uint8)
        return int(changed(draw_poses(blank, poses), blank)[:100].sum())

    fine = {area(name) for name in ("left_jaw_3", "upper_lip", "right_eye_6", "left_pinky_finger_4")}
    assert len(fine) == 1 and 2 * fine.pop() < area("left_eye") < area("left_elbow")
    assert area("L1") == area("left_paw_3") == area("left_elbow")


def test_other_spellings_of_the_names_look_alike() -> None:
    poses = standing()
    names = {name: name.replace("_", " ").title() for name in COCO.keypoints}
    edges = tuple((names[a], names[b]) for a, b in COCO.edges)
    spelt = KeypointSet("spelt", tuple(names.values()), edges, "test")
    canvas = np.zeros((200, 200, 3), np.uint8)
    np.testing.assert_array_equal(draw_poses(canvas, replace(poses, keypoint_set=spelt)), draw_poses(canvas, poses))


def test_a_custom_set_without_edges_gives_discs() -> None:
    custom = KeypointSet("custom", ("left_tip", "right_tip"), (), "test")
    keypoints = np.array([[[50, 100], [150, 100]]], np.float32)
    poses = Poses(
        keypoints,
        np.ones((1, 2), np.float32),
        np.array([[0, 0, 200, 200]], np.float32),
        np.ones(1, np.float32),
        custom,
    )
    image = draw_poses(grey(), poses)
    assert image[100, 50, 2] > image[100, 50, 0] and image[100, 150, 0] > image[100, 150, 2]
    assert (image[100, 70:130] == 128).all()
