"""What the bytes of image files say that OpenCV does not: whether they are whole, deep, or turned."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

_PNG = b"\x89PNG"
_DEEP_KINDS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"P5", b"P6")  # TIFF, BigTIFF, PGM and PPM may have 16 bits


def fault(data: bytes) -> str:
    """Tell what is wrong with a PNG or JPEG, "" if nothing is. OpenCV would fill lost parts with grey silently."""
    return _png_fault(data) if data.startswith(_PNG) else _jpeg_fault(data)


def may_be_deep(data: bytes) -> bool:
    """Whether an image may have 16 bits a channel; kinds that scale such values themselves are left to OpenCV."""
    return data.startswith(_DEEP_KINDS) or (data.startswith(_PNG) and data[24:25] == b"\x10")


def is_avif(data: bytes) -> bool:
    """Whether it is a file in boxes, of which OpenCV reads AVIF only. EXIF does not turn these images, boxes do."""
    return data[4:8] == b"ftyp"


def upright(image: np.ndarray, data: bytes) -> np.ndarray:
    """Turn and mirror a stored image (H, W, 3) as the boxes `irot` and `imir` of an AVIF file say; others stay."""
    for kind, value in _avif_turns(data) if is_avif(data) else ():
        # irot counts quarter turns to the left; imir exchanges top and bottom, or left and right
        image = np.rot90(image, value & 3) if kind == b"irot" else np.flip(image, value & 1)
    return np.ascontiguousarray(image)


def _avif_turns(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield b"irot" or b"imir" and its byte, for the main image, in the order that they apply in (ISO 23008-12)."""
    parts = dict(_parts(dict(_parts(data)).get(b"meta", b"")[4:]))
    properties = dict(_parts(parts.get(b"iprp", b"")))
    known = list(_parts(properties.get(b"ipco", b"")))
    main = int.from_bytes(parts.get(b"pitm", b"")[4:], "big")
    for number in _property_numbers(properties.get(b"ipma", b""), main):
        if 0 < number <= len(known) and known[number - 1][0] in (b"irot", b"imir"):
            kind, content = known[number - 1]
            yield kind, content[0] if content else 0


def _property_numbers(ipma: bytes, main: int) -> Iterator[int]:
    """Yield the numbers, from 1, of the properties that the box `ipma` gives to one image of the file."""
    id_size, number_size = 4 if ipma[:1] > b"\0" else 2, 2 if ipma[3:4] and ipma[3] & 1 else 1
    position = 8
    while position + id_size < len(ipma):
        item, count = int.from_bytes(ipma[position : position + id_size], "big"), ipma[position + id_size]
        position += id_size + 1
        for start in range(position, position + count * number_size, number_size):
            if item == main:  # the highest bit says whether a reader must know the property
                number = int.from_bytes(ipma[start : start + number_size], "big")
                yield number & (0x7FFF if number_size == 2 else 0x7F)
        position += count * number_size


def _parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of the boxes that lie in a file or box."""
    position = 0
    while position + 8 <= len(data):
        size, kind, start = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8], 8
        if size == 1:
            size, start = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        size = size or len(data) - position
        if size < start:
            return
        yield kind, data[position + start : position + size]
        position += size


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
