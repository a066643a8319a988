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
from typing import Literal, get_args

import numpy as np
from tqdm import tqdm

from leanpose.errors import InputError, WeightsError, suggest
from leanpose.geometry import Size
from leanpose.preflight import check_needs
from leanpose.runtime import OnnxRuntimeEngine, read_record
from leanpose.weights import BUNDLED, FURTHER, INT8, Weights, find_weights

Format = Literal["text", "markdown", "json"]
Basis = Literal["equal", "counts", "reconstruction", "own design"]

TIMED_RUNS, TIMED_SECONDS = 5, 2.0  # at least so many, then until so much time has passed
DETECTOR, ANNOTATED, WHOLE = "detector boxes", "annotated boxes", "whole pictures"


@dataclass(frozen=True)
class Published:
    """What is known of a network from its authors. Nothing of it is measured by us.

    Attributes:
        system: the publication's name for it.
        basis: what the network here rests on: "equal" outputs on stored weights, published "counts" and keys of the
            state dict, a "reconstruction" from the abstract and published figures, or our "own design".
        input_size: (height, width) that the figures are for.
        parameters, flops: as the authors print them; most print multiply-adds as FLOPs.
        accuracy: with the set and where the person boxes come from.
    """

    system: str
    basis: Basis
    input_size: Size
    parameters: str = ""
    flops: str = ""
    accuracy: str = ""


PUBLISHED = {
    "litepose_xs": Published("LitePose", "equal", (256, 256), "", "1.2 G", f"COCO val AP 40.6, {WHOLE}"),
    "litepose_s": Published("LitePose", "equal", (448, 448), "", "5.0 G", f"COCO val AP 56.8, {WHOLE}"),
    "litepose_m": Published("LitePose", "equal", (448, 448), "", "7.8 G", f"COCO val AP 59.8, {WHOLE}"),
    "litepose_l": Published("LitePose", "equal", (512, 512), "", "13.8 G", f"COCO val AP 62.5, {WHOLE}"),
    "lpn50": Published("LPN", "equal", (256, 192), "2.9 M", "1.0 G", f"COCO val AP 69.1, {DETECTOR}"),
    "lpn101": Published("LPN", "equal", (256, 192), "5.3 M", "1.4 G", f"COCO val AP 70.4, {DETECTOR}"),
    "lpn152": Published("LPN", "equal", (256, 192), "7.4 M", "1.8 G", f"COCO val AP 71.0, {DETECTOR}"),
    "sfm": Published(
        "SFM + HSA", "reconstruction", (256, 256), "1.5 M", "1.7 G",
        "MPII val PCKh@0.5 89.0; COCO val AP 71.7, boxes not stated",
    ),
    "hevitpose_t": Published(
        "HEViTPose", "reconstruction", (256, 256), "3.21 M", "1.75 G", "MPII val PCKh@0.5 87.2"
    ),
    "hevitpose_s": Published(
        "HEViTPose", "reconstruction", (256, 256), "5.88 M", "3.64 G", "MPII val PCKh@0.5 88.5"
    ),
    "hevitpose_b": Published(
        "HEViTPose", "reconstruction", (256, 256), "10.63 M", "5.58 G",
        "MPII val PCKh@0.5 89.4; COCO val AP 75.4, boxes very likely annotated",
    ),
    "simple_baseline_50": Published(
        "SimpleBaseline", "counts", (256, 192), "34.0 M", "8.9 G", f"COCO val AP 70.4, {DETECTOR}"
    ),
    "simple_baseline_101": Published(
        "SimpleBaseline", "counts", (256, 192), "53.0 M", "12.4 G", f"COCO val AP 71.4, {DETECTOR}"
    ),
    "simple_baseline_152": Published(
        "SimpleBaseline", "counts", (256, 192), "68.6 M", "15.7 G", f"COCO val AP 72.0, {DETECTOR}"
    ),
    "hourglass_52": Published(
        "Hourglass, one stack, of MMPose", "counts", (256, 256), "94.85 M", "28.67 G", f"COCO val AP 72.6, {DETECTOR}"
    ),
    "hrnet_w32": Published("HRNet", "counts", (256, 192), "28.5 M", "7.1 G", f"COCO val AP 74.4, {DETECTOR}"),
    "hrnet_w48": Published("HRNet", "counts", (256, 192), "63.6 M", "14.6 G", f"COCO val AP 75.1, {DETECTOR}"),
    "vitpose_s": Published("ViTPose", "counts", (256, 192), "", "", f"COCO val AP 73.8, {DETECTOR}"),
    "vitpose_b": Published("ViTPose", "counts", (256, 192), "90.0 M", "", f"COCO val AP 75.8, {DETECTOR}"),
    "simple_baseline_50_rmpg": Published(
        "RMPG in SimpleBaseline", "reconstruction", (256, 192), "38.0 M", "", f"COCO val AP 72.5, {DETECTOR}"
    ),
    "simple_baseline_101_rmpg": Published(
        "RMPG in SimpleBaseline", "reconstruction", (256, 192), "57.0 M", "", f"COCO val AP 73.1, {DETECTOR}"
    ),
    "hourglass_52_rmpg": Published(
        "RMPG in Hourglass", "reconstruction", (256, 256), "98.0 M", "", f"COCO val AP 74.0, {DETECTOR}"
    ),
    "hrnet_w32_rmpg": Published("RMPG in HRNet", "own design", (256, 192)),
    "hrnet_w48_rmpg": Published("RMPG in HRNet", "own design", (256, 192)),
    "vitpose_s_rmpg": Published("RMPG in ViTPose", "own design", (256, 192)),
    "vitpose_b_rmpg": Published(
        "RMPG in ViTPose", "reconstruction", (256, 192), "117.9 M", "", f"COCO val AP 76.1, {DETECTOR}"
    ),
    "rmpg_hierarchical": Published("RMPG, hierarchical", "own design", (256, 192)),
}  # fmt: skip


# name -> parameters and MACs with 17 keypoints at the published input size, as leanpose.models.counts counts them; kept
# here since building all networks takes half a minute, and torch. A test compares them with the networks.
COUNTED = {
    "hevitpose_t": (3_186_865, 1_776_795_648),
    "hevitpose_s": (5_924_193, 3_670_566_912),
    "hevitpose_b": (10_528_945, 5_588_549_632),
    "hourglass_52": (93_667_217, 28_620_161_024),
    "hourglass_52_rmpg": (96_772_241, 44_524_961_792),
    "hrnet_w32": (28_536_113, 7_645_003_776),
    "hrnet_w48": (63_595_745, 15_691_825_152),
    "hrnet_w32_rmpg": (28_585_553, 8_020_131_840),
    "hrnet_w48_rmpg": (63_706_193, 16_365_993_984),
    "litepose_xs": (1_675_912, 885_841_920),
    "litepose_s": (2_731_624, 3_624_375_552),
    "litepose_m": (3_534_336, 5_275_717_888),
    "litepose_l": (5_738_672, 9_979_297_792),
    "lpn50": (2_911_153, 1_069_717_504),
    "lpn101": (5_353_458, 1_506_867_200),
    "lpn152": (7_377_459, 1_946_163_200),
    "rmpg_hierarchical": (30_102_758, 14_230_880_256),
    "sfm": (1_505_674, 1_715_188_992),
    "simple_baseline_50": (33_999_697, 5_426_380_800),
    "simple_baseline_101": (52_991_825, 9_062_842_368),
    "simple_baseline_152": (68_635_473, 12_699_303_936),
    "simple_baseline_50_rmpg": (38_027_601, 19_569_573_888),
    "simple_baseline_101_rmpg": (57_019_729, 23_206_035_456),
    "vitpose_s": (24_290_577, 5_593_890_816),
    "vitpose_b": (89_994_513, 18_522_832_896),
    "vitpose_s_rmpg": (31_270_545, 7_101_480_960),
    "vitpose_b_rmpg": (117_889_041, 24_213_454_848),
}


@dataclass(frozen=True)
class Row:
    """One network, 17 keypoints.

    Attributes:
        parameters: all that it learns, also what only training needs.
        macs: multiply-adds of layers and attention for one picture of the published input size.
        milliseconds: see `measure_milliseconds`; None: not measured.
        published: what the authors state.
        weights: those that come with leanpose and their best measured AP; empty: none.
    """

    name: str
    parameters: int
    macs: int
    milliseconds: float | None
    published: Published
    weights: str


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
            return json.dumps([asdict(row) | {"flops": 2 * row.macs} for row in self.rows], indent=1)
        lines = [HEADER, *map(self._cells, self.rows)]
        if self.format == "markdown":
            lines.insert(1, ("---",) * len(HEADER))
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(line.rstrip() for line in padded)

    def _cells(self, row: Row) -> tuple[str, ...]:
        published = row.published
        cells = (
            f"`{row.name}`" if self.format == "markdown" else row.name,
            published.system,
            published.basis,
            "x".join(map(str, published.input_size)),
            f"{row.parameters / 1e6:.2f} M",
            f"{row.macs / 1e9:.2f} G",
            f"{2 * row.macs / 1e9:.2f} G",
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
        measure: time each network on this machine: ONNX Runtime, float32, one thread, one picture; takes minutes.
        format: "text", "markdown" or "json".

    Raises:
        InputError: no network has such a name.
    """
    if format not in get_args(Format):
        raise InputError(f"There is no format '{format}'.{suggest(format, get_args(Format))}")
    for pattern in patterns:
        if not fnmatch.filter(COUNTED, pattern):
            raise InputError(f"There is no network '{pattern}'.{suggest(pattern, COUNTED)}")
    names = [name for name in COUNTED if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns or ("*",))]
    if measure:
        check_needs(packages=("torch", "onnx", "onnxscript"))
    shown = tqdm(names, "measuring", unit="network", disable=None if measure else True)
    return ModelTable([_row(name, measure) for name in shown], format)


def _row(name: str, measure: bool) -> Row:
    published = PUBLISHED[name]
    milliseconds = measure_milliseconds(name, published.input_size) if measure else None
    return Row(name, *COUNTED[name], milliseconds, published, _shipped_weights(name))


def _shipped_weights(name: str) -> str:
    """Return the names of a network's float weights here, each with its best measured AP."""
    words = []
    for weights in dict.fromkeys([*BUNDLED, *FURTHER]):
        if not weights.startswith(f"{name}.") or weights.endswith(INT8):
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
    """Return the median time of a network with random weights on one picture: ONNX Runtime, float32, one thread."""
    import onnx

    from leanpose.export import to_onnx
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
