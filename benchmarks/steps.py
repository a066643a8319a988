"""What surrounds the network: a profile of one person after another, one thread, ONNX Runtime.

    python benchmarks/steps.py [WEIGHTS...] [--persons 1] [--runs 100]

Each of WEIGHTS (default: lpn50.coco_256x192_int8; float ones by the file that `leanpose export` wrote) works alone, as
it would on a video, on an image of 640x480 in memory. Shares are of the network's time; medians.
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np

from leanpose import geometry
from leanpose.commands.benchmark import boxes_in
from leanpose.evaluation.timing import machine
from leanpose.inference.engines import load_engine
from leanpose.inference.preprocess import normalised
from leanpose.inference.top_down import TopDown

WARM_UP = 10
STEPS = ("matrices", "crop", "normalise", "network", "codec", "to the image")


def profile(name: str, persons: int, runs: int) -> np.ndarray:
    """Return the median milliseconds of each step."""
    people = TopDown(load_engine(name, "onnxruntime", threads=1))
    w = people.weights
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    boxes = boxes_in(image.shape[:2], persons)
    rows = []
    for _ in range(runs + WARM_UP):
        times = [time.perf_counter()]
        matrices = geometry.crop_matrices(boxes, w.input_size, w.padding, w.convention)
        times.append(time.perf_counter())
        crops = np.stack([geometry.crop(image, matrix, w.input_size) for matrix in matrices])
        times.append(time.perf_counter())
        images = normalised(crops, w)
        times.append(time.perf_counter())
        outputs = people.engine(images)
        times.append(time.perf_counter())
        keypoints, _ = people.codec.decode(outputs, w.input_size)
        times.append(time.perf_counter())
        geometry.transform(keypoints, geometry.invert(matrices))
        times.append(time.perf_counter())
        rows.append(1000 * np.diff(times))
    return np.median(rows[WARM_UP:], axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", default=["lpn50.coco_256x192_int8"])
    parser.add_argument("--persons", type=int, default=1)
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    for name in options.weights:
        milliseconds = dict(zip(STEPS, profile(name, options.persons, options.runs), strict=True))
        network = milliseconds["network"]
        print(f"{name}, {options.persons} person(s)")
        for step, value in milliseconds.items():
            print(f"{step:>16}: {value:6.2f} ms  {100 * value / network:5.1f} %")
        around = sum(milliseconds.values()) - network
        print(f"{'all but network':>16}: {around:6.2f} ms  {100 * around / network:5.1f} %")


if __name__ == "__main__":
    main()
