"""From picture files to result files: JSON, CSV, a COCO-style file, and pictures with the skeletons drawn in."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import cv2
import numpy as np
from tqdm import tqdm

from leanpose.data.coco_style import box_from_xywh, read_json
from leanpose.draw import draw_poses
from leanpose.errors import InputError, suggest
from leanpose.files import write_bytes, write_text
from leanpose.pictures import find_pictures, read_picture
from leanpose.predict import DEFAULT_MODEL, Predictor
from leanpose.runtime import EngineName
from leanpose.structures import Poses

FORMATS = ("json", "csv", "coco", "picture")
DRAWN_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # drawn pictures keep these; others become .png
LABEL_SCORE = 0.2  # keypoints below it are marked as absent in COCO-style files


def predict_files(
    sources: list[str],
    model: str = DEFAULT_MODEL,
    boxes: str | None = None,
    out: str = "poses",
    format: str = "json,picture",
    flip_test: bool = False,
    min_score: float = 0.2,
    engine: EngineName = "auto",
    threads: int | None = None,
) -> None:
    """Find the keypoints of persons in pictures and write them to files.

    Args:
        sources: picture files, folders, globs or URLs.
        model: name or file (.onnx, .safetensors) of the network.
        boxes: person boxes: "x1,y1,x2,y2" in pixels (several with spaces between), or a JSON file: picture name ->
            list of boxes, or COCO-style annotations. Without boxes the whole picture is one person.
        out: folder for the results.
        format: any of json, csv, coco, picture, with commas between.
        flip_test: average with the mirrored crop: twice the time, a little more accurate.
        min_score: keypoints below this score are not drawn.
        engine: "auto", "onnxruntime" or "torch".
        threads: threads of the network.
    """
    formats = _parse_formats(format)
    pictures = find_pictures(sources)
    boxes_of = _read_boxes(boxes)
    predictor = Predictor(model, engine=engine, flip_test=flip_test, threads=threads)
    names = _result_names(pictures)
    results: list[tuple[str, tuple[int, int], Poses]] = []
    faults = []
    for source in tqdm(pictures, "predicting", unit="picture", disable=True if len(pictures) == 1 else None):
        try:
            picture = read_picture(source)
            poses = predictor(picture, boxes_of(source))
        except InputError as error:
            if len(pictures) == 1:
                raise
            faults.append(source)
            tqdm.write(f"leanpose: {error}", file=sys.stderr)
            continue
        size = (picture.shape[0], picture.shape[1])
        written = _write_one(picture, poses, source, Path(out) / names[source], formats, min_score)
        persons = f"{len(poses)} person" + ("" if len(poses) == 1 else "s")
        tqdm.write(f"{source}: {persons}" + "".join(f", {path}" for path in written))
        results.append((source, size, poses))
    if "csv" in formats and results:
        write_text(Path(out) / "poses.csv", to_csv(results))
    if "coco" in formats and results:
        write_text(Path(out) / "coco.json", json.dumps(to_coco(results)))
    if faults:
        raise InputError(f"{len(faults)} of {len(pictures)} pictures could not be used; they are named above.")


def _parse_formats(text: str) -> set[str]:
    formats = {name.strip() for name in text.split(",")}
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"There is no format '{name}'.{suggest(name, FORMATS)}")
    return formats


def _result_names(pictures: Iterable[str]) -> dict[str, str]:
    """Return for each picture a file name without suffix, its own where no other picture has the same."""
    names: dict[str, str] = {}
    for picture in pictures:
        stem = name = Path(urlparse(picture).path if "://" in picture else picture).stem or "picture"
        number = 1
        while name in names.values():
            number += 1
            name = f"{stem}-{number}"
        names[picture] = name
    return names


def _write_one(
    picture: np.ndarray, poses: Poses, source: str, target: Path, formats: set[str], min_score: float
) -> list[Path]:
    """Write the files that belong to one picture; return their names."""
    written = []
    if "json" in formats:
        written.append(target.with_name(target.name + ".json"))
        write_text(written[-1], json.dumps(to_json(source, picture.shape[:2], poses), indent=1))
    if "picture" in formats:
        suffix = Path(urlparse(source).path).suffix.lower()
        suffix = suffix if suffix in DRAWN_SUFFIXES else ".png"
        drawn = draw_poses(picture, poses, min_score=min_score)
        written.append(target.with_name(target.name + suffix))
        encoded = cv2.imencode(suffix, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))[1]
        write_bytes(written[-1], encoded.tobytes())
    return written


def to_json(source: str, size: tuple[int, int], poses: Poses) -> dict[str, Any]:
    """Return one picture's result: its name, width and height, and a dict a person with keypoints by name."""
    return {
        "picture": source,
        "width": size[1],
        "height": size[0],
        "keypoint_set": poses.keypoint_set.name,
        "persons": poses.to_dicts(),
    }


def to_csv(results: Iterable[tuple[str, tuple[int, int], Poses]]) -> str:
    """Return one row a person: picture, person, score, box, then x, y and score of every keypoint."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header: list[str] = []
    for source, _, poses in results:
        if not header:
            columns = [f"{name}_{part}" for name in poses.keypoint_set.keypoints for part in ("x", "y", "score")]
            header = ["picture", "person", "score", "x1", "y1", "x2", "y2", *columns]
            writer.writerow(header)
        for i in range(len(poses)):
            numbers = np.concatenate([poses.keypoints[i], poses.scores[i, :, None]], axis=1)
            cells = [f"{v:.2f}" for v in poses.boxes_xyxy[i]] + [f"{v:.4g}" for v in numbers.ravel()]
            writer.writerow([source, i, f"{poses.person_scores[i]:.4f}", *cells])
    return text.getvalue()


def to_coco(results: Iterable[tuple[str, tuple[int, int], Poses]]) -> dict[str, Any]:
    """Return a COCO-style annotation file of the found persons; keypoints below LABEL_SCORE count as unlabelled."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: list[dict[str, Any]] = []
    for image_id, (source, (height, width), poses) in enumerate(results, 1):
        images.append({"id": image_id, "file_name": source, "width": width, "height": height})
        if not categories:
            edges = (poses.keypoint_set.edge_indices + 1).tolist()
            names = list(poses.keypoint_set.keypoints)
            categories.append({"id": 1, "name": "person", "keypoints": names, "skeleton": edges})
        for entry, scores in zip(poses.to_coco_results(image_id), poses.scores, strict=True):
            triples = np.array(entry["keypoints"]).reshape(-1, 3)
            seen = scores >= LABEL_SCORE
            triples = np.where(seen[:, None], np.column_stack([triples[:, :2], np.full(len(triples), 2)]), 0)
            entry |= {
                "id": len(annotations) + 1,
                "keypoints": triples.ravel().tolist(),
                "num_keypoints": int(seen.sum()),
                "area": entry["bbox"][2] * entry["bbox"][3],
                "iscrowd": 0,
            }
            annotations.append(entry)
    return {"images": images, "annotations": annotations, "categories": categories}


class _Boxes:
    """Boxes for every picture: the same for all, by picture name, or none."""

    def __init__(self, same: Any = None, by_name: Mapping[str, Any] | None = None) -> None:
        self.same, self.by_name = same, by_name

    def __call__(self, source: str) -> Any:
        if self.by_name is None:
            return self.same
        for key in (source, Path(source).name):
            if key in self.by_name:
                return self.by_name[key]
        return []


def _read_boxes(text: str | None) -> _Boxes:
    if text is None:
        return _Boxes()
    if not text.lower().endswith(".json"):
        try:
            return _Boxes([[float(v) for v in box.split(",")] for box in text.split()])
        except ValueError:
            raise InputError(f"Boxes must be x1,y1,x2,y2 in pixels or a .json file, not '{text}'.") from None
    content = read_json(text)
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        pictures = {image["id"]: image for image in content["images"]}
        by_name: dict[str, Any] = {image["file_name"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            picture = pictures[annotation["image_id"]]
            box = box_from_xywh(annotation["bbox"], picture)
            if box is not None and not annotation.get("iscrowd"):
                by_name[picture["file_name"]].append(box)
        return _Boxes(by_name=by_name)
    if isinstance(content, dict):
        return _Boxes(by_name=content)
    raise InputError(f"{text} must map picture names to lists of boxes, or be a COCO-style annotation file.")
