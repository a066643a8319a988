"""Keypoint sets: official orders, sides, sigmas, joining by name, custom sets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from leanpose.errors import InputError
from leanpose.keypoint_sets import (
    BODY_25,
    COCO,
    CROWDPOSE,
    HALPE26,
    KEYPOINT_SETS,
    LSP,
    MPII,
    WHOLEBODY,
    KeypointSet,
    convert,
    get_keypoint_set,
    keypoint_set_from_coco,
    mapping,
    side_and_part,
    without_partner,
)

ALL = list(KEYPOINT_SETS.values())

# The category of the COCO annotation files, as person_keypoints_val2017.json has it.
COCO_CATEGORY: dict[str, Any] = {
    "supercategory": "person",
    "id": 1,
    "name": "person",
    "keypoints": [
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle",
    ],
    "skeleton": [
        [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9],
        [8, 10], [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
    ],
}  # fmt: skip

# The category of the CrowdPose files: the top of the head is called "head" there.
CROWDPOSE_NAMES = [
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck",
]  # fmt: skip

# The order of the readme files of MPII (human-pose.mpi-inf.mpg.de) and LSP.
MPII_README = (
    "r ankle, r knee, r hip, l hip, l knee, l ankle, pelvis, thorax, upper neck, head top, "
    "r wrist, r elbow, r shoulder, l shoulder, l elbow, l wrist"
)
LSP_README = (
    "Right ankle, Right knee, Right hip, Left hip, Left knee, Left ankle, Right wrist, Right elbow, Right shoulder, "
    "Left shoulder, Left elbow, Left wrist, Neck, Head top"
)

# As the readme files of Halpe-FullBody and OpenPose spell them.
HALPE_README = [
    "Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist", "LHip",
    "RHip", "LKnee", "Rknee", "LAnkle", "RAnkle", "Head", "Neck", "Hip", "LBigToe", "RBigToe", "LSmallToe",
    "RSmallToe", "LHeel", "RHeel",
]  # fmt: skip
OPENPOSE_README = [
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip", "RHip", "RKnee",
    "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar", "LBigToe", "LSmallToe", "LHeel", "RBigToe",
    "RSmallToe", "RHeel",
]  # fmt: skip


def from_readme(text: str) -> list[str]:
    words = {"r": "right", "l": "left"}
    return ["_".join(words.get(w, w) for w in name.lower().split()) for name in text.split(", ")]


@pytest.mark.parametrize(
    ("keypoint_set", "count", "edges"),
    [
        (COCO, 17, 19),
        (CROWDPOSE, 14, 15),
        (MPII, 16, 15),
        (LSP, 14, 15),
        (HALPE26, 26, 25),
        (BODY_25, 25, 24),
        (WHOLEBODY, 133, 67),
    ],
)
def test_counts(keypoint_set: KeypointSet, count: int, edges: int) -> None:
    assert len(keypoint_set) == len(keypoint_set.keypoints) == len(keypoint_set.oks_sigmas) == count
    assert keypoint_set.edge_indices.shape == (edges, 2)


def test_coco_is_the_official_category() -> None:
    assert list(COCO.keypoints) == COCO_CATEGORY["keypoints"]
    ours = {frozenset(edge) for edge in (COCO.edge_indices + 1).tolist()}
    assert ours == {frozenset(edge) for edge in COCO_CATEGORY["skeleton"]}


def test_crowdpose_order() -> None:
    assert [name.replace("top_head", "head") for name in CROWDPOSE.keypoints] == CROWDPOSE_NAMES


def test_mpii_and_lsp_orders() -> None:
    assert list(MPII.keypoints) == from_readme(MPII_README)
    assert [name.replace("top_head", "head_top") for name in LSP.keypoints] == from_readme(LSP_README)


@pytest.mark.parametrize("keypoint_set", ALL, ids=lambda s: s.name)
def test_every_keypoint_but_outlines_of_faces_is_on_an_edge(keypoint_set: KeypointSet) -> None:
    outlines = set(keypoint_set.keypoints[23:91]) if keypoint_set is WHOLEBODY else set()
    assert {end for edge in keypoint_set.edges for end in edge} == set(keypoint_set.keypoints) - outlines
    pairs = [frozenset(edge) for edge in keypoint_set.edges]
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("keypoint_set", ALL, ids=lambda s: s.name)
def test_flip_index_swaps_the_sides_and_is_its_own_inverse(keypoint_set: KeypointSet) -> None:
    flip = keypoint_set.flip_index
    np.testing.assert_array_equal(flip[flip], np.arange(len(keypoint_set)))
    for name, i in zip(keypoint_set.keypoints, flip, strict=True):
        other = keypoint_set.keypoints[i]
        assert other == name.replace("left_", "?").replace("right_", "left_").replace("?", "right_")


def test_flip_index_of_coco_as_published() -> None:
    pairs = [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)]
    assert COCO.flip_index[0] == 0
    assert [(int(COCO.flip_index[b]), int(COCO.flip_index[a])) for a, b in pairs] == pairs


def test_flip_index_of_mpii_as_published() -> None:
    for a, b in [(0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)]:
        assert (MPII.flip_index[a], MPII.flip_index[b]) == (b, a)


def test_flip_index_of_halpe26_as_published() -> None:
    assert HALPE26.flip_index[:17].tolist() == COCO.flip_index.tolist()
    assert HALPE26.flip_index[17:].tolist() == [17, 18, 19, 21, 20, 23, 22, 25, 24]


def test_flip_index_of_wholebody_as_published() -> None:
    """The pairs of mmpose's coco_wholebody.py; those of the face in the numbers of iBUG."""
    face = [(i, 16 - i) for i in range(8)] + [(17 + i, 26 - i) for i in range(5)] + [(31, 35), (32, 34)]
    face += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    face += [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)]
    pairs = [(i, i + 1) for i in range(1, 16, 2)] + [(17 + i, 20 + i) for i in range(3)]
    pairs += [(23 + a, 23 + b) for a, b in face] + [(91 + i, 112 + i) for i in range(21)]
    expected = np.arange(133)
    for a, b in pairs:
        expected[[a, b]] = b, a
    np.testing.assert_array_equal(WHOLEBODY.flip_index, expected)


def test_names_of_wholebody_stand_where_the_data_has_them() -> None:
    face = WHOLEBODY.keypoints[23:91]
    at = {0: "right_jaw_1", 8: "chin", 16: "left_jaw_1", 17: "right_brow_1", 27: "nose_bridge_1", 33: "nose_base"}
    at |= {36: "right_eye_1", 45: "left_eye_1", 51: "upper_lip", 57: "lower_lip", 62: "upper_inner_lip", 67: face[67]}
    assert {i: face[i] for i in at} == at
    hands = [WHOLEBODY.keypoints[i] for i in (91, 95, 99, 111, 112, 116, 132)]
    assert hands == [
        *("left_hand_root", "left_thumb_4", "left_forefinger_4", "left_pinky_finger_4"),
        *("right_hand_root", "right_thumb_4", "right_pinky_finger_4"),
    ]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_ear", "right_ear"),
        ("left ear", "right ear"),
        ("left-ear", "right-ear"),
        ("Left_Ear", "Right_Ear"),
        ("LEFT_EAR", "RIGHT_EAR"),
        ("ear_left", "ear_right"),
        ("L_ear", "R_ear"),
        ("ear_L", "ear_R"),
        ("leftEar", "rightEar"),
        ("leftear", "rightear"),
        ("l.ear", "r.ear"),
        ("lEar", "rEar"),
        ("EarL", "EarR"),
    ],
)
def test_sides_in_any_spelling(left: str, right: str) -> None:
    cat = keypoint_set_from_coco([{"keypoints": ["Nose", left, right, "Upper Neck"]}], "cats.json")
    assert cat.flip_index.tolist() == [0, 2, 1, 3]
    assert cat.oks_sigmas.tolist() == [0.026, 0.035, 0.035, 0.079]
    assert [side_and_part(name) for name in (left, right)] == [("left", "ear"), ("right", "ear")]
    assert mapping(cat, COCO).tolist() == [0, -1, -1, 1, 2] + [-1] * 12
    assert mapping(cat, LSP)[-2:].tolist() == [3, -1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("L1", ("left", "1")),
        ("r_ear", ("right", "ear")),
        ("l_ear", ("left", "ear")),
        ("Left Ear", ("left", "ear")),
        ("RightEar", ("right", "ear")),
        ("earL", ("left", "ear")),
        ("ear (L)", ("left", "ear")),
        ("ear-left", ("left", "ear")),
        ("LEFT_EAR", ("left", "ear")),
        ("lateral", ("", "lateral")),
        ("rear", ("", "rear")),
        ("bright spot", ("", "bright_spot")),
        ("Rim", ("", "rim")),
        ("front_left_paw", ("left", "front_paw")),
        ("hand.R.001", ("right", "hand_001")),
        ("左目", ("", "左目")),
        ("left_right", ("", "left_right")),
        ("lip", ("", "lip")),
        ("?", ("", "?")),
    ],
)
def test_side_and_part(name: str, expected: tuple[str, str]) -> None:
    assert side_and_part(name) == expected


def test_names_that_mean_the_same_are_no_pair() -> None:
    unclear = KeypointSet("unclear", ("L_1", "left 1", "R_1", "nose"), (), "test")
    assert unclear.flip_index.tolist() == [0, 1, 2, 3]
    assert mapping(unclear, KeypointSet("other", ("left_1", "L_1"), (), "test")).tolist() == [-1, 0]


def test_what_has_no_partner() -> None:
    assert without_partner(LSP, COCO) == ["nose", "left_eye", "right_eye", "left_ear", "right_ear"]
    assert without_partner(COCO, LSP) == ["neck", "top_head"]


def test_a_side_without_partner_stays() -> None:
    lonely = KeypointSet("lonely", ("left_hand", "nose"), (), "test")
    assert lonely.flip_index.tolist() == [0, 1]


# cocodataset.org/#keypoints-eval gives k_i = 2 sigma_i; CrowdPose's toolkit gives ten times sigma.
COCO_K = [
    0.052, 0.050, 0.050, 0.070, 0.070, 0.158, 0.158, 0.144, 0.144, 0.124, 0.124, 0.214, 0.214,
    0.174, 0.174, 0.178, 0.178,
]  # fmt: skip
CROWDPOSE_SIGMAS_X10 = [0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]


def test_sigmas() -> None:
    np.testing.assert_allclose(COCO.oks_sigmas, np.array(COCO_K) / 2, rtol=1e-12)
    np.testing.assert_allclose(CROWDPOSE.oks_sigmas, np.array(CROWDPOSE_SIGMAS_X10) / 10, rtol=1e-12)
    assert MPII.oks_sigmas[MPII.keypoints.index("pelvis")] == 0.079
    np.testing.assert_array_equal(HALPE26.oks_sigmas[:17], COCO.oks_sigmas)
    assert HALPE26.oks_sigmas[17:].tolist() == [0.026, 0.026, 0.066] + [0.079] * 6
    np.testing.assert_array_equal(WHOLEBODY.oks_sigmas[:17], COCO.oks_sigmas)
    np.testing.assert_array_equal(WHOLEBODY.oks_sigmas[91:112], WHOLEBODY.oks_sigmas[112:])
    of = dict(zip(WHOLEBODY.keypoints, WHOLEBODY.oks_sigmas, strict=True))
    assert (of["left_heel"], of["right_jaw_1"], of["left_jaw_1"], of["chin"]) == (0.066, 0.042, 0.045, 0.020)
    assert (of["nose_bridge_4"], of["left_lip_1"], of["right_inner_lip_3"]) == (0.007, 0.010, 0.008)


def test_lsp_to_coco_and_back() -> None:
    """The twelve limb keypoints come back unchanged; neck and head, which COCO lacks, come back absent."""
    random = np.random.default_rng(0)
    keypoints = random.uniform(0, 500, (3, 14, 2)).astype(np.float32)
    visibility = random.integers(1, 3, (3, 14)).astype(np.int8)
    there, seen_there = convert(keypoints, visibility, LSP, COCO)
    assert there.shape == (3, 17, 2) and there.dtype == np.float32 and seen_there.dtype == np.int8
    for name in ("left_knee", "right_wrist"):
        np.testing.assert_array_equal(there[:, COCO.keypoints.index(name)], keypoints[:, LSP.keypoints.index(name)])
    assert np.isnan(there[:, :5]).all() and not seen_there[:, :5].any()  # the face
    back, seen_back = convert(there, seen_there, COCO, LSP)
    np.testing.assert_array_equal(back[:, :12], keypoints[:, :12])
    np.testing.assert_array_equal(seen_back[:, :12], visibility[:, :12])
    assert np.isnan(back[:, 12:]).all() and not seen_back[:, 12:].any()


@pytest.mark.parametrize("source", ALL, ids=lambda s: s.name)
@pytest.mark.parametrize("target", ALL, ids=lambda s: s.name)
def test_mapping_joins_the_same_names_only(source: KeypointSet, target: KeypointSet) -> None:
    aliases = {"head_top": "top_head", "head": "top_head", "upper_neck": "neck", "hip": "pelvis", "mid_hip": "pelvis"}
    for name, i in zip(target.keypoints, mapping(source, target), strict=True):
        canonical = [aliases.get(n, n) for n in source.keypoints]
        wanted = aliases.get(name, name)
        assert i == (canonical.index(wanted) if wanted in canonical else -1)


def test_head_and_neck_of_mpii_are_those_of_lsp() -> None:
    index = mapping(MPII, LSP)
    assert [MPII.keypoints[i] for i in index[-2:]] == ["upper_neck", "head_top"]
    assert mapping(MPII, CROWDPOSE)[-2:].tolist() == [9, 8]


def test_halpe26_has_the_keypoints_of_all_other_body_sets() -> None:
    for target in (COCO, CROWDPOSE, LSP, BODY_25):
        assert without_partner(HALPE26, target) == []
    assert without_partner(HALPE26, MPII) == ["thorax"]

    def found(target: KeypointSet) -> dict[str, str]:
        return {name: HALPE26.keypoints[i] for name, i in zip(target.keypoints, mapping(HALPE26, target), strict=True)}

    assert [found(CROWDPOSE)[name] for name in ("top_head", "neck")] == ["head", "neck"]
    assert [found(MPII)[name] for name in ("head_top", "upper_neck", "pelvis")] == ["head", "neck", "hip"]
    assert [found(BODY_25)[name] for name in ("neck", "mid_hip", "left_hip")] == ["neck", "hip", "left_hip"]
    assert without_partner(WHOLEBODY, HALPE26) == ["head", "neck", "hip"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (COCO_CATEGORY["keypoints"], COCO),
        (HALPE_README, HALPE26),
        (list(HALPE26.keypoints), HALPE26),
        (OPENPOSE_README, BODY_25),
        (list(WHOLEBODY.keypoints), WHOLEBODY),
        (CROWDPOSE_NAMES, CROWDPOSE),
        ([*CROWDPOSE_NAMES[:12], "top_head", "neck"], CROWDPOSE),
        (from_readme(MPII_README), MPII),
        (from_readme(LSP_README), LSP),
    ],
)
def test_official_categories_give_the_built_in_sets(names: list[str], expected: KeypointSet) -> None:
    found = keypoint_set_from_coco([{"id": 7, "name": "dog"}, {"id": 1, "keypoints": names}], "x.json")
    assert found is expected


def test_the_skeleton_of_the_crowdpose_files_is_no_fault() -> None:
    """Those files carry COCO's skeleton, whose numbers go beyond their own 14 keypoints."""
    category = {"keypoints": CROWDPOSE_NAMES, "skeleton": COCO_CATEGORY["skeleton"]}
    assert keypoint_set_from_coco([category], "crowdpose_val.json") is CROWDPOSE


def test_custom_set() -> None:
    category = {
        "name": "hand",
        "keypoints": ["wrist", "left_tip", "right_tip"],
        "skeleton": [[1, 2], [1, 3]],
        "sigmas": [0.1, 0.2, 0.3],
    }
    found = keypoint_set_from_coco([category], "hands.json")
    assert (found.name, found.keypoints) == ("hand", ("wrist", "left_tip", "right_tip"))
    assert found.edges == (("wrist", "left_tip"), ("wrist", "right_tip"))
    assert found.oks_sigmas.tolist() == [0.1, 0.2, 0.3]
    assert found.flip_index.tolist() == [0, 2, 1]
    assert "hands.json" in found.source


def test_custom_set_without_skeleton_and_sigmas() -> None:
    found = keypoint_set_from_coco([{"keypoints": ["left_knee", "tail"], "skeleton": None, "sigmas": None}], "x.json")
    assert found.edge_indices.shape == (0, 2)
    assert found.oks_sigmas.tolist() == [0.087, 0.079]


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([], "found 0"),
        ([{"name": "person"}], "found 0"),
        ([{"keypoints": []}], "found 0"),
        (["person", None, 3], "found 0"),
        ([{"keypoints": ["a"]}, {"keypoints": ["b"]}], "found 2"),
        ([{"keypoints": 17}], "list of names"),
        ([{"keypoints": "nose"}], "list of names"),
        ([{"keypoints": ["a", "b", "a"]}], "no name twice"),
        ([{"keypoints": ["a", "b"], "skeleton": [[0, 1]]}], "from 1 to 2"),
        ([{"keypoints": ["a", "b"], "skeleton": [[1, 3]]}], "from 1 to 2"),
        ([{"keypoints": ["a", "b"], "skeleton": [[1, 2, 1]]}], "from 1 to 2"),
        ([{"keypoints": ["a", "b"], "skeleton": [["a", "b"]]}], "from 1 to 2"),
        ([{"keypoints": ["a", "b"], "skeleton": [[1, 1.5]]}], "from 1 to 2"),
        ([{"keypoints": ["a", "b"], "skeleton": [1, 2]}], "from 1 to 2"),
        ([{"keypoints": ["a", "b"], "skeleton": 3}], "from 1 to 2"),
        ([{"keypoints": ["a", "b"], "sigmas": [0.1]}], "1 sigmas for 2 keypoints"),
        ([{"keypoints": ["a"], "sigmas": ["wide"]}], "list of numbers"),
        ([{"keypoints": ["a"], "sigmas": 3}], "list of numbers"),
        ([{"keypoints": ["a"], "sigmas": [float("inf")]}], "list of numbers"),
    ],
)
def test_unusable_categories(categories: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        keypoint_set_from_coco(categories, "x.json")


@pytest.mark.parametrize(
    ("keypoints", "edges", "sigmas", "message"),
    [
        ((), (), (), "at least one keypoint"),
        (("a", "a"), (), (), "no name twice"),
        (("a", "b"), (("a", "c"),), (), r"unknown keypoints: \['c'\]"),
        (("a", "b"), (), (0.1,), "1 sigmas for 2 keypoints"),
    ],
)
def test_unusable_sets(
    keypoints: tuple[str, ...], edges: tuple[tuple[str, str], ...], sigmas: tuple[float, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        KeypointSet("test", keypoints, edges, "test", sigmas)


def test_flip_pairs_may_be_given() -> None:
    names = ("left_tip", "right_tip", "pivot", "a", "b")
    by_name = KeypointSet("scissors", names, (), "test")
    given = KeypointSet("scissors", names, (), "test", flip_pairs=(("b", "a"),))
    assert by_name.flip_index.tolist() == [1, 0, 2, 3, 4]
    assert given.flip_index.tolist() == [0, 1, 2, 4, 3]
    assert KeypointSet.from_dict(json.loads(json.dumps(given.to_dict()))).flip_index.tolist() == [0, 1, 2, 4, 3]
    for wrong in ((("a", "c"),), (("a", "b"), ("pivot", "a"))):
        with pytest.raises(InputError, match="flip pairs must name each keypoint at most once"):
            KeypointSet("scissors", names, (), "test", flip_pairs=wrong)


def test_flip_pairs_may_stand_in_a_file() -> None:
    category = {"name": "scissors", "keypoints": ["left_tip", "right_tip", "a", "b"], "flip_pairs": [["a", "b"]]}
    assert keypoint_set_from_coco([category], "set.json").flip_index.tolist() == [0, 1, 3, 2]
    assert keypoint_set_from_coco([category | {"flip_pairs": []}], "set.json").flip_index.tolist() == [0, 1, 2, 3]
    for wrong in ("a", [["a"]], [["a", 1]], {"a": "b"}):
        with pytest.raises(InputError, match=r"set\.json: 'flip_pairs' must be a list of pairs of keypoint names"):
            keypoint_set_from_coco([category | {"flip_pairs": wrong}], "set.json")
    with pytest.raises(InputError, match=r"set\.json: .* flip pairs must name each keypoint at most once"):
        keypoint_set_from_coco([category | {"flip_pairs": [["a", "tip"]]}], "set.json")


@pytest.mark.parametrize("keypoint_set", ALL, ids=lambda s: s.name)
def test_survives_json(keypoint_set: KeypointSet) -> None:
    again = KeypointSet.from_dict(json.loads(json.dumps(keypoint_set.to_dict())))
    for field in ("name", "keypoints", "edges", "source"):
        assert getattr(again, field) == getattr(keypoint_set, field)
    np.testing.assert_array_equal(again.oks_sigmas, keypoint_set.oks_sigmas)
    assert again.to_dict() == keypoint_set.to_dict()


def test_get_keypoint_set() -> None:
    assert get_keypoint_set("lsp") is LSP
    with pytest.raises(InputError, match=r"There is no keypoint set 'cocoo'\. Did you mean 'coco'\?"):
        get_keypoint_set("cocoo")
