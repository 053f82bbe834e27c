"""A real server process for tests: started, asked, stopped, killed; nothing of it outlives the test."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from service.jobs import FINAL
from tests.support import wait_until

__all__ = ["ROOT", "Server", "plain_environment"]

ROOT = Path(__file__).parents[2]

_PATIENCE = 10  # how often a job is waited for again: on a busy machine those before it may take their time
_START_S = 30.0  # a start takes under a second here; a busy machine may take its time
_LISTENS = re.compile(r"listens on (http://\S+)")
_CHILD_MAIN = "child/__main__.py"  # part of the command line of a fork server, and so of its children


def plain_environment(folder: Path, **more: str) -> dict[str, str]:
    """Return an environment without settings of whoever runs the tests, whose temporary files are in a folder."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("THREADLAB_")}
    (folder / "tmp").mkdir(exist_ok=True)
    return {**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp"), **more}


class Server:
    """`python -m service serve` on a free port, with its database in a folder; can be started again and again.

    Args:
        folder: where it runs, and where its files and those of its children are.
        environment: variables beyond the plain environment.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.log_path = folder / "stderr.txt"
        self.database = f"sqlite:///{folder / 'jobs.db'}"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, *flags: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start the process and return it at once."""
        assert not self.alive, "it runs already"
        flags = flags or ("--port", "0", "--database", self.database)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve", *flags],
                cwd=self.folder,
                env=plain_environment(self.folder, **{**self._environment, **environment}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        return self._process

    def start(self, *flags: str, **environment: str) -> Server:
        """Start the process and return when it listens."""
        process = self.launch(*flags, **environment)
        wait_until(lambda: _LISTENS.search(self.log) or process.poll() is not None, _START_S)
        assert process.poll() is None, f"it ended with {process.returncode}: {self.log}"
        return self

    @property
    def log(self) -> str:
        """What it has written to standard error since it was last started."""
        return self.log_path.read_text("utf-8", "replace")

    @property
    def url(self) -> str:
        """Its address, from its own start-up line."""
        found = _LISTENS.search(self.log)
        assert found is not None, self.log
        return found[1]

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid

    def client(self, timeout_s: float = 90.0) -> httpx.Client:
        """Return a client of it, to be closed."""
        return httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False, verify=False)  # plain HTTP: no CAs

    def ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Return the answer to one request."""
        with self.client() as client:
            return client.request(method, path, **kwargs)

    def run(self, body: dict[str, Any], wait_s: int = 60) -> dict[str, Any]:
        """Return the finished job that a body asks for."""
        response = self.ask("POST", "/v1/jobs", json=body, headers={"Prefer": f"wait={wait_s}"})
        assert response.status_code in {200, 202}, response.text
        job = dict(response.json())
        for _ in range(_PATIENCE):
            if job["status"] in FINAL:
                return job
            job = self.job(job["id"], wait_s)
        raise AssertionError(f"it does not end: {job}")

    def submit(self, body: dict[str, Any]) -> str:
        """Return the id of the accepted job that a body asks for."""
        response = self.ask("POST", "/v1/jobs", json=body)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def job(self, job_id: str, wait_s: int = 0) -> dict[str, Any]:
        """Return a job, once it is finished or the seconds are over."""
        response = self.ask("GET", f"/v1/jobs/{job_id}", headers={"Prefer": f"wait={wait_s}"})
        assert response.status_code == 200, response.text
        return dict(response.json())

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the samples of a metric that are not 0, by the values of its labels in their order by name."""
        text = self.ask("GET", "/metrics").text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {tuple(each.labels.values()): each.value for each in samples if each.name == name and each.value}

    def processes(self) -> list[int]:
        """Return the fork servers and children that it has started and that live, whether it lives itself or not."""
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if self._is_mine(path)]

    def children(self) -> list[int]:
        """Return the processes in which jobs run: those that a fork server started, each in a folder of its own."""
        mine = self.processes()
        return [
            pid for pid in mine if _parent(pid) in mine and Path(_where(Path(f"/proc/{pid}"))).name.startswith("job_")
        ]

    def fork_servers(self) -> list[int]:
        """Return the processes that it has started itself and that live."""
        return [pid for pid in self.processes() if _parent(pid) == self.pid]

    def _is_mine(self, path: Path) -> bool:
        """A fork server runs in a folder of its own among our temporary files, a child in a folder within that."""
        try:
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:  # it has just ended
            return False
        return _CHILD_MAIN in command and _where(path).startswith(f"{self.folder}/")

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Return its exit code once it has ended."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def stop(self, timeout_s: float = 30.0) -> int:
        """Ask it to end, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """End it by force, as a power cut would."""
        self.signal(signal.SIGKILL)
        self.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.alive:
            assert self._process is not None
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.processes(), 10.0)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _parent(pid: int) -> int | None:
    """The number of a process's parent; None when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _where(process: Path) -> str:
    """The working directory of a process, as /proc tells it; empty when it is gone."""
    try:
        return str((process / "cwd").readlink())
    except OSError:
        return ""
