"""leanpose: efficient 2D human pose estimation.

    from leanpose import Predictor
    poses = Predictor("lpn50")("photo.jpg")

Names are imported when they are first used, so `import leanpose` is quick and never brings torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanpose.codecs import create_codec
    from leanpose.errors import InputError, LeanposeError, MissingPackageError, WeightsError
    from leanpose.inference.engines import load_engine
    from leanpose.inference.predictor import Predictor
    from leanpose.io.draw import draw_poses
    from leanpose.io.images import read_image, write_image
    from leanpose.keypoint_sets import COCO, CROWDPOSE, LSP, MPII, KeypointSet, get_keypoint_set
    from leanpose.models import create_model
    from leanpose.networks import list_models
    from leanpose.structures import Frame, Poses, Sample
    from leanpose.video.video import Video
    from leanpose.weights.record import Weights

    __version__: str

# ONNX Runtime otherwise writes files of its telemetry into ~/.cache when it is imported; "0" lets it.
os.environ["ORT_DISABLE_TELEMETRY"] = os.environ.get("ORT_DISABLE_TELEMETRY") or "1"

_HOME = {
    "COCO": "keypoint_sets",
    "CROWDPOSE": "keypoint_sets",
    "LSP": "keypoint_sets",
    "MPII": "keypoint_sets",
    "Frame": "structures",
    "InputError": "errors",
    "KeypointSet": "keypoint_sets",
    "LeanposeError": "errors",
    "MissingPackageError": "errors",
    "Poses": "structures",
    "Predictor": "inference.predictor",
    "Sample": "structures",
    "Video": "video.video",
    "Weights": "weights.record",
    "WeightsError": "errors",
    "create_codec": "codecs",
    "create_model": "models",
    "draw_poses": "io.draw",
    "get_keypoint_set": "keypoint_sets",
    "list_models": "networks",
    "load_engine": "inference.engines",
    "read_image": "io.images",
    "write_image": "io.images",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("leanpose")
    if name not in _HOME:
        raise AttributeError(f"module 'leanpose' has no attribute '{name}'")
    return getattr(importlib.import_module(f"leanpose.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
