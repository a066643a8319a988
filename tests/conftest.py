"""Images that tests make for themselves: coloured stick figures with a COCO-style file, and flat rectangles that a
network made of a few lines takes for persons."""

from __future__ import annotations

import colorsys
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import savemat

import leanpose.inference.predictor as prediction
from leanpose.geometry import input_to_heatmap
from leanpose.inference.engines import Engine
from leanpose.keypoint_sets import COCO, MPII, KeypointSet
from leanpose.metrics.pckh import SHORT_NAMES
from leanpose.weights.record import Weights

# A standing person by keypoint name without its side: x away from the middle, y from the top, of a box of height 1.
BODY = {
    "nose": (0.0, 0.09), "eye": (0.03, 0.05), "ear": (0.06, 0.07), "shoulder": (0.13, 0.2), "elbow": (0.18, 0.36),
    "wrist": (0.2, 0.52), "hip": (0.09, 0.53), "knee": (0.1, 0.74), "ankle": (0.12, 0.95),
    "neck": (0.0, 0.17), "top_head": (0.0, 0.01), "upper_neck": (0.0, 0.15), "head_top": (0.0, 0.01),
    "thorax": (0.0, 0.21), "pelvis": (0.0, 0.53), "head": (0.0, 0.01), "big_toe": (0.16, 1.0), "heel": (0.11, 0.98),
    "small_toe": (0.18, 0.99),
}  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _own_folder_of_weights(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What was downloaded on this machine changes no test."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / ".told").touch()  # of public weights
    os.environ["LEANPOSE_WEIGHTS"] = str(folder)
    os.environ["LEANPOSE_OFFLINE"] = "1"


MakePeople = Callable[..., tuple[Path, Path]]


@pytest.fixture
def people(tmp_path: Path) -> MakePeople:
    """Return a function that writes images with one person each and returns annotation file and image folder."""

    def make(
        name: str = "people", count: int = 4, keypoint_set: KeypointSet = COCO, seed: int = 0
    ) -> tuple[Path, Path]:
        folder = tmp_path / name
        images = folder / "images"
        images.mkdir(parents=True)
        random = np.random.default_rng(seed)
        entries = [_person(i, images, keypoint_set, random) for i in range(1, count + 1)]
        file = folder / "people.json"
        category = {"id": 1, "name": "person", "keypoints": list(keypoint_set.keypoints), "skeleton": []}
        content = {
            "images": [image for image, _ in entries],
            "annotations": [annotation for _, annotation in entries],
            "categories": [category],
        }
        file.write_text(json.dumps(content))
        return file, images

    return make


MpiiPerson = tuple[str, Sequence[float], np.ndarray]  # name of the image, box xyxy, keypoints (16, 2), from 0


@pytest.fixture
def write_mpii(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes MPII's list of persons and its ground truth, and returns the list's path.

    A head's box has a tenth of the height of the person's box as its sides.
    """

    def write(persons: Sequence[MpiiPerson], file: Path = tmp_path / "valid.json") -> Path:
        entries = []
        for name, (left, top, right, bottom), keypoints in persons:
            scale = max(right - left, bottom - top) / 200
            center = [(left + right) / 2 + 1, (top + bottom) / 2 + 1 - 15 * scale]
            joints = (np.array(keypoints, float) + 1).tolist()
            entries.append({"image": name, "center": center, "scale": scale, "joints": joints, "joints_vis": [1] * 16})
        file.write_text(json.dumps(entries))
        tops = np.array([keypoints[MPII.keypoints.index("head_top")] for _, _, keypoints in persons]) + 1
        sides = np.array([(box[3] - box[1]) / 10 for _, box, _ in persons])[:, None]
        truth = {
            "dataset_joints": np.array(SHORT_NAMES, dtype=object)[None],
            "pos_gt_src": np.stack([keypoints for _, _, keypoints in persons], axis=2) + 1.0,  # (16, 2, N)
            "headboxes_src": np.stack([tops, tops + sides]).transpose(0, 2, 1),  # (2, 2, N)
            "jnt_missing": np.zeros((16, len(persons))),
        }
        savemat(file.with_name(f"gt_{file.stem}.mat"), truth)
        return file

    return write


@pytest.fixture
def mpii_people(people: MakePeople, write_mpii: Callable[..., Path]) -> MakePeople:
    """Return a function like that of `people`, whose annotation file is MPII's list, beside its ground truth."""

    def make(name: str = "mpii", count: int = 4, seed: int = 0) -> tuple[Path, Path]:
        file, images = people(name, count, MPII, seed)
        persons = []
        for annotation in json.loads(file.read_text())["annotations"]:
            left, top, width, height = annotation["bbox"]
            keypoints = np.reshape(annotation["keypoints"], (16, 3))[:, :2]
            persons.append((f"{annotation['image_id']}.png", (left, top, left + width, top + height), keypoints))
        return write_mpii(persons, file.with_name("valid.json")), images

    return make


class RectanglePeople:
    """A network that takes flat rectangles for persons: at most one red, one green and one blue in an image.

    It knows nothing of where its input comes from, so what is found shows whether images were laid into it, and
    places carried back, as the record says. The brighter a rectangle, the higher its scores.

    Args:
        weights: with the task "bottom_up" it finds all persons of its input, else the one in the middle.
        person_head: also give centers and box_logs.
        absent: keypoints without a peak.

    Attributes:
        calls: shapes of its inputs so far.
    """

    NAMES = ("red", "green", "blue")

    def __init__(self, weights: Weights | None = None, person_head: bool = False, absent: tuple[str, ...] = ()) -> None:
        self.weights = weights or Weights(
            "rectangles.coco_256x256",
            "rectangles",
            (256, 256),
            task="bottom_up",
            convention="classic",
            codec="associative_embedding",
        )
        if person_head:
            self.weights = dataclasses.replace(self.weights, box_codec="center_box", box_scales=(1.0, 0.5))
        self.person_head = person_head
        self.absent = absent
        self.calls: list[tuple[int, ...]] = []

    @staticmethod
    def image(height: int, width: int, **boxes: tuple[int, int, int, int, int]) -> np.ndarray:
        """Draw rectangles by colour: first column and row, columns and rows behind the last, brightness 0..255."""
        image = np.zeros((height, width, 3), np.uint8)
        for name, (left, top, right, bottom, brightness) in boxes.items():
            image[top:bottom, left:right, RectanglePeople.NAMES.index(name)] = brightness
        return image

    @staticmethod
    def edges(box: tuple[int, ...]) -> np.ndarray:
        """Return (4,) where the edges of a drawn rectangle are: half a pixel before and behind pixel centers."""
        return np.array(box[:4]) - 0.5

    @staticmethod
    def keypoints(box_xyxy: Sequence[float] | np.ndarray, keypoint_set: KeypointSet = COCO) -> np.ndarray:
        """Return (K, 2) keypoints of the person that fills a box, who looks at us."""
        left, top, right, bottom = box_xyxy
        places = []
        for name in keypoint_set.keypoints:
            side = {"left": 1, "right": -1}.get(name.partition("_")[0], 0)
            x, y = BODY[name.removeprefix("left_").removeprefix("right_")]
            places.append((0.5 + 2 * side * x, y))
        return np.array([left, top]) + np.array(places) * [right - left, bottom - top]

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.calls.append(images.shape)
        std, mean = (np.array(v)[:, None, None] for v in (self.weights.std, self.weights.mean))
        maps = [self._maps((image * std + mean) / 255) for image in images]
        return {name: np.stack([m[name] for m in maps]).astype(np.float32) for name in maps[0]}

    def _maps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs for one image (3, h, w), 0 to 1."""
        height, width = image.shape[1:]
        people = [(i, colour.max(), _extent(colour)) for i, colour in enumerate(image) if colour.max() > 0.05]
        if self.weights.task == "top_down":
            middle = image[:, height // 2, width // 2]
            people = [person for person in people if person[0] == middle.argmax()]
            return {"heatmaps": self._heatmaps(people, (height, width), 4)[0]}
        fine, _ = self._heatmaps(people, (height, width), 2)
        coarse, tags = self._heatmaps(people, (height, width), 4)
        maps = {"heatmaps_4": coarse, "tags": tags, "heatmaps_2": fine}
        if self.person_head:
            centers, box_logs = np.full((height // 4, width // 4), -20.0), np.zeros((4, height // 4, width // 4))
            y, x = np.mgrid[: height // 4, : width // 4]
            for _, brightness, box in people:
                left, top, right, bottom = np.array(box) / 4
                distance = (x - (left + right) / 2) ** 2 + (y - (top + bottom) / 2) ** 2
                logits = np.log(brightness / max(1 - brightness, 1e-6)) - 0.1 * distance
                edges = np.log(np.maximum([x - left, y - top, right - x, bottom - y], 0.1))
                box_logs = np.where(logits > centers, edges, box_logs)
                centers = np.maximum(centers, logits)
            maps |= {"centers": centers[None], "box_logs": box_logs}
        return maps

    def _heatmaps(
        self, people: Sequence[tuple[int, float, tuple[float, ...]]], size: tuple[int, int], stride: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return heatmaps and tags (K, h / stride, w / stride) each, of people in an input of this size."""
        names, convention = self.weights.keypoint_set.keypoints, self.weights.convention
        map_size = (size[0] // stride, size[1] // stride)
        heatmaps, tags = np.zeros((len(names), *map_size)), np.zeros((len(names), *map_size))
        y, x = np.mgrid[: map_size[0], : map_size[1]]
        half = 0.5 if self.weights.task == "bottom_up" else 0.0  # it decodes to the middle of a pixel
        for number, brightness, box in people:
            points = input_to_heatmap(self.keypoints(box, self.weights.keypoint_set), size, map_size, convention) - half
            points += np.array([0.03, 0.02]) * (
                points / map_size[::-1] + 0.1
            )  # else two pixels may be equal: two peaks
            for k in range(len(names)):
                if names[k] not in self.absent:
                    squared = (x - points[k, 0]) ** 2 + (y - points[k, 1]) ** 2
                    peak = brightness * np.exp(-squared / 8)
                    tags[k] = np.where(peak > np.maximum(heatmaps[k], 0.01), 2 * number + 1, tags[k])
                    heatmaps[k] = np.maximum(heatmaps[k], peak)
        return heatmaps, tags


def _extent(colour: np.ndarray) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of the one rectangle in an image (h, w); its edges may be blurred."""
    edges = []
    for axis in (0, 1):
        profile = colour.max(axis=axis).clip(0) / colour.max()
        middle, length = (profile * np.arange(len(profile))).sum() / profile.sum(), profile.sum()
        edges.append((middle - length / 2, middle + length / 2))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


@pytest.fixture(scope="module")
def short_litepose() -> Iterator[None]:
    """Let litepose_xs have few blocks, which are quicker to train and to export."""
    from leanpose.models import litepose

    short = partial(litepose.LitePose, dataclasses.replace(litepose.ARCHS["search_xs"], stage_depths=(1, 1, 2, 1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(litepose, "litepose_xs", short)
        yield


@pytest.fixture(scope="module")
def short_lpn() -> Iterator[None]:
    """Let lpn50 have one block a stage, as in training/short_leanpose.py."""
    from leanpose.models import lpn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lpn, "lpn50", partial(lpn.LPN, (1, 1, 1, 1)))
        yield


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks have one block where they have several alike, and the widest fewer channels, litepose_xs aside."""
    from leanpose.models import hevitpose, hourglass, hrnet, litepose, lpn, resnet, rmpg, simple_baseline, vitpose

    def one_block(in_channels: int, channels: int, num_blocks: int, stride: int) -> Any:
        return resnet.resnet_stage(in_channels, channels, 1, stride)

    monkeypatch.setattr(hevitpose, "hevitpose_b", partial(hevitpose.HEViTPose, dims=(64, 128, 192), depths=(1, 1, 1)))
    for name in ("hevitpose_t", "hevitpose_s"):
        monkeypatch.setattr(hevitpose, name, hevitpose.hevitpose_b)
    arch = dataclasses.replace(litepose.ARCHS["search_xs"], stage_depths=(1, 1, 2, 1))
    for letter in ("s", "m", "l"):
        monkeypatch.setattr(litepose, f"litepose_{letter}", partial(litepose.LitePose, arch))
    monkeypatch.setattr(hourglass, "WIDTHS", (32,) * 6)
    monkeypatch.setattr(hrnet, "BLOCKS", 1)
    monkeypatch.setattr(hrnet, "MODULES", (1, 1, 2))
    for name in ("lpn50", "lpn101", "lpn152"):
        monkeypatch.setattr(lpn, name, partial(lpn.LPN, (1, 1, 1, 1)))
    monkeypatch.setattr(simple_baseline, "HEAD_CHANNELS", 32)
    monkeypatch.setattr(simple_baseline, "resnet_stage", one_block)
    monkeypatch.setattr(vitpose, "DEPTH", 2)
    monkeypatch.setattr(vitpose, "vitpose_b", partial(vitpose.ViTPose, 192))
    monkeypatch.setattr(rmpg, "hourglass_52_rmpg", rmpg._with_rmpg(hourglass.Hourglass, 32))
    baseline = partial(simple_baseline.SimpleBaseline, (1, 1, 1, 1))
    for name in ("simple_baseline_50_rmpg", "simple_baseline_101_rmpg"):
        monkeypatch.setattr(rmpg, name, rmpg._with_rmpg(baseline, 32, ffn_ratio=4))
    monkeypatch.setattr(rmpg, "vitpose_b_rmpg", rmpg._with_rmpg(partial(vitpose.ViTPose, 192), 192))


@pytest.fixture
def rectangle_people() -> type[RectanglePeople]:
    """Return the class, which test files cannot import."""
    return RectanglePeople


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Engine]:
    """Return a dictionary; networks that are put into it can be loaded by their name in it."""
    named: dict[str, Engine] = {}
    load = prediction.load_engine
    monkeypatch.setattr(
        prediction, "load_engine", lambda model, *others, **options: named.get(model) or load(model, *others, **options)
    )
    return named


def _person(
    number: int, images: Path, keypoint_set: KeypointSet, random: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write one image; return its entries in 'images' and 'annotations'."""
    image = np.full((120, 100, 3), 90, np.uint8)
    size, middle, top = random.uniform(70, 100), random.uniform(42, 58), random.uniform(5, 15)
    points = []
    for name in keypoint_set.keypoints:
        side = {"left": 1, "right": -1}.get(name.partition("_")[0], 0)
        x, y = BODY[name.removeprefix("left_").removeprefix("right_")]
        points.append((middle + side * x * size, top + y * size))
    keypoints = np.array(points) + random.normal(0, 0.01 * size, (len(points), 2))
    for a, b in keypoint_set.edge_indices:
        ends = [tuple(int(v) for v in np.round(keypoints[i])) for i in (a, b)]
        cv2.line(image, ends[0], ends[1], (150, 150, 150), 2)
    for i, point in enumerate(keypoints):
        colour = [int(255 * v) for v in colorsys.hsv_to_rgb(i / len(keypoints), 1, 1)]
        cv2.circle(image, tuple(int(v) for v in np.round(point)), 3, colour, -1)
    file_name = f"{number}.png"
    cv2.imwrite(str(images / file_name), image[..., ::-1])
    (left, upper), (right, lower) = keypoints.min(0) - 4, keypoints.max(0) + 4
    box = [float(left), float(upper), float(right - left), float(lower - upper)]
    entry = {"id": number, "file_name": file_name, "width": image.shape[1], "height": image.shape[0]}
    annotation = {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "bbox": box,
        "area": box[2] * box[3] * 0.6,
        "iscrowd": 0,
        "num_keypoints": len(keypoints),
        "keypoints": [float(v) for point in keypoints for v in (*point, 2)],
    }
    return entry, annotation
