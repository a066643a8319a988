"""Codecs: how keypoints are written into the outputs of a network (torch) and read from them (NumPy).

A codec is a frozen dataclass whose fields are its parameters. `decode` takes the outputs by name and returns input
pixels; maps are drawn by `encode_maps` and read by `decode_maps`, in heatmap pixels, the center of the top-left pixel
being (0, 0) (AssociativeEmbedding says where it differs). SimCC reads vectors; Detections, DetectedPoses and Yolox read
lists of persons, of networks that are not trained here. Decoding never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from typing import Any

from leanpose.codecs.associative_embedding import AssociativeEmbedding
from leanpose.codecs.center_box import CenterBox
from leanpose.codecs.dark import Dark
from leanpose.codecs.detections import DetectedPoses, Detections
from leanpose.codecs.flip import fuse_flip
from leanpose.codecs.heatmap import Heatmap, HeatmapCodec
from leanpose.codecs.interface import BottomUpCodec, Codec, DetectionCodec, TopDownCodec
from leanpose.codecs.simcc import SimCC
from leanpose.codecs.soft_argmax import BetaSoftArgmax
from leanpose.codecs.udp import UDP
from leanpose.codecs.yolox import Yolox
from leanpose.errors import InputError, WeightsError, suggest
from leanpose.weights.record import Weights

__all__ = [
    "CODECS",
    "UDP",
    "AssociativeEmbedding",
    "BetaSoftArgmax",
    "BottomUpCodec",
    "CenterBox",
    "Codec",
    "Dark",
    "DetectedPoses",
    "DetectionCodec",
    "Detections",
    "Heatmap",
    "HeatmapCodec",
    "SimCC",
    "TopDownCodec",
    "Yolox",
    "check_outputs",
    "codec_of",
    "create_codec",
    "fuse_flip",
]

CODECS: dict[str, type[Codec]] = {
    "heatmap": Heatmap,
    "udp": UDP,
    "dark": Dark,
    "beta_soft_argmax": BetaSoftArgmax,
    "associative_embedding": AssociativeEmbedding,
    "center_box": CenterBox,
    "simcc": SimCC,
    "detections": Detections,
    "detected_poses": DetectedPoses,
    "yolox": Yolox,
}


def create_codec(name: str, **parameters: Any) -> Any:
    """Make a codec from its name in CODECS and its parameters; those not given keep their defaults.

    Raises:
        InputError: the name or a parameter is unknown, or a value is out of range.
    """
    if name not in CODECS:
        raise InputError(f"There is no codec '{name}'.{suggest(name, CODECS)}")
    codec = CODECS[name]
    known = list(signature(codec).parameters)
    for parameter in parameters:
        if parameter not in known:
            raise InputError(f"Codec '{name}' has no parameter '{parameter}'.{suggest(parameter, known)}")
    return codec(**parameters)


def check_outputs(codec: Codec, outputs: Iterable[str], model: str) -> None:
    """Raise WeightsError where a network does not give what a codec reads.

    Args:
        outputs: the names of what it gives.
        model: its name, for the message.
    """
    given = list(outputs)
    if not set(codec.output_names) <= set(given):
        name = next((name for name, kind in CODECS.items() if type(codec) is kind), type(codec).__name__)
        fitting = [other for other, kind in CODECS.items() if set(kind.output_names) <= set(given)]
        raise WeightsError(
            f"'{model}' gives {', '.join(given)}, but the codec {name} reads {', '.join(codec.output_names)}; its "
            f"codec can be {', '.join(fitting) or 'none of ours'}."
        )


def codec_of(weights: Weights) -> Any:
    """Return the codec of a record: with its options, pixel convention and flip shift.

    Raises:
        InputError: as `create_codec`.
        WeightsError: the codec is for another task than the record.
    """
    of_record = {"convention": weights.convention, "flip_shift": weights.flip_shift}
    known = signature(CODECS[weights.codec]).parameters if weights.codec in CODECS else {}
    taken = {name: value for name, value in of_record.items() if name in known}
    codec = create_codec(weights.codec, **taken | dict(weights.codec_options))
    if codec.task != weights.task:
        raise WeightsError(
            f"{weights.name} has the task {weights.task}, but its codec {weights.codec} is for {codec.task}."
        )
    return codec
