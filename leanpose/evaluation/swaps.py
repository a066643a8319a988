"""Left and right swapped in annotations, found by a network that looks at the annotated persons."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from leanpose.data.lenient import Finding, LenientSet, Level
from leanpose.errors import InputError
from leanpose.geometry import Size
from leanpose.inference.predictor import Predictor
from leanpose.io.images import Source, read_image
from leanpose.keypoint_sets import KeypointSet, mapping, side_and_part
from leanpose.structures import Poses

LEAST_PAIRS = 2  # of keypoints with two sides that file and network share, for a check
NEAR = 0.1  # of the square root of the box's area: how near an annotated keypoint is to the same one found
LEAST_EVIDENCE = 0.02  # of -1 (all as found) to 1 (all swapped)
MOST_ERRORS = 0.05  # share of persons on whom a network may err: up to it, swapped ones are a warning
UPPER = ("top_head", "head", "head_top", "neck", "upper_neck", "thorax", "nose", "eye", "ear", "shoulder")
LOWER = ("hip", "pelvis", "mid_hip")
LYING = 1.2  # more sideways than up or down, from the hips to the head, of a person who lies


def shared_pairs(annotated: KeypointSet, found: KeypointSet) -> np.ndarray:
    """Return which keypoints of a file have two sides and a partner that a network finds too, (K,) bool."""
    known = mapping(found, annotated) >= 0
    two_sided = annotated.flip_index != np.arange(len(annotated))
    return known & known[annotated.flip_index] & two_sided


def evidence(
    annotated: np.ndarray, found: np.ndarray, scores: np.ndarray, sizes: np.ndarray, flip: np.ndarray
) -> np.ndarray:
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
        readable: for each image, whether it can be read and has the size of its annotations, which must be known.

    Returns:
        The finding, the clearest swap first; and what the network found of its persons, in the file's keypoints.

    Raises:
        InputError: the network shares too few keypoints with two sides with the file.
    """
    keypoint_set = annotated.keypoint_set
    pairs = np.zeros(0, bool) if keypoint_set is None else shared_pairs(keypoint_set, predictor.weights.keypoint_set)
    if keypoint_set is None or pairs.sum() < 2 * LEAST_PAIRS:
        raise InputError(
            f"{predictor.weights.name} knows {pairs.sum() // 2} of the file's pairs of left and right, so swapped "
            "sides are not looked for; give --model a network of these keypoints."
        )
    jobs = _jobs(annotated, pairs, readable)
    flip = np.where(pairs, keypoint_set.flip_index, np.arange(len(pairs)))
    clear: dict[int, tuple[float, Poses]] = {}
    sources = (_turned_image(annotated, job) for job in jobs)
    boxes = [_turned_boxes(annotated, job) for job in jobs]
    with closing(predictor.stream(sources, boxes, on_error="yield")) as stream:
        for job, result in tqdm(
            zip(jobs, stream, strict=True), "finding keypoints", len(jobs), unit="image", disable=None
        ):
            if isinstance(result, InputError):  # the file has changed since it was looked at
                continue
            poses = _turned_back(result[1].to(keypoint_set), job, result[0].shape[:2], annotated)
            sizes = np.sqrt(np.prod(poses.boxes_xyxy[:, 2:] - poses.boxes_xyxy[:, :2], axis=1))
            values = evidence(annotated.keypoints[job.persons], poses.keypoints, poses.scores, sizes, flip)
            for i in np.flatnonzero(values > LEAST_EVIDENCE):
                clear[int(job.persons[i])] = (float(values[i]), poses[int(i)])
    order = sorted(clear, key=lambda person: -clear[person][0])
    cases = tuple(annotated.person_case(person, f" ({clear[person][0]:.2f})") for person in order)
    sentence = (
        f"Left and right look swapped to {predictor.weights.name}, which errs on some persons; the evidence, at most "
        "1, is in brackets."
    )
    found_poses = {person: clear[person][1] for person in order}
    level: Level = "error" if len(cases) > MOST_ERRORS * sum(len(job.persons) for job in jobs) else "warning"
    return ([Finding("left and right swapped", level, sentence, cases)] if cases else []), found_poses


@dataclass(frozen=True, eq=False)
class _Job:
    """Persons of one image who are seen together: `turns` quarter turns, counter-clockwise, set them upright."""

    image: int
    turns: int
    persons: np.ndarray


def _jobs(annotated: LenientSet, pairs: np.ndarray, readable: Sequence[bool]) -> list[_Job]:
    """Return whom to look at: persons with a box and a labelled keypoint of a pair, in images that can be read."""
    wanted = (annotated.labelled & pairs).any(axis=1) & ~annotated.crowd & (annotated.image_of >= 0)
    wanted &= np.isfinite(annotated.boxes_xyxy).all(axis=1)
    turns = _turns(annotated)
    together: dict[tuple[int, int], list[int]] = {}
    for person in np.flatnonzero(wanted).tolist():
        image = int(annotated.image_of[person])
        if readable[image] and _overlap(annotated.boxes_xyxy[person], annotated.sizes[image]):
            together.setdefault((image, int(turns[person])), []).append(person)
    return [_Job(image, turn, np.array(persons)) for (image, turn), persons in sorted(together.items())]


def _overlap(box: np.ndarray, size: Size | None) -> bool:
    """Whether a part of a box lies in an image of (height, width)."""
    return size is not None and bool((box[:2] < np.array(size[::-1]) - 1).all() and (box[2:] > 0).all())


def _turns(annotated: LenientSet) -> np.ndarray:
    """Return (N,) the quarter turns that set each person upright, by annotated heads, shoulders and hips.

    Networks see few persons upside down in training, and take their sides for swapped.
    """
    assert annotated.keypoint_set is not None
    parts = [side_and_part(name)[1] for name in annotated.keypoint_set.keypoints]
    upper, lower = (annotated.keypoints[:, [part in some for part in parts]] for some in (UPPER, LOWER))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of persons without such keypoints
        x, y = (np.nanmean(upper, axis=1) - np.nanmean(lower, axis=1)).T
    level = np.abs(x) > LYING * np.abs(y)
    return np.select([level & (x > 0), level & (x < 0), ~level & (y > 0)], [1, 3, 2], 0)


def _turned_image(annotated: LenientSet, job: _Job) -> Source:
    path = annotated.paths[job.image]
    return np.rot90(read_image(path), job.turns) if job.turns else path


def _turned(points: np.ndarray, turns: int, size: Size) -> np.ndarray:
    """Return (..., 2) points of an image of (height, width) where they lie after quarter turns, counter-clockwise."""
    height, width = size
    x, y = points[..., 0], points[..., 1]
    places = ((x, y), (y, width - 1 - x), (width - 1 - x, height - 1 - y), (height - 1 - y, x))
    return np.stack(places[turns % 4], axis=-1)


def _turned_boxes(annotated: LenientSet, job: _Job) -> np.ndarray:
    size = annotated.sizes[job.image]
    assert size is not None  # of every image that can be read
    corners = _turned(annotated.boxes_xyxy[job.persons].reshape(-1, 2, 2), job.turns, size)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _turned_back(poses: Poses, job: _Job, size: Size, annotated: LenientSet) -> Poses:
    """Return poses of a turned image, of this (height, width), in pixels of the image as it is."""
    keypoints = _turned(poses.keypoints, -job.turns, size).astype(np.float32)
    return replace(poses, keypoints=keypoints, boxes_xyxy=annotated.boxes_xyxy[job.persons].astype(np.float32))
