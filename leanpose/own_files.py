"""Tell files that leanpose wrote, which new results may replace, from those of others, which nothing replaces.

Each kind is known by its content: a picture's JSON by its keys, coco.json by its `info`, poses.csv by its header, and a
drawn picture by the EXIF entry "Software: leanpose". Who changes a result with another tool makes it a file of theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

JSON_KEYS = frozenset(("picture", "width", "height", "keypoint_set", "persons"))
COCO_INFO = {"description": "persons found by leanpose", "contributor": "leanpose"}
COCO_KEYS = frozenset(("images", "annotations", "categories"))
ANNOTATION_KEYS = frozenset(
    ("image_id", "category_id", "keypoints", "bbox", "score", "id", "num_keypoints", "area", "iscrowd")
)
CSV_COLUMNS = ("picture", "person", "score", "x1", "y1", "x2", "y2")  # then x, y and score of each keypoint
_CSV_HEADER = re.compile(",".join(CSV_COLUMNS) + r"(,(.+?)_x,\2_y,\2_score)+\r?\n")
# EXIF in TIFF's form: little-endian, one entry in the first directory: Software (0x131), 9 letters at byte 26
SOFTWARE = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x31\x01\x02\0\x09\0\0\0\x1a\0\0\0" + b"\0\0\0\0" + b"leanpose\0"
_ENDS = 4096  # bytes at both ends of a picture; WebP keeps EXIF last, the others first


def is_own(path: Path) -> bool:
    """Whether a file is a result of leanpose, as it was written."""
    try:
        if path.suffix == ".json":
            return _is_own_json(json.loads(path.read_text("utf-8")))
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                return _CSV_HEADER.fullmatch(file.readline()) is not None
        with path.open("rb") as file:
            start = file.read(_ENDS)
            file.seek(max(0, path.stat().st_size - _ENDS))
            return SOFTWARE in start or SOFTWARE in file.read()
    except (OSError, ValueError, RecursionError):  # no file, no text, no JSON
        return False


def _is_own_json(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    if content.get("info") == COCO_INFO:
        return _all_have(content.get("annotations"), ANNOTATION_KEYS)
    unsigned = content.keys() == COCO_KEYS and content["annotations"] and _all_have(content["annotations"], ANNOTATION_KEYS)
    return content.keys() == JSON_KEYS or bool(unsigned)


def _all_have(annotations: Any, keys: Collection[str]) -> bool:
    return isinstance(annotations, list) and all(isinstance(a, dict) and a.keys() == keys for a in annotations)
