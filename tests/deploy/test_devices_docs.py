"""The lines of docs/devices.md are run: an end-to-end file without leanpose, in Python and in a browser."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import torch
from safetensors.torch import load_file

import leanpose
from leanpose.deploy.export import export
from leanpose.errors import WeightsError
from leanpose.inference.engines import load_engine
from leanpose.inference.predictor import Predictor
from leanpose.models import create_model
from leanpose.models.checkpoints import save_network
from leanpose.weights.catalogue import find_weights, read_record

ROOT = Path(leanpose.__file__).parent.parent
DOCS = (ROOT / "docs/devices.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(\w+)\n(.*?)```", DOCS.partition("## The network alone")[0], flags=re.DOTALL))
RUNTIME = ROOT / "leanpose/serve/page/vendor/onnxruntime-web"
CHROMIUM = Path("/usr/bin/chromium")
BOX = [100, 20, 360, 360]


@pytest.fixture(scope="module")
def desk(short_lpn: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with photo.png, lpn50.safetensors and lpn50_app.onnx, which is made of it.

    The network is the first block of each stage of lpn50, which is quicker to export, with heatmaps of about 1.
    """
    folder = tmp_path_factory.mktemp("devices")
    shutil.copy(ROOT / "docs/assets/astronaut.png", folder / "photo.png")
    torch.manual_seed(0)
    bundled = find_weights("lpn50", ".safetensors")
    network = create_model("lpn50").eval()
    own = network.state_dict()
    network.load_state_dict({name: tensor for name, tensor in load_file(bundled).items() if name in own})
    with torch.inference_mode():
        network.get_parameter("final_layer.weight").div_(network(torch.randn(4, 3, 256, 192))["heatmaps"].amax())
    save_network(folder / "lpn50.safetensors", network, read_record(bundled))
    export(str(folder / "lpn50.safetensors"), end_to_end=True, out=str(folder / "lpn50_app.onnx"))
    return folder


@pytest.fixture(scope="module")
def poses(desk: Path) -> leanpose.Poses:
    """Return what leanpose finds in the docs' box with the same network in torch."""
    predictor = Predictor(desk / "lpn50.safetensors", threads=1, detector=None)
    return predictor(desk / "photo.png", BOX)


def test_python(desk: Path, poses: leanpose.Poses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    names: dict[str, Any] = {}
    assert "leanpose" not in re.sub(r"#.*", "", BLOCKS["python"])
    exec(BLOCKS["python"], names)
    assert np.linalg.norm(names["keypoints"] - poses.keypoints[0], axis=1).max() < 0.01
    np.testing.assert_allclose(names["scores"][0], poses.scores[0], atol=1e-4)


def test_the_sidecar_says_what_the_lines_do(desk: Path) -> None:
    app = json.loads((desk / "lpn50_app.onnx.json").read_text())["app"]
    assert app["input"]["name"] == "crops" and app["input"]["shape"] == [1, 256, 192, 3]
    assert app["outputs"] == {"keypoints": [1, 17, 2], "scores": [1, 17]}
    left, top, right, bottom = BOX
    names = {"left": left, "top": top, "right": right, "bottom": bottom, "h": 256, "w": 192, "padding": 1.25}
    for line in app["matrix"]["words"].split("; "):
        exec(line, names)
    expected = leanpose.geometry.crop_matrices(np.array([BOX]), (256, 192))[0]
    np.testing.assert_allclose(names["matrix"], expected)


def test_it_is_not_a_network_for_predict(desk: Path) -> None:
    with pytest.raises(WeightsError, match="is for apps"):
        load_engine(desk / "lpn50_app.onnx")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder's files on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


PAGE = """<!doctype html><script type="module">
import * as ort from "./ort.wasm.min.mjs";
import { estimate } from "./estimate.mjs";
const bitmap = await createImageBitmap(await (await fetch("photo.png")).blob(), { colorSpaceConversion: "none" });
const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
context.drawImage(bitmap, 0, 0);
const image = context.getImageData(0, 0, bitmap.width, bitmap.height);
const session = await ort.InferenceSession.create("lpn50_app.onnx");
window.found = await estimate(session, image, BOX);
</script>"""


@pytest.mark.skipif(not RUNTIME.is_dir(), reason=f"not here: {RUNTIME}")
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"not here: {CHROMIUM}")
def test_javascript_in_a_browser(desk: Path, poses: leanpose.Poses) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="not here: playwright")
    for file in RUNTIME.glob("ort*"):
        shutil.copy(file, desk)
    (desk / "estimate.mjs").write_text(BLOCKS["javascript"])
    (desk / "index.html").write_text(PAGE.replace("BOX", json.dumps(BOX)))
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with served(desk) as address, playwright.sync_playwright() as engines:
        browser = engines.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        page = browser.new_page()
        page.goto(f"{address}/index.html")
        page.wait_for_function("window.found", timeout=120_000)
        found = page.evaluate("window.found")
        browser.close()
    keypoints = np.array([[point["x"], point["y"]] for point in found])
    there = poses.scores[0] > 0.2
    distances = np.linalg.norm(keypoints - poses.keypoints[0], axis=1)[there]
    assert (distances < 0.1).mean() >= 0.99, distances
