"""The side of benchmarks/against_bytetrack.py where `trackers` is installed: boxes of frames in, their ids out.

TRACKERS_PYTHON benchmarks/bytetrack_worker.py DETECTIONS.json IDS.json START_SCORE RATE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from trackers import ByteTrackTracker  # type: ignore[import-not-found]


def ids(video: list[dict[str, Any]], start_score: float, rate: float) -> list[list[int]]:
    """Return the id of each person of each frame, -1: none."""
    tracker = ByteTrackTracker(
        lost_track_buffer=45,  # in frames of a thirtieth of a second, whatever the rate
        frame_rate=rate,
        track_activation_threshold=start_score,
        high_conf_det_threshold=start_score,
    )
    result = []
    for frame in video:
        boxes = np.array(frame["boxes_xyxy"], np.float32).reshape(-1, 4)
        places = np.arange(len(boxes))
        found = sv.Detections(
            xyxy=boxes, confidence=np.array(frame["person_scores"], np.float32), data={"place": places},
            class_id=np.zeros(len(boxes), int),
        )  # fmt: skip
        tracked = tracker.update(found)
        known = dict(zip(tracked.data.get("place", []), tracked.tracker_id, strict=True)) if len(tracked) else {}
        result.append([int(known.get(place, -1)) for place in places])
    return result


videos = json.loads(Path(sys.argv[1]).read_text())
Path(sys.argv[2]).write_text(json.dumps([ids(video, float(sys.argv[3]), float(sys.argv[4])) for video in videos]))
