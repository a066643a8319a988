"""Working ahead: bounded, in order, with the source's error at its place."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from leanpose.video.ahead import read_ahead


def counted(taken: list[int], count: int = 100) -> Iterator[int]:
    for i in range(count):
        taken.append(i)
        yield i


def wait_until(condition: object) -> None:
    for _ in range(1000):
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.005)
    raise AssertionError("it never came")


def test_all_items_come_in_order() -> None:
    assert list(read_ahead(counted([], 50), 3)) == list(range(50))


def test_a_slow_consumer_holds_up_the_source() -> None:
    taken: list[int] = []
    items = read_ahead(counted(taken), 3)
    assert next(items) == 0
    wait_until(lambda: len(taken) == 5)  # one given, three that wait, one in hand
    time.sleep(0.02)
    assert len(taken) == 5
    items.close()


def test_the_newest_item_wins() -> None:
    taken: list[int] = []
    items = read_ahead(counted(taken), 1, newest=True)
    next(items)
    wait_until(lambda: len(taken) == 100)
    assert list(items)[-1:] in ([99], [])  # 99 was the first one, or comes last
    assert len(taken) == 100


def test_an_error_comes_after_what_was_before() -> None:
    def source() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("broken")

    items = read_ahead(source(), 5)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_closing_ends_the_thread_and_closes_the_source() -> None:
    closed: list[bool] = []

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    before = threading.active_count()
    items = read_ahead(source(), 2)
    next(items)
    items.close()
    assert closed == [True] and threading.active_count() == before
