"""The networks in a browser against the same in Python: how far their keypoints lie apart, and milliseconds per image.

    python benchmarks/in_browser.py DATA [--model lpn50 --detector litepose_xs --images 100 --threads 1 2]

DATA holds coco/val.json and coco/images; the images are given to both as PNG, so that both decode the same pixels.
The browser is Chromium, on a page from a plain server on this machine; with more than one thread the server sends the
headers that allow threads, and the browser takes as many as the machine has cores, up to 4. Milliseconds are those of
`LocalPredictor.predict`, decoding included, of the second run of each image.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import statistics
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Page, sync_playwright

from leanpose import Predictor, read_image
from leanpose.serve.static_site import write_site

LOAD = """async (name) => {
  const { loadManifest, LocalPredictor } = await import("./engine/predictor.js");
  const began = performance.now();
  globalThis.predictor = await LocalPredictor.load(await loadManifest(), name);
  return performance.now() - began;
}"""
PREDICT = """async (file) => {
  const source = await (await fetch(`data:image/png;base64,${file}`)).blob();
  const result = await predictor.predict(source);
  const began = performance.now();
  await predictor.predict(source);
  return [result, performance.now() - began];
}"""


class Server(SimpleHTTPRequestHandler):
    isolated = False

    def do_GET(self) -> None:
        if not self.path.endswith("/blank.html"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="lpn50")
    parser.add_argument("--detector", default="litepose_xs")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    names = [image["file_name"] for image in json.loads((options.data / "coco" / "val.json").read_text())["images"]]
    images = [read_image(options.data / "coco" / "images" / name) for name in names[: options.images]]
    files = [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in images]
    for threads in options.threads:
        predictor = Predictor(options.model, detector=options.detector, threads=threads)
        found = [predictor(file).to_dicts() for file in files]
        began = time.perf_counter()
        for file in files:
            predictor(file)
        native = (time.perf_counter() - began) / len(files) * 1000
        load, answers = in_browser(options, files, isolated=threads > 1)
        milliseconds = statistics.median(spent for _, spent in answers)
        print(
            f"{threads} thread(s): {milliseconds:.0f} ms per image in the browser (median), {native:.0f} ms in Python "
            f"(mean); loaded in {load / 1000:.1f} s"
        )
        print(
            difference(found, [answer["persons"] for answer, _ in answers], predictor.weights.calibration is not None)
        )


def in_browser(options: Any, files: list[bytes], isolated: bool) -> tuple[float, list[tuple[dict[str, Any], float]]]:
    """Return the milliseconds that loading took, and for each image the result and its milliseconds."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        write_site(Path(folder) / "site", [options.model], options.detector)
        handler = type("Handler", (Server,), {"isolated": isolated})
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page: Page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/site/blank.html")
        assert page.evaluate("crossOriginIsolated") == isolated
        load = page.evaluate(LOAD, options.model)
        answers = [page.evaluate(PREDICT, base64.b64encode(file).decode()) for file in files]
        browser.close()
        server.shutdown()
    return load, answers


def difference(found: list[list[dict[str, Any]]], others: list[list[dict[str, Any]]], calibrated: bool) -> str:
    """Return in words how far apart persons of the same images are."""
    least = 0.4 if calibrated else 0.2
    same = [len(a) == len(b) for a, b in zip(found, others, strict=True)]
    pairs = [pair for a, b in zip(found, others, strict=True) if len(a) == len(b) for pair in zip(a, b, strict=True)]
    boxes = [np.abs(np.subtract(a["box_xyxy"], b["box_xyxy"])).max() for a, b in pairs]
    scores = [abs(a["score"] - b["score"]) for a, b in pairs]
    places = [
        (
            a["keypoints"][name]["score"],
            *(abs(a["keypoints"][name][axis] - b["keypoints"][name][axis]) for axis in "xy"),
        )
        for a, b in pairs
        for name in a["keypoints"]
    ]
    values = np.array(places)
    distances, present = values[:, 1:].max(axis=1), values[:, 0] >= least

    def shares(chosen: np.ndarray) -> str:
        return ", ".join(f"{(chosen <= limit).mean():.2%} within {limit} px" for limit in (0.1, 0.5, 2))

    return (
        f"  same number of persons in {np.mean(same):.2%} of {len(same)} images; {len(pairs)} persons: same box to "
        f"0.01 px {np.mean(np.array(boxes) <= 0.011):.2%}, score within 0.01 {np.mean(np.array(scores) <= 0.01):.2%}\n"
        f"  keypoints: {shares(distances)}; those that count as there: {shares(distances[present])}"
    )


if __name__ == "__main__":
    main()
