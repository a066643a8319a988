"""Images in: files, URLs, PIL images and arrays become RGB uint8 (H, W, 3), or one clear error."""

from __future__ import annotations

import glob
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from leanpose.errors import InputError
from leanpose.io import image_bytes
from leanpose.io.files import write_bytes

Source = Any  # str, os.PathLike, bytes, binary file, PIL.Image.Image or NumPy array
_NOT_IN_EVERY_OPENCV = filter(cv2.haveImageWriter, (".avif", ".gif"))
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", *_NOT_IN_EVERY_OPENCV)
)
PHOTOS = ".arw .cr2 .cr3 .dng .heic .heif .hif .jxl .nef .orf .raf .raw .rw2"
DRAWINGS = ".exr .hdr .jp2 .pbm .pgm .pnm .ppm .psd .svg .tga"
VIDEOS = ".3gp .avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm .wmv"
REMEDY = "convert images to JPEG or PNG, and give videos by their names"
OTHER_SUFFIXES = frozenset(f"{PHOTOS} {DRAWINGS} {VIDEOS} .avif .gif".split()) - SUFFIXES  # named, not taken
DOWNLOAD_SECONDS = 120  # in all
SILENT_SECONDS = 30  # in which nothing comes
LARGEST = 100 * 2**20  # bytes of what is downloaded


def read_image(source: Source) -> np.ndarray:
    """Return an image as (H, W, 3) uint8 RGB.

    Grey, RGBA and 16-bit images are converted, and the rotation that a file states (EXIF; AVIF's own) is applied.

    Args:
        source: path, http(s) URL, the bytes of an image file or a file opened for reading bytes, PIL image, or array
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or uint16, in RGB order: an array of OpenCV's, which is
            BGR, goes as `array[..., ::-1]`.

    Raises:
        InputError: the file is missing, is no image, or is cut off.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        return decode_image(_read_bytes(str(name)), str(name))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode_image(bytes(source), "The image")
    if hasattr(source, "getexif") and hasattr(source, "convert"):  # a PIL image, without importing PIL
        return _from_pil(source)
    if hasattr(source, "read"):
        return _from_file(source)
    raise InputError(f"An image must be a path, URL, bytes, file, PIL image or array, not {type(source).__name__}.")


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image file, whole or not at all; its suffix says the kind, such as .png or .jpg.

    Args:
        image: (H, W, 3) uint8 RGB.

    Raises:
        InputError: the suffix is of no kind that can be written, the image is not such an array, or the disk is full.
    """
    pixels = cv2.cvtColor(read_image(image), cv2.COLOR_RGB2BGR)
    write_bytes(path, encoded(pixels, Path(path)))


def encoded(bgr: np.ndarray, path: Path, exif: bytes | None = None) -> bytes:
    """Return the bytes of an image file of the kind that a path has, with an EXIF entry if there is one."""
    kinds = [] if exif is None else [cv2.IMAGE_METADATA_EXIF]
    entries = [] if exif is None else [np.frombuffer(exif, np.uint8)]
    try:
        return cv2.imencodeWithMetadata(path.suffix, bgr, kinds, entries)[1].tobytes()
    except cv2.error:
        raise InputError(f"{path} cannot be written: no such image can be a '{path.suffix}' file; use .png.") from None


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of an image file to (H, W, 3) uint8 RGB; `name` is used in messages."""
    if not data:
        raise InputError(f"{name} is empty; give an image file.")
    if fault := image_bytes.fault(data):
        raise InputError(f"{name} {fault}.")
    flags = cv2.IMREAD_COLOR_RGB
    deep, avif = image_bytes.may_be_deep(data), image_bytes.is_avif(data)
    if deep or avif:  # as BGR, since OpenCV 5 mixes up the channels of 16-bit TIFF, and of AVIF with alpha
        flags = cv2.IMREAD_COLOR | (cv2.IMREAD_ANYDEPTH if deep else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None or image.size == 0 or image.dtype not in (np.uint8, np.uint16):
        video = Path(name).suffix.lower() in VIDEOS.split()
        use = "for a video use leanpose.Video" if video else "use JPEG, PNG, WebP, BMP or TIFF"
        raise InputError(f"{name} is not an image that can be read; {use}.")
    if deep or avif:
        image = image_bytes.upright(_eight_bits(image)[..., ::-1], data)
    return image


def _eight_bits(image: np.ndarray) -> np.ndarray:
    """Return an image as uint8: the upper eight of the bits that its camera used.

    These are 8, 10, 12, 14 or 16, the least that hold the highest value; cameras put 10 to 14 bits into 16-bit files.
    """
    if image.dtype.kind != "u" or image.dtype.itemsize != 2:
        return image
    bits = max(8, int(image.max()).bit_length())
    return (image >> (bits + bits % 2 - 8)).astype(np.uint8)


def find_images(sources: Iterable[str]) -> list[str]:
    """Expand files, folders (not their sub-folders and hidden files), globs and URLs to a list of names, each once.

    Brackets are signs of the name where there is such a file or folder, else a choice of letters, as in `[ab]*.jpg`.

    Raises:
        InputError: nothing is found under one of the sources.
    """
    found: list[str] = []
    for source in sources:
        if is_url(source) or os.path.isfile(source):
            found.append(source)
        elif os.path.isdir(source):
            inside = [str(path) for path in _files_in(source) if path.suffix.lower() in SUFFIXES]
            if not inside:
                others = left_out(source)
                but = f", but {others}: {REMEDY}" if others else ""
                raise InputError(f"The folder {source} holds no images ({', '.join(sorted(SUFFIXES))}){but}.")
            found += inside
        elif inside := matches(source):
            found += inside
        else:
            raise InputError(f"There is no image {source}; check the path.")
    return list(dict.fromkeys(found))


def left_out(folder: str) -> str:
    """Return which images and videos of a folder `find_images` does not take, as "2 .heic, 1 .mp4"."""
    kinds = Counter(path.suffix.lower() for path in _files_in(folder))
    return ", ".join(f"{kinds[kind]} {kind}" for kind in sorted(kinds.keys() & OTHER_SUFFIXES))


def _files_in(folder: str) -> list[Path]:
    """Return the files of a folder, by name, without hidden ones such as the ._a.jpg of macOS."""
    try:
        paths = sorted(Path(folder).iterdir())
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}).") from None
    return [path for path in paths if not path.name.startswith(".") and path.is_file()]


def matches(pattern: str) -> list[str]:
    """Return the files that a glob stands for, by name."""
    seps = (os.sep, os.altsep)
    known = max((i for i, sign in enumerate(pattern, 1) if sign in seps and os.path.isdir(pattern[:i])), default=0)
    folder, rest = glob.escape(pattern[:known]), pattern[known:]
    for parts in (rest.replace("[", "[[]"), rest):
        if found := sorted(filter(os.path.isfile, glob.glob(folder + parts, recursive=True))):
            return found
    return []


def is_url(source: str) -> bool:
    """Whether a name is an address of the web."""
    return source.lower().startswith(("http://", "https://"))


def _read_bytes(name: str) -> bytes:
    try:
        return download(name) if is_url(name) else Path(name).read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no image {name}; check the path.") from None
    except InputError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:  # includes urllib.error.URLError
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise InputError(f"{name} cannot be read ({reason}).") from None


def open_url(url: str) -> http.client.HTTPResponse:
    """Open an address for reading; letters and spaces that addresses may not have are encoded."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    rest = urllib.parse.quote(parts._replace(scheme="", netloc="", fragment="").geturl(), safe="%/:=&?~+!$,;'@()*[]")
    request = urllib.request.Request(f"{parts.scheme}://{host}{rest}", headers={"User-Agent": "leanpose"})
    return urllib.request.urlopen(request, timeout=SILENT_SECONDS)


def download(url: str) -> bytes:
    """Return what an address gives.

    Raises:
        InputError: it is larger than LARGEST, or takes longer than DOWNLOAD_SECONDS.
        Exception: OSError, ValueError or http.client.HTTPException, as the address or its host is wrong.
    """
    latest = time.monotonic() + DOWNLOAD_SECONDS
    data = bytearray()
    with open_url(url) as answer:
        while part := answer.read1(2**16):
            data += part
            if len(data) > LARGEST:
                raise InputError(f"{url} is larger than {LARGEST >> 20} MiB; download it and give the file.")
            if time.monotonic() > latest:
                raise InputError(f"{url} takes longer than {DOWNLOAD_SECONDS} s; download it and give the file.")
    return bytes(data)


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise InputError(f"An image array must be (H, W, 3) with H and W above 0, not {array.shape}.")
    array = _eight_bits(array[:, :, :3])  # alpha may have more bits
    if array.dtype != np.uint8:
        raise InputError(f"An image array must be uint8, not {array.dtype}; scale it to 0..255 and convert.")
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array)


def _from_file(source: Any) -> np.ndarray:
    name = str(getattr(source, "name", "") or "The image")
    try:
        data = source.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise InputError(f"{name} cannot be read ({error}).") from None
    if not isinstance(data, bytes):
        raise InputError(f"{name} must be opened for reading bytes: open(..., 'rb').")
    return decode_image(data, name)


def _from_pil(source: Any) -> np.ndarray:
    from PIL import ImageOps

    try:
        upright = ImageOps.exif_transpose(source)
        if upright.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
            return _from_array(np.asarray(upright).astype(np.uint16))
        return _from_array(np.asarray(upright if upright.mode == "F" else upright.convert("RGB")))
    except InputError:
        raise
    except Exception as error:  # a closed or damaged file: Pillow's decoders raise many kinds
        raise InputError(f"The PIL image cannot be read ({error}).") from None
