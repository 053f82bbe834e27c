"""A real service whose database is in trouble: what it says at its start, what it answers meanwhile, how it goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support import CI, need, wait_until
from tests.system.server import ROOT, Server

JOB = {"scenario": "counter", "iterations": 100}
DUMPS = ROOT / "tests" / "stores" / "databases"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that is not started."""
    with Server(tmp_path) as server:
        yield server


def refused(server: Server, *flags: str, exit_s: float = 60.0) -> str:
    """The one line that a server says which does not start."""
    process = server.launch(*flags)
    assert 1 == process.wait(exit_s)
    assert "Traceback" not in server.log
    told = [line for line in server.log.splitlines() if "database" in line.lower() or ".lock" in line]
    assert 1 == len(told), server.log
    return told[0]


def problem(response: httpx.Response) -> str:
    """What an answer says that the database could not be used."""
    assert (503, "application/problem+json") == (response.status_code, response.headers["content-type"])
    assert response.json()["type"].endswith("/problems/store-unavailable")
    return str(response.json()["detail"])


def unready(server: Server) -> str:
    """Why no job can be taken, as the probe says; an empty text if it can."""
    response = server.ask("GET", "/readyz")
    assert response.status_code in (200, 503)
    return "" if response.status_code == 200 else str(response.json()["detail"])


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own; where that may not be made, skip on a laptop and fail where CI is set."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [need("mount"), "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True, timeout=30
    )
    if done.returncode != 0:
        (pytest.fail if CI and os.geteuid() == 0 else pytest.skip)("a file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run([need("umount"), "-l", folder], check=True, timeout=30)


def fill(folder: Path) -> Path:
    """Leave no room in a file system."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4_096)
    return ballast


# At the start.


def _no_database(path: Path) -> None:
    path.write_text("Dear diary, " * 1_000)


def _other_program(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE diary (page TEXT)")


def _newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript((DUMPS / "events.sql").read_text("utf-8"))
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('0099')")
        database.commit()


def _damaged(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript((DUMPS / "events.sql").read_text("utf-8"))
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)


def _broken_row(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript((DUMPS / "events.sql").read_text("utf-8"))
        database.execute("UPDATE jobs SET request = '{' WHERE status = 'running'")
        database.commit()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_no_database, "put a backup in its place, or name another file in THREADLAB_DATABASE_URL"),
        (_other_program, "of another program, with the tables diary"),
        (_newer, "of a newer Threadlab"),
        (_damaged, "put a backup in its place"),
        (_broken_row, "cannot be read: JSONDecodeError"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_in_a_sentence(
    server: Server, make: Callable[[Path], None], told: str
) -> None:
    """Whatever is wrong with the file, the command ends with 1, and says in one line what to do."""
    make(server.folder / "jobs.db")
    process = server.launch()
    assert 1 == process.wait(60)
    assert "Traceback" not in server.log
    assert 1 == len([line for line in server.log.splitlines() if told in line]), server.log


def test_a_folder_that_cannot_be_written_is_told(server: Server) -> None:
    """A folder that is missing, or may only be read, is named, with what to do."""
    absent = server.folder / "absent" / "jobs.db"
    assert f"{absent}.lock cannot be made: No such file" in refused(
        server, "--port", "0", "--database", f"sqlite:///{absent}"
    )
    with _read_only(server.folder / "read-only") as folder:
        line = refused(server, "--port", "0", "--database", f"sqlite:///{folder}/jobs.db")
    assert "jobs.db.lock cannot be made: " in line
    assert "be allowed to write there" in line


@contextmanager
def _read_only(folder: Path) -> Iterator[Path]:
    if os.geteuid() == 0:  # whom permissions do not bind
        with mounted(folder, "size=1m,ro"):
            yield folder
    else:
        folder.mkdir(mode=0o555)
        yield folder


def test_a_file_that_cannot_be_written_is_told(server: Server) -> None:
    """A file that may only be read is told of, with what to change, and nothing is left behind."""
    server.start()
    server.stop()
    path = server.folder / "jobs.db"
    with _read_only_file(path):
        line = refused(server)
    assert "attempt to write a readonly database. Let the user of the service write to the file" in line
    server.start()


@contextmanager
def _read_only_file(path: Path) -> Iterator[None]:
    if os.geteuid() != 0:
        path.chmod(0o444)
        yield
        path.chmod(0o644)
        return
    mount, umount = need("mount"), need("umount")  # permissions do not bind root
    if subprocess.run([mount, "--bind", path, path], check=False, capture_output=True, timeout=30).returncode != 0:
        (pytest.fail if CI else pytest.skip)("a file cannot be mounted here")
    try:
        subprocess.run([mount, "-o", "remount,ro,bind", path], check=True, timeout=30)
        yield
    finally:
        subprocess.run([umount, path], check=True, timeout=30)


def test_a_full_disk_is_told_at_the_start(server: Server) -> None:
    """A service that cannot write down that it has begun does not begin."""
    with mounted(server.folder / "small", "size=2m") as folder:
        ballast = fill(folder)
        line = refused(server, "--port", "0", "--database", f"sqlite:///{folder}/jobs.db")
        assert "database or disk is full. Make room on its disk." in line
        ballast.unlink()
        server.start("--port", "0", "--database", f"sqlite:///{folder}/jobs.db")
        server.run(JOB)
        server.stop()


def test_a_locked_database_is_told_at_the_start(server: Server) -> None:
    """A program that holds the file for itself is waited for a while, and then told of."""
    server.start()
    server.stop()
    with contextlib.closing(sqlite3.connect(server.folder / "jobs.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "database is locked. Another program holds the file" in refused(server)
    server.start()


# One service, one file.


def test_a_second_service_is_refused(server: Server) -> None:
    """The second service on a file ends with 1 and says who has it; the first goes on; after its kill another may."""
    server.start()
    first = server.pid
    link = server.folder / "link.db"
    link.symlink_to(server.folder / "jobs.db")
    (server.folder / "second").mkdir()
    with Server(server.folder / "second") as second:
        for url in (server.database, f"sqlite:///{link}"):
            line = refused(second, "--port", "0", "--database", url)
            assert f"in use by another Threadlab: process {first} on {socket.gethostname()}, since " in line
        server.run(JOB)
        server.kill()
        second.start("--port", "0", "--database", server.database)
        assert 1 == len(second.ask("GET", "/v1/jobs").json()["jobs"])


def test_the_lock_is_not_inherited(server: Server) -> None:
    """Neither a fork server nor a child has the lock open."""
    server.start()
    server.submit({"scenario": "named_workers", "threads": 1, "delay_s": 60})
    wait_until(server.children)
    for pid in server.processes():
        files = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]  # noqa: PTH115  a socket is no path
        assert [] == [name for name in files if "jobs.db" in name]
    lock = server.folder / "jobs.db.lock"
    own = [path.resolve() for path in Path(f"/proc/{server.pid}/fd").iterdir()]
    assert lock.resolve() in own  # it would have been seen


# While it runs.


def test_a_full_disk_costs_what_does_not_fit(server: Server) -> None:
    """While the disk is full jobs are refused with 503 and what is there is read; with room again, all goes on."""
    with mounted(server.folder / "small", "size=2m") as folder:
        server.start("--port", "0", "--database", f"sqlite:///{folder}/jobs.db")
        job = server.run(JOB)
        ballast = fill(folder)
        statuses = []
        for number in range(200):  # what the log has room for is still taken
            response = server.ask("POST", "/v1/jobs", json={**JOB, "label": f"{number} {'x' * 150}"})
            statuses.append(response.status_code)
            if response.status_code == 503:
                break
        assert {202, 503} >= set(statuses)
        assert "disk is full. Make room on its disk." in problem(response)
        assert "disk is full. Make room on its disk." in unready(server)
        assert job == server.ask("GET", f"/v1/jobs/{job['id']}").json()
        accepted = {each["id"] for each in server.ask("GET", "/v1/jobs?limit=200").json()["jobs"]}
        assert len(accepted) == 1 + statuses.count(202)
        ballast.unlink()
        server.run(JOB)
        assert "" == unready(server)
        server.stop()


@pytest.mark.parametrize("killed", [False, True], ids=["later", "at the next start"])
def test_an_end_that_cannot_be_written_is_made_up_for(server: Server, killed: bool) -> None:
    """A job whose end could not be written is not lost: it is written when it can be, or the next start runs it."""
    server.start()
    job = server.submit({"scenario": "named_workers", "threads": 1, "delay_s": 1.0})
    with contextlib.closing(sqlite3.connect(server.folder / "jobs.db", isolation_level=None)) as other:
        wait_until(lambda: other.execute("SELECT 1 FROM jobs WHERE status = 'running'").fetchone())
        other.execute("BEGIN EXCLUSIVE")
        wait_until(lambda: f'"the end of a job could not be written yet", "job": "{job}"' in server.log)
        assert "running" == server.job(job)["status"]
        if killed:
            server.kill()
        other.execute("COMMIT")
    if killed:
        server.start()
    ended = server.job(job, wait_s=30)
    assert ("succeeded", 1 + killed) == (ended["status"], ended["attempt"])


def test_a_client_that_waits_for_an_end_that_cannot_be_written(server: Server) -> None:
    """It is told that its job is accepted, which is so, and not that nothing was."""
    server.start()
    body = {"scenario": "named_workers", "threads": 1, "delay_s": 1.0}
    with (
        ThreadPoolExecutor(1) as pool,
        contextlib.closing(sqlite3.connect(server.folder / "jobs.db", isolation_level=None)) as other,
    ):
        asked = pool.submit(server.ask, "POST", "/v1/jobs", json=body, headers={"Prefer": "wait=60"})
        wait_until(lambda: other.execute("SELECT 1 FROM jobs WHERE status = 'running'").fetchone())
        other.execute("BEGIN EXCLUSIVE")
        answer = asked.result(60)
        assert (202, False) == (answer.status_code, answer.json()["status"] == "succeeded")
        other.execute("COMMIT")
    assert "succeeded" == server.job(answer.headers["Location"].rpartition("/")[2], wait_s=30)["status"]


def test_the_end_of_the_service_does_not_wait_for_each_end_that_cannot_be_written(server: Server) -> None:
    """However many jobs have ended while another program has the file, it is waited for once or twice."""
    server.start()
    jobs = [server.submit({"scenario": "named_workers", "threads": 1, "delay_s": 1.0}) for _ in range(12)]
    with contextlib.closing(sqlite3.connect(server.folder / "jobs.db", isolation_level=None)) as other:
        wait_until(lambda: other.execute("SELECT count(*) FROM jobs WHERE status = 'running'").fetchone() == (12,))
        other.execute("BEGIN EXCLUSIVE")
        wait_until(lambda: server.log.count("the end of a job could not be written yet") == 12)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 40  # 10 to 15 s; one after the other takes SQLite's 5 s for each
        other.execute("COMMIT")
    server.start()
    assert {"succeeded"} == {server.job(job, wait_s=30)["status"] for job in jobs}


def test_a_lock_of_another_program_costs_a_wait(server: Server) -> None:
    """While another program locks the file no job can be taken, which the probe says; all else is answered at once."""
    server.start()
    job = server.run(JOB)
    with contextlib.closing(sqlite3.connect(server.folder / "jobs.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        for _ in range(50):
            assert 200 == server.ask("GET", f"/v1/jobs/{job['id']}").status_code
        assert time.monotonic() - begun < 30  # some 0.5 s here
        assert "It did not answer within 0.8 s." in unready(server)
        assert "database is locked" in problem(server.ask("POST", "/v1/jobs", json=JOB))
        wait_until(lambda: "database is locked. Another program holds the file" in unready(server))
    wait_until(lambda: unready(server) == "")
    server.run(JOB)


def test_a_deleted_file_costs_what_it_held(server: Server) -> None:
    """When the file is gone everything about jobs is 503 until it is back, and nothing is accepted into nowhere."""
    server.start()
    job = server.run(JOB)
    path = server.folder / "jobs.db"
    path.rename(server.folder / "away.db")
    calls = [("GET", "/v1/jobs"), ("GET", f"/v1/jobs/{job['id']}"), ("DELETE", f"/v1/jobs/{job['id']}")]
    for answer in [server.ask(*call) for call in calls] + [server.ask("POST", "/v1/jobs", json=JOB)]:
        assert f"file {path} is gone: put it back" in problem(answer)
    assert 200 == server.ask("GET", "/healthz").status_code
    (server.folder / "away.db").rename(path)
    assert job == server.ask("GET", f"/v1/jobs/{job['id']}").json()
    server.run(JOB)


def test_a_deleted_log_costs_nothing_if_the_service_is_stopped(server: Server) -> None:
    """When the log beside the file is gone nothing is accepted into it; a stop of the service saves what it held."""
    server.start()
    job = server.run(JOB)
    (server.folder / "jobs.db-wal").unlink()
    for call in (("GET", "/v1/jobs"), ("GET", f"/v1/jobs/{job['id']}")):
        assert "has lost jobs.db-wal: stop the service" in problem(server.ask(*call))
    assert "has lost jobs.db-wal" in problem(server.ask("POST", "/v1/jobs", json=JOB))
    assert 503 == server.ask("GET", "/readyz").status_code
    server.stop()
    server.start()
    assert job == server.job(job["id"])
    server.run(JOB)


def test_a_broken_row_costs_itself(server: Server) -> None:
    """A row that cannot be read is 503 for whoever asks for what is broken, by name; other jobs are there; it can be
    deleted.
    """
    server.start()
    whole, broken = server.run(JOB), server.run(JOB)["id"]
    listed = server.ask("GET", "/v1/jobs").json()
    its_own = (f"/v1/jobs/{broken}", f"/v1/jobs/{broken}/timeline.svg", f"/v1/jobs/{broken}/events")
    with contextlib.closing(sqlite3.connect(server.folder / "jobs.db")) as database:
        database.execute("UPDATE jobs SET result = '{\"outcome\"' WHERE id = ?", (broken,))
        database.commit()
        for path in its_own:
            assert f"What is remembered of {broken} cannot be read" in problem(server.ask("GET", path))
        assert listed == server.ask("GET", "/v1/jobs").json()
        database.execute("UPDATE jobs SET request = '{' WHERE id = ?", (broken,))
        database.commit()
    assert 200 == server.ask("GET", "/readyz").status_code
    for path in (*its_own, "/v1/jobs"):
        assert f"What is remembered of {broken} cannot be read" in problem(server.ask("GET", path))
    assert whole == server.ask("GET", f"/v1/jobs/{whole['id']}").json()
    assert 204 == server.ask("DELETE", f"/v1/jobs/{broken}").status_code
    assert [whole["id"]] == [job["id"] for job in server.ask("GET", "/v1/jobs").json()["jobs"]]


def test_damaged_pages_cost_what_they_held(server: Server) -> None:
    """A database with damaged pages answers 200 or 503, never 500, and goes on answering."""
    server.start()
    jobs = [server.run({**JOB, "label": f"label {number}"})["id"] for number in range(30)]
    server.stop()
    path = server.folder / "jobs.db"
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(b'"label 15"') // 4_096 * 4_096)
        file.write(b"\xa5" * 4_096)
    server.start()
    answers = {job: server.ask("GET", f"/v1/jobs/{job}") for job in jobs}
    assert "database disk image is malformed. The file is damaged." in problem(answers[jobs[15]])
    assert {200, 503} == {answer.status_code for answer in answers.values()}
    assert 503 == server.ask("GET", "/v1/jobs?limit=200").status_code
    assert 200 == server.ask("GET", "/healthz").status_code


# Over time.


@pytest.mark.parametrize("name", ["jobs", "experiments", "events", "retention"])
def test_an_earlier_database_is_served(server: Server, name: str) -> None:
    """Each job and experiment of a database of an earlier service is answered, in every form there is."""
    with contextlib.closing(sqlite3.connect(server.folder / "jobs.db")) as database:
        database.executescript((DUMPS / f"{name}.sql").read_text("utf-8"))
        ended = [i for (i,) in database.execute("SELECT id FROM jobs WHERE status NOT IN ('queued', 'running')")]
    server.start()
    with server.client() as client:
        for job_id in ended:
            for part in ("", "/events", "/output", "/timeline.svg", "/trace.json"):
                assert 200 == client.get(f"/v1/jobs/{job_id}{part}").status_code, (job_id, part)
        for experiment in client.get("/v1/experiments").json()["experiments"]:
            for part in ("", "/table.csv", "/chart.svg"):
                assert 200 == client.get(f"/v1/experiments/{experiment['id']}{part}").status_code
        listed = {job["id"]: job["outcome"] for job in client.get("/v1/jobs?limit=200").json()["jobs"]}
        assert len(ended) < len(listed)  # the others are on their way again
        for job_id in ended:
            assert listed[job_id] == client.get(f"/v1/jobs/{job_id}").json()["result"]["outcome"]
    assert '"message": "the database was brought forward"' in server.log


def test_old_jobs_are_forgotten(server: Server) -> None:
    """A finished job is gone some time after it has ended; one that runs, and one that is new, are not."""
    server.start(THREADLAB_RETENTION_S="3")
    running = server.submit({"scenario": "named_workers", "threads": 1, "delay_s": 60})
    old = server.run(JOB)["id"]
    wait_until(lambda: server.ask("GET", f"/v1/jobs/{old}").status_code == 404)
    assert "running" == server.job(running)["status"]
    new = server.run(JOB)["id"]
    assert 200 == server.ask("GET", f"/v1/jobs/{new}").status_code


def test_nothing_is_left_beside_the_file(server: Server) -> None:
    """A service that has ended leaves one file, which can be copied away; a deleted one is begun anew."""
    server.start()
    server.run(JOB)
    server.stop()
    assert ["jobs.db"] == [path.name for path in server.folder.glob("jobs.db*")]
    shutil.move(server.folder / "jobs.db", server.folder / "backup.db")
    server.start()
    assert [] == server.ask("GET", "/v1/jobs").json()["jobs"]
