"""What it costs `counter` to be traced: its wall time with `trace: threads` and `locks` beside `off`, in turn."""

from __future__ import annotations

import asyncio
import statistics

from benchmarks.support import Client, banner, service

_STARTS = 4  # of the service: each has a memory layout of its own, which all its children share
_ROUNDS = 8  # in turn, for each start
_BODY = {"scenario": "counter", "threads": 4, "lock": False, "shape": "augmented", "switch_interval_s": None}
_PLAIN = {"iterations": 2_000_000}  # a third of a second: without a lock, because who gets one next is up to chance
_LOCKED = {"iterations": 20_000, "lock": True}  # each acquire and release is traced


async def _wall_s(client: Client, trace: str, **more: object) -> tuple[float, float | None]:
    answer = await client.request("POST", "/v1/jobs", {**_BODY, "trace": trace, **more}, Prefer="wait=60")
    result = answer.json()["result"]
    return result["values"]["wall_s"], result["trace"]["cost_s"]


async def _round(port: int) -> tuple[list[float], list[tuple[float, float, float]]]:
    threads, locks = [], []
    async with Client(port) as client:
        await _wall_s(client, "off", **_PLAIN)  # the first job of a service meets cold caches
        for turn in range(_ROUNDS):
            order = ("off", "threads") if turn % 2 else ("threads", "off")
            found = {trace: (await _wall_s(client, trace, **_PLAIN))[0] for trace in order}
            threads.append(found["threads"] / found["off"])
        for _ in range(_ROUNDS // 2):
            off, _none = await _wall_s(client, "off", **_LOCKED)
            on, cost = await _wall_s(client, "locks", **_LOCKED)
            locks.append((off, on, cost or 0.0))
    return threads, locks


def main() -> None:
    """Measure and print."""
    banner("tracing")
    threads: list[float] = []
    locks: list[tuple[float, float, float]] = []
    for _ in range(_STARTS):
        with service() as port:
            more = asyncio.run(_round(port))
            threads += more[0]
            locks += more[1]
    spread = f"{min(threads):.3f} to {max(threads):.3f}"
    print(f"  threads / off, median of {len(threads)} pairs: {statistics.median(threads):.4f} ({spread}; aim: 1.01)")
    off, on, cost = (statistics.median(each) for each in zip(*locks, strict=True))
    print(f"  locks: {on * 1e3:.0f} ms beside {off * 1e3:.0f} ms without; by its own word {cost * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
