"""The convoy effect on every interpreter here: echoes per second beside computing threads, by an experiment.

What is measured is the scenario's: this program asks for the matrix and prints its table.
"""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.support import Client, banner, service

_THREADS = (0, 1, 2, 4)
_REPEATS = 5


async def _matrix(port: int) -> dict[str, Any]:
    async with Client(port) as client:
        found = (await client.request("GET", "/v1/interpreters")).json()["interpreters"]
        body = {
            "scenario": "convoy",
            "vary": {"python": [each["selector"] for each in found if each["usable"]], "threads": list(_THREADS)},
            "measure": "echoes_per_s",
            "baseline": {"threads": 0},
            "repeats": _REPEATS,
        }
        answer = await client.request("POST", "/v1/experiments", body, Prefer="wait=60")
        experiment: dict[str, Any] = answer.json()
        while experiment["status"] in ("queued", "running"):
            path = f"/v1/experiments/{experiment['id']}"
            experiment = (await client.request("GET", path, Prefer="wait=60")).json()
    return experiment


def main() -> None:
    """Measure and print."""
    banner("convoy")
    with service() as port:
        experiment = asyncio.run(_matrix(port))
    print(f"  echoes per second (share of those beside none), median of {_REPEATS}, by computing threads")
    print("  python  " + "".join(f"{threads:>20}" for threads in _THREADS))
    rows = {(row["values"]["python"], row["values"]["threads"]): row for row in experiment["rows"]}
    for python in dict.fromkeys(python for python, _ in rows):
        cells = [rows[python, threads] for threads in _THREADS]
        told = [f"{row['median']:,.0f} ({100 * row['speedup']:.1f} %)" for row in cells]
        print(f"  {python:8}" + "".join(f"{each:>20}" for each in told))


if __name__ == "__main__":
    main()
