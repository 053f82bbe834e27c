"""What a run showed: its result, and what it ran on."""

from typing import Any, Literal

from service.api.schemas.base import Answer
from service.events import Basis, Trace
from service.jobs import Grade

__all__ = ["FailureView", "MachineView", "PythonView", "ResultView"]


class TimingsView(Answer):
    """Seconds; each from one clock of one process; null where it was not measured."""

    queued_s: float | None
    """From accepted to taken up, by the service's clock; null if an earlier start of the service had accepted it."""
    startup_s: float | None
    """From asking for a child process to its first word that the scenario begins, by the service's clock."""
    wall_s: float | None
    """Around the scenario's own work, inside the child."""
    cpu_s: float | None
    """CPU time of all threads of the child during that work."""


class ActiveThreadsView(Answer):
    """`threading.active_count()` of the child, the main thread included."""

    before: int | None
    """Before the scenario began."""
    peak: int | None
    """The highest count seen, taken as each thread began: fewer than all where the first end before the last begin."""
    after: int | None
    """When the scenario's own work was done; null if it did not get there."""


class ThreadView(Answer):
    """One thread, as it measured itself."""

    name: str
    number: int | None = None
    """Its own in this job; the main thread, which is not listed, is 0."""
    daemon: bool
    ident: int
    """`threading.get_ident()`; may be used again after the thread's end."""
    native_id: int | None
    """The number that the operating system gave it."""
    started_s: float
    """Seconds after the scenario began."""
    ended_s: float | None
    """Seconds after the scenario began; null if it was still running when last heard of."""
    cpu_s: float | None
    core_wait_s: float | None = None
    """Ready to run, but without a core, from the moment it was made (Linux)."""
    gil_wait_s: float | None = None
    """Ready to run, but without the GIL: at most this. Short waits for locks are in it, unless locks were traced."""
    lock_wait_s: float | None = None
    """Waiting for locks that the scenario took from its lab, as the next two with `trace: locks` only, and null if it
    took none. Semaphores, conditions, events, barriers, queues and locks of another kind are not seen."""
    lock_acquires: int | None = None
    """How often it took one of these locks."""
    lock_waits: int | None = None
    """How often it had to wait for one of these locks."""
    voluntary_switches: int | None
    """Context switches because it waited (Linux)."""
    involuntary_switches: int | None
    """Context switches because another thread was given the core (Linux)."""


class OutputLineView(Answer):
    """A printed line."""

    at_s: float
    """Seconds after the scenario began, at the line's first character."""
    thread: str | None
    """Who printed it; null for output from C."""
    line: str


class ProcessView(Answer):
    """How the child process ended, observed from outside by its parent."""

    pid: int | None
    exit_code: int | None
    signal: str | None
    lived_s: float | None
    """Seconds from the fork to the end of the process, by its parent's clock."""
    cpu_s: float | None
    max_rss_bytes: int | None


class StackFrameView(Answer):
    """One call on a thread's stack."""

    file: str
    line: int
    function: str
    code: str | None
    """The line's text; null where it was not at hand, as for most of the standard library."""


class ThreadAtEndView(Answer):
    """Where a thread stood when the job was ended."""

    name: str | None
    """Null for a thread that `threading` does not know."""
    ident: int
    daemon: bool | None
    """Null where that was not recorded."""
    main: bool
    """Whether it is the main thread."""
    stack: list[StackFrameView]
    """The scenario's part of it, the innermost call last; of a deep one the innermost 50."""
    holds: list[str] | None
    """The locks that it held, of those that have a name; null where only the fault handler could tell."""
    waits_for: str | None
    """The lock for which it waited without a time limit, if that lock has a name."""


class CycleLinkView(Answer):
    """One thread of those that wait for each other."""

    thread: str
    holds: str | None
    """The lock for which the one before waits."""
    waits_for: str | None
    """The lock that the next one holds, after the last one the first; null if it has ended and left its lock locked."""


class AutopsyView(Answer):
    """Where every thread stood when the service ended the job, before any of them was told, or when it crashed."""

    by: Literal["child", "fault_handler"]
    """Who told: the child itself, or, where it held the GIL in C code or crashed, CPython's fault handler."""
    threads: list[ThreadAtEndView]
    """In the order in which they started, the main thread first."""
    threads_left_out: int | None
    """How many more there were than are listed; null where only the fault handler could tell, which tells of a hundred,
    and no starts of threads were recorded."""
    cycle: list[CycleLinkView] | None
    """The threads that waited for each other, of the locks that have a name; null if none did."""


class GilView(Answer):
    """How much the global interpreter lock was in the way."""

    enabled: bool
    contention: float | None
    """Of the lives of all threads together, the share that they waited for the GIL, 0 to 1: an upper bound, as
    `gil_wait_s` is. Threads that sleep have nearly 0, four that compute by turns 0.75. The main thread is left out."""
    method: Literal["accounting"]
    """`accounting`: from what the system counted of each thread."""
    basis: dict[str, Basis | None]
    """How the threads' `cpu_s`, `core_wait_s`, `lock_wait_s` and `gil_wait_s` were found; null where they were not.
    `lock_wait_s` is measured of the locks that the scenario took from its lab, and of nothing else that threads wait
    for."""


class TracingView(Answer):
    """What was recorded, and what that cost."""

    mode: Trace
    events: int
    """Kept, starts and ends of threads included."""
    dropped: int | None
    """Events beyond the limit."""
    cost_s: float | None
    """CPU time of the stamps on the scenario's threads, estimated after the run; null where no lock was traced. Not in
    it: sending the events that are kept, and hand-overs: whoever is slower while holding a lock is interrupted more
    often while holding it, and others then wait where none had to."""


class ResultView(Answer):
    """What the run showed. What was not measured is null, never 0."""

    outcome: str | None
    """One of the scenario's outcomes; `stuck` if the job had not ended at its deadline, or never could."""
    grade: Grade | None
    """How the outcome is judged; `stuck` is `forbidden` only if a deadlock was seen where none may be."""
    meaning: str | None
    """The outcome in one sentence."""
    values: dict[str, Any]
    """What the scenario counted and measured."""
    timings: TimingsView
    active_threads: ActiveThreadsView
    threads: list[ThreadView]
    """In the order in which they started; the main thread is not listed."""
    output: list[OutputLineView]
    output_dropped: int | None
    """Lines beyond the limit on output."""
    process: ProcessView
    warnings: list[str]
    gil: GilView | None = None
    trace: TracingView | None = None
    autopsy: AutopsyView | None
    """Null for a job that ended by itself, and for one that had no time to tell before it was killed."""


class FailureView(Answer):
    """Why a job did not succeed."""

    type: str
    message: str
    traceback: str | None
    """The scenario's own traceback; never one of the service."""


class PythonView(Answer):
    """The interpreter that ran the scenario."""

    version: str
    implementation: str
    gil: bool
    """Whether the global interpreter lock was on."""
    free_threaded: bool = False
    """Whether it was built to run without that lock (PEP 703)."""
    executable: str
    switch_interval_s: float
    """`sys.getswitchinterval()` at the end of the scenario."""


class MachineView(Answer):
    """The machine that ran the scenario."""

    cpus: int | None
    usable_cpus: int | None
    platform: str
