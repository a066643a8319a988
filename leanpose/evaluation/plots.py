"""The plots of a report, each as the bytes of an SVG file that can be read on light and dark ground."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.errors import require
from leanpose.metrics.keypoint_errors import KeypointErrors

WIDTH, HEIGHT = 3.8, 2.9  # inches at 96 pixels: three side by side on a desktop, one on a phone
INK, BLUE, ORANGE = "#7b7b7b", "#2b7bd6", "#e8772e"
MOST_KEYPOINTS = 40  # in one plot
MOST_DOTS = 3000
STYLE: Any = {
    "font.size": 8.5, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": INK,
    "grid.alpha": 0.25, "grid.linewidth": 0.6, "legend.frameon": False, "svg.hashsalt": "leanpose",
}  # fmt: skip


def _plot(draw: Callable[[Any], object], height: float = HEIGHT) -> bytes:
    """Return what is drawn into the figure that a function is given."""
    require("matplotlib", "train")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        drawn = BytesIO()
        figure.savefig(drawn, format="svg", dpi=150, transparent=True, metadata={"Date": None})
    return drawn.getvalue()


def pck_curve(everything: KeypointErrors, length: str) -> bytes:
    """PCK of all keypoints over the fraction, with its interval."""

    def draw(figure: Any) -> None:
        fractions = [*everything.pck]
        figures = [*everything.pck.values()]
        value, low, high = ([100 * getattr(figure, end) for figure in figures] for end in ("value", "low", "high"))
        axes = figure.subplots()
        axes.fill_between(fractions, low, high, color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(fractions, value, color=BLUE, marker="o", markersize=3)
        axes.set(xlim=(0, None), ylim=(0, 101), xlabel=f"within this part of the {length}", ylabel="keypoints, percent")

    return _plot(draw)


def keypoint_bars(errors: Sequence[KeypointErrors]) -> bytes:
    """Mean error of each keypoint in pixels with its interval, the largest first."""
    known = sorted((e for e in errors if not math.isnan(e.mean.value)), key=lambda e: -e.mean.value)[:MOST_KEYPOINTS]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        places = np.arange(len(known))
        axes.barh(places, [e.mean.value for e in known], color=BLUE, alpha=0.75, height=0.7)
        axes.hlines(places, [e.mean.low for e in known], [e.mean.high for e in known], color=ORANGE, linewidth=2)
        axes.set_yticks(places, [e.name for e in known])
        axes.set(ylim=(len(known) - 0.4, -0.6), xlabel="mean error, pixels")
        axes.grid(visible=False, axis="y")

    return _plot(draw, max(1.2, min(HEIGHT, 0.7 + 0.35 * len(known)), 0.5 + 0.17 * len(known)))


def size_bars(names: Sequence[str], errors: Sequence[KeypointErrors], length: str) -> bytes:
    """Relative errors of groups of persons with their intervals."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        figures = [e.relative for e in errors]
        axes.bar(names, [100 * f.value for f in figures], color=BLUE, alpha=0.75, width=0.6)
        axes.vlines(names, [100 * f.low for f in figures], [100 * f.high for f in figures], color=ORANGE, linewidth=2)
        axes.set(xlabel="longer side of the person's box, pixels", ylabel=f"mean error, percent of the {length}")
        axes.grid(visible=False, axis="x")

    return _plot(draw)


def score_dots(scores: np.ndarray, errors: np.ndarray, groups: Sequence[tuple[float, float]], length: str) -> bytes:
    """Error over score of single keypoints (N,), and the median error of groups of (score, error)."""

    def draw(figure: Any) -> None:
        chosen = np.random.default_rng(0).permutation(len(scores))[:MOST_DOTS]
        axes = figure.subplots()
        smallest = 0.1  # percent; a logarithm has no place for 0
        dots = np.maximum(100 * errors[chosen], smallest)
        axes.scatter(scores[chosen], dots, s=6, color=BLUE, alpha=0.3, linewidths=0, rasterized=True)
        axes.plot(*np.maximum(np.array(groups) * [1, 100], [0, smallest]).T, color=ORANGE, marker="o", markersize=3)
        axes.set(yscale="log", xlabel="score of the keypoint", ylabel=f"error, percent of the {length}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")

    return _plot(draw)


def training_curves(logs: Sequence[Path], metrics: Sequence[str]) -> bytes | None:
    """Mean loss and the validation's figures by epoch, one stage behind another; None where nothing is logged."""
    loss, figures = read_logs(logs, metrics)
    if not loss:
        return None

    def draw(figure: Any) -> None:
        above, below = figure.subplots(2, sharex=True)
        above.plot(*zip(*sorted(loss.items()), strict=True), color=BLUE)
        above.set(ylabel="loss", yscale="log")
        for (name, values), colour in zip(figures.items(), (ORANGE, BLUE), strict=False):
            below.plot(*zip(*sorted(values.items()), strict=True), color=colour, marker="o", markersize=2.5, label=name)
        below.set(xlabel="epoch", ylabel="percent", ylim=(0, 101))
        if figures:
            below.legend()

    return _plot(draw)


def read_logs(logs: Sequence[Path], metrics: Sequence[str]) -> tuple[dict[int, float], dict[str, dict[int, float]]]:
    """Return mean losses by epoch, and figures in percent by name and epoch; a resumed run replaces what it repeats."""
    loss: dict[int, float] = {}
    figures: dict[str, dict[int, float]] = defaultdict(dict)
    stage, before = None, 0
    for log in logs:
        if log.parents[2] != stage:
            stage, before = log.parents[2], max(loss, default=0)
        of_epoch = defaultdict(list)
        with log.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                epoch = before + int(row["epoch"]) + 1
                if row.get("loss"):
                    of_epoch[epoch].append(float(row["loss"]))
                for name in metrics:
                    if row.get(name):
                        figures[name][epoch] = 100 * float(row[name])
        loss |= {epoch: float(np.mean(values)) for epoch, values in of_epoch.items()}
    return loss, figures


def training_logs(model: Path) -> list[Path]:
    """Return the logs of the run of `train` in whose folder a model lies, in the order of training.

    Of a run in folds they are those of the first fold.
    """
    for run in (model.parent, model.parent / "fold0", model.parent.parent):
        logs = sorted(run.glob("stage*/csv/version_*/metrics.csv"), key=_stage_and_version)
        if logs:
            return logs
    return []


def _stage_and_version(log: Path) -> list[tuple[int, str]]:
    return [(len(part.name), part.name) for part in (log.parents[2], log.parents[0])]  # stage2 before stage10
