"""The parts of a child's frames, checked one by one: each is returned as it should be, or raises `BadFrame`.

Who uses it: `transcript`.
"""

from __future__ import annotations

from typing import Any

from service.child.wire import MAX_DEPTH, MOST_FRAMES, BadFrame, Frame, integer, text, too_deep
from service.jobs import CycleLink, StackFrame, ThreadAtEnd

__all__ = ["cycle", "flag", "grade", "in_turn", "members", "number", "observed", "text_or_none", "thread_at_end"]

_GRADES = ("acceptable", "interesting", "forbidden")


def observed(frame: Frame) -> Frame:
    """The outcome and what was counted, checked."""
    values = frame["values"]
    if not isinstance(values, dict):
        raise BadFrame(f"no outcome: {frame!r:.200}")
    if too_deep(values):
        raise BadFrame(f"values nested deeper than {MAX_DEPTH}")
    return {
        "outcome": text(frame["outcome"]),
        "grade": grade(frame["grade"]),
        "meaning": text(frame["meaning"]),
        "values": values,
    }


def grade(value: Any) -> str:
    """One of the grades."""
    if value not in _GRADES:
        raise BadFrame(f"no grade: {value!r:.80}")
    return text(value)


def thread_at_end(row: Any) -> ThreadAtEnd:
    """A thread of an autopsy."""
    return ThreadAtEnd(
        name=text_or_none(row["name"]),
        ident=integer(row["ident"]),
        daemon=flag(row["daemon"]),
        main=flag(row["main"]),
        stack=[_stack_frame(place) for place in members(row["stack"], MOST_FRAMES)],
        holds=[text(name) for name in members(row["holds"])],
        waits_for=text_or_none(row["waits_for"]),
    )


def _stack_frame(place: Any) -> StackFrame:
    return StackFrame(
        file=text(place["file"]),
        line=integer(place["line"]),
        function=text(place["function"]),
        code=text_or_none(place["code"]),
    )


def cycle(turns: list[Any]) -> list[CycleLink]:
    """Who waits for whom, checked: each for what the next one holds, and the last one for what the first one holds."""
    links = [
        CycleLink(
            thread=text(turn["thread"]), holds=text_or_none(turn["holds"]), waits_for=text_or_none(turn["waits_for"])
        )
        for turn in turns
    ]
    closed = all(link["waits_for"] == following["holds"] for link, following in in_turn(links))
    waiting = links[:1] if len(links) == 2 else links  # of two, the other one may have ended
    if not waiting or not closed or any(link["waits_for"] is None for link in waiting):
        raise BadFrame(f"no cycle: {turns!r:.200}")
    return links


def in_turn(links: list[CycleLink]) -> list[tuple[CycleLink, CycleLink]]:
    """Each link with the one that it waits for."""
    return list(zip(links, [*links[1:], *links[:1]], strict=True))


def text_or_none(value: Any) -> str | None:
    """A text, or null."""
    return None if value is None else text(value)


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise BadFrame(f"neither true nor false: {value!r:.80}")
    return value


def number(value: Any) -> float:
    """A number of either kind."""
    if not isinstance(value, (int, float)):
        raise BadFrame(f"not a number: {value!r:.80}")
    return float(value)


def members(value: Any, most: int | None = None) -> list[Any]:
    """A list, of at most so many members."""
    if not isinstance(value, list):
        raise BadFrame(f"not a list: {value!r:.80}")
    if most is not None and len(value) > most:
        raise BadFrame(f"a list of {len(value)}, where {most} may be")
    return value
