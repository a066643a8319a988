"""Reports as one HTML file: headings, paragraphs, tables and figures, with all images inside it.

A page needs no other file and no network. It is made of parts, each a string of HTML; text is escaped here, so callers
give plain text.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --line: #8886; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid var(--line); text-align: left; }
td.number { text-align: right; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; max-width: 100%; }
figcaption { font-size: .875rem; overflow-wrap: anywhere; max-width: 23rem; }
img { max-width: 100%; height: auto; border: 1px solid var(--line); }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole page with a heading and its parts."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "\n".join([f"<body>\n<h1>{escape(title)}</h1>", *parts, "</body>"])
    return f'<!doctype html>\n<html lang="en">\n<head>{head}<style>{STYLE}</style></head>\n{body}\n</html>\n'


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; numbers stand at the right, and floats have one digit."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{lines}\n</table>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        value = f"{value:.1f}"
    elif not isinstance(value, int):
        return f"<td>{escape(str(value))}</td>"
    return f'<td class="number">{value}</td>'


def figure(image: bytes, caption: str, media_type: str = "image/png") -> str:
    """Return an image, given as the bytes of its file, with a caption that also is its alternative text."""
    content = base64.b64encode(image).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:{media_type};base64,{content}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def figures(parts: Iterable[str]) -> str:
    """Return figures side by side, as many as fit."""
    return '<div class="figures">\n' + "\n".join(parts) + "\n</div>"
