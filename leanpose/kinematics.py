"""Joint angles by name, of single poses and over time.

An angle is the one between the two segments that meet at a joint (D. A. Winter, Biomechanics and Motor Control of Human
Movement, 4th ed., 2009, chapter 3), here in the plane of the image and without a sign: 180 degrees where the segments
are in line, 0 where one lies on the other. Flexion of knee and elbow as clinics state it is 180 less the angle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from leanpose.errors import InputError, require, suggest
from leanpose.io.own_files import SOFTWARE
from leanpose.keypoint_sets import KeypointSet, without_partner
from leanpose.structures import Frame, Poses

# The joint, which stands in the middle, and the far ends of both segments, all of one side.
JOINTS = {
    "shoulder": ("elbow", "shoulder", "hip"),
    "elbow": ("shoulder", "elbow", "wrist"),
    "hip": ("shoulder", "hip", "knee"),
    "knee": ("hip", "knee", "ankle"),
    "ankle": ("knee", "ankle", "big_toe"),
}
SIDES = ("left", "right")
_NAMES = {f"{side}_{joint}": tuple(f"{side}_{end}" for end in ends) for joint, ends in JOINTS.items() for side in SIDES}
_ENDS = KeypointSet("joints", tuple(dict.fromkeys(end for ends in _NAMES.values() for end in ends)), (), "kinematics")


def joints_of(keypoint_set: KeypointSet) -> tuple[str, ...]:
    """Return the joints, such as "left_knee", whose angle a keypoint set gives."""
    lacking = {*without_partner(keypoint_set, _ENDS)}
    return tuple(name for name, ends in _NAMES.items() if not lacking & {*ends})


def joint_angles(poses: Poses, min_score: float | None = None) -> dict[str, np.ndarray]:
    """Return the angles of all joints that the keypoint set gives.

    Args:
        min_score: keypoints below it count as absent; by default `poses.least_score()`.

    Returns:
        By name, such as "left_knee": (N,) float32 degrees, 0 to 180; NaN where one of the three keypoints is absent,
        or two of them are at the same place.
    """
    there = poses.to(_ENDS)
    least = poses.least_score(min_score)
    places = np.where((there.scores >= least)[..., None], there.keypoints, np.nan).astype(np.float64)
    at = {name: places[:, k] for k, name in enumerate(_ENDS.keypoints)}
    return {name: _between(*(at[end] for end in _NAMES[name])) for name in joints_of(poses.keypoint_set)}


def _between(end: np.ndarray, joint: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return (N,) the angle at a joint from (N, 2) places: with the arctangent, which is exact near 0 and 180 too."""
    (x1, y1), (x2, y2) = (end - joint).T, (other - joint).T
    angle = np.degrees(np.arctan2(np.abs(x1 * y2 - y1 * x2), x1 * x2 + y1 * y2))
    meaningless = (np.hypot(x1, y1) == 0) | (np.hypot(x2, y2) == 0)
    return np.where(meaningless, np.nan, angle).astype(np.float32)


@dataclass(frozen=True, eq=False)
class AngleTrack:
    """The joint angles of one identity over time.

    Attributes:
        identity: number of the person; None where poses are untracked and there is one person at most.
        frames: (T,) int64 numbers of the frames, from the first to the last with this person.
        times_s: (T,) float64 seconds; NaN where the frames have no time.
        degrees: by joint, (T,) float32; NaN where the angle is not known.
    """

    identity: int | None
    frames: np.ndarray
    times_s: np.ndarray
    degrees: dict[str, np.ndarray]


def angle_tracks(
    frames: Iterable[Frame], joints: Sequence[str] | None = None, min_score: float | None = None
) -> list[AngleTrack]:
    """Return the joint angles of every identity over time, in the order of the identities.

    Args:
        joints: with a side ("left_knee") or for both ("knee"); None: all that the keypoint set gives.
        min_score: as in `joint_angles`.

    Raises:
        InputError: there is no person, the keypoint set does not give a joint, or a frame has several persons without
            identities.
    """
    numbers: list[int] = []
    times: list[float] = []
    found: dict[int | None, dict[int, dict[str, float]]] = defaultdict(dict)  # by identity, by place of the frame
    names: tuple[str, ...] = ()
    for place, frame in enumerate(frames):
        numbers.append(frame.index)
        times.append(frame.time_s)
        poses = frame.poses
        if not len(poses):
            continue
        if poses.ids is None and len(poses) > 1:
            raise InputError(
                f"Frame {frame.index} has {len(poses)} persons without identities; track them (--track) first."
            )
        names = names or chosen_joints(joints, poses.keypoint_set)
        angles = joint_angles(poses, min_score)
        for i in range(len(poses)):
            identity = None if poses.ids is None else int(poses.ids[i])
            found[identity][place] = {name: float(angles[name][i]) for name in names}
    if not found:
        raise InputError("There is no person in these frames, so there are no angles.")
    order = sorted(found, key=lambda identity: -1 if identity is None else identity)
    return [_track(identity, found[identity], names, numbers, times) for identity in order]


def _track(
    identity: int | None,
    found: dict[int, dict[str, float]],
    names: Sequence[str],
    numbers: list[int],
    times: list[float],
) -> AngleTrack:
    places = slice(min(found), max(found) + 1)
    unknown = dict.fromkeys(names, np.nan)
    angles = [found.get(place, unknown) for place in range(places.start, places.stop)]
    degrees = {name: np.array([one[name] for one in angles], np.float32) for name in names}
    return AngleTrack(identity, np.array(numbers[places]), np.array(times[places]), degrees)


def chosen_joints(joints: Sequence[str] | None, keypoint_set: KeypointSet) -> tuple[str, ...]:
    """Return the joints of a keypoint set that were asked for by name, "knee" for both sides; None: all.

    Raises:
        InputError: there is no such joint, or the keypoint set does not give it.
    """
    given = joints_of(keypoint_set)
    if joints is None:
        if not given:
            raise InputError(f"The keypoints of {keypoint_set.name} give no joint angle; it takes three of a limb.")
        return given
    chosen: list[str] = []
    for joint in joints:
        if joint not in JOINTS and joint not in _NAMES:
            raise InputError(f"There is no joint '{joint}'.{suggest(joint, (*JOINTS, *_NAMES))}")
        names = [name for name in given if joint in (name, name.partition("_")[2])]
        if not names:
            ends = ", ".join(_NAMES.get(joint) or JOINTS[joint])
            raise InputError(f"The keypoints of {keypoint_set.name} do not give the {joint}, which takes {ends}.")
        chosen += names
    return tuple(dict.fromkeys(chosen))


def plot_angles(track: AngleTrack) -> bytes:
    """Return a PNG of the angles of one identity over time: a panel for each joint, both sides in it, gaps as gaps.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    require("matplotlib", "tables")
    from matplotlib.figure import Figure

    timed = bool(np.isfinite(track.times_s).all())
    across = track.times_s if timed else track.frames
    joints = list(dict.fromkeys(name.partition("_")[2] for name in track.degrees))
    figure = Figure(figsize=(8, 1 + 1.7 * len(joints)), layout="constrained")
    for axes, joint in zip(figure.subplots(len(joints), sharex=True, squeeze=False)[:, 0], joints, strict=True):
        for side, color in zip(SIDES, ("tab:blue", "tab:red"), strict=True):
            if (name := f"{side}_{joint}") in track.degrees:
                alone = _alone(track.degrees[name])
                axes.plot(across, track.degrees[name], color=color, linewidth=1.2, label=side)
                axes.plot(across[alone], track.degrees[name][alone], ".", color=color, markersize=3)
        axes.set_ylabel(f"{joint} (degrees)")
        axes.set_ylim(0, 185)
        axes.set_yticks((0, 45, 90, 135, 180))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(loc="lower right", ncols=2)
    figure.axes[-1].set_xlabel("time (s)" if timed else "frame")
    figure.suptitle("" if track.identity is None else f"person {track.identity}")
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=110, pil_kwargs={"exif": SOFTWARE})
    return drawn.getvalue()


def _alone(values: np.ndarray) -> np.ndarray:
    """Return which values have none beside them, so that no line shows them."""
    known = np.pad(np.isfinite(values), 1)
    return known[1:-1] & ~known[:-2] & ~known[2:]
