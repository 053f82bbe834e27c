"""What threads stamped, put in order: rows per thread and counts of active threads.

Who uses it: `executors.transcript`, with what a child sent. Pure: no clock, no I/O. All times are nanoseconds since the
scenario began, taken in the child; nothing here is ever subtracted from a clock of the service.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

__all__ = ["ActiveThreads", "Event", "ThreadRow", "Timeline"]

_NS = 1e9


class Event(NamedTuple):
    """A stamped fact about a thread."""

    at_ns: int
    thread: str
    kind: str  # `start` or `end`
    facts: dict[str, Any]


class ThreadRow(TypedDict):
    """One thread from its own start to its own end, measured by itself; null where that was not seen or not told."""

    name: str
    daemon: bool
    ident: int
    native_id: int | None
    started_s: float
    ended_s: float | None
    cpu_s: float | None
    voluntary_switches: int | None
    involuntary_switches: int | None


class ActiveThreads(TypedDict):
    """`threading.active_count()` before the scenario, at its highest, and when the scenario's `run` returned."""

    before: int | None
    peak: int | None
    after: int | None


@dataclass(slots=True)
class Timeline:
    """The threads of one job, built from events in the order in which they came."""

    rows: list[ThreadRow] = field(default_factory=list)
    highest: int = 0
    _open: dict[str, list[tuple[ThreadRow, dict[str, Any]]]] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take in one event.

        Raises:
            KeyError, IndexError, TypeError, ValueError: the event does not follow from those before.
        """
        if event.kind == "start":
            self._start(event)
        elif event.kind == "end":
            self._end(event)
        else:
            raise ValueError(f"no such event: {event.kind!r}")

    def _start(self, event: Event) -> None:
        facts = event.facts
        row = ThreadRow(
            name=event.thread,
            daemon=bool(facts["daemon"]),
            ident=int(facts["ident"]),
            native_id=facts["native_id"],
            started_s=event.at_ns / _NS,
            ended_s=None,
            cpu_s=None,
            voluntary_switches=None,
            involuntary_switches=None,
        )
        self.rows.append(row)
        self.highest = max(self.highest, int(facts["active_threads"]))
        self._open.setdefault(event.thread, []).append((row, facts["usage"]))

    def _end(self, event: Event) -> None:
        row, before = self._open[event.thread].pop(0)  # of threads with one name, the oldest: names need not be unique
        after = event.facts["usage"]
        row["ended_s"] = event.at_ns / _NS
        cpu_ns = _grown(before, after, "cpu_ns")
        row["cpu_s"] = None if cpu_ns is None else cpu_ns / _NS
        row["voluntary_switches"] = _grown(before, after, "voluntary_switches")
        row["involuntary_switches"] = _grown(before, after, "involuntary_switches")

    def active_threads(self, before: int | None, after: int | None) -> ActiveThreads:
        """Return the counts of active threads, the peak over all that was seen."""
        seen = [count for count in (before, after, self.highest or None) if count is not None]
        return ActiveThreads(before=before, peak=max(seen, default=None), after=after)


def _grown(before: dict[str, Any], after: dict[str, Any], name: str) -> int | None:
    if before[name] is None or after[name] is None:
        return None
    return int(after[name]) - int(before[name])
