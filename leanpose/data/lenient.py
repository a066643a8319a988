"""Annotated content read leniently, for whoever looks for all its faults: what cannot be used is left out and said.

`CocoSet` and `read_export` stop at the first such value, since what follows relies on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from leanpose.data.entries import locate
from leanpose.errors import InputError, suggest
from leanpose.geometry import Size, boxes_around
from leanpose.io.values import Known, number, numbers
from leanpose.keypoint_sets import KeypointSet, keypoint_set_from_coco

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Case:
    """One place of a fault.

    Attributes:
        text: words for it.
        image, person: their places in the lists, if it has them.
        beside: path of an image to be looked at beside it.
    """

    text: str
    image: int | None = None
    person: int | None = None
    beside: str = ""


@dataclass(frozen=True)
class Finding:
    """A fault of an annotated set.

    Attributes:
        kind: a short name, such as "boxes outside".
        level: "error": training or a figure would go wrong; "warning": worth a look.
        sentence: what is wrong and what to do.
        cases: where, the worst first.
    """

    kind: str
    level: Level
    sentence: str
    cases: tuple[Case, ...]


@dataclass(frozen=True, eq=False)
class LenientSet:
    """Images and persons of a COCO-style content, as far as they can be used. I images, N persons, K keypoints.

    Attributes:
        keypoint_set: None where no category names keypoints.
        names: of the images, `file_name`.
        image_ids: as the content has them.
        paths: where they lie.
        sizes: (height, width) in pixels; None where the content does not say both.
        person_ids: words that name each annotation, "annotation 17" of its id.
        image_of: (N,) int, the place of each person's image; -1 where it is of no image.
        boxes_xywh: (N, 4) float64 pixels; NaN where there is none.
        triples: (N, K, 3) float64 x, y and visibility 0, 1 or 2; zeros where they cannot be used.
        crowd: (N,) bool.
        gives_sigmas: whether the category has a list `sigmas`.
        findings: what was found while reading.
    """

    keypoint_set: KeypointSet | None
    names: list[str]
    image_ids: list[Any]
    paths: list[str]
    sizes: list[Size | None]
    person_ids: list[str]
    image_of: np.ndarray
    boxes_xywh: np.ndarray
    triples: np.ndarray
    crowd: np.ndarray
    gives_sigmas: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def labelled(self) -> np.ndarray:
        """(N, K) bool."""
        return self.triples[..., 2] > 0

    @property
    def keypoints(self) -> np.ndarray:
        """(N, K, 2) float64 pixels, NaN where unlabelled."""
        return np.where(self.labelled[..., None], self.triples[..., :2], np.nan)

    @property
    def boxes_xyxy(self) -> np.ndarray:
        """(N, 4) float64 pixels: the annotated box where it has area, else one around the keypoints, else NaN."""
        given = np.concatenate([self.boxes_xywh[:, :2], self.boxes_xywh[:, :2] + self.boxes_xywh[:, 2:]], axis=1)
        with_area = self.boxes_xywh[:, 2:].min(axis=1, keepdims=True) > 0
        return np.where(with_area, given, boxes_around(self.keypoints))

    def person_case(self, person: int, more: str = "") -> Case:
        """Return the case of a person, with words behind its name."""
        image = int(self.image_of[person])
        where = f" in {self.names[image]}" if image >= 0 else ""
        return Case(f"{self.person_ids[person]}{where}{more}", image if image >= 0 else None, person)


class _Collector:
    """Cases of faults by kind, while a content is read."""

    def __init__(self) -> None:
        self.cases: dict[tuple[str, Level, str], list[Case]] = {}

    def add(self, kind: str, level: Level, sentence: str, case: Case) -> None:
        self.cases.setdefault((kind, level, sentence), []).append(case)

    def findings(self) -> tuple[Finding, ...]:
        return tuple(Finding(*key, tuple(cases)) for key, cases in self.cases.items())


def read_leniently(content: Any, path: str, folder: Path, category: str | None = None) -> LenientSet:
    """Read a COCO-style content.

    Args:
        path: of its file, for messages.
        folder: of the images.
        category: name or id of the category that is meant, where several have keypoints.

    Raises:
        InputError: it has no lists of images and annotations, or several categories have keypoints and none is chosen.
    """
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise InputError(f"{path} is no COCO-style file: it needs the lists images, annotations and categories.")
    faults = _Collector()
    chosen, others = _categories(content.get("categories"), category, path)
    keypoint_set = _keypoint_set(chosen, path, faults)
    images = _dicts(content["images"], "image", faults)
    names = [_name(i, image, faults) for i, image in images]
    places = locate(folder, names)
    known, place_of = _known_images(images, names, faults)
    _repeated_names(names, faults)
    annotations = [
        (i, one)
        for i, one in _dicts(content["annotations"], "annotation", faults)
        if _is_of(one, i, chosen, others, faults)
    ]
    texts: list[str] = []
    image_of, boxes, triples, crowd = [], [], [], []
    k = len(keypoint_set or ())
    for i, one in annotations:
        image_id = known.find(one.get("image_id"))
        place = -1 if image_id is None else place_of[image_id]
        name = f"annotation {one.get('id', f'number {i}')}"
        case = Case(f"{name} in {names[place]}", place, len(texts)) if place >= 0 else Case(name, None, len(texts))
        if place < 0:
            faults.add("ids dangling", "error", "Annotations belong to images that are not in 'images'.", case)
        texts.append(name)
        image_of.append(place)
        boxes.append(_box(one, case, faults))
        triples.append(_triples(one, k, case, faults))
        crowd.append(one.get("iscrowd") in (1, True, "1"))
    _repeated_ids(annotations, texts, faults)
    return LenientSet(
        keypoint_set=keypoint_set,
        names=names,
        image_ids=[image.get("id") for _, image in images],
        paths=[places[name] for name in names],
        sizes=[_size(image) for _, image in images],
        person_ids=texts,
        image_of=np.array(image_of, dtype=int),
        boxes_xywh=np.array(boxes, dtype=float).reshape(-1, 4),
        triples=np.array(triples, dtype=float).reshape(len(texts), k, 3),
        crowd=np.array(crowd, dtype=bool),
        gives_sigmas=bool((chosen or {}).get("sigmas")),
        findings=faults.findings(),
    )


def _categories(categories: Any, wanted: str | None, path: str) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the category that is meant, None where none has keypoints, and all others."""
    listed = [one for one in categories if isinstance(one, dict)] if isinstance(categories, list) else []
    if wanted is not None:
        chosen = [one for one in listed if wanted in (str(one.get("name")), str(one.get("id")))]
        if len(chosen) != 1:
            names = [str(one.get("name")) for one in listed]
            raise InputError(f"{path} has no one category '{wanted}'.{suggest(wanted, names)}")
    else:
        chosen = [one for one in listed if one.get("keypoints")]
    if len(chosen) > 1:
        names = [str(one.get("name")) for one in chosen]
        raise InputError(f"{path} has several categories with keypoints: {', '.join(names)}; choose with --category.")
    return (chosen[0] if chosen else None), [one for one in listed if not chosen or one is not chosen[0]]


def _keypoint_set(chosen: dict[str, Any] | None, path: str, faults: _Collector) -> KeypointSet | None:
    if chosen is None or not chosen.get("keypoints"):
        faults.add("keypoints unnamed", "error", "No category names keypoints.", Case(path))
        return None
    try:
        return keypoint_set_from_coco([chosen], path)
    except InputError as error:
        faults.add("keypoints unnamed", "error", str(error), Case(path))
        return None


def _dicts(values: list[Any], what: str, faults: _Collector) -> list[tuple[int, dict[str, Any]]]:
    """Return the entries that are JSON objects, with their places."""
    for i, value in enumerate(values):
        if not isinstance(value, dict):
            faults.add("entries broken", "error", "Entries are no JSON objects.", Case(f"{what} {i}"))
    return [(i, value) for i, value in enumerate(values) if isinstance(value, dict)]


def _name(i: int, image: dict[str, Any], faults: _Collector) -> str:
    name = image.get("file_name")
    if isinstance(name, str) and name:
        return name
    faults.add("entries broken", "error", "Images have no 'file_name'.", Case(f"image {i}", i))
    return f"image {i}"


def _known_images(
    images: list[tuple[int, dict[str, Any]]], names: list[str], faults: _Collector
) -> tuple[Known, dict[Any, int]]:
    """Return the ids of the images, and the place of each; of images with the same id the first counts."""
    place_of: dict[Any, int] = {}
    for place, (_, image) in enumerate(images):
        one = image.get("id")
        if isinstance(one, bool) or not isinstance(one, (int, str)):
            sentence = "Images have no 'id' that is a whole number or a word."
            faults.add("entries broken", "error", sentence, Case(names[place], place))
        elif one in place_of:
            sentence = "Images have the same id; number those of joined files anew, with their annotations."
            faults.add(
                "ids clashing", "error", sentence, Case(f"id {one}: {names[place_of[one]]}, {names[place]}", place)
            )
        else:
            place_of[one] = place
    return Known(place_of), place_of


def _repeated_names(names: list[str], faults: _Collector) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            sentence = "Files stand several times in 'images', each with a part of the persons."
            faults.add("images listed twice", "warning", sentence, Case(f"{name}, {count} times", names.index(name)))


def _repeated_ids(annotations: Iterable[tuple[int, dict[str, Any]]], texts: list[str], faults: _Collector) -> None:
    first: dict[str, int] = {}
    for person, (_, one) in enumerate(annotations):
        if one.get("id") is None:
            continue
        before = first.setdefault(str(one["id"]), person)
        if before != person:
            sentence = "Annotations have the same id; leanpose does not mind, the official COCO tools do."
            faults.add("ids clashing", "warning", sentence, Case(f"{texts[before]}, {texts[person]}", None, person))


def _is_of(
    one: dict[str, Any], i: int, chosen: dict[str, Any] | None, others: list[dict[str, Any]], faults: _Collector
) -> bool:
    """Whether an annotation is of the category that is meant."""
    given = one.get("category_id")
    if chosen is None:
        return True
    if given is None:
        return not others
    if str(given) in {str(other.get("id")) for other in others}:
        return False
    if chosen.get("id") is not None and str(given) != str(chosen["id"]):
        text = f"annotation {one.get('id', f'number {i}')}: category_id {given}"
        faults.add("ids dangling", "error", "Annotations have a category_id that no category has.", Case(text))
        return False
    return True


def _box(one: dict[str, Any], case: Case, faults: _Collector) -> np.ndarray:
    if one.get("bbox") in (None, []):
        return np.full(4, np.nan)
    try:
        return numbers(one["bbox"], (4,), "")
    except InputError:
        faults.add("boxes broken", "error", "Boxes are not four numbers: x, y, width, height.", case)
        return np.full(4, np.nan)


def _triples(one: dict[str, Any], k: int, case: Case, faults: _Collector) -> np.ndarray:
    values = one.get("keypoints")
    if not values or not k:
        return np.zeros((k, 3))
    if isinstance(values, list) and len(values) != 3 * k:
        sentence = f"Keypoints are not {3 * k} numbers, x, y and visibility of the {k} that the category names."
        faults.add("keypoint counts", "error", sentence, Case(f"{case.text}: {len(values)}", case.image, case.person))
        return np.zeros((k, 3))
    try:
        triples = numbers(values, (3 * k,), "").reshape(k, 3)
    except InputError:
        faults.add("keypoints broken", "error", "Keypoints hold what is no number.", case)
        return np.zeros((k, 3))
    if not np.isin(triples[:, 2], (0, 1, 2)).all():
        faults.add("visibility unknown", "warning", "Visibility is not 0, 1 or 2; above 0 counts as labelled.", case)
    triples[:, 2] = np.where(triples[:, 2] > 0, np.where(triples[:, 2] == 1, 1, 2), 0)
    return triples


def _size(image: dict[str, Any]) -> Size | None:
    try:
        height, width = (round(number(image[side], side)) for side in ("height", "width"))
    except (InputError, KeyError):
        return None
    return (height, width) if height > 0 and width > 0 else None
