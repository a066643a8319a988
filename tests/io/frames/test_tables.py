"""Frames as a pandas table and as an xarray dataset."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from leanpose.errors import InputError, MissingPackageError
from leanpose.io.frames import poses_table, to_xarray
from leanpose.keypoint_sets import COCO, MPII
from leanpose.structures import Frame, Poses


def frame(index: int, ids: list[int] | None, time_s: float | None = None) -> Frame:
    n = 2 if ids is None else len(ids)
    keypoints = np.arange(n * 34, dtype=np.float32).reshape(n, 17, 2)
    keypoints[:, 1] = np.nan
    ones = np.ones((n, 17), np.float32)
    poses = Poses(keypoints, ones / 2, ones[:, :4], ones[:, 0], COCO, None if ids is None else np.array(ids, np.int64))
    return Frame(index, index / 10 if time_s is None else time_s, poses, (120, 100))


def test_the_table_is_tidy() -> None:
    pytest.importorskip("pandas")
    table = poses_table([frame(0, [4, 2]), frame(1, [])])
    assert list(table.columns) == ["frame", "time_s", "id", "keypoint", "x", "y", "score"] and len(table) == 2 * 17 + 1
    nose = table[(table.id == 2) & (table.keypoint == "nose")].iloc[0]
    assert (nose.frame, nose.x, nose.y, nose.score) == (0, 34, 35, 0.5)
    assert table[table.keypoint == "left_eye"].x.isna().all() and table.keypoint.isna().sum() == 1
    assert poses_table([]).empty and poses_table([frame(0, None)]).id.isna().all()


def test_the_dataset_has_movements_layout() -> None:
    pytest.importorskip("xarray")
    dataset = to_xarray([frame(0, [4, 2]), frame(3, [4])], fps=10, source="clip.mp4")
    assert dataset.position.dims == ("time", "space", "keypoints", "individuals")
    assert dataset.confidence.dims == ("time", "keypoints", "individuals")
    assert dataset.individuals.values.tolist() == ["id_2", "id_4"] and dataset.time.values.tolist() == [0, 0.3]
    assert dataset.position.sel(individuals="id_2", keypoints="nose").values[0].tolist() == [34, 35]
    assert np.isnan(dataset.confidence.sel(individuals="id_2").values[1]).all()
    assert dataset.attrs == {
        **{"source_software": "leanpose", "ds_type": "poses", "time_unit": "seconds"},
        **{"source_file": "clip.mp4", "fps": 10.0},
    }


def test_without_times_and_ids_the_dataset_counts_frames_and_places() -> None:
    pytest.importorskip("xarray")
    dataset = to_xarray([frame(5, None, np.nan)])
    assert dataset.time.values.tolist() == [5] and dataset.attrs["time_unit"] == "frames"
    assert dataset.individuals.values.tolist() == ["person_0", "person_1"] and "fps" not in dataset.attrs


def test_a_dataset_needs_frames_of_one_keypoint_set() -> None:
    pytest.importorskip("xarray")
    with pytest.raises(InputError, match="no frames"):
        to_xarray([])
    with pytest.raises(InputError, match="one keypoint set"):
        to_xarray([frame(0, None), Frame(1, 0.1, Poses.empty(MPII), (120, 100))])


@pytest.mark.parametrize(("package", "make"), [("pandas", poses_table), ("xarray", to_xarray)])
def test_a_package_that_lacks_is_named(package: str, make: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"needs the package {package}: pip install .*\[tables\]"):
        make([])  # type: ignore[operator]
