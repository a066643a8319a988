"""LiveSmoother and smooth_recorded: less jitter, little lag, no larger error; gaps, ends and odd input."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from walkers import RATE, poses_of, walker

from leanpose.errors import InputError
from leanpose.metrics.over_time import jitter, lag_s
from leanpose.structures import Frame, Poses
from leanpose.tracking import LiveSmoother, smooth_recorded

SECONDS = np.arange(150) / RATE
SIZE = (600, 1000)
TRUTH = np.stack([walker(SECONDS, 60, 150, 200, 300), walker(SECONDS, 700, -20, 60, 180)], axis=1)  # (T, 2, 17, 2)
IDS = np.array([3, 8])


def found(noise: float = 0.01, seed: int = 0) -> np.ndarray:
    heights = np.ptp(TRUTH[0, ..., 1], axis=1)[:, None, None]
    return TRUTH + noise * heights * np.random.default_rng(seed).normal(0, 1, TRUTH.shape)


def frames_of(keypoints: np.ndarray, times: np.ndarray = SECONDS) -> list[Frame]:
    return [Frame(i, float(times[i]), poses_of(people, IDS[: len(people)]), SIZE) for i, people in enumerate(keypoints)]


def live(frames: list[Frame]) -> list[Poses]:
    smoother = LiveSmoother()
    return [smoother(frame.poses, frame.time_s) for frame in frames]


def recorded(frames: list[Frame]) -> list[Poses]:
    return [frame.poses for frame in smooth_recorded(frames)]


Smooth = Callable[[list[Frame]], list[Poses]]
BOTH = pytest.mark.parametrize("smooth", [live, recorded])


def places(poses: list[Poses]) -> np.ndarray:
    return np.stack([one.keypoints for one in poses]).astype(np.float64)


@pytest.mark.parametrize(("smooth", "factor", "longest_s"), [(live, 2, 0.05), (recorded, 3, 0.005)])
def test_jitter_falls_with_little_lag_and_no_larger_error(smooth: Smooth, factor: float, longest_s: float) -> None:
    before = found()
    after = places(smooth(frames_of(before)))
    for person in range(2):
        assert jitter((after - TRUTH)[:, person]) < jitter((before - TRUTH)[:, person]) / factor
        assert abs(lag_s(after[:, person], TRUTH[:, person], RATE)) < longest_s
        assert np.std(after[:, person] - TRUTH[:, person]) <= np.std(before[:, person] - TRUTH[:, person])


@BOTH
def test_persons_of_any_size_are_smoothed_alike(smooth: Smooth) -> None:
    small, large = found(), 4 * found()
    np.testing.assert_allclose(places(smooth(frames_of(large))), 4 * places(smooth(frames_of(small))), rtol=1e-3)


@BOTH
def test_low_scores_count_less(smooth: Smooth) -> None:
    certain = frames_of(found(0.002))
    jump = found(0.002)
    jump[60, :, 9] += 40
    weak = frames_of(jump)
    weak[60].poses.scores[:, 9] = 0.05
    strong = frames_of(jump)
    moved = [np.abs(places(smooth(frames)) - places(smooth(certain)))[:, :, 9].max() for frames in (weak, strong)]
    assert moved[0] < moved[1] / 3


def test_keypoints_of_no_score_keep_a_place() -> None:
    frames = frames_of(TRUTH[:30])
    for frame in frames:
        frame.poses.scores[:, 15:] = 0
    np.testing.assert_allclose(places(recorded(frames)), TRUTH[:30], atol=3)


@BOTH
def test_scores_ids_and_order_stay(smooth: Smooth) -> None:
    frames = frames_of(found())
    for before, after in zip(frames, smooth(frames), strict=True):
        np.testing.assert_array_equal(after.ids, IDS)
        np.testing.assert_array_equal(after.scores, before.poses.scores)
        np.testing.assert_array_equal(after.person_scores, before.poses.person_scores)
        assert after.keypoints.dtype == after.boxes_xyxy.dtype == np.float32


@BOTH
def test_one_frame_stays_as_it_is(smooth: Smooth) -> None:
    frame = frames_of(found())[0]
    np.testing.assert_allclose(smooth([frame])[0].keypoints, frame.poses.keypoints, atol=1e-3)
    empty = replace(frame, poses=frame.poses[:0])
    assert len(smooth([empty])[0]) == 0


@BOTH
def test_who_is_who_must_be_known(smooth: Smooth) -> None:
    frame = frames_of(found())[0]
    with pytest.raises(InputError, match="give the poses to a leanpose"):
        smooth([replace(frame, poses=replace(frame.poses, ids=None))])
    with pytest.raises(InputError, match="the same id"):
        smooth([replace(frame, poses=replace(frame.poses, ids=np.array([5, 5])))])
    nobody = replace(frame.poses[:0], ids=None)
    assert len(smooth([replace(frame, poses=nobody)])[0]) == 0


@BOTH
def test_keypoints_that_stay_absent_are_left_so(smooth: Smooth) -> None:
    keypoints = found()
    keypoints[:, 0, 4] = np.nan
    keypoints[:80, 1, 5] = np.nan
    after = places(smooth(frames_of(keypoints)))
    assert (np.isnan(after) == np.isnan(keypoints)).all()
    assert np.abs(after[80:82, 1, 5] - keypoints[80:82, 1, 5]).max() < 8


@BOTH
def test_persons_come_and_go(smooth: Smooth) -> None:
    frames = frames_of(found())
    alone = [replace(f, poses=f.poses[1:]) if f.index < 50 or f.index >= 100 else f for f in frames]
    result = smooth(alone)
    assert [one.ids.tolist() for one in result] == [f.poses.ids.tolist() for f in alone]  # type: ignore[union-attr]
    errors = np.array([one.keypoints[0] - TRUTH[i, 0] for i, one in enumerate(result) if 50 <= i < 100])
    assert np.sqrt((errors**2).mean()) < 4


def test_live_forgets_who_is_gone_and_can_be_pickled() -> None:
    smoother = LiveSmoother()
    frames = frames_of(found())
    for frame in frames[:9]:
        expected = smoother(frame.poses, frame.time_s)
    copy = pickle.loads(pickle.dumps(smoother))
    np.testing.assert_array_equal(
        copy(frames[9].poses, frames[9].time_s).keypoints, smoother(frames[9].poses, frames[9].time_s).keypoints
    )
    smoother(expected[:0], 100.0)
    assert not smoother._filtered
    again = smoother(frames[0].poses, 100.1)
    np.testing.assert_array_equal(again.keypoints, frames[0].poses.keypoints)


def test_recorded_fills_gaps_of_keypoints_and_says_so() -> None:
    keypoints = found(0.002)
    frames = frames_of(keypoints)
    for i in range(60, 68):  # 9 steps of 1 / 30 s between the frames that have it
        frames[i].poses.keypoints[0, 9] = np.nan
        frames[i].poses.scores[0, 10] = 0.1
        frames[i].poses.keypoints[0, 10] += 50
    for i in range(60, 69):
        frames[i].poses.keypoints[1, 9] = np.nan
    result = recorded(frames)
    for i in range(60, 68):
        for keypoint in (9, 10):
            assert result[i].scores[0, keypoint] == np.float32(0.2)
            assert np.linalg.norm(result[i].keypoints[0, keypoint] - TRUTH[i, 0, keypoint]) < 6
        assert result[i].present(SIZE)[0].all()
        assert np.isnan(result[i].keypoints[1, 9]).all()  # too long
    assert result[59].scores[0, 9] == result[68].scores[0, 9] == np.float32(0.8)


def test_recorded_fills_in_persons_who_were_lost_for_a_moment() -> None:
    frames = frames_of(found(0.002))
    lost = [replace(f, poses=f.poses[1:]) if 60 <= f.index < 68 else f for f in frames]
    lost = [replace(f, poses=f.poses[:1]) if 90 <= f.index < 120 else f for f in lost]
    result = recorded(lost)
    assert [len(one) for one in result] == [1 if 90 <= i < 120 else 2 for i in range(150)]
    for i in range(60, 68):
        poses = result[i]
        np.testing.assert_array_equal(poses.ids, [8, 3])  # who was filled in comes last
        assert poses.person_scores[1] == np.float32(0.2) and (poses.scores[1] == np.float32(0.2)).all()
        assert np.linalg.norm(poses.keypoints[1] - TRUTH[i, 0], axis=1).max() < 8
        assert np.abs(poses.boxes_xyxy[1] - frames[i].poses.boxes_xyxy[0]).max() < 6


def test_recorded_marks_what_it_fills_in_calibrated_scores() -> None:
    frames = frames_of(found(0.002))
    frames = [replace(f, poses=replace(f.poses, raw_scores=f.poses.scores / 2)) for f in frames]
    frames[60].poses.keypoints[0, 9] = np.nan
    result = recorded(frames)[60]
    assert result.raw_scores is not None
    assert result.scores[0, 9] == np.float32(0.4) and result.raw_scores[0, 9] == np.float32(0.2)
    assert result.present(SIZE)[0, 9]


def test_recorded_goes_by_times_not_by_numbers_of_frames() -> None:
    random = np.random.default_rng(0)
    chosen = np.sort(random.choice(len(SECONDS), 90, replace=False))
    uneven, even = (places(recorded(frames_of(TRUTH[chosen], times))) for times in (SECONDS[chosen], SECONDS[:90]))
    errors = [np.sqrt(((after - TRUTH[chosen]) ** 2).mean()) for after in (uneven, even)]
    assert errors[0] < errors[1] / 3


def test_recorded_keeps_few_frames_and_every_one() -> None:
    taken: list[int] = []

    def source() -> Iterator[Frame]:
        for frame in frames_of(found()):
            taken.append(frame.index)
            yield replace(frame, image=np.zeros((*SIZE, 3), np.uint8))

    given = 0
    for number, frame in enumerate(smooth_recorded(source(), window_s=0.4, gap_s=0.3)):
        assert frame.index == number and frame.image is not None
        assert len(taken) - given <= 0.5 * RATE + 2  # window_s / 2 + gap_s
        given = number + 1
    assert given == len(SECONDS)


@BOTH
def test_times_must_not_fall(smooth: Smooth) -> None:
    frames = frames_of(found()[:2])
    with pytest.raises(InputError, match="do not fall"):
        smooth(frames[::-1])
    assert len(smooth([frames[0], replace(frames[1], time_s=0.0)])) == 2  # the same time will do


def test_odd_values_are_refused() -> None:
    with pytest.raises(InputError, match="window_s must be above 0"):
        smooth_recorded([], window_s=0)
    with pytest.raises(InputError, match="min_cutoff must be above 0"):
        LiveSmoother(min_cutoff=0)
