"""Left and right swapped in annotations, found by a network that looks at the annotated persons."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np
from tqdm import tqdm

from leanpose.data.lenient import Finding, LenientSet
from leanpose.errors import InputError
from leanpose.inference.predictor import Predictor
from leanpose.keypoint_sets import KeypointSet, mapping
from leanpose.structures import Poses

LEAST_PAIRS = 2  # of keypoints with two sides that file and network share, for a check
NEAR = 0.1  # of the square root of the box's area: how near an annotated keypoint is to the same one found
LEAST_EVIDENCE = 0.05  # of -1 (all as found) to 1 (all swapped)


def shared_pairs(annotated: KeypointSet, found: KeypointSet) -> np.ndarray:
    """Return which keypoints of a file have two sides and a partner that a network finds too, (K,) bool."""
    known = mapping(found, annotated) >= 0
    two_sided = annotated.flip_index != np.arange(len(annotated))
    return known & known[annotated.flip_index] & two_sided


def evidence(annotated: np.ndarray, found: np.ndarray, scores: np.ndarray, sizes: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Return how much speaks for swapped sides of each person, (N,) from -1 to 1; 0 where nothing is known.

    Each annotated keypoint is near, exp(-d^2 / (2 (NEAR size)^2)), to the same one that was found, or to its partner of
    the other side; their difference is averaged by the scores.

    Args:
        annotated: (N, K, 2) pixels, NaN where unlabelled.
        found: (N, K, 2) pixels, NaN where it is not found.
        scores: (N, K) of what was found.
        sizes: (N,) square root of the boxes' areas, pixels.
        flip: (K,) positions of the partners; those without one do not count.
    """
    squared = [np.sum((annotated - points) ** 2, axis=2) for points in (found, found[:, flip])]  # (N, K) each
    same, swapped = (np.exp(-part / (2 * (NEAR * sizes[:, None]) ** 2)) for part in squared)
    counts = np.isfinite(same) & np.isfinite(swapped) & (flip != np.arange(len(flip)))
    weights = np.where(counts, scores, 0)
    return np.where(counts, weights * (swapped - same), 0).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-6)


def swapped_sides(
    annotated: LenientSet, predictor: Predictor, readable: Sequence[bool]
) -> tuple[list[Finding], dict[int, Poses]]:
    """Find persons whose left and right are swapped.

    Args:
        predictor: a top-down one.
        readable: for each image, whether it can be read and has the size of its annotations.

    Returns:
        The finding, the clearest swap first; and what the network found of each of its persons, in the file's keypoints.

    Raises:
        InputError: the network shares too few keypoints with two sides with the file.
    """
    keypoint_set = annotated.keypoint_set
    pairs = np.zeros(0, bool) if keypoint_set is None else shared_pairs(keypoint_set, predictor.weights.keypoint_set)
    if keypoint_set is None or pairs.sum() < 2 * LEAST_PAIRS:
        raise InputError(
            f"{predictor.weights.name} knows {pairs.sum() // 2} of the file's pairs of left and right, so swapped sides "
            "are not looked for; give --model a network of these keypoints."
        )
    wanted = (annotated.labelled & pairs).any(axis=1) & ~annotated.crowd & (annotated.image_of >= 0)
    wanted &= np.isfinite(annotated.boxes_xyxy).all(axis=1)
    persons = [np.flatnonzero(wanted & (annotated.image_of == image)) for image in range(len(annotated.paths))]
    images = [image for image, some in enumerate(persons) if len(some) and readable[image]]
    flip = np.where(pairs, keypoint_set.flip_index, np.arange(len(pairs)))
    clear: dict[int, tuple[float, Poses]] = {}
    boxes = [annotated.boxes_xyxy[persons[image]] for image in images]
    stream = predictor.stream([annotated.paths[image] for image in images], boxes, on_error="yield")
    with closing(stream) as found:
        for image, result in tqdm(
            zip(images, found, strict=True), "finding keypoints", len(images), unit="image", disable=None
        ):
            if isinstance(result, InputError):  # a box outside its image, which is a finding of its own
                continue
            poses = result[1].to(keypoint_set)
            sizes = np.sqrt(np.prod(poses.boxes_xyxy[:, 2:] - poses.boxes_xyxy[:, :2], axis=1))
            values = evidence(annotated.keypoints[persons[image]], poses.keypoints, poses.scores, sizes, flip)
            for i in np.flatnonzero(values > LEAST_EVIDENCE):
                clear[int(persons[image][i])] = (float(values[i]), poses[int(i)])
    order = sorted(clear, key=lambda person: -clear[person][0])
    cases = tuple(annotated.person_case(person, f" ({clear[person][0]:.2f})") for person in order)
    sentence = (
        f"Left and right look swapped to {predictor.weights.name}, with the evidence in brackets, at most 1; it errs on "
        "some, most on persons seen from behind or upside down."
    )
    found_poses = {person: clear[person][1] for person in order}
    return ([Finding("left and right swapped", "error", sentence, cases)] if cases else []), found_poses
