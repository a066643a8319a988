"""Annotated pictures that tests make for themselves: coloured stick figures with a COCO-style file."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from leanpose.keypoint_sets import COCO, KeypointSet

# A standing person by keypoint name without its side: x away from the middle, y from the top, of a box of height 1.
BODY = {
    "nose": (0.0, 0.09), "eye": (0.03, 0.05), "ear": (0.06, 0.07), "shoulder": (0.13, 0.2), "elbow": (0.18, 0.36),
    "wrist": (0.2, 0.52), "hip": (0.09, 0.53), "knee": (0.1, 0.74), "ankle": (0.12, 0.95),
    "neck": (0.0, 0.17), "top_head": (0.0, 0.01),
}  # fmt: skip

MakePeople = Callable[..., tuple[Path, Path]]


@pytest.fixture
def people(tmp_path: Path) -> MakePeople:
    """Return a function that writes pictures with one person each and returns annotation file and picture folder."""

    def make(
        name: str = "people", count: int = 4, keypoint_set: KeypointSet = COCO, seed: int = 0
    ) -> tuple[Path, Path]:
        folder = tmp_path / name
        images = folder / "images"
        images.mkdir(parents=True)
        random = np.random.default_rng(seed)
        entries = [_person(i, images, keypoint_set, random) for i in range(1, count + 1)]
        file = folder / "people.json"
        category = {"id": 1, "name": "person", "keypoints": list(keypoint_set.keypoints), "skeleton": []}
        content = {
            "images": [image for image, _ in entries],
            "annotations": [annotation for _, annotation in entries],
            "categories": [category],
        }
        file.write_text(json.dumps(content))
        return file, images

    return make


def _person(
    number: int, images: Path, keypoint_set: KeypointSet, random: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write one picture; return its entries in 'images' and 'annotations'."""
    picture = np.full((120, 100, 3), 90, np.uint8)
    size, middle, top = random.uniform(70, 100), random.uniform(42, 58), random.uniform(5, 15)
    points = []
    for name in keypoint_set.keypoints:
        side = {"left": 1, "right": -1}.get(name.partition("_")[0], 0)
        x, y = BODY[name.removeprefix("left_").removeprefix("right_")]
        points.append((middle + side * x * size, top + y * size))
    keypoints = np.array(points) + random.normal(0, 0.01 * size, (len(points), 2))
    for a, b in keypoint_set.edge_indices:
        ends = [tuple(int(v) for v in np.round(keypoints[i])) for i in (a, b)]
        cv2.line(picture, ends[0], ends[1], (150, 150, 150), 2)
    for i, point in enumerate(keypoints):
        colour = [int(255 * v) for v in colorsys.hsv_to_rgb(i / len(keypoints), 1, 1)]
        cv2.circle(picture, tuple(int(v) for v in np.round(point)), 3, colour, -1)
    file_name = f"{number}.png"
    cv2.imwrite(str(images / file_name), picture[..., ::-1])
    (left, upper), (right, lower) = keypoints.min(0) - 4, keypoints.max(0) + 4
    box = [float(left), float(upper), float(right - left), float(lower - upper)]
    image = {"id": number, "file_name": file_name, "width": picture.shape[1], "height": picture.shape[0]}
    annotation = {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "bbox": box,
        "area": box[2] * box[3] * 0.6,
        "iscrowd": 0,
        "num_keypoints": len(keypoints),
        "keypoints": [float(v) for point in keypoints for v in (*point, 2)],
    }
    return image, annotation
