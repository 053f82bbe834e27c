"""What the programs share: a service as a process of its own, a client that costs little, and figures in one form."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.experiments.medians import Sample

__all__ = [
    "Answer",
    "Client",
    "Running",
    "banner",
    "children_of",
    "many",
    "percentile",
    "process",
    "ratio",
    "running",
    "service",
    "serving",
    "summary",
]

_ROOT = Path(__file__).parent.parent
_LISTENS = re.compile(r"http://([\d.]+):(\d+)")


def banner(name: str) -> None:
    """Print what was run, on what."""
    cpus = f"{os.cpu_count()} cpus"
    print(f"{name}: {platform.python_implementation()} {platform.python_version()}, {platform.platform()}, {cpus}")


@dataclass(frozen=True)
class Running:
    """A program that listens, its process, its database, and the folder that holds that and its log."""

    port: int
    pid: int
    folder: Path
    database: Path

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return (self.folder / "log").read_text()

    def fork_servers(self) -> list[int]:
        """Return the numbers of the service's fork servers."""
        return children_of(self.pid)


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[Running]:
    """Start a program that prints an address when it listens; end it afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        log, database = Path(folder) / "log", Path(folder) / "jobs.db"
        with log.open("w") as output:
            started = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=_ROOT,
                env={**os.environ, "THREADLAB_DATABASE_URL": f"sqlite:///{database}", **environment},
            )
            try:
                yield Running(_port(log, started), started.pid, Path(folder), database)
            finally:
                started.terminate()
                started.wait()


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator[int]:
    """Start such a program and give its port."""
    with running(*arguments, **environment) as started:
        yield started.port


def children_of(pid: int) -> list[int]:
    """Return the numbers of the processes that a process, by any thread of its, has started and not waited for."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:  # the thread, or all of it, has just ended
            continue
    return found


def _port(log: Path, started: subprocess.Popen[bytes]) -> int:
    while not (found := _LISTENS.search(log.read_text())):
        if started.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.001)
    return int(found[2])


_SERVE = ("-m", "service", "serve", "--port", "0")


def serving(**environment: str) -> Any:
    """Start the service as its users do, on a free port, with a database on disk; give all that is known of it."""
    return running(*_SERVE, **environment)


def service(**environment: str) -> Any:
    """Start the service and give its port."""
    return process(*_SERVE, **environment)


class Answer:
    """A status and a body."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Client:
    """One keep-alive connection, written by hand so that the client does not become what is measured."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request and return its answer."""
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(data)}"]
        lines += ["Content-Type: application/json", *(f"{name}: {value}" for name, value in headers.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
        return Answer(int(head.split()[1]), await self._reader.readexactly(length))


async def many(port: int, clients: int, count: int, ask: Callable[[Client], Awaitable[None]]) -> float:
    """Let some clients ask `count` times in all, each waiting for its answer; return the seconds that took."""
    left = iter(range(count))

    async def one() -> None:
        async with Client(port) as client:
            for _ in left:
                await ask(client)

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    return time.perf_counter() - begun


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which `percent` of the values lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def ratio(found: Sequence[float]) -> str:
    """Return the median of ratios, and in brackets its 95 % interval."""
    sample = Sample(found)
    low, high = sample.interval or (0.0, 0.0)
    return f"{sample.median:.4f} ({low:.4f} to {high:.4f})"


def summary(seconds: Sequence[float]) -> str:
    """Return median, 99th percentile and maximum, in milliseconds."""
    parts = (statistics.median(seconds), percentile(seconds, 99), max(seconds))
    return "median {:.2f} ms, p99 {:.2f} ms, max {:.2f} ms".format(*(1000 * part for part in parts))
