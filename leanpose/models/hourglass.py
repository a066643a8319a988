"""Stacked hourglass: features go down to a few pixels and up again, with a branch across at every size.

Paper: Newell, Yang, Deng, "Stacked Hourglass Networks for Human Pose Estimation", arXiv 1603.06937.
Original: github.com/princeton-vl/pose-hg-train (Lua; BSD-3-Clause).
Differs: the shape is that of "Hourglass-52" in MMPose, which published figures mean by this name: basic blocks, 256 to
512 channels, five halvings by strided convolutions, and the next stack is fed features alone, not heatmaps. The paper
has bottlenecks of 256 channels and four halvings by max pooling. MMPose counts 94,847,889 parameters with one stack;
1,180,672 of them belong to a residual block whose output nothing uses, and which is left out here. Names in the state
dict are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from leanpose.errors import InputError
from leanpose.models.layers import Auxiliary, check_input_sides, conv_norm, init_convs_kaiming
from leanpose.models.resnet import BasicBlock

WIDTHS = (256, 256, 384, 384, 384, 512)  # channels at each size, from the largest on
BLOCKS = (2, 2, 2, 2, 2, 4)  # basic blocks in each part of a level


class HourglassModule(nn.Module):
    """One level of an hourglass: a branch at full size, plus all smaller levels at half size.

    Args:
        widths: channels of this level and of the smaller ones, two at least.
        blocks: basic blocks in each part of these levels.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        width, inner, *_ = widths
        keep = [BasicBlock(width, width) for _ in range(blocks[0])]
        halve = [BasicBlock(width, inner, stride=2), *(BasicBlock(inner, inner) for _ in range(blocks[0] - 1))]
        widen = [*(BasicBlock(inner, inner) for _ in range(blocks[0] - 1)), BasicBlock(inner, width)]
        self.across = nn.Sequential(*keep)
        self.down = nn.Sequential(*halve)
        self.inside = (
            HourglassModule(widths[1:], blocks[1:])
            if len(widths) > 2
            else nn.Sequential(*(BasicBlock(inner, inner) for _ in range(blocks[1])))
        )
        self.up = nn.Sequential(*widen, nn.Upsample(scale_factor=2, mode="nearest"))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, widths[0], H, W) to the same shape."""
        inner = self.inside(self.down(features))  # (B, widths[1], H/2, W/2)
        return self.across(features) + self.up(inner)


class Hourglass(nn.Module):
    """A stem to stride 4, one or more hourglasses one after another, one heatmap per keypoint.

    Args:
        num_keypoints: K, number of heatmaps.
        num_stacks: number of hourglasses, at least 1. The heatmaps of all but the last are training outputs, named
            "heatmaps_stack1" and so on.
        refine: what stands between the last hourglass and the heatmaps, (B, 256, H/4, W/4) to the same shape,
            initialised by its own rules; None: nothing.

    Raises:
        InputError: `num_stacks` is below 1.
    """

    def __init__(self, num_keypoints: int = 17, num_stacks: int = 1, refine: nn.Module | None = None) -> None:
        super().__init__()
        if num_stacks < 1:
            raise InputError(f"num_stacks must be at least 1, not {num_stacks}.")
        width = WIDTHS[0]
        self.stem = nn.Sequential(*conv_norm(3, 128, kernel_size=7, stride=2), nn.ReLU(inplace=True))
        self.stem.append(BasicBlock(128, width, stride=2))
        self.hourglasses = nn.ModuleList(
            nn.Sequential(
                HourglassModule(WIDTHS, BLOCKS), *conv_norm(width, width, kernel_size=3), nn.ReLU(inplace=True)
            )
            for _ in range(num_stacks)
        )
        between = range(num_stacks - 1)
        self.early_layers = nn.ModuleList(nn.Conv2d(width, num_keypoints, kernel_size=1) for _ in between)
        self.from_input = nn.ModuleList(nn.Sequential(*conv_norm(width, width, kernel_size=1)) for _ in between)
        self.from_output = nn.ModuleList(nn.Sequential(*conv_norm(width, width, kernel_size=1)) for _ in between)
        self.next_input = nn.ModuleList(nn.Sequential(nn.ReLU(inplace=True), BasicBlock(width, width)) for _ in between)
        self.refine: nn.Module = nn.Identity()
        self.final_layer = nn.Conv2d(width, num_keypoints, kernel_size=1)
        self.auxiliary = {f"heatmaps_stack{stack + 1}": Auxiliary() for stack in between}

        init_convs_kaiming(self)
        for layer in (*self.early_layers, self.final_layer):
            nn.init.normal_(layer.weight, std=0.001)
        if refine is not None:
            self.refine = refine

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Estimate the heatmaps of one person per image.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 128.

        Returns:
            heatmaps: (B, K, H/4, W/4), unbounded; trained to be 1 on the keypoint and 0 far from it.
            heatmaps_stack1 ...: the same of each stack but the last, in train mode only.

        Raises:
            InputError: a side of the images is no multiple of 128.
        """
        check_input_sides(images, multiple=128)
        features = self.stem(images)  # (B, 256, H/4, W/4), as all that follow
        outputs = {}
        for stack, name in enumerate(self.auxiliary):
            refined = self.hourglasses[stack](features)
            if self.training:
                outputs[name] = self.early_layers[stack](refined)  # (B, K, H/4, W/4)
            features = self.next_input[stack](self.from_input[stack](features) + self.from_output[stack](refined))
        features = self.refine(self.hourglasses[-1](features))
        return {"heatmaps": self.final_layer(features)} | outputs  # (B, K, H/4, W/4)


def hourglass_52(num_keypoints: int = 17, num_stacks: int = 1) -> Hourglass:
    """Hourglass-52. Arguments as of `Hourglass`."""
    return Hourglass(num_keypoints, num_stacks)
