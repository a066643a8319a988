"""Times that can be compared, and the machine they belong to."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.inference.engines import available_cores

PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "torch")
WARM_UP = 3  # calls that do not count


def medians_in_turns(
    calls: Mapping[str, Callable[[], object]], turns: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return each call's median milliseconds, after a warm-up; they take turns, so that a busy machine slows all. The
    clock may also be that of the processor, `time.process_time`."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(WARM_UP + turns):
        for name, call in calls.items():
            began = clock()
            call()
            seconds[name].append(clock() - began)
    return {name: 1000 * float(np.median(values[WARM_UP:])) for name, values in seconds.items()}


def machine() -> dict[str, Any]:
    """Describe the machine and the packages that the times depend on."""
    packages = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[package] = version(package)
    return {"processor": _processor(), "cores": available_cores(), "system": platform.system(), **packages}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
