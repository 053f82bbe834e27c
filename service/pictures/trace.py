"""A job in the Chrome trace format, for Perfetto and `chrome://tracing`.

Who uses it: the HTTP face. Pure. Each thread has a track on which its life and its waits are; a lock that it holds is
an asynchronous slice, because locks need not be released in the order in which they were taken and slices of a track
have to nest. Times are microseconds.

Source: "Trace Event Format", the Chromium project.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from service.events import JobEvent
from service.jobs import Job
from service.pictures.lanes import Lane, Lanes, make

__all__ = ["chrome"]

Slice = dict[str, Any]


def chrome(job: Job, events: Iterable[JobEvent]) -> dict[str, Any]:
    """Return the trace of a job's last attempt."""
    lanes = make(job, events)
    pid = (job.result["process"]["pid"] if job.result else None) or 1
    slices = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": f"{job.scenario} {job.id}"}},
        *(each for lane in lanes.lanes for each in _lane(lane)),
        *_flows(lanes),
        *({"ph": "C", "name": "active threads", "ts": at_s * 1e6, "args": {"threads": n}} for at_s, n in lanes.active),
    ]
    return {
        "displayTimeUnit": "ms",
        "otherData": {
            "job": job.id,
            "scenario": job.scenario,
            "status": job.status.value,
            "outcome": job.result["outcome"] if job.result else None,
            "python": job.python["version"] if job.python else None,
            "gil": job.python["gil"] if job.python else None,
        },
        "traceEvents": [{"pid": pid, "tid": 0, "cat": "threads", **each} for each in slices],
    }


def _lane(lane: Lane) -> Iterator[Slice]:
    tid = lane.number
    yield {"ph": "M", "name": "thread_name", "tid": tid, "args": {"name": lane.name or f"thread {tid}"}}
    yield {"ph": "M", "name": "thread_sort_index", "tid": tid, "args": {"sort_index": tid}}
    life = {"daemon": lane.daemon, "end_seen": not lane.open_end}
    yield _complete("running", tid, lane.from_s, lane.to_s, life)
    for span in lane.waits:
        yield _complete(f"wait for {span.lock}", tid, span.from_s, span.to_s, {"lock": span.lock})
    for number, span in enumerate(lane.holds):
        held = {"cat": "locks", "name": f"hold {span.lock}", "tid": tid, "id": f"{tid}.{number}"}
        yield {**held, "ph": "b", "ts": span.from_s * 1e6, "args": {"lock": span.lock, "thread": lane.name}}
        yield {**held, "ph": "e", "ts": span.to_s * 1e6}
    for mark in lane.marks:
        yield {"ph": "i", "s": "t", "name": mark.text or mark.kind, "cat": mark.kind, "tid": tid, "ts": mark.at_s * 1e6}


def _flows(lanes: Lanes) -> Iterator[Slice]:
    for number, flow in enumerate(lanes.flows):
        same = {"cat": "locks", "name": f"{flow.lock} handed on", "id": number}
        yield {**same, "ph": "s", "tid": flow.from_number, "ts": flow.released_s * 1e6}
        yield {**same, "ph": "f", "bp": "e", "tid": flow.to_number, "ts": flow.acquired_s * 1e6}


def _complete(name: str, tid: int, from_s: float, to_s: float, args: dict[str, Any]) -> Slice:
    return {
        "ph": "X",
        "name": name,
        "tid": tid,
        "ts": from_s * 1e6,
        "dur": max(0.0, to_s - from_s) * 1e6,
        "args": args,
    }
