"""PCK of top-down networks on annotated persons, as sets of sport poses are measured.

    python benchmarks/pck.py MODEL ... --data lspet/val.json --images lspet/images [--flip-test]

MODEL is a name or a file. Boxes are the annotated ones; a keypoint is right within 0.2 of the length from left shoulder
to right hip. The mean is over keypoints, like the interval of 95 % from 1,000 draws of persons with replacement.
"""

from __future__ import annotations

import argparse

import numpy as np

from leanpose.deploy.calibrate import found_persons, raw_predictor
from leanpose.metrics.pck import pck, torso_lengths

FRACTION = 0.2
DRAWS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--flip-test", action="store_true")
    options = parser.parse_args()
    for model in options.models:
        predictor = raw_predictor(model, options.flip_test)
        persons = [(poses, truth) for _, poses, truth, _ in found_persons(predictor, options.data, options.images)]
        found = np.concatenate([poses.keypoints for poses, _ in persons])
        truth = np.stack([person.keypoints for _, people in persons for person in people])
        lengths = torso_lengths(truth, predictor.keypoint_set)
        shares = pck(found, truth, lengths, FRACTION)
        rng = np.random.default_rng(0)
        draws = [rng.integers(len(truth), size=len(truth)) for _ in range(DRAWS)]
        means = [np.nanmean(pck(found[i], truth[i], lengths[i], FRACTION)) for i in draws]
        low, high = np.percentile(means, [2.5, 97.5])
        print(f"\n{model}: PCK@{FRACTION} {100 * np.nanmean(shares):.1f} ({100 * low:.1f} to {100 * high:.1f})")
        for name, share in zip(predictor.keypoint_set.keypoints, shares, strict=True):
            print(f"  {name:<16}{100 * share:5.1f}")


if __name__ == "__main__":
    main()
