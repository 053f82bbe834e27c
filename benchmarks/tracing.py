"""What it costs `counter` to be traced: its time with `trace: threads` and `locks` beside `off`, in random order.

Three runs make a ratio of `threads` to `off`, and one of `off` to itself: what that is away from 1 is the method's own.
`counter` is run as it is by default, where threads wait for a lock, and as a loop that only counts, at three lengths.

Where an interpreter's objects lie decides more of a loop's time than tracing does, up to 8 % of it here, and whatever
is done beside it moves them; one place is no better than another, and all jobs of one fork server begin at the same. So
every start of the service first keeps some other scenarios, each time others. Source of that doubt: Mytkowicz et al.,
"Producing Wrong Data Without Doing Anything Obviously Wrong!", ASPLOS 2009.

With `locks` there are three figures: what the answer says of itself (`trace.cost_s`), the CPU time that was added, and
the wall time that was added. The first is the stamps alone. By one thread, what is more in the second is the sending of
events. By four, tracing also changes who gets the lock next: whoever is slower while holding it is interrupted more
often while holding it, the others wait where none had to, and each hand-over costs.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from typing import Any, NamedTuple

from benchmarks.support import Client, banner, ratio, service

_STARTS = 10  # of the service
_LOCK_ROUNDS = 2
_AIM = 1.01
_ADDING: dict[str, Any] = {"shape": "augmented", "switch_interval_s": None}
_COUNTING = {**_ADDING, "lock": False}
_BODIES: dict[str, tuple[dict[str, Any], int]] = {  # and how many ratios for each start
    "counter": ({}, 6),
    "counting 4 times 200,000": ({**_COUNTING, "iterations": 200_000}, 40),
    "counting 4 times 2,000,000": ({**_COUNTING, "iterations": 2_000_000}, 24),
    "counting 4 times 8,000,000": ({**_COUNTING, "iterations": 8_000_000}, 5),
}
_LOCKED: dict[str, dict[str, Any]] = {  # 80,000 times taken and released
    "one thread": {**_ADDING, "threads": 1, "iterations": 80_000},
    "four threads": {**_ADDING, "threads": 4, "iterations": 20_000},
}


class _Cost(NamedTuple):
    """Seconds that a run took, and what it said that tracing had cost."""

    cpu_s: float
    wall_s: float
    word_s: float | None
    waits: int


class _Ratio(NamedTuple):
    """One run beside another."""

    wall: float
    cpu: float

    @classmethod
    def of(cls, run: _Cost, other: _Cost) -> _Ratio:
        """The first run's times in those of the second."""
        return cls(run.wall_s / other.wall_s, run.cpu_s / other.cpu_s)


_Ratios = dict[str, list[tuple[_Ratio, _Ratio]]]
_Locks = dict[str, list[tuple[_Cost, _Cost]]]


async def _run(client: Client, trace: str, body: dict[str, Any]) -> _Cost:
    whole = {"scenario": "counter", "trace": trace, **body}
    result = (await client.request("POST", "/v1/jobs", whole, Prefer="wait=60")).json()["result"]
    waits = sum(thread["lock_waits"] or 0 for thread in result["threads"])
    return _Cost(result["timings"]["cpu_s"], result["values"]["wall_s"], result["trace"]["cost_s"], waits)


async def _shuffle(client: Client) -> None:
    """Have the fork server keep some of the other scenarios, which it does when it first hears of one."""
    found = (await client.request("GET", "/v1/scenarios")).json()["scenarios"]
    names = [scenario["name"] for scenario in found if scenario["name"] not in ("counter", "custom")]
    for name in random.sample(names, random.randrange(len(names))):
        await client.request("POST", "/v1/jobs", {"scenario": name, "timeout_s": 0.01}, Prefer="wait=60")


async def _ratios(client: Client, body: dict[str, Any]) -> tuple[_Ratio, _Ratio]:
    """`threads` beside `off`, and `off` beside `off`."""
    runs: dict[str, list[_Cost]] = {"threads": [], "off": []}
    for trace in random.sample(("threads", "off", "off"), 3):
        runs[trace].append(await _run(client, trace, body))
    off, again = random.sample(runs["off"], 2)
    return _Ratio.of(runs["threads"][0], off), _Ratio.of(again, off)


async def _locks(client: Client, body: dict[str, Any]) -> tuple[_Cost, _Cost]:
    return await _run(client, "off", body), await _run(client, "locks", body)


async def _all(port: int, ratios: _Ratios, locks: _Locks) -> None:
    async with Client(port) as client:
        await _shuffle(client)
        await _run(client, "off", {**_COUNTING, "iterations": 200_000})  # the first one meets cold caches
        for name, (body, count) in _BODIES.items():
            ratios[name] += [await _ratios(client, body) for _ in range(count)]
        for name, body in _LOCKED.items():
            locks[name] += [await _locks(client, body) for _ in range(_LOCK_ROUNDS)]


def _tell_locks(name: str, pairs: list[tuple[_Cost, _Cost]]) -> None:
    cpu_s = statistics.median(on.cpu_s - off.cpu_s for off, on in pairs)
    wall_s = statistics.median(on.wall_s - off.wall_s for off, on in pairs)
    word_s = statistics.median(on.word_s or 0.0 for _, on in pairs)
    waits = statistics.median(on.waits for _, on in pairs)
    print(
        f"  locks, {name}, 80,000 pairs: by its own word {1e3 * word_s:.0f} ms; {1e3 * cpu_s:.0f} ms of CPU and "
        f"{1e3 * wall_s:.0f} ms of wall time more than off, with {waits:.0f} waits (medians of {len(pairs)})"
    )


def _tell_threads(name: str, ratios: list[tuple[_Ratio, _Ratio]]) -> None:
    for beside, found in zip(("threads", "off itself"), zip(*ratios, strict=True), strict=True):
        wall, cpu = map(ratio, zip(*found, strict=True))
        print(f"  {name}, {beside} / off: wall time {wall}; CPU time {cpu}; medians of {len(found)} (aim: {_AIM})")


def main() -> None:
    """Measure and print."""
    banner("tracing")
    ratios: _Ratios = {name: [] for name in _BODIES}
    locks: _Locks = {name: [] for name in _LOCKED}
    for _ in range(_STARTS):
        with service() as port:
            asyncio.run(_all(port, ratios, locks))
    for name, found in ratios.items():
        _tell_threads(name, found)
    for name, pairs in locks.items():
        _tell_locks(name, pairs)


if __name__ == "__main__":
    main()
