"""One set of tests over all networks, and what creating them by name promises."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pkgutil

import pytest
import torch
from support import shapes_only
from torch import nn

import leanpose.models
from leanpose.errors import InputError, WeightsError
from leanpose.models import constructor_of, create_model
from leanpose.models.counts import count_macs, count_parameters
from leanpose.models.lpn import LPN
from leanpose.models.sfm import SFM
from leanpose.networks import NETWORKS, list_models

# name, options, input size -> parameters, MACs, attention MACs
COUNTS = [
    ("hevitpose_t", {"num_keypoints": 16}, (256, 256), 3_186_768, 1_776_402_432 - 85_983_232, 85_983_232),
    ("hevitpose_t", {}, (256, 256), 3_186_865, 1_776_795_648 - 85_983_232, 85_983_232),
    ("hevitpose_t", {}, (256, 192), 3_186_865, 1_316_515_840 - 48_365_568, 48_365_568),
    ("hevitpose_t", {}, (384, 288), 3_186_865, 3_097_984_000 - 244_850_688, 244_850_688),
    ("hevitpose_s", {"num_keypoints": 16}, (256, 256), 5_924_096, 3_670_173_696 - 139_984_896, 139_984_896),
    ("hevitpose_s", {}, (256, 256), 5_924_193, 3_670_566_912 - 139_984_896, 139_984_896),
    ("hevitpose_s", {}, (256, 192), 5_924_193, 2_726_772_736 - 78_741_504, 78_741_504),
    ("hevitpose_s", {}, (384, 288), 5_924_193, 6_356_225_536 - 398_628_864, 398_628_864),
    ("hevitpose_b", {"num_keypoints": 16}, (256, 256), 10_528_848, 5_588_156_416 - 171_966_464, 171_966_464),
    ("hevitpose_b", {}, (256, 256), 10_528_945, 5_588_549_632 - 171_966_464, 171_966_464),
    ("hevitpose_b", {}, (256, 192), 10_528_945, 4_159_332_352 - 96_731_136, 96_731_136),
    ("hevitpose_b", {}, (384, 288), 10_528_945, 9_629_734_912 - 489_701_376, 489_701_376),
    ("hevitpose_t", {"squeeze_excite": False}, (256, 256), 3_021_968 + 97, 1_690_648_576, 85_983_232),
    ("hevitpose_s", {"squeeze_excite": False}, (256, 256), 5_543_696 + 97, 3_530_203_136, 139_984_896),
    ("hevitpose_b", {"squeeze_excite": False}, (256, 256), 10_528_945 - 657_280, 5_415_927_808, 171_966_464),
    ("hevitpose_s", {"dims": [128, 192, 256]}, (256, 256), 5_854_608 + 97, 3_644_227_584, 142_606_336),
    *(  # of other settings that fit the published sizes as well
        (name, {"groups": 4, "sr": "separable", "sr_shared": False} | options, (256, 256), *counts)
        for name, options, *counts in (
            ("hevitpose_t", {}, 3_204_304 + 97, 1_709_064_192, 85_983_232),
            ("hevitpose_s", {}, 5_896_496 + 97, 3_570_604_032, 139_984_896),
            ("hevitpose_b", {}, 10_551_632 + 97, 5_486_903_296, 171_966_464),
            ("hevitpose_t", {"reductions": [8, 4, 4]}, 3_218_128 + 97, 1_703_755_776, 71_827_456),
            ("hevitpose_s", {"reductions": [8, 4, 4]}, 5_916_080 + 97, 3_559_950_336, 119_930_880),
            ("hevitpose_b", {"reductions": [8, 4, 4]}, 10_579_280 + 97, 5_465_669_632, 143_654_912),
        )
    ),
    *(
        (name, {"groups": 4, "squeeze_excite": False, "reductions": [4, 4, 2]}, (256, 256), *counts)
        for name, *counts in (
            ("hevitpose_t", 3_200_144 + 97, 1_722_892_288, 186_646_528),
            ("hevitpose_s", 5_863_184 + 97, 3_606_843_392, 341_311_488),
            ("hevitpose_b", 10_584_272 + 97, 5_544_902_656, 373_293_056),
        )
    ),
    # higher_hrnet: those counted on the code of LitePose's authors; w32, ours
    ("higher_hrnet_w16", {"num_keypoints": 14}, (512, 512), 7_205_194, 11_218_714_624, 0),
    ("higher_hrnet_w24", {"num_keypoints": 14}, (512, 512), 16_110_074, 23_783_276_544, 0),
    ("higher_hrnet_w32", {"num_keypoints": 14}, (512, 512), 28_641_962, 46_143_635_456, 0),
    ("higher_hrnet_shrink1", {"num_keypoints": 14}, (512, 512), 6_713_546, 8_878_292_992, 0),
    ("higher_hrnet_shrink2", {"num_keypoints": 14}, (512, 512), 7_621_334, 8_734_703_616, 0),
    ("higher_hrnet_shrink3", {"num_keypoints": 14}, (512, 512), 7_375_166, 7_874_740_224, 0),
    # hourglass_52: without a residual block of 1,180,672 that MMPose has and does not use; with it 94,847,889
    ("hourglass_52", {}, (256, 256), 93_667_217, 28_620_161_024, 0),
    ("hourglass_52", {"num_keypoints": 16}, (256, 256), 93_667_217 - 257, 28_620_161_024 - 256 * 64 * 64, 0),
    ("hourglass_52", {"num_stacks": 2}, (256, 256), 187_709_090, 58_524_827_648, 0),
    # with RMPG: attention MACs are those of the tokens, 12 * N * M * C, and those of the host
    ("hourglass_52_rmpg", {}, (256, 256), 97_952_913 - 1_180_672, 41_303_736_320, 3_221_225_472),
    ("hourglass_52_rmpg", {"relation": "node"}, (256, 256), 97_952_913 - 1_180_672, 41_303_736_320, 12_582_912),
    ("hrnet_w32", {}, (256, 192), 28_536_113, 7_645_003_776, 0),
    ("hrnet_w32", {}, (384, 288), 28_536_113, 17_201_258_496, 0),
    ("hrnet_w32", {"num_keypoints": 16}, (256, 256), 28_536_113 - 33, 10_193_338_368 - 32 * 64 * 64, 0),
    ("hrnet_w48", {}, (256, 192), 63_595_745, 15_691_825_152, 0),
    ("hrnet_w48", {}, (384, 288), 63_595_745, 35_306_606_592, 0),
    ("hrnet_w32_rmpg", {}, (256, 192), 28_585_553, 7_793_639_424, 226_492_416),
    ("hrnet_w32_rmpg", {"relation": "position"}, (256, 192), 28_585_553, 7_793_639_424, 1_179_648),
    ("hrnet_w48_rmpg", {}, (256, 192), 63_595_745 + 110_448, 15_691_825_152 + 334_430_208, 339_738_624),
    ("litepose_xs", {}, (256, 256), 1_675_912, 885_841_920, 0),
    ("litepose_xs", {"num_keypoints": 14}, (256, 256), 1_675_552, 882_892_800, 0),
    ("litepose_xs", {"person_head": True}, (256, 256), 1_679_469, 899_604_480, 0),
    ("litepose_s", {}, (448, 448), 2_731_624, 3_624_375_552, 0),
    ("litepose_s", {"num_keypoints": 14}, (448, 448), 2_731_240, 3_614_139_648, 0),
    ("litepose_m", {}, (448, 448), 3_534_336, 5_275_717_888, 0),
    ("litepose_m", {"num_keypoints": 14}, (448, 448), 3_533_808, 5_263_675_648, 0),
    ("litepose_m", {"person_head": True}, (448, 448), 3_539_045, 5_332_316_416, 0),
    ("litepose_l", {}, (512, 512), 5_738_672, 9_979_297_792, 0),
    ("litepose_l", {"num_keypoints": 14}, (512, 512), 5_738_120, 9_961_996_288, 0),
    ("litepose", {"arch": "prune_s", "num_keypoints": 14}, (512, 512), 1_709_032, 3_485_958_144, 0),
    ("litepose", {"arch": "prune_m", "num_keypoints": 14}, (512, 512), 3_472_064, 6_848_528_384, 0),
    ("litepose", {"arch": "prune_l", "num_keypoints": 14}, (512, 512), 5_812_744, 10_895_425_536, 0),
    ("litepose", {"arch": "prune_s"}, (512, 512), 1_709_368, 3_496_181_760, 0),
    ("litepose", {"arch": "prune_m"}, (512, 512), 3_472_592, 6_864_257_024, 0),
    ("litepose", {"arch": "prune_l"}, (512, 512), 5_813_392, 10_914_299_904, 0),
    ("litepose_supernet", {"num_keypoints": 14}, (512, 512), 5_812_744, 10_895_425_536, 0),
    ("lpn50", {}, (256, 192), 2_911_153, 1_068_144_640, 1_572_864),
    ("lpn50", {}, (384, 288), 2_911_153, 2_403_112_960, 3_538_944),
    ("lpn50", {"num_keypoints": 16}, (256, 256), 2_910_896, 1_423_087_616, 2_097_152),
    ("lpn50", {"attention": "none"}, (256, 192), 2_732_689, 1_066_401_792, 0),
    ("lpn50", {"head": "simcc"}, (256, 192), 2_943_025, 802_994_176, 1_572_864),
    ("lpn101", {}, (256, 192), 5_353_458, 1_504_458_752, 2_408_448),
    ("lpn101", {}, (384, 288), 5_353_458, 3_384_645_632, 5_419_008),
    ("lpn101", {"attention": "none"}, (256, 192), 5_026_193, 1_501_741_056, 0),
    ("lpn152", {}, (256, 192), 7_377_459, 1_942_722_560, 3_440_640),
    ("lpn152", {}, (384, 288), 7_377_459, 4_370_585_600, 7_741_440),
    ("lpn152", {"attention": "none"}, (256, 192), 6_918_801, 1_938_849_792, 0),
    ("rmpg_hierarchical", {}, (256, 192), 30_102_758, 12_418_940_928, 1_811_939_328),
    ("rmpg_hierarchical", {"num_keypoints": 16}, (256, 256), 30_102_369, 16_558_063_616, 3_221_225_472),
    ("rmpg_hierarchical", {"num_keypoints": 14}, (256, 192), 30_101_690, 12_417_761_280, 1_811_939_328),
    ("rmpg_hierarchical", {"channels": 256}, (256, 192), 34_766_470, 26_707_230_720, 3_623_878_656),
    ("rtmpose_t", {}, (256, 192), 3_337_007, 354_611_456, 184_960),
    ("rtmpose_s", {}, (256, 192), 5_473_251, 676_220_928, 184_960),
    ("rtmpose_m", {}, (256, 192), 13_587_611, 1_917_486_080, 184_960),
    ("rtmpose_l", {}, (256, 192), 27_660_339, 4_142_125_056, 184_960),
    (
        "rtmpose_s",
        {"num_keypoints": 26},
        (256, 192),
        5_473_251 + 9 * (49 * 512 + 1),
        676_220_928 + 9 * 1_871_872,
        432_640,
    ),
    ("rtmpose_m", {"input_size": [384, 288]}, (384, 288), 13_717_659, 4_301_387_776, 184_960),
    # sfm: of what the sheet counts, eval mode leaves out the first of two heads, K * C * H/4 * W/4.
    ("sfm", {}, (256, 256), 1_505_674, 1_704_563_968, 10_625_024),
    ("sfm", {}, (256, 192), 1_505_674, 1_278_422_976, 5_976_576),
    ("sfm", {}, (384, 288), 1_505_674, 2_877_339_552, 25_782_912),
    ("sfm_persons", {}, (256, 256), 1_516_018, 1_724_749_056, 10_625_024),
    ("sfm", {"hsa": "none"}, (256, 192), 1_501_378, 1_277_362_176, 0),
    ("sfm", {"head": "simcc", "input_size": [256, 192]}, (256, 192), 1_884_170, 1_281_347_520, 5_976_576),
    ("sfm", {"num_keypoints": 14}, (256, 192), 1_505_284, 1_277_833_152, 5_976_576),
    ("sfm", {"num_keypoints": 16}, (256, 256), 1_505_544, 1_704_301_824, 10_625_024),
    ("sfm", {"num_keypoints": 16, "hsa": "none"}, (256, 256), 1_501_248, 1_702_887_424, 0),
    ("sfm", {"num_keypoints": 16, "hsa": "single_map"}, (256, 256), 1_501_792, 1_703_064_224, 1_328_128),
    ("sfm", {"num_keypoints": 16, "hsa": "pooled_map"}, (256, 256), 1_501_272, 1_702_892_864, 2_656_256),
    ("sfm", {"num_keypoints": 16, "hsa": "non_local"}, (256, 256), 1_519_040, 1_708_457_984, 10_625_024),
    ("sfm", {"num_keypoints": 16, "hsa_levels": [0, 1, 2, 3, 4]}, (256, 256), 1_506_618, 1_708_561_664, 144_842_752),
    (
        "sfm",
        {"num_keypoints": 16, "block": "dw_separable", "width": 128, "blocks_per_node": 2},
        *((256, 256), 1_502_792, 1_709_976_064, 21_250_048),
    ),
    (
        "sfm",
        {"num_keypoints": 16, "block": "inverted_residual", "blocks_per_node": 2, "stem_width": 64},
        *((256, 256), 1_494_184, 1_715_737_856, 10_625_024),
    ),
    (
        "sfm",
        {"block": "inverted_residual", "expansion": 2, "width": 144, "levels": 4, "stem_width": 64},
        *((256, 192), 1_497_516, 1_684_767_168, 13_436_928),
    ),
    (
        "sfm",
        {"block": "bottleneck", "width": 96, "levels": 4, "blocks_per_node": 3, "stem_width": 64},
        *((256, 192), 1_523_904, 1_664_913_024, 8_957_952),
    ),
    (
        "sfm",
        {"num_keypoints": 16, "topology": "single_u", "blocks_per_node": 2},
        *((256, 256), 1_502_356, 1_703_594_624, 5_312_512),
    ),
    ("simple_baseline_50", {}, (256, 192), 33_999_697, 5_426_380_800, 0),
    ("simple_baseline_50", {}, (384, 288), 33_999_697, 12_209_356_800, 0),
    ("simple_baseline_101", {}, (256, 192), 52_991_825, 9_062_842_368, 0),
    ("simple_baseline_101", {}, (384, 288), 52_991_825, 20_391_395_328, 0),
    ("simple_baseline_152", {}, (256, 192), 68_635_473, 12_699_303_936, 0),
    ("simple_baseline_152", {}, (384, 288), 68_635_473, 28_573_433_856, 0),
    ("simple_baseline_50_rmpg", {}, (256, 192), 38_027_601, 17_757_634_560, 1_811_939_328),
    ("simple_baseline_50_rmpg", {"ffn_ratio": 0}, (256, 192), 37_104_721, 14_939_062_272, 1_811_939_328),
    ("simple_baseline_50_rmpg", {"relation": "position"}, (256, 192), 38_027_601, 17_757_634_560, 9_437_184),
    ("simple_baseline_50_rmpg", {"relation": "node"}, (256, 192), 38_027_601, 17_757_634_560, 9_437_184),
    ("simple_baseline_50_rmpg", {"kv_grid": None}, (256, 192), 38_027_601, 17_757_634_560, 28_991_029_248),
    ("simple_baseline_101_rmpg", {}, (256, 192), 57_019_729, 21_394_096_128, 1_811_939_328),
    ("simple_baseline_101_rmpg", {"ffn_ratio": 0}, (256, 192), 56_096_849, 18_575_523_840, 1_811_939_328),
    ("vitpose_s", {}, (256, 192), 24_290_577, 5_254_152_192, 339_738_624),
    ("vitpose_b", {}, (256, 192), 89_994_513, 18_522_832_896 - 679_477_248, 679_477_248),
    ("vitpose_b", {"input_size": [384, 288]}, (384, 288), 89_994_513 + 240 * 768, 40_147_550_208, 3_439_853_568),
    ("vitpose_s_rmpg", {}, (256, 192), 24_290_577 + 6_979_968, 5_254_152_192 + 1_337_720_832, 509_607_936),
    ("vitpose_b_rmpg", {}, (256, 192), 117_889_041, 23_873_716_224 - 679_477_248, 679_477_248 + 339_738_624),
]
# name -> tensors in the published state dict, and how many values its float buffers hold
STATE_SIZES = {
    "hevitpose_t": (1252, 24_640),
    "hevitpose_s": (1252, 35_936),
    "hevitpose_b": (1252, 48_704),
    "higher_hrnet_w16": (1762, 27_360),
    "higher_hrnet_w24": (1762, 40_880),
    "higher_hrnet_w32": (1810, 54_912),
    "higher_hrnet_shrink1": (1390, 24_160),
    "higher_hrnet_shrink2": (1114, 23_396),
    "higher_hrnet_shrink3": (1006, 22_172),
    "hourglass_52": (482, 58_624),
    "hourglass_52_rmpg": (664, 64_768),
    "hrnet_w32": (1754, 54_336),
    "hrnet_w48": (1754, 79_584),
    "hrnet_w32_rmpg": (1936, 55_104),
    "hrnet_w48_rmpg": (1936, 80_736),
    "litepose": (679, 82_336),
    "litepose_supernet": (679, 82_336),
    "litepose_xs": (679, 41_344),
    "litepose_s": (679, 50_848),
    "litepose_m": (679, 61_808),
    "litepose_l": (679, 81_040),
    "lpn50": (466, 26_624),
    "lpn101": (908, 52_736),
    "lpn152": (1350, 75_776),
    "rmpg_hierarchical": (2138, 60_736),
    "rtmpose_t": (218, 7_728),
    "rtmpose_s": (254, 11_456),
    "rtmpose_m": (362, 23_232),
    "rtmpose_l": (470, 39_040),
    "sfm": (320, 5_440),
    "sfm_persons": (348, 5_952),
    "simple_baseline_50": (338, 54_656),
    "simple_baseline_101": (644, 106_880),
    "simple_baseline_152": (950, 152_960),
    "simple_baseline_50_rmpg": (583, 62_336),
    "simple_baseline_101_rmpg": (889, 114_560),
    "vitpose_s": (163, 1_024),
    "vitpose_b": (163, 1_024),
    "vitpose_s_rmpg": (345, 10_240),
    "vitpose_b_rmpg": (345, 19_456),
}
# name -> outputs, auxiliary ones included, and their strides; each has a map for all keypoints or for those it lists
OUTPUT_STRIDES = {name: {"heatmaps": 4} for name in NETWORKS}
BOTTOM_UP = [*list_models("litepose*"), *list_models("higher_hrnet_*")]
OUTPUT_STRIDES |= {name: {"heatmaps_4": 4, "tags": 4, "heatmaps_2": 2} for name in BOTTOM_UP}
OUTPUT_STRIDES["rmpg_hierarchical"] = {
    f"heatmaps{part}": 4 for part in ("", "_body", "_upper", "_lower", "_head", "_arms", "_left_leg", "_right_leg")
}
OUTPUT_STRIDES["sfm"] = {"heatmaps": 4, "heatmaps_first": 4}
PERSON_MAPS = {"centers": 1, "box_logs": 4}  # and how many, whatever the keypoints
PERSON_MAPS |= {f"{output}_first": count for output, count in PERSON_MAPS.items()}
OUTPUT_STRIDES["sfm_persons"] = dict.fromkeys(PERSON_MAPS, 4)
OUTPUT_STRIDES |= {name: {} for name in list_models("rtmpose_*")}
VECTORS = {name: {"simcc_x": 2 * 96, "simcc_y": 2 * 64} for name in list_models("rtmpose_*")}  # and their lengths
# name -> size of the images in the test below, where 64x96 does not suit, and options
TEST_SIZES = {name: (128, 128) for name in list_models("hourglass_*")}
TEST_OPTIONS: dict[str, dict] = {
    name: {"input_size": (64, 96)} for name in (*list_models("vitpose_*"), *list_models("rtmpose_*"))
}
TEST_OPTIONS["rmpg_hierarchical"] = {"groups": [[0, 1, 2], [3, 4], [0], [1, 2], [3], [4]]}


@pytest.mark.usefixtures("small_networks")
@pytest.mark.parametrize("name", NETWORKS)
def test_forward_and_backward(name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, num_keypoints=5, **TEST_OPTIONS.get(name, {}))
    height, width = TEST_SIZES.get(name, (64, 96))
    images = torch.randn(2, 3, height, width)

    outputs = network(images)
    auxiliary = getattr(network, "auxiliary", {})
    num_maps = PERSON_MAPS | {
        output: len(extra.keypoints) for output, extra in auxiliary.items() if extra.keypoints is not None
    }
    shapes = {
        output: (2, num_maps.get(output, 5), height // stride, width // stride)
        for output, stride in OUTPUT_STRIDES[name].items()
    } | {output: (2, 5, length) for output, length in VECTORS.get(name, {}).items()}
    assert {output: maps.shape for output, maps in outputs.items()} == shapes
    sum(maps.square().mean() for maps in outputs.values()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key

    network.zero_grad()  # frees memory
    network.eval().double()
    if name not in TEST_SIZES | TEST_OPTIONS:
        images = images[..., :32, :32]  # enough for what follows, which is slow in double precision
    with torch.no_grad():
        both = network(images.double())
        first = network(images[:1].double())
    assert set(both) == set(outputs) - set(auxiliary) - {"box_logs_first"}  # for which centers_first stands
    for output, maps in both.items():
        assert maps.isfinite().all(), output
        torch.testing.assert_close(maps[:1], first[output])  # in eval mode, one image does not change another's maps


@functools.cache
def shapes_of(name: str, options: str = "{}") -> nn.Module:
    """Return a network without values, made once for all tests; options in JSON."""
    with shapes_only():
        return create_model(name, **json.loads(options))


@pytest.mark.parametrize(("name", "options", "input_size", "parameters", "macs", "attention_macs"), COUNTS, ids=str)
def test_counts(
    name: str, options: dict, input_size: tuple[int, int], parameters: int, macs: int, attention_macs: int
) -> None:
    network = shapes_of(name, json.dumps(options))
    with shapes_only():
        counted = count_macs(network, input_size)
    assert count_parameters(network) == parameters
    assert counted == {"macs": macs, "attention_macs": attention_macs}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_table_has_these_counts(name: str) -> None:
    known = NETWORKS[name]
    counted = {(row[0], row[2]): (row[3], row[4] + row[5]) for row in COUNTS if row[1] == {}}
    if (name, known.input_size) not in counted:
        network = shapes_of(name)
        with shapes_only():
            macs = sum(count_macs(network, known.input_size).values())
        counted[name, known.input_size] = count_parameters(network), macs
    assert (known.parameters, known.macs) == counted[name, known.input_size]


@pytest.mark.parametrize("name", STATE_SIZES)
def test_state_sizes(name: str) -> None:
    network = shapes_of(name)
    buffer_values = sum(buffer.numel() for buffer in network.buffers() if buffer.is_floating_point())
    assert (len(network.state_dict()), buffer_values) == STATE_SIZES[name]


@pytest.mark.parametrize("name", ["lpn50", "sfm"])
def test_vectors_in_place_of_heatmaps(name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, 5, head="simcc", input_size=(64, 32))
    images = torch.randn(2, 3, 64, 32)
    outputs = network(images)
    shapes = {"simcc_x": (2, 5, 64), "simcc_y": (2, 5, 128)}
    for output in getattr(network, "auxiliary", {}):
        assert output == "simcc_x_first"
        shapes |= {"simcc_x_first": (2, 5, 64), "simcc_y_first": (2, 5, 128)}
    assert {output: tuple(vectors.shape) for output, vectors in outputs.items()} == shapes
    sum(vectors.square().mean() for vectors in outputs.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    assert set(network.eval()(images)) == {"simcc_x", "simcc_y"}
    with pytest.raises(InputError, match="input is 64x64, but this network was made for 64x32"):
        network(torch.zeros(1, 3, 64, 64))


def test_counting_leaves_the_network_as_it_is() -> None:
    network = create_model("lpn50").train()
    count_macs(network, (64, 64))
    assert network.training
    assert network.conv1.weight.device.type == "cpu"
    assert network.bn1.num_batches_tracked == 0


def test_every_constructor_is_in_the_table() -> None:
    constructors = {}
    for info in pkgutil.iter_modules(leanpose.models.__path__):
        module = importlib.import_module(f"leanpose.models.{info.name}")
        for name, member in vars(module).items():
            is_constructor = inspect.isfunction(member) or isinstance(member, functools.partial)
            if is_constructor and name[0] != "_" and "num_keypoints" in inspect.signature(member).parameters:
                constructors[name] = member
    del constructors["create_model"]
    constructors["sfm"] = SFM  # it comes in one size: its class is its constructor
    assert constructors == {name: constructor_of(name) for name in NETWORKS}


def test_list_models() -> None:
    assert list_models() == list(NETWORKS)
    assert list_models("lpn*") == ["lpn50", "lpn101", "lpn152"]
    assert list_models("yolo*") == []


def test_unknown_model_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"Unknown model 'lpn-50'\. Did you mean 'lpn50'\?"):
        create_model("lpn-50")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"atention": "se"}, "no option 'atention'. Did you mean 'attention'?"),
        ({"attention": None}, "Unknown attention 'None'. Did you mean 'none'?"),
        ({"attention": "cbam"}, "Unknown attention 'cbam'. Known: gc, none, se."),
        ({"init": "publish"}, "Unknown init 'publish'. Did you mean 'published'?"),
        ({"head": "simc"}, "Unknown head 'simc'. Did you mean 'simcc'?"),
        ({"head": "simcc", "input_size": [256, 200]}, "for the head 'simcc' multiples of 16, not [256, 200]"),
    ],
)
def test_wrong_option_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        create_model("lpn50", **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("hevitpose_t", (256, 176), "width 176, but both sides must be multiples of 32: use width 160 or 192"),
        ("litepose_xs", (256, 264), "width 264, but both sides must be multiples of 16: use width 256 or 272"),
        ("lpn50", (250, 192), "height 250, but both sides must be multiples of 16: use height 240 or 256"),
        ("lpn50", (256, 8), "width 8, but both sides must be multiples of 16: use width 16"),
        ("sfm", (258, 192), "height 258, but both sides must be multiples of 4: use height 256 or 260"),
        (
            "simple_baseline_50",
            (256, 176),
            "width 176, but both sides must be multiples of 32: use width 160 or 192",
        ),
    ],
)
def test_wrong_input_size_is_refused(name: str, size: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError) as caught:
        create_model(name)(torch.zeros(1, 3, *size))
    assert message in str(caught.value)


def test_export_keeps_sides_free() -> None:
    height, width = (16 * torch.export.Dim(side, min=2, max=32) for side in ("rows", "columns"))
    network = LPN((1, 1, 1, 1)).eval()
    exported = torch.export.export(
        network, (torch.zeros(1, 3, 64, 96),), dynamic_shapes=({2: height, 3: width},)
    ).module()
    images = torch.randn(1, 3, 96, 64)
    torch.testing.assert_close(exported(images)["heatmaps"], network(images)["heatmaps"])


def test_lpn_kaiming_init_starts_without_attention() -> None:
    torch.manual_seed(0)
    network, without = create_model("lpn50").eval(), create_model("lpn50", attention="none").eval()
    without.load_state_dict({key: value for key, value in network.state_dict().items() if ".att." not in key})
    images = torch.randn(1, 3, 64, 64)
    assert (network.layer1[0].bn3.weight == 0.3).all()
    torch.testing.assert_close(network(images), without(images))


def test_lpn_published_init_draws_every_convolution_narrowly() -> None:
    torch.manual_seed(0)
    network = create_model("lpn50", init="published")
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    weights = torch.cat([conv.weight.flatten() for conv in convs])
    assert weights.std().item() == pytest.approx(0.001, rel=0.01)
    assert min(conv.weight.abs().max() for conv in convs) > 0
    assert (network.layer1[0].bn3.weight == 1).all()


def test_lpn_with_squeeze_excitation() -> None:
    network = create_model("lpn50", attention="se").eval()
    assert count_parameters(network) == 2_732_689 + sum(
        blocks * 2 * channels * max(16, channels // 16)
        for blocks, channels in zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)
    )
    assert network(torch.zeros(1, 3, 64, 64))["heatmaps"].shape == (1, 17, 16, 16)


@pytest.mark.parametrize("name", ["litepose_xs", "litepose_s", "litepose_m", "litepose_l"])
@pytest.mark.parametrize("head", ["fusion", "plain"])
def test_litepose_with_person_head(name: str, head: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, num_keypoints=5, head=head, person_head=True)
    images = torch.randn(2, 3, 64, 96)
    outputs = network(images)
    assert {output: tuple(maps.shape) for output, maps in outputs.items()} == {
        "heatmaps_4": (2, 5, 16, 24),
        "tags": (2, 5, 16, 24),
        "heatmaps_2": (2, 5, 32, 48),
        "centers": (2, 1, 16, 24),
        "box_logs": (2, 4, 16, 24),
    }
    for maps, start in ((outputs["centers"].sigmoid(), 0.01), (outputs["box_logs"].exp(), 8.0)):
        torch.testing.assert_close(
            maps, torch.full_like(maps, start), rtol=0.3, atol=0
        )  # nobody, 8 pixels to the edges
    (outputs["centers"].sum() + outputs["box_logs"].sum()).backward()
    assert network.stage[0][0].inv[0].weight.grad.abs().max() > 0  # the backbone learns from it too


def test_the_person_head_leaves_the_rest_of_litepose_as_it_is() -> None:
    torch.manual_seed(0)
    network = create_model("litepose_xs", person_head=True).eval()
    without = create_model("litepose_xs").eval()
    state = network.state_dict()
    rest = [key for key in state if not key.startswith("person.")]
    assert rest == list(without.state_dict()) == list(state)[: len(rest)]
    assert (len(rest), len(state)) == (679, 695)
    without.load_state_dict({key: state[key] for key in rest})
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs, expected = network(images), without(images)
    assert list(expected) == ["heatmaps_4", "tags", "heatmaps_2"]
    for output, maps in expected.items():
        assert torch.equal(outputs[output], maps)


@pytest.mark.usefixtures("short_litepose")
def test_litepose_export_keeps_sides_free() -> None:
    height, width = (16 * torch.export.Dim(side, min=2, max=32) for side in ("rows", "columns"))
    network = create_model("litepose_xs", person_head=True).eval()
    exported = torch.export.export(
        network, (torch.zeros(1, 3, 64, 96),), dynamic_shapes=({2: height, 3: width},)
    ).module()
    images = torch.randn(1, 3, 96, 64)
    torch.testing.assert_close(exported(images), network(images))
