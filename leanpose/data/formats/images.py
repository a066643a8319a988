"""Where the images of an export lie, by whatever name, and how large they are."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from leanpose.data.entries import place_of
from leanpose.geometry import Size
from leanpose.io.images import read_image

UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded image
ROBOFLOW = re.compile(r"^(.+)_(\w+)\.rf\.\w+\.\w+$")  # photo_jpg.rf.0a1b.jpg, made of photo.jpg


def image_size(path: str | Path) -> Size:
    """Return (height, width) of an image as viewers show it; a file that is no image raises InputError."""
    height, width = read_image(path).shape[:2]
    return height, width


def found_names(images: list[Any], folder: Path | None) -> dict[str, str]:
    """Return the names of images that lie in a folder by another name than the export's, and that name.

    Tried are COCO Annotator's `path`, the name without the eight letters that Label Studio puts before it, and the name
    that Roboflow's was made of; nothing is taken for two images.
    """
    if folder is None:
        return {}
    entries = {
        image["file_name"]: image
        for image in images
        if isinstance(image, dict) and isinstance(image.get("file_name"), str)
    }
    absent = [name for name in entries if not os.path.isfile(place_of(folder, name))]
    if not absent:
        return {}
    taken = {os.path.normpath(place_of(folder, name)) for name in entries.keys() - {*absent}}
    renamed: dict[str, str] = {}
    for name in absent:
        for other in _other_names(name, entries[name]):
            if os.path.isfile(place_of(folder, other)):
                renamed[name] = other
                break
    places = Counter(os.path.normpath(place_of(folder, other)) for other in renamed.values())
    return {
        name: other
        for name, other in renamed.items()
        if places[place := os.path.normpath(place_of(folder, other))] == 1 and place not in taken
    }


def _other_names(name: str, image: dict[str, Any]) -> Iterator[str]:
    if isinstance(image.get("path"), str):
        yield image["path"]
    folder, slash, last = name.replace("\\", "/").rpartition("/")
    if UPLOADED.match(last):
        yield folder + slash + UPLOADED.sub("", last)
    if made := ROBOFLOW.match(last):
        yield f"{folder}{slash}{made[1]}.{made[2]}"


def with_sizes(images: list[dict[str, Any]], folder: Path | None) -> list[dict[str, Any]]:
    """Return images with width and height, those that lack them from their files, where these are there."""
    lacking = [image for image in images if not (image.get("width") and image.get("height"))]
    places = [place_of(folder, image["file_name"]) for image in lacking] if folder else []
    found = [(image, place) for image, place in zip(lacking, places, strict=False) if os.path.isfile(place)]
    for image, place in tqdm(found, "reading sizes", unit="image", disable=None if found else True):
        image["height"], image["width"] = image_size(place)
    return images
