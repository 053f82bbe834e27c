"""The seam between a job and a way to run it.

Who uses it: `runner` calls `JobExecutor.run` on a pool thread of its own for each running job. Implementations stand
beside this file; `tests/executors/test_contract.py` runs over all of them.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from service.catalog import Scenario
from service.events import JobEvent, Trace
from service.jobs import Report

__all__ = ["Build", "Cancel", "GilSwitch", "Interpreter", "JobExecutor", "Kept", "Order", "Sink", "Wall"]

GilSwitch = Literal["on", "off"]

Sink = Callable[[list[JobEvent]], None]
"""Takes what a run tells, as it comes and in that order, on the thread that runs the job; must be quick."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How much is kept of one run.

    Attributes:
        output_bytes: printed text.
        events: events besides the starts and ends of threads.
    """

    output_bytes: int
    events: int


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that is needed to run a job, on any machine.

    Attributes:
        digest: SHA-256 of `source`, in hex.
        source: the text of the scenario's file.
        params: the scenario's parameters as JSON values, every default filled in.
        timeout_s: seconds from the start of the scenario to its deadline.
        kept: how much of what it tells is kept.
        trace: what is recorded of its threads.
        python: which interpreter, as `Interpreters` reads it; None is the default one.
        gil: `on` or `off` where the interpreter has the choice; None leaves it its own way.
    """

    job_id: str
    scenario: str
    digest: str
    source: str
    params: dict[str, Any]
    timeout_s: float
    kept: Kept
    trace: Trace = "threads"
    python: str | None = None
    gil: GilSwitch | None = None

    @classmethod
    def of(cls, job_id: str, scenario: Scenario, request: Mapping[str, Any], kept: Kept) -> Order:
        """Return the order for a request of a scenario, every default filled in."""
        return cls(
            job_id=job_id,
            scenario=scenario.name,
            digest=scenario.digest,
            source=scenario.source,
            params={name: request[name] for name in scenario.fields() if name in request},  # some may be newer
            timeout_s=request["timeout_s"],
            kept=kept,
            trace=request.get("trace", "threads"),  # absent from jobs of before there was a choice, as the next two
            python=request.get("python"),
            gil=request.get("gil"),
        )


class Build(TypedDict):
    """How an interpreter was built."""

    compiler: str
    debug: bool
    optimized: bool  # with profile-guided optimization
    lto: bool
    jit: bool


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter that was found on a machine, and what it says of itself; null where it did not say.

    Attributes:
        selector: the shortest `python` that means this one.
        build_id: differs between any two builds whose behaviour may differ.
        free_threaded: built to run without the GIL (PEP 703), which can then be switched on and off.
        gil: whether the GIL is on when nobody asks for anything else.
        subinterpreters: whether a program can make interpreters with a GIL each (PEP 734; on 3.13 a private module).
        usable: whether jobs can run on it; `reason`: why not.
    """

    selector: str
    executable: str
    default: bool
    usable: bool
    reason: str | None
    machine: dict[str, Any] | None = None
    version: str | None = None
    implementation: str | None = None
    free_threaded: bool | None = None
    gil: bool | None = None
    gil_switchable: bool | None = None
    switch_interval_s: float | None = None
    subinterpreters: bool | None = None
    build: Build | None = None
    build_id: str | None = None


@dataclass(frozen=True, slots=True)
class Wall:
    """Something that shuts children in, or would.

    Attributes:
        name: what it is about, in one word.
        by: what enforces it, and how far.
        missing: why it does not stand here; None where it does.
    """

    name: str
    by: str
    missing: str | None


class Cancel:
    """A wish that a job end, which an executor can wait for by any means.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wished = False  # guarded by _lock
        self._wake: Callable[[], object] | None = None  # guarded by _lock

    def wish(self) -> None:
        """Ask for the end; once said it stays said."""
        with self._lock:
            self._wished = True
            if self._wake is not None:
                self._wake()

    @property
    def wished(self) -> bool:
        """Whether anybody asked."""
        return self._wished

    def wait(self, timeout_s: float) -> None:
        """Return when somebody asks, or after so many seconds."""
        woken = threading.Event()
        with self.waking(woken.set):
            woken.wait(timeout_s)

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Call `wake` as soon as somebody asks, at once if somebody already has; never after the block."""
        with self._lock:
            self._wake = wake
            if self._wished:
                wake()
        try:
            yield
        finally:
            with self._lock:
                self._wake = None


class JobExecutor(ABC):
    """Runs jobs, one call each.

    Thread safety: `run` is called from many threads at once.
    """

    @abstractmethod
    def start(self) -> None:
        """Get ready, or see that everything still is; what can fail early fails here.

        Raises:
            ExecutorError: nothing can be run.
        """

    @abstractmethod
    def interpreters(self) -> list[Interpreter]:
        """Return what was found, usable or not, the default first."""

    @abstractmethod
    def choose(self, python: str | None, gil: GilSwitch | None) -> Interpreter:
        """Return the interpreter that a job with these options runs on.

        Raises:
            InterpreterNotFound: there is none; the text says what there is.
        """

    @abstractmethod
    def walls(self) -> list[Wall]:
        """Return what keeps scenarios from whatever is not theirs, and what would, but is missing here.

        Raises:
            ExecutorError: nothing can be run, and so nothing be said.
        """

    @abstractmethod
    def run(self, order: Order, sink: Sink, cancel: Cancel) -> Report:
        """Run the job to its end, tell what happens as it happens, and say what it showed.

        Returns:
            A report whose status is final. Whatever the scenario does ends up in there.

        Raises:
            ExecutorError: the run failed through no fault of the job, which may be tried again.
        """

    @abstractmethod
    def close(self) -> None:
        """End everything that still runs. Idempotent."""
