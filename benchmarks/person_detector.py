"""How well a network finds persons: recall of its boxes at a number of false boxes per image, by size.

    python benchmarks/person_detector.py MODEL --data coco/val.json --images coco/images [--refine lpn50]

MODEL is a name or a file. Of a bottom-up network both kinds of proposals are measured: those of its person head, if it
has one, and boxes around the poses that grouping finds. A box is right when its IoU with an annotated person that no
better box took is at least 0.5; boxes on crowds are neither right nor false. Persons without labelled keypoints count
too.

With --refine, what each kind of fault costs: AP of that network in the boxes found, when one kind is taken away, and
when all are. Persons that were missed get the median score of right boxes. Last, AP in the boxes found when their
scores count as they are, in place of their roots.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from leanpose.data.annotations import open_annotations, read_annotated
from leanpose.data.coco import CocoSet
from leanpose.evaluation.finding import LEAST_SCORE, SIZES, find_persons, recalls, whole_images
from leanpose.inference.bottom_up import BottomUp
from leanpose.inference.detect import Detector, NetworkDetector
from leanpose.inference.engines import load_engine
from leanpose.inference.predictor import Predictor
from leanpose.inference.top_down import confidences

FALSE_BOXES = (0.3, 1, 3)  # an image
FAULTS = ("none", "inexact boxes", "missed persons", "false boxes", "all")
UNROOTED = "none, raw scores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument(
        "--scales",
        help="factors on the input size, with commas; boxes of all are collected; by default those of the record",
    )
    parser.add_argument("--refine", help="name or file of the network that finds keypoints in the boxes")
    options = parser.parse_args()
    annotated = whole_images(open_annotations(options.data, options.images))
    scales = options.scales and [float(scale) for scale in options.scales.split(",")]
    engine = load_engine(options.model, threads=1)
    if options.refine:
        report_faults(NetworkDetector(engine, scales), Predictor(options.refine), annotated)
        return
    detectors: dict[str, Detector] = {"boxes": NetworkDetector(engine, scales, LEAST_SCORE)}
    if engine.weights.task == "bottom_up":
        detectors["boxes around poses"] = partial(around_poses, BottomUp(engine))
    images = annotated.images(None)
    for kind, detector in detectors.items():
        seconds: list[float] = []
        timed = partial(in_time, detector, seconds)
        found = [find_persons(timed, annotated, image) for image in tqdm(images, kind, disable=None)]
        print(
            f"{kind}: {sum(len(one.scores) for one in found)} in {len(images)} images, "
            f"median {1000 * np.median(seconds):.1f} ms an image on one thread"
        )
        print("false boxes per image" + "".join(f"{name:>8}" for name in SIZES) + "   recall, %")
        for limit in FALSE_BOXES:
            cells = (f"{100 * share:8.1f}" if share >= 0 else f"{'-':>8}" for share in recalls(found, limit).values())
            print(f"{limit:>21g}" + "".join(cells))


def in_time(detector: Detector, seconds: list[float], image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    began = time.perf_counter()
    found = detector(image)
    seconds.append(time.perf_counter() - began)
    return found


def around_poses(people: BottomUp, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    poses = people.poses(image)
    return poses.boxes_xyxy, poses.person_scores


def report_faults(detector: NetworkDetector, predictor: Predictor, annotated: CocoSet) -> None:
    """Print AP in the boxes found, without one kind of fault, and without all; and with box scores as they are."""
    seen = []
    for entry in tqdm(annotated.images(None), "persons", disable=None):
        image = read_annotated(entry.path, entry.image_size)
        _, boxes, scores, right, persons, people = find_persons(detector, annotated, entry)
        truth = np.array([person.box_xyxy for person in people], dtype=np.float32).reshape(-1, 4)
        missed = np.array([not person.crowd and person.labelled > 0 for person in people], dtype=bool)
        missed[persons[right == 1]] = False
        seen.append((entry.image_id, image, boxes, scores, right, truth[persons[right == 1]], truth[missed]))
    usual = np.median(np.concatenate([scores[right == 1] for _, _, _, scores, right, _, _ in seen]))
    results: dict[str, list[dict[str, Any]]] = {fault: [] for fault in (*FAULTS, UNROOTED)}
    for image_id, image, boxes, scores, right, exact, missed in tqdm(seen, "poses", disable=None):
        for fault, predicted in results.items():
            these, of_these = boxes.copy(), scores
            if fault in ("inexact boxes", "all"):
                these[right == 1] = exact
            if fault in ("false boxes", "all"):
                these, of_these = these[right != 0], scores[right != 0]
            if fault in ("missed persons", "all"):
                these = np.concatenate([these, missed])
                of_these = np.concatenate([of_these, np.full(len(missed), usual, dtype=np.float32)])
            counts = of_these if fault == UNROOTED else confidences(of_these)
            poses = predictor.rescored(predictor(image, these), counts, found=True)
            predicted += poses.to_coco_results(image_id)
    print("taken away          AP  AP50  AP75   APM   APL")
    for fault, predicted in results.items():
        metrics = annotated.score(predicted, predictor.weights.keypoint_set)
        cells = "".join(f"{100 * metrics[name]:6.1f}" for name in ("AP", "AP50", "AP75", "APM", "APL"))
        print(f"{fault:<16}{cells}")


if __name__ == "__main__":
    main()
