"""`leanpose search` on stick figures and a supernet of a few layers."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
yaml = pytest.importorskip("yaml")
pytest.importorskip("matplotlib")

from leanpose.commands.cli import main  # noqa: E402
from leanpose.io.images import read_image  # noqa: E402
from leanpose.models import create_model  # noqa: E402
from leanpose.models.checkpoints import load_network, save_network  # noqa: E402
from leanpose.models.litepose_arch import LitePoseArch  # noqa: E402
from leanpose.search import judge as judging  # noqa: E402
from leanpose.search import search as searching  # noqa: E402
from leanpose.search.judge import Judge, Task  # noqa: E402
from leanpose.search.latency import LatencyTable, all_parts  # noqa: E402
from leanpose.search.onnx_template import OnnxTemplate  # noqa: E402
from leanpose.search.search import space_of  # noqa: E402
from leanpose.training.recipe import read_recipe  # noqa: E402

MakePeople = Callable[..., tuple[Path, Path]]
ROOT = Path(__file__).parents[2]
WITH_TEMPLATE = """
import pickle, sys
from pathlib import Path
from leanpose.commands.cli import main
from leanpose.search import judge
template = pickle.loads(Path(sys.argv[1]).read_bytes())
judge.OnnxTemplate = lambda: template
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def words(supernet: Path, people: MakePeople, tmp_path: Path) -> list[str]:
    """Return words of a search that takes seconds, but for its limit."""
    data, images = people(count=34)
    return [
        *("search", str(supernet), "--data", str(data), "--images", str(images), "--out", str(tmp_path / "out")),
        *("--fitness", "recall", "--input-sizes", "64,128", "--population", "4", "--generations", "3"),
        *("--calibration-images", "4", "--workers", "1"),
    ]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[LitePoseArch]:
    """Let archs be judged in this process by a made-up figure; return those that were."""
    asked: list[LitePoseArch] = []

    class Crew:
        def judged(self, archs: Sequence[LitePoseArch]) -> Any:
            for arch in reversed(archs):  # workers end in any order
                asked.append(arch)
                yield arch, sum(arch.stage_widths) / 1000, 0.1

    class Started:
        def __init__(self, *_: Any) -> None:
            pass

        def __enter__(self) -> Crew:
            return Crew()

        def __exit__(self, *_: Any) -> None:
            pass

    monkeypatch.setattr(searching, "started", Started)
    monkeypatch.setattr(OnnxTemplate, "model_of", lambda *_: None)
    return asked


@contextmanager
def in_this_process(count: int, task: Task, template: OnnxTemplate) -> Iterator[Any]:
    """Judge as workers do, without waiting for them to start."""
    judge = Judge(task, template)
    yield SimpleNamespace(judged=lambda archs: ((arch, judge(arch), 0.1) for arch in archs))


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def candidates(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]


def test_killed_it_goes_on_to_the_same_population(
    words: list[str], tmp_path: Path, template: OnnxTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    words += ["--max-macs", "12e6"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    (tmp_path / "template").write_bytes(pickle.dumps(template))  # exporting once more takes seconds
    command = [sys.executable, "-c", WITH_TEMPLATE, str(tmp_path / "template"), *words]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    log = tmp_path / "out" / "candidates.jsonl"
    while not log.is_file() or log.read_bytes().count(b"\n") < 6:  # in the middle of the first children
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = log.read_bytes()
    assert not (tmp_path / "out" / "result.json").exists()
    log.write_bytes(before + b'{"fitness": 0.9, "MACs"')  # killed in the middle of a line

    monkeypatch.setattr(judging, "OnnxTemplate", lambda: template)
    words[words.index("--workers") + 1] = "2"
    assert main(words) == 0
    assert log.read_bytes().startswith(before)
    words[words.index("--out") + 1] = str(tmp_path / "unbroken")
    monkeypatch.setattr(searching, "started", in_this_process)
    assert main(words) == 0
    for file in ("result.json", "front.png"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "unbroken" / file).read_bytes()
    archs = [json.dumps(entry["arch"]) for entry in candidates(tmp_path / "out")]
    assert len(set(archs)) == len(archs) == 4 * 4
    assert len({entry["fitness"] for entry in candidates(tmp_path / "out")}) > 2  # else any order would do


def test_what_it_writes(
    words: list[str], judged: list[LitePoseArch], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words += ["--max-macs", "12e6", "--export", str(tmp_path / "found")]
    assert main(words) == 0
    *generations, last = capsys.readouterr().out.strip().splitlines()
    assert [line.split("  ")[0] for line in generations] == [f"generation {i}/3" for i in range(4)]
    best = max(judged, key=lambda arch: (sum(arch.stage_widths), -arch.macs(person_head=True)))
    assert last.startswith("best of 16: recall ") and f"stages {' '.join(map(str, best.stage_widths))}" in last
    entries = candidates(tmp_path / "out")
    assert [entry["arch"] for entry in entries] == [arch.as_dict() for arch in judged]
    assert all(entry["MACs"] == LitePoseArch.of(entry["arch"]).macs(person_head=True) <= 12e6 for entry in entries)
    content = result(tmp_path / "out")
    assert content["best"] == content["pool"][0] == content["front"][-1]
    assert content["best"]["arch"] == best.as_dict()
    costs, values = zip(*((entry["MACs"], entry["fitness"]) for entry in content["front"]), strict=True)
    assert list(costs) == sorted(costs) and list(values) == sorted(set(values))
    for entry in entries:
        assert (
            max(value for cost, value in zip(costs, values, strict=True) if cost <= entry["MACs"]) >= entry["fitness"]
        )
    assert read_image(tmp_path / "out" / "front.png").std() > 10

    network, record = load_network(tmp_path / "found" / "weights.safetensors")
    assert json.loads((tmp_path / "found" / "arch.json").read_text()) == best.as_dict()
    assert record.model == "litepose" and record.input_size == (best.input_size, best.input_size)
    assert network.arch == best and network.finds_persons
    recipe = read_recipe(tmp_path / "found" / "recipe.yaml", ["epochs=1"])
    assert (recipe.model_options, recipe.input_size) == (record.model_options, record.input_size)
    assert recipe.start == str(tmp_path / "found" / "weights.safetensors")
    assert recipe.weights().model_options == record.model_options


def test_a_finished_search_is_not_judged_again_and_may_get_more_generations(
    words: list[str], judged: list[LitePoseArch], tmp_path: Path
) -> None:
    words += ["--max-macs", "12e6"]
    assert main(words) == 0
    written = (tmp_path / "out" / "result.json").read_bytes()
    first = len(judged)
    assert main(words) == 0
    assert len(judged) == first
    assert (tmp_path / "out" / "result.json").read_bytes() == written
    words[words.index("--generations") + 1] = "4"
    assert main(words) == 0
    assert first < len(judged) <= first + 4


def test_ctrl_c_says_how_to_go_on(
    words: list[str], judged: list[LitePoseArch], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add, left = searching.SearchLog.add, iter(range(6))

    def interrupted(self: Any, *arguments: Any, **details: Any) -> None:
        if next(left) == 5:
            raise KeyboardInterrupt
        add(self, *arguments, **details)

    monkeypatch.setattr(searching.SearchLog, "add", interrupted)
    assert main([*words, "--max-macs", "12e6"]) == 130
    assert "stopped; 5 networks are kept in" in capsys.readouterr().err


def test_a_limit_of_milliseconds(
    words: list[str], judged: list[LitePoseArch], tiny: LitePoseArch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table knows no widths, so that those of a smaller input may be any."""
    space = space_of(words[1], tiny, "64,128")
    parts = all_parts(space, 17, True)
    LatencyTable({part: part.input_size / 1000 for part in parts}).write(tmp_path / "mine.csv")
    words += ["--max-latency-ms", "1.2", "--latency-table", str(tmp_path / "mine.csv")]
    assert main(words) == 0
    assert {arch.input_size for arch in judged} == {64}
    for entry in candidates(tmp_path / "out"):
        assert list(entry) == ["fitness", "ms", "MACs", "seconds", "arch"]
        assert entry["ms"] == pytest.approx(17 * 0.064)
    capsys.readouterr()
    words[words.index("--max-latency-ms") + 1] = "0.1"
    words[words.index("--out") + 1] = str(tmp_path / "other")
    assert main(words) == 2
    assert "No network of this supernet is within 0.1 ms: the smallest has" in capsys.readouterr().err


def test_without_a_table_it_measures_one_once(
    words: list[str], judged: list[LitePoseArch], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured: list[int] = []

    def measure(space: Any, num_keypoints: int, person_head: bool, threads: int) -> LatencyTable:
        measured.append(threads)
        return LatencyTable(dict.fromkeys(all_parts(space, num_keypoints, person_head), 0.1))

    monkeypatch.setattr(searching, "measure_latency", measure)
    words += ["--max-latency-ms", "20", "--threads", "2"]
    assert main(words) == 0
    assert main(words) == 0
    assert measured == [2]


REFUSED: dict[str, tuple[list[str], str]] = {
    "no limit": ([], "Give one limit: --max-macs, such as 0.9e9, or --max-latency-ms."),
    "two limits": (["--max-macs=1e9", "--max-latency-ms=20"], "Give one limit"),
    "impossible": (["--max-macs=1e3"], "No network of this supernet is within 1000 MACs: the smallest has "),
    "missing data": (["--max-macs=1e9", "--data={}/none.json"], "There is no file {}/none.json"),
    "missing images": (["--max-macs=1e9", "--images={}/none"], "There is no folder {}/none"),
    "few images": (["--max-macs=1e9", "--calibration-images=34"], "has 34 images, and the search needs 35"),
    "words as sizes": (["--max-macs=1e9", "--input-sizes=64;128"], "--input-sizes must be whole numbers with commas"),
    "odd size": (["--max-macs=1e9", "--input-sizes=100"], "input_size must be a multiple of 64, not 100"),
    "no worker": (["--max-macs=1e9", "--workers=0"], "--workers must be at least 1, not 0"),
    "no image": (["--max-macs=1e9", "--search-images=0"], "--search-images must be at least 1, not 0"),
    "few networks": (["--max-macs=1e9", "--population=3"], "population must be at least 4, not 3"),
    "device": (["--max-macs=1e9", "--device=tpu0"], "torch cannot use the device 'tpu0'"),
    "missing table": (["--max-latency-ms=9", "--latency-table={}/none.csv"], "There is no file {}/none.csv"),
    "another supernet": (["--max-macs=1e9", "supernet=lpn50"], "holds lpn50, no supernet"),
    "missing supernet": (["--max-macs=1e9", "supernet={}/no.safetensors"], "There is no file {}/no.safetensors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_any_work(
    name: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more, message = REFUSED[name]
    for word in more:
        option, _, value = word.format(tmp_path).partition("=")
        if option == "supernet":
            words[1] = value
        elif option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    assert main(words) == 2
    assert message.format(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_recall_needs_a_person_head(
    words: list[str], supernet: Path, tiny: LitePoseArch, capsys: pytest.CaptureFixture[str]
) -> None:
    network, record = load_network(supernet)
    network = create_model("litepose_supernet", arch=tiny)
    save_network(supernet, network, dataclasses.replace(record, model_options={"arch": tiny.as_dict()}, box_codec=None))
    assert main([*words, "--max-macs", "12e6"]) == 2
    assert "has no person head, whose recall is wanted" in capsys.readouterr().err


def test_the_folder_of_another_search(
    words: list[str], judged: list[LitePoseArch], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words += ["--max-macs", "12e6"]
    assert main(words) == 0
    assert main([*words, "--seed", "1"]) == 2
    assert f"{tmp_path / 'out'} holds a search with seed 0, not 1: choose another --out." in capsys.readouterr().err
    lines = (tmp_path / "out" / "candidates.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out" / "candidates.jsonl").write_bytes(b"".join([lines[0], b"{\n", *lines[1:]]))
    assert main(words) == 2
    assert "Line 2 of" in capsys.readouterr().err


def test_sizes_and_recipe_of_the_supernets_run(
    words: list[str], judged: list[LitePoseArch], supernet: Path, tiny: LitePoseArch, tmp_path: Path
) -> None:
    """What lies in the folder of a training run is searched at the sizes that it was trained at, and trained on so."""
    data, images = words[3], words[5]
    values = {
        "model": "litepose_supernet",
        "out": str(supernet.parent),
        "train_data": [{"annotations": data, "images": images}],
        "val_data": {"annotations": data, "images": images},
        "views": "images",
        "padding": 1.1,
        "input_size": [128, 128],
        "convention": "classic",
        "codec": "associative_embedding",
        "codec_options": {"upsample": False},
        "model_options": {"arch": tiny.as_dict(), "person_head": True},
        "supernet": {"input_sizes": [64, 192], "multipliers": [1.0, 0.5]},
        "learning_rate": 0.003,
        "status": "untested",
    }
    (supernet.parent / "recipe.yaml").write_text(yaml.safe_dump(values))
    del words[words.index("--input-sizes") : words.index("--input-sizes") + 2]
    assert main([*words, "--max-macs", "1e9", "--export", str(tmp_path / "found")]) == 0
    assert {arch.input_size for arch in judged} == {64, 192}
    assert {width for arch in judged for width in arch.stage_widths} == {8, 16, 40, 80}
    recipe = read_recipe(tmp_path / "found" / "recipe.yaml")
    assert (recipe.padding, recipe.learning_rate, recipe.supernet, recipe.status) == (1.1, 0.003, None, None)
    assert recipe.training_size == recipe.input_size == load_network(f"{recipe.start}")[1].input_size
    assert recipe.train_data == read_recipe(supernet.parent / "recipe.yaml").train_data
