"""The Weights record inside files, names of weights, and files that are no weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanpose.errors import InputError, WeightsError
from leanpose.inference import engines
from leanpose.inference.engines import load_engine
from leanpose.inference.predictor import Predictor
from leanpose.inference.preprocess import box_inputs
from leanpose.io.images import read_image
from leanpose.keypoint_sets import COCO, CROWDPOSE, LSP, KeypointSet
from leanpose.weights import catalogue
from leanpose.weights.calibration import Calibration
from leanpose.weights.catalogue import BUNDLED, FURTHER, INT8, find_weights, read_record
from leanpose.weights.record import METADATA_KEY, Measurement, Weights

ASTRONAUT = Path(__file__).parents[2] / "docs" / "assets" / "astronaut.png"
PLAIN = Weights("tiny.coco_32x24", "tiny", (32, 24))
FULL = Weights(
    name="tiny.hand_64x64",
    model="tiny",
    input_size=(64, 64),
    keypoint_set=KeypointSet("hand", ("wrist", "left_tip"), (("wrist", "left_tip"),), "test", (0.1, 0.2)),
    mean=(1.0, 2.0, 3.0),
    std=(4.0, 5.0, 6.0),
    channel_order="bgr",
    padding=1.1,
    convention="classic",
    codec="beta_soft_argmax",
    codec_options={"beta": 100.0},
    flip_shift=True,
    bias=0.5,
    calibration=Calibration((0.1, 0.9), ((0.0, 1.0), (0.2, 0.8)), "held_back.json"),
    model_options={"attention": "se"},
    licence="MIT",
    data="hands",
    recipe="recipes/hands.yaml",
    box_codec="center_box",
    box_codec_options={"alpha": 0.5},
    box_scales=(1.0, 0.5),
    metrics=(
        Measurement("AP", 0.5, "val.json", "annotated", True, (64, 48)),
        Measurement("AR", -1, "a", "none", False),
    ),
    note="a test",
)


def plain(record: Weights) -> dict[str, Any]:
    values = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return values | {"keypoint_set": record.keypoint_set.to_dict()}


@pytest.mark.parametrize("record", [PLAIN, FULL], ids=lambda r: r.name)
def test_record_survives_metadata(record: Weights) -> None:
    metadata = record.to_metadata()
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in metadata.items())
    again = Weights.from_metadata({"other": "entry"} | metadata, "x.onnx")
    assert plain(again) == plain(record)
    assert isinstance(again.input_size, tuple) and isinstance(again.mean, tuple)


def test_records_of_format_1_are_read() -> None:
    """There the codec and the network's options alone say what is found, and figures have prose keys."""
    figures = {
        "AP (val.json, annotated boxes, no flip test)": 0.4,
        "AR (a/val.json, whole images, flip test)": 0.5,
        "AP (a/val.json, proposing for lpn50, flip test)": 0.25,
        "PCKh@0.5 (valid.json, annotated boxes)": -1,
    }
    new = ("task", "box_codec", "box_codec_options", "box_scales", "calibration")
    former = {"format": 1, "metrics": figures, **dict.fromkeys(new, ...)}
    record = Weights.from_metadata({METADATA_KEY: record_text(**former)}, "x.onnx")
    assert (record.task, record.box_codec, record.box_scales) == ("top_down", None, (1.0,))
    assert record.metrics == (
        Measurement("AP", 0.4, "val.json", "annotated", False, (32, 24)),
        Measurement("AR", 0.5, "a/val.json", "none", True, (32, 24)),
        Measurement("AP", 0.25, "a/val.json", "proposing for lpn50", True, (32, 24)),
        Measurement("PCKh@0.5", -1, "valid.json", "annotated", False, (32, 24)),
    )
    assert str(record.metrics[0]) == "AP 40.0 (val.json, annotated boxes, no flip test)"
    assert str(record.metrics[2]) == "AP 25.0 (a/val.json, proposing for lpn50, flip test)"
    assert str(record.metrics[3]) == "PCKh@0.5 - (valid.json, annotated boxes, no flip test)"
    former |= {"codec": "associative_embedding", "model_options": {"person_head": True}}
    record = Weights.from_metadata({METADATA_KEY: record_text(**former)}, "x.onnx")
    assert (record.task, record.box_codec, record.box_scales) == ("bottom_up", "center_box", (1.0, 0.5))


@pytest.mark.parametrize("name", [*BUNDLED, *FURTHER])
def test_records_are_read_without_an_engine(name: str) -> None:
    for suffix in {**FURTHER.get(name, {}), **BUNDLED.get(name, {})}:
        file = find_weights(name, suffix)
        record = read_record(file)
        assert plain(record) == plain(load_engine(file).weights)
        assert (record.task == "bottom_up") == name.startswith("litepose")


@pytest.mark.parametrize("kind", [".onnx", ".safetensors"])
def test_read_record_refuses_what_is_no_network(kind: str, tmp_path: Path) -> None:
    whole = find_weights("litepose_xs.coco_256x256", kind).read_bytes()
    file = tmp_path / f"x{kind}"
    for content in (b"", b"no network", whole[:100], b"\xff" * 50):
        file.write_bytes(content)
        with pytest.raises(WeightsError) as caught:
            read_record(file)
        assert "\n" not in str(caught.value) and "x." in str(caught.value)
    with pytest.raises(WeightsError, match="There is no file"):
        read_record(tmp_path / "absent.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_size": (256, 0)}, "input_size"),
        ({"input_size": (256,)}, "input_size"),
        ({"mean": (0.0, 0.0)}, "mean and std"),
        ({"std": (1.0, 0.0, 1.0)}, "std above 0"),
        ({"channel_order": "gbr"}, "'rgb' or 'bgr', not 'gbr'"),
        ({"convention": "half"}, "convention must be one of"),
        ({"padding": 0}, "padding must be above 0"),
        ({"task": "bottomup"}, "task must be one of .*, not 'bottomup'"),
    ],
)
def test_record_checks_itself(change: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        dataclasses.replace(PLAIN, **change)


def record_text(**changes: Any) -> str:
    """The metadata entry of PLAIN with some values replaced, or taken out where the new value is `...`."""
    values = json.loads(PLAIN.to_metadata()[METADATA_KEY]) | changes
    return json.dumps({key: value for key, value in values.items() if value is not ...})


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "x.onnx carries no leanpose record; .*leanpose convert"),
        ({}, "x.onnx carries no leanpose record"),
        ({METADATA_KEY: record_text(format=4)}, "x.onnx was written by a newer leanpose: pip install -U leanpose"),
        ({METADATA_KEY: record_text(format=4, keypoint_set=...)}, "newer leanpose"),
        ({METADATA_KEY: record_text(format=...)}, "record of x.onnx is damaged"),
        ({METADATA_KEY: "{"}, "record of x.onnx is damaged"),
        ({METADATA_KEY: "[1, 2]"}, "record of x.onnx is damaged"),
        ({METADATA_KEY: record_text(keypoint_set="coco")}, "record of x.onnx is damaged"),
        ({METADATA_KEY: record_text(keypoint_set=...)}, "damaged .*lacks 'keypoint_set'"),
        ({METADATA_KEY: record_text(name=...)}, "record of x.onnx is damaged"),
        ({METADATA_KEY: record_text(input_size=5)}, "record of x.onnx is damaged"),
        ({METADATA_KEY: record_text(padding=-1)}, r"damaged \(padding must be above 0, not -1\)"),
        ({METADATA_KEY: record_text(padding="wide")}, "record of x.onnx is damaged"),
        ({METADATA_KEY: record_text(temperature=1)}, "damaged .*temperature"),
    ],
)
def test_unusable_records(metadata: dict[str, str] | None, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        Weights.from_metadata(metadata, "x.onnx")
    assert "\n" not in str(caught.value)


def test_bundled_weights_are_whole_and_named_as_they_are_called() -> None:
    assert BUNDLED
    for name in BUNDLED:
        record = read_record(find_weights(name))
        assert record.name == name
        assert name.startswith(record.model + ".")
        assert record.licence and record.data
        assert find_weights(record.model).suffix == ".onnx"


def test_what_the_wheel_holds_is_small() -> None:
    """The package on the index stays below 20 MB; so nothing lies in its folder that no name stands for."""
    files = [file for file in catalogue.BUNDLED_FOLDER.iterdir() if file.suffix != ".md"]
    assert sorted(file.name for file in files) == sorted(
        f"{name}{kind}" for name, kinds in BUNDLED.items() for kind in kinds
    )
    assert sum(file.stat().st_size for file in files) < 20e6


@pytest.mark.skipif(not catalogue.FURTHER_FOLDER.is_dir(), reason="only a checkout has the folder weights")
def test_further_weights_are_whole_and_named_as_they_are_called() -> None:
    pytest.importorskip("torch")
    from leanpose.models.checkpoints import load_network

    shipped = {f"{name}{kind}" for name, kinds in FURTHER.items() for kind in kinds}
    files = (path for path in catalogue.FURTHER_FOLDER.iterdir() if path.is_file() and path.suffix != ".md")
    assert {file.name for file in files} == shipped
    for name, kinds in FURTHER.items():
        for kind in kinds:
            path = find_weights(name, kind)
            assert path == catalogue.FURTHER_FOLDER / f"{name}{kind}"
            record = load_network(path)[1] if kind == ".safetensors" else load_engine(path, threads=1).weights
            assert record.name == name
            assert record.licence and record.data
    assert find_weights("hevitpose_t").name == "hevitpose_t.coco_128x96.safetensors"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lpn5", "There are no weights 'lpn5'. Did you mean 'lpn50'?"),
        (next(iter(BUNDLED)) + "0", f"Did you mean '{next(iter(BUNDLED))}'?"),
        ("xyz", "There are no weights 'xyz'. Known: .*lpn50"),
        ("", "There are no weights ''"),
        ("lpn", "There are no weights 'lpn'"),  # the beginning of a name is no name
        ("weights.h5", "There are no weights 'weights.h5'"),
        ("nothing.onnx", "There is no file nothing.onnx; check the path"),
        ("a" * 400 + ".onnx", "There is no file"),
        (Path("nothing.safetensors"), "There is no file nothing.safetensors"),
        *((f"model{suffix}", "is a pickle, which may hold code") for suffix in (".pth", ".pt", ".ckpt", ".pkl")),
    ],
)
def test_unknown_names(name: str | Path, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        find_weights(name)


def test_own_weights_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANPOSE_WEIGHTS", str(tmp_path))
    for name in ("vitpose_b.coco_256x192.safetensors", "vitpose_b.mpii_256x256.onnx", "lpn50.onnx", "vitpose_b.md"):
        (tmp_path / name).touch()
    (tmp_path / "hrnet_w32.safetensors").touch()
    assert find_weights("vitpose_b") == tmp_path / "vitpose_b.coco_256x192.safetensors"
    assert find_weights("vitpose_b", ".onnx") == tmp_path / "vitpose_b.mpii_256x256.onnx"
    assert find_weights("vitpose_b.mpii_256x256") == tmp_path / "vitpose_b.mpii_256x256.onnx"
    assert find_weights("hrnet_w32") == tmp_path / "hrnet_w32.safetensors"
    assert find_weights("lpn50").parent != tmp_path  # bundled ones come first
    with pytest.raises(WeightsError, match=r"hrnet_w32 is a known network, .* no weights of it as \.onnx: train it"):
        find_weights("hrnet_w32", ".onnx")
    (tmp_path / "vitpose_b.coco_96x64.safetensors").touch()
    assert find_weights("vitpose_b", input_size=(96, 64)) == tmp_path / "vitpose_b.coco_96x64.safetensors"
    assert (
        find_weights("vitpose_b", input_size=(64, 48)) == tmp_path / "vitpose_b.coco_256x192.safetensors"
    )  # none of this size
    with pytest.raises(WeightsError, match="Did you mean 'vitpose_b'"):
        find_weights("vitpos_b")
    monkeypatch.setenv("LEANPOSE_WEIGHTS", str(tmp_path / "absent"))
    with pytest.raises(WeightsError, match="hrnet_w32 is a known network, but there are no weights of it: train it"):
        find_weights("hrnet_w32")


def test_folder_named_as_weights(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(WeightsError, match="There is no file"):
        find_weights(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("suffix", "folder", "remedy"),
    [
        (".onnx", "BUNDLED_FOLDER", "install leanpose again"),
        (".safetensors", "FURTHER_FOLDER", "copy it from leanpose's repository, weights/, to "),
    ],
)
def test_missing_and_damaged_file(
    suffix: str, folder: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, files = next(iter((BUNDLED if suffix == ".onnx" else FURTHER).items()))
    data = b"weights"
    monkeypatch.setitem(files, suffix, hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(catalogue, folder, tmp_path)
    with pytest.raises(WeightsError, match=f"{name}{suffix} is missing here: {remedy}"):
        find_weights(name, suffix)
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(b"weight")
    with pytest.raises(WeightsError, match=f"{name}{suffix} is damaged: {remedy}"):
        find_weights(name, suffix)
    path.write_bytes(data)
    assert find_weights(name, suffix) == path


def test_own_copies_of_further_weights_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(FURTHER))
    own = tmp_path / f"{name}.safetensors"
    own.touch()
    monkeypatch.setenv("LEANPOSE_WEIGHTS", str(tmp_path))
    assert find_weights(name, ".safetensors") == own


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").is_dir()


@pytest.mark.parametrize("name", ["a.onnx", "a.safetensors", "a.pth", "a.pt", "a.pkl"])
def test_a_pickle_is_never_run(tmp_path: Path, name: str) -> None:
    if name.endswith(".safetensors"):
        pytest.importorskip("torch")
        pytest.importorskip("safetensors")
    file = tmp_path / name
    file.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(WeightsError) as caught:
        load_engine(file)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def write_onnx(
    path: Path,
    record: Weights | None,
    input_size: tuple[int, int] = (32, 24),
    num_keypoints: int = 17,
    output: str = "heatmaps",
) -> Path:
    """Write a network of one 1 x 1 convolution with stride 4."""
    onnx = pytest.importorskip("onnx")
    helper, numbers = onnx.helper, onnx.TensorProto.FLOAT
    height, width = input_size
    kernel = np.random.default_rng(0).normal(size=(num_keypoints, 3, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "kernel"], [output], strides=[4, 4])],
        "tiny",
        [helper.make_tensor_value_info("images", numbers, ["batch", 3, height, width])],
        [helper.make_tensor_value_info(output, numbers, ["batch", num_keypoints, height // 4, width // 4])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if record is not None:
        helper.set_model_props(model, record.to_metadata())
    onnx.save(model, path)
    return path


def test_a_file_alone_is_a_model(tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "tiny.onnx", PLAIN)
    engine = load_engine(file, threads=1)
    assert plain(engine.weights) == plain(PLAIN)
    assert engine(np.zeros((2, 3, 32, 24), np.float32))["heatmaps"].shape == (2, 17, 8, 6)
    poses = Predictor(file, detector=None)(np.zeros((50, 50, 3), np.uint8))
    assert poses.keypoints.shape == (1, 17, 2)


def test_onnx_without_record(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"foreign\.onnx carries no leanpose record"):
        load_engine(write_onnx(tmp_path / "foreign.onnx", None))


@pytest.mark.parametrize(
    ("record", "network"),
    [
        (PLAIN, {"num_keypoints": 14}),
        (dataclasses.replace(PLAIN, keypoint_set=LSP), {}),
        (dataclasses.replace(PLAIN, input_size=(24, 32)), {}),
        (PLAIN, {"output": "scores"}),
    ],
)
def test_record_of_another_network(tmp_path: Path, record: Weights, network: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="holds another network than its leanpose record says"):
        load_engine(write_onnx(tmp_path / "x.onnx", record, **network))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codec": "dark_"}, "There is no codec 'dark_'. Did you mean 'dark'?"),
        ({"codec_options": {"sgma": 2}}, "has no parameter 'sgma'"),
    ],
)
def test_record_with_unknown_codec(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = write_onnx(tmp_path / "x.onnx", dataclasses.replace(PLAIN, **change))
    with pytest.raises(InputError, match=message):
        Predictor(file, detector=None)


@pytest.mark.parametrize("content", [b"", b"text", bytes(5000)])
def test_files_that_are_no_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.onnx is not a usable ONNX file") as caught:
        load_engine(tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)


def test_cut_off_onnx(tmp_path: Path) -> None:
    data = find_weights("lpn50").read_bytes()
    (tmp_path / "x.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match=r"x\.onnx"):
        load_engine(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "onnxruntim"}, "There is no engine 'onnxruntim'. Did you mean 'onnxruntime'?"),
        ({"engine": "torch"}, "The engine torch cannot run .onnx files"),
        ({"threads": 0}, "threads must be at least 1, not 0"),
        ({"threads": -2}, "threads must be at least 1, not -2"),
        ({"device": "MoonProvider"}, "This ONNX Runtime has no device 'MoonProvider': it has cpu"),
        ({"device": "directml,cpu"}, "no device 'directml': pip install onnxruntime-directml, or use another: it has"),
    ],
)
def test_unusable_engine_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_engine(find_weights("lpn50"), **options)


def test_devices_of_onnxruntime_in_the_order_given() -> None:
    available = ["CUDAExecutionProvider", "CPUExecutionProvider", "OwnProvider"]
    assert engines._providers("CUDA, OwnProvider,cpu", available) == [
        "CUDAExecutionProvider", "OwnProvider", "CPUExecutionProvider",
    ]  # fmt: skip


def test_devices_have_numbers() -> None:
    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert engines._providers("cuda:1,cpu", available) == [
        ("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider",
    ]  # fmt: skip
    for device in ("cpu:0", "cuda:x", "cuda:"):
        with pytest.raises(InputError, match=f"There is no device '{device}'; cuda, .* such as cuda:0"):
            engines._providers(device, available)


@pytest.mark.parametrize("number", [2, "2"])
def test_a_number_alone_is_a_gpu(number: int | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for name, (suffixes, _) in list(engines.ENGINES.items()):
        monkeypatch.setitem(engines.ENGINES, name, (suffixes, lambda path, threads, device: asked.append(device)))
        (tmp_path / f"a{suffixes[0]}").touch()
        load_engine(tmp_path / f"a{suffixes[0]}", name, device=number)  # type: ignore[arg-type]
    assert dict(zip(engines.ENGINES, asked, strict=True)) == {
        "onnxruntime": "cuda:2", "openvino": "gpu.2", "torch": "cuda:2", "litert": "cuda:2", "ncnn": "cuda:2",
    }  # fmt: skip


def test_a_device_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime would silently go on with the processor."""
    import onnxruntime

    cpu, session = onnxruntime.get_available_providers(), onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", *cpu])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda path, options, providers: session(path, options))
    with pytest.raises(InputError, match="CUDAExecutionProvider does not start here: install the libraries"):
        load_engine("lpn50", device="cuda")


def test_unusable_devices_of_the_other_engines() -> None:
    with pytest.raises(InputError, match="torch cannot use the device 'moon'"):
        load_engine("lpn50", "torch", device="moon")
    with pytest.raises(WeightsError, match="cannot be used by OpenVINO on moon"):
        load_engine("lpn50", "openvino", device="moon")


def test_the_engine_chooses_the_file_of_a_name() -> None:
    engines = {name: load_engine("lpn50", name, threads=1) for name in ("onnxruntime", "torch")}
    assert {name: type(engine).__name__ for name, engine in engines.items()} == {
        "onnxruntime": "OnnxRuntimeEngine",
        "torch": "TorchEngine",
    }
    assert engines["onnxruntime"].weights.name == f"{engines['torch'].weights.name}{INT8}"


def int8_files() -> list[Path]:
    return [find_weights(name, ".onnx") for name in [*BUNDLED, *FURTHER] if name.endswith(INT8)]


@pytest.mark.parametrize("file", int8_files(), ids=lambda file: file.stem)
def test_int8_weights_have_seven_bits(file: Path) -> None:
    """Two products of an activation up to 255 and a weight up to 64 fit into 16 bits."""
    onnx = pytest.importorskip("onnx")
    tensors = [t for t in onnx.load(file).graph.initializer if t.data_type == onnx.TensorProto.INT8]
    largest = max(np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max() for tensor in tensors)
    assert largest == 64


RUN_BOTH_WAYS = """
import json, sys
import numpy as np
import onnxruntime
def run(file, images, exact):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", exact)
    return onnxruntime.InferenceSession(file, options).run(None, {"images": images})[0]
pairs = zip(sys.argv[1::2], map(np.load, sys.argv[2::2]))
print(json.dumps([float(np.abs(run(*pair, "0") - run(*pair, "1")).max()) for pair in pairs]))
"""


def python_without_vnni() -> list[str]:
    """The words that run this Python on a processor without VNNI: this one, or a Haswell in qemu; else skip."""
    if not Path("/proc/cpuinfo").is_file() or platform.machine() != "x86_64":
        pytest.skip("sums of 16 bits are x86's, and only Linux tells here what a processor can do")
    features = Path("/proc/cpuinfo").read_text()
    python = os.path.realpath(sys.executable)
    if "avx2" in features and "vnni" not in features:
        return [python]
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("this processor has VNNI (or no AVX2), and there is no qemu-x86_64 to emulate one without")
    return ["qemu-x86_64", "-cpu", "Haswell", python]


def write_saturating_int8(path: Path) -> Path:
    """Write a 1 x 1 convolution of bytes whose products of two bytes, 255 and 127, do not fit into 16 bits together."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    values = {
        "scale": np.float32(1),
        "zero": np.uint8(0),
        "none": np.int8(0),
        "kernel": np.full((8, 8, 1, 1), 127, np.int8),
    }
    values["large"] = np.float32(2000)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["bytes"]),
            helper.make_node(
                "QLinearConv", ["bytes", "scale", "zero", "kernel", "scale", "none", "large", "zero"], ["sums"]
            ),
            helper.make_node("DequantizeLinear", ["sums", "large", "zero"], ["heatmaps"]),
        ],
        "saturating",
        [helper.make_tensor_value_info("images", kinds.FLOAT, [1, 8, 4, 4])],
        [helper.make_tensor_value_info("heatmaps", kinds.FLOAT, [1, 8, 4, 4])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_int8_does_not_saturate_without_vnni(tmp_path: Path) -> None:
    """ONNX Runtime's fast sums of products equal the exact ones on AVX2, where those of 8 bits saturate."""
    python = python_without_vnni()
    file = find_weights(f"lpn50.coco_128x96{INT8}")
    images, _ = box_inputs(read_image(ASTRONAUT), np.array([[60, 0, 400, 511]]), load_engine(file).weights)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "bright.npy", np.full((1, 8, 4, 4), 255, np.float32))
    saturating = write_saturating_int8(tmp_path / "saturating.onnx")
    words = [saturating, tmp_path / "bright.npy", file, tmp_path / "images.npy"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [*python, "-c", RUN_BOTH_WAYS, *map(str, words)], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    of_eight_bits, of_ours = json.loads(run.stdout)
    assert of_eight_bits > 0  # so such sums are what runs here
    assert of_ours == 0


def test_int8_is_near_float32() -> None:
    pytest.importorskip("torch")
    engines = [load_engine(f"lpn50.coco_256x192{kind}", threads=1) for kind in (INT8, "")]
    images, _ = box_inputs(read_image(ASTRONAUT), np.array([[60, 0, 400, 511]]), engines[0].weights)
    maps, expected = (engine(images)["heatmaps"] for engine in engines)
    assert np.abs(maps - expected).max() < 0.1 * expected.max()


def test_int8_is_the_default_where_it_is_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere a float file is, if there is one."""
    names: dict[str, str] = {}
    monkeypatch.setitem(
        engines.ENGINES, "onnxruntime", ((".onnx",), lambda path, *_: names.update(onnxruntime=path.stem))
    )
    monkeypatch.setitem(engines.ENGINES, "openvino", ((".onnx",), lambda path, *_: names.update(openvino=path.stem)))
    default = next(name for name in BUNDLED if name.startswith("lpn50."))
    assert default.endswith(INT8)
    for engine, device, name in (
        ("onnxruntime", "cpu", default),
        ("openvino", "gpu", default),
        ("onnxruntime", "cuda", default),
    ):
        load_engine("lpn50", engine, device=device)  # type: ignore[arg-type]
        assert names.pop(engine) == name
    (tmp_path / "lpn50.mine.onnx").touch()
    monkeypatch.setenv("LEANPOSE_WEIGHTS", str(tmp_path))
    for device, name in (("cpu", default), ("cuda", "lpn50.mine")):
        load_engine("lpn50", "onnxruntime", device=device)
        assert names.pop("onnxruntime") == name
    load_engine(default, "onnxruntime", device="cuda")
    assert names == {"onnxruntime": default}  # the whole name is taken at its word


def test_the_published_sets_keep_their_names() -> None:
    """A record made with a built-in set gives that set's keypoints, in its order, when read again."""
    for keypoint_set in (COCO, CROWDPOSE):
        record = dataclasses.replace(PLAIN, keypoint_set=keypoint_set)
        assert Weights.from_metadata(record.to_metadata(), "x").keypoint_set.keypoints == keypoint_set.keypoints
