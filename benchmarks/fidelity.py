"""The wall time that `counter` reports beside the same loop in a plain script, in turn.

The plain script is written out below: a program as the tutorial has it, with nothing of ours in it, run by the same
interpreter in a fresh process. Both take their time from before the first `start()` to after the last `join()`.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys

from benchmarks.support import Client, banner, service

_STARTS = 8  # of the service: each has a memory layout and a hash seed of its own, which all its children share
_PAIRS = 4  # in turn, for each start
_THREADS = 4
_ITERATIONS = {False: 2_000_000, True: 500_000}  # a third of a second and more: a start's noise does not decide
_LOW, _HIGH = 0.97, 1.03

_SCRIPT = """
import threading, time

lock = threading.Lock()
counter = 0

def increment():
    global counter
    for _ in range({iterations}):
        {addition}

threads = [threading.Thread(target=increment) for _ in range({threads})]
begun = time.perf_counter()
for t in threads:
    t.start()
for t in threads:
    t.join()
print(time.perf_counter() - begun)
"""

_ADDITIONS = {False: "counter += 1", True: "with lock: counter += 1"}


def _plain(lock: bool) -> float:
    script = _SCRIPT.format(iterations=_ITERATIONS[lock], threads=_THREADS, addition=_ADDITIONS[lock])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(done.stdout)


async def _reported(client: Client, lock: bool) -> float:
    body = {
        "scenario": "counter",
        "shape": "augmented",
        "switch_interval_s": None,
        "threads": _THREADS,
        "iterations": _ITERATIONS[lock],
        "lock": lock,
    }
    job = (await client.request("POST", "/v1/jobs", body, Prefer="wait=60")).json()
    wall_s: float = job["result"]["values"]["wall_s"]
    return wall_s


async def _ratios(port: int, lock: bool) -> list[float]:
    async with Client(port) as client:
        await _reported(client, lock)  # the first job of a service meets cold caches
        return [await _reported(client, lock) / _plain(lock) for _ in range(_PAIRS)]


def main() -> None:
    """Measure and print."""
    banner("fidelity")
    ratios: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(_STARTS):
        with service() as port:
            for lock, found in ratios.items():
                found.extend(asyncio.run(_ratios(port, lock)))
    for lock, found in ratios.items():
        median = f"median of {len(found)} pairs {statistics.median(found):.3f}"
        print(f"  lock {lock!s:5}: reported / plain, {median} ({min(found):.3f} to {max(found):.3f})")
    print(f"  aim: {_LOW} to {_HIGH}")


if __name__ == "__main__":
    main()
