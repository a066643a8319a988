"""Whatever form an annotation file has, its reader is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from leanpose.data import coco_style, mpii
from leanpose.data.annotations import read_samples, read_scenes
from leanpose.errors import InputError
from leanpose.keypoint_sets import COCO, MPII

MakePeople = Callable[..., tuple[Path, Path]]


def test_samples_come_from_the_reader_of_the_form(people: MakePeople, mpii_people: MakePeople) -> None:
    for make, reader, file_set in ((people, coco_style, COCO), (mpii_people, mpii, MPII)):
        file, images = make(count=2)
        samples = read_samples(file, images)
        assert [s.keypoints.shape for s in samples] == [(len(file_set), 2)] * 2
        for wanted in (COCO, MPII):
            read, expected = read_samples(file, images, wanted), reader.read_samples(file, images, wanted)
            for one, other in zip(read, expected, strict=True):
                np.testing.assert_array_equal(one.keypoints, other.keypoints)
                assert one.image_path == other.image_path and Path(one.image_path).is_file()


def test_scenes_need_all_persons_of_a_picture(people: MakePeople, mpii_people: MakePeople) -> None:
    assert len(read_scenes(*people(count=2), COCO, "persons")) == 2
    with pytest.raises(InputError, match=r"valid\.json is a list of MPII persons, which lacks many persons"):
        read_scenes(*mpii_people(count=2), MPII)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no file .*absent\.json"):
        read_samples(tmp_path / "absent.json", tmp_path)
