"""A job's threads as tracks, as a picture and as a trace."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.jobs import Job
from service.pictures import timeline, trace
from service.pictures.tracks import Flow, Span, make
from tests.stores.helpers import T0, ended_job, make_job, make_report, make_result, running_job

SVG = "{http://www.w3.org/2000/svg}"


def event(kind: str, at_s: float, number: int = 1, **facts: Any) -> dict[str, Any]:
    """An event of a thread."""
    return {"id": "1-1", "type": kind, "at_s": at_s, "thread": f"Thread-{number}", "number": number, **facts}


def start(at_s: float, number: int = 1, active: int = 2) -> dict[str, Any]:
    """A thread's start."""
    return event("start", at_s, number, daemon=False, ident=number, native_id=number, active_threads=active)


STARTED = {"id": "1-0", "type": "started", "at_s": 0.0, "active_threads": 1}
HANDED_ON = [
    STARTED,
    start(0.1, 1, 2),
    start(0.1, 2, 3),
    event("acquire", 0.2, 1, lock="A"),
    event("wait", 0.3, 2, lock="A"),
    event("release", 0.5, 1, lock="A"),
    event("acquire", 0.6, 2, lock="A"),
    event("output", 0.65, 2, line="<b>&]]>\x00"),
    event("release", 0.7, 2, lock="A"),
    event("end", 0.8, 1, cpu_s=0.1),
    event("end", 0.9, 2, cpu_s=0.1),
]


@pytest.fixture
def job() -> Job:
    """A job without a result: what there is to see is in its events."""
    return make_job()


def test_a_lock_that_is_handed_on(job: Job) -> None:
    """Who held it, who waited for it, and from which release the wait ended."""
    tracks = make(job.result, HANDED_ON)
    main, one, two = tracks.tracks
    assert (0, [], []) == (main.number, main.holds, main.waits)
    assert ([Span(0.2, 0.5, "A")], []) == (one.holds, one.waits)
    assert ([Span(0.6, 0.7, "A")], [Span(0.3, 0.6, "A")]) == (two.holds, two.waits)
    assert [Flow("A", 1, 0.5, 2, 0.6)] == tracks.flows
    assert [(0.0, 1), (0.1, 2), (0.1, 3), (0.8, 2), (0.9, 1)] == tracks.active
    assert (["A"], 0.9) == (tracks.locks, tracks.end_s)


def test_what_has_no_end(job: Job) -> None:
    """A thread, a hold and a wait whose end was not seen last as long as anything does, and say so."""
    told = [
        STARTED,
        start(0.1, 1),
        start(0.1, 2, 3),
        event("acquire", 0.2, 1, lock="A"),
        event("wait", 0.4, 2, lock="A"),
    ]
    _, one, two = make(job.result, told).tracks
    assert (True, 0.4, [Span(0.2, 0.4, "A", open_end=True)]) == (one.open_end, one.to_s, one.holds)
    assert [Span(0.4, 0.4, "A", open_end=True)] == two.waits


def test_a_wait_in_vain_and_a_release_by_another(job: Job) -> None:
    """A wait that was given up ends there; a hold ends with its release, whoever made it."""
    told = [*HANDED_ON[:5], event("give_up", 0.4, 2, lock="A"), event("release", 0.45, 2, lock="A")]
    tracks = make(job.result, told)
    assert [Span(0.3, 0.4, "A")] == tracks.tracks[2].waits
    assert [Span(0.2, 0.45, "A")] == tracks.tracks[1].holds
    assert [] == tracks.flows


def test_what_was_not_kept_of_locks_is_not_made_up() -> None:
    """Where events were dropped, what lasted at the last one of a lock is drawn until then only, and that is said."""
    dropped = make_result(trace={"mode": "locks", "events": 5, "dropped": 9, "cost_s": 0.1})
    told = [*HANDED_ON[:6], event("end", 0.9, 2, cpu_s=0.1)]
    job = running_job().finish(make_report(result=dropped), T0 + timedelta(seconds=9))
    tracks = make(job.result, told)
    assert 0.5 == tracks.locks_until_s
    assert [Span(0.3, 0.5, "A", open_end=True)] == tracks.tracks[2].waits
    drawn = timeline.draw(job, told)
    assert "locks: kept until 500 ms only" in drawn
    assert "What locks did after 500 ms was not kept." in drawn
    whole = make_result(trace={"mode": "locks", "events": 5, "dropped": 0, "cost_s": 0.1})
    assert (None, 0.9) == (make(whole, told).locks_until_s, make(whole, told).tracks[2].waits[0].to_s)


def test_a_run_that_was_killed_lasted_until_then() -> None:
    """What threads waited for when they were ended is drawn until their end: a deadlock is seen."""
    stuck = make_result(timings={"queued_s": None, "startup_s": 0.25, "wall_s": None, "cpu_s": None})
    stuck["process"]["lived_s"] = 1.5
    tracks = make(stuck, HANDED_ON[:5])
    assert (1.25, [Span(0.3, 1.25, "A", open_end=True)]) == (tracks.end_s, tracks.tracks[2].waits)


def test_what_the_main_thread_prints_last_is_within_its_life() -> None:
    """The wall time counts from a moment after the events' zero; a line at its end is still the main thread's."""
    told = [STARTED, event("output", 0.41, 0, line="done")]
    assert 0.41 == make(make_result(), told).tracks[0].to_s


def test_only_the_last_attempt_is_shown(job: Job) -> None:
    """What an earlier attempt told is not mixed with what the last one did."""
    tracks = make(job.result, [*HANDED_ON, STARTED, start(0.2, 1)])
    assert [(0, 0.0), (1, 0.2)] == [(track.number, track.from_s) for track in tracks.tracks]


def test_a_job_whose_events_were_not_kept() -> None:
    """A job from before events were kept is drawn from its result's threads."""
    job = ended_job()
    assert job.result is not None
    rows = [{"name": "old", "daemon": True, "started_s": 0.25, "ended_s": 0.5}]
    job.result["threads"][:] = rows  # type: ignore[assignment]
    track = make(job.result, []).tracks[1]
    assert ("old", True, 0.25, 0.5, False) == (track.name, track.daemon, track.from_s, track.to_s, track.open_end)


@pytest.mark.parametrize("count", [0, 1, 4, 64, 200])
def test_the_picture(job: Job, count: int) -> None:
    """It is well-formed, has a title and a description, and a name for each track up to the limit."""
    told = [STARTED, *(start(0.001 * n, n, n + 1) for n in range(1, count + 1))]
    drawn = ET.fromstring(timeline.draw(job, told))
    assert "img" == drawn.get("role")
    assert (drawn.findtext(f"{SVG}title"), True) == ("probe: queued", bool(drawn.findtext(f"{SVG}desc")))
    names = [each.text for each in drawn.iter(f"{SVG}text") if (each.text or "").startswith("Thread-")]
    assert min(count, 64) == len(names)
    assert (count > 64) == any("more threads not shown" in (each.text or "") for each in drawn.iter(f"{SVG}text"))


def test_a_picture_of_very_many_events_is_small(job: Job) -> None:
    """Twenty thousand moments of a lock take no more room than can be seen."""
    told = [STARTED, start(0.0, 1)]
    for n in range(10_000):
        told += [event("acquire", n * 1e-4, lock="A"), event("release", n * 1e-4 + 5e-5, lock="A")]
    assert len(timeline.draw(job, told)) < 150_000


def test_the_trace(job: Job) -> None:
    """Perfetto gets a track for each thread with its waits inside its life, holds, the hand-over, and a counter."""
    made = trace.chrome(job, HANDED_ON)["traceEvents"]
    names = {each["tid"]: each["args"]["name"] for each in made if each["name"] == "thread_name"}
    assert {0: "MainThread", 1: "Thread-1", 2: "Thread-2"} == names
    waits = [(each["tid"], each["ts"], each["dur"]) for each in made if each["name"] == "wait for A"]
    assert [(2, pytest.approx(3e5), pytest.approx(3e5))] == waits
    holds = [(each["tid"], each["ts"], each["dur"]) for each in made if each["name"] == "hold A"]
    assert [(1, 2e5, 3e5), (2, 6e5, 1e5)] == holds
    assert [("s", 1), ("f", 2)] == [(each["ph"], each["tid"]) for each in made if each["name"] == "A handed on"]
    assert [1, 2, 3, 2, 1] == [each["args"]["threads"] for each in made if each["ph"] == "C"]


def test_locks_that_are_released_in_the_order_in_which_they_were_taken(job: Job) -> None:
    """A hold that outlives the one around it is cut there, and both parts are in the trace."""
    told = [
        STARTED,
        start(0.0, 1),
        event("acquire", 0.1, 1, lock="A"),
        event("acquire", 0.2, 1, lock="B"),
        event("release", 0.3, 1, lock="A"),
        event("release", 0.4, 1, lock="B"),
    ]
    made = trace.chrome(job, told)["traceEvents"]
    holds = [(each["name"], each["ts"], each["dur"]) for each in made if each["name"].startswith("hold")]
    assert [("hold A", 1e5, 2e5), ("hold B", 2e5, 1e5), ("hold B", 3e5, 1e5)] == holds


KINDS = st.sampled_from(["start", "end", "wait", "acquire", "release", "give_up", "note", "output", "progress"])


@settings(deadline=None)
@given(st.lists(st.tuples(KINDS, st.floats(0, 10), st.integers(0, 5), st.sampled_from(["A", "B", "<&\"'>\x00"]))))
def test_any_events(told: list[tuple[str, float, int, str]]) -> None:
    """Whatever was told, the spans lie within the picture, slices of a track nest, and the SVG is well-formed."""
    facts = {"daemon": False, "ident": 1, "native_id": 1, "active_threads": 2, "cpu_s": None, "done": 1, "of": 2}
    events = [event(kind, at_s, n, lock=name, text=name, line=name, **facts) for kind, at_s, n, name in told]
    job = make_job()
    tracks = make(job.result, events)
    for track in tracks.tracks:
        assert all(0 <= span.from_s <= span.to_s <= tracks.end_s for span in (*track.waits, *track.holds))
        waits = sorted(track.waits, key=lambda span: span.from_s)
        assert all(one.to_s <= two.from_s for one, two in pairwise(waits))
    ET.fromstring(timeline.draw(job, events))
    made = trace.chrome(job, events)["traceEvents"]
    assert {each["ph"] for each in made} <= set("MXisfC")
    for tid in {each["tid"] for each in made}:
        check_nested([each for each in made if each["tid"] == tid and each["ph"] == "X"])


def check_nested(slices: list[dict[str, Any]]) -> None:
    """Slices of one track begin one after the other, each within those that it begins in."""
    ends: list[int] = []
    begun = 0
    for each in slices:
        from_ns, to_ns = round(each["ts"] * 1e3), round(each["ts"] * 1e3) + round(each["dur"] * 1e3)
        assert begun <= from_ns <= to_ns
        begun = from_ns
        while ends and ends[-1] <= from_ns:
            ends.pop()
        assert not ends or to_ns <= ends[-1]
        ends.append(to_ns)
