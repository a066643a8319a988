"""Run a network file: one call, several engines. Every engine maps normalised images to named heatmaps.

`Engine.__call__((B, 3, h, w) float32) -> {"heatmaps": (B, K, h / s, w / s) float32, ...}`
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from leanpose.errors import InputError, WeightsError, require, suggest
from leanpose.inference.device_engines import litert_engine, ncnn_engine
from leanpose.weights.catalogue import find_weights, read_record
from leanpose.weights.public import PUBLIC
from leanpose.weights.record import Weights

if TYPE_CHECKING:
    import torch

EngineName = Literal["auto", "onnxruntime", "openvino", "torch", "litert", "ncnn"]

# short name -> ONNX Runtime's name of an execution provider, and the package that brings it
PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "tensorrt": ("TensorrtExecutionProvider", "onnxruntime-gpu"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml"),
}
WITH_NUMBERS = ("cuda", "tensorrt", "directml")  # of which there may be several; "cuda:1" is the second


class Engine(Protocol):
    """A loaded network with its record.

    Attributes:
        weights: the record.
        concurrent: whether several threads may call it at once, and gain by it; an engine without this counts as false.
    """

    weights: Weights

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]: ...


class Finite:
    """An engine that raises WeightsError where what it gives is NaN or infinite."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.weights = engine, engine.weights

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self._engine(images)
        if not all(np.isfinite(maps).all() for maps in outputs.values()):
            raise WeightsError(
                f"The network {self.weights.name} gives NaN or infinite values; use other weights, engine or device."
            )
        return outputs


class OnnxRuntimeEngine:
    """An ONNX file on ONNX Runtime.

    Args:
        path: file with a leanpose record in its metadata, or of the public weights.
        threads: threads of the network; None lets ONNX Runtime choose.
        device: where it runs: names of PROVIDERS or ONNX Runtime's own of an execution provider, with commas between,
            first choice first; for example "tensorrt,cuda" or "cuda:1".
    """

    def __init__(self, path: Path, threads: int | None = None, device: str = "cpu") -> None:
        import onnxruntime

        options = session_options(threads)
        chosen = _providers(device, onnxruntime.get_available_providers())
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=chosen)
        except Exception as error:  # ONNX Runtime's own exception classes are not public
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{path.name} is not a usable ONNX file ({reason}).") from None
        first = chosen[0] if isinstance(chosen[0], str) else chosen[0][0]
        if first not in self._session.get_providers():
            raise InputError(
                f"ONNX Runtime's {first} does not start here: install the libraries it needs, or use device cpu."
            )
        self.path = path
        self.weights = read_record(path)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._input = inputs[0].name
        self._outputs = _output_names([output.name for output in outputs], self.weights)
        self.concurrent = device == "cpu"
        shapes = {name: output.shape for name, output in zip(self._outputs, outputs, strict=True)}
        _check_record(self.weights, inputs[0].shape, shapes, path)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self._outputs, self._session.run(None, {self._input: images}), strict=True))


def session_options(threads: int | None) -> Any:
    """Return ONNX Runtime's options for a network on so many threads; None lets ONNX Runtime choose."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that wait in a loop for their network's next call would keep the detector's threads from the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def _providers(device: str, available: list[str]) -> list[str | tuple[str, dict[str, int]]]:
    """Return ONNX Runtime's names of execution providers, those of a numbered device with its number, or raise
    InputError for one that is not installed."""
    chosen: list[str | tuple[str, dict[str, int]]] = []
    for word in map(str.strip, device.split(",")):
        name, colon, number = word.partition(":")
        if colon and (name.lower() not in WITH_NUMBERS or not number.isdecimal()):
            raise InputError(f"There is no device '{word}'; {', '.join(WITH_NUMBERS)} have numbers, such as cuda:0.")
        provider, package = PROVIDERS.get(name.lower(), (name, ""))
        if provider not in available:
            known = {short: full for short, (full, _) in PROVIDERS.items() if full in available}
            how = f" pip install {package}, or use another:" if package else ""
            raise InputError(
                f"This ONNX Runtime has no device '{name}':{how} it has {', '.join(known) or ', '.join(available)}."
            )
        chosen.append((provider, {"device_id": int(number)}) if colon else provider)
    return chosen


class OpenVinoEngine:
    """An ONNX file, or OpenVINO's own form, on OpenVINO.

    Args:
        path: .onnx file with a leanpose record in its metadata, or of the public weights; or .xml with .bin and a
            sidecar.
        threads: threads of the network; None lets OpenVINO choose.
        device: OpenVINO's name of a device: "cpu", "gpu", "npu" or "auto".
    """

    def __init__(self, path: Path, threads: int | None = None, device: str = "cpu") -> None:
        if path.suffix == ".xml":
            read_record(path)  # says what its sidecar lacks
        openvino = require("openvino", "openvino")
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        try:
            model = core.read_model(str(path))
            self._compiled = core.compile_model(model, device.upper(), settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise WeightsError(f"{path.name} cannot be used by OpenVINO on {device} ({reason}).") from None
        self.path = path
        self.weights = read_record(path)
        self._one_at_a_time = threading.Lock()
        self._outputs = _output_names([output.get_any_name() for output in self._compiled.outputs], self.weights)
        shapes = {
            name: _free_axes(output.partial_shape)
            for name, output in zip(self._outputs, self._compiled.outputs, strict=True)
        }
        _check_record(self.weights, _free_axes(self._compiled.inputs[0].partial_shape), shapes, path)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        with self._one_at_a_time:  # calls at once would overwrite one another's numbers
            found = self._compiled({0: images}, share_inputs=True)
        return {name: found[i] for i, name in enumerate(self._outputs)}


def _output_names(names: Sequence[str], weights: Weights) -> list[str]:
    """Return the names of a network's outputs; public files call a single output of heatmaps as they like."""
    return ["heatmaps"] if weights.name in PUBLIC and len(names) == 1 and weights.codec == "udp" else [*names]


def _free_axes(shape: Any) -> list[int | str]:
    """Return the lengths of a shape of OpenVINO, a word for those that are free."""
    return ["any" if axis.is_dynamic else axis.get_length() for axis in shape]


def _check_record(
    weights: Weights, input_shape: Sequence[int | str], output_shapes: Mapping[str, Sequence[int | str]], path: Path
) -> None:
    """Raise WeightsError where a network's input and heatmaps or vectors are not as its record says."""
    maps = next((shape for name, shape in output_shapes.items() if name.startswith(("heatmaps", "simcc"))), [])
    found = [*input_shape[1:], *maps[1:2]]  # an axis of any length is a word
    wanted = [3, *weights.input_size, len(weights.keypoint_set)]
    lacking = weights.task == "top_down" and not maps
    if lacking or any(isinstance(n, int) and n != m for n, m in zip(found, wanted, strict=False)):
        raise WeightsError(f"{path.name} holds another network than its leanpose record says; export it again.")


class TorchEngine:
    """A network in torch, as used during training and for .safetensors files.

    Args:
        network: module whose forward returns a dict of tensors; it is run where its parameters are.
        weights: its record.
        path: file that the network comes from, if any.
    """

    def __init__(self, network: torch.nn.Module, weights: Weights, path: Path | None = None) -> None:
        self.network = network
        self.weights = weights
        self.path = path

    @staticmethod
    def from_file(path: Path, threads: int | None = None, device: str = "cpu") -> TorchEngine:
        """Build the network that a .safetensors file names and load it onto a device of torch, such as "cuda:0"."""
        torch = require("torch", "train")
        from leanpose.models.checkpoints import load_network

        if threads is not None:
            torch.set_num_threads(threads)
        network, weights = load_network(path)
        try:
            network.to(device)
        except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
            raise InputError(f"torch cannot use the device '{device}' ({str(error).splitlines()[0]}).") from None
        return TorchEngine(network, weights, path)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        import torch

        was_training = self.network.training
        self.network.eval()
        with torch.inference_mode():
            device = next(self.network.parameters()).device
            outputs = self.network(torch.from_numpy(images).to(device))
        self.network.train(was_training)
        return {name: tensor.float().cpu().numpy() for name, tensor in outputs.items()}


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_engine(
    model: str | Path, engine: EngineName = "auto", threads: int | None = None, device: str | int = "cpu"
) -> Engine:
    """Load a network by name or file.

    Args:
        model: see `leanpose.weights.catalogue.find_weights`.
        engine: "auto" takes ONNX Runtime for .onnx, torch for .safetensors, and for exported files their own: OpenVINO
            for .xml, LiteRT for .tflite, ncnn for .param.
        threads: threads of the network; None lets the engine choose.
        device: "cpu"; what else there is depends on the engine, see its class. A number, such as 0, is a GPU: it means
            "cuda:0", and "gpu.0" with OpenVINO.

    Raises:
        InputError: no such engine or device, or the engine cannot run this kind of file.
        MissingPackageError: the engine is not installed.
        WeightsError: the file cannot be used.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}.")
    if engine not in ("auto", *ENGINES):
        raise InputError(f"There is no engine '{engine}'.{suggest(engine, ENGINES)}")
    device = str(device)
    if device.isdecimal():
        device = f"gpu.{device}" if engine == "openvino" else f"cuda:{device}"
    int8 = device == "cpu" or engine == "openvino"  # ONNX Runtime's other devices are slow with it
    if engine in DEVICE_ENGINES and not str(model).endswith(tuple(KINDS)):
        find_weights(model)  # whether there is such a name
        suffix = ENGINES[engine][0][0]
        raise InputError(
            f"The engine {engine} runs files: leanpose export {model} --to {engine} --out {model}"
            f"{'.ncnn' if engine == 'ncnn' else ''}{suffix} makes one."
        )
    path = find_weights(model, ENGINES[engine][0][0] if engine != "auto" else "", int8)
    name = engine if engine != "auto" else KINDS[path.suffix]
    suffixes, make = ENGINES[name]
    if path.suffix not in suffixes:
        others = [other for other, (kinds, _) in ENGINES.items() if path.suffix in kinds]
        raise InputError(
            f"The engine {name} cannot run {path.suffix} files: use engine {' or '.join(others)}, or export the "
            "weights with `leanpose export`."
        )
    return make(path, threads, device)


def engine_of(model: Any, engine: EngineName) -> EngineName:
    """Return the engine for a network beside the one that was asked for: "auto" for names and files that engines of
    devices cannot run, such as a detector's."""
    runs = isinstance(model, (str, os.PathLike)) and str(model).endswith(ENGINES[engine][0] if engine != "auto" else ())
    return "auto" if engine in DEVICE_ENGINES and not runs else engine


# name -> the kinds of file it runs, that of names first, and what loads one
ENGINES: dict[str, tuple[tuple[str, ...], Callable[[Path, int | None, str], Engine]]] = {
    "onnxruntime": ((".onnx",), OnnxRuntimeEngine),
    "openvino": ((".onnx", ".xml"), OpenVinoEngine),
    "torch": ((".safetensors",), TorchEngine.from_file),
    "litert": ((".tflite",), litert_engine),
    "ncnn": ((".param",), ncnn_engine),
}
DEVICE_ENGINES = ("litert", "ncnn")  # which have no weights of their own, only files that were exported
KINDS = {kind: name for name, (kinds, _) in reversed(ENGINES.items()) for kind in kinds}  # kind of file -> "auto"
