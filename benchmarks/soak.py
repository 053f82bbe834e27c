"""A long load with accidents: jobs at a fixed rate, children and fork servers that are killed, clients that vanish.

It prints what happened and judges: exit code 1 if an accepted job was lost or told wrongly, if memory, descriptors or
threads of the service grew, or if looking at a job took long. `--seconds 3600` is the real thing; two minutes show
what is badly broken.

Under load, descriptors follow the jobs at hand and threads the most there ever were. So both are held against each
other at rest, before and after; and the pool of threads is filled before, by more jobs at once than there will be.

glibc keeps freed memory for each thread, for hours with more of it where there are hundreds; that is switched off here,
so that what grows is what the service holds.

The load is an open loop: a job is posted when its time has come, whatever became of the ones before. Each accepted job
is looked at until it has ended, as a client does, and then its events are read. Where the machine cannot carry the
rate, it is lowered to a share of what was measured first: a queue that only grows would say nothing about the service.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import accidents
from benchmarks.support import Client, Running, banner, percentile, serving, summary

_SHARE = 0.6  # of the rate that the machine carries: the accidents, and other programs, need some of it, too
_CALIBRATION_S = 5.0
_LOOK_S = 1.0  # between two looks at a job, as `Retry-After` says; the first comes after half of it
_KEPT_S = 3.0  # how long a connection may be idle: the service closes it after five
_OVERDUE_S = 120.0  # for a job that was accepted to end, its fork server's deaths included
_WARM_UP = 0.25  # of the time: pools of threads and connections, and caches, fill

_AT_ONCE = 300  # jobs that fill the pool of threads: more than are at hand while a fork server is replaced
_REST_S = 15.0  # until the service has let go of idle connections (after 5 s) and idle threads (10 s)

_CANCELLED = 0.03  # the share of jobs that are cancelled, if they have not ended

_IDLE = ("threadlab_jobs_queued", "threadlab_jobs_running", "threadlab_watchers")
_OF_ACCIDENTS = ("job could not be run", "fork server did not come up")  # logged as errors where one was killed
_FINAL = frozenset({"succeeded", "failed", "timed_out", "cancelled", "lost"})

_MEMORY_MAY_GROW = 0.05  # a share, from the first to the last tenth after the warm-up; more where `--memory-mb` says so
_REST_MAY_GROW = 8  # descriptors, and threads, from before the load to after it


@dataclass
class Book:
    """What was promised, and what was seen."""

    ended: dict[str, str] = field(default_factory=dict)  # accepted jobs; "" as long as they have not ended
    wrong: list[str] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    looks_s: list[float] = field(default_factory=list)
    accidents: Counter[str] = field(default_factory=Counter)  # what was done to the service, how often
    memory_bytes: list[int] = field(default_factory=list)  # each second
    rests: list[dict[str, int]] = field(default_factory=list)  # before and after the load
    late_s: list[float] = field(default_factory=list)  # how late this program itself was


class Clients:
    """Connections that are kept, as many as are needed at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: deque[tuple[float, Client]] = deque()  # since when, the last one first to be used

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Client]:
        """A connection that nobody else uses meanwhile; after an error it is not used again."""
        while self._idle and time.perf_counter() - self._idle[0][0] > _KEPT_S:
            await self._idle.popleft()[1].__aexit__()
        client = self._idle.pop()[1] if self._idle else await Client(self._port).__aenter__()
        try:
            yield client
        except BaseException:
            await client.__aexit__()
            raise
        self._idle.append((time.perf_counter(), client))

    async def close(self) -> None:
        """Close all; who needs one later gets a new one."""
        while self._idle:
            await self._idle.popleft()[1].__aexit__()


async def _carry(clients: Clients, book: Book) -> None:
    """Post a job and follow it to its end."""
    async with clients.one() as client:
        answer = await client.request("POST", "/v1/jobs", accidents.job("soak"))
    if answer.status != 202:
        book.refused[answer.status] += 1
        return
    job_id = answer.json()["id"]
    book.ended[job_id] = ""
    if random.random() < _CANCELLED:
        async with clients.one() as client:
            await client.request("POST", f"/v1/jobs/{job_id}/cancel")
    await asyncio.sleep(_LOOK_S / 2)
    async with asyncio.timeout(_OVERDUE_S):
        while not await _look(clients, book, job_id):  # noqa: ASYNC110  a look is a request
            await asyncio.sleep(_LOOK_S)
    await _read_events(clients, book, job_id)


async def _look(clients: Clients, book: Book, job_id: str) -> bool:
    """Look at a job once; return whether it has ended."""
    async with clients.one() as client:
        begun = time.perf_counter()
        answer = await client.request("GET", f"/v1/jobs/{job_id}")
        book.looks_s.append(time.perf_counter() - begun)
    if answer.status != 200:
        book.wrong.append(f"{job_id}: {answer.status} {answer.body[:200]!r}")
        return True
    status = answer.json()["status"]
    if status in _FINAL:
        book.ended[job_id] = status
    return status in _FINAL


async def _read_events(clients: Clients, book: Book, job_id: str) -> None:
    """Read what a finished job told: its ids have no gap, and its end is told once, at the end."""
    events: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        query = f"?cursor={cursor}" if cursor else ""
        async with clients.one() as client:
            answer = await client.request("GET", f"/v1/jobs/{job_id}/events{query}")
        page = answer.json()
        if answer.status != 200:
            book.wrong.append(f"{job_id}: events: {answer.status} {answer.body[:200]!r}")
            return
        events += page["events"]
        cursor = page["next_cursor"]
    places = [tuple(map(int, event["id"].split("-"))) for event in events]
    numbers = [number for epoch, number in places if epoch]
    if places[:1] != [(0, 1)] or numbers != list(range(1, len(numbers) + 1)) or len(numbers) != len(places) - 1:
        book.wrong.append(f"{job_id}: a gap in {[event['id'] for event in events]}")
    ends = [event["status"] for event in events if event["type"] == "state" and event["status"] in _FINAL]
    if ends != [book.ended[job_id]] or events[-1].get("status") not in _FINAL:
        book.wrong.append(f"{job_id}: it is {book.ended[job_id]}, and told {ends}")


async def _measure(clients: Clients) -> float:
    """Return how many jobs a second the machine carries, looks and events included."""
    book, until = Book(), time.perf_counter() + _CALIBRATION_S

    async def one() -> None:
        while time.perf_counter() < until:
            await _carry(clients, book)

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(200)))  # each sleeps most of the time: see `_LOOK_S`
    if book.wrong:
        raise SystemExit("\n".join(book.wrong))
    return len(book.ended) / (time.perf_counter() - begun)


async def _press(clients: Clients, book: Book, rate: float, until: float) -> None:
    """Post jobs at a rate; return when all have been followed to their end."""
    due = time.perf_counter()
    following: set[asyncio.Task[None]] = set()
    while due < until:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        book.late_s.append(time.perf_counter() - due)
        task = asyncio.create_task(_carry(clients, book))
        following.add(task)
        task.add_done_callback(lambda done: _followed(done, following, book))
        due += 1 / rate
    while following:
        await asyncio.wait(following)


def _followed(task: asyncio.Task[None], following: set[asyncio.Task[None]], book: Book) -> None:
    following.discard(task)
    exc = task.exception()
    if exc is not None:
        book.wrong.append(f"a client of this program was cut off: {type(exc).__name__}: {exc}")


async def _watch_memory(service: Running, book: Book, until: float) -> None:
    """Look at the service's memory every second."""
    while time.perf_counter() < until:
        book.memory_bytes.append(int(_status(service)["VmRSS"].split()[0]) * 1024)
        await asyncio.sleep(1.0)


async def _rest(service: Running, clients: Clients, book: Book) -> None:
    """Let go of the service, and count what it holds on to."""
    await clients.close()
    await asyncio.sleep(_REST_S)
    book.rests.append({"descriptors": _descriptors(service), "threads": int(_status(service)["Threads"])})


def _descriptors(service: Running) -> int:
    """How many it has open, but for those of the database's own file.

    SQLite keeps the descriptors of closed connections for the next ones, as many as there ever were readers at once: to
    close one would take the process's locks away. A connection that is open shows in its descriptor of the log, too.
    Source: SQLite, `os_unix.c`, "Posix Advisory Locking".
    """
    links = [_target(each) for each in Path(f"/proc/{service.pid}/fd").iterdir()]
    return len([link for link in links if link not in (None, service.database)])


def _target(descriptor: Path) -> Path | None:
    try:
        return descriptor.readlink()
    except OSError:  # it has just been closed
        return None


def _status(service: Running) -> dict[str, str]:
    return dict(line.split(":", 1) for line in Path(f"/proc/{service.pid}/status").read_text().splitlines())


async def _fill(clients: Clients) -> None:
    """Have more jobs run at once than the load ever will."""
    body = {"scenario": "named_workers", "threads": 1, "delay_s": 5.0}

    async def one() -> None:
        async with clients.one() as client:
            await client.request("POST", "/v1/jobs", body, Prefer="wait=60")

    await asyncio.gather(*(one() for _ in range(_AT_ONCE)))


async def _soak(service: Running, seconds: float, rate: float, book: Book) -> dict[str, float]:
    clients = Clients(service.port)
    await _fill(clients)
    capacity = await _measure(clients)
    await _rest(service, clients, book)
    rate = min(rate, _SHARE * capacity)
    print(f"  the machine carries {capacity:.0f} jobs/s with their looks and events; the load is {rate:.0f} jobs/s")
    before = await _listed(clients)
    until = time.perf_counter() + seconds
    await asyncio.gather(
        _press(clients, book, rate, until),
        _watch_memory(service, book, until),
        accidents.happen(service, book.accidents, until),
    )
    await _settle(clients, book, before)
    counted = await _metrics(clients)
    await _rest(service, clients, book)
    return counted


async def _settle(clients: Clients, book: Book, before: dict[str, str]) -> None:
    """Hold the list of all jobs against what was promised; the jobs of clients that vanished end, too."""
    deadline = time.perf_counter() + _OVERDUE_S
    found = await _listed(clients)
    while not _FINAL.issuperset(found.values()) and time.perf_counter() < deadline:
        await asyncio.sleep(1.0)
        found = await _listed(clients)
    book.wrong += [f"{job_id}: accepted and not listed" for job_id in book.ended if job_id not in found]
    book.wrong += [f"{job_id}: still {status}" for job_id, status in found.items() if status not in _FINAL]
    nobodys = [job_id for job_id in found if job_id not in book.ended and job_id not in before]
    book.accidents["jobs of clients that had vanished"] = len(nobodys)
    for job_id in nobodys:
        book.ended[job_id] = found[job_id]
        await _read_events(clients, book, job_id)


async def _listed(clients: Clients) -> dict[str, str]:
    """Return the states of all jobs that the service remembers."""
    found: dict[str, str] = {}
    cursor: str | None = ""
    while cursor is not None:
        query = f"&cursor={cursor}" if cursor else ""
        async with clients.one() as client:
            page = (await client.request("GET", f"/v1/jobs?limit=200{query}")).json()
        found.update((job["id"], job["status"]) for job in page["jobs"])
        cursor = page["next_cursor"]
    return found


async def _metrics(clients: Clients) -> dict[str, float]:
    """Return the service's own counts, each summed over its labels."""
    async with clients.one() as client:
        text = (await client.request("GET", "/metrics")).body.decode()
    counted: Counter[str] = Counter()
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            counted[name.partition("{")[0]] += float(value)
    return dict(counted)


def _judge(book: Book, counted: dict[str, float], log: str, aim_s: float, memory_bytes: float) -> list[str]:
    """Return what is not as it should be."""
    wrong = [*book.wrong, *_grown(book, memory_bytes)]
    wrong += [f"{job_id}: accepted and never ended" for job_id, status in book.ended.items() if not status]
    slow_s = percentile(book.looks_s, 99)
    if slow_s >= aim_s:
        wrong.append(f"99 % of the looks at a job took under {1000 * slow_s:.1f} ms, not under {1000 * aim_s:.0f}")
    for one, other in (("jobs_accepted", "jobs_ended"), ("children_started", "children_ended")):
        if counted[f"threadlab_{one}_total"] != counted[f"threadlab_{other}_total"]:
            wrong.append(f"/metrics: {one} and {other} differ")
    wrong += [f"/metrics: {name} is not 0" for name in _IDLE if counted[name]]
    messages = Counter(line.get("message") for line in _lines(log) if line.get("level") in ("ERROR", "CRITICAL"))
    wrong += [f"logged {number} times: {text}" for text, number in messages.items() if text not in _OF_ACCIDENTS]
    return wrong


def _lines(log: str) -> Iterator[dict[str, Any]]:
    for line in log.splitlines():
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found


def _grown(book: Book, memory_bytes: float) -> Iterator[str]:
    warm = book.memory_bytes[int(_WARM_UP * len(book.memory_bytes)) :]
    tenth = max(1, len(warm) // 10)
    first, last = (statistics.median(part) for part in (warm[:tenth], warm[-tenth:]))
    yield from _held("bytes of memory", first, last, max(_MEMORY_MAY_GROW * first, memory_bytes))
    before, after = book.rests
    for name in before:
        yield from _held(f"{name} at rest", before[name], after[name], _REST_MAY_GROW)


def _held(name: str, first: float, last: float, allowed: float) -> Iterator[str]:
    """Print what a quantity was and became; say so if it grew."""
    print(f"  {name}: {first:,.0f} to {last:,.0f} (may grow by {allowed:,.0f})")
    if last - first > allowed:
        yield f"{name} grew from {first:,.0f} to {last:,.0f}"


def _mean(counted: dict[str, float], name: str) -> float:
    return counted[f"threadlab_{name}_sum"] / max(1.0, counted[f"threadlab_{name}_count"])


def main() -> None:
    """Load, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the load lasts (default: 120)")
    parser.add_argument("--rate", type=float, default=200.0, help="jobs a second, at most (default: 200)")
    parser.add_argument("--p99-ms", type=float, default=50.0, help="of looks at a job, to be judged by (default: 50)")
    parser.add_argument("--memory-mb", type=float, default=8.0, help="by which memory may grow (default: 8)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the mix and the accidents")
    given = parser.parse_args()
    random.seed(given.seed)
    banner("soak")
    print(f"  --seconds {given.seconds:g} --rate {given.rate:g} --seed {given.seed}")
    book = Book()
    environment = {
        "THREADLAB_LOG_LEVEL": "warning",
        "THREADLAB_LOG_FORMAT": "json",
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
    }
    with serving(**environment) as service:
        begun = time.perf_counter()
        counted = asyncio.run(_soak(service, given.seconds, given.rate, book))
        took_s, log = time.perf_counter() - begun, service.log
    print(f"  {len(book.ended)} jobs accepted in {took_s:.0f} s, all told: {dict(Counter(book.ended.values()))}")
    print(f"  refused: {dict(book.refused)}; accidents: {dict(book.accidents)}")
    print(f"  looks at a job: {summary(book.looks_s)}; this program itself was late by {summary(book.late_s)}")
    print(
        f"  in the service, on average: event loop late by {1000 * _mean(counted, 'event_loop_lag_seconds'):.2f} ms, "
        f"{_mean(counted, 'store_commit_writes'):.1f} writes a commit, which took "
        f"{1000 * _mean(counted, 'store_commit_seconds'):.1f} ms; load average {os.getloadavg()[0]:.1f}"
    )
    wrong = _judge(book, counted, log, given.p99_ms / 1000, given.memory_mb * 1024**2)
    for line in wrong[:50]:
        print(f"  WRONG: {line}")
    print(f"  {len(wrong)} things are wrong" if wrong else "  nothing is wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
