"""Deadlock: each philosopher holds one fork and waits for the next one's, for ever.

Some philosophers sit around a table with one fork between each two of them, and each needs both forks beside him to
eat. Each takes the one on his left, and then the one on his right. When all have taken their left fork, every fork is
held, and each philosopher waits for one that his neighbour does not put down before he has eaten. With two of them it
is the plainest case: one thread takes lock 1 and then lock 2, the other one lock 2 and then lock 1.

Nothing is broken in any one thread, and with luck it goes well for years. The cure needs no luck: give the locks
numbers, and let every thread take the lower number first. Then a thread only ever waits for a lock with a higher number
than all it holds, so the one that holds the highest number can always go on, and a ring of waiting cannot close.

Run it:
    Two threads, two locks, two orders:
        {"scenario": "deadlock"}
    The five dining philosophers:
        {"scenario": "deadlock", "threads": 5}
    The cure - everybody takes the lower number first:
        {"scenario": "deadlock", "threads": 5, "ordered": true}
    A real race, without the pause that makes it certain:
        {"scenario": "deadlock", "hold_s": 0, "rounds": 100000}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside. How many runs got stuck.

    parameters                     3.9.18   3.10.13  3.11.7   3.12.1   3.13.0   3.13.15, free-threaded
    (none)                         100/100  100/100  100/100  100/100  100/100  100/100
    threads 5                      20/20    20/20    20/20    20/20    20/20    20/20
    threads 64                     20/20    20/20    20/20    20/20    20/20    20/20
    threads 5, ordered             0/20     0/20     0/20     0/20     0/20     0/20
    hold_s 0, rounds 1,000         0/20     0/20     0/20     0/20     0/20     9/20
    hold_s 0, rounds 10,000        14/20    17/20    14/20    11/20    14/20    15/20
    hold_s 0, rounds 100,000       20/20    20/20    20/20    20/20    20/20    20/20
    the same with 5, 10,000        5/20     8/20     2/20     1/20     5/20     20/20
    hold_s 0, 10,000, ordered      0/20     0/20     0/20     0/20     0/20     0/20

    From the request to the answer, in seconds (median; the first 0.1 are the philosophers' own pause):
    (none)                         0.149    0.152    0.150    0.151    0.150    0.148
    threads 64                     0.172    0.160    0.166    0.169    0.157    0.167

Note:
    The forks are locks with a name (`lab.Lock("fork 1")`), which the service can see into: it ends the job as soon as
    no thread can run on, says in `error` who holds what and waits for what, and in `autopsy` where each thread stands.
    Python itself sees nothing of it. A program of your own just stops; `faulthandler.dump_traceback_later` or py-spy
    show where.
    `lock.acquire(timeout=...)` is no cure: the threads give up and try again, perhaps all of them at once, for ever.

Source:
    E. W. Dijkstra, "Hierarchical ordering of sequential processes" (EWD 310; Acta Informatica 1, 1971): the five
    philosophers. E. G. Coffman, M. J. Elphick, A. Shoshani, "System Deadlocks" (ACM Computing Surveys 3, 1971): the
    four conditions, and ordering as the way to break the circular wait. Library reference, `threading.Lock`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

if TYPE_CHECKING:
    import threading

    from service.child.lab import Lab

MEASURES = {"wall_s": "lower"}
GROWS = {"wall_s": ("threads", "rounds", "hold_s"), "cpu_s": ("threads", "rounds", "hold_s")}


@dataclass(frozen=True)
class Params:
    threads: int = field(
        default=2, metadata={"ge": 2, "le": 64, "description": "How many philosophers there are, and forks."}
    )
    ordered: bool = field(
        default=False,
        metadata={"description": "Whether everybody takes the fork with the lower number first, which is the cure."},
    )
    hold_s: float = field(
        default=0.1,  # with 0.05 a busy machine kept a thread from its first fork for too long in 2 of 600 runs
        metadata={
            "ge": 0.0,
            "le": 10.0,
            "description": "Seconds between the first fork and the second. With 0 it is a race, which takes rounds.",
        },
    )
    rounds: int = field(
        default=1, metadata={"ge": 1, "le": 100_000, "description": "How often each of them eats, if he can."}
    )


def lane(params: Params) -> str:
    return "wait" if params.hold_s > 0 else "cpu"


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    if params.ordered:
        return {
            "all_ate": (
                "acceptable",
                "Everybody ate: all took the lower number first, so that no ring of waiting could close.",
            ),
            "stuck": (
                "forbidden",
                "They waited for each other for ever, although all took the lower number first.",
            ),
        }
    return {
        "stuck": (
            "interesting",
            "It did not end: if `error` names a deadlock, each held a fork and waited for his neighbour's, for ever, "
            "and if not, its time was up too soon.",
        ),
        "not_seen": (
            "acceptable",
            "Everybody ate, this time, which does not show that they always will. Try a longer hold_s or more rounds.",
        ),
    }


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    forks = [lab.Lock(f"fork {number}") for number in range(1, params.threads + 1)]
    meals = [0] * params.threads
    philosophers = [
        lab.Thread(target=dine, args=(params, lab, seat, forks, meals), name=f"Philosopher-{seat + 1}")
        for seat in range(params.threads)
    ]

    begun = time.perf_counter()
    for philosopher in philosophers:
        philosopher.start()
    for philosopher in philosophers:
        philosopher.join()
    wall_s = time.perf_counter() - begun

    lab.checkpoint()  # a philosopher who was told to stop has not eaten all that he wanted
    return {
        "outcome": "all_ate" if params.ordered else "not_seen",
        "meals": sum(meals),
        "meals_of_each": meals,
        "wall_s": wall_s,
    }


def dine(params: Params, lab: Lab, seat: int, forks: List[threading.Lock], meals: List[int]) -> None:
    left, right = seat, (seat + 1) % len(forks)
    first, second = (min(left, right), max(left, right)) if params.ordered else (left, right)
    for _ in range(params.rounds):
        lab.checkpoint()
        with forks[first]:
            if params.hold_s > 0:
                time.sleep(params.hold_s)
            with forks[second]:
                meals[seat] += 1
    print(f"Philosopher-{seat + 1} has eaten.")
