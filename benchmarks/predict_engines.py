"""One person from an image in memory to keypoints, one thread: every engine, float32 and int8, against torch eager.

    python benchmarks/predict_engines.py [--weights lpn50.coco_256x192] [--turns 60]

A call of `Predictor` with a box: crop and normalise, the network, heatmaps to keypoints in the image. The engines
take turns, so that a busy machine slows all; medians. The first is the yardstick of the ratios.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch

from leanpose import Predictor
from leanpose.deploy.export import export
from leanpose.evaluation.timing import machine, medians_in_turns
from leanpose.inference.engines import EngineName
from leanpose.weights.catalogue import INT8

KINDS: tuple[tuple[EngineName, str], ...] = (
    ("torch", "float32"), ("onnxruntime", "float32"), ("openvino", "float32"), ("onnxruntime", "int8"),
    ("openvino", "int8"),
)  # fmt: skip


@cache
def exported(name: str) -> str:
    """Export float weights to ONNX; return the file."""
    file = Path(tempfile.mkdtemp()) / f"{name}.onnx"
    export(name, out=str(file))
    return str(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="lpn50.coco_256x192")
    parser.add_argument("--turns", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    calls = {}
    for engine, kind in KINDS:
        name = options.weights + (INT8 if kind == "int8" else "")
        if kind == "float32" and engine != "torch":
            name = exported(options.weights)
        predictor = Predictor(name, engine, threads=1, detector=None)
        calls[f"{engine} {kind}"] = partial(predictor, image, [200, 40, 400, 440])
    medians = medians_in_turns(calls, options.turns)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{options.weights}, one thread, one person, {options.turns} turns")
    yardstick = next(iter(medians.values()))
    for name, value in medians.items():
        print(f"{name:>20}: {value:6.2f} ms, {yardstick / value:.2f} times as fast")


if __name__ == "__main__":
    main()
