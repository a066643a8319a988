"""Image files that are none, or broken, or bombs; and odd ones that are fine. All are made here."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def photo(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Return an image with some noise."""
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(noise).convert(mode)


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    """Return an image file of a kind."""
    file = io.BytesIO()
    (image or photo()).save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes, length: int | None = None, crc: int | None = None) -> bytes:
    """Return a chunk of a PNG, whose length and checksum may be wrong."""
    length = len(content) if length is None else length
    crc = zlib.crc32(name + content) if crc is None else crc
    return struct.pack(">I", length) + name + content + struct.pack(">I", crc)


def png(width: int, height: int, *more: bytes, rows: bytes | None = None, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG of any stated size; `rows` are its pixels, by default too few."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100 if rows is None else rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + data + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    """Return a small JPEG that says it has another size."""
    data = bytearray(encoded("JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_of_size(width: int, height: int) -> bytes:
    """Return a lossless WebP that says it has another size."""
    data = bytearray(encoded("WEBP", lossless=True))
    start = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[start : start + 4], "little") >> 28 << 28
    data[start : start + 4] = (bits | (height - 1) << 14 | (width - 1)).to_bytes(4, "little")
    return bytes(data)


def tiff_of_size(width: int, height: int) -> bytes:
    """Return a small TIFF that says it has another size."""
    data = bytearray(encoded("TIFF"))
    start = int.from_bytes(data[4:8], "little") + 2
    for tag, value in ((256, width), (257, height)):
        at = data.index(struct.pack("<H", tag), start)
        data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(data)


def tiff_in_tiles(side: int) -> bytes:
    """Return a TIFF of 64 x 48 in one tile of another size."""
    packed = zlib.compress(bytes(side * side))
    values = {256: 64, 257: 48, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    header = struct.pack("<2sHI", b"II", 42, 8 + len(packed))
    return header + packed + struct.pack("<H", len(values)) + entries + bytes(4)


def jpeg_of_scans(count: int) -> bytes:
    """Return a progressive JPEG whose last scan comes again and again."""
    data = encoded("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def bmp_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded("BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def gif_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded("GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def canvas_webp(width: int, height: int) -> bytes:
    """Return an animated WebP whose canvas has another size."""
    frames = [photo(), photo().rotate(90)]
    data = bytearray(encoded("WEBP", frames[0], save_all=True, append_images=frames[1:]))
    start = data.index(b"VP8X") + 12
    data[start : start + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


JPEG, PNG, WEBP = encoded("JPEG"), encoded("PNG"), encoded("WEBP")
GIF, BMP, TIFF = encoded("GIF"), encoded("BMP"), encoded("TIFF")
PIXELS = b"".join(b"\0" + bytes(3 * 64) for _ in range(48))  # of a PNG with 64 x 48

NO_IMAGE = {
    "nothing": b"",
    "text": b"This is not an image.",
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "JSON": b'{"image": "data"}',
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "ZIP": b"PK\x03\x04" + bytes(60),
    "MP4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(60),
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(60),
    "PPM": b"P6 2 2 255\n" + bytes(12),
    "zeros": bytes(1000),
    "noise": np.random.default_rng(1).bytes(1000),
    "a JPEG of 3 bytes": JPEG[:3],
    "a JPEG of 20 bytes": JPEG[:20],
    "half a JPEG": JPEG[: len(JPEG) // 2],
    "a JPEG without its end": JPEG[:-2],
    "a PNG of 8 bytes": PNG[:8],
    "a PNG cut in its header": PNG[:20],
    "half a PNG": PNG[: len(PNG) // 2],
    "a PNG without its end": PNG[:-12],
    "a WebP of 16 bytes": WEBP[:16],
    "half a WebP": WEBP[: len(WEBP) // 2],
    "a GIF of 10 bytes": GIF[:10],
    "a BMP of 30 bytes": BMP[:30],
    "half a TIFF": TIFF[: len(TIFF) // 2],
    "a PNG of 60000 x 60000": png(60000, 60000),
    "a PNG of 2^31 - 1 squared": png(2**31 - 1, 2**31 - 1),
    "a PNG of 30000 x 1000000": png(30000, 1000000, depth=1, colour=0),
    "a JPEG of 65500 x 65500": jpeg_of_size(65500, 65500),
    "a WebP of 16384 x 16384": webp_of_size(16384, 16384),
    "an animated WebP of 2^24 x 200": canvas_webp(2**24, 200),
    "a GIF of 65535 x 65535": gif_of_size(65535, 65535),
    "a BMP of 2^20 x 2^20": bmp_of_size(2**20, 2**20),
    "a BMP of -2^31": bmp_of_size(-(2**31), -(2**31)),
    "a TIFF of 10^6 x 10^6": tiff_of_size(10**6, 10**6),
    "a TIFF of 2^32 - 1": tiff_of_size(2**32 - 1, 2**32 - 1),
    "a PNG of 0 x 0": png(0, 0),
    "a PNG of 9 x 0": png(9, 0),
    "a BMP of 0 x 0": bmp_of_size(0, 0),
    "a GIF of 0 x 0": gif_of_size(0, 0),
    "a JPEG of 0 x 0": jpeg_of_size(0, 0),
    "a PNG with a wrong checksum": PNG[:-20] + bytes(4) + PNG[-16:],
    "a PNG with a wrong header checksum": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", PNG[16:29], crc=7) + PNG[33:],
    "a PNG whose chunk is longer than the file": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", PNG[16:29], length=10**6),
    "a PNG whose chunk has 2^32 - 1 bytes": PNG[:33] + chunk(b"IDAT", b"abc", length=2**32 - 1),
    "a PNG without pixels": b"\x89PNG\r\n\x1a\n" + PNG[8:33] + chunk(b"IEND", b""),
    "a PNG of depth 7": png(64, 48, rows=PIXELS, depth=7),
    "a JPEG of 200 scans": jpeg_of_scans(200),
    "a JPEG of two marks": b"\xff\xd8\xff\xd9",
}  # fmt: skip

# Fine, or refused, but never more than that.
ODD = {
    "1 x 1": encoded("PNG", photo(size=(1, 1))),
    "1 x 60000": encoded("PNG", Image.new("RGB", (1, 60000))),
    "60000 x 1": encoded("PNG", Image.new("RGB", (60000, 1))),
    "16 bits, grey": encoded("PNG", Image.fromarray(np.arange(3072, dtype=np.uint16).reshape(48, 64) * 20)),
    "grey": encoded("JPEG", photo("L")),
    "grey with alpha": encoded("PNG", photo("LA")),
    "alpha": encoded("PNG", photo("RGBA")),
    "1 bit": encoded("PNG", photo("1")),
    "palette": encoded("PNG", photo("P")),
    "palette with transparency": encoded("PNG", photo("P"), transparency=0),
    "CMYK": encoded("JPEG", photo("CMYK")),
    "progressive": encoded("JPEG", progressive=True),
    "many scans": jpeg_of_scans(50),
    "turned": encoded("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
    "interlaced": png(64, 48, rows=PIXELS)[:28] + b"\1" + png(64, 48, rows=PIXELS)[29:],
    "animated GIF": encoded("GIF", save_all=True, append_images=[photo("L")] * 3),
    "animated WebP": encoded("WEBP", save_all=True, append_images=[photo("L")] * 3),
    "animated PNG": encoded("PNG", save_all=True, append_images=[photo("L").convert("RGB")] * 3),
    "TIFF of pages": encoded("TIFF", save_all=True, append_images=[photo("L")] * 3),
    "TIFF of floats": encoded("TIFF", Image.fromarray(np.ones((48, 64), np.float32))),
    "JPEG with zeros in its scan": JPEG[:-500] + bytes(498) + JPEG[-2:],
    "JPEG with something behind it": JPEG + b"<script>" * 100,
    "PNG with too few pixels": png(64, 48),
    "PNG that unpacks to 100 MB": png(64, 48, rows=bytes(10**8)),
    "PNG with pixels that are no zlib": PNG[:33] + chunk(b"IDAT", b"not zlib") + chunk(b"IEND", b""),
    "PNG with a text that unpacks to 100 MB": png(
        64, 48, chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(10**8))), rows=PIXELS
    ),
    "two headers in a PNG": png(64, 48, chunk(b"IHDR", png(3000, 3000)[16:29]), rows=PIXELS),
    "BMP of negative height": bmp_of_size(64, -48),
    "half a GIF": GIF[: len(GIF) // 2],
    "half a BMP": BMP[: len(BMP) // 2],
}  # fmt: skip
