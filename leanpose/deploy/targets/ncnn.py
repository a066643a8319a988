"""ncnn, for phones and boards with ARM processors: x.ncnn.param, the graph as text, and x.ncnn.bin, the weights."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from leanpose.deploy.rewrites import with_summed_contexts
from leanpose.deploy.targets import Request, Runner, Target, traced
from leanpose.errors import WeightsError, require
from leanpose.inference.device_engines import NcnnNetwork

SUFFIX = ".ncnn.param"


def _convert(request: Request, path: Path) -> None:
    """Convert by pnnx, and give the tensors at both ends the names that the network's have."""
    program = require("pnnx", "ncnn").EXEC_PATH
    size = ",".join(map(str, request.example.shape))
    with tempfile.TemporaryDirectory() as folder:
        traced(request).save(str(Path(folder) / "network.pt"))
        words = [program, "network.pt", f"inputshape=[{size}]", "fp16=0", "device=cpu"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        graph, numbers = (Path(folder) / f"network.ncnn.{kind}" for kind in ("param", "bin"))
        if done.returncode or not graph.exists() or not numbers.exists():
            raise WeightsError(f"pnnx stopped: {_last_line(done.stderr) or f'exit code {done.returncode}'}")
        unknown = re.search(r"^((?:pnnx|torch|Tensor|nn|F)\.\S+|aten::\S+)\s+(\S+)", graph.read_text(), re.M)
        if unknown:
            raise WeightsError(f"ncnn has no operator {unknown[1]}, which {unknown[2]} needs")
        names = {"in0": request.input_name} | {f"out{i}": name for i, name in enumerate(request.output_names)}
        path.write_text(re.sub(r"(?<=\s)(in|out)\d+(?=\s)", lambda found: names[found[0]], graph.read_text()))
        shutil.copyfile(numbers, path.with_suffix(".bin"))


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _load(path: Path, names: Sequence[str]) -> Runner:
    return NcnnNetwork(path, threads=1)


TARGET = Target(
    SUFFIX, _convert, _load, {"pnnx": "ncnn", "ncnn": "ncnn"}, beside=(".ncnn.bin",), any_size=True,
    rewrite=with_summed_contexts,
)  # fmt: skip
