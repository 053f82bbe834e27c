"""From the request to cancel a job of 64 busy threads to its answer, when all of them are gone."""

from __future__ import annotations

import asyncio
import time

from benchmarks.support import Client, banner, percentile, service, summary

_RUNS = 100
_AIM_S = 0.1
_BODY = {"scenario": "counter", "threads": 64, "iterations": 10_000_000, "shape": "augmented", "lock": False}


async def _once(client: Client) -> float:
    job = (await client.request("POST", "/v1/jobs", _BODY)).json()
    await asyncio.sleep(0.3)  # let its threads get going
    job = (await client.request("GET", f"/v1/jobs/{job['id']}")).json()
    assert job["status"] == "running", job
    begun = time.perf_counter()
    answer = await client.request("POST", f"/v1/jobs/{job['id']}/cancel")
    took = time.perf_counter() - begun
    cancelled = answer.json()
    assert (answer.status, cancelled["status"]) == (200, "cancelled"), answer.body
    return took


async def _all(port: int) -> list[float]:
    async with Client(port) as client:
        return [await _once(client) for _ in range(_RUNS)]


def main() -> None:
    """Measure and print."""
    banner("kill")
    with service() as port:
        took = asyncio.run(_all(port))
    within = sum(1 for each in took if each < _AIM_S)
    print(f"  {_RUNS} cancels of 64 busy threads: {summary(took)}, p90 {1000 * percentile(took, 90):.1f} ms")
    print(f"  {within} of {_RUNS} under {1000 * _AIM_S:.0f} ms (aim: 99)")


if __name__ == "__main__":
    main()
