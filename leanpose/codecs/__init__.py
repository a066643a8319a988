"""Codecs: how keypoints are written into heat maps (encode, torch) and read from them (decode, NumPy).

A codec is a frozen dataclass whose fields are its parameters. It works in heat-map pixels only, the centre of the
top-left pixel being (0, 0) (AssociativeEmbedding says where it differs); geometry.py converts to and from input
pixels. Decoding never imports torch.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol

from leanpose.codecs.associative_embedding import AssociativeEmbedding
from leanpose.codecs.dark import Dark
from leanpose.codecs.flip import fuse_flip
from leanpose.codecs.heatmap import Heatmap
from leanpose.codecs.soft_argmax import BetaSoftArgmax
from leanpose.codecs.udp import UDP
from leanpose.errors import InputError, suggest

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = [
    "CODECS",
    "UDP",
    "AssociativeEmbedding",
    "BetaSoftArgmax",
    "Codec",
    "Dark",
    "Heatmap",
    "create_codec",
    "fuse_flip",
]


class Codec(Protocol):
    """What every codec of one person a map can do; the classes describe their own formulas and sources."""

    def encode(
        self, keypoints: torch.Tensor, visibility: torch.Tensor, heatmap_size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, K, 2) heat-map pixels, (B, K) 0/1/2, (H, W) -> heatmaps (B, K, H, W), weights (B, K)."""
        ...

    def decode(self, heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, K, H, W) -> keypoints (N, K, 2) in heat-map pixels, scores (N, K), float32."""
        ...


CODECS: dict[str, type[Any]] = {
    "heatmap": Heatmap,
    "udp": UDP,
    "dark": Dark,
    "beta_soft_argmax": BetaSoftArgmax,
    "associative_embedding": AssociativeEmbedding,  # of all people in a picture; the others are a Codec
}


def create_codec(name: str, **parameters: Any) -> Any:
    """Make a codec from its name in CODECS and its parameters; those not given keep their defaults.

    Raises:
        InputError: the name or a parameter is unknown, or a value is out of range.
    """
    if name not in CODECS:
        raise InputError(f"There is no codec '{name}'.{suggest(name, CODECS)}")
    codec = CODECS[name]
    known = list(signature(codec).parameters)
    for parameter in parameters:
        if parameter not in known:
            raise InputError(f"Codec '{name}' has no parameter '{parameter}'.{suggest(parameter, known)}")
    return codec(**parameters)
