"""What clients send: bytes of images, in a form or alone, looked at before they are unpacked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from fastapi import Request
from PIL import Image
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from leanpose.io.images import decode_image
from leanpose.serve.faults import RefusedError
from leanpose.serve.settings import Limits

KINDS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")  # Pillow's names
FIELD_BYTES = 2**16
FIELDS = 16
MOST_SCANS = 100  # of a JPEG; cameras and programs write 1 to 12
TILE_SIDES = (322, 323)  # tags of TIFF
UNREADABLE = "The form cannot be read; send multipart/form-data with images in the field file."
Image.MAX_IMAGE_PIXELS = None  # `read_upload` has a limit of its own


@dataclass(frozen=True)
class Upload:
    """One image file.

    Attributes:
        name: as the client calls it.
        data: its bytes.
    """

    name: str
    data: bytes


class _InMemory(MultiPartParser):
    spool_max_size = 0  # never to disk: the guard limits the body


async def receive_uploads(request: Request, limits: Limits) -> tuple[list[Upload], Mapping[str, str]]:
    """Return the images of a request and the other fields of its form.

    Raises:
        RefusedError: 400 or 413 for a body that is no such thing, 415 for a compressed one.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedError(415, "The body is compressed; send it as it is, without Content-Encoding.")
    if not request.headers.get("content-type", "").lower().startswith("multipart/"):
        data = await request.body()
        if not data:
            raise RefusedError(400, "There is no image; send its bytes, or a form with the field file.")
        return [Upload("image", data)], {}
    try:
        parser = _InMemory(
            request.headers, request.stream(), max_files=limits.images, max_fields=FIELDS, max_part_size=FIELD_BYTES
        )
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise RefusedError(413, f"A request takes {limits.images} images; send the others in another.") from None
        raise RefusedError(400, UNREADABLE) from None
    except RefusedError:  # of the guard, while the body came
        raise
    except (KeyError, ValueError):  # a boundary is missing, or names are no UTF-8
        raise RefusedError(400, UNREADABLE) from None
    try:
        return await _parts(form)
    finally:
        await form.close()


async def _parts(form: FormData) -> tuple[list[Upload], dict[str, str]]:
    """Return the images of a form and its other fields."""
    uploads: list[Upload] = []
    fields: dict[str, str] = {}
    for name, value in form.multi_items():
        if name == "file":
            uploads.append(await _upload(value, len(uploads)))
        elif isinstance(value, str):
            fields[name] = value
        else:
            raise RefusedError(400, "The form has a file in another field; images go into the field file.")
    if not uploads:
        raise RefusedError(400, "The form has no image; images go into the field file.")
    return uploads, fields


async def _upload(value: Any, number: int) -> Upload:
    if isinstance(value, str):  # a field without a file name
        raise RefusedError(400, "The field file is text; send it as a file, with a file name.")
    name = (value.filename or "").replace("\\", "/").rpartition("/")[2][:200]
    return Upload(name or f"image {number}", await value.read())


def read_upload(upload: Upload, limits: Limits) -> np.ndarray:
    """Return an image as (H, W, 3) uint8 RGB.

    Raises:
        RefusedError: 415: it is no image of a known kind; 413: it has too many pixels or scans.
        InputError: it is damaged.
    """
    name = upload.name[:60]
    try:
        with Image.open(BytesIO(upload.data), formats=KINDS) as header:
            width, height = header.size
            tags = getattr(header, "tag_v2", {})  # of TIFF, whose tiles may be larger than the image
            tile = math.prod(int(tags.get(tag, 0)) for tag in TILE_SIDES)
    except Exception:  # Pillow raises many kinds for what is no image
        raise RefusedError(415, f"{name} is not an image that can be read; use JPEG, PNG, WebP, BMP or TIFF.") from None
    most = f"{limits.pixels / 1e6:g} megapixels"
    if tile > limits.pixels:
        raise RefusedError(413, f"{name} is stored in tiles of more than {most}; save it anew.")
    if width * height > limits.pixels:
        raise RefusedError(413, f"{name} has {width} x {height} pixels, more than {most}; make it smaller.")
    if upload.data.startswith(b"\xff\xd8") and _scans(upload.data) > MOST_SCANS:
        raise RefusedError(413, f"{name} is a JPEG of more than {MOST_SCANS} scans; save it anew.")
    return decode_image(upload.data, name)


def _scans(jpeg: bytes) -> int:
    """Return how often a JPEG goes over its pixels. A scan of all of them can take less than 100 bytes."""
    marker = re.compile(rb"\xff[^\0\1\xd0-\xd8\xff]")  # those that a length follows, and the end
    scans = position = 0
    while (found := marker.search(jpeg, position)) and found[0] != b"\xff\xd9":
        scans += found[0] == b"\xff\xda"
        position = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
    return scans
