"""Pages: well-formed, with text escaped and images inside."""

from __future__ import annotations

import base64
from html.parser import HTMLParser

from leanpose.io.page import figure, figures, heading, page, paragraph, table


class Reader(HTMLParser):
    """Collects the tags that are open, all text, and the images."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_page_holds_its_parts_whatever_letters_they_have() -> None:
    odd = "<b>&\"'"
    parts = [heading(odd), paragraph(odd), table([odd], [[odd], [3], [0.25]]), figures([figure(b"\x89PNG", odd)])]
    reader = Reader()
    reader.feed(page(odd, parts))
    reader.close()
    assert reader.open == []
    assert reader.text.count(odd) == 7  # title and its heading, heading, paragraph, header, cell, caption
    assert {"3", "0.2"} <= {*reader.text}
    (image,) = reader.images
    assert image["alt"] == odd
    assert base64.b64decode(str(image["src"]).removeprefix("data:image/png;base64,")) == b"\x89PNG"
