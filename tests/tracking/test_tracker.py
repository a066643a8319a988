"""Tracker: ids of walking figures that cross, are hidden, are found twice, weakly or not at all."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from walkers import RATE, found_poses, poses_of, walker

from leanpose.errors import InputError
from leanpose.keypoint_sets import LSP
from leanpose.metrics.over_time import identity_figures
from leanpose.structures import Poses
from leanpose.tracking import Tracker
from leanpose.tracking.points import joined

SECONDS = np.arange(120) / RATE
# two who cross, one behind them who is hidden in the middle, one who stands
CROWD = np.stack(
    [
        walker(SECONDS, 60, 170, 200, 300),
        walker(SECONDS, 740, -150, 190, 320),
        walker(SECONDS, 330, 60, 60, 180),
        walker(SECONDS, 900, 0, 150, 280),
    ],
    axis=1,
)
HIDDEN = range(45, 75)
ONE = walker(SECONDS, 100, 60, 50, 200)[:, None]


def crowd(step: int = 1, dropouts: float = 0.05) -> tuple[list[Poses], list[Poses], list[float]]:
    """Return true and found poses, and times, of every step-th frame; who is behind somebody is not found."""
    random = np.random.default_rng(7)
    truth, found, times = [], [], []
    for i in range(0, len(CROWD), step):
        there = np.array([k for k in range(4) if k != 2 or i not in HIDDEN])
        truth.append(poses_of(CROWD[i, there], there))
        covered = np.abs(CROWD[i, 0, 0, 0] - CROWD[i, 1, 0, 0]) < 60
        seen = [k for k in there if not (k == 0 and covered) and (i == 0 or random.random() > dropouts)]
        found.append(found_poses(CROWD[i, seen], random))
        times.append(SECONDS[i])
    return truth, found, times


def ids_of(tracker: Tracker, frames: list[Poses], times: list[float]) -> list[list[int]]:
    return [sorted(tracker(poses, time).ids.tolist()) for poses, time in zip(frames, times, strict=True)]  # type: ignore[union-attr]


@pytest.mark.parametrize("step", [1, 2, 4])  # 30, 15 and 7.5 frames a second
def test_ids_stay_with_persons_who_cross_or_are_hidden_for_a_second(step: int) -> None:
    truth, found, times = crowd(step)
    tracker = Tracker()
    figures = identity_figures(truth, [tracker(poses, time) for poses, time in zip(found, times, strict=True)])
    assert figures["switches"] == 0
    assert figures["ids"] == 4
    assert figures["IDF1"] > 0.93


def test_times_may_be_uneven() -> None:
    random = np.random.default_rng(3)
    frames = np.sort(random.choice(len(CROWD), 60, replace=False))
    tracker, truth, found = Tracker(), [], []
    for i in frames:
        truth.append(poses_of(CROWD[i], np.arange(4)))
        found.append(tracker(found_poses(CROWD[i], random), SECONDS[i]))
    figures = identity_figures(truth, found)
    assert (figures["switches"], figures["ids"]) == (0, 4)
    assert figures["recall"] > 0.98  # two are one where they cross


@pytest.mark.parametrize(("unseen_s", "same"), [(0.9, True), (1.4, True), (1.6, False)])
def test_an_identity_lives_as_long_as_said(unseen_s: float, same: bool) -> None:
    tracker = Tracker(occlusion_s=1.5)
    who = poses_of(ONE[0])
    ids = ids_of(tracker, [who] * 4, [0, 0.1, 0.1 + unseen_s, 0.2 + unseen_s])
    assert ids[-1] == ([1] if same else [2])
    assert len(tracker._identities) == 1


def test_who_comes_later_is_confirmed_when_seen_twice_in_succession() -> None:
    nobody, who, other = poses_of(ONE[:0, 0]), poses_of(ONE[0]), poses_of(CROWD[0, 3:])
    times = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert ids_of(Tracker(), [nobody, who, nobody, who, who, who], times) == [[], [], [], [], [1], [1]]
    assert ids_of(Tracker(), [who, joined([who, other]), who, who], times[:4]) == [[1]] * 4


def test_one_person_found_twice_is_one_identity() -> None:
    tracker, random = Tracker(), np.random.default_rng(0)
    for i in range(30):
        once = found_poses(ONE[i], random)
        upper = replace(
            once,
            boxes_xyxy=once.boxes_xyxy * np.array([1, 1, 1, 0.6], np.float32),
            person_scores=once.person_scores - 0.1,
        )
        legs = np.arange(17) >= 13  # are outside of the box of the upper half, and guessed
        guessed = np.where(
            legs[:, None], once.keypoints + np.array([15, -60], np.float32), once.keypoints + np.float32(3)
        )
        upper = replace(upper, keypoints=guessed, scores=np.where(legs, np.float32(0.15), once.scores))
        assert tracker(joined([upper, once]), SECONDS[i]).ids == [1]


def test_weak_persons_go_on_but_start_nothing() -> None:
    weak = [poses_of(ONE[i], score=0.25) for i in range(9)]
    times = SECONDS[:9].tolist()
    assert ids_of(Tracker(), weak, times) == [[]] * 9
    assert ids_of(Tracker(), [poses_of(ONE[0]), *weak[1:]], times) == [[1]] * 9
    assert ids_of(Tracker(keep_score=0.3), [poses_of(ONE[0]), *weak[1:]], times) == [[1], *[[]] * 8]
    elsewhere = poses_of(ONE[1] + 35, score=0.25)  # as like as a strong one may be
    assert ids_of(Tracker(), [poses_of(ONE[0]), elsewhere], times[:2]) == [[1], []]
    assert ids_of(Tracker(), [poses_of(ONE[0]), poses_of(ONE[1] + 35)], times[:2]) == [[1], [1]]


def test_persons_are_those_given_in_their_order() -> None:
    tracker, poses = Tracker(), found_poses(CROWD[0], np.random.default_rng(0))
    raw = replace(poses, raw_scores=poses.scores / 2)
    result = tracker(raw, 0.0)
    assert result.ids is not None and result.ids.dtype == np.int64
    np.testing.assert_array_equal(result.ids, [1, 2, 3, 4])
    np.testing.assert_array_equal(result.keypoints, poses.keypoints)
    np.testing.assert_array_equal(result.raw_scores, raw.raw_scores)
    assert tracker(poses[:0], 0.1).ids.shape == (0,)  # type: ignore[union-attr]


def test_absent_keypoints_do_not_matter() -> None:
    tracker, random = Tracker(), np.random.default_rng(0)
    for i in range(20):
        poses = found_poses(CROWD[i], random)
        poses.keypoints[random.random(poses.scores.shape) < 0.4] = np.nan
        assert set(tracker(poses, SECONDS[i]).ids.tolist()) == {1, 2, 3, 4}  # type: ignore[union-attr]
    nothing = replace(poses, keypoints=np.full_like(poses.keypoints, np.nan))
    assert len(tracker(nothing, SECONDS[20])) == 4  # boxes say enough
    assert np.isfinite(tracker.boxes(SECONDS[21])).all()


def test_boxes_are_where_persons_will_be() -> None:
    tracker = Tracker()
    assert tracker.boxes(0.0).shape == (0, 4)
    for i in range(30):
        tracker(poses_of(CROWD[i]), SECONDS[i])
    boxes = tracker.boxes(SECONDS[30])
    assert boxes.dtype == np.float32
    for box, keypoints in zip(boxes, CROWD[30], strict=True):
        assert (keypoints > box[:2]).all() and (keypoints < box[2:]).all()
        assert box[3] - box[1] < 1.3 * np.ptp(keypoints[:, 1])
    later = tracker.boxes(SECONDS[30] + 0.2) - boxes
    assert 20 < later[0, 0] < 34 and -30 < later[1, 0] < -17  # 170 and -150 pixels a second, damped
    tracker(poses_of(CROWD[30, 1:]), SECONDS[30])
    assert len(tracker.boxes(SECONDS[31])) == 3  # not where nobody was found


def test_detection_is_due_where_something_changed() -> None:
    tracker = Tracker()
    assert tracker.due()
    two = joined([poses_of(ONE[0]), poses_of(CROWD[0, 3:])])
    tracker(two, 0.0)
    assert not tracker.due()
    tracker(two[:1], 0.1)
    assert tracker.due()  # somebody was lost
    tracker(two[:1], 0.2)
    assert not tracker.due()
    tracker(replace(two[:1], person_scores=np.full(1, 0.3, np.float32)), 0.3)
    assert tracker.due()  # a score fell
    tracker(two[:0], 5.0)
    assert tracker.due()  # nobody is known


def test_state_is_small_and_can_be_pickled() -> None:
    _, found, times = crowd()
    tracker = Tracker()
    size = 0
    for poses, time in zip(found, times, strict=True):
        tracker(poses, time)
        tracker = pickle.loads(pickle.dumps(tracker))
        size = size or len(pickle.dumps(tracker))
    assert len(pickle.dumps(tracker)) < 1.2 * size
    assert tracker._next_id == 5


@pytest.mark.parametrize("time_s", [0.9, np.nan, np.inf])
def test_times_that_fall_are_refused(time_s: float) -> None:
    tracker = Tracker()
    tracker(poses_of(ONE[0]), 1.0)
    with pytest.raises(InputError, match="do not fall"):
        tracker(poses_of(ONE[0]), time_s)
    tracker(poses_of(ONE[0]), 1.0)


def test_bad_use_is_refused() -> None:
    for wrong in ({"start_score": 0.1}, {"keep_score": -1}, {"start_score": 2}):
        with pytest.raises(InputError, match="keep_score <= start_score"):
            Tracker(**wrong)
    with pytest.raises(InputError, match="occlusion_s"):
        Tracker(occlusion_s=-1)
    tracker = Tracker()
    tracker(poses_of(ONE[0]), 0)
    with pytest.raises(InputError, match="lsp keypoints and those before coco"):
        tracker(poses_of(ONE[0]).to(LSP), 0.1)
