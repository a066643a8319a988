"""Exports by the converters of other projects, in the environment of `make test-extras`; elsewhere skipped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from leanpose.commands.benchmark import benchmark  # noqa: E402
from leanpose.deploy.export import export  # noqa: E402
from leanpose.deploy.targets import TargetName, target_of  # noqa: E402
from leanpose.errors import InputError, MissingPackageError, WeightsError, require  # noqa: E402
from leanpose.inference.engines import EngineName, load_engine  # noqa: E402
from leanpose.inference.predictor import Predictor  # noqa: E402
from leanpose.keypoint_sets import COCO  # noqa: E402
from leanpose.models import create_model  # noqa: E402
from leanpose.models.checkpoints import save_network  # noqa: E402
from leanpose.weights.record import Weights  # noqa: E402

MakePeople = Callable[..., tuple[Path, Path]]
RECORD = Weights("lpn50.coco_64x48", "lpn50", (64, 48), COCO, codec="dark", codec_options={"sigma": 1.5})
Device = Literal["ncnn", "litert"]
ENGINES: tuple[Device, ...] = ("ncnn", "litert")


def needs(*names: TargetName) -> None:
    """Skip a test whose converters are not here."""
    for name in names:
        try:
            for package, extra in target_of(name).packages.items():
                require(package, extra)
        except MissingPackageError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, short_lpn: None) -> Path:
    """Return a file of lpn50 with values that do something, also in its attention."""
    torch.manual_seed(0)
    network = create_model("lpn50")
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.05)
    path = tmp_path_factory.mktemp("extras") / "a.safetensors"
    save_network(path, network.eval(), RECORD)
    return path


@pytest.mark.parametrize("name", ["ncnn", "litert", "executorch"])
def test_outputs_are_those_of_torch(name: TargetName, network: Path, tmp_path: Path) -> None:
    needs(name)
    target = target_of(name)
    out = tmp_path / f"a{target.suffix}"
    report = export(str(network), to=name, out=str(out))
    assert report.difference is not None and report.difference < 1e-3
    assert {file.name for file in tmp_path.iterdir()} == {*(f.name for f in target.files(out)), f"{out.name}.json"}
    assert export(str(network), to=name, out=str(out)).megabytes == pytest.approx(report.megabytes)  # over its own


@pytest.mark.usefixtures("small_networks")
def test_attention_of_several_heads_leaves_for_ncnn(tmp_path: Path) -> None:
    needs("ncnn")
    path = tmp_path / "v.safetensors"
    network = create_model("vitpose_s", input_size=(64, 48)).eval()
    options = {"input_size": [64, 48]}
    save_network(path, network, Weights("vitpose_s.coco_64x48", "vitpose_s", (64, 48), COCO, model_options=options))
    report = export(str(path), to="ncnn", out=str(tmp_path / "v.ncnn.param"))
    assert report.difference is not None and report.difference < 1e-3


def test_coreml_is_checked_without_a_mac(network: Path, tmp_path: Path) -> None:
    needs("coreml")
    report = export(str(network), to="coreml", out=str(tmp_path / "a.mlpackage"))
    assert "It runs on a Mac" in report.note
    assert json.loads((tmp_path / "a.mlpackage.json").read_text())["app"]["outputs"] == {"heatmaps": [1, 17, 16, 12]}
    export(str(network), to="coreml", out=str(tmp_path / "a.mlpackage"))  # a folder of ours is replaced


@pytest.mark.parametrize("name", ENGINES)
def test_engines_predict_as_torch(name: Device, network: Path, tmp_path: Path, people: MakePeople) -> None:
    needs(name)
    _, images = people(count=1)
    out = tmp_path / f"a{target_of(name).suffix}"
    export(str(network), to=name, out=str(out))
    boxes = [[10, 5, 80, 110], [20, 10, 70, 100]]
    expected = Predictor(network, threads=1, detector=None)(images / "1.png", boxes)
    engines: tuple[EngineName, ...] = (name, "auto")
    for engine in engines:
        found = Predictor(out, engine=engine, threads=1, detector=None)(images / "1.png", boxes)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3 * expected.scores.max())
    assert Predictor(out, engine=name).detector is not None  # which another engine runs
    assert benchmark(str(out), engine=name, persons="1").rows[0].engine == name


def test_files_that_do_not_belong_together_are_refused(network: Path, tmp_path: Path) -> None:
    needs("ncnn")
    out = tmp_path / "a.ncnn.param"
    export(str(network), to="ncnn", out=str(out))
    (tmp_path / "a.ncnn.bin").write_bytes(b"another")
    with pytest.raises(WeightsError, match=r"a\.ncnn\.bin is not as a\.ncnn\.param\.json says"):
        load_engine(out)
    with pytest.raises(InputError, match="not as leanpose wrote it"):
        export(str(network), to="ncnn", out=str(out))
    (tmp_path / "a.ncnn.param.json").unlink()
    with pytest.raises(WeightsError, match=r"needs a\.ncnn\.param\.json beside it"):
        load_engine(out)


def test_litert_in_bytes(network: Path, tmp_path: Path, people: MakePeople) -> None:
    needs("litert")
    annotations, images = people(count=3)
    out = tmp_path / "a.tflite"
    report = export(
        str(network), to="litert", int8=True, out=str(out), data=str(annotations), images=str(images), max_drop=100
    )
    assert report.values is not None and report.megabytes < 1.6
    assert report.difference is not None and report.difference > 1e-3  # that of the bytes
    scales = json.loads(Path(f"{out}.json").read_text())["app"]["int8"]
    assert {"images", "heatmaps", "words"} == scales.keys()
    inputs = np.random.default_rng(0).standard_normal((2, 3, 64, 48)).astype(np.float32)
    found, expected = (load_engine(file)(inputs)["heatmaps"] for file in (out, network))
    assert np.abs(found - expected).max() < 0.5 * np.abs(expected).max()


def test_bytes_reach_the_highest_values_of_all_inputs(network: Path, tmp_path: Path) -> None:
    needs("litert")
    target = target_of("litert")
    out, small = tmp_path / "a.tflite", tmp_path / "b.tflite"
    export(str(network), to="litert", out=str(out))
    inputs = np.random.default_rng(0).standard_normal((6, 1, 3, 64, 48)).astype(np.float32)
    inputs[:-1] /= 8
    assert target.quantize is not None and target.load is not None
    target.quantize(out, small, [*inputs])
    found, expected = (target.load(file, ["heatmaps"])(inputs[-1])["heatmaps"] for file in (small, out))
    assert found.max() > 0.9 * expected.max()


def test_litert_says_nothing(network: Path, tmp_path: Path) -> None:
    needs("litert")
    out = tmp_path / "a.tflite"
    export(str(network), to="litert", out=str(out))
    line = f"from leanpose.inference.engines import load_engine; load_engine({str(out)!r})"  # it speaks once a process
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_litert_end_to_end(network: Path, tmp_path: Path) -> None:
    needs("litert")
    report = export(str(network), to="litert", end_to_end=True, out=str(tmp_path / "a.tflite"))
    assert report.pixel_difference is not None and report.difference is not None and report.difference < 1e-3
