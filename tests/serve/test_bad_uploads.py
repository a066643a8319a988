"""Whatever clients send: a refusal in one sentence, and the next client gets what it should."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from serve.bad_images import NO_IMAGE, PNG
from serve.bad_uploads import BAD, ODD_REQUESTS, POSES, SLOW, Bad
from serve.running import SECONDS, SMALL, TOKEN, Answer, Running, get, post, running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

LIMITS = ("--max-megabytes", "1", "--max-megapixels", "4", "--max-images", "4", "--timeout", "3")
MOST_GROWTH = 10 * 2**20  # bytes of memory
MACHINE = ("Traceback", "/site-packages", "/leanpose/", ".py", "0x7f")  # what no client should read


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running(*LIMITS, token=TOKEN) as started:
        yield started
        assert "Traceback" not in started.log.read_text()


@pytest.fixture(scope="module")
def right(service: Running) -> bytes:
    """The answer to a good image."""
    answer = service.send(post(POSES, PNG))
    assert answer.status == 200 and len(answer.json()["persons"]) == 1
    return answer.body


def complaint(answer: Answer, bad: Bad) -> str:
    """Return what is wrong with a refusal, "" if nothing is."""
    text = answer.body.decode("utf-8", "replace")
    if answer.status not in bad.statuses:
        return f"status {answer.status}: {text[:200]}"
    if any(word in text for word in MACHINE):
        return f"tells of the machine: {text[:500]}"
    if answer.status == 200:
        return ""
    if not bad.http and not text.startswith("{"):
        return "" if len(text) < 200 else f"long: {text}"
    detail = answer.json()["detail"]
    one_sentence = isinstance(detail, str) and 10 < len(detail) < 200 and detail.endswith(".") and detail.isprintable()
    return "" if one_sentence else f"not one short sentence: {detail!r}"


def test_each_is_refused_in_one_sentence_and_the_next_client_is_served(service: Running, right: bytes) -> None:
    complaints = {}
    for name, bad in BAD.items():
        if wrong := complaint(service.send(bad.data, bad.leave), bad):
            complaints[name] = wrong
        assert service.send(post(POSES, PNG)).body == right, name
    assert len(BAD) >= 45
    assert not complaints


def test_odd_ones_are_worked_on_or_refused(service: Running, right: bytes) -> None:
    complaints = {}
    for name, data in ODD_REQUESTS.items():
        if wrong := complaint(service.send(data), Bad(data, (200, 400, 413, 415))):
            complaints[name] = wrong
    assert not complaints
    assert service.send(post(POSES, PNG)).body == right


def test_who_stops_in_the_middle_is_told_that_the_time_is_over(service: Running, right: bytes) -> None:
    with ThreadPoolExecutor(len(SLOW)) as clients:
        answers = clients.map(lambda bad: service.send(bad.data), SLOW.values())
        assert service.send(post(POSES, PNG)).body == right  # others do not wait for them
        complaints = [complaint(answer, bad) for answer, bad in zip(answers, SLOW.values(), strict=True)]
    assert not any(complaints), complaints


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory and open files are read from /proc")
def test_2000_of_them_leave_nothing_behind(service: Running, right: bytes) -> None:
    small = [bad for bad in BAD.values() if len(bad.data) < 2**16]
    for bad in islice(cycle(small), 500):  # caches fill
        service.send(bad.data, bad.leave)
    memory, open_files = service.memory(), service.open_files()
    for bad in islice(cycle(small), 2000):
        service.send(bad.data, bad.leave)
    assert service.send(post(POSES, PNG)).body == right
    assert service.memory() - memory < MOST_GROWTH
    assert service.open_files() <= open_files + 1  # a connection may be closing
    assert b"leanpose_held_bytes 0.0\n" in service.send(get("/metrics")).body


def camera(service: Running, target: str = "/v1/live?model=" + SMALL, **options: Any) -> ClientConnection:
    return connect(f"ws://localhost:{service.port}{target}", open_timeout=SECONDS, **options)


FRAMES: dict[str, str | bytes] = {
    "text": "image",
    "text of 1 MB": "x" * 2**20,
    "nothing": b"",
    **{name: NO_IMAGE[name] for name in ("noise", "half a JPEG", "a PNG of 60000 x 60000", "a TIFF of 2^32 - 1")},
}


def test_a_frame_that_is_none_gets_a_sentence_and_the_next_one_its_poses(service: Running, right: bytes) -> None:
    with camera(service) as socket:
        socket.send(json.dumps({"token": TOKEN}))
        for number, frame in enumerate(FRAMES.values()):
            socket.send(frame)
            told = json.loads(socket.recv(SECONDS))
            assert told["frame"] == number and 10 < len(told["detail"]) < 200 and "persons" not in told
        socket.send(PNG)
        assert json.loads(socket.recv(SECONDS))["width"] == json.loads(right)["width"]


@pytest.mark.parametrize(
    "first", ["secret", '{"token": "secret"}', '{"token": "\\ud800"}', "[" * 10**5, '["a secret"]', "1" * 10**5, PNG]
)  # fmt: skip
def test_a_camera_without_the_token_is_closed(service: Running, first: str | bytes) -> None:
    with camera(service) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.send(first)
        for _ in range(2):  # a sentence may come before
            assert "persons" not in json.loads(socket.recv(SECONDS))
    assert closed.value.rcvd and closed.value.rcvd.code in (1000, 1008)


def test_a_camera_that_says_nothing_is_closed(service: Running) -> None:
    with camera(service) as socket, pytest.raises(ConnectionClosed):
        for _ in range(2):  # a sentence comes before
            socket.recv(SECONDS)


@pytest.mark.parametrize("query", ["?model=../x", "?track=7", "?smooth=much", "?min_person_score=nan", "?colour=red"])
def test_a_camera_that_wants_what_is_not_there_is_told(service: Running, query: str) -> None:
    with camera(service, f"/v1/live{query}") as socket, pytest.raises(ConnectionClosed) as closed:
        socket.send(json.dumps({"token": TOKEN}))
        assert 10 < len(json.loads(socket.recv(SECONDS))["detail"]) < 200
        socket.recv(SECONDS)
    assert closed.value.rcvd and closed.value.rcvd.code == 1008


def test_a_frame_that_is_too_large_closes_the_camera(service: Running, right: bytes) -> None:
    with camera(service) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.send(json.dumps({"token": TOKEN}))
        socket.send(bytes(2**20 + 1))
        socket.recv(SECONDS)
    assert closed.value.rcvd and closed.value.rcvd.code == 1009
    assert service.send(post(POSES, PNG)).body == right


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_camera_of_another_site_does_not_open(service: Running, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        camera(service, origin=origin)
    assert refused.value.response.status_code == 403
