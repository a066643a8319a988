"""The page as a folder for any web server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leanpose.errors import InputError
from leanpose.serve import manifest, static_site
from leanpose.serve.static_site import write_site


@pytest.fixture(autouse=True)
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of three files, with what other packages bring."""
    folder = tmp_path / "page"
    runtime = folder / "vendor" / "onnxruntime-web" / "ort-wasm-simd-threaded.wasm"
    others = (folder / "index.html", folder / "engine" / "worker.js", folder / "vendor" / "swagger-ui-dist" / "a.js")
    for file in (runtime, *others):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    for module in (manifest, static_site):
        monkeypatch.setattr(module, "PAGE", folder)
        monkeypatch.setattr(module, "RUNTIME", runtime)
    return folder


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_it_writes_the_page_the_runtime_and_the_networks(tmp_path: Path) -> None:
    out = tmp_path / "new" / "site"
    written = write_site(out, ["lpn50"], "litepose_xs")
    assert files_in(out) == {path.relative_to(out).as_posix() for path in written} == {
        "README.txt", "engine/worker.js", "index.html", "models/litepose_xs.onnx", "models/lpn50.onnx",
        "models/manifest.json", "site.json", "vendor/onnxruntime-web/ort-wasm-simd-threaded.wasm",
    }  # fmt: skip
    told = json.loads((out / "models" / "manifest.json").read_text())
    assert (out / "models" / told["networks"]["lpn50"]["file"]).stat().st_size == told["networks"]["lpn50"]["bytes"]
    assert list(out.parent.iterdir()) == [out]


def test_it_replaces_what_it_wrote(tmp_path: Path, page: Path) -> None:
    out = tmp_path / "site"
    out.mkdir()
    write_site(out, ["lpn50"], "litepose_xs")
    (page / "index.html").unlink()
    write_site(out, ["lpn50"], None)
    assert not files_in(out) & {"index.html", "models/litepose_xs.onnx"}


@pytest.mark.parametrize("change", ["a further file", "a changed file", "others alone", "a file"])
def test_it_replaces_nothing_else(tmp_path: Path, change: str) -> None:
    out = tmp_path / "site"
    if change == "a file":
        out.write_text("mine")
    elif change == "others alone":
        out.mkdir()
        (out / "mine.txt").touch()
    else:
        write_site(out, ["lpn50"], None)
        (out / ("mine.txt" if change == "a further file" else "index.html")).write_text("mine")
    before = files_in(out)
    with pytest.raises(InputError, match="holds files that leanpose did not write"):
        write_site(out, ["lpn50"], None)
    assert files_in(out) == before and out.exists()


@pytest.mark.parametrize("models", [["litepose_xs"], ["lpn50", "litepose_xs"], ["lpn50", "lpn51"]])
def test_a_network_that_cannot_run_leaves_nothing_behind(tmp_path: Path, models: list[str]) -> None:
    with pytest.raises(InputError):
        write_site(tmp_path / "site", models, None)
    assert not (tmp_path / "site").exists()


def test_half_a_site_is_not_left_behind(tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(InputError, match="No space left"):
        write_site(tmp_path / "site", ["lpn50"], None)
    assert list(tmp_path.iterdir()) == [page]
