"""Make the two images of docs/serve.md: the page with the astronaut, on a desktop and on a phone.

    leanpose serve --model lpn50 &
    python benchmarks/serve_images.py http://127.0.0.1:8000/ docs/assets

It needs Playwright, Chromium and Pillow. The images have 256 colours, so that the repository stays small.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ASTRONAUT = Path(__file__).parents[1] / "docs" / "assets" / "astronaut.png"


def photograph(
    browser: Browser, address: str, size: tuple[int, int], dark: bool, pointed_at: str | None
) -> Image.Image:
    """Return the page in a window of this width and height, with the pointer on a row of the table."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.goto(address)
    page.set_input_files("#files", ASTRONAUT)
    page.wait_for_selector("#persons button")
    if pointed_at:
        page.hover(f"#keypoints tr:has-text('{pointed_at}')")
        page.wait_for_selector("#tip:not([hidden])")
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    return image.quantize(256, dither=Image.Dither.FLOYDSTEINBERG)


def main(address: str, folder: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        desktop = photograph(browser, address, (1280, 800), False, "left shoulder")
        desktop.save(Path(folder) / "serve_desktop.png", optimize=True)
        photograph(browser, address, (390, 844), True, None).save(Path(folder) / "serve_phone.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
