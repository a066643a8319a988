"""The verbs `data show`, contact sheets of annotations, and `data stats`, numbers and plots of them."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from leanpose.commands.check_data import read_tolerantly
from leanpose.data.drawing import COLUMNS, ROWS, contact_sheets
from leanpose.data.lenient import LenientSet
from leanpose.data.statistics import Statistics, statistics
from leanpose.errors import InputError, require, suggest
from leanpose.io import page
from leanpose.io.files import write_bytes, write_text
from leanpose.io.images import encoded
from leanpose.io.preflight import check_needs

MOST_LABELS = 40  # keypoints by name in one plot


def show_data(file: str, *, images: str, out: str, only: str | None = None, category: str | None = None) -> str:
    """Draw annotations on contact sheets, PNG files of 4 x 3 images with their names and ids.

    Left limbs are blue, right ones orange; hidden keypoints are faint, in a ring.

    Args:
        file: COCO-style annotation file, or the export of an annotation tool (see docs/annotations.md).
        images: folder of its images.
        out: folder for the sheets, sheet_001.png and so on; none that is there is replaced.
        only: names or ids of the images to show, with commas between.
        category: name or id of the category that is meant, where several have keypoints.

    Returns:
        How many sheets there are, and where.
    """
    check_needs(exports=(file,), folders=(images,))
    annotated, _ = read_tolerantly(file, images, category)
    chosen = _chosen(annotated, only)
    if not any(os.path.isfile(annotated.paths[i]) for i in chosen):
        raise InputError(f"{images} holds none of the images of {file}; check --images.")
    count = -(-len(chosen) // (COLUMNS * ROWS))
    places = [Path(out) / f"sheet_{number:03d}.png" for number in range(1, count + 1)]
    check_needs(places=places[:1], megabytes=count)
    _refuse_existing(places)
    for place, sheet in zip(
        tqdm(places, "drawing", unit="sheet", disable=None), contact_sheets(annotated, chosen), strict=True
    ):
        write_bytes(place, encoded(sheet[..., ::-1], place))
    return f"{count} sheet{'' if count == 1 else 's'} of {len(chosen)} images in {out}"


def _refuse_existing(places: list[Path]) -> None:
    there = next((place for place in places if place.exists()), None)
    if there is not None:
        raise InputError(f"{there} is there already; choose another folder, or delete it.")


def _chosen(annotated: LenientSet, only: str | None) -> list[int]:
    """Return the places of the images to show."""
    if only is None:
        return [*range(len(annotated.names))]
    places = {str(one): i for i, one in enumerate(annotated.image_ids)} | {n: i for i, n in enumerate(annotated.names)}
    words = [word.strip() for word in only.split(",")]
    for word in words:
        if word not in places:
            raise InputError(
                f"There is no image '{word}'.{suggest(word, annotated.names) if len(places) < 1000 else ''}"
            )
    return [places[word] for word in words]


@dataclass(frozen=True)
class StatisticsTable:
    """Statistics that print as a table."""

    statistics: Statistics

    def __str__(self) -> str:
        s = self.statistics
        low, middle, high = s.sides_px
        lines = [
            f"{s.images} images, {s.empty_images} of them without persons; {s.persons} persons, "
            f"{s.labelled_persons} of them with keypoints",
            f"size of persons (square root of the box's area): median {middle:.0f} pixels, 5th to 95th percentile "
            f"{low:.0f} to {high:.0f}",
        ]
        width = max([len("keypoint"), *map(len, s.keypoints)])
        lines.append(f"{'keypoint':<{width}}  labelled  visible  hidden  spread")
        for name, (labelled, visible, hidden, spread) in s.keypoints.items():
            lines.append(f"{name:<{width}}  {labelled:8d}  {visible:7d}  {hidden:6d}  {spread:6.3f}")
        return "\n".join(lines)


def data_stats(file: str, *, images: str, out: str, category: str | None = None) -> StatisticsTable:
    """Count persons, sizes, visibility and places of keypoints, and plot them.

    Args:
        file: COCO-style annotation file, or the export of an annotation tool (see docs/annotations.md).
        images: folder of its images.
        out: folder for stats.json and stats.html; none that is there is replaced.
        category: name or id of the category that is meant, where several have keypoints.

    Returns:
        The numbers; `spread` is the standard deviation of a keypoint's place in the boxes, in their sides.
    """
    places = [Path(out) / name for name in ("stats.json", "stats.html")]
    check_needs(packages=("matplotlib",), exports=(file,), folders=(images,), places=places)
    _refuse_existing(places)
    annotated, _ = read_tolerantly(file, images, category)
    found = statistics(annotated)
    table = StatisticsTable(found)
    figures = [
        page.figure(_plot(draw, found), caption)
        for draw, caption in (
            (_persons_per_image, "Persons per image"),
            (_sizes, "Sizes of persons: square root of the box's area"),
            (_visibility, "Persons by keypoint: visible, hidden, not labelled"),
            (_places, "Places of keypoints in their boxes, of at most 2,000 persons"),
        )
    ]
    rows = [(name, *counts[:3], f"{counts[3]:.3f}") for name, counts in found.keypoints.items()]
    head, *_ = str(table).split("keypoint ")
    parts = [*map(page.paragraph, head.strip().splitlines()), page.figures(figures)]
    parts.append(page.table(("keypoint", "labelled", "visible", "hidden", "spread"), rows))
    write_text(places[1], page.page(f"Statistics of {file}", parts))
    write_text(places[0], json.dumps(found.to_dict(), indent=1))
    return table


def _plot(draw: Any, found: Statistics) -> bytes:
    """Return a plot as the bytes of a PNG file."""
    figure_class = require("matplotlib.figure", "train").Figure
    figure = figure_class(figsize=(5.4, 4.2), dpi=100, layout="constrained")
    draw(figure.add_subplot(), found)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _persons_per_image(axes: Any, found: Statistics) -> None:
    counts = np.bincount(found.per_image, minlength=1)
    axes.bar(range(len(counts)), counts)
    axes.set(xlabel="persons", ylabel="images")


def _sizes(axes: Any, found: Statistics) -> None:
    sides = found.sides[found.sides > 0]
    if len(sides):
        edges = np.geomspace(max(sides.min() * 0.95, 1), max(sides.max() * 1.05, 2), 31)
        axes.hist(sides, bins=edges)
        axes.set_xscale("log")
    axes.set(xlabel="pixels", ylabel="persons")


def _visibility(axes: Any, found: Statistics) -> None:
    names = [*found.keypoints][:MOST_LABELS]
    counts = np.array([found.keypoints[name][:3] for name in names]).reshape(-1, 3)
    places = np.arange(len(names))[::-1]
    absent = found.labelled_persons - counts[:, 0]
    left = np.zeros(len(names))
    for values, label, colour in (
        (counts[:, 1], "visible", "#0072b2"), (counts[:, 2], "hidden", "#e69f00"), (absent, "not labelled", "#cccccc"),
    ):  # fmt: skip
        axes.barh(places, values, left=left, label=label, color=colour)
        left = left + values
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlabel("persons")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)


def _places(axes: Any, found: Statistics) -> None:
    colours = require("matplotlib", "train").colormaps["turbo"](np.linspace(0.05, 0.95, max(len(found.keypoints), 1)))
    for k, name in enumerate(found.keypoints):
        x, y = found.places[:2000, k].T
        axes.scatter(x, y, s=6, alpha=0.6, color=colours[k], label=name, linewidths=0)
    axes.add_patch(require("matplotlib.patches", "train").Rectangle((0, 0), 1, 1, fill=False))
    axes.set(xlim=(-0.3, 1.3), ylim=(1.3, -0.3), xlabel="of the box's width", ylabel="of the box's height")
    if 0 < len(found.keypoints) <= MOST_LABELS:
        axes.legend(fontsize=7, markerscale=3, bbox_to_anchor=(1, 1), loc="upper left")
