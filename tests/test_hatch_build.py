"""The build hook, with an npm that hands out a package made here."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import os
import sys
import tarfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = {"package/dist/a.js": b"let a;", "package/b.css": b"b {}", "package/other.js": b"let other;"}


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return hatch_build, of which only the interface of hatchling is missing here."""
    interface = ModuleType("interface")
    interface.BuildHookInterface = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hatchling.builders.hooks.plugin.interface", interface)
    for name in ("hatchling", "hatchling.builders", "hatchling.builders.hooks", "hatchling.builders.hooks.plugin"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "hatch_build", module)
    spec.loader.exec_module(module)
    monkeypatch.delenv(module.WITHOUT, raising=False)
    return module


@pytest.fixture
def npm(hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let npm be a script that copies a package, and the hook know this package only; return the script."""
    if os.name == "nt":
        pytest.skip("the npm of this test is a shell script")
    package = tmp_path / "package.tgz"
    with tarfile.open(package, "w:gz") as archive:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    known = hook.Package("1.0.0", integrity, ("dist/a.js", "b.css"), license="LICENSE")
    monkeypatch.setattr(hook, "PACKAGES", {"small": known})
    (tmp_path / "LICENSE").write_text("MIT")
    script = tmp_path / "bin" / "npm"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "pack small@1.0.0 --pack-destination" ] && cp "{package}" "$4"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    return script


def build(hook: ModuleType, root: Path, version: str) -> list[str]:
    """Return what hatchling is told while it builds: the warning, or the reason why it stops."""
    told: list[str] = []

    def abort(reason: str) -> None:
        told.append(f"abort: {reason}")
        raise SystemExit(1)

    builder: Any = hook.BrowserFiles()
    builder.root, builder.app = str(root), SimpleNamespace(abort=abort, display_warning=told.append)
    try:
        builder.initialize(version, {})
    except SystemExit:
        assert told[-1].startswith("abort")
    return told


def test_a_build_has_the_named_files_and_fetches_them_once(hook: ModuleType, npm: Path, tmp_path: Path) -> None:
    assert build(hook, tmp_path, "standard") == []
    folder = tmp_path / hook.VENDOR / "small"
    assert {file.name for file in folder.iterdir()} == {"a.js", "b.css", "LICENSE", "integrity.txt"}
    assert (folder / "a.js").read_bytes() == FILES["package/dist/a.js"]
    npm.write_text("#!/bin/sh\nexit 1\n")
    assert build(hook, tmp_path, "standard") == []  # npm is not asked again
    (folder / "b.css").unlink()
    assert build(hook, tmp_path, "standard") != []


@pytest.mark.parametrize("harm", ["another package", "no network"])
def test_a_wheel_is_not_built_without_what_npm_should_give(
    hook: ModuleType, npm: Path, tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if harm == "another package":
        npm.write_text('#!/bin/sh\necho other > "$4/small.tgz"\n')
    else:
        npm.write_text("#!/bin/sh\nexit 1\n")
    (told,) = build(hook, tmp_path, "standard")
    assert told.startswith("abort: npm ") and "small 1.0.0" in told and "LEANPOSE_WITHOUT_BROWSER_FILES=1" in told
    (told,) = build(hook, tmp_path, "editable")
    assert told.startswith("npm ") and "leanpose serve" in told
    assert not list((tmp_path / "leanpose").rglob("*.*"))  # nothing half-written
    monkeypatch.setenv("LEANPOSE_WITHOUT_BROWSER_FILES", "1")
    assert build(hook, tmp_path, "standard") == []


@pytest.mark.parametrize("version", ["standard", "editable"])
def test_without_npm_the_base_is_built(
    hook: ModuleType, tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (told,) = build(hook, tmp_path, version)
    assert told.startswith("npm is not installed; ")


def test_the_table_has_hashes_and_licences(hook: ModuleType) -> None:
    for name, package in hook.PACKAGES.items():
        assert len(base64.b64decode(package.integrity.removeprefix("sha512-"))) == 64, name
        assert package.license or "LICENSE" in package.files
        assert not package.license or (ROOT / package.license).is_file()
