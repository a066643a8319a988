"""Predictor: images in, Poses out. Boxes, given or detected -> crops -> network -> codec -> image pixels."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence, Sized
from functools import cache, cached_property, partial
from importlib.metadata import version
from itertools import repeat
from operator import length_hint
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from leanpose.errors import InputError, WeightsError
from leanpose.inference.bottom_up import BottomUp
from leanpose.inference.detect import Detector, NetworkDetector, detected
from leanpose.inference.engines import Engine, EngineName, Finite, available_cores, engine_of, load_engine
from leanpose.inference.preprocess import check_boxes
from leanpose.inference.streams import in_order, pairs, raised
from leanpose.inference.top_down import TopDown, confidences, rescored
from leanpose.io.images import Source, find_images, read_image
from leanpose.keypoint_sets import KeypointSet
from leanpose.structures import Poses
from leanpose.weights.catalogue import on_this_machine

# What "auto" stands for: the first that is on this machine. The last is bundled.
MODELS = (
    "rtmpose_x_384x288", "rtmpose_l_384x288", "rtmpose_l", "rtmpose_m_384x288", "rtmpose_l_26", "rtmpose_m",
    "rtmpose_m_26", "rtmpose_s", "rtmpose_s_26", "rtmpose_t", "rtmpose_t_26", "sfm",
)  # fmt: skip
DETECTORS = ("yolox_m", "yolox_s", "yolox_tiny", "rtmdet_nano", "yolox_nano", "sfm_persons")
MIN_DETECTED_SCORE = 0.35  # of persons in boxes that a detector proposed
MIN_GROUPED_SCORE = 0.2  # of persons that a network finds by itself
CHUNK = 8  # images whose persons share calls of the network

_Located = tuple[np.ndarray, np.ndarray | None]  # boxes and their scores


class FindsBoxesError(WeightsError):
    """A network finds boxes, where one that finds keypoints is needed."""


class Predictor:
    """Find the persons of images and their keypoints.

        poses = Predictor()("photo.jpg")

    A top-down network (rtmpose_m, sfm) looks at one person per box; without boxes, a detector proposes the persons
    first. A bottom-up network (rtmo_s, litepose_xs) alone does both at once.

    Several threads may share a Predictor. One of names or files can be pickled, for pools of processes; each process
    loads the networks again.

    Args:
        model: name ("sfm"), file (.onnx, .safetensors), or an already loaded engine. "auto": the strongest that is on
            this machine, the first of MODELS that was downloaded, or else sfm.
        engine: "auto", "onnxruntime", "openvino", "torch", "litert" or "ncnn".
        flip_test: also run mirrored and average; twice the time, a little more accurate.
        threads: threads of the network; None lets the engine choose.
        batch_size: most crops in one call of the network.
        detector: what proposes persons where no boxes are given: a network like model, bottom-up or of the task
            "detection", or a function from an image, (H, W, 3) uint8 RGB, to boxes_xyxy (N, 4) in pixels and scores
            (N,) in 0..1. "auto": the strongest that is on this machine, the first of DETECTORS. None or "none": the
            whole image is one person.
        min_person_score: persons below it are left out where a detector found them; 0 keeps all.
            None: 0.35, and 0.2 for a bottom-up network alone, whose scores are lower.
        keypoint_set: carry the keypoints to this set by name, such as COCO of a network with 26 keypoints; None: the
            network's own.
        scales: of a bottom-up network, see `leanpose.inference.bottom_up.BottomUp`.
        device: where the networks run: "cpu"; "cuda", "tensorrt", "coreml" or "directml" with a build of ONNX Runtime
            that has them; "gpu" or "npu" with OpenVINO; "cuda" or "mps" with torch. A number, such as 0, is a GPU:
            "cuda:0", and "gpu.0" with OpenVINO.
        finder: the former name of detector; goes with the next release.

    Attributes:
        engine: the loaded network.
        weights: the Weights record of the loaded file.
        keypoint_set: that of the poses.
        workers: how many images are worked on at once, each on one thread; 1: the persons of several images share calls
            of the network, which is faster with engines that threads may not share.
    """

    def __init__(
        self,
        model: str | Path | Engine = "auto",
        engine: EngineName = "auto",
        flip_test: bool = False,
        threads: int | None = None,
        batch_size: int = 16,
        detector: str | Path | Engine | Detector | None = "auto",
        min_person_score: float | None = None,
        keypoint_set: KeypointSet | None = None,
        scales: Sequence[float] = (1.0,),
        device: str | int = "cpu",
        finder: Any = "auto",
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}.")
        if finder != "auto":
            warnings.warn("finder is now called detector.", DeprecationWarning, stacklevel=2)
            detector = finder
        if detector == "none":
            detector = None
        public = engine != "torch"  # which cannot run their files
        if model == "auto":
            model = on_this_machine(MODELS if public else MODELS[-1:])[0]
        if detector == "auto":
            detector = on_this_machine(DETECTORS if public else DETECTORS[-1:])[0]
        self._settings: dict[str, Any] = {
            "model": model,
            "engine": engine,
            "flip_test": flip_test,
            "threads": threads,
            "batch_size": batch_size,
            "detector": detector,
            "min_person_score": min_person_score,
            "keypoint_set": keypoint_set,
            "scales": scales,
            "device": device,
        }
        self.engine = self._loaded(model, engine)
        self.weights = self.engine.weights
        self.keypoint_set = keypoint_set or self.weights.keypoint_set
        running = Finite(self.engine)
        if self.weights.task == "detection":
            raise FindsBoxesError(f"{self.weights.name} finds boxes, not keypoints: use it as the detector.")
        self._people: TopDown | BottomUp
        if self.weights.task == "bottom_up":
            self._people, detector = BottomUp(running, flip_test, scales), None
        else:
            self._people = TopDown(running, flip_test, batch_size)
            if tuple(scales) != (1.0,):
                raise InputError(f"scales are for networks that find persons themselves, not for {self.weights.model}.")
        self._detector = None if detector is None else cache(partial(self._as_detector, detector))  # when first needed
        self.min_person_score = MIN_GROUPED_SCORE if self.bottom_up else MIN_DETECTED_SCORE
        self.min_person_score = self._least(min_person_score)
        at_once = getattr(self.engine, "concurrent", False) and self._from_files()
        self.workers = (threads or available_cores()) if at_once else 1

    def _loaded(self, network: str | Path | Engine, engine: EngineName) -> Engine:
        s = self._settings
        if isinstance(network, (str, Path)):
            return load_engine(network, engine, s["threads"], s["device"])
        return network

    def _as_detector(self, detector: str | Path | Engine | Detector) -> Detector:
        engine = engine_of(detector, self._settings["engine"])
        if isinstance(detector, (str, Path)) or (hasattr(detector, "weights") and not hasattr(detector, "short_sides")):
            return NetworkDetector(Finite(self._loaded(detector, engine)))  # type: ignore[arg-type]
        return detector  # type: ignore[return-value]

    def _from_files(self) -> bool:
        """Whether the same networks can be loaded once more."""
        return all(isinstance(self._settings[name], (str, Path, type(None))) for name in ("model", "detector"))

    @property
    def detector(self) -> Detector | None:
        """What proposes persons, loaded when it is first asked for; None: nothing does."""
        return None if self._detector is None else self._detector()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Pickle the arguments; who unpickles loads the networks, so these must be names or files."""
        if not self._from_files():
            raise TypeError("A Predictor of loaded engines cannot be pickled; make it with names or files of networks.")
        return partial(type(self), **self._settings), ()

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What a file of results says of how they were made; JSON-ready. `sha256` is that of the model's file, None for
        an engine that has none."""
        path = getattr(self.engine, "path", None)
        detector = self.detector
        return {
            "version": version("leanpose"),
            "model": self.weights.name,
            "sha256": path and hashlib.sha256(path.read_bytes()).hexdigest(),
            "detector": detector and getattr(getattr(detector, "weights", None), "name", type(detector).__name__),
            "flip_test": self._settings["flip_test"],
            "min_person_score": self.min_person_score,
            "calibrated": self.weights.calibration is not None,
        }

    def carry_to(self, keypoint_set: KeypointSet) -> None:
        """Carry the keypoints to another set by name from now on, as the argument keypoint_set does."""
        self._settings["keypoint_set"] = self.keypoint_set = keypoint_set

    @cached_property
    def of_a_worker(self) -> Predictor:
        """The Predictor that each of `workers` threads calls."""
        return Predictor(**self._settings | {"threads": 1}) if self.workers > 1 else self

    @property
    def bottom_up(self) -> bool:
        """Whether the network finds all persons of an image by itself."""
        return self.weights.task == "bottom_up"

    @property
    def searches(self) -> bool:
        """Whether persons are found where no boxes are given; else the whole image is one person."""
        return self.bottom_up or self._detector is not None

    def __call__(self, image: Source, boxes: Any = None, min_person_score: float | None = None) -> Poses:
        """Return the poses of all persons in one image.

        Args:
            image: path, URL, bytes of an image file or a file opened for reading bytes, PIL image, or (H, W, 3) uint8
                array in RGB order; an array of OpenCV's, which is BGR, goes as `array[..., ::-1]`.
            boxes: (N, 4) or (4,) person boxes xyxy in image pixels; the result has one pose for each. "image": the
                whole image is one person. None: persons are found, and come best first.
            min_person_score: in place of the Predictor's.

        Raises:
            InputError: the image cannot be read, or is many images, a box has NaN, no area, or lies outside the image,
                or boxes are given to a bottom-up network.
            WeightsError: the network gives NaN.
        """
        if _is_many(image):
            raise InputError("A call takes one image; for many: for image, poses in predictor.stream(images).")
        array = read_image(image)
        least = self._least(min_person_score)
        return self._estimate([array], [self._locate(array, boxes, least)], least)[0]

    @overload
    def stream(
        self,
        images: str | os.PathLike[str] | Iterable[Source],
        boxes: Iterable[Any] | None = None,
        live: bool = False,
        min_person_score: float | None = None,
        on_error: Literal["raise"] = "raise",
    ) -> Generator[tuple[np.ndarray, Poses]]: ...

    @overload
    def stream(
        self,
        images: str | os.PathLike[str] | Iterable[Source],
        boxes: Iterable[Any] | None = None,
        live: bool = False,
        min_person_score: float | None = None,
        *,
        on_error: Literal["yield"],
    ) -> Generator[tuple[np.ndarray, Poses] | InputError]: ...

    def stream(
        self,
        images: str | os.PathLike[str] | Iterable[Source],
        boxes: Iterable[Any] | None = None,
        live: bool = False,
        min_person_score: float | None = None,
        on_error: Literal["raise", "yield"] = "raise",
    ) -> Generator[Any]:
        """Work through many images, with the poses that a call for each gives; files are read ahead.

        An engine that several threads may call (ONNX Runtime on the CPU) works on as many images at once as the
        network may use threads, which is faster than many threads on one image. Otherwise the persons of several
        images share calls of the network: of CHUNK images of a list; of an iterator, which may be slow, of those
        that came while the network was busy.

        Args:
            images: each as of a call, arrays in RGB order; or the name of a folder, a glob such as "trip/*.jpg" or a
                file. An endless source will do: at most 2 * CHUNK images, or two a thread, are in memory. Arrays are
                copied when they are taken, so the source may fill the same one again.
            boxes: for each image what a call takes, as many as there are images, or an endless iterator; "image": each
                image is one person; None: the persons of all are found.
            live: give each result before the next image is taken, for a camera: no result is older than one call
                takes. Slower where images wait.
            min_person_score: in place of the Predictor's.
            on_error: "raise" ends the stream at an image that cannot be used; "yield" gives its InputError in place of
                a result and goes on.

        Yields:
            For each image, in order, (H, W, 3) uint8 RGB and its poses; or, as `on_error` says, the InputError that a
            call would raise.

        Raises:
            InputError: an image cannot be used, or images or boxes are no iterables of them, or differ in number.
            Exception: the source's own; like the difference in number, after the results of all that was taken before.
        """
        if on_error not in ("raise", "yield"):
            raise InputError(f"on_error must be 'raise' or 'yield', not '{on_error}'.")
        if isinstance(images, (str, os.PathLike)):
            images = find_images([str(os.fspath(images))])
        least = self._least(min_person_score)
        work = pairs(images, repeat(boxes) if isinstance(boxes, str) and boxes == "image" else boxes)
        alone = live or length_hint(images, 2) < 2
        if self.workers > 1 and not alone:
            batch = partial(self.of_a_worker.batch, min_person_score=least)
            found = in_order(batch, work, self.workers, 1)
        else:
            batch = partial(self.batch, min_person_score=least)
            found = in_order(batch, work, 1, 1 if live else CHUNK, live, fill=isinstance(images, Sized))
        return found if on_error == "yield" else raised(found)

    def batch(
        self, work: Sequence[tuple[Callable[[], np.ndarray], Any]], min_person_score: float | None = None
    ) -> list[tuple[np.ndarray, Poses] | InputError]:
        """Return what a call finds in each of a few images, whose persons share calls of the network.

        Args:
            work: for each image a function that returns it, (H, W, 3) uint8 RGB, and boxes as of a call.
            min_person_score: in place of the Predictor's.

        Returns:
            For each image, it and its poses; or the InputError that reading it or a call raises.
        """
        least = self._least(min_person_score)
        located: list[tuple[np.ndarray, _Located] | InputError] = []
        for read, boxes in work:
            try:
                image = read()
                located.append((image, self._locate(image, boxes, least)))
            except InputError as error:
                located.append(error)
        good = [entry for entry in located if not isinstance(entry, InputError)]
        poses = iter(self._estimate([image for image, _ in good], [persons for _, persons in good], least))
        return [entry if isinstance(entry, InputError) else (entry[0], next(poses)) for entry in located]

    def _locate(self, image: np.ndarray, boxes: Any, least: float) -> _Located:
        """Return the boxes (N, 4) to look into, and their scores (N,) where a detector found them: those that can make
        a person of a score. A bottom-up network needs none."""
        if self.bottom_up:
            if boxes is not None:
                raise InputError(f"{self.weights.model} finds persons without boxes; leave them out, or use lpn50.")
            return np.zeros((0, 4), np.float32), None
        if isinstance(boxes, str):
            if boxes != "image":
                raise InputError(f"Boxes must be numbers, (N, 4) in pixels, or 'image', not '{boxes}'.")
            return check_boxes(None, image.shape[:2]), None
        if boxes is None and (detector := self.detector):
            proposed, scores = detected(detector, image)
            promising = confidences(scores) >= least
            return proposed[promising], scores[promising]
        return check_boxes(boxes, image.shape[:2]), None

    def _least(self, score: float | None) -> float:
        """Return the score below which persons are left out: the Predictor's where none is given."""
        if score is not None and not 0 <= score <= 1:
            raise InputError(f"min_person_score must be 0 to 1, not {score}.")
        return self.min_person_score if score is None else score

    def _estimate(self, images: Sequence[np.ndarray], located: Sequence[_Located], least: float) -> list[Poses]:
        """Return the poses of each image; where a detector found them, those of a score, best first."""
        people = self._people
        if isinstance(people, BottomUp):
            return [_confident(people.poses(image).to(self.keypoint_set), least) for image in images]
        found = [poses.to(self.keypoint_set) for poses in people.poses(images, [boxes for boxes, _ in located])]
        return [
            poses if scores is None else _confident(self.rescored(poses, confidences(scores), found=True), least)
            for poses, (_, scores) in zip(found, located, strict=True)
        ]

    def rescored(self, poses: Poses, box_scores: np.ndarray, found: bool = False) -> Poses:
        """Judge persons in boxes by box and keypoints and leave out duplicates; see `top_down.rescored`."""
        return rescored(poses, box_scores, self.weights, found)


def _confident(poses: Poses, least: float) -> Poses:
    return poses[poses.person_scores >= least]


def _is_many(image: Any) -> bool:
    """Whether a call is given what a stream takes: a list, a folder or a glob."""
    if isinstance(image, (str, os.PathLike)):
        name = str(os.fspath(image))
        return os.path.isdir(name) or ("*" in name and "://" not in name)
    return isinstance(image, (list, tuple))
