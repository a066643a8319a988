"""The networks, by name: the constructors of what leanpose.networks lists."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from leanpose.errors import InputError, WeightsError, require, suggest
from leanpose.networks import NETWORKS

if TYPE_CHECKING:
    from torch import nn


def constructor_of(name: str) -> Callable[..., nn.Module]:
    """Return the class or function that builds a network of NETWORKS.

    Raises:
        MissingPackageError: torch is not installed.
    """
    require("torch", "train")
    network = NETWORKS[name]
    return getattr(import_module(f"leanpose.models.{network.module}"), network.constructor or name)


def create_model(name: str, num_keypoints: int = 17, **options: Any) -> nn.Module:
    """Build a network with random weights.

    Args:
        name: a name that `list_models` returns.
        num_keypoints: K, number of keypoints that the network finds.
        options: further arguments of its constructor, such as `attention="se"` for "lpn50".

    Raises:
        WeightsError: no network has this name.
        InputError: the network has no such option, or the option not such a value.
        MissingPackageError: torch is not installed.
    """
    if name not in NETWORKS:
        raise WeightsError(f"Unknown model '{name}'.{suggest(name, NETWORKS)}")
    constructor = constructor_of(name)
    known = inspect.signature(constructor).parameters
    for option in options:
        if option not in known:
            raise InputError(f"The model {name} has no option '{option}'.{suggest(option, known)}")
    return constructor(num_keypoints=num_keypoints, **options)
