"""One person from a picture in memory to keypoints, one thread: every engine, float32 and int8, against torch eager.

    python benchmarks/predict_engines.py [--weights lpn50.coco_256x192] [--turns 12]

The steps are those of `Predictor`: crop, resize and normalise; the network; heat maps to keypoints in the picture. The
engines take turns of a few persons, so that a busy machine slows all; medians. The first is the ratios' yardstick.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2
import numpy as np
import torch

from leanpose import Predictor
from leanpose.benchmark import machine
from leanpose.predict import network_images

PERSONS = 5  # of a turn that count; one more goes ahead of them
STEPS = ("crop", "network", "codec")


def person(predictor: Predictor, picture: np.ndarray, box: np.ndarray) -> tuple[float, float, float]:
    """Find one person's keypoints; return the seconds of each step."""
    began = time.perf_counter()
    images, matrices = network_images(picture, box, predictor.weights)
    cropped = time.perf_counter()
    heatmaps = predictor.engine(images)["heatmaps"]
    computed = time.perf_counter()
    predictor.decode(heatmaps, matrices)
    return cropped - began, computed - cropped, time.perf_counter() - computed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="lpn50.coco_256x192")
    parser.add_argument("--turns", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    int8 = f"{options.weights}_int8"
    predictors = {
        f"{words} {kind}": Predictor(name, engine=engine, threads=1, finder=None)
        for engine, words, name, kind in (
            ("torch", "torch eager", options.weights, "float32"),
            ("onnxruntime", "ONNX Runtime", options.weights, "float32"),
            ("openvino", "OpenVINO", options.weights, "float32"),
            ("onnxruntime", "ONNX Runtime", int8, "int8"),
            ("openvino", "OpenVINO", int8, "int8"),
        )
    }
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    box = np.array([[200, 40, 400, 440]], dtype=np.float32)
    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in predictors}
    for _ in range(options.turns + 1):
        for name, predictor in predictors.items():
            times[name] += [person(predictor, picture, box) for _ in range(PERSONS + 1)][1:]
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{options.weights}, one thread, one person, {options.turns} turns of {PERSONS}, milliseconds")
    totals = {name: 1000 * statistics.median(map(sum, rows[PERSONS:])) for name, rows in times.items()}
    yardstick = next(iter(totals.values()))
    head = "  ".join(f"{step:>7}" for step in (*STEPS, "total"))
    print(f"{'engine':>20}  {head}  times as fast")
    for name, total in totals.items():
        crop, network, codec = (1000 * statistics.median(column) for column in zip(*times[name][PERSONS:], strict=True))
        print(f"{name:>20}  {crop:7.2f}  {network:7.2f}  {codec:7.2f}  {total:7.2f}  {yardstick / total:13.2f}")


if __name__ == "__main__":
    main()
