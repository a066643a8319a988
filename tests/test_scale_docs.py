"""The lines of docs/scale.md, on a result made by code, and the commands of the files for clusters."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("yaml")

import pyarrow.parquet as pq
import yaml

import leanpose
from leanpose.batch.estimate import rows
from leanpose.batch.reading import Failure
from leanpose.batch.store import Store
from leanpose.batch.tables import failures_table, persons_table
from leanpose.batch.worker import errors_file, persons_file
from leanpose.commands.batch import batch
from leanpose.commands.cli import parse
from leanpose.keypoint_sets import COCO
from leanpose.structures import Poses

DOCS = Path(leanpose.__file__).parent.parent / "docs"
PAGE = (DOCS / "scale.md").read_text(encoding="utf-8")
CLUSTER = DOCS / "cluster"


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make poses/ of two parts: a.jpg with two persons, whose first has no nose; b.jpg unreachable."""
    keypoints = np.ones((2, 17, 2), np.float32)
    keypoints[0, 0] = np.nan
    scores = np.full((2, 17), 0.9, np.float32)
    scores[0, 0] = 0.1
    poses = Poses(keypoints, scores, np.ones((2, 4), np.float32), np.ones(2, np.float32), COCO)
    found = list(rows(poses, (480, 640), "a.jpg", None, None))
    store = Store(str(tmp_path / "poses"))
    for number, persons in enumerate((found, [])):
        store.write(persons_file(number), persons_table(persons, COCO, {"model": "lpn50", "sha256": "0" * 64}))
    store.write(errors_file(1), failures_table([Failure("b.jpg", "unreachable", "b.jpg cannot be read.")]))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "poses"


def test_pandas(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["persons"].groupby("source").size().to_dict() == {"a.jpg": 2}
    assert names["nose"] == 0 and np.isnan(names["persons"].nose_x[0]) and names["persons"].nose_x[1] == 1
    assert re.search(r"a\.jpg +1 +1\.0", capsys.readouterr().out)
    assert Path("again.csv").read_text().split() == ["source", "b.jpg"]


def test_columns(result: Path) -> None:
    tables = PAGE.partition("Tables of persons:")[2].partition("## Read the tables")[0]
    cells = re.findall(r"^\| (`.*?) \|", tables, flags=re.MULTILINE)
    documented = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    persons = pq.read_schema(result / persons_file(0)).names
    errors = pq.read_schema(result / errors_file(1)).names
    assert documented == persons + errors


def commands() -> list[str]:
    pages = [PAGE, (CLUSTER / "leanpose.sbatch").read_text()]
    lines = [line for page in pages for line in re.findall(r"(?:^|-- )(leanpose batch .*)", page, flags=re.MULTILINE)]
    job = yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())
    return [*lines, job["spec"]["entrypoint"]]


@pytest.mark.parametrize("line", commands())
def test_commands(line: str) -> None:
    words = shlex.split(re.sub(r"\$\(\(.*?\)\)", "64", line), comments=True)
    parsed = parse("batch", batch, words[2:])
    assert parsed is not None
    assert parsed[0][0] and (parsed[1]["out"] is None) == parsed[1]["dry_run"]


def test_the_script_for_slurm_is_bash() -> None:
    subprocess.run(["bash", "-n", CLUSTER / "leanpose.sbatch"], check=True)


def test_the_image_has_the_ray_that_the_job_names() -> None:
    job = yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    assert f"FROM rayproject/ray:{cluster['rayVersion']}-py" in (CLUSTER / "Dockerfile").read_text()
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {container["image"] for group in groups for container in group["template"]["spec"]["containers"]}
    assert len(images) == 1
