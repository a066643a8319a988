"""Which layer of a network stops a converter: the first, from outside in, that it cannot take by itself."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from leanpose.deploy.targets import Request, Target
from leanpose.errors import MissingPackageError, WeightsError

OPERATOR = re.compile(
    r"\b((?:aten|tfl|stablehlo|prims|torch\.ops|pnnx)[.:]+[A-Za-z_][\w.]*|(?:operator|op) '?[\w.:]+'?)", re.IGNORECASE
)
SURE = "lpn50"  # a network that every target takes


class _Named(nn.Module):
    """A layer as a network of one output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"output": self.layer(features)}


@contextmanager
def conversion_fault(name: str, target: Target, request: Request) -> Iterator[None]:
    """Turn what a converter raises into one sentence: the operator, the layer, and a network that works."""
    try:
        yield
    except (MissingPackageError, OSError, MemoryError):
        raise
    except Exception as error:  # each converter has its own
        reason = " ".join(str(error).split()) or type(error).__name__
        operator = OPERATOR.search(reason)
        layer = failing_layer(target, request)
        what = f"its {operator[0]}" if operator else "it"
        where = f"in the layer {layer}" if layer else "in no layer alone"
        sure = "" if request.weights.model == SURE else f"; {SURE} works"
        raise WeightsError(
            f"The converter of {name} does not take {request.weights.model}: {what} {where} ({reason[:200]}){sure}."
        ) from None


def failing_layer(target: Target, request: Request) -> str:
    """Return the name of the innermost layer that cannot be converted by itself; "" where each can."""
    given = _inputs_of_layers(request)
    outer = ""
    while True:
        prefix = f"{outer}." if outer else ""
        depth = prefix.count(".")
        layers = [name for name in given if name and name.startswith(prefix) and name.count(".") == depth]
        failing = next((name for name in layers if not _converts(target, request, name, given[name])), None)
        if failing is None:
            return outer
        outer = failing


def _inputs_of_layers(request: Request) -> dict[str, Tensor]:
    """Return what goes into each layer that maps one tensor to one, by its name, for the example."""
    given: dict[str, Tensor] = {}
    hooks = []
    for name, layer in request.network.named_modules():

        def note(_: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            if len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                given.setdefault(name, inputs[0].detach().clone())

        hooks.append(layer.register_forward_hook(note))
    with torch.no_grad():
        request.network(request.example)
    for hook in hooks:
        hook.remove()
    return given


def _converts(target: Target, request: Request, name: str, given: Tensor) -> bool:
    layer = _Named(request.network.get_submodule(name)).eval()
    with tempfile.TemporaryDirectory() as folder:
        try:
            target.convert(
                replace(request, network=layer, example=given, output_names=("output",)),
                Path(folder) / f"layer{target.suffix}",
            )
        except Exception:
            return False
    return True
