"""What clients and machines do to a service in the middle of its work: nobody else loses by it."""

from __future__ import annotations

import json
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from serve.bad_images import PNG, encoded, photo
from serve.bad_uploads import POSES
from serve.running import FORM, SECONDS, TOKEN, Running, form, get, post, read_answer, running
from websockets.sync.client import connect

# The answer has 9 MB, more than the systems of both sides take.
DRAW = post("/v1/draw?boxes=image", encoded("JPEG", photo(size=(1800, 1800)), quality=10), Connection="keep-alive")
CLIENTS = 10


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running("--timeout", "4", token=TOKEN) as started:
        yield started
        assert "Traceback" not in started.log.read_text()


@pytest.fixture
def right(service: Running) -> Iterator[bytes]:
    """The answer to a good image, which is still given after the test, when the service holds nothing more."""
    answer = service.send(post(POSES, PNG))
    assert answer.status == 200
    yield answer.body
    assert service.send(post(POSES, PNG)).body == answer.body
    wait_for(lambda: held(service) == 0)


def connections(service: Running, count: int = CLIENTS) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", service.port), SECONDS) for _ in range(count)]


def test_who_does_not_read_is_left_behind(service: Running, right: bytes) -> None:
    time.sleep(0.5)  # until earlier connections are closed
    open_files = service.open_files()
    silent = connections(service, 2)
    for connection in silent:
        connection.sendall(DRAW)
    for _ in range(CLIENTS):
        assert service.send(post(POSES, PNG)).body == right
    wait_for(lambda: service.open_files() <= open_files)
    for connection in silent:  # each was closed in the middle of its answer
        with connection:
            assert read_answer(connection).status == 0


def wait_for(done: Callable[[], bool]) -> None:
    latest = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < latest
        time.sleep(0.05)


def test_uploads_cut_in_half(service: Running, right: bytes) -> None:
    requests = [post(POSES, PNG), post(POSES, form(("file", PNG, "a.png")), FORM)]
    for connection, request in zip(connections(service), requests * CLIENTS, strict=False):
        connection.sendall(request[: len(request) // 2])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not end
        connection.close()
        assert service.send(post(POSES, PNG)).body == right


def test_slow_uploads_end_in_time(service: Running, right: bytes) -> None:
    slow, request = connections(service), post(POSES, PNG)
    for start in range(0, 600, 100):
        for connection in slow:
            connection.sendall(request[start : start + 100])
        assert service.send(post(POSES, PNG)).body == right
    for connection in slow:
        with connection:
            assert read_answer(connection).status == 408


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        post(POSES, b"1\r\na\r\n0\r\n", Content_Length="", Transfer_Encoding="chunked") + b"X: ",
        post(POSES, b"1;", Content_Length="", Transfer_Encoding="chunked"),
    ],
)
def test_a_head_that_does_not_end_is_broken_off(service: Running, right: bytes, start: bytes) -> None:
    (connection,) = connections(service, 1)
    with connection, pytest.raises(ConnectionError):
        connection.sendall(start)
        for _ in range(1000):
            connection.sendall(b"x" * 2**16)


def test_cameras_without_the_token_take_a_place_too(service: Running, right: bytes) -> None:
    with ExitStack() as silent:
        for _ in range(33):
            camera = silent.enter_context(connect(f"ws://localhost:{service.port}/v1/live"))
        assert "Too many" in json.loads(camera.recv(SECONDS))["detail"]


def test_a_camera_outlives_the_time_of_a_request(service: Running, right: bytes) -> None:
    with connect(f"ws://localhost:{service.port}/v1/live") as camera:
        camera.send(json.dumps({"token": TOKEN}))
        for seconds in (4.5, 0):
            camera.send(PNG)
            assert json.loads(camera.recv(SECONDS))["width"] == json.loads(right)["width"]
            time.sleep(seconds)


def test_a_killed_service_starts_again_on_its_port(service: Running, right: bytes) -> None:
    with running(token=TOKEN) as first:
        assert first.send(post(POSES, PNG)).body == right
        first.process.kill()
        first.process.wait()
        with running(token=TOKEN, port=first.port) as second:
            assert second.port == first.port and second.send(post(POSES, PNG)).body == right


def test_sigterm_finishes_what_was_taken() -> None:
    many = post(POSES, form(*[("file", PNG, "image")] * 16), FORM)
    with running(token=TOKEN) as service:
        right = service.send(many).body
        with ThreadPoolExecutor(CLIENTS) as clients:
            answers = [clients.submit(service.send, many) for _ in range(CLIENTS)]
            wait_for(lambda: held(service) > (CLIENTS - 3) * len(PNG) * 16)  # most are there
            service.process.send_signal(signal.SIGTERM)
            assert [answer.result().body == right for answer in answers] == [True] * CLIENTS
        service.process.wait(SECONDS)
        with pytest.raises(ConnectionRefusedError):
            service.send(get("/healthz"))


def held(service: Running) -> float:
    text = service.send(get("/metrics")).body.decode()
    return float(text.partition("\nleanpose_held_bytes ")[2].split()[0])
