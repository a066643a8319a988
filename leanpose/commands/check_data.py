"""The verb `data check`: all faults of an annotated set, in words, as JSON and as a page with the worst cases drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.data.drawing import beside, drawn_person, scaled
from leanpose.data.faults import faults
from leanpose.data.formats import coco, read_form
from leanpose.data.formats.sniff import opened
from leanpose.data.image_faults import Look, image_faults, look_at_images, shared_images
from leanpose.data.lenient import Case, Finding, LenientSet, read_leniently
from leanpose.errors import InputError
from leanpose.evaluation.swaps import swapped_sides
from leanpose.inference.predictor import Predictor
from leanpose.io import page
from leanpose.io.files import write_text
from leanpose.io.images import encoded, read_image
from leanpose.io.preflight import check_needs
from leanpose.structures import Poses

EXAMPLES = 3  # of a finding, printed
DRAWN = 12  # of a finding, on the page
WRITER = {"written_by": "leanpose data check"}
GENERATOR = "<!-- leanpose data check -->"


@dataclass(frozen=True)
class Report:
    """What `data check` found; prints as a line per finding.

    Attributes:
        path: of the annotations.
        images, persons: their numbers.
        findings: errors first.
        notes: what was guessed while the file was read, and which checks were left out.
        found: by place of a person, what a network found where it looks swapped.
    """

    path: str
    images: int
    persons: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    found: dict[int, Poses]

    @property
    def exit_code(self) -> int:
        """1 where there is an error, else 0."""
        return int(any(finding.level == "error" for finding in self.findings))

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.images} images, {self.persons} persons", *(f"note: {one}" for one in self.notes)]
        for one in self.findings:
            examples = "; ".join(case.text for case in one.cases[:EXAMPLES])
            more = "; ..." if len(one.cases) > EXAMPLES else ""
            lines.append(f"{one.level}: {one.kind}, {len(one.cases)}: {one.sentence} {examples}{more}")
        return "\n".join(lines if self.findings else [*lines, "no faults"])

    def to_dict(self) -> dict[str, Any]:
        """Return what check.json holds."""
        return WRITER | {
            "annotations": self.path,
            "images": self.images,
            "persons": self.persons,
            "notes": [*self.notes],
            "findings": [
                {
                    "kind": one.kind,
                    "level": one.level,
                    "sentence": one.sentence,
                    "count": len(one.cases),
                    "cases": [case.text for case in one.cases],
                }
                for one in self.findings
            ],
        }


def check_data(
    file: str,
    *,
    images: str,
    against: str | None = None,
    model: str = "auto",
    out: str | None = None,
    category: str | None = None,
) -> Report:
    """List all faults of an annotated set; the exit code is 1 where there is an error.

    Args:
        file: COCO-style annotation file, or the export of an annotation tool (see docs/annotations.md).
        images: folder of its images.
        against: other sets that must share no image with it, such as val.json; several with commas between. Their
            images lie in the same folder, or in one of their own: val.json=val_images.
        model: network that looks for swapped sides: name or file; "auto" takes the strongest that is here, "none"
            leaves this check out.
        out: folder for check.json, and check.html with the worst cases drawn.
        category: name or id of the category that is meant, where several have keypoints.

    Returns:
        The report.
    """
    others = [_file_and_folder(word, images) for word in against.split(",")] if against else []
    places = [] if out is None else [Path(out) / name for name in ("check.json", "check.html")]
    check_needs(
        exports=(file, *(path for path, _ in others)),
        folders=(images, *(folder for _, folder in others)),
        places=places,
    )
    for place in places:
        _refuse_others(place)
    predictor = None if model == "none" else Predictor(model, detector=None)
    if predictor is not None and predictor.bottom_up:
        raise InputError(f"{model} looks at whole images; give --model a top-down network, or none.")
    annotated, notes = read_tolerantly(file, images, category)
    looks = look_at_images(annotated)
    sizes = [look.size if size is None else size for size, look in zip(annotated.sizes, looks, strict=True)]
    annotated = replace(annotated, sizes=sizes)
    findings = [*faults(annotated), *image_faults(annotated, looks)]
    for path, folder in others:
        other, _ = read_tolerantly(path, folder, category)
        findings += shared_images(annotated, looks, other, look_at_images(other), path)
    found: dict[int, Poses] = {}
    if predictor is not None:
        try:
            swaps, found = swapped_sides(annotated, predictor, [_usable(look) for look in looks])
            findings += swaps
        except InputError as error:
            notes.append(str(error))
    findings.sort(key=lambda finding: finding.level)
    report = Report(file, len(annotated.names), len(annotated.person_ids), tuple(findings), tuple(notes), found)
    if out is not None:
        write_text(Path(out) / "check.html", _page(report, annotated))
        write_text(Path(out) / "check.json", json.dumps(report.to_dict(), indent=1))
    return report


def _file_and_folder(word: str, images: str) -> tuple[str, str]:
    path, _, folder = word.strip().partition("=")
    return path, folder or images


def _usable(look: Look) -> bool:
    return look.seen is not None and not look.resized


def read_tolerantly(path: str, images: str, category: str | None) -> tuple[LenientSet, list[str]]:
    """Return an annotation tool's export as far as it can be used, and notes on what was guessed."""
    form, raw = opened(path)
    folder = Path(images)
    content, notes = coco.read(raw, path, folder, None) if form == "coco" else read_form(form, raw, path, folder)
    return read_leniently(content, path, folder, category), [*notes]


def _refuse_others(place: Path) -> None:
    """Raise InputError where a file is there that no earlier check wrote."""
    if not place.exists():
        return
    try:
        text = place.read_text("utf-8")
        own = GENERATOR in text if place.suffix == ".html" else WRITER.items() <= json.loads(text).items()
    except (OSError, ValueError, AttributeError):
        own = False
    if not own:
        raise InputError(f"{place} is not of leanpose data check, so it is left as it is; choose another folder.")


def _page(report: Report, annotated: LenientSet) -> str:
    """Return the page: a table of all findings, then their worst cases."""
    rows = [(one.level, one.kind, len(one.cases), one.sentence) for one in report.findings]
    parts = [
        GENERATOR,
        page.paragraph(f"{report.images} images, {report.persons} persons"),
        *map(page.paragraph, report.notes),
        page.table(("level", "finding", "count", "what it means"), rows) if rows else page.paragraph("no faults"),
    ]
    for one in report.findings:
        parts += [page.heading(f"{one.kind} ({len(one.cases)})"), page.paragraph(one.sentence)]
        parts.append(page.figures(_figures(one.cases[:DRAWN], annotated, report.found)))
    return page.page(f"Check of {report.path}", parts)


def _figures(cases: Sequence[Case], annotated: LenientSet, found: dict[int, Poses]) -> list[str]:
    """Return cases as figures, those without an image as paragraphs."""
    parts = []
    for case in cases:
        try:
            image = None if case.image is None else read_image(annotated.paths[case.image])
            if image is None:
                raise InputError("nothing to draw")
            jpeg = encoded(_drawn(image, case, annotated, found)[..., ::-1], Path("case.jpg"))
            parts.append(page.figure(jpeg, case.text, "image/jpeg"))
        except InputError:
            parts.append(page.paragraph(case.text))
    return parts


def _drawn(image: np.ndarray, case: Case, annotated: LenientSet, found: dict[int, Poses]) -> np.ndarray:
    """Return a case drawn: a person, at its right what was found; or an image, at its right the one it looks like."""
    if case.person is not None:
        return drawn_person(image, annotated, case.person, found.get(case.person))
    others = [read_image(case.beside)] if case.beside else []
    return beside([scaled(one) for one in (image, *others)])
