"""What the images of an annotated set say is wrong with it: missing ones, other sizes, the same one twice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tqdm import tqdm

from leanpose.data.annotations import check_size
from leanpose.data.lenient import Case, Finding, LenientSet, Level
from leanpose.data.perceptual_hash import Fingerprint, fingerprint, similar_pairs
from leanpose.errors import InputError
from leanpose.geometry import Size
from leanpose.io.images import read_image


@dataclass(frozen=True, eq=False)
class Look:
    """What one image file is: a fault, or a fingerprint.

    Attributes:
        missing: there is no such file.
        unreadable: why it cannot be read.
        resized: why its size is not that of its annotations.
        size: (height, width) in pixels; None where it cannot be read.
        seen: its fingerprint; None where it cannot be read.
    """

    missing: bool = False
    unreadable: str = ""
    resized: str = ""
    size: Size | None = None
    seen: Fingerprint | None = None


def look_at_images(annotated: LenientSet) -> list[Look]:
    """Read all images once, several at a time."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as readers:
        looks = readers.map(_look, annotated.paths, annotated.sizes)
        return [*tqdm(looks, "reading images", len(annotated.paths), unit="image", disable=None)]


def _look(path: str, size: Size | None) -> Look:
    if not os.path.isfile(path):
        return Look(missing=True)
    try:
        image = read_image(path)
    except InputError as error:
        return Look(unreadable=str(error))
    resized = ""
    try:
        check_size(image, path, size)
    except InputError as error:
        resized = str(error)
    return Look(resized=resized, size=image.shape[:2], seen=fingerprint(image))


def image_faults(annotated: LenientSet, looks: Sequence[Look]) -> list[Finding]:
    """Return what is wrong with single images, and which look nearly the same."""

    def cases(texts: Sequence[str]) -> list[Case]:
        return [Case(text, i) for i, text in enumerate(texts) if text]

    names = annotated.names
    missing = cases([name if look.missing else "" for name, look in zip(names, looks, strict=True)])
    unreadable, resized = cases([look.unreadable for look in looks]), cases([look.resized for look in looks])
    twins = [
        Case(f"{names[j]} looks like {names[i]}", j, beside=annotated.paths[i])
        for i, j in _similar(looks, looks, within=True)
        if annotated.paths[i] != annotated.paths[j]
    ]
    found: list[tuple[str, Level, str, list[Case]]] = [
        ("images missing", "error", "Images are not in the folder; check --images, or leave them out.", missing),
        ("images unreadable", "error", "Images cannot be read.", unreadable),
        ("images of another size", "error", "Images have not the size that their annotations are for.", resized),
        ("images alike", "warning", "Images look nearly the same: keep one of each, or split by scene.", twins),
    ]
    return [Finding(kind, level, sentence, tuple(some)) for kind, level, sentence, some in found if some]


def shared_images(
    annotated: LenientSet, looks: Sequence[Look], other: LenientSet, other_looks: Sequence[Look], path: str
) -> list[Finding]:
    """Return which images of a set look nearly like one of another set, such as train and val.

    Args:
        path: of the other set's file.
    """
    cases = [
        Case(f"{annotated.names[i]} looks like {other.names[j]} of {path}", i, beside=other.paths[j])
        for i, j in _similar(looks, other_looks, within=False)
    ]
    sentence = f"Images look nearly like those of {path}, so a figure on one is not one on unseen images; split anew."
    return [Finding("images in both sets", "error", sentence, tuple(cases))] if cases else []


def _similar(looks: Sequence[Look], others: Sequence[Look], within: bool) -> list[tuple[int, int]]:
    """Return the places of images that look nearly the same."""
    these = [(i, look.seen) for i, look in enumerate(looks) if look.seen is not None]
    those = [(j, look.seen) for j, look in enumerate(others) if look.seen is not None]
    pairs = similar_pairs([seen for _, seen in these], None if within else [seen for _, seen in those])
    return [(these[i][0], those[j][0]) for i, j in pairs]
