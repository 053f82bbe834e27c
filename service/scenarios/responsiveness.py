"""Responsiveness: a main loop ticks while long work runs inline, in a thread or in a process.

A program with a window, a game or a server has a loop that must come round often. Work done in a turn of the loop stops
it until the work is done. In a background thread, work in Python gives up the GIL when the loop has asked for it and
waited for a switch interval (0.005 s): the loop ticks on, each tick that much late. More threads take their turns
before the loop gets one, and starting a thread waits until it has had the GIL once, so that already the starting of
several holds up the loop.

One long call into C is another matter. Unless it releases the GIL, as hashlib does, nobody can take it away: a regular
expression that backtracks freezes the loop from a background thread as it would inline. A process has a GIL of its own.

A tick that comes after others were due stands for the earliest of them; the others are dropped, as timers do.

Run it:
    Python code in a background thread:
        {"scenario": "responsiveness"}
    The same work in a turn of the loop:
        {"scenario": "responsiveness", "where": "inline"}
    One long call in a background thread, which does not help:
        {"scenario": "responsiveness", "work": "regex"}
    The same call in a process:
        {"scenario": "responsiveness", "work": "regex", "where": "process"}
    The same amount of work in eight threads:
        {"scenario": "responsiveness", "threads": 8}

Observed:
    2 cores, Linux, Intel Xeon, no other measurement beside; 3 to 6 runs of each, on
    3.13.15t 2 to 4; alone_s 0.05 or 0.1, all else as by default. The longest gap in seconds.

    where, work      3.9.18       3.10.13      3.11.7       3.12.1       3.13.0       3.13.15t
    inline, python   0.92-0.99    0.92-1.00    0.99-1.02    0.98-1.05    0.74-0.95    0.97-1.01
    thread, python   0.015-0.017  0.015-0.019  0.015-0.019  0.015-0.018  0.015-0.018  0.011-0.016
    8 of them        0.26-0.53    0.19-0.27    0.21-0.41    0.36-0.40    0.29-0.40    0.32-0.47
    thread, hash     0.010-0.012  0.010-0.014  0.010-0.014  0.010        0.010-0.012  0.010-0.011
    thread, regex    0.79-1.01    1.13-1.27    0.93-0.99    0.77-1.09    0.98-1.03    0.011-0.012
    process, python  0.010-0.012  0.010-0.012  0.010        0.010-0.012  0.011-0.013  0.011-0.012
    process, regex   0.010        0.010-0.013  0.011        0.011-0.013  0.010-0.011  0.010-0.012

    Every run above 0.7 was `frozen`, every one below 0.02 `responsive`. Eight threads were `jittery`, but `frozen` in
    one run of three on 3.9.18 and in both on 3.13.15t, where the work was done sooner.
    The median tick came 5.2 to 5.4 ms late beside one thread of Python on 3.9 to 3.13, and 0.1 ms on 3.13.15t.

Note:
    The loop alone was 0.1 ms late in the median on all of them, which is what a tick costs on this system.
    Work shorter than limit_s is `responsive` even inline: nobody notices it.
    With 8 threads nearly all of the longest gap is start_s. It is as long on 3.13.15t, which has no GIL to wait for;
    why, was not looked into.
    work_s is aimed at, by the CPU time of a short sample: work_wall_s was 0.74 to 1.27 s here.
    No outcome is forbidden, with a process neither: a busy system can hold up any loop.

Source:
    The tutorial, "Why use it?". Library reference, `sys.setswitchinterval` and `hashlib`. CPython, `take_gil`, and
    `Thread.start`, which waits for the thread's `_started`. Jakob Nielsen, Usability Engineering (1993), chapter 5:
    0.1 s is about the limit for an answer to feel instant. The pattern is the core of the one behind Cloudflare's
    outage of 2 July 2019 ("Details of the Cloudflare outage on July 2, 2019").
"""

from __future__ import annotations

import hashlib
import math
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Literal, NamedTuple, Optional, Tuple, Union

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "cpu"

MEASURES = {"longest_gap_s": "lower", "gap_p99_s": "lower", "work_wall_s": "lower"}
GROWS = {
    "wall_s": ("work_s",),
    "cpu_s": ("work_s",),
    "work_wall_s": ("work_s",),
    "longest_gap_s": ("work_s",),
    "gap_p99_s": ("work_s",),
}

WORST_GAPS = 50


@dataclass(frozen=True)
class Params:
    where: Literal["inline", "thread", "process"] = field(
        default="thread",
        metadata={
            "description": "Where the work runs: `inline` in a turn of the loop itself, in a background `thread`, or "
            "in a `process`."
        },
    )
    work: Literal["python", "regex", "hash", "sleep"] = field(
        default="python",
        metadata={
            "description": "What the work is: `python` adds numbers; `regex` is one long call of `re.match`, which "
            "keeps the GIL; `hash` is SHA-256 of 64 KiB at a time, without the GIL; `sleep` only waits."
        },
    )
    threads: int = field(
        default=1,
        metadata={
            "ge": 1,
            "le": 64,
            "description": "Into how many parts the work is cut: inline one after another, else at the same time.",
        },
    )
    work_s: float = field(
        default=1.0,
        metadata={
            "ge": 0.001,
            "le": 30.0,
            "description": "About how many seconds the whole work takes alone. How much work that is, is measured "
            "at the start of the run.",
        },
    )
    interval_s: float = field(
        default=0.01, metadata={"ge": 0.001, "le": 1.0, "description": "Seconds from one tick to the next."}
    )
    limit_s: float = field(
        default=0.1,  # Nielsen: up to here a person takes an answer as instant
        metadata={"ge": 0.001, "le": 10.0, "description": "The longest gap between two ticks that is responsive."},
    )
    switch_interval_s: Optional[float] = field(
        default=None,
        metadata={
            "ge": 1e-6,  # sys.setswitchinterval counts whole microseconds
            "le": 10.0,
            "description": "Seconds after which a waiting thread may ask for the GIL; null leaves the interpreter's "
            "own 0.005. It has no effect on a free-threaded build.",
        },
    )
    alone_s: float = field(
        default=0.5,  # 50 ticks by default, enough for a 99th percentile that is not the longest gap
        metadata={"ge": 0.0, "le": 10.0, "description": "For how long the loop first ticks alone, to compare with."},
    )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    found = {
        "responsive": (
            "acceptable",
            f"In this run no two ticks were more than {params.limit_s:g} s apart. How late they came is in late_p50_s.",
        ),
        "jittery": (
            "interesting",
            f"Two ticks were more than {params.limit_s:g} s apart, but less than half of the time that the work took. "
            f"{advice(params)}",
        ),
        "frozen": (
            "interesting",
            f"The loop stood still for more than {params.limit_s:g} s and for half of the work's time or more. "
            f"{advice(params)}",
        ),
    }
    if cannot_fork(params):
        return {"unavailable": ("acceptable", "This system has no fork. Run the work inline or in a thread."), **found}
    return found


def advice(params: Params) -> str:
    """Why the loop was held up, and what helps."""
    if params.interval_s > params.limit_s:
        return "Its ticks are further apart by themselves: take a shorter interval_s, or a longer limit_s."
    if params.where == "inline":
        does = "waits" if params.work == "sleep" else "computes"
        who = "a process" if keeps_gil(params) else "a thread or a process"
        return f"Nothing else happens on a thread that {does}: give the work to {who}."
    if params.where == "process":
        return f"A process has a GIL of its own, so it was not that: {BUSY}"
    if params.work == "python" and gil_enabled():
        fewer = "fewer threads, " if params.threads > 1 else ""
        return (
            "The work had the GIL, and the loop had to wait for it, while starting the threads, too (start_s): use "
            f"{fewer}work that releases the GIL, a process, or a free-threaded build."
        )
    if keeps_gil(params):
        return (
            "One call of C code had the GIL, and nobody could take it away: use work that releases the GIL, a process, "
            "or a free-threaded build."
        )
    return f"The loop had no GIL to wait for: the threads were slow to start (start_s), or {BUSY}"


BUSY = "the cores were busy, here or with other programs. Compare alone_gap_p99_s."


def keeps_gil(params: Params) -> bool:
    """Whether the work is one call that nobody can take the GIL away from."""
    return params.work == "regex" and gil_enabled()


def gil_enabled() -> bool:
    return sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True  # noqa: SLF001  its documented name


class Ticks(NamedTuple):
    """The moment from which the loop was watched and that of each tick after it; and how late each tick was."""

    stamps: List[float]
    late: List[float]
    start_s: Optional[float] = None  # how long the starting of threads or processes took, where there was any

    def gaps(self) -> List[float]:
        """The seconds from each stamp to the next."""
        return [after - before for before, after in zip(self.stamps, self.stamps[1:])]


Worker = Union[threading.Thread, BaseProcess]


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    if cannot_fork(params):
        return {"outcome": "unavailable", **dict.fromkeys(MEASURES)}
    if params.switch_interval_s is not None:
        sys.setswitchinterval(params.switch_interval_s)
    work = cut(params, lab)
    alone_until = time.perf_counter() + params.alone_s
    alone = tick_while(lambda: time.perf_counter() < alone_until, params, lab)
    ticks = tick_beside(work, params, lab)
    gaps = ticks.gaps()
    longest_gap_s, work_wall_s = max(gaps), ticks.stamps[-1] - ticks.stamps[0]
    print(f"{len(ticks.late)} ticks in {work_wall_s:.3f} s, the longest gap {longest_gap_s:.3f} s")
    return {
        "outcome": judge(longest_gap_s, work_wall_s, params.limit_s),
        "ticks_expected": int(work_wall_s / params.interval_s),
        "ticks_made": len(ticks.late),
        "longest_gap_s": longest_gap_s,
        "gap_p50_s": percentile(gaps, 0.50),
        "gap_p99_s": percentile(gaps, 0.99),
        "late_p50_s": percentile(ticks.late, 0.50),
        "late_p99_s": percentile(ticks.late, 0.99),
        "work_wall_s": work_wall_s,  # to the first tick that found the work done
        "start_s": ticks.start_s,
        "alone_gap_p99_s": percentile(alone.gaps(), 0.99),
        "alone_late_p50_s": percentile(alone.late, 0.50),
        "worst_gaps": worst(ticks),
    }


def cannot_fork(params: Params) -> bool:
    return params.where == "process" and "fork" not in get_all_start_methods()


def judge(longest_gap_s: float, work_wall_s: float, limit_s: float) -> str:
    if longest_gap_s <= limit_s:
        return "responsive"
    return "frozen" if longest_gap_s >= work_wall_s / 2 else "jittery"


def tick_beside(work: Callable[[], None], params: Params, lab: Lab) -> Ticks:
    """A turn of the loop starts the work, and the loop goes on until a tick finds it done."""
    begun = time.perf_counter()
    if params.where == "inline":
        for _ in range(params.threads):
            work()
        return tick_while(lambda: False, params, lab, begun)
    workers: List[Worker] = []
    try:
        for _ in range(params.threads):
            worker = make(params.where, work, lab)
            worker.start()
            workers.append(worker)
        start_s = time.perf_counter() - begun
        ticks = tick_while(lambda: any(worker.is_alive() for worker in workers), params, lab, begun)
        return ticks._replace(start_s=start_s)
    finally:
        for worker in workers:
            end(worker, lab)


def tick_while(going: Callable[[], bool], params: Params, lab: Lab, begun: Optional[float] = None) -> Ticks:
    """Tick on time as far as the system lets it, once at least; ticks that were missed are dropped, as a timer does."""
    due = now = time.perf_counter() if begun is None else begun
    ticks = Ticks([now], [])
    while True:
        due += params.interval_s * max(1, math.ceil((now - due) / params.interval_s))
        time.sleep(max(0.0, due - time.perf_counter()))
        now = time.perf_counter()
        ticks.stamps.append(now)
        ticks.late.append(now - due)
        lab.checkpoint()
        if not going():
            return ticks


def make(where: str, work: Callable[[], None], lab: Lab) -> Worker:
    if where == "process":
        return get_context("fork").Process(target=work, daemon=True)
    return lab.Thread(target=work)


def end(worker: Worker, lab: Lab) -> None:
    """See a worker off; one that is not done then belongs to a job that was cancelled."""
    if isinstance(worker, BaseProcess):
        worker.terminate()  # it hears of no cancelling; one that is done does not notice
    worker.join()
    if isinstance(worker, BaseProcess) and worker.exitcode:
        lab.warn(f"A process ended with exit code {worker.exitcode}, its work not done.")


def worst(ticks: Ticks) -> List[Dict[str, float]]:
    begun = ticks.stamps[0]
    gaps = [{"at_s": stamp - begun, "gap_s": gap} for stamp, gap in zip(ticks.stamps, ticks.gaps())]
    return sorted(gaps, key=lambda each: each["gap_s"], reverse=True)[:WORST_GAPS]


def percentile(values: List[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed (the nearest rank)."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


# The work, and how much of it takes how long: told by the thread's CPU time, which other programs do not stretch.

BLOCK = bytes(65_536)  # hashlib releases the GIL for 2,048 bytes or more
CALIBRATE_S = 0.02


def cut(params: Params, lab: Lab) -> Callable[[], None]:
    """One of the equal parts of the work, as a function."""
    part_s = params.work_s / params.threads
    if params.work == "sleep":
        return lambda: time.sleep(part_s)
    if params.work == "regex":
        text = "x" * backtracking_length(part_s)
        return lambda: backtrack(text)
    piece = PIECES[params.work]
    pieces = max(1, round(part_s / piece_time(piece)))

    def work() -> None:
        for _ in range(pieces):
            if lab.cancelled:
                return
            piece()

    return work


def piece_time(piece: Callable[[], object]) -> float:
    count, begun, passed_s = 0, time.thread_time(), 0.0
    while passed_s < CALIBRATE_S:
        piece()
        count, passed_s = count + 1, time.thread_time() - begun
    return passed_s / count


def backtracking_length(wished_s: float) -> int:
    """How long a text keeps `backtrack` busy for so many seconds: its time grows with the square of the length."""
    length, passed_s = 250, 0.0
    while passed_s < min(CALIBRATE_S, wished_s):
        length *= 2
        begun = time.thread_time()
        backtrack("x" * length)
        passed_s = time.thread_time() - begun
    return max(1, round(length * math.sqrt(wished_s / passed_s)))


def backtrack(text: str) -> None:
    """Look for what is not there, by every way to share the text out between the two `.*`."""
    re.match(r".*.*=", text)


def python_piece() -> int:
    total = 0
    for number in range(1_000):
        total += number
    return total


def hash_piece() -> bytes:
    return hashlib.sha256(BLOCK).digest()


PIECES: Dict[str, Callable[[], object]] = {"python": python_piece, "hash": hash_piece}
