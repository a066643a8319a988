"""How near the rule for OKS sigmas comes to COCO's published ones, to which its one constant is fitted.

python benchmarks/sigmas.py DATA/coco/train.json
"""

from __future__ import annotations

import sys

import numpy as np

from leanpose.data.formats import read_export
from leanpose.data.sigmas import persons_of, sigmas_by_scale
from leanpose.keypoint_sets import COCO


def main() -> None:
    content = read_export(sys.argv[1], None).content
    _, boxes, areas, _ = persons_of(content)
    print(f"areas are {(areas / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)).mean():.3f} of the boxes in the mean")
    guessed, published = sigmas_by_scale(content), COCO.oks_sigmas
    for name, a, b in zip(COCO.keypoints, guessed, published, strict=True):
        print(f"{name:<15} {a:.3f} guessed, {b:.3f} published, factor {a / b:.2f}")
    factors = np.abs(np.log(guessed / published))
    print(f"{len(areas)} persons: worst factor {np.exp(factors.max()):.2f}, ", end="")
    print(f"root mean square {np.exp(np.sqrt((factors**2).mean())):.2f}")


if __name__ == "__main__":
    main()
