"""From image files to result files: JSON, CSV, a COCO-style file, and images with the skeletons drawn in."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import cv2
import numpy as np
from tqdm import tqdm

from leanpose.commands.boxes import of_annotated_sizes, read_boxes
from leanpose.commands.choose import fast_enough
from leanpose.errors import InputError, note, renamed, suggest
from leanpose.inference.engines import EngineName
from leanpose.inference.predictor import DETECTORS, MODELS, Predictor
from leanpose.io.draw import draw_poses
from leanpose.io.files import write_bytes, write_text
from leanpose.io.images import REMEDY, SUFFIXES, VIDEOS, encoded, find_images, left_out
from leanpose.io.own_files import SOFTWARE, is_own
from leanpose.io.preflight import check_needs
from leanpose.io.results import Result, to_coco, to_csv, to_json
from leanpose.keypoint_sets import get_keypoint_set
from leanpose.structures import Poses
from leanpose.video import Smooth
from leanpose.video.source import is_video, videos_among
from leanpose.weights.download import weights_folder
from leanpose.weights.public import BEST, PUBLIC

DEFAULT_FORMATS = "json,image"
FORMATS = ("json", "csv", "coco", "image")
TABLES = {"csv": "poses.csv", "coco": "coco.json"}  # of all images
DRAWN_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # drawn images keep these; others become .png
MOST_UNWRITTEN = 8  # images that wait to be written
BLOCK = 0.004096  # MB; the least that a file takes on most disks


def predict_files(
    sources: list[str],
    model: str = "auto",
    boxes: str | None = None,
    out: str = "poses",
    format: str | None = None,
    flip_test: bool = False,
    min_score: float | None = None,
    min_person_score: float | None = None,
    detector: str = "auto",
    engine: EngineName = "auto",
    fps: float | None = None,
    keypoints: str | None = None,
    threads: int | None = None,
    device: str = "cpu",
    track: bool = False,
    detect_every: int = 1,
    smooth: Smooth = "off",
    as_video: bool = False,
    frame_rate: float | None = None,
    finder: str | None = None,
) -> None:
    """Find the keypoints of persons in images or videos and write them to files.

    Args:
        sources: image files, folders, globs or URLs; or video files, numbers of cameras, or addresses of streams.
        model: name or file (.onnx, .safetensors) of the network; public weights (`leanpose models --public`) are
            fetched when they are first named. "auto": the strongest that is on this machine.
        boxes: person boxes: "x1,y1,x2,y2" in pixels (several with spaces between), or a JSON file: image name ->
            list of boxes, or annotations of any form; or "image": the whole image is one person. "found", as
            without it: the detector finds the persons.
        out: folder for the results.
        format: any of json, csv, coco, image, with commas between; by default json,image. Of videos any of jsonl, csv,
            parquet, coco, openpose, posetrack, deeplabcut, movement, video; by default jsonl,video.
        flip_test: average with the mirrored crop: twice the time, a little more accurate.
        min_score: keypoints below this score are not drawn; by default 0.4 where the weights' scores are calibrated,
            0.2 where they are raw.
        min_person_score: persons that a detector found are left out below this score; by default 0.35, and 0.2
            for a network that finds persons itself.
        detector: name or file of the network that proposes persons, "auto" as for the model; "none": the whole image is
            one person. Networks that find persons themselves need none.
        engine: "auto", "onnxruntime", "openvino", "torch", "litert" or "ncnn".
        fps: choose model and detector by their speed here: the strongest on this machine that find one person in so
            many images per second.
        keypoints: carry the keypoints to this set by name, such as "coco" of a network with 26 keypoints.
        threads: threads of the network.
        device: "cpu"; "cuda", "tensorrt", "coreml" or "directml" with a build of ONNX Runtime that has them; "gpu" or
            "npu" with OpenVINO; "cuda" or "mps" with torch. A number, such as 0, is a GPU.
        track: of videos: give each person an identity.
        detect_every: of videos: frames from one detection to the next; between them persons are looked for where they
            should be.
        smooth: of videos: "off"; "live": each person's keypoints smoothed at once; "recorded": more, for files.
        as_video: take folders, globs and lists of images as one video, in natural order.
        frame_rate: images per second of such a video; by default 30.
        finder: the former name of detector; goes with the next release.
    """
    boxes = None if boxes == "found" else boxes
    detector = renamed(detector, finder)

    def load() -> Predictor:
        where: dict[str, Any] = {"engine": engine, "threads": threads, "device": device}
        chosen = (model, detector) if fps is None else _chosen(fps, model, detector, **where)
        predictor = Predictor(
            chosen[0],
            **where,
            flip_test=flip_test,
            detector=chosen[1] if boxes is None else None,
            min_person_score=min_person_score,
            keypoint_set=get_keypoint_set(keypoints) if keypoints else None,
        )
        _advise(predictor)
        return predictor

    if as_video or any(map(is_video, sources)):
        from leanpose.commands.predict_video import predict_videos

        if boxes is not None:
            raise InputError("--boxes is for images; in videos a detector finds the persons.")
        watched = {"track": track, "detect_every": detect_every, "smooth": smooth}
        predict_videos(videos_among(sources, as_video), load, Path(out), format, min_score, frame_rate, watched)
    elif track or (detect_every, smooth, frame_rate) != (1, "off", None):
        raise InputError(
            "--track, --detect-every, --smooth and --frame-rate are for videos; --as-video takes images as one."
        )
    else:
        _predict_images(sources, load, boxes, Path(out), DEFAULT_FORMATS if format is None else format, min_score)


def _chosen(fps: float, model: str, detector: str, **where: Any) -> tuple[str, str]:
    if (model, detector) != ("auto", "auto"):
        raise InputError("--fps chooses model and detector: leave --model and --detector out.")
    return fast_enough(fps, **where)


def _predict_images(
    sources: list[str],
    load: Callable[[], Predictor],
    boxes: str | None,
    out: Path,
    format: str,
    min_score: float | None,
) -> None:
    """Write the results of images; `load` gives the predictor, once all else is known to be in order."""
    formats = _parse_formats(format)
    images = find_images(sources)
    targets = {image: out / name for image, name in result_names(images).items()}
    places = [path for image in images for path in _places(image, targets[image], formats).values()]
    places += [out / table for form, table in TABLES.items() if form in formats]
    check_places(out, [*images, *([boxes] if boxes else [])], places)
    given = read_boxes(boxes, images)
    check_needs(places=places[:1], megabytes=len(places) * BLOCK)
    predictor = load()
    if predictor.bottom_up and boxes is not None:
        raise InputError(f"{predictor.weights.model} finds persons without boxes; leave --boxes out.")
    for folder in filter(os.path.isdir, sources):
        if others := left_out(folder):
            note(f"{others} in {folder} left out; {REMEDY}.")
    results: list[Result] = []
    each = [its.boxes for its in given]
    try:
        nearly = predictor.min_person_score / 2  # of the best candidate, where nobody is found
        with closing(predictor.stream(images, each, min_person_score=nearly, on_error="yield")) as candidates:
            sized = of_annotated_sizes(images, given, candidates)
            faults = _write_each(images, sized, targets, formats, min_score, results, predictor)
    finally:  # what is done is not lost, whatever ends the run
        _write_tables(results, out, formats, predictor.provenance)
    if faults:
        raise InputError(f"{faults} of {len(images)} images could not be used; they are named above.")


def _advise(predictor: Predictor) -> None:
    """Say once, on a machine without public weights, that they find far more."""
    detector = predictor.provenance["detector"] or DETECTORS[-1]  # which is loaded now, before the work begins
    bundled = predictor.weights.name.startswith(MODELS[-1]) and detector.startswith(DETECTORS[-1])
    told = weights_folder() / ".told"
    if bundled and not told.exists():
        size = sum(PUBLIC[name].size for name in BEST) / 1e6
        note(f"`leanpose download best` ({' and '.join(BEST)}, {size:.0f} MB, Apache-2.0) finds far more.")
        with suppress(OSError):
            told.parent.mkdir(parents=True, exist_ok=True)
            told.touch()


def _write_each(
    images: list[str],
    found: Iterable[tuple[np.ndarray, Poses] | InputError],
    targets: dict[str, Path],
    formats: set[str],
    min_score: float | None,
    results: list[Result],
    predictor: Predictor,
) -> int:
    """Write the files of each image in a thread of their own while the next ones are worked on.

    Of `found`, all candidates, those of the predictor's least score are put into `results`.

    Returns:
        How many images could not be used or their files not written; they are reported, a single one is raised.
    """
    faults, alone = 0, len(images) == 1
    least, provenance = predictor.min_person_score if predictor.searches else 0.0, predictor.provenance
    bar = tqdm(images, "predicting", unit="image", disable=True if alone else None)
    with ThreadPoolExecutor(1) as writer:
        writing: deque[tuple[str, Future[list[Path]]]] = deque()
        try:
            for source, result in zip(bar, found, strict=True):
                if isinstance(result, InputError):
                    faults += _report_fault(result, alone)
                    continue
                image, candidates = result
                poses = candidates[candidates.person_scores >= least]
                results.append((source, (image.shape[0], image.shape[1]), poses))
                written = writer.submit(
                    _write_one, image, poses, source, targets[source], formats, min_score, provenance
                )
                writing.append((f"{source}: {_counted(poses, candidates)}", written))
                if len(writing) > MOST_UNWRITTEN:
                    faults += _report(*writing.popleft(), alone)
        finally:
            while writing:
                faults += _report(*writing.popleft(), alone)
    return faults


def _counted(poses: Poses, candidates: Poses) -> str:
    """Return how many persons were found; where there are none, the score of the best candidate."""
    if len(poses) or not len(candidates):
        return "1 person" if len(poses) == 1 else f"{len(poses)} persons"
    return f"0 persons (best candidate {_down(candidates.person_scores.max())}, see --min-person-score)"


def _down(score: float) -> float:
    """Round a score down to two places, so that it is a threshold that shows the person."""
    return int(100 * score) / 100


def _report(line: str, written: Future[list[Path]], alone: bool) -> int:
    """Print the line of an image with its files once they are written; return the number of faults."""
    try:
        paths = written.result()
    except InputError as error:
        return _report_fault(error, alone)
    tqdm.write(line + "".join(f", {path}" for path in paths))
    return 0


def _report_fault(error: InputError, alone: bool) -> int:
    if alone:
        raise error
    tqdm.write(f"leanpose: {error}", file=sys.stderr)
    return 1


def _write_tables(results: list[Result], folder: Path, formats: set[str], provenance: dict[str, Any]) -> None:
    """Write the files that hold all images, and print their names."""
    try:
        if "csv" in formats and results:
            write_text(folder / TABLES["csv"], to_csv(results))
            print(f"all images: {folder / TABLES['csv']}")
    finally:
        if "coco" in formats and results:
            write_text(folder / TABLES["coco"], json.dumps(to_coco(results, provenance)))
            print(f"all images: {folder / TABLES['coco']}")


def _parse_formats(text: str) -> set[str]:
    formats = {name.strip() for name in text.split(",")}
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"There is no format '{name}'.{suggest(name, FORMATS)}")
    return formats


def result_names(images: Iterable[str]) -> dict[str, str]:
    """Return for each image or video a file name without suffix, its own where no other result has the same. Folders
    keep what follows a dot.

    Capital and small letters count as the same, as they do on the disks of Windows and macOS.
    """
    names: dict[str, str] = {}
    taken = {Path(table).stem for table in TABLES.values()}
    numbers: Counter[str] = Counter()
    for image in images:
        path = _path_of(image)
        stem = name = (path.resolve().name if path.is_dir() else path.stem) or "image"
        while name.casefold() in taken:
            numbers[stem.casefold()] += 1
            name = f"{stem}-{numbers[stem.casefold()] + 1}"
        names[image] = name
        taken.add(name.casefold())
    return names


def _path_of(image: str) -> Path:
    return Path(urlparse(image).path if "://" in image else image)


def _places(source: str, target: Path, formats: set[str]) -> dict[str, Path]:
    """Return the files that belong to one image: format -> path."""
    suffix = _path_of(source).suffix.lower()
    suffixes = {"json": ".json", "image": suffix if suffix in DRAWN_SUFFIXES else ".png"}
    return {form: target.with_name(target.name + suffixes[form]) for form in suffixes if form in formats}


def check_places(out: Path, read: Iterable[str], written: Iterable[Path]) -> None:
    """Raise InputError where `out` is no folder, or a result would take the place of a file that is read, or that
    leanpose did not write.
    """
    if out.suffix.lower() in (".csv", ".json", ".jsonl", *VIDEOS.split(), *SUFFIXES) and not os.path.isdir(out):
        raise InputError(f"--out is a folder, not a file: --out {out.with_suffix('')} puts the results into it.")
    sources = {os.path.realpath(name) for name in read}
    for path in written:
        if os.path.realpath(path) in sources:
            raise InputError(f"The results would overwrite {path}; choose another folder with --out.")
        if os.path.lexists(path) and not is_own(path):
            raise InputError(
                f"The results would overwrite {path}, which leanpose did not write; choose another folder with --out."
            )


def _write_one(
    image: np.ndarray,
    poses: Poses,
    source: str,
    target: Path,
    formats: set[str],
    min_score: float | None,
    provenance: dict[str, Any],
) -> list[Path]:
    """Write the files that belong to one image; return their names."""
    places = _places(source, target, formats)
    if "json" in places:
        write_text(places["json"], json.dumps(to_json(source, image.shape[:2], poses, provenance), indent=1))
    if "image" in places:
        drawn = cv2.cvtColor(draw_poses(image, poses, min_score=min_score), cv2.COLOR_RGB2BGR)
        write_bytes(places["image"], encoded(drawn, places["image"], SOFTWARE))
    return list(places.values())
