"""The tables of the verb `models`: all networks, what each costs here, what its authors state, which weights there are;
and the public weights."""

from __future__ import annotations

import fnmatch
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
from tqdm import tqdm

from leanpose.errors import InputError, WeightsError, suggest
from leanpose.geometry import Size
from leanpose.inference.engines import OnnxRuntimeEngine
from leanpose.io.preflight import check_needs
from leanpose.networks import NETWORKS, Network
from leanpose.weights.catalogue import BUNDLED, FURTHER, INT8, find_weights, read_record
from leanpose.weights.download import local_file
from leanpose.weights.public import PUBLIC, PublicWeights
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
        return _laid_out([HEADER, *map(_cells, self.rows)], self.format)


def _cells(row: Row) -> tuple[str, ...]:
    network, published = row.network, row.network.published
    return (
        row.name,
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


@dataclass(frozen=True)
class PublicRow:
    """One file of public weights.

    Attributes:
        weights: what is known of it.
        here: its file on this machine; None: it is not here.
    """

    weights: PublicWeights
    here: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as one JSON object."""
        values = asdict(self.weights)
        keypoints = list(self.weights.record.keypoint_set.keypoints)
        values["record"] |= {"keypoint_set": keypoints if values["record"]["task"] != "detection" else None}
        return values | {"here": None if self.here is None else str(self.here)}


PUBLIC_HEADER = (
    "weights", "task", "keypoints", "input", "MB", "code licence", "weights licence", "published accuracy", "checked",
    "here",
)  # fmt: skip


@dataclass(frozen=True)
class PublicTable:
    """The public weights, and how they are printed: Markdown is for pages, and leaves out what is on this machine."""

    rows: Sequence[PublicRow]
    format: Format

    def __str__(self) -> str:
        if self.format == "json":
            return json.dumps([row.to_dict() for row in self.rows], indent=1)
        lines = [PUBLIC_HEADER, *map(_public_cells, self.rows)]
        return _laid_out([line[:-1] for line in lines] if self.format == "markdown" else lines, self.format)


def _public_cells(row: PublicRow) -> tuple[str, ...]:
    weights, record = row.weights, row.weights.record
    checked = "verified" if weights.verified else "unverified"
    if not weights.sha256:
        checked += ", no hash known" if weights.urls else ", by hand"
    return (
        weights.name,
        record.task.replace("_", "-"),
        "" if record.task == "detection" else str(len(record.keypoint_set)),
        "x".join(map(str, record.input_size)),
        f"{weights.size / 1e6:.1f}" if weights.size else "",
        weights.code_licence,
        weights.weights_licence,
        weights.published,
        checked,
        str(row.here or ""),
    )


def _laid_out(lines: list[tuple[str, ...]], format: Format) -> str:
    """Return lines of cells as a table, the first being its header and the first cell of the others a name."""
    header, *rest = ([cell or "-" for cell in line] for line in lines)
    if format == "markdown":
        rows = [header, ["---"] * len(header), *([f"`{name}`", *cells] for name, *cells in rest)]
        return "\n".join(f"| {' | '.join(line)} |" for line in rows)
    widths = [max(map(len, column)) for column in zip(header, *rest, strict=True)]
    padded = ("  ".join(map(str.ljust, line, widths)) for line in (header, *rest))
    return "\n".join(line.rstrip() for line in padded)


@overload
def models(*patterns: str, measure: bool = ..., public: Literal[False] = ..., format: Format = ...) -> ModelTable: ...


@overload
def models(*patterns: str, measure: bool = ..., public: Literal[True], format: Format = ...) -> PublicTable: ...


def models(
    *patterns: str, measure: bool = False, public: bool = False, format: Format = "text"
) -> ModelTable | PublicTable:
    """List the networks: size and cost with 17 keypoints, published figures, weights that come with leanpose.

    Parameters, MACs (of convolutions, linear layers and attention, see `leanpose.models.counts`), FLOPs = 2 x MACs and
    milliseconds are counted or measured here; what stands under "published" is the authors' word. Most of them print
    multiply-adds as FLOPs. A reconstruction is built from an abstract and published figures, not from the paper's body.

    Args:
        patterns: names or shell patterns, such as "lpn*"; none: all.
        measure: time each network on this machine: ONNX Runtime, float32, one thread, one image; takes minutes.
        public: list the weights of others that `leanpose download` fetches: what they find, licences as stated,
            accuracy as published, whether we ran them, and where they lie on this machine.
        format: "text", "markdown" or "json".

    Raises:
        InputError: nothing in the table has such a name, or public weights shall be timed.
    """
    if format not in get_args(Format):
        raise InputError(f"There is no format '{format}'.{suggest(format, get_args(Format))}")
    known, kind = (PUBLIC, "are no public weights") if public else (NETWORKS, "is no network")
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise InputError(f"There {kind} '{pattern}'.{suggest(pattern, known)}")
    names = [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns or ("*",))]
    if public:
        if measure:
            raise InputError("--measure times networks, not public weights; use leanpose benchmark for those.")
        return PublicTable([PublicRow(PUBLIC[name], local_file(PUBLIC[name])) for name in names], format)
    if measure:
        check_needs(packages=("torch", "onnx", "onnxscript"))
    shown = tqdm(names, "measuring", unit="network", disable=None if measure else True)
    return ModelTable([_row(name, measure) for name in shown], format)


def _row(name: str, measure: bool) -> Row:
    network = NETWORKS[name]
    milliseconds = measure_milliseconds(name, network.input_size) if measure else None
    return Row(name, network, milliseconds, _shipped_weights(name))


def _shipped_weights(name: str) -> str:
    """Return the names of a network's weights, each with its best measured AP, or else its first figure; int8 ones only
    where float ones lack."""
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
        figures = [figure for figure in metrics if figure.metric == "AP"] or metrics[:1]
        best = max(figures, key=lambda figure: figure.value)
        words.append(f"{weights}: {best}")
    return "; ".join(words)


def measure_milliseconds(name: str, input_size: Size) -> float:
    """Return the median time of a network with random weights on one image: ONNX Runtime, float32, one thread."""
    import onnx

    from leanpose.deploy.targets.onnx import to_onnx
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
