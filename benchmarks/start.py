"""From starting the service's process to its first finished job, beside a bare interpreter's start."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time

from benchmarks.support import Client, banner, service, summary

_RUNS = 10
_AIM_S = 1.5
_BODY = {"scenario": "named_workers", "threads": 4, "delay_s": 0}


async def _first_job(port: int) -> None:
    async with Client(port) as client:
        answer = await client.request("POST", "/v1/jobs", _BODY, Prefer="wait=30")
        assert (answer.status, answer.json()["status"]) == (200, "succeeded"), answer.body


def main() -> None:
    """Measure and print."""
    banner("start")
    took, bare = [], []
    for _ in range(_RUNS):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import fastapi, uvicorn, sqlalchemy"], check=True)
        bare.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        with service() as port:
            asyncio.run(_first_job(port))
            took.append(time.perf_counter() - begun)
    print(f"  importing fastapi, uvicorn and sqlalchemy alone: {summary(bare)}")
    print(f"  start to first finished job: {summary(took)} (aim: under {1000 * _AIM_S:.0f} ms)")
    print(f"  ratio: {statistics.median(took) / statistics.median(bare):.2f}")


if __name__ == "__main__":
    main()
