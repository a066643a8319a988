"""What depthwise convolutions in float32 gain where the rest is trained in bf16 on a CPU: forward and backward.

    python benchmarks/depthwise_training.py [--threads 1] [--runs 5]

The ways take turns, medians; inputs are noise, the loss is the mean square of all outputs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from leanpose.evaluation.timing import machine, medians_in_turns
from leanpose.models import create_model
from leanpose.training.depthwise import keep_depthwise_in_float32

# network -> options, and shape of a batch
NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "litepose_xs": ({"person_head": True}, (16, 3, 192, 192)),
    "lpn50": ({}, (16, 3, 256, 192)),
    "hevitpose_t": ({}, (16, 3, 128, 96)),
}


def step(network: nn.Module, images: torch.Tensor, bf16: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        outputs = network(images)
        maps = [m for output in outputs.values() for m in (output if isinstance(output, list | tuple) else [output])]
        loss = torch.stack([each.float().square().mean() for each in maps]).sum()
    loss.backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(", ".join(f"{name} {value}" for name, value in machine().items()), f"{options.threads} threads")
    print("| network | input | bf16 | bf16, depthwise float32 | float32 |\n| --- | --- | --- | --- | --- |")
    for name, (settings, shape) in NETWORKS.items():
        calls: dict[str, Callable[[], object]] = {}
        for way, bf16 in {"plain": True, "mixed": True, "float32": False}.items():
            network = create_model(name, 17, **settings).train()
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if way == "mixed":
                keep_depthwise_in_float32(network)
            images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
            calls[way] = partial(step, network, images, bf16)
        times = medians_in_turns(calls, options.runs)
        cells = " | ".join(f"{times[way] / 1000:.2f} s" for way in calls)
        print(f"| `{name}` | {shape[0]} of {shape[2]}x{shape[3]} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
