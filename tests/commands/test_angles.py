"""`leanpose angles`: from files of frames to a table and images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from leanpose.commands.angles import angles
from leanpose.commands.cli import main
from leanpose.errors import InputError
from leanpose.io.frames import FORMS, Clip, open_writer
from leanpose.io.own_files import ANGLES_COLUMNS, is_own
from leanpose.keypoint_sets import COCO
from leanpose.structures import Frame, Poses


def write(form: str, path: Path, ids: list[int] | None) -> None:
    """Write five frames of persons whose left knee is at 90 degrees; the third is empty."""
    n = 1 if ids is None else len(ids)
    keypoints = np.full((n, 17, 2), np.nan, np.float32)
    for name, place in (("left_hip", (5, 5)), ("left_knee", (5, 25)), ("left_ankle", (25, 25))):
        keypoints[:, COCO.keypoints.index(name)] = place
    ones = np.ones((n, 17), np.float32)
    poses = Poses(keypoints, ones, ones[:, :4], ones[:, 0], COCO, None if ids is None else np.array(ids))
    with open_writer(form, path, Clip(COCO, "clip.mp4", 10)) as writer:
        for index in range(5):
            writer.write(Frame(index, index / 10, poses if index != 2 else Poses.empty(COCO), (40, 30)))


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_table(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in FORMS[form].packages:
        pytest.importorskip(package)
    path, out = tmp_path / f"clip{FORMS[form].ending}", tmp_path / "out"
    write(form, path, [4, 9])
    assert main(["angles", str(path), "--out", str(out), "--joints", "left_knee", "--fps", "10"]) == 0
    rows = list(csv.reader((out / "angles.csv").open()))
    assert rows[0] == list(ANGLES_COLUMNS) and len(rows) == 11
    assert rows[1] == ["0", "0.000000", "4", "left_knee", "90.00"] and rows[8][:3] == ["2", "0.200000", "9"]
    assert rows[8][4] == "" and {row[4] for row in rows[1:]} == {"90.00", ""}
    names = {"angles.csv", "angles_id_4.png", "angles_id_9.png"}
    assert {file.name for file in out.iterdir()} == names and all(map(is_own, out.iterdir()))
    assert "2 identities" in capsys.readouterr().out


def test_own_angles_are_replaced_and_files_of_others_stay(tmp_path: Path) -> None:
    write("csv", tmp_path / "clip.csv", None)
    for _ in range(2):
        angles(str(tmp_path / "clip.csv"), str(tmp_path / "out"), "left_knee")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"angles.csv", "angles.png"}
    (tmp_path / "out" / "angles.csv").write_text("my,table\n")
    with pytest.raises(InputError, match=r"would overwrite .*angles.csv, which leanpose did not write"):
        angles(str(tmp_path / "clip.csv"), str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--joints", "nee"], "Did you mean 'knee'"),
        (["--out", "angles.csv"], "--out is a folder"),
        (["--fps", "0"], "--fps must be a number above 0"),
    ],
)
def test_what_cannot_be_used(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write("jsonl", tmp_path / "clip.jsonl", None)
    assert main(["angles", "clip.jsonl", *options]) == 2
    assert message in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["clip.jsonl"]
