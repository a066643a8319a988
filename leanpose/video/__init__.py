"""Video in and out: sources of frames, the pipeline that finds persons in them, and annotated video."""

from typing import Literal

Smooth = Literal["off", "live", "recorded"]  # how the keypoints of each person are smoothed over time
