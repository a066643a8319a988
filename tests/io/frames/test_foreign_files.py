"""Small files in the form that others document, written here by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanpose.errors import InputError
from leanpose.io.frames import read_frames
from leanpose.keypoint_sets import BODY_25, COCO


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def person_of_openpose(count: int) -> dict[str, Any]:
    values = [value for k in range(count) for value in (10.0 * k + 1, 5.0 * k + 1, 0.5)]
    values[3:6] = 0, 0, 0
    return {"person_id": [-1], "pose_keypoints_2d": values, "face_keypoints_2d": []}


def test_openpose_with_25_and_18_keypoints(tmp_path: Path) -> None:
    for count, name in ((25, "body_25"), (18, "openpose_coco")):
        folder = tmp_path / name
        folder.mkdir()
        for index, people in ((11, [person_of_openpose(count)]), (2, [])):
            content = {"version": 1.3, "people": people}
            write_json(folder / f"clip_{index:012d}_keypoints.json", content)
        empty, frame = read_frames(folder, fps=10)
        assert (empty.index, frame.index, frame.time_s, len(empty.poses)) == (2, 11, 1.1, 0)
        assert frame.poses.keypoint_set.name == name and frame.poses.ids is None
        np.testing.assert_allclose(frame.poses["right_shoulder"], [[21, 11, 0.5]])
        assert np.isnan(frame.poses["neck"][0, 0]) and frame.poses["neck"][0, 2] == 0
        np.testing.assert_allclose(frame.poses.boxes_xyxy[0, :2], [1, 1])
    assert frame.poses.keypoint_set.keypoints[-1] == "left_ear" and BODY_25.keypoints[18] == "left_ear"


def test_posetrack(tmp_path: Path) -> None:
    """Image ids are long, keypoints have the names of PoseTrack18, and labels are 0 and 1."""
    names = ["nose", "head_bottom", "head_top", *COCO.keypoints[3:]]
    image = {"vid_id": "000342", "nframes": 2, "is_labeled": True, "has_no_densepose": True}
    images = [
        image | {"id": i, "frame_id": i, "file_name": f"images/val/000342_mpii_test/{i % 10000:06d}.jpg"}
        for i in (10003420000, 10003420001)
    ]
    keypoints = [v for k in range(17) for v in (k + 1.0, k + 2.0, 0.0 if k in (3, 4) else 1.0)]
    person = {"image_id": 10003420001, "id": 1000342000100, "track_id": 7, "category_id": 1, "scores": []}
    annotations = [person | {"keypoints": keypoints, "bbox": [1, 2, 20, 30], "bbox_head": [1, 2, 3, 4]}]
    categories = [{"id": 1, "name": "person", "supercategory": "person", "keypoints": names, "skeleton": [[16, 14]]}]
    path = write_json(
        tmp_path / "000342.json", {"images": images, "annotations": annotations, "categories": categories}
    )
    first, second = read_frames(path, fps=25)
    assert (len(first.poses), second.index, second.time_s) == (0, 1, 0.04)
    assert second.poses.ids is not None and second.poses.ids.tolist() == [7]
    assert second.poses["head_bottom"].tolist() == [[2, 3, 1]] and np.isnan(second.poses["left_ear"][0, 0])
    assert second.poses.boxes_xyxy.tolist() == [[1, 2, 21, 32]]


def test_a_list_of_coco_results(tmp_path: Path) -> None:
    keypoints = [v for k in range(17) for v in ((0, 0, 0.1) if k == 0 else (k, k, 0.5))]
    results = [
        {"image_id": i, "category_id": 1, "keypoints": keypoints, "score": 0.25 * i, "bbox": [0, 0, 9, 9]}
        for i in (1, 1, 3)
    ]
    frames = list(read_frames(write_json(tmp_path / "results.json", results)))
    assert [(frame.index, len(frame.poses)) for frame in frames] == [(1, 2), (3, 1)]
    poses = frames[1].poses
    assert np.isnan(poses.keypoints[0, 0]).all() and poses.scores[0, 0] == np.float32(0.1)
    assert poses.person_scores.tolist() == [0.75] and poses.keypoint_set is COCO


def test_coco_annotations_without_our_keys(tmp_path: Path) -> None:
    content = {
        "images": [{"id": "b", "width": 30, "height": 20, "file_name": "b.jpg"}, {"id": "a", "file_name": "a.jpg"}],
        "annotations": [
            {"id": 1, "image_id": "a", "keypoints": [3, 4, 1, 5, 6, 0], "bbox": [1, 1, 5, 5], "category_id": 1},
            {"id": 2, "image_id": "a", "bbox": [1, 1, 5, 5], "category_id": 1, "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "dog", "keypoints": ["tail", "snout"]}],
    }
    b, a = read_frames(write_json(tmp_path / "dogs.json", content))
    assert (b.image_size, a.image_size, a.index, len(b.poses), len(a.poses)) == ((20, 30), (0, 0), 1, 0, 1)
    assert a.poses["tail"].tolist() == [[3, 4, 1]] and np.isnan(a.poses["snout"][0, :2]).all() and np.isnan(a.time_s)


def test_deeplabcut_of_several_animals_and_of_one(tmp_path: Path) -> None:
    many = (
        "scorer,net,net,net,net,net,net\nindividuals,mickey,mickey,mickey,minnie,minnie,minnie\n"
        "bodyparts,snout,snout,snout,snout,snout,snout\ncoords,x,y,likelihood,x,y,likelihood\n"
        "0,1.5,2.5,0.9,,,\n1,1,2,0.8,3,4,0.7\n"
    )
    (tmp_path / "many.csv").write_text(many)
    first, second = read_frames(tmp_path / "many.csv", fps=2)
    assert first.poses.ids is not None and first.poses.ids.tolist() == [0] and second.time_s == 0.5
    np.testing.assert_allclose(second.poses["snout"], [[1, 2, 0.8], [3, 4, 0.7]], rtol=1e-6)

    labels = "scorer,me,me\nbodyparts,snout,snout\ncoords,x,y\nlabeled-data/clip/img07.png,5,6"
    (tmp_path / "labels.csv").write_text(labels)
    (frame,) = read_frames(tmp_path / "labels.csv")
    assert frame.index == 0 and frame.poses["snout"].tolist() == [[5, 6, 1]] and frame.poses.ids is None


def test_a_tidy_table_in_any_order(tmp_path: Path) -> None:
    """Columns and keypoints stand in another order, further columns between, one keypoint lacks."""
    text = (
        "id,frame,note,time_s,keypoint,score,x,y\n2,0,a,0,nose,0.5,1,2\n1,0,b,0,nose,0.5,3,4\n"
        "1,0,c,0,tail,0.25,5,6\n,1,,0.5,,,,\n"
    )
    (tmp_path / "table.csv").write_text("\ufeff" + text.replace("\n", "\r\n"), encoding="utf-8")
    frame, empty = read_frames(tmp_path / "table.csv")
    assert frame.poses.ids is not None and frame.poses.ids.tolist() == [2, 1] and len(empty.poses) == 0
    assert frame.poses["tail"][1].tolist() == [5, 6, 0.25] and np.isnan(frame.poses["tail"][0, 0])


def test_parquet_of_pandas(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    rows = [(0, 0.0, 4.0, "l_Knee", 1.0, 2.0, 0.5), (1, 0.5, float("nan"), None, *[float("nan")] * 3)]
    table = pandas.DataFrame(rows, columns=["frame", "time_s", "id", "keypoint", "x", "y", "score"])
    table.to_parquet(tmp_path / "table.parquet")
    frame, empty = read_frames(tmp_path / "table.parquet")
    assert frame.poses.ids is not None and frame.poses.ids.tolist() == [4] and len(empty.poses) == 0
    assert frame.poses["l_Knee"].tolist() == [[1, 2, 0.5]]


def test_movement_with_times_in_frames(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    position = np.arange(8.0).reshape(2, 2, 1, 2)
    position[1, :, :, 1] = np.nan
    dataset = xarray.Dataset(
        {"position": (("time", "space", "keypoints", "individuals"), position)},
        {"time": [5, 6], "space": ["x", "y"], "keypoints": ["snout"], "individuals": ["AEON3B_NTP", "AEON3B_TP1"]},
        {"time_unit": "frames", "fps": 50.0, "ds_type": "poses"},
    )
    dataset.to_netcdf(tmp_path / "mice.nc", engine="scipy")
    first, second = read_frames(tmp_path / "mice.nc")
    assert (first.index, first.time_s, len(first.poses), len(second.poses)) == (5, 0.1, 2, 1)
    assert first.poses["snout"].tolist() == [[0, 2, 1], [1, 3, 1]]


BROKEN = {
    "a.csv": ("a,b\n1,2\n", "has none of the formats"),
    "b.csv": ("frame,time_s,id,keypoint,x,y,score\n0,0,1,nose,left,2,1\n", "row 2: could not convert"),
    "c.csv": ("frame,time_s,id,keypoint,x,y,score\n0,0,1\n", "row 2 has 3 cells"),
    "d.csv": ("frame,time_s,id,keypoint,x,y,score\n1.5,0,1,nose,1,2,1\n", "'frame' must be a whole number"),
    "e.csv": ("frame,time_s,id,keypoint,x,y,score\n0,0,1,nose,1,2,1\n0,0,1,nose,1,2,1\n", "'nose' of id 1 twice"),
    "f.csv": ("scorer,a,a\nbodyparts,b,b\n0,1,2\n", "lacks the row 'coords'"),
    "g.csv": ("scorer,a,a\nbodyparts,b,b\ncoords,x,y\n0,1\n", "row 0 below the header must have 3 numbers"),
    "h.json": ("{", "not valid JSON"),
    "i.json": ("{}", "must hold the lists 'images' and 'annotations'"),
    "j.json": ('[{"keypoints": [1, 2, 3], "score": 1}]', "lacks the key 'image_id'"),
    "k.jsonl": ('{"leanpose": {}, "source": "", "keypoint_set": {}}\n', "must hold the keypoint set"),
    "l.parquet": ("PAR1", "no Parquet file"),
    "m.nc": ("CDF\x01", "no NetCDF file"),
    "n": ("", "has none of the formats"),
    "o.mp4": ("\0\0ftyp\rmoov", "has none of the formats"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_used_is_named(name: str, tmp_path: Path) -> None:
    text, message = BROKEN[name]
    pytest.importorskip({".parquet": "pyarrow", ".nc": "xarray"}.get(Path(name).suffix, "numpy"))
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        list(read_frames(tmp_path / name))


def test_no_file_and_a_folder_of_others(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        read_frames(tmp_path / "nothing.jsonl")
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match="no files whose names end in a number and _keypoints"):
        list(read_frames(tmp_path))
