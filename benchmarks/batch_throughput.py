"""Images per second of `leanpose batch` on two Ray nodes of this machine against `leanpose predict` on the same cores.

    python benchmarks/batch_throughput.py IMAGES [--count 5000] [--model lpn50]

Both take links to the first images of the folder IMAGES, which begin anew where it has fewer. The clock runs from the
start of a command to its end; the cluster, each of whose nodes has half of the cores, is there before.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leanpose.inference.engines import available_cores
from leanpose.io.images import find_images


@contextmanager
def two_nodes() -> Iterator[str]:
    """Start a Ray cluster of two nodes on this machine; give its address."""
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {
        "num_cpus": max(1, available_cores() // 2),
        "object_store_memory": 128 * 2**20,
        "include_dashboard": False,
    }
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def _seconds(*words: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "leanpose", *words], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--model", default="lpn50")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        links, results = Path(folder, "images"), Path(folder, "results")
        links.mkdir()
        found = find_images([str(options.images)])
        for number in range(options.count):
            source = Path(found[number % len(found)])
            (links / f"{number:07d}{source.suffix}").symlink_to(source.resolve())
        with two_nodes() as address:
            job = _seconds("batch", str(links), "--out", str(results), "--model", options.model, "--address", address)
        report = json.loads((results / "report.json").read_text())
        plain = _seconds(
            "predict", str(links), "--out", str(Path(folder, "plain")), "--model", options.model, "--format", "json"
        )
    rates = options.count / job, options.count / plain
    print(
        f"batch   {rates[0]:6.2f} images/s  ({options.count} images, {job:.1f} s; actors' seconds {report['seconds']})"
    )
    print(f"predict {rates[1]:6.2f} images/s  ({plain:.1f} s)")
    print(f"batch / predict: {rates[0] / rates[1]:.1%}")


if __name__ == "__main__":
    main()
