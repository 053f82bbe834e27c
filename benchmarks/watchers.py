"""What live watchers cost: the service that serves them, the job that they watch, and each other.

- 200 watchers on 50 jobs that print twenty lines a second each: CPU seconds of the service's process for each second,
  beside those of the same jobs without watchers.
- 1,000 watchers of one job: its child's CPU time and the wall time that it reports, with and without them, in turn. On
  two cores the watchers and what serves them would take the child's core away, which says nothing about the service. So
  the child has a core of its own: the service's threads and the watchers, at the lowest priority, share the other.
- One watcher of ten does not read: it is let go, with a reason, and the others have every event.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.support import Client, banner, ratio, serving

_TICKS_S = 1 / os.sysconf("SC_CLK_TCK")
_JOBS, _WATCHERS = 50, 200
_PRINTING = {"scenario": "daemon", "interval_s": 0.05, "main_s": 60.0, "max_ticks": 10_000}
_WINDOW_S = 8.0
_CROWD = 1_000
_ROUNDS = 40  # each without and with the crowd
_BLOCKING = {"scenario": "counter", "threads": 4, "iterations": 10_000_000, "lock": False, "shape": "augmented"}
_WATCHED = {**_BLOCKING, "iterations": 5_000_000, "switch_interval_s": None}  # most of a second
_TALKATIVE = {"scenario": "counter", "threads": 4, "iterations": 20_000, "lock": True, "trace": "locks"}
_PATIENCE_S = 0.5


@asynccontextmanager
async def _audience(port: int, count: int, jobs: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Let so many watch those jobs; goes on when all have had their first event, ends when all have had their last."""
    watching = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.audience", str(port), str(count), *jobs, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert watching.stdout is not None
        assert await watching.stdout.readline() == b"watching\n"
        yield watching
        await watching.wait()
    finally:
        if watching.returncode is None:
            watching.kill()
            await watching.wait()


async def _events(watching: asyncio.subprocess.Process) -> tuple[int, int]:
    """The fewest and the most events that a watcher had in all."""
    assert watching.stdout is not None
    fewest, most = map(int, (await watching.stdout.readline()).split())
    return fewest, most


def _cpu_s(pid: int) -> float:
    """The CPU time of a process so far, all its threads, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICKS_S


async def _submit(client: Client, body: dict[str, Any]) -> str:
    answer = await client.request("POST", "/v1/jobs", body)
    assert answer.status == 202, answer.body
    return str(answer.json()["id"])


async def _load(pid: int) -> float:
    """CPU seconds of a process for each second."""
    begun, before = time.perf_counter(), _cpu_s(pid)
    await asyncio.sleep(_WINDOW_S)
    return (_cpu_s(pid) - before) / (time.perf_counter() - begun)


async def _many_jobs(port: int, pid: int) -> None:
    async with Client(port) as client:
        jobs = [await _submit(client, _PRINTING) for _ in range(_JOBS)]
    await asyncio.sleep(2.0)  # until all have come up
    alone = await _load(pid)
    async with _audience(port, _WATCHERS, jobs) as watching:
        watched = await _load(pid)
        async with Client(port) as client:  # another one: the service has closed the first, on which nothing came
            for job in jobs:
                await client.request("POST", f"/v1/jobs/{job}/cancel")
        fewest, _ = await _events(watching)
    print(
        f"  {_WATCHERS} watchers on {_JOBS} jobs: the service takes {watched:.2f} of a core, {alone:.2f} without them "
        f"(aim: under 1); each watcher had {fewest} events or more"
    )


def _give_cores(pid: int) -> None:
    """The service's threads on one core, its fork servers, and so their children, on the other."""
    mine, theirs = sorted(os.sched_getaffinity(0))[:2]
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {mine})
        for child in (task / "children").read_text().split():
            os.sched_setaffinity(int(child), {theirs})
    os.sched_setaffinity(0, {mine})  # the watchers, too


async def _watched(port: int, client: Client, count: int) -> tuple[float, float]:
    """CPU and wall time of a job that begins when all watch it."""
    blocking = await _submit(client, _BLOCKING)  # there is one job at a time in this lane
    job = await _submit(client, _WATCHED)

    async def end() -> dict[str, Any]:
        await client.request("POST", f"/v1/jobs/{blocking}/cancel")
        answer = (await client.request("GET", f"/v1/jobs/{job}", Prefer="wait=60")).json()
        result: dict[str, Any] = answer["result"]
        return result

    if count:
        async with _audience(port, count, [job]) as watching:
            result = await end()
            fewest, most = await _events(watching)
        assert fewest == most, "somebody has missed something"
    else:
        result = await end()
    return result["timings"]["cpu_s"], result["values"]["wall_s"]


async def _crowd(port: int, pid: int) -> None:
    pairs = []
    async with Client(port) as client:
        await _watched(port, client, 0)  # the fork server comes up with the first job
        _give_cores(pid)
        for number in range(_ROUNDS):
            order = (0, _CROWD) if number % 2 else (_CROWD, 0)
            found = {count: await _watched(port, client, count) for count in order}
            pairs.append((found[_CROWD], found[0]))
    for place, name in enumerate(("CPU", "wall")):
        found = ratio([crowd[place] / none[place] for crowd, none in pairs])
        print(f"  a job with {_CROWD} watchers / with none, {name} time: {found}; median of {len(pairs)} pairs")


def _deaf(port: int, job: str) -> socket.socket:
    """A watcher that does not read."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    deaf.connect(("127.0.0.1", port))
    deaf.sendall(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    return deaf


async def _one_is_deaf(port: int) -> None:
    async with Client(port) as client:
        job = await _submit(client, _TALKATIVE)
    with _deaf(port, job) as deaf:
        async with _audience(port, 9, [job]) as watching:
            fewest, most = await _events(watching)
        await asyncio.sleep(2 * _PATIENCE_S)
        last = await asyncio.to_thread(_rest, deaf)
    async with Client(port) as client:
        whole = (await client.request("GET", f"/v1/jobs/{job}", Prefer="wait=60")).json()
    assert whole["status"] == "succeeded", whole
    print(f"  of ten watchers one does not read: the others had {fewest} to {most} events, and it was told {last}")


def _rest(deaf: socket.socket) -> str:
    """Read again, to the end; return the last event's name and reason."""
    data = b""
    while piece := deaf.recv(1_048_576):
        data = data[-2_000:] + piece
    last = data.decode("utf-8", "replace").rpartition("event: ")[2].split("data: ")
    return f"{last[0].strip()!r}: {json.loads(last[1].splitlines()[0])['reason']}"


def main() -> None:
    """Measure and print."""
    banner("watchers")
    with serving() as served:
        asyncio.run(_many_jobs(served.port, served.pid))
    with serving() as served:
        asyncio.run(_crowd(served.port, served.pid))
    with serving(THREADLAB_WATCHER_PATIENCE_S=str(_PATIENCE_S)) as served:
        asyncio.run(_one_is_deaf(served.port))


if __name__ == "__main__":
    main()
