"""Jobs: what one is, the states it passes through, and the table of legal moves.

    queued ──▶ running ──▶ succeeded | failed | timed_out | cancelled | lost
      ▲           │
      └───────────┘  the service stopped, or could not run it this time (three attempts at most)
    queued ──▶ cancelled | lost

Who uses it: every floor above. Pure: no clock, no I/O; who moves a job says when. The state says how the *run* went;
what was *observed* is the result's outcome, a different matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypedDict

from service import errors
from service.events import ActiveThreads, Gil, ThreadRow, Tracing

__all__ = [
    "FINAL",
    "LEGAL_MOVES",
    "MAX_ATTEMPTS",
    "Autopsy",
    "CycleLink",
    "Failure",
    "Grade",
    "Job",
    "JobHead",
    "JobState",
    "Lane",
    "OutputLine",
    "ProcessEnd",
    "Report",
    "Result",
    "StackFrame",
    "ThreadAtEnd",
    "Timings",
]

MAX_ATTEMPTS = 3  # a job that took the service down twice is given one more chance, and no fourth

Lane = Literal["cpu", "wait"]
Grade = Literal["acceptable", "interesting", "forbidden"]


class JobState(StrEnum):
    """Where a job stands.

    `timed_out`: it did not end in its time, or never could (deadlock; `error` says so). `lost`: its child died, or the
    service could not finish it.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"


LEGAL_MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.LOST}),
    JobState.RUNNING: frozenset(set(JobState) - {JobState.RUNNING}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.TIMED_OUT: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.LOST: frozenset(),
}

FINAL = frozenset(state for state, moves in LEGAL_MOVES.items() if not moves)


class Timings(TypedDict):
    """Seconds; each from one clock of one process."""

    queued_s: float | None  # service: from accepted to taken up; null if another service had accepted it
    startup_s: float | None  # service: from asking for a child to its `started`
    wall_s: float | None  # child: around the scenario's `run`
    cpu_s: float | None  # child: CPU time of all its threads during `run`


class OutputLine(TypedDict):
    """A printed line; `thread` is null for what C code printed."""

    at_s: float
    thread: str | None
    line: str


class ProcessEnd(TypedDict):
    """How the child's process ended, observed from outside by its parent."""

    pid: int | None
    exit_code: int | None
    signal: str | None
    lived_s: float | None  # from the fork to the end, by the clock of its parent, the fork server
    cpu_s: float | None
    max_rss_bytes: int | None


class StackFrame(TypedDict):
    """One call on a thread's stack; `code` is the line's text, null where it was not at hand."""

    file: str
    line: int
    function: str
    code: str | None


class ThreadAtEnd(TypedDict):
    """Where a thread stood; `name` is null for a raw thread, `stack` has the innermost call last.

    `holds` and `waits_for` are of locks with names only, and `waits_for` is null for a wait with a time limit. Of a
    thread that the fault handler told of, `holds` is null, and `daemon`, too, unless its start was recorded.
    """

    name: str | None
    ident: int
    daemon: bool | None
    main: bool
    stack: list[StackFrame]
    holds: list[str] | None
    waits_for: str | None


class CycleLink(TypedDict):
    """A thread that waits for the lock that the next one holds; null is what it does not hold, or wait for."""

    thread: str
    holds: str | None
    waits_for: str | None


class Autopsy(TypedDict):
    """Where every thread of a job stood that did not end by itself; `cycle` is null unless threads waited in one.

    `by`: told by the child itself, or by CPython's fault handler where the child could not any more.
    """

    by: Literal["child", "fault_handler"]
    threads: list[ThreadAtEnd]
    threads_left_out: int | None
    cycle: list[CycleLink] | None


class Result(TypedDict):
    """What a run showed; null is what was not measured, never 0."""

    outcome: str | None
    grade: Grade | None
    meaning: str | None
    values: dict[str, Any]
    timings: Timings
    active_threads: ActiveThreads
    threads: list[ThreadRow]
    output: list[OutputLine]
    output_dropped: int | None
    process: ProcessEnd
    warnings: list[str]
    gil: Gil | None  # null where the interpreter did not say whether it has one
    trace: Tracing
    autopsy: Autopsy | None  # null for a job that ended by itself, or had no time to tell


class Failure(TypedDict):
    """Why a job did not succeed."""

    type: str
    message: str
    traceback: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What an executor says of one run."""

    status: JobState
    result: Result | None
    error: Failure | None
    python: dict[str, Any] | None
    machine: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class JobHead:
    """A job as lists show it: without what its run told, of which there can be megabytes. Fields as in `Job`."""

    id: str
    status: JobState
    scenario: str
    label: str | None
    attempt: int
    lane: Lane
    rerun_of: str | None
    request: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str | None
    grade: Grade | None


@dataclass(frozen=True, slots=True)
class Job:
    """One request to run one scenario once, and what became of it.

    Attributes:
        request: the scenario's name, its parameters and the job's options, every default filled in.
        lane: which ThreadPoolExecutor carries it.
        attempt: how often it was started, but for the starts that a stop of the service cut short; 0 before the first.
    """

    id: str
    scenario: str
    lane: Lane
    request: dict[str, Any]
    created_at: datetime
    label: str | None = None
    rerun_of: str | None = None
    status: JobState = JobState.QUEUED
    attempt: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    python: dict[str, Any] | None = None
    machine: dict[str, Any] | None = None
    result: Result | None = None
    error: Failure | None = None

    @property
    def finished(self) -> bool:
        """Whether its state will never change again."""
        return self.status in FINAL

    @property
    def outcome(self) -> str | None:
        """What was observed; None before there is a result, and of one that has none."""
        return self.result["outcome"] if self.result else None

    @property
    def grade(self) -> Grade | None:
        """How that is judged."""
        return self.result["grade"] if self.result else None

    def head(self) -> JobHead:
        """Return the job as lists show it."""
        return JobHead(**{field.name: getattr(self, field.name) for field in fields(JobHead)})

    def start(self, now: datetime) -> Job:
        """Return the job as it is when a lane takes it up."""
        self._check(JobState.RUNNING)
        return replace(self, status=JobState.RUNNING, attempt=self.attempt + 1, started_at=now)

    def put_back(self, *, counted: bool = True) -> Job:
        """Return the job as it waits again after a run that was not its fault to lose.

        Args:
            counted: whether that was one of its attempts.
        """
        self._check(JobState.QUEUED)
        return replace(self, status=JobState.QUEUED, started_at=None, attempt=self.attempt - (not counted))

    def finish(self, report: Report, now: datetime, queued_s: float | None = None) -> Job:
        """Return the job with what its run showed.

        Args:
            queued_s: seconds from accepted to taken up, if one clock could measure that.
        """
        self._check(report.status)
        result = report.result
        if result is not None:
            result = {**result, "timings": {**result["timings"], "queued_s": queued_s}}
        return replace(
            self,
            status=report.status,
            finished_at=now,
            python=report.python,
            machine=report.machine,
            result=result,
            error=report.error,
        )

    def end_without_run(self, status: JobState, now: datetime, error: Failure | None = None) -> Job:
        """Return the job cancelled or lost before any run of it could report."""
        self._check(status)
        return replace(self, status=status, finished_at=now, error=error)

    def story(self) -> str:
        """What happened to this job so far, for an error's text."""
        steps = [f"queued {self.created_at.isoformat()}"]
        if self.started_at is not None:
            steps.append(f"running {self.started_at.isoformat()} (attempt {self.attempt})")
        if self.finished_at is not None:
            steps.append(f"{self.status} {self.finished_at.isoformat()}")
        return f"{self.id}: " + " -> ".join(steps)

    def _check(self, to: JobState) -> None:
        if to not in LEGAL_MOVES[self.status]:
            raise errors.IllegalMove(f"A job that is {self.status} cannot become {to}. {self.story()}")
