"""Stages that overlap: a thread works ahead of whoever asks, as far as a bound allows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item], most: int, newest: bool = False) -> Generator[Item]:
    """Yield items that a thread takes ahead of time, and raise what their source raises in its place.

    Args:
        items: closed at the end if it is a generator.
        most: items that wait; the thread stands still while there are as many.
        newest: never stand still, but forget what waits for what is newer, as for a camera.
    """
    waiting: deque[Item] = deque()
    changed = threading.Condition()
    stopped = False
    ends: list[BaseException | None] = []

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                with changed:
                    if newest:
                        waiting.clear()
                    changed.wait_for(lambda: stopped or len(waiting) < most)
                    waiting.append(item)
                    changed.notify_all()
                    if stopped:
                        break
        except BaseException as fault:
            error = fault
        finally:
            if isinstance(items, Generator):
                items.close()
            with changed:
                ends.append(error)
                changed.notify_all()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: waiting or ends)
                if not waiting:
                    break
                item = waiting.popleft()
                changed.notify_all()
            yield item
    finally:
        with changed:
            stopped = True
            changed.notify_all()
        thread.join()
    if ends[0] is not None:
        raise ends[0]
