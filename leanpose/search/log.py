"""What a search keeps on disk: its settings, and every arch that it judged, so that it goes on where it was stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leanpose.errors import InputError
from leanpose.io.files import write_text
from leanpose.io.values import read_json
from leanpose.models.litepose_arch import LitePoseArch

SETTINGS, CANDIDATES = "search.json", "candidates.jsonl"


class SearchLog:
    """The folder of a search.

    Args:
        folder: made if it is not there.
        settings: all that its outcome depends on, JSON-ready.

    Attributes:
        fitness: of the archs that were judged so far.

    Raises:
        InputError: the folder holds a search with other settings, or a file in it is damaged.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.fitness: dict[LitePoseArch, float] = {}
        self._path = folder / CANDIDATES
        check_settings(folder, settings)
        write_text(folder / SETTINGS, json.dumps(settings, indent=1))
        if self._path.is_file():
            self._read()

    def _read(self) -> None:
        """Read the archs; what a kill left of a last line is cut off."""
        *lines, torn = self._path.read_bytes().split(b"\n")
        for i, line in enumerate(lines):
            try:
                entry = json.loads(line)
                self.fitness[LitePoseArch.of(entry["arch"])] = float(entry["fitness"])
            except (ValueError, KeyError, TypeError):
                raise InputError(f"Line {i + 1} of {self._path} is damaged; delete the line.") from None
        if torn:
            with self._path.open("r+b") as file:
                file.truncate(self._path.stat().st_size - len(torn))

    def add(self, arch: LitePoseArch, fitness: float, **details: Any) -> None:
        """Write down an arch with its fitness and what else there is to know of it."""
        self.fitness[arch] = fitness
        entry = {"fitness": fitness, **details, "arch": arch.as_dict()}
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"{self._path} cannot be written ({error.strerror}); free space.") from None


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise InputError where a folder holds a search with other settings."""
    if not (folder / SETTINGS).is_file():
        if (folder / CANDIDATES).exists():
            raise InputError(f"{folder} holds {CANDIDATES} without {SETTINGS}: choose another --out.")
        return
    theirs = read_json(folder / SETTINGS)
    for key, value in settings.items():
        if not isinstance(theirs, dict) or theirs.get(key) != value:
            found = theirs.get(key) if isinstance(theirs, dict) else theirs
            raise InputError(f"{folder} holds a search with {key} {found}, not {value}: choose another --out.")
