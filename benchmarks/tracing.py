"""What it costs `counter` to be traced: its CPU time with `trace: threads` and `locks` beside `off`, in turn.

CPU time of the child, `timings.cpu_s`, because it charges what tracing adds and not what else the machine does: by wall
time single pairs lie a quarter apart here, which hides one per cent. Six runs make one ratio, and one of `off` with
itself in the same way: what that is away from 1 is the method's own. The longer a run, the less its starts and ends
count, and the more it counts where CPython puts the numbers that a thread makes. Any work beside it changes that: a
list of 300 numbers that the shipper made and kept cost the same loop 4 %. Source of that doubt: Mytkowicz et al.,
"Producing Wrong Data Without Doing Anything Obviously Wrong!", ASPLOS 2009.

With `locks` there are three figures: what the answer says of itself (`trace.cost_s`), the CPU time that was added, and
the wall time that was added. The first is the stamps alone. By one thread, what is more in the second is the sending of
events. By four, tracing also changes who gets the lock next: whoever is slower while holding it is interrupted more
often while holding it, the others wait where none had to, and each hand-over costs.
"""

from __future__ import annotations

import asyncio
import statistics
from typing import Any, NamedTuple

from benchmarks.support import Client, banner, service
from service.experiments.medians import Sample

_STARTS = 6  # of the service: each has a memory layout of its own, which all its children share
_LOCK_ROUNDS = 3
_AIM = 1.01
_BODY = {"scenario": "counter", "shape": "augmented", "switch_interval_s": None}
_PLAIN = {"threads": 4, "lock": False}  # without locks: only threads
_LENGTHS = {200_000: 12, 2_000_000: 12, 8_000_000: 4}  # iterations (0.02, 0.2 and 0.8 s here): ratios for each start
_LOCKED: dict[str, dict[str, Any]] = {  # 80,000 times taken and released
    "one thread": {"threads": 1, "iterations": 80_000, "lock": True},
    "four threads": {"threads": 4, "iterations": 20_000, "lock": True},
}


class _Cost(NamedTuple):
    """Seconds that a run took, and what it said that tracing had cost."""

    cpu_s: float
    wall_s: float
    word_s: float | None
    waits: int


_Ratios = dict[int, list[tuple[float, float]]]
_Locks = dict[str, list[tuple[_Cost, _Cost]]]


async def _run(client: Client, trace: str, body: dict[str, Any]) -> _Cost:
    answer = await client.request("POST", "/v1/jobs", {**_BODY, "trace": trace, **body}, Prefer="wait=60")
    result = answer.json()["result"]
    waits = sum(thread["lock_waits"] or 0 for thread in result["threads"])
    return _Cost(result["timings"]["cpu_s"], result["values"]["wall_s"], result["trace"]["cost_s"], waits)


async def _ratios(client: Client, iterations: int) -> tuple[float, float]:
    """`threads` beside `off`, and `off` beside `off`; what changes slowly meets all alike."""
    order = ("off", "threads", "off", "off", "threads", "off")
    body = {**_PLAIN, "iterations": iterations}
    first, one, inner, other, two, last = [(await _run(client, trace, body)).cpu_s for trace in order]
    return (one + two) / (first + last), (inner + other) / (first + last)


async def _locks(client: Client, body: dict[str, Any]) -> tuple[_Cost, _Cost]:
    return await _run(client, "off", body), await _run(client, "locks", body)


async def _all(port: int, ratios: _Ratios, locks: _Locks) -> None:
    async with Client(port) as client:
        await _run(client, "off", {**_PLAIN, "iterations": 200_000})  # the first job of a service meets cold caches
        for iterations, rounds in _LENGTHS.items():
            ratios[iterations] += [await _ratios(client, iterations) for _ in range(rounds)]
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


def _tell_threads(iterations: int, ratios: list[tuple[float, float]]) -> None:
    for name, found in zip(("threads", "off itself"), zip(*ratios, strict=True), strict=True):
        sample = Sample(found)
        low, high = sample.interval or (0.0, 0.0)
        print(
            f"  CPU time of 4 times {iterations:,}, {name} / off: {sample.median:.4f}, median of {sample.size}, "
            f"95 % interval {low:.4f} to {high:.4f} (aim: {_AIM})"
        )


def main() -> None:
    """Measure and print."""
    banner("tracing")
    ratios: _Ratios = {iterations: [] for iterations in _LENGTHS}
    locks: _Locks = {name: [] for name in _LOCKED}
    for _ in range(_STARTS):
        with service() as port:
            asyncio.run(_all(port, ratios, locks))
    for iterations, found in ratios.items():
        _tell_threads(iterations, found)
    for name, pairs in locks.items():
        _tell_locks(name, pairs)


if __name__ == "__main__":
    main()
