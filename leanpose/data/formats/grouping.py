"""Points and rectangles of an image that were drawn one by one, put together to persons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from leanpose.data.formats.drafts import Box, Draft, Point
from leanpose.errors import InputError

UNNAMED = "person"  # the category of points without a rectangle


@dataclass(frozen=True)
class Mark:
    """A point or rectangle.

    Attributes:
        label: name of the keypoint or category.
        place: point or box.
        group: what says that marks belong together; None: nothing does.
        what: file and line or entry, for messages.
    """

    label: str
    place: Any
    group: Any
    what: str


def persons_of(image: str, points: Sequence[Mark], rectangles: Sequence[Mark]) -> list[Draft]:
    """Return the persons of one image; those without a rectangle have no category yet, see `with_categories`.

    Marks of one group are a person. A point without a group is of the rectangle around it; without any rectangle, all
    points without a group are one person.

    Raises:
        InputError: a point lies in no rectangle or in several, or a person would have a keypoint or box twice.
    """
    boxes: dict[Any, Mark] = {}
    for i, rectangle in enumerate(rectangles):
        key = ("rectangle", i) if rectangle.group is None else ("group", rectangle.group)
        if key in boxes:
            raise InputError(f"{rectangle.what}: its group {rectangle.group} has a second rectangle; give it its own.")
        boxes[key] = rectangle
    members: dict[Any, dict[str, Mark]] = {key: {} for key in boxes}
    for point in points:
        key = ("group", point.group) if point.group is not None else _around(point, boxes)
        person = members.setdefault(key, {})
        if point.label in person:
            raise InputError(
                f"{point.what}: a person of {image} has the keypoint '{point.label}' twice, and nothing says which "
                "belongs to whom; mark persons by a rectangle around each, or by groups where the tool has them."
            )
        person[point.label] = point
    drafts = []
    for key, marks in members.items():
        box: Box | None = boxes[key].place if key in boxes else None
        category = boxes[key].label if key in boxes else ""
        seen: dict[str, Point] = {label: mark.place for label, mark in marks.items()}
        what = (boxes[key] if key in boxes else next(iter(marks.values()))).what
        drafts.append(Draft(image, category, seen, box, what))
    return drafts


def with_categories(drafts: Sequence[Draft]) -> list[Draft]:
    """Return drafts with a category where they have none: that of all others, or UNNAMED if there are no others.

    Raises:
        InputError: others are of several categories.
    """
    named = [*dict.fromkeys(draft.category for draft in drafts if draft.category)]
    unnamed = next((draft for draft in drafts if not draft.category), None)
    if unnamed is not None and len(named) > 1:
        raise InputError(
            f"{unnamed.what}: a person without a rectangle may be any of {', '.join(named)}; draw its rectangle."
        )
    return [draft if draft.category else replace(draft, category=(named or [UNNAMED])[0]) for draft in drafts]


def _around(point: Mark, boxes: dict[Any, Mark]) -> Any:
    """Return the key of the only rectangle around a point; None where there are no rectangles at all."""
    if not boxes:
        return None
    x, y, _ = point.place
    fitting = [key for key, mark in boxes.items() if _holds(mark.place, x, y)]
    if len(fitting) == 1:
        return fitting[0]
    where = f"in {len(fitting)} rectangles" if fitting else "in no rectangle"
    raise InputError(f"{point.what}: the point '{point.label}' lies {where}, so nothing says whose it is.")


def _holds(box: Box, x: float, y: float) -> bool:
    left, top, width, height = box
    return left <= x <= left + width and top <= y <= top + height
