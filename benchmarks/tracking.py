"""Identities and smoothing on made-up videos with known truth (made_video.py): switches, jitter, lag, error.

    python benchmarks/tracking.py DATA [--model rtmpose_s_26 --detector yolox_tiny] [--detections FILE]

DATA is the folder of the leanpose mini set. Every frame is searched by the networks; with --detections what they find
is written to FILE (JSON), or read where it is there, which saves the minutes. Jitter is the root mean square of the second
differences of the errors; errors and lag are of keypoints that were found, hidden ones too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from made_video import HIDDEN, RATE, SIZE, MadeVideo, made_videos
from scipy.optimize import linear_sum_assignment

from leanpose import COCO, Poses, Predictor
from leanpose.geometry import boxes_around
from leanpose.metrics.over_time import SAME, identity_figures, jitter, lag_s, likeness_to_truth
from leanpose.structures import Frame
from leanpose.tracking import LiveSmoother, Tracker, smooth_recorded

FIELDS = ("keypoints", "scores", "boxes_xyxy", "person_scores", "raw_scores")


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("data", type=Path)
    made.add_argument("--model", default="rtmpose_s_26")
    made.add_argument("--detector", default="yolox_tiny")
    made.add_argument("--videos", type=int, default=4)
    made.add_argument("--detections", type=Path)
    return made


def detections(options: argparse.Namespace, videos: Sequence[MadeVideo]) -> list[list[Poses]]:
    """Return what the networks find in each frame of each video, weak persons too."""
    file: Path | None = options.detections
    if file and file.exists():
        return [[_poses(frame) for frame in video] for video in json.loads(file.read_text())]
    predictor = Predictor(options.model, detector=options.detector, keypoint_set=COCO, min_person_score=0.15)
    found = [[predictor(image) for image, _ in video.frames()] for video in videos]
    if file:
        file.write_text(json.dumps([[_plain(poses) for poses in video] for video in found]))
    return found


def _plain(poses: Poses) -> dict[str, Any]:
    values = {name: getattr(poses, name) for name in FIELDS}
    return {name: value if value is None else value.tolist() for name, value in values.items()}


def _poses(frame: dict[str, Any]) -> Poses:
    n, k = len(frame["person_scores"]), len(COCO)
    shapes = {
        "keypoints": (n, k, 2),
        "scores": (n, k),
        "boxes_xyxy": (n, 4),
        "person_scores": (n,),
        "raw_scores": (n, k),
    }
    arrays = {
        name: None if frame[name] is None else np.array(frame[name], np.float32).reshape(shape)
        for name, shape in shapes.items()
    }
    return Poses(**arrays, keypoint_set=COCO)  # type: ignore[arg-type]


def true_poses(video: MadeVideo) -> list[Poses]:
    """Return the persons of each frame with their numbers as ids, without the one that is covered."""
    poses = []
    for number, truth in enumerate(video.truth.astype(np.float32)):
        ids = np.arange(1 if number in HIDDEN else 0, len(truth))
        ones = np.ones((len(ids), len(COCO)), np.float32)
        poses.append(Poses(truth[ids], ones, boxes_around(truth[ids], 0.05), ones[:, 0], COCO, ids))
    return poses


def places(truth: Sequence[Poses], found: Sequence[Poses]) -> np.ndarray:
    """Return (T, 4, 17, 2) the found keypoints of each true person; NaN where it was not found."""
    result = np.full((len(truth), 4, len(COCO), 2), np.nan)
    for frame, true, poses in zip(result, truth, found, strict=True):
        alike = likeness_to_truth(true, poses)
        for i, j in zip(*linear_sum_assignment(alike, maximize=True), strict=True):
            if alike[i, j] >= SAME and true.ids is not None:
                frame[true.ids[i]] = poses.keypoints[j]
    return result


def smoothed(tracked: Sequence[Poses]) -> dict[str, list[Poses]]:
    smoother = LiveSmoother()
    frames = [Frame(i, i / RATE, poses, SIZE) for i, poses in enumerate(tracked)]
    return {
        "as found": list(tracked),
        "live": [smoother(frame.poses, frame.time_s) for frame in frames],
        "recorded": [frame.poses for frame in smooth_recorded(frames)],
    }


def main() -> None:
    options = parser(__doc__).parse_args()
    videos = made_videos(options.data, options.videos)
    print(
        "| video | persons | switches | IDF1 | smoothing | jitter | of found | lag, ms | error, RMS | error, median |"
    )
    print("|---" * 10 + "|")
    for number, (video, found) in enumerate(zip(videos, detections(options, videos), strict=False)):
        tracker, truth = Tracker(), true_poses(video)
        tracked = [tracker(poses, i / RATE) for i, poses in enumerate(found)]
        figures = identity_figures(truth, tracked)
        first = places(truth, tracked)
        before = jitter(first - video.truth)
        for name, poses in smoothed(tracked).items():
            where = np.where(np.isnan(first), np.nan, places(truth, poses))
            errors = where - video.truth
            shakes = jitter(errors)
            lags = [1000 * lag_s(where[:, i], video.truth[:, i], RATE) for i in range(4)]
            distances = np.linalg.norm(errors, axis=-1)
            print(
                f"| {number} | {figures['ids']} | {figures['switches']} | {figures['IDF1']:.3f} | {name} | "
                f"{shakes:.2f} | 1 / {before / shakes:.1f} | {min(lags):.0f} to {max(lags):.0f} | "
                f"{np.sqrt(np.nanmean(distances**2)):.2f} | {np.nanmedian(distances):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
