"""What it gains in training on a CPU when the memory of a step is kept for the next one (`keep_freed_memory`).

    python benchmarks/freed_memory.py [--threads 1] [--steps 5] [--runs 4]

Processes with it and without take turns, since a process cannot go back; forward and backward in the number type that
recipes choose, medians over all steps of all processes, and the largest memory of a process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from depthwise_training import step

from leanpose.evaluation.timing import machine
from leanpose.models import create_model
from leanpose.training.depthwise import keep_depthwise_in_float32
from leanpose.training.loop import BF16_UNITS
from leanpose.training.memory import keep_freed_memory

# network -> options, and shape of a batch
NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "sfm": ({}, (32, 3, 256, 192)),
    "lpn50": ({}, (32, 3, 256, 192)),
    "hevitpose_t": ({}, (32, 3, 128, 96)),
    "litepose_xs": ({"person_head": True}, (8, 3, 256, 256)),
}
WARM_UP = 2


def measure(name: str, steps: int, threads: int, keep: bool) -> None:
    """Print the seconds of each step, and the largest memory in GB."""
    torch.set_num_threads(threads)
    if keep:
        keep_freed_memory()
    settings, shape = NETWORKS[name]
    network = create_model(name, 17, **settings).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    keep_depthwise_in_float32(network)
    images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    able = torch.cpu.get_capabilities()
    bf16 = any(able.get(unit) for unit in BF16_UNITS)
    seconds = []
    for _ in range(steps + WARM_UP):
        began = time.perf_counter()
        step(network, images, bf16)
        seconds.append(time.perf_counter() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"seconds": seconds[WARM_UP:], "memory": memory}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--only", choices=NETWORKS, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure(options.only, options.steps, options.threads, options.keep)
        return
    print(", ".join(f"{name} {value}" for name, value in machine().items()), f"{options.threads} threads")
    print("| network | input | given back | kept | memory |\n| --- | --- | --- | --- | --- |")
    for name, (_, shape) in NETWORKS.items():
        command = [sys.executable, __file__, "--only", name, f"--steps={options.steps}", f"--threads={options.threads}"]
        runs: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for _ in range(options.runs):
            for keep, found in runs.items():
                words = [*command, "--keep"] if keep else command
                found.append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
        times, memory = [], []
        for found in runs.values():
            times.append(f"{statistics.median(second for run in found for second in run['seconds']):.2f} s")
            memory.append(f"{max(run['memory'] for run in found):.1f}")
        size = f"{shape[0]} of {shape[2]}x{shape[3]}"
        print(f"| `{name}` | {size} | {times[0]} | {times[1]} | {' and '.join(memory)} GB |", flush=True)


if __name__ == "__main__":
    main()
