"""Tracker: the same person in successive images gets the same id."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from leanpose import geometry
from leanpose.errors import InputError
from leanpose.structures import Poses
from leanpose.tracking.matching import assign, keypoint_likeness, likeness, without_doubles
from leanpose.tracking.points import check_time, joined

LEAST_LIKENESS = 0.15  # of a person and an identity that may be the same
LEAST_WEAK_LIKENESS = 0.5  # the same of a weak person
DOUBLE = 0.75  # likeness of keypoints above which two found persons are one
NEW_DOUBLE = 0.5  # the same of somebody who would start an identity beside one that was just seen
STRAY_PER_S = 0.5  # sizes a second that a person may go from where motion puts it
DAMPING_S = 1.0  # seconds in which an unseen person's velocity falls to 1/e
VELOCITY_S = 0.2  # seconds over which velocity is averaged
BOX_MARGIN = 0.1  # of a box around keypoints, a share of its longer side


@dataclass(eq=False)
class _Identity:
    """A person who was seen.

    Attributes:
        pose: as it was seen last, Poses of length one.
        seen_s: when that was.
        id: None until it is confirmed.
        velocity: (2,) pixels a second.
    """

    pose: Poses
    seen_s: float
    id: int | None = None
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def at(self, time_s: float) -> Poses:
        """Return the pose as it should be at a time: moved at a velocity that falls with the time unseen."""
        shift = self.velocity * DAMPING_S * (1 - math.exp(-(time_s - self.seen_s) / DAMPING_S))
        keypoints = (self.pose.keypoints + shift).astype(np.float32)
        return replace(self.pose, keypoints=keypoints, boxes_xyxy=self.pose.boxes_xyxy + np.tile(shift, 2))

    def see(self, pose: Poses, time_s: float) -> None:
        passed = time_s - self.seen_s
        if passed > 0:
            share = 1 - math.exp(-passed / VELOCITY_S)
            self.velocity = self.velocity + share * (_shift(self.pose, pose) / passed - self.velocity)
        self.pose, self.seen_s = pose, time_s


class Tracker:
    """Give the persons of successive images identities, ids from 1 upwards.

        tracker = Tracker()
        poses = tracker(predictor(image, min_person_score=0.2), time_s)

    Strong persons are matched to identities first, then weak ones to the identities that were seen last time and are
    left, as ByteTrack does with boxes (arXiv 2110.06864). Alike are persons whose keypoints agree (OKS, by scores) and
    whose boxes overlap where constant velocity puts them; who was not seen for a while may be farther away, and comes
    after those who were. Scipy's assignment finds the best pairs. An id is given to who is seen a second time in
    succession, or in the first image; who has none is left out of the result.

    The state is as large as the number of persons seen in the last `occlusion_s`, and can be pickled.

    Args:
        start_score: person score from which on somebody may start an identity; that of the Predictor, 0.35, keeps who
            would be seen without a tracker.
        keep_score: persons below it are left out, whoever they are. Let the Predictor find them (min_person_score).
        occlusion_s: seconds that an identity lives unseen.

    Raises:
        InputError: a score is outside of 0 to 1, or occlusion_s below 0.
    """

    def __init__(self, start_score: float = 0.35, keep_score: float = 0.2, occlusion_s: float = 1.5) -> None:
        if not 0 <= keep_score <= start_score <= 1:
            raise InputError(f"Scores must be 0 <= keep_score <= start_score <= 1, not {keep_score}, {start_score}.")
        if not 0 <= occlusion_s < math.inf:
            raise InputError(f"occlusion_s must be a number of seconds from 0 on, not {occlusion_s}.")
        self.start_score, self.keep_score, self.occlusion_s = start_score, keep_score, occlusion_s
        self._identities: list[_Identity] = []
        self._time_s = -math.inf
        self._next_id = 1
        self._troubled = False

    def __call__(self, poses: Poses, time_s: float) -> Poses:
        """Return the persons of an image that have an identity, in the order of `poses`, with ids (N,) int64.

        Args:
            poses: of all persons of the image, found anew or in the boxes of `boxes`.
            time_s: when the image was taken, in seconds; the same or later than in the call before.

        Raises:
            InputError: time falls or is no number, or the keypoints are others than in the call before.
        """
        self._check(poses, time_s)
        first = self._time_s == -math.inf
        self._identities = [one for one in self._identities if time_s - one.seen_s <= self.occlusion_s]
        usable = without_doubles(poses, DOUBLE)
        strong = [int(i) for i in usable if poses.person_scores[i] >= self.start_score]
        weak = [int(i) for i in usable if self.keep_score <= poses.person_scores[i] < self.start_score]
        recent = [one for one in self._identities if one.id and one.seen_s == self._time_s]

        seen = self._match(self._identities, poses, strong, time_s, LEAST_LIKENESS)
        left = [one for one in recent if one not in seen.values()]
        seen |= self._match(left, poses, weak, time_s, LEAST_WEAK_LIKENESS)
        lost = any(one not in seen.values() for one in recent)
        fell = any(one.pose.person_scores[0] >= self.start_score and i in weak for i, one in seen.items())
        self._troubled = lost or fell

        for i, one in sorted(seen.items()):
            one.see(poses[i], time_s)
            self._confirm(one)
        new = {i: _Identity(poses[i], time_s) for i in self._newcomers(poses, strong, list(seen))}
        for one in new.values() if first else ():
            self._confirm(one)
        self._identities = [one for one in self._identities if one.id] + list(new.values())
        self._time_s = time_s
        return _with_ids(poses, seen | new)

    def boxes(self, time_s: float) -> np.ndarray:
        """Return (N, 4) float32 boxes xyxy in pixels, where the persons of the last call should be at a time, for an
        image without detection.

        A box lies around the keypoints that count as there, moved with the person, and is wider by a tenth of its
        longer side on each side. Who was not seen in the last call has none; who is not yet confirmed has one.
        """
        poses = [one.at(time_s) for one in self._identities if one.seen_s == self._time_s]
        return np.concatenate([_box(pose) for pose in poses]) if poses else np.zeros((0, 4), np.float32)

    def due(self) -> bool:
        """Return whether the next image needs detection: nobody was seen in the last call, or in it somebody's score
        fell below start_score, or somebody was not found again."""
        return self._troubled or all(one.seen_s < self._time_s for one in self._identities)

    def _check(self, poses: Poses, time_s: float) -> None:
        check_time(time_s, self._time_s)
        known = next((one.pose.keypoint_set for one in self._identities), poses.keypoint_set)
        if poses.keypoint_set != known:
            raise InputError(
                f"The poses have {poses.keypoint_set.name} keypoints and those before {known.name}; "
                "take a new Tracker for another network."
            )

    def _match(
        self, identities: list[_Identity], poses: Poses, positions: list[int], time_s: float, least: float
    ) -> dict[int, _Identity]:
        """Return who of the identities is at which of these positions of poses."""
        if not identities or not positions:
            return {}
        strays = STRAY_PER_S * np.array([time_s - one.seen_s for one in identities])
        alike = likeness(joined([one.at(time_s) for one in identities]), poses[np.array(positions)], strays)
        pairs = assign(alike / (1 + 2 * strays[:, None]), alike >= least)
        return {positions[j]: identities[i] for i, j in pairs}

    def _newcomers(self, poses: Poses, strong: list[int], seen: list[int]) -> list[int]:
        """Return the positions of strong persons who were nobody so far, and are no second look at somebody."""
        left = [i for i in strong if i not in seen]
        if not left or not seen:
            return left
        alike = keypoint_likeness(poses[np.array(left)], poses[np.array(seen)]).max(axis=1)
        return [i for i, value in zip(left, alike, strict=True) if value < NEW_DOUBLE]

    def _confirm(self, one: _Identity) -> None:
        if one.id is None:
            one.id, self._next_id = self._next_id, self._next_id + 1


def _with_ids(poses: Poses, identities: dict[int, _Identity]) -> Poses:
    ids = {i: one.id for i, one in sorted(identities.items()) if one.id}
    return replace(poses[np.array(list(ids), dtype=int)], ids=np.array(list(ids.values()), dtype=np.int64))


def _box(pose: Poses) -> np.ndarray:
    """Return (1, 4) float32, the padded box around keypoints that count as there, or the pose's own where none does."""
    there = pose.scores >= pose.least_score()
    around = geometry.boxes_around(np.where(there[..., None], pose.keypoints, np.nan), BOX_MARGIN)
    return np.where(np.isfinite(around), around, pose.boxes_xyxy).astype(np.float32)


def _shift(before: Poses, after: Poses) -> np.ndarray:
    """Return (2,) pixels that a person moved: the median over the keypoints that count as there both times, or where
    none does the shift of the box's center."""
    there = (before.scores >= before.least_score()) & (after.scores >= after.least_score())
    shifts = (after.keypoints - before.keypoints)[there]
    shifts = shifts[np.isfinite(shifts).all(axis=1)]
    if not len(shifts):
        shifts = (after.boxes_xyxy - before.boxes_xyxy).reshape(2, 2)
        return shifts.mean(axis=0)
    return np.median(shifts, axis=0)
