"""One person end to end, one thread: LPN-50 on ONNX Runtime against the same network in torch eager.

    python benchmarks/predict_engines.py [--input-size 256x192] [--model lpn50] [--runs 40]

Both take a picture in memory and a box to keypoints in the picture: crop, normalise, network, decode. Runs are
interleaved, so that a busy machine slows both; the ratio of the medians is the figure to quote. Weights are random:
time does not depend on them.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from leanpose import Predictor
from leanpose.checkpoints import save_network
from leanpose.export import export
from leanpose.models import create_model
from leanpose.weights import Weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lpn50")
    parser.add_argument("--input-size", default="256x192")
    parser.add_argument("--runs", type=int, default=40)
    options = parser.parse_args()
    height, width = map(int, options.input_size.split("x"))

    with tempfile.TemporaryDirectory() as folder:
        trained, exported = Path(folder) / "network.safetensors", Path(folder) / "network.onnx"
        save_network(trained, create_model(options.model), Weights("benchmark", options.model, (height, width)))
        print(export(str(trained), out=str(exported)))
        torch.set_num_threads(1)
        predictors = {
            "torch eager": Predictor(trained, engine="torch", threads=1, finder=None),
            "ONNX Runtime": Predictor(exported, engine="onnxruntime", threads=1, finder=None),
        }
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    box = [200, 40, 400, 440]
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for run in range(options.runs + 5):
        for name, predictor in predictors.items():
            began = time.perf_counter()
            predictor(picture, box)
            if run >= 5:  # warm
                times[name].append(1000 * (time.perf_counter() - began))
    print(f"{platform.processor() or platform.machine()}, one thread, {options.model} {height}x{width}, one person")
    for name, values in times.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name:>14}: median {middle:.1f} ms (min {low:.1f}, max {high:.1f}, {len(values)} runs)")
    ratio = statistics.median(times["torch eager"]) / statistics.median(times["ONNX Runtime"])
    print(f"ONNX Runtime is {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
