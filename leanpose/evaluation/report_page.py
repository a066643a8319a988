"""A report as one HTML page: figures, plots, and the persons with the largest errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from leanpose.data.annotations import read_annotated
from leanpose.evaluation.plots import keypoint_bars, pck_curve, score_dots, size_bars, training_curves
from leanpose.evaluation.report import LENGTHS, RIGHT, Report, table_header, table_row
from leanpose.io.draw_errors import draw_errors
from leanpose.io.files import write_text
from leanpose.io.page import figure, figures, heading, page, paragraph, table
from leanpose.structures import Poses

WORST = 12
WIDTH = 365  # pixels of an image, as wide as a plot
QUALITY = 88  # of JPEG files
SVG, JPEG = "image/svg+xml", "image/jpeg"


def write_report(report: Report, folder: Path, training: Sequence[Path] = ()) -> None:
    """Write report.json and report.html into a folder.

    Args:
        training: logs of the run that made the model, see `training_logs`.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    html = report_page(report, training)
    write_text(folder / "report.json", json.dumps(report.to_dict(), indent=1, allow_nan=False))
    write_text(folder / "report.html", html)


def report_page(report: Report, training: Sequence[Path] = ()) -> str:
    """Return the page; see `write_report`."""
    header, everything = table_header(report.length), report.errors[0]
    official = [f"{100 * value:.1f}" if value >= 0 else "-" for value in report.metrics.values()]
    parts = [
        paragraph(f"{report.counts} {'; '.join(f'{name}: {value}' for name, value in report.settings.items())}."),
        table(header[2:], [_cells(table_row(everything)[2:])]),
        paragraph(
            f"PCK@0.1 is the share of annotated keypoints that are found within a tenth of {LENGTHS[report.length]}; "
            "what is not found counts as wrong. Errors are of the keypoints that are found. Figures of all keypoints "
            "are means over keypoints, each as heavy as another. In brackets: intervals of 95 %, from 1,000 draws of "
            "images with replacement; of fewer than some 30 images they are too narrow."
        ),
        table([*report.metrics], [official]),
        heading("Where it errs"),
        figures(_plots(report, training)),
        *_worst(report),
        heading("Keypoints"),
        table(header, [_cells(table_row(errors)) for errors in report.errors]),
        heading("Size of the person"),
        table(
            ("longer side, pixels", "persons", *header[2:]),
            [
                (f"{group.smallest:.0f} to {group.largest:.0f}", group.persons, *_cells(table_row(group.errors)[2:]))
                for group in report.sizes
            ],
        ),
        heading("Scores"),
        table(
            ("score", "keypoints", f"within {RIGHT:g}, %", f"median error, % of {report.length}"),
            [(f"{g.lowest:.2f} to {g.highest:.2f}", g.keypoints, 100 * g.right, 100 * g.median) for g in report.scores],
        ),
    ]
    return page(f"{report.model} on {report.data}", parts)


def _cells(row: Sequence[str]) -> list[str]:
    """Keep figure and interval in one line."""
    return [cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in row]


def _plots(report: Report, training: Sequence[Path]) -> list[str]:
    known = np.isfinite(report.relative)
    groups = [((group.lowest + group.highest) / 2, group.median) for group in report.scores]
    sizes = [f"{group.smallest:.0f} to {group.largest:.0f}" for group in report.sizes]
    drawn = [
        (pck_curve(report.errors[0], report.length), "PCK of all keypoints, with its interval of 95 %"),
        (keypoint_bars(report.errors[1:]), "Mean error by keypoint, with intervals of 95 %"),
        (
            size_bars(sizes, [group.errors for group in report.sizes], report.length),
            "Mean error by size of the person, in groups of as many persons each",
        ),
    ]
    if known.any():
        dots = score_dots(report.pairs.scores[known], report.relative[known], groups, report.length)
        drawn.append((dots, "Error by score: each dot is a keypoint, the line the median of a tenth of them"))
    curves = training_curves(training, [*list(report.metrics)[:1], "PCK@0.1"])
    if curves is not None:
        run = training[0].parents[3].name
        drawn.append((curves, f"Training in {run}: mean loss of an epoch, and figures of its validation set"))
    return [figure(image, caption, SVG) for image, caption in drawn]


def _worst(report: Report) -> list[str]:
    """Return the part with the persons of the largest errors; none where no error is known."""
    pairs, drawn = report.pairs, []
    for i in report.worst(WORST):
        person, scores = pairs.persons[i], pairs.scores[i : i + 1].astype(np.float32)
        found = pairs.found[i : i + 1].astype(np.float32)
        pose = Poses(found, scores, person.box_xyxy[None], scores[:, 0], pairs.keypoint_set)
        image = draw_errors(read_annotated(person.image_path, person.image_size), pose, person.keypoints, WIDTH)
        _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        caption = (
            f"{Path(person.image_path).name}: mean error {100 * report.person_errors[i]:.0f} % of the {report.length}"
        )
        drawn.append(figure(encoded.tobytes(), caption, JPEG))
    if not drawn:
        return []
    text = "Skeletons are what was found, green rings what is annotated, with a line to each from where it was found."
    return [heading("Largest errors"), paragraph(text), figures(drawn)]
