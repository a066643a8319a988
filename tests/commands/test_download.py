"""The verb `download`, the table of public weights, and the page that shows it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Host

from leanpose.commands import download as verb
from leanpose.commands.cli import main
from leanpose.commands.models import PUBLIC_HEADER, models
from leanpose.errors import InputError
from leanpose.weights.public import BEST, PUBLIC, PublicWeights
from leanpose.weights.record import Weights

DOCS = Path(__file__).parents[2] / "docs" / "public-weights.md"
CONTENT = {"left": b"\x08\x09left", "right": b"\x08\x09right"}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host with the public weights "left" and "right"."""
    for name in ("LEANPOSE_OFFLINE", "LEANPOSE_MIRROR", "http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEANPOSE_WEIGHTS", str(tmp_path / "weights"))
    with Host(files={f"/{name}.onnx": content for name, content in CONTENT.items()}).running() as host:
        for name, content in CONTENT.items():
            url = f"{host.address}/{name}.onnx"
            row = PublicWeights(name, Weights(name, name, (32, 24)), (url,), hashlib.sha256(content).hexdigest())
            monkeypatch.setitem(PUBLIC, name, row)
        yield host


def test_download(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "left", "right", "left"]) == 0
    folder = tmp_path / "weights"
    assert capsys.readouterr().out == f"left: {folder}/left.onnx\nright: {folder}/right.onnx\n"
    assert {name: (folder / f"{name}.onnx").read_bytes() for name in CONTENT} == CONTENT
    assert main(["download", "left", "--offline"]) == 0
    assert len(host.requests) == 2


def test_best(host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(verb, "BEST", ("right", "left"))
    assert main(["download", "best"]) == 0
    assert [path for path, _ in host.requests] == ["/right.onnx", "/left.onnx"]


def test_unusable_words(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["left", "rihgt"], "There are no public weights 'rihgt'. Did you mean 'right'?"),
        ([], "leanpose download lacks names"),
        (["left", "--offline"], "left is not in"),
    ):
        assert main(["download", *words]) == 2
        assert message in capsys.readouterr().err
    assert not host.requests


def test_what_fails_does_not_stop_the_rest(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    del host.files["/left.onnx"]
    assert main(["download", "left", "lpn50_published", "right"]) == 2
    told = capsys.readouterr()
    assert told.out.startswith("right: ") and told.out.count("\n") == 1
    assert "leanpose: left cannot be fetched (127.0.0.1: HTTP 404 Not Found)" in told.err
    assert "leanpose: lpn50_published has to be fetched by hand: take lpn_50_256x192.pth from https://drive" in told.err


def test_the_table(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["download", "left"])
    here = tmp_path / "weights" / "left.onnx"
    rows = {row.weights.name: row.here for row in models(public=True).rows}
    assert rows.keys() == PUBLIC.keys() and rows.pop("left") == here and not any(rows.values())
    header, left, right = str(models("left", "right", public=True)).splitlines()
    assert header.split("  ")[0] == PUBLIC_HEADER[0] and left.endswith(str(here)) and right.endswith(" -")
    capsys.readouterr()
    assert main(["models", "left", "yolox_tiny", "--public", "--format", "json"]) == 0
    detector, pose = json.loads(capsys.readouterr().out)
    assert (pose["name"], pose["here"], len(pose["record"]["keypoint_set"])) == ("left", str(here), 17)
    assert (detector["sha256"], detector["here"]) == (PUBLIC["yolox_tiny"].sha256, None)
    assert detector["record"]["keypoint_set"] is None and detector["verified"]


def test_unusable_words_for_the_table() -> None:
    with pytest.raises(InputError, match=r"There are no public weights 'rtmpose'\. Did you mean 'rtmpose_"):
        models("rtmpose", public=True)
    with pytest.raises(InputError, match="use leanpose benchmark"):
        models(public=True, measure=True)


def test_the_page_shows_the_table_as_it_is() -> None:
    text = DOCS.read_text(encoding="utf-8")
    shown = [line for line in text.splitlines() if line.startswith(("| weights |", "| ---", "| `"))]
    assert shown == str(models(public=True, format="markdown")).splitlines()
    for name in ("lpn50_published", "hrnet_w32_published", "litepose_s_published"):
        (command,) = re.findall("`(.*)`", PUBLIC[name].by_hand)
        assert f"`{command}`" in text
    assert " and ".join(f"`{name}`" for name in BEST) in text
