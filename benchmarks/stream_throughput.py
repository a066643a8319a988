"""Images a second from files to everybody's keypoints: one call per image against `Predictor.stream`.

    python benchmarks/stream_throughput.py IMAGES [--model lpn50] [--rounds 3]

IMAGES is a folder; the detector finds the persons. Both ways use all cores and take turns; medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from leanpose import Predictor
from leanpose.evaluation.timing import machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", default="lpn50")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=96, help="most images")
    options = parser.parse_args()
    files = sorted(options.images.iterdir())[: options.count]
    predictor = Predictor(options.model)
    found = list(predictor.stream(files))  # warm-up
    persons = sum(len(poses) for _, poses in found)

    def one_by_one() -> None:
        for file in files:
            predictor(file)

    def stream() -> None:
        for _ in predictor.stream(files):
            pass

    ways: dict[str, Callable[[], None]] = {"one call per image": one_by_one, "stream": stream}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{predictor.weights.name}, {len(files)} images, {persons} persons found")
    rates = {name: len(files) / statistics.median(values) for name, values in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:>18}: {rate:.1f} images per second ({rate / rates['one call per image']:.2f} times as many)")


if __name__ == "__main__":
    main()
