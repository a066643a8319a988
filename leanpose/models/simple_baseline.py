"""SimpleBaseline: a ResNet followed by three transposed convolutions.

Paper: Xiao, Wu, Wei, "Simple Baselines for Human Pose Estimation and Tracking", arXiv 1804.06208.
Original: github.com/microsoft/human-pose-estimation.pytorch (MIT).
Differs: the backbone starts from random numbers (the paper starts from ImageNet weights), and all but the
last convolution from Kaiming normal (the original draws its transposed convolutions from N(0, 0.001)).
Names, shapes and order of the state dict are those of the original.
"""

from __future__ import annotations

from torch import Tensor, nn

from leanpose.models.layers import check_input_sides, init_convs_kaiming, upsample
from leanpose.models.resnet import EXPANSION, resnet_stage

HEAD_CHANNELS = 256


class SimpleBaseline(nn.Module):
    """ResNet to stride 32, three transposed convolutions to stride 4, one heatmap per keypoint.

    Args:
        blocks_per_stage: number of bottlenecks in layer1 to layer4.
        num_keypoints: K, number of heatmaps.
        refine: what stands between the last transposed convolution and the heatmaps, (B, 256, H/4, W/4) to the same
            shape, initialised by its own rules; None: nothing.
    """

    def __init__(
        self, blocks_per_stage: tuple[int, int, int, int], num_keypoints: int = 17, refine: nn.Module | None = None
    ) -> None:
        super().__init__()
        blocks1, blocks2, blocks3, blocks4 = blocks_per_stage
        self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = resnet_stage(64, 64, blocks1, stride=1)
        self.layer2 = resnet_stage(64 * EXPANSION, 128, blocks2, stride=2)
        self.layer3 = resnet_stage(128 * EXPANSION, 256, blocks3, stride=2)
        self.layer4 = resnet_stage(256 * EXPANSION, 512, blocks4, stride=2)
        self.deconv_layers = nn.Sequential(
            *upsample(512 * EXPANSION, HEAD_CHANNELS),
            *upsample(HEAD_CHANNELS, HEAD_CHANNELS),
            *upsample(HEAD_CHANNELS, HEAD_CHANNELS),
        )
        self.refine: nn.Module = nn.Identity()
        self.final_layer = nn.Conv2d(HEAD_CHANNELS, num_keypoints, kernel_size=1)

        init_convs_kaiming(self)
        nn.init.normal_(self.final_layer.weight, std=0.001)
        if refine is not None:
            self.refine = refine

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Estimate the heatmaps of one person per image.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 32.

        Returns:
            heatmaps: (B, K, H/4, W/4), unbounded; trained to be 1 on the keypoint and 0 far from it.

        Raises:
            InputError: a side of the images is no multiple of 32.
        """
        check_input_sides(images, multiple=32)
        features = self.relu(self.bn1(self.conv1(images)))  # (B, 64, H/2, W/2)
        features = self.maxpool(features)  # (B, 64, H/4, W/4)
        features = self.layer1(features)  # (B, 256, H/4, W/4)
        features = self.layer2(features)  # (B, 512, H/8, W/8)
        features = self.layer3(features)  # (B, 1024, H/16, W/16)
        features = self.layer4(features)  # (B, 2048, H/32, W/32)
        features = self.deconv_layers(features)  # (B, 256, H/4, W/4)
        features = self.refine(features)
        return {"heatmaps": self.final_layer(features)}  # (B, K, H/4, W/4)


def simple_baseline_50(num_keypoints: int = 17) -> SimpleBaseline:
    """SimpleBaseline on ResNet-50."""
    return SimpleBaseline((3, 4, 6, 3), num_keypoints)


def simple_baseline_101(num_keypoints: int = 17) -> SimpleBaseline:
    """SimpleBaseline on ResNet-101."""
    return SimpleBaseline((3, 4, 23, 3), num_keypoints)


def simple_baseline_152(num_keypoints: int = 17) -> SimpleBaseline:
    """SimpleBaseline on ResNet-152."""
    return SimpleBaseline((3, 8, 36, 3), num_keypoints)
