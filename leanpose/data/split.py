"""Split an annotated set into parts, such as train and val, or into folds: every image lands in exactly one part.

Which images go together can be said (frames of a video, a patient) or seen (images that look nearly the same). The
split is a function of the seed and the names of the images: ids and the order in the file change nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from leanpose.data.entries import locate
from leanpose.data.perceptual_hash import fingerprint, similar_pairs
from leanpose.errors import InputError
from leanpose.io.images import read_image
from leanpose.io.values import Id, Known, entries, identity, repeated, shown, text

By = Literal["image", "group", "scene"]


def split(
    content: dict[str, Any],
    parts: Mapping[str, float],
    by: By = "image",
    seed: int = 0,
    group: str | None = None,
    images: str | Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Split a COCO-style content into parts.

    Args:
        content: of a COCO-style file.
        parts: share of the images by name of the part, such as {"train": 0.8, "val": 0.2}; the sum is 1. Shares are
            met as well as whole groups allow.
        by: what stays together: "image", only each image; "group", the images of a group; "scene", images that look
            nearly the same.
        seed: another seed gives another split.
        group: what makes the groups: a key of the image entries, such as "video_id", or a regular expression that is
            found in every file_name, such as "^(.+)_frame"; images for which its groups agree, or without groups all
            that is matched, belong together.
        images: folder of the images, which "scene" looks at.

    Returns:
        A COCO-style content for each part, with images and annotations in the order of the file.

    Raises:
        InputError: there are no images, shares do not sum to 1, a part would be empty, `group` does not fit, ids clash
            or dangle, or an image cannot be read.
    """
    if not parts or min(parts.values()) <= 0 or abs(sum(parts.values()) - 1) > 1e-6:
        raise InputError(f"The shares of the parts must be above 0 and sum to 1, not {dict(parts)}.")
    places = _places(group_names(content, by, group, images), list(parts.values()), seed)
    owners = _owners(content, places)
    empty = next((name for i, name in enumerate(parts) if i not in places), None)
    if empty is not None:
        raise InputError(f"No image is left for the part '{empty}'; give it a larger share, or make more groups.")
    return {name: _part(content, places, owners, {i}) for i, name in enumerate(parts)}


def folds(
    content: dict[str, Any],
    k: int,
    by: By = "image",
    seed: int = 0,
    group: str | None = None,
    images: str | Path | None = None,
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return k pairs of contents, to train on and to validate on; every image is in one part to validate on.

    Args:
        k: number of folds, at least 2; others as of `split`.

    Raises:
        InputError: there are fewer groups than folds; and as of `split`.
    """
    if k < 2:
        raise InputError(f"There must be at least 2 folds, not {k}.")
    places = _places(group_names(content, by, group, images), [1 / k] * k, seed)
    owners = _owners(content, places)
    if len({*places}) < k:
        raise InputError(f"There are not enough images or groups for {k} folds; choose a smaller number.")
    numbers = set(range(k))
    return [(_part(content, places, owners, numbers - {i}), _part(content, places, owners, {i})) for i in range(k)]


def group_names(
    content: dict[str, Any], by: By, group: str | None = None, images: str | Path | None = None
) -> list[str]:
    """Return the name of the group of each image entry; arguments as of `split`."""
    listed = entries(content["images"], ("id", "file_name"), "image")
    names = [text(image["file_name"], f"'file_name' of image {i}") for i, image in enumerate(listed)]
    if by not in ("image", "group", "scene"):
        raise InputError(f"by must be 'image', 'group' or 'scene', not '{by}'.")
    if (by == "group") != (group is not None):
        raise InputError("What makes a group goes with by group: give both or neither.")
    if group is not None:
        return _said(listed, names, group)
    if by == "scene":
        if images is None:
            raise InputError("by='scene' looks at the images: give their folder.")
        return _seen(names, Path(images))
    return names


def _said(listed: Sequence[dict[str, Any]], names: Sequence[str], group: str) -> list[str]:
    """Return the groups that a key of the entries or a regular expression on the names makes."""
    if any(group in image for image in listed):
        without = next((name for name, image in zip(names, listed, strict=True) if image.get(group) is None), None)
        if without is not None:
            raise InputError(f"The image {without} lacks the key '{group}', which says its group.")
        return [shown(image[group]) for image in listed]
    try:
        found = [re.search(group, name) for name in names]
    except re.error as error:
        raise InputError(f"'{group}' is no key of the images and no regular expression ({error}).") from None
    matches = []
    for name, match in zip(names, found, strict=True):
        if match is None:
            raise InputError(f"'{group}' is no key of the images, and is not found in the name {name}.")
        matches.append(shown(match.groups() or match[0]))
    return matches


def _seen(names: Sequence[str], folder: Path) -> list[str]:
    """Return the same group for images that look nearly the same: the first name of each such group."""
    places = locate(folder, list(names))
    prints = [fingerprint(read_image(places[name])) for name in names]
    pairs = np.array([*similar_pairs(prints)], dtype=int).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(names), len(names)))
    labels = connected_components(graph, directed=False)[1]
    first: dict[int, str] = {}
    for label, name in zip(labels, names, strict=True):
        first[label] = min(name, first.get(label, name))
    return [first[label] for label in labels]


def _places(names: Sequence[str], shares: Sequence[float], seed: int) -> list[int]:
    """Return the number of the part of each image.

    Groups are dealt in an order drawn by the seed, each to the part that lacks most of its share; then a group changes
    its part as long as that brings the counts nearer to the shares.
    """
    if not names:
        raise InputError("There are no images to split.")
    groups = sorted({*names}, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode("utf-8", "replace")).digest())
    number = {name: i for i, name in enumerate(groups)}
    sizes = np.bincount([number[name] for name in names], minlength=len(groups))
    wanted = np.array(shares) * len(names)
    lacking = wanted.copy()
    part_of = np.zeros(len(groups), dtype=int)
    for i, size in enumerate(sizes):
        part_of[i] = np.argmax(lacking / wanted)
        lacking[part_of[i]] -= size
    while (move := _best_move(sizes, part_of, lacking)) is not None:
        group, target = move
        lacking[part_of[group]] += sizes[group]
        lacking[target] -= sizes[group]
        part_of[group] = target
    return [int(part_of[number[name]]) for name in names]


def _best_move(sizes: np.ndarray, part_of: np.ndarray, lacking: np.ndarray) -> tuple[int, int] | None:
    """Return the group and the new part that lessen the squared distance to the shares most; None: none does."""
    # from part a to b by size s: (la + s)^2 + (lb - s)^2 - la^2 - lb^2 = 2 s (s + la - lb)
    change = 2 * sizes[:, None] * (sizes[:, None] + lacking[part_of][:, None] - lacking[None])  # (G, P)
    change[np.arange(len(sizes)), part_of] = 0
    group, target = np.unravel_index(np.argmin(change), change.shape)
    return (int(group), int(target)) if change[group, target] < -1e-6 else None


def _owners(content: dict[str, Any], places: Sequence[int]) -> list[int]:
    """Return the number of the part of each annotation, that of its image."""
    ids = [identity(image["id"], f"'id' of image {i}") for i, image in enumerate(content["images"])]
    if (twice := repeated(ids)) is not None:
        raise InputError(f"The image id {shown(twice)} stands twice; number the images anew.")
    known, place_of = Known(ids), dict[Id, int](zip(ids, places, strict=True))
    owners = []
    for i, annotation in enumerate(entries(content.get("annotations") or [], ("image_id",), "annotation")):
        image_id = known.find(annotation["image_id"])
        if image_id is None:
            raise InputError(f"Annotation {i} belongs to image {shown(annotation['image_id'])}, not in 'images'.")
        owners.append(place_of[image_id])
    return owners


def _part(content: dict[str, Any], places: Sequence[int], owners: Sequence[int], numbers: set[int]) -> dict[str, Any]:
    """Return the content with the images and annotations of some parts, and all else as it is."""
    annotations = content.get("annotations") or []
    return content | {
        "images": [image for image, place in zip(content["images"], places, strict=True) if place in numbers],
        "annotations": [one for one, owner in zip(annotations, owners, strict=True) if owner in numbers],
    }
