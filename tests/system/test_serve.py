"""`threadlab serve` as a process: what it prints, how it is set, how it ends, and that it truly ends threads."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path

import httpx
import pytest

from service import __version__, cli
from service.app import create_app
from service.errors import StoreUnavailable
from service.executors.scripted import ScriptedExecutor
from service.settings import Settings
from service.stores.memory import MemoryStore
from tests.support import need, wait_until
from tests.system.server import Server, plain_environment

ENDED = {0, -signal.SIGTERM}  # uvicorn ends by the signal itself once it has cleaned up, as shells expect

LONG = {"scenario": "named_workers", "threads": 2, "delay_s": 60.0}
BUSY = {"scenario": "counter", "threads": 64, "iterations": 10_000_000, "timeout_s": 120}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that is not started."""
    with Server(tmp_path) as server:
        yield server


def said(server: Server) -> list[dict[str, object]]:
    """The JSON log lines; the greeting for people is left out."""
    lines = [line for line in server.log.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


class TestGreeting:
    def test_names_the_address_and_the_documentation(self, server: Server) -> None:
        """The start-up line has an address that answers, and the documentation's."""
        server.start()
        assert f"Threadlab {__version__} listens on {server.url}" in server.log
        assert f"docs: {server.url}/docs" in server.log
        assert 200 == server.ask("GET", "/docs").status_code

    def test_curl_runs_when_pasted(self, server: Server) -> None:
        """The line to paste submits a job and prints the finished one."""
        need("curl")
        server.start()
        (line,) = re.findall(r"^\s*(curl .*)$", server.log, re.MULTILINE)
        environment = plain_environment(server.folder)
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, timeout=60, env=environment, check=False
        )
        assert 0 == done.returncode, done.stderr
        job = json.loads(done.stdout)
        assert ("counter", "succeeded") == (job["scenario"], job["status"])

    def test_first_job_is_soon_done(self, server: Server) -> None:
        """From the start of the process to the first finished job it takes a moment."""
        begun = time.monotonic()
        server.start()
        server.run({"scenario": "counter", "iterations": 100})
        assert time.monotonic() - begun < 20  # 0.9 s here; a busy machine may take its time

    def test_ipv6_address_can_be_used(self, server: Server) -> None:
        """An IPv6 address is written in brackets, as in a URL."""
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        server.start("--host", "::1", "--port", "0", "--database", "memory:")
        assert server.url.startswith("http://[::1]:")
        assert 200 == server.ask("GET", "/healthz").status_code


class TestSettings:
    def test_environment_sets(self, server: Server) -> None:
        """Each setting can be given as THREADLAB_ and its name."""
        server.start(
            "--port",
            "0",
            THREADLAB_DATABASE_URL="memory:",
            THREADLAB_MAX_THREADS="5",
            THREADLAB_CPU_SLOTS="2",
            THREADLAB_HOST="127.0.0.1",
        )
        capacity = server.ask("GET", "/v1/capacity").json()
        assert (5, 2) == (capacity["limits"]["max_threads"], capacity["lanes"]["cpu"]["slots"])
        assert 422 == server.ask("POST", "/v1/jobs", json={"scenario": "counter", "threads": 6}).status_code
        assert not list(server.folder.glob("*.db"))

    def test_flags_win_over_the_environment(self, server: Server) -> None:
        """What is given on the command line counts."""
        flags = ["--host", "127.0.0.1", "--port", "0", "--database", server.database]
        server.start(
            *flags,
            THREADLAB_HOST="host.invalid",
            THREADLAB_PORT="1",
            THREADLAB_DATABASE_URL=f"sqlite:///{server.folder}/x",
        )
        assert server.url.startswith("http://127.0.0.1:")
        assert not server.url.endswith(":1")
        assert ["jobs.db"] == [path.name for path in server.folder.iterdir() if path.name in {"jobs.db", "x"}]

    def test_default_database_is_in_the_working_directory(self, server: Server) -> None:
        """Without a setting jobs are in `threadlab.db` where the service was started."""
        server.start("--port", "0")
        server.submit({"scenario": "counter", "iterations": 10})
        assert (server.folder / "threadlab.db").exists()

    def test_unknown_variables_are_left_alone(self, server: Server) -> None:
        """A variable that is no setting does not stop the service."""
        server.start(THREADLAB_SOMETHING_ELSE="1")
        assert 200 == server.ask("GET", "/healthz").status_code

    @pytest.mark.parametrize(
        ("name", "value", "told"),
        [
            ("THREADLAB_PORT", "http", "THREADLAB_PORT"),
            ("THREADLAB_PORT", "70000", "65535"),
            ("THREADLAB_CPU_SLOTS", "0", "THREADLAB_CPU_SLOTS"),
            ("THREADLAB_LOG_LEVEL", "loud", "THREADLAB_LOG_LEVEL"),
            ("THREADLAB_DATABASE_URL", "mongo://x", "mongo"),
        ],
    )
    def test_bad_setting_is_told_and_nothing_is_started(self, server: Server, name: str, value: str, told: str) -> None:
        """A setting that cannot be used is named in one message, without a traceback, and the exit code is not 0."""
        flags = ["--port", "0"] if name != "THREADLAB_PORT" else ["--host", "127.0.0.1"]
        process = server.launch(*flags, **{name: value})
        assert 1 == process.wait(30)
        (line,) = server.log.splitlines()
        assert told in line

    @pytest.mark.parametrize("flags", [["--port", "http"], ["--prot", "1"], ["--database"]])
    def test_bad_flag_is_told(self, server: Server, flags: list[str]) -> None:
        """A flag that cannot be used is named, and the exit code is 2."""
        assert 2 == server.launch(*flags).wait(30)
        assert flags[0].strip("-") in server.log

    def test_port_in_use_is_told(self, server: Server) -> None:
        """A port that somebody else listens on is named, and the exit code is not 0."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            process = server.launch("--port", port, "--database", "memory:")
            assert 1 == process.wait(30)
        (line,) = server.log.splitlines()
        assert f"Port {port} of 127.0.0.1 is taken: end the program that listens there, or take another one" in line
        wait_until(lambda: not server.processes())

    def test_database_that_cannot_be_used_is_told(self, server: Server) -> None:
        """A database that cannot be opened is told in one message, and the exit code is not 0."""
        process = server.launch("--port", "0", "--database", f"sqlite:///{server.folder}/no/such/folder/jobs.db")
        assert 1 == process.wait(30)
        assert "no/such/folder/jobs.db.lock cannot be made" in server.log
        assert "Traceback" not in server.log

    def test_refusal_is_told_in_its_own_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the service refuses a start for is told as it is, whatever stands in it."""
        text = "The disk: is full.\nMake room: then start again."
        assert text == _told_of_a_start_with(StoreUnavailable(text), monkeypatch)

    def test_fault_is_told_by_its_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An error that nobody raised on purpose is told with all that helps to find it."""
        assert _told_of_a_start_with(RuntimeError("a fault"), monkeypatch).startswith("Traceback")


def _told_of_a_start_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the command tells of an app that does not start, because its store raises an error."""
    told: list[str] = []

    def fail(_: MemoryStore) -> None:
        raise error

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, str]) -> None:
        assert "lifespan.startup.failed" == message["type"]
        told.append(message["message"])

    monkeypatch.setattr(MemoryStore, "open", fail)
    app = create_app(Settings(database_url="memory:"), ScriptedExecutor())
    with pytest.raises(type(error)):
        asyncio.run(cli._telling(app)({"type": "lifespan", "app": app, "state": {}}, receive, send))
    return "".join(told)


class TestLog:
    def test_is_json_off_a_terminal(self, server: Server) -> None:
        """Every line but the greeting is a JSON object; a request's has its id, method, path, status and time."""
        server.start()
        response = server.ask("GET", "/v1/jobs/job_1", headers={"X-Request-ID": "mine-1"})
        assert "mine-1" == response.headers["x-request-id"] == response.json()["request_id"]
        wait_until(lambda: "mine-1" in server.log)
        (line,) = [line for line in said(server) if line.get("request_id") == "mine-1"]
        assert ("GET /v1/jobs/job_1", 404, "INFO") == (line["message"], line["status"], line["level"])
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", str(line["time"]))
        rest = [line for line in server.log.splitlines() if line and not line.startswith("{")]
        assert 2 == len(rest), rest  # the greeting and the line to paste

    def test_tells_of_a_job_s_end(self, server: Server) -> None:
        """The end of a job is a line with its id, its state and its outcome."""
        server.start()
        job = server.run({"scenario": "counter", "iterations": 100})
        (line,) = [line for line in said(server) if line.get("job") == job["id"]]
        assert ("job ended", "succeeded", "counter") == (line["message"], line["status"], line["scenario"])
        assert job["result"]["outcome"] == line["outcome"]

    def test_level_is_a_setting(self, server: Server) -> None:
        """With the level `error`, requests are not logged."""
        server.start(THREADLAB_LOG_LEVEL="error")
        server.ask("GET", "/healthz", headers={"X-Request-ID": "mine-1"})
        server.stop()
        assert "mine-1" not in server.log

    def test_client_cannot_write_into_it(self, server: Server) -> None:
        """A path with a line break stays within its own line."""
        server.start()
        server.ask("GET", "/v1/jobs/a%0A%7B%22forged%22:1%7D", headers={"X-Request-ID": "mine-1"})
        wait_until(lambda: "mine-1" in server.log)
        assert not [line for line in said(server) if "forged" in line]

    def test_is_text_on_a_terminal(self, tmp_path: Path) -> None:
        """On a terminal a person can read the lines."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve", "--port", "0", "--database", "memory:"],
            cwd=tmp_path,
            env=plain_environment(tmp_path, TERM="dumb", COLUMNS="200"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        try:
            os.close(theirs)
            text = _read_until(ours, r"listens on (http://\S+)")
            url = re.findall(r"listens on (http://\S+)", text)[0]
            httpx.get(f"{url}/nothing", headers={"X-Request-ID": "mine-1"}, trust_env=False, verify=False)
            text += _read_until(ours, r"mine-1")
            (line,) = [line for line in text.splitlines() if "mine-1" in line]
            assert "GET /nothing" in line
            assert "status=404" in line
            assert not line.lstrip().startswith("{")
        finally:
            process.terminate()
            process.wait(30)
            os.close(ours)


def _read_until(descriptor: int, pattern: str) -> str:
    """What a terminal shows, up to a pattern."""
    text, deadline = "", time.monotonic() + 30
    while not re.search(pattern, text):
        ready, _, _ = select.select([descriptor], [], [], deadline - time.monotonic())
        assert ready, f"{pattern} did not come: {text}"
        text += os.read(descriptor, 65_536).decode("utf-8", "replace")
    return text


class TestEnd:
    def test_running_job_ends_within_the_grace(self, server: Server) -> None:
        """On SIGTERM a job that ends within the grace is finished first."""
        server.start(THREADLAB_SHUTDOWN_GRACE_S="30")
        job_id = server.submit({"scenario": "named_workers", "threads": 1, "delay_s": 1.0})
        wait_until(lambda: server.job(job_id)["status"] == "running")
        assert server.stop() in ENDED
        server.start()
        job = server.job(job_id)
        assert ("succeeded", 1) == (job["status"], job["attempt"])

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_rest_is_put_back_and_finishes_after_the_next_start(self, server: Server, number: signal.Signals) -> None:
        """On SIGTERM and Ctrl-C what does not end within the grace waits for the next start, and then runs."""
        server.start(THREADLAB_SHUTDOWN_GRACE_S="0.1")
        running = server.submit({"scenario": "named_workers", "threads": 1, "delay_s": 2.0})
        busy = server.submit({**BUSY, "label": "busy"})
        queued = [server.submit({"scenario": "counter", "iterations": 10}) for _ in range(3)]
        wait_until(lambda: {server.job(each)["status"] for each in (running, busy)} == {"running"})
        begun = time.monotonic()
        server.signal(number)
        assert server.wait() in {*ENDED, 130, -signal.SIGINT}
        assert time.monotonic() - begun < 15
        assert [] == server.processes()
        assert "Traceback" not in server.log
        server.start()
        assert 200 == server.ask("POST", f"/v1/jobs/{busy}/cancel").status_code
        for job_id in [running, *queued]:
            assert ("succeeded", 1) == itemgetter("status", "attempt")(server.job(job_id, wait_s=60))

    def test_client_that_waits_does_not_hold_up_the_end(self, server: Server) -> None:
        """A held answer is given when the service ends: it was accepted, and will run after the next start."""
        server.start(THREADLAB_SHUTDOWN_GRACE_S="0.2")
        with ThreadPoolExecutor(2) as pool:
            post = pool.submit(server.ask, "POST", "/v1/jobs", json=LONG, headers={"Prefer": "wait=60"})
            wait_until(lambda: server.ask("GET", "/v1/jobs").json()["jobs"])  # written a moment after it began
            (job,) = server.ask("GET", "/v1/jobs").json()["jobs"]
            poll = pool.submit(server.job, job["id"], 60)
            begun = time.monotonic()
            server.signal(signal.SIGTERM)
            try:
                assert server.wait(15) in ENDED
            finally:
                if server.alive:
                    server.kill()
            assert time.monotonic() - begun < 15
            assert 202 == post.result(30).status_code, post.result().text
            assert poll.result(30)["status"] in {"queued", "running"}

    def test_second_start_keeps_every_job(self, server: Server) -> None:
        """Stopping and starting loses nothing that was finished."""
        server.start()
        jobs = [server.run({"scenario": "counter", "iterations": 10}) for _ in range(3)]
        assert server.stop() in ENDED
        server.start()
        assert [job["id"] for job in reversed(jobs)] == [
            job["id"] for job in server.ask("GET", "/v1/jobs").json()["jobs"]
        ]

    def test_leaves_no_files_behind(self, server: Server) -> None:
        """After its end nothing of it is left among the temporary files."""
        server.start()
        server.run({"scenario": "counter", "iterations": 10})
        assert server.stop() in ENDED
        assert [] == list((server.folder / "tmp").iterdir())


class TestThreads:
    """64 busy threads: what a thread of the service itself could never end."""

    def test_cancel_ends_them(self, server: Server) -> None:
        """When a cancel is answered, the threads are gone, and their process with them."""
        server.start()
        job_id = server.submit(BUSY)
        wait_until(server.children)
        (child,) = server.children()
        wait_until(lambda: _threads(child) >= 60)
        begun = time.monotonic()
        response = server.ask("POST", f"/v1/jobs/{job_id}/cancel")
        took_s = time.monotonic() - begun
        assert (200, "cancelled") == (response.status_code, response.json()["status"])
        assert [] == server.children()
        assert took_s < 5  # under 0.1 s on a machine of its own
        assert "SIGKILL" == response.json()["result"]["process"]["signal"]

    def test_deadline_ends_them(self, server: Server) -> None:
        """At its deadline a job is `timed_out`, its outcome `stuck`, and its process gone."""
        server.start()
        job = server.run({**BUSY, "timeout_s": 3.0})  # all of them have started by then, on a busy machine, too
        assert ("timed_out", "stuck") == (job["status"], job["result"]["outcome"])
        assert [] == server.children()
        assert 64 == len(job["result"]["threads"])
        assert server.run({"scenario": "counter", "iterations": 10})["status"] == "succeeded"

    def test_service_answers_beside_them(self, server: Server) -> None:
        """While 64 threads compute, the service itself goes on answering."""
        server.start()
        job_id = server.submit(BUSY)
        wait_until(server.children)
        with server.client(timeout_s=20) as client:
            for _ in range(20):
                assert 200 == client.get("/healthz").status_code
        assert "running" == server.job(job_id)["status"]
        server.ask("POST", f"/v1/jobs/{job_id}/cancel")

    def test_service_holds_none_of_them(self, server: Server) -> None:
        """A finished job leaves no process, and no descriptor of the service's open."""
        server.start()
        server.run({"scenario": "counter", "iterations": 10})
        descriptors = Path(f"/proc/{server.pid}/fd")
        before = len(list(descriptors.iterdir()))
        for _ in range(30):
            server.run({"scenario": "named_workers", "threads": 2, "delay_s": 0.0})
        assert [] == server.children()
        wait_until(lambda: len(list(descriptors.iterdir())) <= before + 5)  # a database connection or two more


def _threads(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return 0


class TestCommandLine:
    def test_run_prints_a_table(self, tmp_path: Path) -> None:
        """`threadlab run` runs a scenario without a service and prints what it showed."""
        done = _threadlab(tmp_path, "run", "counter", "--threads", "4", "--no-lock")
        assert 0 == done.returncode, done.stderr
        for text in ("counter: lost", "succeeded", "400000", "active_threads.peak", "GIL"):
            assert text in done.stdout
        own, whole = re.findall(r"\b(?:timings\.)?wall_s\W+([\d.e-]+)", done.stdout)
        assert 0 < float(own) < float(whole)
        assert [] == [path.name for path in tmp_path.iterdir() if path.name != "tmp"]
        assert [] == list((tmp_path / "tmp").iterdir())

    def test_run_prints_the_scenario_s_lines(self, tmp_path: Path) -> None:
        """What the scenario prints stands above the table, with its time and its thread."""
        done = _threadlab(tmp_path, "run", "named_workers", "--threads", "2", "--delay-s", "0.01")
        assert 0 == done.returncode, done.stderr
        assert re.search(r"^\s*0\.\d+ +Worker-0 +Thread Worker-0 starting", done.stdout, re.MULTILINE)

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (["counter", "--threads", "0"], "threads: Input should be greater than or equal to 1. Allowed: {"),
            (["counter", "--switch-interval-s", "99"], "switch_interval_s: "),
            (["counter", "--timeout-s", "0"], "timeout_s: "),
            (["custom", "--program", "sleep"], "program: Input should be a list, written as JSON."),
        ],
    )
    def test_run_refuses_bad_parameters(self, tmp_path: Path, options: list[str], told: str) -> None:
        """A parameter beyond its limits is named with them, without a traceback, and the exit code is 1."""
        done = _threadlab(tmp_path, "run", *options)
        assert 1 == done.returncode
        assert told in done.stderr
        assert "Traceback" not in done.stderr

    def test_run_refuses_unknown_options_and_scenarios(self, tmp_path: Path) -> None:
        """What is misspelled is named, and the exit code is 2."""
        for arguments, told in [(["run", "conter"], "conter"), (["run", "counter", "--treads", "2"], "--treads")]:
            done = _threadlab(tmp_path, *arguments)
            assert (2, True) == (done.returncode, told in done.stderr)

    def test_run_of_a_job_that_does_not_end_well(self, tmp_path: Path) -> None:
        """A job that is ended at its deadline is told, and the exit code is 1."""
        done = _threadlab(tmp_path, "run", "daemon", "--main-s", "30", "--timeout-s", "0.2")
        assert 1 == done.returncode
        assert "timed_out" in done.stdout

    def test_run_takes_a_program(self, tmp_path: Path) -> None:
        """A parameter that is no plain value is given as JSON."""
        program = '[{"target": "sleep", "args": [0.01], "name": "Napper"}]'
        done = _threadlab(tmp_path, "run", "custom", "--program", program)
        assert 0 == done.returncode, done.stderr
        assert "succeeded" in done.stdout

    def test_run_explains_its_options(self, tmp_path: Path) -> None:
        """The help of a scenario names its parameters with their texts and defaults."""
        done = _threadlab(tmp_path, "run", "counter", "--help")
        assert 0 == done.returncode
        for text in ("--threads", "How many threads add.", "--no-lock", "--shape", "--timeout-s", "100000"):
            assert text in done.stdout

    def test_scenarios_are_listed(self, tmp_path: Path) -> None:
        """`threadlab scenarios` names what can be run."""
        done = _threadlab(tmp_path, "scenarios")
        assert 0 == done.returncode, done.stderr
        for name in ("counter", "custom", "daemon", "interleaving", "named_workers"):
            assert name in done.stdout

    def test_version(self, tmp_path: Path) -> None:
        """`threadlab --version` says which one this is."""
        done = _threadlab(tmp_path, "--version")
        assert (0, f"threadlab {__version__}\n") == (done.returncode, done.stdout)

    def test_interrupted_run_leaves_nothing(self, tmp_path: Path) -> None:
        """Ctrl-C ends a run at once, its child and its fork server with it."""
        with Server(tmp_path) as watcher:  # not started: it knows which processes are of this folder
            process = subprocess.Popen(
                [sys.executable, "-m", "service", "run", "daemon", "--main-s", "30"],
                cwd=tmp_path,
                env=plain_environment(tmp_path),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                wait_until(watcher.children)
                process.send_signal(signal.SIGINT)
                text, _ = process.communicate(timeout=20)
            finally:
                process.kill()
                process.wait()
            assert process.returncode != 0
            assert "Traceback" not in text
            wait_until(lambda: not watcher.processes(), 10.0)


def _threadlab(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=folder,
        env=plain_environment(folder, COLUMNS="160", NO_COLOR="1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
