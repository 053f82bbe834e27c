"""What threads stamped, put in order: rows per thread and counts of active threads.

Who uses it: `executors.transcript`, with what a child sent. Pure: no clock, no I/O. All times are nanoseconds since the
scenario began, taken in the child; nothing here is ever subtracted from a clock of the service.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

from service.child.wire import whole

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
    _running: dict[int, tuple[ThreadRow, _Usage]] = field(default_factory=dict)  # by ident, unique while it runs

    def add(self, event: Event) -> None:
        """Take in one event; one that is refused leaves nothing behind.

        Raises:
            KeyError, TypeError, ValueError: the event does not follow from those before, or is not of its shape.
        """
        if event.kind == "start":
            self._start(event)
        elif event.kind == "end":
            self._end(event)
        else:
            raise ValueError(f"no such event: {event.kind!r}")

    def _start(self, event: Event) -> None:
        facts = event.facts
        native_id = facts["native_id"]
        row = ThreadRow(
            name=event.thread,
            daemon=bool(facts["daemon"]),
            ident=whole(facts["ident"]),
            native_id=None if native_id is None else whole(native_id),
            started_s=event.at_ns / _NS,
            ended_s=None,
            cpu_s=None,
            voluntary_switches=None,
            involuntary_switches=None,
        )
        active, usage = whole(facts["active_threads"]), _Usage.read(facts["usage"])
        self.rows.append(row)
        self.highest = max(self.highest, active)
        self._running[row["ident"]] = row, usage

    def _end(self, event: Event) -> None:
        after = _Usage.read(event.facts["usage"])
        row, before = self._running.pop(whole(event.facts["ident"]))
        cpu_ns = _grown(before.cpu_ns, after.cpu_ns)
        row["ended_s"] = event.at_ns / _NS
        row["cpu_s"] = None if cpu_ns is None else cpu_ns / _NS
        row["voluntary_switches"] = _grown(before.voluntary_switches, after.voluntary_switches)
        row["involuntary_switches"] = _grown(before.involuntary_switches, after.involuntary_switches)

    def active_threads(self, before: int | None, after: int | None) -> ActiveThreads:
        """Return the counts of active threads, the peak over all that was seen."""
        seen = [count for count in (before, after, self.highest or None) if count is not None]
        return ActiveThreads(before=before, peak=max(seen, default=None), after=after)


class _Usage(NamedTuple):
    """What a thread had used up at a moment; null where its system could not tell."""

    cpu_ns: int | None
    voluntary_switches: int | None
    involuntary_switches: int | None

    @classmethod
    def read(cls, facts: Any) -> _Usage:
        return cls(*(None if facts[name] is None else whole(facts[name]) for name in cls._fields))


def _grown(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
