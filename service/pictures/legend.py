"""How each lock of a timeline looks, and the rows below it that say so.

Who uses it: `timeline`. Pure. Colours are those of Okabe and Ito, which people with any colour vision tell apart; waits
are hatched as well, so that colour is not the only sign. There are seven, and none comes again, because it would say of
one lock what is true of another: locks beyond look the same, and each of their bars has its lock as a title.

Source: M. Okabe, K. Ito, "Color Universal Design" (2008).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from service.pictures.letters import fitted, width
from service.pictures.svg import Drawn, Element, element, text

__all__ = ["HATCH", "STYLE", "draw", "looks"]

_HUES = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#f0e442")
_OTHERS = "others"

_LETTERS = 11.0  # their size, that of the class `quiet`
_NAME = 110.0  # pixels for the name of a lock
_SWATCH, _GAP = 14.0, 18.0  # before the words of an entry, and behind them
_ROW = 17.0

STYLE = f"""
{" ".join(f".lock{number} {{ fill: {hue} }}" for number, hue in enumerate(_HUES))}
.{_OTHERS} {{ fill: #59636e }} .hatch {{ stroke: #1f2328; stroke-opacity: 0.55 }}
@media (prefers-color-scheme: dark) {{ .{_OTHERS} {{ fill: #9198a1 }} .hatch {{ stroke: #e6edf3 }} }}
"""
"""What the classes of looks and the hatch look like, as CSS."""

HATCH = element(
    "pattern",
    [element("path", class_="hatch", d="M0 5L5 0", stroke_width=1)],
    id="waits",
    width=5,
    height=5,
    patternUnits="userSpaceOnUse",
)
"""What lies over a bar of a wait, as `url(#waits)`."""


def looks(locks: Sequence[str]) -> dict[str, str]:
    """Return the class of each lock's bars; those that come first have a colour of their own."""
    return {lock: f"lock{number}" if number < len(_HUES) else _OTHERS for number, lock in enumerate(locks)}


def draw(looks: Mapping[str, str], waited: bool, left: float, right: float, top: float) -> Drawn:
    """Return what the looks mean, in as many rows as there have to be.

    Args:
        looks: those from `looks`.
        waited: whether there are waits to be seen.
        top: where the letters of the first row stand.
    """
    content: list[Element] = []
    x, y = left, top
    for look, words in _entries(looks, waited):
        length = _SWATCH + width(words, _LETTERS)
        if x > left and x + length > right:
            x, y = left, y + _ROW
        content.append(element("rect", x=x, y=y - 9, width=10, height=10, **look))
        content.append(element("text", [text(words)], class_="quiet", x=x + _SWATCH, y=y))
        x += length + _GAP
    return Drawn(content, y + 14 if content else top - _ROW)


def _entries(looks: Mapping[str, str], waited: bool) -> Iterator[tuple[dict[str, str], str]]:
    others = [lock for lock, look in looks.items() if look == _OTHERS]
    for lock, look in looks.items():
        if look != _OTHERS or len(others) == 1:
            yield {"class_": look}, f"holds {fitted(lock, _LETTERS, _NAME)}"
    if len(others) > 1:
        yield {"class_": _OTHERS}, f"holds one of {len(others):,} other locks: point at its bar to see which"
    if waited:
        yield {"fill": "url(#waits)"}, "hatched: waits for it"
