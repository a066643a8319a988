"""How many of the keypoints that are drawn are not there, with raw and with calibrated scores.

    python benchmarks/drawn_keypoints.py MODEL ... --data coco/val.json --images coco/images [--pictures DIR]

MODEL is a calibrated file or name (`leanpose calibrate`). Persons are the annotated ones whose box touches the border
of the image (within 2 pixels), in their annotated boxes. A keypoint is not there if it lies outside the image or is not
annotated (v = 0); right if its similarity (OKS of this one) is above 0.5. Drawn is what `draw_poses` draws by default.
--pictures: --count persons, 10 by default, with the most keypoints that only raw scores draw, raw on the left.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from leanpose.deploy.calibrate import RIGHT, found_persons
from leanpose.geometry import Size, similarities
from leanpose.inference.predictor import Predictor
from leanpose.io.draw import draw_poses
from leanpose.io.images import write_image
from leanpose.structures import Poses

BORDER = 2  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--pictures")
    parser.add_argument("--count", type=int, default=10)
    options = parser.parse_args()
    print("| model | scores | persons | drawn | not there | right ones drawn |\n|---|---|---|---|---|---|")
    for model in options.models:
        predictor = Predictor(model, detector=None, min_person_score=0.0)
        drawn: dict[str, list[np.ndarray]] = {"raw": [], "calibrated": []}
        absent, right, pictures = [], [], []
        for image, all_poses, persons, all_areas in found_persons(predictor, options.data, options.images):
            size = (image.shape[0], image.shape[1])
            at_border = touches(np.stack([person.box_xyxy for person in persons]), size)
            poses, areas = all_poses[at_border], all_areas[at_border]
            if not len(poses):
                continue
            if poses.raw_scores is None:
                raise SystemExit(f"{model} is not calibrated: leanpose calibrate {model} ...")
            truth = np.stack([person.keypoints for person, one in zip(persons, at_border, strict=True) if one])
            raw = replace(poses, scores=poses.raw_scores, raw_scores=None)
            drawn["raw"].append(raw.present(size))
            drawn["calibrated"].append(poses.present(size))
            absent.append(np.isnan(truth[..., 0]) | outside(poses, size))
            right.append(similarities(poses.keypoints, truth, areas, poses.keypoint_set.oks_sigmas) > RIGHT)
            fewer = (drawn["raw"][-1] & ~drawn["calibrated"][-1]).sum(axis=1)
            pictures += [(int(n), image, raw[i], poses[i]) for i, n in enumerate(fewer)]
        not_there, correct = np.concatenate(absent), np.concatenate(right)
        for name, shown in drawn.items():
            one = np.concatenate(shown)
            wrong, kept = (one & not_there).sum() / one.sum(), (one & correct).sum() / correct.sum()
            print(
                f"| {predictor.weights.name} | {name} | {len(one)} | {one.sum()} | "
                f"{100 * wrong:.1f} % | {100 * kept:.1f} % |"
            )
        if options.pictures:
            for i, (_, image, before, after) in enumerate(sorted(pictures, key=lambda p: -p[0])[: options.count]):
                both = np.concatenate([draw_poses(image, before), draw_poses(image, after)], axis=1)
                write_image(Path(options.pictures) / f"{predictor.weights.name}_{i}.jpg", both)


def touches(boxes_xyxy: np.ndarray, size: Size) -> np.ndarray:
    """Return which boxes (N, 4) touch the border of an image (height, width)."""
    height, width = size
    rooms = np.column_stack([boxes_xyxy[:, :2], np.array([width, height]) - boxes_xyxy[:, 2:]])
    return rooms.min(axis=1) <= BORDER


def outside(poses: Poses, size: Size) -> np.ndarray:
    """Return which keypoints (N, K) lie outside an image (height, width)."""
    height, width = size
    points = poses.keypoints
    return np.minimum(points + 0.5, np.array([width, height]) - 0.5 - points).min(axis=2) < 0


if __name__ == "__main__":
    main()
