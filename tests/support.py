"""Where the stored outputs of published code lie, which parity tests compare with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"  # beside the repository, where it is; not part of it
GOLDENS = SHARED / "goldens"


def golden_file(name: str) -> Path:
    """Return a file of goldens, or where that is not here the small part of it that the repository has."""
    file = GOLDENS / f"{name}.safetensors"
    return file if file.is_file() else Path(__file__).parent / "goldens" / file.name


def load_lpn_decode() -> dict[str, np.ndarray]:
    """Return the goldens of LPN's decoder, for the images and keypoints whose heatmaps there are."""
    arrays: dict[str, np.ndarray] = pytest.importorskip("safetensors.numpy").load_file(golden_file("lpn_decode"))
    n, k = arrays["heatmaps"].shape[:2]
    for name, array in arrays.items():
        if array.shape[:2] == (3, 17):
            arrays[name] = array[:n, :k]
        elif array.shape[:1] == (17,):
            arrays[name] = array[:k]
        elif name in ("center", "scale"):
            arrays[name] = array[:n]
    return arrays
