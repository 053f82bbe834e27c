"""A job's feed and its story."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from service import story
from service.events import EventLog
from service.hub import Feed
from service.jobs import Job, JobState

_NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
_JOB = Job(id="job_1", scenario="counter", lane="cpu", request={}, created_at=_NOW)


def note(text: str) -> dict[str, object]:
    """An event without an id."""
    return {"type": "note", "text": text}


def test_ids_count_without_a_hole() -> None:
    """Whatever is told gets the feed's epoch and the next number, in the order of telling."""
    feed = Feed(7)
    feed.tell([note("a"), note("b")])
    feed.tell([])
    feed.tell([note("c")])
    assert [("7-1", "a"), ("7-2", "b"), ("7-3", "c")] == [(event["id"], event["text"]) for event in feed.events]
    assert EventLog(7, feed.events) == feed.log()


def test_listeners_hear_of_news_and_of_the_end() -> None:
    """A listener is called once for each telling and once at the end, and not after it was forgotten."""
    heard: list[str] = []
    feed = Feed(1)
    feed.listen(lambda: heard.append("one"))
    feed.listen(two := lambda: heard.append("two"))
    feed.tell([note("a"), note("b")])
    feed.forget(two)
    feed.close(note("last"))
    assert ["one", "two", "one", "one"] == heard
    assert feed.closed
    assert "1-3" == feed.events[-1]["id"]


def test_nothing_is_told_after_the_end() -> None:
    """A closed feed stays as it is, and calls a new listener at once, so that nobody waits in vain."""
    heard: list[int] = []
    feed = Feed(1)
    feed.close()
    feed.close(note("too late"))
    feed.tell([note("too late")])
    feed.listen(lambda: heard.append(1))
    assert ([], [1]) == (feed.events, heard)


def test_many_tell_at_once() -> None:
    """Tellers on many threads leave every event once, with ids in a row."""
    feed = Feed(3)
    ready = threading.Barrier(8)

    def tell(teller: int) -> None:
        ready.wait()
        for number in range(200):
            feed.tell([note(f"{teller}.{number}"), note("and")])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, range(8)))
    assert [f"3-{n}" for n in range(1, 3_201)] == [event["id"] for event in feed.events]
    assert 1_600 == len({event["text"] for event in feed.events} - {"and"})


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "1-1-1", "a-b", "1-9999999999", " 1-1", "1-1\n", "1.-1"])
def test_what_is_no_id(text: str) -> None:
    """Anything but two numbers with a hyphen between them is refused."""
    with pytest.raises(ValueError, match="Not an event's id"):
        story.read_id(text)


def test_ids_sort_as_numbers() -> None:
    """The tenth event comes after the ninth, and a later life after an earlier one."""
    assert story.read_id("2-1") > story.read_id("1-10") > story.read_id("1-9") > story.read_id("0-1")


def test_the_story_of_a_finished_job() -> None:
    """Between the first state and the last stands what was told, life by life, and the last id follows on."""
    logs = [EventLog(2, [{"id": "2-1", **note("a")}]), EventLog(5, [{"id": "5-1", **note("b")}])]
    ended = replace(_JOB, status=JobState.CANCELLED, attempt=2, finished_at=_NOW)
    told = story.whole(ended, logs)
    assert ["0-1", "2-1", "5-1", "5-2"] == [event["id"] for event in told]
    assert ("queued", "cancelled") == (told[0]["status"], told[-1]["status"])
    assert "2026-11-24T09:00:00.000000Z" == told[-1]["at"]


def test_the_story_of_a_job_of_which_nothing_was_kept() -> None:
    """A job from before events were kept has its first and its last state."""
    ended = replace(_JOB, status=JobState.CANCELLED, finished_at=_NOW)
    assert ["0-1", "0-2"] == [event["id"] for event in story.whole(ended, [])]
    assert ["0-1"] == [event["id"] for event in story.whole(_JOB, [])]
