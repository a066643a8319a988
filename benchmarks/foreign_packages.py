"""Give what leanpose writes to the packages that read it: movement, supervision and pycocotools.

    python benchmarks/foreign_packages.py FOREIGN_PYTHON

FOREIGN_PYTHON is the Python of an environment with movement and supervision, which bring Qt and another OpenCV:

    python -m venv foreign && foreign/bin/pip install movement supervision

Printed is a line for each check; the first that fails stops the run. leanpose itself is needed there for nothing but
`Poses.to_supervision`, which needs NumPy, and is found by its path.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from made_up_walker import FPS, frames

from leanpose.io.frames import FORMS, Clip, open_writer, read_frames
from leanpose.keypoint_sets import HALPE26

ROOT = Path(__file__).resolve().parents[1]
CHECKS = """
import sys
from importlib.metadata import version

import numpy as np
import xarray as xr
from movement import kinematics
from movement.filtering import filter_by_confidence
from movement.io import load_dataset
from movement.validators.datasets import ValidPosesInputs

folder = sys.argv[1]
ours = xr.load_dataset(f"{folder}/walker.nc")
ValidPosesInputs.validate(ours)
theirs = load_dataset(f"{folder}/walker_deeplabcut.csv", source_software="DeepLabCut", fps=ours.fps)
assert theirs.position.dims == ours.position.dims, (theirs.position.dims, ours.position.dims)
for name in ("keypoints", "individuals", "space"):
    assert theirs[name].values.tolist() == ours[name].values.tolist(), name
np.testing.assert_allclose(theirs.position, ours.position, atol=1e-3)
np.testing.assert_allclose(theirs.confidence, ours.confidence, atol=1e-3)
np.testing.assert_allclose(theirs.time, ours.time, atol=1e-6)
assert theirs.attrs.keys() - ours.attrs.keys() == set(), theirs.attrs.keys() - ours.attrs.keys()
print(f"movement {version('movement')}: NetCDF and DeepLabCut's CSV hold the same {dict(theirs.sizes)}")

velocity = kinematics.compute_velocity(filter_by_confidence(ours.position, ours.confidence, threshold=0.5))
speed = float(velocity.sel(keypoints="hip", space="x").median())
assert 160 < speed < 180, speed
theirs.to_netcdf(f"{folder}/theirs.nc")
print(f"movement: its functions work on our dataset; the walker moves at {speed:.0f} pixels a second (made: 170)")

import supervision as sv
from leanpose.keypoint_sets import HALPE26
from leanpose.structures import Poses

ones = lambda *shape: np.ones(shape, np.float32)
keypoints = 50 * ones(2, 26, 2)
keypoints[1] = np.nan
keypoints[0, 3] = np.nan
found = Poses(keypoints, ones(2, 26), ones(2, 4), ones(2), HALPE26, np.array([3, 4])).to_supervision()
assert isinstance(found, sv.KeyPoints) and len(found) == 2
assert found[found.data["tracker_id"] == 4].xy.shape == (1, 26, 2)
image = sv.VertexAnnotator(radius=3).annotate(np.zeros((100, 100, 3), np.uint8), found)
assert image[50, 50].any() and not image[:40].any(), "absent keypoints are drawn"
print(f"supervision {version('supervision')}: KeyPoints are filtered and drawn, absent keypoints are not")
"""


def main(foreign_python: str) -> None:
    clip = Clip(HALPE26, "walker.mp4", FPS)
    with tempfile.TemporaryDirectory() as folder:
        for form in ("movement", "deeplabcut"):
            with open_writer(form, Path(folder, f"walker{FORMS[form].ending}"), clip) as writer:
                for frame in frames():
                    writer.write(frame)
        command = [foreign_python, "-c", CHECKS, folder]
        subprocess.run(command, check=True, env={"PYTHONPATH": str(ROOT)})
        again = list(read_frames(Path(folder, "theirs.nc")))
    for frame, back in zip(frames(), again, strict=True):
        np.testing.assert_allclose(back.poses.keypoints, frame.poses.keypoints, atol=1e-3)
    print(f"leanpose: what movement saves (NetCDF 4) is read again, {len(again)} frames")


if __name__ == "__main__":
    main(sys.argv[1])
