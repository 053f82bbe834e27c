"""What operators see of a real service when something of it breaks: readiness, metrics, log lines."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import wait_until
from tests.system.server import Server

PAUSE_S = 16.0  # longer than the service, by default, waits for a child to begin or to be gone


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running server that logs JSON."""
    with Server(tmp_path, THREADLAB_LOG_FORMAT="json") as server:
        yield server.start()


def readiness(server: Server) -> tuple[int, str | None]:
    """The status of the probe, and what is wrong with the store."""
    response = server.ask("GET", "/readyz")
    parts = response.json().get("parts", [])
    return response.status_code, next((part["reason"] for part in parts if part["name"] == "store"), None)


def lines(server: Server, message: str) -> list[dict[str, Any]]:
    """The lines of its log with this message."""
    found = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [line for line in found if line["message"] == message]


def test_a_database_that_cannot_be_read_is_told_and_forgiven(server: Server) -> None:
    """While the jobs cannot be read the service is healthy and not ready; once they can it is, without a restart."""
    job = server.run({"scenario": "counter", "iterations": 100})
    assert (200, None) == readiness(server)
    with contextlib.closing(sqlite3.connect(server.folder / "jobs.db", timeout=20)) as database:
        database.execute("ALTER TABLE jobs RENAME TO elsewhere")
        status, reason = readiness(server)
        assert (503, True) == (status, "no such table" in str(reason))
        assert 200 == server.ask("GET", "/healthz").status_code
        assert {(): 1} == server.counted("threadlab_store_commit_failures_total")  # the probe's
        known_first = {"Idempotency-Key": "one"}  # it does not begin beside the commit that accepts it
        answer = server.ask("POST", "/v1/jobs", json={"scenario": "counter"}, headers=known_first)
        assert 503 == answer.status_code
        assert {(): 2} == server.counted("threadlab_store_commit_failures_total")
        assert 503 == server.ask("POST", "/v1/jobs", json={"scenario": "counter"}).status_code
        database.execute("ALTER TABLE elsewhere RENAME TO jobs")
    assert (200, None) == readiness(server)
    assert job == server.job(job["id"])
    assert "succeeded" == server.run({"scenario": "counter", "iterations": 100})["status"]


def test_a_fork_server_that_is_killed_is_replaced_and_told(server: Server) -> None:
    """The job that it carried runs again, the service is ready, and metrics and log say what happened, once."""
    job_id = server.submit({"scenario": "named_workers", "threads": 1, "delay_s": 0.5})
    wait_until(server.children)
    (pid,) = server.fork_servers()
    os.kill(pid, signal.SIGKILL)
    job = server.job(job_id, wait_s=30)
    assert ("succeeded", 2) == (job["status"], job["attempt"])
    assert 200 == server.ask("GET", "/readyz").status_code
    assert {("fork_server_died", ""): 1, ("exited", ""): 1} == server.counted("threadlab_children_ended_total")
    assert {("not_run",): 1} == server.counted("threadlab_jobs_put_back_total")
    assert {("died",): 1} == server.counted("threadlab_fork_servers_ended_total")
    (ended,) = lines(server, "fork server ended")
    assert (pid, "SIGKILL") == (ended["pid"], ended["signal"])
    first, second = lines(server, "fork server started")
    assert pid == first["pid"] != second["pid"]


def test_an_idle_fork_server_that_is_killed_is_replaced_by_the_probe(server: Server) -> None:
    """A probe finds a fork server dead and starts another: the service is ready before the next job comes."""
    (pid,) = server.fork_servers()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.ask("GET", "/readyz").status_code == 200 and lines(server, "fork server ended"))
    wait_until(lambda: server.processes() and pid not in server.processes())
    assert 1 == server.run({"scenario": "counter", "iterations": 100})["attempt"]


def test_a_child_that_somebody_kills_is_told(server: Server) -> None:
    """A child that is ended from outside loses its job, which one line and one counter say, with the signal."""
    job_id = server.submit({"scenario": "named_workers", "threads": 1, "delay_s": 60.0})
    wait_until(lambda: "started" in server.ask("GET", f"/v1/jobs/{job_id}/events").text)
    (child,) = server.children()
    os.kill(child, signal.SIGKILL)
    assert "lost" == server.job(job_id, wait_s=30)["status"]
    assert {("signal", "SIGKILL"): 1} == server.counted("threadlab_children_ended_total")
    (line,) = lines(server, "child ended by a signal that nobody here sent")
    assert (child, job_id, "SIGKILL") == (line["pid"], line["job"], line["signal"])


def test_a_service_that_stood_still_comes_to_itself_again(server: Server) -> None:
    """After a while in which nothing of it ran, as on a machine that is starved or suspended, every job still ends."""
    bodies = [
        {"scenario": "named_workers", "threads": 2, "delay_s": 1.0},
        {"scenario": "named_workers", "threads": 1, "delay_s": 60.0, "timeout_s": 0.5},
        {"scenario": "counter", "iterations": 20_000},
    ]
    job_ids = [server.submit(body) for body in 5 * bodies]
    stopped = stop_all(server)
    time.sleep(PAUSE_S)  # the pause itself: nothing is waited for
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):  # one that had ended is reaped as soon as its parent goes on
            os.kill(pid, signal.SIGCONT)
    ended = [server.job(job_id, wait_s=60) for job_id in job_ids]
    assert 5 * ["succeeded", "timed_out", "succeeded"] == [job["status"] for job in ended]
    assert 200 == server.ask("GET", "/readyz").status_code
    assert 1 == server.run({"scenario": "counter", "iterations": 100})["attempt"]


def stop_all(server: Server) -> list[int]:
    """Stop every process of a server, itself first, so that none is made meanwhile; return their numbers."""
    stopped: list[int] = []
    for found in (lambda: [server.pid], server.fork_servers, server.processes):
        for pid in found():
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
    return stopped


def test_metrics_can_be_scraped_under_load(server: Server) -> None:
    """Scrapes beside jobs are whole, and afterwards every accepted job is counted as ended."""
    stop = threading.Event()
    texts: list[str] = []

    def scrape() -> None:
        with server.client() as client:
            while not stop.is_set():
                texts.append(client.get("/metrics").text)

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        ids = [server.submit({"scenario": "named_workers", "threads": 2, "delay_s": 0.01}) for _ in range(50)]
        for job_id in ids:
            assert "succeeded" == server.job(job_id, wait_s=60)["status"]
    finally:
        stop.set()
        scraper.join()
    assert all(list(text_string_to_metric_families(text)) for text in texts)
    assert {("wait", "named_workers"): 50} == server.counted("threadlab_jobs_accepted_total")
    assert {("wait", "named_workers", "succeeded"): 50} == server.counted("threadlab_jobs_ended_total")
    assert {} == server.counted("threadlab_jobs_running")
