r"""Is what a search finds better than chance, and does a supernet rank networks as training each alone does?

    python benchmarks/search.py split coco/train.json --out data/supernet [--share 0.15] [--seed 0]
    leanpose train litepose_supernet_cpu ...                    # on data/supernet/train.json
    leanpose search SUPERNET --data data/supernet/search.json --images IMAGES --out SEARCH ...
    python benchmarks/search.py chance SUPERNET SEARCH --data data/supernet/search.json --val coco/val.json \
        --images IMAGES --out OUT [--archs 30] [--seed 0]
    python benchmarks/search.py alone SUPERNET SEARCH ... --recipe RECIPE [--set key=value ...]   # the same options

split: writes train.json and search.json, which share no image.
chance: measures what the search found, and random archs of 95 to 100 % of its multiply-adds, on images that are neither
in training nor in the search. Weights are the supernet's, norms are calibrated on the images that the search used.
alone: of those random archs six, at even distances in the supernet's ranking, are trained by a recipe, each from its
start, and measured on the same images with the weights of the last epoch. Model, arch, input size and out of the recipe
are replaced; RECIPE and --set are as of `leanpose train`, and its data must leave out the images of --val.

What is done is kept in OUT; stopped, the same command goes on. Both print a table for the docs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau, spearmanr
from tqdm import tqdm

from leanpose.data.annotations import open_annotations
from leanpose.data.coco import CocoSet
from leanpose.errors import InputError
from leanpose.inference.engines import load_engine
from leanpose.io.files import write_text
from leanpose.io.values import read_json
from leanpose.models.litepose_arch import LitePoseArch
from leanpose.search.evolution import draw_within
from leanpose.search.judge import Judge, Task
from leanpose.search.log import SearchLog
from leanpose.search.report import RESULT
from leanpose.search.search import space_of
from leanpose.training.loop import train
from leanpose.training.recipe import find_recipe, read_recipe

BAND = 0.95  # least multiply-adds of random archs, as a share of those of the found one
ALONE = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    splitting = parts.add_parser("split")
    splitting.add_argument("data")
    splitting.add_argument("--out", required=True)
    splitting.add_argument("--share", type=float, default=0.15, help="of the images, for the search")
    splitting.add_argument("--seed", type=int, default=0)
    for name in ("chance", "alone"):
        part = parts.add_parser(name)
        part.add_argument("supernet")
        part.add_argument("search", help="folder of `leanpose search`")
        part.add_argument("--data", help="of the search, where its images for calibration come from", required=True)
        part.add_argument("--val", required=True)
        part.add_argument("--images", help="folder of the images of both", required=True)
        part.add_argument("--out", required=True)
        part.add_argument("--archs", type=int, default=30)
        part.add_argument("--seed", type=int, default=0)
        if name == "alone":
            part.add_argument("--recipe", required=True)
            part.add_argument("--set", nargs="*", default=[], metavar="key=value")
    options = parser.parse_args()
    if options.part == "split":
        split(options.data, Path(options.out), options.share, options.seed)
        return
    found, archs, values, judge = chance(options)
    if options.part == "chance":
        report_chance(found, archs, values, judge)
    else:
        alone(archs, values, judge, options)


def split(data: str, out: Path, share: float, seed: int) -> None:
    content = read_json(data)
    order = np.random.default_rng(seed).permutation(len(content["images"]))
    count = round(share * len(order))
    for name, places in (("search", order[:count]), ("train", order[count:])):
        images = [content["images"][i] for i in sorted(places)]
        ids = {image["id"] for image in images}
        persons = [person for person in content["annotations"] if person["image_id"] in ids]
        write_text(out / f"{name}.json", json.dumps(content | {"images": images, "annotations": persons}))
        print(f"{out / name}.json: {len(images)} images, {len(persons)} persons")


def chance(options: argparse.Namespace) -> tuple[LitePoseArch, list[LitePoseArch], Mapping[LitePoseArch, float], Judge]:
    """Measure the found arch and random ones; return them, their fitness, and what measured them."""
    settings = read_json(Path(options.search) / "search.json")
    found = LitePoseArch.of(read_json(Path(options.search) / RESULT)["best"]["arch"])
    names = [field.name for field in dataclasses.fields(Task)]
    known = {name: settings[name] for name in names if name in settings and name not in ("supernet", "data")}
    judge = Judge(Task(options.supernet, options.data, options.images, **known))
    annotated = open_annotations(options.val, options.images)
    if not isinstance(annotated, CocoSet):
        raise InputError(f"{options.val} is no COCO-style file.")
    judge.annotated = annotated
    space = space_of(options.supernet, judge.supernet.arch, ",".join(map(str, settings["input_sizes"])))
    network = (judge.supernet.num_keypoints, judge.supernet.finds_persons)
    macs = found.macs(*network)
    archs: list[LitePoseArch] = []
    for i in range(options.archs):
        rng = np.random.default_rng((options.seed, i))
        limits = (BAND * macs, macs)
        archs.append(draw_within(space, lambda a: a.macs(*network), limits, space.sample, rng, {found, *archs}))
    log = SearchLog(Path(options.out), {"search": settings, "val": options.val, "seed": options.seed})
    for arch in tqdm([found, *archs], "archs", disable=None):
        if arch not in log.fitness:
            log.add(arch, judge(arch), MACs=arch.macs(*network))
    return found, archs, log.fitness, judge


def report_chance(
    found: LitePoseArch, archs: list[LitePoseArch], values: Mapping[LitePoseArch, float], judge: Judge
) -> None:
    network = (judge.supernet.num_keypoints, judge.supernet.finds_persons)
    random = np.array([values[arch] for arch in archs])
    macs = np.array([arch.macs(*network) for arch in archs]) / 1e9
    percentile = 100 * ((random < values[found]).mean() + (random == values[found]).mean() / 2)
    print(f"\n| {judge.task.fitness} on {Path(judge.annotated.path).name} | G MACs | value |\n|---|---|---|")
    print(f"| found | {found.macs(*network) / 1e9:.3f} | {100 * values[found]:.1f} |")
    for share, name in ((1, "best"), (0.9, "90th percentile"), (0.5, "median"), (0, "worst")):
        print(f"| {len(archs)} random, {name} | {macs.min():.3f} to {macs.max():.3f} | {_percent(random, share)} |")
    print(f"\nThe found arch lies at the {percentile:.0f}th percentile of the random ones.")


def _percent(values: np.ndarray, share: float) -> str:
    return f"{100 * np.quantile(values, share):.1f}"


def alone(
    archs: list[LitePoseArch], values: Mapping[LitePoseArch, float], judge: Judge, options: argparse.Namespace
) -> None:
    ranking = sorted(archs, key=lambda arch: values[arch])
    chosen = [ranking[round(i)] for i in np.linspace(0, len(ranking) - 1, ALONE)]
    log = SearchLog(
        Path(options.out) / "alone", {"recipe": options.recipe, "changes": options.set, "seed": options.seed}
    )
    for i, arch in enumerate(chosen):
        if arch in log.fitness:
            continue
        out = Path(options.out) / "alone" / str(i)
        recipe = read_recipe(find_recipe(options.recipe), options.set)
        model_options: dict[str, Any] = {"arch": arch.as_dict(), "person_head": judge.supernet.finds_persons}
        side = arch.input_size
        recipe = dataclasses.replace(
            recipe,
            model="litepose",
            model_options=model_options,
            supernet=None,
            input_size=(side, side),
            view_size=None,
            out=str(out),
        )
        train(recipe, resume=(out / "stage0" / "last.ckpt").is_file())
        log.add(arch, judge.measure(load_engine(out / "stage0" / "last.safetensors", threads=1)))
    print("\n| input | stem | stages | head | in the supernet | alone |\n|---|---|---|---|---|---|")
    for arch in chosen:
        stages, head = (" ".join(map(str, widths)) for widths in (arch.stage_widths, arch.head_widths))
        print(
            f"| {arch.input_size} | {arch.stem_width} | {stages} | {head} | {100 * values[arch]:.1f} | "
            f"{100 * log.fitness[arch]:.1f} |"
        )
    pairs = [values[arch] for arch in chosen], [log.fitness[arch] for arch in chosen]
    print(f"\nSpearman's rank correlation {spearmanr(*pairs)[0]:.2f}, Kendall's {kendalltau(*pairs)[0]:.2f}.")


if __name__ == "__main__":
    main()
