"""Several processes that judge archs at the same time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import cv2

from leanpose.errors import InputError
from leanpose.models.litepose_arch import LitePoseArch
from leanpose.search.judge import Judge, Task
from leanpose.search.onnx_template import OnnxTemplate

_judge: Judge  # of a worker


class Workers:
    """Processes that each hold a judge. Which of them judges an arch changes nothing.

    Args:
        pool: that they belong to.
    """

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def judged(self, archs: Sequence[LitePoseArch]) -> Iterator[tuple[LitePoseArch, float, float]]:
        """Yield each arch with its fitness and the seconds that it took, as they are done.

        Raises:
            InputError: an image cannot be used, or a worker came to an end.
        """
        futures = {self._pool.submit(_judged, arch): arch for arch in archs}
        try:
            for future in as_completed(futures):
                yield futures[future], *future.result()
        except BrokenProcessPool:
            raise InputError(
                "A worker of the search came to an end, perhaps for want of memory: give fewer --workers; what was "
                "judged is kept."
            ) from None


@contextmanager
def started(number: int, task: Task, template: OnnxTemplate) -> Iterator[Workers]:
    """Start workers, and end them afterwards, also in the middle of their work."""
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # threads of torch do not survive a fork
    pool = ProcessPoolExecutor(number, context, _start, (task, template))
    try:
        yield Workers(pool)
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start(task: Task, template: OnnxTemplate) -> None:
    """Make the worker's judge. Ctrl-C is for the main process, whose end, whatever ends it, is the worker's too."""
    global _judge
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()
    cv2.setNumThreads(1)
    _judge = Judge(task, template)


def _judged(arch: LitePoseArch) -> tuple[float, float]:
    began = time.monotonic()
    return _judge(arch), time.monotonic() - began
