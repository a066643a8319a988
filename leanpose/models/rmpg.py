"""RMPG, the Refinement Module based on the Parse Graph of a feature map, as a plug-in of several networks.

A reconstruction from the paper's abstracts, published parameter counts and arithmetic: not the paper's model.

Paper: Liu, Xie, Shi, "Refinement Module based on Parse Graph of Feature Map", arXiv 2501.11069.
Original: github.com/lushbng/RMPG, not available to us; no licence known.
Differs: only the decomposition along channels, the recursion, the context of sub-maps and their combination are the
paper's. Three 3x3 convolutions a node follow from the published sizes of ViTPose-B and Hourglass-52 with RMPG; their
roles as queries, keys and values, the tokens and the depth of the graph from the authors' sister project PGVL; biases,
norms, pooled keys and values, the start as identity, the places in the hosts and the feed-forward part, without which
SimpleBaseline would be 0.9 M parameters smaller than published, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from inspect import Signature, signature
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import avg_pool2d, scaled_dot_product_attention

from leanpose.errors import InputError
from leanpose.models.hourglass import WIDTHS, Hourglass
from leanpose.models.hrnet import HRNet
from leanpose.models.layers import ChannelNorm, check_choice
from leanpose.models.simple_baseline import HEAD_CHANNELS, SimpleBaseline
from leanpose.models.vitpose import ViTPose

Relation = Literal["token", "position", "node", "none"]
Context = Literal["bottom_up", "top_down"]
Norm = Literal["batch", "layer"]


NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm2d, "layer": ChannelNorm}


class RMPG(nn.Module):
    """One node of a parse graph, the root or another: slices along channels, refined and joined, plus their context.

    Each slice first goes through a node of its own, down to the last level of the graph, so that nodes are refined
    from the leaves up. A new graph is the identity: at first only the norms of the values (and the last convolutions
    of the feed-forward parts) learn. With the default options it has 47.25 C^2 + 33 C parameters; on N pixels it spends
    47.25 C^2 N multiply-adds on convolutions and 12 N M C on products of tokens, where M is N averaged by `kv_grid`.

    Args:
        channels: C, of the input and the output; a multiple of the product of `branching`.
        branching: into how many slices a node is cut, at least 2, from the root down.
        relation: what attends to what: "token" every pixel of every slice to all such pixels, "position" the slices to
            one another at each pixel, "node" the slices to one another as wholes; "none": the context is the values.
        context: "bottom_up": computed from the refined slices; "top_down": from the input, before it is cut.
        ffn_ratio: how many times wider than the node its feed-forward part is inside; 0: no such part.
        kv_grid: for "token": keys and values are averaged until neither side is above it; None: full resolution.
        norm: "batch", or "layer" over the channels of each pixel.
        conv_bias: whether the convolutions of queries, keys and values have a bias.
        zero_init: whether a new graph is the identity.

    Raises:
        InputError: `branching` is empty or cuts into fewer than 2, or C is no multiple of its product; another option
            has no such value.
    """

    def __init__(
        self,
        channels: int,
        branching: Sequence[int] = (2, 2, 2),
        relation: Relation = "token",
        context: Context = "bottom_up",
        ffn_ratio: int = 0,
        kv_grid: int | None = 16,
        norm: Norm = "batch",
        conv_bias: bool = True,
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        _check_options(channels, branching, relation, context, ffn_ratio, kv_grid, norm)
        self.relation = relation
        self.context = context
        self.kv_grid = kv_grid
        self.num_slices, *deeper = branching
        options = (relation, context, ffn_ratio, kv_grid, norm, conv_bias, zero_init)
        self.parts = nn.ModuleList(
            RMPG(channels // self.num_slices, deeper, *options) for _ in range(self.num_slices if deeper else 0)
        )

        def conv() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=conv_bias), NORMS[norm](channels)
            )

        self.norm = NORMS[norm](channels)
        if relation != "none":
            self.query = conv()
            self.key = conv()
        self.value = conv()
        self.ffn: nn.Sequential | None = None
        if ffn_ratio:
            self.ffn = nn.Sequential(
                NORMS[norm](channels),
                nn.Conv2d(channels, ffn_ratio * channels, kernel_size=1),
                nn.GELU(),
                nn.Conv2d(ffn_ratio * channels, channels, kernel_size=1),
            )

        if zero_init:
            nn.init.zeros_(self.value[1].get_parameter("weight"))
            for parameter in self.ffn[-1].parameters() if self.ffn else ():
                nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """Refine a feature map: (B, C, H, W) to (B, C, H, W)."""
        return self.nodes(features)[()]

    def nodes(self, features: Tensor) -> dict[tuple[int, ...], Tensor]:
        """Refine a feature map and its slices.

        Args:
            features: (B, C, H, W).

        Returns:
            The refined map of every node, by its path from the root: () is the root's, (B, C, H, W); (i, j) that of
            slice j of slice i, (B, C / number of such slices, H, W).
        """
        below: dict[tuple[int, ...], Tensor] = {}
        slices = features.chunk(self.num_slices, dim=1)  # g of (B, C/g, H, W)
        for i, part in enumerate(self.parts):
            assert isinstance(part, RMPG)
            below |= {(i, *path): maps for path, maps in part.nodes(slices[i]).items()}
        combined = torch.cat([below[i,] for i in range(self.num_slices)], dim=1) if below else features

        refined = combined + self._relate(self.norm(combined if self.context == "bottom_up" else features))
        if self.ffn is not None:
            refined = refined + self.ffn(refined)
        return {(): refined} | below

    def _relate(self, normed: Tensor) -> Tensor:
        """Relate the slices of a normalised map: (B, C, H, W) to (B, C, H, W)."""
        values = self.value(normed)
        if self.relation == "none":
            return values
        keys = self.key(normed)
        if self.relation == "token" and self.kv_grid is not None:
            keys, values = _pooled(keys, self.kv_grid), _pooled(values, self.kv_grid)
        return RELATIONS[self.relation](self.query(normed), keys, values, self.num_slices)


def _check_options(
    channels: int,
    branching: Sequence[int],
    relation: str,
    context: str,
    ffn_ratio: int,
    kv_grid: int | None,
    norm: str,
) -> None:
    """Raise InputError where the options of a parse graph cannot be used."""
    if not branching or min(branching) < 2:
        raise InputError(f"branching must be numbers of at least 2, such as 2, 2, 2, not {list(branching)}.")
    leaves = math.prod(branching)
    if channels < 1 or channels % leaves:
        raise InputError(f"branching {list(branching)} needs channels in multiples of {leaves}, not {channels}.")
    check_choice("relation", relation, Relation)
    check_choice("context", context, Context)
    check_choice("norm", norm, Norm)
    if ffn_ratio < 0:
        raise InputError(f"ffn_ratio must be at least 0, not {ffn_ratio}.")
    if kv_grid is not None and kv_grid < 1:
        raise InputError(f"kv_grid must be at least 1, or none, not {kv_grid}.")


@fx.wrap
def _pooled(maps: Tensor, grid: int) -> Tensor:
    """Average blocks of pixels so that neither side is above `grid`: (B, C, H, W) to (B, C, ceil(H/n), ceil(W/n))."""
    block = math.ceil(max(maps.shape[2:]) / grid)  # n
    if block == 1:
        return maps
    return avg_pool2d(maps, block, ceil_mode=True, count_include_pad=False)


# Each relation splits queries, keys and values, (B, C, H, W), into tokens; the scale is 1 / sqrt(width of a token).
# Products of queries and keys, and their softmax, are float32 also under mixed precision.


def _relate_tokens(query: Tensor, key: Tensor, value: Tensor, num_slices: int) -> Tensor:
    """Let every pixel of every slice attend to all of them; keys and values may have fewer pixels."""
    tokens = [
        maps.flatten(2).unflatten(1, (num_slices, -1)).transpose(2, 3).flatten(1, 2).unsqueeze(1)
        for maps in (query, key, value)
    ]  # (B, 1, g * H*W, C/g), one slice after another
    context = scaled_dot_product_attention(*tokens)
    return context.squeeze(1).unflatten(1, (num_slices, -1)).transpose(2, 3).reshape_as(query)


def _relate_at_positions(query: Tensor, key: Tensor, value: Tensor, num_slices: int) -> Tensor:
    """Let the slices attend to one another, at each pixel anew."""
    tokens = [maps.flatten(2).unflatten(1, (num_slices, -1)).permute(0, 3, 1, 2) for maps in (query, key, value)]
    context = scaled_dot_product_attention(*tokens)  # (B, H*W, g, C/g)
    return context.permute(0, 2, 3, 1).reshape_as(query)


def _relate_nodes(query: Tensor, key: Tensor, value: Tensor, num_slices: int) -> Tensor:
    """Let the slices attend to one another, each as one vector."""
    tokens = [maps.unflatten(1, (num_slices, -1)).flatten(2).unsqueeze(1) for maps in (query, key, value)]
    with sdpa_kernel(SDPBackend.MATH):  # the other kernels take no tokens of this width
        context = scaled_dot_product_attention(*tokens)  # (B, 1, g, C/g * H*W)
    return context.reshape_as(query)


RELATIONS = {"token": _relate_tokens, "position": _relate_at_positions, "node": _relate_nodes}


def _with_rmpg(host: Callable[..., nn.Module], channels: int, ffn_ratio: int = 0) -> Callable[..., nn.Module]:
    """Return the constructor of a network with an RMPG in it, which takes the options of both by name.

    Args:
        host: constructor of the network, with an argument `refine`.
        channels: C, of the features that are refined.
        ffn_ratio: the default of this option.
    """
    rmpg = partial(RMPG, channels, ffn_ratio=ffn_ratio)
    of_host, of_rmpg = (dict(signature(constructor).parameters) for constructor in (host, rmpg))
    del of_host["refine"]

    def build(**options: Any) -> nn.Module:
        chosen = {name: options.pop(name) for name in of_rmpg if name in options}
        return host(refine=rmpg(**chosen), **options)

    parameters = [each.replace(kind=each.KEYWORD_ONLY) for each in (*of_host.values(), *of_rmpg.values())]
    build.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return build


simple_baseline_50_rmpg = _with_rmpg(partial(SimpleBaseline, (3, 4, 6, 3)), channels=HEAD_CHANNELS, ffn_ratio=4)
simple_baseline_101_rmpg = _with_rmpg(partial(SimpleBaseline, (3, 4, 23, 3)), channels=HEAD_CHANNELS, ffn_ratio=4)
hourglass_52_rmpg = _with_rmpg(Hourglass, channels=WIDTHS[0])
hrnet_w32_rmpg = _with_rmpg(partial(HRNet, 32), channels=32)
hrnet_w48_rmpg = _with_rmpg(partial(HRNet, 48), channels=48)
vitpose_s_rmpg = _with_rmpg(partial(ViTPose, 384), channels=384)
vitpose_b_rmpg = _with_rmpg(partial(ViTPose, 768), channels=768)
