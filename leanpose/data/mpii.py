"""Read MPII's lists of persons: HRNet's JSON files and Newell's HDF5 files.

Both count pixels from 1, and give a person's place as a centre and a scale: the person's height over 200 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.data.coco_style import read_json, require_keys
from leanpose.errors import InputError, require
from leanpose.keypoint_sets import MPII, KeypointSet, convert
from leanpose.structures import Sample

HDF5 = (".h5", ".hdf5")
K = len(MPII)

# One person as a file has it, still counted from 1: name of the picture, centre (2,) and side of the box, keypoints
# (K, 2), visibility (K,) as COCO has it.
Entry = tuple[str, np.ndarray, float, np.ndarray, np.ndarray]


def is_mpii(annotations: str | Path) -> bool:
    """Tell whether a file is a list of MPII persons: HDF5 by its name, or a JSON file that holds a list."""
    path = Path(annotations)
    if path.suffix in HDF5:
        return True
    try:
        with path.open("rb") as file:
            return file.read(1024).lstrip().startswith(b"[")
    except OSError:
        return False  # the reader of COCO-style files says why


def read_persons(annotations: str | Path, images: str | Path) -> list[Sample]:
    """Read every person of a list, in its order, also those without labelled keypoints.

    Args:
        annotations: HRNet's JSON file, or Newell's HDF5 file (.h5), which needs the package h5py.
        images: folder of the pictures.

    Returns:
        Samples with MPII's keypoints; `image_id` is the picture's name. The box is the square of HRNet without its
        factor 1.25, which is the `padding` of a Weights record: side 200 scale, 15 scale below the centre. It holds
        NaN where the file gives no place (centre -1). A JSON file only tells which keypoints are labelled; they
        count as visible.

    Raises:
        InputError: the file cannot be read, has another form, or is empty.
    """
    path = Path(annotations)
    entries = _hdf5_entries(path) if path.suffix in HDF5 else _json_entries(path)
    samples = []
    for name, centre, side, keypoints, visibility in entries:
        half = side / 2 if side > 0 and centre[0] != -1 else np.nan
        samples.append(
            Sample(
                image_path=str(Path(images) / name),
                image_id=name,
                box_xyxy=np.concatenate([centre - 1 - half, centre - 1 + half]).astype(np.float32),
                keypoints=np.where(visibility[:, None] > 0, keypoints - 1, np.nan).astype(np.float32),
                visibility=visibility.astype(np.int8),
            )
        )
    if not samples:
        raise InputError(f"{annotations} holds no person.")
    return samples


def read_samples(annotations: str | Path, images: str | Path, keypoint_set: KeypointSet | None = None) -> list[Sample]:
    """Read every person with a place and at least one labelled keypoint, as `coco_style.read_samples` does.

    Args:
        annotations, images: as `read_persons`.
        keypoint_set: the set wanted; keypoints are carried over by name, absent ones count as unlabelled. None: MPII's.
    """
    keypoint_set = keypoint_set or MPII
    samples = []
    for person in read_persons(annotations, images):
        keypoints, visibility = convert(person.keypoints[None], person.visibility[None], MPII, keypoint_set)
        if np.isfinite(person.box_xyxy).all() and visibility.any():
            samples.append(Sample(person.image_path, person.image_id, person.box_xyxy, keypoints[0], visibility[0]))
    if not samples:
        raise InputError(
            f"{annotations} holds no person with a place and a labelled keypoint of the set '{keypoint_set.name}'."
        )
    return samples


def _json_entries(path: Path) -> Iterator[Entry]:
    """Read HRNet's form: a list of image, center, scale, and (not in test files) joints and joints_vis."""
    persons = read_json(path)
    if not isinstance(persons, list) or not persons or not isinstance(persons[0], dict) or "image" not in persons[0]:
        raise InputError(f"{path} is no COCO-style file, and no list of MPII persons either.")
    require_keys(persons, ("image", "center", "scale"), "person", path)
    for i, person in enumerate(persons):
        where = f"{path}: person {i}"
        if not isinstance(person["image"], str):
            raise InputError(f"{where}: 'image' must be the name of a picture.")
        centre = _numbers(person["center"], (2,), f"{where}: 'center'")
        scale = float(_numbers(person["scale"], (), f"{where}: 'scale'"))
        keypoints, labelled = np.zeros((K, 2)), np.zeros(K)
        if "joints" in person:
            keypoints = _numbers(person["joints"], (K, 2), f"{where}: 'joints'")
            labelled = _numbers(person.get("joints_vis"), (K,), f"{where}: 'joints_vis'")
        yield person["image"], centre + np.array([0, 15 * scale]), 200 * scale, keypoints, np.where(labelled > 0, 2, 0)


def _hdf5_entries(path: Path) -> Iterator[Entry]:
    """Read Newell's form: imgname, center, scale, and part and visible (not in test files), arrays over persons.

    Its centres are already lowered, and its scales multiplied by 1.25.
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
    centres, scales, parts, visible = (_numbers(arrays.get(key), shapes[key], f"{path}: '{key}'") for key in shapes)
    visibility = (parts != 0).any(axis=2) * np.where(visible > 0, 2, 1)
    for i, name in enumerate(names):
        yield name, centres[i], 200 * scales[i] / 1.25, parts[i], visibility[i]


def _numbers(values: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.full(shape, np.nan)
    if array.shape != shape or not np.isfinite(array).all():
        raise InputError(f"{what} must be {' x '.join(map(str, shape)) or 'one'} numbers, without NaN.")
    return array
