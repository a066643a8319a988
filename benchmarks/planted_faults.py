"""Plant faults in annotated sets and count which of them `leanpose data check` finds, and what else it finds.

    python benchmarks/planted_faults.py DATA --model rtmpose_s_26 --out planted.json

DATA has coco, lspet and lsp, each with annotations and `images`. Planted in copies: left and right swapped for a tenth
of the persons; boxes shifted by half of a side for a tenth of the persons with four labelled keypoints or more; and
copies of images encoded anew, resized, brightened and cropped, in another split.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from leanpose.data.faults import boxes_that_do_not_fit
from leanpose.data.image_faults import image_faults, look_at_images, shared_images
from leanpose.data.lenient import LenientSet, read_leniently
from leanpose.evaluation.swaps import swapped_sides
from leanpose.inference.predictor import Predictor
from leanpose.io.images import read_image
from leanpose.keypoint_sets import keypoint_set_from_coco

SETS = {"coco": "val.json", "lspet": "val.json", "lsp": "train.json"}
SHARE = 0.1
SHIFT = 0.5  # of a side
LABELLED = 4  # keypoints of a person whose box is shifted
COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG of quality 30": lambda image: image,
    "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "a fifth brighter": lambda image: cv2.convertScaleAbs(image, alpha=1.2),
    "cropped by 3 % a side": lambda image: _cropped(image, 0.03),
    "cropped by 5 % a side": lambda image: _cropped(image, 0.05),
}

Content = dict[str, Any]


def _cropped(image: np.ndarray, share: float) -> np.ndarray:
    top, left = (round(side * share) for side in image.shape[:2])
    return image[top : image.shape[0] - top, left : image.shape[1] - left]


def part_of(content: Content, persons: int) -> Content:
    """Return the content with evenly spread images, about as many as persons are wanted where each has one."""
    step = max(1, len(content["images"]) // persons)
    images = content["images"][::step]
    ids = {image["id"] for image in images}
    return content | {"images": images, "annotations": [a for a in content["annotations"] if a["image_id"] in ids]}


def with_swaps(content: Content, random: np.random.Generator) -> tuple[Content, set[int]]:
    """Return a copy with swapped sides, and the places of these annotations."""
    flip = keypoint_set_from_coco(content["categories"], "").flip_index
    content = copy.deepcopy(content)
    two_sided = flip != np.arange(len(flip))
    able = [
        i
        for i, annotation in enumerate(content["annotations"])
        if (np.reshape(annotation["keypoints"], (-1, 3))[two_sided, 2] > 0).any() and not annotation["iscrowd"]
    ]
    chosen = random.choice(able, round(SHARE * len(able)), replace=False)
    for i in chosen:
        triples = np.reshape(content["annotations"][i]["keypoints"], (-1, 3))
        content["annotations"][i]["keypoints"] = triples[flip].ravel().tolist()
    return content, {int(i) for i in chosen}


def with_shifts(content: Content, random: np.random.Generator) -> tuple[Content, set[int]]:
    """Return a copy with shifted boxes, and the places of these annotations."""
    content = copy.deepcopy(content)
    able = [
        i
        for i, annotation in enumerate(content["annotations"])
        if annotation.get("num_keypoints", 0) >= LABELLED and not annotation["iscrowd"]
    ]
    chosen = random.choice(able, round(SHARE * len(able)), replace=False)
    for i in chosen:
        direction = random.normal(size=2)
        direction *= SHIFT / np.abs(direction).max()
        x, y, width, height = content["annotations"][i]["bbox"]
        content["annotations"][i]["bbox"] = [x + direction[0] * width, y + direction[1] * height, width, height]
    return content, {int(i) for i in chosen}


def shares(found: set[int], planted: set[int], able: int) -> dict[str, Any]:
    """Return found and falsely found ones as counts and as shares of the planted and of the others."""
    hits, false = len(found & planted), len(found - planted)
    return {
        "planted": len(planted), "found": hits, "found_share": hits / len(planted),
        "others": able - len(planted), "false": false, "false_share": false / (able - len(planted)),
    }  # fmt: skip


def copies_found(annotated: LenientSet, random: np.random.Generator) -> dict[str, Any]:
    """Return which copies of images in another split are found, by kind, and what else is."""
    looks = look_at_images(annotated)
    chosen = random.choice(len(looks), round(SHARE * len(looks)), replace=False)
    counts: dict[str, Any] = {}
    for kind, change in COPIES.items():
        with tempfile.TemporaryDirectory() as folder:
            entries = []
            for number, i in enumerate(chosen):
                image = np.ascontiguousarray(change(read_image(annotated.paths[i]))[..., ::-1])
                cv2.imwrite(str(Path(folder) / f"{number}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 30])
                entries.append({"id": number, "file_name": f"{number}.jpg"})
            content = {"images": entries, "annotations": [], "categories": []}
            other = read_leniently(content, "copies", Path(folder))
            found = shared_images(annotated, looks, other, look_at_images(other), "copies")
        pairs = {(case.image, int(Path(case.beside).stem)) for finding in found for case in finding.cases}
        planted = {(int(i), number) for number, i in enumerate(chosen)}
        counts[kind] = {"planted": len(planted), "found": len(pairs & planted), "false": len(pairs - planted)}
    return counts


def measure(data: Path, name: str, predictor: Predictor, persons: int) -> dict[str, Any]:
    """Return all counts of one set."""
    random = np.random.default_rng(0)
    content = part_of(json.loads((data / name / SETS[name]).read_text()), persons)
    images = data / name / "images"
    swapped, planted = with_swaps(content, random)
    annotated = read_leniently(swapped, name, images)
    able = int((annotated.labelled.any(axis=1) & ~annotated.crowd).sum())
    findings, _ = swapped_sides(annotated, predictor, [True] * len(annotated.names))
    found = {case.person for finding in findings for case in finding.cases if case.person is not None}
    result = {"swaps": shares(found, planted, able)}
    shifted, planted = with_shifts(content, random)
    annotated = read_leniently(shifted, name, images)
    able = int(((annotated.labelled.sum(axis=1) > 1) & ~annotated.crowd).sum())
    found = {c.person for finding in boxes_that_do_not_fit(annotated) for c in finding.cases if c.person is not None}
    result["shifts"] = shares(found, planted, able)
    result["copies"] = copies_found(annotated, random)
    return result


def alike_pairs(data: Path) -> str:
    """Return how many pairs of the COCO images, which are all different, are called alike."""
    annotated = read_leniently(json.loads((data / "coco" / "train.json").read_text()), "coco", data / "coco" / "images")
    found = {finding.kind: finding.cases for finding in image_faults(annotated, look_at_images(annotated))}
    return f"coco/train.json, {len(annotated.names)} images: {len(found.get('images alike', ()))} pairs called alike"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="lpn50")
    parser.add_argument("--persons", type=int, default=700, help="about how many of each set")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    predictor = Predictor(options.model, detector=None, threads=1)
    results = {}
    for name in SETS:
        results[name] = measure(options.data, name, predictor, options.persons)
        for kind in ("swaps", "shifts"):
            r = results[name][kind]
            print(
                f"{name} {kind}: found {r['found']} of {r['planted']} ({r['found_share']:.1%}), false {r['false']} of "
                f"{r['others']} ({r['false_share']:.1%})",
                flush=True,
            )
        for kind, r in results[name]["copies"].items():
            print(f"{name} {kind}: found {r['found']} of {r['planted']}, false {r['false']}", flush=True)
    print(alike_pairs(options.data))
    if options.out:
        options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
