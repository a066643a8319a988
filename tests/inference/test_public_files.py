"""RTMPose-s with 26 keypoints and YOLOX-tiny, the published files themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from support import DATA, PUBLIC_FILES, needs

from leanpose import COCO, Predictor, read_image
from leanpose.evaluation.evaluate import evaluate
from leanpose.geometry import iou
from leanpose.inference.detect import NetworkDetector
from leanpose.inference.engines import EngineName, load_engine
from leanpose.keypoint_sets import HALPE26
from leanpose.structures import Poses
from leanpose.weights.catalogue import read_record

RTMPOSE = PUBLIC_FILES / "rtmpose-s_simcc-body7_pt-body7-halpe26_700e-256x192-7f134165_20230605.onnx"
YOLOX = PUBLIC_FILES / "yolox_tiny_8xb8-300e_humanart-6f3252f9.onnx"
ASTRONAUT = Path(__file__).parents[2] / "docs" / "assets" / "astronaut.png"
BOX = np.array([120, 40, 380, 500], np.float32)
COCO_SET = DATA / "coco"

pytestmark = needs(RTMPOSE, YOLOX)


def published_keypoints(image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The published rule in a few lines of its own: keypoints (26, 2) in image pixels and scores (26,)."""
    center, (w, h) = (box[:2] + box[2:]) / 2, 1.25 * (box[2:] - box[:2])
    w, h = (w, w * 256 / 192) if w > h * 192 / 256 else (h * 192 / 256, h)
    matrix = np.array([[192 / w, 0, 96 - center[0] * 192 / w], [0, 256 / h, 128 - center[1] * 256 / h]])
    crop = cv2.warpAffine(image, matrix, (192, 256)).astype(np.float32)
    inputs = (crop - np.array([123.675, 116.28, 103.53])) / np.array([58.395, 57.12, 57.375])
    session = onnxruntime.InferenceSession(str(RTMPOSE))
    x, y = session.run(["simcc_x", "simcc_y"], {"input": inputs.transpose(2, 0, 1)[None].astype(np.float32)})
    places = np.stack([x[0].argmax(1) / 2 / 192 * w, y[0].argmax(1) / 2 / 256 * h], axis=1)
    return places + center - np.array([w, h]) / 2, np.minimum(x[0].max(1), y[0].max(1))


def test_a_file_of_any_name_is_known_by_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "end2end.onnx"
    shutil.copy(RTMPOSE, file)
    record = read_record(file)
    assert (record.name, record.keypoint_set, record.codec) == ("rtmpose_s_26", HALPE26, "simcc")
    assert load_engine(file).weights == record


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_keypoints_are_those_of_the_published_rule(engine: EngineName) -> None:
    pytest.importorskip(engine)
    image = read_image(ASTRONAUT)
    poses = Predictor(RTMPOSE, engine, threads=1, detector=None)(image, BOX)
    keypoints, scores = published_keypoints(image, BOX)
    bin_width = 1.25 * (BOX[3] - BOX[1]) / 512
    assert np.abs(poses.keypoints[0] - keypoints)[scores > 0.5].max() < 1.01 * bin_width
    assert poses.raw_scores is not None
    np.testing.assert_allclose(poses.raw_scores[0], scores, atol=0.02)
    assert (scores > 0.5).sum() >= 12


def test_the_detector_finds_the_astronaut_and_her_keypoints_lie_in_her() -> None:
    predictor = Predictor(RTMPOSE, threads=1, detector=YOLOX)
    poses = predictor(ASTRONAUT)
    assert len(poses) == 1
    x1, y1, x2, y2 = poses.boxes_xyxy[0]
    assert 0 <= x1 < 180 and y1 < 60 and x2 > 330 and y2 > 450
    assert 200 < poses["nose"][0, 0] < 240 and 110 < poses["nose"][0, 1] < 140
    assert predictor.provenance["detector"] == "yolox_tiny"


def test_boxes_are_those_of_the_network_over_the_scale() -> None:
    """The letterbox of the publication: 512 x 512 to 416 x 416, BGR, without normalisation."""
    image = read_image(ASTRONAUT)
    found, scores = NetworkDetector(load_engine(YOLOX, threads=1))(image)
    resized = cv2.resize(image[..., ::-1], (416, 416)).transpose(2, 0, 1)[None].astype(np.float32)
    dets, labels = onnxruntime.InferenceSession(str(YOLOX)).run(["dets", "labels"], {"input": resized})
    kept = (dets[0, :, 4] > 0.05) & (labels[0] == 0)
    np.testing.assert_allclose(scores, np.sort(dets[0, kept, 4])[::-1], rtol=1e-5)
    best = dets[0, dets[0, :, 4].argmax(), :4] / (416 / 512)
    np.testing.assert_allclose(found[0], best.clip(0, 511), atol=1 / 16 + 1e-3)  # eighths of a pixel


def test_letterboxes_of_wide_and_high_images() -> None:
    """What is found does not depend on how much of the letterbox an image leaves."""
    image = read_image(ASTRONAUT)
    detector = NetworkDetector(load_engine(YOLOX, threads=1))
    boxes, _ = detector(image)
    for pad in ((0, 300), (300, 0)):
        larger = cv2.copyMakeBorder(image, 0, pad[0], 0, pad[1], cv2.BORDER_CONSTANT, value=(114, 114, 114))
        again, _ = detector(larger)
        assert iou(boxes[:1], again[:1]) > 0.9


def test_keypoints_are_carried_to_another_set() -> None:
    poses = Predictor(RTMPOSE, threads=1, detector=None, keypoint_set=COCO)(ASTRONAUT, BOX)
    whole = Predictor(RTMPOSE, threads=1, detector=None)(ASTRONAUT, BOX)
    assert poses.keypoint_set is COCO
    np.testing.assert_array_equal(poses.keypoints, whole.keypoints[:, :17])


def test_the_flip_test_of_a_mirrored_image_is_the_mirrored_one() -> None:
    image = read_image(ASTRONAUT)
    predictor = Predictor(RTMPOSE, flip_test=True, threads=1, detector=None)
    mirrored_box = np.array([512 - BOX[2], BOX[1], 512 - BOX[0], BOX[3]], np.float32)

    def visible(poses: Poses) -> np.ndarray:
        return poses.scores[0] > 0.3

    there, back = predictor(image, BOX), predictor(np.ascontiguousarray(image[:, ::-1]), mirrored_box)
    swapped = back.keypoints[0, HALPE26.flip_index]
    both = visible(there) & visible(back)[HALPE26.flip_index]
    bin_width = 1.25 * (BOX[3] - BOX[1]) / 512
    assert both.sum() >= 15
    assert np.abs(512 - swapped[:, 0] - there.keypoints[0, :, 0])[both].max() <= 4 * bin_width
    assert np.abs(swapped[:, 1] - there.keypoints[0, :, 1])[both].max() <= 4 * bin_width


@needs(COCO_SET)
def test_ap_of_the_first_images(tmp_path: Path) -> None:
    """26 keypoints on a set of 17, and colours in the right order: 60 images tell both."""
    content: dict[str, Any] = json.loads((COCO_SET / "val.json").read_text())
    content["images"] = content["images"][:60]
    chosen = {image["id"] for image in content["images"]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in chosen]
    data = tmp_path / "some.json"
    data.write_text(json.dumps(content))
    rgb = evaluate(str(RTMPOSE), data=str(data), images=str(COCO_SET / "images"))
    bgr = evaluate(str(RTMPOSE), data=str(data), images=str(COCO_SET / "images"), channel_order="bgr")
    assert rgb["AP"] > 0.6
    assert bgr["AP"] < rgb["AP"]
