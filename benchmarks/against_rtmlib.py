"""leanpose against rtmlib on the same two files, YOLOX-tiny and RTMPose-s with 26 keypoints: keypoints, AP and speed.

    python benchmarks/against_rtmlib.py DATA RTMLIB_PYTHON [--int8 POSE_INT8.onnx DETECTOR_INT8.onnx]

DATA is the folder of the leanpose mini set. RTMLIB_PYTHON is the Python of an environment with rtmlib and onnxruntime,
which brings another OpenCV. Both files must be here: `leanpose download yolox_tiny rtmpose_s_26`. Both sides use all
cores and take turns, medians of the rounds; milliseconds are of one image in memory, images per second from files.
AP is that of coco/val.json, persons found; rtmlib gives no scores of boxes, so persons rank by their keypoints there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from leanpose import COCO, Predictor, read_image
from leanpose.data.annotations import AnnotatedSet, open_annotations
from leanpose.evaluation.timing import machine
from leanpose.inference.detect import detected
from leanpose.weights.catalogue import find_weights

DETECTOR, POSE = "yolox_tiny", "rtmpose_s_26"
PERSONS = (1, 4, 12)
PAUSE = 0.2  # seconds before a call, until the other side's threads sleep


class Rtmlib:
    """rtmlib in a process of its own."""

    def __init__(self, python: str) -> None:
        worker = Path(__file__).with_name("rtmlib_worker.py")
        command = [python, str(worker), str(find_weights(DETECTOR)), str(find_weights(POSE))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while self._line() != "ready":
            pass

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("rtmlib's process has ended; is rtmlib installed there?")
        return line.strip()

    def __call__(self, files: list[Path], decode: bool = False) -> tuple[float, list[list[np.ndarray]]]:
        """Return the seconds that it took, and boxes, keypoints and scores of each image."""
        assert self.process.stdin is not None
        print(
            json.dumps({"files": [str(file) for file in files], "decode": decode}), file=self.process.stdin, flush=True
        )
        while not (line := self._line()).startswith("{"):
            pass
        answer = json.loads(line)
        return answer["seconds"], [[np.array(part) for part in parts] for parts in answer["results"]]


def rtmlib_ap(rtmlib: Rtmlib, annotated: AnnotatedSet) -> float:
    images = annotated.images(None)
    results: list[dict[str, Any]] = []
    for image, (boxes, keypoints, scores) in zip(images, rtmlib([Path(i.path) for i in images])[1], strict=True):
        for points, values in zip(keypoints, scores, strict=True) if len(boxes) else ():
            triples = np.column_stack([points, values])[: len(COCO)]
            score = float(triples[:, 2].mean())
            results.append({"image_id": image.image_id, "category_id": image.category_id, "score": score})
            results[-1]["keypoints"] = triples.ravel().tolist()
    return annotated.score(results, COCO)["AP"]


def leanpose_ap(predictor: Predictor, annotated: AnnotatedSet) -> float:
    images = annotated.images(None)
    results: list[dict[str, Any]] = []
    found = predictor.stream([image.path for image in images], min_person_score=0.0)
    for image, (_, poses) in zip(images, found, strict=True):
        results += poses.to(COCO).to_coco_results(image.image_id, image.category_id)
    return annotated.score(results, COCO)["AP"]


def same_keypoints(rtmlib: Rtmlib, predictor: Predictor, files: list[Path]) -> str:
    """Compare keypoints in rtmlib's boxes, with its order of channels."""
    distances, certain = [], []
    for file, (boxes, keypoints, scores) in zip(files, rtmlib(files)[1], strict=True):
        if len(boxes):
            certain.append(scores.ravel() > 0.7)
            bgr = read_image(file)[..., ::-1]
            heights = (boxes[:, 3] - boxes[:, 1])[:, None]
            there = np.linalg.norm(predictor(np.ascontiguousarray(bgr), boxes).keypoints - keypoints, axis=2)
            distances.append((there / heights).ravel())
    every, sure = np.concatenate(distances), np.concatenate(certain)
    return (
        f"{len(every)} keypoints in rtmlib's boxes, BGR: {100 * (every < 0.002).mean():.1f} % within 0.2 % of the "
        f"box's height, {100 * (every < 0.01).mean():.1f} % within 1 %; of the {sure.sum()} with scores above 0.7 "
        f"{100 * (every[sure] < 0.01).mean():.1f} %"
    )


def same_boxes(rtmlib: Rtmlib, predictor: Predictor, files: list[Path]) -> str:
    """Compare boxes of both, those above rtmlib's threshold."""
    equal, largest = 0, 0.0
    for file, (boxes, _, _) in zip(files, rtmlib(files)[1], strict=True):
        assert predictor.detector is not None
        ours, scores = detected(predictor.detector, read_image(file))
        ours = ours[scores > 0.3]
        equal += len(ours) == len(boxes)
        if len(ours) == len(boxes) and len(boxes):
            height, width = read_image(file).shape[:2]
            theirs = boxes.clip(0, [width - 1, height - 1] * 2)
            pairs = np.abs(ours[:, None] - theirs[None]).max(axis=2).min(axis=1)
            largest = max(largest, float(np.median(pairs)))
    return f"boxes: as many in {equal} of {len(files)} images, there at most {largest:.1f} pixels apart (medians)"


def timed(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("rtmlib_python")
    parser.add_argument("--int8", nargs=2, default=None)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    annotated = open_annotations(options.data / "coco" / "val.json", options.data / "coco" / "images")
    files = [Path(image.path) for image in annotated.images(None)]
    rtmlib = Rtmlib(options.rtmlib_python)
    ours = {"leanpose, float32": Predictor(POSE, detector=DETECTOR)}
    if options.int8:
        ours["leanpose, int8"] = Predictor(options.int8[0], detector=options.int8[1])
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    first = ours["leanpose, float32"]
    print(same_boxes(rtmlib, first, files[:100]))
    print(same_keypoints(rtmlib, first, files[:100]))
    aps = {"rtmlib": rtmlib_ap(rtmlib, annotated)} | {name: leanpose_ap(p, annotated) for name, p in ours.items()}

    counts = [len(boxes) for boxes, _, _ in rtmlib(files)[1]]
    rows: dict[str, list[float]] = {name: [] for name in aps}
    for wanted in PERSONS:
        image = min(range(len(files)), key=lambda i: abs(counts[i] - wanted))
        print(f"{wanted} persons: {files[image].name}, of which rtmlib finds {counts[image]}")
        loaded = read_image(files[image])
        times: dict[str, list[float]] = {name: [] for name in aps}
        for _ in range(3 + options.rounds):
            time.sleep(PAUSE)
            times["rtmlib"].append(rtmlib([files[image]])[0])
            for name, predictor in ours.items():
                time.sleep(PAUSE)
                times[name].append(timed(lambda: predictor(loaded)))  # noqa: B023
        for name, values in times.items():
            rows[name].append(1000 * statistics.median(values[3:]))
    hundred = files[:100]
    rates: dict[str, list[float]] = {name: [] for name in aps}
    for _ in range(3):
        rates["rtmlib"].append(100 / rtmlib(hundred, decode=True)[0])
        for name, predictor in ours.items():
            rates[name].append(100 / timed(lambda: list(predictor.stream(hundred))))  # noqa: B023
    print("| | AP | " + " | ".join(f"ms, {n} persons" for n in PERSONS) + " | images per second |\n" + "|---" * 6 + "|")
    for name, row in rows.items():
        rate = statistics.median(rates[name])
        print(f"| {name} | {100 * aps[name]:.1f} | " + " | ".join(f"{ms:.1f}" for ms in row) + f" | {rate:.1f} |")


if __name__ == "__main__":
    main()
