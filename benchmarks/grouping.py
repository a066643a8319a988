"""Decoding of associative embedding, one thread: leanpose against a plain loop over keypoints with munkres.

    python benchmarks/grouping.py [--map-size 128x128] [--tags 1] [--runs 40]

Both take heatmaps and tags of one image (17 keypoints) to all its people: peaks, grouping, quarter-pixel shift,
and a search of the whole map for each keypoint that a person lacks. The peer is the published parser (HigherHRNet,
LitePose) written down rule by rule, with the assignment of the package munkres, which the published code uses; unlike
the published code it searches only for lacking keypoints, and takes its peaks from OpenCV, which makes it faster. Maps
are drawn from a seed. The program stops with an error if the two do not find the same people. Runs are interleaved, so
that a busy machine slows both; the ratio of the medians is the figure to quote.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time

import cv2
import numpy as np

from leanpose.codecs import AssociativeEmbedding

try:
    from munkres import Munkres
except ImportError:
    sys.exit("This benchmark compares with the package munkres: pip install munkres")

NUM_KEYPOINTS = 17
ORDER = [0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16]
MAX_PEOPLE = 30
DETECTION_THRESHOLD = 0.1
TAG_THRESHOLD = 1.0


def draw_maps(num_people: int, height: int, width: int, num_tags: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw people side by side, their tags 1.5 apart, 12% of their keypoints lacking, on weak noise.

    All have keypoint 0, so that all are known from the start. Else a peak without a person often leaves assignments
    of equal cost, which the two decide differently.

    Returns:
        heatmaps (K, H, W) and tags (K, H, W, T), float32.
    """
    rng = np.random.default_rng(num_people)
    heatmaps = rng.uniform(0, 0.02, (NUM_KEYPOINTS, height, width))
    tags = rng.normal(0, 0.05, (NUM_KEYPOINTS, height, width, num_tags))
    y, x = np.mgrid[:height, :width]
    columns = int(np.ceil(np.sqrt(num_people)))
    cell = np.array([width, height]) / [columns, int(np.ceil(num_people / columns))]
    for person in range(num_people):
        middle = cell * [person % columns + 0.5, person // columns + 0.5]
        for keypoint in range(NUM_KEYPOINTS):
            place = middle + np.minimum(cell, 40) * rng.uniform(-0.5, 0.5, 2)
            peak = rng.uniform(0.35, 1)
            lacking = rng.random() < 0.12
            if keypoint == 0:
                place = middle
            elif lacking:
                continue
            squared = (x - place[0]) ** 2 + (y - place[1]) ** 2
            drawn = peak * np.exp(-squared / 8)
            visible = drawn > heatmaps[keypoint]
            heatmaps[keypoint, visible] = drawn[visible]
            tags[keypoint, visible] = 1.5 * (person - num_people / 2) + rng.normal(0, 0.08, num_tags)
    return heatmaps.astype(np.float32), tags.astype(np.float32)


def plain_decode(heatmaps: np.ndarray, tags: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Return people (N, K, 3 + T), x, y, value and tags, and their scores, by the published rules one by one."""
    people = plain_group(heatmaps, tags)
    for person in people:
        for keypoint in range(NUM_KEYPOINTS):
            if person[keypoint, 2] > 0:
                x, y = person[keypoint, :2].astype(int)
                person[keypoint, :2] = quarter_shift(heatmaps[keypoint], x, y)
    scores = [float(person[:, 2].mean()) for person in people]
    for person in people:
        found = [k for k in range(NUM_KEYPOINTS) if person[k, 2] > 0]
        mean = np.mean([tags[k, int(person[k, 1]), int(person[k, 0])] for k in found], axis=0)
        for keypoint in range(NUM_KEYPOINTS):
            if person[keypoint, 2] == 0:
                distance = ((tags[keypoint] - mean) ** 2).sum(axis=2) ** 0.5
                rating = heatmaps[keypoint] - np.round(distance)
                y, x = np.unravel_index(np.argmax(rating), rating.shape)
                if heatmaps[keypoint, y, x] > 0:
                    person[keypoint, :2] = quarter_shift(heatmaps[keypoint], int(x), int(y))
                    person[keypoint, 2] = heatmaps[keypoint, y, x]
    return people, scores


def plain_group(heatmaps: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Return the peaks (N, K, 3 + T), x, y, value and tags, sorted into people; 0 where a keypoint is lacking."""
    people: list[np.ndarray] = []
    tags_of_people: list[list[np.ndarray]] = []
    for keypoint in ORDER:
        candidates = find_peaks(heatmaps[keypoint], tags[keypoint])
        if not candidates:
            continue
        opened = list(range(len(candidates)))
        if people:
            means = [np.mean(members, axis=0) for members in tags_of_people[:MAX_PEOPLE]]
            distance = [[float(np.linalg.norm(candidate[3:] - mean)) for mean in means] for candidate in candidates]
            cost = [
                [100 * round(d) - float(candidate[2]) for d in row]
                for candidate, row in zip(candidates, distance, strict=True)
            ]
            for costs in cost:
                costs += [1e10] * (len(candidates) - len(means))
            for row, column in Munkres().compute(cost):
                if row < len(candidates) and column < len(means) and distance[row][column] < TAG_THRESHOLD:
                    people[column][keypoint] = candidates[row]
                    tags_of_people[column].append(candidates[row][3:])
                    opened.remove(row)
        for row in opened:
            person = np.zeros((NUM_KEYPOINTS, 3 + tags.shape[3]), dtype=np.float32)
            person[keypoint] = candidates[row]
            people.append(person)
            tags_of_people.append([candidates[row][3:]])
    return np.array(people)


def find_peaks(heatmap: np.ndarray, tags: np.ndarray) -> list[np.ndarray]:
    """Return x, y, value and tags of the highest peaks of one map."""
    highest = cv2.dilate(heatmap, np.ones((5, 5), np.uint8))
    suppressed = np.where(heatmap == highest, heatmap, 0).ravel()
    peaks = []
    for index in np.argsort(-suppressed, kind="stable")[:MAX_PEOPLE]:
        y, x = divmod(int(index), heatmap.shape[1])
        if heatmap[y, x] > DETECTION_THRESHOLD:
            peaks.append(np.array([x, y, heatmap[y, x], *tags[y, x]], dtype=np.float32))
    return peaks


def quarter_shift(heatmap: np.ndarray, x: int, y: int) -> tuple[float, float]:
    """Return the pixel's middle, a quarter pixel towards the higher neighbour on each axis."""
    height, width = heatmap.shape
    right = heatmap[y, min(x + 1, width - 1)] > heatmap[y, max(x - 1, 0)]
    down = heatmap[min(y + 1, height - 1), x] > heatmap[max(y - 1, 0), x]
    return x + 0.5 + (0.25 if right else -0.25), y + 0.5 + (0.25 if down else -0.25)


def check_same(ours: tuple[np.ndarray, np.ndarray], plain: tuple[np.ndarray, list[float]]) -> None:
    """Stop with an error when the two found different people."""
    same = ours[0].shape == plain[0].shape and np.array_equal(ours[0], plain[0])
    if not same or not np.allclose(ours[1], plain[1], rtol=0, atol=1e-6):
        sys.exit(f"The two found different people: {len(ours[0])} and {len(plain[0])}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map-size", default="128x128", help="height and width")
    parser.add_argument("--tags", type=int, default=1, help="tags for each pixel; 2 is what the flip test gives")
    parser.add_argument("--runs", type=int, default=40)
    options = parser.parse_args()
    height, width = map(int, options.map_size.split("x"))
    cv2.setNumThreads(1)
    codec = AssociativeEmbedding()

    print(f"{platform.processor() or platform.machine()}, one thread, {NUM_KEYPOINTS} keypoints, {options.map_size},")
    print(f"{options.tags} tag(s) a pixel, medians of {options.runs} runs (min ... max)")
    for num_people in (1, 5, 10, 30):
        heatmaps, tags = draw_maps(num_people, height, width, options.tags)
        check_same(codec.group(heatmaps, tags), plain_decode(heatmaps, tags))
        times: dict[str, list[float]] = {"leanpose": [], "plain": []}
        for _ in range(options.runs):
            for name, decode in (("leanpose", codec.decode_maps), ("plain", plain_decode)):
                began = time.perf_counter()
                decode(heatmaps, tags)
                times[name].append(1000 * (time.perf_counter() - began))
        texts = [
            f"{name} {statistics.median(values):.2f} ms ({min(values):.2f} ... {max(values):.2f})"
            for name, values in times.items()
        ]
        ratio = statistics.median(times["plain"]) / statistics.median(times["leanpose"])
        found = len(codec.decode_maps(heatmaps, tags)[2])
        print(f"{num_people:>2} people drawn, {found} found, the same by both: {', '.join(texts)}, ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
