"""LitePose supernet: one network whose leading channels are all narrower LitePose networks.

Paper: Wang et al., "Lite Pose: Efficient Architecture Design for 2D Human Pose Estimation", arXiv 2205.01271.
Original: github.com/mit-han-lab/litepose (MIT).
Differs: depths are those of the published networks, so that everything is trained; blocks have no smaller kernels cut
out of their 7x7, which the original never uses; the arch of a forward pass is an argument, drawn outside; channels are
put into order together with the statistics of their norms, and in the head too, which the original starts anew. A block
adds its input where the arch's own widths allow it, as the static network does; in the original the full widths decide,
which in its search space is the same. The person head is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx
from torch.func import functional_call

from leanpose.errors import InputError
from leanpose.models.litepose import LitePose
from leanpose.models.litepose_arch import LitePoseArch

NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


class LitePoseSupernet(LitePose):
    """A LitePose network that can also be run with the leading channels of each layer alone.

    Its parameters and the statistics of its norms are those of all narrower networks too: training one of them changes
    the channels that it has. Arguments as of `LitePose`; the arch is the widest one.
    """

    def forward(self, images: Tensor, arch: LitePoseArch | None = None) -> dict[str, Tensor]:
        """Run the network of one arch; inputs and outputs as of `LitePose.forward`.

        Args:
            images: (B, 3, H, W), normalised; H and W multiples of 16, whatever the arch's input size.
            arch: which one; None: the widest. It is not kept.

        Raises:
            InputError: the supernet does not hold the arch, or a side of the images is no multiple of 16.
        """
        if arch is None or isinstance(arch, fx.Proxy):  # a proxy while the network is traced
            return super().forward(images)
        sliced = self.slices(arch)
        with self._as_wide_as(arch):
            return functional_call(self, sliced, (images,))

    def slices(self, arch: LitePoseArch) -> dict[str, Tensor]:
        """Return those of the network's tensors that an arch shares in, by name: their leading channels, as views.

        Raises:
            InputError: the supernet does not hold the arch.
        """
        self._check(arch)
        sliced: dict[str, Tensor] = {}
        for layer in arch.layers(self.num_keypoints, self.finds_persons):
            weight = self.get_submodule(layer.name).get_parameter("weight")
            rows, columns = layer.out_channels, 1 if layer.kind == "depthwise" else layer.in_channels
            if layer.kind == "transposed":
                rows, columns = columns, rows
            if layer.name == "person.conv.0.0":  # its input is one of the head's features beside one of the backbone's
                head, backbone = weight.split([self.arch.head_widths[1], self.arch.stage_widths[0]], dim=1)
                sliced[f"{layer.name}.weight"] = torch.cat(
                    [head[:, : arch.head_widths[1]], backbone[:, : arch.stage_widths[0]]], dim=1
                )
            else:
                sliced[f"{layer.name}.weight"] = weight[:rows, :columns]
            if layer.norm:
                norm = self.get_submodule(layer.norm)
                sliced |= {f"{layer.norm}.{name}": getattr(norm, name)[: layer.out_channels] for name in NORM_TENSORS}
        return sliced

    def _check(self, arch: LitePoseArch) -> None:
        fixed = all(getattr(arch, name) == getattr(self.arch, name) for name in ("stage_depths", "kernel_size", "head"))
        widths = [(one.stem_width, *one.stage_widths, *one.head_widths) for one in (arch, self.arch)]
        if not fixed or any(width > widest for width, widest in zip(*widths, strict=True)):
            raise InputError(f"The supernet holds archs as deep as {self.arch} and no wider, not {arch}.")

    @contextmanager
    def _as_wide_as(self, arch: LitePoseArch) -> Iterator[None]:
        """Tell layers what they cannot see from their weights, how wide an arch is; afterwards, the full widths."""
        try:
            self._set_widths(arch)
            yield
        finally:
            self._set_widths(self.arch)

    def _set_widths(self, arch: LitePoseArch) -> None:
        for layer in arch.layers(self.num_keypoints, self.finds_persons):
            if layer.kind == "depthwise":
                conv: Any = self.get_submodule(layer.name)
                conv.groups = layer.out_channels
        widths = (arch.stem_width, *arch.stage_widths)
        for stage, inside, width in zip(self.stage, widths[:-1], widths[1:], strict=True):
            block: Any = stage[0]  # type: ignore[index]
            block.adds_input = block.depth_conv[0].stride == (1, 1) and inside == width


def cut(network: LitePoseSupernet, arch: LitePoseArch) -> LitePose:
    """Return the static network of an arch, with a copy of the weights that it has in a supernet.

    In eval mode its outputs are those of `network(images, arch)`. The statistics of its norms come from all archs that
    were trained: before it is used, compute its own (`leanpose.models.batch_norm.calibrate_batch_norm`) or train it on.

    Raises:
        InputError: the supernet does not hold the arch.
    """
    static = LitePose(arch, network.num_keypoints, network.finds_persons).to(next(network.parameters()))
    static.load_state_dict(network.state_dict() | network.slices(arch))
    return static.train(network.training)


@torch.no_grad()
def reorder_channels(network: LitePose) -> None:
    """Put the output channels of the stem and of the first three stages in order of importance, the greatest first.

    So that what is cut off is what the next stage reads least: the importance of a channel is the sum of the absolute
    weights with which the first layer of the next stage reads it. Outputs stay what they are, up to rounding.
    """
    layers: Any = network  # mypy knows no parts of modules
    for level, stage in enumerate(layers.stage):
        reader = stage[0].inv[0]
        order = reader.weight.abs().sum(dim=(0, 2, 3)).argsort(descending=True, stable=True)
        readers, writers = [reader], [layers.first[2:]]
        if level:
            before = layers.stage[level - 1]
            readers += [block.inv[0] for block in before[1:]]
            writers = [block.point_conv for block in before]
        if network.fuses and level:
            _put(layers.deconv_raw[3 - level].weight, order, dim=0)
        if network.fuses and level < 2:  # what predictions read
            prediction = layers.final_raw[1 - level].conv
            writers.append(prediction[:2])
            readers.append(prediction[3])
        if network.finds_persons and level == 1:
            _put(layers.person.conv[0][0].weight[:, network.arch.head_widths[1] :], order, dim=1)
        for conv, norm in writers:
            for tensor in (conv.weight, *(getattr(norm, name) for name in NORM_TENSORS)):
                _put(tensor, order, dim=0)
        for conv in readers:
            _put(conv.weight, order, dim=1)


def _put(tensor: Tensor, order: Tensor, dim: int) -> None:
    tensor.copy_(tensor.index_select(dim, order))


def litepose_supernet(
    num_keypoints: int = 17, arch: LitePoseArch | Mapping[str, Any] | str = "prune_l", person_head: bool = False
) -> LitePoseSupernet:
    """LitePose supernet; arguments as of `litepose`, the arch is the widest one."""
    return LitePoseSupernet(LitePoseArch.of(arch), num_keypoints, person_head)
