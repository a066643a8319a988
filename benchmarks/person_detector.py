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
import dataclasses
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from leanpose.data.annotations import open_annotations, read_annotated
from leanpose.data.coco import CocoSet
from leanpose.data.entries import Person
from leanpose.errors import InputError
from leanpose.inference.bottom_up import BottomUp
from leanpose.inference.detect import Detector, NetworkDetector
from leanpose.inference.engines import Engine, load_engine
from leanpose.inference.predictor import Predictor
from leanpose.inference.top_down import confidences
from leanpose.metrics.person_recall import match

FALSE_BOXES = (0.3, 1, 3)  # an image
FAULTS = ("none", "inexact boxes", "missed persons", "false boxes", "all")
UNROOTED = "none, raw scores"
SIZES = {"all": (0, np.inf), "small": (0, 32), "medium": (32, 96), "large": (96, np.inf)}  # square root of the area


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
    annotated = open_annotations(options.data, options.images)
    if not isinstance(annotated, CocoSet):
        raise InputError(f"{options.data} is no COCO-style file, which names everybody in an image.")
    scales = options.scales and [float(scale) for scale in options.scales.split(",")]
    engine = load_engine(options.model)
    if options.refine:
        report_faults(NetworkDetector(engine, scales), Predictor(options.refine), annotated)
        return
    detectors: dict[str, Detector] = {"boxes": NetworkDetector(with_all_scores(engine), scales)}
    if engine.weights.task == "bottom_up":
        detectors["boxes around poses"] = partial(around_poses, BottomUp(engine))
    for kind, detector in detectors.items():
        scores: list[np.ndarray] = []  # of all boxes
        hits: list[np.ndarray] = []  # whether each is right, or on a crowd (then NaN)
        person_sizes: list[np.ndarray] = []
        hit_sizes: list[np.ndarray] = []
        entries = annotated.images(None)
        for entry in tqdm(entries, kind, disable=None):
            image = read_annotated(entry.path, entry.image_size)
            boxes, box_scores = detector(image)
            truth, crowd, annotations = people_in(annotated, entry.image_id)
            sizes = np.sqrt([person.entry["area"] for person in annotations])
            right, persons = match(boxes, truth, crowd)
            scores.append(box_scores)
            hits.append(right)
            hit_sizes.append(np.array([sizes[person] if person >= 0 else np.nan for person in persons]))
            person_sizes.append(sizes[~crowd])
        columns = [np.concatenate(parts) for parts in (scores, hits, hit_sizes, person_sizes)]
        report(kind, columns[0], columns[1], columns[2], columns[3], len(entries))


def around_poses(people: BottomUp, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    poses = people.poses(image)
    return poses.boxes_xyxy, poses.person_scores


def with_all_scores(engine: Engine) -> Engine:
    """Let an engine's record ask for boxes of low scores too, for the whole curve."""
    key = "codec_options" if engine.weights.task == "detection" else "box_codec_options"
    changed: dict[str, Any] = {key: {**getattr(engine.weights, key), "score_threshold": 0.01}}
    engine.weights = dataclasses.replace(engine.weights, **changed)
    return engine


def people_in(annotated: CocoSet, image_id: int | str) -> tuple[np.ndarray, np.ndarray, list[Person]]:
    """Return an image's annotated boxes (M, 4) xyxy, which of them are crowds, and whose they are."""
    people = [p for p in annotated.persons if p.image.id == image_id and p.box_xyxy is not None]
    truth = np.array([person.box_xyxy for person in people], dtype=np.float32).reshape(-1, 4)
    return truth, np.array([person.crowd for person in people], dtype=bool), people


def report_faults(detector: NetworkDetector, predictor: Predictor, annotated: CocoSet) -> None:
    """Print AP in the boxes found, without one kind of fault, and without all; and with box scores as they are."""
    seen = []
    for entry in tqdm(annotated.images(None), "persons", disable=None):
        image = read_annotated(entry.path, entry.image_size)
        boxes, scores = detector(image)
        truth, crowd, people = people_in(annotated, entry.image_id)
        right, persons = match(boxes, truth, crowd)
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


def report(kind: str, scores: np.ndarray, hits: np.ndarray, hit_sizes: np.ndarray, sizes: np.ndarray, n: int) -> None:
    order = np.argsort(-scores, kind="stable")
    scores, hits, hit_sizes = scores[order], hits[order], hit_sizes[order]
    false = np.cumsum(hits == 0)
    print(f"{kind}: {len(scores)} boxes in {n} images, {len(sizes)} persons")
    print("false boxes per image   score  " + "  ".join(f"{name:>6}" for name in SIZES) + "   recall, %")
    for limit in FALSE_BOXES:
        count = int(np.searchsorted(false, limit * n, side="right"))
        cells = []
        for low, high in SIZES.values():
            found = ((hit_sizes[:count] >= low) & (hit_sizes[:count] < high)).sum()
            cells.append(f"{100 * found / max(1, ((sizes >= low) & (sizes < high)).sum()):6.1f}")
        lowest = scores[count - 1] if count else np.nan
        print(f"{min(limit, false[-1] / n if len(false) else 0):>21.2f}  {lowest:6.3f}  " + "  ".join(cells))


if __name__ == "__main__":
    main()
