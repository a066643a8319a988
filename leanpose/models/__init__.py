"""The networks, by name. A new network is one file and one line in `MODELS`.

What each costs is counted in `leanpose.models.counts` and printed by `leanpose models`, see docs/networks.md.
"""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from leanpose.errors import InputError, WeightsError, suggest
from leanpose.models.hevitpose import hevitpose_b, hevitpose_s, hevitpose_t
from leanpose.models.hourglass import hourglass_52
from leanpose.models.hrnet import hrnet_w32, hrnet_w48
from leanpose.models.litepose import litepose_l, litepose_m, litepose_s, litepose_xs
from leanpose.models.lpn import lpn50, lpn101, lpn152
from leanpose.models.rmpg import (
    hourglass_52_rmpg,
    hrnet_w32_rmpg,
    hrnet_w48_rmpg,
    simple_baseline_50_rmpg,
    simple_baseline_101_rmpg,
    vitpose_b_rmpg,
    vitpose_s_rmpg,
)
from leanpose.models.rmpg_hierarchical import rmpg_hierarchical
from leanpose.models.sfm import SFM
from leanpose.models.simple_baseline import simple_baseline_50, simple_baseline_101, simple_baseline_152
from leanpose.models.vitpose import vitpose_b, vitpose_s

MODELS: dict[str, Callable[..., nn.Module]] = {
    "hevitpose_t": hevitpose_t,
    "hevitpose_s": hevitpose_s,
    "hevitpose_b": hevitpose_b,
    "hourglass_52": hourglass_52,
    "hourglass_52_rmpg": hourglass_52_rmpg,
    "hrnet_w32": hrnet_w32,
    "hrnet_w48": hrnet_w48,
    "hrnet_w32_rmpg": hrnet_w32_rmpg,
    "hrnet_w48_rmpg": hrnet_w48_rmpg,
    "litepose_xs": litepose_xs,
    "litepose_s": litepose_s,
    "litepose_m": litepose_m,
    "litepose_l": litepose_l,
    "lpn50": lpn50,
    "lpn101": lpn101,
    "lpn152": lpn152,
    "rmpg_hierarchical": rmpg_hierarchical,
    "sfm": SFM,
    "simple_baseline_50": simple_baseline_50,
    "simple_baseline_101": simple_baseline_101,
    "simple_baseline_152": simple_baseline_152,
    "simple_baseline_50_rmpg": simple_baseline_50_rmpg,
    "simple_baseline_101_rmpg": simple_baseline_101_rmpg,
    "vitpose_s": vitpose_s,
    "vitpose_b": vitpose_b,
    "vitpose_s_rmpg": vitpose_s_rmpg,
    "vitpose_b_rmpg": vitpose_b_rmpg,
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
