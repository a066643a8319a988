"""Public weights: where published files of others lie, their hashes, and the records that they do not carry."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from leanpose.errors import WeightsError, suggest
from leanpose.geometry import Size
from leanpose.keypoint_sets import COCO, CROWDPOSE, HALPE26, WHOLEBODY, KeypointSet
from leanpose.networks import NETWORKS
from leanpose.weights.calibration import Calibration
from leanpose.weights.record import Weights

HUGGINGFACE = "https://huggingface.co"
OPENMMLAB = "https://download.openmmlab.com/mmpose/v1/projects"
MEGVII = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0"
DRIVE = "https://drive.google.com"
APACHE = "Apache-2.0"


@dataclass(frozen=True)
class PublicWeights:
    """One published file.

    Attributes:
        name: what `leanpose download` and `--model` call it; its file is `{name}.onnx`.
        record: preprocessing, codec, keypoint set, data and notes.
        urls: addresses of the .onnx file or of a zip with it, in the order in which they are tried; empty: by hand.
        sha256: of the .onnx file, 64 hexadecimal digits; "": unknown.
        size: of the .onnx file in bytes; 0: unknown.
        member: how the name of the one member ends that is wanted of a zip; "": the addresses are of bare files.
        archive_sha256: of the zip; "": unknown.
        code_licence, weights_licence: as their publishers state them.
        published: accuracy that the publishers state, with its protocol; "": none known.
        verified: whether we ran the file and measured it.
        by_hand: how to get what has no addresses, in words; FOLDER stands for the user's folder of weights.
    """

    name: str
    record: Weights
    urls: tuple[str, ...] = ()
    sha256: str = ""
    size: int = 0
    member: str = ""
    archive_sha256: str = ""
    code_licence: str = APACHE
    weights_licence: str = APACHE
    published: str = ""
    verified: bool = False
    by_hand: str = ""

    @property
    def loads_in_torch(self) -> bool:
        """Whether the file's network is one of ours, whose values can be read out of it, to train on for example."""
        return self.record.codec == "simcc" and self.record.model in NETWORKS


BODY7 = "AI Challenger, COCO, CrowdPose, MPII, sub-JHMDB, Halpe, PoseTrack18"
OPEN_QUESTION = "whether such weights may be used commercially has been asked in public and not answered"
HUMAN_ART = f"trained on Human-Art too; {OPEN_QUESTION}"  # github.com/open-mmlab/mmpose/issues/3271
COCO_WHOLEBODY = f"trained on COCO-WholeBody too; {OPEN_QUESTION}"  # github.com/open-mmlab/mmpose/issues/3204
USUAL_BOXES = "COCO val, detector boxes of human AP 56.4, flip test"
BODY8 = "mixed Body8 validation, not COCO AP"
WHOLE = "COCO val, whole images"
PERSONS = "boxes of persons, COCO val"


@cache
def _calibrations() -> dict[str, Calibration]:
    """Return what scores of public weights are worth, as `leanpose calibrate NAME --data coco/train.json` found it."""
    content = json.loads(Path(__file__).with_name("calibrations.json").read_text(encoding="utf-8"))
    return {name: Calibration.of(values) for name, values in content.items()}


def _openmmlab(name: str, project: str, stem: str, record: Weights, **known: Any) -> PublicWeights:
    """Return a row of OpenMMLab's: a zip, its copy on Hugging Face, and for most a bare file of others there."""
    path = f"{project}/onnx_sdk/{stem}"
    urls = [f"{OPENMMLAB}/{path}.zip", f"{HUGGINGFACE}/Tau-J/RTMPose/resolve/main/{path}.zip"]
    if project == "rtmposev1":
        urls.append(f"{HUGGINGFACE}/datasets/DavidPagnon/rtmlib_models/resolve/main/mmpose/{path}.onnx")
    licence = "Apache-2.0 (card on Hugging Face)"
    record = replace(record, name=name, licence=licence, calibration=_calibrations().get(name))
    return PublicWeights(name, record, tuple(urls), member="end2end.onnx", weights_licence=licence, **known)


def _simcc(
    model: str, input_size: Size = (256, 192), keypoint_set: KeypointSet = COCO, data: str = BODY7, note: str = ""
) -> Weights:
    options = {} if input_size == (256, 192) else {"sigma": [6.0, 6.93]}
    return Weights(
        model, model, input_size, keypoint_set, convention="classic", codec="simcc", codec_options=options, data=data,
        note=note,
    )  # fmt: skip


def _letterboxed(model: str, side: int, data: str, **settings: Any) -> Weights:
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "channel_order": "bgr", "convention": "classic"}
    return Weights(model, model, (side, side), fit="letterbox", border=114, data=data, **plain | settings)


def _humanart(name: str, side: int, stem: str, ap: float, **known: Any) -> PublicWeights:
    record = _letterboxed(name, side, "COCO, Human-Art", task="detection", codec="detections", note=HUMAN_ART)
    stem = f"{name}_8xb8-300e_humanart-{stem}"
    return _openmmlab(name, "rtmposev1", stem, record, published=f"AP {ap} ({PERSONS})", **known)


def _megvii(model: str, side: int, sha256: str, size: int) -> PublicWeights:
    licence = "Apache-2.0 (the repository's; none stated for the weights)"
    name = f"{model}_coco"
    record = _letterboxed(model, side, "COCO train2017", task="detection", codec="yolox")
    record = replace(record, name=name, licence=licence)
    return PublicWeights(name, record, (f"{MEGVII}/{model}.onnx",), sha256, size, weights_licence=licence)


def _rtmo(letter: str, side: int, stem: str, ap: float, **known: Any) -> PublicWeights:
    name = f"rtmo_{letter}"
    record = _letterboxed(name, side, BODY7, task="bottom_up", codec="detected_poses")
    return _openmmlab(name, "rtmo", f"rtmo-{letter}_{stem}", record, published=f"AP {ap} ({WHOLE})", **known)


def _by_hand(model: str, place: str, file: str, licence: str, **settings: Any) -> PublicWeights:
    """Return a row for a checkpoint that `leanpose convert` takes, with the record that it writes."""
    network = NETWORKS[model]
    height, width = size = network.input_size
    keypoint_set = settings.get("keypoint_set", COCO)
    name = f"{model}.{keypoint_set.name}_{height}x{width}_published"
    record = Weights(name, model, size, convention="classic", licence=licence, **settings)
    option = "" if size == (256, 192) else f" --input-size {height}x{width}"
    return PublicWeights(
        f"{model}_published",
        record,
        code_licence="MIT",
        weights_licence=licence,
        published=network.published.accuracy if keypoint_set is COCO else "",
        by_hand=f"{place}; then run `leanpose convert {file} --model {model}{option} --out FOLDER/{name}.safetensors` "
        f"and use it as {name}",
    )


def _lpn(depth: int) -> PublicWeights:
    return _by_hand(
        f"lpn{depth}",
        f"take lpn_{depth}_256x192.pth from {DRIVE}/drive/folders/1_VuLzWXeKg-Lzu54HfZQsMGUwUG6xXzS "
        "(README of zhang943/lpn-pytorch)",
        f"lpn_{depth}_256x192.pth",
        "MIT (zhang943/lpn-pytorch)",
        channel_order="bgr",
        flip_shift=True,
        codec="beta_soft_argmax",
        codec_options={"sigma": 2.0, "beta": 160.0},
        data="COCO train2017",
        recipe="published checkpoint; the training script is not public",
    )


def _hrnet(width: int) -> PublicWeights:
    return _by_hand(
        f"hrnet_w{width}",
        f"take pose_hrnet_w{width}_256x192.pth from {DRIVE}/drive/folders/1hOTihvbyIxsm5ygDpbUuJ7O_tzv4oXjC "
        "(README of leoxiaobin/deep-high-resolution-net.pytorch)",
        f"pose_hrnet_w{width}_256x192.pth",
        "MIT (leoxiaobin/deep-high-resolution-net.pytorch)",
        flip_shift=True,
        codec="heatmap",
        codec_options={"sigma": 2.0},
        data="ImageNet, COCO train2017",
        recipe="published checkpoint",
    )


def _litepose(letters: str, drive_file: str, keypoint_set: KeypointSet = COCO) -> PublicWeights:
    return _by_hand(
        f"litepose_{letters}",
        f"the official links are reported dead, this file's was {DRIVE}/file/d/{drive_file} (README of "
        "mit-han-lab/litepose); ask its authors, or take a copy of somebody you trust",
        "FILE.pth",
        "MIT (mit-han-lab/litepose)",
        keypoint_set=keypoint_set,
        task="bottom_up",
        codec="associative_embedding",
        data="COCO train2017" if keypoint_set is COCO else "CrowdPose train and val",
        recipe="published checkpoint, started from a supernet",
    )


_ROWS = [
    _openmmlab(
        "rtmpose_t", "rtmposev1", "rtmpose-t_simcc-body7_pt-body7_420e-256x192-026a1439_20230504", _simcc("rtmpose_t"),
        sha256="a6c2f6a3896a4d51131d14d7a80a3d08b50f559af5a58a45d5b098aef510a70f", size=13_350_364,
        archive_sha256="937003a70832d9cc34ea16927f504792f3133e92dda1b9c626236bbbe9e805cb",
        published=f"AP 65.9 ({USUAL_BOXES})",
    ),
    _openmmlab(
        "rtmpose_s", "rtmposev1", "rtmpose-s_simcc-body7_pt-body7_420e-256x192-acd4a1ef_20230504", _simcc("rtmpose_s"),
        sha256="9aeb635b83f86aea45cf45d85798f7eba1a162de8e0d721c44e54fe5eebaf47d",
        published=f"AP 69.7 ({USUAL_BOXES})",
    ),
    _openmmlab(
        "rtmpose_m", "rtmposev1", "rtmpose-m_simcc-body7_pt-body7_420e-256x192-e48f03d0_20230504", _simcc("rtmpose_m"),
        sha256="5c0a4bf67953e6d2ac43ce15e77dc9d5d354ae18430a47d2c5963a7bc5683e3c", size=54_330_655,
        archive_sha256="f7fbb6c5c11a1bb70f3d445e4ddec5d144ea89ad5649c081ef976f9b24a0b741",
        published=f"AP 74.9 ({USUAL_BOXES})",
    ),
    _openmmlab(
        "rtmpose_l", "rtmposev1", "rtmpose-l_simcc-body7_pt-body7_420e-256x192-4dba18fc_20230504", _simcc("rtmpose_l"),
        sha256="cff059fd58a2c0d5fabaddcd66a96abcfb327563bcb0149ea59c9de4a8990fe2",
        published=f"AP 76.7 ({USUAL_BOXES})",
    ),
    _openmmlab(
        "rtmpose_m_384x288", "rtmposev1", "rtmpose-m_simcc-body7_pt-body7_420e-384x288-65e718c4_20230504",
        _simcc("rtmpose_m", (384, 288)), published=f"AP 76.6 ({USUAL_BOXES})",
    ),
    _openmmlab(
        "rtmpose_l_384x288", "rtmposev1", "rtmpose-l_simcc-body7_pt-body7_420e-384x288-3f5a1437_20230504",
        _simcc("rtmpose_l", (384, 288)),
        sha256="62425affc6b9edba8f8a65f55f5e278fec5d905d0c90578e0f8503bdf3954587",
        published=f"AP 78.3 ({USUAL_BOXES})",
    ),
    _openmmlab(
        "rtmpose_x_384x288", "rtmposev1", "rtmpose-x_simcc-body7_pt-body7_700e-384x288-71d7b7e9_20230629",
        _simcc("rtmpose_x", (384, 288)),
        sha256="df0c0fa91e9870b1515dcaff741fd76cc753dcfb12786862f61b243bae81cd52",
        published=f"AP 78.8 ({USUAL_BOXES})",
    ),
    _openmmlab(
        "rtmpose_t_26", "rtmposev1", "rtmpose-t_simcc-body7_pt-body7-halpe26_700e-256x192-6020f8a6_20230605",
        _simcc("rtmpose_t", keypoint_set=HALPE26), published=f"PCK@0.1 91.9, AUC 66.4 ({BODY8})",
    ),
    _openmmlab(
        "rtmpose_s_26", "rtmposev1", "rtmpose-s_simcc-body7_pt-body7-halpe26_700e-256x192-7f134165_20230605",
        _simcc("rtmpose_s", keypoint_set=HALPE26),
        sha256="85c5d669aa0b0c7969799ea9e0620d3b8c1d3c2b6878243e98a1ef8351457986", size=22_793_379,
        published=f"PCK@0.1 93.0, AUC 68.6 ({BODY8})", verified=True,
    ),
    _openmmlab(
        "rtmpose_m_26", "rtmposev1", "rtmpose-m_simcc-body7_pt-body7-halpe26_700e-256x192-4d3e73dd_20230605",
        _simcc("rtmpose_m", keypoint_set=HALPE26),
        sha256="26f3a19e61304a600dfb82d1001d41d24343b89fc70a33ffc84657e0b0bf2ecf", size=55_685_444,
        archive_sha256="55b81170e236040b59fc792ad0a8315301ac4c079a3bdb1095d838aad3088d18",
        published=f"PCK@0.1 94.8, AUC 71.9 ({BODY8})",
    ),
    _openmmlab(
        "rtmpose_l_26", "rtmposev1", "rtmpose-l_simcc-body7_pt-body7-halpe26_700e-256x192-2abb7558_20230605",
        _simcc("rtmpose_l", keypoint_set=HALPE26), published=f"PCK@0.1 95.4, AUC 73.2 ({BODY8})",
    ),
    _rtmo("t", 416, "8xb32-600e_body7-416x416-f48f75cb_20231219", 57.4),
    _rtmo(
        "s", 640, "8xb32-600e_body7-640x640-dac2bf74_20231211", 68.6,
        sha256="d0703d40d19f3921da51ae725402d5fdae4d2478c7442072d3101bd396f370d8", size=39_617_685,
        archive_sha256="3da7ad88b209f9da8be87ba5c325610639af04de3b5c8a96649b98cd9e2848a2",
    ),
    _rtmo("m", 640, "16xb16-600e_body7-640x640-39e78cc4_20231211", 72.6),
    _rtmo("l", 640, "16xb16-600e_body7-640x640-b37118ce_20231211", 74.8),
    PublicWeights(
        "vitpose_b",
        Weights(
            "vitpose_b", "vitpose_b", (256, 192), codec_options={"blur": 11}, licence=APACHE, data="COCO train2017",
            note="exported by others (easy_ViTPose)",
        ),
        (f"{HUGGINGFACE}/JunkyByte/easy_ViTPose/resolve/main/onnx/coco/vitpose-b-coco.onnx",),
        "26e215fd6e27305824f13db0a0d0b597c3c4adf030dd66cbadf2228256f4af25", 360_123_609,
        published=f"{NETWORKS['vitpose_b'].published.accuracy} (of the network's authors, not of this export)",
    ),
    _humanart(
        "yolox_nano", 416, "40f6f0d0", 38.9,
        sha256="1450966de24902b18aada1a78913d7efd8fc8dcd51bd4d0d5591476bd4a38821", size=3_722_395,
    ),
    _humanart(
        "yolox_tiny", 416, "6f3252f9", 47.7,
        sha256="ceb11c07298f95c50d7c5abeb906d03340c85f23aa79e3e66966e7fb6c307250", size=20_283_006,
        archive_sha256="36e09ca555916253fa1b5d51bec01e48e98e1f0af966c51ce3e844d8c8fc4cfc", verified=True,
    ),
    _humanart(
        "yolox_s", 640, "3ef259a7", 54.6,
        sha256="332e09ea9696e3401049b6c5314851db020b6430f85da159e65f37034ab3aee8",
        archive_sha256="e8e8f51cb9c70ed1c3781ed12f1debf918d78cf94638554f1a467f704f627349",
    ),
    _humanart(
        "yolox_m", 640, "c2c7a14a", 59.1,
        sha256="3dea6513388889f0fff4b77bf7a26013600321b9eb9ceb0e9a400a82572f5f23", size=101_400_344,
        archive_sha256="a000224fd8ba283202bc62d4a5fcdfe353adb9f468777dbac1ea2ada2093adde",
    ),
    _megvii("yolox_nano", 416, "c789161ed43c8269fcd4e67c67eeeb4e80c622da2eb296a20bc6007bd18a0b7d", 3_659_407),
    _megvii("yolox_tiny", 416, "427cc366d34e27ff7a03e2899b5e3671425c262ea2291f88bb942bc1cc70b0f7", 20_219_662),
    _megvii("yolox_s", 640, "c5c2d13e59ae883e6af3b45daea64af4833a4951c92d116ec270d9ddbe998063", 35_858_002),
    _openmmlab(
        "rtmdet_nano", "rtmposev1", "rtmdet_nano_8xb32-100e_coco-obj365-person-05d8511e",
        _letterboxed(
            "rtmdet_nano", 320, "persons of COCO and Objects365", task="detection", codec="detections",
            mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395),
        ),
        sha256="8297e829ccc5590c8e2d32d5a211f322a0585fb7467eec85eb12c9525b0b95d6",
        published=f"AP 40.3 ({PERSONS})",
    ),
    _lpn(50), _lpn(101), _lpn(152), _hrnet(32), _hrnet(48),
    _litepose("xs", "1U3jIFEmPLbxSUhScZJv1JPAoiFboA8Y6", CROWDPOSE),
    _litepose("s", "10NCT0UrQvMmTdjMLR7l-WvFBrvMofjXs"),
    _litepose("m", "1OIXIwE1VMSlWbDsZzYJU-qlIxPNAnBPh"),
    _litepose("l", "1_zJCRaYMDK77wmaYul6bHb6_M5qlJ8zP"),
    _openmmlab(
        "rtmw_l", "rtmw", "rtmw-dw-x-l_simcc-cocktail14_270e-256x192_20231122",
        _simcc("rtmw_l", (256, 192), WHOLEBODY, "cocktail14, fourteen public sets", COCO_WHOLEBODY),
        sha256="9a9bc17c13ff0a1e37507f45a037a21bc410cd08374b0e664c57d0080843aa58", size=228_708_578,
        archive_sha256="1e3e77558dfc199129bfff1c583e51b4ee190914de6ae30688243c20163c148c",
    ),
    _openmmlab(
        "dwpose_l_384x288", "rtmposev1", "rtmpose-l_simcc-ucoco_dw-ucoco_270e-384x288-2438fd99_20230728",
        _simcc("dwpose_l", (384, 288), WHOLEBODY, "COCO-WholeBody, UBody", COCO_WHOLEBODY),
        sha256="8cfecfc2226d8e14b510c2fd28442226c518b4d60690535753187877411d4005", size=134_399_323,
        archive_sha256="b06f1bc598ddbdb5008a61f4a411aa11ed331370b4f7f438126d6d99e168d147",
    ),
]  # fmt: skip

PUBLIC: dict[str, PublicWeights] = {row.name: row for row in _ROWS}

# What `leanpose download best` fetches, 75 MB. RTMPose-m: l takes twice its multiply-adds, and only one source
# publishes its hash. YOLOX-tiny: with it rtmpose_s_26 lost 0.9 AP against annotated boxes on our small validation set,
# so a better detector can give little, and yolox_m is five times as large, on inputs of 2.4 times the pixels.
BEST = ("rtmpose_m", "yolox_tiny")


def get_public(name: str) -> PublicWeights:
    """Return a row by its name; an unknown name raises WeightsError with the nearest one."""
    if name not in PUBLIC:
        raise WeightsError(f"There are no public weights '{name}'.{suggest(name, PUBLIC)}")
    return PUBLIC[name]


def public_by_sha256(sha256: str) -> PublicWeights | None:
    """Return the row of a file by the SHA-256 of its content, in hexadecimal digits; None: it is none of them."""
    return next((row for row in PUBLIC.values() if sha256 and row.sha256 == sha256), None)
