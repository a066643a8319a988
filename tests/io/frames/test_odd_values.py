"""Any JSON value in any place of a file of frames gives frames or an InputError, nothing else."""

from __future__ import annotations

import copy
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanpose.errors import InputError
from leanpose.io.frames import FORMS, Clip, open_writer, read_frames
from leanpose.keypoint_sets import KeypointSet
from leanpose.structures import Frame, Poses

ODD: list[Any] = [None, True, 0, -1, 1.5, 1e308, 10**400, float("nan"), "", "1", "nan", "\0", [], [1], {}, {"a": 1}]
SAMPLE = 120  # of all places and values
ONE = KeypointSet("one", ("nose", "left_ear"), (("nose", "left_ear"),), "made up")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the paths to all values in a JSON value, of long lists to the first two of them."""
    yield path
    for key in list(value) if isinstance(value, dict) else range(min(2, len(value))) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    content = copy.deepcopy(content)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


@pytest.mark.parametrize("form", ["jsonl", "coco", "openpose", "posetrack"])
def test_odd_values(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"clip{FORMS[form].ending}"
    ones = np.ones((1, 4), np.float32)
    poses = Poses(np.ones((1, 2, 2), np.float32), ones[:, :2], ones, ones[:, 0], ONE, np.array([3]))
    with open_writer(form, path, Clip(ONE, "clip.mp4", 10.0)) as writer:
        writer.write(Frame(0, 0.0, poses, (20, 10)))
    (file,) = path.iterdir() if path.is_dir() else [path]
    text = file.read_text()
    content = [json.loads(line) for line in text.splitlines()] if form == "jsonl" else json.loads(text)
    outcomes = {True: 0, False: 0}
    for place, value in random.Random(0).sample(list(itertools.product(places(content), ODD)), SAMPLE):
        try:
            odd = changed(content, place, value)
            lines = (odd if isinstance(odd, list) else []) if form == "jsonl" else [odd]
            file.write_text("".join(json.dumps(line) + "\n" for line in lines))
            assert all(isinstance(frame, Frame) for frame in read_frames(path))
            outcomes[True] += 1
        except InputError as error:
            assert "\n" not in str(error)
            outcomes[False] += 1
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error} with {value!r} at {place}") from error
    assert min(outcomes.values()) > 20
