"""What happens to a service in a long run: its children and fork servers are killed, its clients vanish.

Who uses it: `soak`, beside its load.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from benchmarks.support import Running, children_of

__all__ = ["happen", "job"]

_CHILD_DIES_S = 2.0  # mean time between two accidents of a kind
_FORK_SERVER_DIES_S = 15.0
_CLIENT_VANISHES_S = 0.5

# The weight of a job in the mix, and its body: both lanes, and all the ways to end.
_MIX: list[tuple[int, dict[str, Any]]] = [
    (45, {"scenario": "named_workers", "threads": 2, "delay_s": 0.02}),
    (20, {"scenario": "counter", "threads": 2, "iterations": 500}),
    (15, {"scenario": "daemon", "main_s": 0.05, "interval_s": 0.02}),
    (10, {"scenario": "deadlock", "threads": 2, "hold_s": 0.005}),
    (5, {"scenario": "named_workers", "threads": 1, "delay_s": 30.0, "timeout_s": 0.2}),
    (5, {"scenario": "event", "threads": 3, "prepare_s": 0.01}),
]


def job(label: str) -> dict[str, Any]:
    """Return a random request of the mix."""
    (chosen,) = random.choices([body for _, body in _MIX], [weight for weight, _ in _MIX])
    return {**chosen, "label": label}


async def happen(service: Running, seen: Counter[str], until: float) -> None:
    """Let accidents happen at random moments, and count them by their names."""
    await asyncio.gather(*(each(service, seen, until) for each in (_kill_children, _kill_fork_servers, _vanish)))


def _moments(mean_s: float, until: float) -> Iterator[float]:
    """How long to wait until the next accident, as long as there is time for one."""
    while True:
        pause = random.expovariate(1 / mean_s)
        if time.perf_counter() + pause > until:
            return
        yield pause


async def _kill_children(service: Running, seen: Counter[str], until: float) -> None:
    for pause in _moments(_CHILD_DIES_S, until):
        await asyncio.sleep(pause)
        found = [child for server in service.fork_servers() for child in children_of(server)]
        if found and _kill(random.choice(found)):
            seen["children killed"] += 1


async def _kill_fork_servers(service: Running, seen: Counter[str], until: float) -> None:
    for pause in _moments(_FORK_SERVER_DIES_S, until):
        await asyncio.sleep(pause)
        found = service.fork_servers()
        if found and _kill(random.choice(found)):
            seen["fork servers killed"] += 1


def _kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


async def _vanish(service: Running, seen: Counter[str], until: float) -> None:
    """Be a client that leaves: with half a body sent, with all of it, in the middle of a wait, or of a stream."""
    ways = [_send_half, _send_all, _wait_and_go, _watch_and_go]
    for number, pause in enumerate(_moments(_CLIENT_VANISHES_S, until)):
        await asyncio.sleep(pause)
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        way = ways[number % len(ways)]
        try:
            await way(reader, writer)
        finally:
            if random.random() < 0.5:
                writer.transport.abort()  # the service sees a reset
            else:
                writer.close()  # it sees an end
        seen[f"clients vanished ({way.__name__.strip('_')})"] += 1


def _post(**headers: str) -> bytes:
    data = json.dumps(job("vanished")).encode()
    lines = ["POST /v1/jobs HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(data)}"]
    lines += ["Content-Type: application/json", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + data


async def _send_half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_post()[:-20])
    await writer.drain()
    await asyncio.sleep(random.uniform(0, 0.1))


async def _send_all(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_post())
    await writer.drain()
    await asyncio.sleep(random.uniform(0, 0.02))


async def _wait_and_go(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_post(Prefer="wait=20"))
    await writer.drain()
    await asyncio.sleep(random.uniform(0.005, 0.2))


async def _watch_and_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_post())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    place = head.partition("location: ")[2].partition("\r\n")[0]
    writer.write(f"GET {place}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
    await writer.drain()
    await asyncio.sleep(random.uniform(0.005, 0.1))
