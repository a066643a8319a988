"""A COCO-style annotation file with an image entry for each frame; and COCO result lists, which are only read.

Annotations go to the disk as they come. The file is there once it is closed.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.errors import InputError
from leanpose.io.files import WholeFile
from leanpose.io.frames.interface import (
    UNKNOWN_SIZE,
    Clip,
    FrameWriter,
    is_calibrated,
    make_poses,
    time_of,
    whole_number,
)
from leanpose.io.own_files import COCO_INFO
from leanpose.io.results import to_coco
from leanpose.io.values import Id, Known, entries, identity, number, numbers, read_json, shown
from leanpose.keypoint_sets import COCO, KeypointSet, keypoint_set_from_coco
from leanpose.structures import Frame, Poses


class CocoWriter(FrameWriter):
    """Beside COCO's keys, images have `index` and `time_s`, and annotations `keypoint_scores` and, if tracked,
    `track_id`."""

    def __init__(self, path: Path, clip: Clip) -> None:
        self._clip = clip
        self._images: list[dict[str, Any]] = []
        self._persons = 0
        self._file = WholeFile(path)
        self._put("{" + f'"info": {json.dumps(COCO_INFO | {"leanpose": dict(clip.provenance)})},\n"annotations": [')

    def write(self, frame: Frame) -> None:
        image, persons = self.entries(frame)
        self._images.append(image | {"index": frame.index, "time_s": _finite(frame.time_s)})
        for person in persons:
            self._persons += 1
            comma = ",\n" if self._persons > 1 else "\n"
            self._put(comma + json.dumps(person | {"id": self._persons, "image_id": image["id"]}))

    def entries(self, frame: Frame) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the entry of a frame's image, and those of its persons."""
        content = to_coco([(f"{frame.index:06d}.jpg", frame.image_size, frame.poses)], {})
        for i, person in enumerate(content["annotations"]):
            person["keypoint_scores"] = frame.poses.scores[i].round(4).astype(float).tolist()
            if frame.poses.ids is not None:
                person["track_id"] = int(frame.poses.ids[i])
        return content["images"][0] | {"id": len(self._images) + 1}, content["annotations"]

    def images(self) -> list[dict[str, Any]]:
        """Return the entries of all images."""
        return self._images

    def close(self) -> None:
        if not self._file.closed:
            names = self._clip.keypoint_set
            edges = (names.edge_indices + 1).tolist()
            category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(names.keypoints)}
            self._put(f'\n],\n"categories": {json.dumps([category | {"skeleton": edges}])},\n"images": [')
            self._put(",\n".join(map(json.dumps, self.images())) + "]}\n")
            self._file.close()

    def _put(self, text: str) -> None:
        self._file.write(text.encode())


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def read_coco(path: Path, fps: float | None) -> Iterator[Frame]:
    """Read a COCO-style annotation file, PoseTrack's form of it, or a list of COCO results (of COCO's keypoints)."""
    content = read_json(path)
    if isinstance(content, list):
        return _frames(path, fps, _images_of_results(content, path), content, COCO, False)
    lists = [content.get(key) for key in ("images", "annotations")] if isinstance(content, dict) else [None]
    if not all(isinstance(one, list) for one in lists):
        raise InputError(f"{path} must hold the lists 'images' and 'annotations', as COCO files do.")
    annotations, images = (entries(content[key], (), f"{path}: {key}") for key in ("annotations", "images"))
    categories = content.get("categories")
    if not isinstance(categories, list):
        raise InputError(f"{path} must hold the list 'categories', one of which names the keypoints.")
    info = content.get("info")
    calibrated = isinstance(info, dict) and is_calibrated(info.get("leanpose"))
    return _frames(path, fps, images, annotations, keypoint_set_from_coco(categories, str(path)), calibrated)


def _images_of_results(results: list[Any], path: Path) -> list[dict[str, Any]]:
    """Return image entries for a list of results: one for each id, whose number counts as the frame's."""
    ids = dict.fromkeys(
        identity(one["image_id"], f"{path}: result {i}: 'image_id'")
        for i, one in enumerate(entries(results, ("image_id", "keypoints", "score"), f"{path}: result"))
    )
    return [{"id": one} | ({"index": one} if isinstance(one, int) else {}) for one in ids]


def _frames(
    path: Path,
    fps: float | None,
    images: list[dict[str, Any]],
    persons: list[Any],
    keypoint_set: KeypointSet,
    calibrated: bool,
) -> Iterator[Frame]:
    known = Known(identity(image.get("id"), f"{path}: image {i}: 'id'") for i, image in enumerate(images))
    of_image: dict[Id, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for i, person in enumerate(persons):
        where = f"{path}: annotation {i}"
        image_id = known.find(person.get("image_id"))
        if image_id is None:
            raise InputError(f"{where} is of an image {shown(person.get('image_id'))} that is not listed.")
        if person.get("keypoints"):  # boxes and crowds have none
            of_image[image_id].append((where, person))
    for i, image in enumerate(images):
        where = f"{path}: image {i}"
        index = whole_number(image.get("index", i), f"{where}: 'index'")
        time_s = image.get("time_s")
        sizes = [whole_number(image[key], f"{where}: '{key}'") for key in ("height", "width") if key in image]
        yield Frame(
            index,
            time_of(index, fps) if time_s is None else number(time_s, f"{where}: 'time_s'"),
            _poses(of_image[identity(image["id"], where)], keypoint_set, calibrated),
            (sizes[0], sizes[1]) if len(sizes) == 2 else UNKNOWN_SIZE,
        )


def _poses(persons: list[tuple[str, dict[str, Any]]], keypoint_set: KeypointSet, calibrated: bool) -> Poses:
    n, k = len(persons), len(keypoint_set)
    triples, boxes, person_scores = np.zeros((n, k, 3)), np.zeros((n, 4)), np.ones(n)
    scores, absent, ids = np.full((n, k), np.nan), np.zeros((n, k), bool), []
    for i, (where, person) in enumerate(persons):
        triples[i] = numbers(person["keypoints"], (3 * k,), f"{where}: 'keypoints'").reshape(k, 3)
        is_result = "id" not in person  # whose third values are scores, not labels
        of_keypoints = person.get("keypoint_scores") or person.get("scores")
        if of_keypoints:
            scores[i] = numbers(of_keypoints, (k,), f"{where}: 'keypoint_scores'")
        elif is_result:
            scores[i] = triples[i, :, 2]
        absent[i] = (triples[i, :, :2] == 0).all(axis=1) if is_result else triples[i, :, 2] <= 0
        if "score" in person:
            person_scores[i] = number(person["score"], f"{where}: 'score'")
        if person.get("bbox"):
            boxes[i] = numbers(person["bbox"], (4,), f"{where}: 'bbox'")
            boxes[i, 2:] += boxes[i, :2]
        ids.append(whole_number(person["track_id"], f"{where}: 'track_id'") if "track_id" in person else None)
    keypoints = np.where(absent[..., None], np.nan, triples[..., :2])
    return make_poses(keypoint_set, keypoints, scores, ids, boxes, person_scores, calibrated)
