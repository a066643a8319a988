"""Jobs: a plan that is made once, what is missing of it, and an account."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")

from batch.stubs import StubWork, results, sources_in, write_images

import leanpose.batch.job as job
from leanpose.batch.cluster import Cluster
from leanpose.batch.job import Account, Work, missing, planned, run, trial
from leanpose.batch.plan import SHARD
from leanpose.batch.store import Store
from leanpose.batch.worker import Done, persons_file
from leanpose.errors import InputError
from leanpose.inference.predictor import Predictor

WORK: Any = StubWork()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 20)
    return tmp_path / "images"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "out"))


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Do parts here, one after the other; the numbers so far."""
    done: list[int] = []

    def spread(make: Callable[[], Callable[[int], Any]], numbers: Sequence[int], cluster: Cluster) -> Iterator[Any]:
        worker = make()
        for number in map(int, numbers):
            done.append(number)
            yield worker(number)

    monkeypatch.setattr(job, "spread", spread)
    return done


def test_a_job_and_the_same_again(
    images: Path, store: Store, without_ray: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    parts = planned(store, [str(images)], None, WORK)
    told = capsys.readouterr().err
    assert parts == 3 and told.startswith("leanpose: 20 images") and told.count("\n") == 1
    account = run(store, parts, WORK, Cluster())
    assert (account.images, account.persons, account.failures) == (20, 20, Counter())
    assert sources_in(store, parts) == [f"{images}/{number:03d}.png" for number in range(20)]
    assert store.names() == {"plan", "manifest.json", "persons", "report.json"}
    report = store.read("report.json")
    assert report is not None and json.loads(report)["images"] == 20

    write_images(images, 25)  # a plan stays as it is
    assert planned(store, [str(images)], None, WORK) == 3
    assert run(store, parts, WORK, Cluster()).images == 0
    assert without_ray == [0, 1, 2]
    assert store.read("report.json") == report
    assert capsys.readouterr().err == "leanpose: 3 of 3 parts are done; 0 are left.\n"


def test_what_is_missing_is_done(images: Path, store: Store, tmp_path: Path, without_ray: list[int]) -> None:
    parts = planned(store, [str(images)], None, WORK)
    run(store, parts, WORK, Cluster())
    whole = results(tmp_path / "out")
    store.remove(persons_file(1))
    store.write("begun/1", b"")
    (tmp_path / "out" / "persons" / "shard=000000" / ".0123456789abcdef.parquet").write_bytes(b"half")
    assert missing(store, parts).tolist() == [1]
    run(store, parts, WORK, Cluster())
    assert without_ray == [0, 1, 2, 1]
    assert results(tmp_path / "out") == whole
    assert not store.exists("begun")


def test_missing_parts_of_many_folders(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    parts = 2 * SHARD + 3
    assert missing(store, parts).tolist() == list(range(parts))
    done = [0, SHARD - 1, SHARD, 2 * SHARD + 2]
    for number in done:
        store.write(persons_file(number), b"")
    assert missing(store, parts).tolist() == [number for number in range(parts) if number not in done]
    assert missing(store, 0).tolist() == []


def test_other_options_are_refused(images: Path, store: Store, tmp_path: Path) -> None:
    planned(store, [str(images)], None, WORK)
    before = results(tmp_path / "out")
    changed = StubWork()
    object.__setattr__(changed, "describe", lambda: {"model": "another", "sha256": "0" * 64})
    for words, column, work, reason in (
        ([str(images)], None, changed, "holds a job with model stub, not another; choose another --out"),
        ([str(images)], "path", WORK, "holds a job with column none, not path;"),
        ([str(images), "b"], None, WORK, f"holds a job with sources {images}, not {images}, {Path('b').absolute()};"),
    ):
        with pytest.raises(InputError) as error:
            planned(store, words, column, work)  # type: ignore[arg-type]
        assert reason in str(error.value) and "\n" not in str(error.value)
    assert results(tmp_path / "out") == before


def test_a_name_means_the_same_in_another_folder(
    images: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planned(store, ["images"], None, WORK)
    assert planned(store, [str(images)], None, WORK) == 3
    (tmp_path / "elsewhere" / "images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="holds a job with sources"):
        planned(store, ["images"], None, WORK)


def test_folders_of_others_are_refused(images: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").touch()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"out holds thesis.tex, but no job of leanpose; choose another --out"):
        planned(store, [str(images)], None, WORK)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".DS_Store", "thesis.tex"]
    for content in (b"{}", b"[]", b"no JSON", b'{"plan": {"parts": "many"}}'):
        (tmp_path / "out" / "manifest.json").write_bytes(content)
        with pytest.raises(InputError, match=r"manifest\.json is not that of a job of leanpose"):
            planned(store, [str(images)], None, WORK)


def test_a_plan_that_was_interrupted(images: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Store, name: str, data: bytes) -> None:
        if name == "manifest.json":
            raise KeyboardInterrupt
        write(self, name, data)

    write = Store.write
    monkeypatch.setattr(Store, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        planned(store, [str(images)], None, WORK)
    monkeypatch.setattr(Store, "write", write)
    assert store.names() == {"plan"}
    write_images(images, 9)
    (Path(store.address) / ".0123456789abcdef.json").write_bytes(b"half")
    parts = planned(store, [str(images)], None, WORK)
    run(store, parts, WORK, Cluster())
    assert len(sources_in(store, parts)) == 20


def test_nothing_is_written_where_nothing_is_found(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no"):
        planned(store, [str(tmp_path / "no")], None, WORK)
    assert not (tmp_path / "out").exists()


def test_two_who_do_the_same_job_at_once(images: Path, store: Store, tmp_path: Path) -> None:
    parts = planned(store, [str(images)], None, WORK)
    one, two = (WORK.worker(job.Plan(store), store)() for _ in range(2))
    store.write("begun/0", b"")  # the first is at work on it
    assert two(0).images == 8
    assert one(0).images == 0
    run(store, parts, WORK, Cluster())
    assert sources_in(store, parts) == [f"{images}/{number:03d}.png" for number in range(20)]


def test_ctrl_c_says_what_is_done(images: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(
        make: Callable[[], Callable[[int], Any]], numbers: Sequence[int], cluster: Cluster
    ) -> Iterator[Any]:
        yield make()(int(numbers[0]))
        raise KeyboardInterrupt

    parts = planned(store, [str(images)], None, WORK)
    monkeypatch.setattr(job, "spread", interrupted)
    with pytest.raises(KeyboardInterrupt, match="1 of 3 parts are done; the same line goes on with the rest"):
        run(store, parts, WORK, Cluster())
    with pytest.raises(KeyboardInterrupt, match="2 of 3 parts are done"):
        run(store, parts, WORK, Cluster())


def test_a_line_a_minute(
    images: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "LINE_SECONDS", 0)
    run(store, planned(store, [str(images)], None, WORK), WORK, Cluster())
    lines = capsys.readouterr().err.splitlines()[1:]
    assert [line.partition(";")[0] for line in lines] == [f"leanpose: {number} of 3 parts" for number in (1, 2, 3)]


def test_an_account() -> None:
    account = Account()
    account.add(Done(0, 10, 20, Counter(missing=2), {"fetch": 1.0, "predict": 3.0}, "a:1"))
    account.add(Done(1, 1, 0, Counter(missing=1, died=1), {"fetch": 0.0, "predict": 0.0}, "b:1"))
    account.elapsed = 5.5
    assert str(account).splitlines() == [
        "11 images, 20 persons in 6 s: 2.0 images/s",
        "time of the actors: fetch 25%, predict 75%",
        "failures: 3 missing, 1 died",
    ]
    report = account.to_dict()
    assert (report["images_per_second"], report["processes"]) == (2.0, ["a:1", "b:1"])
    assert str(Account(elapsed=3700)) == "0 images, 0 persons in 1 h 1 min"


def test_a_trial_looks_at_some_of_all(images: Path, tmp_path: Path) -> None:
    write_images(images / "more", 200)
    totals, account = trial([str(images)], None, WORK, Cluster(), 30)
    assert (totals.images, account.images, account.persons) == (220, 30, 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


def test_a_manifest_says_what_makes_two_results_the_same() -> None:
    def describe(frame_rate: float | None = None, **options: Any) -> dict[str, Any]:
        predictor = Predictor("lpn50.coco_128x96_int8", threads=1, **options)
        return Work(predictor, frame_rate).describe()

    plain = describe(detector=None)
    assert json.loads(json.dumps(plain)) == plain == describe(detector=None)
    others = [
        describe(detector=None, frame_rate=1.0),
        describe(detector=None, flip_test=True),
        describe(detector="litepose_xs"),
        describe(detector=None, min_person_score=0.1),
    ]
    assert all(other != plain for other in others)
