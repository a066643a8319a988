"""Keypoint sets as data: names, edges, left/right pairs and OKS sigmas; custom sets from a COCO file.

Sides are part of the names (`left_knee`, or any common spelling of it), so flip pairs and drawing colours follow from
the names alone. Sets are joined by name (`mapping`), never by position, and spelling does not matter.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.errors import InputError, suggest

# Other spellings of the same keypoint, as official annotation files use them.
ALIASES = {
    "head": "top_head", "head_top": "top_head", "upper_neck": "neck", "hip": "pelvis", "mid_hip": "pelvis",
    "head_bottom": "neck",  # as PoseTrack has it
    "rknee": "right_knee",  # as AlphaPose and Halpe spell it
}  # fmt: skip

# OKS sigmas by name: half of k_i of the COCO evaluation (cocodataset.org/#keypoints-eval) for COCO's own keypoints;
# top_head and neck as CrowdPose has them (arXiv 1812.00324).
OKS_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089, "top_head": 0.079, "neck": 0.079,
}  # fmt: skip
UNMEASURED_SIGMA = 0.079  # for names outside the table: no annotator spread has been published for them


@dataclass(frozen=True)
class KeypointSet:
    """The keypoints of one convention, in the order of the arrays that carry them.

    Attributes:
        name: short name, for example "coco".
        keypoints: K names, with their sides in a spelling that `side_and_part` knows.
        edges: pairs of names that are joined by a limb.
        source: where order and names come from.
        sigmas: K OKS sigmas; empty: taken by name from OKS_SIGMAS.
        flip_pairs: pairs of names that change places in a mirror image; None: taken from the sides in the names.
    """

    name: str
    keypoints: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    source: str
    sigmas: tuple[float, ...] = ()
    flip_pairs: tuple[tuple[str, str], ...] | None = None

    def __post_init__(self) -> None:
        if len(set(self.keypoints)) != len(self.keypoints) or not self.keypoints:
            raise InputError(f"Keypoint set '{self.name}' needs at least one keypoint and no name twice.")
        unknown = {end for edge in self.edges for end in edge} - set(self.keypoints)
        if unknown:
            raise InputError(f"Keypoint set '{self.name}' has edges to unknown keypoints: {sorted(unknown)}.")
        paired = [name for pair in self.flip_pairs or () for name in pair]
        if len({*paired}) < len(paired) or not {*paired} <= {*self.keypoints}:
            raise InputError(f"Keypoint set '{self.name}': its flip pairs must name each keypoint at most once.")
        if self.sigmas and len(self.sigmas) != len(self.keypoints):
            raise InputError(
                f"Keypoint set '{self.name}': {len(self.sigmas)} sigmas for {len(self.keypoints)} keypoints."
            )

    def __len__(self) -> int:
        return len(self.keypoints)

    @cached_property
    def edge_indices(self) -> np.ndarray:
        """(E, 2) int: the edges as positions in `keypoints`."""
        position = {name: i for i, name in enumerate(self.keypoints)}
        return np.array([[position[a], position[b]] for a, b in self.edges], dtype=int).reshape(-1, 2)

    @cached_property
    def flip_index(self) -> np.ndarray:
        """(K,) int: `keypoints[flip_index]` swaps left and right; keypoints without a partner stay."""
        if self.flip_pairs is not None:
            partner = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
            return np.array([self.keypoints.index(partner.get(name, name)) for name in self.keypoints], dtype=int)
        keys = [side_and_part(name) for name in self.keypoints]
        position = _unique_positions(keys)
        partners = [
            position.get((OTHER_SIDE[side], part), i) if (side, part) in position else i
            for i, (side, part) in enumerate(keys)
        ]
        return np.array(partners, dtype=int)

    @cached_property
    def oks_sigmas(self) -> np.ndarray:
        """(K,) float64 OKS sigmas."""
        return np.array(self.sigmas or [_sigma(name) for name in self.keypoints], dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and strings, for file metadata; `from_dict` is the inverse."""
        values = {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "edges": [list(edge) for edge in self.edges],
            "source": self.source,
            "sigmas": self.oks_sigmas.tolist(),
        }
        return values if self.flip_pairs is None else values | {"flip_pairs": [list(pair) for pair in self.flip_pairs]}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> KeypointSet:
        return KeypointSet(
            values["name"],
            tuple(values["keypoints"]),
            tuple((a, b) for a, b in values["edges"]),
            values["source"],
            tuple(values["sigmas"]),
            tuple((a, b) for a, b in values["flip_pairs"]) if "flip_pairs" in values else None,
        )


# Words of a name: at spaces and signs, before a capital and around numbers, so "lEar", "LEFT-EAR" and "ear.L" are two.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")
SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
OTHER_SIDE = {"left": "right", "right": "left", "": ""}


def side_and_part(name: str) -> tuple[str, str]:
    """Split a name in any common spelling: "left_ear", "Left Ear", "ear-L", "lEar", "leftear" -> ("left", "ear").

    Returns:
        "left", "right" or "" (no side, or both), and the other words in small letters, joined by "_".
    """
    words: list[str] = []
    for word in map(str.lower, _WORD.findall(name)):
        glued = next((side for side in ("left", "right") if word.startswith(side)), "")
        words += filter(None, (glued, word.removeprefix(glued)))
    sides = [word for word in words if word in SIDES]
    if len(sides) != 1:
        return "", "_".join(words) or name
    words.remove(sides[0])
    return SIDES[sides[0]], "_".join(words)


def _canonical(name: str) -> str:
    side, part = side_and_part(name)
    return f"{side}_{part}" if side else ALIASES.get(part, part)


def _sigma(name: str) -> float:
    return OKS_SIGMAS.get(_canonical(name).removeprefix("left_").removeprefix("right_"), UNMEASURED_SIGMA)


def _unique_positions(values: Iterable[Hashable]) -> dict[Hashable, int]:
    """Return where each value stands that stands there once."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for i, value in enumerate(values):
        places[value].append(i)
    return {value: where[0] for value, where in places.items() if len(where) == 1}


def mapping(source: KeypointSet, target: KeypointSet) -> np.ndarray:
    """Return (K_target,) int: for each target keypoint its position in the source set, -1 where it is absent.

    Spellings of the same place count as equal ("Left-Eye" and `left_eye`; `head_top` of MPII and `top_head`, see
    ALIASES).
    """
    exact = {name: i for i, name in enumerate(source.keypoints)}
    position = _unique_positions(map(_canonical, source.keypoints))
    return np.array([exact.get(name, position.get(_canonical(name), -1)) for name in target.keypoints], dtype=int)


def without_partner(source: KeypointSet, target: KeypointSet) -> list[str]:
    """Return the keypoints of a target set that a source set does not have."""
    return [name for name, i in zip(target.keypoints, mapping(source, target), strict=True) if i < 0]


def convert(
    keypoints: np.ndarray, values: np.ndarray, source: KeypointSet, target: KeypointSet
) -> tuple[np.ndarray, np.ndarray]:
    """Carry keypoints from one set to another by name.

    Args:
        keypoints: (N, K_source, 2) x, y.
        values: (N, K_source) visibility or scores.

    Returns:
        (N, K_target, 2) keypoints, NaN where the source lacks the keypoint, and (N, K_target) values, 0 there.
    """
    index = mapping(source, target)
    present = index >= 0
    moved = np.where(present[:, None], keypoints[:, index], np.nan).astype(keypoints.dtype)
    return moved, np.where(present, values[:, index], 0).astype(values.dtype)


_LIMBS = (
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"),
    ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"),
    ("right_knee", "right_ankle"),
)
_TRUNK = (
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
)
_FACE = (
    ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "right_eye"),
    ("left_eye", "left_ear"), ("right_eye", "right_ear"),
)  # fmt: skip
_FEET = tuple(
    (f"{side}_ankle", f"{side}_{end}") for side in ("left", "right") for end in ("big_toe", "small_toe", "heel")
)

COCO = KeypointSet(
    "coco",
    (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    (
        *_LIMBS, *_TRUNK, *_FACE,
        ("left_ear", "left_shoulder"), ("right_ear", "right_shoulder"),
    ),
    "COCO keypoints 2017, cocodataset.org",
)  # fmt: skip

CROWDPOSE = KeypointSet(
    "crowdpose",
    (
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "top_head", "neck",
    ),
    (*_LIMBS, *_TRUNK, ("top_head", "neck"), ("neck", "left_shoulder"), ("neck", "right_shoulder")),
    "CrowdPose, arXiv 1812.00324 (its files call top_head 'head')",
)  # fmt: skip

MPII = KeypointSet(
    "mpii",
    (
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "pelvis", "thorax", "upper_neck", "head_top",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    ),
    (
        *_LIMBS,
        ("pelvis", "left_hip"), ("pelvis", "right_hip"), ("pelvis", "thorax"),
        ("thorax", "left_shoulder"), ("thorax", "right_shoulder"),
        ("thorax", "upper_neck"), ("upper_neck", "head_top"),
    ),
    "MPII Human Pose, human-pose.mpi-inf.mpg.de",
)  # fmt: skip

LSP = KeypointSet(
    "lsp",
    (
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
        "neck", "top_head",
    ),
    CROWDPOSE.edges,
    "Leeds Sports Pose, Johnson and Everingham, BMVC 2010",
)  # fmt: skip

HALPE26 = KeypointSet(
    "halpe26",
    (
        *COCO.keypoints, "head", "neck", "hip",
        "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe", "left_heel", "right_heel",
    ),
    (
        *_LIMBS, *_FEET, ("head", "neck"), ("neck", "hip"),
        ("neck", "left_shoulder"), ("neck", "right_shoulder"), ("hip", "left_hip"), ("hip", "right_hip"),
        *_FACE,
    ),
    "Halpe-FullBody, the first 26 of 136, arXiv 2211.03375 (head is its top)",
    (*COCO.oks_sigmas.tolist(), 0.026, 0.026, 0.066, *[0.079] * 6),
)  # fmt: skip

BODY_25 = KeypointSet(
    "body_25",
    (
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear",
        "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
    ),
    (
        *_LIMBS, ("nose", "neck"), ("neck", "mid_hip"), ("neck", "left_shoulder"), ("neck", "right_shoulder"),
        ("mid_hip", "left_hip"), ("mid_hip", "right_hip"),
        ("left_ankle", "left_big_toe"), ("left_big_toe", "left_small_toe"), ("left_ankle", "left_heel"),
        ("right_ankle", "right_big_toe"), ("right_big_toe", "right_small_toe"), ("right_ankle", "right_heel"),
        ("nose", "left_eye"), ("left_eye", "left_ear"), ("nose", "right_eye"), ("right_eye", "right_ear"),
    ),
    "BODY_25 of OpenPose, arXiv 1812.08008 (neck and mid_hip are the middles of shoulders and hips)",
)  # fmt: skip


def _numbered(part: str, numbers: Iterable[int]) -> tuple[str, ...]:
    return tuple(f"{part}_{number}" for number in numbers)


# The 68 points of iBUG 300-W. Mirrored points have the same number; those of the right side count in the file's order.
_FACE_68 = (
    *_numbered("right_jaw", range(1, 9)), "chin", *_numbered("left_jaw", range(8, 0, -1)),
    *_numbered("right_brow", range(1, 6)), *_numbered("left_brow", range(5, 0, -1)),
    *_numbered("nose_bridge", range(1, 5)),
    *_numbered("right_nostril", (1, 2)), "nose_base", *_numbered("left_nostril", (2, 1)),
    *_numbered("right_eye", range(1, 7)), *_numbered("left_eye", (4, 3, 2, 1, 6, 5)),
    *_numbered("right_lip", (1, 2, 3)), "upper_lip", *_numbered("left_lip", (3, 2, 1)),
    *_numbered("left_lip", (4, 5)), "lower_lip", *_numbered("right_lip", (5, 4)),
    *_numbered("right_inner_lip", (1, 2)), "upper_inner_lip", *_numbered("left_inner_lip", (2, 1)),
    "left_inner_lip_3", "lower_inner_lip", "right_inner_lip_3",
)  # fmt: skip
_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")


def _hand(side: str) -> tuple[str, ...]:
    """Return the 21 keypoints of a hand: its root, then each finger from there to its tip."""
    return (f"{side}_hand_root", *(n for finger in _FINGERS for n in _numbered(f"{side}_{finger}", range(1, 5))))


def _hand_edges(side: str) -> tuple[tuple[str, str], ...]:
    root = f"{side}_hand_root"
    chains = [(root, *_numbered(f"{side}_{finger}", range(1, 5))) for finger in _FINGERS]
    return ((f"{side}_wrist", root), *(pair for chain in chains for pair in pairwise(chain)))


WHOLEBODY = KeypointSet(
    "wholebody",
    (
        *COCO.keypoints,
        "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
        *_FACE_68, *_hand("left"), *_hand("right"),
    ),
    (*COCO.edges, *_FEET, *_hand_edges("left"), *_hand_edges("right")),
    "COCO-WholeBody, arXiv 2007.11858, whose evaluation has these sigmas",
    (
        *COCO.oks_sigmas.tolist(), 0.068, 0.066, 0.066, 0.092, 0.094, 0.094,
        0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037, 0.038, 0.043,
        0.041, 0.045,
        0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015,
        0.009, 0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.010,
        0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034,
        0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007,
        0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.010, 0.008,
        *(
            0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017, 0.021,
            0.021, 0.032, 0.020, 0.019, 0.022, 0.031,
        ) * 2,
    ),
)  # fmt: skip

KEYPOINT_SETS = {s.name: s for s in (COCO, CROWDPOSE, MPII, LSP, HALPE26, BODY_25, WHOLEBODY)}


def get_keypoint_set(name: str) -> KeypointSet:
    """Return the built-in keypoint set of that name; an unknown name raises InputError with the nearest one."""
    if name not in KEYPOINT_SETS:
        raise InputError(f"There is no keypoint set '{name}'.{suggest(name, KEYPOINT_SETS)}")
    return KEYPOINT_SETS[name]


def keypoint_set_from_coco(categories: list[dict[str, Any]], where: str) -> KeypointSet:
    """Read a keypoint set from the `categories` of a COCO file.

    A category whose names equal a built-in set, alias spellings included, gives that set; any other a custom one.

    Args:
        categories: the list under the file's key "categories".
        where: name of the file, for messages.
    """
    with_keypoints = [c for c in categories if isinstance(c, dict) and c.get("keypoints")]
    if len(with_keypoints) != 1:
        raise InputError(
            f"{where}: exactly one category with 'keypoints' is needed, found {len(with_keypoints)}; "
            "keep one category in 'categories' or add its list of keypoint names."
        )
    category = with_keypoints[0]
    names, sigmas, skeleton = category["keypoints"], category.get("sigmas") or [], category.get("skeleton") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{where}: 'keypoints' of a category must be a list of names.")
    canonical = tuple(map(_canonical, names))
    for known in KEYPOINT_SETS.values():
        if canonical == tuple(map(_canonical, known.keypoints)):
            return known
    numbers = range(1, len(names) + 1)
    if not isinstance(skeleton, list) or not all(_is_edge(edge, numbers) for edge in skeleton):
        raise InputError(f"{where}: 'skeleton' must hold pairs of keypoint numbers from 1 to {len(names)}.")
    if not isinstance(sigmas, list) or not all(isinstance(s, (int, float)) and 0 < s < math.inf for s in sigmas):
        raise InputError(f"{where}: 'sigmas' must be a list of numbers above 0, one per keypoint.")
    edges = tuple((names[a - 1], names[b - 1]) for a, b in skeleton)
    try:
        name = str(category.get("name", "custom"))
        return KeypointSet(name, tuple(names), edges, f"categories of {Path(where).name}", tuple(sigmas))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _is_edge(edge: Any, numbers: range) -> bool:
    return isinstance(edge, list) and len(edge) == 2 and all(isinstance(end, int) and end in numbers for end in edge)
