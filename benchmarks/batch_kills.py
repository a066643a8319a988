"""`leanpose batch` while its processes are killed: is the result that of an unbroken run, and nothing twice?

    python benchmarks/batch_kills.py IMAGES [--images 1000] [--runs 10] [--seed 0]
    python benchmarks/batch_kills.py IMAGES --images 200 --runs 3 --model lpn50 --boxes image

IMAGES is a folder of images. Two raylets of one core each run on this machine, a node each. In each run, at moments
that are drawn at random, `kill -9` hits an actor, the raylet of the second node (which is replaced) or the driver
(which is started again by the same line). Then all files under persons/ and errors/ must be those of a run that nobody
broke, byte by byte, and no image may stand in them twice.

Without --model a stand-in works on the images: it decodes each and finds one person, whose keypoints are a hash of the
pixels.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from batch_stand_in import Pixels, StandIn, processes
from ray.cluster_utils import Cluster as RayCluster

from leanpose.batch.cluster import Cluster
from leanpose.batch.job import Work, planned, run
from leanpose.batch.store import Store
from leanpose.evaluation.timing import machine
from leanpose.inference.predictor import Predictor
from leanpose.io.images import find_images

KINDS = ("actor", "raylet", "driver")
PAUSE_S = (0.5, 4.0)  # from one kill, or the first part that is done, to the next
MOST_KILLS = 5  # in a run, so that it ends
ACTOR = "ray::MapWorker"  # how the names of the processes that work begin


def drive(options: argparse.Namespace) -> None:
    """Do what is missing of the job; this is the process that is killed."""
    work: Any = StandIn(Pixels)
    if options.model:
        detector = "auto" if options.boxes == "found" else None
        work = Work(Predictor(options.model, threads=1, detector=detector), None)
    store = Store(str(options.out))
    print(run(store, planned(store, [str(options.folder)], None, work), work, Cluster(options.address)))


class Killer:
    """A cluster of two nodes on this machine, and what may happen to it."""

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        self.options, self.chance = options, random.Random(seed)
        one: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
        self.ray = RayCluster(initialize_head=True, head_node_args=one | {"include_dashboard": False})
        self.node_args = one
        self.second = self._node()

    def _node(self) -> Any:
        for left in (2, 1, 0):
            try:
                return self.ray.add_node(**self.node_args)
            except Exception:  # Ray gives up after 30 s, on a machine with other work
                if not left:
                    raise
        return None

    def driver(self, out: Path, folder: Path) -> subprocess.Popen[str]:
        """Start the job, or what is missing of it."""
        line = [sys.executable, __file__, str(folder), "--out", str(out), "--address", self.ray.address]
        line += ["--model", self.options.model, "--boxes", self.options.boxes] if self.options.model else []
        return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def kill(self, kind: str, driver: subprocess.Popen[str]) -> bool:
        """Kill -9 one of a kind; whether there was one."""
        if kind == "driver":
            driver.kill()
            driver.wait()
        elif kind == "raylet":
            self.ray.remove_node(self.second, allow_graceful=False)
            self.second = self._node()
        else:
            actors = sorted(process for process, title in processes().items() if title.startswith(ACTOR))
            if not actors:
                return False
            os.kill(self.chance.choice(actors), signal.SIGKILL)
        return True

    def job(self, out: Path, folder: Path, kills: bool) -> Counter[str]:
        """Run a job to its end; return what was killed on the way."""
        killed: Counter[str] = Counter()
        driver = self.driver(out, folder)
        while kills and sum(killed.values()) < MOST_KILLS:
            due = time.monotonic() + self.chance.uniform(*PAUSE_S)
            while driver.poll() is None and (time.monotonic() < due or not _begun(out)):
                time.sleep(0.02)
            if driver.poll() is not None:
                break
            kind = self.chance.choice(KINDS)
            if self.kill(kind, driver):
                killed[kind] += 1
            if kind == "driver":
                driver = self.driver(out, folder)
        errors = driver.communicate()[1]
        if driver.returncode:
            raise SystemExit(f"The job ended with {driver.returncode}: {errors}")
        return killed


def _begun(out: Path) -> bool:
    return (out / "begun").is_dir() or (out / "persons").is_dir()


def files_of(out: Path) -> dict[str, bytes]:
    """Return all files of a result."""
    paths = [path for folder in ("persons", "errors") for path in (out / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def twice(out: Path) -> list[str]:
    """Return what stands twice in the tables: one person of one image, or one error."""
    seen: Counter[str] = Counter()
    for path in (out / "persons").rglob("*.parquet"):
        seen.update(f"{row['source']} {row['person']}" for row in pq.read_table(path, partitioning=None).to_pylist())
    for path in (out / "errors").rglob("*.parquet"):
        seen.update(row["source"] for row in pq.read_table(path, partitioning=None).to_pylist())
    return [name for name, count in seen.items() if count > 1]


def judge(out: Path, unbroken: dict[str, bytes]) -> str:
    """Return what is wrong with a result, in words; "" where nothing is."""
    found = files_of(out)
    names = sorted(name for name in found.keys() | unbroken.keys() if found.get(name) != unbroken.get(name))
    doubled = twice(out)
    faults = [f"{len(names)} files differ, such as {names[0]}"] if names else []
    faults += [f"{len(doubled)} stand twice, such as {doubled[0]}"] if doubled else []
    return " and ".join(faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="name or file of a network, in place of the stand-in")
    parser.add_argument("--boxes", choices=("found", "image"), default="found")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.address:  # the driver of a job
        drive(options)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        (place / "images").mkdir()
        for path in map(Path, find_images([str(options.folder)])[: options.images]):
            (place / "images" / path.name).symlink_to(path.absolute())
        return measure(options, place)


def measure(options: argparse.Namespace, place: Path) -> int:
    print(f"{machine()['processor']}; {len(list((place / 'images').iterdir()))} images; {options.model or 'stand-in'}")
    os.environ |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_USAGE_STATS_ENABLED": "0"}
    killer = Killer(options, options.seed)
    try:
        began = time.monotonic()
        killer.job(place / "unbroken", place / "images", kills=False)
        unbroken = files_of(place / "unbroken")
        print(f"unbroken: {len(unbroken)} files in {time.monotonic() - began:.0f} s")
        wrong, every = 0, Counter[str]()
        for number in range(1, options.runs + 1):
            began, out = time.monotonic(), place / f"run-{number}"
            killed = killer.job(out, place / "images", kills=True)
            fault = judge(out, unbroken)
            wrong += bool(fault)
            every += killed
            words = ", ".join(f"{count} x {kind}" for kind, count in sorted(killed.items())) or "nothing"
            print(f"run {number}: killed {words}; {time.monotonic() - began:.0f} s; {fault or 'equal'}", flush=True)
            shutil.rmtree(out)
    finally:
        killer.ray.shutdown()
    print(
        f"{options.runs - wrong} of {options.runs} runs equal the unbroken one; killed: {dict(sorted(every.items()))}"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
