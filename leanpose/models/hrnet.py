"""HRNet: branches of several resolutions side by side, which exchange their features again and again.

Paper: Sun, Xiao, Liu, Wang, "Deep High-Resolution Representation Learning for Human Pose Estimation",
arXiv 1902.09212.
Original: github.com/leoxiaobin/deep-high-resolution-net.pytorch (MIT).
Differs: the backbone starts from random numbers (the original starts from ImageNet weights), all but the last
convolution from Kaiming normal. As in the original, the last stage forms its highest resolution alone, and names,
shapes and order of the state dict are the same, so its weights load.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from leanpose.models.layers import check_input_sides, conv_norm, init_convs_kaiming
from leanpose.models.resnet import EXPANSION, BasicBlock, resnet_stage

BLOCKS = 4  # of each branch, between two exchanges, unless a network says otherwise
MODULES = (1, 4, 3)  # exchanges in stages 2, 3 and 4


class Transition(nn.ModuleList):
    """Begin a stage: bring the branches to its widths, and make one branch more, of half the size of the last.

    Args:
        in_widths: channels of the branches of the stage before.
        widths: channels of the branches of the stage, one more.
    """

    def __init__(self, in_widths: Sequence[int], widths: Sequence[int]) -> None:
        kept = (
            nn.Identity()
            if width == in_width
            else nn.Sequential(*conv_norm(in_width, width, kernel_size=3), nn.ReLU(inplace=True))
            for in_width, width in zip(in_widths, widths, strict=False)
        )
        new = nn.Sequential(*conv_norm(in_widths[-1], widths[-1], kernel_size=3, stride=2), nn.ReLU(inplace=True))
        super().__init__([*kept, nn.Sequential(new)])

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Map n branches to n + 1."""
        return [layer(branch) for layer, branch in zip(self, [*branches, branches[-1]], strict=True)]


class Fusion(nn.ModuleList):
    """Sum all branches, each brought to the shape of one of them.

    Args:
        widths: channels of the branches, each of half the size of the one before.
        target: index of the branch that gives the shape.
    """

    def __init__(self, widths: Sequence[int], target: int) -> None:
        super().__init__(_reshape(widths, source, target) for source in range(len(widths)))

    def forward(self, branches: list[Tensor]) -> Tensor:
        """Map (B, widths[i], H / 2^i, W / 2^i) for all i to the one shape with i = target."""
        first, *others = (layer(branch) for layer, branch in zip(self, branches, strict=True))
        return sum(others, first)


class HighResolutionModule(nn.Module):
    """Basic blocks on each branch, then an exchange: outputs are sums of all branches.

    Args:
        widths: channels of the branches, each of half the size of the one before.
        num_blocks: basic blocks of each branch; a branch with 0 has one 3x3 convolution, clipped to 0..6.
        num_outputs: how many branches come out, from the largest on.
    """

    def __init__(self, widths: Sequence[int], num_blocks: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(count)))
            if count
            else nn.Sequential(*conv_norm(width, width, kernel_size=3), nn.ReLU6(inplace=True))
            for width, count in zip(widths, num_blocks, strict=True)
        )
        self.fuse_layers = nn.ModuleList(Fusion(widths, target) for target in range(num_outputs))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Map (B, widths[i], H / 2^i, W / 2^i) for all i to the same shapes, for i below num_outputs."""
        branches = [blocks(branch) for blocks, branch in zip(self.branches, branches, strict=True)]
        return [self.relu(fusion(branches)) for fusion in self.fuse_layers]


class HRNetBackbone(nn.Module):
    """Two strided convolutions, then four stages with one to four branches, of stride 4 to 32.

    Args:
        width: channels of the branch of stride 4; the others have 2, 4 and 8 times as many.
        layer1_width: channels of the 3x3 convolutions of the first stage, whose output has 4 times as many.
        blocks: basic blocks of each branch between two exchanges, of stages 2, 3 and 4, the highest resolution first;
            None: BLOCKS everywhere.
    """

    def __init__(self, width: int, layer1_width: int = 64, blocks: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 8 * width)
        blocks2, blocks3, blocks4 = blocks or ((BLOCKS,) * branches for branches in (2, 3, 4))
        self.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = resnet_stage(64, layer1_width, 4, stride=1)
        self.transition1 = Transition((layer1_width * EXPANSION,), widths[:2])
        self.stage2 = _stage(widths[:2], blocks2, MODULES[0], num_outputs=2)
        self.transition2 = Transition(widths[:2], widths[:3])
        self.stage3 = _stage(widths[:3], blocks3, MODULES[1], num_outputs=3)
        self.transition3 = Transition(widths[:3], widths)
        self.stage4 = _stage(widths, blocks4, MODULES[2], num_outputs=1)
        init_convs_kaiming(self)

    def features(self, images: Tensor) -> Tensor:
        """Return the branch of the highest resolution.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 32.

        Returns:
            (B, width, H/4, W/4), at least 0.

        Raises:
            InputError: a side of the images is no multiple of 32.
        """
        check_input_sides(images, multiple=32)
        features = self.relu(self.bn1(self.conv1(images)))  # (B, 64, H/2, W/2)
        features = self.relu(self.bn2(self.conv2(features)))  # (B, 64, H/4, W/4)
        features = self.layer1(features)  # (B, 4 * layer1_width, H/4, W/4)
        branches = self.stage2(self.transition1([features]))  # (B, width, H/4, W/4), (B, 2 * width, H/8, W/8)
        branches = self.stage3(self.transition2(branches))  # and (B, 4 * width, H/16, W/16)
        branches = self.stage4(self.transition3(branches))  # (B, width, H/4, W/4)
        return branches[0]


class HRNet(HRNetBackbone):
    """The backbone and a 1x1 convolution: one heatmap per keypoint.

    Args:
        width: channels of the branch of stride 4.
        num_keypoints: K, number of heatmaps.
        refine: what stands between the backbone and the heatmaps, (B, width, H/4, W/4) to the same shape, initialised
            by its own rules; None: nothing.
    """

    def __init__(self, width: int, num_keypoints: int = 17, refine: nn.Module | None = None) -> None:
        super().__init__(width)
        self.refine = nn.Identity() if refine is None else refine
        self.final_layer = nn.Conv2d(width, num_keypoints, kernel_size=1)
        init_convs_kaiming(self.final_layer)
        nn.init.normal_(self.final_layer.weight, std=0.001)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Estimate the heatmaps of one person per image.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 32.

        Returns:
            heatmaps: (B, K, H/4, W/4), unbounded; trained to be 1 on the keypoint and 0 far from it.

        Raises:
            InputError: a side of the images is no multiple of 32.
        """
        features = self.refine(self.features(images))  # (B, width, H/4, W/4)
        return {"heatmaps": self.final_layer(features)}  # (B, K, H/4, W/4)


def _stage(widths: Sequence[int], num_blocks: Sequence[int], num_modules: int, num_outputs: int) -> nn.Sequential:
    """Chain modules, of which the last may put out fewer branches."""
    all_but_last = (HighResolutionModule(widths, num_blocks, len(widths)) for _ in range(num_modules - 1))
    return nn.Sequential(*all_but_last, HighResolutionModule(widths, num_blocks, num_outputs))


def _reshape(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """Bring a branch to the channels and size of another."""
    if source == target:
        return nn.Identity()
    if source > target:
        up = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(*conv_norm(widths[source], widths[target], kernel_size=1), up)
    halve = [
        nn.Sequential(*conv_norm(widths[source], widths[source], kernel_size=3, stride=2), nn.ReLU(inplace=True))
        for _ in range(target - source - 1)
    ]
    return nn.Sequential(*halve, nn.Sequential(*conv_norm(widths[source], widths[target], kernel_size=3, stride=2)))


def hrnet_w32(num_keypoints: int = 17) -> HRNet:
    """HRNet-W32."""
    return HRNet(32, num_keypoints)


def hrnet_w48(num_keypoints: int = 17) -> HRNet:
    """HRNet-W48."""
    return HRNet(48, num_keypoints)
