"""What every executor promises, whichever way it runs jobs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from service.errors import ExecutorError, ForkFailed, ForkServerDied, InterpreterNotFound
from service.executors.base import Cancel, JobExecutor, Order
from service.executors.interpreters import Interpreters
from service.executors.local import LocalExecutor
from service.executors.scripted import ScriptedExecutor
from service.jobs import FINAL, JobState, Report, Result
from tests.executors.helpers import LIMITS, make_order, result_of, running, write_scenario
from tests.support import SILENT, wait_until

QUICK = write_scenario("return {'outcome': 'done', 'threads': params.threads}")
ENDLESS = write_scenario("while True: time.sleep(0.001)")


@dataclass(frozen=True)
class Bench:
    """One way to run jobs.

    Attributes:
        quick: an executor to which QUICK comes to its end.
        endless: an executor to which ENDLESS does not.
        fresh: makes another, which a test may close; ENDLESS never ends on it.
        unable: makes one that cannot run anything.
    """

    quick: JobExecutor
    endless: JobExecutor
    fresh: Callable[[], JobExecutor]
    unable: Callable[[], JobExecutor]


def _held() -> ScriptedExecutor:
    return ScriptedExecutor(held=threading.Event())


def _unable(_: Order) -> Any:
    raise ForkServerDied("It cannot be started.")


@pytest.fixture(params=["local", "scripted"])
def bench(request: pytest.FixtureRequest, executor: LocalExecutor) -> Iterator[Bench]:
    """Each way to run jobs."""
    if request.param == "local":
        yield Bench(
            executor,
            executor,
            lambda: LocalExecutor(LIMITS),
            lambda: LocalExecutor(LIMITS, Interpreters("/nowhere/python")),
        )
    else:
        yield Bench(ScriptedExecutor(), _held(), _held, lambda: ScriptedExecutor(_unable))


def check(report: Report) -> None:
    """Check what holds for every report."""
    assert report.status in FINAL
    assert json.loads(json.dumps([report.result, report.error, report.python, report.machine], allow_nan=False))
    assert report.python is not None
    assert {"version", "implementation", "gil", "executable", "switch_interval_s"} <= set(report.python)
    assert report.machine is not None
    assert {"cpus", "usable_cpus", "platform"} <= set(report.machine)
    if report.result is not None:
        assert set(Result.__annotations__) == set(report.result)
        assert {"queued_s", "startup_s", "wall_s", "cpu_s"} == set(report.result["timings"])
        assert report.result["timings"]["queued_s"] is None  # the executor does not know it


def test_a_job_that_ends(bench: Bench) -> None:
    """A job that ends by itself is reported with its outcome, and nothing is wrong with it."""
    report = bench.quick.run(make_order(QUICK), SILENT, Cancel())
    check(report)
    assert (JobState.SUCCEEDED, None) == (report.status, report.error)
    assert ("done", "acceptable") == (result_of(report)["outcome"], result_of(report)["grade"])


def test_many_at_once(bench: Bench) -> None:
    """`run` may be called from many threads at the same time."""
    orders = [make_order(QUICK, threads=number) for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda order: bench.quick.run(order, SILENT, Cancel()), orders))
    for report in reports:
        check(report)
    assert [JobState.SUCCEEDED] * 16 == [report.status for report in reports]


def test_cancel_ends_a_job_that_runs(bench: Bench) -> None:
    """A wish to cancel ends a job that would never end, and the report says so."""
    with running(bench.endless, make_order(ENDLESS)) as job:
        assert not job.future.done()
        job.cancel.wish()
        report = job.report()
    check(report)
    assert (JobState.CANCELLED, None) == (report.status, report.error)


def test_cancel_before_the_run(bench: Bench) -> None:
    """A job that was cancelled before its executor took it up ends at once."""
    cancel = Cancel()
    cancel.wish()
    report = bench.endless.run(make_order(ENDLESS), SILENT, cancel)
    check(report)
    assert (JobState.CANCELLED, None) == (report.status, report.error)


def test_cancel_more_than_once(bench: Bench) -> None:
    """A wish said again, from several threads and after the end, changes nothing."""
    with running(bench.endless, make_order(ENDLESS)) as job:
        wishers = [threading.Thread(target=job.cancel.wish) for _ in range(4)]
        for wisher in wishers:
            wisher.start()
        for wisher in wishers:
            wisher.join()
        assert JobState.CANCELLED == job.report().status
        job.cancel.wish()
    assert job.cancel.wished


def test_cancel_after_the_end(bench: Bench) -> None:
    """A wish that comes when the job has ended finds nobody, and the executor goes on."""
    cancel = Cancel()
    assert JobState.SUCCEEDED == bench.quick.run(make_order(QUICK), SILENT, cancel).status
    cancel.wish()
    assert JobState.SUCCEEDED == bench.quick.run(make_order(QUICK), SILENT, Cancel()).status


def test_cancel_is_for_one_job(bench: Bench) -> None:
    """A wish ends the job that it was said of and no other."""
    with running(bench.endless, make_order(ENDLESS)) as one, running(bench.endless, make_order(ENDLESS)) as other:
        one.cancel.wish()
        assert JobState.CANCELLED == one.report().status
        assert not other.future.done()
        other.cancel.wish()
        assert JobState.CANCELLED == other.report().status


def test_start_again(bench: Bench) -> None:
    """Starting what is started changes nothing."""
    bench.quick.start()
    bench.quick.start()
    assert JobState.SUCCEEDED == bench.quick.run(make_order(QUICK), SILENT, Cancel()).status


def test_interpreters(bench: Bench) -> None:
    """Each usable interpreter that it names runs jobs that ask for it, and the first those that do not."""
    executor = bench.quick if isinstance(bench.quick, ScriptedExecutor) else bench.fresh()
    found = [each for each in executor.interpreters() if each.usable]
    assert [True] + [False] * (len(found) - 1) == [each.default for each in found]
    try:
        for python, interpreter in [(None, found[0]), *((each.selector, each) for each in found)]:
            assert interpreter == executor.choose(python, None)
            report = executor.run(make_order(QUICK, python=python), SILENT, Cancel())
            assert interpreter.machine == report.machine
            ran_on = report.python or {}
            assert (interpreter.version, interpreter.free_threaded) == (ran_on["version"], ran_on["free_threaded"])
    finally:
        executor.close()


def test_no_such_interpreter(bench: Bench) -> None:
    """An interpreter that is not here is refused with what there is, by a question and by a run."""
    known = tuple(each.selector for each in bench.quick.interpreters() if each.usable)
    for ask in (
        lambda: bench.quick.choose("3.99", None),
        lambda: bench.quick.run(make_order(QUICK, python="3.99"), SILENT, Cancel()),
    ):
        with pytest.raises(InterpreterNotFound, match=r"3\.99 is not installed") as caught:
            ask()
        assert ("python", "3.99", known) == (caught.value.option, caught.value.asked, caught.value.known)


def test_close_is_idempotent(bench: Bench) -> None:
    """An executor can be closed before it was started, and more than once."""
    executor = bench.fresh()
    executor.close()
    executor.close()
    executor = bench.fresh()
    executor.start()
    executor.close()
    executor.close()


def test_close_ends_what_runs(bench: Bench) -> None:
    """Closing lets no job run on: its `run` returns a final report, or says that it may be tried again."""
    executor = bench.fresh()
    executor.start()
    with running(executor, make_order(ENDLESS)) as job:
        wait_until(job.future.running)
        executor.close()
        with suppress(ExecutorError):
            check(job.report())


def test_when_nothing_can_be_run(bench: Bench) -> None:
    """What is no fault of the job is an ExecutorError, each time."""
    executor = bench.unable()
    for _ in range(2):
        with pytest.raises(ExecutorError):
            executor.run(make_order(QUICK), SILENT, Cancel())
    executor.close()


def test_the_errors_of_running() -> None:
    """All that running can raise is under ExecutorError."""
    assert issubclass(ForkServerDied, ExecutorError)
    assert issubclass(ForkFailed, ExecutorError)
