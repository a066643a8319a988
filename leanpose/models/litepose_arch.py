"""Which LitePose networks there are: archs as values, their multiply-adds, and the space that a search looks in.

Needs no torch. Widths and sizes are those of the configs and of the supernet in github.com/mit-han-lab/litepose (MIT);
paper: Wang et al., "Lite Pose: Efficient Architecture Design for 2D Human Pose Estimation", arXiv 2205.01271.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from leanpose.errors import InputError, suggest

Head = Literal["fusion", "plain"]

FIRST_CHANNELS = 32  # of the first two layers, in every arch
EXPANSION = 6  # how many times wider than their input blocks are inside
STAGE_STRIDES = (2, 2, 2, 1)
PERSON_CHANNELS = 48  # inside the person head


class ConvLayer(NamedTuple):
    """One convolution of a network on a square input.

    Attributes:
        name: its module in the network.
        kind: "regular", "depthwise" or "transposed".
        kernel_size: side of the kernel.
        in_channels, out_channels: of its maps.
        in_side, out_side: of its maps, in pixels.
        norm: the batch norm that follows, empty where none does.
        activated: whether an activation follows.
    """

    name: str
    kind: Literal["regular", "depthwise", "transposed"]
    kernel_size: int
    in_channels: int
    out_channels: int
    in_side: int
    out_side: int
    norm: str
    activated: bool = True

    @property
    def macs(self) -> int:
        """Multiply-adds for one image; of transposed convolutions weights x input pixels."""
        weights = self.kernel_size**2 * self.out_channels * (1 if self.kind == "depthwise" else self.in_channels)
        return weights * (self.in_side if self.kind == "transposed" else self.out_side) ** 2


@dataclass(frozen=True)
class LitePoseArch:
    """One LitePose network: widths, depths, kernel, and the input size that it is meant for.

    Attributes:
        stem_width: channels of the stem's output, at stride 2.
        stage_widths: channels of the four stages.
        head_widths: channels after the three up-sampling steps.
        stage_depths: number of blocks of the four stages.
        kernel_size: of the depthwise convolutions in the blocks, odd.
        input_size: side in pixels of the square input that it is counted and searched at, a multiple of 64, as short
            sides of whole images are; the network takes other sizes too.
        head: "fusion" adds features of the backbone at every step and prediction; "plain" does not.

    Raises:
        InputError: a width is no multiple of 8, or another value does not fit.
    """

    stem_width: int
    stage_widths: tuple[int, int, int, int]
    head_widths: tuple[int, int, int]
    stage_depths: tuple[int, int, int, int] = (6, 8, 10, 10)
    kernel_size: int = 7
    input_size: int = 256
    head: Head = "fusion"

    def __post_init__(self) -> None:
        for name, length in (("stage_widths", 4), ("head_widths", 3), ("stage_depths", 4)):
            values = getattr(self, name)
            if not isinstance(values, list | tuple) or len(values) != length:
                raise InputError(f"{name} must be {length} whole numbers, not {values!r}.")
            object.__setattr__(self, name, tuple(values))
        self._check("stem_width", self.stem_width, 8)
        for name, multiple in (("stage_widths", 8), ("head_widths", 8), ("stage_depths", 1)):
            for i, value in enumerate(getattr(self, name)):
                self._check(f"{name}[{i}]", value, multiple)
        self._check("input_size", self.input_size, 64)
        self._check("kernel_size", self.kernel_size, 1)
        if self.kernel_size % 2 == 0:
            raise InputError(f"kernel_size must be odd, such as 7, not {self.kernel_size}.")
        if self.head not in get_args(Head):
            raise InputError(f"Unknown head '{self.head}'.{suggest(str(self.head), get_args(Head))}")

    @staticmethod
    def _check(name: str, value: Any, multiple: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1 or value % multiple:
            wanted = "whole number above 0" if multiple == 1 else f"multiple of {multiple}"
            raise InputError(f"{name} must be a {wanted}, not {value!r}.")

    @classmethod
    def of(cls, arch: LitePoseArch | Mapping[str, Any] | str) -> LitePoseArch:
        """Return an arch given as one, as what `as_dict` returns, or as a name of ARCHS.

        Raises:
            InputError: there is no such name, a key is unknown or absent, or a value does not fit.
        """
        if isinstance(arch, LitePoseArch):
            return arch
        if isinstance(arch, str):
            if arch not in ARCHS:
                raise InputError(f"There is no arch '{arch}'.{suggest(arch, ARCHS)}")
            return ARCHS[arch]
        if not isinstance(arch, Mapping):
            raise InputError(f"An arch must be a name, such as search_xs, or a mapping, not {arch!r}.")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in arch:
            if key not in fields:
                raise InputError(f"An arch has no key '{key}'.{suggest(str(key), fields)}")
        for name, field in fields.items():
            if name not in arch and field.default is dataclasses.MISSING:
                raise InputError(f"An arch needs the key '{name}'.")
        return cls(**arch)

    def as_dict(self) -> dict[str, Any]:
        """Return the arch for JSON: whole numbers, lists of them, and the head's name."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }

    def layers(self, num_keypoints: int = 17, person_head: bool = False) -> list[ConvLayer]:
        """Return the network's convolutions on its input size.

        Args:
            num_keypoints: K, number of keypoints that the network finds.
            person_head: whether it also predicts where persons are.
        """
        return [*self._backbone(), *self._head(num_keypoints), *(self._person_head() if person_head else ())]

    def _backbone(self) -> Iterator[ConvLayer]:
        size, half, first = self.input_size, self.input_size // 2, FIRST_CHANNELS
        yield ConvLayer("first.0.0", "regular", 3, 3, first, size, half, "first.0.1")
        yield ConvLayer("first.1.0", "depthwise", 3, first, first, half, half, "first.1.1")
        yield ConvLayer("first.2", "regular", 1, first, self.stem_width, half, half, "first.3", activated=False)
        inside, side = self.stem_width, half
        for stage, (width, depth) in enumerate(zip(self.stage_widths, self.stage_depths, strict=True)):
            for block in range(depth):
                inv, conv, point = (f"stage.{stage}.{block}.{part}" for part in ("inv", "depth_conv", "point_conv"))
                hidden, out = EXPANSION * inside, side // STAGE_STRIDES[stage] if block == 0 else side
                yield ConvLayer(f"{inv}.0", "regular", 1, inside, hidden, side, side, f"{inv}.1")
                yield ConvLayer(f"{conv}.0", "depthwise", self.kernel_size, hidden, hidden, side, out, f"{conv}.1")
                yield ConvLayer(f"{point}.0", "regular", 1, hidden, width, out, out, f"{point}.1", activated=False)
                inside, side = width, out

    def _head(self, num_keypoints: int) -> Iterator[ConvLayer]:
        (c1, c2, c3, c4), (f0, f1, f2), size = self.stage_widths, self.head_widths, self.input_size
        sides = (size // 16, size // 8, size // 4, size // 2)
        doubled = {"refined": (c4, f0, f1), "raw": (c3, c2, c1)}
        predicted = {"refined": (f1, f2), "raw": (c1, self.stem_width)}
        branches = ("refined", "raw") if self.head == "fusion" else ("refined",)
        for branch in branches:
            for step, (inside, width) in enumerate(zip(doubled[branch], self.head_widths, strict=True)):
                name, (side, out) = f"deconv_{branch}.{step}", sides[step : step + 2]
                once = branch == "refined"  # one norm and one activation after the sum of both
                norm = f"deconv_bnrelu.{step}.0" if once else ""
                yield ConvLayer(name, "transposed", 4, inside, width, side, out, norm, activated=once)
        for branch in branches:
            maps = (2 * num_keypoints, num_keypoints)
            for output, (width, channels) in enumerate(zip(predicted[branch], maps, strict=True)):
                name, side = f"final_{branch}.{output}.conv", sides[2 + output]
                yield ConvLayer(f"{name}.0", "depthwise", 5, width, width, side, side, f"{name}.1")
                yield ConvLayer(f"{name}.3", "regular", 1, width, channels, side, side, "", activated=False)

    def _person_head(self) -> Iterator[ConvLayer]:
        inside, inner, side = self.head_widths[1] + self.stage_widths[0], PERSON_CHANNELS, self.input_size // 4
        yield ConvLayer("person.conv.0.0", "regular", 1, inside, inner, side, side, "person.conv.0.1")
        yield ConvLayer("person.conv.1.0", "depthwise", 5, inner, inner, side, side, "person.conv.1.1")
        for name, maps in (("center", 1), ("box", 4)):
            yield ConvLayer(f"person.{name}", "regular", 1, inner, maps, side, side, "", activated=False)

    def macs(self, num_keypoints: int = 17, person_head: bool = False) -> int:
        """Return the multiply-adds of the convolutions for one image of the input size, an exact whole number.

        It is what `leanpose.models.counts.count_macs` counts of the network.
        """
        return sum(layer.macs for layer in self.layers(num_keypoints, person_head))

    def ptflops(self, num_keypoints: int = 17) -> int:
        """Return the multiply-adds as the authors print them: those of ptflops 0.6.9 for one image of the input size.

        Transposed convolutions count on their output pixels, four times too many; norms cost two and activations one
        for each value. The limits of the authors' searches (1.2, 4.5 and 8 G) are in this unit.
        """
        return sum(
            layer.macs * (4 if layer.kind == "transposed" else 1)
            + layer.out_channels * layer.out_side**2 * (2 * bool(layer.norm) + layer.activated)
            for layer in self.layers(num_keypoints)
        )


# The authors' configs: what their searches found, by size or by their limit in G of `LitePoseArch.ptflops`; and the
# supernet at half, three quarters and full width.
ARCHS: dict[str, LitePoseArch] = {
    "search_xs": LitePoseArch(16, (16, 32, 48, 80), (16, 24, 24), input_size=256),  # litepose_xs
    "search_s": LitePoseArch(16, (16, 32, 48, 120), (32, 24, 32), input_size=448),  # litepose_s
    "search_m": LitePoseArch(16, (24, 48, 72, 120), (64, 40, 32), input_size=448),  # litepose_m
    "search_l": LitePoseArch(24, (24, 64, 96, 160), (64, 40, 32), input_size=512),  # litepose_l
    "search_4.5g": LitePoseArch(24, (24, 64, 72, 160), (48, 24, 24), input_size=320),
    "search_8g": LitePoseArch(24, (16, 48, 96, 160), (48, 24, 24), input_size=448),
    "prune_s": LitePoseArch(16, (16, 32, 48, 80), (32, 24, 16), input_size=512),
    "prune_m": LitePoseArch(24, (24, 48, 72, 120), (48, 40, 24), input_size=512),
    "prune_l": LitePoseArch(24, (32, 64, 96, 160), (64, 48, 32), input_size=512),  # the supernet at full width
}


def round8(value: float) -> int:
    """Return the nearest multiple of 8, at least 8, the next one up where more than a tenth would be lost."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


@dataclass(frozen=True)
class SearchSpace:
    """The archs that a supernet holds: input sizes and widths vary, each width for itself; depths and kernel do not.

    Attributes:
        widest: the supernet's own arch.
        multipliers: factors on its widths, above 0 and at most 1; widths are rounded by `round8`.
        input_sizes: sides of the square inputs in pixels, multiples of 64.

    Raises:
        InputError: there is no multiplier or size, or one that does not fit.
    """

    widest: LitePoseArch = ARCHS["prune_l"]
    multipliers: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
    input_sizes: tuple[int, ...] = (256, 320, 384, 448, 512)

    def __post_init__(self) -> None:
        for name in ("multipliers", "input_sizes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.multipliers or not all(0 < multiplier <= 1 for multiplier in self.multipliers):
            raise InputError(f"multipliers must be above 0 and at most 1, not {list(self.multipliers)}.")
        if not self.input_sizes:
            raise InputError("input_sizes must hold at least one size, such as 256.")
        for size in self.input_sizes:
            dataclasses.replace(self.widest, input_size=size)  # refuses what is no multiple of 64

    def genes(self, arch: LitePoseArch) -> dict[str, int]:
        """Return what varies, by name: input_size, stem_width, head_widths.0 to .2, stage_widths.0 to .3."""
        return {
            "input_size": arch.input_size,
            "stem_width": arch.stem_width,
            **{f"head_widths.{i}": width for i, width in enumerate(arch.head_widths)},
            **{f"stage_widths.{i}": width for i, width in enumerate(arch.stage_widths)},
        }

    def arch(self, genes: Mapping[str, int]) -> LitePoseArch:
        """Return the arch of such genes."""
        f0, f1, f2 = (genes[f"head_widths.{i}"] for i in range(3))
        c1, c2, c3, c4 = (genes[f"stage_widths.{i}"] for i in range(4))
        return dataclasses.replace(
            self.widest,
            input_size=genes["input_size"],
            stem_width=genes["stem_width"],
            head_widths=(f0, f1, f2),
            stage_widths=(c1, c2, c3, c4),
        )

    def choices(self) -> dict[str, tuple[int, ...]]:
        """Return the values of each gene: the sizes, or a width for each multiplier, of which two may be equal (of 24
        channels 24, 24, 16 and 8), as the authors draw them."""
        widest = self.genes(self.widest)
        return {name: tuple(round8(width * m) for m in self.multipliers) for name, width in widest.items()} | {
            "input_size": self.input_sizes
        }

    def sample(self, generator: np.random.Generator) -> LitePoseArch:
        """Draw an arch, each of the choices of each gene alike."""
        return self.arch({name: int(generator.choice(values)) for name, values in self.choices().items()})

    def __contains__(self, arch: object) -> bool:
        """Whether an arch can be drawn."""
        if not isinstance(arch, LitePoseArch) or self.arch(self.genes(arch)) != arch:
            return False
        choices = self.choices()
        return all(value in choices[name] for name, value in self.genes(arch).items())
