"""From the frames of one child to a report.

Who uses it: every executor that speaks the link's words, on the thread that runs the job. A child is not trusted: what
does not have the shape that `child/wire.py` states raises `BadFrame`, and nothing half-read gets into a report.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from service import gil
from service.child.wire import LEAST_LINE, MOST_THREADS, PROTOCOL, BadFrame, Frame, integer, text
from service.events import ActiveThreads, Event, Gil, JobEvent, ThreadRow, Timeline, Trace, Tracing
from service.executors import shapes
from service.executors.base import Kept
from service.executors.stacks import Dump, Stack
from service.jobs import (
    Autopsy,
    CycleLink,
    Failure,
    JobState,
    OutputLine,
    ProcessEnd,
    Report,
    Result,
    ThreadAtEnd,
    Timings,
)

__all__ = ["Ending", "Transcript"]

_NS = 1e9
_MOST_TOLD = 8  # threads of a cycle in a sentence; the answer holds them all

# What may follow on each frame that moves the story on; the others, and one `autopsy`, come in between.
_NEXT = {
    "": {"ready"},
    "ready": {"started", "error"},
    "started": {"events", "output", "warnings", "autopsy", "result", "error"},
    "result": {"events", "output", "warnings", "autopsy", "error", "bye"},
    "error": {"events", "output", "warnings", "autopsy", "bye"},
    "bye": set[str](),
    "deadlock": set[str](),  # an autopsy that says that nobody can run on
}

_MORE_TIME = "What it would have come to is not known: give it a longer timeout_s, or less to do."
_STUCK = f"It had not ended when its time was up, and had to be killed. {_MORE_TIME}"
_LATE = f"It had not ended when its time was up, and then stopped itself. {_MORE_TIME}"
_DEADLOCK = "Its threads waited for each other, none of them could ever go on, and it had to be killed."
_KNOT = "When its time was up some of its threads waited for each other, and it had to be killed."
_CANCELLED = "The job was cancelled before it ended; what it had recorded until then is here."
_NOT_ENDED = "The job ended without an outcome; what it had recorded until then is here."

_DEATHS = {
    "SIGKILL": " Nobody here sent that signal: the system may have run out of memory, or the job ended itself.",
    "SIGXCPU": " It had used up its limit of CPU time (RLIMIT_CPU).",
    "SIGXFSZ": " It had met the limit of a file's size (RLIMIT_FSIZE).",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, as the executor saw it.

    Attributes:
        stopped: why the executor ended it (`cancelled` or `timed_out`); None when it ended by itself.
        killed: whether force was needed.
        broken: what the child said that it should not have; None when it kept to the protocol.
        dump: where its threads were, as the fault handler told it; nothing where it was not asked or did not answer.
    """

    process: ProcessEnd
    startup_s: float | None = None
    stopped: JobState | None = None
    killed: bool = False
    broken: str | None = None
    dump: Dump = field(default_factory=Dump)


class Transcript:
    """Takes in a child's frames one by one, tells what they tell, and makes a report of them in the end.

    Args:
        kept: how much there may be: a second guard for what the child should have held back by itself.
        trace: what is recorded of its threads.
    """

    def __init__(self, kept: Kept, trace: Trace = "threads") -> None:
        self._room = kept.output_bytes
        self._trace: Trace = trace
        self._last = ""  # the last frame that moved the story on
        self._timeline = Timeline(kept.events)
        self._news: list[JobEvent] = []
        self._output: list[OutputLine] = []
        self._warnings: list[str] = []
        self._before: int | None = None
        self._stuck: tuple[str, str] | None = None  # what the scenario says of it: grade and meaning
        self._autopsy: Autopsy | None = None
        self._result: Frame | None = None
        self._error: Frame | None = None
        self._bye: Frame | None = None

    @property
    def started(self) -> bool:
        """Whether the scenario began."""
        return self._before is not None

    @property
    def ended(self) -> bool:
        """Whether the child has said all that it may say."""
        return self._bye is not None

    @property
    def deadlocked(self) -> bool:
        """Whether the child has said that none of its threads can ever go on."""
        return self._last == "deadlock"

    @property
    def dissected(self) -> bool:
        """Whether the child has said where its threads are."""
        return self._autopsy is not None

    def news(self) -> list[JobEvent]:
        """Return what was told since this was last asked."""
        news, self._news = self._news, []
        return news

    def add(self, frame: Frame) -> None:
        """Take in the next frame; one that is refused leaves nothing behind but what came whole before its fault.

        Raises:
            BadFrame: it is not one that may come now, or not of its shape.
        """
        kind = frame["type"]
        if kind not in _NEXT[self._last]:
            raise BadFrame(f"unexpected frame {kind!r:.40} after {self._last or 'nothing'!r}")
        try:
            {
                "ready": self._take_ready,
                "started": self._take_started,
                "events": self._take_events,
                "output": self._take_output,
                "warnings": self._take_warnings,
                "autopsy": self._take_autopsy,
                "result": self._take_result,
                "error": self._take_error,
                "bye": self._take_bye,
            }[kind](frame)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as exc:
            raise BadFrame(f"bad {kind!r} frame: {type(exc).__name__}: {exc}") from exc
        if kind in _NEXT:
            self._last = kind
        if kind == "autopsy" and frame["deadlock"]:
            self._last = "deadlock"

    def _take_ready(self, frame: Frame) -> None:
        if frame["protocol"] != PROTOCOL:
            raise BadFrame(f"the child speaks protocol {frame['protocol']!r}, the service {PROTOCOL}")

    def _take_started(self, frame: Frame) -> None:
        before, stuck = integer(frame["active_threads"]), frame.get("stuck")
        if stuck is not None:
            self._stuck = shapes.grade(stuck["grade"]), text(stuck["meaning"])
        self._before = before
        self._news.append({"type": "started", "at_s": 0.0, "active_threads": before})

    def _take_events(self, frame: Frame) -> None:
        for at_ns, thread, number, kind, facts in _some(frame["events"]):
            self._news.append(self._timeline.add(Event(integer(at_ns), text(thread), integer(number), kind, facts)))

    def _take_output(self, frame: Frame) -> None:
        for at_ns, thread, number, line in _some(frame["lines"]):
            self._room -= max(len(text(line)) + 1, LEAST_LINE)
            if self._room < 0:
                raise BadFrame("more output than its order allows")
            said = OutputLine(at_s=integer(at_ns) / _NS, thread=shapes.text_or_none(thread), line=line)
            self._news.append({"type": "output", "number": None if number is None else integer(number), **said})
            self._output.append(said)

    def _take_warnings(self, frame: Frame) -> None:
        self._warnings = list(map(text, shapes.members(frame["warnings"])))

    def _take_autopsy(self, frame: Frame) -> None:
        if self._autopsy is not None:
            raise BadFrame("a second autopsy")
        autopsy = Autopsy(
            by="child",
            threads=[shapes.thread_at_end(row) for row in shapes.members(frame["threads"], MOST_THREADS)],
            threads_left_out=integer(frame["threads_left_out"]),
            cycle=None if frame["cycle"] is None else shapes.cycle(shapes.members(frame["cycle"])),
        )
        if shapes.flag(frame["deadlock"]) and not autopsy["cycle"]:
            raise BadFrame("a deadlock without a cycle")
        self._autopsy = autopsy

    def _take_result(self, frame: Frame) -> None:
        self._result = {
            "active_threads": integer(frame["active_threads"]),
            "wall_s": integer(frame["wall_ns"]) / _NS,
            "cpu_s": integer(frame["cpu_ns"]) / _NS,
            "switch_interval_s": shapes.number(frame["switch_interval_s"]),
            **shapes.observed(frame),
        }

    def _take_error(self, frame: Frame) -> None:
        self._error = {
            "cancelled": bool(frame["cancelled"]),
            **{name: text(frame[name]) for name in ("error", "message", "traceback")},
        }

    def _take_bye(self, frame: Frame) -> None:
        ending = shapes.observed(frame["ending"]) if "ending" in frame else {}
        cost_ns = frame["trace_cost_ns"]
        bye = {
            "dropped": integer(frame["dropped"]),
            "events_dropped": integer(frame["events_dropped"]),
            "trace_cost_s": None if cost_ns is None else integer(cost_ns) / _NS,
        }
        self._take_warnings(frame)
        self._bye = bye
        if self._result is not None:
            self._result.update(ending)

    def report(self, ending: Ending, python: dict[str, Any] | None, machine: dict[str, Any] | None) -> Report:
        """Return what the run showed, given how it ended."""
        status = self._status(ending)
        account = None if python is None or "gil" not in python else self._account(python, ending.process["cpu_s"])
        if python is not None and self._result is not None:
            python = {**python, "switch_interval_s": self._result["switch_interval_s"]}
        result = self._make_result(status, ending, account) if self.started else None
        return Report(status, result, self._failure(status, ending), python, machine)

    def _status(self, ending: Ending) -> JobState:
        if ending.broken:
            return JobState.LOST
        if self._error is not None and not self._error["cancelled"]:
            return JobState.FAILED
        if ending.stopped is not None and (ending.killed or self._result is None or self._error is not None):
            return ending.stopped
        if self._error is not None:  # the scenario noticed its deadline before the service did
            return JobState.TIMED_OUT
        if self._bye is None or self._result is None:
            return JobState.LOST
        return JobState.SUCCEEDED

    def _account(self, python: dict[str, Any], process_cpu_s: float | None) -> Gil:
        """Say how contended the GIL was. A scenario may have set another switch interval: the longer one counts."""
        returned = self._result or {}
        return gil.account(
            self._timeline.rows,
            enabled=python["gil"],
            switch_interval_s=max(python.get("switch_interval_s", 0.0), returned.get("switch_interval_s", 0.0)),
            process_cpu_s=process_cpu_s,
        )

    def _make_result(self, status: JobState, ending: Ending, account: Gil | None) -> Result:
        returned = self._result or {}
        bye = self._bye or {"dropped": None, "events_dropped": None, "trace_cost_s": None}
        outcome, grade, meaning = self._outcome(status, ending)
        return Result(
            outcome=outcome,
            grade=grade,
            meaning=meaning,
            values=returned.get("values", {}),
            timings=Timings(
                queued_s=None,
                startup_s=ending.startup_s,
                wall_s=returned.get("wall_s"),
                cpu_s=returned.get("cpu_s"),
            ),
            active_threads=self._active_threads(returned.get("active_threads")),
            threads=sorted(self._timeline.rows, key=lambda row: row["started_s"]),
            output=sorted(self._output, key=lambda line: line["at_s"]),
            output_dropped=bye["dropped"],
            process=ending.process,
            warnings=self._warnings,
            gil=account,
            trace=Tracing(
                mode=self._trace,
                events=self._timeline.kept,
                dropped=bye["events_dropped"],
                cost_s=bye["trace_cost_s"],
            ),
            autopsy=self._dissect(status, ending),
        )

    def _dissect(self, status: JobState, ending: Ending) -> Autopsy | None:
        """Say where its threads were when it was ended or died; nothing of a job that ended by itself."""
        if ending.stopped is not None and status is not JobState.SUCCEEDED and self._autopsy is not None:
            return self._autopsy
        if not ending.dump.threads or (ending.stopped is None and status is not JobState.LOST):
            return None
        rows = {row["ident"]: row for row in self._timeline.rows if row["ended_s"] is None}
        threads = [_stranded(stack, rows.get(stack.ident)) for stack in ending.dump.threads]
        left_out = self._left_out(ending.dump, rows)
        return Autopsy(by="fault_handler", threads=threads, threads_left_out=left_out, cycle=None)

    def _left_out(self, dump: Dump, unfinished: Collection[int]) -> int | None:
        """How many threads more there were than a dump tells; it ends somewhere where there were very many."""
        if dump.whole:
            return dump.more
        if self._trace == "off":  # of no thread a start was recorded
            return None
        told = {stack.ident for stack in dump.threads}
        main = any(stack.main for stack in dump.threads)
        return len(set(unfinished) - told) + (0 if main else 1)

    def _active_threads(self, after: int | None) -> ActiveThreads:
        counts = self._timeline.active_threads(self._before, after)
        return {**counts, "peak": None} if self._trace == "off" else counts

    def _outcome(self, status: JobState, ending: Ending) -> tuple[str | None, Any, str]:
        if status is JobState.SUCCEEDED and self._result is not None:
            return self._result["outcome"], self._result["grade"], self._result["meaning"]
        if status is JobState.TIMED_OUT:
            return "stuck", *self._judge_stuck(ending)
        return None, None, _CANCELLED if status is JobState.CANCELLED else _NOT_ENDED

    def _judge_stuck(self, ending: Ending) -> tuple[str, str]:
        """What the scenario says of being stuck, if it does; that is forbidden only where threads were seen to be."""
        if self._stuck is None or (self._stuck[0] == "forbidden" and not self._knotted):
            return "interesting", self._why_stuck(ending)
        return self._stuck

    def _why_stuck(self, ending: Ending) -> str:
        if not ending.killed:
            return _LATE
        if self.deadlocked:
            return _DEADLOCK
        return _KNOT if self._knotted else _STUCK

    @property
    def _knotted(self) -> bool:
        """Whether threads were seen that waited for each other."""
        return self._autopsy is not None and bool(self._autopsy["cycle"])

    def _failure(self, status: JobState, ending: Ending) -> Failure | None:
        if status is JobState.FAILED and self._error is not None:
            return Failure(
                type=self._error["error"], message=self._error["message"], traceback=self._error["traceback"]
            )
        if status is JobState.TIMED_OUT and self._autopsy is not None and self._autopsy["cycle"]:
            return Failure(type="Deadlock", message=_story(self._autopsy["cycle"], self.deadlocked), traceback=None)
        if status is not JobState.LOST:
            return None
        if ending.broken:
            return Failure(type="ChildBroken", message=f"The child broke the protocol: {ending.broken}", traceback=None)
        return Failure(type="ChildDied", message=_death(ending.process), traceback=None)


def _some(rows: list[Any]) -> list[Any]:
    """The rows of a frame, of which there is at least one: a flood of frames ends at what their order allows."""
    if not rows:
        raise BadFrame("a frame that says nothing")
    return rows


def _stranded(stack: Stack, row: ThreadRow | None) -> ThreadAtEnd:
    """A thread of which the fault handler told, with what its own start says of it."""
    known: tuple[str | None, bool | None] = (None, None) if row is None else (row["name"], row["daemon"])
    name, daemon = ("MainThread", False) if stack.main else known
    return ThreadAtEnd(
        name=name,
        ident=stack.ident,
        daemon=daemon,
        main=stack.main,
        stack=stack.frames,
        holds=None,
        waits_for=None,
    )


def _story(cycle: list[CycleLink], deadlock: bool) -> str:
    """A cycle in words."""
    told = [_clause(*pair) for pair in shapes.in_turn(cycle)[:_MOST_TOLD] if pair[0]["waits_for"] is not None]
    if len(cycle) > _MOST_TOLD:
        told.append(f"and so on: {len(cycle)} threads in all")
    last_word = "No other thread could run on." if deadlock else "Other threads could still run when its time was up."
    return f"{'; '.join(told)}. {last_word}"


def _clause(link: CycleLink, holder: CycleLink) -> str:
    holds = "" if link["holds"] is None else f"holds {link['holds']} and "
    whose = f"{holder['thread']} holds" if holder["waits_for"] is not None else f"{holder['thread']} held when it ended"
    return (
        f"{link['thread']} {holds}waits for {link['waits_for']}, which {'it holds itself' if holder is link else whose}"
    )


def _death(process: ProcessEnd) -> str:
    if process["signal"] is not None:
        why = _DEATHS.get(process["signal"], "")
        return f"The child was ended by {process['signal']} before it could say goodbye.{why}"
    return f"The child ended with exit code {process['exit_code']} before it could say goodbye."
