"""The latency table: its rows, its file, and that measured parts add up to networks."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import onnx  # noqa: E402

from leanpose.commands.cli import main  # noqa: E402
from leanpose.deploy.targets.onnx import to_onnx  # noqa: E402
from leanpose.errors import InputError  # noqa: E402
from leanpose.inference.engines import OnnxRuntimeEngine, TorchEngine  # noqa: E402
from leanpose.models.litepose import LitePose  # noqa: E402
from leanpose.models.litepose_arch import ARCHS, LitePoseArch, SearchSpace  # noqa: E402
from leanpose.search import latency as measuring  # noqa: E402
from leanpose.search import onnx_template  # noqa: E402
from leanpose.search.latency import (  # noqa: E402
    LatencyTable,
    Part,
    all_parts,
    covering_archs,
    measure_latency,
    parts_of,
    profiled,
)
from leanpose.search.onnx_template import OnnxTemplate  # noqa: E402
from leanpose.weights.record import Weights  # noqa: E402


@pytest.fixture
def space(tiny: LitePoseArch) -> SearchSpace:
    return SearchSpace(tiny, multipliers=(1.0, 0.5), input_sizes=(64, 128))


def test_parts_of_a_published_network() -> None:
    parts = parts_of(ARCHS["search_xs"], 17, True)
    assert parts.total() == 1 + (6 + 8 + 10 + 10) + 6 + 4 + 1
    assert parts[Part("first", 256, 3, 16, 3)] == 1
    assert parts[Part("stage.1.0", 256, 16, 32, 7)] == 1
    assert parts[Part("stage.1.1", 256, 32, 32, 7)] == 7
    assert parts[Part("deconv_raw.1", 256, 32, 24, 4)] == 1
    assert parts[Part("final_refined.0", 256, 24, 34, 5)] == 1
    assert parts[Part("person", 256, 24 + 16, 4, 5)] == 1
    assert parts_of(ARCHS["search_xs"], 17, False) == parts - Counter([Part("person", 256, 40, 4, 5)])


def test_a_network_that_varies_in_three_widths_has_no_new_part(space: SearchSpace) -> None:
    known = all_parts(space, 17, True)
    rng = np.random.default_rng(0)
    assert set().union(*(parts_of(space.sample(rng), 17, True) for _ in range(300))) <= known


def test_few_networks_have_all_parts() -> None:
    space = SearchSpace(input_sizes=(256, 320))
    archs = covering_archs(space, 17, True)
    found = set().union(*(parts_of(arch, 17, True) for arch in archs))
    assert found == {part for part in all_parts(space, 17, True) if part.input_size == 256}
    assert len(archs) <= 24  # no fewer than 16 will do


def test_measured_parts_add_up(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part takes a time of its own, other processes add to it now and then, and the profile halves all times."""
    rng = np.random.default_rng(0)
    true = {part: rng.uniform(0.1, 1) for part in all_parts(space, 17, True)}

    def at(arch: LitePoseArch, size: int) -> LitePoseArch:
        return dataclasses.replace(arch, input_size=size)

    def profile(arch: LitePoseArch, sizes: tuple[int, ...], threads: int) -> dict[int, list[measuring.Profile]]:
        def run(size: int) -> measuring.Profile:
            late = rng.choice([0, 5], p=[0.8, 0.2], size=2)
            return {
                (part.part, f"{i}"): count * true[part] / 4 + disturbed
                for part, count in parts_of(at(arch, size), 17, True).items()
                for i, disturbed in enumerate(late)
            }

        return {size: [run(size) for _ in range(3)] for size in sizes}

    def time(arch: LitePoseArch, sizes: tuple[int, ...], threads: int) -> dict[int, list[float]]:
        whole = {size: sum(n * true[part] for part, n in parts_of(at(arch, size), 17, True).items()) for size in sizes}
        return {size: [total + 7, total, total + 1] for size, total in whole.items()}

    monkeypatch.setattr(OnnxTemplate, "model_of", lambda _, network: network.arch)
    monkeypatch.setattr(measuring, "profiled", profile)
    monkeypatch.setattr(measuring, "timed", time)
    table = measure_latency(space, 17, True, rounds=6)
    assert table.milliseconds.keys() == true.keys()
    assert [table.milliseconds[part] for part in true] == pytest.approx(list(true.values()))
    arch = space.sample(rng)
    assert table.latency(arch, 17, True) == pytest.approx(sum(n * true[p] for p, n in parts_of(arch, 17, True).items()))


def test_this_machine(
    supernet: Path, tmp_path: Path, space: SearchSpace, template: OnnxTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "OnnxTemplate", lambda: template)
    file = tmp_path / "table.csv"
    assert main(["latency", str(supernet), "--out", str(file), "--input-sizes", "64,128", "--rounds", "1"]) == 0
    table = LatencyTable.read(file)
    table.check(SearchSpace(space.widest, input_sizes=(64, 128)), 17, True)
    assert {"threads: 1", "keypoints: 17, person head: yes"} < {*table.notes}
    small, large = (dataclasses.replace(space.widest, input_size=size) for size in (64, 128))
    assert 0 < table.latency(small, 17, True) < table.latency(large, 17, True) < 1000


def test_the_file(tmp_path: Path) -> None:
    table = LatencyTable({Part("first", 256, 3, 16, 3): 1.25, Part("person", 256, 40, 4, 5): 0.5}, notes=("mine",))
    table.write(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().splitlines() == [
        "# mine",
        "part,input_size,in_channels,out_channels,kernel_size,milliseconds",
        "first,256,3,16,3,1.25000",
        "person,256,40,4,5,0.50000",
    ]
    read = LatencyTable.read(tmp_path / "table.csv")
    assert (read.milliseconds, read.notes) == (table.milliseconds, table.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no latency table: it lacks the column part"),
        ("part,input_size,in_channels,out_channels,kernel_size\n", "lacks the column milliseconds"),
        ("first,256,3,16,x,1\n", "row 0: 'kernel_size' must be a number"),
        ("first,256,3,16,3,\n", "row 0: 'milliseconds' must be a number"),
        ("first,256,3,16,3,0\n", "row 0: 'milliseconds' must be above 0, not 0"),
        ("first,256,3,16,3,1\nfirst,256,3,16,3,2\n", "row 1 is the second one of first,256,3,16,3; leave one out"),
    ],
)
def test_refused_tables(text: str, message: str, tmp_path: Path) -> None:
    header = "part,input_size,in_channels,out_channels,kernel_size,milliseconds\n" * text.startswith("first")
    (tmp_path / "mine.csv").write_text(header + text)
    with pytest.raises(InputError, match=message):
        LatencyTable.read(tmp_path / "mine.csv")


def test_a_row_that_is_lacking(space: SearchSpace) -> None:
    milliseconds = dict.fromkeys(all_parts(space, 17, False), 1.0)
    LatencyTable(milliseconds).check(space, 17, False)
    del milliseconds[Part("deconv_raw.2", 128, 8, 16, 4)]
    with pytest.raises(InputError, match=r"mine\.csv lacks the row deconv_raw\.2,128,8,16,4,\.\.\.: add it"):
        LatencyTable(milliseconds, "mine.csv").check(space, 17, False)


@pytest.mark.parametrize("out", ["table.txt", "table"])
def test_the_table_is_a_csv_file(out: str, supernet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", str(supernet), "--out", out]) == 2
    assert "The table is written as .csv" in capsys.readouterr().err


def test_many_networks_from_one_export(
    tiny: LitePoseArch, template: OnnxTemplate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But where two stages are equally wide, the second adds its input: that needs another export."""
    exports: list[Any] = []

    def export(network: LitePose, record: Weights) -> onnx.ModelProto:
        exports.append(network)
        return to_onnx(network, record)

    monkeypatch.setattr(onnx_template, "to_onnx", export)
    template = copy.deepcopy(template)
    narrow = dataclasses.replace(tiny, stem_width=8, stage_widths=(8, 16, 8, 40), head_widths=(8, 16, 8))
    torch.manual_seed(0)
    images = torch.randn(1, 3, 64, 96)
    for arch in (tiny, narrow, dataclasses.replace(tiny, stage_widths=(16, 8, 16, 16))):
        network = LitePose(arch, 17, person_head=True)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
        record = Weights("one", "litepose", (128, 128), task="bottom_up", model_options={"arch": arch.as_dict()})
        model = template.model_of(network)
        assert not model.metadata_props
        for key, value in record.to_metadata().items():
            model.metadata_props.add(key=key, value=value)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, tmp_path / "one.onnx")
        found = OnnxRuntimeEngine(tmp_path / "one.onnx", threads=1)(images.numpy())
        for name, expected in TorchEngine(network, record)(images.numpy()).items():
            np.testing.assert_allclose(found[name], expected, atol=1e-4 * np.abs(expected).max(), err_msg=name)
        parts = [{part for part, _ in run} for run in profiled(model, (64,), threads=1)[64]]
        assert parts == [{part.part for part in parts_of(arch, 17, True)}] * (measuring.RUNS - 1)
    assert len(exports) == 1
