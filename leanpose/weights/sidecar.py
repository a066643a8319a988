"""The JSON file beside a network's file of a form that carries no record: FILE.json, such as lpn50.tflite.json.

Under "leanpose" it holds the record, under "files" the SHA-256 of all that belongs together, and under "app" what an
app must do (leanpose.deploy.describe).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from leanpose.errors import WeightsError
from leanpose.weights.record import METADATA_KEY, Weights


def sidecar_path(path: str | Path) -> Path:
    """Return where the sidecar of a file lies."""
    return Path(f"{path}.json")


def sidecar(weights: Weights, files: Iterable[Path], more: Mapping[str, Any]) -> str:
    """Return the text of a sidecar.

    Args:
        weights: the record.
        files: all files, or folders, that make up the network.
        more: JSON-ready entries besides.
    """
    record = json.loads(weights.to_metadata()[METADATA_KEY])
    hashes = {file.name: content_hash(file) for file in files}
    return json.dumps({METADATA_KEY: record, "files": hashes, **more}, indent=1)


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files of a folder with their names."""
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{file.relative_to(path).as_posix()} {content_hash(file)}\n" for file in inside]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_sidecar(path: str | Path) -> Weights:
    """Read the record of a network's file from its sidecar.

    Raises:
        WeightsError: there is no sidecar, it cannot be used, or a file that it names is another one.
    """
    path = Path(path)
    content = _content(path)
    if content is None:
        raise WeightsError(
            f"{path.name} needs {sidecar_path(path).name} beside it, which `leanpose export` writes: export it again, "
            "or copy both."
        )
    if content.get("end_to_end"):
        raise WeightsError(f"{path.name} is for apps, with its preprocessing inside: export it without --end-to-end.")
    record, files = content.get(METADATA_KEY), content.get("files")
    if not isinstance(record, dict) or not isinstance(files, dict):
        raise WeightsError(f"{sidecar_path(path).name} is not a sidecar of leanpose; export the weights again.")
    for name, wanted in files.items():
        file = path.with_name(name)
        if not file.exists():
            raise WeightsError(f"{path.name} needs {name} beside it: copy it too, or export the weights again.")
        if content_hash(file) != wanted:
            raise WeightsError(f"{name} is not as {sidecar_path(path).name} says; export the weights again.")
    return Weights.from_metadata({METADATA_KEY: json.dumps(record)}, sidecar_path(path).name)


def is_exported(file: Path, first: Path) -> bool:
    """Whether a file, or folder, is as leanpose wrote it: the sidecar of the first of its group has its hash."""
    content = _content(first)
    files = content.get("files") if content else None
    return isinstance(files, dict) and files.get(file.name) == content_hash(file)


def _content(path: Path) -> dict[str, Any] | None:
    """Return what the sidecar of a file holds; None: there is none, or it is no JSON object."""
    try:
        content = json.loads(sidecar_path(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
