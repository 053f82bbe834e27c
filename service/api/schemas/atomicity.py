"""Which operations lost updates, on which interpreter."""

from datetime import datetime

from service.api.schemas.base import Answer
from service.api.schemas.experiments import ProgressView
from service.api.schemas.results import FailureView
from service.jobs import Grade, JobState

__all__ = ["Atomicity"]


class InstructionView(Answer):
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


class AtomicityCell(Answer):
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


class AtomicityInterpreter(Answer):
    """A build that was measured; what is remembered is true of it alone."""

    selector: str
    version: str | None
    free_threaded: bool | None
    gil: bool | None
    build_id: str | None
    executable: str


class Atomicity(Answer):
    """Everyday operations by interpreters: what was seen to be lost. Never a promise that nothing can be."""

    note: str
    complete: bool
    """Whether all of it is measured."""
    progress: ProgressView
    operations: list[str]
    interpreters: list[AtomicityInterpreter]
    cells: list[AtomicityCell]
    """All operations of the first interpreter, then of the next."""
