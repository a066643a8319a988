"""Training on images of a few kilobytes: it learns, resumes exactly, counts processes out, and says what it does."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
yaml = pytest.importorskip("yaml")
pytest.importorskip("lightning")

import torch  # noqa: E402
from lightning.fabric.plugins import TorchCheckpointIO  # noqa: E402

from leanpose import geometry  # noqa: E402
from leanpose.commands.cli import main  # noqa: E402
from leanpose.commands.train import train_recipe  # noqa: E402
from leanpose.data.annotations import open_annotations  # noqa: E402
from leanpose.data.coco import CocoSet  # noqa: E402
from leanpose.errors import InputError, LeanposeError, WeightsError  # noqa: E402
from leanpose.evaluation.evaluate import measure  # noqa: E402
from leanpose.inference.detect import NetworkDetector  # noqa: E402
from leanpose.inference.engines import load_engine  # noqa: E402
from leanpose.inference.predictor import Predictor  # noqa: E402
from leanpose.inference.preprocess import box_inputs  # noqa: E402
from leanpose.io.images import read_image  # noqa: E402
from leanpose.keypoint_sets import HALPE26, LSP, KeypointSet  # noqa: E402
from leanpose.models import create_model  # noqa: E402
from leanpose.models.batch_norm import fold_batch_norm, unfold_batch_norm, unmeasured_norms  # noqa: E402
from leanpose.models.checkpoints import load_network, read_state, save_network  # noqa: E402
from leanpose.training import module  # noqa: E402
from leanpose.training.crops import CropSet  # noqa: E402
from leanpose.training.loop import moving_average, precision_of, train  # noqa: E402
from leanpose.training.module import PoseTraining  # noqa: E402
from leanpose.training.recipe import Recipe, read_recipe  # noqa: E402
from leanpose.training.run_state import save_average  # noqa: E402
from leanpose.weights.catalogue import read_record  # noqa: E402
from leanpose.weights.record import Measurement, Weights  # noqa: E402

MakePeople = Callable[..., tuple[Path, Path]]
MakeRecipe = Callable[..., Recipe]
ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("short_litepose", "short_lpn")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def recipe_file(people: MakePeople, tmp_path: Path) -> Path:
    """Write a recipe of two epochs of two steps on eight images."""
    annotations, images = people("people", count=8)
    data = {"annotations": str(annotations), "images": str(images)}
    values = {
        "model": "lpn50",
        "out": str(tmp_path / "run"),
        "train_data": [data],
        "val_data": data,
        "input_size": [64, 48],
        "codec": "dark",
        "codec_options": {"sigma": 1.5, "blur": 5},
        "epochs": 2,
        "batch_size": 4,
        "ema_decay": 0.5,
        "flip_test": False,
        "accelerator": "cpu",
        "precision": "32-true",
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.fixture
def make_recipe(recipe_file: Path) -> MakeRecipe:
    """Return a function from key=value words to a recipe."""
    return lambda *changes: read_recipe(recipe_file, changes)


BOTTOM_UP = (
    "model=litepose_xs", "model_options={person_head: true}", "codec=associative_embedding", "input_size=[64,64]",
    "codec_options={sigma: 1.5, upsample: false}", "convention=classic", "views=persons", "padding=1.2",
)  # fmt: skip


DETECTOR = (
    "model=sfm", "model_options={head: persons, width: 16, levels: 3}", "codec=center_box", "input_size=[64,64]",
    "codec_options={}", "convention=classic", "views=images", "padding=1.0",
)  # fmt: skip


SUPERNET = (
    *BOTTOM_UP, "model=litepose_supernet", "supernet={input_sizes: [64, 128], distillation: 1}",
    "model_options.arch={stem_width: 16, stage_widths: [16, 24, 24, 32], head_widths: [16, 24, 16], stage_depths: "
    "[1, 1, 2, 1]}",
)  # fmt: skip


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.ckpt", weights_only=False)


def assert_equal_states(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_it_learns_eight_images(
    make_recipe: MakeRecipe, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[str] = []
    monkeypatch.setattr(CropSet, "to", lambda self, device: places.append(device.type))
    best = train(
        make_recipe(
            "epochs=5", "samples_per_epoch=64", "batch_size=8", "learning_rate=3e-3", "validate_every=5",
            "augmentation={flip: 0, scale: 0, rotation: 0}",
        )
    )  # fmt: skip
    record = Weights.from_metadata(read_state(best)[1], "best")
    assert record.metrics[0] == Measurement("AP", record.metrics[0].value, "people.json", "annotated", False, (64, 48))
    assert record.metrics[0].value > 0.5
    output = capfd.readouterr()
    assert re.fullmatch(
        r"stage0: lpn50 at 64x48, 8 persons, 5 epochs of 8 steps, 32-true, on cpu\n"
        r"epoch 5/5  \d+\.\d min  loss 0\.\d+  AP \d+\.\d  AP50 \d+\.\d  PCK@0\.1 \d+\.\d  best\n",
        output.out,
    )
    assert output.err == ""
    assert places == ["cpu"]  # where the network is
    (sample, *_) = open_annotations(make_recipe().val_data.annotations, make_recipe().val_data.images).samples()
    poses = Predictor(best, threads=1, detector=None)(sample.image_path, sample.box_xyxy)
    assert np.linalg.norm(poses.keypoints[0] - sample.keypoints, axis=1).mean() < 5  # pixels


def test_the_best_file_carries_the_record_and_the_averaged_weights(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("note=a test", "licence=CC0", "epochs=1", "flip_test=true", "learning_rate=0.01")
    best = train(recipe)
    assert best == tmp_path / "run" / "best.safetensors"
    state, metadata = read_state(best)
    record = Weights.from_metadata(metadata, "best")
    assert (record.model, record.input_size, record.keypoint_set.name) == ("lpn50", (64, 48), "coco")
    assert (record.codec, record.codec_options) == ("dark", {"sigma": 1.5, "blur": 5})
    assert (record.note, record.licence) == ("a test", "CC0")
    assert "AP50" in {figure.metric for figure in record.metrics if figure.flip_test}
    saved = checkpoint(tmp_path / "run" / "stage0")
    averaged, current = (
        {name.removeprefix("network."): tensor for name, tensor in saved[key].items()}
        for key in ("state_dict", "current_model_state")
    )
    assert_equal_states(state, averaged)
    assert not torch.equal(state["conv1.weight"], current["conv1.weight"])
    assert read_recipe(tmp_path / "run" / "recipe.yaml") == recipe
    assert len(Predictor(best, threads=1, detector=None)(np.zeros((80, 60, 3), np.uint8))) == 1


def test_bottom_up_it_learns_two_images(
    make_recipe: MakeRecipe, people: MakePeople, capfd: pytest.CaptureFixture[str]
) -> None:
    annotations, images = people("two", count=2)
    content = json.loads(annotations.read_text())
    for entry in content["images"]:  # made square, so that training sees all that prediction sees
        image = read_image(images / entry["file_name"])[..., ::-1]
        cv2.imwrite(str(images / entry["file_name"]), cv2.copyMakeBorder(image, 0, 0, 0, 20, cv2.BORDER_REPLICATE))
        entry["width"] = 120
    annotations.write_text(json.dumps(content))
    data = f"{{annotations: {annotations}, images: {images}}}"
    recipe = make_recipe(
        *BOTTOM_UP, "views=images", "padding=1.0", "augmentation={flip: 0, scale: 0, rotation: 0}",
        f"train_data=[{data}]", f"val_data={data}", "epochs=1", "samples_per_epoch=300", "batch_size=2",
        "codec_options.detection_threshold=0.3", "foreground_weight=10", "learning_rate=0.01", "ema_decay=0.9",
        "loss_weights={boxes: 0.1, pull: 0.1, push: 0.1}",
    )  # fmt: skip
    best = train(recipe)
    state, metadata = read_state(best)
    record = Weights.from_metadata(metadata, "best")
    assert [(figure.boxes, figure.value > 0.4) for figure in record.metrics if figure.metric == "AP50"] == [
        ("none", True)
    ]
    output = capfd.readouterr()
    assert re.fullmatch(
        r"stage0: litepose_xs at 64x64, 2 images, 1 epochs of 150 steps, 32-true, on cpu\n"
        r"epoch 1/1  \d+\.\d min  loss 0\.\d+  AP \d+\.\d  AP50 \d+\.\d  PCK@0\.1 \d+\.\d  best\n",
        output.out,
    )
    assert output.err == ""

    assert (record.model, record.input_size) == ("litepose_xs", (64, 64))
    assert record.model_options == {"person_head": True}
    assert record.codec == "associative_embedding"
    assert record.codec_options == {"sigma": 1.5, "upsample": False, "detection_threshold": 0.3}
    assert (record.convention, record.padding) == ("classic", 1.0)
    assert "person.center.weight" in state
    detector = NetworkDetector(load_engine(best, threads=1), (1.0,))
    predictor = Predictor(best, threads=1)
    for sample in open_annotations(annotations, images).samples():
        poses = predictor(sample.image_path)
        distances = np.linalg.norm(poses.keypoints[0] - sample.keypoints, axis=1)
        assert np.nanmedian(distances) < 5  # pixels
        boxes, _ = detector(read_image(sample.image_path))
        assert geometry.iou(boxes[:1], sample.box_xyxy[None]).item() > 0.6


@pytest.mark.parametrize(
    ("interruption", "method"),
    [(RuntimeError, ()), (KeyboardInterrupt, ()), (RuntimeError, BOTTOM_UP), (RuntimeError, SUPERNET)],
    ids=["error", "Ctrl-C", "bottom-up", "supernet"],
)
def test_a_resumed_run_is_an_unbroken_one(
    interruption: type[BaseException],
    method: tuple[str, ...],
    make_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    views = "{shift: 0.1, zoom: 1.2, uniform: true" if method else "{half_body: 0.5"
    changes = (
        *method,
        "learning_rate=0.003", "gradient_clip=1.0", "warmup_steps=2", "ema_decay=0.8", "epochs=3", "validate_every=2",
        f"augmentation={views}, brightness: 0.2}}", "weight_decay=0.1",
    )  # fmt: skip
    whole = make_recipe(*changes, f"out={tmp_path / 'whole'}")
    broken = make_recipe(*changes, f"out={tmp_path / 'broken'}")
    train(whole)

    step = PoseTraining.training_step

    def interrupted(self: PoseTraining, batch: dict[str, torch.Tensor], batch_index: int) -> torch.Tensor:
        if self.current_epoch == 1 and batch_index == 1:  # in the middle of the second epoch
            raise interruption
        return step(self, batch, batch_index)

    on_interrupt = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch, pytest.raises(interruption) as caught:
        patch.setattr(PoseTraining, "training_step", interrupted)
        train(broken)
    if interruption is KeyboardInterrupt:
        assert "the last whole epoch is kept" in str(caught.value)
        assert "resume=true" in str(caught.value)
    assert signal.getsignal(signal.SIGINT) is on_interrupt
    assert checkpoint(tmp_path / "broken" / "stage0")["global_step"] == 2
    train(broken, resume=True)

    one, other = (checkpoint(tmp_path / name / "stage0") for name in ("whole", "broken"))
    assert one["global_step"] == other["global_step"] == 6
    for key in ("state_dict", "current_model_state", "averaging_state"):
        assert_equal_states(one[key], other[key])
    assert all(name.startswith("network.") for name in one["state_dict"])  # nothing is stored twice
    momenta = [saved["optimizer_states"][0]["state"] for saved in (one, other)]
    assert all(torch.equal(momenta[0][i]["exp_avg"], momenta[1][i]["exp_avg"]) for i in momenta[0])
    best_one, best_other = (read_state(tmp_path / name / "best.safetensors") for name in ("whole", "broken"))
    assert_equal_states(best_one[0], best_other[0])
    assert best_one[1] == best_other[1]


def test_a_resumed_run_knows_its_best_figure(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter([0.5, 0.1])
    monkeypatch.setattr(CocoSet, "score", lambda *_: {"AP": next(figures), "AP50": 0.0})
    best = train(make_recipe("epochs=1")).read_bytes()
    assert train(make_recipe("epochs=2"), resume=True).read_bytes() == best
    assert next(figures, None) is None


def test_of_equal_figures_the_nearer_is_better(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of few persons AP may stay 0 while the network learns."""
    near = iter([0.1, 0.4, 0.2, 0.3])
    monkeypatch.setattr(CocoSet, "score", lambda *_: {"AP": 0.0, "AP50": 0.0})
    monkeypatch.setattr(module, "near_share", lambda *_: {"PCK@0.1": next(near)})
    train(make_recipe("epochs=3", "samples_per_epoch=4"))
    train(make_recipe("epochs=4", "samples_per_epoch=4"), resume=True)
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert [line.endswith("best") for line in lines] == [True, True, False, False]


def test_a_stage_ends_when_patience_does(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run that is broken off in the middle of it ends where an unbroken one does."""
    figures = [0.5, 0.1, 0.6, 0.55, 0.4, 0.9]
    seen: list[float] = []

    def score(*_: Any) -> dict[str, float]:
        seen.append(figures[len(seen)])
        return {"AP": seen[-1], "AP50": 0.0}

    monkeypatch.setattr(CocoSet, "score", score)
    changes = ("epochs=6", "patience=2", "samples_per_epoch=4", "learning_rate=0.003")
    train(make_recipe(*changes, f"out={tmp_path / 'whole'}"))
    assert seen == figures[:5]
    seen.clear()
    broken = make_recipe(*changes, f"out={tmp_path / 'broken'}")
    train(dataclasses.replace(broken, epochs=4))  # patience 1 is left
    train(dataclasses.replace(broken, epochs=4), resume=True)
    assert seen == figures[:4]
    train(broken, resume=True)
    assert seen == figures[:5]
    train(broken, resume=True)  # it has ended
    assert seen == figures[:5]
    whole, other = (read_recipe(tmp_path / name / "recipe.yaml") for name in ("whole", "broken"))
    assert dataclasses.replace(other, out=whole.out) == whole
    best = [
        Weights.from_metadata(read_state(tmp_path / name / "best.safetensors")[1], "") for name in ("whole", "broken")
    ]
    assert [record.metrics[0].value for record in best] == [0.6, 0.6]
    assert checkpoint(tmp_path / "broken" / "stage0")["global_step"] == 5


def test_logs_of_a_resumed_run_are_kept(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe("epochs=1"))
    train(make_recipe("epochs=2"), resume=True)
    logs = sorted((tmp_path / "run" / "stage0" / "csv").glob("*/metrics.csv"))
    rows = [list(csv.DictReader(log.open())) for log in logs]
    assert [{row["epoch"] for row in part} for part in rows] == [{"0"}, {"1"}]
    assert all(any(row["AP"] for row in part) and any(row["loss"] for row in part) for part in rows)
    assert list((tmp_path / "run" / "stage0" / "tensorboard").glob("events*"))


def test_resuming_a_finished_run_changes_nothing(
    make_recipe: MakeRecipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    best = train(make_recipe())
    before = best.read_bytes()
    capfd.readouterr()
    assert train(make_recipe(), resume=True) == best
    assert best.read_bytes() == before
    assert checkpoint(tmp_path / "run" / "stage0")["global_step"] == 4
    assert capfd.readouterr().err == ""


def test_each_stage_starts_from_the_best_of_the_one_before(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([0.5, 0.1, 0.2, 0.3])  # the best of stage 0 is its first epoch, that of stage 1 its second
    starts: list[dict[str, torch.Tensor]] = []
    make = PoseTraining.__init__

    def spy(self: PoseTraining, recipe: Recipe, network: torch.nn.Module, *others: Any) -> None:
        starts.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        make(self, recipe, network, *others)

    monkeypatch.setattr(CocoSet, "score", lambda *_: {"AP": next(figures), "AP50": 0.0})
    monkeypatch.setattr(PoseTraining, "__init__", spy)
    best = train(make_recipe("stages=2", "learning_rate=0.01"))
    first, second = (tmp_path / "run" / name / "best.safetensors" for name in ("stage0", "stage1"))
    assert len(starts) == 2
    assert_equal_states(starts[1], read_state(first)[0])
    last = checkpoint(tmp_path / "run" / "stage0")["state_dict"]
    assert not torch.equal(last["network.conv1.weight"], starts[1]["conv1.weight"])
    assert best.read_bytes() == second.read_bytes()
    assert Weights.from_metadata(read_state(best)[1], "best").metrics[0].value == 0.3


def run_leanpose(*words: str, launcher: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start the command with one thread per process, Ctrl-C at work and the short lpn50."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *launcher, str(Path(__file__).with_name("short_leanpose.py")), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )


def test_two_machines_give_the_weights_of_one(recipe_file: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """The lines of docs/scale.md, both typed here."""
    changes = ("epochs=1", "ema_decay=0", "optimizer=sgd", "learning_rate=0.1", "freeze_batch_norm=true")
    train(make_recipe(*changes, f"out={tmp_path / 'one'}"))
    lines = re.findall(r"^torchrun (.*) -m leanpose train", (ROOT / "docs/scale.md").read_text(), flags=re.MULTILINE)
    assert len(lines) == 2
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    machines = []
    for line in lines:
        options = line.replace("HOST", "127.0.0.1").replace("29500", port).split()
        launcher = ("-m", "torch.distributed.run", *options)
        machines.append(run_leanpose("train", str(recipe_file), *changes, f"out={tmp_path / 'two'}", launcher=launcher))
    output = ""
    for machine in machines:
        said, errors = machine.communicate(timeout=300)
        assert machine.returncode == 0, errors
        output += said
    assert output.count("epoch 1/1") == 1  # one process speaks
    assert "8 persons, 1 epochs of 2 steps, 32-true, on cpu (2 processes)" in output
    one, two = (checkpoint(tmp_path / name / "stage0")["state_dict"] for name in ("one", "two"))
    torch.manual_seed(0)
    moved = one["network.final_layer.weight"] - create_model("lpn50").state_dict()["final_layer.weight"]
    assert moved.abs().max() > 1e-3
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-6)


def test_a_killed_run_goes_on_with_the_same_losses(recipe_file: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """kill -9 in the middle of an epoch; the losses of the whole run are those of an unbroken one."""
    changes = ("schedule=wsd", "epochs=4", "decay_epochs=2", "validate_every=1", "samples_per_epoch=16")
    train(make_recipe(*changes, f"out={tmp_path / 'whole'}"))
    process = run_leanpose("train", str(recipe_file), *changes, f"out={tmp_path / 'killed'}")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/4"):
            process.kill()
            break
    process.communicate(timeout=60)
    train(make_recipe(*changes, f"out={tmp_path / 'killed'}"), resume=True)

    def losses(name: str) -> dict[str, str]:
        logs = sorted((tmp_path / name / "stage0" / "csv").glob("*/metrics.csv"))
        rows = [row for log in logs for row in csv.DictReader(log.open())]
        return {row["step"]: row["loss"] for row in rows if row.get("loss")}

    assert len(losses("whole")) == 4
    assert losses("killed") == losses("whole")
    one, other = (checkpoint(tmp_path / name / "stage0")["state_dict"] for name in ("whole", "killed"))
    assert_equal_states(one, other)


def test_the_command_takes_the_name_of_a_shipped_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "lpn50_coco", f"data_root={tmp_path}", f"out={tmp_path / 'run'}"]) == 2
    assert str(tmp_path / "annotations" / "person_keypoints_train2017.json") in capsys.readouterr().err
    assert main(["train", "lpn50_coc"]) == 2
    assert "There is no recipe 'lpn50_coc'. Did you mean 'lpn50_coco'?" in capsys.readouterr().err
    assert main(["train", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "the name of a recipe that comes with leanpose, such as lpn50_coco" in words


def test_a_run_is_not_overwritten(recipe_file: Path, tmp_path: Path) -> None:
    train_recipe(str(recipe_file), "epochs=1")
    before = (tmp_path / "run" / "stage0" / "last.ckpt").read_bytes()
    with pytest.raises(InputError, match="holds a run already; add resume=true"):
        train_recipe(str(recipe_file), "epochs=2")
    with pytest.raises(InputError, match="holds a run already"):
        train_recipe(str(recipe_file), "epochs=2", "resume=false")
    with pytest.raises(InputError, match="resume must be true or false, not 'yes'"):
        train_recipe(str(recipe_file), "resume=yes")
    assert (tmp_path / "run" / "stage0" / "last.ckpt").read_bytes() == before
    train_recipe(str(recipe_file), "epochs=2", "resume=True")
    assert checkpoint(tmp_path / "run" / "stage0")["global_step"] == 4


def test_a_run_without_an_end_decays_aside_and_goes_on(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Its state after two epochs gives weights in a folder of their own, and then goes on as if nothing had been."""
    wsd = ("schedule=wsd", "learning_rate=0.003", "ema_decay=0.8")
    train(make_recipe(*wsd, "epochs=3", f"out={tmp_path / 'whole'}"))
    train(make_recipe(*wsd, "epochs=2"))
    run = tmp_path / "run"
    state = (run / "stage0" / "last.ckpt").read_bytes()
    best = train(make_recipe(*wsd, "epochs=null", "decay_epochs=2"), resume=True)
    assert best.read_bytes() == (run / "decay2" / "best.safetensors").read_bytes()
    assert checkpoint(run / "decay2")["epoch"] + 1 == 4
    assert checkpoint(run / "decay2")["lr_schedulers"][0]["_last_lr"] == [0.0, 0.0]
    assert "4 epochs" in Weights.from_metadata(read_state(best)[1], "best").recipe
    assert (run / "stage0" / "last.ckpt").read_bytes() == state
    train(make_recipe(*wsd, "epochs=3"), resume=True)
    one, other = (checkpoint(folder / "stage0")["state_dict"] for folder in (tmp_path / "whole", run))
    assert_equal_states(one, other)


def test_training_without_an_end_goes_on_until_ctrl_c(recipe_file: Path, tmp_path: Path) -> None:
    changes = ("schedule=wsd", "validate_every=1", "samples_per_epoch=4")
    process = run_leanpose("train", str(recipe_file), *changes, "epochs=null")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("stage0: lpn50 at 64x48, 8 persons, endless epochs of 1 steps")
    assert [process.stdout.readline()[:8] for _ in range(3)] == ["epoch 1 ", "epoch 2 ", "epoch 3 "]
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    wanted = "leanpose: stopped; the last whole epoch is kept, add resume=true to the same command to go on\n"
    assert errors == wanted
    assert all(line.startswith("epoch ") for line in output.splitlines())
    assert (tmp_path / "run" / "stage0" / "last.safetensors").is_file()
    reached = checkpoint(tmp_path / "run" / "stage0")["epoch"] + 1
    assert reached >= 2  # the line of an epoch comes before its state

    message = train_recipe(str(recipe_file), *changes, f"epochs={reached + 1}", "resume=true")
    assert str(tmp_path / "run" / "best.safetensors") in message
    assert checkpoint(tmp_path / "run" / "stage0")["epoch"] == reached


def test_a_run_that_is_killed_while_it_writes_its_state_keeps_the_one_before(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make_recipe("epochs=1"))
    before = (tmp_path / "run" / "stage0" / "last.ckpt").read_bytes()

    def half(self: object, state: object, path: Path, *others: object) -> None:
        path.write_bytes(before[: len(before) // 2])
        raise RuntimeError("killed")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(TorchCheckpointIO, "save_checkpoint", half)
        train(make_recipe("epochs=2"), resume=True)
    assert (tmp_path / "run" / "stage0" / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("model=lpn101",), "has model: lpn50, not lpn101; go on with its own recipe, or begin a new run"),
        (("optimizer=sgd",), "has optimizer: adamw, not sgd"),
        (("augmentation.flip=0.1",), "has augmentation: "),
        (("out=elsewhere",), "There is no run in elsewhere to go on with; check out, or leave resume=true out"),
        (("schedule=wsd",), "has schedule: cosine, not wsd"),
    ],
)
def test_a_run_goes_on_with_its_own_recipe_only(
    changes: tuple[str, ...], message: str, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(make_recipe("epochs=1"))
    before = (tmp_path / "run" / "recipe.yaml").read_bytes()
    with pytest.raises(InputError, match=message):
        train(make_recipe("epochs=2", *changes), resume=True)
    assert (tmp_path / "run" / "recipe.yaml").read_bytes() == before
    assert not (tmp_path / "elsewhere").exists()


def test_a_damaged_state_is_named(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe("epochs=1"))
    state, recipe = tmp_path / "run" / "stage0" / "last.ckpt", (tmp_path / "run" / "recipe.yaml").read_bytes()
    whole = state.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no state", whole[:-100]):
        state.write_bytes(damaged)
        with pytest.raises(InputError, match=r"last\.ckpt is damaged"):
            train(make_recipe("epochs=2"), resume=True)
    assert (tmp_path / "run" / "recipe.yaml").read_bytes() == recipe


def test_the_average_of_a_run_is_a_place_to_go_on_from(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe("ema_decay=0.8", "learning_rate=0.01"))
    file = tmp_path / "average.safetensors"
    save_average(tmp_path / "run", file)
    state, metadata = read_state(file)
    averaged = checkpoint(tmp_path / "run" / "stage0")
    assert not torch.equal(
        averaged["state_dict"]["network.conv1.weight"], averaged["current_model_state"]["network.conv1.weight"]
    )
    for name, tensor in averaged["state_dict"].items():
        expected = tensor.half() if tensor.ndim > 1 else tensor
        assert torch.equal(state[name.removeprefix("network.")], expected)
    assert Weights.from_metadata(metadata, "average").model == "lpn50"
    train(make_recipe(f"start={file}", f"out={tmp_path / 'on'}", "epochs=1"))
    with pytest.raises(InputError, match=r"last\.ckpt is damaged"):
        (tmp_path / "run" / "stage0" / "last.ckpt").write_bytes(b"")
        save_average(tmp_path / "run", file)
    with pytest.raises(InputError, match=r"There is no .*last\.ckpt"):
        (tmp_path / "run" / "stage0" / "last.ckpt").unlink()
        save_average(tmp_path / "run", file)


def test_the_weights_to_start_from_are_named_with_their_figure(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first = train(make_recipe("epochs=1"))
    monkeypatch.setenv("LEANPOSE_WEIGHTS", str(tmp_path))
    shutil.copy(first, tmp_path / "lpn101.coco_64x48.safetensors")  # a name that no file in the package takes first
    shutil.copy(first, tmp_path / "lpn101.coco_128x96.safetensors")
    capfd.readouterr()
    train(make_recipe("epochs=1", "start=lpn101", f"out={tmp_path / 'same'}"))
    same = capfd.readouterr().out.splitlines()[0]
    assert re.fullmatch(r"start: lpn101\.coco_64x48; AP \d+\.\d before epoch 1", same)
    train(make_recipe("epochs=1", "start=lpn101", "input_size=[80,64]", f"out={tmp_path / 'other'}"))
    other = capfd.readouterr().out.splitlines()[0]
    assert re.fullmatch(r"start: lpn101\.coco_128x96, trained at 64x48, here 80x64; AP \d+\.\d before epoch 1", other)
    train(make_recipe("epochs=2", "start=lpn101", f"out={tmp_path / 'same'}"), resume=True)
    assert "start:" not in capfd.readouterr().out


def test_a_run_without_a_state_cannot_decay(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    recipe = make_recipe("schedule=wsd", "epochs=null", "decay_epochs=1")
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(recipe)))))
    with pytest.raises(InputError, match="has no state to decay from"):
        train(recipe, resume=True)


def test_a_network_that_diverged_after_its_last_step_is_named(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("learning_rate=1e30", "optimizer=sgd", "epochs=1", "samples_per_epoch=4", "ema_decay=0")
    with pytest.raises(InputError, match="training diverged in epoch 1: lower learning_rate, now 1e"):
        train(recipe)
    assert not list((tmp_path / "run").glob("stage0/*.safetensors"))


def test_a_loss_that_is_no_number_is_named_at_once(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finite number any more in epoch 1: lower learning_rate, now 1e"):
        train(make_recipe("learning_rate=1e30", "optimizer=sgd", "epochs=2"))
    assert not list((tmp_path / "run").glob("stage0/*.safetensors"))


@pytest.mark.parametrize(
    ("able", "accelerator", "wanted"),
    [
        ({"avx512_bf16": True, "avx2": True}, "cpu", "bf16-mixed"),
        ({"amx_bf16": True, "avx512_bf16": False}, "auto", "bf16-mixed"),
        ({"avx512_bf16": False, "avx2": True, "avx_ne_convert": True}, "cpu", "32-true"),
        ({}, "auto", "32-true"),
        ({"avx512_bf16": True}, "mps", "32-true"),
    ],
)
def test_precision_auto_is_bf16_where_the_processor_multiplies_it(
    able: dict[str, bool], accelerator: str, wanted: str, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision_of(make_recipe("precision=auto", f"accelerator={accelerator}")) == wanted
    assert precision_of(make_recipe("precision=16-mixed", f"accelerator={accelerator}")) == "16-mixed"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model=lpn5"], "Unknown model 'lpn5'. Did you mean 'lpn50'?"),
        (["model_options={attention: all}"], "Unknown attention 'all'"),
        (["input_size=[60,48]"], "height 60, but both sides must be multiples of 16"),
        (["codec=darc"], "no codec 'darc'. Did you mean 'dark'?"),
        (["codec_options={sigm: 1}"], "no parameter 'sigm'. Did you mean 'sigma'?"),
        (["keypoint_set=cocoa"], "no keypoint set 'cocoa'. Did you mean 'coco'?"),
        (["keypoint_set=lsp"], "has the keypoints 'coco', but the recipe predicts 'lsp'"),
        (["start=absent.safetensors"], "There is no file absent.safetensors"),
        (["start=lpn5"], "There are no weights 'lpn5' as .safetensors. Did you mean 'lpn50'?"),
        (["val_data.annotations=absent.json"], "There is no file absent.json"),
        (["val_data.images=absent"], "There is no file absent/1.png; check the path"),
        (["train_data=[]"], "no data to train on"),
        (["view_size=[60,48]"], "height 60, but both sides must be multiples of 16"),
        (["codec=associative_embedding"], "give views, such as persons"),
        (["views=persons"], "need the codec associative_embedding or center_box, not 'dark'"),
        ([*BOTTOM_UP, "codec=dark"], "need the codec associative_embedding or center_box, not 'dark'"),
        ([*BOTTOM_UP, "views=null"], "give views, such as persons"),
        ([*BOTTOM_UP, "views=crowd"], "views must be one of 'images', 'persons' or null, not crowd"),
        ([*BOTTOM_UP, "view_size=[64,72]"], "width 72, but both sides must be multiples of 16: use width 64 or 80"),
        ([*BOTTOM_UP, "loss_weights={pul: 1}"], "there is no loss 'pul'. Did you mean 'pull'?"),
        (["loss_weights={pull: 1}"], "there is no loss 'pull'. Known: heatmaps"),
        (
            [*BOTTOM_UP, "model=lpn50", "model_options={}"],
            "'lpn50' gives heatmaps, but the codec associative_embedding reads heatmaps_4, tags",
        ),
        ([*BOTTOM_UP, "model_options={persons_head: true}"], "Did you mean 'person_head'?"),
        ([*BOTTOM_UP, "codec_options={sigm: 1}"], "no parameter 'sigm'. Did you mean 'sigma'?"),
        ([*BOTTOM_UP, "keypoint_set=lsp"], "has the keypoints 'coco', not 'lsp'"),
    ],
    ids=lambda value: value[-1].partition("=")[0] if isinstance(value, list) else "",
)
def test_nothing_is_written_when_a_recipe_cannot_run(
    changes: list[str], message: str, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    with pytest.raises(LeanposeError) as caught:
        train(make_recipe(*changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_nothing_is_written_when_a_training_image_is_missing(
    make_recipe: MakeRecipe, people: MakePeople, tmp_path: Path
) -> None:
    annotations, images = people("other", count=3)
    (images / "2.png").unlink()
    with pytest.raises(InputError, match=r"2\.png"):
        train(make_recipe(f"train_data=[{{annotations: {annotations}, images: {images}}}]"))
    assert not (tmp_path / "run").exists()


def test_a_validation_set_that_counts_nobody_is_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    validation = make_recipe().val_data
    content = json.loads(Path(validation.annotations).read_text())
    for annotation in content["annotations"]:
        annotation["keypoints"] = [0] * 51
    nobody = tmp_path / "nobody.json"
    nobody.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"nobody\.json counts nobody, so that it gives no figure"):
        train(make_recipe(f"val_data={{annotations: {nobody}, images: {validation.images}}}"))
    assert not (tmp_path / "run").exists()


def test_batches_must_divide_among_processes(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match="batch_size 4 must be a multiple of the 3 processes"):
        train(make_recipe())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_asked_for_in_vain(make_recipe: MakeRecipe) -> None:
    with pytest.raises(InputError, match="no CUDA device: use accelerator=cpu"):
        train(make_recipe("accelerator=cuda"))


def test_a_stage_too_short_for_a_validation(make_recipe: MakeRecipe) -> None:
    with pytest.raises(InputError, match="ended before its first validation"):
        train(make_recipe("max_minutes=1e-6", "validate_every=2"))


def test_other_sets_are_mixed_in(make_recipe: MakeRecipe, people: MakePeople) -> None:
    lsp, images = people("lsp", count=3, keypoint_set=LSP)
    data = make_recipe().train_data[0]
    sets = f"[{{annotations: {data.annotations}, images: {data.images}}}, {{annotations: {lsp}, images: {images}}}]"
    assert train(make_recipe(f"train_data={sets}", "epochs=1")).is_file()


def test_a_network_that_finds_more_than_the_validation_set_annotates(
    make_recipe: MakeRecipe, people: MakePeople, tmp_path: Path
) -> None:
    """Sets with parts of its keypoints join in training; the figure is of those that the file has."""
    annotations, images = people("lsp", keypoint_set=LSP)
    sports = f"train_data=[{{annotations: {annotations}, images: {images}}}]"
    best = train(make_recipe("keypoint_set=halpe26", sports, "epochs=1"))
    record = read_record(best)
    assert len(record.keypoint_set) == 26 and record.metrics[0].metric == "AP"
    figures = measure(
        str(best), open_annotations(tmp_path / "people" / "people.json", tmp_path / "people/images")
    ).metrics
    assert figures["AP"] == pytest.approx(record.metrics[0].value)


def test_the_gradient_is_clipped(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    changes = ("epochs=1", "samples_per_epoch=4", "ema_decay=0", "optimizer=sgd", "learning_rate=2.0")
    train(make_recipe(*changes, "gradient_clip=0.001"))
    after = checkpoint(tmp_path / "run" / "stage0")["state_dict"]
    torch.manual_seed(0)
    squared = sum(
        ((after[f"network.{name}"] - p.detach()) ** 2).sum() for name, p in create_model("lpn50").named_parameters()
    )
    assert math.sqrt(squared) == pytest.approx(0.002, rel=1e-2)  # one step: learning rate times largest norm


def test_frozen_batch_norm_keeps_its_statistics(make_recipe: MakeRecipe) -> None:
    frozen = read_state(train(make_recipe("freeze_batch_norm=true", "epochs=1")))[0]
    assert torch.equal(frozen["bn1.running_mean"], torch.zeros(64))
    assert frozen["bn1.num_batches_tracked"] == 0
    assert not torch.equal(frozen["bn1.weight"], torch.ones(64))  # its scale is trained


def test_frozen_parts_stay_as_they_were(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    first = train(make_recipe("epochs=1", f"out={tmp_path / 'first'}"))
    stages = "stage_keys=[{freeze: [bn1, layer1, layer2, layer3, layer4]}, {epochs: 1, learning_rate: 0.01}]"
    train(make_recipe(f"start={first}", "epochs=2", stages))
    before, frozen, after = (
        read_state(file)[0] for file in (first, *(tmp_path / "run" / f"stage{i}/best.safetensors" for i in (0, 1)))
    )
    for name, tensor in before.items():
        part = name.split(".")[0]
        stays = part in ("bn1", "layer1", "layer2", "layer3", "layer4")
        moves = name.endswith(("weight", "running_mean"))
        assert torch.equal(frozen[name], tensor) or not stays, name
        assert not torch.equal(frozen[name], tensor) or stays or not moves, name
        assert not torch.equal(after[name], frozen[name]) or not moves, name
    assert [len([*csv.DictReader(file.open())]) > 0 for file in (tmp_path / "run").glob("*/csv/*/metrics.csv")] == [
        True
    ] * 2
    for names, message in (("[layer5]", r"no part 'layer5'\. Did you mean"), ("[conv1, '']", "no part ''")):
        with pytest.raises(InputError, match=message):
            train(make_recipe(f"freeze={names}", f"out={tmp_path / 'other'}"))


def test_rtmpose_is_trained_on_with_own_keypoints_from_a_file_whose_norms_were_folded(
    make_recipe: MakeRecipe, people: MakePeople, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    options = {"width": 0.125, "input_size": [64, 32]}
    network, trained = (create_model("rtmpose_t", 26, **options).eval() for _ in range(2))
    for parameter in trained.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    unfold_batch_norm(network, fold_batch_norm(trained))
    record = Weights("a", "rtmpose_t", (64, 32), HALPE26, convention="classic", codec="simcc", model_options=options)
    save_network(tmp_path / "a.safetensors", network, record)
    own = KeypointSet("own", ("right_knee", "thorax", "nose"), (), "test")
    file, images = people("own", keypoint_set=own)
    data = f"{{annotations: {file}, images: {images}}}"
    recipe = make_recipe(
        f"start={tmp_path / 'a.safetensors'}", f"keypoint_set={file}", f"train_data=[{data}]", f"val_data={data}",
        "model=rtmpose_t", "input_size=[64,32]", "convention=classic", "codec=simcc", "codec_options={}",
        f"model_options={options}", "epochs=1", "learning_rate=1e-12", "ema_decay=0", "freeze_batch_norm=true",
    )  # fmt: skip
    best, kept = load_network(train(recipe))
    assert "start: a, without thorax; AP" in capfd.readouterr().out
    assert kept.keypoint_set.keypoints == own.keypoints
    assert len(unmeasured_norms(network)) == 33 and not unmeasured_norms(best)
    rows = [HALPE26.keypoints.index(name) for name in ("right_knee", "nose")]
    assert torch.allclose(best.head.final_layer.weight[[0, 2]], network.head.final_layer.weight[rows])
    with torch.inference_mode():
        found, expected = (
            one.backbone(torch.randn(2, 3, 64, 32, generator=torch.manual_seed(1))) for one in (best, network)
        )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def factors(recipe: Recipe, steps: int) -> list[float]:
    module = PoseTraining(recipe, torch.nn.Conv2d(3, 17, 1), total_steps=steps)
    return [module.learning_rate_factor(step) for step in range(steps)]


def test_cosine_schedule(make_recipe: MakeRecipe) -> None:
    found = factors(make_recipe("warmup_steps=4"), 100)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.01)
    assert found[50] == pytest.approx(0.5)
    assert found[99] == pytest.approx(0, abs=1e-3)
    assert all(a >= b for a, b in pairwise(found[4:]))


def test_wsd_schedule(make_recipe: MakeRecipe) -> None:
    found = factors(make_recipe("schedule=wsd", "epochs=10", "decay_epochs=2", "warmup_steps=4"), 100)
    assert found[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert set(found[4:81]) == {1.0}
    assert found[81:] == pytest.approx([(100 - step) / 20 for step in range(81, 100)])
    endless = PoseTraining(make_recipe("schedule=wsd", "epochs=null"), torch.nn.Conv2d(3, 17, 1), None)
    assert endless.learning_rate_factor(10**9) == 1.0


def test_step_schedule(make_recipe: MakeRecipe) -> None:
    found = factors(make_recipe("schedule=step", "milestones=[2,3]", "epochs=4"), 20)
    assert found == pytest.approx([1.0] * 10 + [0.1] * 5 + [0.01] * 5)


@pytest.mark.parametrize(("name", "kind"), [("sgd", "SGD"), ("adam", "Adam"), ("adamw", "AdamW")])
def test_weight_decay_is_for_kernels_alone(name: str, kind: str, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(f"optimizer={name}", "weight_decay=0.1", "learning_rate=0.2")
    optimizer = PoseTraining(recipe, create_model("lpn50"), 10).configure_optimizers()["optimizer"]
    assert type(optimizer).__name__ == kind
    kernels, vectors = optimizer.param_groups
    assert (kernels["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim > 1 for p in kernels["params"])
    assert all(p.ndim == 1 for p in vectors["params"])
    count = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert count == sum(p.numel() for p in create_model("lpn50").parameters())


def test_layer_decay_slows_what_is_near_the_input(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("layer_decay=0.5", "learning_rate=0.8", "weight_decay=0.1")
    network = create_model("vitpose_s", input_size=(64, 48))
    module = PoseTraining(recipe, network, 10)
    groups = module.configure_optimizers()["optimizer"].param_groups
    group_of = {id(p): group for group in groups for p in group["params"]}
    assert len(group_of) == len(list(network.parameters())) == sum(len(group["params"]) for group in groups)
    backbone = network.backbone
    for part, depth in (
        (backbone.patch_embed, 0), (backbone.blocks[0], 1), (backbone.blocks[11], 12), (backbone.last_norm, 13),
        (network.keypoint_head, 13),
    ):  # fmt: skip
        for parameter in part.parameters():
            group = group_of[id(parameter)]
            assert group["initial_lr"] == pytest.approx(0.8 * 0.5 ** (13 - depth))
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)
    assert group_of[id(backbone.pos_embed)]["initial_lr"] == pytest.approx(0.8 * 0.5**13)


def test_layer_decay_is_for_every_network(make_recipe: MakeRecipe) -> None:
    network = create_model("lpn50")
    module = PoseTraining(make_recipe("layer_decay=0.9", "learning_rate=0.1"), network, 10)
    groups = module.configure_optimizers()["optimizer"].param_groups
    rate_of = {id(p): group["initial_lr"] for group in groups for p in group["params"]}
    assert rate_of[id(network.final_layer.bias)] == 0.1
    assert rate_of[id(network.conv1.weight)] == pytest.approx(0.1 * 0.9**12) == min(rate_of.values())
    assert set(map(id, network.parameters())) == rate_of.keys()


def test_training_sees_what_prediction_sees(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("augmentation={flip: 0, scale: 0, rotation: 0}")
    data = recipe.train_data[0]
    samples = open_annotations(data.annotations, data.images).samples()[:2]
    batch = CropSet(samples, recipe.input_size, recipe.padding, recipe.convention).__getitems__([(0, 0), (1, 1)])
    module = PoseTraining(recipe, torch.nn.Conv2d(3, 17, 1), 1)
    images, annotations = module.views(batch)
    for i, sample in enumerate(samples):
        seen, matrices = box_inputs(read_image(sample.image_path), sample.box_xyxy[None], module.record)
        assert np.abs(images[i].numpy() - seen[0]).max() < 0.1  # of a range of about 4.7
        expected = geometry.transform(sample.keypoints[None], matrices)[0]
        np.testing.assert_allclose(annotations["keypoints"][i].numpy(), expected, atol=1e-3)


def test_the_moving_average_is_short_at_first_and_long_later() -> None:
    """One update towards 1 from 0 leaves the decay's complement: 0.9 at the start, 1 - decay in the end."""
    for updates, expected in ((0, 0.9), (8, 0.5), (100_000, 0.001)):
        averaged = [torch.zeros(3)]
        moving_average(0.999)(averaged, [torch.ones(3)], updates)
        torch.testing.assert_close(averaged[0], torch.full((3,), expected))


def test_a_bottom_up_network_is_refused_before_anything_is_written(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="gives heatmaps_4, tags, heatmaps_2, but the codec dark reads heatmaps"):
        train(make_recipe("model=litepose_xs"))
    assert not (tmp_path / "run").exists()


def test_losses_of_bottom_up_training_are_logged_by_name(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(*BOTTOM_UP, "epochs=1", "loss_weights={pull: 0.1}"))
    (log,) = (tmp_path / "run" / "stage0" / "csv").glob("*/metrics.csv")
    rows = [row for row in csv.DictReader(log.open()) if row["loss"]]
    names = ("heatmaps", "push", "pull", "centers", "boxes")
    assert rows
    for row in rows:
        parts = [float(row[f"loss {name}"]) for name in names]
        assert float(row["loss"]) == pytest.approx(sum(parts), rel=1e-4)


def test_bottom_up_training_ends_where_nobody_is_found(make_recipe: MakeRecipe) -> None:
    best = train(make_recipe(*BOTTOM_UP, "epochs=1", "samples_per_epoch=4", "codec_options.detection_threshold=50"))
    assert len(Predictor(best, threads=1)(np.zeros((80, 60, 3), np.uint8))) == 0
    record = Weights.from_metadata(read_state(best)[1], "best")
    assert (record.metrics[0].metric, record.metrics[0].value, record.metrics[0].boxes) == ("AP", 0, "none")


def test_a_teacher_is_learned_and_not_kept(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    first = train(make_recipe("model=lpn50", "epochs=1", f"out={tmp_path / 'first'}"))
    recipe = make_recipe(f"teacher={first}", f"start={first}", "epochs=1", "ema_decay=0", "learning_rate=1e-9")
    train(recipe)
    (log,) = (tmp_path / "run" / "stage0" / "csv").glob("*/metrics.csv")
    rows = [row for row in csv.DictReader(log.open()) if row["loss"]]
    assert rows
    for row in rows:
        parts = [float(row[f"loss {name}"]) for name in ("heatmaps", "teacher")]
        assert min(parts) > 0
        assert float(row["loss"]) == pytest.approx(sum(parts), rel=1e-4)
    kept = checkpoint(tmp_path / "run" / "stage0")["state_dict"]
    assert {name.removeprefix("network.") for name in kept} == set(read_state(first)[0])


def test_a_teacher_may_differ_in_all_but_the_task(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    first = train(make_recipe("epochs=1", f"out={tmp_path / 'first'}"))
    others = ("convention=classic", "codec=heatmap", "codec_options={}", "input_size=[96,64]")
    train(make_recipe(f"teacher={first}", *others, "epochs=1"))
    bottom_up = train(make_recipe(*BOTTOM_UP, "epochs=1", f"out={tmp_path / 'second'}"))
    for more, message in (
        ([f"teacher={bottom_up}"], "cannot teach: it must find one person per input"),
        (["teacher=absent.safetensors"], "There is no file absent.safetensors"),
        ([*BOTTOM_UP, f"teacher={first}"], "leave it out, or leave views out"),
    ):
        with pytest.raises(LeanposeError, match=message):
            train(make_recipe(*more, f"out={tmp_path / 'third'}"))
        assert not (tmp_path / "third").exists()


def test_a_detector_learns_two_images(
    make_recipe: MakeRecipe, people: MakePeople, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    annotations, images = people("two", count=2)
    data = f"{{annotations: {annotations}, images: {images}}}"
    changes = (
        *DETECTOR, f"train_data=[{data}]", f"val_data={data}", "epochs=1", "batch_size=2", "learning_rate=0.01",
        "augmentation={flip: 0, scale: 0, rotation: 0}", "ema_decay=0.9",
    )  # fmt: skip
    best = train(make_recipe(*changes, "samples_per_epoch=200"))
    record = Weights.from_metadata(read_state(best)[1], "best")
    assert re.fullmatch(
        r"stage0: sfm at 64x64, 2 images, 1 epochs of 100 steps, 32-true, on cpu\n"
        r"epoch 1/1  \d+\.\d min  loss \d\.\d+  recall@1 100\.0  recall@3 100\.0  best\n",
        capfd.readouterr().out,
    )
    assert record.metrics[0] == Measurement("recall@1", 1.0, "people.json", "none", False, (64, 64))
    assert "score_threshold" not in record.codec_options  # that of validation is lower
    detector = NetworkDetector(load_engine(best, threads=1))
    for image in open_annotations(annotations, images).images("gt"):
        found, scores = detector(read_image(image.path))
        assert (
            image.boxes_xyxy is not None and geometry.iou(found[:1], image.boxes_xyxy).max() > 0.6 and scores[0] > 0.3
        )

    train(make_recipe(*changes, "samples_per_epoch=2", f"start={best}", f"out={tmp_path / 'second'}"))
    assert capfd.readouterr().out.startswith("start: best; recall@1 100.0 before epoch 1\n")


def test_a_second_bottom_up_run_starts_from_the_first(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """As in recipes/litepose_xs_256_cpu.yaml: first around persons, then of whole images."""
    first = train(make_recipe(*BOTTOM_UP, "epochs=1", "view_size=[32,48]", f"out={tmp_path / 'first'}"))
    assert Weights.from_metadata(read_state(first)[1], "first").input_size == (64, 64)
    second = make_recipe(*BOTTOM_UP, "epochs=1", "views=images", f"start={first}", "learning_rate=1e-9", "ema_decay=0")
    one, other = (read_state(file)[0] for file in (first, train(second)))
    for name in (name for name in one if name.endswith("weight")):
        torch.testing.assert_close(other[name], one[name], rtol=0, atol=1e-6)
