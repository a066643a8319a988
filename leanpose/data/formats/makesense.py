"""makesense.ai's CSV files, without a header: points (label, x, y, image, width, height) and rectangles (label, x, y,
width, height, image, width, height). Nothing says which points belong together.

github.com/SkalskiP/make-sense, src/logic/export
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leanpose.data.formats.drafts import Draft, content_of, ordered_names
from leanpose.data.formats.grouping import Mark, persons_of, with_categories
from leanpose.data.formats.sniff import Rows
from leanpose.data.formats.writing import (
    lost_areas,
    lost_crowds,
    lost_images,
    lost_keypoints,
    lost_keys,
    lost_visibility,
    persons_by_image,
    points_of,
    size_of,
    table,
)
from leanpose.errors import InputError
from leanpose.geometry import Size
from leanpose.io.files import write_folder_atomically, write_text
from leanpose.io.values import number

POINT, RECTANGLE = 6, 8  # columns


def read(
    raw: list[tuple[Path, Rows]], path: str, images: Path | None, keypoints: Sequence[str] | None
) -> tuple[dict[str, Any], list[str]]:
    """Return COCO-style content, and notes."""
    sizes: dict[str, Size | None] = {}
    marks: dict[str, tuple[list[Mark], list[Mark]]] = {}
    for file, rows in raw:
        for line, row in enumerate(rows, 1):
            if not row or (line == 1 and _is_header(row)):
                continue
            what = f"{file}: line {line}"
            if len(row) not in (POINT, RECTANGLE):
                raise InputError(f"{what} has {len(row)} columns; points have {POINT}, and rectangles {RECTANGLE}.")
            *place, name, width, height = row[1:]
            values = tuple(number(value, f"{what}: '{value}'") for value in place)
            size = (round(number(height, f"{what}: the height")), round(number(width, f"{what}: the width")))
            if sizes.setdefault(name, size) != size:
                raise InputError(
                    f"{what}: {name} has another size than in a line before; each image needs its own name."
                )
            points, rectangles = marks.setdefault(name, ([], []))
            if len(row) == POINT:
                points.append(Mark(row[0], (*values, 2), None, what))
            else:
                rectangles.append(Mark(row[0], values, None, what))
    drafts: list[Draft] = []
    for name, (points, rectangles) in marks.items():
        drafts += persons_of(name, points, rectangles)
    notes: list[str] = []
    drafts = with_categories(drafts)
    names = ordered_names(drafts, keypoints, notes)
    return content_of(sizes, drafts, names), notes


def _is_header(row: list[str]) -> bool:
    return row[0] == "label_name"


def lost(content: dict[str, Any]) -> list[str]:
    """Return what the form cannot hold."""
    several = sum(len(persons) > 1 for _, persons in persons_by_image(content))
    return [
        *lost_crowds(content),
        *lost_visibility(content),
        *(
            [f"which keypoints belong to whom in {several} images with several persons, but by boxes"]
            if several
            else []
        ),
        *lost_areas(content),
        *lost_images(content),
        *lost_keypoints(content),
        *lost_keys(content, "skeleton", "sigmas", "flip_pairs"),
        "the order of the keypoints",
    ]


def write(content: dict[str, Any], out: Path, images: Path | None) -> None:
    """Write a folder with points.csv and rectangles.csv."""
    points, rectangles = [], []
    for image, persons in persons_by_image(content):
        end = (image["file_name"], *(f"{side:g}" for side in size_of(image, "makesense")))
        for person in persons:
            points += [(name, x, y, *end) for name, x, y, _ in points_of(content, person)]
            rectangles.append((content["categories"][0]["name"], *person["bbox"], *end))

    def fill(folder: Path) -> None:
        for name, rows in (("points.csv", points), ("rectangles.csv", rectangles)):
            if rows:
                write_text(folder / name, table(rows))

    write_folder_atomically(out, fill)
