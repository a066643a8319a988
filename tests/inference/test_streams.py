"""Streams: what a source hands over, how it ends, and how long its results wait."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanpose.errors import InputError
from leanpose.inference.predictor import CHUNK, Predictor
from leanpose.io.images import write_image
from leanpose.weights.record import Weights

Rectangles = Any  # the class RectanglePeople of conftest.py
TOP_DOWN = Weights("crops", "crops", (128, 96), codec="dark", codec_options={"sigma": 2.0})
BOX = [20, 10, 60, 90]
COUNT = 2 * CHUNK + 3


@pytest.fixture
def predictor(rectangle_people: Rectangles) -> Predictor:
    return Predictor(rectangle_people(TOP_DOWN), detector=None)


@pytest.fixture
def frames(rectangle_people: Rectangles) -> list[np.ndarray]:
    """Images of 100 x 200 pixels, in each of which the person stands two pixels farther to the right."""
    return [rectangle_people.image(100, 200, red=(20 + 2 * i, 10, 60 + 2 * i, 90, 200)) for i in range(COUNT)]


def noses(results: Any) -> np.ndarray:
    return np.array([poses.keypoints[0, 0] for _, poses in results])


@pytest.fixture
def expected(predictor: Predictor, frames: list[np.ndarray]) -> np.ndarray:
    return np.array([predictor(frame, BOX).keypoints[0, 0] for frame in frames])


@pytest.mark.parametrize(
    ("kind", "dtype", "view"),
    [
        ("the array", np.uint8, lambda buffer: buffer),
        ("a view", np.uint8, lambda buffer: buffer[:, ::-1, ::-1]),
        ("16 bits", np.uint16, lambda buffer: buffer),
        ("grey", np.uint8, lambda buffer: buffer[..., :1]),
    ],
)
def test_a_source_may_fill_one_array_again_and_again(
    kind: str, dtype: type, view: Any, predictor: Predictor, frames: list[np.ndarray], expected: np.ndarray
) -> None:
    def source() -> Iterator[np.ndarray]:
        image = view(np.zeros(frames[0].shape, dtype))
        for frame in frames:
            image[:] = (frame.astype(np.uint16) * 257 if dtype is np.uint16 else frame)[..., : image.shape[2]]
            yield image

    if kind == "grey":
        expected = np.array([predictor(frame[..., 0], BOX).keypoints[0, 0] for frame in frames])
    np.testing.assert_allclose(noses(predictor.stream(source(), [BOX] * COUNT)), expected, atol=1e-3)


def test_a_source_may_close_its_pil_image(predictor: Predictor, frames: list[np.ndarray], expected: np.ndarray) -> None:
    pil = pytest.importorskip("PIL.Image")

    def source() -> Iterator[Any]:
        for frame in frames:
            with pil.fromarray(frame) as image:
                yield image
                image.paste(0, (0, 0, 200, 100))

    np.testing.assert_allclose(noses(predictor.stream(source(), [BOX] * COUNT)), expected, atol=1e-3)


def test_boxes_may_be_one_array_again_and_again(predictor: Predictor, frames: list[np.ndarray]) -> None:
    def boxes() -> Iterator[np.ndarray]:
        box = np.zeros((1, 4))
        for i in range(COUNT):
            box[:] = np.array(BOX) + i
            yield box

    found = [poses.boxes_xyxy[0].tolist() for _, poses in predictor.stream(frames, boxes())]
    assert found == [[v + i for v in BOX] for i in range(COUNT)]


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("good", [0, 1, CHUNK, COUNT])
def test_what_was_found_before_a_source_fails_is_given(
    good: int, live: bool, predictor: Predictor, frames: list[np.ndarray], expected: np.ndarray
) -> None:
    def source() -> Iterator[np.ndarray]:
        yield from frames[:good]
        raise RuntimeError("the camera is gone")

    results = []
    with pytest.raises(RuntimeError, match="the camera is gone"):
        for result in predictor.stream(source(), itertools.repeat(BOX), live):
            results.append(result)
    assert len(results) == good
    if good:
        np.testing.assert_allclose(noses(results), expected[:good], atol=1e-3)


def test_numbers_of_images_and_boxes_that_differ(predictor: Predictor, frames: list[np.ndarray]) -> None:
    for count in (2, 4):
        with pytest.raises(InputError, match=f"There are 3 images, but {count} entries of boxes"):
            predictor.stream(frames[:3], [BOX] * count)
    for images, boxes, message in (
        (iter(frames[:3]), [BOX] * 2, "The boxes end after 2 images, which go on"),
        (frames[:3], (BOX for _ in range(2)), "The boxes end after 2 images, which go on"),
        ((frame for frame in frames[:2]), [BOX] * 3, "The images end before their boxes"),
    ):
        stream = predictor.stream(images, boxes)
        for _ in range(2):  # what has boxes is not lost
            assert len(next(stream)[1]) == 1
        with pytest.raises(InputError, match=message):
            next(stream)
    assert len(list(predictor.stream(frames[:3], itertools.repeat(BOX)))) == 3


@pytest.mark.parametrize("images", [b"a.png", np.zeros((9, 9, 3), np.uint8), None, 7])
def test_one_image_is_no_stream(images: Any, predictor: Predictor) -> None:
    with pytest.raises(InputError, match="A stream takes a list of images, not one"):
        predictor.stream(images)
    with pytest.raises(InputError, match="A stream takes a list of boxes, not one str"):
        predictor.stream([], "0,0,9,9")


@pytest.fixture
def files(frames: list[np.ndarray], tmp_path: Path) -> list[Path]:
    """Three of the frames as files of one folder."""
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, frame in zip(files, frames, strict=False):
        write_image(file, frame)
    return files


def test_a_folder_glob_or_file_is_a_stream(predictor: Predictor, files: list[Path], expected: np.ndarray) -> None:
    folder = files[0].parent
    for images, count in ((str(folder), 3), (folder, 3), (f"{folder}/*.png", 3), (files[0], 1)):
        found = noses(predictor.stream(images, itertools.islice(itertools.repeat(BOX), count)))
        np.testing.assert_allclose(found, expected[:count], atol=1e-3)
    with pytest.raises(InputError, match="There is no image nowhere; check the path"):
        predictor.stream("nowhere")


def test_a_call_with_many_images_names_stream(predictor: Predictor, files: list[Path]) -> None:
    many: list[Any] = [files, tuple(files), files[0].parent, f"{files[0].parent}/*.png"]
    for images in many:
        with pytest.raises(InputError, match=r"predictor\.stream\(images\)"):
            predictor(images)


def test_a_bad_image_ends_a_stream_or_is_yielded(predictor: Predictor, files: list[Path]) -> None:
    files[1].write_bytes(b"no image")
    stream = predictor.stream(files)
    next(stream)
    with pytest.raises(InputError, match=r"1\.png is not an image"):
        next(stream)
    kinds = [isinstance(result, InputError) for result in predictor.stream(files, on_error="yield")]
    assert kinds == [False, True, False]
    with pytest.raises(InputError, match="on_error must be 'raise' or 'yield', not 'skip'"):
        predictor.stream(files, on_error="skip")  # type: ignore[call-overload]


def test_an_array_of_images_is_a_stream(predictor: Predictor, frames: list[np.ndarray], expected: np.ndarray) -> None:
    np.testing.assert_allclose(noses(predictor.stream(np.stack(frames), [BOX] * COUNT)), expected, atol=1e-3)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_live_stream_gives_a_result_before_it_takes_the_next_image(threads: int, frames: list[np.ndarray]) -> None:
    taken = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal taken
        for frame in frames:
            taken += 1
            yield frame

    predictor = Predictor("lpn50.coco_128x96_int8", threads=threads, detector=None)
    for done, result in enumerate(predictor.stream(camera(), live=True), 1):
        assert taken == done
        np.testing.assert_array_equal(result[0], frames[done - 1])
    assert done == COUNT


def test_results_do_not_wait_for_a_full_chunk_of_a_slow_iterator(
    predictor: Predictor, frames: list[np.ndarray]
) -> None:
    taken = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal taken
        for frame in frames:
            time.sleep(0.05)
            taken += 1
            yield frame

    next(predictor.stream(camera()))
    assert taken < CHUNK
