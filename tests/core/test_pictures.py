"""A job's threads as tracks, as a picture and as a trace."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.jobs import Job, JobState
from service.pictures import timeline, trace
from service.pictures.letters import fitted, width
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


def philosophers(count: int) -> list[dict[str, Any]]:
    """Each thread holds a lock of its own and waits for that of the next one."""
    told = [STARTED, *(start(0.001 * n, n, n + 1) for n in range(1, count + 1))]
    told += [event("acquire", 0.1 + 0.001 * n, n, lock=f"fork {n}") for n in range(1, count + 1)]
    return told + [event("wait", 0.5, n, lock=f"fork {n % count + 1}") for n in range(1, count + 1)]


def legend_of(drawn: ET.Element) -> list[tuple[float, float, str]]:
    """Where each entry of a legend begins, which is where its swatch is, and its words."""
    swatches = [each for each in drawn.iter(f"{SVG}rect") if each.get("height") == "10"]
    words = [each.text or "" for each in drawn.iter(f"{SVG}text")]
    said = [each for each in words if each.startswith(("holds", "hatched"))]
    return [
        (float(each.get("x") or 0), float(each.get("y") or 0), says) for each, says in zip(swatches, said, strict=True)
    ]


@pytest.mark.parametrize(("locks", "count"), [(1, 2), (5, 6), (7, 8), (8, 9), (64, 9)])
def test_the_legend_is_within_the_picture(job: Job, locks: int, count: int) -> None:
    """However many locks there are, each entry ends before the right border, before the next one, and above the end."""
    drawn = ET.fromstring(timeline.draw(job, philosophers(locks)))
    entries = legend_of(drawn)
    assert count == len(entries)
    for x, y, said in entries:
        assert x + 14 + width(said, 11) < 900
        assert y + 10 < float(drawn.get("height") or 0)
    for (x, y, said), (next_x, next_y, _) in pairwise(entries):
        assert (next_x, next_y) == (12, y + 17) or (next_y == y and x + 14 + width(said, 11) < next_x)


@pytest.mark.parametrize("count", [7, 8, 64])
def test_a_colour_stands_for_one_lock(job: Job, count: int) -> None:
    """The first seven locks have colours, all others none, and the name of a bar's lock is its title."""
    drawn = ET.fromstring(timeline.draw(job, philosophers(count)))
    holds = [each for each in drawn.iter(f"{SVG}path") if each.find(f"{SVG}title") is not None]
    assert [f"Thread-{n} holds fork {n}" for n in range(1, count + 1)] == [
        each.findtext(f"{SVG}title") for each in holds
    ]
    looks = [each.get("class") for each in holds]
    assert 7 == len({*looks[:7]} - {"others"})
    assert ({"others"} if count > 7 else set()) == set(looks[7:])
    waits = [each.findtext(f"{SVG}title") for each in drawn.iter(f"{SVG}g") if each.find(f"{SVG}title") is not None]
    assert [f"Thread-{n} waits for fork {n % count + 1}" for n in range(1, count + 1)] == waits
    assert (count == 64) == any("one of 57 other locks" in said for _, _, said in legend_of(drawn))
    assert (count == 8) == any(said == "holds fork 8" for _, _, said in legend_of(drawn))


@pytest.mark.parametrize("daemon", [False, True])
@pytest.mark.parametrize("name", ["W" * 32, "i" * 99, "\N{FAMILY}" * 32, "Thread-1 (ask)"])
def test_a_name_ends_before_its_bar(job: Job, name: str, daemon: bool) -> None:
    """It is as long as there is room, and cut off where a font is wider; the title has all of it."""
    told = {**start(0.1), "thread": name, "daemon": daemon}
    drawn = ET.fromstring(timeline.draw(job, [STARTED, told, event("end", 1.0, cpu_s=None)]))
    (group,) = [each for each in drawn.iter(f"{SVG}g") if each.get("clip-path") == "url(#names)"]
    (column,) = [each.find(f"{SVG}rect") for each in drawn.iter(f"{SVG}clipPath")]
    assert column is not None
    bars = [each.get("d") or "" for each in drawn.iter(f"{SVG}path") if each.get("class") == "life"]
    begin = min(float(bar[1:].split()[0]) for bar in bars)
    _, written = group.iter(f"{SVG}text")
    said = written.text or ""
    assert 12 + width(said, 12) <= float(column.get("width") or 0) < begin
    assert (daemon, name) == (said.endswith(" ◦"), written.findtext(f"{SVG}title"))
    assert ("…" in said) == (len(name) > 14)


def test_a_caption_ends_within_the_picture() -> None:
    """A long meaning is cut where the picture ends; the description has all of it."""
    job = running_job().finish(make_report(result=make_result(meaning="Meaning. " * 30)), T0 + timedelta(seconds=9))
    drawn = ET.fromstring(timeline.draw(job, HANDED_ON))
    (caption,) = [each.text or "" for each in drawn.iter(f"{SVG}text") if (each.text or "").startswith("CPython")]
    assert caption.endswith("…")
    assert 800 < 12 + width(caption, 11) < 900
    assert "Meaning. " * 30 in (drawn.findtext(f"{SVG}desc") or "")


@given(st.text(), st.floats(0, 300))
def test_words_that_fit(words: str, room: float) -> None:
    """As much of them as there is room for, with an ellipsis where that is not all; whole where they fit."""
    found = fitted(words, 10, room)
    if width(words, 10) <= room:
        assert words == found
    else:
        assert words.startswith(found.removesuffix("…"))
        assert "…" == found or width(found, 10) <= room + 1e-9


@pytest.mark.parametrize(("count", "said"), [(1, "1 thread beside"), (2, "2 threads beside")])
def test_threads_are_counted_as_people_do(count: int, said: str) -> None:
    """The description says one thread, and two threads."""
    told = [STARTED, *(start(0.1, n, n + 1) for n in range(1, count + 1))]
    assert said in timeline.draw(ended_job(), told)


CANCELLED = make_job().end_without_run(JobState.CANCELLED, T0)
LOST = running_job().end_without_run(JobState.LOST, T0)


@pytest.mark.parametrize(
    ("job", "told", "said"),
    [
        (make_job(), [], "It has not begun"),
        (running_job(), [], "It has not begun"),
        (CANCELLED, [], "It never began"),
        (running_job(), [STARTED], "It still runs, seen to begin: 0 threads beside the main thread"),
        (running_job(), HANDED_ON, "It still runs, seen until 900 ms: 2 threads beside the main thread"),
        (running_job().put_back(), HANDED_ON[:2], "It waits to be run again, and was seen until 100 ms: 1 thread"),
        (LOST, HANDED_ON[:2], "It was seen until 100 ms: 1 thread beside the main thread"),
        (ended_job(), HANDED_ON, "2 threads beside the main thread in 900 ms"),
    ],
)
def test_how_far_a_run_was_seen(job: Job, told: list[dict[str, Any]], said: str) -> None:
    """Of a run without a result the picture says whether it began and how far it was seen, and draws no more."""
    drawn = ET.fromstring(timeline.draw(job, told))
    words = [each.text or "" for each in drawn.iter(f"{SVG}text")]
    assert (drawn.findtext(f"{SVG}desc") or "").startswith(said)
    how_far, _, _ = said.partition(":")
    assert (how_far in words) == (job.result is None)
    assert ("MainThread" in words) == bool(told)


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
