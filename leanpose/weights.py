"""The Weights record: everything that prediction, evaluation and export must know about one file of weights.

The record travels inside the file (metadata of ONNX and of safetensors), so a file alone is a model. Names are
resolved here: `lpn50` means the first of the bundled weights whose name begins with "lpn50.", else of the user's own,
else of those that lie in the repository and are too many for the package.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from leanpose.errors import WeightsError, suggest
from leanpose.geometry import CONVENTIONS, Convention
from leanpose.keypoint_sets import COCO, KeypointSet
from leanpose.metadata import read_metadata

METADATA_KEY = "leanpose"
FORMAT = 2
Task = Literal["top_down", "bottom_up", "detection"]
SUFFIXES = (".onnx", ".safetensors")
INT8 = "_int8"  # end of the names of int8 weights
BUNDLED_FOLDER = Path(__file__).parent / "bundled"

FURTHER_FOLDER = Path(__file__).parents[1] / "weights"  # of the repository; not in the package

# name -> SHA-256 of its files, to predict with; the first of a network is its default
BUNDLED: dict[str, dict[str, str]] = {
    "lpn50.coco_256x192_int8": {
        ".onnx": "c77bf223e29ad4fa8d5e35926c70a5a025d922ce2ef12efa2ee15aa008f10a24",
    },
    "lpn50.coco_256x192": {
        ".onnx": "e273cad6e1d4d1b7721e8ffce0dc9662fcb1df7681e61049a1e35af80ee8d3e3",
    },
    "lpn50.coco_192x144_int8": {
        ".onnx": "93968a4e88a15c6293320ae17b3763296488b120c93df2abf7280bc5951cfd99",
    },
    "lpn50.coco_128x96_int8": {
        ".onnx": "48947b823693f0e59007cdb682258415d0dcbab1ff2f3c1ab818f0a8abecd9f9",
    },
    "litepose_xs.coco_256x256": {
        ".onnx": "c14943d676f9b6988da0e490bb8f88e96e20bc980311af6ed65b94124e475d39",
    },
}
# likewise, of files outside the package: those to train on, and networks that few predict with
FURTHER: dict[str, dict[str, str]] = {
    "lpn50.coco_256x192": {
        ".safetensors": "621f94fd636d45b72fb349023fa5514593344138c9d8c06897109c1fca165906",
    },
    "lpn50.coco_192x144": {
        ".safetensors": "e0f1d4c70ab033a5578f26379bd964d9bdff21670bd65dfc8484eadaa1074cc7",
    },
    "lpn50.coco_128x96": {
        ".safetensors": "c8b348b8aab1a52e72097c7eed3dcae2e1c31800509deb2c0e0313f69e21b2f4",
    },
    "litepose_xs.coco_256x256": {
        ".safetensors": "328ac8bbd3320a75aec24faf8ab967eb248f8c9bb7f0204d5418fedb1c123f6a",
    },
    "sfm.coco_128x96": {
        ".safetensors": "53b35ef56bb8246e3be111be439f0ee4bd88a7a4547a7611dc9c01a35f789f5f",
    },
    "sfm.coco_128x96_int8": {
        ".onnx": "c99207831d49d03050e3f41b8924b368187afe264d9b17eade016f0136854d5d",
    },
    "hevitpose_t.coco_128x96": {
        ".onnx": "c9f682926950b4003cc4e944a97412c2699c299609e9313aaba1752763ed1ab9",
        ".safetensors": "b2bb1b5c1802aeb0bb2cc9f1e258a2b712c5e20b0b3fe6987f021019fa0d088d",
    },
}


@dataclass(frozen=True)
class Measurement:
    """One measured figure.

    Attributes:
        metric: for example "AP", "PCKh@0.5".
        value: 0 to 1; -1 where the data has no such person.
        data: name of the annotation file.
        boxes: where the persons' boxes came from: "annotated", "found", "none" for a network that was given whole
            pictures, or other words, such as "proposing for lpn50".
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
        seen = {"none": "whole pictures", "annotated": "annotated boxes", "found": "found boxes"}.get(
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
        task: what is found: "top_down", the keypoints of one person per input; "bottom_up", all persons of a picture;
            "detection", their boxes.
        mean, std: three numbers each, on pixel values 0..255, in the order of `channel_order`.
        channel_order: "rgb", or "bgr" for networks trained on OpenCV's order.
        padding: factor on the person box before cropping.
        convention: how boxes, inputs and heat maps align, see leanpose.geometry.
        codec, codec_options: a name of leanpose.codecs and its parameters.
        box_codec, box_codec_options: of a bottom-up network, the codec of its outputs that propose boxes for a top-down
            network; None: the boxes are those around its poses.
        box_scales: sizes of the picture at which boxes are looked for, as factors on the input size.
        flip_shift: in the flip test, move the mirrored heat map by one pixel (classic convention only).
        bias: picture pixels that keypoints lie too far to the right and down; taken off by prediction in boxes.
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
    flip_shift: bool = False
    bias: float = 0.0
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
        if self.channel_order not in ("rgb", "bgr"):
            raise WeightsError(f"channel_order must be 'rgb' or 'bgr', not '{self.channel_order}'.")
        if self.convention not in CONVENTIONS:
            raise WeightsError(f"convention must be one of {CONVENTIONS}, not '{self.convention}'.")
        if self.padding <= 0:
            raise WeightsError(f"padding must be above 0, not {self.padding}.")

    def to_metadata(self) -> dict[str, str]:
        """Return the record as the one metadata entry that files carry."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["keypoint_set"] = self.keypoint_set.to_dict()
        values["metrics"] = [dataclasses.asdict(measurement) for measurement in self.metrics]
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
            newer = written_as not in (1, FORMAT)
            if written_as == 1:
                values |= _newer_keys(values)
            if not newer:
                values["keypoint_set"] = KeypointSet.from_dict(values["keypoint_set"])
                for key in ("input_size", "mean", "std", "box_scales"):
                    values[key] = tuple(values[key])
                values["metrics"] = tuple(map(_measurement, values["metrics"]))
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
        boxes = "none" if seen == "whole pictures" else seen.removesuffix(" boxes")
        entry = Measurement(metric, value, data, boxes, "flip test" in test, tuple(values["input_size"]))
        metrics.append(dataclasses.asdict(entry))
    return {"task": task, "metrics": metrics, **box_keys}


def read_record(path: str | Path) -> Weights:
    """Read the record of a .onnx or .safetensors file without loading its network.

    Raises:
        WeightsError: there is no such file, or it has no usable record.
    """
    path = Path(path)
    return Weights.from_metadata(read_metadata(path), path.name)


def find_weights(model: str | Path, suffix: str = "", int8: bool = True) -> Path:
    """Return the file that a model name or path stands for.

    Args:
        model: a path to a .onnx or .safetensors file, or a name: that of weights ("lpn50.coco_128x96") or of a network
            ("lpn50", for the first of its weights). Names are those of bundled files, then those of the files in the
            folder that the environment variable LEANPOSE_WEIGHTS names, `~/.leanpose` without it, then those of the
            repository's folder weights.
        suffix: the kind of file that a name shall stand for; by default .onnx, else .safetensors.
        int8: whether the name of a network may stand for int8 weights.

    Raises:
        WeightsError: unknown name (the nearest is suggested), missing file, or a kind of file that is not loaded.
    """
    path = Path(model)
    if path.suffix in (".pth", ".pt", ".ckpt", ".pkl", ".bin", ".tar"):
        raise WeightsError(
            f"{path.name} is a pickle, which may hold code: turn it into safetensors with "
            f"`leanpose convert {path.name} --model NAME --out FILE.safetensors`."
        )
    if path.suffix in SUFFIXES:
        if not os.path.isfile(path):
            raise WeightsError(f"There is no file {path}; check the path.")
        return path
    folder = Path(os.environ.get("LEANPOSE_WEIGHTS") or os.path.expanduser("~/.leanpose"))
    own = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES) if folder.is_dir() else []
    known = [*_files(BUNDLED), *own, *_files(FURTHER)]
    for file in known:
        name, _, kind = file.rpartition(".")
        of_network = name.startswith(f"{model}.") and (int8 or not name.endswith(INT8))
        if (name == str(model) or of_network) and suffix in ("", f".{kind}"):
            if f".{kind}" in BUNDLED.get(name, {}):
                return _whole(BUNDLED_FOLDER / file, BUNDLED, "pip install --force-reinstall leanpose")
            if file in own:
                return folder / file
            return _whole(FURTHER_FOLDER / file, FURTHER, f"copy it from leanpose's repository, weights/, to {folder}")
    names = {file.rpartition(".")[0] for file in known}
    raise WeightsError(
        f"There are no weights '{model}'{f' as {suffix}' if suffix else ''}."
        f"{suggest(str(model), names | {name.split('.')[0] for name in names})} "
        f"Other files go by their path, or by name if they lie in {folder}."
    )


def _files(shipped: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the names of files, those to predict with first."""
    return [f"{name}{kind}" for kind in SUFFIXES for name, kinds in shipped.items() if kind in kinds]


def _whole(path: Path, shipped: Mapping[str, Mapping[str, str]], remedy: str) -> Path:
    """Return the path of a file that is there and as it was made; else raise WeightsError with the remedy."""
    if not path.is_file():
        raise WeightsError(f"{path.name} is missing here: {remedy}.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != shipped[path.stem][path.suffix]:
        raise WeightsError(f"{path.name} is damaged: {remedy}.")
    return path
