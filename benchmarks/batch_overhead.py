"""What `leanpose batch` costs beside the network: time per image by the number of actors, and memory over a long job.

    python benchmarks/batch_overhead.py [--images 20000] [--actors 1 2 4 8]
    python benchmarks/batch_overhead.py --memory 200000 [--actors 2]

A stand-in finds nobody in images that it does not decode; the images are one small file, which a list names again and
again. So what is left is Ray, reading files and writing tables. Time per image is by the clock, over the last nine
tenths of a job, so that what is paid once (Ray and its actors start) falls out; that is given beside it. The first line
is of a Worker without Ray. Ray is told that there is a core for each actor: with more actors than the machine has cores
the time per image can only stay as it is.

Memory is what the processes of the job (this one, raylet, control service, actors and Ray's others) have to themselves
plus their part of what they share (Pss), the highest of each tenth of the job.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from batch_stand_in import Nothing, StandIn, processes

from leanpose.batch.cluster import Cluster, spread
from leanpose.batch.job import missing, planned
from leanpose.batch.plan import Plan
from leanpose.batch.store import Store
from leanpose.evaluation.timing import machine

WORK: Any = StandIn(Nothing)
SAMPLE_S = 0.5
ROLES = {"ray::MapWorker": "actors", "raylet": "raylet", "gcs_server": "control"}


def make_job(place: Path, name: str, images: int) -> tuple[Store, int]:
    """Plan a job of a list that names one image again and again; return its folder and the number of its parts."""
    cv2.imwrite(str(place / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (place / f"{name}.txt").write_text("a.png\n" * images)
    store = Store(str(place / name))
    with redirect_stderr(io.StringIO()):
        return store, planned(store, [str(place / f"{name}.txt")], None, WORK)


def overhead(place: Path, images: int, actors: int) -> str:
    """Return a line of the table: of a job with some actors, or with 0 of a Worker without Ray."""
    store, parts = make_job(place, f"job-{actors}", images)
    make, numbers = WORK.worker(Plan(store), store), missing(store, parts)
    began = time.perf_counter()
    done, first, at_first = 0, 0.0, 0
    for result in spread(make, numbers, Cluster(actors=actors)) if actors else map(make(), map(int, numbers)):
        done += result.images
        if not first and done * 10 >= images:
            first, at_first = time.perf_counter(), done
    assert done == images
    each = (time.perf_counter() - first) / (images - at_first)
    return f"{actors or 'no Ray':>6}  {1e6 * each:12.0f}  {first - began - at_first * each:17.1f}"


class Watch(threading.Thread):
    """Looks again and again how much memory the processes of this job have.

    Attributes:
        highest: bytes by role, at the moment since the last `read` when there were most.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest: Counter[str] = Counter()
        self.start()

    def run(self) -> None:
        while True:
            now: Counter[str] = Counter({"driver": _memory(os.getpid())})
            for number, name in processes().items():
                role = next((role for sign, role in ROLES.items() if sign in name.partition(" ")[0]), "others")
                now[role] += _memory(number)
            if now.total() > self.highest.total():
                self.highest = now
            time.sleep(SAMPLE_S)

    def read(self) -> Counter[str]:
        """Return `highest`, and begin anew."""
        highest, self.highest = self.highest, Counter()
        return highest


def _memory(process: int) -> int:
    """Return the bytes that a process has to itself plus its part of what it shares; 0 if it is gone."""
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 0


def memory(place: Path, images: int, actors: int) -> None:
    store, parts = make_job(place, "job", images)
    roles = ("driver", *ROLES.values(), "others")
    print("   done  MiB: " + "".join(f"{role:>9}" for role in ("all", *roles)), flush=True)
    done, tenth, watch = 0, 1, Watch()
    for result in spread(WORK.worker(Plan(store), store), missing(store, parts), Cluster(actors=actors)):
        done += result.images
        while done * 10 >= tenth * images:
            highest = watch.read()
            sizes = (highest.total(), *(highest[role] for role in roles))
            print(f"{tenth * 10:5} %       " + "".join(f"{size >> 20:9}" for size in sizes), flush=True)
            tenth += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--actors", type=int, nargs="+", help="of each line; with --memory one number")
    parser.add_argument("--memory", type=int, metavar="IMAGES", help="watch memory over a job of so many images")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # of the actors
    logging.disable(logging.WARNING)
    print(f"{machine()['processor']}, {machine()['cores']} cores")
    with tempfile.TemporaryDirectory() as place:
        if options.memory:
            memory(Path(place), options.memory, (options.actors or [2])[0])
        else:
            print("actors  µs per image  s once in a job")
            for actors in (0, *(options.actors or [1, 2, 4, 8])):
                print(overhead(Path(place), options.images, actors), flush=True)


if __name__ == "__main__":
    main()
