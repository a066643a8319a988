"""The line of images and the threads that work on it."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import numpy as np
import pytest

from leanpose.errors import InputError
from leanpose.inference.predictor import Predictor
from leanpose.serve.pool import BusyError, Job, Pool
from leanpose.structures import Poses

IMAGE = np.zeros((100, 90, 3), np.uint8)
IMAGE[10:90, 20:60, 0] = 250  # a person for the network below


def job(model: str = "a", image: np.ndarray = IMAGE, **options: Any) -> Job:
    return Job(model, lambda: image, lambda _, poses: poses, **options)


@pytest.fixture
def network(rectangle_people: type) -> Any:
    return rectangle_people()


class Gate:
    """A network that waits before its first call."""

    def __init__(self, network: Any) -> None:
        self.weights, self._network, self.opened = network.weights, network, threading.Event()

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        assert self.opened.wait(20)
        return self._network(images)


def boxes_of(poses: Poses) -> list[list[float]]:
    return poses.boxes_xyxy.tolist()


def test_each_job_gets_what_its_predictor_finds(network: Any) -> None:
    predictors = {name: Predictor(network, min_person_score=score) for name, score in (("a", 0.2), ("b", 0.99))}
    pool = Pool(predictors.__getitem__, 1, 10)
    futures = pool.submit([job("a"), job("b"), job("a", least=0.99), job("b", least=0.2)])
    found = [len(future.result(20)) for future in futures]
    pool.close()
    assert found == [1, 0, 0, 1]


def test_faults_are_those_of_their_job(network: Any) -> None:
    def broken() -> np.ndarray:
        raise InputError("no image")

    def unfinished(image: np.ndarray, poses: Poses) -> None:
        raise OSError("full")

    pool = Pool({"a": Predictor(network)}.__getitem__, 1, 10)
    jobs = [job(), Job("a", broken, lambda _, poses: poses), Job("a", lambda: IMAGE, unfinished), job("none")]
    good, *faults = pool.submit(jobs)
    assert len(good.result(20)) == 1
    assert [type(future.exception(20)) for future in faults] == [InputError, OSError, KeyError]
    pool.close()


def test_the_line_takes_all_or_none(network: Any) -> None:
    gate = Gate(network)
    pool = Pool({"a": Predictor(gate)}.__getitem__, 1, 2)
    (first,) = pool.submit([job()])
    while pool.waiting:  # until it is worked on
        pass
    waiting = pool.submit([job()])
    with pytest.raises(BusyError):
        pool.submit([job(), job()])
    waiting += pool.submit([job()])
    assert waiting[0].cancel()
    gate.opened.set()
    assert len(first.result(20)) == len(waiting[1].result(20)) == 1
    pool.close()
    assert len(network.calls) == 2


def test_who_would_wait_too_long_is_told_at_once(network: Any) -> None:
    gate = Gate(network)
    pool = Pool({"a": Predictor(gate)}.__getitem__, 1, 100, longest_s=0.25)  # a job is taken for 0.1 s at first
    futures = []
    with pytest.raises(BusyError):
        for _ in range(9):
            futures += pool.submit([job()])
    gate.opened.set()
    pool.close()
    assert 3 <= len(futures) <= 4 and all(len(future.result(0)) == 1 for future in futures)


def test_closing_finishes_what_waits(network: Any) -> None:
    pool = Pool({"a": Predictor(network)}.__getitem__, 1, 20)
    futures = pool.submit([job() for _ in range(12)])
    pool.close()
    assert all(len(future.result(0)) == 1 for future in futures)


def test_persons_share_calls_where_threads_may_not_share_the_network(rectangle_people: Any) -> None:
    weights = dataclasses.replace(rectangle_people().weights, task="top_down", codec="dark", convention="udp")
    network = rectangle_people(weights)
    gate = Gate(network)
    pool = Pool({"a": Predictor(gate, detector=None)}.__getitem__, 1, 20)
    futures = pool.submit([job(boxes=[[19.5, 9.5, 59.5, 89.5]]) for _ in range(5)])
    gate.opened.set()
    for future in futures:
        future.result(20)
    pool.close()
    assert network.calls == [(5, 3, 256, 256)]
