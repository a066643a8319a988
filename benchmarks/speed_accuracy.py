"""AP and milliseconds of all weights that come with leanpose: tables in the docs and cards, and an image.

    python benchmarks/speed_accuracy.py DATA [--runs 60] [--public rtmpose_s_26 rtmpose_s_26_int8.onnx]

DATA is the folder of the leanpose mini set. AP is that of coco/val.json with annotated boxes, with and without flip
test; for person detectors that of the default network in the boxes that they find. Time is that of one network input
on one thread with ONNX Runtime; the networks take turns, medians. MoveNet
Lightning int8 stands beside them as the set's README gives it: AP 40.9 and AP50 66.1 on the same persons, at 4.2 ms on
a machine where lpn50 at 256x192 in float32 took 24.6 ms; its time is scaled to what lpn50 takes here.

--public: public weights beside them, names or files; their parameters and multiply-adds are the published ones of the
network with 17 keypoints.

Written are docs/results.md, docs/assets/speed_accuracy.svg and the model cards, the texts between their two marks.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from leanpose.deploy.export import export
from leanpose.evaluation.evaluate import evaluate
from leanpose.evaluation.timing import machine, medians_in_turns
from leanpose.inference.engines import load_engine
from leanpose.inference.predictor import MODELS
from leanpose.io.files import write_text
from leanpose.models import create_model
from leanpose.models.counts import count_macs, count_parameters
from leanpose.weights.catalogue import (
    BUNDLED,
    BUNDLED_FOLDER,
    FURTHER,
    FURTHER_FOLDER,
    INT8,
    find_weights,
    read_record,
)
from leanpose.weights.record import Weights

YARDSTICK = "lpn50.coco_256x192"
MOVENET, MOVENET_SHARE, MOVENET_AP = "MoveNet Lightning int8, as given", 4.2 / 24.6, 40.9
DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- python benchmarks/speed_accuracy.py DATA -->", "<!-- end -->"
PUBLISHED = {"rtmpose_t": (3.34, 0.36), "rtmpose_s": (5.47, 0.68), "rtmpose_m": (13.59, 1.93)}
METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR")
HEADER = ("weights", "parameters", "MACs", "FLOPs", "input", "ms", "flip test", *METRICS)


@dataclass(frozen=True)
class Row:
    """One file of weights with its metrics without and with flip test."""

    record: Weights
    milliseconds: float
    plain: dict[str, float]
    flipped: dict[str, float]

    def cells(self) -> list[tuple[str, ...]]:
        """Return the two lines of the table."""
        record = self.record
        if record.model in PUBLISHED:
            parameters, macs = PUBLISHED[record.model]
        else:
            network = create_model(record.model, len(record.keypoint_set), **record.model_options)
            macs = sum(count_macs(network, record.input_size).values()) / 1e9
            parameters = count_parameters(network) / 1e6
        sizes = f"{parameters:.2f} M", f"{macs:.2f} G", f"{2 * macs:.2f} G"
        shown = "x".join(map(str, record.input_size)), f"{self.milliseconds:.2f}"
        name = f"`{record.name}`" if record.task == "top_down" else f"`{record.name}`, persons for `{MODELS[-1]}`"
        return [
            (name, *sizes, *shown, flip, *(f"{100 * metrics[name]:.1f}" for name in METRICS))
            for flip, metrics in (("no", self.plain), ("yes", self.flipped))
        ]


def onnx_files(folder: Path) -> dict[str, Path]:
    """Return the weights by name; those that come as .safetensors alone are exported to the folder."""
    files = {}
    for name in sorted({*BUNDLED, *FURTHER}):
        if any(".onnx" in shipped.get(name, {}) for shipped in (BUNDLED, FURTHER)):
            files[name] = find_weights(name, ".onnx")
        else:
            files[name] = folder / f"{name}.onnx"
            export(name, out=str(files[name]))
    return files


def milliseconds(files: dict[str, Path], runs: int) -> dict[str, float]:
    """Return each network's median time of one input, by name."""
    calls: dict[str, Callable[[], object]] = {}
    for name, file in files.items():
        engine = load_engine(file, "onnxruntime", threads=1)
        images = np.random.default_rng(0).standard_normal((1, 3, *engine.weights.input_size)).astype(np.float32)
        calls[name] = partial(engine, images)
    return medians_in_turns(calls, runs)


def measure(files: dict[str, Path], runs: int, coco: Path) -> list[Row]:
    """Return a row for each file: networks by name, larger inputs first."""
    times = milliseconds(files, runs)
    rows = []
    for name, file in tqdm(files.items(), "weights", disable=None):
        record = read_record(file)
        model, boxes = (str(file), "gt") if record.task == "top_down" else (MODELS[-1], "found")
        score = partial(evaluate, model, data=str(coco / "val.json"), images=str(coco / "images"), boxes=boxes)
        score = partial(score, detector=str(file))  # counts where boxes are found
        rows.append(Row(record, times[name], score(), score(flip_test=True)))
    return sorted(rows, key=lambda row: (row.record.model, -row.record.input_size[0], row.record.name))


def table(rows: list[Row], movenet: float | None = None) -> str:
    """Return the lines of a Markdown table; with the milliseconds of MoveNet, it stands last."""
    lines = [HEADER, ("---",) * len(HEADER), *(line for row in rows for line in row.cells())]
    if movenet is not None:
        lines.append((MOVENET, *"---", "192x192", f"{movenet:.2f}", "no", str(MOVENET_AP), "66.1", *"----"))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put(text: str, file: Path) -> None:
    """Put a text between the marks of a file."""
    before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{file} lacks the marks {BEGIN} and {END}.")
    write_text(file, f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def draw(rows: list[Row], movenet: float) -> None:
    """Draw AP without flip test against milliseconds, a line for each network and kind."""
    matplotlib.rcParams["svg.hashsalt"] = "leanpose"  # the same file for the same figures
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    lines = defaultdict(list)
    for row in rows:
        if row.record.task != "top_down":
            continue
        kind = "int8" if row.record.name.endswith(INT8) else "float32"
        lines[f"{row.record.model}, {kind}"].append(row)
    for label, points in lines.items():
        xs, ys = [row.milliseconds for row in points], [100 * row.plain["AP"] for row in points]
        (line,) = axes.plot(xs, ys, "o-", label=label)
        for row, x, y in zip(points, xs, ys, strict=True):
            size = "x".join(map(str, row.record.input_size))
            axes.annotate(size, (x, y), (4, -12), textcoords="offset points", color=line.get_color(), fontsize=9)
    axes.plot(movenet, MOVENET_AP, "*", color="black", markersize=13, label="MoveNet Lightning, int8, as given")
    axes.set(
        xlabel="milliseconds per person, network, one thread, ONNX Runtime", ylabel="AP, coco/val.json of leanpose mini"
    )
    axes.set_xlim(0, 1.1 * max(row.milliseconds for row in rows))  # room for the last label
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(DOCS / "assets" / "speed_accuracy.svg", format="svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--public", nargs="*", default=[])
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        files = onnx_files(Path(folder)) | {Path(name).stem: find_weights(name) for name in options.public}
        rows = measure(files, options.runs, options.data / "coco")
    movenet = MOVENET_SHARE * next(row.milliseconds for row in rows if row.record.name == YARDSTICK)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(table(rows, movenet))
    put(table(rows, movenet), DOCS / "results.md")
    draw(rows, movenet)
    cards = defaultdict(list)
    for row in rows:
        if row.record.model not in PUBLISHED:
            cards[row.record.name.removesuffix(INT8)].append(row)
    for name, of_card in cards.items():
        folders = (BUNDLED_FOLDER, FURTHER_FOLDER)
        card = next(folder / f"{name}.md" for folder in folders if (folder / f"{name}.md").is_file())
        put(table(of_card), card)


if __name__ == "__main__":
    main()
