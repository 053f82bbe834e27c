"""What keeps a scenario in: it stands where the answer says so, on every interpreter, and the service does without."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.errors import ForkFailed, ForkServerDied
from service.executors import local
from service.executors.base import Cancel
from service.executors.interpreters import Interpreters
from service.executors.local import LocalExecutor
from service.jobs import JobState, Report
from tests.executors.helpers import (
    LIMITS,
    few_descriptors,
    lines,
    make_order,
    process_lives,
    result_of,
    running,
    write_scenario,
)
from tests.support import SILENT, need, wait_until

WALLS = ["network", "shared_memory", "files", "signals", "orphans", "privileges"]
LIMITED = ["memory", "file_size", "open_files", "cpu_time", "processes"]

TRIES = write_scenario(
    """
    def works(attempt):
        try: attempt()
        except OSError: return False
        return True
    found = {
        "network": works(lambda: socket.create_connection(("192.0.2.1", 80), 0.5)),
        "shared_memory": bool(set(os.listdir("/dev/shm")) - {"of-all-children"}),
        "files": works(lambda: open("/var/tmp/threadlab-was-here", "w").close()),
        "signals": works(lambda: os.kill(os.getppid() or 1, 0)),
        "orphans": os.getpid() == int(os.readlink("/proc/self")),
        "privileges": "CapEff:\\t0000000000000000" not in open("/proc/self/status").read(),
    }
    with open("own", "w") as file: file.write("allowed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    return {"outcome": "done", "got_through": found}
    """,
    "import socket",
)


@pytest.fixture
def unshut() -> Iterator[LocalExecutor]:
    """An executor whose children are not isolated."""
    executor = LocalExecutor(replace(LIMITS, isolate=False))
    yield executor
    executor.close()


@pytest.mark.interpreters
@pytest.mark.usefixtures("run_scenario")  # which lets `executors` keep its fork servers
def test_what_is_said_to_stand_stands(executors: Callable[..., LocalExecutor], every_python: str) -> None:
    """No scenario gets through a wall that is told of as standing; its own folder and loopback are open to it."""
    executor = executors(every_python)
    walls = {wall.name: wall for wall in executor.walls()}
    assert [*WALLS, *LIMITED] == list(walls)
    report = executor.run(make_order(TRIES), SILENT, Cancel())
    assert JobState.SUCCEEDED == report.status, report.error
    got_through = result_of(report)["values"]["got_through"]
    assert [] == [name for name in WALLS if walls[name].missing is None and got_through[name]]


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.getuid() != 0, reason="only root can always isolate")
def test_root_on_linux_has_the_namespaces(executor: LocalExecutor) -> None:
    """Where nothing forbids it, the walls stand: a machine on which they silently fell would be seen here."""
    assert {} == {wall.name: wall.missing for wall in executor.walls() if wall.missing and wall.name in WALLS}


def test_switched_off(unshut: LocalExecutor) -> None:
    """An operator who needs the network switches isolation off, and is told what does not stand any more."""
    assert ["network", "shared_memory", "files", "signals", "orphans"] == [
        wall.name for wall in unshut.walls() if wall.missing and "switched off" in wall.missing
    ]
    body = "return {'outcome': 'done', 'pid': os.getpid(), 'seen': int(os.readlink('/proc/self'))}"
    values = result_of(unshut.run(make_order(write_scenario(body)), SILENT, Cancel()))["values"]
    assert values["pid"] == values["seen"]


@pytest.mark.parametrize("how", ["unshut", "unprivileged"])
def test_orphans_without_a_namespace(how: str, request: pytest.FixtureRequest) -> None:
    """Without a PID namespace, too, a process that left its session and lost its parent goes with its job."""
    body = """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(0.1)
                raise_flag()
                time.sleep(60)
            os._exit(0)
        os.wait()
        time.sleep(60)
    """
    executor: LocalExecutor = request.getfixturevalue(how)
    with running(executor, make_order(write_scenario(body))) as job:
        orphan = int(job.flag())
        job.cancel.wish()
        assert JobState.CANCELLED == job.report().status
    assert not process_lives(orphan)


def test_shared_memory_is_empty_again(executor: LocalExecutor) -> None:
    """What a job leaves in its /dev/shm is gone when no job runs, and so is the room that it took."""
    if any(wall.missing for wall in executor.walls() if wall.name == "shared_memory"):
        pytest.skip("this machine does not let children have a /dev/shm of their own")
    body = "os.makedirs('/dev/shm/inner/most', exist_ok=True)\nopen('/dev/shm/inner/file', 'w').write('x' * 1000)"
    assert JobState.SUCCEEDED == executor.run(make_order(write_scenario(body)), SILENT, Cancel()).status
    look = write_scenario("return {'outcome': 'done', 'found': os.listdir('/dev/shm')}")
    assert {"found": []} == result_of(executor.run(make_order(look), SILENT, Cancel()))["values"]


def test_process_1_cannot_be_interrupted(executor: LocalExecutor) -> None:
    """A job that may signal process 1 of its namespace, as before Linux 6.12, ends nobody by it."""
    executor.server()
    found = [
        each for each in Path("/proc").glob("[0-9]*/status") if f"PPid:\t{executor.server().pid}\n" in each.read_text()
    ]
    if not found:
        pytest.skip("this machine does not let children have a PID namespace")
    for each in found:
        ignored = next(line for line in each.read_text().splitlines() if line.startswith("SigIgn:")).split()[1]
        assert int(ignored, 16) & 1 << (signal.SIGINT - 1)


def test_children_that_share_memory(run: Callable[..., Report]) -> None:
    """What `multiprocessing` needs is there: semaphores and shared memory, between a job's own processes."""
    report = run(
        """
        context = multiprocessing.get_context("fork")
        lock, memory = context.Lock(), shared_memory.SharedMemory(create=True, size=10)
        def work():
            with lock: memory.buf[0] += 1
        workers = [context.Process(target=work) for _ in range(3)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        total = memory.buf[0]
        memory.close()
        memory.unlink()
        return {"outcome": "done", "total": total}
        """,
        "import multiprocessing\nfrom multiprocessing import shared_memory",
    )
    assert (JobState.SUCCEEDED, {"total": 3}) == (report.status, result_of(report)["values"])


def test_folders_that_nobody_may_enter(executor: LocalExecutor) -> None:
    """What a scenario closes off is removed after its job like everything else; what a link points to is left alone."""
    body = """
        os.makedirs("closed/in/side")
        os.symlink("/etc", "closed/in/link")
        for path in ("closed/in", "closed", "."): os.chmod(path, 0)
    """
    before = Path("/etc").stat().st_mode
    order = make_order(write_scenario(body))
    assert JobState.SUCCEEDED == executor.run(order, SILENT, Cancel()).status
    wait_until(lambda: not (Path(executor.server().folder) / order.job_id).exists())
    assert before == Path("/etc").stat().st_mode


def test_jobs_do_not_reach_each_other(executor: LocalExecutor) -> None:
    """A signal to everybody, or a file of another job's, is out of reach for a scenario, and that job goes on."""
    if any(wall.missing for wall in executor.walls() if wall.name in ("signals", "files")):
        pytest.skip("these walls do not stand here")
    with running(executor, make_order(write_scenario("raise_flag()\ntime.sleep(0.5)\nprint('goes on')"))) as first:
        first.flag()
        body = f"""
            try: os.kill(-1, 9)
            except OSError as exc: print(type(exc).__name__)
            open({str(first.folder / "planted")!r}, "w")
        """
        second = executor.run(make_order(write_scenario(body)), SILENT, Cancel())
        report = first.report()
    assert (JobState.SUCCEEDED, [("MainThread", "goes on")]) == (report.status, lines(report))
    assert (JobState.FAILED, "PermissionError") == (second.status, (second.error or {})["type"])


def test_a_fork_server_that_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that no longer obeys is found out, ended with all its children, and replaced."""
    monkeypatch.setattr(local, "_PING_TIMEOUT_S", 0.5)
    executor = LocalExecutor(LIMITS, Interpreters(sys.executable))
    try:
        executor.start()
        first = executor.server().pid
        with running(executor, make_order(write_scenario("raise_flag()\nwhile True: pass"))) as job:
            child = int(job.flag())
            os.kill(first, signal.SIGSTOP)
            with pytest.raises(ForkServerDied, match=r"did not answer within 0\.5 s"):
                executor.start()
            with pytest.raises(ForkServerDied):
                job.report()
        executor.start()
        assert [False, False] == [process_lives(first), process_lives(child)]
        assert JobState.SUCCEEDED == executor.run(make_order(write_scenario("pass")), SILENT, Cancel()).status
    finally:
        executor.close()


def test_process_1_is_killed() -> None:
    """When process 1 of their namespace is killed all children die with it, and their jobs may be tried again."""
    executor = LocalExecutor(LIMITS)
    try:
        first = executor.server()
        if any(wall.missing for wall in executor.walls() if wall.name == "orphans"):
            pytest.skip("no PID namespace here")
        (init,) = map(int, Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split())
        with ExitStack() as jobs:
            orders = [make_order(write_scenario("raise_flag()\ntime.sleep(60)")) for _ in range(4)]
            told = [jobs.enter_context(running(executor, order)) for order in orders]
            for job in told:
                job.flag()
            os.kill(init, signal.SIGKILL)
            for job in told:
                with pytest.raises(ForkServerDied):
                    job.report()
        assert JobState.SUCCEEDED == executor.run(make_order(write_scenario("pass")), SILENT, Cancel()).status
    finally:
        executor.close()


def test_many_pings_at_once(executor: LocalExecutor) -> None:
    """Probes from several threads get an answer each, beside jobs."""

    def ask(number: int) -> Any:
        return executor.run(make_order(write_scenario("pass")), SILENT, Cancel()) if number % 2 else executor.start()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(32)))
    assert [None] * 16 == answers[::2]
    assert [JobState.SUCCEEDED] * 16 == [report.status for report in answers[1::2]]


_UNPRIVILEGED = """
unshare --map-root-user sh -c '
    echo 0 > /proc/sys/user/max_user_namespaces &&
    exec setpriv --bounding-set=-all --inh-caps=-all {python} "$@"' "$0" "$@"
"""

# Namespaces may be made, but not by one who is nobody, and nothing may be said of the users in them.
_HALF_ALLOWED = """
unshare --map-root-user --mount sh -c '
    mount --bind /proc /proc && mount -o remount,bind,ro,nosuid,nodev,noexec /proc &&
    exec setpriv --bounding-set=-all --inh-caps=-all {python} "$@"' "$0" "$@"
"""

_WITHOUT_SHARED_MEMORY = """
unshare --map-root-user --mount sh -c '
    mkdir {folder}/dev && touch {folder}/dev/null && mount --bind /dev/null {folder}/dev/null &&
    mount --rbind {folder}/dev /dev &&
    exec {python} "$@"' "$0" "$@"
"""


@pytest.fixture
def executor_under(tmp_path: Path) -> Iterator[Callable[[str], LocalExecutor]]:
    """Make an executor whose interpreter is started by a line of shell: `{python}` is this one, `{folder}` empty."""
    need("unshare")
    made: list[LocalExecutor] = []

    def make(line: str) -> LocalExecutor:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\nexec {line.format(python=sys.executable, folder=tmp_path).strip()}\n")
        python.chmod(0o755)
        made.append(LocalExecutor(LIMITS, Interpreters(str(python))))
        return made[-1]

    yield make
    for executor in made:
        executor.close()


@pytest.fixture
def unprivileged(executor_under: Callable[[str], LocalExecutor]) -> LocalExecutor:
    """An executor whose fork server may make no namespaces, as under the default rules of most container engines."""
    return executor_under(_UNPRIVILEGED)


def test_namespaces_that_are_half_allowed(executor_under: Callable[[str], LocalExecutor]) -> None:
    """Where namespaces can be made but not furnished, that is said, none is entered, and jobs run all the same."""
    executor = executor_under(_HALF_ALLOWED)
    walls = {wall.name: wall.missing for wall in executor.walls()}
    reason = "the system does not allow it: Read-only file system (/proc/self/setgroups)"
    assert [reason] * 3 == [walls[name] for name in ("network", "shared_memory", "orphans")]
    namespaces = Path(f"/proc/{executor.server().pid}/ns")
    assert Path("/proc/self/ns/net").readlink() == (namespaces / "net").readlink()
    assert (namespaces / "pid").readlink() == (namespaces / "pid_for_children").readlink()
    assert JobState.SUCCEEDED == executor.run(make_order(TRIES), SILENT, Cancel()).status


def test_no_place_for_shared_memory(executor_under: Callable[[str], LocalExecutor]) -> None:
    """Where there is no /dev/shm to lay one's own over, that is said of this wall, and the others stand."""
    executor = executor_under(_WITHOUT_SHARED_MEMORY)
    walls = {wall.name: wall.missing for wall in executor.walls()}
    assert "the system does not allow it: No such file or directory (mount /dev/shm)" == walls.pop("shared_memory")
    assert [None] * 5 == [walls[name] for name in WALLS if name in walls]
    assert JobState.SUCCEEDED == executor.run(make_order(write_scenario("pass")), SILENT, Cancel()).status


def test_without_namespaces(unprivileged: LocalExecutor) -> None:
    """Where no namespace may be made, that is said, with the system's reason, and Landlock stands all the same."""
    walls = {wall.name: wall.missing for wall in unprivileged.walls()}
    for name in ("network", "shared_memory", "orphans"):
        assert "the system does not allow it" in (walls[name] or "")
    report = unprivileged.run(make_order(TRIES), SILENT, Cancel())
    assert JobState.SUCCEEDED == report.status, report.error
    got_through = result_of(report)["values"]["got_through"]
    assert [] == [name for name in WALLS if walls[name] is None and got_through[name]]
    assert {"files", "privileges"} <= {name for name in WALLS if walls[name] is None}


# The most Landlock domains that may lie around each other, so that none can be put around a child any more.
_WRAPPED_UP = """
{python} -c '
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
for _ in range(16):
    assert libc.syscall(446, libc.syscall(444, struct.pack("Q", 1 << 11), 8, 0), 0) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])' "$@"
"""

# Only after its rehearsal does the fence not close any more.
_BROKEN_FENCE = """
{python} -c '
import os, runpy, sys
from service.child.walls import Walls
build, enter = Walls.__init__, Walls.enter
def build_and_break(self, wished):
    build(self, wished)
    Walls.enter = lambda self, fence: (os.close(fence), enter(self, fence))
Walls.__init__ = build_and_break
sys.argv[:] = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")' "$@"
"""


def need_fence(executor: LocalExecutor) -> None:
    """Skip where the kernel has no Landlock."""
    if any(wall.missing for wall in executor.walls() if wall.name == "files"):
        pytest.skip("this wall does not stand here")


@pytest.mark.parametrize("count", [4, 5])
def test_no_descriptors_for_a_fence(count: int) -> None:
    """A job that cannot be fenced in is refused, nothing of it runs or is left, and the next attempt is fenced in."""
    executor = LocalExecutor(LIMITS)
    order = make_order(TRIES)
    try:
        need_fence(executor)
        server = executor.server()
        descriptors = Path(f"/proc/{server.pid}/fd")
        before = len(list(descriptors.iterdir()))
        with few_descriptors(server, count), pytest.raises(ForkFailed, match="Too many open files"):
            executor.run(order, SILENT, Cancel())
        wait_until(lambda: before == len(list(descriptors.iterdir())))
        report = executor.run(order, SILENT, Cancel())
        assert not result_of(report)["values"]["got_through"]["files"]
        assert server is executor.server()
    finally:
        executor.close()


def test_a_fence_that_does_not_close(executor: LocalExecutor, executor_under: Callable[[str], LocalExecutor]) -> None:
    """A child that finds itself without its fence runs nothing; it is refused, and the fork server goes on."""
    need_fence(executor)
    broken = executor_under(_BROKEN_FENCE)
    server = broken.server()
    source = write_scenario("pass", "open('/var/tmp/threadlab-ran', 'w').close()")
    for _ in range(3):
        with pytest.raises(ForkFailed, match="Bad file descriptor: 'landlock_restrict_self'"):
            broken.run(make_order(source), SILENT, Cancel())
    assert server is broken.server()
    assert not Path("/var/tmp/threadlab-ran").exists()


def test_no_fence_around_so_many(executor: LocalExecutor, executor_under: Callable[[str], LocalExecutor]) -> None:
    """Where the kernel has Landlock but not for a child, that is said, and jobs run without this wall."""
    need_fence(executor)
    wrapped_up = executor_under(_WRAPPED_UP)
    walls = {wall.name: wall.missing for wall in wrapped_up.walls()}
    assert "the system does not allow it: Argument list too long (landlock_restrict_self)" == walls["files"]
    assert JobState.SUCCEEDED == wrapped_up.run(make_order(write_scenario("pass")), SILENT, Cancel()).status
