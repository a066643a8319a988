"""labelme's JSON files, one per image: points and rectangles as shapes, joined to persons by `group_id`.

github.com/wkentaro/labelme; a keypoint that is hidden has the shape flag "hidden", which labelme keeps.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from leanpose.data.entries import place_of
from leanpose.data.formats.drafts import Draft, content_of, ordered_names
from leanpose.data.formats.grouping import Mark, persons_of, with_categories
from leanpose.data.formats.writing import (
    lost_areas,
    lost_crowds,
    lost_keypoints,
    lost_keys,
    persons_by_image,
    places_below,
    points_of,
)
from leanpose.errors import InputError
from leanpose.geometry import Size
from leanpose.io.files import write_folder_atomically, write_text
from leanpose.io.values import FARTHEST, entries, number, shown, text

HIDDEN = "hidden"  # shape flag of ours


def read(
    raw: list[tuple[Path, dict[str, Any]]], path: str, images: Path | None, keypoints: Sequence[str] | None
) -> tuple[dict[str, Any], list[str]]:
    """Return COCO-style content, and notes."""
    root = Path(path) if Path(path).is_dir() else Path(path).parent
    sizes: dict[str, Size | None] = {}
    drafts: list[Draft] = []
    others: dict[str, int] = {}
    for file, content in raw:
        name = _image_name(content, file, root)
        if name in sizes:
            raise InputError(f"{file}: its image {name} has another JSON file already; keep one of them.")
        sizes[name] = _size(content, file)
        points, rectangles = _marks(content, file, others)
        drafts += persons_of(name, points, rectangles)
    notes = [f"{count} shapes of the kind {kind} are left out." for kind, count in others.items()]
    drafts = with_categories(drafts)
    names = ordered_names(drafts, keypoints, notes)
    return content_of(sizes, drafts, names), notes


def _image_name(content: dict[str, Any], file: Path, root: Path) -> str:
    """Return the image's name below the folder of the export, with slashes."""
    name = text(content.get("imagePath"), f"{file}: 'imagePath'").replace("\\", "/")
    inside = file.parent.relative_to(root).as_posix()
    return posixpath.normpath(posixpath.join(inside, name))


def _size(content: dict[str, Any], file: Path) -> Size | None:
    if content.get("imageHeight") is None or content.get("imageWidth") is None:
        return None
    height, width = (round(number(content[key], f"{file}: '{key}'")) for key in ("imageHeight", "imageWidth"))
    return (height, width) if height > 0 and width > 0 else None


def _marks(content: dict[str, Any], file: Path, others: dict[str, int]) -> tuple[list[Mark], list[Mark]]:
    """Return points and rectangles; shapes of other kinds are counted."""
    if not isinstance(content["shapes"], list):
        raise InputError(f"{file}: 'shapes' must be a list, not {shown(content['shapes'])}.")
    points, rectangles = [], []
    for i, shape in enumerate(entries(content["shapes"], ("label", "points"), f"{file}: shape")):
        what = f"{file}: shape {i}"
        label = text(shape["label"], f"{what}: 'label'").strip()
        kind = shape.get("shape_type") or "polygon"
        group = shape.get("group_id")
        if group is not None and not isinstance(group, (int, str)):
            raise InputError(f"{what}: 'group_id' must be a number, not {shown(group)}.")
        if kind == "point":
            (x, y), flags = _places(shape, 1, what)[0], shape.get("flags")
            hidden = isinstance(flags, dict) and flags.get(HIDDEN) is True
            points.append(Mark(label, (float(x), float(y), 1 if hidden else 2), group, what))
        elif kind == "rectangle":
            corners = _places(shape, 2, what)
            left, top = corners.min(0)
            width, height = corners.max(0) - (left, top)
            rectangles.append(Mark(label, (float(left), float(top), float(width), float(height)), group, what))
        else:
            others[str(kind)] = others.get(str(kind), 0) + 1
    return points, rectangles


def _places(shape: dict[str, Any], least: int, what: str) -> np.ndarray:
    """Return the (n, 2) points of a shape, at least so many; rectangles have two opposite corners, or all four."""
    try:
        places = np.array(shape["points"], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        places = np.zeros((0, 2))
    if places.ndim != 2 or places.shape[1] != 2 or len(places) < least or not (np.abs(places) <= FARTHEST).all():
        raise InputError(f"{what}: 'points' must be {least} or more pairs x, y, not {shown(shape['points'])}.")
    return places


def lost(content: dict[str, Any]) -> list[str]:
    """Return what the form cannot hold."""
    return [
        *lost_crowds(content),
        *lost_areas(content),
        *lost_keypoints(content),
        *lost_keys(content, "skeleton", "sigmas", "flip_pairs"),
        "the order of the keypoints",
    ]


def write(content: dict[str, Any], out: Path, images: Path | None) -> None:
    """Write a folder with a JSON file per image; the images stay where they are."""

    def fill(folder: Path) -> None:
        for (image, persons), place in zip(persons_by_image(content), places, strict=True):
            at = out / place
            name = at.with_name(PurePosixPath(image["file_name"].replace("\\", "/")).name)
            found = name if images is None else Path(place_of(images, image["file_name"]))
            shapes = [shape for group, person in enumerate(persons, 1) for shape in _shapes(content, person, group)]
            entry: dict[str, Any] = {
                "version": "5.5.0",
                "flags": {},
                "shapes": shapes,
                "imagePath": os.path.relpath(found.absolute(), at.absolute().parent).replace(os.sep, "/"),
                "imageData": None,
                "imageHeight": image.get("height"),
                "imageWidth": image.get("width"),
            }
            write_text(folder / place, json.dumps(entry, indent=1))

    places = places_below(content, ".json")
    write_folder_atomically(out, fill)


def _shapes(content: dict[str, Any], person: dict[str, Any], group: int) -> list[dict[str, Any]]:
    """Return a rectangle and the labelled keypoints of a person."""
    left, top, width, height = person["bbox"]
    shape = {"group_id": group, "description": "", "flags": {}, "mask": None}
    corners = [[left, top], [left + width, top + height]]
    box = {"label": content["categories"][0]["name"], "points": corners, "shape_type": "rectangle"} | shape
    return [
        box,
        *(
            {"label": name, "points": [[x, y]], "shape_type": "point"}
            | shape
            | {"flags": {HIDDEN: True} if v == 1 else {}}
            for name, x, y, v in points_of(content, person)
        ),
    ]
