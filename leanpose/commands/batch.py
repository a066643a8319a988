"""Poses of an archive: a job on a cluster of Ray, or on this machine, that goes on where it stopped."""

from __future__ import annotations

from contextlib import nullcontext

from leanpose.batch.cluster import Cluster, connected, everywhere, needs_gpu
from leanpose.batch.job import Work, duration, planned, run, trial
from leanpose.batch.sources import absolute
from leanpose.batch.store import Store
from leanpose.errors import InputError, require
from leanpose.inference.engines import EngineName
from leanpose.inference.predictor import Predictor
from leanpose.keypoint_sets import get_keypoint_set

MILLION = 1_000_000


def batch(
    sources: list[str],
    *,
    out: str | None = None,
    address: str | None = None,
    model: str = "auto",
    detector: str = "auto",
    boxes: str = "found",
    flip_test: bool = False,
    min_person_score: float | None = None,
    keypoints: str | None = None,
    frame_rate: float | None = 1.0,
    column: str | None = None,
    actors: int | None = None,
    threads: int = 1,
    engine: EngineName = "auto",
    device: str = "cpu",
    dry_run: bool = False,
    samples: int = 200,
    price: float | None = None,
) -> str:
    """Find the keypoints of persons in an archive of images or videos and write them to Parquet files.

    The same line again, after whatever ended it, does what is missing.

    Args:
        sources: images, folders with all that is below them, globs, tar files of images (WebDataset), videos, or lists
            of all these (Parquet, CSV, JSON, text); on a disk or at an address that fsspec reaches (s3, gs, https).
        out: folder or address for the results, of this job alone.
        address: "auto" for the Ray cluster that this machine belongs to, "ray://HOST:10001" for one elsewhere; without
            it a cluster on this machine is started.
        model: name or file of the network, which all machines of the cluster must have; as of `leanpose predict`.
        detector: name or file of the network that proposes persons, "auto" as for the model.
        boxes: "found" by the detector, or "image": the whole image is one person.
        flip_test: average with the mirrored crop.
        min_person_score: persons that a detector found are left out below this score.
        keypoints: carry the keypoints to this set by name.
        frame_rate: frames per second to look at in videos, about; 0: all.
        column: of lists: which column holds the names; by default one named source, path, url or the like.
        actors: processes that work at once, by default one for each core, or GPU.
        threads: threads of each of them.
        engine: as of `leanpose predict`.
        device: as of `leanpose predict`; with "cuda" or "tensorrt" each process takes a GPU.
        dry_run: work on a sample only, write nothing, and estimate hours and costs.
        samples: images of that sample.
        price: of a core for an hour, in any currency, for the estimate.
    """
    require("ray", "batch")
    if boxes not in ("found", "image"):
        raise InputError(f"--boxes is 'found' or 'image', not '{boxes}'.")
    if min(threads, samples, 1 if actors is None else actors) < 1:
        raise InputError("--threads, --samples and --actors must be at least 1.")
    if min(frame_rate or 0, price or 0) < 0:
        raise InputError("--frame-rate and --price must be 0 or above.")
    if (out is None) != dry_run:
        raise InputError(
            "Say with --out where the results go." if out is None else "--dry-run writes nothing: leave --out out."
        )
    predictor = Predictor(
        everywhere(model),
        engine=engine,
        flip_test=flip_test,
        threads=threads,
        detector=everywhere(detector) if boxes == "found" else None,
        min_person_score=min_person_score,
        keypoint_set=get_keypoint_set(keypoints) if keypoints else None,
        device=device,
    )
    work = Work(predictor, frame_rate or None)
    cluster = Cluster(address, actors, threads, needs_gpu(device))
    if out is None:
        return _estimate(sources, column, work, cluster, samples, price)
    with connected(cluster) if address else nullcontext():  # which may not be there, so before all is listed
        store = Store(absolute(out))
        parts = planned(store, sources, column, work)
        return f"{run(store, parts, work, cluster)}\n{out}"


def _estimate(
    sources: list[str], column: str | None, work: Work, cluster: Cluster, samples: int, price: float | None
) -> str:
    """Return what a job would take, in words."""
    with connected(cluster) as actors:
        totals, account = trial(sources, column, work, cluster, samples)
    if not account.images:
        kinds = ", ".join(f"{count} {kind}" for kind, count in account.failures.items())
        raise InputError(f"The sample holds no images that could be used ({kinds or 'nothing at all'}).")
    each = sum(account.seconds.values()) / account.images  # seconds of an actor
    lines = [f"{totals}; a sample:", str(account), f"with {actors} actors of {cluster.threads} threads:"]
    counts = {"a million images": MILLION} | ({} if totals.tars or totals.videos else {"this job": totals.images})
    for name, count in counts.items():
        core_hours = count * each * cluster.threads / 3600
        line = f"{name}: {duration(count * each / actors)}, {core_hours:,.2f} core hours"
        lines.append(line if price is None else f"{line}, cost {core_hours * price:,.2f}")
    return "\n".join(lines)
