"""What an experiment costs beside its runs: 64 cells whose runs do next to nothing.

A run's own time is its child's, from the fork to the end of the process, as the fork server saw it (`process.lived_s`).
What is left of the experiment's time is ours: accepting the job on disk, asking for the child, reading what it says,
writing its end, and reading the run out of it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from benchmarks.support import Client, banner, service

_EXPERIMENTS = 3
_REPEATS = 5
_AIM_S = 0.010
_BODY = {
    "scenario": "counter",
    "iterations": 1,
    "vary": {"threads": list(range(1, 9)), "switch_interval_s": [0.001 * n for n in range(1, 9)]},
    "repeats": _REPEATS,
}


async def _overhead_s(client: Client) -> float:
    """Seconds of one experiment beside its runs, for each run."""
    experiment = (await client.request("POST", "/v1/experiments", _BODY, Prefer="wait=60")).json()
    while experiment["status"] in ("queued", "running"):
        path = f"/v1/experiments/{experiment['id']}"
        experiment = (await client.request("GET", path, Prefer="wait=60")).json()
    assert experiment["progress"] == {"done": 64 * _REPEATS, "of": 64 * _REPEATS}, experiment["progress"]
    runs_s = sum([await _lived_s(client, run["job_id"]) for row in experiment["rows"] for run in row["raw"]])
    return (_duration_s(experiment) - runs_s) / (64 * _REPEATS)


async def _lived_s(client: Client, job_id: str) -> float:
    job = (await client.request("GET", f"/v1/jobs/{job_id}")).json()
    lived_s: float = job["result"]["process"]["lived_s"]
    return lived_s


def _duration_s(experiment: dict[str, Any]) -> float:
    begun, ended = (datetime.fromisoformat(experiment[name]) for name in ("started_at", "finished_at"))
    return (ended - begun).total_seconds()


async def _all(port: int) -> list[float]:
    async with Client(port) as client:
        return [await _overhead_s(client) for _ in range(_EXPERIMENTS)]


def main() -> None:
    """Measure and print."""
    banner("experiment")
    with service() as port:
        found = asyncio.run(_all(port))
    told = ", ".join(f"{1000 * each:.2f}" for each in found)
    print(f"  64 cells x {_REPEATS} repeats, {_EXPERIMENTS} times: {told} ms for each run beside the run itself")
    print(f"  aim: {1000 * _AIM_S:.0f}")


if __name__ == "__main__":
    main()
