"""Download of public weights from a host on this machine: whole, checked, resumed; or one sentence and nothing left."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import Host

from leanpose.errors import InputError, LeanposeError, WeightsError
from leanpose.weights import download as module
from leanpose.weights.catalogue import find_weights
from leanpose.weights.download import download, local_file, weights_folder
from leanpose.weights.public import PUBLIC, PublicWeights
from leanpose.weights.record import Weights

NOISE = np.random.default_rng(0).bytes(600_000)  # more than two chunks
ONNX = b"\x08\x09\x12" + bytes([0x80 | len(NOISE) & 127, 0x80 | len(NOISE) >> 7 & 127, len(NOISE) >> 14]) + NOISE
SHA256 = hashlib.sha256(ONNX).hexdigest()
HALF = 300_000
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def host() -> Iterator[Host]:
    with Host().running() as host:
        yield host


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, which is not there yet; and no other variables that matter."""
    for name in ("LEANPOSE_OFFLINE", "LEANPOSE_MIRROR", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEANPOSE_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def offer(host: Host, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes the public weights "tiny", of addresses on the host or elsewhere."""

    def offer(*places: str, **known: Any) -> PublicWeights:
        urls = tuple(host.address + place if place.startswith("/") else place for place in places)
        known = {"sha256": SHA256, "size": len(ONNX), "member": "end2end.onnx", **known}
        row = PublicWeights("tiny", Weights("tiny", "tiny", (32, 24), note="mind the data"), urls, **known)
        monkeypatch.setitem(PUBLIC, "tiny", row)
        return row

    return offer


def zipped(**members: bytes) -> bytes:
    """Return a zip; a name's "__" stands for "../"."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "../"), content)
    return file.getvalue()


def left(folder: Path) -> list[str]:
    """Return what lies in a folder beside the lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock") if folder.is_dir() else []


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def refused(error: type[LeanposeError] = WeightsError) -> str:
    """Return the one sentence with which the download fails."""
    with pytest.raises(error) as caught:
        download("tiny")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.onnx", "a.zip"])
def test_a_file_or_the_member_of_a_zip(
    name: str, host: Host, offer: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.files[f"/{name}"] = ONNX if name == "a.onnx" else zipped(**{"x/end2end.onnx": ONNX, "x/deploy.json": b"{}"})
    offer(f"/{name}")
    assert download("tiny") == folder / "tiny.onnx"
    assert (folder / "tiny.onnx").read_bytes() == ONNX
    assert left(folder) == ["tiny.onnx"]
    told = capsys.readouterr().err
    assert f"leanpose: tiny (1 MB) goes to {folder / 'tiny.onnx'}. Code: Apache-2.0. Weights: Apache-2.0" in told
    assert told.count("mind the data") == 1
    download("tiny")
    assert len(host.requests) == 1 and capsys.readouterr().err == ""


def test_an_interrupted_download_goes_on(host: Host, offer: Any, folder: Path) -> None:
    host.files["/a.onnx"] = ONNX
    host.breaks["/a.onnx"] = [HALF]
    offer("/a.onnx")
    assert download("tiny").read_bytes() == ONNX
    assert host.requests == [("/a.onnx", None), ("/a.onnx", f"bytes={HALF}-")]
    assert host.sent == len(ONNX)
    assert left(folder) == ["tiny.onnx"]


def test_a_later_run_goes_on(host: Host, offer: Any, folder: Path) -> None:
    host.files["/a.onnx"] = ONNX
    host.breaks["/a.onnx"] = [HALF, 0]
    offer("/a.onnx")
    assert "127.0.0.1: the connection broke off" in refused()
    assert [path.suffix for path in map(Path, left(folder))] == [".part"]
    assert download("tiny").read_bytes() == ONNX
    assert host.requests[-1] == ("/a.onnx", f"bytes={HALF}-") and host.sent == len(ONNX)


def test_a_part_belongs_to_its_address(host: Host, offer: Any, folder: Path) -> None:
    host.files |= {"/a.onnx": bytes(len(ONNX)), "/b.onnx": ONNX}
    host.breaks["/a.onnx"] = [HALF, 0]
    offer("/a.onnx", "/b.onnx")
    assert download("tiny").read_bytes() == ONNX
    assert host.requests[-1] == ("/b.onnx", None)
    assert left(folder) == ["tiny.onnx"]


def test_a_host_without_ranges_begins_again(host: Host, offer: Any) -> None:
    host.ranges = False
    host.files["/a.onnx"] = ONNX
    host.breaks["/a.onnx"] = [HALF]
    offer("/a.onnx")
    assert download("tiny").read_bytes() == ONNX
    assert host.sent == HALF + len(ONNX)


def test_all_is_there_but_not_in_its_place(host: Host, offer: Any, folder: Path) -> None:
    """The host answers 416, since there is no more."""
    host.files["/a.onnx"] = ONNX
    offer("/a.onnx")
    of_address = hashlib.sha256(f"{host.address}/a.onnx".encode()).hexdigest()[:12]
    folder.mkdir()
    part = folder / f".tiny.{of_address}.part"
    part.write_bytes(ONNX)
    assert download("tiny").read_bytes() == ONNX
    assert host.requests == [("/a.onnx", f"bytes={len(ONNX)}-")] and left(folder) == ["tiny.onnx"]


def test_an_answer_without_its_length_that_breaks_off(host: Host, offer: Any, folder: Path) -> None:
    """Only the hash shows that half is missing."""
    host.files["/a.onnx"] = ONNX
    host.lengths = False
    host.breaks["/a.onnx"] = [HALF]
    offer("/a.onnx")
    assert "another file than the published one" in refused()
    assert left(folder) == []
    assert download("tiny").read_bytes() == ONNX


def test_ctrl_c_keeps_what_is_there(
    host: Host, offer: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host.files["/a.onnx"] = ONNX
    offer("/a.onnx")
    write = module._write
    written: list[int] = []

    def interrupted(file: Any, chunk: bytes, place: Path) -> None:
        if written:
            raise KeyboardInterrupt
        write(file, chunk, place)
        written.append(len(chunk))

    monkeypatch.setattr(module, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt, match="what is here of tiny is kept, the same command goes on"):
        download("tiny")
    monkeypatch.setattr(module, "_write", write)
    assert download("tiny").read_bytes() == ONNX
    assert host.requests[1] == ("/a.onnx", f"bytes={written[0]}-")


def test_the_first_address_is_dead(host: Host, offer: Any) -> None:
    host.files["/b.onnx"] = ONNX
    offer(f"{closed_port()}/a.onnx", "/absent.zip", "/b.onnx")
    assert download("tiny").read_bytes() == ONNX
    assert [path for path, _ in host.requests] == ["/absent.zip", "/b.onnx"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (ONNX[:-1], f"another file than the published one, SHA-256 {hashlib.sha256(ONNX[:-1]).hexdigest()}"),
        (zipped(**{"end2end.onnx": ONNX[:-1]}), "another file than the published one"),
        (zipped(**{"a/end2end.onnx": ONNX, "b/end2end.onnx": ONNX}), "a zip with 2 members end2end.onnx, not one"),
        (zipped(**{"a/model.onnx": ONNX}), "a zip with 0 members end2end.onnx, not one"),
        (zipped(**{"end2end.onnx": ONNX + b"x"}), "a zip whose member is larger than it may be"),
        (zipped(**{"end2end.onnx": ONNX})[:-100], "a damaged zip"),
        (zipped(**{"end2end.onnx": ONNX}).replace(NOISE[:50], bytes(50)), "a damaged zip"),
    ],
)
def test_another_content_is_refused_and_deleted(
    content: bytes, reason: str, host: Host, offer: Any, folder: Path
) -> None:
    host.files |= {"/a": content}
    offer("/a")
    assert f"tiny cannot be fetched (127.0.0.1: {reason}" in refused()
    assert left(folder) == []
    host.files["/b"] = ONNX
    offer("/a", "/b")
    assert download("tiny").read_bytes() == ONNX
    assert left(folder) == ["tiny.onnx"]


def test_names_in_a_zip_are_no_paths(host: Host, offer: Any, folder: Path, tmp_path: Path) -> None:
    host.files["/a.zip"] = zipped(**{"____evil/end2end.onnx": ONNX, "____deploy.json": b"{}"})
    offer("/a.zip")
    assert download("tiny").read_bytes() == ONNX
    assert left(folder) == ["tiny.onnx"] and os.listdir(tmp_path) == ["weights"] and not (tmp_path / "../evil").exists()


@pytest.mark.parametrize("kind", ["a.onnx", "a.zip"])
def test_a_full_disk(kind: str, host: Host, offer: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.files |= {"/a.onnx": ONNX, "/a.zip": zipped(**{"end2end.onnx": ONNX})}
    offer(f"/{kind}")
    written = module._written

    @contextlib.contextmanager
    def full(file: Path, append: bool = False) -> Iterator[Any]:
        with written(file, append) as stream:
            if kind == "a.zip" and not file.name.endswith(".onnx.part"):
                yield stream  # the zip has room, what is in it has not
            else:
                stream.write(b"some")

                def write(data: bytes) -> int:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

                yield SimpleNamespace(write=write)

    monkeypatch.setattr(module, "_written", full)
    assert refused(InputError) == (
        f"{folder} cannot be written (No space left on device); free space, or name another folder in LEANPOSE_WEIGHTS."
    )
    assert left(folder) == []


@pytest.mark.parametrize("size", [len(ONNX), 0])
def test_no_room(size: int, host: Host, offer: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before anything is fetched; where the size is not known, when the host has said it."""
    host.files["/a.onnx"] = ONNX
    offer("/a.onnx", size=size)
    usage = shutil.disk_usage(folder.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    assert f"{folder / 'tiny.onnx'} needs about 1 MB, and" in refused(InputError)
    assert len(host.requests) == (0 if size else 1) and left(folder) == []


def test_the_folder_cannot_be_made(host: Host, offer: Any, folder: Path) -> None:
    folder.touch()
    offer("/a.onnx")
    assert "cannot be written" in refused(InputError)


def test_no_network(offer: Any, folder: Path) -> None:
    offer(f"{closed_port()}/a.onnx", f"{closed_port()}/b.onnx")
    assert refused() == (
        "tiny cannot be fetched: there is no connection to 127.0.0.1 (Connection refused); check the network and "
        "HTTPS_PROXY, or name a mirror in LEANPOSE_MIRROR."
    )
    assert left(folder) == []


def test_a_silent_host(host: Host, offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    awake = threading.Event()
    host.before = awake.wait
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.2)
    offer("/a.onnx")
    assert "timed out" in refused()
    awake.set()


def test_an_unknown_hash_warns(host: Host, offer: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host.files["/a.onnx"] = b"<html>" + NOISE
    offer("/a.onnx", sha256="", size=0)
    assert "127.0.0.1: no ONNX file" in refused()
    assert left(folder) == []
    host.files["/a.onnx"] = ONNX
    capsys.readouterr()
    assert download("tiny").read_bytes() == ONNX
    told = capsys.readouterr().err
    assert "tiny (size not stated) goes to" in told
    assert f"the SHA-256 of tiny has not been published, so it was not checked; that of this file is {SHA256}" in told
    assert download("tiny") == folder / "tiny.onnx" and len(host.requests) == 2


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize("size", [len(ONNX), 0])
def test_too_many_bytes(
    lengths: bool, size: int, host: Host, offer: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BESIDE", 10)
    monkeypatch.setattr(module, "LARGEST", len(ONNX) + 10)
    host.lengths = lengths
    host.files["/a.onnx"] = ONNX + bytes(11)
    offer("/a.onnx", size=size)
    assert "more than the 1 MB that it may have" in refused()
    assert left(folder) == []


def test_redirects(host: Host, offer: Any) -> None:
    host.files["/b.onnx"] = ONNX
    host.redirects = {"/a.onnx": "/b.onnx", "/away": "http://example.org/a.onnx", "/file": "file:///etc/hostname"}
    offer("/away")
    assert "127.0.0.1: it redirects to http://example.org/a.onnx, which is no https address" in refused()
    offer("/file")
    assert "127.0.0.1: HTTP 302" in refused()
    offer("/a.onnx")
    host.breaks["/b.onnx"] = [HALF]
    assert download("tiny").read_bytes() == ONNX
    assert host.sent == len(ONNX)  # the range goes along
    request = urllib.request.Request("https://example.org/a.onnx")
    with pytest.raises(module._AddressError, match="no https address"):
        module._Redirects().redirect_request(request, io.BytesIO(), 302, "", request, host.address)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["http://example.org", "ftp://example.org", "/folder", "http://[", "example.org"])
@pytest.mark.parametrize("name", ["LEANPOSE_MIRROR", "HF_ENDPOINT"])
def test_unsafe_mirrors(name: str, value: str, offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    offer("https://huggingface.co/a.onnx")
    monkeypatch.setenv(name, value)
    assert "is no https address; check LEANPOSE_MIRROR and HF_ENDPOINT" in refused(InputError)


def test_a_mirror_is_tried_first(host: Host, offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    offer("/x/a.zip", "/y/a.zip", "/z/a.onnx")
    monkeypatch.setenv("LEANPOSE_MIRROR", f"{host.address}/mirror/")
    refused()
    assert [path for path, _ in host.requests] == [
        "/mirror/a.zip", "/mirror/a.onnx", "/x/a.zip", "/y/a.zip", "/z/a.onnx",
    ]  # fmt: skip
    host.files["/mirror/a.onnx"] = ONNX
    assert download("tiny").read_bytes() == ONNX


def test_another_hub(host: Host, offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    host.files["/hub/who/what/a.onnx"] = ONNX
    offer("https://huggingface.co/who/what/a.onnx")
    monkeypatch.setenv("HF_ENDPOINT", f"{host.address}/hub/")
    assert download("tiny").read_bytes() == ONNX


def test_proxies_are_used(host: Host, offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", host.address)
    url = f"{closed_port()}/a.onnx"
    host.files[url] = ONNX
    offer(url)
    assert download("tiny").read_bytes() == ONNX


@pytest.mark.parametrize("variable", ["1", "0", ""])
def test_offline(variable: str, host: Host, offer: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.files["/a.onnx"] = ONNX
    offer("/a.onnx")
    monkeypatch.setenv("LEANPOSE_OFFLINE", variable)
    if variable == "1":
        assert f"tiny is not in {folder}, and --offline or LEANPOSE_OFFLINE forbids the network" in refused()
    with pytest.raises(WeightsError, match="forbids the network"):
        download("tiny", offline=True)
    assert not host.requests and not folder.exists()
    if variable != "1":
        download("tiny")
    else:
        folder.mkdir()
        (folder / "tiny.onnx").write_bytes(ONNX)
    assert download("tiny", offline=True) == folder / "tiny.onnx"


@pytest.mark.parametrize("size", [len(ONNX), 0])
@pytest.mark.parametrize("name", ["other.onnx", "20230831/rtmpose_onnx/tiny/end2end.onnx"])
def test_a_file_under_any_name_is_found_by_its_hash(size: int, name: str, host: Host, offer: Any, folder: Path) -> None:
    row = offer("/a.onnx", size=size)
    file = folder / name
    file.parent.mkdir(parents=True)
    file.write_bytes(ONNX[:-1] + b"?")
    (folder / "tiny.txt").write_bytes(ONNX)
    assert local_file(row) is None
    file.write_bytes(ONNX + b"?")
    assert local_file(row) is None
    file.write_bytes(ONNX)
    assert download("tiny") == local_file(row) == file
    assert not host.requests


def test_a_file_of_its_name_that_is_another(host: Host, offer: Any, folder: Path) -> None:
    """It may be somebody's own work, so nothing replaces it."""
    offer("/a.onnx")
    folder.mkdir()
    (folder / "tiny.onnx").write_bytes(ONNX[:-1])
    assert f"{folder / 'tiny.onnx'} is another file than the published one; rename it" in refused()
    with pytest.raises(WeightsError, match="is another file than the published one"):
        find_weights("tiny")
    assert not host.requests and left(folder) == ["tiny.onnx"]


def test_names_given_outright(host: Host, offer: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.files["/a.onnx"] = ONNX
    offer("/a.onnx")
    with pytest.raises(WeightsError, match=r"tiny is a public \.onnx file, .* as \.safetensors"):
        find_weights("tiny", ".safetensors")
    with pytest.raises(WeightsError, match="Did you mean 'tiny'"):
        find_weights("tinyy")
    assert not host.requests
    assert find_weights("tiny", ".onnx") == find_weights("tiny") == folder / "tiny.onnx"
    (folder / "tiny.onnx").rename(folder / "end2end.onnx")
    assert find_weights("tiny") == folder / "end2end.onnx" and len(host.requests) == 1
    (folder / "tiny.mine.onnx").touch()
    assert find_weights("tiny") == folder / "tiny.mine.onnx"  # one's own come first, as for every name


def test_own_weights_under_a_public_name(offer: Any, folder: Path) -> None:
    """A file with a record of leanpose is taken at its name."""
    onnx = pytest.importorskip("onnx")
    row = offer("/a.onnx")
    graph = onnx.helper.make_graph([], "empty", [], [])
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, row.record.to_metadata())
    folder.mkdir()
    onnx.save(model, folder / "tiny.onnx")
    assert find_weights("tiny") == folder / "tiny.onnx"


def test_what_has_to_be_fetched_by_hand(offer: Any, folder: Path) -> None:
    offer(by_hand="take it from there to FOLDER/tiny.safetensors", sha256="", size=0)
    assert refused() == f"tiny has to be fetched by hand: take it from there to {folder}/tiny.safetensors."
    folder.mkdir()
    (folder / "tiny.safetensors").touch()
    assert download("tiny") == find_weights("tiny") == folder / "tiny.safetensors"


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert weights_folder() == tmp_path / "weights"
    monkeypatch.setenv("LEANPOSE_WEIGHTS", "")
    assert weights_folder() == Path.home() / ".leanpose"


ANOTHER = """
import sys
from leanpose.weights.download import download
from leanpose.weights.public import PUBLIC, PublicWeights
from leanpose.weights.record import Weights
url, sha256, size = sys.argv[1:]
PUBLIC["tiny"] = PublicWeights("tiny", Weights("tiny", "tiny", (32, 24)), (url,), sha256, int(size))
print(download("tiny"))
"""


def another(host: Host) -> subprocess.Popen[str]:
    """Start a process that downloads the weights too."""
    words = [sys.executable, "-c", ANOTHER, f"{host.address}/a.onnx", SHA256, str(len(ONNX))]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_two_processes_at_once(host: Host, folder: Path) -> None:
    asked, answer = threading.Event(), threading.Event()
    host.files["/a.onnx"] = ONNX
    host.before = lambda: asked.set() or answer.wait(60)  # type: ignore[func-returns-value]
    first = another(host)
    assert asked.wait(60)
    second = another(host)
    assert second.stderr is not None
    assert f"another process is fetching weights into {folder}; waiting for it" in second.stderr.readline()
    answer.set()
    for process in (first, second):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out == f"{folder / 'tiny.onnx'}\n"
    assert (folder / "tiny.onnx").read_bytes() == ONNX and left(folder) == ["tiny.onnx"]
    assert len(host.requests) == 1


def test_a_killed_process_holds_nobody_up(host: Host, offer: Any, folder: Path) -> None:
    asked, answer = threading.Event(), threading.Event()
    host.files["/a.onnx"] = ONNX
    host.before = lambda: asked.set() or answer.wait(60)  # type: ignore[func-returns-value]
    process = another(host)
    assert asked.wait(60)
    process.kill()
    process.communicate(timeout=60)
    answer.set()
    offer("/a.onnx")
    assert download("tiny").read_bytes() == ONNX and left(folder) == ["tiny.onnx"]
