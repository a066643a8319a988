"""Images that look nearly the same, though their files differ: encoded anew, resized, slightly cropped or brightened.

A first look compares all pairs at once: by a hash of 64 bits, the signs of the lowest frequencies of a cosine transform
(the DCT hash of pHash: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010), and by
copies of 8 x 8 pixels. A second look lays a grey copy of 64 x 64 pixels over the other, for the few pairs that are left
(ECC: Evangelidis and Psarakis, "Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization", 2008).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

HASH_SIDE = 32  # pixels of the copy whose frequencies are taken
COPY_SIDE = 64  # pixels of the copy for the second look
MOST_BITS = 16  # of 64 that differ, for a second look
LEAST_COARSE = 0.65  # correlation of the copies of 8 x 8 pixels, for a second look
LEAST_LIKENESS = 0.93  # correlation of the second look, for "nearly the same"
MOST_SCALE = 1.2  # between the two images, of the second look
FLAT = 2.0  # grey levels of deviation, below which an image has nothing to compare
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
_ROWS = 1024  # compared with all others at once


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What is kept of an image to compare it.

    Attributes:
        signs: (64,) float32 of -1 and 1, the hash.
        coarse: (64,) float32 of mean 0 and length 1, the pixels of 8 x 8; zeros where they are all alike.
        copy: (COPY_SIDE, COPY_SIDE) uint8 grey.
    """

    signs: np.ndarray
    coarse: np.ndarray
    copy: np.ndarray


def fingerprint(image: np.ndarray) -> Fingerprint:
    """Return the fingerprint of an image, (H, W, 3) uint8 RGB."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    lowest = cv2.dct(_shrunk(grey, HASH_SIDE).astype(np.float32))[:8, :8].ravel()
    copy = _shrunk(grey, COPY_SIDE)
    coarse = _shrunk(copy, 8).astype(np.float32).ravel()
    coarse -= coarse.mean()
    return Fingerprint(
        signs=np.where(lowest > np.median(lowest), np.float32(1), np.float32(-1)),
        coarse=coarse / max(float(np.linalg.norm(coarse)), 1e-6),
        copy=copy,
    )


def _shrunk(grey: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)


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
    signs, coarse = (np.stack([getattr(other, name) for other in others]) for name in ("signs", "coarse"))
    for start in range(0, len(these), _ROWS):
        rows = these[start : start + _ROWS]
        differing = (64 - np.stack([one.signs for one in rows]) @ signs.T) / 2  # bits
        alike = np.stack([one.coarse for one in rows]) @ coarse.T
        flat = np.array([not one.coarse.any() for one in rows])[:, None] & ~coarse.any(axis=1)
        for row, j in np.argwhere(flat | ((differing <= MOST_BITS) & (alike >= LEAST_COARSE))).tolist():
            i = start + row
            if (i < j or not within) and likeness(these[i].copy, others[j].copy) >= LEAST_LIKENESS:
                yield i, j


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Return how much two grey copies look the same, at most 1: their correlation, which brightness and contrast do not
    change, where one is laid over the other as well as an affine map can that hardly enlarges."""
    if min(a.std(), b.std()) < FLAT:
        return float(np.abs(a.astype(np.float32) - b).mean() <= FLAT)
    as_they_are = float(cv2.matchTemplate(a, b, cv2.TM_CCOEFF_NORMED)[0, 0])
    if as_they_are >= LEAST_LIKENESS:
        return as_they_are
    try:
        start, whole = np.eye(2, 3, dtype=np.float32), np.ones_like(b)
        laid, matrix = cv2.findTransformECC(a, b, start, cv2.MOTION_AFFINE, _STEPS, whole, 5)
    except cv2.error:  # they cannot be laid over one another
        return as_they_are
    largest, smallest = np.linalg.svd(matrix[:, :2])[1]
    return max(as_they_are, float(laid)) if 1 / MOST_SCALE <= smallest <= largest <= MOST_SCALE else as_they_are
