"""Engines of phones and small boards: LiteRT and ncnn, for files that `leanpose export` wrote, with their sidecars.

Their networks take one image a call, so a batch is a loop.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from leanpose.errors import InputError, WeightsError, require
from leanpose.io.quiet import silent
from leanpose.weights.record import Weights
from leanpose.weights.sidecar import read_sidecar


class _Network(Protocol):
    """A loaded network of one input a call: (1, 3, h, w) float32 -> named outputs, of one input too."""

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]: ...


class DeviceEngine:
    """A network of LiteRT or ncnn.

    Args:
        path: the file, with what belongs to it beside it.
        weights: the record of its sidecar.
        network: what runs it.
    """

    def __init__(self, path: Path, weights: Weights, network: _Network) -> None:
        self.path, self.weights = path, weights
        self._network = network
        self._one_at_a_time = threading.Lock()

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        with self._one_at_a_time:
            found = [self._network(np.ascontiguousarray(images[i : i + 1])) for i in range(len(images))]
        return {name: np.concatenate([outputs[name] for outputs in found]) for name in found[0]}


def litert_engine(path: Path, threads: int | None = None, device: str = "cpu") -> DeviceEngine:
    """Load a .tflite file with its sidecar; threads None: one."""
    _check_device("litert", device)
    return DeviceEngine(path, read_sidecar(path), LiteRtNetwork(path, threads or 1))


def ncnn_engine(path: Path, threads: int | None = None, device: str = "cpu") -> DeviceEngine:
    """Load x.ncnn.param with x.ncnn.bin and its sidecar; threads None: one."""
    _check_device("ncnn", device)
    return DeviceEngine(path, read_sidecar(path), NcnnNetwork(path, threads or 1))


def _check_device(engine: str, device: str) -> None:
    if device != "cpu":
        raise InputError(f"The engine {engine} runs on the cpu here, not on '{device}': leave the device out.")


class LiteRtNetwork:
    """A .tflite file on LiteRT (TensorFlow Lite) with its XNNPACK kernels; bytes at its ends become numbers here.

    Attributes:
        input_name: of the network's one input.
        scales: of each input and output in bytes, (scale, zero point): number = scale * (byte - zero point).
    """

    def __init__(self, path: Path, threads: int) -> None:
        require("ai_edge_litert", "litert")
        from ai_edge_litert.interpreter import Interpreter

        try:
            with silent():  # it says on standard error that XNNPACK is used
                self._interpreter = Interpreter(str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise WeightsError(f"{path.name} cannot be used by LiteRT ({str(error).splitlines()[0]}).") from None
        self._run = self._interpreter.get_signature_runner()
        given, found = self._run.get_input_details(), self._run.get_output_details()
        (self.input_name,) = given
        self.scales = {
            name: entry["quantization"] for name, entry in {**given, **found}.items() if entry["dtype"] == np.int8
        }

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        if self.input_name in self.scales:
            scale, zero = self.scales[self.input_name]
            images = np.rint(images / scale + zero).clip(-128, 127).astype(np.int8)
        return {name: self._number(name, values) for name, values in self._run(**{self.input_name: images}).items()}

    def _number(self, name: str, values: np.ndarray) -> np.ndarray:
        if name not in self.scales:
            return values
        scale, zero = self.scales[name]
        return ((values.astype(np.float32) - zero) * scale).astype(np.float32)


class NcnnNetwork:
    """A network of ncnn on the processor, in float32."""

    def __init__(self, path: Path, threads: int) -> None:
        self._ncnn: Any = require("ncnn", "ncnn")
        self._path, self._net = path, self._ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        options.use_vulkan_compute = False
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        if self._net.load_param(str(path)) or self._net.load_model(str(path.with_suffix(".bin"))):
            raise WeightsError(f"{path.name} cannot be used by ncnn; export it again.")

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        with self._net.create_extractor() as extractor:
            extractor.input(self._net.input_names()[0], self._ncnn.Mat(images[0]))  # no copy: images must live
            outputs = {}
            for name in self._net.output_names():
                failed, values = extractor.extract(name)
                if failed:
                    raise WeightsError(f"{self._path.name} gives no {name} for an input {images.shape}; export again.")
                outputs[name] = np.array(values)[None]  # a copy: the extractor's memory goes with it
            return outputs
