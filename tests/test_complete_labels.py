"""benchmarks/complete_labels.py: what a teacher adds to an annotation file, and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from leanpose.data.annotations import open_annotations
from leanpose.keypoint_sets import COCO, LSP

ROOT = Path(__file__).parents[1]
NOSE, HIP, KNEE = (COCO.keypoints.index(name) for name in ("nose", "left_hip", "left_knee"))


def write_data(folder: Path) -> None:
    """One person of 100 x 200 pixels a set, all of LSP's keypoints at (60, 100), but a knee without label."""
    for name in ("coco", "lsp", "lspet"):
        keypoint_set = COCO if name == "coco" else LSP
        triples = np.tile([60.0, 100.0, 2.0], (len(keypoint_set), 1))
        triples[keypoint_set.keypoints.index("left_knee")] = 0
        person = {
            "id": 7, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 9000, "num_keypoints": len(triples) - 1,
            "bbox": [10, 10, 100, 200], "keypoints": triples.ravel().tolist(),
        }  # fmt: skip
        content = {
            "images": [{"id": 1, "file_name": "a.png", "width": 640, "height": 480}],
            "annotations": [person],
            "categories": [{"id": 1, "name": "person", "keypoints": list(keypoint_set.keypoints), "skeleton": []}],
        }
        (folder / name / "images").mkdir(parents=True)
        (folder / name / "train.json").write_text(json.dumps(content))
    (folder / "coco" / "val.json").write_text("{}")


def write_teacher(folder: Path) -> None:
    """Keypoints at (80, 100), a tenth of the box away; sure of all but the nose; it sees the person and another one."""
    folder.mkdir()
    scores = np.full((1, len(COCO)), 0.75, np.float16)
    scores[0, NOSE] = 0.25
    for name in ("coco", "lsp", "lspet"):
        seen = name == "coco"
        boxes = np.array([[12, 12, 108, 205], [300, 50, 400, 400], [500, 50, 600, 400]], np.float32)[: 3 * seen]
        np.savez(
            folder / f"{name}_train.npz", annotation_ids=[7], keypoints=np.full((1, len(COCO), 2), (80, 100)),
            scores=scores, detected_image_ids=[1] * len(boxes), detected_boxes_xyxy=boxes.reshape(-1, 4),
            detected_scores=np.array([0.9, 0.8, 0.4], np.float16)[: len(boxes)],
        )  # fmt: skip


def run(tmp_path: Path, *words: str) -> Path:
    write_data(tmp_path / "data")
    write_teacher(tmp_path / "teacher")
    command = [sys.executable, str(ROOT / "benchmarks" / "complete_labels.py"), "data", "teacher", "out", *words]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "out"


def test_a_sure_teacher_fills_and_of_noisy_labels_replaces(tmp_path: Path) -> None:
    out = run(tmp_path)
    for name, hip_x, hip_weight, nose in (("coco", 60, 1.0, True), ("lsp", 60, 1.0, False), ("lspet", 80, 0.75, False)):
        [sample] = open_annotations(out / name / "train.json", None).samples(COCO)
        assert sample.weights is not None
        assert (sample.keypoints[HIP, 0], sample.weights[HIP]) == (hip_x, hip_weight)
        assert sample.keypoints[KNEE].tolist() == [80, 100]
        assert sample.keypoint_weights[KNEE] == 0.75
        assert sample.keypoint_weights[NOSE] == nose
        assert (sample.visibility[NOSE] > 0) == nose  # annotated in COCO; the teacher is not sure of it
        assert (out / name / "images").is_dir()


def test_detected_persons_without_annotation_get_a_box(tmp_path: Path) -> None:
    content = json.loads((run(tmp_path) / "coco" / "train.json").read_text())
    known, added = content["annotations"]  # the third detection has a low score
    assert known["bbox"] == [10, 10, 100, 200]
    assert added["bbox"] == [300, 50, 100, 350]
    assert (added["num_keypoints"], added["iscrowd"], set(added["keypoints"])) == (0, 0, {0.0})


def test_soft_labels_stand_beside_the_annotated_ones(tmp_path: Path) -> None:
    annotated, soft = open_annotations(run(tmp_path, "--soft") / "coco" / "train.json", None).samples()
    assert annotated.keypoints[HIP, 0] == 60
    assert (soft.keypoints[:, 0] == 80).all()
    assert soft.keypoint_weights[[NOSE, HIP]].tolist() == [0.25, 0.75]
