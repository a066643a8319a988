"""The manifest: what the page must know of the networks that run in a browser, all of it from their records.

The page's code (`page/engine/`) repeats no value of a record and no threshold; it takes them from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from leanpose import geometry
from leanpose.codecs import UDP, Codec, Dark, Yolox, codec_of, create_codec, dark, udp, yolox
from leanpose.errors import InputError, LeanposeError, WeightsError
from leanpose.inference.bottom_up import check_whole_images, short_sides
from leanpose.inference.detect import STEPS
from leanpose.inference.predictor import DETECTORS, MIN_DETECTED_SCORE, MIN_GROUPED_SCORE, MODELS
from leanpose.inference.top_down import FOUND_NMS_THRESHOLD, KEYPOINT_THRESHOLD
from leanpose.io.values import FARTHEST
from leanpose.structures import CALIBRATED_LEAST, LEAST
from leanpose.weights.catalogue import find_weights, on_this_machine, read_record
from leanpose.weights.record import Weights

PAGE = Path(__file__).parent / "page"
RUNTIME = PAGE / "vendor" / "onnxruntime-web" / "ort-wasm-simd-threaded.wasm"
# Codecs that page/engine/codecs reads. The parser of associative_embedding exists in Python only.
IN_BROWSER = frozenset(
    ("heatmap", "udp", "dark", "beta_soft_argmax", "simcc", "center_box", "detections", "detected_poses", "yolox")
)


def manifest(models: Sequence[str], detector: str | None) -> dict[str, Any]:
    """Return what the page must know of networks; JSON-ready.

    Args:
        models: names or .onnx files, the default first; "auto" as of Predictor.
        detector: the same of what proposes persons for top-down networks; None or "none": the whole image is one.

    Returns:
        `default` and `detector`, names; `models`, an entry of `described` for each that runs in a browser; `networks`:
        by name, also of the detector, its file and the values of its record; `left_out`: by name, a sentence on why
        it does not run in a browser; `rules`: thresholds; `runtime_bytes` of onnxruntime-web; `version` of leanpose.

    Raises:
        InputError: nothing can run in a browser.
        WeightsError: the detector cannot be used.
    """
    chosen, reasons = _chosen(models)
    if not chosen:
        raise InputError(" ".join(reasons.values()) or "Give at least one network.")
    proposing = _proposing(detector)
    if not RUNTIME.is_file():
        raise InputError("Nothing runs in a browser without onnxruntime-web: install leanpose again where npm is.")
    networks = {name: _network(name, path) for name, path in {**chosen, **proposing}.items()}
    return {
        "version": version("leanpose"),
        "default": next(iter(chosen)),
        "detector": next(iter(proposing), None),
        "models": [described(name, read_record(path)) for name, path in chosen.items()],
        "networks": networks,
        "left_out": reasons,
        "rules": _rules(),
        "runtime_bytes": RUNTIME.stat().st_size,
    }


def network_files(models: Sequence[str], detector: str | None) -> dict[str, Path]:
    """Return the files of the networks of `manifest`, by the names that they have beside it.

    Raises:
        InputError: two networks have one file name.
        WeightsError: the detector cannot be used.
    """
    files: dict[str, Path] = {}
    for name, path in {**_chosen(models)[0], **_proposing(detector)}.items():
        if files.setdefault(_file_name(name), path) != path:
            raise InputError(f"Two networks have the file name {_file_name(name)}; rename one of them.")
    return files


def described(name: str, weights: Weights) -> dict[str, Any]:
    """Return what a list of models says of one; JSON-ready.

    Args:
        name: what requests call it.
    """
    keypoint_set = weights.keypoint_set
    return {
        "name": name,
        "task": weights.task,
        "input_size": list(weights.input_size),
        "calibrated": weights.calibration is not None,
        "min_score": LEAST if weights.calibration is None else CALIBRATED_LEAST,
        "min_person_score": MIN_GROUPED_SCORE if weights.task == "bottom_up" else MIN_DETECTED_SCORE,
        "keypoint_set": keypoint_set.name,
        "keypoints": list(keypoint_set.keypoints),
        "edges": keypoint_set.edge_indices.tolist(),
    }


def _chosen(models: Sequence[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the files of the networks that run in a browser, by name; and why others do not."""
    chosen: dict[str, Path] = {}
    reasons: dict[str, str] = {}
    for model in models:
        name = _resolved(model, MODELS)
        try:
            path = find_weights(name, ".onnx")
            weights = read_record(path)
            if weights.task == "detection":
                raise WeightsError(f"{name} finds boxes, not keypoints: use it as the detector.")
            _check_codec(name, weights.codec)
            chosen[name] = path
        except LeanposeError as error:
            reasons[name] = str(error)
    return chosen, reasons


def _proposing(detector: str | None) -> dict[str, Path]:
    """Return the file of the detector by its name; nothing where there is none."""
    if detector is None or detector == "none":
        return {}
    name = _resolved(detector, DETECTORS)
    path = find_weights(name, ".onnx")
    weights = read_record(path)
    check_whole_images(weights)
    _check_codec(name, weights.box_codec or weights.codec)
    return {name: path}


def _resolved(model: str, known: Sequence[str]) -> str:
    return on_this_machine(known)[0] if model == "auto" else model


def _file_name(name: str) -> str:
    """Return what the file of a network, which may be a path itself, is called beside the manifest."""
    return Path(name).name if name.endswith(".onnx") else f"{name}.onnx"


def _check_codec(name: str, codec: str) -> None:
    if codec not in IN_BROWSER:
        raise WeightsError(f"{name} does not run in a browser, where the codec {codec} is not read; use lpn50.")


def _network(name: str, path: Path) -> dict[str, Any]:
    weights = read_record(path)
    whole_images = weights.task != "top_down"
    box_codec = _codec(weights.codec, codec_of(weights)) if weights.task == "detection" else None
    if weights.box_codec is not None:
        box_codec = _codec(weights.box_codec, create_codec(weights.box_codec, **weights.box_codec_options))
    return {
        "name": weights.name,
        "file": _file_name(name),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "task": weights.task,
        "input_size": list(weights.input_size),
        "short_sides": short_sides(weights, weights.box_scales) if whole_images else [],
        "mean": list(weights.mean),
        "std": list(weights.std),
        "channel_order": weights.channel_order,
        "padding": weights.padding,
        "convention": weights.convention,
        "fit": weights.fit,
        "border": weights.border,
        "bias": weights.bias,
        "codec": _codec(weights.codec, codec_of(weights)),
        "box_codec": box_codec,
        "calibration": weights.calibration and asdict(weights.calibration),
        "keypoint_set": weights.keypoint_set.name,
        "keypoints": list(weights.keypoint_set.keypoints),
        "oks_sigmas": weights.keypoint_set.oks_sigmas.tolist(),
    }


def _codec(name: str, codec: Any) -> dict[str, Any]:
    """Return a codec's name, what it reads, its parameters and the constants of its module."""
    return {"name": name, "output_names": list(codec.output_names)} | asdict(codec) | _constants(codec)


def _constants(codec: Codec) -> dict[str, Any]:
    if isinstance(codec, (Dark, UDP)):
        kernel = cv2.getGaussianKernel(codec.blur, 0).astype(np.float32)[:, 0]
        floor = dark.FLOOR if isinstance(codec, Dark) else udp.FLOOR
        return {"kernel": kernel.tolist(), "floor": floor, "max_step": dark.MAX_STEP}
    if isinstance(codec, Yolox):
        return {"candidates": yolox.CANDIDATES, "largest_log": yolox.LARGEST_LOG}
    return {}


def _rules() -> dict[str, float]:
    """Return the thresholds of prediction and the shape of inputs of whole images."""
    laid = signature(geometry.image_matrix).parameters
    return {
        "keypoint_threshold": KEYPOINT_THRESHOLD,
        "same_person_oks": FOUND_NMS_THRESHOLD,
        "fewest_shared_keypoints": geometry.FEWEST_SHARED,
        "box_margin": signature(geometry.boxes_around).parameters["margin"].default,
        "box_steps": STEPS,
        "multiple": laid["multiple"].default,
        "longest": laid["longest"].default,
        "farthest": FARTHEST,
    }
