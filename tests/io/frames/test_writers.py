"""Writers: whole lines after a kill, little memory, own files only, what others read, and errors before work begins."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanpose.errors import InputError, MissingPackageError
from leanpose.io.files import WholeFile
from leanpose.io.frames import FORMS, Clip, check_place, open_writer, parquet, read_frames
from leanpose.io.frames.rows import COLUMNS, Row
from leanpose.keypoint_sets import COCO, HALPE26
from leanpose.structures import Frame, Poses

ENDLESS = """
import sys
import numpy as np
from leanpose.io.frames import Clip, open_writer
from leanpose.keypoint_sets import WHOLEBODY
from leanpose.structures import Frame, Poses

ones = lambda *shape: np.ones(shape, np.float32)
poses = Poses(ones(20, 133, 2), ones(20, 133), ones(20, 4), ones(20), WHOLEBODY, np.arange(20))
with open_writer(sys.argv[1], sys.argv[2], Clip(WHOLEBODY)) as writer:
    for index in range(10**9):
        writer.write(Frame(index, index / 30, poses, (120, 100)))
        print(index, flush=True)
"""


def person(index: int = 0, identity: int | None = 7) -> Frame:
    """Return a frame with one person, whose left ankle is absent."""
    keypoints = np.arange(34, dtype=np.float32).reshape(1, 17, 2) + 1
    keypoints[0, COCO.keypoints.index("left_ankle")] = np.nan
    ones = np.ones((1, 17), np.float32)
    box = np.array([[1, 2, 31, 42]], np.float32)
    ids = None if identity is None else np.array([identity])
    return Frame(index, index / 10, Poses(keypoints, ones / 2, box, ones[:, 0], COCO, ids), (120, 100))


def write(form: str, path: Path, *frames: Frame) -> None:
    with open_writer(form, path, Clip(COCO, "in/clip.mp4", 10.0)) as writer:
        for frame in frames:
            writer.write(frame)


@pytest.mark.parametrize("form", ["jsonl", "csv", "openpose"])
def test_a_kill_leaves_whole_frames(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip{FORMS[form].ending}"
    command = [sys.executable, "-c", ENDLESS, form, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(5)]
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    assert told[-1] == "4\n"
    frames = list(read_frames(path))
    assert [frame.index for frame in frames] == list(range(len(frames))) and len(frames) >= 5
    assert all(len(frame.poses) == 20 for frame in frames[:5])


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_line_that_was_cut_is_left_out(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"clip{FORMS[form].ending}"
    write(form, path, person(0), person(1))
    path.write_bytes(path.read_bytes()[:-5])
    frames = list(read_frames(path))
    assert [frame.index for frame in frames] == ([0] if form == "jsonl" else [0, 1])
    assert "the last line has no end" in capsys.readouterr().err
    if form == "csv":  # its last keypoint
        assert np.isnan(frames[1].poses["right_ankle"][0, 0]) and not np.isnan(frames[0].poses["right_ankle"]).any()


@pytest.mark.parametrize("form", ["jsonl", "csv", "openpose"])
def test_each_frame_is_there_once_it_is_written(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip{FORMS[form].ending}"
    with open_writer(form, path, Clip(COCO)) as writer:
        for index in range(3):
            writer.write(person(index))
            assert len(list(read_frames(path))) == index + 1


@pytest.mark.parametrize("form", ["parquet", "coco", "posetrack", "deeplabcut", "movement"])
def test_what_is_whole_at_the_end_keeps_what_was_found_before_an_error(form: str, tmp_path: Path) -> None:
    for package in FORMS[form].packages:
        pytest.importorskip(package)
    path = tmp_path / f"clip{FORMS[form].ending}"
    with pytest.raises(KeyboardInterrupt), open_writer(form, path, Clip(COCO)) as writer:
        writer.write(person())
        assert not path.exists()
        raise KeyboardInterrupt
    assert len(list(read_frames(path))) == 1 and list(tmp_path.iterdir()) == [path]


def test_parquet_is_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "GROUP", 40)
    write("parquet", tmp_path / "clip.parquet", *map(person, range(5)))
    assert pq.ParquetFile(tmp_path / "clip.parquet").num_row_groups == 2
    assert len(list(read_frames(tmp_path / "clip.parquet"))) == 5


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    file = WholeFile(tmp_path / "clip_coco.json")
    file._file.close()
    monkeypatch.setattr(file, "_file", type("Full", (), {"write": full, "close": lambda _: None, "closed": True})())
    with pytest.raises(InputError, match="No space left on device"):
        file.write(b"[")
    file.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_own_files_are_replaced_and_those_of_others_stay(form: str, tmp_path: Path) -> None:
    for package in FORMS[form].packages:
        pytest.importorskip(package)
    path = tmp_path / f"clip{FORMS[form].ending}"
    write(form, path, person(0), person(1))
    write(form, path, person(5))
    assert [frame.index for frame in read_frames(path)] == [5]

    file = path / "clip_000000000005_keypoints.json" if path.is_dir() else path
    file.write_text('{"people": []}\n')
    with pytest.raises(InputError, match=r"would overwrite .*, which leanpose did not write; choose another place"):
        open_writer(form, path, Clip(COCO))
    assert file.read_text() == '{"people": []}\n'


def test_a_folder_with_other_files_stays(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="would overwrite"):
        open_writer("openpose", tmp_path, Clip(COCO))
    with pytest.raises(InputError, match="would overwrite"):
        open_writer("jsonl", tmp_path, Clip(COCO))


def test_errors_come_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no format 'jsnl'. Did you mean 'jsonl'\?"):
        check_place("jsnl", tmp_path / "a")
    for package, form in (("pyarrow", "parquet"), ("xarray", "movement")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingPackageError, match=rf"needs the package {package}: pip install .*\[tables\]"):
            check_place(form, tmp_path / "a")
    if os.name == "posix":
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="cannot be written"):
            open_writer("jsonl", tmp_path / "file" / "clip.jsonl", Clip(COCO))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"] * (os.name == "posix")


def test_the_columns_are_those_of_a_row() -> None:
    assert Row._fields == COLUMNS


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_json_lines(tmp_path: Path) -> None:
    write("jsonl", tmp_path / "clip.jsonl", person(3))
    head, frame = map(json.loads, (tmp_path / "clip.jsonl").read_text().splitlines())
    assert (head["leanpose"], head["source"], head["fps"]) == ({}, "in/clip.mp4", 10)
    assert head["keypoint_set"]["name"] == "coco"
    assert {**frame, "persons": person().poses.to_dicts()} == frame
    assert (frame["index"], frame["time_s"], frame["width"], frame["height"]) == (3, 0.3, 100, 120)


def test_tidy_csv(tmp_path: Path) -> None:
    write("csv", tmp_path / "clip.csv", person(3), Frame(4, 0.4, Poses.empty(COCO), (120, 100)))
    rows = list(csv.reader((tmp_path / "clip.csv").open()))
    assert rows[:2] == [list(COLUMNS), ["3", "0.300000", "7", "nose", "1.00", "2.00", "0.5000"]]
    assert rows[-3:-1] == [
        ["3", "0.300000", "7", "left_ankle", "", "", "0.5000"],
        ["3", "0.300000", "7", "right_ankle", "33.00", "34.00", "0.5000"],
    ]
    assert rows[-1] == ["4", "0.400000", "", "", "", "", ""] and len(rows) == 19


def test_coco_is_what_its_tools_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    write("coco", tmp_path / "clip_coco.json", person(3), person(4, 9))
    tool = coco.COCO(str(tmp_path / "clip_coco.json"))
    assert [image["file_name"] for image in tool.loadImgs(tool.getImgIds())] == ["000003.jpg", "000004.jpg"]
    (first, second) = tool.loadAnns(tool.getAnnIds())
    assert (first["track_id"], second["image_id"], first["num_keypoints"], first["bbox"]) == (7, 2, 16, [1, 2, 30, 40])
    assert tool.loadCats(1)[0]["keypoints"] == list(COCO.keypoints)
    capsys.readouterr()


def test_openpose(tmp_path: Path) -> None:
    write("openpose", tmp_path / "clip", person(3))
    (file,) = (tmp_path / "clip").iterdir()
    content = read_json(file)
    (one,) = content["people"]
    triples = np.array(one["pose_keypoints_2d"]).reshape(25, 3)
    assert file.name == "clip_000000000003_keypoints.json" and content["version"] == 1.3 and one["person_id"] == [7]
    left, right = (COCO.keypoints.index(f"{side}_shoulder") for side in ("left", "right"))
    middle = person().poses.keypoints[0, [left, right]].mean(axis=0)
    assert triples[1].tolist() == [*middle, 0.5] and triples[14].tolist() == [0, 0, 0]  # neck, left ankle
    assert one["hand_left_keypoints_2d"] == one["pose_keypoints_3d"] == []


def test_posetrack(tmp_path: Path) -> None:
    halpe = person().poses.to(HALPE26)
    halpe.keypoints[0, HALPE26.keypoints.index("head")] = 8, 9
    halpe.scores[0, HALPE26.keypoints.index("head")] = 0.9
    with open_writer("posetrack", tmp_path / "clip_posetrack.json", Clip(HALPE26, "in/clip.mp4")) as writer:
        writer.write(Frame(3, 0.1, halpe, (120, 100)))
    content = read_json(tmp_path / "clip_posetrack.json")
    (image,), (one,) = content["images"], content["annotations"]
    assert (image["frame_id"], image["vid_id"], image["nframes"]) == (10000010003, "000001", 1)
    assert (image["file_name"], one["image_id"], one["track_id"]) == ("images/clip/000003.jpg", 10000010003, 7)
    assert content["categories"][0]["keypoints"][:3] == ["nose", "head_bottom", "head_top"]
    assert one["keypoints"][:9] == [1, 2, 1, 0, 0, 0, 8, 9, 1] and len(one["scores"]) == 17


def test_deeplabcut(tmp_path: Path) -> None:
    write("deeplabcut", tmp_path / "clip_deeplabcut.csv", person(0, 7), person(1, 3))
    rows = list(csv.reader((tmp_path / "clip_deeplabcut.csv").open()))
    assert [row[0] for row in rows] == ["scorer", "individuals", "bodyparts", "coords", "0", "1"]
    assert rows[1][1] == "id_3" and rows[1][-1] == "id_7" and rows[3][1:4] == ["x", "y", "likelihood"]
    assert rows[4][1] == "" and rows[5][1:4] == ["1.0", "2.0", "0.5"] and {len(row) for row in rows} == {1 + 2 * 17 * 3}
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv(tmp_path / "clip_deeplabcut.csv", header=[0, 1, 2, 3], index_col=0)
    assert table["leanpose"]["id_7"]["nose"]["y"].tolist()[0] == 2
