"""Axes: where a value lies on a picture, and which values are written beside it.

Who uses it: the charts beside this file. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Axis", "doubling", "linear", "magnitude"]

_TICKS = 6  # about so many figures can be read along an axis
_MOST = 1e290  # as far as floats can be told apart, added and divided, in both directions


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values along a range of pixels; `doubling` gives equal room to equal ratios."""

    low: float
    high: float
    from_px: float
    to_px: float
    doubling: bool

    def place(self, value: float) -> float:
        """Return where a value lies, in pixels; one outside of the range lies at its end."""
        value = min(max(value, self.low), self.high)
        low, value, high = (math.log2(each) if self.doubling else each for each in (self.low, value, self.high))
        return self.from_px + (value - low) / (high - low) * (self.to_px - self.from_px)

    def ticks(self) -> list[float]:
        """Return round values within the range, in their order."""
        if not self.doubling:
            step = _step(self.high - self.low)
            return [step * n for n in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]
        first, last = math.ceil(math.log2(self.low) - 1e-9), math.floor(math.log2(self.high) + 1e-9)
        every = math.ceil((last - first + 1) / (_TICKS + 2))
        return [2.0**n for n in range(first, last + 1, every)]


def linear(values: Iterable[float], from_px: float, to_px: float) -> Axis:
    """Return an axis from 0, or from below it, that holds all values."""
    found = [0.0, *(min(max(value, -_MOST), _MOST) for value in values)]
    low, high = min(found), max(found)
    step = _step(high - low if high - low > 1 / _MOST else 1.0)
    high = math.ceil(high / step - 1e-9) * step or step
    return Axis(math.floor(low / step + 1e-9) * step, high, from_px, to_px, doubling=False)


def doubling(values: Iterable[float], from_px: float, to_px: float) -> Axis:
    """Return an axis of equal ratios that holds all values, which are above 0."""
    found = list(values)
    low, high = min(found), max(found)
    return Axis(low, high if high > low else low * 2, from_px, to_px, doubling=True)


def magnitude(values: Iterable[float], name: str) -> tuple[float, str]:
    """Return the size of the unit in which values of a measure of that name read best, and the unit."""
    if not name.endswith("_s") or name.endswith("_per_s"):
        return 1.0, "per second" if name.endswith("_per_s") else "bytes" if name.endswith("_bytes") else ""
    most = max((abs(value) for value in values), default=1.0)
    return next((each for each in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if most >= each[0]), (1e-9, "ns"))


def _step(length: float) -> float:
    rough = length / _TICKS
    size: float = 10.0 ** math.floor(math.log10(rough))
    return next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
