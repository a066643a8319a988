"""AP against milliseconds of the bundled top-down weights, float32 and int8: a table, and a picture for the docs.

    python benchmarks/speed_accuracy.py DATA [--out docs/assets/speed_accuracy.svg] [--runs 60]

DATA is the folder of the leanpose mini set. AP is that of coco/val.json with annotated boxes, without flip test. Time
is that of one network input on one thread with ONNX Runtime; the networks take turns, medians. MoveNet Lightning int8
is drawn as the set's README gives it: AP 40.9 on the same persons, at 4.2 ms on a machine where lpn50 at 256x192 in
float32 took 24.6 ms; its time is scaled to what lpn50 takes here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from leanpose.benchmark import machine, medians_in_turns
from leanpose.evaluate import evaluate
from leanpose.runtime import load_engine
from leanpose.weights import BUNDLED, INT8

YARDSTICK = "lpn50.coco_256x192"
MOVENET_SHARE, MOVENET_AP = 4.2 / 24.6, 40.9
COLOURS = {"float32": "#4c78a8", "int8": "#e45756"}


def milliseconds(names: list[str], runs: int) -> dict[str, float]:
    """Return each network's median time of one input, by name."""
    calls: dict[str, Callable[[], object]] = {}
    for name in names:
        engine = load_engine(name, "onnxruntime", threads=1)
        images = np.random.default_rng(0).standard_normal((1, 3, *engine.weights.input_size)).astype(np.float32)
        calls[name] = partial(engine, images)
    return medians_in_turns(calls, runs)


def draw(rows: list[tuple[str, float, float]], out: str) -> None:
    """Draw (name, milliseconds, AP) rows."""
    matplotlib.rcParams["svg.hashsalt"] = "leanpose"  # the same file for the same figures
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for kind, colour in COLOURS.items():
        of_kind = sorted((ms, ap, name) for name, ms, ap in rows if name.endswith(INT8) == (kind == "int8"))
        axes.plot(
            [ms for ms, _, _ in of_kind], [ap for _, ap, _ in of_kind], "o-", color=colour, label=f"lpn50, {kind}"
        )
        for ms, ap, name in of_kind:
            size = name.removesuffix(INT8).rpartition("_")[2]
            axes.annotate(size, (ms, ap), (4, -12), textcoords="offset points", color=colour, fontsize=9)
    yardstick = next(ms for name, ms, _ in rows if name == YARDSTICK)
    axes.plot(
        MOVENET_SHARE * yardstick, MOVENET_AP, "*", color="#54a24b", markersize=13, label="MoveNet Lightning, int8"
    )
    axes.set(
        xlabel="milliseconds a person, network, one thread, ONNX Runtime", ylabel="AP, coco/val.json of leanpose mini"
    )
    axes.set_xlim(0, 1.1 * max(ms for _, ms, _ in rows))  # room for the last label
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out, format="svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", default="docs/assets/speed_accuracy.svg")
    parser.add_argument("--runs", type=int, default=60)
    options = parser.parse_args()
    names = [name for name in BUNDLED if name.startswith("lpn50.")]
    times = milliseconds(names, options.runs)
    coco = options.data / "coco"
    aps = {name: 100 * evaluate(name, data=str(coco / "val.json"), images=str(coco / "images"))["AP"] for name in names}
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    for name in names:
        print(f"{name:>24}: {times[name]:6.2f} ms  AP {aps[name]:.1f}")
    print(f"{'MoveNet Lightning int8':>24}: {MOVENET_SHARE * times[YARDSTICK]:6.2f} ms  AP {MOVENET_AP} (scaled time)")
    draw([(name, times[name], aps[name]) for name in names], options.out)


if __name__ == "__main__":
    main()
