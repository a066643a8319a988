"""The hierarchical network of RMPGs: HRNet, then parse graphs, in some of which every node learns a part of the body.

Wholly our design: of the paper's network only the idea is known to us, and no published figure to compare with.

Paper: Liu, Xie, Shi, "Refinement Module based on Parse Graph of Feature Map", arXiv 2501.11069.
Original: github.com/lushbng/RMPG, not available to us; no licence known.
Differs: that there are several RMPGs, some of them supervised on the maps of their nodes, and that they are laid out
after the parts of a body, is the paper's. Backbone, widths, number and order of RMPGs, the keypoints of each part and
the weights of the losses are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from leanpose.errors import InputError
from leanpose.models.hrnet import HRNetBackbone
from leanpose.models.layers import Auxiliary, conv_norm, init_convs_kaiming
from leanpose.models.rmpg import RMPG, Context, Norm, Relation

# Which node of a supervised graph learns which part of the body, from the root on. "head" includes the shoulders.
NODES: dict[str, tuple[int, ...]] = {
    "body": (),
    "upper": (0,),
    "lower": (1,),
    "head": (0, 0),
    "arms": (0, 1),
    "left_leg": (1, 0),
    "right_leg": (1, 1),
}
# The keypoints of these parts, the body left out, by the number of all: COCO, MPII, CrowdPose.
GROUPS: dict[int, Sequence[Sequence[int]]] = {
    17: (range(11), range(11, 17), range(7), range(5, 11), (11, 13, 15), (12, 14, 16)),
    16: (range(7, 16), range(7), (7, 8, 9, 12, 13), range(10, 16), (3, 4, 5), (0, 1, 2)),
    14: ((*range(6), 12, 13), range(6, 12), (0, 1, 12, 13), range(6), (6, 8, 10), (7, 9, 11)),
}


class HierarchicalRMPG(HRNetBackbone):
    """HRNet's branch of stride 4, widened, then supervised and free RMPGs in a row, one heatmap per keypoint.

    Args:
        width: channels of HRNet's branch of stride 4.
        num_keypoints: K, number of heatmaps.
        channels: C, of the RMPGs.
        supervised: RMPGs that cut in two twice, whose nodes also give heatmaps of parts of the body in train mode.
        free: the RMPGs after these.
        groups: keypoints of the parts of the body, as `GROUPS` has them.
        level_weights: weights of the losses of the parts, summed over each level: of the body, of its halves, of the
            quarters. Levels without a weight get no heatmaps.
    """

    def __init__(
        self,
        width: int,
        num_keypoints: int,
        channels: int,
        supervised: Sequence[RMPG],
        free: Sequence[RMPG],
        groups: Sequence[Sequence[int]],
        level_weights: Sequence[float],
    ) -> None:
        super().__init__(width)
        self.neck = nn.Sequential(*conv_norm(width, channels, kernel_size=1), nn.ReLU(inplace=True))
        self.supervised = nn.ModuleList(supervised)
        self.free = nn.Sequential(*free)
        self.final_layer = nn.Conv2d(channels, num_keypoints, kernel_size=1)
        # for each supervised RMPG the name of each output and the node it is made from
        self.outputs = [
            {
                f"heatmaps_{part}_{i + 1}" if i else f"heatmaps_{part}": path
                for part, path in NODES.items()
                if len(path) < len(level_weights)
            }
            for i in range(len(supervised))
        ]
        self.heads = nn.ModuleDict()
        self.auxiliary: dict[str, Auxiliary] = {}
        keypoints = dict(zip(NODES.values(), (range(num_keypoints), *groups), strict=True))
        for outputs in self.outputs:
            for name, path in outputs.items():
                num_nodes = 2 ** len(path)  # of this level
                self.heads[name] = nn.Conv2d(channels // num_nodes, len(keypoints[path]), kernel_size=1)
                self.auxiliary[name] = Auxiliary(tuple(keypoints[path]), level_weights[len(path)] / num_nodes)

        init_convs_kaiming(self.neck)
        for layer in (self.final_layer, *self.heads.values()):
            init_convs_kaiming(layer)
            nn.init.normal_(layer.get_parameter("weight"), std=0.001)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Estimate the heatmaps of one person per image.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 32.

        Returns:
            heatmaps: (B, K, H/4, W/4), unbounded; trained to be 1 on the keypoint and 0 far from it.
            heatmaps_body, heatmaps_upper, ...: the same of the keypoints of a part, in train mode only; those of a
                second supervised RMPG are called heatmaps_body_2 and so on.

        Raises:
            InputError: a side of the images is no multiple of 32.
        """
        features = self.neck(self.features(images))  # (B, C, H/4, W/4)
        parts: dict[str, Tensor] = {}  # (B, keypoints of the part, H/4, W/4) each
        for rmpg, outputs in zip(self.supervised, self.outputs, strict=True):
            assert isinstance(rmpg, RMPG)
            nodes = rmpg.nodes(features)
            if self.training:
                parts |= {name: self.heads[name](nodes[path]) for name, path in outputs.items()}
            features = nodes[()]
        return {"heatmaps": self.final_layer(self.free(features))} | parts  # (B, K, H/4, W/4)


def rmpg_hierarchical(
    num_keypoints: int = 17,
    channels: int = 128,
    num_supervised: int = 1,
    num_free: int = 1,
    level_weights: Sequence[float] = (1.0, 1.0, 1.0),
    groups: Sequence[Sequence[int]] | None = None,
    width: int = 32,
    relation: Relation = "token",
    context: Context = "bottom_up",
    ffn_ratio: int = 0,
    kv_grid: int | None = 16,
    norm: Norm = "batch",
    conv_bias: bool = True,
    zero_init: bool = True,
) -> HierarchicalRMPG:
    """Hierarchical RMPG on HRNet-W32.

    Args:
        num_keypoints: K, number of heatmaps.
        channels: C, of the RMPGs, a multiple of 8.
        num_supervised: number of RMPGs whose nodes learn parts of the body.
        num_free: number of RMPGs after these.
        level_weights: weights of the losses of these parts, at most three: of the body, of the mean of its halves, of
            the mean of the quarters; fewer leave the lower levels of nodes unsupervised.
        groups: keypoints of the upper and the lower half of the body, of head and shoulders, arms, left and right leg;
            None: those of COCO, MPII or CrowdPose, by their 17, 16 or 14 keypoints (LSP has 14 others).
        width: channels of HRNet's branch of stride 4.
        relation, context, ffn_ratio, kv_grid, norm, conv_bias, zero_init: as of `RMPG`.

    Raises:
        InputError: no groups are known for this number of keypoints, or an option has no such value.
    """
    if groups is None:
        if num_keypoints not in GROUPS:
            raise InputError(
                f"rmpg_hierarchical knows the parts of a body of 17, 16 or 14 keypoints, not of {num_keypoints}: give "
                "the option groups, six lists of keypoints: upper and lower half, head, arms, left leg, right leg."
            )
        groups = GROUPS[num_keypoints]
    known = {*range(num_keypoints)}
    if len(groups) != len(NODES) - 1 or not all(group and known.issuperset(group) for group in groups):
        raise InputError(f"groups must be six lists of keypoints from 0 to {num_keypoints - 1}, not {groups}.")
    if num_supervised < 0 or num_free < 0:
        raise InputError(f"num_supervised and num_free must be at least 0, not {num_supervised} and {num_free}.")
    if len(level_weights) > 3 or not all(0 <= weight < math.inf for weight in level_weights):
        raise InputError(f"level_weights must be at most three numbers of at least 0, not {level_weights}.")
    supervised, free = (
        [RMPG(channels, (2, 2, 2), relation, context, ffn_ratio, kv_grid, norm, conv_bias, zero_init) for _ in range(n)]
        for n in (num_supervised, num_free)
    )
    return HierarchicalRMPG(width, num_keypoints, channels, supervised, free, groups, level_weights)
