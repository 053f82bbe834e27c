"""What 5,000 idle connections and 1,000 open event streams cost, and whether a new client notices them."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.support import Client, Running, banner, serving, summary

_IDLE = 5_000
_STREAMS = 1_000
_JOBS = 100  # running, with ten streams each
_LOOKS = 300  # new clients that ask for /healthz
_RUNS = 50  # new clients that run a small job
_WATCHED_S = 20.0  # longer than the time between two signs of life on a stream
_DESCRIPTORS = _IDLE + _STREAMS + 500
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")

_LONG = {"scenario": "named_workers", "threads": 2, "delay_s": 60.0, "timeout_s": 600}
_SHORT = {"scenario": "named_workers", "threads": 2, "delay_s": 0}


def _raise_limit() -> None:
    """Take the descriptors that the clients need; the service takes all that it can get by itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * _DESCRIPTORS:  # the service keeps half of its own for jobs
        raise SystemExit(
            f"This needs a hard limit of {2 * _DESCRIPTORS} descriptors, and here it is {hard}: ulimit -Hn."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _memory_kb(served: Running) -> int:
    lines = Path(f"/proc/{served.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def _cpu_s(served: Running) -> float:
    fields = Path(f"/proc/{served.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


async def _latencies(served: Running, count: int, ask: Callable[[Client], Awaitable[None]]) -> list[float]:
    """How long new clients wait, one after the other, from the connection to the answer."""
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        async with Client(served.port) as client:
            await ask(client)
            took.append(time.perf_counter() - begun)
    return took


async def _look(client: Client) -> None:
    answer = await client.request("GET", "/healthz")
    assert answer.status == 200, answer.body


async def _run(client: Client) -> None:
    answer = await client.request("POST", "/v1/jobs", _SHORT, Prefer="wait=30")
    assert (answer.status, answer.json()["status"]) == (200, "succeeded"), answer.body


async def _connect(served: Running, everybody: AsyncExitStack) -> asyncio.StreamReader:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    everybody.callback(writer.close)
    return reader


async def _watch(served: Running, job_id: str, everybody: AsyncExitStack) -> None:
    """Open a stream, and see that it tells of the job."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    everybody.callback(writer.close)
    lines = (f"GET /v1/jobs/{job_id}/events HTTP/1.1", "Host: 127.0.0.1", "Accept: text/event-stream", "", "")
    writer.write("\r\n".join(lines).encode())
    await reader.readuntil(b"event: start\n")


async def _measure(served: Running, name: str) -> None:
    """Print what a new client waits, and what the service uses meanwhile when nobody asks."""
    await asyncio.sleep(2)
    cpu_s, begun = _cpu_s(served), time.perf_counter()
    await asyncio.sleep(_WATCHED_S)
    share = (_cpu_s(served) - cpu_s) / (time.perf_counter() - begun)
    print(f"  {name}: {_memory_kb(served) / 1024:.0f} MB, {1000 * share:.1f} ms of CPU a second")
    print(f"    new client, GET /healthz: {summary(await _latencies(served, _LOOKS, _look))}")
    print(f"    new client, small job:    {summary(await _latencies(served, _RUNS, _run))}")


async def _all(served: Running) -> None:
    async with AsyncExitStack() as everybody:
        await _latencies(served, _RUNS, _run)  # warm up
        await _measure(served, "nobody else")
        before = _memory_kb(served)
        for _ in range(_IDLE):
            await _connect(served, everybody)
        await _measure(served, f"{_IDLE} idle connections")
        print(f"    {(_memory_kb(served) - before) / _IDLE:.1f} KB each")
        async with Client(served.port) as client:
            jobs = [(await client.request("POST", "/v1/jobs", _LONG)).json()["id"] for _ in range(_JOBS)]
        before = _memory_kb(served)
        for number in range(_STREAMS):
            await _watch(served, jobs[number % _JOBS], everybody)
        await _measure(served, f"and {_STREAMS} streams of {_JOBS} running jobs")
        print(f"    {(_memory_kb(served) - before) / _STREAMS:.1f} KB each")
    await asyncio.sleep(2)
    await _measure(served, "all of them gone")


def main() -> None:
    """Measure and print."""
    _raise_limit()
    banner("connections")
    patient = {"THREADLAB_HEADERS_TIMEOUT_S": "600"}  # else an idle connection lives for ten seconds
    with serving(**patient) as served:
        asyncio.run(_all(served))


if __name__ == "__main__":
    main()
