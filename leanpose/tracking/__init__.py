"""Identities over time and smooth keypoints: functions from Poses to Poses, for videos and cameras.

tracker, smooth = Tracker(), LiveSmoother()
poses = smooth(tracker(poses, time_s), time_s)
"""

from leanpose.tracking.live import LiveSmoother
from leanpose.tracking.recorded import smooth_recorded
from leanpose.tracking.tracker import Tracker

__all__ = ["LiveSmoother", "Tracker", "smooth_recorded"]
