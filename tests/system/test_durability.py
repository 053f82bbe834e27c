"""A real server is killed at random moments under load; no accepted job is lost, and nothing outlives it."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.jobs import FINAL
from tests.support import CI, wait_until
from tests.system.server import Server

KILLS = 200 if CI else 20
SERVERS = 4  # that are killed side by side, each with a database of its own: a start takes a second
CLIENTS = 2  # of each
BETWEEN_S = 0.01  # two requests of one client: so that what is accepted can also be run


class Load:
    """Client threads that post jobs as fast as they are answered, and keep book of what was promised to them.

    A request that was not answered is sent again with its key after the next start, as a careful client does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0  # guarded by _lock
        self.promised: dict[str, str] = {}  # Idempotency-Key -> id of the job that got a 202; guarded by _lock
        self.unanswered: list[str] = []  # keys of requests that the kill cut off; guarded by _lock

    def press(self, server: Server, moment: Callable[[], None]) -> None:
        """Post until `moment`, which ends the server, has returned."""
        stop = threading.Event()
        threads = [threading.Thread(target=self._post, args=(server.url, stop)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            moment()
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _post(self, url: str, stop: threading.Event) -> None:
        with httpx.Client(base_url=url, timeout=30, trust_env=False, verify=False) as client:
            while not stop.is_set():
                key = self._next_key()
                try:
                    response = client.post("/v1/jobs", json=_body(key), headers={"Idempotency-Key": key})
                except httpx.TransportError:
                    with self._lock:
                        self.unanswered.append(key)
                    return
                assert response.status_code in {200, 202}, response.text
                with self._lock:
                    self._note(key, response.json()["id"])
                stop.wait(BETWEEN_S)

    def _next_key(self) -> str:
        with self._lock:
            if self.unanswered:
                return self.unanswered.pop()
            self._number += 1
            return f"key-{self._number}"

    def _note(self, key: str, job_id: str) -> None:
        assert self.promised.setdefault(key, job_id) == job_id


def _body(key: str) -> dict[str, Any]:
    """A request of either lane, which is the same for the same key."""
    number = int(key.rpartition("-")[2])
    if number % 3 == 0:
        return {"scenario": "counter", "threads": 2, "iterations": 2_000, "label": key}
    return {"scenario": "named_workers", "threads": 2, "delay_s": 0.05 * (number % 4), "label": key}


@pytest.mark.timeout(900)
def test_no_accepted_job_is_lost_by_kills(tmp_path: Path) -> None:
    """After many kills at random moments every job that got a 202 ends, once, and is told without a gap.

    No process outlives its server.
    """
    with ThreadPoolExecutor(SERVERS) as pool:
        for tried in [pool.submit(kill_often, tmp_path / str(seed), seed) for seed in range(SERVERS)]:
            tried.result()


def kill_often(folder: Path, seed: int) -> None:
    """Kill one server again and again, and look what became of what it had accepted."""
    folder.mkdir()
    load, moments = Load(), random.Random(seed)
    with Server(folder) as server:
        for number in range(KILLS // SERVERS):
            server.start()
            known = len(load.promised)

            def killed(known: int = known, lets_one_in: bool = number % 2 == 0) -> None:
                if lets_one_in:  # else it may be killed before it has accepted anything
                    wait_until(lambda: len(load.promised) > known, 30.0)
                time.sleep(moments.uniform(0.0, 0.25))  # the random moment itself: nothing is waited for
                server.kill()

            load.press(server, killed)
            wait_until(lambda: not server.processes(), 15.0)
            wait_until(lambda: not list((folder / "tmp").iterdir()))  # the fork server clears up after its children
        server.start()
        for key in list(load.unanswered):
            response = server.ask("POST", "/v1/jobs", json=_body(key), headers={"Idempotency-Key": key})
            assert response.status_code in {200, 202}, response.text
            load.promised[key] = response.json()["id"]
        assert len(load.promised) >= KILLS // SERVERS // 2
        ended = {key: server.job(job_id, wait_s=60) for key, job_id in load.promised.items()}
        listed = _all_jobs(server)
        with server.client() as client:
            for job in ended.values():
                check_story(job, client.get(f"/v1/jobs/{job['id']}/events").json())
    for key, job in ended.items():
        assert job["status"] in FINAL, job
        assert key == job["label"], "a key has led to another request's job"
        assert job["status"] == "succeeded" or job["attempt"] == 3, job
    assert set(load.promised.values()) == set(listed), "a job was remembered that nobody asked for, or twice"
    assert len(load.promised) == len(set(load.promised.values()))


def check_story(job: dict[str, Any], page: dict[str, Any]) -> None:
    """Check that a job is told from its acceptance to its one end, by ids that grow without a gap."""
    events = page["events"]
    assert page["next_cursor"] is None, job["id"]
    ids = [tuple(map(int, event["id"].split("-"))) for event in events]
    assert (0, 1) == ids[0]
    for (epoch, number), (before, last) in itertools.pairwise(reversed(ids)):
        assert (epoch, number) == (before, last + 1) or (epoch > before and number == 1), (job["id"], ids)
    states = [event["status"] for event in events if event["type"] == "state"]
    assert ["queued", job["status"]] == [states[0], states[-1]]
    assert [job["status"]] == [state for state in states if state in FINAL], (job["id"], states)


def test_running_job_runs_again_after_a_kill(tmp_path: Path) -> None:
    """A job that ran when the server was killed is run again from its beginning, and says so."""
    with Server(tmp_path) as server:
        server.start()
        job_id = server.submit({"scenario": "named_workers", "threads": 1, "delay_s": 1.0})
        wait_until(lambda: _on_disk(server, job_id) == ("running", 1) and server.children())
        server.kill()
        wait_until(lambda: not server.processes(), 15.0)
        server.start()
        job = server.job(job_id, wait_s=30)
        assert ("succeeded", 2) == (job["status"], job["attempt"])


def test_job_that_outlasts_three_services_is_lost(tmp_path: Path) -> None:
    """A job that three services ended under is not tried a fourth time, and says why."""
    with Server(tmp_path) as server:
        server.start()
        job_id = server.submit({"scenario": "named_workers", "threads": 1, "delay_s": 60.0})
        for attempt in (1, 2, 3):
            wait_until(lambda expected=attempt: _on_disk(server, job_id) == ("running", expected))
            server.kill()
            server.start()
        job = server.job(job_id)
        assert ("lost", 3) == (job["status"], job["attempt"])
        assert "3 attempts" in job["error"]["message"]
        assert 202 == server.ask("POST", f"/v1/jobs/{job_id}/rerun", json={"delay_s": 0.0}).status_code


def test_finished_job_is_the_same_after_a_kill(tmp_path: Path) -> None:
    """What was told of a finished job never changes."""
    with Server(tmp_path) as server:
        server.start()
        job = server.run({"scenario": "counter", "iterations": 100})
        server.kill()
        server.start()
        assert job == server.job(job["id"])


def test_death_of_the_fork_server_costs_no_job(tmp_path: Path) -> None:
    """When the fork server is killed under a running job, the job is run again by a new one, in the same service."""
    with Server(tmp_path) as server:
        server.start()
        job_id = server.submit({"scenario": "named_workers", "threads": 1, "delay_s": 0.5})
        wait_until(server.children)
        children = server.children()
        (fork_server,) = server.fork_servers()
        os.kill(fork_server, signal.SIGKILL)
        job = server.job(job_id, wait_s=30)
        assert ("succeeded", 2) == (job["status"], job["attempt"])
        wait_until(lambda: not set(children) & set(server.processes()))
        assert 200 == server.ask("GET", "/readyz").status_code


def _on_disk(server: Server, job_id: str) -> tuple[str, int]:
    """Where a job stands in the database, which a start may reach some milliseconds after it is told."""
    with contextlib.closing(sqlite3.connect(server.folder / "jobs.db")) as database:
        row = database.execute("SELECT status, attempt FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return str(row[0]), int(row[1])


def _all_jobs(server: Server) -> list[str]:
    ids: list[str] = []
    cursor = ""
    while True:
        page = server.ask("GET", f"/v1/jobs?limit=200{cursor}").json()
        ids += [job["id"] for job in page["jobs"]]
        if page["next_cursor"] is None:
            return ids
        cursor = f"&cursor={page['next_cursor']}"
