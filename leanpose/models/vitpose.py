"""ViTPose: a plain vision transformer on patches of 16x16 pixels, and two transposed convolutions.

Paper: Xu, Zhang, Zhang, Tao, "ViTPose: Simple Vision Transformer Baselines for Human Pose Estimation",
arXiv 2204.12484.
Original: github.com/ViTAE-Transformer/ViTPose (Apache-2.0).
Differs: the transformer starts from random numbers (the original starts from masked-autoencoder weights), and the
transposed convolutions from Kaiming normal. Names, shapes and order of the state dict are those of the original, so its
weights load.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanpose.errors import InputError
from leanpose.models.layers import check_input_size, init_convs_kaiming, upsample

PATCH = 16  # pixels of a side
DEPTH = 12
NUM_HEADS = 12
HEAD_CHANNELS = 256
EPS = 1e-6  # of the layer norms


class DropPath(nn.Module):
    """In train mode, leave out a residual for random samples of the batch, and enlarge it for the others to match.

    From "Deep Networks with Stochastic Depth", arXiv 1603.09382.

    Args:
        rate: probability of leaving it out, at least 0 and below 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, residual: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        if not self.training or not self.rate:
            return residual
        kept = residual.new_empty(len(residual), 1, 1).bernoulli_(1 - self.rate)
        return residual * (kept / (1 - self.rate))


class SelfAttention(nn.Module):
    """Every token becomes weighted sums of all tokens, several with different weights.

    From "Attention Is All You Need", arXiv 1706.03762.

    Args:
        channels: C, of the tokens.
        num_heads: number of sums, each of C / num_heads channels.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (channels // num_heads) ** -0.5
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        heads = self.qkv(tokens).unflatten(2, (3 * self.num_heads, -1)).transpose(1, 2)  # four axes: ncnn takes no five
        query, key, value = heads.chunk(3, dim=1)  # (B, heads, N, C / heads) each
        attention = (self.scale * query @ key.transpose(2, 3)).softmax(dim=3)  # (B, heads, N, N)
        return self.proj((attention @ value).transpose(1, 2).flatten(2))  # (B, N, C)


class Block(nn.Module):
    """Attention among tokens, then two layers within each; both are added to their input.

    Args:
        channels: C, of the tokens.
        num_heads: of the attention.
        drop_path: probability of leaving each of the two out in training.
    """

    def __init__(self, channels: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=EPS)
        self.attn = SelfAttention(channels, num_heads)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(channels, eps=EPS)
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Linear(channels, 4 * channels), act=nn.GELU(), fc2=nn.Linear(4 * channels, channels))
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class VisionTransformer(nn.Module):
    """Patches of 16x16 pixels become tokens, with a learned vector for each place, and pass through blocks.

    Args:
        channels: C, of the tokens.
        depth: number of blocks.
        num_heads: of their attention.
        drop_path: of the last block; it grows linearly from 0 in the first.
        grid: number of patches on the height and on the width.
    """

    def __init__(self, channels: int, depth: int, num_heads: int, drop_path: float, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        # the first place is that of the class token of pre-training, which the patches share
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + grid[0] * grid[1], channels))
        self.patch_embed = nn.Sequential(
            OrderedDict(proj=nn.Conv2d(3, channels, kernel_size=PATCH, stride=PATCH, padding=2))
        )
        self.blocks = nn.Sequential(
            *(Block(channels, num_heads, drop_path * block / (depth - 1)) for block in range(depth))
        )
        self.last_norm = nn.LayerNorm(channels, eps=EPS)

        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, C, H/16, W/16)."""
        tokens = self.patch_embed(images).flatten(2).transpose(1, 2)  # (B, N, C) with N = H/16 * W/16
        tokens = tokens + self.pos_embed[:, 1:] + self.pos_embed[:, :1]
        tokens = self.last_norm(self.blocks(tokens))
        return tokens.transpose(1, 2).unflatten(2, self.grid)  # (B, C, H/16, W/16)


class ViTPose(nn.Module):
    """Vision transformer at stride 16, two transposed convolutions to stride 4, one heatmap per keypoint.

    Args:
        channels: C, of the transformer.
        num_keypoints: K, number of heatmaps.
        drop_path: probability, at least 0 and below 1, of leaving a residual of the last block out in training; it
            grows linearly from 0 in the first block.
        input_size: (height, width) of the images in pixels, multiples of 16: the transformer knows their places.
        refine: what stands between the transformer and the transposed convolutions, (B, C, H/16, W/16) to the same
            shape, initialised by its own rules; None: nothing.

    Attributes:
        num_depths: how many depths `depth_of` tells apart.

    Raises:
        InputError: `drop_path` or `input_size` is not such a value.
    """

    def __init__(
        self,
        channels: int,
        num_keypoints: int = 17,
        drop_path: float = 0.0,
        input_size: Sequence[int] = (256, 192),
        refine: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise InputError(f"drop_path must be at least 0 and below 1, not {drop_path}.")
        if len(input_size) != 2 or any(side < PATCH or side % PATCH for side in input_size):
            raise InputError(f"input_size must be a height and a width, multiples of {PATCH}, not {input_size}.")
        height, width = input_size
        self.input_size = (height, width)
        self.num_depths = DEPTH + 2
        self.backbone = VisionTransformer(channels, DEPTH, NUM_HEADS, drop_path, (height // PATCH, width // PATCH))
        self.refine = nn.Identity() if refine is None else refine
        final_layer = nn.Conv2d(HEAD_CHANNELS, num_keypoints, kernel_size=1)
        self.keypoint_head = nn.Sequential(
            OrderedDict(
                deconv_layers=nn.Sequential(
                    *upsample(channels, HEAD_CHANNELS), *upsample(HEAD_CHANNELS, HEAD_CHANNELS)
                ),
                final_layer=final_layer,
            )
        )
        init_convs_kaiming(self.keypoint_head)
        nn.init.normal_(final_layer.weight, std=0.001)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Estimate the heatmaps of one person per image.

        Args:
            images: (B, 3, H, W), normalised; H and W those of `input_size`.

        Returns:
            heatmaps: (B, K, H/4, W/4), unbounded; trained to be 1 on the keypoint and 0 far from it.

        Raises:
            InputError: the images have another size.
        """
        check_input_size(images, self.input_size)
        features = self.refine(self.backbone(images))  # (B, C, H/16, W/16)
        return {"heatmaps": self.keypoint_head(features)}  # (B, K, H/4, W/4)

    def depth_of(self, parameter_name: str) -> int:
        """Tell how far from the images a parameter is, for learning rates that grow from layer to layer.

        Args:
            parameter_name: as `named_parameters` gives it.

        Returns:
            0 for the embeddings of patches and places, i + 1 for block i, the highest for all the rest.
        """
        part, _, rest = parameter_name.removeprefix("backbone.").partition(".")
        if part in ("pos_embed", "patch_embed"):
            return 0
        return int(rest.split(".")[0]) + 1 if part == "blocks" else self.num_depths - 1


def vitpose_s(num_keypoints: int = 17, drop_path: float = 0.0, input_size: Sequence[int] = (256, 192)) -> ViTPose:
    """ViTPose-S. Arguments as of `ViTPose`."""
    return ViTPose(384, num_keypoints, drop_path, input_size)


def vitpose_b(num_keypoints: int = 17, drop_path: float = 0.0, input_size: Sequence[int] = (256, 192)) -> ViTPose:
    """ViTPose-B. Arguments as of `ViTPose`."""
    return ViTPose(768, num_keypoints, drop_path, input_size)
