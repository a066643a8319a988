"""Identities and smoothing on made-up videos with known truth (made_video.py): switches, jitter, lag, error.

    python benchmarks/tracking.py DATA [--model rtmpose_s_26 --detector yolox_tiny] [--detections FILE]

DATA is the folder of the leanpose mini set. Every frame is searched by the networks; with --detections what they find
is written to FILE (JSON), or read where it is there, which saves the minutes. Jitter is the root mean square of the
second differences of the errors; errors and lag are of keypoints that were found, hidden ones too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from made_video import RATE, SIZE, detections, made_videos, parser, true_poses
from scipy.optimize import linear_sum_assignment

from leanpose import COCO, Poses
from leanpose.metrics.over_time import SAME, identity_figures, jitter, lag_s, likeness_to_truth
from leanpose.structures import Frame
from leanpose.tracking import LiveSmoother, Tracker, smooth_recorded


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
