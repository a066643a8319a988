"""Work on images as an actor of `leanpose batch` does, in this process, and count what an image costs.

    python benchmarks/batch_costs.py SOURCE... [--model NAME] [--detector NAME] [--threads N]

Seconds are those of the processor, all threads together, so that other work on the machine hardly changes them; those
in which the networks are loaded are left out. Results lie in parts as large as those of a large job, in the folder for
temporary files, and are removed.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from leanpose.batch.job import Work
from leanpose.batch.plan import IMAGES, Part
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
        written = sum(file.stat().st_size for file in Path(folder).rglob("*.parquet"))
    print(f"{machine()}; {model} in boxes of {detector}, {threads} threads")
    print(f"{images:,} images, {persons:,} persons")
    print(
        f"of an image: {seconds / images:.4f} s of a core, {sum(map(_size, names)) / images:,.0f} bytes read, "
        f"{written / images:,.0f} bytes written"
    )
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


def _size(name: str) -> int:
    return Path(name).stat().st_size


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--model", default="lpn50")
    parser.add_argument("--detector", default="litepose_xs")
    parser.add_argument("--threads", type=int, default=1)
    main(**vars(parser.parse_args()))
