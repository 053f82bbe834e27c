"""Small scenarios from source text, and what the tests of executors need to run them."""

from __future__ import annotations

import hashlib
import itertools
import resource
import textwrap
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.events import Trace
from service.executors.base import Cancel, GilSwitch, JobExecutor, Kept, Order
from service.executors.forkserver import ForkServer
from service.executors.local import LocalExecutor, LocalLimits
from service.jobs import OutputLine, Report, Result
from tests.support import SILENT, wait_until

__all__ = [
    "LIMITS",
    "Running",
    "few_descriptors",
    "lines",
    "make_order",
    "process_lives",
    "result_of",
    "running",
    "write_scenario",
]

LIMITS = LocalLimits(
    startup_timeout_s=20.0,
    cancel_grace_s=0.05,
    kill_timeout_s=10.0,
    memory_bytes=6 * 1024**3,
    threads=512,
    open_files=128,
    file_bytes=16 * 1024**2,
)

_TEMPLATE = """\
import os, sys, threading, time
from dataclasses import dataclass

@dataclass(frozen=True)
class Params:
    threads: int = 2

def outcomes(params):
    return {"done": ("acceptable", "It is done."), "late": ("interesting", "It came late.")}

def raise_flag(text=None):
    open("flag.new", "w").write(text or os.readlink("/proc/self"))
    os.rename("flag.new", "flag")

"""

_numbers = itertools.count(1)


def write_scenario(run: str, top: str = "") -> str:
    """Return the source of a scenario.

    Args:
        run: the body of `run(params, lab)`; without a `return` of its own it ends with the outcome `done`.
        top: what stands above `run`.
    """
    body = textwrap.indent(textwrap.dedent(run).strip("\n"), "    ")
    return f"{_TEMPLATE}{textwrap.dedent(top)}\ndef run(params, lab):\n{body}\n    return {{'outcome': 'done'}}\n"


def make_order(
    source: str,
    *,
    timeout_s: float = 30.0,
    max_output_bytes: int = 1_000_000,
    name: str = "probe",
    python: str | None = None,
    gil: GilSwitch | None = None,
    trace: Trace = "threads",
    max_events: int = 20_000,
    **params: Any,
) -> Order:
    """Return an order for a source, under a job id that no other order has."""
    return Order(
        job_id=f"job_{next(_numbers):06}",
        scenario=name,
        digest=hashlib.sha256(source.encode()).hexdigest(),
        source=source,
        params=params,
        timeout_s=timeout_s,
        kept=Kept(output_bytes=max_output_bytes, events=max_events),
        trace=trace,
        python=python,
        gil=gil,
    )


def result_of(report: Report) -> Result:
    """Return the result of a run that began."""
    assert report.result is not None, report.error
    return report.result


def lines(report: Report) -> list[tuple[str | None, str]]:
    """Return what was printed, each line with the name of its thread."""

    def plain(line: OutputLine) -> tuple[str | None, str]:
        return line["thread"], line["line"]

    return [plain(line) for line in result_of(report)["output"]]


@dataclass(frozen=True)
class Running:
    """A job that runs on a thread of its own; `folder` is where its child works."""

    cancel: Cancel
    future: Future[Report]
    folder: Path

    def flag(self, timeout_s: float = 20.0) -> str:
        """Return what the scenario has written by `raise_flag`, once it has: by default its process's number."""
        flag = self.folder / "flag"
        wait_until(flag.exists, timeout_s)
        return flag.read_text()

    def report(self) -> Report:
        """Return its report when it has ended; raises what `run` raised."""
        return self.future.result(timeout=60)


@contextmanager
def running(executor: JobExecutor, order: Order) -> Iterator[Running]:
    """Run an order beside the test; whatever is still running at the end of the block is cancelled."""
    base = executor.server().folder if isinstance(executor, LocalExecutor) else ""
    with ThreadPoolExecutor(1) as pool:
        running_job = pool.submit(executor.run, order, SILENT, cancel := Cancel())
        job = Running(cancel, running_job, Path(base) / order.job_id)
        try:
            yield job
        finally:
            cancel.wish()


@contextmanager
def few_descriptors(server: ForkServer, count: int) -> Iterator[None]:
    """Let a fork server that is at rest open only so many descriptors more than it has."""
    taken = {int(path.name) for path in Path(f"/proc/{server.pid}/fd").iterdir()}
    free = (number for number in itertools.count() if number not in taken)
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (next(itertools.islice(free, count, None)), before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)


def process_lives(pid: int) -> bool:
    """Whether there is such a process; one that has ended and was not waited for does not live."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
