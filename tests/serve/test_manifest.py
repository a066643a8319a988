"""What the page is told of the networks, without a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leanpose.errors import InputError, WeightsError
from leanpose.inference.predictor import Predictor
from leanpose.serve import manifest as module
from leanpose.serve.manifest import IN_BROWSER, described, manifest, network_files
from leanpose.weights.public import PUBLIC
from leanpose.weights.record import Weights


@pytest.fixture(autouse=True)
def _runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for onnxruntime-web, which npm brings."""
    (tmp_path / "runtime").write_bytes(bytes(1000))
    monkeypatch.setattr(module, "RUNTIME", tmp_path / "runtime")


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Weights]:
    """Networks that are nothing but records, by name; a test puts them in."""
    known: dict[str, Weights] = {}

    def find(name: str, suffix: str) -> Path:
        file = tmp_path / name.replace("/", "_")
        file.write_text(name)
        return file

    monkeypatch.setattr(module, "find_weights", find)
    monkeypatch.setattr(module, "read_record", lambda path: known[path.read_text()])
    return known


def test_it_tells_of_the_bundled_networks_what_their_records_say() -> None:
    told = json.loads(json.dumps(manifest(["lpn50", "lpn50.coco_128x96_int8"], "litepose_xs")))
    assert (told["default"], told["detector"]) == ("lpn50", "litepose_xs")
    assert [model["name"] for model in told["models"]] == ["lpn50", "lpn50.coco_128x96_int8"]
    predictor = Predictor("lpn50", detector="litepose_xs", threads=1)
    network, weights = told["networks"]["lpn50"], predictor.weights
    assert network["sha256"] == predictor.provenance["sha256"]
    assert network["name"] == predictor.provenance["model"]
    assert network["calibration"]["raw"] == list(weights.calibration.raw)  # type: ignore[union-attr]
    assert network["codec"]["name"] == "dark" and network["codec"]["blur"] == len(network["codec"]["kernel"]) == 7
    detector = told["networks"]["litepose_xs"]
    assert detector["short_sides"] == [256, 128] and detector["box_codec"]["name"] == "center_box"
    assert told["models"][0]["min_person_score"] == predictor.min_person_score
    assert told["left_out"] == {} and told["runtime_bytes"] == 1000


def test_its_files_are_those_of_the_networks() -> None:
    files = network_files(["lpn50"], "litepose_xs")
    told = manifest(["lpn50"], "litepose_xs")["networks"]
    assert {network["file"]: network["bytes"] for network in told.values()} == {
        name: path.stat().st_size for name, path in files.items()
    }


@pytest.mark.parametrize("detector", [None, "none"])
def test_without_a_detector_there_is_none(detector: str | None) -> None:
    told = manifest(["lpn50"], detector)
    assert told["detector"] is None and list(told["networks"]) == ["lpn50"]


def test_auto_is_the_strongest_on_this_machine() -> None:
    told = manifest(["auto"], "auto")
    assert (told["default"], told["detector"]) == ("sfm", "sfm_persons")


def test_what_a_browser_cannot_run_is_left_out_with_the_reason() -> None:
    told = manifest(["litepose_xs", "lpn50", "lpn51"], None)
    assert told["default"] == "lpn50" and list(told["networks"]) == ["lpn50"]
    assert "associative_embedding" in told["left_out"]["litepose_xs"]
    assert "There are no weights 'lpn51'" in told["left_out"]["lpn51"]


@pytest.mark.parametrize(("models", "fault"), [([], "at least one"), (["litepose_xs"], "associative_embedding")])
def test_nothing_to_run_is_an_error(models: list[str], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        manifest(models, None)


def test_without_onnxruntime_web_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNTIME", tmp_path / "absent")
    with pytest.raises(InputError, match="onnxruntime-web"):
        manifest(["lpn50"], None)


def test_a_detector_finds_boxes_in_whole_images() -> None:
    with pytest.raises(WeightsError, match="one person per crop"):
        manifest(["lpn50"], "lpn50")


def test_a_network_of_boxes_is_a_detector_only(records: dict[str, Weights]) -> None:
    records |= {"boxes": PUBLIC["yolox_tiny"].record, "persons": PUBLIC["rtmpose_s_26"].record}
    told = manifest(["persons", "boxes"], "boxes")
    assert "use it as the detector" in told["left_out"]["boxes"]
    assert told["networks"]["boxes"]["box_codec"]["score_threshold"] == 0.05
    assert told["networks"]["persons"]["codec"]["split"] == 2.0


def test_networks_are_called_by_their_names_and_files_by_theirs(records: dict[str, Weights]) -> None:
    records |= dict.fromkeys(("a/net.onnx", "b/net.onnx", "net.v2"), PUBLIC["rtmpose_s_26"].record)
    assert list(network_files(["a/net.onnx", "net.v2"], None)) == ["net.onnx", "net.v2.onnx"]
    assert manifest(["a/net.onnx"], None)["networks"]["a/net.onnx"]["file"] == "net.onnx"
    with pytest.raises(InputError, match=r"file name net\.onnx"):
        network_files(["a/net.onnx", "b/net.onnx"], None)


def test_the_page_reads_the_codecs_that_are_said_to_run() -> None:
    source = (module.PAGE / "engine" / "codecs" / "index.js").read_text("utf-8")
    table = source.partition("const CODECS = {")[2].partition("}")[0]
    assert {entry.split(":")[0].strip() for entry in table.split(",") if entry.strip()} == IN_BROWSER


def test_a_bottom_up_network_has_a_lower_score() -> None:
    assert described("rtmo", PUBLIC["rtmo_s"].record)["min_person_score"] == 0.2
