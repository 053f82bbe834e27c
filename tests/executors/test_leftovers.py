"""What jobs leave in their folders is removed after them, and holds nobody up."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import ForkServerDied
from service.executors import forkserver
from service.executors.base import Cancel
from service.executors.local import LocalExecutor
from service.jobs import JobState
from tests.executors.helpers import LIMITS, make_order, process_lives, running, write_scenario
from tests.support import SILENT, wait_until

DEEP = """
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
"""


def test_a_deep_folder(executor: LocalExecutor) -> None:
    """Folders in folders, more than a path can name, are removed after their job, and the fork server goes on."""
    server = executor.server()
    order = make_order(write_scenario(DEEP))
    assert JobState.SUCCEEDED == executor.run(order, SILENT, Cancel()).status
    wait_until(lambda: not (Path(server.folder) / order.job_id).exists())
    assert JobState.SUCCEEDED == executor.run(make_order(write_scenario("pass")), SILENT, Cancel()).status
    assert server is executor.server()


def test_a_deep_folder_of_a_killed_fork_server() -> None:
    """What a fork server can remove no more the service removes, however deep, and another one takes its place."""
    body = f"{DEEP}    os.chdir(os.environ['HOME'])\n    raise_flag()\n    time.sleep(60)"
    executor = LocalExecutor(LIMITS)
    try:
        first = executor.server()
        with running(executor, make_order(write_scenario(body))) as job:
            job.flag()
            os.kill(first.pid, signal.SIGKILL)
            with pytest.raises(ForkServerDied):
                job.report()
        assert JobState.SUCCEEDED == executor.run(make_order(write_scenario("pass")), SILENT, Cancel()).status
        wait_until(lambda: not Path(first.folder).exists())
    finally:
        executor.close()


MANY = """
    for number in range(10_000):
        if number % 1000 == 0:
            os.mkdir(str(number))
        os.close(os.open(f"{number // 1000 * 1000}/{number}", os.O_CREAT | os.O_WRONLY))
"""


@pytest.fixture(params=[True, False], ids=["isolated", "not isolated"])
def own(request: pytest.FixtureRequest) -> Iterator[LocalExecutor]:
    """An executor of a test's own, with a PID namespace for its children if there can be one, and without."""
    executor = LocalExecutor(replace(LIMITS, isolate=request.param))
    yield executor
    executor.close()


def children(pid: int) -> set[int]:
    """The processes that a process has started and not reaped."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_many_files(own: LocalExecutor) -> None:
    """What takes long to remove is out of the way at once; a process removes it beside the jobs, and ends."""
    server = own.server()
    at_rest = children(server.pid)
    order = make_order(write_scenario(MANY), timeout_s=60.0)
    assert JobState.SUCCEEDED == own.run(order, SILENT, Cancel()).status
    server.ping(20.0)
    assert 1 == len(children(server.pid) - at_rest)
    assert not (Path(server.folder) / order.job_id).exists()
    assert JobState.SUCCEEDED == own.run(make_order(write_scenario(MANY), timeout_s=60.0), SILENT, Cancel()).status
    wait_until(lambda: [] == list(Path(server.folder).iterdir()), 60.0)
    wait_until(lambda: at_rest == children(server.pid))
    assert server is own.server()


def test_many_files_of_a_killed_fork_server(own: LocalExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that removes them ends with its fork server; the service goes on with it, beside the next job."""
    monkeypatch.setattr(forkserver, "_CLEANING_S", 0.0)
    first = own.server()
    at_rest = children(first.pid)
    assert JobState.SUCCEEDED == own.run(make_order(write_scenario(MANY), timeout_s=60.0), SILENT, Cancel()).status
    first.ping(20.0)
    (cleaner,) = children(first.pid) - at_rest
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not process_lives(cleaner))
    assert Path(first.folder).exists()
    wait_until(lambda: not first.alive)
    assert JobState.SUCCEEDED == own.run(make_order(write_scenario("pass")), SILENT, Cancel()).status
    wait_until(lambda: not Path(first.folder).exists(), 60.0)
