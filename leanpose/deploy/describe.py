"""The sidecar of an exported file, with what an app must do, in numbers and words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from leanpose.deploy.parity import ExportReport
from leanpose.deploy.targets import Request, Target
from leanpose.inference.top_down import KEYPOINT_THRESHOLD
from leanpose.weights.catalogue import INT8
from leanpose.weights.record import Weights
from leanpose.weights.sidecar import sidecar, sidecar_path

CROP = {
    "udp": "s = (h - 1) / (padding * max(bottom - top, (right - left) * h / w)); "
    "matrix = [[s, 0, (w - 1) / 2 - s * (left + right) / 2], [0, s, (h - 1) / 2 - s * (top + bottom) / 2]]",
    "classic": "s = h / (padding * max(bottom - top, (right - left) * h / w)); "
    "matrix = [[s, 0, w / 2 - s * (left + right) / 2], [0, s, h / 2 - s * (top + bottom) / 2]]",
}
LETTERBOX = "s = min(h / H, w / W); matrix = [[s, 0, 0], [0, s, 0]]"
SHORT_SIDE = (
    "s = h / min(H, W); the longer side of the input is the next multiple of 64; the image's center falls on the "
    "input's center"
)
HEATMAP_STEP = {
    "udp": "x_crop = x_map * (w - 1) / (map_w - 1), y_crop = y_map * (h - 1) / (map_h - 1)",
    "classic": "x_crop = x_map * w / map_w, y_crop = y_map * h / map_h",
}
READ = {
    "heatmap": "the highest pixel, moved a quarter pixel to the higher neighbour on each axis",
    "udp": "the highest pixel m; blurred by a Gaussian (mirrored border), L its logarithm: m - inverse(L'') L'",
    "dark": "the highest pixel m; blurred by a Gaussian (border of 0), L its logarithm: m - inverse(L'') L', with "
    "differences over two pixels; a peak within two pixels of the border stays",
    "beta_soft_argmax": "the mean position under softmax(beta * map), then a quarter pixel to the higher neighbour",
    "simcc": "the highest bin of each vector, divided by `split`; the score is the smaller of both values",
}


def app_recipe(
    request: Request, shapes: Mapping[str, tuple[int, ...]], scales: Mapping[str, tuple[float, int]]
) -> dict[str, Any]:
    """Return, JSON-ready, what comes before and after a network in an app.

    Args:
        request: what was exported.
        shapes: of the outputs for one input, by name.
        scales: of inputs and outputs in int8: number = scale * (byte - zero point).
    """
    weights = request.weights
    recipe: dict[str, Any] = {
        "input": {
            "name": request.input_name,
            "shape": [*request.example.shape],
            "type": str(request.example.dtype)[6:],
        },
        "outputs": {name: [*shape] for name, shape in shapes.items()},
        "keypoints": weights.keypoint_set.keypoints,
        "matrix": _matrix(weights),
        "sampling": "bilinear; where s is 1/2 or less, first average blocks of int(1 / s) pixels of each side",
        "border": weights.border,
    }
    if request.end_to_end:
        recipe["input"] |= {"layout": "NHWC", "pixels": "RGB, 0..255"}
        recipe["keypoints_are"] = "x and y in crop pixels; matrix, inverted, brings them into the image"
    else:
        pixels = {"rgb": "RGB", "bgr": "BGR"}[weights.channel_order]
        recipe["input"] |= {"layout": "NCHW", "pixels": f"{pixels}: (value 0..255 - mean) / std"}
        recipe["input"] |= {"mean": [*weights.mean], "std": [*weights.std]}
        recipe["decode"] = {"codec": weights.codec, **weights.codec_options, "words": READ.get(weights.codec, "")}
        if weights.codec in READ and weights.codec != "simcc":
            recipe["decode"]["to_crop"] = HEATMAP_STEP[weights.convention]
    if scales:
        recipe["int8"] = {name: {"scale": scale, "zero_point": zero} for name, (scale, zero) in scales.items()}
        recipe["int8"]["words"] = "number = scale * (byte - zero_point)"
    if weights.bias:
        recipe["bias"] = f"take {weights.bias:g} image pixels off x and y"
    recipe["present"] = (
        f"a keypoint counts as there from the score {0.4 if weights.calibration else KEYPOINT_THRESHOLD} on"
    )
    return recipe


def write_sidecar(request: Request, target: Target, file: Path, int8: bool, report: ExportReport) -> None:
    """Write the sidecar of a file, or of a folder."""
    weights = request.weights
    weights = dataclasses.replace(weights, name=f"{weights.name}{INT8}") if int8 else weights
    with torch.inference_mode():
        shapes = {name: tuple(values.shape) for name, values in request.network(request.example).items()}
    found = dataclasses.asdict(report) | {"file": file.name}
    scales = getattr(target.load(file, request.output_names), "scales", {}) if int8 and target.load else {}
    more = {"app": app_recipe(request, shapes, scales), "end_to_end": request.end_to_end, "report": found}
    sidecar_path(file).write_text(sidecar(weights, target.files(file), more), "utf-8")


def _matrix(weights: Weights) -> dict[str, Any]:
    """Say how image pixels become input pixels; pixel centers are whole numbers."""
    if weights.task == "top_down":
        return {
            "from": "the person's box left, top, right, bottom, in a crop of h x w",
            "padding": weights.padding,
            "convention": weights.convention,
            "words": CROP[weights.convention],
        }
    words = LETTERBOX if weights.fit == "letterbox" else SHORT_SIDE
    return {"from": "the whole image of H x W, in an input of h x w", "fit": weights.fit, "words": words}
