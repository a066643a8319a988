"""The door to annotated sets: whatever form a file has, its reader is chosen here."""

from __future__ import annotations

from pathlib import Path

from leanpose.data import coco_style, mpii
from leanpose.data.coco_style import Views
from leanpose.errors import InputError
from leanpose.keypoint_sets import KeypointSet
from leanpose.structures import Sample, Scene


def read_samples(annotations: str | Path, images: str | Path, keypoint_set: KeypointSet | None = None) -> list[Sample]:
    """Read the persons to train on: those with a box and a labelled keypoint.

    Args:
        annotations: COCO-style JSON file, or MPII's list (JSON or .h5).
        images: folder of the pictures.
        keypoint_set: the set wanted; keypoints are carried over by name, absent ones count as unlabelled.
            None: the file's own set.
    """
    reader = mpii if mpii.is_mpii(annotations) else coco_style
    return reader.read_samples(annotations, images, keypoint_set)


def read_scenes(
    annotations: str | Path, images: str | Path, keypoint_set: KeypointSet, views: Views = "pictures"
) -> list[Scene]:
    """Read the pictures to train on, with all their persons; see `coco_style.read_scenes`.

    Raises:
        InputError: the file cannot be read, or is MPII's, where not all persons of a picture are annotated.
    """
    if mpii.is_mpii(annotations):
        raise InputError(
            f"{annotations} is a list of MPII persons, which lacks many persons of its pictures; networks that find "
            "everybody learn from COCO-style files."
        )
    return coco_style.read_scenes(annotations, images, keypoint_set, views)
