"""Export to other forms: refusals, sidecars, OpenVINO's own form, rewritten layers, and which layer stops a converter.

The converters themselves are tested in tests/extras, by `make test-extras`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import torch
from support import one_layer
from torch import nn

from leanpose.deploy import export as exporting
from leanpose.deploy.calibrate import calibrate
from leanpose.deploy.export import export
from leanpose.deploy.failing_layer import conversion_fault
from leanpose.deploy.quantize import quantize
from leanpose.deploy.rewrites import for_litert
from leanpose.deploy.targets import TARGETS, Request, target_of
from leanpose.errors import InputError, LeanposeError, MissingPackageError, WeightsError
from leanpose.inference.device_engines import DeviceEngine, litert_engine
from leanpose.inference.engines import engine_of, load_engine
from leanpose.inference.predictor import Predictor
from leanpose.io.files import write_together
from leanpose.keypoint_sets import LSP
from leanpose.models.checkpoints import save_network
from leanpose.models.layers import GlobalContext
from leanpose.weights.catalogue import EXPORTED, read_record
from leanpose.weights.record import Weights
from leanpose.weights.sidecar import read_sidecar, sidecar, sidecar_path

RECORD = Weights("one.lsp_64x48", "lpn50", (64, 48), LSP, codec="dark", codec_options={"blur": 5})
BOTTOM_UP = replace(RECORD, task="bottom_up", convention="classic", codec="associative_embedding", codec_options={})


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a file of weights of which one layer is loaded."""
    path = tmp_path / "in" / "a.safetensors"
    network = one_layer(14).eval()
    save_network(path, network, RECORD)
    monkeypatch.setattr(exporting, "load_network", lambda _: (network, RECORD))
    return str(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "tflite", "out": "a.tflite"}, "There is no target 'tflite'"),
        ({"to": "litert", "out": "a.onnx"}, r"The output must end in \.tflite, not a\.onnx"),
        ({"to": "ncnn", "out": "a.param"}, r"must end in \.ncnn\.param"),
        ({"to": "ncnn", "out": "a.ncnn.param", "storage": "float16"}, "float16 storage is for onnx and openvino"),
        ({"to": "ncnn", "out": "a.ncnn.param", "end_to_end": True}, "--end-to-end is for onnx, openvino and litert"),
        ({"out": "a.onnx", "int8": True}, "--int8 is for litert: `leanpose quantize` makes int8 ONNX files"),
        ({"to": "litert", "out": "a.tflite", "int8": True}, "give --data and --images"),
        ({"to": "litert", "out": "a.tflite", "int8": True, "end_to_end": True}, "leave --end-to-end out"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out" / options["out"]
    with pytest.raises(InputError, match=message):
        export(model, **options | {"out": str(out)})
    assert not out.parent.exists()


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in ("onnx", "openvino")])
def test_a_missing_package_says_the_line_to_type(
    name: Any, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = replace(target_of(name), packages={"absent_package": name})
    monkeypatch.setattr(exporting, "target_of", lambda _: target)
    out = tmp_path / "out" / f"a{target.suffix}"
    with pytest.raises(MissingPackageError, match=rf"This needs the package absent_package: pip install .*\[{name}\]"):
        export(model, to=name, out=str(out))
    assert not out.parent.exists()


@pytest.mark.parametrize("there", ["a.xml", "a.bin", "a.xml.json"])
def test_files_of_others_stay(there: str, model: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(InputError, match=f"{there} is there already"):
        export(model, to="openvino", out=str(tmp_path / "a.xml"))
    assert (tmp_path / there).read_text() == "mine"


def test_openvino_form(model: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    out = tmp_path / "out" / "a.xml"
    report = export(model, to="openvino", out=str(out))
    assert report.difference is not None and report.difference < 1e-4
    assert sorted(file.name for file in out.parent.iterdir()) == ["a.bin", "a.xml", "a.xml.json"]
    assert read_record(out).to_metadata() == RECORD.to_metadata()
    inputs = np.random.default_rng(0).standard_normal((3, 3, 64, 48)).astype(np.float32)
    expected = one_layer_outputs(inputs)
    for engine in ("auto", "openvino"):
        assert load_engine(out, engine)(inputs)["heatmaps"].shape == expected.shape
    image = np.random.default_rng(1).integers(0, 256, (120, 100, 3), np.uint8)
    found = Predictor(out, threads=1, detector=None)(image, [10, 5, 80, 110])
    assert found.keypoints.shape == (1, 14, 2)
    export(model, to="openvino", out=str(out))  # its own files are replaced


def test_a_failed_check_is_one_line(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = target_of("onnx")
    wrong = replace(onnx, load=lambda path, names: lambda images: {"heatmaps": one_layer_outputs(images) + 1})
    monkeypatch.setattr(exporting, "target_of", lambda _: wrong)
    with pytest.raises(WeightsError, match=r"on 4 network inputs its outputs differ by .* 0\.001 is allowed") as error:
        export(model, out=str(tmp_path / "out" / "a.onnx"))
    assert "\n" not in str(error.value) and not [*(tmp_path / "out").iterdir()]


def test_the_report_of_int8_is_that_of_its_file(
    model: str, tmp_path: Path, people: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    def coarser(source: Path, small: Path, _: Any) -> None:
        network = onnx.load(source)
        kernel = next(tensor for tensor in network.graph.initializer if len(tensor.dims) == 4)
        values = onnx.numpy_helper.to_array(kernel)
        kernel.CopyFrom(onnx.numpy_helper.from_array((1.125 * values).astype(np.float32), kernel.name))
        onnx.save(network, small)

    target = replace(target_of("onnx"), quantize=coarser)
    monkeypatch.setattr(exporting, "target_of", lambda _: target)
    annotations, images = people(keypoint_set=LSP, count=2)
    options: dict[str, Any] = {"int8": True, "data": str(annotations), "images": str(images), "max_drop": 100}
    report = export(model, out=str(tmp_path / "a.onnx"), **options)
    assert report.difference is not None and 0.05 < report.difference < 0.2 and report.inputs == 2
    assert report.figure == "AP" and report.values is not None and "of the int8 file" in report.note
    assert json.loads((tmp_path / "a.onnx.json").read_text())["report"]["difference"] == report.difference


def one_layer_outputs(inputs: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return one_layer(14)(torch.from_numpy(inputs))["heatmaps"].numpy()


def test_the_sidecar_says_what_an_app_must_do(model: str, tmp_path: Path) -> None:
    export(model, out=str(tmp_path / "a.onnx"))
    content = json.loads((tmp_path / "a.onnx.json").read_text())
    app = content["app"]
    assert app["input"]["mean"] == [*RECORD.mean] and app["input"]["layout"] == "NCHW"
    assert app["outputs"] == {"heatmaps": [1, 14, 16, 12]}
    assert app["decode"]["codec"] == "dark" and app["decode"]["blur"] == 5
    assert app["keypoints"] == [*LSP.keypoints] and app["matrix"]["padding"] == 1.25
    assert content["report"]["file"] == "a.onnx" and str(tmp_path) not in (tmp_path / "a.onnx.json").read_text()


@pytest.mark.parametrize("name", TARGETS)
def test_where_sizes_are_fixed_whole_images_are_laid_into_one(name: Any) -> None:
    target = target_of(name)
    fixed = exporting._for(replace(BOTTOM_UP, box_scales=(1.0, 0.5)), target)
    assert (fixed.fit, fixed.box_scales) == (("short_side", (1.0, 0.5)) if target.any_size else ("letterbox", (1.0,)))
    assert exporting._for(RECORD, target) == RECORD


class Contexts(nn.Module):
    """The layers that converters stumble over, with values that do something."""

    def __init__(self) -> None:
        super().__init__()
        self.context = GlobalContext(8, 4)
        nn.init.normal_(self.context.channel_add_conv[-1].get_parameter("weight"))
        self.up = nn.ConvTranspose2d(8, 4, kernel_size=4, stride=2, padding=1, groups=4)
        self.large = nn.Conv2d(4, 4, kernel_size=7, stride=2, padding=3, groups=4)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.large(self.up(self.context(images)))
        return {"heatmaps": nn.functional.interpolate(features, size=(11, 7), mode="nearest")}


def test_rewritten_layers_compute_the_same() -> None:
    torch.manual_seed(0)
    network, images = Contexts().eval(), torch.randn(2, 8, 8, 6)
    changed = for_litert(network)
    with torch.inference_mode():
        expected, found = (one(images)["heatmaps"].numpy() for one in (network, changed))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    kinds = {type(module).__name__ for module in changed.modules()}
    assert "ConvTranspose2d" not in kinds and type(network.context) is GlobalContext
    areas = [module.weight[0, 0].numel() for module in changed.modules() if isinstance(module, nn.Conv2d)]
    assert max(areas) <= 25


class Cube(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features**3


def test_the_operator_and_layer_that_stop_a_converter_are_named() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.body = nn.Sequential(nn.ReLU(), Cube(), nn.ReLU())

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"heatmaps": self.body(self.stem(images))}

    def convert(request: Request, path: Path) -> None:
        if any(isinstance(module, Cube) for module in request.network.modules()):
            raise RuntimeError("cannot lower aten.pow.Tensor_Scalar to this")

    request = Request(Network().eval(), torch.zeros(1, 3, 8, 6), replace(RECORD, model="sfm"), ("heatmaps",))
    target = replace(target_of("litert"), convert=convert)
    message = r"litert does not take sfm: its aten\.pow\.Tensor_Scalar in the layer body\.1 \(.*\); lpn50 works\."
    with pytest.raises(WeightsError, match=message), conversion_fault("litert", target, request):
        convert(request, Path("a"))


def test_engines_of_devices_ask_for_files() -> None:
    with pytest.raises(InputError, match=r"leanpose export lpn50 --to ncnn --out lpn50\.ncnn\.param makes one"):
        load_engine("lpn50", "ncnn")
    with pytest.raises(LeanposeError, match="There are no weights 'lpn5'"):
        load_engine("lpn5", "litert")
    with pytest.raises(InputError, match="runs on the cpu here, not on 'cuda:0'"):
        litert_engine(Path("a.tflite"), device="cuda:0")
    assert engine_of("litepose_xs", "litert") == "auto" and engine_of("a.tflite", "litert") == "litert"
    assert engine_of("litepose_xs", "openvino") == "openvino"


@pytest.mark.parametrize("verb", [calibrate, quantize])
def test_other_verbs_ask_for_the_float_file(verb: Any, tmp_path: Path) -> None:
    (tmp_path / "a.tflite").touch()
    with pytest.raises(InputError, match=r"a\.tflite is exported: .* the \.safetensors file that it is made of"):
        verb(str(tmp_path / "a.tflite"), data="a.json", images=".", out=str(tmp_path / "b.onnx"))


def test_a_batch_is_a_loop(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(b"network")
    sidecar_path(path).write_text(sidecar(RECORD, [path], {}))
    engine = DeviceEngine(path, read_sidecar(path), lambda images: {"heatmaps": images[:, :1]})
    inputs = np.random.default_rng(0).standard_normal((3, 3, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(engine(inputs)["heatmaps"], inputs[:, :1])
    assert engine.weights.to_metadata() == RECORD.to_metadata()


@pytest.mark.parametrize("suffix", EXPORTED)
def test_a_file_without_its_sidecar_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"network")
    with pytest.raises(WeightsError, match=rf"needs a{suffix}\.json beside it"):
        load_engine(path)
    sidecar_path(path).write_text(sidecar(RECORD, [path], {}))
    assert read_sidecar(path).name == RECORD.name
    path.write_bytes(b"another")
    with pytest.raises(WeightsError, match=rf"a{suffix} is not as a{suffix}\.json says"):
        read_sidecar(path)
    sidecar_path(path).write_text(sidecar(RECORD, [path], {"end_to_end": True}))
    with pytest.raises(WeightsError, match="is for apps"):
        read_sidecar(path)
    sidecar_path(path).write_text("[]")
    with pytest.raises(WeightsError):
        read_sidecar(path)


def test_files_that_belong_together_are_written_together(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "a").mkdir()
        (folder / "a" / "inside").write_text("new")
        (folder / "b").write_text("new")
        if failing:
            raise WeightsError("no")

    failing = True
    with pytest.raises(WeightsError):
        write_together(tmp_path / "out" / "b", write)
    assert [*(tmp_path / "out").iterdir()] == []
    failing = False
    for _ in range(2):
        write_together(tmp_path / "out" / "b", write)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a", "b"]
