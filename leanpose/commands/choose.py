"""Choose networks by their measured speed on this machine: `leanpose predict --fps`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from leanpose.errors import InputError, note
from leanpose.inference.detect import Detector, NetworkDetector
from leanpose.inference.engines import EngineName, load_engine
from leanpose.inference.predictor import DETECTORS, MODELS, Predictor
from leanpose.weights.catalogue import on_this_machine

WARM_UP, RUNS = 2, 5
IMAGE_SIZE = (480, 640)


def fast_enough(fps: float, engine: EngineName, threads: int | None, device: str) -> tuple[str, str]:
    """Return the strongest model, with the strongest detector, on this machine that find one person in so many images
    of 640 x 480 per second; where none does, the fastest. Both are printed with their speed.

    Raises:
        InputError: fps is not above 0.
    """
    if not fps > 0:
        raise InputError(f"--fps must be above 0, not {fps}.")
    image = np.random.default_rng(0).integers(0, 256, (*IMAGE_SIZE, 3), np.uint8)
    box = [240, 80, 400, 400]

    def predictor(model: str) -> Predictor:
        return Predictor(model, engine, threads=threads, device=device, detector=None)

    def detector(name: str) -> Detector:
        return NetworkDetector(load_engine(name, engine, threads, device))

    models = {name: _seconds(partial(predictor(name), image, box)) for name in on_this_machine(MODELS)}
    detectors = {name: _seconds(partial(detector(name), image)) for name in on_this_machine(DETECTORS)}
    pairs = {(m, d): seconds + detectors[d] for m, seconds in models.items() for d in detectors}
    chosen = next((pair for pair, seconds in pairs.items() if seconds <= 1 / fps), min(pairs, key=lambda p: pairs[p]))
    note(f"{' with '.join(chosen)}: {1 / pairs[chosen]:.1f} images of one person per second here")
    return chosen


def _seconds(call: Callable[[], object]) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(WARM_UP + RUNS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times[WARM_UP:])
