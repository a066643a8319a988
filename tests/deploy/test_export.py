"""Export: an ONNX file that carries the record and computes the same, or no file at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

import torch  # noqa: E402
from support import one_layer  # noqa: E402

import leanpose.deploy.targets.onnx as exporting  # noqa: E402
from leanpose.deploy.export import export  # noqa: E402
from leanpose.deploy.parity import ExportReport, read_points  # noqa: E402
from leanpose.deploy.targets.onnx import to_onnx  # noqa: E402
from leanpose.errors import InputError, LeanposeError, WeightsError  # noqa: E402
from leanpose.inference.detect import NetworkDetector  # noqa: E402
from leanpose.inference.engines import OnnxRuntimeEngine, TorchEngine, load_engine  # noqa: E402
from leanpose.inference.predictor import Predictor  # noqa: E402
from leanpose.io.images import read_image  # noqa: E402
from leanpose.keypoint_sets import LSP  # noqa: E402
from leanpose.models import create_model  # noqa: E402
from leanpose.models.checkpoints import save_network  # noqa: E402
from leanpose.weights.record import Weights  # noqa: E402

MakePeople = Callable[..., tuple[Path, Path]]
RECORD = Weights("lpn50.lsp_64x48", "lpn50", (64, 48), LSP, codec="dark", codec_options={"sigma": 1.5}, note="a test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, short_lpn: None) -> Path:
    """Return a folder with a.safetensors, lpn50 with heatmaps of about 1 and normalisation that does something."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    network = create_model("lpn50", 14)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        elif isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            torch.nn.init.normal_(module.weight, std=0.05)
    network.eval()
    with torch.inference_mode():
        largest = network(torch.randn(8, 3, 64, 48))["heatmaps"].amax().item()
        network.final_layer.weight /= largest
        network.final_layer.bias /= largest
    save_network(folder / "a.safetensors", network, RECORD)
    return folder


@contextmanager
def one_program() -> Iterator[None]:
    """Let torch translate the network once, for both storages: that takes most of the time of an export."""
    programs: list[Any] = []
    translate = torch.onnx.export

    def once(*arguments: Any, **options: Any) -> Any:
        if not programs:
            programs.append(translate(*arguments, **options))
        return programs[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", once)
        yield


@pytest.fixture(scope="module")
def reports(folder: Path) -> tuple[ExportReport, ExportReport]:
    """Return the reports of a.onnx and half.onnx, written beside a.safetensors."""
    with one_program():
        return (
            export(str(folder / "a.safetensors"), out=str(folder / "a.onnx")),
            export(str(folder / "a.safetensors"), out=str(folder / "half.onnx"), storage="float16"),
        )


@pytest.fixture(scope="module")
def report(reports: tuple[ExportReport, ExportReport]) -> ExportReport:
    return reports[0]


@pytest.fixture(scope="module")
def half_report(reports: tuple[ExportReport, ExportReport]) -> ExportReport:
    return reports[1]


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((count, 3, 64, 48)).astype(np.float32)


def test_the_report(report: ExportReport, folder: Path) -> None:
    assert report.inputs == 4
    assert 0 < report.difference < 1e-4
    assert report.pixel_difference < 0.01
    assert report.megabytes == pytest.approx((folder / "a.onnx").stat().st_size / 1e6)
    assert f"{folder / 'a.onnx'}: " in str(report)
    assert "on 4 network inputs its outputs differ by at most" in str(report)


def test_only_the_wanted_files_are_left(report: ExportReport, half_report: ExportReport, folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == [
        "a.onnx", "a.onnx.json", "a.safetensors", "half.onnx", "half.onnx.json",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 3])
def test_any_batch_size(count: int, report: ExportReport, folder: Path) -> None:
    exported, original = OnnxRuntimeEngine(folder / "a.onnx", 1), TorchEngine.from_file(folder / "a.safetensors", 1)
    found, expected = exported(noise(count)), original(noise(count))
    assert found.keys() == expected.keys() == {"heatmaps"}
    assert found["heatmaps"].shape == (count, 14, 16, 12)
    np.testing.assert_allclose(found["heatmaps"], expected["heatmaps"], rtol=0, atol=1e-4)
    assert expected["heatmaps"].max() > 0.2  # otherwise no keypoint would be compared


def test_names_and_record(report: ExportReport, folder: Path) -> None:
    model = onnx.load(folder / "a.onnx")
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.output] == ["heatmaps"]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == RECORD.to_metadata()
    assert Weights.from_metadata(metadata, "a.onnx").to_metadata() == RECORD.to_metadata()
    assert {opset.domain: opset.version for opset in model.opset_import}[""] == exporting.OPSET


def test_nothing_of_this_machine_is_in_the_file(report: ExportReport, folder: Path) -> None:
    content = (folder / "a.onnx").read_bytes()
    assert str(Path(exporting.__file__).parent).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content


def test_the_file_predicts_as_the_network(report: ExportReport, folder: Path, people: MakePeople) -> None:
    _, images = people(count=2)
    boxes = [[10, 5, 80, 110], [20, 10, 70, 100], [0, 0, 100, 120]]
    for flip_test in (False, True):
        exported = Predictor(folder / "a.onnx", threads=1, flip_test=flip_test, detector=None)
        original = Predictor(folder / "a.safetensors", threads=1, flip_test=flip_test, detector=None)
        found, expected = (predictor(images / "1.png", boxes) for predictor in (exported, original))
        assert np.linalg.norm(found.keypoints - expected.keypoints, axis=2).max() < 0.01
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        assert found.keypoint_set.name == "lsp"


def test_float16_is_smaller_and_near(report: ExportReport, half_report: ExportReport, folder: Path) -> None:
    assert half_report.megabytes < 0.6 * report.megabytes
    assert report.difference < half_report.difference < 0.03
    found = OnnxRuntimeEngine(folder / "half.onnx", 1)(noise(2))["heatmaps"]
    assert found.dtype == np.float32
    expected = OnnxRuntimeEngine(folder / "a.onnx", 1)(noise(2))["heatmaps"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05)


def test_a_keypoint_between_two_equal_peaks_does_not_fail_the_check(
    folder: Path, report: ExportReport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exported = onnx.load(folder / "a.onnx")
    monkeypatch.setattr(exporting, "model_of", lambda *_: exported)
    maps = np.zeros((1, 14, 16, 12), np.float32)
    maps[..., 5, 5], maps[..., 9, 8] = 1, 1.0001
    nearly = maps.copy()
    nearly[..., 5, 5] = 1.0002
    monkeypatch.setattr(TorchEngine, "__call__", lambda *_: {"heatmaps": maps})
    target = replace(exporting.TARGET, load=lambda *_: lambda images: {"heatmaps": nearly})
    monkeypatch.setattr(exporting, "TARGET", target)
    found = export(str(folder / "a.safetensors"), out=str(tmp_path / "b.onnx"))
    assert found.pixel_difference > 10
    assert found.difference == pytest.approx(0.0002, rel=0.01)


def test_persons_of_a_data_set_are_compared(
    folder: Path, report: ExportReport, people: MakePeople, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    annotations, images = people(count=3)
    exported = onnx.load(folder / "a.onnx")
    monkeypatch.setattr(exporting, "model_of", lambda *_: exported)
    more = export(
        str(folder / "a.safetensors"), out=str(tmp_path / "b.onnx"), data=str(annotations), images=str(images)
    )
    assert more.inputs == 3
    assert more.pixel_difference < 0.01


@pytest.mark.parametrize("fault", ["swapped", "weak", "nan"])
def test_a_failed_check_writes_nothing(
    fault: str, folder: Path, report: ExportReport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exported = onnx.load(folder / "a.onnx")
    for tensor in exported.graph.initializer:
        if tensor.name.endswith("final_layer.weight"):
            values = onnx.numpy_helper.to_array(tensor)
            wrong = {"swapped": values[::-1], "weak": values * 0.9, "nan": values * np.nan}[fault]
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(wrong), tensor.name))
            break
    else:
        pytest.fail("the last layer has another name")
    monkeypatch.setattr(exporting, "model_of", lambda *_: exported)
    before = (folder / "a.onnx").read_bytes()
    (tmp_path / "b.onnx").write_bytes(before)
    with pytest.raises(WeightsError, match=r"The export failed its check and was not written: .*its outputs differ"):
        export(str(folder / "a.safetensors"), out=str(tmp_path / "b.onnx"))
    assert [file.name for file in tmp_path.iterdir()] == ["b.onnx"]
    assert (tmp_path / "b.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("a.safetensors", {"out": "b.pt"}, r"must end in \.onnx, not b\.pt"),
        ("a.safetensors", {"out": "b.onnx", "data": "a.json"}, "data and images belong together"),
        ("a.safetensors", {"out": "b.onnx", "images": "images"}, "data and images belong together"),
        ("a.safetensors", {"out": "b.onnx", "storage": "int8"}, "storage must be 'float32' or 'float16', not 'int8'"),
        ("a.onnx", {"out": "b.onnx"}, r"a\.onnx is exported already; give a \.safetensors file"),
        ("absent.safetensors", {"out": "b.onnx"}, "There is no file"),
    ],
)
def test_wrong_arguments(
    model: str, options: dict[str, Any], message: str, folder: Path, report: ExportReport, tmp_path: Path
) -> None:
    options["out"] = str(tmp_path / options["out"])
    name = str(folder / model) if "." in model else model
    with pytest.raises(LeanposeError, match=message):
        export(name, **options)
    assert list(tmp_path.iterdir()) == []


def test_bad_data_stops_before_anything_is_written(folder: Path, people: MakePeople, tmp_path: Path) -> None:
    annotations, images = people(count=2)
    (images / "1.png").unlink()
    out = tmp_path / "out" / "b.onnx"
    with pytest.raises(InputError, match=r"1\.png"):
        export(str(folder / "a.safetensors"), out=str(out), data=str(annotations), images=str(images))
    assert not out.parent.exists()


def test_the_output_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    model = to_onnx(one_layer(14), RECORD)
    assert model.metadata_props
    assert capfd.readouterr() == ("", "")


OUTPUTS = {"heatmaps_4": (14, 4), "tags": (14, 4), "heatmaps_2": (14, 2), "centers": (1, 4), "box_logs": (4, 4)}
BOTTOM_UP = Weights(
    "litepose_xs.lsp_64x64", "litepose_xs", (64, 64), LSP, task="bottom_up", convention="classic",
    codec="associative_embedding", codec_options={"upsample": False, "tag_threshold": 10.0}, box_codec="center_box",
    model_options={"person_head": True}, note="another test",
)  # fmt: skip


@pytest.fixture(scope="module")
def bottom_up(short_litepose: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with b.safetensors, litepose_xs with its person head and heatmaps of about 2."""
    folder = tmp_path_factory.mktemp("bottom_up")
    torch.manual_seed(0)
    network = create_model("litepose_xs", 14, person_head=True)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    for layer in (network.person.center, network.person.box):
        torch.nn.init.normal_(layer.weight, std=0.3)
    torch.nn.init.zeros_(network.person.center.bias)
    network.eval()
    with torch.inference_mode():
        outputs = network(torch.randn(8, 3, 64, 64))
        for i, name in enumerate(("heatmaps_4", "heatmaps_2")):
            for branch in (network.final_refined, network.final_raw):
                branch[i].conv[3].weight *= 2 / outputs[name].amax().item()
    save_network(folder / "b.safetensors", network, BOTTOM_UP)
    return folder


@pytest.fixture(scope="module")
def bottom_up_reports(bottom_up: Path) -> dict[str, ExportReport]:
    """Return, by storage, the reports of float32.onnx and float16.onnx, written beside b.safetensors."""
    with one_program():
        return {
            storage: export(str(bottom_up / "b.safetensors"), out=str(bottom_up / f"{storage}.onnx"), storage=storage)
            for storage in ("float32", "float16")
        }


both_storages = pytest.mark.parametrize("storage", ["float32", "float16"])


@both_storages
def test_bottom_up_report(storage: str, bottom_up_reports: dict[str, ExportReport], bottom_up: Path) -> None:
    report, file, half = bottom_up_reports[storage], bottom_up / f"{storage}.onnx", storage == "float16"
    assert report.file == str(file)
    assert report.inputs == 4
    assert (1e-5 if half else 0) < report.difference < (0.03 if half else 1e-4)
    assert half or report.pixel_difference < 0.01
    assert report.megabytes == pytest.approx(file.stat().st_size / 1e6)
    parameters = sum(p.numel() for p in create_model("litepose_xs", 14, person_head=True).parameters())
    assert report.megabytes < parameters * (2.6 if half else 4.6) / 1e6


@pytest.mark.parametrize("size", [(1, 64, 64), (3, 32, 96), (1, 160, 128), (2, 512, 64)], ids=str)
@both_storages
def test_bottom_up_takes_images_of_any_size(
    storage: str, size: tuple[int, int, int], bottom_up_reports: dict[str, ExportReport], bottom_up: Path
) -> None:
    count, height, width = size
    file, weights_file = bottom_up / f"{storage}.onnx", bottom_up / "b.safetensors"
    exported, original = OnnxRuntimeEngine(file, 1), TorchEngine.from_file(weights_file, 1)
    images = np.random.default_rng(5).standard_normal((count, 3, height, width)).astype(np.float32)
    found, expected = exported(images), original(images)
    assert {name: maps.shape for name, maps in found.items()} == {
        name: (count, channels, height // stride, width // stride) for name, (channels, stride) in OUTPUTS.items()
    }
    for name, maps in expected.items():
        assert found[name].dtype == np.float32
        tolerance = (0.03 if storage == "float16" else 1e-4) * np.abs(maps).max()
        np.testing.assert_allclose(found[name], maps, rtol=0, atol=tolerance, err_msg=name)


@both_storages
def test_bottom_up_names_and_record(storage: str, bottom_up_reports: dict[str, ExportReport], bottom_up: Path) -> None:
    file = bottom_up / f"{storage}.onnx"
    model = onnx.load(file)
    (images,) = model.graph.input
    assert images.name == "images"
    axes = [axis.dim_value or axis.dim_param for axis in images.type.tensor_type.shape.dim]
    assert axes[1] == 3
    assert all(isinstance(axis, str) and axis for axis in (axes[0], *axes[2:]))
    assert [value.name for value in model.graph.output] == list(OUTPUTS)
    assert {entry.key: entry.value for entry in model.metadata_props} == BOTTOM_UP.to_metadata()
    assert str(Path(exporting.__file__).parent).encode() not in file.read_bytes()


def test_bottom_up_file_predicts_as_the_network(
    bottom_up_reports: dict[str, ExportReport], bottom_up: Path, people: MakePeople
) -> None:
    _, images = people(count=1)
    image = read_image(images / "1.png")
    files = bottom_up / "float32.onnx", bottom_up / "b.safetensors"
    for flip_test in (False, True):
        found, expected = (Predictor(file, threads=1, flip_test=flip_test)(image) for file in files)
        assert len(found) == len(expected) > 1
        np.testing.assert_allclose(found.person_scores, expected.person_scores, atol=1e-4)
        np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.01)
        assert found.keypoint_set.name == "lsp"
    (boxes, scores), (wanted, _) = (NetworkDetector(load_engine(file, threads=1))(image) for file in files)
    assert len(scores) > 0
    np.testing.assert_allclose(boxes, wanted, atol=0.01)


def test_bottom_up_images_of_a_data_set_are_compared(
    bottom_up: Path,
    bottom_up_reports: dict[str, ExportReport],
    people: MakePeople,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    annotations, images = people(count=3)
    content = json.loads(annotations.read_text())
    content["annotations"] += content["annotations"]  # two persons per image
    annotations.write_text(json.dumps(content))
    exported = onnx.load(bottom_up / "float32.onnx")
    monkeypatch.setattr(exporting, "model_of", lambda *_: exported)
    shapes: list[tuple[int, ...]] = []
    engine = OnnxRuntimeEngine(bottom_up / "float32.onnx", 1)

    def noted(images: np.ndarray) -> dict[str, np.ndarray]:
        shapes.append(images.shape)
        return engine(images)

    monkeypatch.setattr(exporting, "TARGET", replace(exporting.TARGET, load=lambda *_: noted))
    more = export(
        str(bottom_up / "b.safetensors"), out=str(tmp_path / "c.onnx"), data=str(annotations), images=str(images)
    )
    assert more.inputs == 3
    assert more.difference < 1e-4
    assert {*shapes} == {(1, 3, 128, 64)}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("fault", [1.01, np.nan])
def test_every_output_of_a_bottom_up_network_is_checked(
    output: str,
    fault: float,
    bottom_up: Path,
    bottom_up_reports: dict[str, ExportReport],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    exported = onnx.load(bottom_up / "float32.onnx")
    monkeypatch.setattr(exporting, "model_of", lambda *_: exported)
    engine = TorchEngine.from_file(bottom_up / "b.safetensors", 1)

    def faulty(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = engine(images)
        return outputs | {output: outputs[output] * np.float32(fault)}

    monkeypatch.setattr(exporting, "TARGET", replace(exporting.TARGET, load=lambda *_: faulty))
    with pytest.raises(WeightsError, match=r"The export failed its check and was not written"):
        export(str(bottom_up / "b.safetensors"), out=str(tmp_path / "c.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_a_detector_is_compared_by_its_best_box(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"head": "persons", "width": 8, "levels": 2}
    network = create_model("sfm", **options)
    torch.nn.init.zeros_(network.head2.center.bias)  # scores above those that count
    record = Weights(
        "d.coco_64x64", "sfm", (64, 64), task="detection", codec="center_box", convention="classic",
        model_options=options,
    )  # fmt: skip
    save_network(tmp_path / "d.safetensors", network, record)
    report = export(str(tmp_path / "d.safetensors"), out=str(tmp_path / "d.onnx"))
    assert report.inputs == 4 and report.difference < 1e-4 and report.pixel_difference < 0.01
    expected, exported = TorchEngine.from_file(tmp_path / "d.safetensors", 1), OnnxRuntimeEngine(tmp_path / "d.onnx", 1)
    outputs = expected(noise := np.random.default_rng(1).standard_normal((1, 3, 64, 128)).astype(np.float32))
    for name, maps in exported(noise).items():  # of another size
        np.testing.assert_allclose(maps, outputs[name], rtol=1e-3, atol=1e-3)
    moved = {name: np.roll(maps, 2, axis=3) for name, maps in outputs.items()}
    (one, scores), (other, _) = (read_points(record, each, noise) for each in (outputs, moved))
    assert one.shape == other.shape == (1, 2, 2) and scores.shape == (1, 2) and scores.min() > 0.2
