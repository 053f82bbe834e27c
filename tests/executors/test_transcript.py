"""From the frames of a child and the way it ended to a report."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.child import wire
from service.child.wire import BadFrame, Frame
from service.executors.base import Kept
from service.executors.transcript import Ending, Transcript
from service.jobs import FINAL, JobState, ProcessEnd, Report

READY: Frame = {"type": "ready", "protocol": wire.PROTOCOL}
STARTED: Frame = {"type": "started", "active_threads": 1}
USAGE = {"cpu_ns": 5, "voluntary_switches": 1, "involuntary_switches": None}
BEGIN = {"daemon": False, "ident": 1, "native_id": 2, "active_threads": 2, "usage": USAGE}
END = {"ident": 1, "usage": USAGE, "core_wait_ns": 3, "locks": None}
EVENTS: Frame = {
    "type": "events",
    "events": [[7, "one", 1, "start", BEGIN], [9, "one", 1, "end", END]],
}
OUTPUT: Frame = {"type": "output", "lines": [[20, "one", 1, "second"], [10, None, None, "first"]]}
RESULT: Frame = {
    "type": "result",
    "outcome": "lost",
    "grade": "interesting",
    "meaning": "Some were lost.",
    "values": {"lost": 3},
    "wall_ns": 2_000_000_000,
    "cpu_ns": 1_000_000_000,
    "active_threads": 1,
    "switch_interval_s": 0.001,
}
ERROR: Frame = {"type": "error", "error": "ValueError", "message": "no", "cancelled": False, "traceback": "Traceback"}
STOPPED: Frame = {**ERROR, "error": "Cancelled", "message": "", "cancelled": True}
WARNINGS: Frame = {"type": "warnings", "warnings": ["Mind the gap."]}
BYE: Frame = {"type": "bye", "warnings": ["Mind the gap."], "dropped": 2, "events_dropped": 0, "trace_cost_ns": None}
WHOLE = [READY, STARTED, EVENTS, OUTPUT, RESULT, BYE]
STUCK: Frame = {**STARTED, "stuck": {"grade": "forbidden", "meaning": "It should have ended."}}
ROW = {
    "name": "one",
    "ident": 1,
    "daemon": False,
    "main": False,
    "stack": [{"file": "scenarios/probe.py", "line": 3, "function": "take", "code": "with b:"}],
    "holds": ["a"],
    "waits_for": "b",
}
ONE_TWO = [{"thread": "one", "holds": "a", "waits_for": "b"}, {"thread": "two", "holds": "b", "waits_for": "a"}]
AUTOPSY: Frame = {"type": "autopsy", "deadlock": False, "threads": [ROW], "threads_left_out": 2, "cycle": ONE_TWO}
DEADLOCK: Frame = {**AUTOPSY, "deadlock": True}
AT_DEADLINE = [READY, STUCK, EVENTS, OUTPUT, WARNINGS, AUTOPSY, RESULT, BYE]


def process(exit_code: int | None = 0, signal: str | None = None) -> ProcessEnd:
    """The end of a process, as its parent saw it."""
    return ProcessEnd(pid=5, exit_code=exit_code, signal=signal, lived_s=3.1, cpu_s=1.1, max_rss_bytes=4096)


KILLED = process(None, "SIGKILL")


def play(frames: Sequence[Frame], ending: Ending | None = None) -> Report:
    """Return the report on a child that said this."""
    transcript = Transcript(Kept(output_bytes=1000, events=100))
    for frame in frames:
        transcript.add(frame)
    return transcript.report(
        ending or Ending(process()), {"version": "3.11.0", "switch_interval_s": 0.005}, {"cpus": 2}
    )


def test_a_whole_run() -> None:
    """A run that kept to the protocol is told as it was, in seconds and in the order of time."""
    report = play(WHOLE, Ending(process(), startup_s=0.01))
    assert (JobState.SUCCEEDED, None) == (report.status, report.error)
    assert ({"version": "3.11.0", "switch_interval_s": 0.001}, {"cpus": 2}) == (report.python, report.machine)
    assert {
        "outcome": "lost",
        "grade": "interesting",
        "meaning": "Some were lost.",
        "values": {"lost": 3},
        "timings": {"queued_s": None, "startup_s": 0.01, "wall_s": 2.0, "cpu_s": 1.0},
        "active_threads": {"before": 1, "peak": 2, "after": 1},
        "threads": [
            {
                "name": "one",
                "number": 1,
                "daemon": False,
                "ident": 1,
                "native_id": 2,
                "started_s": 7e-9,
                "ended_s": 9e-9,
                "cpu_s": 0.0,
                "core_wait_s": 3e-9,
                "gil_wait_s": None,
                "lock_wait_s": None,
                "lock_acquires": None,
                "lock_waits": None,
                "voluntary_switches": 0,
                "involuntary_switches": None,
            }
        ],
        "output": [
            {"at_s": 1e-8, "thread": None, "line": "first"},
            {"at_s": 2e-8, "thread": "one", "line": "second"},
        ],
        "output_dropped": 2,
        "process": process(),
        "warnings": ["Mind the gap."],
        "gil": None,
        "trace": {"mode": "threads", "events": 2, "dropped": 0, "cost_s": None},
        "autopsy": None,
    } == report.result


@pytest.mark.parametrize(
    ("status", "frames", "ending"),
    [
        pytest.param("succeeded", WHOLE, Ending(process()), id="to the end"),
        pytest.param("succeeded", WHOLE, Ending(process(3)), id="exit code after bye"),
        pytest.param("succeeded", WHOLE, Ending(process(), stopped=JobState.CANCELLED), id="ended before the cancel"),
        pytest.param("succeeded", WHOLE, Ending(process(), stopped=JobState.TIMED_OUT), id="ended at the deadline"),
        pytest.param("failed", [READY, ERROR], Ending(process()), id="raised at import"),
        pytest.param("failed", [READY, STARTED, ERROR, BYE], Ending(process()), id="raised"),
        pytest.param("failed", [READY, STARTED, ERROR], Ending(process(7)), id="raised, then died"),
        pytest.param("failed", [READY, STARTED, RESULT, ERROR, BYE], Ending(process()), id="raised in at_exit"),
        pytest.param(
            "failed",
            [READY, STARTED, ERROR],
            Ending(KILLED, stopped=JobState.TIMED_OUT, killed=True),
            id="raised, stuck",
        ),
        pytest.param(
            "timed_out", [READY, STARTED], Ending(KILLED, stopped=JobState.TIMED_OUT, killed=True), id="endless"
        ),
        pytest.param(
            "timed_out",
            [READY, STARTED, RESULT],
            Ending(KILLED, stopped=JobState.TIMED_OUT, killed=True),
            id="a thread outlived run",
        ),
        pytest.param(
            "timed_out", [READY, STARTED, STOPPED, BYE], Ending(process(), stopped=JobState.TIMED_OUT), id="heeded"
        ),
        pytest.param("timed_out", [READY, STARTED, STOPPED, BYE], Ending(process()), id="noticed its deadline first"),
        pytest.param(
            "cancelled",
            [READY, STARTED, STOPPED, BYE],
            Ending(process(), stopped=JobState.CANCELLED),
            id="heeded cancel",
        ),
        pytest.param(
            "cancelled",
            [READY, STARTED],
            Ending(KILLED, stopped=JobState.CANCELLED, killed=True),
            id="had to be killed",
        ),
        pytest.param(
            "cancelled",
            [READY, STARTED, RESULT],
            Ending(KILLED, stopped=JobState.CANCELLED, killed=True),
            id="cancelled while a thread outlived run",
        ),
        pytest.param(
            "cancelled", [], Ending(KILLED, stopped=JobState.CANCELLED, killed=True), id="before it was ready"
        ),
        pytest.param("lost", [], Ending(process(1)), id="said nothing"),
        pytest.param("lost", [READY], Ending(process(None, "SIGSEGV")), id="crashed at import"),
        pytest.param("lost", [READY, STARTED], Ending(process(None, "SIGSEGV")), id="signal"),
        pytest.param("lost", [READY, STARTED, EVENTS], Ending(process(3)), id="exit code"),
        pytest.param("lost", [READY, STARTED, RESULT], Ending(process(3)), id="exit code after its result"),
        pytest.param("lost", [READY, STARTED], Ending(KILLED, broken="nonsense"), id="broken"),
        pytest.param("lost", WHOLE, Ending(KILLED, broken="nonsense"), id="broken after bye"),
    ],
)
def test_the_status(status: str, frames: Sequence[Frame], ending: Ending) -> None:
    """What the child said and how it ended decide together on the state of the job."""
    report = play(frames, ending)
    assert status == report.status
    assert (STARTED in frames) == (report.result is not None)
    assert (status in ("failed", "lost")) == (report.error is not None)
    if report.result is not None and status != "succeeded":
        expected = ("stuck", "interesting") if status == "timed_out" else (None, None)
        assert expected == (report.result["outcome"], report.result["grade"])


def test_values_of_a_run_that_was_killed() -> None:
    """What a scenario had counted before it had to be killed is told; what was not measured is null."""
    ending = Ending(KILLED, stopped=JobState.TIMED_OUT, killed=True)
    result = play([READY, STARTED, RESULT], ending).result
    assert result is not None
    assert ({"lost": 3}, 2.0, None) == (result["values"], result["timings"]["wall_s"], result["output_dropped"])
    result = play([READY, STARTED], ending).result
    assert result is not None
    assert ({}, {"queued_s": None, "startup_s": None, "wall_s": None, "cpu_s": None}) == (
        result["values"],
        result["timings"],
    )
    assert ({"before": 1, "peak": 1, "after": None}, None) == (result["active_threads"], result["output_dropped"])


def test_warnings_of_a_run_that_was_killed() -> None:
    """What a child warned of before it was killed is told; each time it tells them all, and so does its `bye`."""
    ending = Ending(KILLED, stopped=JobState.TIMED_OUT, killed=True)
    more: Frame = {"type": "warnings", "warnings": ["Mind the gap.", "Mind the lock."]}
    for frames, expected in (
        ([], []),
        ([WARNINGS], ["Mind the gap."]),
        ([WARNINGS, more], ["Mind the gap.", "Mind the lock."]),
        ([more, RESULT, BYE], ["Mind the gap."]),
    ):
        result = play([READY, STARTED, *frames], ending).result
        assert result is not None
        assert expected == result["warnings"]


def test_killed_is_said_only_of_what_was_killed() -> None:
    """A scenario that ended by itself when its time was up was not killed, and nothing says so."""
    result = play([READY, STARTED, STOPPED, BYE], Ending(process(), stopped=JobState.TIMED_OUT)).result
    assert result is not None
    assert "killed" not in (result["meaning"] or "")


@pytest.mark.parametrize(
    ("ending", "kind", "said"),
    [
        (Ending(process(None, "SIGSEGV")), "ChildDied", "SIGSEGV"),
        (Ending(process(3)), "ChildDied", "exit code 3"),
        (Ending(KILLED, broken="it sang"), "ChildBroken", "it sang"),
    ],
)
def test_the_error_of_a_lost_child(ending: Ending, kind: str, said: str) -> None:
    """The error says how the child died, or which rule it broke."""
    error = play([READY, STARTED], ending).error
    assert error is not None
    assert (kind, None) == (error["type"], error["traceback"])
    assert said in error["message"]


def test_the_error_of_a_scenario() -> None:
    """The error of a scenario that raised is its exception."""
    assert {"type": "ValueError", "message": "no", "traceback": "Traceback"} == play([READY, STARTED, ERROR, BYE]).error


def test_an_ending_lies_over_the_result() -> None:
    """What at_exit counted takes the place of what `run` returned."""
    ending = {"outcome": "done", "grade": "acceptable", "meaning": "All there.", "values": {"lost": 0}}
    result = play([READY, STARTED, RESULT, {**BYE, "ending": ending}]).result
    assert result is not None
    assert ending == {name: result[name] for name in ("outcome", "grade", "meaning", "values")}


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([STARTED], id="started before ready"),
        pytest.param([BYE], id="bye before ready"),
        pytest.param([ERROR], id="error before ready"),
        pytest.param([READY, READY], id="ready again"),
        pytest.param([READY, EVENTS], id="events before started"),
        pytest.param([READY, OUTPUT], id="output before started"),
        pytest.param([READY, WARNINGS], id="warnings before started"),
        pytest.param([READY, RESULT], id="result before started"),
        pytest.param([READY, BYE], id="bye before started"),
        pytest.param([READY, STARTED, STARTED], id="started again"),
        pytest.param([READY, STARTED, READY], id="ready after started"),
        pytest.param([READY, STARTED, BYE], id="bye without result or error"),
        pytest.param([READY, STARTED, RESULT, RESULT], id="a second result"),
        pytest.param([READY, STARTED, ERROR, RESULT], id="a result after an error"),
        pytest.param([*WHOLE, BYE], id="bye again"),
        pytest.param([*WHOLE, OUTPUT], id="output after bye"),
        pytest.param([*WHOLE, EVENTS], id="events after bye"),
        pytest.param([*WHOLE, WARNINGS], id="warnings after bye"),
        pytest.param([*WHOLE, RESULT], id="result after bye"),
        pytest.param([*WHOLE, ERROR], id="error after bye"),
        pytest.param([{"type": "hello", "protocol": 1}], id="of the fork server, first"),
        pytest.param([READY, {"type": "exited", "pid": 1}], id="of the fork server"),
        pytest.param([READY, STARTED, {"type": "cancel"}], id="of the service"),
        pytest.param([READY, AUTOPSY], id="an autopsy before started"),
        pytest.param([*WHOLE, AUTOPSY], id="an autopsy after bye"),
        pytest.param([READY, STARTED, AUTOPSY, AUTOPSY], id="a second autopsy"),
        pytest.param([READY, STARTED, AUTOPSY, DEADLOCK], id="a deadlock after an autopsy"),
        *(
            pytest.param([READY, STARTED, DEADLOCK, frame], id=f"{frame['type']} after a deadlock")
            for frame in (EVENTS, OUTPUT, WARNINGS, RESULT, ERROR, BYE, AUTOPSY)
        ),
        pytest.param([READY, STARTED, {"type": ""}], id="unknown"),
    ],
)
def test_a_frame_that_may_not_come_now(frames: Sequence[Frame]) -> None:
    """The last of these frames is out of its order, or unknown, and refused."""
    transcript = Transcript(Kept(output_bytes=1000, events=100))
    for frame in frames[:-1]:
        transcript.add(frame)
    with pytest.raises(BadFrame):
        transcript.add(frames[-1])


@pytest.mark.parametrize("protocol", [0, 1, "2", None, [2]])
def test_another_protocol(protocol: Any) -> None:
    """A child that speaks another protocol is refused at its first word, with both numbers."""
    with pytest.raises(BadFrame, match=r"protocol .* the service 5"):
        Transcript(Kept(output_bytes=1000, events=100)).add({"type": "ready", "protocol": protocol})


def row(**changes: Any) -> Frame:
    """An autopsy of one thread, changed."""
    return {**AUTOPSY, "threads": [{**ROW, **changes}]}


def turns(*links: tuple[Any, Any]) -> Frame:
    """An autopsy with a cycle of threads that hold one lock and wait for another."""
    return {**AUTOPSY, "cycle": [{"thread": "t", "holds": holds, "waits_for": waits} for holds, waits in links]}


BAD: list[Frame] = [
    {"type": "started"},
    {"type": "warnings"},
    {**WARNINGS, "warnings": "Mind the gap."},
    {**WARNINGS, "warnings": [None]},
    {**STARTED, "stuck": "forbidden"},
    {**STARTED, "stuck": {"grade": "forbidden"}},
    {**STARTED, "stuck": {"grade": "bad", "meaning": "It should have ended."}},
    {**STARTED, "stuck": {"grade": "forbidden", "meaning": None}},
    *({name: value for name, value in AUTOPSY.items() if name != absent} for absent in AUTOPSY if absent != "type"),
    *({**AUTOPSY, "threads": [{n: v for n, v in ROW.items() if n != absent}]} for absent in ROW),
    {**AUTOPSY, "deadlock": 1},
    {**AUTOPSY, "deadlock": None},
    {**AUTOPSY, "threads": {"one": ROW}},
    {**AUTOPSY, "threads": [ROW] * 65},
    {**AUTOPSY, "threads_left_out": "many"},
    row(name=1),
    row(ident="1"),
    row(daemon=None),
    row(main="yes"),
    row(stack=None),
    row(stack=["here"]),
    row(stack=ROW["stack"] * 51),
    row(stack=[{**ROW["stack"][0], "line": None}]),  # type: ignore[dict-item]
    row(stack=[{**ROW["stack"][0], "code": 5}]),  # type: ignore[dict-item]
    row(holds="a"),
    row(holds=[None]),
    row(waits_for=["b"]),
    {**AUTOPSY, "cycle": []},
    {**AUTOPSY, "cycle": "one, two"},
    {**AUTOPSY, "cycle": [{"thread": "one", "holds": "a"}]},
    {**AUTOPSY, "cycle": [{**ONE_TWO[0], "thread": None}, ONE_TWO[1]]},
    turns(("a", "b")),
    turns(("a", "b"), ("c", "a")),
    turns(("a", "b"), ("b", "c")),
    turns((None, None)),
    turns((None, None), (None, None)),
    turns(("a", None), (None, "a")),
    turns((None, "a"), ("a", "b"), ("b", None), (None, None)),
    {**DEADLOCK, "cycle": None},
    {**STARTED, "active_threads": None},
    {**STARTED, "active_threads": "x"},
    {**STARTED, "active_threads": []},
    {"type": "events"},
    {"type": "events", "events": None},
    {"type": "events", "events": 5},
    {"type": "events", "events": [5]},
    {"type": "events", "events": [[1, "one", 1, "start"]]},
    {"type": "events", "events": [[1, "one", 1, "start", BEGIN, 0]]},
    {"type": "events", "events": [["x", "one", 1, "start", BEGIN]]},
    {"type": "events", "events": [[10**400, "one", 1, "start", BEGIN]]},
    {"type": "events", "events": [[1, ["one"], 1, "start", BEGIN]]},
    {"type": "events", "events": [[1, "one", 1, "start", None]]},
    {"type": "events", "events": [[1, "one", 1, "start", []]]},
    {"type": "events", "events": [[1, "one", 1, "sleep", BEGIN]]},
    {"type": "events", "events": [[1, "one", 1, ["start"], BEGIN]]},
    {"type": "events", "events": [[1, "one", 1, "end", END]]},
    {"type": "events", "events": [[1, "one", 1, "start", {**BEGIN, "native_id": "twelve"}]]},
    {"type": "events", "events": [[1, "one", 1, "start", {**BEGIN, "native_id": {"a": 1}}]]},
    {
        "type": "events",
        "events": [[1, "one", 1, "start", {**BEGIN, "usage": 5}], [2, "one", 1, "end", {"usage": USAGE}]],
    },
    {"type": "output"},
    {"type": "output", "lines": None},
    {"type": "output", "lines": [[1, "one", 1]]},
    {"type": "output", "lines": [[1, "one", 1, None]]},
    {"type": "output", "lines": [[1, "one", 1, ["a"]]]},
    {"type": "output", "lines": [[1, {"name": "one"}, 1, "a"]]},
    {"type": "output", "lines": [[None, "one", 1, "a"]]},
    {"type": "output", "lines": [[10**400, "one", 1, "a"]]},
    {"type": "output", "lines": [[1, "one", "x", "a"]]},
    *({name: value for name, value in RESULT.items() if name != absent} for absent in RESULT if absent != "type"),
    {**RESULT, "grade": "good"},
    {**RESULT, "grade": ["acceptable"]},
    {**RESULT, "values": [1]},
    {**RESULT, "values": None},
    {**RESULT, "outcome": None},
    {**RESULT, "outcome": ["done"]},
    {**RESULT, "meaning": {}},
    {**RESULT, "wall_ns": None},
    {**RESULT, "wall_ns": 10**400},
    {**RESULT, "cpu_ns": "much"},
    {**RESULT, "switch_interval_s": 10**400},
    {**RESULT, "switch_interval_s": "often"},
    {**RESULT, "switch_interval_s": "nan"},
    *({name: value for name, value in ERROR.items() if name != absent} for absent in ERROR if absent != "type"),
    {**ERROR, "error": None},
    {**ERROR, "traceback": ["Traceback"]},
]


@pytest.mark.parametrize("frame", BAD, ids=lambda frame: json.dumps(frame)[:70])
def test_a_frame_of_a_bad_shape(frame: Frame) -> None:
    """A frame without the shape that `wire` states is refused, and nothing of it gets into the report."""
    transcript = Transcript(Kept(output_bytes=1000, events=100))
    for before in (READY,) if frame["type"] == "started" else (READY, STARTED):
        transcript.add(before)
    with pytest.raises(BadFrame):
        transcript.add(frame)
    report = transcript.report(Ending(KILLED, broken="bad"), None, None)
    assert JobState.LOST == report.status
    if report.result is not None:
        assert report.result["autopsy"] is None
        assert ([], [], {}) == (report.result["threads"], report.result["output"], report.result["values"])


@pytest.mark.parametrize(
    "frame",
    [
        *({name: value for name, value in BYE.items() if name != absent} for absent in BYE if absent != "type"),
        {**BYE, "warnings": None},
        {**BYE, "warnings": "Mind the gap."},
        {**BYE, "warnings": [{"text": "Mind the gap."}]},
        {**BYE, "dropped": None},
        {**BYE, "dropped": "few"},
        {**BYE, "ending": None},
        {**BYE, "ending": []},
        {**BYE, "ending": {}},
        {**BYE, "ending": {**RESULT, "grade": "good"}},
        {**BYE, "ending": {**RESULT, "values": []}},
    ],
    ids=lambda frame: json.dumps(frame)[:70],
)
def test_a_bad_bye(frame: Frame) -> None:
    """A bye without its shape is refused, and does not make the run a success."""
    transcript = Transcript(Kept(output_bytes=1000, events=100))
    for before in (READY, STARTED, RESULT):
        transcript.add(before)
    with pytest.raises(BadFrame):
        transcript.add(frame)
    report = transcript.report(Ending(process()), None, None)
    assert JobState.LOST == report.status
    assert report.result is not None
    assert ({"lost": 3}, []) == (report.result["values"], report.result["warnings"])


def test_too_much_output() -> None:
    """More output than the order allows is refused, because the child should have held it back."""
    transcript = Transcript(Kept(output_bytes=35, events=100))
    for frame in (READY, STARTED, {"type": "output", "lines": [[1, None, None, "1234"], [2, None, None, "1234"]]}):
        transcript.add(frame)
    with pytest.raises(BadFrame, match="more output"):
        transcript.add({"type": "output", "lines": [[3, None, None, ""]]})


STRANGE: list[Any] = [None, True, -1, 0.5, 1e308, 10**400, "", "x", "nan", [], [[]], {}, {"a": [1]}]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


@pytest.mark.parametrize("number", range(len(AT_DEADLINE)), ids=[frame["type"] for frame in AT_DEADLINE])
def test_everything_at_every_place(number: int) -> None:
    """Whatever stands at any place of a frame, the frame is taken or a BadFrame, and the report is JSON again."""
    for *path, last in places(AT_DEADLINE[number]):
        for strange in STRANGE:
            frames = copy.deepcopy(AT_DEADLINE)
            at: Any = frames[number]
            for key in path:
                at = at[key]
            at[last] = strange
            _check_any(frames)


def _check_any(frames: Sequence[Any]) -> None:
    transcript = Transcript(Kept(output_bytes=1000, events=100))
    broken = None
    try:
        for frame in frames:
            transcript.add(wire.decode(json.dumps(frame, ensure_ascii=False).encode()))
    except BadFrame as exc:
        broken = str(exc)
    for stopped in (None, JobState.TIMED_OUT):
        ending = Ending(process(), stopped=stopped, killed=stopped is not None, broken=broken)
        report = transcript.report(ending, {"version": "3"}, {})
        assert report.status in FINAL
        assert json.loads(json.dumps([report.result, report.error, report.python], allow_nan=False))


NUMBERS = st.integers() | st.sampled_from([-1, 2**31, 2**64, 10**30, 10**400]) | st.floats(-1e308, 1e308)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)
GOOD = [READY, STARTED, STUCK, EVENTS, OUTPUT, WARNINGS, AUTOPSY, DEADLOCK, RESULT, ERROR, BYE]


@st.composite
def spoiled(draw: st.DrawFn) -> Any:
    """A good frame in which something at any depth is replaced by any JSON, or is left out."""
    frame = json.loads(json.dumps(draw(st.sampled_from(GOOD))))
    at: Any = frame
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = draw(st.sampled_from(keys))
        inner = at[key]
        if isinstance(inner, (dict, list)) and inner and draw(st.integers(0, 3)):
            at = inner
        elif draw(st.booleans()):
            at[key] = draw(JSON | st.just(10**400))
            return frame
        else:
            del at[key]
            return frame


@settings(deadline=None, max_examples=400)
@given(st.integers(0, 4), st.lists(spoiled() | JSON | st.sampled_from(GOOD), max_size=4))
def test_any_json_as_a_frame(good: int, frames: list[Any]) -> None:
    """Whatever JSON a child sends is taken or a BadFrame, and the report that comes of it is JSON again."""
    _check_any([*WHOLE[:good], *frames])
