"""1,000 jobs that each sleep one second in two threads, posted at once: how long until all are finished."""

from __future__ import annotations

import asyncio
import time

from benchmarks.support import Client, banner, many, service

_JOBS = 1_000
_CLIENTS = 16
_BODY = {"scenario": "named_workers", "threads": 2, "delay_s": 1.0, "label": "concurrency"}
_AIM_S = 4.0


async def _all(port: int) -> tuple[float, float]:
    begun = time.perf_counter()

    async def post(client: Client) -> None:
        answer = await client.request("POST", "/v1/jobs", _BODY)
        assert answer.status == 202, answer.body

    await many(port, _CLIENTS, _JOBS, post)
    posted = time.perf_counter() - begun
    async with Client(port) as client:
        while True:  # a lane is free a moment before the job's end is on disk, of which a list tells
            path = "/v1/jobs?label=concurrency&status=queued&status=running&limit=1"
            if not (await client.request("GET", path)).json()["jobs"]:
                break
            await asyncio.sleep(0.01)
        finished = time.perf_counter() - begun
        await _check(client)
    return posted, finished


async def _check(client: Client) -> None:
    """See that every job succeeded."""
    path, count = "/v1/jobs?label=concurrency&status=succeeded&limit=200", 0
    cursor = ""
    while cursor is not None:
        page = (await client.request("GET", path + (f"&cursor={cursor}" if cursor else ""))).json()
        count, cursor = count + len(page["jobs"]), page["next_cursor"]
    assert count == _JOBS, f"{count} of {_JOBS} succeeded"


def main() -> None:
    """Measure and print."""
    banner("concurrency")
    for _ in range(3):
        with service() as port:
            posted, finished = asyncio.run(_all(port))
        print(f"  {_JOBS} jobs posted within {posted:.2f} s, all finished after {finished:.2f} s (aim: {_AIM_S:.0f} s)")
        print(f"  ratio to the one second that each takes: {finished:.2f}")


if __name__ == "__main__":
    main()
