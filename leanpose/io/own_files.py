"""Tell files that leanpose wrote, which new results may replace, from those of others, which nothing replaces.

Each kind is known by its content: an image's JSON by its keys, coco.json by its `info`, poses.csv by its header, and a
drawn image by the EXIF entry "Software: leanpose". Who changes a result with another tool makes it a file of theirs.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

JSON_KEYS = frozenset(("width", "height", "keypoint_set", "persons"))
NEWER_JSON_KEYS = frozenset(("image", "picture", "leanpose"))  # "picture": the former name of "image"
COCO_INFO = {"description": "persons found by leanpose", "contributor": "leanpose"}
COCO_KEYS = frozenset(("images", "annotations", "categories"))
ANNOTATION_KEYS = frozenset(
    ("image_id", "category_id", "keypoints", "bbox", "score", "id", "num_keypoints", "area", "iscrowd")
)
CSV_COLUMNS = ("image", "person", "score", "x1", "y1", "x2", "y2")  # before those of the keypoints
# EXIF in TIFF's form: little-endian, one entry in the first directory: Software (0x131), 9 letters at byte 26
SOFTWARE = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x31\x01\x02\0\x09\0\0\0\x1a\0\0\0" + b"\0\0\0\0" + b"leanpose\0"
_ENDS = 4096  # bytes at both ends of an image; WebP keeps EXIF last, the others first


def is_own(path: Path) -> bool:
    """Whether a file is a result of leanpose, as it was written."""
    try:
        if path.suffix == ".json":
            return _is_own_json(json.loads(path.read_text("utf-8")))
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                header = next(csv.reader(file), [])
            names = [column.removesuffix("_x") for column in header[len(CSV_COLUMNS) :: 3]]
            return bool(names) and header[1:] == csv_header(names)[1:] and header[0] in ("image", "picture")
        with path.open("rb") as file:
            start = file.read(_ENDS)
            file.seek(max(0, path.stat().st_size - _ENDS))
            return SOFTWARE in start or SOFTWARE in file.read()
    except (OSError, ValueError, RecursionError, csv.Error):  # no file, no text, no JSON, no table
        return False


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
    return known and all(isinstance(person, dict) and person.keys() == ANNOTATION_KEYS for person in annotations)
