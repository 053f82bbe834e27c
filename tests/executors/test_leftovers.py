"""What jobs leave in their folders is removed after them and holds nobody up; a folder that is gone is made anew."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import tempfile
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


@pytest.mark.parametrize("who", ["a job", "a probe"])
def test_a_fork_server_whose_folder_is_gone(executor: LocalExecutor, who: str) -> None:
    """When something else has removed its folder it is replaced by the next who asks, and that may be tried again."""
    first = executor.server()
    shutil.rmtree(first.folder)
    order = make_order(write_scenario("pass"))
    with pytest.raises(ForkServerDied):
        executor.run(order, SILENT, Cancel()) if who == "a job" else executor.start()
    executor.start()
    assert JobState.SUCCEEDED == executor.run(order, SILENT, Cancel()).status
    assert first.folder != executor.server().folder


def test_no_folder_for_a_fork_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is no folder for temporary files it is said what to do; when there is one again, jobs run."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "later"))
    executor = LocalExecutor(LIMITS)
    try:
        for ask in (executor.start, executor.walls, lambda: executor.run(make_order(""), SILENT, Cancel())):
            with pytest.raises(ForkServerDied, match="See that TMPDIR names"):
                ask()
        (tmp_path / "later").mkdir()
        assert JobState.SUCCEEDED == executor.run(make_order(write_scenario("pass")), SILENT, Cancel()).status
    finally:
        executor.close()


def test_no_descriptors_for_a_fork_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the service has no descriptor left it is said which limit to raise, and no folder is left."""

    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(socket, "socketpair", refuse)
    executor = LocalExecutor(LIMITS)
    with pytest.raises(ForkServerDied, match="ulimit -n"):
        executor.start()
    executor.close()
    assert [] == list(tmp_path.iterdir())
