"""Numbers, values and lists as people read them.

Who uses it: the verdict and the warnings of an experiment. Pure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from service.experiments.plan import Measure

__all__ = ["counted", "is_time", "joined", "line", "named", "percent", "quantity", "rounded", "shown"]

_LONGEST = 40  # characters of a value, so that a text stays one

_SECONDS = ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms"), (1.0, "s"))
_BYTES = ((1.0, "bytes"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"))


def is_time(measure: Measure) -> bool:
    """Whether the measure counts seconds of which fewer are better."""
    return measure.name.endswith("_s") and not measure.name.endswith("_per_s") and measure.better == "lower"


def quantity(value: float, name: str) -> str:
    """Return a value of the measure of that name with its unit, in three digits."""
    if name.endswith("_per_s"):
        return f"{rounded(value)} per second"
    if name.endswith("_s"):
        return _scaled(value, _SECONDS)
    if name.endswith("_bytes"):
        return _scaled(value, _BYTES)
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else rounded(value)


def rounded(value: float) -> str:
    """Return a number in three digits, without an exponent where that can be read."""
    if value == 0:
        return "0"
    value = float(f"{value:.3g}")  # first, so that 999.6 has no decimals
    if not 1e-6 <= abs(value) < 1e15:
        return f"{value:.3g}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def percent(share: float) -> str:
    """Return a share in whole percent, and in tenths where that says more."""
    return f"{share * 100:.{0 if share >= 0.0995 else 1}f} %"


def named(values: Mapping[str, Any]) -> str:
    """Return a cell's values, such as `threads 8, lock false`."""
    return ", ".join(f"{field} {shown(value)}" for field, value in values.items())


def shown(value: Any) -> str:
    """Return a JSON value as a person would type it, cut off where it is long."""
    return line(value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False), _LONGEST)


def line(text: str, most: int = 200) -> str:
    """Return a text as one line of so many characters at most."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def counted(number: int, noun: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def joined(parts: Sequence[str], word: str = "and") -> str:
    """Return `a, b and c`."""
    return f" {word} ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    size = abs(float(f"{value:.3g}"))
    scale, unit = next((each for each in reversed(units) if size >= each[0]), units[0])
    if value == 0:
        scale, unit = next(each for each in units if each[0] == 1.0)
    return f"{rounded(value / scale)} {unit}"
