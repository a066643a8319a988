"""The verb `data split`: an annotated set as several files, one for each part."""

from __future__ import annotations

import json
from pathlib import Path

from leanpose.data.formats import read_export
from leanpose.data.split import By, split
from leanpose.errors import InputError, note
from leanpose.io.files import write_text
from leanpose.io.preflight import check_needs


def split_data(
    file: str,
    *,
    images: str,
    out: str,
    parts: str = "train=0.8,val=0.2",
    by: By = "image",
    group: str | None = None,
    seed: int = 0,
    category: str | None = None,
) -> str:
    """Split an annotated set into parts, each a COCO-style file; every image lands in exactly one.

    Args:
        file: COCO-style annotation file, or the export of an annotation tool (see docs/annotations.md).
        images: folder of its images.
        out: folder for the files, such as train.json and val.json; none that is there is replaced.
        parts: share of the images for each part, met as well as whole groups allow.
        by: what stays together: "image" nothing, "group" what --group says, "scene" images that look nearly the same.
        group: a key of the image entries, such as video_id, or a regular expression on their names, such as
            "^(.+)_frame": images for which what it finds in brackets is the same stay together.
        seed: another one gives another split; ids and the order in the file change nothing.
        category: name or id of the category that is meant, where several have keypoints.

    Returns:
        A line for each part: its file, images and persons.
    """
    shares = _shares(parts)
    places = {name: Path(out) / f"{name}.json" for name in shares}
    check_needs(exports=(file,), folders=(images,), places=places.values())
    for place in places.values():
        if place.exists():
            raise InputError(f"{place} is there already; choose another folder, or delete it.")
    export = read_export(file, images, category)
    for line in export.notes:
        note(line)
    lines = []
    for name, content in split(export.content, shares, by, seed, group, images).items():
        write_text(places[name], json.dumps(content))
        share = len(content["images"]) / len(export.content["images"])
        lines.append(
            f"{places[name]}: {len(content['images'])} images ({share:.1%}), {len(content['annotations'])} persons"
        )
    return "\n".join(lines)


def _shares(text: str) -> dict[str, float]:
    """Read "train=0.8,val=0.2"."""
    shares: dict[str, float] = {}
    for word in text.split(","):
        name, _, share = (piece.strip() for piece in word.partition("="))
        try:
            known = name in shares or not name or name != Path(name).name
            shares[name] = -1.0 if known else float(share)
        except ValueError:
            shares[name] = -1.0
    if min(shares.values()) <= 0:
        raise InputError(f"--parts must be names with shares above 0, such as train=0.8,val=0.2, not '{text}'.")
    return shares
