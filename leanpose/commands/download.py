"""Fetch public weights before they are needed, verb `download`."""

from __future__ import annotations

from leanpose.errors import WeightsError
from leanpose.weights.download import download
from leanpose.weights.public import BEST, get_public


def download_files(names: list[str], *, offline: bool = False) -> None:
    """Fetch public weights into the folder that LEANPOSE_WEIGHTS names (~/.leanpose), and print where they are.

    What is there, under any name, is not fetched again. A download that was interrupted goes on. Files are checked by
    their SHA-256, where one has been published. `leanpose models --public` lists the names, docs/public-weights.md says
    more.

    Args:
        names: names of public weights, or "best": a network for persons in boxes, and a detector.
        offline: use no network, only say where the files are.
    """
    wanted = dict.fromkeys(name for word in names for name in (BEST if word == "best" else (word,)))
    for name in wanted:
        get_public(name)  # before anything is fetched
    failures = []
    for name in wanted:
        try:
            print(f"{name}: {download(name, offline)}")
        except WeightsError as error:
            failures.append(str(error))
    if failures:
        raise WeightsError("\nleanpose: ".join(failures))
