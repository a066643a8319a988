"""SFM-R, a reconstruction: two slender pyramids joined by bridges without weights, and attention on attention maps.

Paper: Ren, Zhou, Chen, Zhou, Gao, "Efficient Human Pose Estimation by Maximizing Fusion and High-Level Spatial
Attention", arXiv 2107.13693.
Original: none known.
Differs: the body of the paper was not at hand, so this is not SFM as published. From its abstract come the two pyramid
frameworks, the bridges that add fusions but no layers, and an attention that is computed on a spatial attention map
(HSA). Wiring, widths, blocks and formulas are ours, chosen so that the cost is that of the paper: 1.5 M parameters and
1.7 G multiply-adds, here at 256x256 with both heads. The options build other designs of about this cost, and change one
by one what had to be guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from leanpose.errors import InputError
from leanpose.models.layers import (
    Auxiliary,
    HeadKind,
    PersonHead,
    SimCCHead,
    check_choice,
    check_input_sides,
    check_input_size,
    conv_norm,
)

Topology = Literal["cascade", "single_u"]
Bridges = Literal["all", "none", "encoder_to_encoder", "decoder_to_encoder", "decoder_to_decoder"]
Fusion = Literal["mean", "sum"]
Block = Literal["basic", "dw_separable", "inverted_residual", "bottleneck"]
Head = Literal[HeadKind, "persons"]
HSA = Literal["second_order", "single_map", "pooled_map", "non_local", "none"]


class ResidualBlock(nn.Module):
    """Convolutions with norms, and activations between them; plus the input.

    Args:
        channels: C, of the input and the output.
        kind: "basic" 3x3, 3x3; "dw_separable" depthwise 3x3, 1x1, depthwise 3x3, 1x1; "bottleneck" 1x1 to C / 2, 3x3,
            1x1; "inverted_residual" 1x1 to more channels, depthwise 3x3, 1x1, and no activation after the sum.
        expansion: how many times wider than outside an "inverted_residual" is inside.
    """

    def __init__(self, channels: int, kind: Block, expansion: int) -> None:
        super().__init__()
        half, more = channels // 2, expansion * channels
        convs = {  # output channels, kernel size, groups
            "basic": [(channels, 3, 1), (channels, 3, 1)],
            "dw_separable": 2 * [(channels, 3, channels), (channels, 1, 1)],
            "inverted_residual": [(more, 1, 1), (more, 3, more), (channels, 1, 1)],
            "bottleneck": [(half, 1, 1), (half, 3, 1), (channels, 1, 1)],
        }[kind]
        layers: list[nn.Module] = []
        in_channels = channels
        for out_channels, kernel_size, groups in convs:
            layers += [*conv_norm(in_channels, out_channels, kernel_size, groups=groups), nn.ReLU(inplace=True)]
            in_channels = out_channels
        self.residual = nn.Sequential(*layers[:-1])
        self.activation = nn.Identity() if kind == "inverted_residual" else nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        return self.activation(features + self.residual(features))


class SecondOrderAttention(nn.Module):
    """Multiply every pixel by 1 + a gate in (0, 1), computed by attention over first-order attention maps.

    The second-order map says how alike two pixels are in the k first-order maps; with it each pixel collects the
    first-order attention of those like it.

    Args:
        maps: from features (B, C, H, W) to the logits of first-order maps (B, k, H, W).
        channels: k, number of first-order maps.
        max_keys: where maps have more pixels than that, each 2x2 of them are averaged to one key.
    """

    def __init__(self, maps: nn.Module, channels: int, max_keys: int) -> None:
        super().__init__()
        self.maps = maps
        self.gate = nn.Conv2d(channels, 1, kernel_size=1)
        self.max_keys = max_keys

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        maps = self.maps(features)  # (B, k, H, W)
        keys = _pool_keys(maps, self.max_keys)  # (B, k, H, W) or (B, k, H/2, W/2)
        attended = _attend(maps, keys, keys.sigmoid())  # (B, k, H, W)
        return features + features * self.gate(attended).sigmoid()  # (B, 1, H, W), broadcast


class NonLocalAttention(nn.Module):
    """Add to every pixel a mean over all pixels, weighted by how well their keys match its query.

    From "Non-local Neural Networks", arXiv 1711.07971, without its residual at first: the last norm starts at zero.

    Args:
        in_channels: C, of the input and the output.
        channels: k, of queries, keys and values.
        max_keys: as of `SecondOrderAttention`.
    """

    def __init__(self, in_channels: int, channels: int, max_keys: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Sequential(*conv_norm(in_channels, channels, 1)) for _ in range(3))
        self.project = nn.Sequential(*conv_norm(channels, in_channels, 1))
        nn.init.zeros_(self.project[1].get_parameter("weight"))
        self.max_keys = max_keys

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        keys = _pool_keys(self.key(features), self.max_keys)  # (B, k, H, W) or (B, k, H/2, W/2)
        values = _pool_keys(self.value(features), self.max_keys)
        attended = _attend(self.query(features), keys, values)  # (B, k, H, W)
        return features + self.project(attended)


class MeanAndMax(nn.Module):
    """Mean and maximum over the channels, as in "CBAM", arXiv 1807.06521."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 2, H, W)."""
        return torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)


class Pyramid(nn.Module):
    """An encoder that halves the size from level to level, and a decoder that comes back; all of one width.

    Args:
        encoder, decoder: one node a level, from the finest; (B, C, h, w) to the same shape.
        fusion: "mean" of the inputs of a node, or "sum".
        dense: every node of the decoder sees the encoder's features of all levels, not only of its own.
    """

    def __init__(self, encoder: Sequence[nn.Module], decoder: Sequence[nn.Module], fusion: Fusion, dense: bool) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        self.fusion, self.dense = fusion, dense

    def forward(
        self, features: Tensor, to_encoder: list[list[Tensor]], to_decoder: list[list[Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Compute the features of all levels.

        Args:
            features: (B, C, h, w), input of the finest level.
            to_encoder, to_decoder: for each level, further inputs of its nodes, in the size of the level.

        Returns:
            What the nodes of the encoder and those of the decoder give, one a level, from the finest: (B, C, h, w),
            (B, C, h/2, w/2) and so on, sides rounded up.
        """
        encoded: list[Tensor] = []
        for node, others in zip(self.encoder, to_encoder, strict=True):
            above = _down(encoded[-1]) if encoded else features
            encoded.append(node(_fuse([above, *others], self.fusion)))

        decoded: list[Tensor] = []  # from the coarsest
        for level in reversed(range(len(encoded))):
            inputs = [encoded[level]]
            if self.dense:
                inputs += [_resize(encoded, other, level) for other in range(len(encoded)) if other != level]
            if decoded:
                inputs.append(_up(decoded[-1], encoded[level]))
            decoded.append(self.decoder[level](_fuse(inputs + to_decoder[level], self.fusion)))
        return encoded, decoded[::-1]


class SFM(nn.Module):
    """Stem to stride 4, two pyramids one after the other, one heatmap per keypoint after each.

    The second pyramid starts from the stem and the first one's finest decoder node. Bridges are all its further inputs
    from the first pyramid, each between nodes of one level; they cost no parameters and no multiply-adds.

    Args:
        num_keypoints: K, number of heatmaps.
        topology: "cascade", or "single_u": one pyramid, whose bridges join the encoder's levels to all other levels of
            the decoder.
        bridges: "all", "none" or one kind: "encoder_to_encoder", "decoder_to_encoder", "decoder_to_decoder". With
            "single_u" only "all" or "none".
        fusion: "mean" of what meets at a node, or "sum", whose values grow from node to node.
        width: C, channels of all nodes, a multiple of 8.
        levels: how many sizes a pyramid has, at strides 4, 8 and so on; 2 or more.
        blocks_per_node: residual blocks in each encoder and decoder node.
        stem_width: channels at stride 2.
        block: kind of the blocks, see `ResidualBlock`.
        expansion: of "inverted_residual" blocks.
        hsa: attention after decoder nodes: "second_order"; "single_map", the same with one first-order map;
            "pooled_map", the same on mean and maximum over the channels; "non_local"; "none".
        hsa_levels: levels with attention, 0 is the finest; None: all but 0.
        hsa_channels: k of "second_order" and "non_local"; None: C / 8.
        hsa_max_keys: where maps have more pixels than that, keys are averages of 2x2 pixels.
        head: "heatmaps"; "simcc": two vectors per keypoint, see `SimCCHead`; or "persons": where the persons of a whole
            image are, see `PersonHead`. The paper has only the first.
        input_size: (height, width) of the images in pixels; for the head "simcc" alone.

    Raises:
        InputError: an option has no such value, or does not go with another.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        topology: Topology = "cascade",
        bridges: Bridges = "all",
        fusion: Fusion = "mean",
        width: int = 64,
        levels: int = 5,
        blocks_per_node: int = 1,
        stem_width: int = 32,
        block: Block = "basic",
        expansion: int = 4,
        hsa: HSA = "second_order",
        hsa_levels: Sequence[int] | None = None,
        hsa_channels: int | None = None,
        hsa_max_keys: int = 256,
        head: Head = "heatmaps",
        input_size: Sequence[int] = (256, 256),
    ) -> None:
        super().__init__()
        check_choice("head", head, Head)
        _check_choices(topology, bridges, fusion, block, hsa)
        _check_numbers(width, levels, blocks_per_node, stem_width, expansion, hsa_max_keys)
        if hsa_levels is None:
            hsa_levels = range(1, levels)
        if not set(hsa_levels) <= set(range(levels)):
            raise InputError(f"hsa_levels must lie between 0 and {levels - 1}, not {list(hsa_levels)}.")
        if hsa_channels is None:
            hsa_channels = width // 8
        elif hsa not in ("second_order", "non_local") or hsa_channels < 1:
            raise InputError("hsa_channels must be at least 1, and is for hsa 'second_order' and 'non_local' only.")

        def encoder_node() -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width, block, expansion) for _ in range(blocks_per_node)))

        def decoder_node(level: int) -> nn.Sequential:
            attends = hsa if level in hsa_levels else "none"
            return nn.Sequential(encoder_node(), _attention(attends, width, hsa_channels, hsa_max_keys))

        def pyramid() -> Pyramid:
            dense = topology == "single_u" and bridges == "all"
            return Pyramid(
                [encoder_node() for _ in range(levels)], [decoder_node(level) for level in range(levels)], fusion, dense
            )

        def head_of_pyramid() -> nn.Module:
            if head == "simcc":
                return SimCCHead(width, num_keypoints, input_size, stride=4)
            if head == "persons":
                return PersonHead(width, width)
            return nn.Conv2d(width, num_keypoints, kernel_size=1)

        self.levels, self.bridges = levels, bridges
        self.cascades = topology == "cascade"
        first_output = {"heatmaps": "heatmaps", "simcc": "simcc_x", "persons": "centers"}[head]
        self.auxiliary = {f"{first_output}_first": Auxiliary()} if self.cascades else {}
        self.stem = nn.Sequential(
            *conv_norm(3, stem_width, kernel_size=3, stride=2),
            nn.ReLU(inplace=True),
            *conv_norm(stem_width, width, kernel_size=3, stride=2),
            nn.ReLU(inplace=True),
        )
        self.pyramid1 = pyramid()
        self.head1 = head_of_pyramid()
        if self.cascades:
            self.pyramid2 = pyramid()
            self.head2 = head_of_pyramid()
        self._init_weights()

    @property
    def num_fusions(self) -> int:
        """Number of pairwise fusions: inputs of a node minus 1, summed over all nodes."""
        skips = self.levels - 1
        if not self.cascades:
            return skips + (self.levels * skips if self.bridges == "all" else 0)
        bridges = self._has("encoder_to_encoder") * self.levels
        bridges += self._has("decoder_to_encoder") * (self.levels - 1)  # that of the finest level is no bridge
        bridges += self._has("decoder_to_decoder") * self.levels
        return 2 * skips + 1 + bridges

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Estimate the heatmaps of one person per image; with the head "persons", find those of a whole image.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 4, or with the head "simcc" those of `input_size`.

        Returns:
            heatmaps: (B, K, H/4, W/4), unbounded; trained to be 1 on the keypoint and 0 far from it. Or, with the head
            "simcc", simcc_x: (B, K, 2W) and simcc_y: (B, K, 2H), trained to be largest in the keypoint's bin. Or, with
            the head "persons", centers: (B, 1, H/4, W/4) and box_logs: (B, 4, H/4, W/4), as of LitePose.
            heatmaps_first, or simcc_x_first and simcc_y_first, or centers_first and box_logs_first: the same, of the
            first of two pyramids; in train mode only.

        Raises:
            InputError: the images have not such a size.
        """
        check_input_sides(images, multiple=4)
        if isinstance(self.head1, SimCCHead):
            check_input_size(images, self.head1.input_size)
        features = self.stem(images)  # (B, C, H/4, W/4)
        nothing: list[list[Tensor]] = [[] for _ in range(self.levels)]
        encoded, decoded = self.pyramid1(features, nothing, nothing)  # each (B, C, H/4, W/4), (B, C, H/8, W/8), ...
        if not self.cascades:
            return _predict(self.head1, decoded[0])

        to_encoder = [
            ([encoded[level]] if self._has("encoder_to_encoder") else [])
            + ([decoded[level]] if self._has("decoder_to_encoder") or level == 0 else [])
            for level in range(self.levels)
        ]
        to_decoder = [[maps] for maps in decoded] if self._has("decoder_to_decoder") else nothing
        _, final = self.pyramid2(features, to_encoder, to_decoder)
        outputs = _predict(self.head2, final[0])
        if self.training:
            outputs |= {f"{name}_first": found for name, found in _predict(self.head1, decoded[0]).items()}
        return outputs

    def _has(self, kind: Bridges) -> bool:
        """Whether the second pyramid has bridges of this kind."""
        return self.bridges in (kind, "all")

    def _init_weights(self) -> None:
        """Kaiming normal over the outputs, heatmaps near zero; norms stay as constructed."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for head in (self.head1, self.head2) if self.cascades else (self.head1,):
            if isinstance(head, nn.Conv2d):
                nn.init.normal_(head.weight, std=0.001)
            elif isinstance(head, PersonHead):
                head.start_empty()


def sfm_persons(num_keypoints: int = 17) -> SFM:
    """SFM-R that finds the persons of whole images. It has no heatmaps, so that num_keypoints changes nothing."""
    return SFM(num_keypoints, head="persons")


def _predict(head: nn.Module, features: Tensor) -> dict[str, Tensor]:
    """Return what a head finds in features (B, C, H/4, W/4), by name."""
    found = head(features)
    return found if isinstance(found, dict) else {"heatmaps": found}  # (B, K, H/4, W/4)


def _check_choices(topology: Topology, bridges: Bridges, fusion: Fusion, block: Block, hsa: HSA) -> None:
    """Check the options that are names."""
    check_choice("topology", topology, Topology)
    check_choice("bridges", bridges, Bridges)
    check_choice("fusion", fusion, Fusion)
    check_choice("block", block, Block)
    check_choice("hsa", hsa, HSA)
    if topology == "single_u" and bridges not in ("all", "none"):
        raise InputError(f"bridges must be 'all' or 'none' in the topology 'single_u', not '{bridges}'.")


def _check_numbers(
    width: int, levels: int, blocks_per_node: int, stem_width: int, expansion: int, hsa_max_keys: int
) -> None:
    """Check the options that are numbers."""
    if width < 8 or width % 8:
        raise InputError(f"width must be a multiple of 8, such as 64, not {width}.")
    least = (
        ("levels", levels, 2),
        ("blocks_per_node", blocks_per_node, 1),
        ("stem_width", stem_width, 1),
        ("expansion", expansion, 1),
        ("hsa_max_keys", hsa_max_keys, 1),
    )
    for option, value, smallest in least:
        if value < smallest:
            raise InputError(f"{option} must be at least {smallest}, not {value}.")


def _attention(hsa: HSA, width: int, channels: int, max_keys: int) -> nn.Module:
    """Return the attention of one decoder node: (B, width, H, W) to the same shape."""
    if hsa == "none":
        return nn.Identity()
    if hsa == "non_local":
        return NonLocalAttention(width, channels, max_keys)
    if hsa == "pooled_map":
        return SecondOrderAttention(MeanAndMax(), 2, max_keys)
    if hsa == "single_map":
        channels = 1
    return SecondOrderAttention(nn.Sequential(*conv_norm(width, channels, kernel_size=1)), channels, max_keys)


def _fuse(inputs: list[Tensor], fusion: Fusion) -> Tensor:
    """Add features of one shape; "mean" divides by their number."""
    total = sum(inputs[1:], inputs[0])
    return total / len(inputs) if fusion == "mean" else total


def _down(features: Tensor) -> Tensor:
    """Halve the size, rounded up: (B, C, h, w) to (B, C, h/2, w/2)."""
    return functional.max_pool2d(features, kernel_size=2, stride=2, ceil_mode=True)


def _up(features: Tensor, like: Tensor) -> Tensor:
    """Enlarge features to the size of others, by the nearest pixel: (B, C, h, w) to (B, C, *like.shape[2:])."""
    return functional.interpolate(features, size=like.shape[2:], mode="nearest")


def _resize(encoded: list[Tensor], source: int, level: int) -> Tensor:
    """Bring the features of one level to the size of another."""
    if source > level:
        return _up(encoded[source], encoded[level])
    features = encoded[source]
    for _ in range(level - source):
        features = _down(features)
    return features


def _pool_keys(maps: Tensor, max_keys: int) -> Tensor:
    """Average each 2x2 pixels, those at an odd edge fewer, if there are more than `max_keys` pixels: (B, k, H, W) to
    the same shape or (B, k, H/2, W/2)."""
    if maps.shape[2] * maps.shape[3] <= max_keys:
        return maps
    return functional.avg_pool2d(maps, kernel_size=2, stride=2, ceil_mode=True)


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return for each query the mean of the values, weighted by softmax(query . key / sqrt k): queries (B, k, H, W),
    keys and values (B, k, h, w), to (B, k, H, W)."""
    logits = queries.flatten(2).transpose(1, 2) @ keys.flatten(2) / math.sqrt(queries.shape[1])  # (B, H*W, h*w)
    precise = torch.promote_types(logits.dtype, torch.float32)
    weights = logits.softmax(dim=2, dtype=precise).to(logits.dtype)
    return (values.flatten(2) @ weights.transpose(1, 2)).reshape(queries.shape)  # (B, k, H*W) to (B, k, H, W)


fx.wrap("_pool_keys")  # the two look at shapes and types, which tracing does not know
fx.wrap("_attend")
