"""Whatever a scenario does, it ends with its job, the answer says what happened, and the service goes on.

The scenario comes from a package of its own, by the entry-point group that is open to everybody.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.child.wire import LEAST_LINE
from tests.support import wait_until
from tests.system.server import ROOT, Server, plain_environment

PATH = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "faults")])

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has found the scenario of faults; its children may have little memory."""
    memory = str(1 << 30)  # bytes
    folder = tmp_path_factory.mktemp("faults")
    with Server(folder, PYTHONPATH=PATH, THREADLAB_CHILD_MEMORY_BYTES=memory) as running:
        yield running.start()


def misbehave(server: Server, kind: str, **more: Any) -> Answer:
    """Return the finished job of one kind of fault; all that it started is gone, and the service runs others."""
    body = {"scenario": "misbehave", "kind": kind, "timeout_s": 1.0, **more}
    job = server.run(body)
    assert [] == in_folder(server, job["id"])
    assert "succeeded" == server.run({"scenario": "counter", "iterations": 10})["status"]
    assert {"queued": 0, "running": 0} == {
        name: server.ask("GET", "/v1/capacity").json()["lanes"]["wait"][name] for name in ("queued", "running")
    }
    return job


def in_folder(server: Server, job_id: str) -> list[int]:
    """The processes of a job: those that work in its folder, wherever they come from."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = str((process / "cwd").readlink())
        except OSError:  # it has just ended
            continue
        if where.startswith(f"{server.folder}/") and job_id in where:
            found.append(int(process.name))
    return [pid for pid in found if pid not in server.fork_servers()]  # they leave a job's folder at the next one


def stack(job: Answer, thread: str) -> list[str]:
    """The lines of code at which a thread stood, the innermost last."""
    (row,) = [row for row in job["result"]["autopsy"]["threads"] if row["name"] == thread]
    return [place["code"] for place in row["stack"] if place["code"]]


def test_it_is_offered_as_any_package_would(server: Server) -> None:
    """A scenario of another package is listed with where it comes from."""
    found = server.ask("GET", "/v1/scenarios/misbehave").json()
    assert ("Misbehave", "threadlab-faults") == (found["title"], found["origin"].split()[0])


def test_one_that_no_request_can_be_made_of_is_unavailable(server: Server, tmp_path: Path) -> None:
    """A scenario with a parameter that JSON cannot hold is told with the reason, by the service and by the command."""
    reason = "Its parameters cannot be a request: PydanticSchemaGenerationError: "
    (unavailable,) = server.ask("GET", "/v1/scenarios").json()["unavailable"]
    assert ("unfit", "threadlab-faults") == (unavailable["name"], unavailable["origin"])
    assert unavailable["reason"].startswith(reason)
    for code, arguments in [(0, ["scenarios"]), (1, ["run", "unfit"])]:
        done = subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            check=False,
            cwd=tmp_path,
            env=plain_environment(tmp_path, PYTHONPATH=PATH, COLUMNS="1000"),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (code, True) == (done.returncode, f"unavailable: {reason}" in done.stdout + done.stderr)
    assert f"unfit is unavailable: {reason}" in done.stderr


def test_busy_threads(server: Server) -> None:
    """64 threads that compute for ever end at the deadline, and the answer shows them in their loops.

    By name, if any of the child's own threads could get the GIL among them in time to tell their names.
    """
    job = misbehave(server, "busy")
    assert ("timed_out", "stuck") == (job["status"], job["result"]["outcome"])
    rows = job["result"]["autopsy"]["threads"]
    spinning = {row["name"] for row in rows if {"while True:", "pass"} & {place["code"] for place in row["stack"]}}
    assert spinning <= {None, *(f"busy-{number}" for number in range(64))}
    assert spinning


def test_a_call_of_c_that_keeps_the_gil(server: Server) -> None:
    """A call that never gives the GIL back is told by the fault handler, with its line."""
    job = misbehave(server, "c_call")
    assert ("timed_out", "SIGKILL") == (job["status"], job["result"]["process"]["signal"])
    assert "fault_handler" == job["result"]["autopsy"]["by"]
    assert 're.match("(a*)*b", "a" * 64)' in stack(job, "MainThread")
    assert ["into C"] == [line["line"] for line in job["result"]["output"]]


def test_deaf_to_signals(server: Server) -> None:
    """A scenario that blocks every signal is ended all the same, and told by itself."""
    job = misbehave(server, "deaf")
    assert ("timed_out", "child") == (job["status"], job["result"]["autopsy"]["by"])


def test_an_exit_without_a_word(server: Server) -> None:
    """A process that ends itself is lost, with its exit code and what it had said by then."""
    job = misbehave(server, "exit")
    assert ("lost", 7) == (job["status"], job["result"]["process"]["exit_code"])
    assert "exit code 7" in job["error"]["message"]
    assert ["finished: 1 of 2"] == [line["line"] for line in job["result"]["output"]]


def test_a_segfault(server: Server) -> None:
    """A crash is lost, with the signal, and with where every thread was."""
    job = misbehave(server, "segfault")
    assert ("lost", "SIGSEGV") == (job["status"], job["result"]["process"]["signal"])
    assert "fault_handler" == job["result"]["autopsy"]["by"]
    assert "ctypes.string_at(0)" in stack(job, "MainThread")
    assert ["MainThread", "bystander"] == [row["name"] for row in job["result"]["autopsy"]["threads"]]


def test_a_fork_bomb(server: Server) -> None:
    """Processes in sessions of their own, whose parents are gone, are gone when the job's end is told."""
    job_id = server.submit({"scenario": "misbehave", "kind": "fork_bomb", "timeout_s": 60.0})
    wait_until(lambda: len(in_folder(server, job_id)) > 60)
    answer = server.ask("POST", f"/v1/jobs/{job_id}/cancel")
    assert (200, "cancelled") == (answer.status_code, answer.json()["status"])
    assert [] == in_folder(server, job_id)


@pytest.mark.parametrize(
    ("kind", "error", "limit"),
    [
        ("hoard", "MemoryError", "RLIMIT_DATA"),
        ("big_file", "OSError", "RLIMIT_FSIZE"),
        ("descriptors", "OSError", "RLIMIT_NOFILE"),
    ],
)
def test_a_limit(server: Server, kind: str, error: str, limit: str) -> None:
    """A limit that is met is the scenario's error, and the answer says which limit it was."""
    job = misbehave(server, kind, timeout_s=30.0)
    assert ("failed", error) == (job["status"], job["error"]["type"])
    (warning,) = job["result"]["warnings"]
    assert limit in warning


def test_output_without_end(server: Server) -> None:
    """Threads that print for ever end at the deadline; of what they printed the beginning is kept."""
    job = misbehave(server, "chatter", timeout_s=5.0)
    assert "timed_out" == job["status"]
    assert 1_000_000 <= sum(max(len(line["line"]) + 1, LEAST_LINE) for line in job["result"]["output"]) <= 1_048_576


def test_a_closed_link(server: Server) -> None:
    """A scenario that closes its link is lost at once, not at its deadline."""
    job = misbehave(server, "closed_link", timeout_s=60.0)
    assert "lost" == job["status"]
    assert job["result"]["process"]["lived_s"] < 30


def test_it_cannot_break_out(server: Server) -> None:
    """What the service calls enforced is: no write elsewhere, no network, no signal to others, no other user."""
    walls = {wall["name"]: wall["missing"] for wall in server.ask("GET", "/v1/capacity").json()["walls"]}
    guarded = {"files": "write elsewhere", "network": "connect elsewhere", "signals": "kill the parent"}
    job = misbehave(server, "break_out", timeout_s=30.0)
    assert job["status"] == "succeeded", job["error"]
    assert not {attempt for wall, attempt in guarded.items() if walls[wall] is None} & set(
        job["result"]["values"]["worked"]
    )
    assert "become another user" not in job["result"]["values"]["worked"]


def test_no_orphan_survives_the_service(tmp_path: Path) -> None:
    """When the service and its fork server are killed at once, what jobs have started dies with them."""
    with Server(tmp_path, PYTHONPATH=PATH) as server:
        server.start()
        walls = {wall["name"]: wall["missing"] for wall in server.ask("GET", "/v1/capacity").json()["walls"]}
        if walls["orphans"] is not None:
            pytest.skip(f"no PID namespace here: {walls['orphans']}")
        job_id = server.submit({"scenario": "misbehave", "kind": "fork_bomb", "timeout_s": 60.0})
        wait_until(lambda: len(in_folder(server, job_id)) > 60)
        for pid in [server.pid, *server.fork_servers()]:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: in_folder(server, job_id) == [])
