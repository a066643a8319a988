"""DeepLabCut's CollectedData CSV: rows scorer, individuals (where there are several animals), bodyparts and coords,
then a row per image, whose path is in one column or in three.

github.com/DeepLabCut/DeepLabCut, docs/standardDeepLabCut_UserGuide.md
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leanpose.data.formats.drafts import Draft, Point, content_of
from leanpose.data.formats.sniff import Rows
from leanpose.data.formats.writing import (
    counted,
    lost_crowds,
    lost_keys,
    lost_visibility,
    persons_by_image,
    points_of,
    table,
)
from leanpose.errors import InputError
from leanpose.geometry import Size
from leanpose.io.files import write_text
from leanpose.io.values import number

CATEGORY = "animal"
ALONE = "single"  # the individual whose body parts belong to no animal, such as corners of a box
Column = tuple[str, str, str]  # individual, body part, x or y


def read(
    raw: Rows, path: str, images: Path | None, keypoints: Sequence[str] | None
) -> tuple[dict[str, Any], list[str]]:
    """Return COCO-style content, and notes."""
    header, index = _header(raw, path)
    columns = _columns(header, index, path)
    notes = [f"DeepLabCut has no categories: its animals are of the category '{CATEGORY}'."]
    individuals = dict.fromkeys(individual for individual, _, _ in columns)
    if ALONE in individuals and len(individuals) > 1:
        del individuals[ALONE]
        notes.append(f"The body parts of '{ALONE}' belong to no animal; they are left out.")
    names = [*dict.fromkeys(part for individual, part, _ in columns if individual in individuals)]
    if keypoints:
        unknown = next((name for name in names if name not in keypoints), None)
        if unknown is not None:
            raise InputError(f"{path}: the body part '{unknown}' is none of the keypoints given.")
        names = [*keypoints]
    sizes: dict[str, Size | None] = {}
    drafts: list[Draft] = []
    for line, row in enumerate(raw[len(header) :], len(header) + 1):
        if not any(row):
            continue
        what = f"{path}: line {line}"
        if len(row) != index + len(columns):
            raise InputError(f"{what} has {len(row)} columns, but the header has {index + len(columns)}.")
        name = "/".join(part.replace("\\", "/").strip("/") for part in row[:index])
        if name in sizes:
            raise InputError(f"{what}: the image {name} has a line before; keep one of them.")
        sizes[name] = None
        for individual in individuals:
            points = _points(row[index:], columns, individual, what)
            if points:
                drafts.append(Draft(name, CATEGORY, points, what=what))
    return content_of(sizes, drafts, {CATEGORY: names}), notes


def _header(rows: Rows, path: str) -> tuple[Rows, int]:
    """Return the header's rows, from individuals or bodyparts on behind scorer, and how many columns the path has."""
    height = next((i for i, row in enumerate(rows[:4]) if row and row[0].strip() == "coords"), None)
    names = [row[0].strip() if row else "" for row in rows[: (height or 0) + 1]]
    if names not in (["scorer", "bodyparts", "coords"], ["scorer", "individuals", "bodyparts", "coords"]):
        raise InputError(
            f"{path} is no CSV of DeepLabCut: its first rows must be scorer, bodyparts and coords, with individuals "
            "behind scorer where there are several animals."
        )
    coords = rows[len(names) - 1]
    index = 3 if len(coords) > 2 and not coords[1].strip() and not coords[2].strip() else 1
    return rows[: len(names)], index


def _columns(header: Rows, index: int, path: str) -> list[Column]:
    """Return individual, body part and coordinate of each column behind the path."""
    if len({len(row) for row in header}) > 1:
        raise InputError(f"{path}: the rows of its header have different numbers of columns.")
    coords = [cell.strip() for cell in header[-1][index:]]
    if "likelihood" in coords:
        raise InputError(f"{path} holds predictions (likelihood), no labels; give a CollectedData CSV.")
    parts = [cell.strip() for cell in header[-2][index:]]
    individuals = [cell.strip() for cell in header[1][index:]] if len(header) == 4 else [""] * len(parts)
    columns = [*zip(individuals, parts, coords, strict=True)]
    wanted = {(individual, part, coordinate) for individual, part, _ in columns for coordinate in "xy"}
    if not columns or {*columns} != wanted or len(columns) != len(wanted):
        raise InputError(f"{path}: its header must have the columns x and y for each body part, once.")
    return columns


def _points(cells: list[str], columns: list[Column], individual: str, what: str) -> dict[str, Point]:
    """Return the labelled body parts of an individual in one row; empty cells and NaN are not labelled."""
    values: dict[str, dict[str, float]] = {}
    for cell, (owner, part, coordinate) in zip(cells, columns, strict=True):
        if owner == individual and cell.strip().lower() not in ("", "nan"):
            values.setdefault(part, {})[coordinate] = number(cell, f"{what}: {coordinate} of {part}")
    half = next((part for part, place in values.items() if len(place) == 1), None)
    if half is not None:
        raise InputError(f"{what}: {half} has only one of x and y.")
    return {part: (place["x"], place["y"], 2) for part, place in values.items() if math.isfinite(place["x"])}


def lost(content: dict[str, Any]) -> list[str]:
    """Return what the form cannot hold."""
    unlabelled = sum(not person["num_keypoints"] and not person["iscrowd"] for person in content["annotations"])
    return [
        *lost_crowds(content),
        *lost_visibility(content),
        "the boxes and areas of persons",
        *counted(unlabelled, "persons without labelled keypoints"),
        "the name of the category",
        *lost_keys(content, "skeleton", "sigmas", "flip_pairs"),
        "the sizes of images",
    ]


def write(content: dict[str, Any], out: Path, images: Path | None) -> None:
    """Write one CSV file, with individuals where an image has several persons."""
    rows = [
        (image["file_name"], [{name: (x, y) for name, x, y, _ in points_of(content, one)} for one in persons])
        for image, persons in persons_by_image(content)
    ]
    rows = [(name, [person for person in persons if person]) for name, persons in rows]
    most = max((len(persons) for _, persons in rows), default=1) or 1
    names = content["categories"][0]["keypoints"]
    columns = [(f"individual{i + 1}", name, coordinate) for i in range(most) for name in names for coordinate in "xy"]
    individuals, parts, coords = zip(*columns, strict=True)
    header = [("scorer", *["leanpose"] * len(columns)), ("bodyparts", *parts), ("coords", *coords)]
    if most > 1:
        header.insert(1, ("individuals", *individuals))
    cells = [
        (name, *(value for i in range(most) for part in names for value in _cells(persons[i : i + 1], part)))
        for name, persons in rows
    ]
    write_text(out, table([*header, *cells]))


def _cells(person: list[dict[str, tuple[float, float]]], part: str) -> tuple[float | str, float | str]:
    return person[0].get(part, ("", "")) if person else ("", "")
