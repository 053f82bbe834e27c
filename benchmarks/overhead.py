"""Whole jobs per second over HTTP beside a bare FastAPI POST of the same model, and the latency of one client.

A whole job: `POST /v1/jobs` with `Prefer: wait`, accepted on disk, a child of its own forked that starts and joins four
threads, its end on disk, the finished job as the answer. Both services run in this run, in turn, on the same machine
as the clients.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time

from benchmarks.support import Client, banner, many, process, service, summary

_BODY = {"scenario": "named_workers", "threads": 4, "delay_s": 0}
_CLIENTS = 16
_ROUNDS = 5
_JOBS = 1_500  # a round: some seconds
_POSTS = 6_000
_SINGLE = 300  # requests of the one client


# A child with nothing of ours in it: the least that a whole job can cost.
_LEAST = """
import gc, os, resource, threading
gc.collect(); gc.freeze(); gc.disable()
def child():
    threads = [threading.Thread(target=int) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    os._exit(0)
for _ in range(1000):
    pid = os.fork()
    if pid == 0: child()
    os.waitpid(pid, 0)
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(each.ru_utime + each.ru_stime for each in used) / 1000)
"""


def _least_s() -> float:
    """Return the CPU seconds of forking an interpreter that starts and joins four threads and exits."""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", _LEAST], capture_output=True, text=True, check=True)
    return float(done.stdout)


async def _rate(port: int, count: int, *statuses: int) -> float:
    async def ask(client: Client) -> None:
        answer = await client.request("POST", "/v1/jobs", _BODY, Prefer="wait=30")
        assert answer.status in statuses, answer.body

    await many(port, _CLIENTS, count // 10, ask)  # warm up
    return count / await many(port, _CLIENTS, count, ask)


async def _latencies(port: int) -> list[float]:
    took = []

    async def ask(client: Client) -> None:
        begun = time.perf_counter()
        await client.request("POST", "/v1/jobs", _BODY, Prefer="wait=30")
        took.append(time.perf_counter() - begun)

    await many(port, 1, _SINGLE, ask)
    return took


def main() -> None:
    """Measure and print."""
    banner("overhead")
    least_s = _least_s()
    most = (os.cpu_count() or 1) / least_s
    print(
        f"  fork, four threads, exit, with nothing of ours: {1000 * least_s:.2f} ms of CPU, at most {most:.0f}/s here"
    )
    ratios = []
    with process("-m", "benchmarks.bare", "0") as bare, service() as whole:
        for _ in range(_ROUNDS):
            posts = asyncio.run(_rate(bare, _POSTS, 200))
            jobs = asyncio.run(_rate(whole, _JOBS, 200))
            ratios.append(jobs / posts)
            print(f"  {_CLIENTS} clients: bare {posts:6.0f}/s, whole jobs {jobs:5.0f}/s, ratio {ratios[-1]:.3f}")
        bare_took, whole_took = asyncio.run(_latencies(bare)), asyncio.run(_latencies(whole))
    more = statistics.median(whole_took) - statistics.median(bare_took)
    print(f"  ratio: median {statistics.median(ratios):.3f} (aim: at least 0.200)")
    print(f"  one client: bare {summary(bare_took)}")
    print(f"  one client: whole {summary(whole_took)}")
    print(f"  one client: the median is {1000 * more:.2f} ms above bare (aim: at most 5 ms)")


if __name__ == "__main__":
    main()
