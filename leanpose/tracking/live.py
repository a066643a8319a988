"""LiveSmoother: less jitter at once, for cameras."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from leanpose.errors import InputError
from leanpose.structures import Poses
from leanpose.tracking.matching import sizes
from leanpose.tracking.points import check_ids, check_time, points_of, weights_of, with_points

SPEED_CUTOFF_HZ = 3.0  # of the filter of speeds
FORGET_S = 2.0  # seconds after which an unseen identity starts anew


@dataclass
class _Filtered:
    """One identity.

    Attributes:
        time_s: when it was seen last.
        places: (P, 2) pixels, filtered; NaN before a point was seen.
        speeds: (P, 2) pixels a second, filtered.
    """

    time_s: float
    places: np.ndarray
    speeds: np.ndarray


class LiveSmoother:
    """Smooth the keypoints of each identity with a One-Euro filter (Casiez, Roussel, Vogel, CHI 2012).

    The filter goes along with the body, at the median speed of its points, so a walking person lags little; what a
    keypoint does beside that is averaged, over long when it rests and over short when it moves: the cutoff frequency is
    min_cutoff + beta times its speed in sizes of the person a second (a size is the root of the area of the box), so
    that far and near persons behave alike. A keypoint whose score is below twice the least score (`Poses.least_score`)
    moves the filter by so much less. Boxes are smoothed too, scores stay. Absent keypoints (NaN) stay absent.

    The state is as large as the number of identities seen in the last two seconds, and can be pickled.

    Args:
        min_cutoff: Hz, of what rests; lower is smoother.
        beta: Hz per size a second; higher follows movement with less lag.

    Raises:
        InputError: min_cutoff is not above 0, or beta below it.
    """

    def __init__(self, min_cutoff: float = 4.0, beta: float = 3.0) -> None:
        if not (0 < min_cutoff < math.inf and 0 <= beta < math.inf):
            raise InputError(f"min_cutoff must be above 0 and beta at least 0 Hz, not {min_cutoff} and {beta}.")
        self.min_cutoff, self.beta = min_cutoff, beta
        self._time_s = -math.inf
        self._filtered: dict[int, _Filtered] = {}

    def __call__(self, poses: Poses, time_s: float) -> Poses:
        """Return the poses of one image, smoothed.

        Args:
            poses: with ids, of a Tracker.
            time_s: when the image was taken, in seconds; the same or later than in the call before.

        Raises:
            InputError: persons have no ids, or two the same, or time falls or is no number.
        """
        check_ids(poses)
        self._time_s = check_time(time_s, self._time_s)
        self._filtered = {i: one for i, one in self._filtered.items() if time_s - one.time_s <= FORGET_S}
        if not len(poses):
            return poses
        points, weights = points_of(poses), weights_of(poses)
        steps = zip(poses.ids.tolist(), points, weights, sizes(poses.boxes_xyxy), strict=True)  # type: ignore[union-attr]
        smoothed = np.stack([self._step(i, place, weight, size, time_s) for i, place, weight, size in steps])
        return with_points(poses, np.where(np.isfinite(points), smoothed, points))

    def _step(self, identity: int, places: np.ndarray, weights: np.ndarray, size: float, time_s: float) -> np.ndarray:
        """Return filtered places (P, 2) of an identity after new ones."""
        if identity not in self._filtered:
            self._filtered[identity] = _Filtered(time_s, places.copy(), np.zeros_like(places))
        one = self._filtered[identity]
        there = np.isfinite(places).all(axis=1)
        passed, one.time_s = time_s - one.time_s, time_s
        if passed > 0:
            weights = weights[:, None]
            known = there & np.isfinite(one.places).all(axis=1)
            body = np.median(one.speeds, axis=0)
            moves = (places - one.places) / passed - one.speeds
            speeds = one.speeds + weights * _share(SPEED_CUTOFF_HZ, passed) * moves
            one.speeds = np.where(known[:, None], speeds, body)
            relative = np.linalg.norm(one.speeds - body, axis=1, keepdims=True) / size
            share = weights * _share(self.min_cutoff + self.beta * relative, passed)
            one.places += body * passed
            one.places += share * np.where(known[:, None], places - one.places, 0)
        new = there & ~np.isfinite(one.places).all(axis=1)
        one.places[new] = places[new]
        return one.places.copy()


def _share(cutoff_hz: np.ndarray | float, passed_s: float) -> Any:
    """Return the share of a new value in a first-order low-pass filter."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff_hz * passed_s))
