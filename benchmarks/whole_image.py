"""A whole image to all its people, bottom-up, one thread: the network's time and that of grouping, apart.

    python benchmarks/whole_image.py [--people 10] [--runs 30]

LitePose-XS at 256 and LitePose-S at 448, exported to ONNX, on an image of 640x480 in memory. The network's weights are
random, since time does not depend on them; grouping gets maps of the same size with people drawn into them, at the
finer of the network's two scales (as in leanpose's own weights) and enlarged to the network's input (as published).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from grouping import draw_maps

from leanpose.codecs import AssociativeEmbedding
from leanpose.codecs.associative_embedding import enlarge, merge_scales
from leanpose.deploy.export import export
from leanpose.inference.engines import load_engine
from leanpose.inference.preprocess import image_input
from leanpose.models import create_model
from leanpose.models.checkpoints import save_network
from leanpose.weights.record import Weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    codec = AssociativeEmbedding()
    print(f"{platform.processor() or platform.machine()}, one thread, image 640x480, {options.people} people")
    for model, side in (("litepose_xs", 256), ("litepose_s", 448)):
        weights = Weights(
            "benchmark", model, (side, side), task="bottom_up", convention="classic", codec="associative_embedding"
        )
        with tempfile.TemporaryDirectory() as folder:
            trained, exported = Path(folder) / "network.safetensors", Path(folder) / "network.onnx"
            save_network(trained, create_model(model), weights)
            export(str(trained), out=str(exported))
            engine = load_engine(exported, threads=1)
        inputs, _, (height, width) = image_input(image, weights)
        outputs = engine(inputs)
        heatmaps, tags = draw_maps(options.people, height // 2, width // 2, 1)
        large = enlarge(heatmaps, (height, width)), enlarge(tags[..., 0], (height, width))[..., None]
        steps: dict[str, Callable[[], object]] = {
            "image to input": lambda: image_input(image, weights),  # noqa: B023
            "network": lambda: engine(inputs),  # noqa: B023
            "both scales to one": lambda: merge_scales(outputs),  # noqa: B023
            "grouping": lambda: codec.decode_maps(heatmaps, tags),  # noqa: B023
            "grouping at full size": lambda: codec.decode_maps(*large),  # noqa: B023
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for run in range(options.runs + 3):
            for name, step in steps.items():
                began = time.perf_counter()
                step()
                if run >= 3:  # warm
                    times[name].append(1000 * (time.perf_counter() - began))
        print(f"{model}, network input {height}x{width}")
        network = statistics.median(times["network"])
        for name, values in times.items():
            middle = statistics.median(values)
            share = f"{100 * middle / network:.1f} % of the network's"
            print(f"{name:>23}: median {middle:.2f} ms (min {min(values):.2f}, max {max(values):.2f}), {share}")


if __name__ == "__main__":
    main()
