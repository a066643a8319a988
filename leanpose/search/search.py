"""`leanpose search`, the best network of a supernet under a limit; `leanpose latency`, the table of times for it."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from leanpose.errors import InputError
from leanpose.inference.engines import available_cores
from leanpose.io.preflight import check_needs
from leanpose.models.litepose_arch import LitePoseArch, SearchSpace
from leanpose.search.evolution import Cost, Evolution, check_limit, evolve
from leanpose.search.export import export_found, run_recipe
from leanpose.search.judge import Fitness, Judge, Task, load_supernet
from leanpose.search.latency import LatencyTable, measure_latency
from leanpose.search.log import SearchLog, check_settings
from leanpose.search.report import SearchReport
from leanpose.search.workers import Workers, started
from leanpose.weights.catalogue import find_weights


def search(
    supernet: str,
    *,
    data: str,
    images: str,
    out: str,
    max_macs: float | None = None,
    max_latency_ms: float | None = None,
    latency_table: str | None = None,
    threads: int = 1,
    fitness: Fitness = "AP",
    input_sizes: str | None = None,
    population: int = 40,
    generations: int = 40,
    mutation: float = 0.1,
    calibration_images: int = 64,
    search_images: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    device: str = "cpu",
    export: str | None = None,
) -> SearchReport:
    """Search a supernet for its best network under a limit, by evolution.

    Each candidate is cut out of the supernet, gets statistics of its norms from some images, and is measured on others.
    Stopped, even by kill -9, the same command goes on and finds what it would have found.

    Args:
        supernet: name or .safetensors file of a trained litepose_supernet.
        data: COCO-style annotation file; best of images that the supernet was not trained on.
        images: folder of its images.
        out: folder for candidates.jsonl (every network that was judged), result.json and front.png.
        max_macs: most multiply-adds of the convolutions for one square input, such as 0.9e9.
        max_latency_ms: in its place, most milliseconds for one square input, by the latency table.
        latency_table: CSV file of `leanpose latency`, or your own for another device; without it, max_latency_ms
            measures one of this machine, which takes minutes.
        threads: of the network whose times are measured.
        fitness: "AP"; or "recall", the share of persons that the person head's boxes meet at IoU 0.5 with one false box
            an image.
        input_sizes: sides of the square inputs to look among, with commas; by default those that the supernet was
            trained at, by the recipe.yaml of its run, else 256,320,384,448,512.
        population: networks drawn at first, and children of each generation.
        generations: after the first draw; more may be given when a search goes on.
        mutation: probability that a mutant draws a width or the size anew.
        calibration_images: of data, that statistics of norms come from.
        search_images: of data, that networks are measured on; all others by default.
        seed: of all draws.
        workers: processes that measure networks at the same time, each on one thread; by default one a core. They
            change nothing but the time.
        device: "cpu", which runs ONNX Runtime; "cuda" with torch.
        export: folder for the best network: arch.json, weights.safetensors and recipe.yaml, to train it on.

    Raises:
        InputError: an argument cannot be used, no network is within the limit, or out holds another search.
    """
    if (max_macs is None) == (max_latency_ms is None):
        raise InputError("Give one limit: --max-macs, such as 0.9e9, or --max-latency-ms.")
    for name, value in (("threads", threads), ("calibration-images", calibration_images), ("workers", workers)):
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, not {value}.")
    if search_images is not None and search_images < 1:
        raise InputError(f"--search-images must be at least 1, not {search_images}.")
    evolution = Evolution(population, generations, mutation, seed)
    folder = Path(out)
    check_needs(
        packages=("matplotlib", "faster_coco_eval", "onnxscript"),
        exports=(data,),
        files=() if latency_table is None else (latency_table,),
        folders=(images,),
        places=(folder / "candidates.jsonl", *(() if export is None else (Path(export) / "weights.safetensors",))),
        megabytes=50,
    )
    supernet = str(find_weights(supernet, ".safetensors"))
    task = Task(supernet, data, images, fitness, calibration_images, search_images, seed, device)
    judge = Judge(task)
    check_needs(files=[image.path for image in (*judge.calibration, *judge.annotated.images(None))])
    space = space_of(supernet, judge.supernet.arch, input_sizes)
    settings = _settings(task, space, evolution) | {
        "max_macs": max_macs,
        "max_latency_ms": max_latency_ms,
        "latency_table": latency_table and _hash(latency_table),
    }
    if max_latency_ms is not None and latency_table is None:
        settings["threads"] = threads
    check_settings(folder, settings)
    network = (judge.supernet.num_keypoints, judge.supernet.finds_persons)
    costs: dict[str, Cost] = {"MACs": lambda arch: arch.macs(*network)}
    if latency_table is not None or max_latency_ms is not None:
        table = _table(latency_table, folder / f"latency_threads{threads}.csv", space, network, threads)
        by_time: dict[str, Cost] = {"ms": lambda arch: table.latency(arch, *network)}
        costs = costs | by_time if max_latency_ms is None else by_time | costs
    unit, cost = next(iter(costs.items()))
    limit = max_macs if max_latency_ms is None else max_latency_ms
    assert limit is not None
    check_limit(space, cost, limit, unit)
    log = SearchLog(folder, settings)
    with ExitStack() as stack:

        @cache
        def crew() -> Workers:
            if device == "cpu":
                judge.template.model_of(judge.supernet)  # exported once, for all workers
            return stack.enter_context(started(workers or available_cores(), task, judge.template))

        def judged(archs: Sequence[LitePoseArch]) -> list[float]:
            new = [arch for arch in archs if arch not in log.fitness]
            for arch, value, seconds in tqdm(
                crew().judged(new) if new else (), "judging", len(new), unit="network", disable=None, leave=False
            ):
                figures = {name: of(arch) for name, of in costs.items()}
                log.add(arch, value, **figures, seconds=round(seconds, 2))
            return [log.fitness[arch] for arch in archs]

        try:
            for generation in evolve(space, cost, limit, judged, evolution):
                report = SearchReport(generation.pool, generation.fitness, fitness, costs, limit)
                tqdm.write(f"generation {generation.number}/{generations}  {report}")
                sys.stdout.flush()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped; {len(log.fitness)} networks are kept in {out}, the same command goes on"
            ) from None
    report.write(folder)
    if export is not None:
        export_found(judge, report.best, Path(export))
    return report


def latency(supernet: str, *, out: str, threads: int = 1, input_sizes: str | None = None, rounds: int = 3) -> str:
    """Measure the latency of a supernet's networks on this machine, part by part.

    Whole networks, about twenty, are run with ONNX Runtime; what their parts take adds up to the time of any other
    one. It takes some minutes of a quiet machine.

    Args:
        supernet: name or .safetensors file of a litepose_supernet, trained or not.
        out: .csv file to write, for `leanpose search --latency-table`.
        threads: of the network.
        input_sizes: as of `leanpose search`.
        rounds: how often the networks take turns.
    """
    for name, value in (("threads", threads), ("rounds", rounds)):
        if value < 1:
            raise InputError(f"--{name} must be at least 1, not {value}.")
    if Path(out).suffix != ".csv":
        raise InputError(f"The table is written as .csv, not {Path(out).name}.")
    check_needs(packages=("onnxscript",), places=(out,))
    supernet = str(find_weights(supernet, ".safetensors"))
    network, _ = load_supernet(supernet)
    space = space_of(supernet, network.arch, input_sizes)
    table = measure_latency(space, network.num_keypoints, network.finds_persons, threads, rounds)
    table.write(out)
    return f"{out}: times of {len(table.milliseconds)} parts, {threads} thread{'s' * (threads > 1)}"


def space_of(supernet: str, widest: LitePoseArch, input_sizes: str | None) -> SearchSpace:
    """Return the networks of a supernet as it was trained, or at some other input sizes, such as "256,320"."""
    recipe = run_recipe(supernet)
    space = SearchSpace(widest) if recipe is None else dataclasses.replace(recipe.search_space, widest=widest)
    if input_sizes is None:
        return space
    words = input_sizes.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise InputError(f"--input-sizes must be whole numbers with commas, such as 256,320, not '{input_sizes}'.")
    return dataclasses.replace(space, input_sizes=tuple(sorted({int(word) for word in words})))


def _table(given: str | None, own: Path, space: SearchSpace, network: tuple[int, bool], threads: int) -> LatencyTable:
    """Return the user's table, or this machine's, which is measured unless the file is there."""
    if given is None and not own.is_file():
        print(f"measuring the latency of parts for {own}, which takes minutes", flush=True)
        measure_latency(space, *network, threads).write(own)
    table = LatencyTable.read(own if given is None else given)
    table.check(space, *network)
    return table


def _settings(task: Task, space: SearchSpace, evolution: Evolution) -> dict[str, Any]:
    """Return what the outcome of a search depends on, JSON-ready; more generations only go on."""
    return {
        "supernet": _hash(task.supernet),
        "data": _hash(task.data),
        "fitness": task.fitness,
        "calibration_images": task.calibration_images,
        "search_images": task.search_images,
        "device": task.device,
        "input_sizes": list(space.input_sizes),
        "multipliers": list(space.multipliers),
        "population": evolution.population,
        "mutation": evolution.mutation,
        "seed": evolution.seed,
    }


def _hash(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
