"""The speedups that `cpu_bound` reports beside those of the same work in a plain script, in turn.

The plain script is written out below, as anybody would write it: the work one task after the other, then the same
by threads or processes, with nothing of ours in it, run by the same interpreter in a fresh process. Compared is the
whole detour, start-up included: `speedup_with_startup`.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.support import Client, banner, service

_PAIRS = 15
_WORKERS = 2
_TASKS = 8
_SIZE = 200  # a task is a fifth of a second: the noise of a start does not decide
_LOW, _HIGH = 0.95, 1.05
_MODELS = ("threads", "processes")
_WORKS = ("python", "hash")

_SCRIPT = """
import hashlib, multiprocessing, threading, time
from concurrent.futures import ProcessPoolExecutor

def python(number, size):
    total = number
    for value in range(size * 13_000):
        total = (total + value * value) % 1_000_003
    return total

def hash(number, size):
    block = bytes([number % 256]) * 2_097_152
    digest = hashlib.sha256()
    for _ in range(size):
        digest.update(block)
    return int.from_bytes(digest.digest()[:7], "big")

def share(numbers):
    for number in numbers:
        {work}(number, {size})

def by_threads():
    threads = [threading.Thread(target=share, args=(range(first, {tasks}, {workers}),)) for first in range({workers})]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

def by_processes():
    with ProcessPoolExecutor({workers}, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map({work}, range({tasks}), [{size}] * {tasks}))

{work}(0, 1)
begun = time.perf_counter()
share(range({tasks}))
alone = time.perf_counter() - begun
begun = time.perf_counter()
by_{model}()
print(alone / (time.perf_counter() - begun))
"""


def _plain(model: str, work: str) -> float:
    script = _SCRIPT.format(model=model, work=work, size=_SIZE, tasks=_TASKS, workers=_WORKERS)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(done.stdout)


async def _reported(client: Client, model: str, work: str) -> float:
    body = {
        "scenario": "cpu_bound",
        "model": model,
        "work": work,
        "threads": _WORKERS,
        "tasks": _TASKS,
        "size": _SIZE,
        "payload_bytes": 0,
    }
    job = (await client.request("POST", "/v1/jobs", body, Prefer="wait=60")).json()
    values: dict[str, Any] = job["result"]["values"]
    speedup: float = values["speedup_with_startup"]
    return speedup


async def _pairs(port: int, model: str, work: str) -> tuple[list[float], list[float]]:
    async with Client(port) as client:
        await _reported(client, model, work)  # the first job of a service meets cold caches
        pairs = [(await _reported(client, model, work), _plain(model, work)) for _ in range(_PAIRS)]
    return [reported for reported, _ in pairs], [plain for _, plain in pairs]


def main() -> None:
    """Measure and print."""
    banner("speedup")
    with service() as port:
        for work in _WORKS:
            for model in _MODELS:
                reported, plain = (statistics.median(each) for each in asyncio.run(_pairs(port, model, work)))
                ratio = reported / plain
                print(
                    f"  {work:6} by {_WORKERS} {model:9}: reported {reported:.3f}, plain {plain:.3f}, ratio {ratio:.3f}"
                    f" (medians of {_PAIRS} pairs in turn)"
                )
    print(f"  aim: {_LOW} to {_HIGH}")


if __name__ == "__main__":
    main()
