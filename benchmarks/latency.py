"""Latency that a table predicts, against that of whole networks: random archs of a supernet on this machine.

    leanpose latency SUPERNET --out TABLE
    python benchmarks/latency.py SUPERNET TABLE [--archs 30] [--rounds 5] [--seed 1]

SUPERNET is a .safetensors file, trained or not; the archs get random weights, which take as long. Each is run at every
input size that the table has, with ONNX Runtime on one thread. The networks take turns; a time is the shortest of
three runs in each turn, since on a busy machine other processes only ever add to it. It is the processor's time of the
thread, which on a quiet machine is that of the clock.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm

from leanpose.evaluation.timing import machine
from leanpose.models.litepose import LitePose
from leanpose.search.judge import load_supernet
from leanpose.search.latency import LatencyTable, timed
from leanpose.search.onnx_template import OnnxTemplate
from leanpose.search.search import space_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("supernet")
    parser.add_argument("table")
    parser.add_argument("--archs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    supernet, _ = load_supernet(options.supernet)
    network = (supernet.num_keypoints, supernet.finds_persons)
    table = LatencyTable.read(options.table)
    sizes = tuple(sorted({part.input_size for part in table.milliseconds}))
    space = space_of(options.supernet, supernet.arch, ",".join(map(str, sizes)))
    rng = np.random.default_rng(options.seed)
    archs = [space.sample(rng) for _ in range(options.archs)]
    template = OnnxTemplate()
    models = [template.model_of(LitePose(arch, *network)) for arch in archs]
    times: dict[tuple[int, int], list[float]] = defaultdict(list)
    for _ in tqdm(range(options.rounds), "rounds", disable=None):
        for i, model in enumerate(models):
            for size, runs in timed(model, sizes, threads=1).items():
                times[i, size] += runs
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{options.archs} archs, seed {options.seed}, one thread; errors are shares of the measured time\n")
    print("| input | ms | Spearman | median error | largest error | mean of predicted / measured |")
    print("|---|---|---|---|---|---|")
    for size in sizes:
        measured = np.array([min(times[i, size]) for i in range(len(archs))])
        predicted = np.array([table.latency(replace(arch, input_size=size), *network) for arch in archs])
        errors = np.abs(predicted / measured - 1)
        print(
            f"| {size} | {measured.min():.0f} to {measured.max():.0f} | {spearmanr(predicted, measured)[0]:.3f} | "
            f"{100 * np.median(errors):.1f} % | {100 * errors.max():.1f} % | {np.mean(predicted / measured):.3f} |"
        )


if __name__ == "__main__":
    main()
