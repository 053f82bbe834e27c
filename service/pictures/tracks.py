"""The threads of a job side by side: how long each ran, what it waited for and what it held.

Who uses it: the pictures and the trace beside this file. Pure. Seconds count from the beginning of the scenario.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from service.events import LOCK_EVENTS, JobEvent
from service.jobs import Result

__all__ = ["Flow", "Mark", "Span", "Track", "Tracks", "make"]


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when something was so; `open_end` where its end was not seen."""

    from_s: float
    to_s: float
    lock: str
    open_end: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment: a printed line or a note."""

    at_s: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Flow:
    """A release, and the acquire of a thread that waited for it."""

    lock: str
    from_number: int
    released_s: float
    to_number: int
    acquired_s: float


@dataclass(slots=True)
class Track:
    """One thread; number 0 is the main thread."""

    number: int
    name: str
    daemon: bool
    from_s: float
    to_s: float
    open_end: bool = True
    waits: list[Span] = field(default_factory=list)
    holds: list[Span] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Tracks:
    """All threads of a job, the main thread first, and what is between them.

    Attributes:
        active: (seconds, threads) each time that a thread started or ended, by its own stamps: `active_count()` may
            count one a moment longer.
        end_s: where the last thing ends.
        locks_until_s: until when what locks did was kept; None where all of it was.
    """

    tracks: list[Track]
    flows: list[Flow]
    active: list[tuple[float, int]]
    end_s: float
    locks_until_s: float | None = None

    @property
    def locks(self) -> list[str]:
        """The locks that were seen, in the order of their first use."""
        used = [span for track in self.tracks for span in (*track.waits, *track.holds)]
        return list(dict.fromkeys(span.lock for span in sorted(used, key=lambda span: span.from_s)))


def make(result: Result | None, events: Iterable[JobEvent]) -> Tracks:
    """Return the tracks of a job's last attempt; of one whose events were not kept, from its result's threads.

    Args:
        result: what the run showed; None while it is not known.
    """
    told = sorted(_last_attempt(events), key=lambda event: float(event["at_s"]))
    if not any(event["type"] == "start" for event in told):
        told = sorted([*_from_rows(result), *told], key=lambda event: float(event["at_s"]))
    wall_s = (result["timings"]["wall_s"] if result else None) or 0.0
    end_s = max([wall_s, _killed_s(result), *(event["at_s"] for event in told)])
    return _Builder(end_s, wall_s, _locks_until_s(result, told)).build(told)


def _killed_s(result: Result | None) -> float:
    """When a run that was ended by force was over, by the clock of its process's parent; 0 for any other."""
    if result is None or result["process"]["signal"] is None:
        return 0.0
    return max(0.0, (result["process"]["lived_s"] or 0.0) - (result["timings"]["startup_s"] or 0.0))


def _locks_until_s(result: Result | None, told: Sequence[JobEvent]) -> float | None:
    """The last that was kept of locks, where something was not: what lasted then may have ended a moment later."""
    tracing = result.get("trace") if result else None  # of a job from before tracing there is none
    if not tracing or not tracing["dropped"]:
        return None
    return max((event["at_s"] for event in told if event["type"] in LOCK_EVENTS), default=None)


def _last_attempt(events: Iterable[JobEvent]) -> list[JobEvent]:
    told: list[JobEvent] = []
    for event in events:
        if event["type"] == "started":
            told = [event]
        elif event["type"] != "state":
            told.append(event)
    return told


def _from_rows(result: Result | None) -> list[JobEvent]:
    made: list[JobEvent] = []
    for index, row in enumerate(result["threads"] if result else (), start=1):
        who = {"thread": row["name"], "number": row.get("number", index)}
        made.append({"type": "start", "at_s": row["started_s"], "daemon": row["daemon"], "active_threads": None, **who})
        if row["ended_s"] is not None:
            made.append({"type": "end", "at_s": row["ended_s"], **who})
    return made


class _Builder:
    """Reads events in order of time."""

    def __init__(self, end_s: float, wall_s: float, locks_until_s: float | None) -> None:
        self._end_s = end_s
        self._locks_until_s = locks_until_s
        self._main = Track(0, "MainThread", False, 0.0, wall_s or end_s, open_end=not wall_s)
        self._tracks = {0: self._main}
        self._waiting: dict[int, JobEvent] = {}  # by number: the wait that has not ended
        self._held: dict[str, JobEvent] = {}  # by lock: the acquire that was not released
        self._released: dict[str, JobEvent] = {}  # by lock: the last release
        self._flows: list[Flow] = []
        self._active: list[tuple[float, int]] = []

    def build(self, told: Sequence[JobEvent]) -> Tracks:
        for event in told:
            take = getattr(self, f"_{event['type']}", None)
            if take is not None:
                take(event)
        known_s = self._end_s if self._locks_until_s is None else self._locks_until_s
        for event in list(self._waiting.values()):
            self._end_wait(event["number"], known_s, open_end=True)
        for lock in list(self._held):
            self._end_hold(lock, known_s, open_end=True)
        self._main.to_s = max([self._main.to_s, *(mark.at_s for mark in self._main.marks)])  # its clock begins earlier
        tracks = sorted(self._tracks.values(), key=lambda track: (track.number != 0, track.from_s, track.number))
        return Tracks(tracks, self._flows, self._active, self._end_s, self._locks_until_s)

    def _track(self, event: JobEvent) -> Track:
        number = event["number"]
        if number not in self._tracks:  # a thread that did not come from the lab
            self._tracks[number] = Track(number, event["thread"] or "", False, event["at_s"], self._end_s)
        return self._tracks[number]

    def _started(self, event: JobEvent) -> None:
        self._active.append((0.0, event["active_threads"]))

    def _start(self, event: JobEvent) -> None:
        track = Track(event["number"], event["thread"], event["daemon"], event["at_s"], self._end_s)
        self._tracks[track.number] = track
        self._active.append((event["at_s"], (self._active[-1][1] if self._active else 1) + 1))

    def _end(self, event: JobEvent) -> None:
        track = self._track(event)
        track.to_s, track.open_end = event["at_s"], False
        self._active.append((event["at_s"], max(0, (self._active[-1][1] if self._active else 1) - 1)))

    def _wait(self, event: JobEvent) -> None:
        self._track(event)
        self._end_wait(event["number"], event["at_s"])
        self._waiting[event["number"]] = event

    def _give_up(self, event: JobEvent) -> None:
        self._end_wait(event["number"], event["at_s"])

    def _acquire(self, event: JobEvent) -> None:
        waited = event["number"] in self._waiting
        self._track(event)
        self._end_wait(event["number"], event["at_s"])
        release = self._released.pop(event["lock"], None)
        if waited and release is not None:
            self._flows.append(Flow(event["lock"], release["number"], release["at_s"], event["number"], event["at_s"]))
        self._end_hold(event["lock"], event["at_s"])
        self._held[event["lock"]] = event

    def _release(self, event: JobEvent) -> None:
        self._end_hold(event["lock"], event["at_s"])
        self._released[event["lock"]] = event

    def _output(self, event: JobEvent) -> None:
        if event["number"] is not None:
            self._track(event).marks.append(Mark(event["at_s"], "output", event["line"]))

    def _note(self, event: JobEvent) -> None:
        self._track(event).marks.append(Mark(event["at_s"], "note", event["text"]))

    def _end_wait(self, number: int, at_s: float, *, open_end: bool = False) -> None:
        wait = self._waiting.pop(number, None)
        if wait is not None:
            self._tracks[number].waits.append(Span(wait["at_s"], at_s, wait["lock"], open_end))

    def _end_hold(self, lock: str, at_s: float, *, open_end: bool = False) -> None:
        taken = self._held.pop(lock, None)
        if taken is not None:
            self._tracks[taken["number"]].holds.append(Span(taken["at_s"], at_s, lock, open_end))
