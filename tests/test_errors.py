"""The line that installs an extra names where leanpose came from, so that it works before and after a release."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from leanpose.errors import MissingPackageError, install_line, require

GIT = {"url": "https://example.org/leanpose.git", "vcs_info": {"vcs": "git", "commit_id": "0" * 40}}


def install_from(origin: dict[str, Any] | None, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay what pip notes of an installation in front of the real one."""
    info = site / "leanpose-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leanpose\nVersion: 0.1.0\n")
    if origin is not None:
        (info / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(site)


@pytest.mark.parametrize(("editable", "option"), [(False, ""), (True, "-e ")])
def test_an_install_from_a_folder_names_it(
    editable: bool, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    origin = {"url": clone.as_uri(), "dir_info": {"editable": editable}}
    install_from(origin, tmp_path, monkeypatch)
    with pytest.raises(MissingPackageError) as fault:
        require("absent_package", "train")
    line = f'pip install {option}"{clone}[train]"'
    assert str(fault.value) == f"This needs the package absent_package: {line}"


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        (None, 'pip install "leanpose[openvino]"'),
        ({"url": "file:///no/such/folder", "dir_info": {}}, 'pip install "leanpose[openvino]"'),
        (GIT, 'pip install "leanpose[openvino] @ git+https://example.org/leanpose.git"'),
    ],
    ids=["index", "folder that is gone", "git"],
)
def test_other_installs(
    origin: dict[str, Any] | None, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_from(origin, tmp_path, monkeypatch)
    assert install_line("openvino") == line


def test_a_clone_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", nowhere)
    assert install_line("train") == 'pip install ".[train]"'
