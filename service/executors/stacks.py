"""Reads what CPython's fault handler writes down of a child: where every thread was, told without the GIL.

Who uses it: `executors.local`, for a child that died by a signal or had to be killed before it could tell by itself. A
scenario can write into the same file; so nothing here trusts what it reads, and what makes no sense is passed over.

Source: CPython, Python/traceback.c, `_Py_DumpTracebackThreads`, which lists the youngest thread first and 100 at most;
3.14 adds the threads' names in brackets. `_Py_DumpTraceback` writes of one thread, and does not say of which: it is
asked for the main thread only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from service import child as child_package
from service.child.wire import MOST_FRAMES, MOST_THREADS
from service.executors.base import Order
from service.jobs import StackFrame

__all__ = ["Dump", "Stack", "read"]

_THREAD = re.compile(r"(?:(?:Current thread|Thread) 0x([0-9a-f]{1,16})\b.*|Stack )\(most recent call first\):")
_FRAME = re.compile(r'  File "(.{1,500})", line (\d{1,9}) in (.{1,500})')

_OURS = str(Path(child_package.__file__).parent)
_MOST_TEXT = 200  # characters of any one text, as in an autopsy that the child makes


@dataclass(frozen=True, slots=True)
class Stack:
    """Where one thread was.

    Attributes:
        ident: as `threading.get_ident()` gives it.
        main: whether it is the main thread.
        frames: the scenario's part of its stack, the innermost call last.
    """

    ident: int
    main: bool
    frames: list[StackFrame]


@dataclass(frozen=True, slots=True)
class Dump:
    """What the fault handler told.

    Attributes:
        threads: those that were at a scenario's code, in the order in which they started; `MOST_THREADS` at most.
        more: how many more of them it told of.
        whole: whether it told of every thread.
    """

    threads: list[Stack] = field(default_factory=list)
    more: int = 0
    whole: bool = False


def read(dump: str | None, order: Order, main_ident: int) -> Dump:
    """Return what a dump tells.

    Args:
        dump: what the fault handler wrote; None or nothing where it did not.
        order: what was run: its source has the lines of code.
        main_ident: the ident of the main thread.
    """
    told: dict[int, Stack] = {}
    whole = False
    for ident, text in _threads(dump or ""):
        whole = whole or ident == main_ident  # the oldest is the last of all
        frames = _frames(text, order)
        if frames:  # without one, it is the thread that speaks for the child, or one of C's
            whose = main_ident if ident is None else ident
            told[whose] = Stack(whose, whose == main_ident, frames)
    everyone = list(reversed(told.values()))
    return Dump(everyone[:MOST_THREADS], len(everyone[MOST_THREADS:]), whole)


def _threads(dump: str) -> Iterator[tuple[int | None, str]]:
    """The threads in a dump: ident, None where the main thread is told for itself, and stack."""
    _, *parts = _THREAD.split(dump)
    for ident, text in zip(parts[::2], parts[1::2], strict=True):
        yield None if ident is None else int(ident, 16), text


def _frames(text: str, order: Order) -> list[StackFrame]:
    """The frames of one thread without ours, and without those of `threading` that led to the scenario's."""
    found = [frame.group(1, 2, 3) for frame in map(_FRAME.fullmatch, text.splitlines()) if frame is not None]
    while len(found) > 1 and (found[-1][0].startswith(_OURS) or Path(found[-1][0]).name == "threading.py"):
        found.pop()
    theirs = [place for place in found if not place[0].startswith(_OURS)]
    return [_frame(order, *place) for place in reversed(theirs[:MOST_FRAMES])]


def _frame(order: Order, file: str, line: str, function: str) -> StackFrame:
    number = int(line)
    code = None
    if file == f"scenarios/{order.scenario}.py":
        code = "".join(order.source.splitlines()[number - 1 : number]).strip()[:_MOST_TEXT] if number else None
    return StackFrame(file=file[-_MOST_TEXT:], line=number, function=function[:_MOST_TEXT], code=code)
