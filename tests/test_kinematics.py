"""Joint angles by name: known figures, every set of keypoints, gaps, and what cannot be computed."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import pytest

from leanpose.errors import InputError
from leanpose.keypoint_sets import BODY_25, COCO, CROWDPOSE, HALPE26, KEYPOINT_SETS, LSP, MPII, WHOLEBODY, KeypointSet
from leanpose.kinematics import angle_tracks, chosen_joints, joint_angles, joints_of, plot_angles
from leanpose.structures import Frame, Poses

LIMBS = {"shoulder", "elbow", "hip", "knee"}


def make(
    places: Mapping[str, tuple[float, float]], keypoint_set: KeypointSet = COCO, ids: list[int] | None = None
) -> Poses:
    """Return as many persons as there are ids, or one, with keypoints at these places and no others."""
    n, k = 1 if ids is None else len(ids), len(keypoint_set)
    keypoints, scores = np.full((n, k, 2), np.nan, np.float32), np.zeros((n, k), np.float32)
    for name, place in places.items():
        keypoints[:, keypoint_set.keypoints.index(name)] = place
        scores[:, keypoint_set.keypoints.index(name)] = 0.9
    identities = None if ids is None else np.array(ids)
    return Poses(keypoints, scores, np.zeros((n, 4), np.float32), np.ones(n, np.float32), keypoint_set, identities)


LEG: dict[str, tuple[float, float]] = {"left_hip": (0.0, 0.0), "left_knee": (0.0, 10.0)}


@pytest.mark.parametrize(
    ("ankle", "degrees"),
    [
        ((0, 20), 180),
        ((10, 10), 90),
        ((-10, 10), 90),
        ((0, 0), 0),
        ((10, 20), 135),
        ((0, 5), 0),
        ((0.001, 20), 179.994),
    ],
)
def test_known_angles(ankle: tuple[float, float], degrees: float) -> None:
    angle = joint_angles(make({**LEG, "left_ankle": ankle}))["left_knee"]
    assert angle.shape == (1,) and angle.dtype == np.float32
    np.testing.assert_allclose(angle, degrees, atol=5e-3)


def test_each_joint_is_between_its_segments() -> None:
    """A body whose segments turn by 10, 20 ... degrees, with the joint's angle 180 less the turn."""
    turned = {"hip": 10, "knee": 20, "ankle": 30, "shoulder": 100, "elbow": 40}
    at = {"shoulder": np.array([0.0, 0.0]), "hip": np.array([0.0, 30.0])}
    ways = {"knee": ("hip", 10), "ankle": ("knee", 30), "big_toe": ("ankle", 60), "elbow": ("shoulder", 80)}
    ways["wrist"] = ("elbow", 120)
    for end, (start, degrees) in ways.items():
        at[end] = at[start] + 25 * np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])
    places = {f"right_{name}": (float(x), float(y)) for name, (x, y) in at.items()}
    angles = joint_angles(make(places, HALPE26))
    for joint, turn in turned.items():
        np.testing.assert_allclose(angles[f"right_{joint}"], 180 - turn, atol=1e-3)
        assert np.isnan(angles[f"left_{joint}"]).all()


def test_joints_of_every_set() -> None:
    for keypoint_set in (COCO, CROWDPOSE, MPII, LSP):
        assert {name.partition("_")[2] for name in joints_of(keypoint_set)} == LIMBS
    for keypoint_set in (HALPE26, BODY_25, WHOLEBODY):
        assert {name.partition("_")[2] for name in joints_of(keypoint_set)} == LIMBS | {"ankle"}
    for keypoint_set in KEYPOINT_SETS.values():
        assert joint_angles(Poses.empty(keypoint_set))["left_knee"].shape == (0,)


def test_names_in_any_spelling() -> None:
    own = KeypointSet("own", ("Hip L", "lKnee", "left-ankle"), (), "made up")
    poses = make({"Hip L": (0, 0), "lKnee": (0, 9), "left-ankle": (9, 9)}, own)
    assert joint_angles(poses).keys() == {"left_knee"}
    np.testing.assert_allclose(joint_angles(poses)["left_knee"], 90)


def test_absent_low_and_equal_keypoints_give_no_angle() -> None:
    poses = make({**LEG, "left_ankle": (0, 20), "right_hip": (1, 1), "right_knee": (1, 1), "right_ankle": (2, 2)})
    assert np.isnan(joint_angles(poses)["right_knee"]).all() and np.isnan(joint_angles(poses)["left_elbow"]).all()
    assert np.isnan(joint_angles(poses, min_score=0.95)["left_knee"]).all()
    poses.scores[0, COCO.keypoints.index("left_ankle")] = 0.1
    assert np.isnan(joint_angles(poses)["left_knee"]).all()
    assert joint_angles(poses, min_score=0.05)["left_knee"] == 180


def frames(*persons: list[int] | None) -> list[Frame]:
    """Return frames 10, 11 ... with these identities, whose left knee is at 90 degrees."""
    leg = {**LEG, "left_ankle": (10.0, 10.0)}
    return [
        Frame(10 + i, i / 4, make(leg, ids=ids) if ids != [] else Poses.empty(COCO), (100, 100))
        for i, ids in enumerate(persons)
    ]


def test_over_time_gaps_are_gaps() -> None:
    three, seven = angle_tracks(frames([7], [], [3, 7], [3], []), ["left_knee"])
    assert (three.identity, seven.identity) == (3, 7)
    assert seven.frames.tolist() == [10, 11, 12] and three.times_s.tolist() == [0.5, 0.75]
    np.testing.assert_array_equal(seven.degrees["left_knee"], np.array([90, np.nan, 90], np.float32))


def test_one_person_needs_no_identity() -> None:
    (track,) = angle_tracks(frames(None, [], None))
    assert track.identity is None and len(track.frames) == 3 and set(track.degrees) == set(joints_of(COCO))


def test_joints_are_chosen_by_name() -> None:
    assert chosen_joints(["knee", "left_elbow", "left_knee"], COCO) == ("left_knee", "right_knee", "left_elbow")
    for joints, message in ((["nee"], "Did you mean 'knee'"), (["ankle"], "do not give the ankle, which takes")):
        with pytest.raises(InputError, match=message):
            chosen_joints(joints, COCO)
    with pytest.raises(InputError, match="give no joint angle"):
        chosen_joints(None, KeypointSet("dog", ("snout",), (), "made up"))


def test_several_persons_without_identities() -> None:
    poses = make(LEG, ids=[1, 2])
    untracked = Poses(poses.keypoints, poses.scores, poses.boxes_xyxy, poses.person_scores, COCO)
    with pytest.raises(InputError, match="Frame 4 has 2 persons without identities"):
        angle_tracks([Frame(4, 0.0, untracked, (10, 10))])
    with pytest.raises(InputError, match="no person"):
        angle_tracks(frames([], []))


def test_a_plot_has_lines_with_gaps() -> None:
    pytest.importorskip("matplotlib")
    blue = []
    for ids in ([[7]] * 9, [[7]] * 4 + [[]] + [[7]] * 4):
        (track,) = angle_tracks(frames(*ids), ["knee"])
        image = cv2.imdecode(np.frombuffer(plot_angles(track), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None and image.shape[1] > 600
        blue.append((np.abs(image.astype(int) - [180, 119, 31]).max(axis=2) < 40).sum())
    assert blue[1] < 0.85 * blue[0]
