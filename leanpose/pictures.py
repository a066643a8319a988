"""Pictures in: files, URLs, PIL pictures and arrays become RGB uint8 (H, W, 3), or one clear error."""

from __future__ import annotations

import glob
import http.client
import os
import urllib.error
import urllib.request
import zlib
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
        return _from_pil(source)
    raise InputError(f"A picture must be a path, URL, PIL picture or array, not {type(source).__name__}.")


def decode_picture(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of a picture file to (H, W, 3) uint8 RGB; `name` is used in messages."""
    if not data:
        raise InputError(f"{name} is empty; give a picture file.")
    fault = _png_fault(data) if data.startswith(b"\x89PNG") else _jpeg_fault(data)
    if fault:
        raise InputError(f"{name} {fault}.")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        picture = None
    if picture is None or picture.size == 0:
        raise InputError(f"{name} is not a picture that can be read; use JPEG, PNG, WebP, BMP or TIFF.")
    return picture


def find_pictures(sources: Iterable[str]) -> list[str]:
    """Expand files, folders (not their sub-folders), globs and URLs to a list of picture names, each once.

    Raises:
        InputError: nothing is found under one of the sources.
    """
    found: list[str] = []
    for source in sources:
        if _is_url(source) or os.path.isfile(source):
            found.append(source)
        elif os.path.isdir(source):
            inside = _pictures_in(source)
            if not inside:
                raise InputError(f"The folder {source} holds no pictures ({', '.join(sorted(SUFFIXES))}).")
            found += inside
        elif inside := sorted(filter(os.path.isfile, glob.glob(source, recursive=True))):
            found += inside
        else:
            raise InputError(f"There is no picture {source}; check the path.")
    return list(dict.fromkeys(found))


def _pictures_in(folder: str) -> list[str]:
    try:
        paths = sorted(Path(folder).iterdir())
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}).") from None
    return [str(path) for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()]


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
    except InputError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:  # includes urllib.error.URLError
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise InputError(f"{name} cannot be read ({reason}).") from None


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


def _from_pil(source: Any) -> np.ndarray:
    from PIL import ImageOps

    try:
        upright = ImageOps.exif_transpose(source)
        if upright.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
            return _from_array(np.asarray(upright).astype(np.uint16))
        return _from_array(np.asarray(upright if upright.mode == "F" else upright.convert("RGB")))
    except OSError as error:
        raise InputError(f"The PIL picture cannot be read ({error}).") from None


_CUT_OFF = "is cut off: its end is missing; copy or download it again"


def _png_fault(data: bytes) -> str:
    """Tell what is wrong with a PNG, "" if nothing is. OpenCV would fill lost parts with grey and say nothing."""
    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind, end = data[position + 4 : position + 8], position + 8 + length
        if end + 4 > len(data):
            break
        if kind == b"IHDR" and b"\0\0\0\0" in (data[position + 8 : position + 12], data[position + 12 : position + 16]):
            return "has no pixels: its width or height is zero"
        if kind[:1].isupper() and zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return "is damaged: a checksum in it is wrong; copy or download it again"
        if kind == b"IEND":
            return ""
        position = end + 4
    return _CUT_OFF


def _jpeg_fault(data: bytes) -> str:
    """Tell whether a JPEG lacks its end mark, "" if not. OpenCV would fill the rest with grey and say nothing."""
    if not data.startswith(b"\xff\xd8"):
        return ""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        position += 2 + length
        if marker == 0xDA:  # start of the scan: the end mark must follow, thumbnails with their own lie before
            return _CUT_OFF if data.find(b"\xff\xd9", position) < 0 else ""
    return _CUT_OFF
