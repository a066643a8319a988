"""COCO-style sets: COCO, LSP, CrowdPose and any set in the same form."""

from __future__ import annotations

import copy
from collections.abc import Collection
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from leanpose.data.entries import Image, Person, PersonCategory, read_images, read_persons
from leanpose.data.scenes import Views, scenes_of
from leanpose.errors import InputError, note, require
from leanpose.io.values import FARTHEST, Id, Known, entries, number, numbers, read_json, shown
from leanpose.keypoint_sets import KeypointSet, convert, keypoint_set_from_coco, without_partner
from leanpose.metrics.coco_ap import AREA_OF_BOX, is_crowdpose, keypoint_metrics
from leanpose.structures import ImageBoxes, Sample, Scene

SMALLEST_AREA = 0.01  # of the box: with less, no result could match a person


class CocoSet:
    """A COCO-style annotation file, read and checked once.

    Args:
        content: of the file, as leanpose.data.formats gives it.
        path: its name.
        images: folder of the images; None if nobody looks at them.
        category: name or id of the one that is meant, where several have keypoints.

    Attributes:
        persons: all annotated ones, in the file's order, crowds too; they may be animals, hands or objects.

    Raises:
        InputError: an entry that cannot be used; the sentence names it.
    """

    def __init__(self, content: dict[str, Any], path: str, images: Path | None, category: str | None = None) -> None:
        self.path = path
        annotations = content["annotations"]
        self._category = PersonCategory(content.get("categories") or [], annotations, path, category)
        self._images = read_images(content["images"], images, path)
        self.persons = read_persons(annotations, self._images, self._category, path)

    @property
    def keypoint_set(self) -> KeypointSet:
        """The keypoints that the file annotates."""
        return self._category.keypoint_set or keypoint_set_from_coco([], self.path)  # which says why not

    def part(self, image_ids: Collection[Id]) -> CocoSet:
        """Return the set of some of the images, in the same order."""
        part = copy.copy(self)
        part._images = {one: image for one, image in self._images.items() if one in image_ids}
        part.persons = [person for person in self.persons if person.image.id in part._images]
        return part

    def _triples(self, keypoint_set: KeypointSet) -> np.ndarray:
        """Return the keypoints of all persons, (N, K, 3), carried to a set by name."""
        file_set = self.keypoint_set
        triples = np.array([person.triples for person in self.persons]).reshape(-1, len(file_set), 3)
        points, visibility = convert(triples[..., :2], triples[..., 2], file_set, keypoint_set)
        return np.concatenate([points, visibility[..., None]], axis=2)

    def _weights(self, person: Person, keypoint_set: KeypointSet) -> np.ndarray | None:
        """Return how much each keypoint of a person counts in training, (K,) float32, carried to a set by name."""
        if person.weights is None:
            return None
        weights = person.weights[None].astype(np.float32)
        return convert(person.triples[None, :, :2], weights, self.keypoint_set, keypoint_set)[1][0]

    def samples(self, keypoint_set: KeypointSet | None = None) -> list[Sample]:
        """Return every person with a box and at least one labelled keypoint, in the file's order; crowds are none.

        Args:
            keypoint_set: the set wanted; keypoints are carried over by name, absent ones count as unlabelled. None: the
                file's own set.

        Raises:
            InputError: there is no such person.
        """
        wanted = keypoint_set or self.keypoint_set
        samples = []
        for person, triples in zip(self.persons, self._triples(wanted), strict=True):
            labelled = triples[:, 2] > 0
            if person.crowd or person.box_xyxy is None or not labelled.any():
                continue
            samples.append(
                Sample(
                    image_path=person.image.path,
                    image_id=person.image.id,
                    box_xyxy=person.box_xyxy,
                    keypoints=np.where(labelled[:, None], triples[:, :2], np.nan).astype(np.float32),
                    visibility=triples[:, 2].astype(np.int8),
                    weights=self._weights(person, wanted),
                    image_size=person.image.size,
                )
            )
        if not samples:
            raise InputError(
                f"{self.path} holds no person with a box and a labelled keypoint of the set '{wanted.name}'; it "
                f"annotates {', '.join(self.keypoint_set.keypoints)}."
            )
        return samples

    def scenes(self, keypoint_set: KeypointSet, views: Views = "images") -> list[Scene]:
        """Return the images with at least one annotated person, for networks that find everybody at once.

        Args:
            keypoint_set: the set wanted, whose keypoints must be the file's own: where keypoints are not annotated at
                all, a network would learn that they are not there.
            views: "images" lays a scene around the center square of each image, "persons" around the box of each
                person with labelled keypoints.

        Returns:
            Scenes in the file's order, with at most MAX_PEOPLE persons, the largest. Crowd regions, further persons and
            those without labelled keypoints are the scenes' ignored regions; the last stay among the persons, since
            their boxes are known.

        Raises:
            InputError: the file has other keypoints, does not say how large its images are, or holds no such image.
        """
        self._check_names(keypoint_set, f"not '{keypoint_set.name}'")
        by_image: dict[Any, list[tuple[Person, np.ndarray]]] = {}
        for person, triples in zip(self.persons, self._triples(keypoint_set), strict=True):
            by_image.setdefault(person.image.id, []).append((person, triples))
        scenes: list[Scene] = []
        for image in self._images.values():
            if image.id in by_image:
                persons, triples = zip(*by_image[image.id], strict=True)
                scenes += scenes_of(image, persons, np.stack(triples), views)
        if not scenes:
            raise InputError(f"{self.path} holds no image with an annotated person.")
        return scenes

    def images(self, boxes: str | Path | None = "gt") -> list[ImageBoxes]:
        """Return the images to predict.

        Args:
            boxes: "gt": those with persons as `samples` gives them, and their boxes; None: all images, without
                boxes; else a person-detection file: those with a box in it, as it is, without clipping.
        """
        if boxes is None:
            return [self._boxes_of(image, None) for image in self._images.values()]
        if boxes != "gt":
            return self._detected(str(boxes))
        samples = sorted(self.samples(), key=_place)
        return [
            self._boxes_of(self._images[persons[0].image_id], np.stack([p.box_xyxy for p in persons]))
            for persons in (list(group) for _, group in groupby(samples, key=_place))
        ]

    def everybody(self) -> list[ImageBoxes]:
        """Return all images with the boxes of all their persons, also those without labelled keypoints."""
        boxes: dict[Any, list[np.ndarray]] = {image_id: [] for image_id in self._images}
        for person in self.persons:
            if person.box_xyxy is not None and not person.crowd:
                boxes[person.image.id].append(person.box_xyxy)
        return [
            self._boxes_of(image, np.array(boxes[image.id], np.float32).reshape(-1, 4))
            for image in self._images.values()
        ]

    def _boxes_of(self, image: Image, boxes: np.ndarray | None, scores: np.ndarray | None = None) -> ImageBoxes:
        if scores is None:
            scores = np.ones(0 if boxes is None else len(boxes), np.float32)
        return ImageBoxes(image.path, image.id, boxes, scores, self._category.id, image_size=image.size)

    def _detected(self, path: str) -> list[ImageBoxes]:
        """Return the images with boxes of a detection file: {image_id, bbox xywh, score, category_id} each."""
        content = read_json(path)
        if not isinstance(content, list):
            raise InputError(f"{path} is no detection file: it must hold a list of boxes.")
        known = Known(self._images)
        found: dict[Any, list[tuple[np.ndarray, float]]] = {}
        for i, entry in enumerate(entries(content, ("image_id", "bbox", "score"), f"{path}: detection")):
            what = f"{path}: detection {i}"
            x, y, w, h = numbers(entry["bbox"], (4,), f"{what}: 'bbox'")
            score = number(entry["score"], f"{what}: 'score'")
            image_id = known.find(entry["image_id"])
            if image_id is not None and self._category.is_detected(entry) and w > 0 and h > 0:
                height, width = self._images[image_id].size or (np.inf, np.inf)
                if x + w <= 0 or y + h <= 0 or x >= width or y >= height:
                    raise InputError(f"{what}: its box lies outside the image of {width} x {height} pixels.")
                found.setdefault(image_id, []).append((np.array([x, y, x + w, y + h], np.float32), score))
        if not found:
            raise InputError(
                f"{path} holds no box of a person for any image of {self.path}; is it the file of another set?"
            )
        return [
            self._boxes_of(image, np.stack(boxes), np.array(scores, np.float32))
            for image in self._images.values()
            if image.id in found
            for boxes, scores in [zip(*found[image.id], strict=True)]
        ]

    def check(self, keypoint_set: KeypointSet, model: str) -> None:
        """Raise InputError where the file cannot score a model that predicts a keypoint set.

        That is where it has other keypoints, lacks a value that only the metric needs, or counts nobody; or, with
        MissingPackageError, where the package of the metric is not installed.
        """
        require("faster_coco_eval", "train")
        self._check_names(keypoint_set, f"but {model} predicts '{keypoint_set.name}'")
        truth = self._truth(keypoint_set)
        if not self.persons:
            note(f"{self.path} annotates nobody, so there is no figure.")
        elif not any(person["num_keypoints"] and not person["iscrowd"] for person in truth["annotations"]):
            raise InputError(
                f"{self.path} counts nobody, so that it gives no figure: it needs persons with labelled keypoints "
                "(visibility above 0) who are no crowd."
            )
        if not is_crowdpose(truth, keypoint_set):
            without = sum(person.entry.get("area") is None and person.labelled > 0 for person in self.persons)
            if without:
                note(f"{self.path}: {without} annotations have no 'area'; {AREA_OF_BOX} of their box is taken.")
            wrong = sum(
                person.entry.get("num_keypoints") not in (None, person.labelled, str(person.labelled))
                for person in self.persons
            )
            if wrong:
                note(
                    f"{self.path}: 'num_keypoints' of {wrong} annotations is not the number of their labelled "
                    "keypoints; those were counted."
                )

    def _check_names(self, keypoint_set: KeypointSet, but: str) -> None:
        """Raise InputError unless the file has the same keypoints, in any order."""
        here, there = without_partner(keypoint_set, self.keypoint_set), without_partner(self.keypoint_set, keypoint_set)
        if here or there:
            raise InputError(
                f"{self.path} has the keypoints '{self.keypoint_set.name}', {but}: without a partner are "
                f"{', '.join([*here, *there])}; use a set and a model of the same keypoints."
            )

    def score(self, results: list[dict[str, Any]], keypoint_set: KeypointSet) -> dict[str, float]:
        """Return the figures of results, 0 to 1, by the metric that is official for the file; see `keypoint_metrics`.

        Args:
            results: COCO results form.
            keypoint_set: that of the results, whose keypoints are the file's own, in any order.
        """
        self._check_names(keypoint_set, f"but the results are of '{keypoint_set.name}'")
        return keypoint_metrics(self._truth(keypoint_set), results, keypoint_set, self.path)

    def _truth(self, keypoint_set: KeypointSet) -> dict[str, Any]:
        """Return a ground truth as `keypoint_metrics` takes it."""
        truth: dict[str, Any] = {
            "images": [image.entry | {"id": image.id} for image in self._images.values()],
            "categories": [{"id": self._category.id, "name": "person"}],
        }
        crowdpose = is_crowdpose(truth, keypoint_set)
        if crowdpose:
            for i, image in enumerate(truth["images"]):
                image["crowdIndex"] = number(image.get("crowdIndex"), f"{self.path}: 'crowdIndex' of image {i}")
        truth["annotations"] = [
            {
                "image_id": person.image.id,
                "category_id": self._category.id,
                "iscrowd": int(person.crowd),
                "keypoints": triples.ravel().tolist(),
                "num_keypoints": _counted(person) if crowdpose else person.labelled,
                "bbox": person.xywh.tolist(),
                "area": 0.0 if crowdpose else area_of(person),
            }
            for person, triples in zip(self.persons, self._triples(keypoint_set), strict=True)
        ]
        return truth


def _place(sample: Sample) -> tuple[str, str, bool]:
    return sample.image_path, str(sample.image_id), isinstance(sample.image_id, str)


def _counted(person: Person) -> int:
    """Return 'num_keypoints' as CrowdPose means it: 0 for labelled persons too who shall not count."""
    given = person.entry.get("num_keypoints")
    return person.labelled if given is None else int(number(given, f"{person.what}: 'num_keypoints'"))


def area_of(person: Person) -> float:
    """Return the area that the metric measures distances by: of a person without one, a part of the box."""
    counts, box = person.labelled and not person.crowd, float(person.xywh[2:].clip(min=0).prod())
    if person.entry.get("area") is None:
        return AREA_OF_BOX * box
    area = number(person.entry["area"], f"{person.what}: 'area'", largest=FARTHEST**2)
    if counts and area <= max(0, SMALLEST_AREA * box):
        raise InputError(
            f"{person.what}: 'area' is {shown(person.entry['area'])}, far too little for a box of "
            f"{person.xywh[2]:g} x {person.xywh[3]:g} pixels: no result could match; give the person's area in pixels, "
            "or about half that of the box."
        )
    return area
