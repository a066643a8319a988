"""The table of public weights."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from leanpose.errors import WeightsError
from leanpose.keypoint_sets import COCO, CROWDPOSE, HALPE26, KEYPOINT_SETS, WHOLEBODY
from leanpose.weights import catalogue
from leanpose.weights.public import BEST, PUBLIC, PublicWeights, get_public, public_by_sha256
from leanpose.weights.record import Weights

ROWS = list(PUBLIC.values())
TASK_OF = {
    "simcc": "top_down", "udp": "top_down", "heatmap": "top_down", "beta_soft_argmax": "top_down",
    "detections": "detection", "yolox": "detection",
    "detected_poses": "bottom_up", "associative_embedding": "bottom_up",
}  # fmt: skip
WANTED = (
    *("rtmpose_t", "rtmpose_s", "rtmpose_m", "rtmpose_l"),
    *("rtmpose_m_384x288", "rtmpose_l_384x288", "rtmpose_x_384x288"),
    *("rtmpose_t_26", "rtmpose_s_26", "rtmpose_m_26", "rtmpose_l_26"),
    *("rtmo_t", "rtmo_s", "rtmo_m", "rtmo_l", "vitpose_b", "rtmdet_nano"),
    *("yolox_nano", "yolox_tiny", "yolox_s", "yolox_m", "yolox_nano_coco", "yolox_tiny_coco", "yolox_s_coco"),
    *("lpn50_published", "hrnet_w32_published", "litepose_s_published"),
)


def test_rows() -> None:
    assert set(WANTED) <= PUBLIC.keys()
    assert all(name == row.name for name, row in PUBLIC.items())
    assert {row.name for row in ROWS if row.verified} == {"rtmpose_s_26", "yolox_tiny"}
    assert ("rtmw_l" in PUBLIC) == ("dwpose_l_384x288" in PUBLIC) == ("wholebody" in KEYPOINT_SETS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_complete(row: PublicWeights) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", row.name)
    for sha256 in (row.sha256, row.archive_sha256):
        assert re.fullmatch(r"([0-9a-f]{64})?", sha256)
    assert all(url.startswith("https://") for url in row.urls) and len(set(row.urls)) == len(row.urls)
    assert bool(row.urls) != bool(row.by_hand)
    assert (row.member == "end2end.onnx") == any(url.endswith(".zip") for url in row.urls)
    assert row.code_licence in ("Apache-2.0", "MIT") and row.weights_licence.startswith(row.code_licence)
    assert row.size >= 0 and (row.sha256 or not row.size)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_its_record(row: PublicWeights) -> None:
    record = row.record
    assert TASK_OF[record.codec] == record.task
    assert record.licence == row.weights_licence and record.data
    assert (record.name == row.name) == bool(row.urls)
    again = Weights.from_metadata(record.to_metadata(), "x")
    for field in dataclasses.fields(Weights):
        if field.name != "keypoint_set":
            assert getattr(again, field.name) == getattr(record, field.name)
    assert again.keypoint_set.to_dict() == record.keypoint_set.to_dict()


def test_nothing_stands_twice() -> None:
    for values in (
        [row.sha256 for row in ROWS if row.sha256],
        [url for row in ROWS for url in row.urls],
        [row.record.name for row in ROWS],
    ):
        assert len(set(values)) == len(values)


def test_records_by_family() -> None:
    """The preprocessing that the published files ask for."""
    simcc = [row.record for row in ROWS if row.record.codec == "simcc"]
    assert {(r.channel_order, r.convention, r.padding, r.mean[0], r.fit) for r in simcc} == {
        ("rgb", "classic", 1.25, 123.675, "short_side")
    }
    options = {r.input_size: dict(r.codec_options) for r in simcc}
    assert options == {(256, 192): {}, (384, 288): {"sigma": [6.0, 6.93]}}
    for name, row in PUBLIC.items():
        record = row.record
        if name.startswith("rtm") and record.task == "top_down":
            kinds = {"_26": HALPE26, "w_l": WHOLEBODY}
            assert record.keypoint_set is kinds.get(name[-3:], COCO)
        if name.startswith(("yolox", "rtmo", "rtmdet")):
            assert (record.fit, record.border, record.channel_order) == ("letterbox", 114, "bgr")
            assert record.mean == ((103.53, 116.28, 123.675) if name == "rtmdet_nano" else (0, 0, 0))
        assert ("Human-Art" in record.note) == ("humanart" in "".join(row.urls))
    assert PUBLIC["litepose_xs_published"].record.keypoint_set is CROWDPOSE


def test_converted_checkpoints_get_the_record_of_their_row() -> None:
    pytest.importorskip("torch")
    from leanpose.models.checkpoints import CHECKPOINTS, DATA_OF

    for row in ROWS:
        if row.urls:
            continue
        (settings,) = (values for names, values in CHECKPOINTS.items() if row.record.model in names)
        for key, value in settings.items():
            expected = value.format(DATA_OF[row.record.keypoint_set.name]) if key == "data" else value
            assert getattr(row.record, key) == expected
        height, width = row.record.input_size
        assert row.record.name == f"{row.record.model}.{row.record.keypoint_set.name}_{height}x{width}_published"
        assert row.name == f"{row.record.model}_published"


def test_files_of_our_networks_stand_for_what_torch_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = {row.name for row in ROWS if row.loads_in_torch}
    letters = ("t", "s", "m", "l")
    assert loads == {
        *(f"rtmpose_{letter}{suffix}" for letter in letters for suffix in ("", "_26")),
        *("rtmpose_m_384x288", "rtmpose_l_384x288"),
    }
    monkeypatch.setattr(catalogue, "download", lambda name: Path(f"{name}.onnx"))
    for name in loads:
        assert catalogue.find_weights(name, ".safetensors") == Path(f"{name}.onnx")
    for name in ("rtmpose_x_384x288", "yolox_tiny"):
        with pytest.raises(WeightsError, match=r"is a public \.onnx file, for prediction"):
            catalogue.find_weights(name, ".safetensors")


def test_the_best_are_a_network_and_a_detector_with_known_hashes() -> None:
    rows = [PUBLIC[name] for name in BEST]
    assert [row.record.task for row in rows] == ["top_down", "detection"]
    assert all(row.sha256 and row.size and row.urls for row in rows)


def test_look_up() -> None:
    row = get_public("yolox_tiny")
    assert public_by_sha256(row.sha256) is row
    assert public_by_sha256("") is None and public_by_sha256("0" * 64) is None
    with pytest.raises(WeightsError, match=r"There are no public weights 'rtmpose_ss'\. Did you mean 'rtmpose_s'\?"):
        get_public("rtmpose_ss")
