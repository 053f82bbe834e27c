"""What a local executor tells of its fork servers and children, to an observer and in the log."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from service.errors import ChildLate, ForkFailed, ForkServerDied
from service.executors.base import Cancel
from service.executors.local import LocalExecutor
from service.jobs import JobState
from service.observer import ChildEnded, ChildStarted, Fact, ForkServerEnded, ForkServerStarted
from tests.executors.helpers import LIMITS, make_order, running, write_scenario
from tests.support import SILENT, wait_until


@pytest.fixture
def facts() -> list[Fact]:
    """What the executor has told."""
    return []


@pytest.fixture
def executor(facts: list[Fact], caplog: pytest.LogCaptureFixture) -> Iterator[LocalExecutor]:
    """An executor that is observed, and whose log is kept."""
    caplog.set_level(logging.INFO, "service.executors.local")
    local = LocalExecutor(LIMITS, observe=facts.append)
    local.start()
    yield local
    local.close()


def ends(facts: list[Fact]) -> list[tuple[str, str | None, bool]]:
    """How the children ended: cause, signal, and whether they had begun."""
    return [(each.cause, each.signal, each.startup_s is not None) for each in facts if isinstance(each, ChildEnded)]


def test_each_run_is_a_start_and_an_end(executor: LocalExecutor, facts: list[Fact]) -> None:
    """A child that ends by itself is told with the time it took to begin."""
    executor.run(make_order(write_scenario("pass")), SILENT, Cancel())
    server, started, ended = facts
    assert (ForkServerStarted(), ChildStarted()) == (server, started)
    assert isinstance(ended, ChildEnded)
    assert ("exited", None) == (ended.cause, ended.signal)
    assert 0 < (ended.startup_s or 0) < LIMITS.startup_timeout_s


@pytest.mark.parametrize(
    ("body", "timeout_s", "expected"),
    [
        ("os._exit(3)", 30.0, ("exited", None, True)),
        ("raise ValueError", 30.0, ("exited", None, True)),
        ("time.sleep(60)", 0.1, ("timed_out", "SIGKILL", True)),
        ("while not lab.cancelled: time.sleep(0.001)", 0.1, ("exited", None, True)),
        ("os.kill(os.getpid(), 11)", 30.0, ("signal", "SIGSEGV", True)),
        ("os.write(3, b'no frame\\n')\ntime.sleep(60)", 30.0, ("broken_protocol", "SIGKILL", True)),
    ],
)
def test_causes_of_ends(
    executor: LocalExecutor, facts: list[Fact], body: str, timeout_s: float, expected: tuple[str, str | None, bool]
) -> None:
    """Each way to end has its cause, and the signal is the one that was seen."""
    report = executor.run(make_order(write_scenario(body), timeout_s=timeout_s), SILENT, Cancel())
    if report.status is JobState.TIMED_OUT:  # one that heeds its deadline ends by itself, and its job timed out
        expected = ("timed_out", *expected[1:])
    assert [expected] == ends(facts)


def test_a_cancelled_child(executor: LocalExecutor, facts: list[Fact]) -> None:
    """A child that had to be killed for a cancel is told as cancelled, not as ended by a signal."""
    with running(executor, make_order(write_scenario("raise_flag()\ntime.sleep(60)"))) as job:
        job.flag()
        job.cancel.wish()
        assert JobState.CANCELLED == job.report().status
    assert [("cancelled", "SIGKILL", True)] == ends(facts)


def test_a_child_that_does_not_begin(facts: list[Fact]) -> None:
    """One that does not begin in time has no start-up time."""
    executor = LocalExecutor(replace(LIMITS, startup_timeout_s=1.0), observe=facts.append)
    try:
        source = write_scenario("pass", top="while True: pass")
        with pytest.raises(ChildLate):
            executor.run(make_order(source), SILENT, Cancel())
    finally:
        executor.close()
    assert [("late", None, False)] == ends(facts)


def test_no_descriptors_for_a_child(
    executor: LocalExecutor, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that cannot be had is a start and an end, too."""

    def none_left() -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as poor:
        poor.setattr(os, "pipe", none_left)
        with pytest.raises(ForkFailed):
            executor.run(make_order(write_scenario("pass")), SILENT, Cancel())
    assert [ForkServerStarted(), ChildStarted(), ChildEnded("fork_failed")] == facts


def test_a_fork_server_that_is_killed_under_a_child(
    executor: LocalExecutor, facts: list[Fact], caplog: pytest.LogCaptureFixture
) -> None:
    """Its death is told once, with the signal, however many children it takes along; so is the start of the next."""
    orders = [make_order(write_scenario("raise_flag()\ntime.sleep(60)")) for _ in range(2)]
    pid = executor.server().pid
    with running(executor, orders[0]) as first, running(executor, orders[1]) as second:
        first.flag()
        second.flag()
        os.kill(pid, signal.SIGKILL)
        for job in (first, second):
            with pytest.raises(ForkServerDied):
                job.report()
    executor.start()
    assert 2 * [("fork_server_died", None, False)] == ends(facts)
    servers = [each for each in facts if isinstance(each, (ForkServerStarted, ForkServerEnded))]
    assert [ForkServerStarted(), ForkServerEnded("died"), ForkServerStarted()] == servers
    lines = [vars(record) for record in caplog.records if record.message.startswith("fork server")]
    assert ["fork server ended", "fork server started"] == [line["message"] for line in lines]
    ended, started = lines
    assert (pid, "died", "SIGKILL") == (ended["pid"], ended["cause"], ended["signal"])
    assert ended["why"]
    assert executor.server().pid == started["pid"]


def test_a_fork_server_that_is_found_dead(
    executor: LocalExecutor, facts: list[Fact], caplog: pytest.LogCaptureFixture
) -> None:
    """One that died while nothing ran is told when somebody needs it, with the signal."""
    pid = executor.server().pid
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: executor.server().pid != pid)
    assert [ForkServerStarted(), ForkServerEnded("died"), ForkServerStarted()] == facts
    (line,) = [record for record in caplog.records if record.message == "fork server ended"]
    assert (logging.WARNING, "SIGTERM") == (line.levelno, vars(line)["signal"])


def test_a_fork_server_that_is_unwell(facts: list[Fact], caplog: pytest.LogCaptureFixture) -> None:
    """One that does not kill what it is told to kill is ended, and the line says why."""
    executor = LocalExecutor(replace(LIMITS, kill_timeout_s=0.2), observe=facts.append)
    try:
        pid = executor.server().pid
        with running(executor, make_order(write_scenario("raise_flag()\ntime.sleep(60)"))) as job:
            job.flag()
            os.kill(pid, signal.SIGSTOP)
            job.cancel.wish()
            with pytest.raises(ForkServerDied):
                job.report()
    finally:
        executor.close()
    assert ForkServerEnded("unwell") in facts
    (line,) = [record for record in caplog.records if record.message == "fork server ended"]
    assert ("unwell", True) == (vars(line)["cause"], "not gone after 0.2 s" in vars(line)["why"])


def test_a_close_is_no_death(facts: list[Fact], caplog: pytest.LogCaptureFixture) -> None:
    """A fork server that ends with the service is told once, and is nothing to worry about."""
    caplog.set_level(logging.INFO, "service.executors.local")
    executor = LocalExecutor(LIMITS, observe=facts.append)
    executor.start()
    executor.close()
    executor.close()
    assert [ForkServerStarted(), ForkServerEnded("closed")] == facts
    assert [] == [record for record in caplog.records if record.levelno > logging.INFO]


def test_a_signal_that_nobody_sent_is_in_the_log(executor: LocalExecutor, caplog: pytest.LogCaptureFixture) -> None:
    """A child that crashed is one line with its facts; one that was killed for its deadline is none."""
    crashing = make_order(write_scenario("os.kill(os.getpid(), 11)"))
    executor.run(crashing, SILENT, Cancel())
    executor.run(make_order(write_scenario("time.sleep(60)"), timeout_s=0.1), SILENT, Cancel())
    (line,) = [record for record in caplog.records if record.message.startswith("child")]
    told = vars(line)
    assert (crashing.job_id, "probe", "SIGSEGV") == (told["job"], told["scenario"], told["signal"])
    assert told["pid"] > 0
    assert told["lived_s"] > 0
