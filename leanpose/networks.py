"""The networks: what there is to know of each, in one place. Needs no torch.

A new network is one file in leanpose/models and one entry here. Building all networks to count them takes half a
minute, so their counts stand here; a test compares them with the networks.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Literal

from leanpose.geometry import Size

Basis = Literal["equal", "counts", "reconstruction", "own design"]

DETECTOR, WHOLE = "detector boxes", "whole images"


@dataclass(frozen=True)
class Published:
    """What the authors state, as they print it; most print multiply-adds as FLOPs. Nothing of it is measured by us.

    Attributes:
        parameters, flops: of the network.
        accuracy: with the set and where the person boxes come from.
    """

    parameters: str = ""
    flops: str = ""
    accuracy: str = ""


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        module: its file in leanpose/models.
        system: the publication's name for it.
        basis: what it rests on: "equal" outputs on stored weights, published "counts" and keys of the state dict, a
            "reconstruction" from the abstract and published figures, or our "own design".
        input_size: (height, width) that the figures are for.
        parameters: all that it learns with 17 keypoints, also what only training needs.
        macs: multiply-adds of convolutions, linear layers and attention for one image, as leanpose.models.counts
            counts them, with 17 keypoints.
        published: what its authors state.
        constructor: its class or function in the module; empty: the network's name.
    """

    module: str
    system: str
    basis: Basis
    input_size: Size
    parameters: int
    macs: int
    published: Published = Published()
    constructor: str = ""


NETWORKS: dict[str, Network] = {
    "hevitpose_t": Network(
        "hevitpose", "HEViTPose", "reconstruction", (256, 256), 3_186_865, 1_776_795_648,
        Published("3.21 M", "1.75 G", "MPII val PCKh@0.5 87.2"),
    ),
    "hevitpose_s": Network(
        "hevitpose", "HEViTPose", "reconstruction", (256, 256), 5_924_193, 3_670_566_912,
        Published("5.88 M", "3.64 G", "MPII val PCKh@0.5 88.5"),
    ),
    "hevitpose_b": Network(
        "hevitpose", "HEViTPose", "reconstruction", (256, 256), 10_528_945, 5_588_549_632,
        Published("10.63 M", "5.58 G", "MPII val PCKh@0.5 89.4; COCO val AP 75.4, boxes very likely annotated"),
    ),
    "higher_hrnet_w16": Network(
        "higher_hrnet", "HigherHRNet of LitePose", "counts", (512, 512), 7_208_467, 11_276_910_592,
        Published("", "12.5 G", f"CrowdPose test AP 50.4, {WHOLE}"),
    ),
    "higher_hrnet_w24": Network(
        "higher_hrnet", "HigherHRNet of LitePose", "counts", (512, 512), 16_113_395, 23_842_258_944,
        Published("", "25.3 G", f"CrowdPose test AP 57.4, {WHOLE}"),
    ),
    "higher_hrnet_w32": Network(
        "higher_hrnet", "HigherHRNet", "counts", (512, 512), 28_645_331, 46_203_404_288,
        Published("28.6 M", "47.9 G", f"COCO val AP 67.1, {WHOLE}"),
    ),
    "higher_hrnet_shrink1": Network(
        "higher_hrnet", "HigherHRNet, shrunken", "counts", (512, 512), 6_716_819, 8_936_488_960,
        Published("", "10.12 G", f"CrowdPose test AP 51.0, {WHOLE}"),
    ),
    "higher_hrnet_shrink2": Network(
        "higher_hrnet", "HigherHRNet, shrunken", "counts", (512, 512), 7_624_619, 8_793_096_192,
        Published("", "10.02 G", f"CrowdPose test AP 51.8, {WHOLE}"),
    ),
    "higher_hrnet_shrink3": Network(
        "higher_hrnet", "HigherHRNet, shrunken", "counts", (512, 512), 7_378_451, 7_933_132_800,
        Published("", "9.15 G", f"CrowdPose test AP 53.0, {WHOLE}"),
    ),
    "hourglass_52": Network(
        "hourglass", "Hourglass, one stack, of MMPose", "counts", (256, 256), 93_667_217, 28_620_161_024,
        Published("94.85 M", "28.67 G", f"COCO val AP 72.6, {DETECTOR}"),
    ),
    "hourglass_52_rmpg": Network(
        "rmpg", "RMPG in Hourglass", "reconstruction", (256, 256), 96_772_241, 44_524_961_792,
        Published("98.0 M", "", f"COCO val AP 74.0, {DETECTOR}"),
    ),
    "hrnet_w32": Network(
        "hrnet", "HRNet", "counts", (256, 192), 28_536_113, 7_645_003_776,
        Published("28.5 M", "7.1 G", f"COCO val AP 74.4, {DETECTOR}"),
    ),
    "hrnet_w48": Network(
        "hrnet", "HRNet", "counts", (256, 192), 63_595_745, 15_691_825_152,
        Published("63.6 M", "14.6 G", f"COCO val AP 75.1, {DETECTOR}"),
    ),
    "hrnet_w32_rmpg": Network(
        "rmpg", "RMPG in HRNet", "own design", (256, 192), 28_585_553, 8_020_131_840
    ),
    "hrnet_w48_rmpg": Network(
        "rmpg", "RMPG in HRNet", "own design", (256, 192), 63_706_193, 16_365_993_984
    ),
    "litepose": Network(
        "litepose", "LitePose of any arch, here prune_l", "equal", (512, 512), 5_813_392, 10_914_299_904
    ),
    "litepose_supernet": Network(
        "litepose_supernet", "LitePose supernet, at full width", "counts", (512, 512), 5_813_392, 10_914_299_904
    ),
    "litepose_xs": Network(
        "litepose", "LitePose", "equal", (256, 256), 1_675_912, 885_841_920,
        Published("", "1.2 G", f"COCO val AP 40.6, {WHOLE}"),
    ),
    "litepose_s": Network(
        "litepose", "LitePose", "equal", (448, 448), 2_731_624, 3_624_375_552,
        Published("", "5.0 G", f"COCO val AP 56.8, {WHOLE}"),
    ),
    "litepose_m": Network(
        "litepose", "LitePose", "equal", (448, 448), 3_534_336, 5_275_717_888,
        Published("", "7.8 G", f"COCO val AP 59.8, {WHOLE}"),
    ),
    "litepose_l": Network(
        "litepose", "LitePose", "equal", (512, 512), 5_738_672, 9_979_297_792,
        Published("", "13.8 G", f"COCO val AP 62.5, {WHOLE}"),
    ),
    "lpn50": Network(
        "lpn", "LPN", "equal", (256, 192), 2_911_153, 1_069_717_504,
        Published("2.9 M", "1.0 G", f"COCO val AP 69.1, {DETECTOR}"),
    ),
    "lpn101": Network(
        "lpn", "LPN", "equal", (256, 192), 5_353_458, 1_506_867_200,
        Published("5.3 M", "1.4 G", f"COCO val AP 70.4, {DETECTOR}"),
    ),
    "lpn152": Network(
        "lpn", "LPN", "equal", (256, 192), 7_377_459, 1_946_163_200,
        Published("7.4 M", "1.8 G", f"COCO val AP 71.0, {DETECTOR}"),
    ),
    "rmpg_hierarchical": Network(
        "rmpg_hierarchical", "RMPG, hierarchical", "own design", (256, 192), 30_102_758, 14_230_880_256
    ),
    "rtmpose_t": Network(
        "rtmpose", "RTMPose", "counts", (256, 192), 3_337_007, 354_796_416,
        Published("3.34 M", "0.36 G", f"COCO val AP 65.9, {DETECTOR}, trained on seven sets"),
    ),
    "rtmpose_s": Network(
        "rtmpose", "RTMPose", "equal", (256, 192), 5_473_251, 676_405_888,
        Published("5.47 M", "0.68 G", f"COCO val AP 69.7, {DETECTOR}, trained on seven sets"),
    ),
    "rtmpose_m": Network(
        "rtmpose", "RTMPose", "counts", (256, 192), 13_587_611, 1_917_671_040,
        Published("13.59 M", "1.93 G", f"COCO val AP 74.9, {DETECTOR}, trained on seven sets"),
    ),
    "rtmpose_l": Network(
        "rtmpose", "RTMPose", "counts", (256, 192), 27_660_339, 4_142_310_016,
        Published("27.66 M", "4.16 G", f"COCO val AP 76.7, {DETECTOR}, trained on seven sets"),
    ),
    "sfm": Network(
        "sfm", "SFM + HSA", "reconstruction", (256, 256), 1_505_674, 1_715_188_992,
        Published("1.5 M", "1.7 G", "MPII val PCKh@0.5 89.0; COCO val AP 71.7, boxes not stated"), constructor="SFM",
    ),
    "sfm_persons": Network(
        "sfm", "SFM + HSA, finding persons", "own design", (256, 256), 1_516_018, 1_735_374_080
    ),
    "simple_baseline_50": Network(
        "simple_baseline", "SimpleBaseline", "counts", (256, 192), 33_999_697, 5_426_380_800,
        Published("34.0 M", "8.9 G", f"COCO val AP 70.4, {DETECTOR}"),
    ),
    "simple_baseline_101": Network(
        "simple_baseline", "SimpleBaseline", "counts", (256, 192), 52_991_825, 9_062_842_368,
        Published("53.0 M", "12.4 G", f"COCO val AP 71.4, {DETECTOR}"),
    ),
    "simple_baseline_152": Network(
        "simple_baseline", "SimpleBaseline", "counts", (256, 192), 68_635_473, 12_699_303_936,
        Published("68.6 M", "15.7 G", f"COCO val AP 72.0, {DETECTOR}"),
    ),
    "simple_baseline_50_rmpg": Network(
        "rmpg", "RMPG in SimpleBaseline", "reconstruction", (256, 192), 38_027_601, 19_569_573_888,
        Published("38.0 M", "", f"COCO val AP 72.5, {DETECTOR}"),
    ),
    "simple_baseline_101_rmpg": Network(
        "rmpg", "RMPG in SimpleBaseline", "reconstruction", (256, 192), 57_019_729, 23_206_035_456,
        Published("57.0 M", "", f"COCO val AP 73.1, {DETECTOR}"),
    ),
    "vitpose_s": Network(
        "vitpose", "ViTPose", "counts", (256, 192), 24_290_577, 5_593_890_816,
        Published("", "", f"COCO val AP 73.8, {DETECTOR}"),
    ),
    "vitpose_b": Network(
        "vitpose", "ViTPose", "counts", (256, 192), 89_994_513, 18_522_832_896,
        Published("90.0 M", "", f"COCO val AP 75.8, {DETECTOR}"),
    ),
    "vitpose_s_rmpg": Network(
        "rmpg", "RMPG in ViTPose", "own design", (256, 192), 31_270_545, 7_101_480_960
    ),
    "vitpose_b_rmpg": Network(
        "rmpg", "RMPG in ViTPose", "reconstruction", (256, 192), 117_889_041, 24_213_454_848,
        Published("117.9 M", "", f"COCO val AP 76.1, {DETECTOR}"),
    ),
}  # fmt: skip


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the networks that match a shell pattern such as "lpn*", in the order of NETWORKS."""
    return fnmatch.filter(NETWORKS, pattern)
