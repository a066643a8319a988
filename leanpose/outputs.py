"""From picture files to result files: JSON, CSV, a COCO-style file, and pictures with the skeletons drawn in."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import cv2
import numpy as np
from tqdm import tqdm

from leanpose.boxes import of_annotated_sizes, read_boxes
from leanpose.draw import draw_poses
from leanpose.errors import InputError, suggest
from leanpose.files import write_bytes, write_text
from leanpose.pictures import find_pictures
from leanpose.predict import DEFAULT_FINDER, DEFAULT_MODEL, Predictor
from leanpose.runtime import EngineName
from leanpose.structures import Poses

FORMATS = ("json", "csv", "coco", "picture")
DRAWN_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # drawn pictures keep these; others become .png
MOST_UNWRITTEN = 8  # pictures that wait to be written
LABEL_SCORE = 0.2  # keypoints below it are marked as absent in COCO-style files

_Result = tuple[str, tuple[int, int], Poses]  # picture, its (height, width), and who is in it


def predict_files(
    sources: list[str],
    model: str = DEFAULT_MODEL,
    boxes: str | None = None,
    out: str = "poses",
    format: str = "json,picture",
    flip_test: bool = False,
    min_score: float = 0.2,
    min_person_score: float | None = None,
    finder: str = DEFAULT_FINDER,
    engine: EngineName = "auto",
    threads: int | None = None,
    device: str = "cpu",
) -> None:
    """Find the keypoints of persons in pictures and write them to files.

    Args:
        sources: picture files, folders, globs or URLs.
        model: name or file (.onnx, .safetensors) of the network.
        boxes: person boxes: "x1,y1,x2,y2" in pixels (several with spaces between), or a JSON file: picture name ->
            list of boxes, or COCO-style annotations; or "picture": the whole picture is one person. Without it the
            finder searches for the persons.
        out: folder for the results.
        format: any of json, csv, coco, picture, with commas between.
        flip_test: average with the mirrored crop: twice the time, a little more accurate.
        min_score: keypoints below this score are not drawn.
        min_person_score: persons below this score are left out, where they were searched for; by default 0.35, and 0.2
            for a network that finds people itself.
        finder: name or file of the network that proposes persons. Networks that find people themselves need none.
        engine: "auto", "onnxruntime", "openvino" or "torch".
        threads: threads of the network.
        device: "cpu"; "cuda", "tensorrt", "coreml" or "directml" with a build of ONNX Runtime that has them; "gpu" or
            "npu" with OpenVINO; "cuda" or "mps" with torch.
    """
    formats = _parse_formats(format)
    pictures = find_pictures(sources)
    names = _result_names(pictures)
    places = [path for name in pictures for path in _places(name, Path(out) / names[name], formats).values()]
    if "coco" in formats:
        places.append(Path(out) / "coco.json")
    _check_places([*pictures, *([boxes] if boxes else [])], places)
    given = read_boxes(boxes, pictures)
    predictor = Predictor(
        model,
        engine=engine,
        flip_test=flip_test,
        threads=threads,
        device=device,
        finder=finder if boxes is None else None,
        min_person_score=min_person_score,
    )
    if predictor.bottom_up and boxes is not None:
        raise InputError(f"{model} finds people without boxes; leave --boxes out.")
    found = of_annotated_sizes(pictures, given, predictor.stream(pictures, [its.boxes for its in given]))
    results = _write_each(pictures, found, {name: Path(out) / names[name] for name in pictures}, formats, min_score)
    if "csv" in formats and results:
        write_text(Path(out) / "poses.csv", to_csv(results))
    if "coco" in formats and results:
        write_text(Path(out) / "coco.json", json.dumps(to_coco(results)))
    if len(results) < len(pictures):
        faults = len(pictures) - len(results)
        raise InputError(f"{faults} of {len(pictures)} pictures could not be used; they are named above.")


def _write_each(
    pictures: list[str],
    found: Iterable[tuple[np.ndarray, Poses] | InputError],
    targets: dict[str, Path],
    formats: set[str],
    min_score: float,
) -> list[_Result]:
    """Write the files of each picture in a thread of their own while the next ones are worked on.

    Returns:
        What was found in the pictures that could be used; the others are reported, a single one is raised.
    """
    results: list[_Result] = []
    bar = tqdm(pictures, "predicting", unit="picture", disable=True if len(pictures) == 1 else None)
    with ThreadPoolExecutor(1) as writer:
        writing: deque[tuple[str, Poses, Future[list[Path]]]] = deque()
        for source, result in zip(bar, found, strict=True):
            if isinstance(result, InputError):
                if len(pictures) == 1:
                    raise result
                tqdm.write(f"leanpose: {result}", file=sys.stderr)
                continue
            picture, poses = result
            results.append((source, (picture.shape[0], picture.shape[1]), poses))
            written = writer.submit(_write_one, picture, poses, source, targets[source], formats, min_score)
            writing.append((source, poses, written))
            if len(writing) > MOST_UNWRITTEN:
                _report(*writing.popleft())
        while writing:
            _report(*writing.popleft())
    return results


def _report(source: str, poses: Poses, written: Future[list[Path]]) -> None:
    """Print what was found in a picture, and the files once they are written."""
    persons = f"{len(poses)} person" + ("" if len(poses) == 1 else "s")
    tqdm.write(f"{source}: {persons}" + "".join(f", {path}" for path in written.result()))


def _parse_formats(text: str) -> set[str]:
    formats = {name.strip() for name in text.split(",")}
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"There is no format '{name}'.{suggest(name, FORMATS)}")
    return formats


def _result_names(pictures: Iterable[str]) -> dict[str, str]:
    """Return for each picture a file name without suffix, its own where no other result has the same."""
    names: dict[str, str] = {}
    taken = {"coco", "poses"}  # coco.json and poses.csv hold all pictures
    for picture in pictures:
        stem = name = _path_of(picture).stem or "picture"
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        names[picture] = name
        taken.add(name)
    return names


def _path_of(picture: str) -> Path:
    return Path(urlparse(picture).path if "://" in picture else picture)


def _places(source: str, target: Path, formats: set[str]) -> dict[str, Path]:
    """Return the files that belong to one picture: format -> path."""
    suffix = _path_of(source).suffix.lower()
    suffixes = {"json": ".json", "picture": suffix if suffix in DRAWN_SUFFIXES else ".png"}
    return {form: target.with_name(target.name + suffixes[form]) for form in suffixes if form in formats}


def _check_places(read: Iterable[str], written: Iterable[Path]) -> None:
    """Raise InputError where a result would take the place of a file that is read."""
    sources = {os.path.realpath(name) for name in read}
    for path in written:
        if os.path.realpath(path) in sources:
            raise InputError(f"The results would overwrite {path}; choose another folder with --out.")


def _write_one(
    picture: np.ndarray, poses: Poses, source: str, target: Path, formats: set[str], min_score: float
) -> list[Path]:
    """Write the files that belong to one picture; return their names."""
    places = _places(source, target, formats)
    if "json" in places:
        write_text(places["json"], json.dumps(to_json(source, picture.shape[:2], poses), indent=1))
    if "picture" in places:
        drawn = draw_poses(picture, poses, min_score=min_score)
        encoded = cv2.imencode(places["picture"].suffix, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))[1]
        write_bytes(places["picture"], encoded.tobytes())
    return list(places.values())


def to_json(source: str, size: tuple[int, int], poses: Poses) -> dict[str, Any]:
    """Return one picture's result: its name, width and height, and a dict a person with keypoints by name."""
    return {
        "picture": source,
        "width": size[1],
        "height": size[0],
        "keypoint_set": poses.keypoint_set.name,
        "persons": poses.to_dicts(),
    }


def to_csv(results: Iterable[_Result]) -> str:
    """Return one row a person: picture, person, score, box, then x, y and score of every keypoint, empty if absent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header: list[str] = []
    for source, _, poses in results:
        if not header:
            columns = [f"{name}_{part}" for name in poses.keypoint_set.keypoints for part in ("x", "y", "score")]
            header = ["picture", "person", "score", "x1", "y1", "x2", "y2", *columns]
            writer.writerow(header)
        for i in range(len(poses)):
            cells = [f"{v:.2f}" for v in poses.boxes_xyxy[i]]
            for (x, y), score in zip(poses.keypoints[i], poses.scores[i], strict=True):
                cells += [f"{x:.2f}", f"{y:.2f}", f"{score:.4f}"] if np.isfinite([x, y]).all() else ["", "", ""]
            writer.writerow([source, i, f"{poses.person_scores[i]:.4f}", *cells])
    return text.getvalue()


def to_coco(results: Iterable[_Result]) -> dict[str, Any]:
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
        labelled = (poses.scores >= LABEL_SCORE) & np.isfinite(poses.keypoints).all(axis=2)
        for entry, seen in zip(poses.to_coco_results(image_id), labelled, strict=True):
            triples = np.array(entry["keypoints"]).reshape(-1, 3)
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
