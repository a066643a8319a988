"""The networks in the browser: what they find is what Predictor finds."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from support import PUBLIC_FILES, needs

from leanpose import geometry
from leanpose.codecs import create_codec
from leanpose.inference.predictor import Predictor
from leanpose.io.images import read_image
from leanpose.io.results import to_json
from leanpose.serve import manifest
from leanpose.serve.manifest import IN_BROWSER, RUNTIME
from leanpose.serve.static_site import write_site
from leanpose.weights.catalogue import find_weights

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(not RUNTIME.is_file(), reason="onnxruntime-web is not here; npm brings it")
ASTRONAUT = read_image(Path(__file__).parents[2] / "docs" / "assets" / "astronaut.png")
RTMPOSE = PUBLIC_FILES / "rtmpose-s_simcc-body7_pt-body7-halpe26_700e-256x192-7f134165_20230605.onnx"
YOLOX = PUBLIC_FILES / "yolox_tiny_8xb8-300e_humanart-6f3252f9.onnx"
BOX = (42.5, 20.0, 371.0, 492.0)  # of the astronaut

ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' data:",
}
PREDICT = """async ([name, file, options]) => {
  const { loadManifest, LocalPredictor } = await import("./engine/predictor.js");
  globalThis.progress = [];
  const onProgress = (...bytes) => globalThis.progress.push(bytes);
  const predictor = await LocalPredictor.load(await loadManifest(), name, { onProgress });
  const source = await (await fetch(`data:;base64,${file}`)).blob();
  return predictor.predict(source, options);
}"""


class PlainServer(SimpleHTTPRequestHandler):
    """A server of files; `blank.html`, in any folder, is an empty page.

    Attributes:
        headers_of_all: what it sends with every file; a plain server sends nothing.
    """

    headers_of_all: Mapping[str, str] = {}

    def end_headers(self) -> None:
        for name, value in self.headers_of_all.items():
            self.send_header(name, value)
        super().end_headers()

    def do_GET(self) -> None:
        if not self.path.endswith("/blank.html"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>blank</title><link rel='icon' href='data:,'>")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def site(
    browser: Browser, root: Path, models: Sequence[str], detector: str | None, headers: Mapping[str, str] | None = None
) -> Iterator[tuple[Page, list[str]]]:
    """Open an empty page in a site in a sub-folder of a server; return it and the addresses that it asks for. One
    elsewhere is a failure."""
    write_site(root / "some" / "site", models, detector)
    handler = type("Handler", (PlainServer,), {"headers_of_all": headers or {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=root))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/some/site/"
    asked: list[str] = []
    page = browser.new_page()
    page.context.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}blank.html")
    yield page, asked
    page.close()
    server.shutdown()
    server.server_close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with site(browser, tmp_path_factory.mktemp("root"), ["lpn50", "lpn50.coco_128x96_int8"], "litepose_xs") as (
        opened,
        _,
    ):
        yield opened


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("lpn50", detector="litepose_xs", threads=1)


def encoded(image: np.ndarray, kind: str = ".png") -> bytes:
    """Return an image file of an RGB, RGBA or grey array."""
    order = {2: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[image.ndim if image.ndim == 2 else image.shape[2]]
    return cv2.imencode(kind, image if order is None else cv2.cvtColor(image, order))[1].tobytes()


def in_browser(page: Page, file: bytes, name: str = "lpn50", **options: Any) -> dict[str, Any]:
    return page.evaluate(PREDICT, [name, base64.b64encode(file).decode(), options])


def on_server(predictor: Predictor, file: bytes, **options: Any) -> dict[str, Any]:
    image = read_image(file)
    return to_json("", (image.shape[0], image.shape[1]), predictor(file, **options), predictor.provenance)


def several() -> np.ndarray:
    """Three astronauts of several sizes on grey."""
    image = np.full((421, 977, 3), 90, np.uint8)
    for left, side in ((10, 400), (430, 300), (745, 211)):
        small = cv2.resize(ASTRONAUT, (side, side), interpolation=cv2.INTER_AREA)
        image[421 - side :, left : left + side] = small
    return image


IMAGES: dict[str, Callable[[], bytes]] = {
    "as it is": lambda: encoded(ASTRONAUT),
    "odd sides": lambda: encoded(ASTRONAUT[3:500, 20:409]),
    "small": lambda: encoded(cv2.resize(ASTRONAUT, (151, 149), interpolation=cv2.INTER_AREA)),
    "large": lambda: encoded(cv2.resize(ASTRONAUT, (1111, 1309), interpolation=cv2.INTER_CUBIC)),
    "grey": lambda: encoded(cv2.cvtColor(ASTRONAUT, cv2.COLOR_RGB2GRAY)),
    "several persons": lambda: encoded(several()),
    "half transparent": lambda: encoded(
        np.dstack([ASTRONAUT, np.tile(np.arange(512) // 2, (512, 1)).astype(np.uint8)])
    ),
}


@pytest.fixture(scope="module")
def results(page: Page, predictor: Predictor) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What the browser and Python find in all images, and in boxes of some."""
    pairs = []
    for name, image in IMAGES.items():
        file = image()
        pairs.append((in_browser(page, file), on_server(predictor, file)))
        if name in ("odd sides", "grey", "several persons"):
            height, width = read_image(file).shape[:2]
            boxes = [[0.1 * width, 0.03 * height, 0.5 * width, height - 1.0], [-20.0, 5.5, 0.9 * width, height + 30.0]]
            pairs.append((in_browser(page, file, boxes=boxes), on_server(predictor, file, boxes=boxes)))
    return pairs


def test_persons_are_those_of_the_server(results: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for found, expected in results:
        assert len(found["persons"]) == len(expected["persons"]) > 0
        assert {**found, "persons": None} == {**expected, "persons": None}
        for one, other in zip(found["persons"], expected["persons"], strict=True):
            assert one["box_xyxy"] == other["box_xyxy"]
            assert one["score"] == pytest.approx(other["score"], abs=0.01)
            assert list(one["keypoints"]) == list(other["keypoints"])


def test_their_keypoints_are_those_of_the_server(results: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """To half a pixel. In WebAssembly the float sums inside an int8 network have other last digits; where one of them
    falls on the other side of a rounding, all that follows is a little different, in about one person of fifty."""
    pairs = [pair for both in results for pair in zip(*(result["persons"] for result in both), strict=True)]
    assert len(pairs) > 14
    same = [distance(one["keypoints"], other["keypoints"]) <= 0.5 for one, other in pairs]
    assert np.mean(same) > 0.85


def distance(keypoints: dict[str, Any], others: dict[str, Any]) -> float:
    """Return the largest distance on an axis, in pixels."""
    return max(abs(keypoints[name][axis] - others[name][axis]) for name in keypoints for axis in "xy")


def test_the_default_networks_find_who_the_server_finds(browser: Browser, tmp_path: Path) -> None:
    """In int8 the detector's boxes may differ a little too; see above."""
    file, predictor = encoded(several()), Predictor("sfm", detector="sfm_persons", threads=1)
    with site(browser, tmp_path, ["sfm"], "sfm_persons") as (page, _):
        found, expected = in_browser(page, file, "sfm")["persons"], on_server(predictor, file)["persons"]
    assert len(found) == len(expected) == 3
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one["box_xyxy"], other["box_xyxy"], atol=4)
        assert one["score"] == pytest.approx(other["score"], abs=0.05)


def test_it_runs_on_threads_under_a_strict_policy(browser: Browser, tmp_path: Path, predictor: Predictor) -> None:
    file = encoded(ASTRONAUT)
    with site(browser, tmp_path, ["lpn50"], None, ISOLATED) as (page, asked):
        assert page.evaluate("crossOriginIsolated")
        found = in_browser(page, file, boxes=[BOX])
    assert any(url.endswith("/models/lpn50.onnx") for url in asked)  # so what the worker asks for is seen
    (one,), (other,) = found["persons"], on_server(predictor, file, boxes=[BOX])["persons"]
    assert one["score"] == pytest.approx(other["score"], abs=0.01)


@needs(RTMPOSE, YOLOX)
def test_float_networks_of_others_do_the_same(browser: Browser, tmp_path: Path) -> None:
    file = encoded(several())
    with site(browser, tmp_path, [str(RTMPOSE)], str(YOLOX)) as (page, _):
        found = in_browser(page, file, str(RTMPOSE))
    expected = on_server(Predictor(RTMPOSE, detector=YOLOX, threads=1), file)
    assert found["leanpose"] == expected["leanpose"] and len(found["persons"]) == len(expected["persons"]) == 3
    for one, other in zip(found["persons"], expected["persons"], strict=True):
        assert one["box_xyxy"] == other["box_xyxy"] and one["score"] == pytest.approx(other["score"], abs=0.01)
        assert distance(one["keypoints"], other["keypoints"]) <= 0.5


def test_a_score_and_a_name_can_be_given(page: Page) -> None:
    found = in_browser(page, encoded(ASTRONAUT), minPersonScore=0.99)
    assert found["persons"] == [] and found["leanpose"]["min_person_score"] == 0.99


def test_an_image_without_persons_has_none(page: Page) -> None:
    assert in_browser(page, encoded(np.zeros((40, 3, 3), np.uint8)))["persons"] == []


def test_a_canvas_a_bitmap_and_pixels_give_what_the_file_gives(page: Page) -> None:
    found = in_browser(page, encoded(ASTRONAUT), boxes=[BOX])
    others = page.evaluate(
        """async ([file, box]) => {
          const { loadManifest, LocalPredictor } = await import("./engine/predictor.js");
          const predictor = await LocalPredictor.load(await loadManifest(), "lpn50");
          const bitmap = await createImageBitmap(await (await fetch(`data:;base64,${file}`)).blob());
          const { width, height } = bitmap;
          const canvas = Object.assign(document.createElement("canvas"), { width, height });
          const context = canvas.getContext("2d");
          context.drawImage(bitmap, 0, 0);
          const sources = [bitmap, canvas, context.getImageData(0, 0, width, height)];
          return Promise.all(sources.map((source) => predictor.predict(source, { boxes: [box] })));
        }""",
        [base64.b64encode(encoded(ASTRONAUT)).decode(), BOX],
    )
    assert [other["persons"] for other in others] == [found["persons"]] * 3


def test_progress_ends_at_all_bytes(page: Page) -> None:
    in_browser(page, encoded(ASTRONAUT), boxes=[])
    loaded, total = page.evaluate("progress.at(-1)")
    files = [find_weights(name, ".onnx") for name in ("lpn50", "litepose_xs")]
    assert loaded == total == RUNTIME.stat().st_size + sum(file.stat().st_size for file in files)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"boxes": [[5, 5, 5, 9]]}, "Box 0 (5, 5, 5, 9) has no area; give x1, y1, x2, y2 with x1 < x2 and y1 < y2."),
        ({"boxes": [[600, 5, 700, 9]]}, "Box 0 (600, 5, 700, 9) lies outside the image of 512 x 512 pixels."),
        ({"boxes": [[0, 0, 1e7, 9]]}, "a coordinate that is not a number of pixels"),
        ({"boxes": [[0, 0, 9]]}, "Boxes must be a list of boxes"),
        ({"minPersonScore": 2}, "minPersonScore must be 0 to 1, not 2."),
    ],
)
def test_bad_options_are_a_sentence(page: Page, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception) as fault:
        in_browser(page, encoded(ASTRONAUT), **options)
    assert sentence in str(fault.value)


def test_a_file_that_is_no_image_is_a_sentence(page: Page) -> None:
    with pytest.raises(Exception, match="is not an image that this browser can read"):
        in_browser(page, b"no image")


def test_an_unknown_network_is_a_sentence(page: Page) -> None:
    with pytest.raises(Exception, match="There is no network 'lpn51' for the browser"):
        in_browser(page, encoded(ASTRONAUT), "lpn51")


def test_where_there_are_no_networks_that_is_said(page: Page) -> None:
    code = 'async () => (await import("./engine/predictor.js")).loadManifest("./nowhere/")'
    with pytest.raises(Exception, match="There are no networks for the browser here"):
        page.evaluate(code)


def test_image_files_are_read_as_in_python(page: Page) -> None:
    """JPEG, also turned by EXIF, WebP, grey PNG of 16 bits, and colours under alpha."""
    small, turned = ASTRONAUT[:200, :151], BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(small).save(turned, "JPEG", exif=exif)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.uint16) * 257
    alpha = np.arange(small[..., 0].size).reshape(small.shape[:2]) % 256
    with_alpha = np.dstack([small, alpha.astype(np.uint8)])
    files = [encoded(small, ".jpg"), turned.getvalue(), encoded(small, ".webp"), encoded(grey), encoded(with_alpha)]
    for file in files:
        height, width, data = page.evaluate(
            """async (file) => {
              const { readPixels } = await import("./engine/images.js");
              const image = await readPixels(await (await fetch(`data:;base64,${file}`)).blob());
              return [image.height, image.width, btoa(Array.from(image.data, (v) => String.fromCharCode(v)).join(""))];
            }""",
            base64.b64encode(file).decode(),
        )
        pixels = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)
        assert np.array_equal(pixels[..., :3], read_image(file))


def test_crops_are_those_of_opencv_to_the_bit(page: Page) -> None:
    random = np.random.default_rng(0)
    for height, width, factor in ((61, 83, 0.3), (200, 151, 1.0), (403, 377, 2.6), (512, 300, 4.4)):
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        box = [10.3, -7.2, 10.3 + 48 * factor, 64 * factor]
        (matrix,) = geometry.crop_matrices(np.array([box]), (64, 48), 1.25)
        assert np.array_equal(geometry.crop(image, matrix, (64, 48)), _browser_pixels(page, image, "crop", matrix))


def test_whole_images_lie_in_a_letterbox_as_opencv_lays_them(page: Page) -> None:
    random = np.random.default_rng(1)
    for height, width in ((32, 40), (61, 40), (128, 96), (64, 128), (150, 331)):
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        laid = _browser_pixels(page, image, "letterbox")
        difference = np.abs(geometry.letterbox(image, (64, 48), 114)[0].astype(int) - laid)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.001


def _browser_pixels(page: Page, image: np.ndarray, function: str, matrix: np.ndarray | None = None) -> np.ndarray:
    """Return (64, 48, 3), what a function of the page's geometry.js makes of an image."""
    height, width = image.shape[:2]
    pixels = np.dstack([image, np.full((height, width), 255, np.uint8)]).tobytes()
    made = page.evaluate(
        """async ([data, height, width, name, matrix]) => {
          const { crop, letterbox } = await import("./engine/geometry.js");
          const image = { data: Uint8ClampedArray.from(atob(data), (byte) => byte.charCodeAt()), height, width };
          const made = name === "crop" ? crop(image, matrix, [64, 48]) : letterbox(image, [64, 48], 114).pixels;
          return btoa(String.fromCharCode(...made.data));
        }""",
        [
            base64.b64encode(pixels).decode(),
            height,
            width,
            function,
            None if matrix is None else matrix.ravel().tolist(),
        ],
    )
    return np.frombuffer(base64.b64decode(made), np.uint8).reshape(64, 48, 4)[..., :3]


def bumps(random: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """Return (1, count, height, width), a noisy bump in each map; some lie at the border, one map is empty."""
    y, x = np.mgrid[:height, :width]
    rows, columns = random.uniform(-1, height, count), random.uniform(-1, width, count)
    rows[1:3], columns[1:3] = (0, height - 1)[: count - 1], (0, width - 1)[: count - 1]
    maps = np.exp(-((y - rows[:, None, None]) ** 2 + (x - columns[:, None, None]) ** 2) / 8)
    maps += random.normal(0, 0.02, maps.shape)
    maps[3:4] = -1
    return maps[None].astype(np.float32)


def outputs_of(codec: str) -> dict[str, np.ndarray]:
    """Return what a network with a codec may give for an input of 64 x 48 pixels."""
    random = np.random.default_rng(2)
    if codec == "simcc":
        return {"simcc_x": random.normal(0, 0.3, (1, 9, 96)), "simcc_y": random.normal(0, 0.3, (1, 9, 128))}
    if codec == "center_box":
        return {"centers": 8 * bumps(random, 1, 16, 12) - 4, "box_logs": random.uniform(0, 2, (1, 4, 16, 12))}
    if codec == "yolox":
        return {"output": random.uniform(0, 1, (1, 62, 7))}
    corners = random.uniform(0, 30, (1, 20, 2))
    dets = np.concatenate([corners, corners + random.uniform(-2, 20, (1, 20, 2)), random.uniform(0, 1, (1, 20, 1))], 2)
    if codec == "detections":
        return {"dets": dets, "labels": random.integers(0, 2, (1, 20))}
    if codec == "detected_poses":
        return {"dets": dets, "keypoints": random.uniform(0, 48, (1, 20, 5, 3))}
    return {"heatmaps": bumps(random, 9, 16, 12)}


@pytest.mark.parametrize("codec", sorted(IN_BROWSER))
def test_codecs_read_outputs_as_in_python(page: Page, codec: str) -> None:
    outputs = {name: values.astype(np.float32) for name, values in outputs_of(codec).items()}
    expected = create_codec(codec).decode(outputs, (64, 48))
    found = page.evaluate(
        """async ([codec, outputs]) => {
          const { decode } = await import("./engine/codecs/index.js");
          for (const output of Object.values(outputs)) output.data = Float32Array.from(output.data);
          return decode(codec, outputs, [64, 48]);
        }""",
        [
            manifest._codec(codec, create_codec(codec)),
            {name: {"data": values.ravel().tolist(), "dims": values.shape} for name, values in outputs.items()},
        ],
    )
    if isinstance(found, list):  # of persons
        found = {key: [person[key] for person in found] for key in ("keypoints", "scores", "personScore")}
    for values, array in zip(found.values(), expected, strict=True):
        assert len(array) > 0
        np.testing.assert_allclose(np.array(values).reshape(array.shape), array, atol=2e-3)


def test_an_exact_half_is_rounded_to_even_as_in_python(page: Page) -> None:
    values = [0.125, 0.375, -2.125, 2.675, 1.005, 3.0, 100.0625, 7.99999]
    code = """async (values) => {
      const { rounded } = await import("./engine/results.js");
      return values.map((value) => [rounded(value, 2), rounded(value, 4)]);
    }"""
    assert page.evaluate(code, values) == [[round(value, 2), round(value, 4)] for value in values]
