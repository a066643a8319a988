"""Everything leanpose raises on purpose. Each message is one sentence that says what to type instead.

LeanposeError              the command line prints the message and exits with status 2
├── InputError             an image, box, annotation file, recipe or option that cannot be used
├── WeightsError           a model name or weights file that cannot be used
└── MissingPackageError    an optional package is not installed; the message holds the line to type
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import sys
from collections.abc import Iterable
from types import ModuleType


class LeanposeError(Exception):
    """Base of all errors that leanpose raises on purpose."""


class InputError(LeanposeError, ValueError):
    """An image, box, annotation file, recipe or option that cannot be used."""


class WeightsError(LeanposeError, ValueError):
    """A model name or weights file that cannot be used."""


class MissingPackageError(LeanposeError, ImportError):
    """An optional package is not installed."""


def suggest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return " Did you mean 'x'?" for the nearest known name, else the list of known names as a sentence, if any.

    Args:
        prefix: what stands before each known name in the sentence, and does not count for nearness, such as "--".
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{prefix}{near[0]}'?"
    return f" Known: {', '.join(prefix + one for one in known)}." if known else ""


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package, or raise MissingPackageError with the line that installs it.

    Args:
        package: import name, for example "torch".
        extra: the extra of leanpose that brings it, for example "train".
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.split(".")[0]:
            raise
        raise missing(package.split(".")[0], extra) from None


def missing(package: str, extra: str) -> MissingPackageError:
    """Return the error for a package that an extra of leanpose brings, with the line that installs it."""
    return MissingPackageError(f"This needs the package {package}: {install_line(extra)}")


def install_line(extra: str) -> str:
    """Return the line that installs leanpose with an extra from where this one came: a folder, a wheel, git or PyPI."""
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        origin = json.loads(distribution("leanpose").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:  # run from a clone, not installed
        return f'pip install ".[{extra}]"'
    url = origin.get("url", "")
    if "vcs_info" in origin:
        return f'pip install "leanpose[{extra}] @ {origin["vcs_info"]["vcs"]}+{url}"'
    path = url2pathname(urlsplit(url).path) if url.startswith("file:") else ""
    if not os.path.exists(path):
        return f'pip install "leanpose[{extra}]"'
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return f'pip install {editable}"{path}[{extra}]"'


def note(line: str) -> None:
    """Print one line to stderr that the user should know of, though the work goes on."""
    print(f"leanpose: {line}", file=sys.stderr)


def renamed(detector: str, finder: str | None) -> str:
    """Return the value of the option --detector, also where it is given by its former name, --finder."""
    if finder is None:
        return detector
    note("--finder is now called --detector; the old name goes with the next release.")
    return finder
