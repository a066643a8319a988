"""How long the networks of a supernet take on one machine: a table of times of their parts, and sums of it.

Parts are modules of the networks: every block counts for itself. They are timed inside whole networks, node by node,
by the profile that ONNX Runtime keeps, since alone they would be fed and read in another memory layout. The shortest
of several times is taken, and a factor for each input size then brings the sums to the times of the same networks
without the profile.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from tqdm import tqdm

from leanpose.errors import InputError
from leanpose.evaluation.timing import machine
from leanpose.inference.engines import session_options
from leanpose.io.files import write_text
from leanpose.io.values import number
from leanpose.models.litepose import LitePose
from leanpose.models.litepose_arch import LitePoseArch, SearchSpace
from leanpose.search.onnx_template import OnnxTemplate

Profile = dict[tuple[str, str], float]  # of one run: milliseconds by part and number of the node
RUNS = 4  # of a network on one size in one turn; the first does not count
SEPARATOR = "|"  # between a part and the number of a node


class Part(NamedTuple):
    """A part of a network at one input size: a row of the table.

    Attributes:
        part: its module: first; stage.S.0, the first block of a stage, and stage.S.1, each other block;
            deconv_refined.I; deconv_raw.I; final_refined.O; final_raw.O; person.
        input_size: side of the network's square input in pixels.
        in_channels, out_channels: of its first and its last layer.
        kernel_size: its largest.
    """

    part: str
    input_size: int
    in_channels: int
    out_channels: int
    kernel_size: int


COLUMNS = (*Part._fields, "milliseconds")


def parts_of(arch: LitePoseArch, num_keypoints: int, person_head: bool) -> Counter[Part]:
    """Return the parts of a network, and how often it has each."""
    layers = defaultdict(list)
    for layer in arch.layers(num_keypoints, person_head):
        layers[_module(layer.name)].append(layer)
    return Counter(
        Part(
            _part(module),
            arch.input_size,
            inside[0].in_channels,
            inside[-1].out_channels,
            max(layer.kernel_size for layer in inside),
        )
        for module, inside in layers.items()
    )


def _module(layer: str) -> str:
    """Return the module that a layer counts for."""
    words = layer.split(".")
    return ".".join(words[: {"first": 1, "person": 1, "stage": 3}.get(words[0], 2)])


def _part(module: str) -> str:
    """Return the name of a module in the table: blocks of a stage after its first are alike."""
    kind, *numbers = module.split(".")
    return f"stage.{numbers[0]}.{min(int(numbers[1]), 1)}" if kind == "stage" else module


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of the parts of networks on one machine.

    Attributes:
        milliseconds: by part.
        name: of the table, for messages.
        notes: lines that say where it was measured.
    """

    milliseconds: Mapping[Part, float]
    name: str = "The latency table"
    notes: tuple[str, ...] = ()

    def latency(self, arch: LitePoseArch, num_keypoints: int, person_head: bool) -> float:
        """Return the milliseconds of a network: the sum of those of its parts.

        Raises:
            InputError: the table lacks one of them.
        """
        return sum(count * self._of(part) for part, count in parts_of(arch, num_keypoints, person_head).items())

    def check(self, space: SearchSpace, num_keypoints: int, person_head: bool) -> None:
        """Raise InputError unless the table has every part that the networks of a space can have."""
        for part in all_parts(space, num_keypoints, person_head):
            self._of(part)

    def _of(self, part: Part) -> float:
        if part not in self.milliseconds:
            row = ",".join(map(str, part))
            raise InputError(f"{self.name} lacks the row {row},...: add it, or measure with leanpose latency.")
        return self.milliseconds[part]

    def write(self, path: str | Path) -> None:
        """Write a CSV file: the notes as lines that begin with #, a header, and a row for each part."""
        rows = [",".join([*map(str, part), f"{value:.5f}"]) for part, value in sorted(self.milliseconds.items())]
        write_text(path, "\n".join([*(f"# {line}" for line in self.notes), ",".join(COLUMNS), *rows, ""]))

    @staticmethod
    def read(path: str | Path) -> LatencyTable:
        """Read such a file.

        Raises:
            InputError: it cannot be read, has other columns, or a value that cannot be used; the sentence names it.
        """
        try:
            lines = Path(path).read_text("utf-8-sig").splitlines()
        except FileNotFoundError:
            raise InputError(f"There is no file {path}; check the path.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read ({error}).") from None
        notes = tuple(line.lstrip("# ") for line in lines if line.startswith("#"))
        rows = csv.DictReader(line for line in lines if line.strip() and not line.startswith("#"))
        if lacking := [column for column in COLUMNS if column not in (rows.fieldnames or ())]:
            raise InputError(f"{path} is no latency table: it lacks the column {lacking[0]} of {', '.join(COLUMNS)}.")
        milliseconds: dict[Part, float] = {}
        for i, row in enumerate(rows):
            what = f"{path}: row {i}"
            whole = (int(number(row[column], f"{what}: '{column}'")) for column in Part._fields[1:])
            part = Part((row["part"] or "").strip(), *whole)
            if part in milliseconds:
                raise InputError(f"{what} is the second one of {','.join(map(str, part))}; leave one out.")
            milliseconds[part] = number(row["milliseconds"], f"{what}: 'milliseconds'")
            if not milliseconds[part] > 0:
                raise InputError(f"{what}: 'milliseconds' must be above 0, not {row['milliseconds']}.")
        return LatencyTable(milliseconds, str(path), notes)


def all_parts(space: SearchSpace, num_keypoints: int, person_head: bool) -> set[Part]:
    """Return every part that the networks of a space can have; none depends on more than two widths."""
    return {
        part
        for arch in _pairs(space)
        for size in space.input_sizes
        for part in parts_of(_at(space, arch, size), num_keypoints, person_head)
    }


def covering_archs(space: SearchSpace, num_keypoints: int, person_head: bool) -> list[LitePoseArch]:
    """Return few archs that have all parts at the first input size: of many, always the one with most that are new."""
    size = space.input_sizes[0]
    rng = np.random.default_rng(0)
    archs = [_at(space, arch, size) for arch in (*_pairs(space), *(space.sample(rng) for _ in range(2000)))]
    lacking = {arch: set(parts_of(arch, num_keypoints, person_head)) for arch in dict.fromkeys(archs)}
    chosen = []
    while any(lacking.values()):
        best = max(lacking, key=lambda arch: len(lacking[arch]))
        chosen.append(best)
        found = lacking.pop(best)
        lacking = {arch: parts - found for arch, parts in lacking.items()}
    return chosen


def _pairs(space: SearchSpace) -> list[LitePoseArch]:
    """Return archs that have every pair of values of two genes, the others at their largest."""
    choices = space.choices()
    largest = space.genes(space.widest)
    return [
        space.arch(largest | dict(zip(names, values, strict=True)))
        for names in combinations([name for name in choices if name != "input_size"], 2)
        for values in product(*(sorted(set(choices[name])) for name in names))
    ]


def _at(space: SearchSpace, arch: LitePoseArch, input_size: int) -> LitePoseArch:
    return space.arch(space.genes(arch) | {"input_size": input_size})


def measure_latency(
    space: SearchSpace, num_keypoints: int, person_head: bool, threads: int = 1, rounds: int = 3
) -> LatencyTable:
    """Measure the table of this machine with ONNX Runtime.

    Args:
        space: the table has all parts of its networks.
        num_keypoints, person_head: of the networks, as of `LitePose`.
        threads: of one network.
        rounds: how often the networks, about twenty, take turns.
    """
    archs = covering_archs(space, num_keypoints, person_head)
    template = OnnxTemplate()
    models = [template.model_of(LitePose(arch, num_keypoints, person_head)) for arch in archs]
    profiles: dict[tuple[LitePoseArch, int], list[Profile]] = defaultdict(list)
    whole: dict[tuple[LitePoseArch, int], list[float]] = defaultdict(list)
    turns = list(product(range(rounds), zip(archs, models, strict=True)))
    for _, (arch, model) in tqdm(turns, "measuring", unit="network", disable=None):
        for size, runs in profiled(model, space.input_sizes, threads).items():
            profiles[arch, size] += runs
        for size, seen in timed(model, space.input_sizes, threads).items():
            whole[arch, size] += seen
    milliseconds: dict[Part, list[float]] = defaultdict(list)
    for size in space.input_sizes:
        found = {arch: _shortest(profiles[arch, size]) for arch in archs}
        factor = np.median([min(whole[arch, size]) / sum(times.values()) for arch, times in found.items()])
        for arch, times in found.items():
            for part, count in parts_of(_at(space, arch, size), num_keypoints, person_head).items():
                milliseconds[part].append(factor * times[part.part] / count)
    notes = [f"{name}: {value}" for name, value in machine().items()]
    notes += [f"threads: {threads}", f"keypoints: {num_keypoints}, person head: {'yes' if person_head else 'no'}"]
    return LatencyTable({part: float(np.median(times)) for part, times in milliseconds.items()}, notes=tuple(notes))


def profiled(model: onnx.ModelProto, sizes: Sequence[int], threads: int) -> dict[int, list[Profile]]:
    """Run a network on square images of some sizes; return what each run spent in which node.

    Nodes that ONNX Runtime puts between others, to change the layout of maps, are left out: they take about a
    hundredth, and where they stand differs from session to session.
    """
    with TemporaryDirectory() as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            named_after_parts(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for size in sizes:
            for _ in range(RUNS):
                session.run(None, {"images": _noise(size)})
        events = json.loads(Path(session.end_profiling()).read_text())
    runs: list[Profile] = []
    nodes: Profile = {}
    for event in sorted(events, key=lambda event: event["ts"] + event["dur"]):
        if event["name"] == "model_run":
            runs.append(nodes)
            nodes = {}
        elif node := re.fullmatch(rf"(.+){re.escape(SEPARATOR)}(\d+)\D.*kernel_time", event["name"]):
            nodes[node[1], node[2]] = event["dur"] / 1000
    return {size: runs[i * RUNS + 1 : (i + 1) * RUNS] for i, size in enumerate(sizes)}


def timed(model: onnx.ModelProto, sizes: Sequence[int], threads: int) -> dict[int, list[float]]:
    """Run a network on square images of some sizes; return the milliseconds of each run.

    Of one thread it is the processor's time, which does not grow when other processes take turns with it.
    """
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
    )
    clock = time.thread_time if threads == 1 and sys.platform != "win32" else time.perf_counter  # too coarse there
    found = {}
    for size in sizes:
        images, times = _noise(size), []
        for _ in range(RUNS):
            began = clock()
            session.run(None, {"images": images})
            times.append(1000 * (clock() - began))
        found[size] = times[1:]
    return found


def named_after_parts(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose nodes, and the maps between them, are named after the parts that they belong to.

    ONNX Runtime names what it makes of nodes after them or after what they give. A node without weights belongs to the
    part of its first input.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    part: dict[str, str] = {}
    names: dict[str, str] = {}
    for i, node in enumerate(copy.graph.node):
        weight = next((name for name in node.input if name.endswith(".weight")), None)
        if weight:
            belongs = _part(_module(weight))
        else:  # what joins maps for the person head is a part of it
            belongs = "person" if node.op_type == "Concat" else next(part[n] for n in node.input if n in part)
        node.name = f"{belongs}{SEPARATOR}{i}"
        for j, output in enumerate(node.output):
            part[output] = belongs
            names[output] = f"{node.name}.{j}"
    for node in copy.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for value in (*copy.graph.value_info, *copy.graph.output):
        value.name = names.get(value.name, value.name)
    return copy


def _shortest(runs: Sequence[Profile]) -> dict[str, float]:
    """Return the milliseconds of each part: the sum of its nodes, each the shortest of all runs."""
    parts: dict[str, float] = defaultdict(float)
    for part, node in runs[0]:
        parts[part] += min(run[part, node] for run in runs)
    return parts


@cache
def _noise(size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
