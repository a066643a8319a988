"""Jobs on a cluster of Ray, which all tests of this file share."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("ray.data")

from batch.stubs import Hashes, StubWork, results, sources_in, table_rows, write_images
from support import ASTRONAUT

from leanpose.batch.cluster import Cluster
from leanpose.batch.job import Work, planned, run
from leanpose.batch.plan import Plan
from leanpose.batch.store import Store
from leanpose.batch.worker import errors_file, persons_file
from leanpose.errors import InputError
from leanpose.evaluation.evaluate import evaluate
from leanpose.inference.predictor import Predictor
from leanpose.io.images import read_image
from leanpose.keypoint_sets import COCO
from leanpose.weights.catalogue import find_weights

MODEL = "lpn50.coco_128x96_int8"
SECONDS = 180.0  # in which a test gives up


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two cores on this machine."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # of its actors, who need the stubs
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # else other tests come first
        context: Any = ray.init(
            "local", num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False
        )
        yield context.address_info["gcs_address"]
        ray.shutdown()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 40)
    return tmp_path / "images"


def alone(tmp_path: Path, words: list[str], work: Any) -> dict[str, bytes]:
    """Return the files of a job that a Worker did without Ray."""
    store = Store(str(tmp_path / "alone"))
    parts = planned(store, words, None, work)
    worker = work.worker(Plan(store), store)()
    for number in range(parts):
        worker(number)
    return results(tmp_path / "alone")


def test_a_job_is_what_a_worker_makes_alone(address: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    photo = read_image(ASTRONAUT)[..., ::-1]
    for number in range(6):
        small = cv2.resize(photo[number * 20 :], (128, 96), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), small)
    (tmp_path / "images" / "damaged.jpg").write_bytes(b"no image")
    words = [str(tmp_path / "images"), str(tmp_path / "list.txt")]
    (tmp_path / "list.txt").write_text("missing.jpg\nimages/0.png\n")
    work = Work(Predictor(MODEL, detector=None, threads=1), 1.0)
    store = Store(str(tmp_path / "out"))
    parts = planned(store, words, None, work)
    account = run(store, parts, work, Cluster(actors=2))
    assert (account.images, dict(account.failures)) == (7, {"unusable": 1, "missing": 1})
    assert results(tmp_path / "out") == alone(tmp_path, words, work)
    assert len(sources_in(store, parts)) == 7


@dataclass(frozen=True)
class Killing(Hashes):
    """Kills the process of the first actor that comes to a file, by a note on the disk that it did.

    Attributes:
        note: a file that is made before.
    """

    note: str = ""

    def estimate(self, task: Any) -> Any:
        if task.source.endswith("020.png"):
            try:
                os.close(os.open(self.note, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return super().estimate(task)


def test_actors_that_die(address: str, images: Path, tmp_path: Path) -> None:
    """One is killed from outside at image 20, and image 13 kills all that come to it."""
    work: Any = StubWork(Killing("/013.png", note=str(tmp_path / "note")))
    store = Store(str(tmp_path / "out"))
    parts = planned(store, [str(images)], None, work)
    run(store, parts, work, Cluster(actors=2))
    assert (tmp_path / "note").exists() and not store.exists("begun")
    poison = f"{images}/013.png"
    every = [f"{images}/{number:03d}.png" for number in range(40)]
    assert sources_in(store, parts) == [source for source in every if source != poison]
    assert [(row["source"], row["kind"]) for row in table_rows(store, parts)] == [(poison, "died")]
    unbroken = alone(tmp_path, [str(images)], StubWork())
    different = {name for name, data in results(tmp_path / "out").items() if unbroken.get(name) != data}
    assert different == {errors_file(1), persons_file(1)}


def test_what_an_actor_cannot_do_is_one_sentence(address: str, images: Path, tmp_path: Path) -> None:
    work: Any = StubWork()
    store = Store(str(tmp_path / "out"))
    parts = planned(store, [str(images)], None, work)
    (tmp_path / "out" / "begun").touch()  # where a folder should be
    with pytest.raises(InputError, match=r"begun/\d cannot be written \(.*\); free space or choose another place"):
        run(store, parts, work, Cluster(actors=1))
    with pytest.raises(InputError, match="too few for 3 actors"):
        run(store, parts, work, Cluster(actors=3))


@contextmanager
def gate(image: Path) -> Iterator[tuple[str, threading.Event]]:
    """Give an address that holds an image back until the event is set."""
    opened = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            opened.wait(SECONDS)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(image.read_bytes())

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{image.name}", opened
        server.shutdown()


def test_the_command_line(address: str, tmp_path: Path) -> None:
    """Ctrl-C in the middle, then the same line again."""
    images = write_images(tmp_path / "images", 24)
    with gate(images[0]) as (last, opened):
        (tmp_path / "list.txt").write_text("\n".join([*map(str, images), last]))
        _check_the_command_line(address, tmp_path, opened)


def _check_the_command_line(address: str, tmp_path: Path, opened: threading.Event) -> None:
    line = [sys.executable, "-m", "leanpose", "batch", "list.txt", "--model", MODEL, "--boxes", "image"]
    line += ["--actors", "1", "--address", address]

    def start(*options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*line, *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    process = start("--out", "out")
    _wait(lambda: any((tmp_path / "out").rglob("part-*.parquet")) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 130, errors
    assert re.search(r"leanpose: \d of 4 parts are done; the same line goes on with the rest\n$", errors)

    opened.set()
    process = start("--out", "out")
    printed, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0 and printed.endswith("\nout\n"), errors
    work = Work(Predictor(MODEL, detector=None, threads=1), 1.0)
    assert results(tmp_path / "out") == alone(tmp_path, [str(tmp_path / "list.txt")], work)

    process = start("--dry-run", "--samples", "4", "--price", "0.5")
    printed, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert printed.startswith("25 images; a sample:\n4 images, 4 persons in ")
    assert re.search(r"\nthis job: \d+ s, [\d.]+ core hours, cost [\d.]+\n$", printed)


def test_distributed_evaluation(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results come in any order and are put into that of the set; actors run in other folders than the command."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(find_weights(MODEL), "my.onnx")
    photo = cv2.resize(read_image(ASTRONAUT), (128, 128), interpolation=cv2.INTER_AREA)[..., ::-1]
    keypoints = [value for k in range(17) for value in (40 + 2 * k, 30 + 4 * k, 2)]
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [category]}
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.roll(photo, 5 * number, axis=1))
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 128})
        person = {"id": number, "image_id": number, "category_id": 1, "num_keypoints": 17, "keypoints": keypoints}
        content["annotations"].append(person | {"bbox": [10, 10, 100, 110], "area": 6000, "iscrowd": 0})
    data = tmp_path / "persons.json"
    data.write_text(json.dumps(content))
    for name, distributed in (("alone", False), ("together", True)):
        evaluate("my.onnx", data="persons.json", images=".", out=name, distributed=distributed)
    alone, together = ((tmp_path / name / "results.json").read_text() for name in ("alone", "together"))
    assert together == alone and len(json.loads(alone)) == 5
    with pytest.raises(InputError, match="add --distributed"):
        evaluate(MODEL, data=str(data), images=str(tmp_path), address=address)
    with pytest.raises(InputError, match="leave --distributed out"):
        evaluate(MODEL, data=str(data), images=str(tmp_path), distributed=True, channel_order="bgr")


def _wait(until: Callable[[], bool]) -> None:
    latest = time.monotonic() + SECONDS
    while not until():
        assert time.monotonic() < latest
        time.sleep(0.02)
