"""makesense.ai's CSV files, without a header: points (label, x, y, image, width, height) and rectangles (label, x, y,
width, height, image, width, height). Nothing says which points belong together.

github.com/SkalskiP/make-sense, src/logic/export
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leanpose.data.formats.drafts import Draft, content_of, ordered_names
from leanpose.data.formats.grouping import Mark, persons_of
from leanpose.data.formats.sniff import Rows
from leanpose.errors import InputError
from leanpose.geometry import Size
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
    names = ordered_names(drafts, keypoints, notes)
    return content_of(sizes, drafts, names), notes


def _is_header(row: list[str]) -> bool:
    return row[0] == "label_name"
