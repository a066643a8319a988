"""Video: the pipeline against its parts, detection in every frame against rarer detection, and memory over a long run.

    python benchmarks/video.py overlap CLIP [--model rtmpose_s_26] [--detector yolox_tiny] [--frames 60] [--rounds 3]
    python benchmarks/video.py detect-every CLIP [--every 5] [--frames 60]
    python benchmarks/video.py memory [--frames 20000]

`detect-every` counts the time of cores, which other work on the machine hardly changes.
`overlap` takes each part alone, on all frames, then all parts as `leanpose predict` joins them, in turns; medians of
the rounds. `memory` has a stand-in for the network and a simulated camera, and writes lines and video as predict does.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from itertools import islice
from pathlib import Path

import numpy as np

from leanpose import Predictor, Video, draw_poses
from leanpose.evaluation.timing import machine
from leanpose.io.frames import Clip, open_writer
from leanpose.structures import Frame, Poses
from leanpose.tracking.matching import assign, keypoint_likeness
from leanpose.video.source import Shot, Source, open_source
from leanpose.video.writer import VideoWriter
from leanpose.weights.record import Weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overlap", "detect-every", "memory"])
    parser.add_argument("clip", nargs="?")
    parser.add_argument("--model", default="rtmpose_s_26")
    parser.add_argument("--detector", default="yolox_tiny")
    parser.add_argument("--threads", type=int, help="of each network; None: all cores")
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    if options.what == "memory":
        memory(options.frames or 20_000)
        return
    predictor = Predictor(options.model, detector=options.detector, threads=options.threads)
    source = shortened(open_source(options.clip), options.frames or 60)
    print(f"{options.clip}, {predictor.provenance['model']} with {predictor.provenance['detector']}")
    if options.what == "overlap":
        overlap(source, predictor, options.rounds)
    else:
        detect_every(source, predictor, options.every, options.rounds)


def shortened(source: Source, count: int) -> Source:
    """Return the first frames of a source as one."""

    def shots() -> Generator[Shot]:
        yield from islice(source.shots(), count)

    return Source(source.name, shots, source.frame_rate, path=source.path)


def in_turns(
    ways: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median seconds of each way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = clock()
            way()
            seconds[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def overlap(source: Source, predictor: Predictor, rounds: int) -> None:
    """Time decoding, network, drawing and writing alone, and all of them as one pipeline."""
    shots = list(source.shots())
    poses = [predictor(shot.image) for shot in shots]  # also a warm-up
    drawn = [draw_poses(shot.image, its) for shot, its in zip(shots, poses, strict=True)]
    folder = Path(tempfile.mkdtemp())

    def write() -> None:
        writer = VideoWriter(folder / "alone.mp4", source.frame_rate, source.path)
        for shot, image in zip(shots, drawn, strict=True):
            writer.write(image, shot.time_s)
        writer.close()

    def pipeline() -> None:
        writer = VideoWriter(folder / "joined.mp4", source.frame_rate, source.path)
        for frame in Video(source, predictor):
            writer.write(draw_poses(frame.image, frame.poses), frame.time_s)
        writer.close()

    parts: dict[str, Callable[[], object]] = {
        "decode": lambda: list(source.shots()),
        "detect and poses": lambda: [predictor(shot.image) for shot in shots],
        "draw": lambda: [draw_poses(shot.image, its) for shot, its in zip(shots, poses, strict=True)],
        "write": write,
    }
    seconds = in_turns(parts | {"pipeline": pipeline}, rounds)
    count, joined = len(shots), seconds.pop("pipeline")
    print(f"{count} frames of {shots[0].image.shape[1]} x {shots[0].image.shape[0]}, {sum(map(len, poses))} persons")
    for name, value in seconds.items():
        print(f"{name:>18}: {1000 * value / count:7.1f} ms a frame")
    print(f"{'sum of the parts':>18}: {count / sum(seconds.values()):7.2f} frames a second")
    print(
        f"{'pipeline':>18}: {count / joined:7.2f} frames a second, {sum(seconds.values()) / joined:.2f} times as many"
    )


def detect_every(source: Source, predictor: Predictor, every: int, rounds: int) -> None:
    """Compare frames with detection in each and in every n-th: speed, who is found, and how far keypoints are apart."""
    found: dict[int, list[Frame]] = {}

    def run(n: int) -> None:
        found[n] = list(Video(source, predictor, track=True, detect_every=n))

    run(1)  # warm-up
    seconds = in_turns({"each": lambda: run(1), "rarer": lambda: run(every)}, rounds, time.process_time)
    count = len(found[1])
    print(f"detection in each of {count} frames: {seconds['each'] / count:.3f} s of a core a frame")
    print(
        f"in every {every}th: {seconds['rarer'] / count:.3f} s, {seconds['each'] / seconds['rarer']:.2f} times as fast"
    )
    pairs = [matched(a.poses, b.poses) for a, b in zip(found[1], found[every], strict=True)]
    distances = np.concatenate([distance for distance, _ in pairs])
    persons, others = (sum(len(frame.poses) for frame in found[n]) for n in (1, every))
    both = sum(number for _, number in pairs)
    print(f"persons: {persons} and {others}; {both} in both, {both / persons:.1%} of the first")
    median, most = np.quantile(distances, (0.5, 0.95))
    print("their keypoints apart, in sizes of the person (root of the box's area): ", end="")
    print(f"median {median:.4f}, mean {distances.mean():.4f}, 95% below {most:.4f}")


def matched(a: Poses, b: Poses) -> tuple[np.ndarray, int]:
    """Return how far keypoints of the same persons, which both count as there, are apart, in sizes; and how many
    persons are the same (OKS of 0.5)."""
    if not len(a) or not len(b):
        return np.zeros(0), 0
    alike = keypoint_likeness(a, b)
    pairs = assign(alike, alike > 0.5)
    rows, columns = (np.array([pair[k] for pair in pairs], int) for k in (0, 1))
    there = (a.scores[rows] >= a.least_score()) & (b.scores[columns] >= b.least_score())
    sizes = np.sqrt(np.prod(a.boxes_xyxy[rows, 2:] - a.boxes_xyxy[rows, :2], axis=1))[:, None]
    return (np.linalg.norm(a.keypoints[rows] - b.keypoints[columns], axis=2) / sizes)[there], len(pairs)


class StandIn:
    """A network whose person always stands upright, a little restless."""

    weights = Weights("stand_in", "stand_in", (128, 96), codec="dark", codec_options={"sigma": 2.0})

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        maps = np.zeros((len(images), 17, 32, 24), np.float32)
        for k in range(17):
            x, y = self._random.integers(3, 6, 2) + k
            maps[:, k, y - 1 : y + 2, x - 1 : x + 2] = 0.4
            maps[:, k, y, x] = 0.9
        return {"heatmaps": maps}


def memory(count: int) -> None:
    """Print the resident memory of a long run."""
    images = np.random.default_rng(0).integers(0, 255, (8, 240, 320, 3), np.uint8)

    def shots() -> Generator[Shot]:
        for i in range(count):
            yield Shot(i, i / 30, images[i % 8].copy())

    predictor = Predictor(StandIn(), detector=lambda image: (np.array([[100.0, 20, 180, 220]]), np.array([0.9])))
    video = Video(Source("camera", shots, 30.0), predictor, smooth="recorded", detect_every=5)
    folder = Path(tempfile.mkdtemp())
    used: list[float] = []
    with open_writer("jsonl", folder / "camera.jsonl", Clip(predictor.keypoint_set)) as lines:
        writer = VideoWriter(folder / "camera.mp4", 30.0)
        for frame in video:
            lines.write(frame)
            writer.write(draw_poses(frame.image, frame.poses), frame.time_s)
            if frame.index % (count // 10) == count // 10 - 1:
                used.append(resident())
                print(f"{frame.index + 1:6} frames: {used[-1]:.1f} MB", flush=True)
        writer.close()
    print(f"from the first tenth on at most {max(used) - used[0]:+.1f} MB")


def resident() -> float:
    """Return the memory of this process in MB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


if __name__ == "__main__":
    main()
