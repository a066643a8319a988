"""`leanpose data convert`: annotations from one form to another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from leanpose.data.coco import CocoSet
from leanpose.data.completed import completed
from leanpose.data.formats import FORMS, read_export
from leanpose.errors import InputError, note
from leanpose.io.preflight import check_needs


def convert_data(
    source: str,
    out: str,
    *,
    to: Literal["coco", "yolo", "labelme", "makesense", "deeplabcut"],
    images: str | None = None,
    category: str | None = None,
    keypoints: list[str] | None = None,
    sigmas: list[float] | None = None,
) -> str:
    """Convert the export of an annotation tool to another form; what that cannot hold is named.

    To COCO, a category of own keypoints gets what it lacks: flip pairs, a skeleton and OKS sigmas.

    Args:
        source: file or folder of annotations: COCO JSON, YOLO-pose (data YAML, or a folder of labels below it),
            labelme, makesense, DeepLabCut or Label Studio; which of them, its content tells.
        out: file to write (coco: .json, deeplabcut: .csv), or folder (yolo, labelme, makesense); it may not be there.
        to: "coco", "yolo", "labelme", "makesense" or "deeplabcut".
        images: folder of the images; needed where sizes of images are and the export does not say them. yolo copies
            them.
        category: name or id of the category that is meant, where several have keypoints.
        keypoints: names of the keypoints in order, such as [nose,tail], where the export lacks names or their order.
        sigmas: OKS sigmas of the keypoints, such as [0.03,0.08], in place of guessed ones; for coco.
    """
    place = Path(out)
    if os.path.lexists(place) and not (place.is_dir() and not any(place.iterdir())):
        raise InputError(f"{out} is there already, and nothing is overwritten; choose another place.")
    suffix = {"coco": ".json", "deeplabcut": ".csv"}.get(to, "")
    if suffix and place.suffix.lower() != suffix:
        raise InputError(f"The output of {to} is a file that ends in {suffix}, not {place.name}.")
    if sigmas and to != "coco":
        raise InputError(f"{to} holds no sigmas; leave --sigmas out, or convert to coco.")
    check_needs(folders=() if images is None else (images,), places=(place,))
    export = read_export(source, images, category, keypoints)
    CocoSet(export.content, source, None)  # refuses ids that clash, and what else nobody could use
    content, notes = completed(export.content, sigmas) if to == "coco" else (export.content, ())
    if not content["categories"][0]["keypoints"] and to != "coco":
        raise InputError(f"{source} has boxes but no keypoints; these are written to coco only.")
    for line in (*export.notes, *notes):
        note(line)
    for loss in FORMS[to].lost(content):
        note(f"{to} cannot hold {loss}.")
    FORMS[to].write(content, place, None if images is None else Path(images))
    count = len(content["annotations"])
    return f"{out}: {count} annotations in {len(content['images'])} images, from {export.form}."
