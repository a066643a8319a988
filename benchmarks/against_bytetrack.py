"""leanpose's Tracker against ByteTrack of the package `trackers`, on the same persons found in made-up videos.

    python benchmarks/against_bytetrack.py DATA TRACKERS_PYTHON --detections FILE [--model ... --detector ...]

TRACKERS_PYTHON is the Python of an environment with trackers, which brings another OpenCV. FILE is that of
benchmarks/tracking.py, and is made where it is not there. ByteTrack sees boxes and person scores; its thresholds for
strong ones are 0.6, that of the package, and 0.35, that of ours. Both keep who is lost for 1.5 seconds. Every n-th
frame is a slower camera.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from made_video import RATE, detections, made_videos, parser, true_poses

from leanpose import Poses
from leanpose.metrics.over_time import identity_figures
from leanpose.tracking import Tracker

STEPS = (1, 3)  # of the frames that are seen


def with_ids(found: Sequence[Poses], ids: Sequence[Sequence[int]]) -> list[Poses]:
    given = [replace(poses, ids=np.array(row, dtype=np.int64)) for poses, row in zip(found, ids, strict=True)]
    return [poses[np.array(row) >= 0] for poses, row in zip(given, ids, strict=True)]


def bytetrack(python: str, videos: Sequence[Sequence[Poses]], start_score: float, rate: float) -> list[list[Poses]]:
    worker = Path(__file__).with_name("bytetrack_worker.py")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "boxes.json", Path(folder) / "ids.json"
        names = ("boxes_xyxy", "person_scores")
        plain = [[{name: getattr(poses, name).tolist() for name in names} for poses in video] for video in videos]
        source.write_text(json.dumps(plain))
        subprocess.run([python, str(worker), str(source), str(target), str(start_score), str(rate)], check=True)
        answer = json.loads(target.read_text())
    return [with_ids(found, ids) for found, ids in zip(videos, answer, strict=True)]


def ours(found: Sequence[Poses], step: int) -> list[Poses]:
    tracker = Tracker()
    return [tracker(poses, i * step / RATE) for i, poses in enumerate(found)]


def main() -> None:
    options_parser = parser(__doc__)
    options_parser.add_argument("trackers_python")
    options = options_parser.parse_args()
    videos = made_videos(options.data, options.videos)
    found = detections(options, videos)
    print("| tracker | every n-th frame | switches | ids (true: 4 a video) | IDF1 | recall |\n" + "|---" * 6 + "|")
    for step in STEPS:
        seen = [video[::step] for video in found]
        rows = {
            "leanpose": [ours(video, step) for video in seen],
            "ByteTrack, from 0.6": bytetrack(options.trackers_python, seen, 0.6, RATE / step),
            "ByteTrack, from 0.35": bytetrack(options.trackers_python, seen, 0.35, RATE / step),
        }
        for name, tracked in rows.items():
            figures = [
                identity_figures(true_poses(video)[::step], poses)
                for video, poses in zip(videos, tracked, strict=False)
            ]
            switches, ids = (sum(figure[key] for figure in figures) for key in ("switches", "ids"))
            scores, recall = (np.mean([figure[key] for figure in figures]) for key in ("IDF1", "recall"))
            print(f"| {name} | {step} | {switches} | {ids} | {scores:.3f} | {recall:.3f} |")


if __name__ == "__main__":
    main()
