"""How wide words are, about: nobody can measure them where a picture is made, and each system has a font of its own.

Who uses it: the timeline and its legend. Pure. The figures are those of DejaVu Sans, the widest of the usual fonts, or
a little more: elsewhere words end earlier than they may.
"""

from __future__ import annotations

import unicodedata

__all__ = ["fitted", "width"]

_EMS = {
    **dict.fromkeys(" .,:;'|ijlIJ·", 0.34),
    **dict.fromkeys("!()[]ftr-", 0.41),
    **dict.fromkeys("mwMW@%…", 1.0),
}
_CAPITAL, _OTHER = 0.79, 0.64
_EAST_ASIAN = 1.3  # emoji; ideographs take 1


def width(words: str, size: float) -> float:
    """Return about how many pixels words take in letters of a size in pixels."""
    return size * sum(map(_em, words))


def fitted(words: str, size: float, room: float) -> str:
    """Return words as far as they fit into so many pixels, with an ellipsis where that is not all of them."""
    if width(words, size) <= room:
        return words
    room -= width("…", size)
    for end, letter in enumerate(words):
        room -= width(letter, size)
        if room < 0:
            return f"{words[:end]}…"
    return words


def _em(letter: str) -> float:
    known = _EMS.get(letter)
    if known is not None:
        return known
    if unicodedata.combining(letter):
        return 0.0
    if unicodedata.east_asian_width(letter) in "WF":
        return _EAST_ASIAN
    return _CAPITAL if letter.isupper() else _OTHER
