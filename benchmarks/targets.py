"""Which network leaves in which form: works, parity, size and time, one table for docs/devices.md, and targets.json.

    make test-extras  # makes the environment with the converters
    .venv-extras/bin/python benchmarks/targets.py lpn50 sfm litepose_xs hevitpose_t --out targets \
        --data coco/val.json --images coco/images

Each cell is one `leanpose export`, in a process of its own, compared on 64 persons (images, for litepose_xs), or on
noise without `--data`; a cell whose files are there is not made again. Times are medians of one input, all files of a
network turn by turn: time of the processor, of all threads together, which other processes disturb less than that of
the clock. A network without weights gets random ones, none of them 0. `--int8` adds the accuracy of LiteRT in bytes,
with ranges set by persons of `--calibration`. A cell that takes more than `--minutes` is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leanpose.deploy.targets import TARGETS, TargetName, target_of
from leanpose.errors import WeightsError
from leanpose.evaluation.timing import machine, medians_in_turns
from leanpose.models import create_model
from leanpose.models.checkpoints import save_network
from leanpose.weights.catalogue import find_weights
from leanpose.weights.record import Weights
from leanpose.weights.sidecar import sidecar_path

TURNS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=TARGETS)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--calibration")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--data")
    parser.add_argument("--images")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    kinds = [*options.targets, *(["litert int8"] if options.int8 else [])]
    table: dict[str, dict[str, Any]] = {}
    for network in options.networks:
        table[network] = {kind: cell(network, kind, out, options) for kind in kinds}
        for kind, milliseconds in times(network, table[network], out).items():
            table[network][kind]["milliseconds"] = milliseconds
        content = {"machine": machine(), "data": options.data and Path(options.data).name, "networks": table}
        (out / "targets.json").write_text(json.dumps(content, indent=1))
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(as_table(table, kinds))


def cell(network: str, kind: str, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the report of one export, or the sentence that it ended with."""
    file = file_of(network, kind, out)
    fault = file.with_name(f"{file.name}.txt")
    if not sidecar_path(file).exists() and not fault.exists():
        target, _, int8 = kind.partition(" ")
        words = [sys.executable, "-m", "leanpose", "export", weights_of(network, out), "--to", target]
        words += ["--out", str(file)]
        words += ["--data", options.data, "--images", options.images] if options.data else []
        if int8:
            words += ["--int8", *(["--calibration", options.calibration] if options.calibration else [])]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=60 * options.minutes)
        except subprocess.TimeoutExpired:
            return {"fault": f"not measured: converting takes over {options.minutes:g} minutes"}
        print(done.stdout, file=sys.stderr, flush=True)
        if done.returncode:
            fault.write_text(done.stderr.rpartition("leanpose: ")[2].strip())
    if fault.exists():
        return {"fault": fault.read_text()}
    return json.loads(sidecar_path(file).read_text())["report"]


def file_of(network: str, kind: str, out: Path) -> Path:
    target, _, int8 = kind.partition(" ")
    return out / f"{network}{'_int8' if int8 else ''}{target_of(target).suffix}"


def weights_of(network: str, out: Path) -> str:
    """Return the network's name where it has weights to train on, else a file of random ones."""
    try:
        find_weights(network, ".safetensors")
        return network
    except WeightsError:
        file = out / f"{network}.safetensors"
        if not file.exists():
            torch.manual_seed(0)
            model = create_model(network).eval()
            for parameter in model.parameters():
                if not parameter.any():  # biases, and what lets a layer begin as the identity
                    torch.nn.init.normal_(parameter, std=0.01)
            save_network(file, model, Weights(f"{network}.random_256x192", network, (256, 192)))
        return str(file)


def times(network: str, cells: dict[str, dict[str, Any]], out: Path) -> dict[str, float]:
    """Return the milliseconds of the processor for one input for each file of a network that runs here."""
    calls = {}
    for kind, found in cells.items():
        name: TargetName = kind.partition(" ")[0]  # type: ignore[assignment]
        load = target_of(name).load
        if "fault" not in found and load is not None:
            file = file_of(network, kind, out)
            app = json.loads(sidecar_path(file).read_text())["app"]
            inputs = np.random.default_rng(0).standard_normal(app["input"]["shape"]).astype(np.float32)
            calls[kind] = partial(load(file, list(app["outputs"])), inputs)
    return medians_in_turns(calls, TURNS, time.process_time)


def as_table(table: dict[str, dict[str, Any]], kinds: list[str]) -> str:
    """Return a table in Markdown: largest difference of an output, and milliseconds."""
    lines = [f"| network | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for network, cells in table.items():
        lines.append(f"| {network} | {' | '.join(as_cell(cells[kind]) for kind in kinds)} |")
    return "\n".join(lines)


def as_cell(found: dict[str, Any]) -> str:
    if "fault" in found:
        return "no"
    if found["difference"] is None:
        return f"converts, {found['megabytes']:.1f} MB"
    if found["values"]:
        proof = "{} {:.1f} (float {:.1f})".format(found["figure"], *(100 * value for value in found["values"][::-1]))
    else:
        proof = f"{found['difference']:.0e}"
    return f"{proof}, {found['milliseconds']:.1f} ms, {found['megabytes']:.1f} MB"


if __name__ == "__main__":
    main()
