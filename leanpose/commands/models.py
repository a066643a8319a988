"""The table of all networks, verb `models`: what each costs here, what its authors state, which weights there are."""

from __future__ import annotations

import fnmatch
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from tqdm import tqdm

from leanpose.errors import InputError, WeightsError, suggest
from leanpose.geometry import Size
from leanpose.inference.engines import OnnxRuntimeEngine
from leanpose.io.preflight import check_needs
from leanpose.networks import NETWORKS, Network
from leanpose.weights.catalogue import BUNDLED, FURTHER, INT8, find_weights, read_record
from leanpose.weights.record import Weights

Format = Literal["text", "markdown", "json"]

TIMED_RUNS, TIMED_SECONDS = 5, 2.0  # at least so many, then until so much time has passed


@dataclass(frozen=True)
class Row:
    """One network, 17 keypoints.

    Attributes:
        network: what is known of it.
        milliseconds: see `measure_milliseconds`; None: not measured.
        weights: those that come with leanpose and their best measured AP; empty: none.
    """

    name: str
    network: Network
    milliseconds: float | None
    weights: str

    def to_dict(self) -> dict[str, Any]:
        """Return the row as one JSON object."""
        network = asdict(self.network)
        del network["module"], network["constructor"]
        return {
            "name": self.name,
            **network,
            "flops": 2 * self.network.macs,
            "milliseconds": self.milliseconds,
            "weights": self.weights,
        }


HEADER = (
    "network", "system", "rests on", "input", "parameters", "MACs", "FLOPs", "CPU ms",
    "published parameters", "published \"FLOPs\"", "published accuracy", "weights here",
)  # fmt: skip


@dataclass(frozen=True)
class ModelTable:
    """The rows, and how they are printed."""

    rows: Sequence[Row]
    format: Format

    def __str__(self) -> str:
        if self.format == "json":
            return json.dumps([row.to_dict() for row in self.rows], indent=1)
        lines = [HEADER, *map(self._cells, self.rows)]
        if self.format == "markdown":
            lines.insert(1, ("---",) * len(HEADER))
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(line.rstrip() for line in padded)

    def _cells(self, row: Row) -> tuple[str, ...]:
        network, published = row.network, row.network.published
        cells = (
            f"`{row.name}`" if self.format == "markdown" else row.name,
            network.system,
            network.basis,
            "x".join(map(str, network.input_size)),
            f"{network.parameters / 1e6:.2f} M",
            f"{network.macs / 1e9:.2f} G",
            f"{2 * network.macs / 1e9:.2f} G",
            "" if row.milliseconds is None else f"{row.milliseconds:.1f}",
            published.parameters,
            published.flops,
            published.accuracy,
            row.weights,
        )
        return tuple(cell or "-" for cell in cells)


def models(*patterns: str, measure: bool = False, format: Format = "text") -> ModelTable:
    """List the networks: size and cost with 17 keypoints, published figures, weights that come with leanpose.

    Parameters, MACs (of convolutions, linear layers and attention, see `leanpose.models.counts`), FLOPs = 2 x MACs and
    milliseconds are counted or measured here; what stands under "published" is the authors' word. Most of them print
    multiply-adds as FLOPs. A reconstruction is built from an abstract and published figures, not from the paper's body.

    Args:
        patterns: names or shell patterns, such as "lpn*"; none: all.
        measure: time each network on this machine: ONNX Runtime, float32, one thread, one image; takes minutes.
        format: "text", "markdown" or "json".

    Raises:
        InputError: no network has such a name.
    """
    if format not in get_args(Format):
        raise InputError(f"There is no format '{format}'.{suggest(format, get_args(Format))}")
    for pattern in patterns:
        if not fnmatch.filter(NETWORKS, pattern):
            raise InputError(f"There is no network '{pattern}'.{suggest(pattern, NETWORKS)}")
    names = [name for name in NETWORKS if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns or ("*",))]
    if measure:
        check_needs(packages=("torch", "onnx", "onnxscript"))
    shown = tqdm(names, "measuring", unit="network", disable=None if measure else True)
    return ModelTable([_row(name, measure) for name in shown], format)


def _row(name: str, measure: bool) -> Row:
    network = NETWORKS[name]
    milliseconds = measure_milliseconds(name, network.input_size) if measure else None
    return Row(name, network, milliseconds, _shipped_weights(name))


def _shipped_weights(name: str) -> str:
    """Return the names of a network's weights, each with its best measured AP; int8 ones only where float ones lack."""
    words = []
    shipped = {*BUNDLED, *FURTHER}
    for weights in dict.fromkeys([*BUNDLED, *FURTHER]):
        if not weights.startswith(f"{name}.") or weights.removesuffix(INT8) in shipped - {weights}:
            continue
        try:
            metrics = read_record(find_weights(weights)).metrics
        except WeightsError:  # an installed package lacks those of the repository
            words.append(f"{weights}: in the repository")
            continue
        best = max((figure for figure in metrics if figure.metric == "AP"), key=lambda figure: figure.value)
        words.append(f"{weights}: {best}")
    return "; ".join(words)


def measure_milliseconds(name: str, input_size: Size) -> float:
    """Return the median time of a network with random weights on one image: ONNX Runtime, float32, one thread."""
    import onnx

    from leanpose.deploy.export import to_onnx
    from leanpose.models import create_model

    record = Weights(name=name, model=name, input_size=input_size)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        onnx.save(to_onnx(create_model(name).eval(), record), file)
        engine = OnnxRuntimeEngine(file, threads=1)
        images = np.random.default_rng(0).standard_normal((1, 3, *input_size)).astype(np.float32)
        engine(images)  # warm-up
        times: list[float] = []
        while len(times) < TIMED_RUNS or sum(times) < TIMED_SECONDS:
            began = time.perf_counter()
            engine(images)
            times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)
