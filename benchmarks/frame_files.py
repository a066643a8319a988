"""Write and read a long clip in every form: time per frame, size of the file, and how much memory grows.

    python benchmarks/frame_files.py [FRAMES]

The clip has two tracked persons with COCO's keypoints in each of 20,000 frames, 11 minutes at 30 frames per second.
Each form is written in a process of its own, and read in another. Memory is the highest resident memory less that
before the first frame. Files lie in the folder for temporary files.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from leanpose.evaluation.timing import machine
from leanpose.io.frames import FORMS, Clip, open_writer, read_frames
from leanpose.keypoint_sets import COCO
from leanpose.structures import Frame, Poses


def memory() -> float:
    """Return the highest resident memory of this process, in MB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def write(form: str, path: Path, count: int) -> None:
    random = np.random.default_rng(0)
    ones, ids = np.ones((2, 4), np.float32), np.arange(2)
    with open_writer(form, path, Clip(COCO, "clip.mp4", 30.0)) as writer:
        for index in range(count):
            keypoints = random.uniform(0, 600, (2, 17, 2)).astype(np.float32)
            scores = random.uniform(0.3, 1, (2, 17)).astype(np.float32)
            poses = Poses(keypoints, scores, ones.copy(), ones[:, 0].copy(), COCO, ids)
            writer.write(Frame(index, index / 30, poses, (480, 640)))


def read(form: str, path: Path, count: int) -> None:
    assert sum(len(frame.poses) for frame in read_frames(path)) == 2 * count


def main(count: int) -> None:
    print(machine())
    print("| form | written, ms per frame | memory, MB | read, ms per frame | memory, MB | bytes per frame |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for form, known in FORMS.items():
            path = Path(folder, f"clip{known.ending}")
            cells = []
            for act in (write, read):
                command = [sys.executable, __file__, act.__name__, form, str(path), str(count)]
                cells.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
            files = path.iterdir() if path.is_dir() else [path]
            print(
                f"| {form} | {' | '.join(cells)} | {sum(file.stat().st_size for file in files) / count:.0f} |",
                flush=True,
            )


def worker(act: str, form: str, path: Path, count: int) -> None:
    few = path.with_name(f"few{FORMS[form].ending}")
    write(form, few, 2)  # what is imported once does not count
    read(form, few, 2)
    before, start = memory(), time.perf_counter()
    {"write": write, "read": read}[act](form, path, count)
    print(f"{(time.perf_counter() - start) / count * 1000:.2f} | {memory() - before:.0f}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        worker(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) == 2 else 20_000)
