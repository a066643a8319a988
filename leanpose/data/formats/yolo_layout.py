"""Where YOLO-pose has its images and label files: a label lies where the last folder "images" of its image's path is
"labels" (docs.ultralytics.com/datasets/pose)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leanpose.errors import InputError
from leanpose.io.images import SUFFIXES
from leanpose.io.values import shown

PARTS = ("train", "val", "test")


def listed_pairs(settings: dict[str, Any], yaml: Path, notes: list[str]) -> Iterator[tuple[Path, Path]]:
    """Yield image and label file of all that the YAML lists."""
    found = []
    root = yaml.absolute().parent
    given = settings.get("path")
    roots = [root, *([root / given] if isinstance(given, str) else [])][::-1]
    for part in PARTS:
        places = settings.get(part)
        for place in places if isinstance(places, list) else [places] if places else []:
            if not isinstance(place, str):
                raise InputError(f"{yaml}: '{part}' must name a folder or a list of images, not {shown(place)}.")
            # Roboflow writes ../train/images for what lies beside the YAML
            tried = [top / name for top in roots for name in (place, place.removeprefix("../"))]
            at = next((one for one in tried if os.path.exists(one)), None)
            if at is None:
                notes.append(f"'{part}' is left out: there is no {tried[0]}.")
                continue
            found.append(part)
            for image in _images_at(at):
                yield image, _label_of(image)
    if len({*found}) > 1:
        notes.append(f"{', '.join(dict.fromkeys(found))} are read together; give a folder of labels for one of them.")


def _images_at(place: Path) -> Iterator[Path]:
    """Yield the images of a folder, or those that a text file lists."""
    if place.is_dir():
        yield from sorted(file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES)
        return
    for line in filter(None, lines_of(place)):
        yield place.parent / line


def lines_of(file: Path) -> list[str]:
    """Return the lines of a text file without spaces around them."""
    try:
        return [line.strip() for line in file.read_text("utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}).") from None


def _swapped(path: Path, one: str, other: str) -> Path:
    """Return a path with its last folder of a name under another name."""
    parts = [*path.parts]
    places = [i for i, part in enumerate(parts) if part == one]
    if places:
        parts[places[-1]] = other
    return Path(*parts)


def _label_of(image: Path) -> Path:
    return _swapped(image, "images", "labels").with_suffix(".txt")


def pairs_beside(labels: Path, images: Path | None, notes: list[str]) -> Iterator[tuple[Path, Path]]:
    """Yield image and label file of a folder of labels."""
    labels = labels.absolute()
    folder = _swapped(labels, "labels", "images")
    if not folder.is_dir() or (folder == labels and images is not None):
        folder = images if images is not None else labels
    seen = set()
    for image in _images_at(folder):
        label = (labels / image.relative_to(folder)).with_suffix(".txt")
        seen.add(label)
        yield image, label
    alone = sum(file not in seen and file.name != "classes.txt" for file in labels.rglob("*.txt"))
    if alone:
        notes.append(f"{alone} label files have no image in {folder}; they are left out.")
