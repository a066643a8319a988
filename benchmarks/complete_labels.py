"""Complete the annotations of the leanpose mini set with a teacher's keypoints and detections.

    python benchmarks/complete_labels.py DATA TEACHER OUT [--sure 0.5] [--far 0.05] [--soft]

DATA is the root of the mini set; TEACHER holds coco_train.npz, lsp_train.npz and lspet_train.npz with the keypoints
(COCO's 17, image pixels) and scores of RTMPose-s for each annotated person, and persons that a detector sees. OUT
becomes a data root of its own: completed train.json files with COCO's keypoints, and links to the images and to
DATA's validation file. Train with `data_root=OUT`.

- Keypoints without annotation (LSP has no faces at all) are filled where the teacher's score is above --sure; they
  count by their score. COCO's that stay without one are marked absent, the surer the lower the score is
  (`keypoint_weights` below 0; recipe key `absent_weight`).
- Of LSP Extended, whose labels are noisy, keypoints that lie farther from the teacher's than --far times the box's
  longer side are replaced where it is that sure.
- In COCO's images, detected persons that no annotation covers are added with a box and without keypoints, so that a
  person detector does not learn that they are background.
- With --soft every person stands there a second time with the teacher's keypoints alone, all of them, by their scores:
  the mean of both targets is what is learned.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.data.annotations import open_annotations
from leanpose.keypoint_sets import COCO, KeypointSet, convert

SETS = ("coco", "lsp", "lspet")
NOISY = ("lspet",)  # their labels give way to a sure teacher
DETECTED = 0.5  # score from which a detected person is added
COVERED = 0.4  # of a detected person's box by an annotated one: then it is annotated already

Annotation = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sure", type=float, default=0.5)
    parser.add_argument("--far", type=float, default=0.05)
    parser.add_argument("--soft", action="store_true")
    options = parser.parse_args()
    for name in SETS:
        far = options.far if name in NOISY else np.inf
        with np.load(options.teacher / f"{name}_train.npz") as teacher:
            path = options.data / name / "train.json"
            content, counts = completed(path, teacher, options.sure, far, options.soft, absent=name == "coco")
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "train.json").write_text(json.dumps(content))
        _link(folder / "images", options.data / name / "images")
        print(f"{name}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    _link(options.out / "coco" / "val.json", options.data / "coco" / "val.json")


def completed(
    path: Path, teacher: Any, sure: float, far: float, soft: bool = False, absent: bool = False
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the content of an annotation file with the teacher's keypoints and persons, and what was changed.

    Args:
        path: COCO-style file with whole numbers as ids.
        teacher: arrays annotation_ids (N,), keypoints (N, 17, 2) in image pixels and scores (N, 17); and, where
            persons were detected, detected_image_ids (M,), detected_boxes_xyxy (M, 4) and detected_scores (M,).
        sure: score above which the teacher is believed.
        far: distance over the box's longer side beyond which its keypoint replaces an annotated one.
        absent: mark keypoints without annotation of which the teacher is not sure as absent.
        soft: add every person once more with the teacher's keypoints alone.
    """
    content, keypoint_set = json.loads(path.read_text(encoding="utf-8")), open_annotations(path, None).keypoint_set
    rows = {int(annotation_id): row for row, annotation_id in enumerate(teacher["annotation_ids"])}
    taught, scores = teacher["keypoints"], teacher["scores"].astype(np.float32).clip(0, 1)
    counts = {"filled": 0, "replaced": 0, "absent": 0}
    annotations: list[Annotation] = []
    for annotation in content["annotations"]:
        triples, weights = _as_coco(annotation, keypoint_set)
        row = rows.get(annotation["id"])
        if row is not None:
            empty = (triples[:, 2] == 0) & (scores[row] > sure)
            apart = np.linalg.norm(triples[:, :2] - taught[row], axis=1) / max(annotation["bbox"][2:])
            wrong = (triples[:, 2] > 0) & (scores[row] > sure) & (apart > far)
            _take(triples, weights, taught[row], scores[row], empty | wrong)
            if absent:
                gone = (triples[:, 2] == 0) & (scores[row] < sure)
                weights[gone] = scores[row][gone] / sure - 1
                counts["absent"] += int(gone.sum())
            counts["filled"] += int(empty.sum())
            counts["replaced"] += int(wrong.sum())
        annotations.append(_with_keypoints(annotation, triples, weights))
        if soft and row is not None:
            _take(triples, weights, taught[row], scores[row], np.ones(len(COCO), bool))
            annotations.append(_with_keypoints(annotation, triples, weights))
    if "detected_boxes_xyxy" in teacher and len(teacher["detected_boxes_xyxy"]):
        added = list(_unannotated(content["annotations"], teacher))
        counts["persons added"] = len(added)
        annotations += added
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": []}
    numbered = [{**annotation, "id": i, "category_id": 1} for i, annotation in enumerate(annotations, 1)]
    return {"images": content["images"], "annotations": numbered, "categories": [category]}, counts


def _as_coco(annotation: Annotation, keypoint_set: KeypointSet) -> tuple[np.ndarray, np.ndarray]:
    """Return an annotation's keypoints as COCO's 17, (17, 3), and their weights (17,)."""
    triples = np.array(annotation["keypoints"], dtype=np.float32).reshape(1, -1, 3)
    points, visibility = convert(triples[..., :2], triples[..., 2], keypoint_set, COCO)
    return np.concatenate([np.nan_to_num(points[0]), visibility[0][:, None]], axis=1), np.ones(len(COCO), np.float32)


def _take(triples: np.ndarray, weights: np.ndarray, taught: np.ndarray, scores: np.ndarray, chosen: np.ndarray) -> None:
    """Put the teacher's keypoints in the place of the chosen ones."""
    triples[chosen, :2], triples[chosen, 2] = taught[chosen], 2
    weights[chosen] = scores[chosen]


def _with_keypoints(annotation: Annotation, triples: np.ndarray, weights: np.ndarray) -> Annotation:
    return annotation | {
        "keypoints": triples.ravel().round(2).tolist(),
        "num_keypoints": int((triples[:, 2] > 0).sum()),
        "keypoint_weights": weights.round(3).tolist(),
    }


def _unannotated(annotations: list[Annotation], teacher: Any) -> Iterable[Annotation]:
    """Yield detected persons whose boxes no annotation covers, crowds included, without keypoints."""
    known: dict[int, list[list[float]]] = {}
    for annotation in annotations:
        known.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    nothing = [0.0] * len(COCO)
    for image_id, box, score in zip(
        teacher["detected_image_ids"], teacher["detected_boxes_xyxy"], teacher["detected_scores"], strict=True
    ):
        xywh = [float(v) for v in (*box[:2], *(box[2:] - box[:2]))]
        if score <= DETECTED or min(xywh[2:]) <= 1 or _covered(xywh, known.get(int(image_id), [])) > COVERED:
            continue
        yield {
            "image_id": int(image_id),
            "bbox": [round(v, 1) for v in xywh],
            "area": round(0.53 * xywh[2] * xywh[3], 1),
            "iscrowd": 0,
            "num_keypoints": 0,
            "keypoints": nothing * 3,
            "keypoint_weights": nothing,
        }


def _covered(xywh: list[float], others: list[list[float]]) -> float:
    """Return the largest share of a box that lies in one of the others."""
    x, y, w, h = xywh
    shares = [
        max(0.0, min(x + w, a + c) - max(x, a)) * max(0.0, min(y + h, b + d) - max(y, b)) / (w * h)
        for a, b, c, d in others
    ]
    return max(shares, default=0.0)


def _link(path: Path, target: Path) -> None:
    if not path.exists():
        path.symlink_to(target.resolve())


if __name__ == "__main__":
    main()
