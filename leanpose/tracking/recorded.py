"""smooth_recorded: the least jitter, for recordings, where what comes next is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from leanpose.errors import InputError
from leanpose.structures import LEAST, Frame, Poses
from leanpose.tracking.points import check_ids, check_time, joined, points_of, weights_of, with_points

FILLED_WEIGHT = 0.25  # of a place between two found ones, beside 1 for a certain one
RIDGE = 1e-3  # holds the polynomial down where few frames say how it bends


def smooth_recorded(frames: Iterable[Frame], window_s: float = 0.4, gap_s: float = 0.3) -> Iterator[Frame]:
    """Smooth the keypoints of each identity by local polynomials of second degree, and fill short gaps.

    As Savitzky and Golay (1964) do, a keypoint goes to the value of the polynomial that fits best around its time; it
    is fitted on times, so frame rates may vary, and frames count by score (fully from twice `Poses.least_score` on) and
    by nearness in time (tricube weights, Cleveland 1979). Boxes are smoothed like keypoints, scores stay.

    A gap is a time of at most gap_s between two frames that have a keypoint, in which it is absent or below the least
    score. What is filled into it has exactly the least score, so it counts as there and can be told from what was
    found. An identity that is missing that long comes back into its frames, after the others, with the least score as
    its person score.

    Results come window_s / 2 + gap_s later than frames, and only frames of twice that time are in memory (images of
    half of them).

    Args:
        frames: of one video, in order, with ids of a Tracker.
        window_s: seconds from the first to the last frame that a polynomial sees.
        gap_s: longest gap that is filled, seconds.

    Yields:
        Every frame, in order.

    Raises:
        InputError: persons have no ids, two of a frame the same, or times fall.
    """
    if not 0 < window_s < np.inf or not 0 <= gap_s < np.inf:
        raise InputError(f"window_s must be above 0 and gap_s at least 0 seconds, not {window_s} and {gap_s}.")
    return _smoothed(frames, window_s / 2, gap_s)


@dataclass(frozen=True, eq=False)
class _Seen:
    """The N persons of one frame.

    Attributes:
        frame: without its image, once it is given out.
        rows: row of each id.
        points: (N, P, 2) keypoints and box corners.
        weights: (N, P), 0 where a point is absent.
        there: (N, P) whether it counts as there.
    """

    frame: Frame
    rows: dict[int, int]
    points: np.ndarray
    weights: np.ndarray
    there: np.ndarray


def _seen(frame: Frame) -> _Seen:
    poses = frame.poses
    check_ids(poses)
    points = points_of(poses)
    known = np.isfinite(points).all(axis=2)
    there = known & np.pad(poses.scores >= poses.least_score(), ((0, 0), (0, 2)), constant_values=True)
    rows = {} if poses.ids is None else {identity: row for row, identity in enumerate(poses.ids.tolist())}
    return _Seen(frame, rows, points, weights_of(poses) * known, there)


def _smoothed(frames: Iterable[Frame], half_s: float, gap_s: float) -> Iterator[Frame]:
    reach = half_s + gap_s
    past: deque[_Seen] = deque()
    coming: deque[_Seen] = deque()
    latest = -np.inf

    def next_frame() -> Frame:
        seen = coming.popleft()
        past.append(replace(seen, frame=replace(seen.frame, image=None)))
        while past[0].frame.time_s < seen.frame.time_s - reach:
            past.popleft()
        return replace(seen.frame, poses=_smooth_middle([*past, *coming], len(past) - 1, half_s, gap_s))

    for frame in frames:
        latest = check_time(frame.time_s, latest)
        coming.append(_seen(frame))
        while coming[0].frame.time_s + reach < latest:
            yield next_frame()
    while coming:
        yield next_frame()


def _smooth_middle(near: Sequence[_Seen], middle: int, half_s: float, gap_s: float) -> Poses:
    """Return the smoothed poses of one of some frames."""
    times = np.array([seen.frame.time_s for seen in near])
    here = list(near[middle].rows)
    others = sorted({identity for seen in near for identity in seen.rows} - {*here})
    persons = [_smooth_person(near, times, identity, middle, half_s, gap_s) for identity in [*here, *others]]
    there = [person for person in persons if person is not None]
    return joined(there) if there else near[middle].frame.poses


def _smooth_person(
    near: Sequence[_Seen], times: np.ndarray, identity: int, middle: int, half_s: float, gap_s: float
) -> Poses | None:
    """Return one person of one of T frames, smoothed and filled, Poses of length one; None: it is not there.

    Args:
        times: (T,) seconds.
    """
    numbers = np.array([number for number, seen in enumerate(near) if identity in seen.rows])
    rows = [near[number].rows[identity] for number in numbers]
    shape = (len(near), near[0].points.shape[1])
    places, weights, there = np.full((*shape, 2), np.nan), np.zeros(shape), np.zeros(shape, dtype=bool)
    for number, row in zip(numbers, rows, strict=True):
        seen = near[number]
        places[number], weights[number], there[number] = seen.points[row], seen.weights[row], seen.there[row]
    filled = _fill(places, weights, there, times, gap_s)[middle]
    here = middle in numbers
    if not here and not filled[-1]:
        return None
    fitted = _fitted(places, weights, (times - times[middle]) / half_s)
    nearest = int(np.abs(times[numbers] - times[middle]).argmin())
    pose = near[numbers[nearest]].frame.poses[rows[nearest]]
    smooth = with_points(pose, np.where(np.isfinite(places[middle]), fitted, np.nan)[None])
    least, raw, filled = np.float32(pose.least_score()), pose.raw_scores, filled[:-2]
    return replace(
        smooth,
        scores=np.where(filled, least, pose.scores * here),
        raw_scores=None if raw is None else np.where(filled, np.float32(LEAST), raw * here),
        person_scores=pose.person_scores if here else np.full(1, least),
    )


def _fill(places: np.ndarray, weights: np.ndarray, there: np.ndarray, times: np.ndarray, gap_s: float) -> np.ndarray:
    """Lay straight lines into the gaps of places (T, P, 2), with weights (T, P), in place; return the gaps (T, P)."""
    numbers = np.arange(len(times))[:, None]
    before = np.maximum.accumulate(np.where(there, numbers, -1), axis=0)
    after = np.minimum.accumulate(np.where(there, numbers, len(times))[::-1], axis=0)[::-1]
    t, p = np.nonzero(~there & (before >= 0) & (after < len(times)))
    start, stop = before[t, p], after[t, p]
    lengths = times[stop] - times[start]
    short = (lengths > 0) & (lengths <= gap_s + 1e-9)
    t, p, start, stop, lengths = (values[short] for values in (t, p, start, stop, lengths))
    shares = ((times[t] - times[start]) / lengths)[:, None]
    places[t, p] = (1 - shares) * places[start, p] + shares * places[stop, p]
    weights[t, p] = FILLED_WEIGHT
    gaps = np.zeros_like(there)
    gaps[t, p] = True
    return gaps


def _fitted(places: np.ndarray, weights: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return (P, 2) the values at 0 of the polynomials that fit places (T, P, 2) best.

    Args:
        weights: (T, P), 0 where a place is NaN.
        offsets: (T,) times in half windows.
    """
    near = np.abs(offsets) < 1
    offsets, places, weights = offsets[near], np.nan_to_num(places[near]), weights[near]
    weights = weights * (1 - np.abs(offsets) ** 3)[:, None] ** 3
    powers = offsets[:, None] ** np.arange(3)  # (T, 3)
    squares = np.einsum("tp,ti,tj->pij", weights, powers, powers)
    squares += RIDGE * np.diag([0, 1, 1]) * squares[:, :1, :1] + 1e-12 * np.eye(3)
    products = np.einsum("tp,ti,tpc->pic", weights, powers, places)
    fitted: np.ndarray = np.linalg.solve(squares, products)[:, 0]
    return fitted
