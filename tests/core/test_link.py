"""The whole way from bytes to a report: whatever a child sends, in whatever pieces, nothing of it is half read."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.child.wire import MAX_FRAME_BYTES, PROTOCOL, BadFrame, FrameBuffer, encode
from service.events import EventType
from service.executors.base import Kept
from service.executors.scripted import success
from service.executors.transcript import Ending, Transcript
from service.jobs import FINAL, JobState, ProcessEnd

USAGE = {"cpu_ns": 5, "voluntary_switches": 1, "involuntary_switches": None}
BEGIN = {"daemon": False, "ident": 1, "native_id": 2, "active_threads": 2, "usage": USAGE}
END = {"ident": 1, "usage": USAGE, "core_wait_ns": 3, "locks": [1, 1, 2]}
EVENTS: list[Any] = [
    [1, "größer \u2028", 1, "start", BEGIN],
    [2, "größer \u2028", 1, "acquire", "a lock"],
    [3, "größer \u2028", 1, "note", "\U0001f40d\r\n"],
    [4, "größer \u2028", 1, "release", "a lock"],
    [5, "größer \u2028", 1, "end", END],
]
READY, STARTED, RESULT, BYE = success("done", counted=4)
STORY = b"".join(
    map(
        encode,
        [
            READY,
            STARTED,
            {"type": "events", "events": EVENTS},
            {"type": "output", "lines": [[2, None, None, "a line"]]},
            RESULT,
            BYE,
        ],
    )
)
KNOWN = set(EventType.__args__)  # type: ignore[attr-defined]  # the words of a Literal


class Reading:
    """What an executor does with the bytes of one child, as far as it reads them."""

    def __init__(self) -> None:
        self.buffer = FrameBuffer()
        self.transcript = Transcript(Kept(output_bytes=1_000, events=50), "locks")
        self.told: list[dict[str, Any]] = []
        self.broken: str | None = None

    def feed(self, data: bytes) -> None:
        """Take in a piece."""
        if self.broken is not None:
            return
        try:
            for frame in self.buffer.feed(data):
                self.transcript.add(frame)
        except BadFrame as exc:
            self.broken = str(exc)
        self.told += self.transcript.news()

    def report(self) -> Any:
        """Return what came of it, as JSON."""
        process = ProcessEnd(pid=1, exit_code=0, signal=None, lived_s=1.0, cpu_s=None, max_rss_bytes=None)
        report = self.transcript.report(Ending(process, broken=self.broken), {"version": "3"}, {})
        assert report.status in FINAL
        return json.loads(json.dumps([report.status, report.result, report.error], allow_nan=False))


def read(stream: bytes, cuts: list[int]) -> Reading:
    """Read a stream in pieces."""
    reading = Reading()
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in pairwise(places):
        reading.feed(stream[start:end])
    return reading


CUTS = st.lists(st.integers(0, len(STORY)), max_size=12)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A good story of which some bytes are others, are missing, or stand there twice."""
    stream = bytearray(STORY)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(stream)))
        after = at + draw(st.integers(0, 40))
        stream[at:after] = draw(st.binary(max_size=8) | st.just(bytes(stream[at:after]) * 2) | st.just(b"\n"))
    return bytes(stream)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(spoiled() | st.binary(max_size=300), CUTS)
@example(STORY, [])
@example(STORY[:-1], [5])
@example(b"\xff\n" + STORY, [])
@example(STORY.replace(b"\n", b"\r\n"), [])
@example(STORY.replace(b"4", b"1e999"), [])
@example(STORY.replace(b"4", b"9" * 5_000), [])
@example(b"[" * 200_000 + b"\n", [])
def test_any_bytes(stream: bytes, cuts: list[int]) -> None:
    """Any bytes in any pieces make a report, or a broken child; it succeeded only if all of its story came whole."""
    reading = read(stream, cuts)
    status, result, error = reading.report()
    assert all(event["type"] in KNOWN for event in reading.told)
    if reading.broken is not None:
        assert (JobState.LOST, "ChildBroken") == (status, error["type"])
        assert len(error["message"]) < 1_000
    if status == JobState.SUCCEEDED:
        assert reading.transcript.ended
        assert result["outcome"] is not None
    else:
        assert (None, None) == ((result or {}).get("outcome"), (result or {}).get("grade"))


@settings(deadline=None, max_examples=200)
@given(CUTS)
def test_pieces_make_no_difference(cuts: list[int]) -> None:
    """However the story is cut, the same is told and the same reported."""
    whole, cut = read(STORY, []), read(STORY, cuts)
    assert whole.report() == cut.report()
    assert whole.told == cut.told
    assert JobState.SUCCEEDED == whole.report()[0]


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(STORY) - 1))
def test_a_story_that_breaks_off(end: int) -> None:
    """A child that dies in the middle of a frame is lost; what came whole before is told, and nothing of the rest."""
    reading = read(STORY[:end], [])
    assert reading.broken is None
    assert JobState.LOST == reading.report()[0]
    assert reading.told == read(STORY, []).told[: len(reading.told)]


@pytest.mark.parametrize("piece", [b"a" * 65_536, b'{"type":"output","lines":[' + b'[1,null,null,"a"],' * 3_000])
def test_a_line_without_an_end_is_given_up(piece: bytes) -> None:
    """A child that never ends its line is broken after some megabytes, and no more than those are held."""
    reading = Reading()
    tracemalloc.start()
    try:
        for _ in range(2 * MAX_FRAME_BYTES // len(piece)):
            reading.feed(piece)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "no line end" in str(reading.broken)
    assert most < 4 * MAX_FRAME_BYTES


def test_what_is_kept_is_limited() -> None:
    """A child that tells more than its order allows is broken: lines, and events but for starts and ends."""
    for frame, told in (
        ({"type": "output", "lines": [[1, None, None, "x" * 100]]}, "output"),
        ({"type": "events", "events": [[1, "a", 1, "note", "x"]]}, "events"),
    ):
        reading = read(encode({"type": "ready", "protocol": PROTOCOL}) + encode(STARTED) + encode(frame) * 200, [])
        assert f"more {told} than its order allows" in str(reading.broken)
        assert len(reading.told) < 60
