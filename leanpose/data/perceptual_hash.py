"""Images that look nearly the same, though their files differ: encoded anew, resized, slightly cropped or brightened.

Two looks at small grey copies. The first compares hashes of 64 bits, the signs of the lowest frequencies of a cosine
transform (the DCT hash of pHash: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010),
for all pairs at once. The second looks for the middle of one copy in the other, a little larger or smaller, for the
few pairs that are left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np

HASH_SIDE = 32  # pixels of the copy whose frequencies are taken
COPY_SIDE = 64  # pixels of the copy for the second look
MOST_BITS = 20  # of 64 that differ, for a second look
LEAST_LIKENESS = 0.93  # correlation of the second look, for "nearly the same"
SHRINKS = (1.0, 0.95, 0.9, 0.85)  # of a side, by which one of the images may be cropped
MIDDLE = 0.7  # of a side, what is looked for in the other copy
FLAT = 2.0  # grey levels of deviation, below which an image has nothing to compare
_ROWS = 1024  # compared with all others at once


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What is kept of an image to compare it.

    Attributes:
        signs: (64,) float32 of -1 and 1, the hash.
        copy: (COPY_SIDE, COPY_SIDE) uint8 grey.
    """

    signs: np.ndarray
    copy: np.ndarray


def fingerprint(image: np.ndarray) -> Fingerprint:
    """Return the fingerprint of an image, (H, W, 3) uint8 RGB."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA)
    lowest = cv2.dct(small.astype(np.float32))[:8, :8].ravel()
    signs = np.where(lowest > np.median(lowest), np.float32(1), np.float32(-1))
    return Fingerprint(signs, cv2.resize(grey, (COPY_SIDE, COPY_SIDE), interpolation=cv2.INTER_AREA))


def similar_pairs(
    these: Sequence[Fingerprint], others: Sequence[Fingerprint] | None = None
) -> Iterator[tuple[int, int]]:
    """Yield the places (i, j) of images that look nearly the same, i in `these` and j in `others`.

    Args:
        others: None: pairs in `these`, each once with i < j.
    """
    within = others is None
    others = these if others is None else others
    if not these or not others:
        return
    signs = np.stack([other.signs for other in others])
    for start in range(0, len(these), _ROWS):
        rows = np.stack([one.signs for one in these[start : start + _ROWS]])
        differing = (64 - rows @ signs.T) / 2  # bits
        for row, j in np.argwhere(differing <= MOST_BITS).tolist():
            i = start + row
            if (i < j or not within) and likeness(these[i].copy, others[j].copy) >= LEAST_LIKENESS:
                yield i, j


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Return how much two grey copies look the same, at most 1: the correlation of the middle of one with where it is
    found in the other, which brightness and contrast do not change."""
    if min(a.std(), b.std()) < FLAT:
        return float(np.abs(a.astype(np.float32) - b).mean() <= FLAT)
    return max(_found_in(a, b), _found_in(b, a))


def _found_in(whole: np.ndarray, cropped: np.ndarray) -> float:
    """Return the correlation of the middle of a copy with its best place in another that may show a little more."""
    best = -1.0
    for width, height in product(SHRINKS, SHRINKS):
        size = (round(COPY_SIDE * width), round(COPY_SIDE * height))
        small = cv2.resize(cropped, size, interpolation=cv2.INTER_AREA)
        margins = [round(side * (1 - MIDDLE) / 2) for side in small.shape]
        middle = small[margins[0] : -margins[0], margins[1] : -margins[1]]
        best = max(best, float(cv2.matchTemplate(whole, middle, cv2.TM_CCOEFF_NORMED).max()))
    return best
