"""One person from a picture in memory to keypoints, one thread: every engine, float32 and int8, against torch eager.

    python benchmarks/predict_engines.py [--weights lpn50.coco_256x192] [--runs 40]

The steps are those of `Predictor`: crop, resize and normalise; the network; heat maps to keypoints in the picture. The
engines take turns, so that a busy machine slows all; medians. The first line is the yardstick of the ratios.
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

WARM_UP = 5
STEPS = ("crop", "network", "codec")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="lpn50.coco_256x192")
    parser.add_argument("--runs", type=int, default=40)
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
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in predictors}
    for _ in range(options.runs + WARM_UP):
        for name, predictor in predictors.items():
            began = time.perf_counter()
            images, matrices = network_images(picture, box, predictor.weights)
            cropped = time.perf_counter()
            heatmaps = predictor.engine(images)["heatmaps"]
            computed = time.perf_counter()
            predictor.decode(heatmaps, matrices)
            ended = time.perf_counter()
            times[name].append((cropped - began, computed - cropped, ended - computed))
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{options.weights}, one thread, one person, {options.runs} runs, milliseconds")
    totals = {name: 1000 * statistics.median(map(sum, rows[WARM_UP:])) for name, rows in times.items()}
    yardstick = next(iter(totals.values()))
    head = "  ".join(f"{step:>7}" for step in (*STEPS, "total"))
    print(f"{'engine':>20}  {head}  times as fast  crop and codec of network")
    for name, total in totals.items():
        crop, network, codec = (1000 * statistics.median(column) for column in zip(*times[name][WARM_UP:], strict=True))
        print(
            f"{name:>20}  {crop:7.2f}  {network:7.2f}  {codec:7.2f}  {total:7.2f}  {yardstick / total:13.2f}  "
            f"{100 * (crop + codec) / network:.1f} %"
        )


if __name__ == "__main__":
    main()
