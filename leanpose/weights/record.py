"""The Weights record: everything that prediction, evaluation and export must know about one file of weights.

The record travels inside the file (metadata of ONNX and of safetensors), so a file alone is a model.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from leanpose.errors import WeightsError
from leanpose.geometry import CONVENTIONS, Convention
from leanpose.keypoint_sets import COCO, KeypointSet
from leanpose.weights.calibration import Calibration

METADATA_KEY = "leanpose"
FORMAT = 3
Task = Literal["top_down", "bottom_up", "detection"]
Fit = Literal["short_side", "letterbox"]


@dataclass(frozen=True)
class Measurement:
    """One measured figure.

    Attributes:
        metric: for example "AP", "PCKh@0.5".
        value: 0 to 1; -1 where the data has no such person.
        data: name of the annotation file.
        boxes: where the persons' boxes came from: "annotated", "found", "none" for a network that was given whole
            images, or other words, such as "proposing for lpn50".
        flip_test: whether the mirrored input was averaged in.
        input_size: (height, width) of the network input in pixels; None: not noted.
    """

    metric: str
    value: float
    data: str
    boxes: str
    flip_test: bool
    input_size: tuple[int, int] | None = None

    def __str__(self) -> str:
        figure = f"{100 * self.value:.1f}" if self.value >= 0 else "-"
        seen = {"none": "whole images", "annotated": "annotated boxes", "found": "found boxes"}.get(
            self.boxes, self.boxes
        )
        return f"{self.metric} {figure} ({self.data}, {seen}, {'' if self.flip_test else 'no '}flip test)"


@dataclass(frozen=True)
class Weights:
    """What belongs to one file of weights besides the numbers.

    Attributes:
        name: for example "lpn50.coco_256x192".
        model: a name of leanpose.models, for example "lpn50".
        input_size: (height, width) of the network input in pixels.
        keypoint_set: names, edges and sigmas of the K keypoints.
        task: what is found: "top_down", the keypoints of one person per input; "bottom_up", all persons of an image;
            "detection", their boxes.
        mean, std: three numbers each, on pixel values 0..255, in the order of `channel_order`.
        channel_order: "rgb", or "bgr" for networks trained on OpenCV's order.
        padding: factor on the person box before cropping.
        convention: how boxes, inputs and heatmaps align, see leanpose.geometry.
        codec, codec_options: a name of leanpose.codecs and its parameters.
        box_codec, box_codec_options: of a bottom-up network, the codec of its outputs that propose boxes for a top-down
            network; None: the boxes are those around its poses.
        box_scales: sizes of the image at which boxes are looked for, as factors on the input size.
        fit: how whole images are laid in the input: "short_side", which becomes the input's short side, the long side
            as much as it needs; or "letterbox", as large as the input size allows, at its top left.
        border: pixel value, 0..255, of what a whole image leaves of a letterbox.
        flip_shift: in the flip test, move the mirrored heatmap by one pixel (classic convention only).
        calibration: what raw scores of keypoints are worth; None: not known, they stay raw.
        bias: image pixels that keypoints lie too far to the right and down; taken off by prediction in boxes.
        model_options: constructor arguments of the network that differ from the defaults.
        licence: of the weights.
        data: what they were trained on, in words.
        recipe: file or words that say how.
        metrics: measured figures.
        note: what a user must know; for example that the network is a reconstruction.
    """

    name: str
    model: str
    input_size: tuple[int, int]
    keypoint_set: KeypointSet = COCO
    task: Task = "top_down"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    padding: float = 1.25
    convention: Convention = "udp"
    codec: str = "udp"
    codec_options: Mapping[str, Any] = field(default_factory=dict)
    box_codec: str | None = None
    box_codec_options: Mapping[str, Any] = field(default_factory=dict)
    box_scales: tuple[float, ...] = (1.0,)
    fit: Fit = "short_side"
    border: int = 0
    flip_shift: bool = False
    bias: float = 0.0
    calibration: Calibration | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    data: str = ""
    recipe: str = ""
    metrics: tuple[Measurement, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.input_size) != 2 or min(self.input_size) < 1:
            raise WeightsError(f"input_size must be (height, width) in pixels, not {self.input_size}.")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise WeightsError("mean and std must hold three numbers each, std above 0.")
        if self.task not in get_args(Task):
            raise WeightsError(f"task must be one of {get_args(Task)}, not '{self.task}'.")
        if self.fit not in get_args(Fit):
            raise WeightsError(f"fit must be one of {get_args(Fit)}, not '{self.fit}'.")
        if not 0 <= self.border <= 255:
            raise WeightsError(f"border must be in 0..255, not {self.border}.")
        if self.channel_order not in ("rgb", "bgr"):
            raise WeightsError(f"channel_order must be 'rgb' or 'bgr', not '{self.channel_order}'.")
        if self.convention not in CONVENTIONS:
            raise WeightsError(f"convention must be one of {CONVENTIONS}, not '{self.convention}'.")
        if self.calibration is not None and len(self.calibration.chance) != len(self.keypoint_set):
            raise WeightsError("A calibration must have one line of chances per keypoint.")
        if self.padding <= 0:
            raise WeightsError(f"padding must be above 0, not {self.padding}.")

    def to_metadata(self) -> dict[str, str]:
        """Return the record as the one metadata entry that files carry."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["keypoint_set"] = self.keypoint_set.to_dict()
        values["metrics"] = [dataclasses.asdict(measurement) for measurement in self.metrics]
        values["calibration"] = self.calibration and dataclasses.asdict(self.calibration)
        return {METADATA_KEY: json.dumps({"format": FORMAT} | values, default=dict)}

    @staticmethod
    def from_metadata(metadata: Mapping[str, str] | None, where: str) -> Weights:
        """Read the record out of a file's metadata.

        Args:
            metadata: all entries of the file.
            where: name of the file, for messages.
        """
        if not metadata or METADATA_KEY not in metadata:
            raise WeightsError(
                f"{where} carries no leanpose record; make one with `leanpose convert` (published checkpoints) "
                "or `leanpose export`."
            )
        try:
            values = dict(json.loads(metadata[METADATA_KEY]))
            written_as = values.pop("format")
            newer = written_as not in (1, 2, FORMAT)  # 2 lacks the calibration
            if written_as == 1:
                values |= _newer_keys(values)
            if not newer:
                values["keypoint_set"] = KeypointSet.from_dict(values["keypoint_set"])
                for key in ("input_size", "mean", "std", "box_scales"):
                    values[key] = tuple(values[key])
                values["metrics"] = tuple(map(_measurement, values["metrics"]))
                if values.get("calibration"):
                    values["calibration"] = Calibration.of(values["calibration"])
                return Weights(**values)
        except (KeyError, TypeError, ValueError) as error:  # WeightsError and InputError are ValueErrors
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise WeightsError(f"The leanpose record of {where} is damaged ({reason}); write the file again.") from None
        raise WeightsError(f"{where} was written by a newer leanpose: pip install -U leanpose.")


def _measurement(entry: dict[str, Any]) -> Measurement:
    size = entry["input_size"]
    return Measurement(**entry | {"input_size": None if size is None else tuple(size)})


def _newer_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Return what a record of format 1 leaves to its codec, its network and the words of its metrics."""
    task = "bottom_up" if values.get("codec") == "associative_embedding" else "top_down"
    box_keys: dict[str, Any] = {"box_codec": None, "box_scales": (1.0,)}
    if values.get("model_options", {}).get("person_head"):
        box_keys = {"box_codec": "center_box", "box_scales": (1.0, 0.5)}
    metrics = []
    for words, value in values.get("metrics", {}).items():  # "AP (val.json, annotated boxes, flip test)"
        metric, _, rest = words.rstrip(")").partition(" (")
        data, seen, *test = f"{rest}, ".split(", ")
        boxes = "none" if seen == "whole images" else seen.removesuffix(" boxes")
        entry = Measurement(metric, value, data, boxes, "flip test" in test, tuple(values["input_size"]))
        metrics.append(dataclasses.asdict(entry))
    return {"task": task, "metrics": metrics, **box_keys}
