"""Pictures in: files, URLs, PIL pictures and arrays become RGB uint8 (H, W, 3), or one clear error."""

from __future__ import annotations

import glob
import os
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from leanpose.errors import InputError

Source = Any  # str, os.PathLike, PIL.Image.Image or numpy array
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"))
_DOWNLOAD_LIMIT = 100 * 2**20  # bytes


def read_picture(source: Source) -> np.ndarray:
    """Return a picture as (H, W, 3) uint8 RGB.

    Grey, RGBA and 16-bit pictures are converted, and a camera's EXIF rotation is applied.

    Args:
        source: path, http(s) URL, PIL picture, or array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), RGB order,
            uint8 or uint16.

    Raises:
        InputError: the file is missing, is no picture, or is cut off.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        return decode_picture(_read_bytes(str(name)), str(name))
    if hasattr(source, "getexif") and hasattr(source, "convert"):  # a PIL picture, without importing PIL
        from PIL import ImageOps

        return np.asarray(ImageOps.exif_transpose(source).convert("RGB"))
    raise InputError(f"A picture must be a path, URL, PIL picture or array, not {type(source).__name__}.")


def decode_picture(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of a picture file to (H, W, 3) uint8 RGB; `name` is used in messages."""
    if not data:
        raise InputError(f"{name} is empty; give a picture file.")
    if _is_cut_off(data):
        raise InputError(f"{name} is cut off: its end is missing; copy or download it again.")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        picture = None
    if picture is None or picture.size == 0:
        raise InputError(f"{name} is not a picture that can be read; use JPEG, PNG, WebP, BMP or TIFF.")
    return picture


def find_pictures(sources: Iterable[str]) -> list[str]:
    """Expand files, folders (not their sub-folders), globs and URLs to a list of picture names.

    Raises:
        InputError: nothing is found under one of the sources.
    """
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if _is_url(source) or path.is_file():
            found.append(source)
        elif path.is_dir():
            inside = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise InputError(f"The folder {source} holds no pictures ({', '.join(sorted(SUFFIXES))}).")
            found += inside
        elif inside := sorted(glob.glob(source, recursive=True)):
            found += inside
        else:
            raise InputError(f"There is no picture {source}; check the path.")
    return found


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _read_bytes(name: str) -> bytes:
    try:
        if _is_url(name):
            with urllib.request.urlopen(name, timeout=30) as answer:
                data = answer.read(_DOWNLOAD_LIMIT + 1)
            if len(data) > _DOWNLOAD_LIMIT:
                raise InputError(f"{name} is larger than {_DOWNLOAD_LIMIT >> 20} MiB; download it and give the file.")
            return data
        return Path(name).read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no picture {name}; check the path.") from None
    except (OSError, ValueError) as error:  # includes urllib.error.URLError
        raise InputError(f"{name} cannot be read ({getattr(error, 'reason', None) or error}).") from None


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise InputError(f"A picture array must be (H, W, 3) with H and W above 0, not {array.shape}.")
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    if array.dtype != np.uint8:
        raise InputError(f"A picture array must be uint8, not {array.dtype}; scale it to 0..255 and convert.")
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array[:, :, :3])


def _is_cut_off(data: bytes) -> bool:
    """Tell whether a JPEG or PNG lacks its end mark. OpenCV would fill the rest with grey and say nothing."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    if not data.startswith(b"\xff\xd8"):
        return False
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        position += 2 + length
        if marker == 0xDA:  # start of the scan: the end mark must follow, thumbnails with their own lie before
            return data.find(b"\xff\xd9", position) < 0
    return True
