"""Whatever clients send: a refusal in one sentence, and the next client gets what it should."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from serve.bad_images import PNG
from serve.bad_uploads import BAD, ODD_REQUESTS, POSES, SLOW, Bad
from serve.running import TOKEN, Answer, Running, get, post, running

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
