"""JSON lines: the first line says of what clip and how made, then one frame a line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.errors import InputError, note
from leanpose.io.files import LineFile
from leanpose.io.frames.interface import Clip, FrameWriter, is_calibrated, make_poses, time_of, whole_number
from leanpose.io.values import number, numbers, shown
from leanpose.keypoint_sets import KeypointSet
from leanpose.structures import Frame, Poses

HEAD = "leanpose"  # the key that makes a first line ours


class JsonLinesWriter(FrameWriter):
    """Each line is whole and in the file once `write` returns."""

    def __init__(self, path: Path, clip: Clip) -> None:
        self._file = LineFile(path)
        self._write(
            {
                HEAD: dict(clip.provenance),
                "source": clip.source,
                "fps": clip.fps,
                "keypoint_set": clip.keypoint_set.to_dict(),
            }
        )

    def write(self, frame: Frame) -> None:
        height, width = frame.image_size
        self._write(
            {
                "index": frame.index,
                "time_s": round(frame.time_s, 6) if math.isfinite(frame.time_s) else None,
                "width": width,
                "height": height,
                "persons": frame.poses.to_dicts(),
            }
        )

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        self._file.close()


def whole_lines(path: Path) -> Iterator[str]:
    """Return the lines of a text file in UTF-8, each with its end. A last line without end, as a killed process
    leaves it, is left out with a note.

    Raises:
        InputError: it is no text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for line in file:
                if line.endswith("\n"):
                    yield line
                else:
                    note(f"{path}: the last line has no end, as if its writer had been stopped; it is left out.")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8 ({error}).") from None


def read_json_lines(path: Path, fps: float | None) -> Iterator[Frame]:
    """Read what JsonLinesWriter wrote, line by line."""
    lines = enumerate(map(str.strip, whole_lines(path)), 1)
    _, first = next(lines, (1, ""))
    head = _entry(first, f"{path}: line 1")
    try:
        keypoint_set = KeypointSet.from_dict(head["keypoint_set"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: the first line must hold the keypoint set of leanpose ({error}).") from None
    if fps is None and head.get("fps") is not None:
        fps = number(head["fps"], f"{path}: line 1: 'fps'")
    calibrated = is_calibrated(head.get(HEAD))
    for number_of_line, line in lines:
        if line:
            yield _frame(_entry(line, where := f"{path}: line {number_of_line}"), keypoint_set, calibrated, fps, where)


def _entry(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({error}).") from None
    if not isinstance(entry, dict):
        raise InputError(f"{where} must be a mapping of keys to values, not {shown(entry)}.")
    return entry


def _frame(entry: dict[str, Any], keypoint_set: KeypointSet, calibrated: bool, fps: float | None, where: str) -> Frame:
    for key in ("index", "width", "height", "persons"):
        if key not in entry:
            raise InputError(f"{where} lacks the key '{key}'.")
    index = whole_number(entry["index"], f"{where}: 'index'")
    time_s = entry.get("time_s")
    size = (whole_number(entry[key], f"{where}: '{key}'") for key in ("height", "width"))
    height, width = size
    return Frame(
        index,
        time_of(index, fps) if time_s is None else number(time_s, f"{where}: 'time_s'", math.inf),
        _poses(entry["persons"], keypoint_set, calibrated, where),
        (height, width),
    )


def _poses(persons: Any, keypoint_set: KeypointSet, calibrated: bool, where: str) -> Poses:
    """Turn what `Poses.to_dicts` gives into Poses again."""
    if not isinstance(persons, list) or not all(isinstance(one, dict) for one in persons):
        raise InputError(f"{where}: 'persons' must be a list of mappings, not {shown(persons)}.")
    n, position = len(persons), {name: k for k, name in enumerate(keypoint_set.keypoints)}
    keypoints, scores = np.full((n, len(position), 2), np.nan), np.zeros((n, len(position)))
    boxes, person_scores, ids = np.zeros((n, 4)), np.zeros(n), []
    for i, person in enumerate(persons):
        what = f"{where}: person {i}"
        places = person.get("keypoints")
        if not isinstance(places, dict):
            raise InputError(f"{what} must have 'keypoints' by name, not {shown(places)}.")
        for name, place in places.items():
            if name not in position or not isinstance(place, dict):
                raise InputError(f"{what} has the keypoint {shown(name)}, which the first line does not name.")
            values = numbers([place.get(key) for key in ("x", "y", "score")], (3,), f"{what}: {name}")
            keypoints[i, position[name]], scores[i, position[name]] = values[:2], values[2]
        boxes[i] = numbers(person.get("box_xyxy"), (4,), f"{what}: 'box_xyxy'")
        person_scores[i] = number(person.get("score"), f"{what}: 'score'")
        ids.append(whole_number(person["id"], f"{what}: 'id'") if "id" in person else None)
    return make_poses(keypoint_set, keypoints, scores, ids, boxes, person_scores, calibrated)
