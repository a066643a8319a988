"""From a file of frames to joint angles over time: a table, and an image for each identity."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path

from leanpose.errors import InputError, require
from leanpose.io.files import write_bytes, write_text
from leanpose.io.frames import read_frames
from leanpose.io.own_files import ANGLES_COLUMNS, is_own
from leanpose.io.preflight import check_needs
from leanpose.kinematics import AngleTrack, angle_tracks, plot_angles

TABLE = "angles.csv"


def angles(
    results: str,
    out: str = "angles",
    joints: str | None = None,
    min_score: float | None = None,
    fps: float | None = None,
) -> None:
    """Write the joint angles of persons over time: angles.csv, and one PNG for each identity.

    Angles are in degrees, in the plane of the image: 180 where both segments at a joint are in line.

    Args:
        results: a file or folder of frames in any of our formats: jsonl, csv, parquet, coco, openpose, posetrack,
            deeplabcut, movement.
        out: folder for angles.csv and the images.
        joints: any of shoulder, elbow, hip, knee, ankle, or one side such as left_knee, with commas between; by
            default all that the keypoints give.
        min_score: keypoints below this score count as absent; by default 0.4 where the results say that scores are
            calibrated, else 0.2.
        fps: frames per second, for results without times.
    """
    require("matplotlib", "tables")
    if Path(out).suffix:
        raise InputError(f"--out is a folder, not a file: --out {Path(out).with_suffix('')} puts the angles into it.")
    if fps is not None and not 0 < fps < math.inf:
        raise InputError(f"--fps must be a number above 0, not {fps}.")
    check_needs(places=[out])
    wanted = None if joints is None else [name.strip() for name in joints.split(",")]
    tracks = angle_tracks(read_frames(results, fps), wanted, min_score)
    images = {Path(out, _image_name(track)): track for track in tracks}
    for path in (Path(out, TABLE), *images):
        if path.exists() and not is_own(path):
            raise InputError(
                f"The angles would overwrite {path}, which leanpose did not write; choose another folder with --out."
            )
    write_text(Path(out, TABLE), to_csv(tracks))
    print(f"{Path(out, TABLE)}: {len(tracks)} identit{'y' if len(tracks) == 1 else 'ies'}")
    for path, track in images.items():
        write_bytes(path, plot_angles(track))
        print(path)


def _image_name(track: AngleTrack) -> str:
    return "angles.png" if track.identity is None else f"angles_id_{track.identity}.png"


def to_csv(tracks: Iterable[AngleTrack]) -> str:
    """Return one row per frame and joint of each identity: frame, time_s, id, joint, degrees, empty where unknown."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(ANGLES_COLUMNS)
    for track in tracks:
        for t, (frame, time_s) in enumerate(zip(track.frames.tolist(), track.times_s.tolist(), strict=True)):
            time = "" if math.isnan(time_s) else f"{time_s:.6f}"
            for joint, degrees in track.degrees.items():
                angle = "" if math.isnan(degrees[t]) else f"{degrees[t]:.2f}"
                table.writerow([frame, time, track.identity, joint, angle])
    return text.getvalue()
