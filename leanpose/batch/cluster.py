"""Work by number on a cluster of Ray: a pool of actors of Ray Data, from one machine to many.

Numbers travel, not work: each actor makes its worker once and is given numbers, a few bytes each. Ray does numbers
again whose actor or machine was lost, so a worker must take that.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leanpose.errors import InputError, LeanposeError, require
from leanpose.inference.engines import available_cores
from leanpose.io.quiet import silent

BLOCKS = 32  # that each actor is given, about; what is left for the slowest at the end is one of them
STORE = 128 * 2**20  # bytes of Ray's shared memory on one machine; only numbers and counts lie in it
ELSEWHERE = "ray://"


@dataclass(frozen=True)
class Cluster:
    """Where to work.

    Attributes:
        address: None: this machine; "auto": the cluster that this machine belongs to; "ray://HOST:10001": a cluster
            elsewhere.
        actors: how many work at once; None: as many as the cluster has cores for, or GPUs.
        threads: of each actor.
        gpu: whether each actor takes a GPU.
    """

    address: str | None = None
    actors: int | None = None
    threads: int = 1
    gpu: bool = False


def needs_gpu(device: str) -> bool:
    """Whether a device of a Predictor is a GPU, by its name or number."""
    return device not in ("cpu", "npu")


def everywhere(network: str) -> str:
    """Return the name of a network, or of its file, as it is in the folders of all processes."""
    return os.path.abspath(network) if os.path.isfile(network) else network


@contextmanager
def connected(cluster: Cluster) -> Iterator[int]:
    """Connect to a cluster, or start one on this machine that ends afterwards; give the number of actors.

    Raises:
        InputError: there is no such cluster, or it lacks cores or GPUs.
        MissingPackageError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's default of the future
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what breaks is done again
    ray = require("ray", "batch")
    require("ray.data", "batch")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ours = not ray.is_initialized()
    if ours:
        with silent():
            _connect(ray, cluster)
    try:
        yield _actors(ray.cluster_resources(), cluster)
    finally:
        if ours:
            ray.shutdown()


def _connect(ray: Any, cluster: Cluster) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if cluster.address is None:
            cores = max(available_cores(), (cluster.actors or 1) * cluster.threads)
            ray.init("local", num_cpus=cores, include_dashboard=False, object_store_memory=STORE, **quiet)
        else:
            ray.init(cluster.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise InputError(
            f"The cluster {cluster.address or 'of this machine'} is not there, or does not let you in ({reason}); "
            "where it asks for a token, set RAY_AUTH_MODE=token."
        ) from None


def _actors(resources: dict[str, float], cluster: Cluster) -> int:
    room = int(resources.get("CPU", 0)) // cluster.threads
    if cluster.gpu:
        room = min(room, int(resources.get("GPU", 0)))
    if room < (cluster.actors or 1):
        has = f"{resources.get('CPU', 0):.0f} cores and {resources.get('GPU', 0):.0f} GPUs"
        raise InputError(
            f"The cluster has {has}, too few for {cluster.actors or 1} actors of {cluster.threads} threads"
            f"{' and a GPU' if cluster.gpu else ''}; give fewer with --actors or --threads."
        )
    return cluster.actors or room


def spread(
    make: Callable[[], Callable[[int], Any]], numbers: Sequence[int] | np.ndarray, cluster: Cluster
) -> Iterator[Any]:
    """Yield what a worker makes of each number, in any order.

    Args:
        make: makes the worker, once in each actor; it is pickled, like what workers return.
        numbers: each is worked on at least once and yielded once.
        cluster: where; see `connected`.

    Raises:
        InputError: as `connected`, or that of `make`.
    """
    with connected(cluster) as actors:
        from ray.exceptions import RayError

        here = _from_driver if (cluster.address or "").startswith(ELSEWHERE) else _spread
        try:
            for result in here(make, numbers, replace(cluster, actors=actors)):
                if isinstance(result, LeanposeError):
                    raise result
                yield result
        except RayError as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise InputError(f"The cluster failed ({reason}); what is done stays done.") from None


def _spread(make: Callable[[], Any], numbers: Sequence[int] | np.ndarray, cluster: Cluster) -> Iterator[Any]:
    import pyarrow as pa
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    context.target_max_block_size = 1  # bytes: each result comes when it is there
    actors = min(cluster.actors or 1, len(numbers))
    chunks = np.array_split(np.asarray(numbers, np.int64), min(len(numbers), actors * BLOCKS))
    dataset = ray.data.from_arrow([pa.table({"number": chunk}) for chunk in chunks]).map_batches(
        _Actor,
        fn_constructor_args=(make,),
        compute=ray.data.ActorPoolStrategy(size=actors),
        batch_size=None,
        num_cpus=cluster.threads,
        num_gpus=1 if cluster.gpu else 0,
    )
    for row in dataset.iter_rows():
        yield pickle.loads(row["result"])


class _Actor:
    """Runs a worker where Ray Data wants it; the errors that users shall see travel as results."""

    def __init__(self, make: Callable[[], Callable[[int], Any]]) -> None:
        try:
            self._worker: Callable[[int], Any] | LeanposeError = make()
        except LeanposeError as error:
            self._worker = error

    def __call__(self, block: dict[str, np.ndarray]) -> Iterator[dict[str, list[bytes]]]:
        for number in block["number"].tolist():
            yield {"result": [pickle.dumps(self._result(number))]}

    def _result(self, number: int) -> Any:
        if isinstance(self._worker, LeanposeError):
            return self._worker
        try:
            return self._worker(number)
        except LeanposeError as error:
            return error


def _from_driver(make: Callable[[], Any], numbers: Sequence[int] | np.ndarray, cluster: Cluster) -> Iterator[Any]:
    """Let an actor of the cluster drive the work, since Ray Data does not run at the near end of a ray:// address."""
    import ray

    driver: Any = ray.remote(num_cpus=0)(_Driver).remote(make, numbers, cluster)
    more = True
    while more:
        some, more = ray.get(driver.some.remote())
        yield from some


class _Driver:
    """Spreads work from a machine of the cluster."""

    def __init__(self, make: Callable[[], Any], numbers: Sequence[int] | np.ndarray, cluster: Cluster) -> None:
        self._results = _spread(make, numbers, cluster)

    def some(self) -> tuple[list[Any], bool]:
        """Return the results of about a second, and whether there may be more."""
        some: list[Any] = []
        until = time.monotonic() + 1
        for result in self._results:
            some.append(result)
            if time.monotonic() > until:
                return some, True
        return some, False
