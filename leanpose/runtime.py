"""Run a network file: one call, several engines. Every engine maps normalised pictures to named heat maps.

`Engine.__call__((B, 3, h, w) float32) -> {"heatmaps": (B, K, h / s, w / s) float32, ...}`
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np

from leanpose.errors import InputError, WeightsError, require, suggest
from leanpose.weights import Weights, find_weights

if TYPE_CHECKING:
    import torch

Maps = TypeVar("Maps")  # arrays or tensors
EngineName = Literal["auto", "onnxruntime", "torch"]


class Engine(Protocol):
    """A loaded network with its record."""

    weights: Weights

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]: ...


def normalised(crops: np.ndarray, weights: Weights) -> np.ndarray:
    """Turn crops (N, h, w, 3) uint8 RGB into network inputs (N, 3, h, w) float32, as a record says."""
    if weights.channel_order == "bgr":
        crops = crops[..., ::-1]
    scale = 1 / np.array(weights.std, dtype=np.float32)
    images = crops.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    images *= scale[:, None, None]
    images -= (np.array(weights.mean, dtype=np.float32) * scale)[:, None, None]
    return images


def top_down_heatmaps(outputs: Mapping[str, Maps], model: str) -> Maps:
    """Return the heat maps (B, K, h / s, w / s) of one person a picture.

    Raises:
        WeightsError: the network has none, since it finds people bottom-up.
    """
    if "heatmaps" not in outputs:
        raise WeightsError(f"'{model}' finds people bottom-up: use the codec associative_embedding with it.")
    return outputs["heatmaps"]


class OnnxRuntimeEngine:
    """An ONNX file on ONNX Runtime.

    Args:
        path: file with a leanpose record in its metadata.
        threads: threads of the network; None lets ONNX Runtime choose.
        providers: ONNX Runtime execution providers, first choice first.
    """

    def __init__(
        self, path: Path, threads: int | None = None, providers: tuple[str, ...] = ("CPUExecutionProvider",)
    ) -> None:
        import onnxruntime

        missing = set(providers) - set(onnxruntime.get_available_providers())
        if missing:
            raise InputError(
                f"This ONNX Runtime has no {', '.join(sorted(missing))}."
                f" It has: {', '.join(onnxruntime.get_available_providers())}."
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:  # ONNX Runtime's own exception classes are not public
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{path.name} is not a usable ONNX file ({reason}).") from None
        self.weights = Weights.from_metadata(self._session.get_modelmeta().custom_metadata_map, path.name)
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]
        if not self._fits_record():
            raise WeightsError(f"{path.name} holds another network than its leanpose record says; export it again.")

    def _fits_record(self) -> bool:
        shapes = {value.name: value.shape for value in (*self._session.get_inputs(), *self._session.get_outputs())}
        heatmaps = shapes.get("heatmaps", shapes.get("heatmaps_4", []))
        found = [*shapes[self._input][1:], *heatmaps[1:2]]  # an axis of any length is a word
        wanted = [3, *self.weights.input_size, len(self.weights.keypoint_set)]
        return [n if isinstance(n, int) else m for n, m in zip(found, wanted, strict=False)] == wanted

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self._outputs, self._session.run(self._outputs, {self._input: images}), strict=True))


class TorchEngine:
    """A network in torch, as used during training and for .safetensors files.

    Args:
        network: module whose forward returns a dict of tensors; it is run where its parameters are.
        weights: its record.
    """

    def __init__(self, network: torch.nn.Module, weights: Weights) -> None:
        self.network = network
        self.weights = weights

    @staticmethod
    def from_file(path: Path, threads: int | None = None) -> TorchEngine:
        """Build the network that a .safetensors file names and load it."""
        torch = require("torch", "train")
        from leanpose.checkpoints import load_network

        if threads is not None:
            torch.set_num_threads(threads)
        return TorchEngine(*load_network(path))

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        import torch

        was_training = self.network.training
        self.network.eval()
        with torch.inference_mode():
            device = next(self.network.parameters()).device
            outputs = self.network(torch.from_numpy(images).to(device))
        self.network.train(was_training)
        return {name: tensor.float().cpu().numpy() for name, tensor in outputs.items()}


SUFFIX_OF = {"onnxruntime": ".onnx", "torch": ".safetensors"}  # the files that an engine runs


def load_engine(model: str | Path, engine: EngineName = "auto", threads: int | None = None, **options: Any) -> Engine:
    """Load a network by name or file.

    Args:
        model: see `leanpose.weights.find_weights`.
        engine: "auto" takes ONNX Runtime for .onnx and torch for .safetensors.
        threads: threads of the network; None lets the engine choose.
        options: further arguments of the engine, for example `providers` of ONNX Runtime.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}.")
    if engine not in ("auto", *SUFFIX_OF):
        raise InputError(f"There is no engine '{engine}'.{suggest(engine, SUFFIX_OF)}")
    path = find_weights(model, SUFFIX_OF.get(engine, ""))
    needed = "torch" if path.suffix == ".safetensors" else "onnxruntime"
    if engine not in ("auto", needed):
        raise InputError(
            f"The engine {engine} cannot run {path.suffix} files: use engine {needed}, or export the weights with "
            "`leanpose export`."
        )
    if needed == "torch":
        return TorchEngine.from_file(path, threads)
    return OnnxRuntimeEngine(path, threads, **options)
