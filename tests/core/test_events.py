"""The timeline of a job's threads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.events import ActiveThreads, Event, Timeline

UNKNOWN = {"cpu_ns": None, "voluntary_switches": None, "involuntary_switches": None}


def usage(cpu_ns: int = 0, voluntary: int = 0, involuntary: int = 0) -> dict[str, Any]:
    """What a thread has used up so far."""
    return {"cpu_ns": cpu_ns, "voluntary_switches": voluntary, "involuntary_switches": involuntary}


def start(at_ns: int, thread: str, **facts: Any) -> Event:
    """A thread's start, alone beside the main thread unless told otherwise."""
    usual = {"daemon": False, "ident": 11, "native_id": 12, "active_threads": 2, "usage": usage()}
    number = facts["ident"] if isinstance(facts.get("ident"), int) else 11
    return Event(at_ns, thread, number, "start", {**usual, **facts})


def end(at_ns: int, thread: str, **facts: Any) -> Event:
    """A thread's end."""
    return Event(
        at_ns,
        thread,
        facts.get("ident", 11),
        "end",
        {"ident": 11, "usage": usage(), "core_wait_ns": None, "locks": None, **facts},
    )


def test_nothing_happened() -> None:
    """Without events there are no rows, and the counts are those that were taken around the run."""
    timeline = Timeline()
    assert [] == timeline.rows
    assert ActiveThreads(before=1, peak=1, after=1) == timeline.active_threads(1, 1)


def test_what_was_not_counted_is_null() -> None:
    """A count that nobody took is null, never 0."""
    assert ActiveThreads(before=None, peak=None, after=None) == Timeline().active_threads(None, None)
    assert ActiveThreads(before=1, peak=1, after=None) == Timeline().active_threads(1, None)


def test_one_thread() -> None:
    """A row tells a thread's life in seconds, and what it used up between its two stamps."""
    timeline = Timeline()
    timeline.add(start(500_000_000, "one", daemon=True, usage=usage(1_000, 2, 3)))
    timeline.add(end(1_500_000_000, "one", usage=usage(250_001_000, 6, 8)))
    assert [
        {
            "name": "one",
            "number": 11,
            "daemon": True,
            "ident": 11,
            "native_id": 12,
            "started_s": 0.5,
            "ended_s": 1.5,
            "cpu_s": 0.25,
            "core_wait_s": None,
            "gil_wait_s": None,
            "lock_wait_s": None,
            "lock_acquires": None,
            "lock_waits": None,
            "voluntary_switches": 4,
            "involuntary_switches": 5,
        }
    ] == timeline.rows


def test_a_thread_that_has_not_ended() -> None:
    """Of a thread whose end was not seen, everything that only its end could tell is null."""
    timeline = Timeline()
    timeline.add(start(1, "one"))
    (row,) = timeline.rows
    assert [None] * 4 == [row["ended_s"], row["cpu_s"], row["voluntary_switches"], row["involuntary_switches"]]


def test_what_the_system_cannot_tell() -> None:
    """Usage that the child's system could not measure stays null, the rest is told."""
    timeline = Timeline()
    timeline.add(start(0, "one", native_id=None, usage={**UNKNOWN, "cpu_ns": 0}))
    timeline.add(end(5, "one", usage={**UNKNOWN, "cpu_ns": 1_000_000_000}))
    (row,) = timeline.rows
    assert (1.0, None, None, None) == (
        row["cpu_s"],
        row["voluntary_switches"],
        row["involuntary_switches"],
        row["native_id"],
    )


def test_the_peak() -> None:
    """The peak is the highest of all counts, wherever it was taken."""
    timeline = Timeline()
    timeline.add(start(0, "one", ident=1, active_threads=2))
    timeline.add(start(1, "two", ident=2, active_threads=3))
    timeline.add(end(2, "two", ident=2))
    timeline.add(start(3, "three", ident=3, active_threads=3))
    assert ActiveThreads(before=1, peak=3, after=2) == timeline.active_threads(1, 2)
    assert ActiveThreads(before=1, peak=9, after=9) == timeline.active_threads(1, 9)
    assert ActiveThreads(before=7, peak=7, after=None) == timeline.active_threads(7, None)


def test_names_need_not_be_unique() -> None:
    """Threads of one name, one after the other or at the same time, have a row each."""
    timeline = Timeline()
    timeline.add(start(0, "twin", ident=1))
    timeline.add(start(1, "twin", ident=2))
    timeline.add(end(2, "twin", ident=1))
    timeline.add(end(3, "twin", ident=2))
    timeline.add(start(4, "twin", ident=1))
    assert [(1, 2 / 1e9), (2, 3 / 1e9), (1, None)] == [(row["ident"], row["ended_s"]) for row in timeline.rows]


@pytest.mark.parametrize(
    "event",
    [
        Event(0, "one", 1, "begin", {}),
        Event(0, "one", 1, "", {}),
        end(0, "never started"),
        end(0, "ended"),
        Event(0, "one", 1, "start", {}),
        start(0, "one", usage=None),
        start(0, "one", active_threads="many"),
        start(0, "one", active_threads=None),
        start(0, "one", ident=None),
        start(0, "one", ident="x"),
        start(0, "open", ident=22),
        end(0, "open", ident=22, usage=None),
        end(0, "open", ident=22, usage={}),
        end(0, "open", ident=22, usage={**usage(), "cpu_ns": "much"}),
        end(0, "open", ident=22, core_wait_ns="long"),
        end(0, "open", ident=22, locks=[1, 2]),
        end(0, "open", ident=22, locks=["a", 2, 3]),
        Event(0, "open", 22, "acquire", None),
        Event(0, "open", 22, "note", 5),
        Event(0, "open", 22, "progress", [1]),
        Event(0, "open", 22, "progress", ["some", "more"]),
    ],
)
def test_an_event_that_does_not_follow(event: Event) -> None:
    """An event that cannot be is refused, and leaves nothing half-read behind."""
    timeline = Timeline(max_events=10)
    for before in (start(0, "ended", ident=21), end(1, "ended", ident=21), start(0, "open", ident=22)):
        timeline.add(before)
    rows = [dict(row) for row in timeline.rows]
    with pytest.raises((KeyError, IndexError, TypeError, ValueError)):
        timeline.add(event)
    assert rows == timeline.rows
    assert ActiveThreads(before=1, peak=2, after=1) == timeline.active_threads(1, 1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 500)), max_size=20))
def test_any_number_of_threads(lives: list[tuple[int, int, int]]) -> None:
    """Every thread has its row, in the order of the starts, and the peak is the highest count."""
    timeline = Timeline()
    for number, (at_ns, _, active) in enumerate(lives):
        timeline.add(start(at_ns, f"t{number}", ident=number, active_threads=active))
    for number, (at_ns, lasts_ns, _) in enumerate(lives):
        timeline.add(end(at_ns + lasts_ns, f"t{number}", ident=number, usage=usage(lasts_ns)))
    told = [(row["name"], row["started_s"], row["ended_s"], row["cpu_s"]) for row in timeline.rows]
    assert told == [(f"t{n}", at / 1e9, (at + lasts) / 1e9, lasts / 1e9) for n, (at, lasts, _) in enumerate(lives)]
    assert max([1, *(active for _, _, active in lives)]) == timeline.active_threads(1, 1)["peak"]
