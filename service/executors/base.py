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
from typing import Any

from service.catalog import Scenario
from service.jobs import Report

__all__ = ["Cancel", "Interpreter", "JobExecutor", "Order"]


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that is needed to run a job, on any machine.

    Attributes:
        digest: SHA-256 of `source`, in hex.
        source: the text of the scenario's file.
        params: the scenario's parameters as JSON values, every default filled in.
        timeout_s: seconds from the start of the scenario to its deadline.
        max_output_bytes: how much of what is printed is kept.
    """

    job_id: str
    scenario: str
    digest: str
    source: str
    params: dict[str, Any]
    timeout_s: float
    max_output_bytes: int

    @classmethod
    def of(cls, job_id: str, scenario: Scenario, request: Mapping[str, Any], max_output_bytes: int) -> Order:
        """Return the order for a request of a scenario, every default filled in."""
        return cls(
            job_id=job_id,
            scenario=scenario.name,
            digest=scenario.digest,
            source=scenario.source,
            params={name: request[name] for name in scenario.fields()},
            timeout_s=request["timeout_s"],
            max_output_bytes=max_output_bytes,
        )


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter that can run jobs, and the machine it is on, in the terms of an answer."""

    python: dict[str, Any]
    machine: dict[str, Any]


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
        """Return what can run jobs, the default first.

        Raises:
            ExecutorError: nothing can.
        """

    @abstractmethod
    def run(self, order: Order, cancel: Cancel) -> Report:
        """Run the job to its end and say what it showed.

        Returns:
            A report whose status is final. Whatever the scenario does ends up in there.

        Raises:
            ExecutorError: the run failed through no fault of the job, which may be tried again.
        """

    @abstractmethod
    def close(self) -> None:
        """End everything that still runs. Idempotent."""
