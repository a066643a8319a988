"""Predictor: pictures in, Poses out. Boxes, given or found -> crops -> network -> codec -> picture pixels."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence, Sized
from concurrent.futures import Future
from dataclasses import replace
from functools import cache
from itertools import repeat
from operator import length_hint
from pathlib import Path
from typing import Any

import numpy as np

from leanpose import geometry
from leanpose.codecs import create_codec, fuse_flip
from leanpose.errors import InputError
from leanpose.find import PersonFinder
from leanpose.pictures import Source, read_picture
from leanpose.runtime import (
    Engine,
    EngineName,
    Finite,
    OnnxRuntimeEngine,
    available_cores,
    load_engine,
    normalised,
    top_down_heatmaps,
)
from leanpose.streams import in_order, pairs
from leanpose.structures import Poses
from leanpose.weights import Weights

DEFAULT_MODEL = "lpn50"
DEFAULT_FINDER = "litepose_xs"
FINDER_SCALES = (1.0, 0.5)  # the half size finds large persons better, at a quarter of the time
MIN_FOUND_SCORE = 0.35  # of persons in boxes that a finder proposed
MIN_GROUPED_SCORE = 0.2  # of persons that a network finds by itself
CHUNK = 8  # pictures whose persons share calls of the network
FARTHEST = 1e6  # pixels; no box reaches farther
KEYPOINT_THRESHOLD = 0.2  # keypoints below it do not count for a person's score
NMS_THRESHOLD = 0.9  # OKS above which two persons are the same

_Located = tuple[np.ndarray, np.ndarray | None]  # boxes and their scores


class Predictor:
    """Find the persons of pictures and their keypoints.

        poses = Predictor()("photo.jpg")

    A top-down network (lpn50) looks at one person a box; without boxes, a bottom-up network (litepose_xs) proposes
    the persons first. A bottom-up network alone does both at once.

    Args:
        model: name ("lpn50"), file (.onnx, .safetensors), or an already loaded engine.
        engine: "auto", "onnxruntime", "openvino" or "torch".
        flip_test: also run mirrored and average; twice the time, a little more accurate.
        threads: threads of the network; None lets the engine choose.
        batch_size: most crops in one call of the network.
        finder: the bottom-up network that proposes persons where no boxes are given: like model. None: the whole
            picture is one person.
        min_person_score: persons below it are left out where the picture's persons were searched for; 0 keeps all.
            None: 0.35, and 0.2 for a bottom-up network alone, whose scores are lower.
        scales: of a bottom-up network, see `leanpose.find.PersonFinder`.
        device: where the networks run: "cpu"; "cuda", "tensorrt", "coreml" or "directml" with a build of ONNX Runtime
            that has them; "gpu" or "npu" with OpenVINO; "cuda" or "mps" with torch.

    Attributes:
        engine: the loaded network.
        weights: the Weights record of the loaded file.
        bottom_up: whether the network finds all persons of a picture by itself.
    """

    def __init__(
        self,
        model: str | Path | Engine = DEFAULT_MODEL,
        engine: EngineName = "auto",
        flip_test: bool = False,
        threads: int | None = None,
        batch_size: int = 16,
        finder: str | Path | Engine | None = DEFAULT_FINDER,
        min_person_score: float | None = None,
        scales: Sequence[float] = (1.0,),
        device: str = "cpu",
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}.")

        def loaded(network: str | Path | Engine) -> Engine:
            return load_engine(network, engine, threads, device) if isinstance(network, (str, Path)) else network

        self._arguments = (model, engine, flip_test, threads, batch_size, finder, min_person_score, scales, device)
        self._with_one_thread = cache(
            lambda: Predictor(model, engine, flip_test, 1, batch_size, finder, min_person_score, scales)
        )
        self._by_file = all(network is None or isinstance(network, (str, Path)) for network in (model, finder))
        self._workers = (threads or available_cores()) if self._by_file and device == "cpu" else 1
        self.engine = loaded(model)
        self._run = Finite(self.engine)
        self.weights = self.engine.weights
        self.flip_test = flip_test
        self.batch_size = batch_size
        self.bottom_up = self.weights.codec == "associative_embedding"
        if min_person_score is None:
            min_person_score = MIN_GROUPED_SCORE if self.bottom_up else MIN_FOUND_SCORE
        self.min_person_score = min_person_score
        self._make_finder: Callable[[], PersonFinder] | None = None
        if self.bottom_up:
            people = PersonFinder(self._run, flip_test, scales)
            self._make_finder = lambda: people
        elif tuple(scales) != (1.0,):
            raise InputError(f"scales are for networks that find people themselves, not for {self.weights.model}.")
        else:
            self._codec = create_codec(self.weights.codec, **self.weights.codec_options)
            if finder is not None:
                self._make_finder = cache(
                    lambda: PersonFinder(Finite(loaded(finder)), scales=FINDER_SCALES)
                )  # loaded when it is first needed

    def load_finder(self) -> None:
        """Load the network that proposes persons now, which otherwise happens when it is first needed."""
        if self._make_finder is not None:
            self._make_finder()

    def __reduce__(self) -> tuple[type[Predictor], tuple[Any, ...]]:
        """Pickle the arguments; who unpickles loads the networks, so these must be names or files."""
        if not self._by_file:
            raise TypeError("A Predictor of loaded engines cannot be pickled; make it with names or files of networks.")
        return type(self), self._arguments

    def __call__(self, picture: Source, boxes: Any = None) -> Poses:
        """Return the poses of all persons in one picture.

        Args:
            picture: path, URL, PIL picture or (H, W, 3) uint8 RGB array.
            boxes: (N, 4) or (4,) person boxes xyxy in picture pixels; the result has one pose for each. None: the
                persons are searched for, and come best first.

        Raises:
            InputError: the picture cannot be read, a box has NaN, no area, or lies outside the picture, or boxes are
                given to a bottom-up network.
            WeightsError: the network gives NaN.
        """
        array = read_picture(picture)
        return self._estimate([array], [self._locate(array, boxes)])[0]

    def stream(
        self, pictures: Iterable[Source], boxes: Iterable[Any] | None = None, live: bool = False
    ) -> Generator[tuple[np.ndarray, Poses] | InputError]:
        """Work through many pictures, with the poses that a call for each gives; files are read ahead.

        ONNX Runtime on the CPU works on as many pictures at once as the network may use threads, which is faster than
        many threads on one picture. Otherwise the persons of several pictures share calls of the network: of CHUNK
        pictures of a list; of an iterator, which may be slow, of those that came while the network was busy.

        Args:
            pictures: each as of a call; an endless source will do: at most 2 * CHUNK pictures, or two a thread, are in
                memory. Arrays are copied when they are taken, so the source may fill the same one again.
            boxes: for each picture what a call takes, as many as there are pictures, or an endless iterator; None: the
                persons of all are searched for.
            live: give each result before the next picture is taken, for a camera: no result is older than one call
                takes. Slower where pictures wait.

        Yields:
            For each picture, in order, (H, W, 3) uint8 RGB and its poses, or the InputError that a call would raise.

        Raises:
            InputError: pictures or boxes are no iterables of them, or differ in number.
            Exception: the source's own; like the difference in number, after the results of all that was taken before.
        """
        work = pairs(pictures, boxes)
        alone = live or length_hint(pictures, 2) < 2
        if self._workers > 1 and not alone and isinstance(self.engine, OnnxRuntimeEngine):
            return in_order(self._with_one_thread()._chunk, work, self._workers, 1)
        # other engines take one call at a time
        return in_order(self._chunk, work, 1, 1 if live else CHUNK, live, fill=isinstance(pictures, Sized))

    def _chunk(self, reading: Sequence[tuple[Future[np.ndarray], Any]]) -> list[tuple[np.ndarray, Poses] | InputError]:
        """Return the results of `stream` for some pictures that are being read."""
        located: list[tuple[np.ndarray, _Located] | InputError] = []
        for future, boxes in reading:
            try:
                picture = future.result()
                located.append((picture, self._locate(picture, boxes)))
            except InputError as error:
                located.append(error)
        good = [entry for entry in located if not isinstance(entry, InputError)]
        poses = iter(self._estimate([picture for picture, _ in good], [persons for _, persons in good]))
        return [entry if isinstance(entry, InputError) else (entry[0], next(poses)) for entry in located]

    def _locate(self, picture: np.ndarray, boxes: Any) -> _Located:
        """Return the boxes (N, 4) to look into, and their scores (N,) where they were searched for; a bottom-up network
        needs none."""
        if self.bottom_up:
            if boxes is not None:
                raise InputError(f"{self.weights.model} finds people without boxes; leave them out, or use lpn50.")
            return np.zeros((0, 4), np.float32), None
        if boxes is None and self._make_finder is not None:
            return self._make_finder().boxes(picture)
        return check_boxes(boxes, picture.shape[:2]), None

    def _estimate(self, pictures: Sequence[np.ndarray], located: Sequence[_Located]) -> list[Poses]:
        """Return the poses of each picture, best first where the persons were searched for."""
        if self.bottom_up and self._make_finder is not None:
            people = self._make_finder()
            return [self._confident(people.poses(picture)) for picture in pictures]
        boxes_xyxy = np.concatenate([np.zeros((0, 4), np.float32), *(boxes for boxes, _ in located)])
        sources = [picture for picture, (boxes, _) in zip(pictures, located, strict=True) for _ in boxes]
        keypoints, scores = self._in_boxes(sources, boxes_xyxy)
        results, start = [], 0
        for boxes, box_scores in located:
            these = slice(start, start := start + len(boxes))
            person_scores = scores[these].mean(axis=1)
            poses = Poses(keypoints[these], scores[these], boxes, person_scores, self.weights.keypoint_set)
            results.append(
                poses if box_scores is None else self._confident(self.rescored(poses, confidences(box_scores)))
            )
        return results

    def _confident(self, poses: Poses) -> Poses:
        return poses[poses.person_scores >= self.min_person_score]

    def rescored(self, poses: Poses, box_scores: np.ndarray) -> Poses:
        """Judge persons by box and keypoints and leave out duplicates, best first.

        As the HRNet family evaluates: a person's score is its box score times the mean of its keypoint scores above
        0.2 (0 if there are none), and greedy OKS-NMS at 0.9 on the padded boxes' areas removes duplicates.

        Args:
            box_scores: (N,) confidence of each person's box.
        """
        confident = poses.scores > KEYPOINT_THRESHOLD
        means = (poses.scores * confident).sum(1) / np.maximum(confident.sum(1), 1)
        person_scores = (box_scores * means).astype(np.float32)
        height, width = self.weights.input_size
        _, sizes = geometry.padded_boxes(poses.boxes_xyxy, width / height, self.weights.padding)
        kept = geometry.oks_nms(
            poses.keypoints, person_scores, sizes.prod(axis=1), poses.keypoint_set.oks_sigmas, NMS_THRESHOLD
        )
        return replace(poses, person_scores=person_scores)[kept]

    def _in_boxes(self, pictures: Sequence[np.ndarray], boxes_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return keypoints (N, K, 2) in picture pixels and scores (N, K) of the persons in boxes (N, 4), each of its
        own picture."""
        w, k = self.weights, len(self.weights.keypoint_set)
        parts = [(np.zeros((0, k, 2), np.float32), np.zeros((0, k), np.float32))]
        for i in range(0, len(boxes_xyxy), self.batch_size):
            batch = slice(i, i + self.batch_size)
            images, matrices = network_images(pictures[batch], boxes_xyxy[batch], w)
            heatmaps = top_down_heatmaps(self._run(images), w.model)  # (N, K, h / s, w / s)
            if self.flip_test:
                mirrored = self._run(np.ascontiguousarray(images[..., ::-1]))["heatmaps"]
                heatmaps = fuse_flip(heatmaps, mirrored, w.keypoint_set.flip_index, w.flip_shift)
            parts.append(self.decode(heatmaps, matrices))
        keypoints, scores = (np.concatenate(values) for values in zip(*parts, strict=True))
        return keypoints, scores

    def decode(self, heatmaps: np.ndarray, matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn the heat maps of a top-down network into keypoints.

        Args:
            heatmaps: (N, K, h / s, w / s).
            matrices: (N, 2, 3) from picture to input pixels, as of `network_images`.

        Returns:
            (N, K, 2) float32 keypoints in picture pixels and (N, K) scores.
        """
        w = self.weights
        keypoints, scores = self._codec.decode(heatmaps)  # heat-map pixels
        heatmap_size = (heatmaps.shape[2], heatmaps.shape[3])
        keypoints = geometry.heatmap_to_input(keypoints, w.input_size, heatmap_size, w.convention)
        keypoints = geometry.transform(keypoints, geometry.invert(matrices)) - w.bias
        return keypoints.astype(np.float32), scores


def confidences(box_scores: np.ndarray) -> np.ndarray:
    """Return how much the finder's scores of boxes (N,) count for persons: their square roots.

    The keypoints tell persons from things better than the finder does.
    """
    return np.sqrt(box_scores.clip(min=0))


def network_images(
    pictures: np.ndarray | Sequence[np.ndarray], boxes_xyxy: np.ndarray, weights: Weights
) -> tuple[np.ndarray, np.ndarray]:
    """Cut persons out of pictures and normalise them as a record says.

    Args:
        pictures: (H, W, 3) uint8 RGB, or such a picture for each box.
        boxes_xyxy: (N, 4) pixels, N at least 1.

    Returns:
        (N, 3, h, w) float32 network inputs, and the (N, 2, 3) matrices from picture to input pixels.
    """
    matrices = geometry.crop_matrices(boxes_xyxy, weights.input_size, weights.padding, weights.convention)
    sources = repeat(pictures) if isinstance(pictures, np.ndarray) else pictures
    crops = [geometry.crop(*pair, weights.input_size) for pair in zip(sources, matrices, strict=False)]
    return normalised(np.stack(crops), weights), matrices


def check_boxes(boxes: Any, picture_size: tuple[int, int]) -> np.ndarray:
    """Return boxes as (N, 4) float32, or raise InputError for a box that no person can be in.

    Args:
        boxes: (N, 4) or (4,) xyxy in picture pixels; None stands for the whole picture.
        picture_size: (height, width) in pixels.
    """
    height, width = picture_size
    if boxes is None:
        return np.array([[0, 0, max(width - 1, 1), max(height - 1, 1)]], dtype=np.float32)
    try:
        array = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError("Boxes must be numbers: x1,y1,x2,y2 in pixels, one box a person.") from None
    if array.size == 0:
        return np.zeros((0, 4), dtype=np.float32)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"Boxes must have the shape (N, 4): x1, y1, x2, y2 in pixels; this is {array.shape}.")
    for i, (x1, y1, x2, y2) in enumerate(array):
        box = f"Box {i} ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
        if not (np.abs(array[i]) < FARTHEST).all():  # NaN compares false
            raise InputError(f"{box} has a coordinate that is not a number of pixels; give x1, y1, x2, y2.")
        if x2 <= x1 or y2 <= y1:
            raise InputError(f"{box} has no area; give x1, y1, x2, y2 with x1 < x2 and y1 < y2.")
        if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
            raise InputError(f"{box} lies outside the picture of {width} x {height} pixels.")
    return array.astype(np.float32)
