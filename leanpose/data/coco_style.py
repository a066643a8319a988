"""Read COCO-style annotation files: COCO, LSP, CrowdPose and any set in the same form."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from leanpose.errors import InputError
from leanpose.geometry import Size
from leanpose.keypoint_sets import KeypointSet, convert, keypoint_set_from_coco
from leanpose.structures import Sample, Scene

Views = Literal["pictures", "persons"]

MAX_PEOPLE = 30  # in one scene
ALL_KNOWN, BOX_KNOWN, NOTHING_KNOWN = 255, 128, 0  # about the persons at a pixel of a picture


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a missing or broken one raises InputError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON ({error.msg} in line {error.lineno}).") from None
    except RecursionError:
        raise InputError(f"{path} is not valid JSON (too many brackets inside one another).") from None


def read_annotations(path: str | Path) -> tuple[dict[str, Any], KeypointSet]:
    """Read an annotation file and its keypoint set.

    Returns:
        The file's content, checked: keys images, annotations, categories; every annotation has image_id, bbox of four
        numbers and 3 K keypoint numbers, and its picture is listed.

    Raises:
        InputError: broken JSON, a missing key, a value that is no number, or a keypoint count that does not match the
            categories.
    """
    content = read_json(path)
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise InputError(f"{path} is no COCO-style file: it needs the lists images, annotations and categories.")
    keypoint_set = keypoint_set_from_coco(content["categories"], Path(path).name)
    require_keys(content["images"], ("id", "file_name"), "image", path)
    require_keys(content["annotations"], ("image_id", "bbox", "keypoints"), "annotation", path)
    for i, image in enumerate(content["images"]):
        if not isinstance(image["id"], (int, str)) or not isinstance(image["file_name"], str):
            raise InputError(f"{path}: image {i} needs a number or a word as 'id' and a word as 'file_name'.")
    known = {image["id"] for image in content["images"]}
    for i, annotation in enumerate(content["annotations"]):
        _require_numbers(annotation, "keypoints", f"{path}: annotation {i}")
        _require_numbers(annotation, "bbox", f"{path}: annotation {i}", count=4)
        if len(annotation["keypoints"]) != 3 * len(keypoint_set):
            raise InputError(
                f"{path}: annotation {i} has {len(annotation['keypoints'])} keypoint numbers, but the category names "
                f"{len(keypoint_set)} keypoints, which makes {3 * len(keypoint_set)}."
            )
        if not isinstance(annotation["image_id"], (int, str)) or annotation["image_id"] not in known:
            raise InputError(f"{path}: annotation {i} belongs to image {annotation['image_id']}, not in 'images'.")
    return content, keypoint_set


def require_keys(entries: list[Any], keys: tuple[str, ...], kind: str, path: str | Path) -> None:
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: {kind} {i} must be a mapping of keys to values, not {json.dumps(entry)[:40]}.")
        missing = [key for key in keys if key not in entry]
        if missing:
            raise InputError(f"{path}: {kind} {i} lacks the key '{missing[0]}'.")


def _require_numbers(entry: dict[str, Any], key: str, where: str, count: int | None = None) -> None:
    values = entry[key]
    wanted = "numbers" if count is None else f"{count} numbers"
    if not isinstance(values, list) or count not in (None, len(values)) or not all(map(_is_number, values)):
        raise InputError(f"{where}: '{key}' must be a list of {wanted}, without NaN.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def read_samples(annotations: str | Path, images: str | Path, keypoint_set: KeypointSet | None = None) -> list[Sample]:
    """Read every person with a box and at least one labelled keypoint.

    Args:
        annotations: COCO-style JSON file.
        images: folder of the pictures.
        keypoint_set: the set wanted; keypoints are carried over by name, absent ones count as unlabelled.
            None: the file's own set.

    Returns:
        One Sample a person, in the file's order. Crowd regions are left out. A box is clipped to the picture where
        the file gives the picture's width and height.
    """
    content, file_set = read_annotations(annotations)
    keypoint_set = keypoint_set or file_set
    pictures = {image["id"]: image for image in content["images"]}
    samples = []
    for i, annotation in enumerate(content["annotations"]):
        picture = pictures[annotation["image_id"]]
        box = box_from_xywh(annotation["bbox"], picture)
        triples = np.array(annotation["keypoints"], dtype=np.float32).reshape(1, -1, 3)
        points, visibility = convert(triples[..., :2], triples[..., 2], file_set, keypoint_set)
        weights = _keypoint_weights(annotation, len(file_set), f"{annotations}: annotation {i}")
        if weights is not None:
            weights = convert(triples[..., :2], weights[None], file_set, keypoint_set)[1][0]
        labelled = visibility[0] > 0
        if annotation.get("iscrowd") or box is None or not labelled.any():
            continue
        samples.append(
            Sample(
                image_path=str(Path(images) / picture["file_name"]),
                image_id=annotation["image_id"],
                box_xyxy=box,
                keypoints=np.where(labelled[:, None], points[0], np.nan).astype(np.float32),
                visibility=visibility[0].astype(np.int8),
                weights=weights,
            )
        )
    if not samples:
        raise InputError(
            f"{annotations} holds no person with a box and a labelled keypoint of the set '{keypoint_set.name}'."
        )
    return samples


def _keypoint_weights(annotation: dict[str, Any], count: int, where: str) -> np.ndarray | None:
    """Return `keypoint_weights` of an annotation, a key of ours: (K,) float32 in 0..1; None where it has none."""
    if "keypoint_weights" not in annotation:
        return None
    _require_numbers(annotation, "keypoint_weights", where, count)
    weights = np.array(annotation["keypoint_weights"], dtype=np.float32)
    if not ((weights >= 0) & (weights <= 1)).all():
        raise InputError(f"{where}: 'keypoint_weights' must lie between 0 and 1.")
    return weights


def read_scenes(
    annotations: str | Path, images: str | Path, keypoint_set: KeypointSet, views: Views = "pictures"
) -> list[Scene]:
    """Read the pictures with at least one annotated person, for networks that find everybody at once.

    Args:
        annotations: COCO-style JSON file with the pictures' width and height.
        images: folder of the pictures.
        keypoint_set: the set wanted, which must be the file's own: where keypoints are not annotated at all, a
            network would learn that they are not there.
        views: "pictures" lays a scene around the centre square of each picture, "persons" around the box of each
            person with labelled keypoints.

    Returns:
        Scenes in the file's order, with at most MAX_PEOPLE persons, the largest. Crowd regions, further persons and
        those without labelled keypoints are the scenes' ignored regions; the last stay among the persons, since
        their boxes are known.

    Raises:
        InputError: the file cannot be read, has another keypoint set, or holds no such picture.
    """
    content, file_set = read_annotations(annotations)
    if file_set.keypoints != keypoint_set.keypoints:
        raise InputError(f"{annotations} has the keypoints '{file_set.name}', not '{keypoint_set.name}'.")
    by_picture: dict[Any, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        by_picture.setdefault(annotation["image_id"], []).append(annotation)
    scenes = []
    for picture in content["images"]:
        if picture["id"] in by_picture:
            scenes += _scenes_of(
                picture, by_picture[picture["id"]], Path(images), len(keypoint_set), views, annotations
            )
    if not scenes:
        raise InputError(f"{annotations} holds no picture with an annotated person.")
    return scenes


def _scenes_of(
    picture: dict[str, Any], annotations: list[dict[str, Any]], images: Path, k: int, views: Views, file: str | Path
) -> list[Scene]:
    if not all(_is_number(picture.get(side)) for side in ("width", "height")):
        raise InputError(f"{file}: picture {picture['id']} lacks its 'width' and 'height' in pixels.")
    persons: list[np.ndarray] = []
    boxes: list[np.ndarray] = []
    ignored: list[tuple[np.ndarray, int]] = []
    for annotation in sorted(annotations, key=lambda a: -math.prod(a["bbox"][2:])):
        box = box_from_xywh(annotation["bbox"], picture)
        triples = np.array(annotation["keypoints"], dtype=np.float32).reshape(k, 3)
        if box is None:
            continue
        kept = not annotation.get("iscrowd") and len(persons) < MAX_PEOPLE
        if kept:
            persons.append(triples)
            boxes.append(box)
        if not kept or not triples[:, 2].any():
            try:
                outlines = _outlines(annotation.get("segmentation"), box)
            except (LookupError, TypeError, ValueError):
                raise InputError(
                    f"{file}: a 'segmentation' of picture {picture['id']} is neither polygons nor a run-length mask."
                ) from None
            ignored += [(polygon, BOX_KNOWN if kept else NOTHING_KNOWN) for polygon in outlines]
    if not persons:
        return []
    triples = np.stack(persons)
    labelled = triples[..., 2] > 0
    width, height = picture["width"], picture["height"]
    middle, half = np.array([width - 1, height - 1]) / 2, (min(width, height) - 1) / 2
    whole = np.concatenate([middle - half, middle + half]).astype(np.float32)
    shown = [box for box, seen in zip(boxes, labelled, strict=True) if seen.any()] if views == "persons" else [whole]
    return [
        Scene(
            image_path=str(images / picture["file_name"]),
            image_id=picture["id"],
            box_xyxy=box,
            keypoints=np.where(labelled[..., None], triples[..., :2], np.nan).astype(np.float32),
            visibility=triples[..., 2].astype(np.int8),
            boxes_xyxy=np.stack(boxes),
            ignored=tuple(ignored),
        )
        for box in shown
    ]


def _outlines(segmentation: Any, box: np.ndarray) -> list[np.ndarray]:
    """Return the (n, 2) polygons of an annotation, in picture pixels; its box where it has none we can read.

    A run-length mask (COCO's crowds) is turned into its outlines.

    Raises:
        LookupError, TypeError, ValueError: the annotation is broken.
    """
    if isinstance(segmentation, list) and segmentation:
        polygons = [np.array(polygon, dtype=np.float32).reshape(-1, 2) for polygon in segmentation]
        if not all(np.isfinite(polygon).all() for polygon in polygons):
            raise ValueError("not a number")
        return polygons
    if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), list):
        height, width = segmentation["size"]
        counts = segmentation["counts"]  # runs of 0 and 1 in turn, column after column
        mask = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8).reshape(width, height).T
        outlines, _ = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        return [outline.reshape(-1, 2).astype(np.float32) for outline in outlines]
    x1, y1, x2, y2 = box
    return [np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], dtype=np.float32)]


def known_map(scene: Scene, picture_size: Size) -> np.ndarray:
    """Draw what is known where: (H, W) uint8 of ALL_KNOWN, BOX_KNOWN and NOTHING_KNOWN."""
    known = np.full(picture_size, ALL_KNOWN, dtype=np.uint8)
    for polygon, level in sorted(scene.ignored, key=lambda region: -region[1]):
        cv2.fillPoly(known, [np.round(polygon).astype(np.int32)], level)
    return known


def box_from_xywh(xywh: list[float], picture: dict[str, Any]) -> np.ndarray | None:
    """Return an annotated box as (4,) float32 xyxy, or None where it has no area.

    Clipped as the HRNet family does: the right and bottom edges lie on the last pixel inside, x + w - 1, y + h - 1.
    """
    x, y, w, h = xywh
    x1, y1 = max(0.0, x), max(0.0, y)
    x2 = min((picture.get("width") or np.inf) - 1, x1 + max(0.0, w - 1))
    y2 = min((picture.get("height") or np.inf) - 1, y1 + max(0.0, h - 1))
    return np.array([x1, y1, x2, y2], dtype=np.float32) if x2 > x1 and y2 > y1 else None


def read_detections(path: str | Path) -> list[dict[str, Any]]:
    """Read a person-detection file: a list of {image_id, bbox xywh, score, category_id}; category 1 is kept.

    Boxes are taken as they are, without clipping.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path} is no detection file: it must hold a list of boxes.")
    require_keys(content, ("image_id", "bbox", "score"), "detection", path)
    for i, entry in enumerate(content):
        _require_numbers(entry, "bbox", f"{path}: detection {i}", count=4)
        if not _is_number(entry["score"]):
            raise InputError(f"{path}: detection {i}: 'score' must be a number, without NaN.")
        if not isinstance(entry["image_id"], (int, str)):
            raise InputError(f"{path}: detection {i}: 'image_id' must be a number or a word.")
    return [entry for entry in content if entry.get("category_id", 1) == 1]
