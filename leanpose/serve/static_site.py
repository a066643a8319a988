"""The page as a folder for any web server: the networks run in the browser, and nothing is sent anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from leanpose.errors import InputError
from leanpose.io.files import write_folder_atomically
from leanpose.io.preflight import check_needs
from leanpose.serve.manifest import PAGE, RUNTIME, manifest, network_files

LIST = "site.json"  # the files of the folder and their SHA-256, by which leanpose knows it as its own
README = """The page of leanpose, https://github.com/leanpose/leanpose: it finds the keypoints of persons in images.

Put this folder anywhere on a web server; opened as a file:// address it does not run. Images stay in the browser.

The networks run on several threads, and so faster, where the server sends these headers with every file:

    Cross-Origin-Opener-Policy: same-origin
    Cross-Origin-Embedder-Policy: require-corp
"""


def write_site(out: Path, models: Sequence[str], detector: str | None) -> list[Path]:
    """Write the page, onnxruntime-web, the manifest and the networks, all of it or nothing.

    Args:
        out: a folder that is new, empty, or was written by this function and not changed since.
        models: names or .onnx files, the default first; "auto" as of Predictor.
        detector: the same of what proposes persons; None or "none": the whole image is one person.

    Returns:
        The files of the folder.

    Raises:
        InputError: a network does not run in a browser, the folder holds other files, or cannot be written.
        WeightsError: the detector cannot be used.
    """
    out = out.absolute()
    networks, listed = network_files(models, detector), manifest(models, detector)
    for reason in listed["left_out"].values():
        raise InputError(reason)
    files = _page_files() | {f"models/{name}": path for name, path in networks.items()}
    texts = {"models/manifest.json": json.dumps(listed), "README.txt": README}
    _check_free(out)
    check_needs(places=[out], megabytes=sum(path.stat().st_size for path in files.values()) / 1e6)
    write_folder_atomically(out, lambda folder: _fill(folder, out, files, texts))
    return [out / name for name in sorted([*files, *texts, LIST])]


def _page_files() -> dict[str, Path]:
    """Return the files of the page that need no server, by their names in it."""
    left_out = {PAGE / name for name in ("vendor", "docs.html", "docs.js")}  # of vendor one part follows
    found = [path for path in PAGE.rglob("*") if path.is_file() and not left_out & {path, *path.parents}]
    found += [path for path in RUNTIME.parent.iterdir() if path.is_file()]
    return {path.relative_to(PAGE).as_posix(): path for path in found}


def _fill(folder: Path, out: Path, files: dict[str, Path], texts: dict[str, str]) -> None:
    """Write all files into a new folder, then empty the one whose place it takes."""
    for name, path in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / LIST).write_text(json.dumps({"leanpose": _hashes(folder)}, indent=1), encoding="utf-8")
    if out.is_dir():
        shutil.rmtree(out)
        out.mkdir()


def _hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of all files in a folder but the list itself, by their names in it."""
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir() and path != folder / LIST)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _check_free(out: Path) -> None:
    """Raise InputError where a folder holds what leanpose did not write."""
    try:
        if not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir())):
            return
        if out.is_dir() and json.loads((out / LIST).read_bytes()) == {"leanpose": _hashes(out)}:
            return
    except (OSError, ValueError):  # no list, or one of something else
        pass
    raise InputError(f"{out} holds files that leanpose did not write, or that were changed; choose another folder.")
