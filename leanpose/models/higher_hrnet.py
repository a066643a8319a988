"""HigherHRNet: HRNet's highest resolution, doubled once more, gives heatmaps and tags of all persons of an image; and
its gradual shrinking, LitePose's way from HRNet to a single branch.

Paper: Cheng et al., "HigherHRNet: Scale-Aware Representation Learning for Bottom-Up Human Pose Estimation",
arXiv 1908.10357; the widths 16 and 24 and the shrunken networks: Wang et al., "Lite Pose: Efficient Architecture Design
for 2D Human Pose Estimation", arXiv 2205.01271.
Original: github.com/HRNet/HigherHRNet-Human-Pose-Estimation (MIT), github.com/mit-han-lab/litepose (MIT).
Differs: starts from random numbers, drawn as those of leanpose.models.hrnet. Names, shapes and order of the state dict
are those of the official code, untested against a file of weights. Parameters and multiply-adds of the widths 16 and 24
and of the shrunken networks are those counted on the code of LitePose's authors.
The published MACs (12.5, 10.12, 10.02, 9.15 and 25.3 G for width 16, Shrink 1, 2 and 3, and width 24 at 512x512) come
from an old ptflops, which counts the transposed convolution on its output pixels, four times too many, and adds norms
and activations. Width 32 has the published 28.6 M parameters, and the published 47.9 G if the transposed convolution
is counted in this way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanpose.models.hrnet import HRNetBackbone
from leanpose.models.layers import init_convs_kaiming, upsample
from leanpose.models.resnet import BasicBlock

HEAD_WIDTH = 32  # channels of the features at stride 2
SHRINK_1 = ((3, 4), (2, 3, 4), (1, 2, 3, 4))
SHRINK_2 = ((1, 4), (1, 1, 4), (1, 1, 1, 4))
SHRINK_3 = ((0, 4), (0, 0, 4), (0, 0, 0, 4))  # a single branch has blocks


class HigherHRNet(HRNetBackbone):
    """HRNet's backbone, heatmaps and tags at stride 4, and out of all these, doubled in size, heatmaps at stride 2.

    Args:
        width: channels of the branch of stride 4.
        num_keypoints: K, number of heatmaps at each scale, and of tag maps.
        layer1_width, blocks: as of `HRNetBackbone`.
        head_blocks: basic blocks at stride 2.
    """

    def __init__(
        self,
        width: int,
        num_keypoints: int = 17,
        layer1_width: int = 64,
        blocks: Sequence[Sequence[int]] | None = None,
        head_blocks: int = 0,
    ) -> None:
        super().__init__(width, layer1_width, blocks)
        self.num_keypoints = num_keypoints
        self.final_layers = nn.ModuleList(
            [
                nn.Conv2d(width, 2 * num_keypoints, kernel_size=1),
                nn.Conv2d(HEAD_WIDTH, num_keypoints, kernel_size=1),
            ]
        )
        double = nn.Sequential(*upsample(width + 2 * num_keypoints, HEAD_WIDTH))
        refine = (nn.Sequential(BasicBlock(HEAD_WIDTH, HEAD_WIDTH)) for _ in range(head_blocks))
        self.deconv_layers = nn.ModuleList([nn.Sequential(double, *refine)])
        init_convs_kaiming(self.deconv_layers)
        init_convs_kaiming(self.final_layers)
        for layer in self.final_layers:
            nn.init.normal_(layer.weight, std=0.001)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Estimate heatmaps of all persons at two scales, and tags that tell the persons apart.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 32.

        Returns:
            heatmaps_4: (B, K, H/4, W/4), unbounded; trained to be 1 on keypoints and 0 far from them.
            tags: (B, K, H/4, W/4), unbounded; trained to be near each other on the keypoints of one person.
            heatmaps_2: (B, K, H/2, W/2), as heatmaps_4.

        Raises:
            InputError: a side of the images is no multiple of 32.
        """
        features = self.features(images)  # (B, width, H/4, W/4)
        maps_4 = self.final_layers[0](features)  # (B, 2K, H/4, W/4)
        features = self.deconv_layers[0](torch.cat([features, maps_4], dim=1))  # (B, HEAD_WIDTH, H/2, W/2)
        heatmaps_4, tags = maps_4.split(self.num_keypoints, dim=1)  # (B, K, H/4, W/4) each
        return {"heatmaps_4": heatmaps_4, "tags": tags, "heatmaps_2": self.final_layers[1](features)}


def higher_hrnet_w16(num_keypoints: int = 17) -> HigherHRNet:
    """HigherHRNet-W16, from which LitePose's authors shrink."""
    return HigherHRNet(16, num_keypoints, layer1_width=32)


def higher_hrnet_w24(num_keypoints: int = 17) -> HigherHRNet:
    """HigherHRNet-W24, with which LitePose's authors compare."""
    return HigherHRNet(24, num_keypoints, layer1_width=48)


def higher_hrnet_w32(num_keypoints: int = 17) -> HigherHRNet:
    """HigherHRNet-W32, as its own authors publish it."""
    return HigherHRNet(32, num_keypoints, head_blocks=4)


def higher_hrnet_shrink1(num_keypoints: int = 17) -> HigherHRNet:
    """HigherHRNet-W16 with 29% fewer blocks, taken from the higher resolutions."""
    return HigherHRNet(16, num_keypoints, layer1_width=32, blocks=SHRINK_1)


def higher_hrnet_shrink2(num_keypoints: int = 17) -> HigherHRNet:
    """HigherHRNet-W18 with one block in all but the lowest resolution of each stage."""
    return HigherHRNet(18, num_keypoints, layer1_width=36, blocks=SHRINK_2)


def higher_hrnet_shrink3(num_keypoints: int = 17) -> HigherHRNet:
    """HigherHRNet-W18 with blocks in the lowest resolution of each stage alone: a single branch."""
    return HigherHRNet(18, num_keypoints, layer1_width=36, blocks=SHRINK_3)
