"""Made-up videos with known truth: real persons, cut out of COCO images and moved over a background.

Persons are cut out by GrabCut, started with the annotated skeleton, and moved by affine maps, so every annotated
keypoint is known in every frame. In front of a pattern two walk across each other, one is covered by a panel for a
second while walking on, one sways on the spot.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from leanpose import COCO, Poses, Predictor, read_image
from leanpose.geometry import boxes_around, iou, transform

SIZE = (540, 960)  # height, width
FRAMES, RATE = 120, 30.0
HIDDEN = range(45, 75)  # frames in which the first person is covered
FIELDS = ("keypoints", "scores", "boxes_xyxy", "person_scores", "raw_scores")
NOISE = 4.0  # of the camera, standard deviation of pixel values


@dataclass(frozen=True)
class CutOut:
    """A person without background.

    Attributes:
        image: (H, W, 3) uint8.
        alpha: (H, W) float32, 0 to 1.
        keypoints: (17, 2) pixels.
    """

    image: np.ndarray
    alpha: np.ndarray
    keypoints: np.ndarray


@dataclass(frozen=True)
class MadeVideo:
    """One video; `frames` gives images and truth.

    Attributes:
        persons: four: who is covered, two who cross, who sways; the last is in front.
        seed: of motion, background and noise.
    """

    persons: tuple[CutOut, ...]
    seed: int

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (540, 960, 3) uint8 RGB and the true keypoints (4, 17, 2) of each frame."""
        random = np.random.default_rng(self.seed)
        background = _background(random)
        for number, matrices in enumerate(self.matrices):
            image = background
            truth = self.truth[number]
            for place, (person, matrix) in enumerate(zip(self.persons, matrices, strict=True)):
                layers = np.dstack([person.image * person.alpha[..., None], person.alpha]).astype(np.float32)
                laid = cv2.warpAffine(layers, matrix, SIZE[::-1], flags=cv2.INTER_AREA)
                image = image * (1 - laid[..., 3:]) + laid[..., :3]
                if place == 0 and number in HIDDEN:
                    left, top, right, bottom = boxes_around(truth[:1], 0.25)[0].astype(int)
                    image[max(top, 0) : bottom, max(left, 0) : right] = (96, 104, 112)
            image += random.normal(0, NOISE, SIZE)[..., None]
            yield image.clip(0, 255).astype(np.uint8), truth

    @cached_property
    def truth(self) -> np.ndarray:
        """(120, 4, 17, 2) keypoints."""
        points = np.stack([person.keypoints for person in self.persons])
        return np.stack([transform(points, matrices) for matrices in self.matrices])

    @cached_property
    def matrices(self) -> np.ndarray:
        """(120, 4, 2, 3) from pixels of the cut-outs to those of the frames."""
        random = np.random.default_rng(self.seed)
        seconds = np.arange(FRAMES) / RATE
        # x at the start and the end, y of the feet, height, in pixels
        paths = [(330, 560, 300, 200), (100, 740, 500, 330), (730, 120, 520, 360), (880, 890, 420, 280)]
        matrices = []
        for person, (start, end, feet, height) in zip(self.persons, paths, strict=True):
            phase, rate = random.uniform(0, 6), random.uniform(0.6, 1.2)
            sway = np.sin(2 * np.pi * rate * seconds + phase)
            low, high = person.keypoints.min(axis=0), person.keypoints.max(axis=0)
            scale = height / (high - low)[1] * (1 + 0.04 * sway)
            angle = np.radians(5) * np.cos(2 * np.pi * rate * seconds + 2 * phase)
            shear = 0.08 * np.sin(2 * np.pi * 2 * rate * seconds)
            x = start + (end - start) * seconds / seconds[-1]
            y = feet + 0.02 * height * sway
            linear = np.array([[np.cos(angle), np.sin(angle) + shear], [-np.sin(angle), np.cos(angle)]])
            linear = linear.transpose(2, 0, 1) * scale[:, None, None]
            foot = np.array([(low[0] + high[0]) / 2, high[1]])
            shift = np.stack([x, y], axis=1) - linear @ foot
            matrices.append(np.concatenate([linear, shift[..., None]], axis=2))
        return np.stack(matrices, axis=1)


def made_videos(data: Path, count: int) -> list[MadeVideo]:
    """Return videos of persons of the leanpose mini set, data/coco/train.json, the tallest first."""
    content = json.loads((data / "coco" / "train.json").read_text())
    names = {image["id"]: data / "coco" / "images" / image["file_name"] for image in content["images"]}
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    chosen = [person for group in by_image.values() for person in group if _stands_alone(person, group)]
    chosen.sort(key=lambda person: -person["bbox"][3])
    cut = [_cut_out(read_image(names[person["image_id"]]), person) for person in chosen[: 4 * count]]
    return [MadeVideo(tuple(cut[i::count]), i) for i in range(count)]


def _stands_alone(person: dict[str, Any], group: list[dict[str, Any]]) -> bool:
    """Whether all keypoints of a person are labelled, at least 16 visible, and nobody else is in its box."""
    _, _, width, height = person["bbox"]
    visible = sum(v == 2 for v in person["keypoints"][2::3])
    boxes = boxes_xyxy([one["bbox"] for one in group])
    others = [one is not person for one in group]
    apart = (iou(boxes_xyxy([person["bbox"]]), boxes[others]) < 0.05).all()
    return person["num_keypoints"] == 17 and visible >= 16 and height > 1.6 * width and bool(apart)


def boxes_xyxy(boxes_xywh: list[list[float]]) -> np.ndarray:
    boxes = np.array(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _cut_out(image: np.ndarray, person: dict[str, Any]) -> CutOut:
    keypoints = np.reshape(person["keypoints"], (17, 3))[:, :2].astype(np.float64)
    left, top, right, bottom = np.round(boxes_xyxy([person["bbox"]])[0]).astype(int)
    mask = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
    mask[max(top, 0) : bottom, max(left, 0) : right] = cv2.GC_PR_BGD
    for thickness, value in ((0.12, cv2.GC_PR_FGD), (0.03, cv2.GC_FGD)):
        width = max(1, round(thickness * (bottom - top)))
        shoulders, hips = (keypoints[[i, i + 1]] for i in (5, 11))
        cv2.fillConvexPoly(mask, np.round([*shoulders, *hips[::-1]]).astype(np.int32), value)
        for a, b in COCO.edge_indices:
            ends = [tuple(int(v) for v in np.round(keypoints[i])) for i in (a, b)]
            cv2.line(mask, ends[0], ends[1], value, width)
    cv2.grabCut(image, mask, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    alpha = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.float32)
    return CutOut(image, cv2.GaussianBlur(alpha, (0, 0), 1), keypoints)


def _background(random: np.random.Generator) -> np.ndarray:
    """Return (540, 960, 3) float32, patterns of several sizes."""
    image = np.full((*SIZE, 3), 120, np.float32)
    for cells in (4, 16, 64):
        noise = random.normal(0, 18, (cells, 2 * cells, 1)).astype(np.float32)
        image += cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_CUBIC)[..., None]
    return image


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("data", type=Path)
    made.add_argument("--model", default="rtmpose_s_26")
    made.add_argument("--detector", default="yolox_tiny")
    made.add_argument("--videos", type=int, default=4)
    made.add_argument("--detections", type=Path)
    return made


def detections(options: argparse.Namespace, videos: Sequence[MadeVideo]) -> list[list[Poses]]:
    """Return what the networks find in each frame of each video, weak persons too."""
    file: Path | None = options.detections
    if file and file.exists():
        return [[_poses(frame) for frame in video] for video in json.loads(file.read_text())]
    predictor = Predictor(options.model, detector=options.detector, keypoint_set=COCO, min_person_score=0.15)
    found = [[predictor(image) for image, _ in video.frames()] for video in videos]
    if file:
        file.write_text(json.dumps([[_plain(poses) for poses in video] for video in found]))
    return found


def _plain(poses: Poses) -> dict[str, Any]:
    values = {name: getattr(poses, name) for name in FIELDS}
    return {name: value if value is None else value.tolist() for name, value in values.items()}


def _poses(frame: dict[str, Any]) -> Poses:
    n, k = len(frame["person_scores"]), len(COCO)
    shapes = {
        "keypoints": (n, k, 2),
        "scores": (n, k),
        "boxes_xyxy": (n, 4),
        "person_scores": (n,),
        "raw_scores": (n, k),
    }
    arrays = {
        name: None if frame[name] is None else np.array(frame[name], np.float32).reshape(shape)
        for name, shape in shapes.items()
    }
    return Poses(**arrays, keypoint_set=COCO)  # type: ignore[arg-type]


def true_poses(video: MadeVideo) -> list[Poses]:
    """Return the persons of each frame with their numbers as ids, without the one that is covered."""
    poses = []
    for number, truth in enumerate(video.truth.astype(np.float32)):
        ids = np.arange(1 if number in HIDDEN else 0, len(truth))
        ones = np.ones((len(ids), len(COCO)), np.float32)
        poses.append(Poses(truth[ids], ones, boxes_around(truth[ids], 0.05), ones[:, 0], COCO, ids))
    return poses
