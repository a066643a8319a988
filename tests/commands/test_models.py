"""The table of networks: complete, true to the code, and the same in the docs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from support import one_layer

import leanpose.deploy.targets.onnx  # noqa: F401  (modules that it loads shall not keep a create_model that a test puts there)
from leanpose.commands.cli import main
from leanpose.commands.models import HEADER, ModelTable, measure_milliseconds, models
from leanpose.errors import InputError
from leanpose.inference.engines import OnnxRuntimeEngine
from leanpose.networks import NETWORKS, list_models
from leanpose.weights import catalogue
from leanpose.weights.catalogue import BUNDLED, INT8

DOCS = Path(__file__).parents[2] / "docs" / "networks.md"
TIME = HEADER.index("CPU ms")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def table() -> ModelTable:
    return models(format="markdown")


def test_every_network_has_a_row(table: ModelTable) -> None:
    assert [row.name for row in table.rows] == list(NETWORKS)


def test_the_docs_show_the_table_as_it_is(table: ModelTable) -> None:
    shown = [cells(line) for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    lines = [cells(line) for line in str(table).splitlines()]
    assert [line[:TIME] + line[TIME + 1 :] for line in shown] == [line[:TIME] + line[TIME + 1 :] for line in lines]
    times = [line[TIME] for line in shown[2:]]
    assert all(float(time) > 0 for time in times if time != "-")  # measured for the docs
    assert len(times) - times.count("-") > 20


def test_published_parameters_are_near_ours() -> None:
    published = {name: network for name, network in NETWORKS.items() if network.published.parameters}
    assert len(published) > 10
    for name, network in published.items():
        number = float(network.published.parameters.removesuffix(" M"))
        assert network.parameters / 1e6 == pytest.approx(number, rel=0.02), name


def test_patterns_choose_rows() -> None:
    table = models("lpn*", "sfm")
    assert [row.name for row in table.rows] == [name for name in NETWORKS if name in {*list_models("lpn*"), "sfm"}]
    lines = str(table).splitlines()
    assert lines[0].split("  ")[0] == "network"
    assert len({line.index("x") for line in (line[lines[0].index("input") :] for line in lines[1:])}) == 1
    with pytest.raises(InputError, match=r"There is no network 'lpn5'\. Did you mean 'lpn50'\?"):
        models("lpn5")
    with pytest.raises(InputError, match="There is no format 'csv'"):
        models(format="csv")  # type: ignore[call-overload]


def test_weights_and_their_ap_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(row for row in models("lpn50").rows)
    weights = next(name for name in BUNDLED if name.startswith("lpn50.") and not name.endswith(INT8))
    assert row.weights.startswith(f"{weights}: AP ")
    assert "annotated boxes" in row.weights and f"{weights}{INT8}" not in row.weights
    assert f"lpn50.coco_128x96{INT8}: AP " in row.weights
    monkeypatch.setattr(catalogue, "FURTHER_FOLDER", tmp_path)
    assert next(row for row in models("lpn50").rows).weights.startswith(row.weights.partition(";")[0])
    assert next(row for row in models("hevitpose_t").rows).weights == "hevitpose_t.coco_128x96: in the repository"


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "lpn50", "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["parameters"], row["macs"]) == ("lpn50", 2_911_153, 1_068_144_640 + 1_572_864)
    assert row["flops"] == 2 * row["macs"]
    assert row["milliseconds"] is None
    assert main(["models", "yolo"]) == 2


def test_the_time_is_the_median_of_runs_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that runs by itself: two seconds of measuring are over after the third run, but five are made."""
    inputs: list[np.ndarray] = []
    call = OnnxRuntimeEngine.__call__

    def noted(engine: OnnxRuntimeEngine, images: np.ndarray) -> dict[str, np.ndarray]:
        inputs.append(images)
        return call(engine, images)

    readings = itertools.accumulate([0.0, 0.5, 9.0, 0.25, 9.0, 2.0, 9.0, 0.75, 9.0, 1.0])  # runs and pauses
    monkeypatch.setattr("leanpose.models.create_model", lambda _: one_layer())
    monkeypatch.setattr(OnnxRuntimeEngine, "__call__", noted)
    monkeypatch.setattr("leanpose.commands.models.time", SimpleNamespace(perf_counter=readings.__next__))
    assert measure_milliseconds("lpn50", (64, 96)) == 750
    assert [images.shape for images in inputs] == [(1, 3, 64, 96)] * 6
