"""Images in: every usable source gives the right RGB values, every unusable one InputError."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import struct
import threading
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from leanpose.errors import InputError
from leanpose.io.images import decode_image, find_images, left_out, read_image, write_image

Image = pytest.importorskip("PIL.Image")


def blocks() -> np.ndarray:
    """A 40 x 60 image: left red, right blue, a green bar on top; blocks that JPEG keeps well."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :32] = (200, 30, 40)
    image[:, 32:] = (20, 60, 220)
    image[:16] = (10, 180, 30)
    return image


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


def encoded(image: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_values(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(noise(), "PNG"))
    for source in (path, str(path)):
        found = read_image(source)
        np.testing.assert_array_equal(found, noise())
        assert found.dtype == np.uint8


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "WEBP"])
def test_other_lossless_kinds(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode_image(encoded(noise(), kind, **options), "a"), noise())


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_values(progressive: bool) -> None:
    found = decode_image(encoded(blocks(), "JPEG", quality=95, subsampling=0, progressive=progressive), "a.jpg")
    assert np.abs(found.astype(int) - blocks()).max() < 12


def test_bytes_and_open_files(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    write_image(tmp_path / "a.png", image)
    data = (tmp_path / "a.png").read_bytes()
    for source in (data, bytearray(data), memoryview(data), io.BytesIO(data)):
        np.testing.assert_array_equal(read_image(source), image)
    with (tmp_path / "a.png").open("rb") as file:
        np.testing.assert_array_equal(read_image(file), image)
    for bad, message in (
        (b"no image", "The image is not an image"),
        (b"", "The image is empty"),
        (file, "closed file"),
    ):
        with pytest.raises(InputError, match=message):
            read_image(bad)
    with pytest.raises(InputError, match="must be opened for reading bytes"):
        read_image(io.StringIO("text"))


def test_write_image_keeps_the_order_of_channels(tmp_path: Path) -> None:
    red = np.full((4, 6, 3), (255, 0, 0), np.uint8)
    write_image(tmp_path / "new" / "a.png", red)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), red)
    for name, message in (("a.xyz", "no such image can be a '.xyz' file; use .png"), ("a", "can be a ''")):
        with pytest.raises(InputError, match=message):
            write_image(tmp_path / name, red)
        assert not (tmp_path / name).exists()


def test_grey_image_has_three_equal_channels() -> None:
    grey = noise()[..., 0]
    for data in (encoded(grey, "PNG"), encoded(noise()[..., :1].repeat(3, 2), "PNG")):
        found = decode_image(data, "grey.png")
        np.testing.assert_array_equal(found, grey[..., None].repeat(3, axis=2))


def test_the_alpha_of_rgba_is_dropped() -> None:
    rgba = np.dstack([noise(), noise()[..., 0]])
    np.testing.assert_array_equal(decode_image(encoded(rgba, "PNG"), "a.png"), noise())


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_png_keeps_the_upper_bits(channels: int) -> None:
    deep = np.random.default_rng(1).integers(0, 2**16, (20, 30, channels), np.uint16)
    data = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
    assert data[24] == 16  # bits per channel
    np.testing.assert_array_equal(decode_image(data, "deep.png"), np.broadcast_to(deep >> 8, (20, 30, 3)))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_camera_may_fill_16_bits_in_part(bits: int) -> None:
    """The upper eight of the bits in use are kept, in files, arrays of both byte orders and PIL images."""
    expected = noise()
    expected[0, 0] = 255  # the highest value tells how many bits there are
    deep = expected.astype(np.uint16) << (bits - 8)
    for suffix in (".png", ".tiff", ".ppm"):
        data = cv2.imencode(suffix, deep[..., ::-1])[1].tobytes()
        np.testing.assert_array_equal(decode_image(data, "deep"), expected, err_msg=suffix)
    for array in (deep, deep.astype(">u2")):
        np.testing.assert_array_equal(read_image(array), expected)
    opaque = np.dstack([deep, np.full(deep.shape[:2], 2**16 - 1, np.uint16)])
    np.testing.assert_array_equal(read_image(opaque), expected)
    np.testing.assert_array_equal(read_image(Image.fromarray(deep[..., 0]))[..., 0], expected[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    """The stored pixels are what a camera held in that orientation writes; reading restores the upright image."""
    upright = blocks()
    undo: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(undo[orientation](upright))
    path = tmp_path / "camera.jpg"
    path.write_bytes(encoded(stored, "JPEG", quality=95, subsampling=0, exif=exif))
    for found in (read_image(path), read_image(Image.open(path))):
        assert found.shape == upright.shape
        assert np.abs(found.astype(int) - upright).max() < 12


@pytest.mark.skipif(not cv2.haveImageWriter(".avif"), reason="this OpenCV lacks AVIF")
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_upright(orientation: int, alpha: bool) -> None:
    """Pillow writes the orientation as boxes of the file, and reads it from them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.dstack([blocks(), blocks()[..., 0]]) if alpha else blocks()
    data = encoded(stored, "AVIF", quality=100, exif=exif)
    found, expected = decode_image(data, "a.avif"), read_image(Image.open(io.BytesIO(data)))
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() < 6


@pytest.mark.skipif(not cv2.haveImageWriter(".avif"), reason="this OpenCV lacks AVIF")
def test_a_damaged_avif_is_one_error() -> None:
    data = encoded(noise(), "AVIF")
    for changed in (data[: len(data) // 2], data[:40], flipped_bit(data, 35), data[:32] + bytes(200)):
        with pytest.raises(InputError, match="not an image"):
            decode_image(changed, "a.avif")


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "LA", "CMYK"])
def test_pil_images(mode: str) -> None:
    source = Image.fromarray(blocks()).convert(mode)
    found = read_image(source)
    np.testing.assert_array_equal(found, np.asarray(source.convert("RGB")))
    assert found.shape == (40, 60, 3) and found.dtype == np.uint8


def test_pil_16_bit_is_not_clipped() -> None:
    deep = np.random.default_rng(1).integers(0, 2**16, (20, 30), np.uint16)
    found = read_image(Image.fromarray(deep))
    np.testing.assert_array_equal(found, (deep >> 8)[..., None].repeat(3, axis=2))


def test_pil_float_is_refused() -> None:
    with pytest.raises(InputError, match="uint8, not float32"):
        read_image(Image.fromarray(np.zeros((4, 4), np.float32)))


def test_pil_image_of_a_cut_off_file() -> None:
    data = encoded(noise(), "JPEG")
    with pytest.raises(InputError, match="PIL image cannot be read"):
        read_image(Image.open(io.BytesIO(data[: len(data) // 2])))


def test_pil_image_that_was_closed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    closed = Image.open(tmp_path / "a.png")
    closed.close()
    with pytest.raises(InputError, match="PIL image cannot be read"):
        read_image(closed)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (noise(), noise()),
        (noise()[::2, ::-1], noise()[::2, ::-1]),  # a view
        (noise()[..., 0], noise()[..., :1].repeat(3, 2)),
        (noise()[..., :1], noise()[..., :1].repeat(3, 2)),
        (np.dstack([noise(), noise()[..., 0]]), noise()),
        (noise().astype(np.uint16) * 256 + 255, noise()),
        (noise()[..., 0].astype(np.uint16) * 256, noise()[..., :1].repeat(3, 2)),
        (np.full((1, 1, 3), 7, np.uint8), np.full((1, 1, 3), 7, np.uint8)),
    ],
)
def test_arrays(array: np.ndarray, expected: np.ndarray) -> None:
    found = read_image(array)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8 and found.flags.c_contiguous


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((0, 0, 3), np.uint8), r"H and W above 0, not \(0, 0, 3\)"),
        (np.zeros((10, 0, 3), np.uint8), "H and W above 0"),
        (np.zeros((0, 10), np.uint8), "H and W above 0"),
        (np.zeros(10, np.uint8), r"\(H, W, 3\)"),
        (np.zeros((2, 10, 10, 3), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((3, 10, 10), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((10, 10, 2), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((10, 10, 3), np.float32), "must be uint8, not float32"),
        (np.zeros((10, 10, 3), np.int64), "must be uint8, not int64"),
        (np.zeros((10, 10, 3), bool), "must be uint8, not bool"),
        (None, "not NoneType"),
        (7, "not int"),
        ([[1, 2], [3, 4]], "not list"),
    ],
)
def test_unusable_objects(source: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_image(source)


def png(width: int, height: int) -> bytes:
    """The smallest PNG of that size; its pixels are missing when there are none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(3 * width) for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def with_thumbnail() -> bytes:
    """A JPEG whose EXIF part holds a whole JPEG of its own, end mark included."""
    thumbnail = encoded(blocks(), "JPEG")
    data = encoded(noise(), "JPEG", quality=95)
    segment = b"Exif\0\0" + thumbnail
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def flipped_bit(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :]


def test_the_helpers_make_readable_images() -> None:
    assert decode_image(png(3, 2), "a.png").shape == (2, 3, 3)
    assert decode_image(with_thumbnail(), "a.jpg").shape == (64, 96, 3)


JPEG, PNG = encoded(noise(), "JPEG", quality=95), encoded(noise(), "PNG")
PROGRESSIVE = encoded(noise(), "JPEG", quality=95, progressive=True)
CUT_OFF = "is cut off: its end is missing"
NO_IMAGE = "is not an image that can be read"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is text", NO_IMAGE),
        (bytes(1000), NO_IMAGE),
        *((JPEG[: int(len(JPEG) * part)], CUT_OFF) for part in (0.02, 0.3, 0.9)),
        (JPEG[:2], CUT_OFF),
        (JPEG[:-2], CUT_OFF),
        (PROGRESSIVE[: len(PROGRESSIVE) // 2], CUT_OFF),
        (with_thumbnail()[: len(with_thumbnail()) - 500], CUT_OFF),
        *((PNG[: int(len(PNG) * part)], CUT_OFF) for part in (0.001, 0.3, 0.9)),
        (PNG[:-1], CUT_OFF),
        (flipped_bit(PNG, len(PNG) // 2), "is damaged"),
        (png(0, 0), "has no pixels"),
        (png(5, 0), "has no pixels"),
        *((encoded(noise(), kind)[:3000], NO_IMAGE) for kind in ("WEBP", "BMP", "TIFF")),
    ],
)
def test_unusable_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.image"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [JPEG, PNG, with_thumbnail()])
def test_bytes_after_the_end_do_no_harm(data: bytes) -> None:
    np.testing.assert_array_equal(decode_image(data + b"more" * 500, "a"), decode_image(data, "a"))


def test_fill_bytes_between_the_parts_of_a_jpeg_do_no_harm() -> None:
    filled = JPEG[:2] + b"\xff\xff\xff" + JPEG[2:]
    np.testing.assert_array_equal(decode_image(filled, "a"), decode_image(JPEG, "a"))


def test_missing_and_unreadable_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no image .*nothing\.jpg; check the path"):
        read_image(tmp_path / "nothing.jpg")
    for path in (tmp_path, "a" * 400, "a\0b"):
        with pytest.raises(InputError, match="cannot be read"):
            read_image(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "c.tiff", "notes.txt", "sub/d.png", "._a.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PNG)
    (tmp_path / "looks_like.png").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        (["."], ["a.png", "b.JPG", "c.tiff"]),
        (["sub"], ["sub/d.png"]),
        (["a.png", "sub/d.png"], ["a.png", "sub/d.png"]),
        (["notes.txt"], ["notes.txt"]),  # named outright: reading it will tell
        (["*.png"], ["a.png"]),
        (["**/*.png"], ["a.png", "sub/d.png"]),
        (["a.png", "*.png", "a.png"], ["a.png"]),
        (["http://host/x.jpg", "https://host/y"], ["http://host/x.jpg", "https://host/y"]),
        ([], []),
    ],
)
def test_find_images(folder: Path, monkeypatch: pytest.MonkeyPatch, sources: list[str], found: list[str]) -> None:
    monkeypatch.chdir(folder)
    assert find_images(sources) == found


def test_names_with_glob_signs_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a[1]*.png"
    path.write_bytes(PNG)
    assert find_images([str(path)]) == [str(path)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("photos [2020]", ["photos [2020]/x.png"]),
        ("photos [2020]/*.png", ["photos [2020]/x.png"]),
        ("p* [2020]/*.png", ["photos [2020]/x.png"]),
        ("photos [2020]/[xy].png", ["photos [2020]/x.png"]),
        ("[ab].png", ["a.png", "b.png"]),  # no such name: a choice
        ("img [1]*.png", ["img [1]c.png"]),
    ],
)
def test_brackets_are_signs_of_names_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, found: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos [2020]/x.png", "a.png", "b.png", "img [1]c.png", "img 1c.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(PNG)
    assert find_images([source]) == found


def test_kinds_of_a_folder(tmp_path: Path) -> None:
    for name in ("a.jfif", "b.JPE", "IMG_1.HEIC", "IMG_2.heic", "clip.MP4", "labels.txt", ".hidden.heic"):
        (tmp_path / name).write_bytes(PNG)
    assert find_images([str(tmp_path)]) == [str(tmp_path / name) for name in ("a.jfif", "b.JPE")]
    assert left_out(str(tmp_path)) == "2 .heic, 1 .mp4"
    for name in ("a.jfif", "b.JPE"):
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match=r"but 2 \.heic, 1 \.mp4: convert images .*, and give videos by"):
        find_images([str(tmp_path)])


def test_a_video_in_place_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "clip.MP4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))
    with pytest.raises(InputError, match=r"for a video use leanpose\.Video"):
        read_image(tmp_path / "clip.MP4")


@pytest.mark.parametrize("kind", ["gif", "avif"])
def test_kinds_that_opencv_may_lack(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a.{kind}").touch()
    (tmp_path / "b.png").touch()
    taken = cv2.haveImageWriter(f".{kind}")
    assert len(find_images([str(tmp_path)])) == 1 + taken
    assert left_out(str(tmp_path)) == ("" if taken else f"1 .{kind}")


@pytest.mark.parametrize("source", ["nothing.jpg", "*.webp", "", "no/such/folder", "a" * 400, "[", "looks_like.pn?"])
def test_nothing_found(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="There is no image"):
        find_images(["a.png", source])


def test_folder_without_images(folder: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        find_images([str(folder / "looks_like.png")])


def test_folder_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        find_images([str(folder)])


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.headers["User-Agent"].startswith("Python"):
            return self.send_error(403)
        if self.path == "/drip.png":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # until nobody listens
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.01)
            return None
        if self.path != "/broken.png":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "5000")
        self.end_headers()
        self.wfile.write(PNG[:100])


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """A web server on this machine that serves `folder`; gives its address."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_url(server: str) -> None:
    for path in ("sub/d.png?size=full", "notes.txt"):  # the content decides, not the name
        np.testing.assert_array_equal(read_image(f"{server}/{path}"), noise())


@pytest.mark.parametrize("name", ["写真.png", "my photo.png", "100%25.png", "%E5%86%99.png", "a+b&c.png"])
def test_names_in_urls(folder: Path, server: str, name: str) -> None:
    """Letters and spaces are encoded, what is encoded stays."""
    (folder / urllib.parse.unquote(name)).write_bytes(PNG)
    np.testing.assert_array_equal(read_image(f"{server}/{name}?größe=1 2"), noise())
    np.testing.assert_array_equal(read_image(f"{server}/{name}".replace("http", "HTTP")), noise())


def test_a_server_that_drips(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanpose.io.images.DOWNLOAD_SECONDS", 0.1)
    with pytest.raises(InputError, match=r"drip\.png takes longer than 0\.1 s"):
        read_image(f"{server}/drip.png")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none.png", "cannot be read.*not found"),
        ("/with space.png", "cannot be read"),
        ("/broken.png", CUT_OFF),  # fewer bytes than announced
        ("/", NO_IMAGE),  # the list of the folder's files
    ],
)
def test_unusable_urls(server: str, path: str, message: str) -> None:
    with pytest.raises(InputError, match=f"(?i){message}") as caught:
        read_image(server + path)
    assert str(caught.value).startswith(server + path)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://127.0.0.1:0/a.jpg", "https://127.0.0.1:1/a.jpg"])
def test_unusable_addresses(url: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_image(url)


def test_downloads_have_a_limit(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanpose.io.images.LARGEST", 1000)
    with pytest.raises(InputError, match="is larger than"):
        read_image(f"{server}/a.png")
