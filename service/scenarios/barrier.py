"""Barrier: threads that work in phases meet between them, or read what a neighbour has not written yet.

In each round every thread writes its own cell, and then reads its neighbour's. The reading is right only when all have
written, and the next writing only when all have read. Nothing makes threads keep step by themselves: the one with the
shortest work runs ahead. A barrier holds each thread until all have come, so that all are as slow as the slowest.

A barrier needs every one of its threads. When one fails and stays away, the others would wait for ever; so it calls
`abort()`, or they wait with a timeout. Either breaks the barrier: each thread that waits, and each that comes later,
gets `BrokenBarrierError`.

Run it:
    Phases with a barrier between them:
        {"scenario": "barrier"}
    The same without the barrier:
        {"scenario": "barrier", "barrier": false}
    One thread fails, and says so:
        {"scenario": "barrier", "failing": "abort"}
    One thread fails, and stays away:
        {"scenario": "barrier", "failing": "silent"}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside; the same on CPython 3.9.18, 3.10.13, 3.11.7, 3.12.1,
    3.13.0 and 3.13.15t, so one row for all six. Runs of each interpreter, and the range of its medians.

    parameters                 runs  outcome      wrong_share   waited_s      freed_s         wall_s
    barrier true               20    in_phase     0             0.18 to 0.20  -               0.114 to 0.121
    barrier false              20    wrong_phase  0.995         0             -               0.106 to 0.108
    barrier false, rounds 5    50    wrong_phase  0.95          0             -               0.011 to 0.012
    failing abort              3     broken       0             0.09 to 0.10  0.0015          0.060 to 0.063
    failing silent             2     broken       0             3.09 to 3.11  1.001 to 1.003  1.06

    A wrong reading appeared in every run without the barrier. The barrier itself costs 0.01 s for 50 rounds; the rest
    of waited_s is that three threads wait for the slowest.

Note:
    Threads with equal work keep step no better: with work_s 0, 72 to 99 % of the readings were wrong in 20 of 20 runs.
    `freed_s` of `abort` is not the time of abort(): a thread that is still at work finds the barrier broken when it
    comes to it.

Source:
    Library reference, `threading`, "Barrier objects". Allen B. Downey, "The Little Book of Semaphores", chapter 3
    (rendezvous, reusable barrier).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Literal, Optional, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "wait"
MEASURES: Dict[str, str] = {"wrong_share": "lower", "wall_s": "lower", "waited_s": "lower", "freed_s": "lower"}
GROWS = {
    "wall_s": ("threads", "rounds", "work_s"),
    "cpu_s": ("threads", "rounds", "work_s"),
    "waited_s": ("threads", "rounds", "work_s"),
}


@dataclass(frozen=True)
class Params:
    barrier: bool = field(default=True, metadata={"description": "Whether a barrier stands between the phases."})
    threads: int = field(default=4, metadata={"ge": 2, "le": 256, "description": "How many threads keep step."})
    rounds: int = field(
        default=50, metadata={"ge": 1, "le": 10_000, "description": "How often each thread writes and reads."}
    )
    work_s: float = field(
        default=0.002,  # chosen: 25 times a sleep's own 0.00008 s, and 50 rounds are over in a tenth of a second
        metadata={
            "ge": 0.0,
            "le": 1.0,
            "description": "Seconds that the slowest thread works before it writes. The first of n takes an n-th of "
            "it, the second two n-ths, and so on.",
        },
    )
    failing: Literal["no", "abort", "silent"] = field(
        default="no",
        metadata={
            "description": "Whether the first thread fails half-way. With `abort` it breaks the barrier as it goes; "
            "with `silent` it only stays away, as a thread does that ends by an exception."
        },
    )
    patience_s: float = field(
        default=1.0,
        metadata={
            "ge": 0.001,
            "le": 60.0,
            "description": "Seconds that a thread waits at the barrier before it gives up, which breaks the barrier.",
        },
    )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    if not params.barrier:
        return {
            "wrong_phase": (
                "interesting",
                "A thread read a neighbour's value of another round: nothing made them keep step.",
            ),
            "not_seen": (
                "acceptable",
                "Every reading fitted its round this time, which does not show that it must. Try more rounds, or "
                "another work_s.",
            ),
        }
    if params.failing == "no":
        broken = "No thread failed, but one waited longer than patience_s, gave up, and so broke the barrier for all."
    else:
        broken = (
            "One thread failed, and the barrier was of no use to the others, either: each of them got "
            "BrokenBarrierError. `freed_s` is how long it took until the last of them knew."
        )
    return {
        "in_phase": ("acceptable", "Every reading fitted its round: nobody read before all had written."),
        "broken": ("interesting", broken),
        "wrong_phase": ("forbidden", "A thread passed the barrier and read a value of another round."),
    }


class Seat:
    """What one thread writes, and what it saw; only its own thread writes here."""

    def __init__(self) -> None:
        self.cell = 0  # the round in which it was written
        self.right = self.early = self.late = 0
        self.broken = False
        self.waited_s = 0.0
        self.ended_s = 0.0


class WorkFailed(Exception):
    pass


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    seats = [Seat() for _ in range(params.threads)]
    barrier = threading.Barrier(params.threads, timeout=params.patience_s)
    threads = [
        lab.Thread(target=take_part, args=(number, seats, barrier, params, lab)) for number in range(params.threads)
    ]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - begun
    lab.checkpoint()

    right, early, late = (sum(getattr(seat, name) for seat in seats) for name in ("right", "early", "late"))
    broken = sum(seat.broken for seat in seats)
    return {
        "outcome": judge(params.barrier, early + late, broken),
        "reads": right + early + late,
        "right_reads": right,
        "early_reads": early,
        "late_reads": late,
        "wrong_share": (early + late) / (right + early + late) if right + early + late else 0.0,
        "broken_barrier_errors": broken,
        "rounds_done": min(seat.cell for seat in seats),
        "freed_s": freed_s(seats, broken, params),
        "waited_s": sum(seat.waited_s for seat in seats),
        "wall_s": wall_s,
    }


def take_part(number: int, seats: List[Seat], barrier: threading.Barrier, params: Params, lab: Lab) -> None:
    seat, neighbour = seats[number], seats[(number + 1) % params.threads]
    try:
        for this_round in range(1, params.rounds + 1):
            lab.checkpoint()
            work(number, this_round, params)
            seat.cell = this_round
            meet(seat, barrier, params)  # all have written
            note(seat, neighbour.cell - this_round)
            meet(seat, barrier, params)  # all have read
    except WorkFailed:
        seat.ended_s = time.perf_counter()
        if params.failing == "abort":
            barrier.abort()
    except threading.BrokenBarrierError:
        seat.broken = True
        seat.ended_s = time.perf_counter()
    except BaseException:
        barrier.abort()  # the job was cancelled: nobody waits for this thread
        raise


def work(number: int, this_round: int, params: Params) -> None:
    """The work of one round, at which the first thread may fail when it is half-way through."""
    time.sleep(params.work_s * (number + 1) / params.threads)
    if params.failing != "no" and number == 0 and this_round > params.rounds // 2:
        raise WorkFailed


def meet(seat: Seat, barrier: threading.Barrier, params: Params) -> None:
    if params.barrier:
        came = time.perf_counter()
        try:
            barrier.wait()
        finally:
            seat.waited_s += time.perf_counter() - came


def note(seat: Seat, ahead: int) -> None:
    """Count a reading by how many rounds the neighbour was ahead."""
    if ahead == 0:
        seat.right += 1
    elif ahead < 0:
        seat.early += 1
    else:
        seat.late += 1


def freed_s(seats: List[Seat], broken: int, params: Params) -> Optional[float]:
    """Seconds from the failure until the last thread was free of the barrier; None if no thread failed at one."""
    if not broken or params.failing == "no":
        return None
    return max(seat.ended_s for seat in seats) - seats[0].ended_s


def judge(barrier: bool, wrong: int, broken: int) -> str:
    if wrong:
        return "wrong_phase"
    if broken:
        return "broken"
    return "in_phase" if barrier else "not_seen"
