"""A browser for the tests of the page. They are skipped where Playwright or Chromium is not installed.

Playwright's loop runs in the main thread while the browser is open, so it is closed at the end of each file of tests:
others may need `asyncio.run`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import pytest
from support import ASTRONAUT

from leanpose.io.images import read_image

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, one for all tests of a file; its camera shows the astronaut, and no page has to ask for it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    film = tmp_path_factory.mktemp("camera") / "astronaut.mjpeg"
    film.write_bytes(cv2.imencode(".jpg", read_image(ASTRONAUT)[..., ::-1])[1].tobytes())
    with sync_api.sync_playwright() as playwright:
        arguments = [*ARGUMENTS, f"--use-file-for-fake-video-capture={film}"]
        opened = playwright.chromium.launch(executable_path=program, args=arguments)
        yield opened
        opened.close()
