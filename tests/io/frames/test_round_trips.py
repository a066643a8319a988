"""What is written is read again, up to what the table of docs/results-formats.md says that a form cannot hold."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("xarray")
pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from leanpose.io.frames import FORMS, Clip, open_writer, read_frames
from leanpose.io.frames.interface import UNKNOWN_SIZE
from leanpose.io.frames.posetrack import POSETRACK
from leanpose.keypoint_sets import BODY_25, COCO, MPII, KeypointSet
from leanpose.structures import Frame, Poses

DIGITS = {"jsonl": 2, "csv": 2, "parquet": 6, "movement": 6}  # after the point, of places; others have 4
HOLD_BOXES = ("jsonl", "coco", "openpose", "posetrack")  # and sizes of images, and scores of persons
FIXED = {"openpose": BODY_25, "posetrack": POSETRACK}  # forms with keypoints of their own
MADE = ("neck", "mid_hip")  # keypoints that OpenPose's form has from others
NO_ABSENT_SCORES = ("jsonl", "openpose")
NO_TIMES = ("deeplabcut",)

names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
odd_sets = st.lists(names, min_size=1, max_size=4, unique=True).map(
    lambda chosen: KeypointSet("odd", tuple(chosen), (), "made up")
)


@st.composite
def clips(draw: st.DrawFn) -> tuple[KeypointSet, list[Frame]]:
    """Draw frames in which persons come and go, some keypoints are absent, and ids may be None."""
    keypoint_set = draw(st.sampled_from([COCO, MPII]) | odd_sets)
    tracked = draw(st.booleans())
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    frames, index = [], draw(st.integers(0, 3))
    for persons in draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)):
        ids = np.sort(random.choice(50, persons, replace=False)) if tracked else None
        keypoints = random.uniform(0.1, 99, (persons, len(keypoint_set), 2))
        keypoints[random.random(keypoints.shape[:2]) < 0.3] = np.nan
        scores = random.uniform(0.01, 1, keypoints.shape[:2])
        boxes = np.sort(random.uniform(0, 99, (persons, 2, 2)), axis=1).reshape(persons, 4)
        chances = random.uniform(0, 1, persons)
        places, *others = (array.astype(np.float32) for array in (keypoints, scores, boxes, chances))
        poses = Poses(places, others[0], others[1], others[2], keypoint_set, ids)
        frames.append(Frame(index, index / 29.97, poses, (120, 100)))
        index += draw(st.integers(1, 3))
    return keypoint_set, frames


def as_held(form: str, frame: Frame) -> Frame:
    """Return a frame with what a form holds of it."""
    poses = frame.poses.to(FIXED[form]) if form in FIXED else frame.poses
    keypoints, scores = poses.keypoints, poses.scores
    absent = ~np.isfinite(keypoints).all(axis=2)
    if form in ("coco", "posetrack"):
        keypoints = np.where(poses.present(frame.image_size)[..., None], keypoints, np.nan)
    if form in NO_ABSENT_SCORES:
        scores = np.where(absent, 0, scores)
    poses = replace(poses, keypoints=keypoints, scores=scores)
    return replace(frame, poses=poses, time_s=np.nan if form in NO_TIMES else frame.time_s)


def check(form: str, written: Sequence[Frame], read: Sequence[Frame]) -> None:
    assert [frame.index for frame in read] == [frame.index for frame in written]
    atol = 0.6 * 10.0 ** -DIGITS.get(form, 4)
    for frame, back in zip((as_held(form, one) for one in written), read, strict=True):
        assert len(back.poses) == len(frame.poses)
        np.testing.assert_allclose(back.time_s, frame.time_s, atol=1e-6)
        if len(frame.poses) == 0:
            continue
        assert back.poses.keypoint_set.keypoints == frame.poses.keypoint_set.keypoints
        same = [k for k, name in enumerate(back.poses.keypoint_set.keypoints) if form != "openpose" or name not in MADE]
        np.testing.assert_allclose(back.poses.keypoints[:, same], frame.poses.keypoints[:, same], atol=atol)
        np.testing.assert_allclose(back.poses.scores[:, same], frame.poses.scores[:, same], atol=6e-5)
        if frame.poses.ids is None:
            assert back.poses.ids is None
        else:
            np.testing.assert_array_equal(back.poses.ids, frame.poses.ids)
        if form in HOLD_BOXES:
            assert back.image_size == frame.image_size
            np.testing.assert_allclose(back.poses.boxes_xyxy, frame.poses.boxes_xyxy, atol=0.02)
            np.testing.assert_allclose(back.poses.person_scores, frame.poses.person_scores, atol=6e-5)
        else:
            assert back.image_size == UNKNOWN_SIZE


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(clip=clips())
def test_what_is_written_is_read_again(form: str, clip: tuple[KeypointSet, list[Frame]]) -> None:
    keypoint_set, frames = clip
    folder = Path(tempfile.mkdtemp())
    try:
        path = folder / f"clip{FORMS[form].ending}"
        with open_writer(form, path, Clip(keypoint_set, "clip.mp4", 29.97, {"model": "none"})) as writer:
            for frame in frames:
                writer.write(frame)
        check(form, frames, list(read_frames(path)))
        assert [entry.name for entry in folder.iterdir()] == [path.name]
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("form", FORMS)
def test_a_clip_without_persons_keeps_its_frames(form: str, tmp_path: Path) -> None:
    frames = [Frame(index, index / 25, Poses.empty(COCO), (120, 100)) for index in range(3)]
    path = tmp_path / f"clip{FORMS[form].ending}"
    with open_writer(form, path, Clip(COCO)) as writer:
        for frame in frames:
            writer.write(frame)
    check(form, frames, list(read_frames(path)))


@pytest.mark.parametrize("form", FORMS)
def test_a_clip_without_frames(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip{FORMS[form].ending}"
    writer = open_writer(form, path, Clip(COCO))
    writer.close()
    writer.close()
    assert not path.exists() if form == "movement" else list(read_frames(path)) == []


def test_a_rate_gives_times_to_files_that_have_none(tmp_path: Path) -> None:
    path = tmp_path / "clip.csv"
    with open_writer("deeplabcut", path, Clip(COCO)) as writer:
        writer.write(Frame(50, 2.0, Poses.empty(COCO), (120, 100)))
    assert [frame.time_s for frame in read_frames(path, fps=25)] == [2.0]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "coco", "openpose", "posetrack"])
@pytest.mark.parametrize("calibrated", [True, False])
def test_keypoints_count_as_there_as_when_they_were_written(form: str, calibrated: bool, tmp_path: Path) -> None:
    keypoints = np.random.default_rng(0).integers(1, 99, (1, 17, 2)).astype(np.float32)
    scores = np.linspace(0.1, 0.9, 17, dtype=np.float32)[None]
    ones = np.ones((1, 17), np.float32)
    box = np.array([[0, 0, 99, 99]], np.float32)
    poses = Poses(keypoints, scores, box, ones[0, :1], COCO, np.array([1]), ones if calibrated else None)
    path = tmp_path / f"clip{FORMS[form].ending}"
    with open_writer(form, path, Clip(COCO, provenance={"calibrated": calibrated})) as writer:
        writer.write(Frame(0, 0.0, poses, (100, 100)))
    (back,) = read_frames(path)
    assert back.poses.least_score() == poses.least_score()
    was, again = poses.to(back.poses.keypoint_set).present((100, 100)), back.poses.present(back.image_size)
    same = [k for k, name in enumerate(back.poses.keypoint_set.keypoints) if name in COCO.keypoints]
    np.testing.assert_array_equal(again[:, same], was[:, same])
