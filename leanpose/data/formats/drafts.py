"""Persons as foreign forms have them, by name, and the COCO-style content that they make together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leanpose.errors import InputError, suggest
from leanpose.geometry import Size

Point = tuple[float, float, int]  # x and y in pixels, visibility 1 or 2
Box = tuple[float, float, float, float]  # x, y, width, height in pixels


@dataclass(frozen=True)
class Draft:
    """One person, animal or object.

    Attributes:
        image: file name of its image.
        category: name.
        points: its labelled keypoints by name.
        box: None where the form has none.
        what: file and line or entry, for messages.
    """

    image: str
    category: str
    points: Mapping[str, Point] = field(default_factory=dict)
    box: Box | None = None
    what: str = ""


def ordered_names(drafts: Iterable[Draft], given: Sequence[str] | None, notes: list[str]) -> dict[str, list[str]]:
    """Return the keypoints of each category: those given, else in the order in which they appear first.

    Raises:
        InputError: a keypoint is none of those given.
    """
    names: dict[str, dict[str, None]] = {}
    for draft in drafts:
        names.setdefault(draft.category, {}).update(dict.fromkeys(draft.points))
        unknown = next((name for name in draft.points if given and name not in given), None)
        if given and unknown is not None:
            raise InputError(f"{draft.what}: '{unknown}' is none of the keypoints given.{suggest(unknown, given)}")
    if given:
        return {category: [*given] if found else [] for category, found in names.items()}
    for category, found in names.items():
        if found:
            notes.append(f"The keypoints of '{category}' are in the order in which they appear: {', '.join(found)}.")
    return {category: [*found] for category, found in names.items()}


def content_of(
    images: Mapping[str, Size | None], drafts: Iterable[Draft], keypoints: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return the COCO-style content of drafts, with ids from 1.

    Args:
        images: (height, width) by file name, or None where it is not known; all images, with persons or without.
        keypoints: names by category; the categories stand in this order.
    """
    image_ids = {name: i for i, name in enumerate(images, 1)}
    category_ids = {name: i for i, name in enumerate(keypoints, 1)}
    annotations = []
    for i, draft in enumerate(drafts, 1):
        points = [draft.points.get(name, (0, 0, 0)) for name in keypoints[draft.category]]
        annotation: dict[str, Any] = {
            "id": i,
            "image_id": image_ids[draft.image],
            "category_id": category_ids[draft.category],
            "keypoints": [value for point in points for value in point],
            "iscrowd": 0,
        }
        annotations.append(annotation if draft.box is None else annotation | {"bbox": [*draft.box]})
    return {
        "images": [
            {"id": image_ids[name], "file_name": name} | ({} if size is None else {"width": size[1], "height": size[0]})
            for name, size in images.items()
        ],
        "annotations": annotations,
        "categories": [
            {"id": category_ids[name], "name": name, "keypoints": [*names], "skeleton": []}
            for name, names in keypoints.items()
        ],
    }
