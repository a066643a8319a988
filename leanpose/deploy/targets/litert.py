"""LiteRT (TensorFlow Lite), for Android, iOS and boards: a .tflite file of one input size, in float32 or in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from leanpose.deploy.rewrites import for_litert
from leanpose.deploy.targets import Request, Runner, Target
from leanpose.errors import require
from leanpose.inference.device_engines import LiteRtNetwork
from leanpose.io.quiet import silent

# What weighs positions, as attention does, and norms of vectors: bytes cannot tell a weight of one in the number of
# positions from 0, and they cost little.
FLOAT_OPERATORS = (
    "SOFTMAX", "SUM", "MUL", "MEAN", "SQUARED_DIFFERENCE", "RSQRT", "SUB", "FULLY_CONNECTED", "BATCH_MATMUL",
)  # fmt: skip


def _convert(request: Request, path: Path) -> None:
    with silent():
        litert_torch = require("litert_torch", "litert")
        model = litert_torch.convert(request.network, sample_kwargs={request.input_name: request.example})
        model.export(str(path))


def _load(path: Path, names: Sequence[str]) -> Runner:
    return LiteRtNetwork(path, threads=1)


def _quantize(source: Path, small: Path, inputs: Sequence[np.ndarray]) -> None:
    """Turn weights, per channel, and activations into bytes, but for what FLOAT_OPERATORS names.

    Ranges reach from the lowest to the highest value of all inputs. The quantizer's own end at means of the inputs'
    extremes, and what lies above, the peaks of the clearest persons, becomes one height.
    """
    require("ai_edge_quantizer", "litert")
    from ai_edge_quantizer import algorithm_manager, calibrator, qtyping, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    with silent():
        worker = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
        for name in FLOAT_OPERATORS:
            operator = qtyping.TFLOperationName[name]
            worker.update_quantization_recipe(".*", operator, None, algorithm_manager.AlgorithmName.NO_QUANTIZE)
        name = LiteRtNetwork(source, threads=1).input_name
        recipes = recipe_manager.RecipeManager()
        recipes.load_quantization_recipe(worker.get_quantization_recipe())
        ranges = calibrator.Calibrator(str(source), num_threads=1, qsv_update_func=min_max_update)
        ranges.calibrate({"serving_default": [{name: images} for images in inputs]}, recipes)
        worker.quantize(ranges.get_model_qsvs()).export_model(str(small), overwrite=True)


PACKAGES = dict.fromkeys(("litert_torch", "ai_edge_litert", "ai_edge_quantizer"), "litert")
TARGET = Target(
    ".tflite", _convert, _load, PACKAGES, end_to_end=True, rewrite=for_litert, quantize=_quantize
)  # fmt: skip
