"""OpenPose's folder of JSON files, one a frame, version 1.3.

Form: doc/02_output.md of github.com/CMU-Perceptual-Computing-Lab/openpose.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.errors import InputError
from leanpose.io.files import make_folder, write_text
from leanpose.io.frames.interface import (
    UNKNOWN_SIZE,
    Clip,
    FrameWriter,
    is_calibrated,
    make_poses,
    time_of,
    whole_number,
)
from leanpose.io.own_files import OPENPOSE_ENDING, OPENPOSE_START
from leanpose.io.values import number, numbers, read_json, shown
from leanpose.keypoint_sets import BODY_25, KeypointSet
from leanpose.structures import Frame, Poses

COCO_18 = KeypointSet(
    "openpose_coco",
    (*BODY_25.keypoints[:8], *BODY_25.keypoints[9:19]),  # BODY_25 without the middle of the hips and the feet
    tuple(edge for edge in BODY_25.edges if not {"mid_hip", *BODY_25.keypoints[19:]} & {*edge}),
    "COCO model of OpenPose, arXiv 1812.08008",
)
BY_COUNT = {len(known): known for known in (BODY_25, COCO_18)}
PARTS = ("face", "hand_left", "hand_right")
EMPTY = (*(f"{part}_keypoints_2d" for part in PARTS), *(f"{part}_keypoints_3d" for part in ("pose", *PARTS)))
MIDDLES = {"neck": ("left_shoulder", "right_shoulder"), "mid_hip": ("left_hip", "right_hip")}


class OpenPoseWriter(FrameWriter):
    """Keypoints are carried to BODY_25 by name; neck and mid_hip, where the poses lack them, are the middles that they
    stand for. Absent ones are 0, 0, 0. The key `leanpose` holds what OpenPose's own keys do not."""

    def __init__(self, path: Path, clip: Clip) -> None:
        self._path, self._name = path, Path(clip.source).stem or "video"
        self._calibrated = is_calibrated(clip.provenance)
        make_folder(path)
        for old in path.glob(f"*{OPENPOSE_ENDING}"):  # of a former, longer clip
            old.unlink()

    def write(self, frame: Frame) -> None:
        poses = _with_middles(frame.poses.to(BODY_25))
        placed = np.isfinite(poses.keypoints).all(axis=2)
        triples = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=2)
        triples = np.where(placed[..., None], triples, 0).astype(float).round(4)
        ids = [-1] * len(poses) if poses.ids is None else poses.ids.tolist()
        people = [
            {"person_id": [one], "pose_keypoints_2d": triple.ravel().tolist()} | {name: [] for name in EMPTY}
            for one, triple in zip(ids, triples, strict=True)
        ]
        height, width = frame.image_size
        says = {
            "index": frame.index,
            "time_s": round(frame.time_s, 6) if math.isfinite(frame.time_s) else None,
            "width": width,
            "height": height,
            "boxes_xyxy": poses.boxes_xyxy.astype(float).round(2).tolist(),
            "scores": poses.person_scores.astype(float).round(4).tolist(),
            "calibrated": self._calibrated,
        }
        text = f'{OPENPOSE_START}{json.dumps(says)}, "people": {json.dumps(people)}' + "}"
        write_text(self._path / f"{self._name}_{frame.index:012d}{OPENPOSE_ENDING}", text)

    def close(self) -> None:
        """Do nothing: each frame has a file of its own."""


def _with_middles(poses: Poses) -> Poses:
    keypoints, scores = poses.keypoints.copy(), poses.scores.copy()
    for name, ends in MIDDLES.items():
        k, (a, b) = BODY_25.keypoints.index(name), (BODY_25.keypoints.index(end) for end in ends)
        lacking = ~np.isfinite(keypoints[:, k]).all(axis=1)
        keypoints[lacking, k] = keypoints[lacking][:, [a, b]].mean(axis=1)
        scores[lacking, k] = scores[lacking][:, [a, b]].min(axis=1)
    return Poses(keypoints, scores, poses.boxes_xyxy, poses.person_scores, BODY_25, poses.ids)


def read_openpose(path: Path, fps: float | None) -> Iterator[Frame]:
    """Read a folder in the order of the numbers in its files' names: 25 keypoints are BODY_25, 18 the COCO model's."""
    numbered = [(re.search(rf"(\d+){OPENPOSE_ENDING}$", file.name), file) for file in path.iterdir()]
    files = sorted((int(match[1]), file) for match, file in numbered if match)
    if not files and numbered:
        raise InputError(f"{path} has no files whose names end in a number and {OPENPOSE_ENDING}.")
    first = next((people[0] for _, file in files if (people := _read(file)[0])), {})
    keypoint_set = _set_of(first, path) if first else BODY_25  # nobody was found, so any set is right
    for index, file in files:
        yield _frame(index, file, keypoint_set, fps)


def _read(file: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the persons of a file, and what leanpose says beside them."""
    content = read_json(file)
    people = content.get("people") if isinstance(content, dict) else None
    if not isinstance(people, list) or not all(isinstance(one, dict) for one in people):
        raise InputError(f"{file} must hold a list 'people', not {shown(people)}.")
    says = content.get("leanpose")
    return people, says if isinstance(says, dict) else {}


def _set_of(person: dict[str, Any], path: Path) -> KeypointSet:
    values = person.get("pose_keypoints_2d")
    count = len(values) // 3 if isinstance(values, list) else 0
    if count not in BY_COUNT:
        raise InputError(f"{path}: 'pose_keypoints_2d' must have 25 or 18 keypoints (BODY_25, COCO), not {count}.")
    return BY_COUNT[count]


def _frame(index: int, file: Path, keypoint_set: KeypointSet, fps: float | None) -> Frame:
    people, says = _read(file)
    n, k = len(people), len(keypoint_set)
    triples, ids = np.zeros((n, k, 3)), []
    for i, person in enumerate(people):
        where = f"{file}: person {i}"
        triples[i] = numbers(person.get("pose_keypoints_2d"), (3 * k,), f"{where}: 'pose_keypoints_2d'").reshape(k, 3)
        given = person.get("person_id") or [-1]
        found = whole_number(given[0] if isinstance(given, list) else given, f"{where}: 'person_id'")
        ids.append(found if found >= 0 else None)
    keypoints = np.where((triples == 0).all(axis=2)[..., None], np.nan, triples[..., :2])
    time_s = says.get("time_s")
    size = tuple(whole_number(says[key], f"{file}: '{key}'") for key in ("height", "width") if key in says)
    boxes, scores = says.get("boxes_xyxy"), says.get("scores")
    return Frame(
        index,
        time_of(index, fps) if time_s is None else number(time_s, f"{file}: 'time_s'"),
        make_poses(
            keypoint_set,
            keypoints,
            triples[..., 2],
            ids,
            None if boxes is None else numbers(boxes, (n, 4), f"{file}: 'boxes_xyxy'") if n else np.zeros((0, 4)),
            None if scores is None else numbers(scores, (n,), f"{file}: 'scores'"),
            is_calibrated(says),
        ),
        (size[0], size[1]) if len(size) == 2 else UNKNOWN_SIZE,
    )
