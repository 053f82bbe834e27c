"""The shapes of answers.

Who uses it: the endpoints, and FastAPI for the OpenAPI document. Answers are written as they are; that they have these
shapes is pinned by tests.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from service.events import Basis, EventType, Trace
from service.experiments import Analysis, Better
from service.experiments.experiment import Experiment, ExperimentState
from service.jobs import Grade, Job, JobState, Lane

__all__ = [
    "Atomicity",
    "Capacity",
    "EventPage",
    "ExperimentList",
    "ExperimentView",
    "Health",
    "InterpreterList",
    "JobList",
    "JobView",
    "Problem",
    "ScenarioList",
    "ScenarioView",
    "experiment_head",
    "experiment_view",
    "job_list_item",
    "job_view",
]


class _Answer(BaseModel):
    """Base of the answers: descriptions stand under the fields, and nothing undocumented is answered."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class TimingsView(_Answer):
    """Seconds; each from one clock of one process; null where it was not measured."""

    queued_s: float | None
    """From accepted to taken up, by the service's clock; null if an earlier start of the service had accepted it."""
    startup_s: float | None
    """From asking for a child process to its first word that the scenario begins, by the service's clock."""
    wall_s: float | None
    """Around the scenario's own work, inside the child."""
    cpu_s: float | None
    """CPU time of all threads of the child during that work."""


class ActiveThreadsView(_Answer):
    """`threading.active_count()` of the child, the main thread included."""

    before: int | None
    """Before the scenario began."""
    peak: int | None
    """The highest count seen, taken as each thread began."""
    after: int | None
    """When the scenario's own work was done; null if it did not get there."""


class ThreadView(_Answer):
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
    """Waiting for locks, as the next two with `trace: locks` only."""
    lock_acquires: int | None = None
    lock_waits: int | None = None
    """How often it had to wait for one."""
    voluntary_switches: int | None
    """Context switches because it waited (Linux)."""
    involuntary_switches: int | None
    """Context switches because another thread was given the core (Linux)."""


class OutputLineView(_Answer):
    """A printed line."""

    at_s: float
    """Seconds after the scenario began, at the line's first character."""
    thread: str | None
    """Who printed it; null for output from C."""
    line: str


class ProcessView(_Answer):
    """How the child process ended, observed from outside by its parent."""

    pid: int | None
    exit_code: int | None
    signal: str | None
    lived_s: float | None
    """Seconds from the fork to the end of the process, by its parent's clock."""
    cpu_s: float | None
    max_rss_bytes: int | None


class StackFrameView(_Answer):
    """One call on a thread's stack."""

    file: str
    line: int
    function: str
    code: str | None
    """The line's text; null where it was not at hand, as for most of the standard library."""


class ThreadAtEndView(_Answer):
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


class CycleLinkView(_Answer):
    """One thread of those that wait for each other."""

    thread: str
    holds: str | None
    """The lock for which the one before waits."""
    waits_for: str | None
    """The lock that the next one holds, after the last one the first; null if it has ended and left its lock locked."""


class AutopsyView(_Answer):
    """Where every thread stood when the service ended the job, before any of them was told, or when it crashed."""

    by: Literal["child", "fault_handler"]
    """Who told: the child itself, or, where it held the GIL in C code or crashed, CPython's fault handler."""
    threads: list[ThreadAtEndView]
    """In the order in which they started, the main thread first."""
    threads_left_out: int
    """How many more there were than are listed."""
    cycle: list[CycleLinkView] | None
    """The threads that waited for each other, of the locks that have a name; null if none did."""


class GilView(_Answer):
    """How much the global interpreter lock was in the way."""

    enabled: bool
    contention: float | None
    """Of the time in which threads ran or could have run, the share that they waited for the GIL, 0 to 1: an upper
    bound, as `gil_wait_s` is; the main thread is left out."""
    method: Literal["accounting"]
    """`accounting`: from what the system counted of each thread."""
    basis: dict[str, Basis | None]
    """How the threads' `cpu_s`, `core_wait_s`, `lock_wait_s` and `gil_wait_s` were found; null where they were not."""


class TracingView(_Answer):
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


class ResultView(_Answer):
    """What the run showed. What was not measured is null, never 0."""

    outcome: str | None
    """One of the scenario's outcomes; `stuck` if the job had not ended at its deadline, or never could."""
    grade: Grade | None
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


class FailureView(_Answer):
    """Why a job did not succeed."""

    type: str
    message: str
    traceback: str | None
    """The scenario's own traceback; never one of the service."""


class PythonView(_Answer):
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


class MachineView(_Answer):
    """The machine that ran the scenario."""

    cpus: int | None
    usable_cpus: int | None
    platform: str


class _JobHead(_Answer):
    """What every account of a job begins with."""

    id: str
    status: JobState
    scenario: str
    label: str | None
    attempt: int
    """How often it was started; more than 1 after a restart of the service."""
    lane: Lane
    """`cpu`: runs alone; `wait`: runs beside many others."""
    rerun_of: str | None
    request: dict[str, Any]
    """Every default filled in."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobLinks(_Answer):
    """Where more of it is."""

    self: str
    events: str
    output: str
    trace: str
    """For Perfetto and `chrome://tracing`."""
    timeline: str
    """A picture."""
    page: str
    """For people."""


class JobView(_JobHead):
    """A job and what became of it."""

    links: JobLinks

    python: PythonView | None
    machine: MachineView | None
    result: ResultView | None
    error: FailureView | None


class JobListItem(_JobHead):
    """A job in a list: without its threads and its output."""

    outcome: str | None
    grade: Grade | None


class JobList(_Answer):
    """Jobs, newest first."""

    jobs: list[JobListItem]
    next_cursor: str | None
    """Give this as `cursor` for the page of older jobs; null on the last one."""


class EventView(BaseModel):
    """One event; which fields it has besides depends on its type.

    - `state`: `at`, `status`, `attempt`, `reason`; the last one also `outcome`, `grade`, `meaning`.
    - `started`: `at_s`, `active_threads`; the scenario begins, and `at_s` counts from here.
    - `start`: `daemon`, `ident`, `native_id`, `active_threads`. `end`: `cpu_s`.
    - `wait`, `acquire`, `release`, `give_up`: `lock`; with `trace: locks`.
    - `note`: `text`. `progress`: `done`, `of`. `output`: `line`.

    All but the first two have `at_s`, `thread` and `number`, the thread's own number in its job; 0 is the main thread.
    """

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    id: str
    """Grows with each event and is never used again."""
    type: EventType


class EventPage(_Answer):
    """Events, in the order in which they were told."""

    events: list[EventView]
    next_cursor: str | None
    """Give this as `cursor` for what comes after; null if nothing will."""


class ExampleView(_Answer):
    """A request that can be posted as it stands."""

    caption: str
    body: dict[str, Any]


class OutcomeView(_Answer):
    """What a scenario can end with."""

    outcome: str
    grade: Grade
    meaning: str


class ScenarioItem(_Answer):
    """A scenario in a list."""

    name: str
    title: str
    summary: str
    origin: str
    """`built-in`, or the distribution that brought it."""


class UnavailableView(_Answer):
    """A scenario that breaks a rule and cannot be run."""

    name: str
    origin: str
    reason: str


class ScenarioList(_Answer):
    """What can be run, and what cannot."""

    scenarios: list[ScenarioItem]
    unavailable: list[UnavailableView]


class MeasureView(_Answer):
    """What is compared. The end of the name is its unit: `_s` seconds, `_bytes`, `_per_s` per second, else a number."""

    name: str
    better: Better
    """Which way is better."""


class ScenarioView(ScenarioItem):
    """All about one scenario."""

    text: str
    """Its docstring: why it happens, what was observed, sources."""
    digest: str
    """SHA-256 of its source."""
    parameters: dict[str, Any]
    """JSON Schema of the request."""
    examples: list[ExampleView]
    outcomes: list[OutcomeView]
    """For the default parameters."""
    measures: list[MeasureView]
    """What an experiment can compare; the first is compared when it does not say."""


class BuildView(_Answer):
    """How an interpreter was built."""

    compiler: str
    debug: bool
    optimized: bool
    """With profile-guided optimization."""
    lto: bool
    """With link-time optimization."""
    jit: bool
    """With the just-in-time compiler, and that is available."""


class InterpreterView(_Answer):
    """An interpreter that was found, and what it says of itself; null where it did not say."""

    selector: str
    """The shortest value of a job's `python` that means this one."""
    executable: str
    default: bool
    """Whether jobs run on it that do not ask for one."""
    usable: bool
    """Whether jobs can run on it."""
    reason: str | None
    """Why not."""
    version: str | None
    implementation: str | None
    free_threaded: bool | None
    """Whether it was built to run without the global interpreter lock (PEP 703)."""
    gil: bool | None
    """Whether that lock is on when a job does not say."""
    gil_switchable: bool | None
    """Whether a job's `gil` can switch it."""
    switch_interval_s: float | None
    """`sys.getswitchinterval()` of a fresh process."""
    subinterpreters: bool | None
    """Whether a program can make interpreters with a lock each (PEP 734; on 3.13 by a private module)."""
    build: BuildView | None
    build_id: str | None
    """`sys.version`: what was measured on one build is not taken for another."""
    machine: MachineView | None


class InterpreterList(_Answer):
    """What was found, the default first, then the usable ones, the newest first."""

    interpreters: list[InterpreterView]


class ProgressView(_Answer):
    """How many runs are finished, of how many."""

    done: int
    of: int


class OutcomeCountView(_Answer):
    """In how many runs an outcome was seen."""

    count: int
    grade: Grade | None


class RawRunView(_Answer):
    """One run."""

    repeat: int
    value: float | None
    """Of the measure; null where the run has none."""
    job_id: str


class RowView(_Answer):
    """One cell's statistics; null is what cannot be said."""

    cell: int
    values: dict[str, Any]
    """The varied fields."""
    n: int
    """Runs with a value of the measure."""
    runs: int
    """Finished runs."""
    median: float | None
    mad: float | None
    """Median absolute deviation from the median, unscaled."""
    min: float | None
    max: float | None
    interval: list[float] | None
    """Lowest and highest value of a 95 % interval of the median, by ranks; under 6 runs the least and the greatest."""
    interval_coverage: float | None
    """How often such an interval holds the true median: 0.95 or more from 6 runs on."""
    baseline: int | None
    """The cell that this one is compared with."""
    speedup: float | None
    """Against the baseline; above 1 is better, whichever way the measure goes."""
    speedup_interval: list[float] | None
    """A 95 % bootstrap interval."""
    p: float | None
    """Two-sided Mann-Whitney test against the baseline."""
    significant: bool | None
    """Whether the interval excludes 1 and p is under 0.05; null if so few runs could never tell."""
    efficiency: float | None
    """Speedup for each worker that the baseline has one of."""
    outcomes: dict[str, OutcomeCountView]
    statuses: dict[str, int]
    """Final states of the jobs that did not succeed."""
    raw: list[RawRunView]
    """In the order of the repeats."""
    python: str | None
    """The version that ran it."""


class RunnerUpView(_Answer):
    """The cell with the second best median, and how much better than it the best one is."""

    cell: int
    speedup: float | None
    speedup_interval: list[float] | None
    significant: bool | None


class KneeView(_Answer):
    """The smallest number of workers after which no larger one is significantly better and by 5 % or more."""

    field: str
    value: float
    cell: int
    others: dict[str, Any]
    """The values of the other fields: each combination has its knee."""
    at_start: bool
    """Whether it is the smallest number that was measured: more workers never helped."""
    at_end: bool
    """Whether it is the largest number that was measured: then no knee was seen."""


class VerdictView(_Answer):
    """What the experiment showed, and how sure that is."""

    text: str
    best: int | None
    """The cell with the best median of those without a forbidden outcome."""
    reason: str
    significant: bool | None
    """Whether the best differs from its baseline, or from the second best where it is its own."""
    second: RunnerUpView | None
    knee: KneeView | None
    knees: list[KneeView]


class NotCoveredView(_Answer):
    """What was asked for and could not be run."""

    values: dict[str, Any]
    reason: str


class CautionView(_Answer):
    """Something to bear in mind, and what to do about it."""

    cell: int | None
    text: str
    remedy: str


class ExperimentLinks(_Answer):
    """Where more of it is."""

    self: str
    chart: str
    """A picture."""
    table: str
    """Its rows as CSV."""
    jobs: str
    """Its runs."""


class ExperimentItem(_Answer):
    """An experiment in a list: without its rows."""

    id: str
    links: ExperimentLinks
    status: ExperimentState
    scenario: str
    label: str | None
    request: dict[str, Any]
    """What was asked for, every default filled in: `vary`, `repeats`, `seed`, and the fields that are the same in all
    cells."""
    measure: MeasureView
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class ExperimentView(ExperimentItem):
    """An experiment, and what it has shown so far. Its jobs are those with the label `id`."""

    machine: MachineView
    error: FailureView | None
    """Why it could not go on."""
    baseline: dict[str, Any]
    """The values of the cell or cells that the others are compared with."""
    progress: ProgressView
    verdict: VerdictView
    rows: list[RowView]
    """One for each cell, in their order; while it runs, of what is there."""
    not_covered: list[NotCoveredView]
    warnings: list[CautionView]


class ExperimentList(_Answer):
    """Experiments, newest first."""

    experiments: list[ExperimentItem]
    next_cursor: str | None
    """Give this as `cursor` for the page of older ones; null on the last one."""


class InstructionView(_Answer):
    """An instruction of an operation, as this interpreter compiled it."""

    offset: int
    opname: str
    argrepr: str
    line: int
    source: str
    switch: bool
    """Whether another thread can come in here."""
    why: str | None
    """Why."""
    role: str | None
    """`read` or `write`: between these two an update can be lost."""


class AtomicityCell(_Answer):
    """One operation on one interpreter; null is what is not measured yet."""

    operation: str
    python: str
    """The interpreter's selector."""
    status: JobState
    """Of the job that measures it. One that did not succeed is measured anew when its job is deleted."""
    job_id: str
    measured_at: datetime | None
    outcome: str | None
    """`lost`, or `not_seen`."""
    grade: Grade | None
    code: str | None
    finding: str | None
    """What was seen, in a sentence."""
    expected: int | None
    actual: int | None
    lost: int | None
    lost_share: float | None
    """Lost updates as a share of all, in the runs of the length that showed it, or of the longest."""
    smallest_iterations: int | None
    """How often each thread did it in the smallest run that lost one; null if none did."""
    runs: int | None
    runs_that_lost: int | None
    operations_done: int | None
    gap_has_switch: bool | None
    """Whether another thread can come in between the read and the write."""
    switch_rule: str | None
    """Where this interpreter lets another thread come in, with the source."""
    instructions: list[InstructionView] | None
    error: FailureView | None


class AtomicityInterpreter(_Answer):
    """A build that was measured; what is remembered is true of it alone."""

    selector: str
    version: str | None
    free_threaded: bool | None
    gil: bool | None
    build_id: str | None
    executable: str


class Atomicity(_Answer):
    """Everyday operations by interpreters: what was seen to be lost. Never a promise that nothing can be."""

    note: str
    complete: bool
    """Whether all of it is measured."""
    progress: ProgressView
    operations: list[str]
    interpreters: list[AtomicityInterpreter]
    cells: list[AtomicityCell]
    """All operations of the first interpreter, then of the next."""


class LaneView(_Answer):
    """How full a lane is."""

    queued: int
    running: int
    slots: int


class WallView(_Answer):
    """Something that keeps scenarios from whatever is not theirs."""

    name: str
    by: str
    """What enforces it, and how far."""
    missing: str | None
    """Why it does not stand on this system; null where it does."""


class Capacity(_Answer):
    """How full the service is, and the limits in force."""

    lanes: dict[Lane, LaneView]
    limits: dict[str, float]
    """By the names of the settings that set them."""
    walls: list[WallView]
    """What keeps scenarios in, on the default interpreter: what is enforced here by what, and what is not."""


class Health(_Answer):
    """A probe's answer."""

    status: Literal["ok", "ready"]


class FieldProblem(BaseModel):
    """One thing that is wrong with a request; where it stands, what is allowed there, and the nearest valid value."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    detail: str
    pointer: str | None = None
    """RFC 6901 pointer into the body, as a URI fragment."""
    parameter: str | None = None
    """Name of a query or path parameter."""
    header: str | None = None
    allowed: Any = None
    """A list of names, or JSON Schema keywords."""
    nearest: Any = None
    """The valid value closest to what was given."""


class PartHealth(BaseModel):
    """How one part of the service is."""

    name: Literal["store", "executor"]
    ready: bool
    reason: str | None
    """Why it is not."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Problem(BaseModel):
    """An error, after RFC 9457."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str
    """A page that says what this kind of problem means and what to do."""
    title: str
    status: int
    detail: str
    request_id: str | None = None
    """The same as in the header `X-Request-ID` and in the service's log."""
    errors: list[FieldProblem] | None = None
    parts: list[PartHealth] | None = None
    """Of a service that is not ready: all its parts, those that are well included."""


def job_view(job: Job) -> dict[str, Any]:
    """Return a job in the shape of `JobView`, ready for JSON."""
    result = job.result and {"autopsy": None, "gil": None, "trace": None, **job.result}  # older results have none
    return {
        "id": job.id,
        "links": _links(job.id),
        "status": job.status.value,
        "scenario": job.scenario,
        "label": job.label,
        "attempt": job.attempt,
        "lane": job.lane,
        "rerun_of": job.rerun_of,
        "request": job.request,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "python": job.python,
        "machine": job.machine,
        "result": result,
        "error": job.error,
    }


def _links(job_id: str) -> dict[str, str]:
    path = f"/v1/jobs/{job_id}"
    return {
        "self": path,
        "events": f"{path}/events",
        "output": f"{path}/output",
        "trace": f"{path}/trace.json",
        "timeline": f"{path}/timeline.svg",
        "page": f"/?job={job_id}",
    }


def job_list_item(job: Job) -> dict[str, Any]:
    """Return a job in the shape of `JobListItem`, ready for JSON."""
    view = job_view(job)
    for name in ("links", "python", "machine", "result", "error"):
        del view[name]
    view["outcome"] = job.result["outcome"] if job.result else None
    view["grade"] = job.result["grade"] if job.result else None
    return view


def experiment_head(experiment: Experiment) -> dict[str, Any]:
    """Return an experiment in the shape of `ExperimentItem`, ready for JSON."""
    return {
        "id": experiment.id,
        "links": {
            "self": f"/v1/experiments/{experiment.id}",
            "chart": f"/v1/experiments/{experiment.id}/chart.svg",
            "table": f"/v1/experiments/{experiment.id}/table.csv",
            "jobs": f"/v1/jobs?label={experiment.id}",
        },
        "status": experiment.status.value,
        "scenario": experiment.scenario,
        "label": experiment.label,
        "request": {
            "scenario": experiment.scenario,
            "vary": experiment.vary,
            "repeats": experiment.repeats,
            "seed": experiment.seed,
            "measure": experiment.measure.name,
            "baseline": experiment.baseline,
            "label": experiment.label,
            **{name: value for name, value in experiment.fixed.items() if name not in ("scenario", "label")},
        },
        "measure": {"name": experiment.measure.name, "better": experiment.measure.better},
        "created_at": experiment.created_at,
        "started_at": experiment.started_at,
        "finished_at": experiment.finished_at,
    }


def experiment_view(experiment: Experiment, analysis: Analysis) -> dict[str, Any]:
    """Return an experiment in the shape of `ExperimentView`, ready for JSON."""
    return {
        **experiment_head(experiment),
        "machine": experiment.machine,
        "error": experiment.error,
        **{name: analysis[name] for name in ("baseline", "progress", "verdict", "rows", "not_covered", "warnings")},
    }
