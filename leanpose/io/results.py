"""Results as JSON, CSV and a COCO-style annotation file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from leanpose.io.own_files import COCO_INFO, csv_header
from leanpose.structures import Poses

Result = tuple[str, tuple[int, int], Poses]  # image, its (height, width), and the persons in it


def to_json(source: str, size: tuple[int, int], poses: Poses, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return one image's result: its name, width and height, how it was made (`Predictor.provenance`), and a dict per
    person with keypoints by name."""
    return {
        "leanpose": dict(provenance),
        "image": source,
        "width": size[1],
        "height": size[0],
        "keypoint_set": poses.keypoint_set.name,
        "persons": poses.to_dicts(),
    }


def to_csv(results: Iterable[Result]) -> str:
    """Return one row per person: image, person, score, box, then x, y and score of every keypoint, empty if absent.

    An image without persons has one row, empty after its name.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, (source, _, poses) in enumerate(results):
        if number == 0:
            header = csv_header(poses.keypoint_set.keypoints)
            writer.writerow(header)
        if len(poses) == 0:
            writer.writerow([source, *[""] * (len(header) - 1)])
        for i in range(len(poses)):
            cells = [f"{v:.2f}" for v in poses.boxes_xyxy[i]]
            for (x, y), score in zip(poses.keypoints[i], poses.scores[i], strict=True):
                cells += [f"{x:.2f}", f"{y:.2f}", f"{score:.4f}"] if np.isfinite([x, y]).all() else ["", "", ""]
            writer.writerow([source, i, f"{poses.person_scores[i]:.4f}", *cells])
    return text.getvalue()


def to_coco(results: Iterable[Result], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a COCO-style annotation file of the found persons; keypoints that are not `present` count as unlabelled.

    How it was made stands in its `info`.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: list[dict[str, Any]] = []
    for image_id, (source, (height, width), poses) in enumerate(results, 1):
        images.append({"id": image_id, "file_name": source, "width": width, "height": height})
        if not categories:
            edges = (poses.keypoint_set.edge_indices + 1).tolist()
            names = list(poses.keypoint_set.keypoints)
            categories.append({"id": 1, "name": "person", "keypoints": names, "skeleton": edges})
        for entry, seen in zip(poses.to_coco_results(image_id), poses.present((height, width)), strict=True):
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
    info = COCO_INFO | {"leanpose": dict(provenance)}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}
