"""Fill in what a category of keypoints lacks: pairs that swap in a mirror image, a skeleton, and OKS sigmas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse.csgraph import minimum_spanning_tree

from leanpose.data.sigmas import median_distances, sigmas_by_repetition, sigmas_by_scale
from leanpose.errors import InputError
from leanpose.keypoint_sets import KEYPOINT_SETS, UNMEASURED_SIGMA, KeypointSet, keypoint_set_from_coco, named_sigma


def completed(content: dict[str, Any], sigmas: Sequence[float] | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a content whose category has `flip_pairs`, `skeleton` and `sigmas`, and what was guessed in sentences.

    What was guessed stands in the category under `guessed` too, a key of ours: how, by key. A category with the
    keypoints of a built-in set stays as it is, since all that is known of them comes from the set.

    Args:
        content: as `leanpose.data.formats.read_export` gives it.
        sigmas: one per keypoint, which count in place of all others.

    Raises:
        InputError: the sigmas given do not fit, or the keypoints are those of a built-in set.
    """
    (category,) = content["categories"]
    if not category["keypoints"]:
        return content, ()
    keypoint_set = keypoint_set_from_coco([category], "The annotations")
    if keypoint_set.name in KEYPOINT_SETS and keypoint_set == KEYPOINT_SETS[keypoint_set.name]:
        if sigmas:
            raise InputError(f"The keypoints are those of '{keypoint_set.name}', which has sigmas; leave --sigmas out.")
        return content, ()
    guessed: dict[str, str] = {}
    entry = dict(category)
    if "flip_pairs" not in category:
        entry["flip_pairs"] = _pairs(keypoint_set)
        guessed["flip_pairs"] = _spoken_pairs(entry["flip_pairs"])
    if not category.get("skeleton"):
        entry["skeleton"] = _tree(median_distances(content))
        guessed["skeleton"] = "the shortest tree that joins the keypoints, by their median distances"
    if sigmas:
        if len(sigmas) != len(keypoint_set) or not all(0 < sigma < np.inf for sigma in sigmas):
            raise InputError(f"--sigmas must be {len(keypoint_set)} numbers above 0, one per keypoint.")
        entry["sigmas"] = [*sigmas]
    elif not category.get("sigmas"):
        entry["sigmas"], guessed["sigmas"] = _sigmas(content, keypoint_set)
    if guessed:
        entry["guessed"] = {**category.get("guessed", {}), **guessed}
    notes = tuple(f"'{key}' of '{entry['name']}' is guessed: {how}." for key, how in guessed.items())
    return content | {"categories": [entry]}, notes


def _pairs(keypoint_set: KeypointSet) -> list[list[str]]:
    """Return the pairs of keypoints whose names differ in their side only."""
    names, index = keypoint_set.keypoints, keypoint_set.flip_index
    return [[names[i], names[j]] for i, j in enumerate(index) if i < j]


def _spoken_pairs(pairs: list[list[str]]) -> str:
    if not pairs:
        return "none, since no two names differ in left and right only"
    return f"by left and right in the names, {', '.join(f'{a} with {b}' for a, b in pairs)}"


def _tree(distances: np.ndarray) -> list[list[int]]:
    """Return the minimum spanning tree of distances (K, K) as pairs of numbers from 1; NaN joins nothing."""
    weights = np.where(np.isfinite(distances), np.maximum(distances, 1e-9), 0)
    return [[int(a) + 1, int(b) + 1] for a, b in np.argwhere(minimum_spanning_tree(weights).toarray() > 0)]


def _sigmas(content: dict[str, Any], keypoint_set: KeypointSet) -> tuple[list[float], str]:
    """Return K sigmas and how they come about: by repeated annotation, else by name, else by the scale of the data."""
    repeated, persons = sigmas_by_repetition(content)
    by_name = np.array([named_sigma(name) or np.nan for name in keypoint_set.keypoints])
    ways = (
        (f"from {persons} persons who are annotated more than once", repeated),
        ("by name from COCO and CrowdPose", by_name),
        ("as a part of the distance to the nearest other keypoint", sigmas_by_scale(content)),
        ("as of keypoints that nobody measured", np.full(len(keypoint_set), UNMEASURED_SIGMA)),
    )
    sigmas = np.full(len(keypoint_set), np.nan)
    spoken = []
    for how, values in ways:
        taken = np.isnan(sigmas) & np.isfinite(values)
        sigmas = np.where(taken, values, sigmas)
        if taken.any():
            names = ", ".join(name for name, its in zip(keypoint_set.keypoints, taken, strict=True) if its)
            spoken.append(f"{how}: {names}")
    return [round(float(sigma), 4) for sigma in sigmas], "; ".join(spoken)
