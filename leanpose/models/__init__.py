"""The networks, by name: the constructors of what leanpose.networks lists."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import nn

from leanpose.errors import InputError, WeightsError, suggest
from leanpose.networks import NETWORKS

MODELS: dict[str, Callable[..., nn.Module]] = {
    name: getattr(import_module(f"leanpose.models.{network.module}"), network.constructor or name)
    for name, network in NETWORKS.items()
}


def create_model(name: str, num_keypoints: int = 17, **options: Any) -> nn.Module:
    """Build a network with random weights.

    Args:
        name: a name that `list_models` returns, one of `MODELS`.
        num_keypoints: K, number of keypoints that the network finds.
        options: further arguments of that entry, such as `attention="se"` for "lpn50".

    Raises:
        WeightsError: no network has this name.
        InputError: the network has no such option, or the option not such a value.
    """
    if name not in MODELS:
        raise WeightsError(f"Unknown model '{name}'.{suggest(name, MODELS)}")
    constructor = MODELS[name]
    known = inspect.signature(constructor).parameters
    for option in options:
        if option not in known:
            raise InputError(f"The model {name} has no option '{option}'.{suggest(option, known)}")
    return constructor(num_keypoints=num_keypoints, **options)


def list_models(pattern: str = "*") -> list[str]:
    """Names of the networks that match a shell pattern such as "lpn*", in the order of `MODELS`."""
    return fnmatch.filter(MODELS, pattern)
