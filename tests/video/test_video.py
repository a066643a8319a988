"""Video: every frame with its persons, in order, in constant memory, whatever the source and the consumer do."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from clips import TOP_DOWN, Camera, Detector, make_clip, source_of

import leanpose
from leanpose.errors import InputError
from leanpose.inference.predictor import Predictor
from leanpose.structures import Frame
from leanpose.video.video import FRAMES_AHEAD, SHOTS_AHEAD, Video

Rectangles = Any  # the class RectanglePeople of conftest.py
COUNT = 12


@pytest.fixture
def detector() -> Detector:
    return Detector()


@pytest.fixture
def predictor(rectangle_people: Rectangles, detector: Detector) -> Predictor:
    return Predictor(rectangle_people(TOP_DOWN), detector=detector)


@pytest.fixture
def images(rectangle_people: Rectangles) -> list[np.ndarray]:
    """Images of 100 x 200 pixels, in which red goes to the right and green stays."""
    green = (150, 20, 180, 90, 220)
    return [rectangle_people.image(100, 200, red=(10 + i, 10, 50 + i, 90, 220), green=green) for i in range(COUNT)]


def noses(frames: list[Frame]) -> np.ndarray:
    """Return (frames, 2) x of the noses of red, who is first, and green."""
    return np.array([np.sort(frame.poses.keypoints[:, 0, 0]) for frame in frames])


def test_every_frame_comes_with_what_a_call_finds(predictor: Predictor, images: list[np.ndarray]) -> None:
    frames = list(Video(source_of(images), predictor))
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert [frame.time_s for frame in frames] == [i / 10 for i in range(COUNT)]
    for frame, image in zip(frames, images, strict=True):
        assert frame.image is not None and frame.image_size == (100, 200) and frame.poses.ids is None
        np.testing.assert_array_equal(frame.image, image)
        np.testing.assert_array_equal(frame.poses.keypoints, predictor(image).keypoints)


def test_the_names_of_the_package_and_the_arguments_of_a_predictor(
    rectangle_people: Rectangles, detector: Detector, images: list[np.ndarray]
) -> None:
    video = leanpose.Video(source_of(images), rectangle_people(TOP_DOWN), detector, min_person_score=0.9)
    assert all(len(frame.poses) == 0 for frame in video)
    assert isinstance(next(iter(Video(source_of(images), video.predictor))), leanpose.Frame)


@pytest.mark.parametrize("settings", [{"track": True}, {"smooth": "live"}, {"smooth": "recorded"}, {"detect_every": 4}])
def test_persons_keep_their_ids(settings: dict[str, Any], predictor: Predictor, images: list[np.ndarray]) -> None:
    video = Video(source_of(images), predictor, **settings)
    frames = list(video)
    assert len(frames) == COUNT
    assert all(frame.poses.ids is not None and sorted(frame.poses.ids.tolist()) == [1, 2] for frame in frames)
    np.testing.assert_allclose(noses(frames), [(30 + i, 165) for i in range(COUNT)], atol=4)
    assert video.provenance["track"] is True


def test_detection_every_n_frames(predictor: Predictor, detector: Detector, images: list[np.ndarray]) -> None:
    list(Video(source_of(images), predictor, detect_every=5))
    assert detector.calls == 3  # of frames 0, 5 and 10


def test_who_is_lost_is_detected_again(
    predictor: Predictor, detector: Detector, rectangle_people: Rectangles, images: list[np.ndarray]
) -> None:
    jump = [rectangle_people.image(100, 200, red=(140, 10, 180, 90, 220))] * 8
    images = [rectangle_people.image(100, 200, red=(10, 10, 50, 90, 220))] * 4 + jump
    frames = list(Video(source_of(images), predictor, detect_every=100))
    assert 2 <= detector.calls <= 6
    np.testing.assert_allclose(frames[-1].poses.keypoints[:, 0, 0], [160], atol=4)


def test_where_nobody_is_the_detector_rests(
    predictor: Predictor, detector: Detector, rectangle_people: Rectangles, images: list[np.ndarray]
) -> None:
    nobody = [np.zeros_like(images[0])] * 10
    frames = list(Video(source_of([*nobody, *images[:6]]), predictor, detect_every=5))
    assert detector.calls == 4  # of frames 0, 5, 10 and 15
    assert [len(frame.poses) for frame in frames[9:12]] == [0, 0, 2]  # who is seen twice is somebody


def test_a_person_who_leaves_the_image(predictor: Predictor, rectangle_people: Rectangles) -> None:
    images = [rectangle_people.image(100, 200, red=(150 + 10 * i, 10, 190 + 10 * i, 90, 220)) for i in range(8)]
    frames = list(Video(source_of(images), predictor, detect_every=3))
    assert len(frames) == 8 and len(frames[0].poses) == 1 and len(frames[-1].poses) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detect_every": 0}, "detect_every must be at least 1, not 0"),
        ({"smooth": "much"}, "smooth must be 'off', 'live' or 'recorded', not 'much'"),
        ({"detect_every": 2, "detector": None}, "crops works without a detector here; leave detect_every at 1"),
    ],
)
def test_arguments_that_cannot_be(
    settings: dict[str, Any], message: str, rectangle_people: Rectangles, images: list[np.ndarray]
) -> None:
    with pytest.raises(InputError, match=message):
        Video(source_of(images), rectangle_people(TOP_DOWN), **settings)
    with pytest.raises(InputError, match="detect_every at 1"):
        Video(source_of(images), rectangle_people(), detect_every=2)  # finds all persons itself


@pytest.mark.parametrize("given", [{"threads": 2}, {"detector": None}])
def test_arguments_of_a_predictor_that_is_there(
    given: dict[str, Any], predictor: Predictor, images: list[np.ndarray]
) -> None:
    with pytest.raises(InputError, match="give these to the Predictor"):
        Video(source_of(images), predictor, **given)


@pytest.mark.parametrize("settings", [{}, {"smooth": "recorded"}, {"detect_every": 5}])
def test_what_was_found_before_a_fault_comes_first(
    settings: dict[str, Any], predictor: Predictor, images: list[np.ndarray]
) -> None:
    def until_cut() -> Iterator[np.ndarray]:
        yield from images[:7]
        raise InputError("The clip is cut off.")

    frames = iter(Video(source_of(until_cut), predictor, **settings))
    assert [next(frames).index for _ in range(7)] == list(range(7))
    with pytest.raises(InputError, match="cut off"):
        next(frames)


def test_iterating_again_starts_anew(predictor: Predictor, images: list[np.ndarray]) -> None:
    video = Video(source_of(images), predictor, track=True)
    before = threading.active_count()
    for frame in video:
        if frame.index == 2:
            break
    gc.collect()
    assert threading.active_count() == before  # no thread goes on
    assert [frame.index for frame in video] == list(range(COUNT))


def test_a_stopped_video_gives_what_was_taken(predictor: Predictor, images: list[np.ndarray]) -> None:
    def endless() -> Iterator[np.ndarray]:
        while True:
            yield images[0]

    video = Video(source_of(endless), predictor, track=True)
    count = 0
    for count, _ in enumerate(video, 1):
        if count == 3:
            video.stop()
    assert 3 <= count < 40


@pytest.mark.parametrize("settings", [{}, {"detect_every": 3}, {"detect_every": 200}])
def test_a_slow_consumer_holds_up_a_file(
    settings: dict[str, Any], predictor: Predictor, images: list[np.ndarray]
) -> None:
    taken = []

    def many() -> Iterator[np.ndarray]:
        for i in range(500):
            taken.append(i)
            yield images[0]

    frames = iter(Video(source_of(many), predictor, **settings))
    next(frames)
    time.sleep(0.3)
    assert len(taken) <= SHOTS_AHEAD + FRAMES_AHEAD + 2 * 16 + 4
    frames.close()  # type: ignore[attr-defined]


def test_decoding_and_network_go_on_while_a_frame_is_used(
    predictor: Predictor, detector: Detector, images: list[np.ndarray]
) -> None:
    taken = []

    def counted() -> Iterator[np.ndarray]:
        for image in images:
            taken.append(detector.calls)
            yield image

    frames = iter(Video(source_of(counted), predictor))
    next(frames)
    for _ in range(1000):
        if detector.calls >= 5:
            break
        time.sleep(0.005)
    assert detector.calls >= 5 and len(taken) > 5
    assert len(list(frames)) == COUNT - 1


def test_a_camera_drops_what_nobody_takes(predictor: Predictor, images: list[np.ndarray]) -> None:
    def camera() -> Iterator[np.ndarray]:
        for _ in range(60):
            time.sleep(0.002)
            yield images[0]

    frames = []
    for frame in Video(source_of(camera, live=True), predictor):
        frames.append(frame.index)
        time.sleep(0.03)
    assert frames == sorted(set(frames)) and len(frames) < 40
    assert max(frames) > 50  # the newest, not the first ones


def test_a_camera_by_its_number(
    monkeypatch: pytest.MonkeyPatch, predictor: Predictor, images: list[np.ndarray]
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "images", [image[..., ::-1] for image in images])
    frames = iter(Video(0, predictor, track=True, smooth="live"))
    first = next(frames)
    np.testing.assert_allclose(noses([first])[0], (31 + first.index, 165), atol=4)  # one image showed that it is there
    with pytest.raises(InputError, match="The camera 0 gives no more images"):
        list(frames)


def test_a_clip(predictor: Predictor, images: list[np.ndarray], tmp_path: Any) -> None:
    frames = list(Video(make_clip(tmp_path / "clip.mp4", images), predictor))
    np.testing.assert_allclose(noses(frames), [(30 + i, 165) for i in range(COUNT)], atol=4)


@pytest.mark.parametrize("settings", [{"smooth": "live"}, {"smooth": "recorded", "detect_every": 4}])
def test_few_images_are_in_memory(settings: dict[str, Any], predictor: Predictor, images: list[np.ndarray]) -> None:
    """How much memory a long run takes is measured by benchmarks/video.py memory."""
    seen: list[weakref.ref[np.ndarray]] = []

    def many() -> Iterator[np.ndarray]:
        for i in range(90):
            image = images[i % COUNT].copy()
            seen.append(weakref.ref(image))
            yield image

    most = 0
    for frame in Video(source_of(many, rate=30.0), predictor, **settings):
        assert frame.image is not None
        seen.append(weakref.ref(frame.image))
        most = max(most, sum(image() is not None for image in seen))
    assert len(seen) == 180 and most < 80
