"""SVG, written element by element: escaped, rounded, and coloured for light and dark by one style.

Who uses it: the pictures beside this file. Nothing in a picture is loaded from elsewhere and nothing in it runs, so it
can stand in a README.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

__all__ = ["Drawn", "Element", "element", "picture", "text"]

Element = str


class Drawn(NamedTuple):
    """A part of a picture, and where it ends, in pixels from the top."""

    content: list[Element]
    bottom: float


_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2 (Char)


def element(name: str, content: Iterable[Element] = (), /, **attributes: object) -> Element:
    """Return an element; an underscore in an attribute's name stands for a hyphen, None leaves the attribute out.

    Args:
        content: elements that are made already, or text from `text`.
    """
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_written(value))}"
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(content)
    return f"<{name}{given}>{inner}</{name}>" if inner else f"<{name}{given}/>"


def text(words: object) -> Element:
    """Return words as they may stand inside an element; characters that XML forbids are replaced."""
    return escape(_legal(str(words)))


def picture(
    width: float, height: float, content: Iterable[Element], *, title: str, description: str, style: str
) -> str:
    """Return a whole SVG document.

    Args:
        width: in CSS pixels, as `height`; it scales down to whatever holds it.
        title: its name, for those who do not see it, too.
        description: what it shows, in words.
        style: CSS; `@media (prefers-color-scheme: dark)` works in an `<img>` as well.
    """
    head = [
        element("title", [text(title)], id="title"),
        element("desc", [text(description)], id="desc"),
        element("style", [text(style)]),
    ]
    return element(
        "svg",
        [*head, *content],
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_written(width)} {_written(height)}",
        width=width,
        height=height,
        role="img",
        aria_labelledby="title desc",
    )


def _written(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")  # a hundredth of a pixel is sharp enough and keeps files small
    return _legal(str(value))


def _legal(words: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", words)
