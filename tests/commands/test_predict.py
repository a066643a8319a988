"""`leanpose predict`: result files in every format, boxes from every source, nothing half-written."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import leanpose
from leanpose.commands.predict import predict_files, result_names
from leanpose.data.annotations import open_annotations
from leanpose.errors import InputError, LeanposeError, WeightsError
from leanpose.inference.predictor import Predictor
from leanpose.io.images import read_image
from leanpose.io.results import to_coco, to_csv
from leanpose.keypoint_sets import COCO
from leanpose.structures import Poses
from leanpose.weights.record import Weights

ASTRONAUT = Path(__file__).parents[2] / "docs" / "assets" / "astronaut.png"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images of one name in two folders, made current: one/her.png (256 x 256) and two/her.jpg (128 x 120)."""
    half = cv2.resize(read_image(ASTRONAUT)[..., ::-1], (256, 256), interpolation=cv2.INTER_AREA)
    for name, image in (("one/her.png", half), ("two/her.jpg", half[:120, 30:158])):
        (tmp_path / name).parent.mkdir()
        cv2.imwrite(str(tmp_path / name), image)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_in(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def persons(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["persons"]


def test_all_formats_of_two_images_of_one_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict_files(["one", "two"], boxes="image", out="out", format="json,csv,coco, image", threads=1)
    out = folder / "out"
    assert files_in(out) == ["coco.json", "her-2.jpg", "her-2.json", "her.json", "her.png", "poses.csv"]
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines() == [
        f"{Path('one/her.png')}: 1 person, {Path('out/her.json')}, {Path('out/her.png')}",
        f"{Path('two/her.jpg')}: 1 person, {Path('out/her-2.json')}, {Path('out/her-2.jpg')}",
        f"all images: {Path('out/poses.csv')}",
        f"all images: {Path('out/coco.json')}",
    ]

    result = json.loads((out / "her-2.json").read_text())
    assert (result["image"], result["width"], result["height"]) == (str(Path("two/her.jpg")), 128, 120)
    assert result["keypoint_set"] == "coco"
    assert list(result["persons"][0]["keypoints"]) == list(COCO.keypoints)
    expected = Predictor("sfm", threads=1, detector=None)("two/her.jpg").to_dicts()
    assert result["persons"] == expected

    drawn, plain = read_image(out / "her.png"), read_image("one/her.png")
    assert drawn.shape == plain.shape
    assert 0.005 < (drawn != plain).any(axis=2).mean() < 0.5


def test_csv(folder: Path) -> None:
    predict_files(["one", "two"], out="out", format="csv", boxes="10,10,100,110 30,5,90,115", threads=1)
    assert files_in(folder / "out") == ["poses.csv"]
    with open("out/poses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["person"]) for row in rows] == [
        (str(Path(name)), str(i)) for name in ("one/her.png", "two/her.jpg") for i in range(2)
    ]
    assert [float(rows[1][key]) for key in ("x1", "y1", "x2", "y2")] == [30, 5, 90, 115]
    poses = Predictor("sfm", threads=1, detector=None)("two/her.jpg", [[10, 10, 100, 110], [30, 5, 90, 115]])
    found = [[float(rows[3][f"{name}_{part}"]) for part in ("x", "y")] for name in COCO.keypoints]
    np.testing.assert_allclose(found, poses.keypoints[1], atol=0.0051)
    assert float(rows[3]["nose_score"]) == pytest.approx(poses.scores[1, 0], abs=0.0001)
    assert float(rows[3]["score"]) == pytest.approx(poses.person_scores[1], abs=0.0001)


def test_boxes_of_other_images_only(folder: Path) -> None:
    Path("boxes.json").write_text(json.dumps({"his.png": [BOX]}))
    with pytest.raises(InputError, match=r"boxes\.json names none of the images"):
        predict_files(["one", "two"], boxes="boxes.json", out="out", threads=1)


def made_up(scores: np.ndarray, x: float) -> Poses:
    n = len(scores)
    keypoints = np.full((n, 17, 2), x, np.float32)
    boxes = np.tile(np.array([x, x, x + 10, x + 20], np.float32), (n, 1))
    return Poses(keypoints, scores.astype(np.float32), boxes, np.ones(n, np.float32), COCO)


def test_csv_keeps_the_places_in_very_large_images() -> None:
    text = to_csv([("a.tif", (20000, 20000), made_up(np.ones((1, 17)), 12345.678))])
    assert "12345.68" in text.splitlines()[1].split(",")[7:9] and "e+" not in text


def test_csv_without_persons_has_its_header() -> None:
    text = to_csv([("a.jpg", (10, 10), Poses.empty(COCO))])
    assert text.startswith("image,person,score,x1,y1,x2,y2,nose_x,nose_y,nose_score,")
    header, row = text.splitlines()
    assert row == "a.jpg" + "," * header.count(",")


def test_coco_file_can_be_read_as_annotations(folder: Path) -> None:
    predict_files(["one", "two"], out="out", format="coco", boxes="20,0,127,119 60,0,127,119", threads=1)
    samples = open_annotations(folder / "out" / "coco.json", folder).samples()
    assert [Path(s.image_path) for s in samples] == [folder / "one/her.png"] * 2 + [folder / "two/her.jpg"] * 2
    poses = Predictor("sfm", threads=1, detector=None)("two/her.jpg", [[20, 0, 127, 119], [60, 0, 127, 119]])
    height, width = read_image("two/her.jpg").shape[:2]
    there = poses.present((height, width))
    assert there.any() and not there.all()
    for i, (sample, labelled) in enumerate(zip(samples[2:], there, strict=True)):
        np.testing.assert_array_equal(sample.visibility > 0, labelled)
        np.testing.assert_allclose(sample.keypoints[labelled], poses.keypoints[i, labelled], atol=1e-3)
        np.testing.assert_allclose(sample.box_xyxy, poses.boxes_xyxy[i] - (0, 0, 1, 1), atol=0.01)
    content = json.loads((folder / "out" / "coco.json").read_text())
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3, 4]
    assert content["images"][0] == {"id": 1, "file_name": str(Path("one/her.png")), "width": 256, "height": 256}


def test_coco_file_marks_weak_and_absent_keypoints_as_unlabelled() -> None:
    scores = np.full((1, 17), 0.9)
    scores[0, 3] = 0.1
    poses = made_up(scores, 5)
    poses.keypoints[0, 4] = np.nan
    annotation = to_coco([("a.jpg", (50, 40), poses)], {})["annotations"][0]
    assert annotation["keypoints"][:9] == [5, 5, 2] * 3 and annotation["keypoints"][9:15] == [0] * 6
    assert (annotation["num_keypoints"], annotation["area"], annotation["bbox"]) == (15, 200, [5, 5, 10, 20])


BOX = [10.0, 10.0, 100.0, 110.0]


def coco_boxes() -> dict[str, Any]:
    return {
        "images": [{"id": 5, "file_name": "her.jpg", "width": 128, "height": 120}, {"id": 6, "file_name": "x.jpg"}],
        "annotations": [
            {"image_id": 5, "bbox": [10, 10, 91, 101]},
            {"image_id": 6, "bbox": [0, 0, 5, 5]},
            {"image_id": 5, "bbox": [0, 0, 50, 50], "iscrowd": 1},
            {"image_id": 5, "bbox": [0, 0, 0, 0]},
        ],
    }


@pytest.mark.parametrize(
    "boxes",
    [
        "10,10,100,110",
        "1e1,10.0,100,110",
        {"her.jpg": [BOX]},
        {"her.jpg": BOX},
        {"two/her.jpg": [BOX], "her.jpg": [[0, 0, 5, 5]]},  # the whole name before the last part
        coco_boxes(),
    ],
)
def test_boxes(folder: Path, boxes: str | dict[str, Any]) -> None:
    if isinstance(boxes, dict):
        Path("boxes.json").write_text(json.dumps(boxes))
        boxes = "boxes.json"
    predict_files(["two/her.jpg"], boxes=boxes, out="out", format="json", threads=1)
    assert (
        persons(folder / "out" / "her.json")
        == Predictor("sfm", threads=1, detector=None)("two/her.jpg", BOX).to_dicts()
    )


def test_boxes_reach_beyond_the_image(folder: Path) -> None:
    predict_files(["two/her.jpg"], boxes="-20,-5,100,300", out="out", format="json", threads=1)
    assert persons(folder / "out" / "her.json")[0]["box_xyxy"] == [-20, -5, 100, 300]


def test_an_image_that_the_boxes_do_not_name_has_no_person(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("boxes.json").write_text(json.dumps({"her.png": [BOX]}))
    predict_files(["one", "two"], boxes="boxes.json", out="out", threads=1)
    assert [len(persons(folder / "out" / name)) for name in ("her.json", "her-2.json")] == [1, 0]
    assert "0 persons" in capsys.readouterr().out
    np.testing.assert_allclose(read_image("out/her-2.jpg").astype(int), read_image("two/her.jpg"), atol=40)


@pytest.mark.parametrize("form", ["json", "coco"])
def test_the_boxes_file_is_never_overwritten(folder: Path, form: str) -> None:
    boxes = folder / "out" / {"json": "her.json", "coco": "coco.json"}[form]
    boxes.parent.mkdir()
    boxes.write_text(json.dumps({"her.png": [BOX]}))
    with pytest.raises(InputError, match="would overwrite"):
        predict_files(["one/her.png"], boxes=str(boxes), out="out", format=form, threads=1)
    assert json.loads(boxes.read_text()) == {"her.png": [BOX]}


def annotated(**changes: Any) -> dict[str, Any]:
    """A COCO-style file with one person of image her.jpg, some values of the person replaced or taken out (...)."""
    person = {"image_id": 5, "bbox": [10, 10, 91, 101]} | changes
    person = {key: value for key, value in person.items() if value is not ...}
    return {"images": [{"id": 5, "file_name": "her.jpg"}], "annotations": [person]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "boxes.json is not valid JSON"),
        (json.dumps([[0, 0, 1, 1]]), "must map image names to lists of boxes"),
        (json.dumps({"her.jpg": "all"}), r"boxes\.json: her\.jpg: Boxes must be numbers"),
        (json.dumps({"her.jpg": None}), r"boxes\.json: her\.jpg: Boxes must be numbers"),
        (json.dumps({"his.jpg": "all", "her.jpg": [BOX]}), r"boxes\.json: his\.jpg: Boxes must be numbers"),
        (json.dumps({"her.jpg": [[0, 0, 1]]}), r"boxes\.json: her\.jpg: .*shape \(N, 4\)"),
        ('{"her.jpg": [[0, 0, NaN, 5]]}', r"boxes\.json: her\.jpg: .*not a number"),
        ('{"her.jpg": [], "her.jpg": []}', 'boxes.json has the key "her.jpg" twice in one object'),
        (json.dumps({"images": 3, "annotations": []}), "no COCO-style file"),
        (json.dumps({"images": [3], "annotations": []}), "image 0 must be a mapping of keys to values"),
        (json.dumps({"images": [{"id": 1}], "annotations": []}), "image 0 lacks the key 'file_name'"),
        (json.dumps({"images": [{"id": [1], "file_name": "a"}], "annotations": []}), "'id' of image 0 must be"),
        (json.dumps(annotated(image_id=...)), "annotation 0 lacks the key 'image_id'"),
        (json.dumps(annotated(image_id=7)), "annotation 0 belongs to image 7, not in 'images'"),
        *(
            (json.dumps(annotated(bbox=box)), "annotation 0: 'bbox' must be 4 numbers")
            for box in ([1, 2, 3], [1, 2, 3, "wide"], [1, 2, 3, None], [1, 2, 3, float("nan")], [1, 2, 3, 10**400], 5)
        ),
    ],
)
def test_unusable_box_files(folder: Path, content: str, message: str) -> None:
    Path("boxes.json").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        predict_files(["two/her.jpg"], boxes="boxes.json", out="out", threads=1)
    assert "\n" not in str(caught.value)
    assert not Path("out").exists()


@pytest.mark.parametrize("boxes", ["", " ", "all", "1,2,3", "1,2,3,4,5", "1,2,3,x", "1, 2, 3, 4", "1,2,3,4 5,6"])
def test_unusable_box_texts(folder: Path, boxes: str) -> None:
    with pytest.raises(InputError, match=r"Boxes must be x1,y1,x2,y2 in pixels, a \.json file or 'image'"):
        predict_files(["two/her.jpg"], boxes=boxes, out="out", threads=1)
    assert not Path("out").exists()


def test_one_bad_image_among_three(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("cut.jpg").write_bytes(Path("two/her.jpg").read_bytes()[:500])
    with pytest.raises(InputError, match="1 of 3 images could not be used; they are named above"):
        predict_files(
            ["one/her.png", "cut.jpg", "two/her.jpg"], boxes="image", out="out", format="json,csv,coco", threads=1
        )
    assert capsys.readouterr().err == "leanpose: cut.jpg is cut off: its end is missing; copy or download it again.\n"
    assert files_in(folder / "out") == ["coco.json", "her-2.json", "her.json", "poses.csv"]
    names = [image["file_name"] for image in json.loads(Path("out/coco.json").read_text())["images"]]
    assert names == ["one/her.png", "two/her.jpg"]


def test_a_box_that_fits_one_image_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="1 of 2 images"):
        predict_files(["one", "two"], out="out", format="json", boxes="150,150,250,250", threads=1)
    assert "lies outside the image of 128 x 120 pixels" in capsys.readouterr().err
    assert files_in(folder / "out") == ["her.json"]


def test_all_images_bad(folder: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        Path(name).write_text("no image")
    with pytest.raises(InputError, match="2 of 2 images"):
        predict_files(["a.jpg", "b.jpg"], boxes="image", out="out", format="json,csv,coco,image", threads=1)
    assert not Path("out").exists()


def test_an_image_given_twice_is_written_once(folder: Path) -> None:
    predict_files(["one/her.png", "one", "one/*.png"], boxes="image", out="out", format="json,coco", threads=1)
    assert files_in(folder / "out") == ["coco.json", "her.json"]
    assert len(json.loads(Path("out/coco.json").read_text())["images"]) == 1


def test_images_named_as_the_common_files(folder: Path) -> None:
    for name in ("coco.png", "poses.png"):
        Path(name).write_bytes(Path("one/her.png").read_bytes())
    predict_files(["coco.png", "poses.png"], boxes="image", out="out", format="json,csv,coco", threads=1)
    assert files_in(folder / "out") == ["coco-2.json", "coco.json", "poses-2.json", "poses.csv"]
    assert len(persons(folder / "out" / "coco-2.json")) == 1


@pytest.mark.parametrize(
    ("sources", "out"),
    [(["one/her.png"], "one"), (["one/her.png"], "two/../one"), (["two/her.png", "one/her.png"], "one")],
)
def test_images_are_never_overwritten(folder: Path, sources: list[str], out: str) -> None:
    Path("two/her.png").write_bytes(Path("one/her.png").read_bytes())
    before = {name: (folder / name).read_bytes() for name in files_in(folder)}
    with pytest.raises(InputError, match=r"would overwrite .*her\.png; choose another folder with --out"):
        predict_files(sources, boxes="image", out=out, threads=1)
    assert {name: (folder / name).read_bytes() for name in files_in(folder)} == before
    predict_files(
        ["one/her.png"], boxes="image", out="one", format="json", threads=1
    )  # a JSON file beside the image is fine
    assert files_in(folder / "one") == ["her.json", "her.png"]


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("a.bmp", "a.png"),
        ("a.tiff", "a.png"),
        ("a.JPEG", "a.jpeg"),
        ("a.webp", "a.webp"),
        ("a#1.jpg", "a#1.jpg"),
        ("a?x.jpg", "a?x.jpg"),
        ("noextension", "noextension.png"),
        (".hidden.png", ".hidden.png"),
    ],
)
def test_kind_of_the_drawn_image(folder: Path, name: str, drawn: str) -> None:
    suffix = Path(name).suffix or ".png"
    Path(name).write_bytes(cv2.imencode(suffix.lower(), read_image("one/her.png"))[1].tobytes())
    predict_files([name], boxes="image", out="out", format="image", threads=1)
    assert files_in(folder / "out") == [drawn]
    assert read_image(folder / "out" / drawn).shape == (256, 256, 3)


def test_old_results_are_replaced(folder: Path) -> None:
    for boxes in ("10,10,100,110", "10,10,100,110 20,20,90,90"):
        predict_files(["one/her.png"], out="out", format="json", boxes=boxes, threads=1)
    assert files_in(folder / "out") == ["her.json"] and len(persons(folder / "out" / "her.json")) == 2


@pytest.mark.parametrize("text", ["jsn", "", "json,", "json;csv"])
def test_unknown_formats(folder: Path, text: str) -> None:
    with pytest.raises(InputError, match="There is no format"):
        predict_files(["one/her.png"], out="out", format=text)
    assert not Path("out").exists()


# Makes every file larger than some bytes fail as on a full disk.
FULL_DISK = """
import resource, signal, sys
from leanpose.commands.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


def run_on_a_full_disk(largest: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", FULL_DISK, str(largest), *words, "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(ASTRONAUT.parents[2])}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the file size exist on Unix only")
@pytest.mark.parametrize("form", ["json", "csv", "coco", "image"])
def test_full_disk(folder: Path, form: str) -> None:
    out = folder / "out"
    run = run_on_a_full_disk(300, "predict", "one/her.png", "--boxes", "image", "--out", str(out), "--format", form)
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("leanpose: ") and run.stderr.count("\n") == 1
    assert "cannot be written (File too large); free space" in run.stderr
    assert files_in(out) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the file size exist on Unix only")
def test_full_disk_keeps_older_results_whole(folder: Path) -> None:
    predict_files(["one/her.png"], boxes="image", out="out", threads=1)
    before = {name: (folder / "out" / name).read_bytes() for name in files_in(folder / "out")}
    run = run_on_a_full_disk(5000, "predict", "one/her.png", "--out", "out", "--boxes", "10,10,100,110")
    assert run.returncode == 2, run.stderr
    after = {name: (folder / "out" / name).read_bytes() for name in files_in(folder / "out")}
    assert after.keys() == before.keys()
    assert after["her.png"] == before["her.png"]
    assert len(persons(folder / "out" / "her.json")) == 1


def test_one_image_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its name leaves no room for a suffix; the others and the tables are written."""
    long = "x" * 251 + ".png"
    Path(long).write_bytes(Path("one/her.png").read_bytes())
    with pytest.raises(InputError, match="1 of 3 images could not be used; they are named above"):
        predict_files(["one", long, "two"], boxes="image", out="out", format="json,csv", threads=1)
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "xxx.json cannot be written (File name too long)" in printed.err
    assert len(printed.out.splitlines()) == 3  # two images and a table
    assert files_in(folder / "out") == ["her-2.json", "her.json", "poses.csv"]
    assert len(Path("out/poses.csv").read_text().splitlines()) == 4  # nothing that was found is lost


@pytest.mark.parametrize("stem", ["x" * 250, "人体姿势估计" * 13 + "人体姿势"])
def test_names_as_long_as_disks_allow(folder: Path, stem: str) -> None:
    Path(f"{stem}.png").write_bytes(Path("one/her.png").read_bytes())
    predict_files([f"{stem}.png"], boxes="image", out="out", format="json,image", threads=1)
    assert files_in(folder / "out") == [f"{stem}.json", f"{stem}.png"]


@pytest.mark.parametrize("end", [KeyboardInterrupt(), RuntimeError("a fault of ours"), WeightsError("NaN")])
def test_the_tables_of_what_is_done_are_written(
    end: BaseException, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stream(self: Predictor, images: list[str], boxes: Any, **options: Any) -> Iterator[Any]:
        for image in images[:2]:
            yield read_image(image), self(image, boxes[0])
        raise end

    monkeypatch.setattr(Predictor, "stream", stream)
    with pytest.raises(type(end)):
        predict_files(["one", "two", str(ASTRONAUT)], boxes="image", out="out", format="json,csv,coco", threads=1)
    assert files_in(folder / "out") == ["coco.json", "her-2.json", "her.json", "poses.csv"]
    assert len(capsys.readouterr().out.splitlines()) == 4  # two images, two tables
    assert len(json.loads(Path("out/coco.json").read_text())["images"]) == 2


def test_kinds_that_a_folder_leaves_out_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one/a.heic", "one/b.HEIC", "one/c.mp4", "one/notes.txt", "one/._her.png"):
        Path(name).write_bytes(b"something")
    predict_files(["one", "two"], boxes="image", out="out", format="json", threads=1)
    assert capsys.readouterr().err == (
        "leanpose: 2 .heic, 1 .mp4 in one left out; convert images to JPEG or PNG, and give videos by their names.\n"
    )


def test_results_of_a_folder_have_its_whole_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = tmp_path / "walk.2024.05.01"
    walk.mkdir()
    monkeypatch.chdir(walk)
    assert result_names([str(walk)]) == {str(walk): walk.name} and result_names(["."]) == {".": walk.name}


def test_result_names_differ() -> None:
    """Also where a disk takes capital and small letters for the same, or a name looks like a number of ours."""
    names = result_names(["a/x.jpg", "b/x.jpg", "x-2.jpg", "X.jpg", "c/x.png", "http://host/", "coco.png"])
    assert list(names.values()) == ["x", "x-2", "x-2-2", "X-3", "x-4", "image", "coco-2"]


def test_names_of_many_images_of_one_name() -> None:
    count = 50_000  # pairwise comparisons would take minutes
    names = result_names(f"clip{i}/frame.jpg" for i in range(count))
    assert names["clip0/frame.jpg"] == "frame" and names[f"clip{count - 1}/frame.jpg"] == f"frame-{count}"


@pytest.mark.parametrize("missing", ["detector", "disk", "folder"])
def test_what_is_missing_is_said_before_the_work(
    missing: str, folder: Path, two_networks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = {"detector": "There is no file", "disk": "has room for 0 MB: free space", "folder": "cannot be written"}
    if missing == "disk":
        monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 0))
    out = "two.png/out" if missing == "folder" else "new/out"
    with pytest.raises(LeanposeError, match=messages[missing]):
        predict_files(["two.png", "none.png"], "crops", out=out, detector="al.onnx" if missing == "detector" else "all")
    assert two_networks["crops"].calls == two_networks["all"].calls == []
    assert not Path("new").exists()


@pytest.mark.parametrize("broken", ["all", "crops"])
def test_a_network_that_gives_nan_is_named(
    broken: str, folder: Path, two_networks: dict[str, Any], rectangle_people: Rectangles
) -> None:
    class Broken(rectangle_people):
        def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
            return {name: maps * np.float32(np.nan) for name, maps in super().__call__(images).items()}

    two_networks[broken] = Broken(two_networks[broken].weights)
    models = ["all", "crops"] if broken == "all" else ["crops"]
    for model in models:
        with pytest.raises(WeightsError, match=r"The network (all\.coco_256x256|crops) gives NaN"):
            predict_files(["two.png", "none.png"], model, out="out", format="json,csv,coco,image", detector="all")
    assert not Path("out").exists()


Rectangles = Any  # the class RectanglePeople of conftest.py
TOP_DOWN = Weights("crops", "crops", (128, 96), codec="dark", codec_options={"sigma": 2.0})
BOTTOM_UP = Weights(
    "all.coco_256x256", "all", (256, 256), task="bottom_up", convention="classic", codec="associative_embedding"
)
PEOPLE = {"red": (30, 20, 130, 300, 250), "green": (200, 40, 330, 310, 150)}


@pytest.fixture
def two_networks(folder: Path, networks: dict[str, Any], rectangle_people: Rectangles) -> dict[str, Any]:
    """Two networks that can be loaded, "crops" and "all", and in the folder two.png with two persons, none.png."""
    networks |= {"crops": rectangle_people(TOP_DOWN), "all": rectangle_people(BOTTOM_UP)}
    for name, boxes in (("two.png", PEOPLE), ("none.png", {})):
        cv2.imwrite(name, rectangle_people.image(330, 500, **boxes)[..., ::-1])
    return networks


@pytest.mark.parametrize("words", [{"model": "all"}, {"model": "crops", "detector": "all"}], ids=["all", "crops"])
def test_a_detector_finds_the_persons(words: dict[str, str], folder: Path, two_networks: dict[str, Any]) -> None:
    predict_files(["two.png"], out="out", format="json,csv,coco,image", **words)  # type: ignore[arg-type]
    assert files_in(folder / "out") == ["coco.json", "poses.csv", "two.json", "two.png"]
    found = persons(folder / "out" / "two.json")
    assert found == Predictor(**words)("two.png").to_dicts()  # type: ignore[arg-type]
    assert len(found) == 2 and found[0]["score"] > found[1]["score"]
    noses = [(person["keypoints"]["nose"]["x"], person["keypoints"]["nose"]["y"]) for person in found]
    np.testing.assert_allclose(noses, [[79.5, 44.7], [264.5, 63.8]], atol=5)
    assert len(Path("out/poses.csv").read_text().splitlines()) == 3
    assert len(json.loads(Path("out/coco.json").read_text())["annotations"]) == 2
    drawn, plain = read_image("out/two.png"), read_image("two.png")
    assert (drawn[:, :165] != plain[:, :165]).any() and (drawn[:, 165:] != plain[:, 165:]).any()


@pytest.mark.parametrize("words", [{"model": "all"}, {"model": "crops", "detector": "all"}], ids=["all", "crops"])
def test_an_image_of_nobody_is_no_fault(
    words: dict[str, str], folder: Path, two_networks: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    predict_files(["none.png"], out="out", format="json,csv,coco,image", **words)  # type: ignore[arg-type]
    assert "none.png: 0 persons, " in capsys.readouterr().out
    assert files_in(folder / "out") == ["coco.json", "none.json", "none.png", "poses.csv"]
    result = json.loads(Path("out/none.json").read_text())
    made = result.pop("leanpose")
    assert result == {"image": "none.png", "width": 500, "height": 330, "keypoint_set": "coco", "persons": []}
    detector = two_networks[words["detector"]].weights.name if "detector" in words else None
    assert made == {
        "version": leanpose.__version__,
        "model": two_networks[words["model"]].weights.name,
        "sha256": None,
        "detector": detector,
        "flip_test": False,
        "min_person_score": 0.35 if detector else 0.2,
        "calibrated": False,
    }
    assert json.loads(Path("out/coco.json").read_text())["info"]["leanpose"] == made
    np.testing.assert_array_equal(read_image("out/none.png"), read_image("none.png"))
    assert Path("out/poses.csv").read_text().splitlines()[1].rstrip(",") == "none.png"
    content = json.loads(Path("out/coco.json").read_text())
    assert (len(content["images"]), content["annotations"], len(content["categories"])) == (1, [], 1)


@pytest.mark.parametrize("model", ["all", "crops"])
def test_weak_persons_are_left_out(model: str, folder: Path, two_networks: dict[str, Any]) -> None:
    for least, count in ((0.0, 2), (0.2, 2), (0.7, 1), (1.0, 0)):
        predict_files(["two.png"], model, out="out", format="json", detector="all", min_person_score=least)
        assert len(persons(folder / "out" / "two.json")) == count


def test_where_nobody_is_found_the_best_candidate_is_named(
    folder: Path, two_networks: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    best = Predictor("all", min_person_score=0)("two.png").person_scores.max()
    predict_files(["two.png"], "all", out="out", format="json", min_person_score=1.0)
    named = f"{int(100 * best) / 100}"
    assert f"two.png: 0 persons (best candidate {named}, see --min-person-score), " in capsys.readouterr().out
    predict_files(["two.png"], "all", out="out", format="json", min_person_score=float(named))
    assert len(persons(folder / "out" / "two.json")) == 1


def test_the_same_words_for_boxes_as_elsewhere(folder: Path, two_networks: dict[str, Any]) -> None:
    for out, boxes, detector in (("a", None, "all"), ("b", "found", "all"), ("c", "image", "all"), ("d", None, "none")):
        predict_files(["two.png"], "crops", boxes, out, "json", detector=detector)
    searched, found, image, none = (persons(folder / out / "two.json") for out in "abcd")
    assert len(searched) == 2 and found == searched and len(image) == 1 and none == image


def test_the_whole_image_as_one_person(folder: Path, two_networks: dict[str, Any]) -> None:
    """Also in several images, whatever their size, without a detector, and however weak the person is."""
    predict_files(
        ["two.png", "one", "none.png"], "crops", "image", "out", "json", detector="absent", min_person_score=1
    )
    for name, box in (("two", [0, 0, 499, 329]), ("her", [0, 0, 255, 255]), ("none", [0, 0, 499, 329])):
        assert [person["box_xyxy"] for person in persons(folder / "out" / f"{name}.json")] == [box]
    assert two_networks["all"].calls == []


def test_given_boxes_need_no_detector(folder: Path, two_networks: dict[str, Any]) -> None:
    Path("boxes.json").write_text(json.dumps({"two.png": [[30, 20, 130, 300]]}))
    for boxes in ("30,20,130,300", "boxes.json"):
        predict_files(["two.png"], "crops", boxes, "out", "json", detector="absent", min_person_score=1)
        assert len(persons(folder / "out" / "two.json")) == 1
    predict_files(["two.png", "none.png"], "crops", "boxes.json", "out", "json", detector="absent")
    assert persons(folder / "out" / "none.json") == []  # it is not searched either


@pytest.mark.parametrize("boxes", ["image", "0,0,50,50", "boxes.json"])
def test_a_bottom_up_network_takes_no_boxes(boxes: str, folder: Path, two_networks: dict[str, Any]) -> None:
    """One sentence, not one per image."""
    Path("boxes.json").write_text(json.dumps({"two.png": [[30, 20, 130, 300]]}))
    with pytest.raises(InputError, match=r"^all finds persons without boxes; leave --boxes out"):
        predict_files(["two.png", "none.png"], "all", boxes, "out", "json")
    assert two_networks["all"].calls == [] and not Path("out").exists()


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        ("al.onnx", r"There is no file al\.onnx"),
        ("crops", "crops finds one person per crop"),
        ("nobody", "There are no weights 'nobody'"),
    ],
)
def test_unusable_detectors(detector: str, message: str, folder: Path, two_networks: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        predict_files(["two.png", "none.png"], "crops", out="out", detector=detector)
    assert "\n" not in str(caught.value)
    assert not Path("out").exists()


def test_lacking_keypoints_in_every_format(
    folder: Path, two_networks: dict[str, Any], rectangle_people: Rectangles
) -> None:
    record = replace(BOTTOM_UP, codec_options={"refine": False})
    two_networks["partly"] = rectangle_people(record, absent=("nose", "left_ankle"))
    predict_files(["two.png"], "partly", out="out", format="json,csv,coco,image")
    for person in persons(folder / "out" / "two.json"):
        assert len(person["keypoints"]) == 15 and "nose" not in person["keypoints"]
    for annotation in json.loads(Path("out/coco.json").read_text())["annotations"]:
        assert annotation["num_keypoints"] == 15 and annotation["keypoints"][:3] == [0, 0, 0]
    with open("out/poses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["nose_x"], row["nose_y"], row["nose_score"]) for row in rows] == [("", "", "")] * 2
    assert read_image("out/two.png").shape == (330, 500, 3)


def test_the_astronaut_is_one_person(folder: Path) -> None:
    predict_files([str(ASTRONAUT)], out="out", threads=1)
    assert files_in(folder / "out") == ["astronaut.json", "astronaut.png"]
    (person,) = persons(folder / "out" / "astronaut.json")
    assert person["score"] >= 0.2
    nose = person["keypoints"]["nose"]
    assert np.hypot(nose["x"] - 223, nose["y"] - 127) < 30
