"""How fast is it here? Times of every step from image file to drawn image, and which model fits a frame rate."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from leanpose.errors import InputError, LeanposeError, suggest
from leanpose.evaluation.timing import WARM_UP, machine
from leanpose.inference.bottom_up import BottomUp
from leanpose.inference.detect import Detector, NetworkDetector
from leanpose.inference.engines import DEVICE_ENGINES, ENGINES, Engine, engine_of, load_engine
from leanpose.inference.predictor import DETECTORS
from leanpose.inference.preprocess import box_inputs, image_input
from leanpose.inference.top_down import TopDown
from leanpose.io.draw import draw_poses
from leanpose.io.files import write_text
from leanpose.io.images import decode_image
from leanpose.io.preflight import check_needs
from leanpose.structures import Poses
from leanpose.weights.catalogue import BUNDLED
from leanpose.weights.record import Weights

STEPS = ("decode", "find", "crop", "network", "codec", "draw")
FEWEST_RUNS, SECONDS = 10, 1.5  # of one row
IMAGE_SIZE = (480, 640)


@dataclass(frozen=True)
class Row:
    """One model on one engine.

    Attributes:
        model: name of the weights.
        engine, threads, persons: what was run; persons is 0 for networks that find persons themselves.
        milliseconds: step -> median of one image. "find" is the detector, and is there for networks that
            take boxes; "crop" cuts persons out and normalises them; "codec" turns heatmaps into keypoints.
        spread: half the distance of the 10th and 90th percentiles of all steps together, milliseconds.
        megabytes: largest memory of the process so far; None where the system does not tell.
        figures: kind of figure, such as "AP (val.json, annotated boxes, no flip test)" -> 0 to 1; without flip test,
            which is not timed here.
    """

    model: str
    engine: str
    threads: int
    persons: int
    milliseconds: dict[str, float]
    spread: float
    megabytes: float | None
    figures: dict[str, float]

    @property
    def frames_per_second(self) -> float:
        """Images a second from file to keypoints: all steps but drawing."""
        return 1000 / sum(value for step, value in self.milliseconds.items() if step != "draw")


@dataclass(frozen=True)
class BenchmarkReport:
    """All rows, the machine, and the model recommended for a frame rate (None: none asked for)."""

    machine: dict[str, Any]
    image: str
    rows: Sequence[Row]
    recommendation: str | None

    def to_json(self) -> str:
        values = asdict(self)
        for row, entry in zip(self.rows, values["rows"], strict=True):
            entry["frames_per_second"] = row.frames_per_second
        return json.dumps(values, indent=1)

    def __str__(self) -> str:
        kind = comparable(self.rows)
        metric = kind.partition(" (")[0] if kind else "AP"
        header = ("model", "engine", "threads", "persons", *STEPS, "±", "images/s", "MB", metric)
        lines = [header, *(_cells(row, kind) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(text.rjust(n) for text, n in zip(line, widths, strict=True)) for line in lines]
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        return "\n".join(
            [machine, f"{self.image}; milliseconds per image, medians", "", *table]
            + (["", f"last column: {kind}; -: not measured"] if kind else [])
            + (["", self.recommendation] if self.recommendation else [])
        )


def comparable(rows: Sequence[Row]) -> str | None:
    """Return the kind of figure, by metric, data, boxes and flip test, that most models have; None: they have none."""
    kinds = Counter(kind for figures in {row.model: row.figures for row in rows}.values() for kind in figures)
    return max(kinds, key=lambda kind: kinds[kind], default=None)


def _percent(row: Row, kind: str | None) -> str:
    return f"{100 * row.figures[kind]:.1f}" if kind in row.figures else "-"


def _cells(row: Row, kind: str | None) -> tuple[str, ...]:
    steps = (f"{row.milliseconds[step]:.2f}" if step in row.milliseconds else "-" for step in STEPS)
    memory = "-" if row.megabytes is None else f"{row.megabytes:.0f}"
    persons = str(row.persons or "-")
    speed = f"{row.frames_per_second:.1f}"
    spread = f"{row.spread:.2f}"
    return (row.model, row.engine, str(row.threads), persons, *steps, spread, speed, memory, _percent(row, kind))


def benchmark(
    *models: str,
    engine: str = "all",
    persons: str = "1,4,16",
    threads: str = "1",
    image: str | None = None,
    fps: float | None = None,
    out: str | None = None,
) -> BenchmarkReport:
    """Time models on this machine, step by step, from an image file to the drawn image.

    Each row runs after a warm-up, at least ten times, and gives medians. Persons are boxes laid into the image, so
    that their number is the same for all; the step "find" is the search that `leanpose predict` does without boxes.

    Args:
        models: names or files; none: all bundled weights.
        engine: "all" that are installed and run the file, or one: "onnxruntime", "openvino", "torch", "litert",
            "ncnn".
        persons: numbers of persons, with commas.
        threads: numbers of threads, with commas.
        image: file; without it an image of noise, 640 x 480, as JPEG.
        fps: recommend the best model that finds one person in so many images per second, by figures of one kind.
        out: .json file for the report.

    Raises:
        InputError: an argument cannot be used, or no engine runs a model.
    """
    if engine not in ("all", *ENGINES):
        raise InputError(f"There is no engine '{engine}'.{suggest(engine, ('all', *ENGINES))}")
    if fps is not None and not fps > 0:
        raise InputError(f"fps must be above 0, not {fps}.")
    if out is not None and Path(out).suffix != ".json":
        raise InputError(f"The report is written as .json, not {Path(out).name}.")
    check_needs(places=() if out is None else (out,))
    counts, thread_counts = _numbers("persons", persons), _numbers("threads", threads)
    data, shown = _image(image)
    plan = [
        (model, name, number)
        for model in models or (name for name, kinds in BUNDLED.items() if ".onnx" in kinds)
        for name in _engines_of(model, engine)
        for number in thread_counts
    ]
    rows: list[Row] = []
    for model, name, number in tqdm(plan, "benchmark", unit="model", disable=None):
        loaded = load_engine(model, name, number)  # type: ignore[arg-type]
        rows += _rows(loaded, name, number, counts, data)
    report = BenchmarkReport(machine(), shown, rows, recommend(rows, fps) if fps else None)
    if out is not None:
        write_text(out, report.to_json())
    return report


def _numbers(name: str, text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise InputError(f"{name} must be whole numbers above 0 with commas between, such as 1,4, not '{text}'.")
    return [int(word) for word in words]


def _image(file: str | None) -> tuple[bytes, str]:
    """Return the bytes of the image to decode, and words for it."""
    if file is not None:
        try:
            data = Path(file).read_bytes()
        except OSError as error:
            raise InputError(f"{file} cannot be read ({error.strerror}); check the path.") from None
        height, width = decode_image(data, file).shape[:2]
        return data, f"{Path(file).name}, {width} x {height}"
    coarse = np.random.default_rng(0).integers(0, 256, (IMAGE_SIZE[0] // 16, IMAGE_SIZE[1] // 16, 3), np.uint8)
    pixels = cv2.resize(coarse, IMAGE_SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", pixels)[1].tobytes(), "smooth noise, 640 x 480, JPEG"


def _engines_of(model: str, engine: str) -> list[str]:
    """Return the engines that can run a model, of those asked for; if none can, raise what is wrong with the last."""
    able = []
    common = [name for name in ENGINES if name not in DEVICE_ENGINES or model.endswith(ENGINES[name][0])]
    for name in common if engine == "all" else (engine,):
        try:
            load_engine(model, name)  # type: ignore[arg-type]
        except LeanposeError as fault:
            error = fault
        else:
            able.append(name)
    if not able:
        raise error
    return able


def _rows(engine: Engine, name: str, threads: int, counts: Sequence[int], data: bytes) -> list[Row]:
    """Time one model on one engine, with each number of persons."""
    opencv_threads = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        if engine.weights.task == "bottom_up":
            return [_row(lambda: find_everybody(engine, data), engine.weights, name, threads, persons=0)]
        people = TopDown(engine)
        detector = NetworkDetector(load_engine(DETECTORS[-1], engine_of(DETECTORS[-1], name), threads))  # type: ignore[arg-type]
        return [
            _row(partial(find_in_boxes, people, detector, data, n), engine.weights, name, threads, persons=n)
            for n in counts
        ]
    finally:
        cv2.setNumThreads(opencv_threads)


class _Clock:
    """Seconds between laps, by the name of the step that a lap ends."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] = now - self._last
        self._last = now


def find_in_boxes(people: TopDown, detector: Detector, data: bytes, persons: int) -> tuple[Poses, dict[str, float]]:
    """Do what `leanpose predict` does to an image with so many boxes; return poses and the seconds of each step."""
    clock = _Clock()
    pixels = decode_image(data, "the image")
    clock.lap("decode")
    detector(pixels)
    clock.lap("find")
    boxes = boxes_in(pixels.shape[:2], persons)
    images, matrices = box_inputs(pixels, boxes, people.weights)
    clock.lap("crop")
    size = people.batch_size
    parts = [people.engine(images[i : i + size]) for i in range(0, persons, size)]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    clock.lap("network")
    keypoints, scores = people.decode(outputs, matrices)
    poses = Poses(keypoints, scores, boxes, scores.mean(axis=1), people.weights.keypoint_set)
    clock.lap("codec")
    draw_poses(pixels, poses)
    clock.lap("draw")
    return poses, clock.seconds


def find_everybody(engine: Engine, data: bytes) -> tuple[Poses, dict[str, float]]:
    """The same with a network that finds persons itself."""
    clock = _Clock()
    pixels = decode_image(data, "the image")
    clock.lap("decode")
    people = BottomUp(engine)
    image, matrix, input_size = image_input(pixels, engine.weights)
    clock.lap("crop")
    outputs = engine(image)
    clock.lap("network")
    poses = people.decode(outputs, matrix, input_size)
    clock.lap("codec")
    draw_poses(pixels, poses)
    clock.lap("draw")
    return poses, clock.seconds


def boxes_in(image_size: tuple[int, int], persons: int) -> np.ndarray:
    """Lay boxes (N, 4) of half the image's height, a third of it wide, evenly over an image from left to right."""
    height, width = image_size
    w, h = min(height / 3, width / 2), height / 2
    left = np.linspace(0, width - w - 1, persons)
    top = np.where(np.arange(persons) % 2, height / 4, height / 3)
    return np.stack([left, top, left + w, top + h], axis=1).astype(np.float32)


def _row(
    run: Callable[[], tuple[Poses, dict[str, float]]], weights: Weights, engine: str, threads: int, persons: int
) -> Row:
    """Run until the medians are steady."""
    runs: list[dict[str, float]] = []
    began = time.perf_counter()
    while len(runs) < WARM_UP + FEWEST_RUNS or time.perf_counter() - began < SECONDS:
        runs.append(run()[1])
    steps = {step: 1000 * np.array([seconds[step] for seconds in runs[WARM_UP:]]) for step in runs[0]}
    low, high = np.percentile(sum(steps.values()), [10, 90])
    milliseconds = {step: float(np.median(steps[step])) for step in STEPS if step in steps}
    figures = {
        f"{figure.metric} ({str(figure).partition(' (')[2]}": figure.value
        for figure in weights.metrics
        if figure.metric in ("AP", "PCKh@0.5") and figure.value >= 0
        if not figure.flip_test and not figure.boxes.startswith("proposing")
    }
    return Row(weights.name, engine, threads, persons, milliseconds, float(high - low) / 2, _megabytes(), figures)


def _megabytes() -> float | None:
    """Return the largest memory that the process has taken so far."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, kilobytes elsewhere


def recommend(rows: Sequence[Row], fps: float) -> str:
    """Name the model of the best figure that finds the fewest persons of the plan at a frame rate.

    Only figures of one kind are compared; models without one of that kind come last, the fastest of them first.
    """
    fewest = min((row.persons for row in rows if row.persons), default=0)
    fitting = [row for row in rows if row.persons in (0, fewest) and row.frames_per_second >= fps]
    if not fitting:
        fastest = max(rows, key=lambda row: row.frames_per_second)
        return (
            f"No model reaches {fps:g} images per second here; {fastest.model} on {fastest.engine} is the fastest with "
            f"{fastest.frames_per_second:.1f}."
        )
    kind = comparable(rows)
    best = max(fitting, key=lambda row: (row.figures.get(kind or "", -1.0), row.frames_per_second))
    ranked = f"ranked by {kind}: {_percent(best, kind)}" if kind else "ranked by speed, since no model has a figure"
    return (
        f"For {fps:g} images per second here: --model {best.model} --engine {best.engine} --threads {best.threads} "
        f"({best.frames_per_second:.1f} a second; {ranked})"
    )
