"""How much few annotated persons are worth: fine-tuning on 50, 200 and 1,000 persons of LSP, from several starts.

    python benchmarks/few_persons.py DATA OUT [--starts rtmpose_s_26 sfm.coco_128x96 scratch] [--persons 50 200 1000]
        [--seeds 0 1]

DATA has lsp/train.json and lsp/images. 500 of the images are held out for the figures; the persons of a seed are drawn
from the rest, those of 50 among those of 200. Recipes are those that `leanpose train --new` makes, for as many views as
VIEWS says; "scratch" is the network of `sfm` with random weights. No run chooses an epoch: the last one is measured.
PCK@0.2 is the mean over keypoints, of the length from left shoulder to right hip; AP as leanpose measures it; with flip
test, in annotated boxes. OUT gets few_persons.csv, to which every run adds a line, few_persons.md and few_persons.png.
Runs that stand in the CSV are not repeated, so that the same command goes on, and several processes may share the
starts.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from leanpose.data.annotations import open_annotations, scored_set
from leanpose.evaluation.evaluate import predict_images
from leanpose.inference.predictor import Predictor
from leanpose.keypoint_sets import LSP, convert, without_partner
from leanpose.metrics.pck import pck, torso_lengths
from leanpose.training.loop import train
from leanpose.training.plan import EPOCHS, HEAD_EPOCHS, SmallSet, choose_start, plan
from leanpose.training.recipe import read_recipe
from leanpose.weights.catalogue import find_weights

HELD_OUT = 500
VIEWS = {50: 2000, 200: 4000, 1000: 8000}
FRACTION = 0.2
COLUMNS = ("start", "persons", "seed", "pck", "ap", "keypoints", "views", "minutes", "saw_lsp")
SCRATCH = "scratch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--starts", nargs="+", default=["rtmpose_s_26", "sfm.coco_128x96", SCRATCH])
    parser.add_argument("--persons", nargs="+", type=int, default=[*VIEWS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--change", nargs="*", default=[], help="key=value for the recipes, to try other values")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = options.out / "few_persons.csv"
    for start, persons, seed in runs(options):
        done = {tuple(row[column] for column in COLUMNS[:3]) for row in read(table)}
        if (start, str(persons), str(seed)) in done:
            continue
        began = time.monotonic()
        held_out = write_sets(options.data / "lsp" / "train.json", options.out, persons, seed)
        weights = fine_tune(start, persons, seed, options) if persons else find_weights(choose_start(start)[0])
        figures = measure(weights, held_out, options.data / "lsp" / "images", options.threads)
        minutes = (time.monotonic() - began) / 60
        saw = start != SCRATCH and "LSP" in choose_start(start)[1].data
        add(table, start, persons, seed, *figures, VIEWS[persons] if persons else 0, f"{minutes:.1f}", saw)
        shutil.rmtree(options.out / name_of(start, persons, seed), ignore_errors=True)
        show(table)


def runs(options: argparse.Namespace) -> Iterator[tuple[str, int, int]]:
    """Yield start, persons (0: the start as it is) and seed, one whole curve after another."""
    yield from ((start, 0, 0) for start in options.starts if start != SCRATCH)
    for seed in options.seeds:
        for persons in options.persons:
            yield from ((start, persons, seed) for start in options.starts)


def name_of(start: str, persons: int, seed: int) -> str:
    return f"{Path(start).stem}_{persons}_{seed}"


def write_sets(annotations: Path, out: Path, persons: int, seed: int) -> Path:
    """Write the persons of a run to train_{persons}_{seed}.json and those held out to a file that is returned."""
    content = json.loads(annotations.read_text())
    order = np.random.default_rng(0).permutation(len(content["images"]))
    rest = order[HELD_OUT:]
    chosen = rest[np.random.default_rng((1, seed)).permutation(len(rest))[:persons]]
    out.mkdir(parents=True, exist_ok=True)
    for file, places in ((f"train_{persons}_{seed}.json", chosen), ("held_out.json", order[:HELD_OUT])):
        images = [content["images"][i] for i in places]
        ids = {image["id"] for image in images}
        some = [person for person in content["annotations"] if person["image_id"] in ids]
        (out / file).write_text(json.dumps(content | {"images": images, "annotations": some}))
    return out / "held_out.json"


def fine_tune(start: str, persons: int, seed: int, options: argparse.Namespace) -> Path:
    """Train by the rules of `leanpose train --new`, without a choice of an epoch, and return the weights."""
    out = options.out / name_of(start, persons, seed)
    name, record = choose_start("sfm.coco_128x96" if start == SCRATCH else start)
    few = SmallSet(LSP, persons, persons, persons)
    values = {key: value for key, (value, _) in plan(few, name, record, 60.0, lambda _: 1e-6).items()}
    source = {
        "annotations": str(options.out / f"train_{persons}_{seed}.json"),
        "images": str(options.data / "lsp" / "images"),
    }
    batch = values["batch_size"]
    head, everything = values["stage_keys"]
    stages = [head | {"validate_every": HEAD_EPOCHS}, everything | {"validate_every": EPOCHS, "patience": None}]
    values |= {
        "samples_per_epoch": batch * round(VIEWS[persons] / batch / (EPOCHS + HEAD_EPOCHS)),
        "stage_keys": stages,
        "keypoint_set": "lsp",
        "train_data": [source],
        "val_data": source,
        "out": str(out),
        "seed": seed,
        "threads": 1,
    }
    if start == SCRATCH:
        once = {"epochs": HEAD_EPOCHS + EPOCHS, "validate_every": HEAD_EPOCHS + EPOCHS, "learning_rate": 2e-3}
        values |= {"start": None, "stage_keys": [once]}
    recipe = options.out / f"{out.name}.yaml"
    recipe.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return train(read_recipe(recipe, options.change), resume=any(out.glob("stage*/last.ckpt")))


def measure(weights: Path, data: Path, images: Path, threads: int) -> tuple[str, str, int]:
    """Return PCK and AP in percent, and how many keypoints they are of; no AP where the network does not find all."""
    annotated = open_annotations(data, images)
    predictor = Predictor(weights, detector=None, flip_test=True, threads=threads, min_person_score=0.0)
    predictor.carry_to(scored_set(annotated, predictor.keypoint_set))
    results = [person for found in predict_images(predictor, annotated.images("gt")) for person in found]
    triples = {result["image_id"]: np.reshape(result["keypoints"], (-1, 3)) for result in results}
    samples = annotated.samples(LSP)
    found = np.stack([triples[sample.image_id] for sample in samples])
    points, _ = convert(found[..., :2], found[..., 2], predictor.keypoint_set, LSP)
    truth = np.stack([sample.keypoints for sample in samples])
    lacking = without_partner(predictor.keypoint_set, LSP)
    known = [name not in lacking for name in LSP.keypoints]
    share = float(np.nanmean(pck(points, truth, torso_lengths(truth, LSP), FRACTION)[known]))
    ap = "" if lacking else f"{100 * annotated.score(results, predictor.keypoint_set)['AP']:.2f}"
    return f"{100 * share:.2f}", ap, sum(known)


def read(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        return []
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def add(table: Path, *row: Any) -> None:
    with table.open("a", newline="") as file:
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(COLUMNS)
        writer.writerow(row)
    print("; ".join(f"{column} {value}" for column, value in zip(COLUMNS, row, strict=True)), flush=True)


def show(table: Path) -> None:
    """Write the Markdown table and the plot of all runs so far."""
    figures: dict[str, dict[int, list[tuple[float, float]]]] = {}
    partial: dict[str, str] = {}  # what a start as it is does not find
    for row in read(table):
        label = row["start"] + (" (saw LSP)" if row["saw_lsp"] == "True" else "")
        if int(row["keypoints"]) < len(LSP):
            partial[label] = f" of {row['keypoints']} keypoints"
        ap = float(row["ap"] or "nan")
        figures.setdefault(label, {}).setdefault(int(row["persons"]), []).append((float(row["pck"]), ap))
    counts = sorted({count for of_start in figures.values() for count in of_start})
    lines = ["| start | " + " | ".join(f"{n} persons" if n else "as it is" for n in counts) + " |"]
    lines.append("|---" * (len(counts) + 1) + "|")
    for label, of_start in figures.items():
        cells = [_cell(of_start.get(count, [])) + ("" if count else partial.get(label, "")) for count in counts]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    table.with_suffix(".md").write_text("\n".join(lines) + "\n")
    plot(figures, table.with_suffix(".png"))


def _cell(figures: list[tuple[float, float]]) -> str:
    """Return mean, smallest and largest PCK, mean AP and the number of runs."""
    if not figures:
        return "-"
    shares, aps = np.array(figures).T
    spread = f" ({shares.min():.1f} to {shares.max():.1f}, {len(shares)} runs)" if len(shares) > 1 else ""
    ap = f", AP {aps.mean():.1f}" if np.isfinite(aps).all() else ""
    return f"{shares.mean():.1f}{spread}{ap}"


def plot(figures: dict[str, dict[int, list[tuple[float, float]]]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for number, (label, of_start) in enumerate(figures.items()):
        counts = sorted(count for count in of_start if count)
        shares = [np.array(of_start[count])[:, 0] for count in counts]
        middle = [values.mean() for values in shares]
        axes.plot(counts, middle, marker="o", color=f"C{number}", label=label)
        axes.fill_between(counts, [v.min() for v in shares], [v.max() for v in shares], color=f"C{number}", alpha=0.2)
        if 0 in of_start:
            axes.axhline(of_start[0][0][0], linestyle="--", linewidth=1, color=f"C{number}")
    axes.set(xscale="log", xlabel="persons trained on", ylabel="PCK@0.2 of 500 held out", ylim=(0, 100))
    axes.set_xticks([*VIEWS], [str(count) for count in VIEWS])
    axes.minorticks_off()
    axes.set_title("Means and ranges of the seeds; dashed: the start as it is")
    axes.legend()
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
