"""The side of benchmarks/against_rtmlib.py where rtmlib is installed: a task per line in, an answer per line out.

RTMLIB_PYTHON benchmarks/rtmlib_worker.py DETECTOR.onnx POSE.onnx
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import cv2
import numpy as np
from rtmlib import YOLOX, RTMPose  # type: ignore[import-not-found]

detect = YOLOX(sys.argv[1], model_input_size=(416, 416), backend="onnxruntime", device="cpu")
pose = RTMPose(sys.argv[2], model_input_size=(192, 256), backend="onnxruntime", device="cpu")


def answer(files: list[str], decode: bool) -> dict[str, Any]:
    """Work through images; with `decode`, the seconds are from files, else from images in memory."""
    images = [None if decode else cv2.imread(file) for file in files]
    results = []
    began = time.perf_counter()
    for file, loaded in zip(files, images, strict=True):
        image = cv2.imread(file) if loaded is None else loaded
        boxes = detect(image)
        results.append((boxes, *pose(image, bboxes=boxes)) if len(boxes) else ([], [], []))
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "results": [[np.asarray(part).tolist() for part in parts] for parts in results]}


print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(answer(**json.loads(line))), flush=True)
