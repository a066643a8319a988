"""What an arch is worth: its network, cut out of a supernet and calibrated, on images kept for the search."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnx
import torch

from leanpose.data.annotations import open_annotations
from leanpose.data.coco import CocoSet
from leanpose.errors import InputError, WeightsError
from leanpose.evaluation.evaluate import predict_images
from leanpose.evaluation.finding import LEAST_SCORE, find_persons, recalls, whole_images
from leanpose.inference.detect import NetworkDetector
from leanpose.inference.engines import Engine, OnnxRuntimeEngine, TorchEngine
from leanpose.inference.predictor import Predictor
from leanpose.inference.preprocess import image_input
from leanpose.io.images import read_image
from leanpose.models.batch_norm import calibrate_batch_norm
from leanpose.models.checkpoints import load_network
from leanpose.models.litepose import LitePose
from leanpose.models.litepose_arch import LitePoseArch
from leanpose.models.litepose_supernet import LitePoseSupernet, cut
from leanpose.search.onnx_template import OnnxTemplate
from leanpose.structures import ImageBoxes
from leanpose.weights.record import Weights

Fitness = Literal["AP", "recall"]
BATCH_SIZE = 16  # images whose statistics are computed together


@dataclass(frozen=True)
class Task:
    """What a judge needs; it can be pickled.

    Attributes:
        supernet: .safetensors file.
        data, images: COCO-style file and the folder of its images.
        fitness: "AP", or the "recall" of the person head's boxes.
        calibration_images: that statistics of norms are computed from.
        search_images: that fitness is measured on; None: all others.
        seed: which images are which.
        device: of torch; "cpu" runs ONNX Runtime.
    """

    supernet: str
    data: str
    images: str
    fitness: Fitness = "AP"
    calibration_images: int = 64
    search_images: int | None = None
    seed: int = 0
    device: str = "cpu"


class Judge:
    """Measures archs of a supernet, each alone on one thread.

    Args:
        task: what to measure and on what.
        template: for ONNX Runtime.

    Raises:
        InputError: the device or the data cannot be used, or there are too few images.
        WeightsError: the file is no supernet, or has no person head where its recall is wanted.
    """

    def __init__(self, task: Task, template: OnnxTemplate | None = None) -> None:
        self.task = task
        self.supernet, self.record = load_supernet(task.supernet)
        if task.fitness == "recall" and not self.supernet.finds_persons:
            raise WeightsError(f"{task.supernet} has no person head, whose recall is wanted: leave --fitness out.")
        try:
            torch.zeros(1, device=task.device)
        except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
            raise InputError(f"torch cannot use the device '{task.device}' ({str(error).splitlines()[0]}).") from None
        self.calibration, self.annotated = split(task)
        self.annotated.check(self.record.keypoint_set, self.record.name)
        self.template = template or OnnxTemplate()

    def __call__(self, arch: LitePoseArch) -> float:
        """Return the fitness of an arch, 0 to 1."""
        torch.set_num_threads(1)  # sums in another order would make another fitness
        network, record = self.network(arch)
        if self.task.device != "cpu":
            return self.measure(TorchEngine(network, record))
        model = self.template.model_of(network)
        for key, value in record.to_metadata().items():
            model.metadata_props.add(key=key, value=value)
        with TemporaryDirectory() as folder:
            onnx.save(model, Path(folder) / "candidate.onnx")
            return self.measure(OnnxRuntimeEngine(Path(folder) / "candidate.onnx", threads=1))

    def network(self, arch: LitePoseArch) -> tuple[LitePose, Weights]:
        """Return the network of an arch with norms that are its own, in eval mode, and its record."""
        side = arch.input_size
        record = dataclasses.replace(
            self.record,
            name=f"litepose.{self.record.keypoint_set.name}_{side}x{side}",
            model="litepose",
            model_options=dict(self.record.model_options) | {"arch": arch.as_dict()},
            input_size=(side, side),
            metrics=(),
        )
        network = cut(self.supernet, arch).to(self.task.device).eval()
        calibrate_batch_norm(network, self._batches(record))
        return network, record

    def _batches(self, record: Weights) -> Iterator[torch.Tensor]:
        """Yield the center squares of the images for calibration, as network inputs of the record's size."""
        paths = [image.path for image in self.calibration]
        for i in range(0, len(paths), BATCH_SIZE):
            squares = [image_input(_square(read_image(path)), record)[0] for path in paths[i : i + BATCH_SIZE]]
            yield torch.from_numpy(np.concatenate(squares)).to(self.task.device)

    def measure(self, engine: Engine) -> float:
        """Return the fitness of a network, 0 to 1, on the images of the search."""
        if self.task.fitness == "recall":
            return self._recall(engine)
        predictor = Predictor(engine, detector=None, min_person_score=0.0)
        results = [person for found in predict_images(predictor, self.annotated.images(None)) for person in found]
        return self.annotated.score(results, self.record.keypoint_set)["AP"]

    def _recall(self, engine: Engine) -> float:
        detector = NetworkDetector(engine, score_threshold=LEAST_SCORE)
        images = self.annotated.images(None)
        return recalls([find_persons(detector, self.annotated, image) for image in images], false_boxes=1)["all"]


def load_supernet(path: str | Path) -> tuple[LitePoseSupernet, Weights]:
    """Return a supernet with its record, in eval mode.

    Raises:
        WeightsError: the file holds something else.
    """
    network, record = load_network(path)
    if not isinstance(network, LitePoseSupernet):
        raise WeightsError(f"{path} holds {record.model}, no supernet: train one, see docs/search.md.")
    return network, record


def split(task: Task) -> tuple[list[ImageBoxes], CocoSet]:
    """Return the images for calibration and the set for the search, which have none in common.

    Images come in an order that is drawn from the seed; the first are for calibration.

    Raises:
        InputError: the file is no COCO-style one, or has too few images.
    """
    annotated = whole_images(open_annotations(task.data, task.images))
    images = annotated.images(None)
    wanted = task.calibration_images + (task.search_images or 1)
    if len(images) < wanted:
        raise InputError(
            f"{task.data} has {len(images)} images, and the search needs {wanted}: give fewer --calibration-images or "
            "--search-images."
        )
    order = np.random.default_rng(task.seed).permutation(len(images))
    last = None if task.search_images is None else wanted
    calibration, search = ([images[i] for i in places] for places in np.split(order[:last], [task.calibration_images]))
    return calibration, annotated.part({image.image_id for image in search})


def _square(image: np.ndarray) -> np.ndarray:
    """Return the center square (S, S, 3) of an image."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]
