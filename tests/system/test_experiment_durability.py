"""A real server is killed in the middle of an experiment, again and again; no run is lost and none is made twice."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

from service.jobs import FINAL
from tests.support import wait_until
from tests.system.server import Server

KILLS = 5

MATRIX = {"scenario": "named_workers", "vary": {"threads": [1, 2, 3]}, "repeats": 4, "delay_s": 0.08}


def test_no_run_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    """After kills at random moments each repeat of each cell has one run, made by one job, and the experiment ends."""
    moments = random.Random(20_240_229)
    in_the_middle = 0
    with Server(tmp_path) as server:
        server.start()
        experiment_id = _submit(server, MATRIX)
        for _ in range(KILLS):
            time.sleep(moments.uniform(0.0, 0.15))  # the random moment itself: nothing is waited for
            server.kill()
            in_the_middle += _status(server, experiment_id) == "running"
            wait_until(lambda: not server.processes(), 15.0)
            server.start()
        experiment = _finished(server, experiment_id)
        jobs = server.ask("GET", "/v1/jobs", params={"label": experiment_id, "limit": 200}).json()["jobs"]
    assert in_the_middle >= 2  # all of them, on a machine that is not too busy
    assert ("succeeded", {"done": 12, "of": 12}) == (experiment["status"], experiment["progress"])
    runs = [(row["cell"], raw["repeat"], raw["job_id"]) for row in experiment["rows"] for raw in row["raw"]]
    assert list(product(range(3), range(4))) == [(cell, repeat) for cell, repeat, _ in runs]
    assert Counter(job["id"] for job in jobs) == Counter(job_id for _, _, job_id in runs)
    threads = {job["id"]: job["request"]["threads"] for job in jobs}
    for cell, _, job_id in runs:
        assert cell + 1 == threads[job_id], "a run was made with the parameters of another cell"
    for job in jobs:
        assert job["status"] in FINAL, job
        assert job["status"] == "succeeded" or job["attempt"] == 3, job
    assert 12 == len(_keys(tmp_path)) == len(set(_keys(tmp_path)))


def test_graceful_end_keeps_what_was_seen(tmp_path: Path) -> None:
    """On SIGTERM the run under way may end, the rest waits, and a new start goes on without running it again."""
    with Server(tmp_path, THREADLAB_SHUTDOWN_GRACE_S="20") as server:
        server.start()
        experiment_id = _submit(server, {**MATRIX, "repeats": 2, "delay_s": 0.2})
        wait_until(lambda: _keys(tmp_path))
        server.stop()
        assert "running" == _status(server, experiment_id)
        assert len(_keys(tmp_path)) < 6
        server.start()
        experiment = _finished(server, experiment_id)
        jobs = server.ask("GET", "/v1/jobs", params={"label": experiment_id}).json()["jobs"]
    assert ("succeeded", 6) == (experiment["status"], experiment["progress"]["done"])
    assert [("succeeded", 1)] * 6 == [(job["status"], job["attempt"]) for job in jobs]


def _submit(server: Server, body: dict[str, Any]) -> str:
    response = server.ask("POST", "/v1/experiments", json=body)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def _finished(server: Server, experiment_id: str) -> dict[str, Any]:
    response = server.ask("GET", f"/v1/experiments/{experiment_id}", headers={"Prefer": "wait=60"})
    assert response.status_code == 200, response.text
    return dict(response.json())


def _status(server: Server, experiment_id: str) -> str:
    """Where an experiment stands in the database."""
    with contextlib.closing(sqlite3.connect(server.folder / "jobs.db")) as database:
        row = database.execute("SELECT status FROM experiments WHERE id = ?", (experiment_id,)).fetchone()
        return str(row[0])


def _keys(folder: Path) -> list[str]:
    """The places in the plan for which there is a job."""
    with contextlib.closing(sqlite3.connect(folder / "jobs.db")) as database:
        rows = database.execute("SELECT idempotency_key FROM jobs WHERE idempotency_key IS NOT NULL")
        return [str(key) for (key,) in rows]
