"""benchmarks/train_on_gpu.py: parts that can be sent, and epochs that fit into the time."""

from __future__ import annotations

import runpy
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "train_on_gpu.py"))


def test_the_parts_hold_every_file_once(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(10):
        (images / f"{i}.jpg").write_bytes(bytes(30_000))
    data = tmp_path / "data" / "coco"
    data.mkdir(parents=True)
    (data / "images").symlink_to(images)
    (data / "train.json").write_text("{}")
    SCRIPT["pack"](tmp_path / "data", tmp_path / "parts", 100_000)
    parts = sorted((tmp_path / "parts").iterdir())
    assert len(parts) == 4
    for part in parts:
        with tarfile.open(part) as archive:
            assert sum(member.size for member in archive) <= 100_000
            archive.extractall(tmp_path / "there", filter="data")
    there = tmp_path / "there" / "coco"
    assert sorted(path.name for path in (there / "images").iterdir()) == [f"{i}.jpg" for i in range(10)]
    assert (there / "train.json").read_text() == "{}"
    assert not (there / "images").is_symlink()


@pytest.mark.parametrize(("seconds", "epochs"), [(0.5, 7), (0.01, 350), (100, 1)])
def test_as_many_epochs_as_fit(seconds: float, epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    plan = SCRIPT["FitInto"](deadline=1000.0)
    monkeypatch.setattr(SCRIPT["time"], "monotonic", lambda: clock.now)
    trainer = SimpleNamespace(
        global_step=0, current_epoch=0, num_training_batches=280, fit_loop=SimpleNamespace(max_epochs=1000)
    )
    module = SimpleNamespace(total_steps=280_000)
    for step in range(1, 200):
        clock.now += seconds if step > 20 else 1.0  # the first ones set things up
        trainer.global_step, trainer.current_epoch = step, (step - 1) // 280
        plan.on_train_batch_end(trainer, module)
    assert trainer.fit_loop.max_epochs == trainer.check_val_every_n_epoch == epochs
    assert module.total_steps == 280 * epochs
