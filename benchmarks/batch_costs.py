"""Work on images as an actor of `leanpose batch` does, in this process, and count what an image costs; and the plan of
a million made-up names.

    python benchmarks/batch_costs.py SOURCE... [--model NAME] [--detector NAME] [--threads N]

Seconds are those of the processor, all threads together, so that other work on the machine hardly changes them; those
in which the networks are loaded are left out. Results lie in parts as large as those of a large job, in the folder for
temporary files, and are removed.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from leanpose.batch.job import Work
from leanpose.batch.plan import IMAGES, Part, Totals, divide, write_plan
from leanpose.batch.sources import find_items
from leanpose.batch.store import Store
from leanpose.evaluation.timing import machine
from leanpose.inference.predictor import Predictor


def main(sources: Sequence[str], model: str, detector: str, threads: int) -> None:
    items = [item for item in find_items(sources) if item.kind == "image"]
    names = [item.source for item in items]
    parts = [Part("image", tuple(names[start : start + IMAGES])) for start in range(0, len(names), IMAGES)]
    work = Work(Predictor(model, detector=detector, threads=threads), None)
    images = persons = 0
    with tempfile.TemporaryDirectory() as folder:
        worker = work.worker(parts.__getitem__, Store(folder))()
        began = time.process_time()
        for number in range(len(parts)):
            done = worker(number)
            images, persons = images + done.images, persons + done.persons
        seconds = time.process_time() - began
        read, written = size(map(Path, names)), size(Path(folder).rglob("*.parquet"))
    print(f"{machine()}; {model} in boxes of {detector}, {threads} threads")
    print(f"{images:,} images, {persons:,} persons")
    each = f"{seconds / images:.4f} s of a core, {read / images:,.0f} bytes read, {written / images:,.0f} written"
    print(f"of an image: {each}")
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")
    print(plan(1_000_000))


def size(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def plan(count: int) -> str:
    """Write the plan of a list of names with 16 random digits each, in folders of 1,000; return what it costs."""
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "names.txt")
        with names.open("w") as file:
            for number in range(count):
                file.write(f"/archive/photos/{number // 1000:06d}/{chance.getrandbits(64):016x}.jpg\n")
        began = time.process_time()
        write_plan(Store(folder), divide(find_items([str(names)]), Totals()))
        seconds = time.process_time() - began
        written = size(Path(folder).rglob("*.parquet"))
    return f"the plan of {count:,} names: {seconds:.1f} s of a core, {written / count:.1f} bytes of a name"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--model", default="lpn50")
    parser.add_argument("--detector", default="litepose_xs")
    parser.add_argument("--threads", type=int, default=1)
    main(**vars(parser.parse_args()))
