"""Read MPII's lists of persons: HRNet's JSON files and Newell's HDF5 files.

Both count pixels from 1, and give a person's place as a center and a scale: the person's height over 200 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.data.entries import locate
from leanpose.data.scenes import Views
from leanpose.errors import InputError, require
from leanpose.io.values import entries, number, numbers, text
from leanpose.keypoint_sets import MPII, KeypointSet, convert, without_partner
from leanpose.metrics.pckh import PckhTruth, pckh_metrics, read_truth, truth_file
from leanpose.structures import ImageBoxes, Sample, Scene

K = len(MPII)

# One person as a file has it, still counted from 1: name of the image, center (2,) and side of the box, keypoints
# (K, 2), visibility (K,) as COCO has it.
Entry = tuple[str, np.ndarray, float, np.ndarray, np.ndarray]


class MpiiSet:
    """A list of MPII persons, read and checked once.

    A person's box is the square of HRNet without its factor 1.25, which is the `padding` of a Weights record: side 200
    scale, 15 scale below the center. A JSON file only tells which keypoints are labelled; they count as visible. The
    name of an image is its id.

    Args:
        listed: its entries, as `json_entries` and `hdf5_entries` give them.
        path: its name.
        images: folder of the images; None if nobody looks at them.

    Raises:
        InputError: an entry cannot be used, or there is none.
    """

    keypoint_set = MPII

    def __init__(self, listed: Iterable[Entry], path: str, images: Path | None) -> None:
        self.path = path
        listed = [*listed]
        if not listed:
            raise InputError(f"{path} holds no person.")
        names = [name for name, *_ in listed]
        places = {name: name for name in names} if images is None else locate(images, names)
        self.persons = [
            Sample(
                image_path=places[name],
                image_id=name,
                box_xyxy=_square(center, side),
                keypoints=np.where(visibility[:, None] > 0, keypoints - 1, np.nan).astype(np.float32),
                visibility=visibility.astype(np.int8),
            )
            for name, center, side, keypoints, visibility in listed
        ]

    def samples(self, keypoint_set: KeypointSet | None = None) -> list[Sample]:
        """Return every person with a place and at least one labelled keypoint, as `CocoSet.samples` does."""
        wanted = keypoint_set or MPII
        keypoints, visibility = convert(
            np.stack([person.keypoints for person in self.persons]),
            np.stack([person.visibility for person in self.persons]),
            MPII,
            wanted,
        )
        samples = [
            replace(person, keypoints=its_keypoints, visibility=seen)
            for person, its_keypoints, seen in zip(self.persons, keypoints, visibility, strict=True)
            if np.isfinite(person.box_xyxy).all() and seen.any()
        ]
        if not samples:
            raise InputError(
                f"{self.path} holds no person with a place and a labelled keypoint of the set '{wanted.name}'."
            )
        return samples

    def scenes(self, keypoint_set: KeypointSet, views: Views = "images") -> list[Scene]:
        """Raise InputError: not all persons of an image are annotated."""
        raise InputError(
            f"{self.path} is a list of MPII persons, which lacks many persons of its images; networks that find "
            "everybody learn from COCO-style files."
        )

    def images(self, boxes: str | Path | None = "gt") -> list[ImageBoxes]:
        """Return the images with the places of all persons of the list, each of whom gets one pose.

        Args:
            boxes: "gt"; anything else raises InputError.
        """
        if boxes != "gt":
            raise InputError(
                f"{self.path} is a list of MPII persons, each of whom gets one pose: use a network that takes boxes, "
                "and the boxes of the list."
            )
        for i, person in enumerate(self.persons):
            if np.isnan(person.box_xyxy).any():
                raise InputError(f"{self.path}: person {i} has no place: its center is -1 or its scale not above 0.")
        return self._by_image(range(len(self.persons)))

    def everybody(self) -> list[ImageBoxes]:
        """Return the images with the boxes of all persons who have a place."""
        return self._by_image(i for i, person in enumerate(self.persons) if np.isfinite(person.box_xyxy).all())

    def _by_image(self, chosen: Iterable[int]) -> list[ImageBoxes]:
        by_image: dict[int | str, list[int]] = {person.image_id: [] for person in self.persons}
        for i in chosen:
            by_image[self.persons[i].image_id].append(i)
        path_of = {person.image_id: person.image_path for person in self.persons}
        return [
            ImageBoxes(
                path_of[image_id],
                image_id,
                np.array([self.persons[i].box_xyxy for i in persons], np.float32).reshape(-1, 4),
                np.ones(len(persons), np.float32),
                persons=tuple(persons),
            )
            for image_id, persons in by_image.items()
        ]

    @cached_property
    def truth(self) -> PckhTruth:
        """The ground truth beside the list."""
        return read_truth(truth_file(self.path))

    def check(self, keypoint_set: KeypointSet, model: str) -> None:
        """Raise InputError where a model has other keypoints, or the ground truth beside the list is not of the same
        persons, or counts nobody."""
        if without_partner(MPII, keypoint_set) or without_partner(keypoint_set, MPII):
            raise InputError(
                f"{self.path} has the keypoints 'mpii', but {model} predicts '{keypoint_set.name}'; use a set and a "
                "model of the same keypoints."
            )
        known = len(self.truth.keypoints)
        if known != len(self.persons):
            raise InputError(
                f"{self.truth.path} is the ground truth of {known} persons, but {self.path} lists {len(self.persons)}."
            )
        if not self.truth.labelled.any():
            raise InputError(f"{self.truth.path} counts nobody, so that it gives no figure: no keypoint is labelled.")

    def score(self, results: list[dict[str, Any]], keypoint_set: KeypointSet) -> dict[str, float]:
        """Return the figures of results, 0 to 1; see `pckh_metrics`."""
        return pckh_metrics(self.truth, results, keypoint_set)


def _square(center: np.ndarray, side: float) -> np.ndarray:
    """Return a box (4,) float32 in pixels from 0; NaN where the file gives no place (center -1)."""
    half = side / 2 if side > 0 and center[0] != -1 else np.nan
    return np.concatenate([center - 1 - half, center - 1 + half]).astype(np.float32)


def json_entries(persons: list[Any], path: str) -> Iterator[Entry]:
    """Read HRNet's form: a list of image, center, scale, and (not in test files) joints and joints_vis."""
    if not persons or not isinstance(persons[0], dict) or "image" not in persons[0]:
        raise InputError(f"{path} is no COCO-style file, and no list of MPII persons either.")
    entries(persons, ("image", "center", "scale"), f"{path}: person")
    for i, person in enumerate(persons):
        where = f"{path}: person {i}"
        name = text(person["image"], f"{where}: 'image'")
        center = numbers(person["center"], (2,), f"{where}: 'center'")
        scale = number(person["scale"], f"{where}: 'scale'")
        keypoints, labelled = np.zeros((K, 2)), np.zeros(K)
        if "joints" in person:
            keypoints = numbers(person["joints"], (K, 2), f"{where}: 'joints'")
            labelled = numbers(person.get("joints_vis"), (K,), f"{where}: 'joints_vis'")
        yield name, center + np.array([0, 15 * scale]), 200 * scale, keypoints, np.where(labelled > 0, 2, 0)


def hdf5_entries(path: str) -> Iterator[Entry]:
    """Read Newell's form, which needs the package h5py.

    That is imgname, center, scale, and part and visible (not in test files), arrays over persons.

    Its centers are already lowered, and its scales multiplied by 1.25.
    """
    h5py = require("h5py", "train")
    try:
        with h5py.File(path) as file:
            names = file["imgname"].asstr(errors="replace")[()]
            arrays = {key: file[key][()] for key in ("center", "scale", "part", "visible") if key in file}
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; check the path.") from None
    except OSError:
        raise InputError(f"{path} cannot be read as an HDF5 file.") from None
    except (AttributeError, KeyError, TypeError):
        raise InputError(
            f"{path} is no list of MPII persons: it needs the arrays imgname (of words), center and scale."
        ) from None
    n = len(names)
    arrays = {"part": np.zeros((n, K, 2)), "visible": np.ones((n, K))} | arrays
    shapes: dict[str, tuple[int, ...]] = {"center": (n, 2), "scale": (n,), "part": (n, K, 2), "visible": (n, K)}
    centers, scales, parts, visible = (numbers(arrays.get(key), shapes[key], f"{path}: '{key}'") for key in shapes)
    visibility = (parts != 0).any(axis=2) * np.where(visible > 0, 2, 1)
    for i, name in enumerate(names):
        yield name, centers[i], 200 * scales[i] / 1.25, parts[i], visibility[i]
