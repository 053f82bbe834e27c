"""What the threads of a job stamped: events as everybody sees them, rows per thread, counts of active threads.

Who uses it: `executors.transcript`, with what a child sent; `story` and `hub` give events their ids; pictures are drawn
from them. Pure: no clock, no I/O. All times count from the beginning of the scenario, taken in the child; nothing here
is ever subtracted from a clock of the service.

An event is a JSON object with an `id`, a `type`, and these fields:

    state                               at (RFC 3339), status, attempt, reason; at the end outcome, grade, meaning, too
    started                             at_s, active_threads: the scenario begins
    start                               at_s, thread, number, daemon, ident, native_id, active_threads
    wait acquire release give_up        at_s, thread, number, lock: only with `trace: locks`; a wait ends with
                                        `acquire`, or with `give_up` if it had a time limit and was in vain
    note                                at_s, thread, number, text
    progress                            at_s, thread, number, done, of
    output                              at_s, thread, number, line; thread and number are null for output from C
    end                                 at_s, thread, number, cpu_s

`number` is the thread's own in its job: 0 is the main thread, which has neither `start` nor `end`. Names need not be
unique. Events stand in the order in which they were told; across threads `at_s` may step back a little.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypedDict

from service.child.wire import MOST_ROWS, integer, text

__all__ = [
    "LOCK_EVENTS",
    "ActiveThreads",
    "Basis",
    "Event",
    "EventLog",
    "EventType",
    "Gil",
    "JobEvent",
    "ThreadRow",
    "Timeline",
    "Trace",
    "Tracing",
]

JobEvent = dict[str, Any]
"""One event, as the module's text says; without `id` until it is told."""

EventType = Literal[
    "state", "started", "start", "wait", "acquire", "release", "give_up", "note", "progress", "output", "end"
]
Trace = Literal["threads", "locks", "off"]
Basis = Literal["measured", "estimated", "exact"]

LOCK_EVENTS: frozenset[EventType] = frozenset({"wait", "acquire", "release", "give_up"})
"""What is told of a lock, each with its name; only with `trace: locks`."""

_NS = 1e9


@dataclass(frozen=True, slots=True)
class EventLog:
    """What was told of a job during one life of the service.

    Attributes:
        epoch: the first number of the ids; grows with each life.
    """

    epoch: int
    events: list[JobEvent]


class Event(NamedTuple):
    """A stamped fact about a thread."""

    at_ns: int
    thread: str
    number: int
    kind: str
    facts: Any


class ThreadRow(TypedDict):
    """One thread from its own start to its own end, measured by itself; null where that was not seen or not told."""

    name: str
    number: int
    daemon: bool
    ident: int
    native_id: int | None
    started_s: float
    ended_s: float | None
    cpu_s: float | None
    core_wait_s: float | None  # ready to run, without a core
    gil_wait_s: float | None  # ready to run, without the GIL: at most this
    lock_wait_s: float | None  # of traced locks, as the next two
    lock_acquires: int | None
    lock_waits: int | None
    voluntary_switches: int | None
    involuntary_switches: int | None


class ActiveThreads(TypedDict):
    """`threading.active_count()` before the scenario, at its highest, and when the scenario's `run` returned."""

    before: int | None
    peak: int | None
    after: int | None


class Gil(TypedDict):
    """How much the global interpreter lock was in the way of the threads of a run.

    `contention`: of the lives of all threads but the main one, the share that they waited for the GIL; 0 to 1.
    `method`: how it was found. `accounting`: from what the system says of each thread. Another way (a profiler that
    sees who holds the lock) would have another name, and fill the same fields.
    """

    enabled: bool
    contention: float | None
    method: Literal["accounting"]
    basis: dict[str, Basis | None]  # of `cpu_s`, `core_wait_s`, `lock_wait_s`, `gil_wait_s` of the threads


class Tracing(TypedDict):
    """What was recorded of a run, and what that cost."""

    mode: Trace
    events: int  # kept, starts and ends of threads included
    dropped: int | None
    cost_s: float | None  # CPU time that tracing locks took, estimated; null where none were traced


class _Usage(NamedTuple):
    """What a thread had used up at a moment; null where its system could not tell."""

    cpu_ns: int | None
    voluntary_switches: int | None
    involuntary_switches: int | None

    @classmethod
    def read(cls, facts: Any) -> _Usage:
        return cls(*(None if facts[name] is None else integer(facts[name]) for name in cls._fields))

    def since(self, before: _Usage) -> _Usage:
        return _Usage(
            *(None if now is None or then is None else now - then for now, then in zip(self, before, strict=True))
        )


@dataclass(slots=True)
class Timeline:
    """The threads of one job, built from events in the order in which they came.

    Args:
        max_events: how many events there may be besides starts and ends: a second guard for what the child holds back.
    """

    max_events: int = 0
    rows: list[ThreadRow] = field(default_factory=list)
    highest: int = 0
    kept: int = 0
    _remarks: int = 0  # events that begin and end no thread
    _running: dict[int, tuple[ThreadRow, _Usage]] = field(default_factory=dict)  # by number

    def add(self, event: Event) -> JobEvent:
        """Take in one event and return it as everybody sees it; one that is refused leaves nothing behind.

        Raises:
            KeyError, TypeError, ValueError: the event does not follow from those before, or is not of its shape.
        """
        if event.kind == "start":
            facts = self._start(event)
        elif event.kind == "end":
            facts = self._end(event)
        else:
            facts = self._remark(event)
        self.kept += 1
        return {
            "type": event.kind,
            "at_s": event.at_ns / _NS,
            "thread": event.thread,
            "number": event.number,
            **facts,
        }

    def _remark(self, event: Event) -> dict[str, Any]:
        """What an event says that begins and ends no thread."""
        if self._remarks >= self.max_events:
            raise ValueError("more events than its order allows")
        self._remarks += 1
        if event.kind in LOCK_EVENTS:
            return {"lock": text(event.facts)}
        if event.kind == "note":
            return {"text": text(event.facts)}
        if event.kind == "progress":
            done, of = event.facts
            return {"done": integer(done), "of": integer(of)}
        raise ValueError(f"no such event: {event.kind!r}")

    def _start(self, event: Event) -> dict[str, Any]:
        facts = event.facts
        native_id = facts["native_id"]
        row = ThreadRow(
            name=event.thread,
            number=event.number,
            daemon=bool(facts["daemon"]),
            ident=integer(facts["ident"]),
            native_id=None if native_id is None else integer(native_id),
            started_s=event.at_ns / _NS,
            ended_s=None,
            cpu_s=None,
            core_wait_s=None,
            gil_wait_s=None,
            lock_wait_s=None,
            lock_acquires=None,
            lock_waits=None,
            voluntary_switches=None,
            involuntary_switches=None,
        )
        active, usage = integer(facts["active_threads"]), _Usage.read(facts["usage"])
        if event.number in self._running:
            raise ValueError(f"thread {event.number} starts twice")
        if len(self.rows) >= MOST_ROWS:
            raise ValueError(f"more threads than {MOST_ROWS}")
        self.rows.append(row)
        self.highest = max(self.highest, active)
        self._running[event.number] = row, usage
        return {name: row[name] for name in ("daemon", "ident", "native_id")} | {"active_threads": active}

    def _end(self, event: Event) -> dict[str, Any]:
        facts = event.facts
        after, core_wait_ns = _Usage.read(facts["usage"]), facts["core_wait_ns"]
        core_wait_ns = None if core_wait_ns is None else integer(core_wait_ns)
        acquires, waits, wait_ns = (None, None, None) if facts["locks"] is None else map(integer, facts["locks"])
        row, before = self._running.pop(event.number)
        used = after.since(before)
        row["ended_s"] = event.at_ns / _NS
        row["cpu_s"] = _seconds(used.cpu_ns)
        row["core_wait_s"] = _seconds(core_wait_ns)
        row["lock_wait_s"] = _seconds(wait_ns)
        row["lock_acquires"] = acquires
        row["lock_waits"] = waits
        row["voluntary_switches"] = used.voluntary_switches
        row["involuntary_switches"] = used.involuntary_switches
        return {"cpu_s": row["cpu_s"]}

    def active_threads(self, before: int | None, after: int | None) -> ActiveThreads:
        """Return the counts of active threads, the peak over all that was seen."""
        seen = [count for count in (before, after, self.highest or None) if count is not None]
        return ActiveThreads(before=before, peak=max(seen, default=None), after=after)


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / _NS
