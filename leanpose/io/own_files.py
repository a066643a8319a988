"""Tell files that leanpose wrote, which new results may replace, from those of others, which nothing replaces.

Each kind is known by its content: an image's JSON by its keys, coco.json by its `info`, tables by their header, JSON
lines by the first, an OpenPose folder by the start of all its files, Parquet, NetCDF and MP4 by their metadata, and a
drawn image by the EXIF entry "Software: leanpose". Who changes a result with another tool makes it a file of theirs.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

JSON_KEYS = frozenset(("width", "height", "keypoint_set", "persons"))
NEWER_JSON_KEYS = frozenset(("image", "picture", "leanpose"))  # "picture": the former name of "image"
COCO_INFO = {"description": "persons found by leanpose", "contributor": "leanpose"}
COCO_KEYS = frozenset(("images", "annotations", "categories"))
ANNOTATION_KEYS = frozenset(
    ("image_id", "category_id", "keypoints", "bbox", "score", "id", "num_keypoints", "area", "iscrowd")
)
VIDEO_KEYS = frozenset(("track_id", "keypoint_scores", "scores"))  # more of annotations, in files of frames
CSV_COLUMNS = ("image", "person", "score", "x1", "y1", "x2", "y2")  # before those of the keypoints
TIDY_COLUMNS = ("frame", "time_s", "id", "keypoint", "x", "y", "score")  # a row is a keypoint
ANGLES_COLUMNS = ("frame", "time_s", "id", "joint", "degrees")  # a row is a joint
DEEPLABCUT_SCORER = "leanpose"
JSON_LINES_START = b'{"leanpose": '
OPENPOSE_START, OPENPOSE_ENDING = '{"version": 1.3, "leanpose": ', "_keypoints.json"
NETCDF_START = b"source_software"
PARQUET_KEY = b"leanpose"
VIDEO_COMMENT = b"persons found by leanpose"
# EXIF in TIFF's form: little-endian, one entry in the first directory: Software (0x131), 9 letters at byte 26
SOFTWARE = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x31\x01\x02\0\x09\0\0\0\x1a\0\0\0" + b"\0\0\0\0" + b"leanpose\0"
_ENDS = 4096  # bytes at both ends of an image; WebP keeps EXIF last, the others first


def is_own(path: Path) -> bool:
    """Whether a file is a result of leanpose, as it was written."""
    try:
        if path.suffix == ".json":
            return _is_own_json(json.loads(path.read_text("utf-8")))
        if path.suffix == ".csv":
            return _is_own_csv(path)
        with path.open("rb") as file:
            start = file.read(_ENDS)
            if path.suffix == ".mp4":
                return VIDEO_COMMENT in start or VIDEO_COMMENT in _last(file, _ENDS)
            if path.suffix == ".jsonl":
                return start.startswith(JSON_LINES_START)
            if path.suffix == ".nc":  # the value of an attribute follows its name, with a few bytes between
                return b"leanpose" in start.partition(NETCDF_START)[2][:24]
            if path.suffix == ".parquet":
                return PARQUET_KEY in _last(file, 8 + int.from_bytes(_last(file, 8)[:4], "little"))
            return SOFTWARE in start or SOFTWARE in _last(file, _ENDS)
    except (OSError, ValueError, RecursionError, csv.Error):  # no file, no text, no JSON, no table
        return False


def is_own_folder(path: Path) -> bool:
    """Whether a folder, which may be empty, holds nothing but files of OpenPose's form that leanpose wrote."""
    try:
        for file in path.iterdir():
            if not file.name.endswith(OPENPOSE_ENDING):
                return False
            with file.open(encoding="utf-8") as text:
                if text.read(len(OPENPOSE_START)) != OPENPOSE_START:
                    return False
    except (OSError, ValueError):  # no folder, no text
        return False
    return True


def _last(file: BinaryIO, count: int) -> bytes:
    file.seek(max(0, file.seek(0, os.SEEK_END) - count))
    return file.read()


def _is_own_csv(path: Path) -> bool:
    with path.open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file), [])
    if tuple(header) in (TIDY_COLUMNS, ANGLES_COLUMNS) or header[:2] == ["scorer", DEEPLABCUT_SCORER]:
        return True
    names = [column.removesuffix("_x") for column in header[len(CSV_COLUMNS) :: 3]]
    return bool(names) and header[1:] == csv_header(names)[1:] and header[0] in ("image", "picture")


def csv_header(keypoints: Iterable[str]) -> list[str]:
    """Return the first row of poses.csv: the person's columns, then x, y and score of every keypoint."""
    return [*CSV_COLUMNS, *(f"{name}_{part}" for name in keypoints for part in ("x", "y", "score"))]


def _is_own_json(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    if JSON_KEYS <= content.keys() <= JSON_KEYS | NEWER_JSON_KEYS:
        return True
    annotations = content.get("annotations")
    if content.keys() - {"info"} != COCO_KEYS or not isinstance(annotations, list):
        return False
    info = content.get("info")  # older ones have none
    known = COCO_INFO.items() <= info.items() if isinstance(info, dict) else "info" not in content and bool(annotations)
    return known and all(map(_is_own_annotation, annotations))


def _is_own_annotation(person: Any) -> bool:
    return isinstance(person, dict) and ANNOTATION_KEYS <= person.keys() <= ANNOTATION_KEYS | VIDEO_KEYS
