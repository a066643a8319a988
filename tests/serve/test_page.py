"""The page in a browser."""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from clips import make_clip
from serve.serving import serving
from support import ASTRONAUT

from leanpose.inference.predictor import Predictor
from leanpose.io.draw import draw_poses
from leanpose.io.images import read_image
from leanpose.io.results import to_csv

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Download, Page, Route

WAIT_MS = 20000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of the page, with a server behind it."""
    with serving("lpn50", "lpn50.coco_128x96_int8") as found:
        yield found


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, opened. At the end nothing was asked of other hosts, and nothing went wrong that the test did not cause
    by answering in place of the server."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(WAIT_MS)
    asked: list[str] = []
    faults: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("websocket", lambda socket: asked.append(socket.url.replace("ws", "http", 1)))
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    opened.goto(address)
    opened.wait_for_selector("#model option", state="attached")
    yield opened
    assert [url for url in asked if not url.startswith((address, f"blob:{address}"))] == []
    assert [fault for fault in faults if not fault.startswith("Failed to load resource")] == []
    context.close()


@pytest.fixture(scope="module")
def answer(address: str) -> str:
    """What the server answers of the astronaut."""
    request = urllib.request.Request(f"{address}v1/poses?model=lpn50", method="POST")
    request.add_header("Content-Type", "multipart/form-data; boundary=cut")
    head = '--cut\r\nContent-Disposition: form-data; name="file"; filename="astronaut.png"\r\n\r\n'
    request.data = head.encode() + ASTRONAUT.read_bytes() + b"\r\n--cut--\r\n"
    with urllib.request.urlopen(request) as response:
        return response.read().decode()


def drop(page: Page, name: str = "astronaut.png", event: str = "drop") -> None:
    """Drop or paste the astronaut, as a browser does."""
    page.evaluate(
        """async ([base64, name, type]) => {
            const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name, { type: "image/png" }));
            const options = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(type === "drop"
                ? new DragEvent(type, { ...options, dataTransfer: data })
                : new ClipboardEvent(type, { ...options, clipboardData: data }));
        }""",
        [base64.b64encode(ASTRONAUT.read_bytes()).decode(), name, event],
    )


def done(page: Page, count: int = 1) -> None:
    """Wait until so many persons of the image on the stage are listed, and nothing more is on its way."""
    page.wait_for_function(
        "(count) => document.getElementById('busy').hidden"
        " && document.querySelectorAll('#persons button').length === count",
        arg=count,
    )


def downloaded(page: Page, form: str) -> tuple[str, bytes]:
    """Return the name and the content of what a button of downloads gives."""
    with page.expect_download() as waiting:
        page.click(f"[data-do={form}]")
    download: Download = waiting.value
    return download.suggested_filename, Path(download.path()).read_bytes()


def shown(page: Page) -> np.ndarray:
    """Return what the canvas shows, (H, W, 3) uint8 RGB."""
    url = page.evaluate("document.getElementById('canvas').toDataURL()")
    return read_image(base64.b64decode(url.partition(",")[2]))


def slide(page: Page, name: str, value: float) -> None:
    """Move a slider and let it go."""
    page.locator(f"#{name}").evaluate(
        "(input, value) => { input.value = value; for (const type of ['input', 'change'])"
        " input.dispatchEvent(new Event(type, { bubbles: true })); }",
        value,
    )


def test_a_dropped_image_is_drawn_and_downloaded_as_python_does(page: Page, answer: str, tmp_path: Path) -> None:
    assert page.is_visible("#empty") and not page.is_visible("#panel")
    drop(page)
    done(page)
    assert page.get_attribute("#canvas", "aria-label") == "astronaut.png: 1 person"
    canvas = shown(page).astype(int)
    for colour in ((64, 190, 255), (255, 184, 28)):  # left and right arm
        assert (np.abs(canvas - colour).max(axis=2) < 3).sum() > 100

    assert downloaded(page, "json") == ("astronaut.json", answer.encode())
    image = read_image(ASTRONAUT)
    poses = Predictor("lpn50", threads=1)(image)
    name, table = downloaded(page, "csv")
    assert (name, table.decode()) == ("astronaut.csv", to_csv([("astronaut.png", (512, 512), poses)]))
    name, content = downloaded(page, "png")
    assert name == "astronaut_pose.png"
    drawn = read_image(content).astype(int)
    ours = draw_poses(image, poses).astype(int)
    assert drawn.shape == ours.shape
    changed = (ours != image).any(axis=2)
    assert np.abs(drawn - ours)[changed].mean() < 0.15 * np.abs(ours - image)[changed].mean()  # only soft edges differ
    assert not (drawn != image).any(axis=2)[cv2.dilate(changed.astype(np.uint8), np.ones((5, 5))) == 0].any()


def test_several_images_make_a_strip(page: Page) -> None:
    drop(page, "one.png")
    drop(page, "two, both.png", "paste")
    done(page)
    page.wait_for_selector("#strip [data-state=done] >> nth=1")
    assert page.locator("#strip button").count() == 2
    page.select_option("#scope-of", "all")
    assert [one["image"] for one in json.loads(downloaded(page, "json")[1])] == ["one.png", "two, both.png"]
    name, table = downloaded(page, "csv")
    assert name == "poses.csv" and table.decode().splitlines()[2].startswith('"two, both.png",0,0.')
    page.click("#strip button >> nth=0")
    assert page.inner_text("#name") == "one.png"
    page.click("[data-do=clear]")
    assert page.is_visible("#empty")


def test_thresholds_ask_the_server_only_for_what_is_not_here(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/v1/poses" in request.url else None)
    drop(page)
    done(page)
    before = shown(page)
    slide(page, "min-score", 1)
    assert page.locator("#keypoints tr.off").count() == 17
    plain = shown(page)
    assert (before != plain).any()
    slide(page, "min-score", 0)
    assert page.locator("#keypoints tr.off").count() < 17
    assert (shown(page) != plain).sum() > (before != plain).sum()
    slide(page, "min-person-score", 0.9)
    done(page, 0)
    assert page.is_visible("#persons-none") and len(asked) == 1
    slide(page, "min-person-score", 0)
    page.wait_for_function("() => document.querySelectorAll('#persons button').length > 1")
    assert [url.partition("?")[2] for url in asked] == ["model=lpn50", "model=lpn50&min_person_score=0"]
    page.click("[data-do=reset]")
    done(page)


def test_keypoints_are_told_to_mouse_and_keyboard(page: Page, answer: str) -> None:
    nose = json.loads(answer)["persons"][0]["keypoints"]["nose"]
    told = f"nose {int(100 * nose['score']) / 100:.2f}"  # rounded down
    drop(page)
    done(page)
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    scale = box["width"] / 512
    page.mouse.move(box["x"] + (nose["x"] + 0.5) * scale + 3, box["y"] + (nose["y"] + 0.5) * scale + 3)
    page.wait_for_selector("#tip:not([hidden])")
    assert page.inner_text("#tip") == told
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.wait_for_selector("#tip[hidden]", state="attached")

    page.focus("#keypoints tbody button >> nth=1")
    page.keyboard.press("ArrowUp")
    page.wait_for_function("(told) => document.getElementById('tip').textContent === told", arg=told)
    assert page.evaluate("document.activeElement.dataset.name") == "nose"
    page.keyboard.press("Tab")  # out of the table by one key
    assert page.evaluate("document.activeElement.dataset.do") == "reset"
    page.wait_for_selector("#tip[hidden]", state="attached")


def test_all_can_be_done_by_keyboard(page: Page) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"the Tab key does not lead to {selector}")

    page.on("filechooser", lambda chooser: chooser.set_files(ASTRONAUT))
    tab_to("[data-do=choose]")
    page.keyboard.press("Enter")
    done(page)
    assert page.evaluate("document.activeElement.dataset.do") == "choose"  # the one below the image
    tab_to("#min-score")
    page.keyboard.press("End")
    assert page.locator("#keypoints tr.off").count() == 17
    tab_to("[data-do=json]")
    with page.expect_download():
        page.keyboard.press("Enter")
    tab_to("#model")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#busy:not([hidden])")
    done(page)
    tab_to("[data-do=clear]")
    page.keyboard.press("Space")
    page.wait_for_selector("#empty:not([hidden])")
    assert page.evaluate("document.activeElement.dataset.do") == "choose"


def test_everything_has_a_name_and_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    drop(page)
    drop(page)
    done(page)
    nameless = re.findall(
        r"- (button|slider|combobox|radio|img|table|link)(?: \[|:|$)", page.locator("body").aria_snapshot(), re.M
    )
    assert nameless == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.get_by_role("status").inner_text() == "astronaut.png: 1 person."
    assert page.get_by_role("slider", name="Keypoints from score").count() == 1
    assert page.get_by_role("table", name="Keypoints of person 1").count() == 1


def refuse(page: Page, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
    """Answer the next request for poses in place of the server."""

    def handle(route: Route) -> None:
        route.fulfill(status=status, body=json.dumps({"detail": detail}), headers=headers)

    page.route("**/v1/poses*", handle, times=1)


def test_faults_are_told_and_tried_again(page: Page) -> None:
    refuse(page, 413, "The image has 90 million pixels; 67 million are allowed.")
    drop(page)
    page.wait_for_selector("#fault:not([hidden])")
    assert page.get_by_role("alert").inner_text().startswith("The image has 90 million pixels; 67 million are allowed.")
    page.route("**/v1/poses*", lambda route: route.abort(), times=1)
    page.click("[data-do=retry]")
    page.wait_for_function("() => document.getElementById('fault-text').textContent.includes('does not answer')")
    refuse(page, 429, "The queue is full.", {"Retry-After": "1"})
    page.click("[data-do=retry]")
    page.wait_for_function("() => document.getElementById('busy-text').textContent.includes('again in 1 s')")
    done(page)
    assert not page.is_visible("#fault")


def test_work_can_be_cancelled(page: Page) -> None:
    page.route("**/v1/poses*", lambda route: None, times=1)  # never answered
    drop(page)
    page.click("[data-do=cancel]")
    page.wait_for_function("() => document.getElementById('fault-text').textContent === 'Cancelled.'")
    page.click("[data-do=remove]")
    assert page.is_visible("#empty")


def test_the_token_is_asked_for_once_and_sent(page: Page, address: str) -> None:
    def guarded(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer open sesame":
            route.continue_()
        else:
            route.fulfill(status=401, body=json.dumps({"detail": "A token is needed."}))

    page.route("**/v1/**", guarded)
    drop(page)
    page.wait_for_selector("dialog[open]")
    assert not page.is_visible("#token-wrong")
    page.keyboard.type("open poppy")
    page.keyboard.press("Enter")
    page.wait_for_selector("#token-wrong", state="visible")
    page.keyboard.type("open sesame")
    page.keyboard.press("Enter")
    done(page)
    page.reload()
    drop(page)
    done(page)
    page.evaluate("sessionStorage.clear()")
    page.reload()
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.getElementById('notice-text').textContent.includes('who give its token')")
    page.goto(f"{address}#token=open%20sesame")
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    assert page.url == address


def test_the_place_that_was_chosen_last_is_used(page: Page) -> None:
    late: list[Route] = []
    page.route("**/models/manifest.json", lambda route: late.append(route))
    page.click("label[for=where-device]")
    page.wait_for_timeout(300)
    page.click("label[for=where-server]")
    with page.expect_response("**/models/manifest.json"):
        late[0].continue_()
    page.wait_for_timeout(300)
    assert page.is_checked("#where-server")


def test_the_camera_runs_live(page: Page) -> None:
    answers: list[dict[str, Any]] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda text: answers.append(json.loads(text))))
    page.click("[data-do=camera]")
    page.wait_for_function("() => document.getElementById('facts').textContent.includes('frames per second')")
    told = "() => document.getElementById('persons').textContent.startsWith('Person 1')"  # its id
    page.wait_for_function(told)  # a camera's first frames can be black
    page.click("[data-do=stop-camera]")
    page.wait_for_selector("[data-do=stop-camera]", state="hidden")
    assert json.loads(downloaded(page, "json")[1]) in answers
    assert [answer["frame"] for answer in answers] == [*range(len(answers))]


def test_a_clip_is_worked_through_and_plays(page: Page, tmp_path: Path) -> None:
    image = read_image(ASTRONAUT)
    clip = make_clip(tmp_path / "walk.mp4", [np.roll(image, 20 * i, axis=1) for i in range(4)])
    page.set_input_files("#files", clip)
    page.wait_for_selector("#player:not([hidden])")
    assert page.inner_text("#facts") == "4 frames, 10 per second"
    frames = json.loads(downloaded(page, "json")[1])
    assert [(frame["image"], frame["frame"], frame["time_s"]) for frame in frames] == [
        ("walk.mp4", i, pytest.approx(i / 10, abs=0.02)) for i in range(4)
    ]
    noses = [frame["persons"][0]["keypoints"]["nose"]["x"] for frame in frames]
    assert np.diff(noses) == pytest.approx([20, 20, 20], abs=8)  # none twice, none left out
    page.click("[data-do=play]")
    page.wait_for_function("() => document.getElementById('seek').value === '3'")


ENGINE = """
export const loadManifest = async () => (await (await fetch("./v1/models")).json());
export const LocalPredictor = {
  load: async (manifest, name, { onProgress }) => {
    onProgress(1e6, 2e6);
    return { predict: async (source, { name }) => ({ image: name, width: 512, height: 512, persons: [] }) };
  },
};
"""


def test_the_engine_of_this_device_is_optional(page: Page) -> None:
    page.route("**/engine/predictor.js", lambda route: route.fulfill(status=404), times=1)
    page.click("text=On this device")
    page.wait_for_selector("#notice:not([hidden])")
    assert page.is_checked("#where-server") and "engine" in page.inner_text("#notice")
    page.reload()
    page.route("**/engine/predictor.js", lambda route: route.fulfill(body=ENGINE, content_type="text/javascript"))
    page.click("text=On this device")
    page.wait_for_selector("#where-device:checked", state="attached")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    drop(page)
    page.wait_for_function("() => document.getElementById('status').textContent === 'astronaut.png: No person.'")
    assert [url for url in asked if not url.startswith("blob:")] == []


def test_without_server_and_networks_the_page_says_so(page: Page) -> None:
    page.route("**/v1/models", lambda route: route.fulfill(status=404))
    page.route("**/engine/predictor.js", lambda route: route.fulfill(status=404))
    page.reload()
    page.wait_for_function(
        "() => document.getElementById('notice-text').textContent.startsWith('No server answers here')"
    )
