"""Label Studio's own JSON: tasks with regions in percent of the image, keypoints and rectangles.

labelstud.io/guide/task_format, labelstud.io/tags/keypointlabels and rectanglelabels
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from leanpose.data.formats.drafts import Box, Draft, content_of, ordered_names
from leanpose.data.formats.grouping import Mark, persons_of, with_categories
from leanpose.data.formats.images import found_names
from leanpose.errors import InputError
from leanpose.geometry import Size
from leanpose.io.values import entries, number, shown

RECTANGLE, POINT = "rectanglelabels", "keypointlabels"


def read(
    raw: list[Any], path: str, images: Path | None, keypoints: Sequence[str] | None
) -> tuple[dict[str, Any], list[str]]:
    """Return COCO-style content, and notes."""
    sizes: dict[str, Size | None] = {}
    drafts: list[Draft] = []
    others: Counter[str] = Counter()
    several = 0
    for i, task in enumerate(entries(raw, ("data",), f"{path}: task")):
        what = f"{path}: task {i}"
        name = _image_name(task, what)
        if name in sizes:
            raise InputError(f"{what}: the image {name} has a task before; keep one of them.")
        sizes[name] = None
        given = [one for one in _annotations(task, what) if not one.get("was_cancelled")]
        several += len(given) > 1
        for annotation in given:
            points, rectangles, size = _marks(annotation, what, others)
            sizes[name] = sizes[name] or size
            drafts += persons_of(name, points, rectangles)
    notes = [f"{count} regions of the kind {kind} are left out." for kind, count in others.items()]
    if several:
        notes.append(f"{several} images were annotated more than once; all annotations are kept.")
    drafts = with_categories(drafts)
    names = ordered_names(drafts, keypoints, notes)
    content = content_of(sizes, drafts, names)
    found = found_names(content["images"], images)
    for image in content["images"]:
        image["file_name"] = found.get(image["file_name"], image["file_name"])
    return content, notes


def _image_name(task: dict[str, Any], what: str) -> str:
    """Return the name of a task's image: the last part of its path or URL, or what stands behind `?d=`."""
    data = task["data"] if isinstance(task["data"], dict) else {}
    address = data.get("image", next((value for value in data.values() if isinstance(value, str)), None))
    if not isinstance(address, str) or not address:
        raise InputError(f"{what}: its 'data' names no image, but holds {shown(task['data'])}.")
    local = address.partition("?d=")[2]
    try:
        name = unquote(local) if local else posixpath.basename(unquote(urlsplit(address).path))
    except ValueError:
        name = ""
    if not name:
        raise InputError(f"{what}: its image has the address {shown(address)}, which names no file.")
    return name.replace("\\", "/")


def _annotations(task: dict[str, Any], what: str) -> list[dict[str, Any]]:
    given = task.get("annotations", task.get("completions"))  # the second in files of old releases
    if not isinstance(given, list):
        raise InputError(f"{what} has no list 'annotations'; export as JSON.")
    return entries(given, ("result",), f"{what}: annotation")


def _marks(annotation: dict[str, Any], what: str, others: Counter[str]) -> tuple[list[Mark], list[Mark], Size | None]:
    """Return points, rectangles and the size of the image; regions of other kinds are counted.

    A point belongs to the rectangle that is its parent, where it has one.
    """
    if not isinstance(annotation["result"], list):
        raise InputError(f"{what}: 'result' must be a list, not {shown(annotation['result'])}.")
    points, rectangles, size = [], [], None
    for i, region in enumerate(entries(annotation["result"], ("type",), f"{what}: region")):
        kind, where = region["type"], f"{what}: region {i}"
        if kind not in (POINT, RECTANGLE):
            others[str(kind)] += 1
            continue
        width, height = (number(region.get(key), f"{where}: '{key}'") for key in ("original_width", "original_height"))
        size = (round(height), round(width))
        value = region["value"] if isinstance(region.get("value"), dict) else {}
        labels = value.get(kind)
        if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
            raise InputError(f"{where}: '{kind}' must hold one name, not {shown(labels)}.")
        x, y = (number(value.get(key), f"{where}: '{key}'") for key in ("x", "y"))
        place = np.array([x * width, y * height]) / 100
        if kind == POINT:
            points.append(Mark(labels[0], (*place.tolist(), 2), _name(region.get("parentID")), where))
        else:
            sides = [number(value.get(key), f"{where}: '{key}'") for key in ("width", "height")]
            angle = number(value.get("rotation") or 0, f"{where}: 'rotation'")
            box = _envelope(place, np.array(sides) * (width, height) / 100, angle)
            rectangles.append(Mark(labels[0], box, _name(region.get("id")), where))
    return points, rectangles, size


def _name(value: Any) -> str | None:
    return None if value is None else str(value)


def _envelope(corner: np.ndarray, sides: np.ndarray, angle: float) -> Box:
    """Return the upright box around a rectangle that is turned clockwise about its first corner, in degrees."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    corners = corner + np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * sides @ np.array([[cos, sin], [-sin, cos]])
    left, top = corners.min(0)
    width, height = corners.max(0) - (left, top)
    return float(left), float(top), float(width), float(height)
