"""The forms of file that a network leaves leanpose in, one module each.

A module has a TARGET, and imports what its converter needs when it is called. A new one needs an entry in TARGETS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from leanpose.errors import InputError, require, suggest
from leanpose.io.quiet import silent
from leanpose.weights.record import Weights

TargetName = Literal["onnx", "openvino", "ncnn", "litert", "coreml", "executorch"]
TARGETS: tuple[TargetName, ...] = ("onnx", "openvino", "ncnn", "litert", "coreml", "executorch")

Outputs = dict[str, np.ndarray]
Runner = Callable[[np.ndarray], Outputs]


@dataclass(frozen=True)
class Request:
    """What a converter is given.

    Attributes:
        network: in evaluation mode, norms folded; maps `example` to named outputs.
        example: network inputs (1, 3, h, w) float32, or for networks with preprocessing crops (1, h, w, 3) uint8.
        weights: the record.
        output_names: of the network, in order.
        storage: "float16" stores kernels in half the space.
        end_to_end: whether preprocessing and codec are in the network.
    """

    network: nn.Module
    example: Tensor
    weights: Weights
    output_names: tuple[str, ...]
    storage: Literal["float32", "float16"] = "float32"
    end_to_end: bool = False

    @property
    def input_name(self) -> str:
        return "crops" if self.end_to_end else "images"


@dataclass(frozen=True)
class Target:
    """One form of file.

    Attributes:
        suffix: of the file that `--out` names.
        convert: writes the file, and those of `beside`, to an empty folder.
        load: returns what runs a file here, on one thread, as (inputs) -> named outputs,
            whose names are given; None: nothing does.
        packages: import name of a package that convert or load needs -> the extra of leanpose that brings it.
        beside: suffixes, in place of `suffix`, of further files that belong to it.
        any_size: whether a network that finds all persons takes images of any size; else they are laid into one.
        end_to_end: whether preprocessing and codec can be in the graph.
        rewrite: brings a network into the form that convert takes; None: as it is.
        quantize: int8: (float file, int8 file, network inputs (1, 3, h, w)), or None.
        check: what is looked at in a file that nothing here can run: raises WeightsError.
        note: what a user must know of the file.
    """

    suffix: str
    convert: Callable[[Request, Path], None]
    load: Callable[[Path, Sequence[str]], Runner] | None
    packages: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    any_size: bool = False
    end_to_end: bool = False
    rewrite: Callable[[nn.Module], nn.Module] | None = None
    quantize: Callable[[Path, Path, Sequence[np.ndarray]], None] | None = None
    check: Callable[[Request, Path], None] | None = None
    note: str = ""

    def files(self, out: Path) -> list[Path]:
        """Return all files of a network whose first file is `out`."""
        stem = out.name.removesuffix(self.suffix)
        return [out, *(out.with_name(stem + suffix) for suffix in self.beside)]


def target_of(name: str) -> Target:
    """Return a target by its name.

    Raises:
        InputError: there is no such target.
    """
    if name not in TARGETS:
        raise InputError(f"There is no target '{name}'.{suggest(name, TARGETS)}")
    return import_module(f"leanpose.deploy.targets.{name}").TARGET


def require_all(target: Target) -> None:
    """Raise MissingPackageError, with the line to type, for the first package of a target that is not installed."""
    with silent():
        for package, extra in target.packages.items():
            require(package, extra)


class Unnamed(nn.Module):
    """A network with its outputs as a tuple, for converters that take no names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(images).values())


def traced(request: Request) -> torch.jit.ScriptModule:
    """Return a network as TorchScript with a tuple of outputs."""
    with torch.inference_mode(), silent():
        module = torch.jit.trace(Unnamed(request.network).eval(), request.example, check_trace=False)
    return torch.jit.freeze(module)
