"""Archs as values: counts of the published ones, what is refused, and the space of the authors' search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanpose.errors import InputError
from leanpose.models.litepose_arch import ARCHS, LitePoseArch, SearchSpace, round8

KINDS = ("regular", "depthwise", "transposed")
COUNTS = [  # name, number of keypoints, input size -> MACs by kind, MACs, count of ptflops 0.6.9
    ("search_xs", 14, 256, (486_932_480, 305_782_784, 90_177_536), 882_892_800, 1_202_266_112),
    ("search_s", 14, 448, (2_183_258_112, 1_029_473_536, 401_408_000), 3_614_139_648, 4_981_285_120),
    ("search_m", 14, 448, (3_119_542_272, 1_354_162_432, 789_970_944), 5_263_675_648, 7_841_568_000),
    ("search_l", 14, 512, (6_680_477_696, 2_140_667_904, 1_140_850_688), 9_961_996_288, 13_713_080_320),
    ("prune_s", 14, 512, (1_940_389_888, 1_210_023_936, 335_544_320), 3_485_958_144, 4_685_004_800),
    ("prune_m", 14, 512, (4_235_984_896, 1_807_237_120, 805_306_368), 6_848_528_384, 9_547_169_792),
    ("prune_l", 14, 512, (7_203_717_120, 2_349_531_136, 1_342_177_280), 10_895_425_536, 15_279_783_936),
    ("search_xs", 17, 256, (489_881_600, 305_782_784, 90_177_536), 885_841_920, 1_205_215_232),
    ("search_s", 17, 448, (2_193_494_016, 1_029_473_536, 401_408_000), 3_624_375_552, 4_991_521_024),
    ("search_m", 17, 448, (3_131_584_512, 1_354_162_432, 789_970_944), 5_275_717_888, 7_853_610_240),
    ("search_l", 17, 512, (6_697_779_200, 2_140_667_904, 1_140_850_688), 9_979_297_792, 13_730_381_824),
    ("prune_s", 17, 512, (1_950_613_504, 1_210_023_936, 335_544_320), 3_496_181_760, 4_695_228_416),
    ("prune_m", 17, 512, (4_251_713_536, 1_807_237_120, 805_306_368), 6_864_257_024, 9_562_898_432),
    ("prune_l", 17, 512, (7_222_591_488, 2_349_531_136, 1_342_177_280), 10_914_299_904, 15_298_658_304),
]


@pytest.mark.parametrize(("name", "num_keypoints", "input_size", "by_kind", "macs", "ptflops"), COUNTS, ids=str)
def test_counts(
    name: str, num_keypoints: int, input_size: int, by_kind: tuple[int, ...], macs: int, ptflops: int
) -> None:
    arch = ARCHS[name]
    assert arch.input_size == input_size
    layers = arch.layers(num_keypoints)
    assert tuple(sum(layer.macs for layer in layers if layer.kind == kind) for kind in KINDS) == by_kind
    assert arch.macs(num_keypoints) == macs
    assert arch.ptflops(num_keypoints) == ptflops


@pytest.mark.parametrize(("name", "published"), [("search_xs", 1.20), ("search_4.5g", 4.36), ("search_8g", 7.71)])
def test_costs_of_what_the_search_found(name: str, published: float) -> None:
    assert ARCHS[name].ptflops(num_keypoints=14) / 1e9 == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize("arch", ARCHS.values(), ids=ARCHS)
def test_archs_survive_json(arch: LitePoseArch) -> None:
    again = LitePoseArch.of(json.loads(json.dumps(arch.as_dict())))
    assert again == arch
    assert hash(again) == hash(arch)


def test_an_arch_is_given_by_name_mapping_or_itself() -> None:
    arch = ARCHS["prune_s"]
    assert LitePoseArch.of("prune_s") is LitePoseArch.of(arch) is arch
    short = {"stem_width": 16, "stage_widths": [16, 32, 48, 80], "head_widths": [32, 24, 16], "input_size": 512}
    assert LitePoseArch.of(short) == arch


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem_width": 12}, "stem_width must be a multiple of 8, not 12."),
        ({"stem_width": True}, "stem_width must be a multiple of 8, not True."),
        ({"stage_widths": [16, 32, 48]}, "stage_widths must be 4 whole numbers, not [16, 32, 48]."),
        ({"stage_widths": "wide"}, "stage_widths must be 4 whole numbers, not 'wide'."),
        ({"head_widths": [16, 0, 16]}, "head_widths[1] must be a multiple of 8, not 0."),
        ({"stage_depths": [6, 8, 10, 0]}, "stage_depths[3] must be a whole number above 0, not 0."),
        ({"input_size": 250}, "input_size must be a multiple of 64, not 250."),
        ({"kernel_size": 4}, "kernel_size must be odd, such as 7, not 4."),
        ({"head": "fuse"}, "Unknown head 'fuse'. Did you mean 'fusion'?"),
        ({"stem_widht": 16}, "An arch has no key 'stem_widht'. Did you mean 'stem_width'?"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        LitePoseArch.of(ARCHS["search_xs"].as_dict() | changes)
    assert str(caught.value) == message


def test_what_is_no_arch_is_refused() -> None:
    with pytest.raises(InputError, match=r"There is no arch 'prune_xl'\. Did you mean 'prune_l'\?"):
        LitePoseArch.of("prune_xl")
    with pytest.raises(InputError, match="An arch needs the key 'stage_widths'"):
        LitePoseArch.of({"stem_width": 16})
    with pytest.raises(InputError, match="An arch must be a name, such as search_xs, or a mapping, not 3"):
        LitePoseArch.of(3)


def test_the_space_of_the_authors() -> None:
    space = SearchSpace()
    assert space.choices() == {
        "input_size": (256, 320, 384, 448, 512),
        "stem_width": (24, 24, 16, 8),
        "head_widths.0": (64, 48, 32, 16),
        "head_widths.1": (48, 40, 24, 16),
        "head_widths.2": (32, 24, 16, 8),
        "stage_widths.0": (32, 24, 16, 8),
        "stage_widths.1": (64, 48, 32, 16),
        "stage_widths.2": (96, 72, 48, 24),
        "stage_widths.3": (160, 120, 80, 40),
    }
    assert all(arch in space for arch in ARCHS.values())
    prune_l = ARCHS["prune_l"]
    for other in (
        replace(prune_l, stem_width=32),
        replace(prune_l, input_size=192),
        replace(prune_l, stage_depths=(6, 8, 10, 8)),
        replace(prune_l, kernel_size=5),
        replace(prune_l, head="plain"),
        "prune_l",
    ):
        assert other not in space
    assert [round8(value) for value in (2, 12, 18, 20, 36)] == [8, 16, 24, 24, 40]


def test_samples_come_from_everywhere_in_the_space_and_from_the_seed_alone() -> None:
    space = SearchSpace(ARCHS["prune_s"], multipliers=[1, 0.5], input_sizes=[128, 192])
    generator = np.random.default_rng(0)
    drawn = [space.sample(generator) for _ in range(100)]
    for name, values in space.choices().items():
        seen = [space.genes(arch)[name] for arch in drawn]
        assert all(seen.count(value) > 20 for value in set(values)), name
    assert all(arch in space for arch in drawn)
    assert space.sample(np.random.default_rng(7)) == space.sample(np.random.default_rng(7))


def test_genes_make_the_arch() -> None:
    space = SearchSpace()
    for arch in ARCHS.values():
        assert space.arch(space.genes(arch)) == arch


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"multipliers": (1, 1.5)}, "multipliers must be above 0 and at most 1, not [1, 1.5]."),
        ({"multipliers": ()}, "multipliers must be above 0 and at most 1, not []."),
        ({"input_sizes": ()}, "input_sizes must hold at least one size, such as 256."),
        ({"input_sizes": (256, 300)}, "input_size must be a multiple of 64, not 300."),
    ],
)
def test_a_space_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        SearchSpace(**options)
    assert str(caught.value) == message


def test_the_docs_list_the_archs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "litepose.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    expected = [
        f"| `{name}` | {arch.input_size} | {arch.stem_width} | {' '.join(map(str, arch.stage_widths))} | "
        f"{' '.join(map(str, arch.head_widths))} | {arch.macs():,} | {arch.ptflops():,} |"
        for name, arch in ARCHS.items()
    ]
    assert rows == expected
