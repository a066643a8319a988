"""Frames of a camera through a WebSocket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from serve.serving import SMALL, serving
from serve.test_service import ASTRONAUT, SlowNetwork, png
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from leanpose.inference.predictor import Predictor
from leanpose.io.images import read_image
from leanpose.serve.settings import Limits


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as address:
        yield address


def camera(address: str, query: str = "", **options: Any) -> ClientConnection:
    return connect(f"{address.replace('http', 'ws')}v1/live{query}", **options)


def ask(socket: ClientConnection, message: bytes | str) -> dict[str, Any]:
    socket.send(message)
    return json.loads(socket.recv(timeout=20))


def test_each_frame_gets_its_poses(address: str) -> None:
    with camera(address) as socket:
        found = ask(socket, ASTRONAUT.read_bytes())
        assert (found["frame"], found["width"]) == (0, 512)
        assert found["persons"] == Predictor(SMALL)(ASTRONAUT).to_dicts()
        assert ask(socket, png(30, 20)) | {"persons": [], "frame": 1, "width": 20} == ask(socket, png(30, 20)) | {
            "frame": 1, "image": "frame 1"
        }  # fmt: skip


def test_persons_keep_their_ids(address: str) -> None:
    image = read_image(ASTRONAUT)[..., ::-1]
    with camera(address, "?track=true&smooth=live") as socket:
        ids = []
        for shift in (0, 4, 8):
            moved = np.roll(image, shift, axis=1)
            found = ask(socket, cv2.imencode(".jpg", moved)[1].tobytes())
            ids.append([person["id"] for person in found["persons"]])
    assert ids == [[1], [1], [1]]


def test_frames_that_wait_give_way_to_newer_ones() -> None:
    with serving(detector=SlowNetwork(0.3)) as address, camera(address) as socket:
        for _ in range(6):
            socket.send(png(30, 20))
        numbers = []
        while 5 not in numbers:
            numbers.append(json.loads(socket.recv(timeout=20))["frame"])
    assert numbers == sorted(numbers) and len(numbers) < 6


def test_what_is_no_image_gets_a_sentence_and_the_connection_stays(address: str) -> None:
    with camera(address) as socket:
        assert "binary" in ask(socket, "text")["detail"]
        assert ask(socket, b"nothing") == {
            "detail": "frame 1 is not an image that can be read; use JPEG, PNG, WebP, BMP or TIFF.", "frame": 1
        }  # fmt: skip
        assert ask(socket, png(30, 20))["persons"] == []


@pytest.mark.parametrize("query", ["?model=other", "?colour=red", "?min_person_score=7", "?track=perhaps"])
def test_wishes_that_cannot_be_close_it_with_a_sentence(address: str, query: str) -> None:
    with camera(address, query) as socket:
        assert json.loads(socket.recv(timeout=20))["detail"].endswith((".", "?"))
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=20)


def test_pages_elsewhere_are_refused(address: str) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        camera(address, origin="http://evil.example")


def test_the_token_comes_in_the_first_message() -> None:
    with serving(token="secret") as address:
        for wrong in ('{"token": "other"}', "[]", "text", '{"token": 7}'):
            with camera(address) as socket:
                assert "token" in ask(socket, wrong)["detail"]
        with camera(address) as socket:
            socket.send(json.dumps({"token": "secret"}))
            assert ask(socket, png(30, 20))["persons"] == []


def test_cameras_are_limited() -> None:
    with serving(limits=Limits(live=1)) as address, camera(address) as first:
        assert ask(first, png(30, 20))["frame"] == 0
        with camera(address) as second:
            assert "Too many" in json.loads(second.recv(timeout=20))["detail"]
        assert ask(first, png(30, 20))["frame"] == 1
