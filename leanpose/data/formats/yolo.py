"""YOLO-pose: a data YAML, and a text file per image with class, box and keypoints per person, as shares of the image.

docs.ultralytics.com/datasets/pose
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from leanpose.data.entries import place_of
from leanpose.data.formats.drafts import Draft, content_of
from leanpose.data.formats.images import image_size
from leanpose.data.formats.writing import (
    counted,
    lost_areas,
    lost_crowds,
    lost_keys,
    persons_by_image,
    places_below,
    points_of,
    size_of,
)
from leanpose.data.formats.yolo_layout import lines_of, listed_pairs, pairs_beside
from leanpose.errors import InputError, require
from leanpose.geometry import Size
from leanpose.io.files import copy, write_folder_atomically, write_text
from leanpose.io.preflight import check_needs
from leanpose.io.values import numbers, shown
from leanpose.keypoint_sets import COCO, keypoint_set_from_coco

MOST_KEYPOINTS = 10_000
FARTHEST_SHARE = 2.0  # of the image; more is in pixels


def read(
    raw: tuple[Path, dict[str, Any], Path | None], path: str, images: Path | None, keypoints: Sequence[str] | None
) -> tuple[dict[str, Any], list[str]]:
    """Return COCO-style content, and notes."""
    yaml, settings, labels = raw
    notes: list[str] = []
    k, dimensions = _shape(settings, yaml)
    classes = _classes(settings, yaml)
    pairs = dict(listed_pairs(settings, yaml, notes) if labels is None else pairs_beside(labels, images, notes))
    without = [label for label in pairs.values() if not label.is_file()]
    if not pairs:
        raise InputError(f"{path}: no images are found where its labels are; labels need the images beside them.")
    if len(without) == len(pairs):
        raise InputError(f"{path}: none of {len(pairs)} images has a label file; the first would be {without[0]}.")
    if without:
        notes.append(f"{len(without)} images have no label file: they are taken to show nobody.")
    root = yaml.absolute().parent
    sizes: dict[str, Size | None] = {}
    drafts: list[Draft] = []
    names: dict[str, list[str]] = {
        category: _names(settings, i, category, k, keypoints, yaml, notes) for i, category in enumerate(classes)
    }
    for image, label in tqdm(pairs.items(), f"reading {Path(path).name}", unit="image", disable=None):
        name = _name(image, root)
        size = sizes[name] = image_size(image)
        drafts += _persons(label, name, size, classes, names, dimensions)
    used = {draft.category for draft in drafts} or {*classes}
    content = content_of(sizes, drafts, {category: names[category] for category in classes if category in used})
    pairs_of_names = _flip_pairs(settings, k, yaml)
    for category in content["categories"]:
        if pairs_of_names is not None:
            category["flip_pairs"] = [[category["keypoints"][i] for i in pair] for pair in pairs_of_names]
    return content, notes


def _shape(settings: dict[str, Any], yaml: Path) -> tuple[int, int]:
    shape = settings["kpt_shape"]
    numbers_fit = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)
    if numbers_fit and 0 < shape[0] <= MOST_KEYPOINTS and shape[1] in (2, 3):
        return shape[0], shape[1]
    raise InputError(f"{yaml}: 'kpt_shape' must be [keypoints, 2 or 3], such as [17, 3], not {shown(shape)}.")


def _classes(settings: dict[str, Any], yaml: Path) -> list[str]:
    """Return the names of the classes, by their number."""
    names = settings.get("names")
    if isinstance(names, dict) and {*names} == {*range(len(names))}:
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names or len({*map(str, names)}) < len(names):
        raise InputError(f"{yaml}: 'names' must list the classes, from 0 on and none twice, not {shown(names)}.")
    return [str(name) for name in names]


def _names(
    settings: dict[str, Any],
    number: int,
    category: str,
    k: int,
    keypoints: Sequence[str] | None,
    yaml: Path,
    notes: list[str],
) -> list[str]:
    """Return the keypoints of a class: those given, else kpt_names, else COCO's where they fit, else numbers."""
    given = settings.get("kpt_names")
    if isinstance(given, dict):
        given = given.get(number, given.get(str(number)))
    elif isinstance(given, list) and given and isinstance(given[0], list):
        given = given[number] if number < len(given) else None
    if keypoints:
        given = [*keypoints]
    if given is not None:
        if not isinstance(given, list) or len(given) != k or not all(isinstance(name, str) for name in given):
            raise InputError(f"{yaml}: the class '{category}' needs {k} names of keypoints, not {shown(given)}.")
        return given
    if k == len(COCO) and settings.get("flip_idx") in (None, COCO.flip_index.tolist()):
        notes.append(f"The {k} keypoints of '{category}' have no names: they are taken for COCO's.")
        return [*COCO.keypoints]
    notes.append(f"The keypoints of '{category}' have no names (kpt_names): they are called keypoint_1 and so on.")
    return [f"keypoint_{i}" for i in range(1, k + 1)]


def _flip_pairs(settings: dict[str, Any], k: int, yaml: Path) -> list[tuple[int, int]] | None:
    """Return the pairs of keypoints that change places in a mirror image; None where the YAML does not say."""
    index = settings.get("flip_idx")
    if index is None or index == []:
        return None
    if not isinstance(index, list) or len(index) != k or sorted(map(str, index)) != sorted(map(str, range(k))):
        raise InputError(f"{yaml}: 'flip_idx' must hold each number from 0 to {k - 1} once, not {shown(index)}.")
    index = [int(i) for i in index]
    if any(index[index[i]] != i for i in range(k)):
        raise InputError(f"{yaml}: 'flip_idx' must swap keypoints in pairs, not {shown(index)}.")
    return [(i, index[i]) for i in range(k) if i < index[i]]


def _name(image: Path, root: Path) -> str:
    """Return the name of an image below the folder of the YAML, else its whole path."""
    absolute = image.absolute()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else absolute.as_posix()


def _persons(
    label: Path, image: str, size: Size, classes: list[str], names: dict[str, list[str]], dimensions: int
) -> Iterator[Draft]:
    """Yield the persons of a label file; an image without one shows nobody."""
    if not label.is_file():
        return
    height, width = size
    for line, text in enumerate(lines_of(label), 1):
        if not text:
            continue
        what = f"{label}: line {line}"
        words = text.split()
        k = len(names[classes[0]])
        count = 5 + dimensions * k
        if len(words) != count:
            raise InputError(f"{what} has {len(words)} numbers, but kpt_shape [{k}, {dimensions}] makes {count}.")
        values = numbers(words, (count,), what)
        if values[0] not in range(len(classes)):
            raise InputError(f"{what}: there is no class {words[0]}; the YAML names {len(classes)}, from 0 on.")
        places = values[5:].reshape(k, dimensions)
        if np.abs(np.concatenate([values[1:5], places[:, :2].ravel()])).max() > FARTHEST_SHARE:
            raise InputError(f"{what} is not in shares of the image from 0 to 1, but in pixels.")
        x, y, w, h = values[1:5] * (width, height, width, height)
        category = classes[int(values[0])]
        seen: np.ndarray = places[:, 2] if dimensions == 3 else np.where(places.any(axis=1), 2, 0)
        points = {
            name: (float(px * width), float(py * height), 1 if v == 1 else 2)
            for name, (px, py), v in zip(names[category], places[:, :2], seen, strict=True)
            if v > 0
        }
        yield Draft(image, category, points, (float(x - w / 2), float(y - h / 2), float(w), float(h)), what)


def lost(content: dict[str, Any]) -> list[str]:
    """Return what the form cannot hold."""
    outside = cut = 0
    for image, persons in persons_by_image(content):
        width, height = size_of(image, "YOLO")
        for person in persons:
            outside += sum(not _inside(x, y, width, height) for _, x, y, _ in points_of(content, person))
            left, top, w, h = person["bbox"]
            cut += left < 0 or top < 0 or left + w > width or top + h > height
    return [
        *lost_crowds(content),
        *lost_areas(content),
        *counted(outside, "labelled keypoints outside their image"),
        *counted(cut, "parts of boxes outside their image"),
        *lost_keys(content, "skeleton", "sigmas"),
    ]


def _inside(x: float, y: float, width: float, height: float) -> bool:
    return 0 <= x <= width and 0 <= y <= height


def write(content: dict[str, Any], out: Path, images: Path | None) -> None:
    """Write a folder with data.yaml, labels, and copies of the images."""
    yaml = require("yaml", "train")
    if images is None:
        raise InputError("YOLO's labels need their images beside them, which are copied; give --images.")
    (category,) = content["categories"]
    labels, places = places_below(content, ".txt"), places_below(content)
    sources = [place_of(images, image["file_name"]) for image in content["images"]]
    check_needs(files=sources)
    keypoint_set = keypoint_set_from_coco([category], "The annotations")
    settings = {
        "train": "images",  # beside this file, as without the key path
        "val": "images",
        "kpt_shape": [len(keypoint_set), 3],
        "flip_idx": keypoint_set.flip_index.tolist(),
        "names": {0: category["name"]},
        "kpt_names": {0: category["keypoints"]},
    }

    def fill(folder: Path) -> None:
        write_text(folder / "data.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        entries = zip(persons_by_image(content), labels, places, sources, strict=True)
        for (image, persons), label, place, source in entries:
            size = size_of(image, "YOLO")
            write_text(folder / "labels" / label, "".join(f"{_row(content, person, *size)}\n" for person in persons))
            copy(source, folder / "images" / place)

    write_folder_atomically(out, fill)


def _row(content: dict[str, Any], person: dict[str, Any], width: float, height: float) -> str:
    """Return class, box and keypoints of a person in shares of the image; what lies outside is cut or unlabelled."""
    left, top, w, h = person["bbox"]
    x1, x2 = np.clip([left, left + w], 0, width) / width
    y1, y2 = np.clip([top, top + h], 0, height) / height
    seen = {
        name: (x / width, y / height, v) for name, x, y, v in points_of(content, person) if _inside(x, y, width, height)
    }
    points = [seen.get(name, (0, 0, 0)) for name in content["categories"][0]["keypoints"]]
    numbers = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    rows = [*(f"{value:.9g}" for value in numbers), *(f"{x:.9g} {y:.9g} {v}" for x, y, v in points)]
    return " ".join(["0", *rows])
