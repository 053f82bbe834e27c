"""A job in the Chrome trace format, for Perfetto and `chrome://tracing`.

Who uses it: the HTTP face. Pure. Each thread has one track: its life, in it what it waited for and what it held. Slices
of a track have to nest, and locks need not be released in the order in which they were taken: a slice that outlives the
one around it is cut there and goes on as a second one. Times are microseconds, exact to the nanosecond, because a
viewer drops a slice that overlaps its neighbour by one.

Source: "Trace Event Format", the Chromium project.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

from service.events import JobEvent
from service.jobs import Job
from service.pictures.tracks import Track, Tracks, make

__all__ = ["chrome"]

Slice = dict[str, Any]


def chrome(job: Job, events: Iterable[JobEvent]) -> dict[str, Any]:
    """Return the trace of a job's last attempt."""
    tracks = make(job.result, events)
    pid = (job.result["process"]["pid"] if job.result else None) or 1
    active = [{"ts": _ns(at_s) / 1e3, "args": {"threads": number}} for at_s, number in tracks.active]
    slices = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": f"{job.scenario} {job.id}"}},
        *(each for track in tracks.tracks for each in _track(track)),
        *_flows(tracks),
        *({"ph": "C", "name": "active threads", **each} for each in active),
    ]
    return {
        "displayTimeUnit": "ms",
        "otherData": {
            "job": job.id,
            "scenario": job.scenario,
            "status": job.status.value,
            "outcome": job.outcome,
            "python": job.python["version"] if job.python else None,
            "gil": job.python["gil"] if job.python else None,
        },
        "traceEvents": [{"pid": pid, "tid": 0, "cat": "threads", **each} for each in slices],
    }


def _track(track: Track) -> Iterator[Slice]:
    tid = track.number
    yield {"ph": "M", "name": "thread_name", "tid": tid, "args": {"name": track.name or f"thread {tid}"}}
    yield {"ph": "M", "name": "thread_sort_index", "tid": tid, "args": {"sort_index": tid}}
    life = {"daemon": track.daemon, "end_seen": not track.open_end}
    slices = [_slice("running", track.from_s, track.to_s, life)]
    slices += [_slice(f"wait for {span.lock}", span.from_s, span.to_s, {"lock": span.lock}) for span in track.waits]
    slices += [_slice(f"hold {span.lock}", span.from_s, span.to_s, {"lock": span.lock}) for span in track.holds]
    for from_ns, to_ns, what in _nested(slices):
        yield {"ph": "X", "tid": tid, "ts": from_ns / 1e3, "dur": (to_ns - from_ns) / 1e3, **what}
    for mark in track.marks:
        ts = _ns(mark.at_s) / 1e3
        yield {"ph": "i", "s": "t", "name": mark.text or mark.kind, "cat": mark.kind, "tid": tid, "ts": ts}


def _slice(name: str, from_s: float, to_s: float, args: dict[str, Any]) -> tuple[int, int, Slice]:
    return _ns(from_s), max(_ns(from_s), _ns(to_s)), {"name": name, "args": args}


def _nested(slices: Iterable[tuple[int, int, Slice]]) -> Iterator[tuple[int, int, Slice]]:
    """Yield slices in the order of their beginnings, cut so that each lies within those that it begins in."""
    order = count()
    waiting = [(from_ns, -to_ns, next(order), what) for from_ns, to_ns, what in slices]
    heapq.heapify(waiting)
    ends: list[int] = []  # of the slices around, the innermost last
    while waiting:
        from_ns, negative, _, what = heapq.heappop(waiting)
        to_ns = -negative
        while ends and ends[-1] <= from_ns:
            ends.pop()
        if ends and to_ns > ends[-1]:
            heapq.heappush(waiting, (ends[-1], -to_ns, next(order), what))
            to_ns = ends[-1]
        yield from_ns, to_ns, what
        ends.append(to_ns)


def _flows(tracks: Tracks) -> Iterator[Slice]:
    for number, flow in enumerate(tracks.flows):
        same = {"cat": "locks", "name": f"{flow.lock} handed on", "id": number}
        released = max(0, _ns(flow.released_s) - 1)  # within the hold that ends there
        yield {**same, "ph": "s", "tid": flow.from_number, "ts": released / 1e3}
        yield {**same, "ph": "f", "bp": "e", "tid": flow.to_number, "ts": _ns(flow.acquired_s) / 1e3}


def _ns(at_s: float) -> int:
    return round(at_s * 1e9)
