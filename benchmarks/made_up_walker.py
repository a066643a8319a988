"""Write the poses of a made-up person who walks by, 26 keypoints in 90 frames, with two gaps, as a file of frames.

    python benchmarks/made_up_walker.py walker.jsonl

The image of docs/results-formats.md is made of it, with the extra "tables" installed:

    leanpose angles walker.jsonl --joints hip,knee,ankle --out walker
    cp walker/angles_id_1.png docs/assets/walker_angles.png
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

import numpy as np

from leanpose.io.frames import Clip, open_writer
from leanpose.keypoint_sets import HALPE26
from leanpose.structures import Frame, Poses

FPS, SECONDS, STRIDE_S = 30.0, 3.0, 1.1
SIZE = (480, 640)  # height, width in pixels
NOISE = 0.5  # pixels
LENGTHS = {"thigh": 80.0, "shank": 78.0, "foot": 32.0, "trunk": 100.0, "upper_arm": 55.0, "forearm": 50.0}  # pixels


def walker(time_s: float) -> dict[str, np.ndarray]:
    """Return the places of keypoints, x and y in pixels, of a person who walks to the right."""

    def along(start: np.ndarray, length: str, degrees: float) -> np.ndarray:
        """Go from a place down the body; 0 degrees is straight down, positive forwards."""
        return start + LENGTHS[length] * np.array([math.sin(math.radians(degrees)), math.cos(math.radians(degrees))])

    hip = np.array([60.0 + 170 * time_s, 250.0])
    places = {"hip": hip, "neck": along(hip, "trunk", 176)}
    places["head"], places["nose"] = places["neck"] + [5.0, -45.0], places["neck"] + [22.0, -25.0]
    for side, phase in (("left", 0.0), ("right", math.pi)):
        turn = 2 * math.pi * time_s / STRIDE_S + phase
        thigh = 6 + 22 * math.sin(turn)
        shank = thigh - 28 - 26 * math.cos(turn)  # the knee bends most while the leg swings forwards
        arm = -24 * math.sin(turn)
        places[f"{side}_hip"], places[f"{side}_shoulder"] = hip, places["neck"]
        knee = places[f"{side}_knee"] = along(hip, "thigh", thigh)
        ankle = places[f"{side}_ankle"] = along(knee, "shank", shank)
        places[f"{side}_big_toe"] = along(ankle, "foot", shank + 88 + 12 * math.sin(turn))
        elbow = places[f"{side}_elbow"] = along(places["neck"], "upper_arm", arm)
        places[f"{side}_wrist"] = along(elbow, "forearm", arm + 25)
    return places


def frames() -> Iterator[Frame]:
    """Return the frames: the person is hidden for a third of a second, and the right ankle for half of one."""
    random = np.random.default_rng(0)
    for index in range(round(FPS * SECONDS)):
        time_s = index / FPS
        places = walker(time_s)
        keypoints = np.array([places.get(name, [np.nan, np.nan]) for name in HALPE26.keypoints])
        keypoints += random.normal(0, NOISE, keypoints.shape)
        scores = np.where(np.isfinite(keypoints[:, 0]), 0.9, 0)
        if 1.8 < time_s < 2.3:
            scores[HALPE26.keypoints.index("right_ankle")] = 0.05
        low, high = np.nanmin(keypoints, axis=0), np.nanmax(keypoints, axis=0)
        poses = Poses(
            keypoints[None].astype(np.float32),
            scores[None].astype(np.float32),
            np.hstack([low, high])[None].astype(np.float32),
            np.array([0.9], np.float32),
            HALPE26,
            np.array([1]),
        )
        yield Frame(index, time_s, poses if not 1.0 < time_s < 1.34 else poses[:0], SIZE)


if __name__ == "__main__":
    with open_writer("jsonl", sys.argv[1], Clip(HALPE26, "walker", FPS)) as writer:
        for frame in frames():
            writer.write(frame)
