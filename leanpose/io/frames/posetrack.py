"""PoseTrack18's annotation file: COCO's form with videos, frames and tracks, and 17 keypoints of its own.

Form: github.com/leonid-pishchulin/poseval, and the annotation files of posetrack.net.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from leanpose.io.frames.coco import CocoWriter
from leanpose.io.frames.interface import Clip
from leanpose.keypoint_sets import COCO, KeypointSet
from leanpose.structures import Frame

POSETRACK = KeypointSet(
    "posetrack",
    ("nose", "head_bottom", "head_top", *COCO.keypoints[3:]),
    (*COCO.edges[:12], ("nose", "head_bottom"), ("nose", "head_top")),
    "PoseTrack18, arXiv 1710.10000",
)
VIDEO = 1  # number of the video, of which a file has one


class PoseTrackWriter(CocoWriter):
    """Keypoints are carried to PoseTrack's by name; those that the poses lack are not labelled."""

    def __init__(self, path: Path, clip: Clip) -> None:
        super().__init__(path, replace(clip, keypoint_set=POSETRACK))

    def entries(self, frame: Frame) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        image, persons = super().entries(replace(frame, poses=frame.poses.to(POSETRACK)))
        for person in persons:
            person["scores"] = person.pop("keypoint_scores")
            person["keypoints"][2::3] = [min(1.0, labelled) for labelled in person["keypoints"][2::3]]
        number = int(f"1{VIDEO:06d}{frame.index:04d}")  # as PoseTrack numbers its frames
        folder = Path(self._clip.source).stem or "video"
        return image | {
            "id": number,
            "frame_id": number,
            "vid_id": f"{VIDEO:06d}",
            "file_name": f"images/{folder}/{frame.index:06d}.jpg",
            "is_labeled": True,
            "has_no_densepose": True,
        }, persons

    def images(self) -> list[dict[str, Any]]:
        return [image | {"nframes": len(self._images)} for image in self._images]
