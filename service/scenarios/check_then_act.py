"""Check, then act: many threads want the one instance that is made when it is first asked for.

`if instance is None: instance = Expensive()` looks first and acts upon what it saw. While one thread is constructing,
`instance` is still None, and every other thread that looks makes one of its own. The last one to be done stays; the
others are thrown away, or worse, held by threads that took them for the only one. A lock around both steps lets one
thread look and act at a time.

The gap is as long as the constructor takes. A constructor that waits (for a file, a socket, a server) lets all other
threads run meanwhile. One that only computes keeps the GIL until its switch interval is over, so a short one is seldom
interrupted; without a GIL it runs beside the others.

Run it:
    Under a lock:
        {"scenario": "check_then_act"}
    The race:
        {"scenario": "check_then_act", "lock": false}
    A constructor that computes:
        {"scenario": "check_then_act", "lock": false, "construction": "compute"}
    The same with a switch interval shorter than the constructor:
        {"scenario": "check_then_act", "lock": false, "construction": "compute", "switch_interval_s": 0.0001}
    The shortest gap there is, a thousand times:
        {"scenario": "check_then_act", "lock": false, "construction_s": 0, "rounds": 1000, "switch_interval_s": 1e-6}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside; 8 threads, no lock. In how many runs a second instance
    was made, and the median share of the rounds in which one was. With the lock there was never more than one (20
    runs on each interpreter).

    parameters                   3.9.18        3.10.13       3.11.7        3.12.1        3.13.0        3.13.15t
    (none but lock false)        100/100 100%  100/100 100%  100/100 100%  100/100 100%  100/100 100%  100/100 100%
    compute                      4/20    0%    6/20    0%    0/20    0%    1/20    0%    12/20   2%    20/20   6%
    compute, switch 0.0001       20/20   91%   20/20   86%   20/20   96%   20/20   88%   20/20   87%   20/20   11%
    compute 0.02, 10 rounds      20/20   100%  20/20   100%  20/20   100%  20/20   100%  20/20   100%  20/20   90%
    0 s, 1,000 rounds            0/20          0/20          0/20          0/20          0/20          14/20   0.2%
    0 s, 1,000 rounds, 0.000001  16/20   0.2%  15/20   0.1%  18/20   0.3%  15/20   0.1%  6/20    0%    11/20   0.1%

    By default nearly every thread makes one of its own: 700 instances too many in 100 rounds (median on each; the
    lowest of all runs 663), and as many threads hold one that did not stay.

Note:
    A constructor that computes for 0.001 s is interrupted before the switch interval of 0.005 s only if the system
    takes its core away: with nothing running beside, no run of 20 made a second instance on 3.9.18. On the
    free-threaded build it is the reverse: with nothing beside, both cores constructed in every round (20/20, 100 %).
    The lock here is a plain one, taken for each look. Double-checked locking looks first without it, and again under
    it; it saves the lock once the instance is there.

Source:
    Library reference, `functools.lru_cache`: "It is possible for the wrapped function to be called more than once if
    another thread makes an additional call before the initial call has been completed and cached."
    `functools.cached_property`: no lock of its own since 3.12.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Literal, Optional, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "cpu"

LEAST_INTERVAL_S = 1e-6  # sys.setswitchinterval counts whole microseconds

MEASURES = {
    "race_share": "lower",
    "extra_instances": "lower",
    "wall_s": "lower",
    "per_round_s": "lower",
}
GROWS = {
    "wall_s": ("threads", "rounds", "construction_s"),
    "cpu_s": ("threads", "rounds", "construction_s"),
    "per_round_s": ("threads", "construction_s"),
    "extra_instances": ("threads", "rounds"),
}


@dataclass(frozen=True)
class Params:
    threads: int = field(
        default=8, metadata={"ge": 1, "le": 256, "description": "How many threads ask for the instance at once."}
    )
    rounds: int = field(
        default=100,
        metadata={"ge": 1, "le": 10_000, "description": "How often they do, each time with nothing there yet."},
    )
    lock: bool = field(
        default=True,
        metadata={"description": "Whether each thread looks and acts under one plain lock, also when it is there."},
    )
    construction: Literal["sleep", "compute"] = field(
        default="sleep",
        metadata={
            "description": "What the constructor does: `sleep` waits, as for a file or a server, and lets the other "
            "threads run; `compute` keeps the thread busy."
        },
    )
    construction_s: float = field(
        default=0.001,
        metadata={
            "ge": 0.0,
            "le": 1.0,
            "description": "Seconds that the constructor takes; with 0 it does not sleep, but makes a few calls.",
        },
    )
    switch_interval_s: Optional[float] = field(
        default=None,
        metadata={
            "ge": LEAST_INTERVAL_S,
            "le": 10.0,
            "description": "Seconds after which a waiting thread may ask for the GIL; null leaves the interpreter's "
            "own 0.005. It has no effect on a free-threaded build.",
        },
    )
    daemon: bool = field(
        default=False, metadata={"description": "Whether the threads are daemons; they are joined either way."}
    )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    if params.lock:
        return {
            "one_each": ("acceptable", "Every round made one instance: one thread at a time looked and acted."),
            "made_twice": ("forbidden", "A second instance was made although each thread looked under the lock."),
        }
    if params.threads == 1:
        alone = "One thread alone makes one instance: nobody looks while it constructs. Take two threads or more."
        return {
            "not_seen": ("acceptable", alone),
            "made_twice": ("forbidden", "A second instance was made although one thread alone asked for it."),
        }
    return {
        "made_twice": (
            "interesting",
            "In at least one round a thread looked while another was constructing, and made a second instance.",
        ),
        "not_seen": (
            "acceptable",
            f"Every round made one instance, which does not show that there cannot be two. Try {what_to_try(params)}.",
        ),
    }


def what_to_try(params: Params) -> str:
    """What makes a second instance likelier, of what has not been done yet."""
    gil = sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True  # noqa: SLF001  its documented name
    computes = params.construction == "compute" or params.construction_s == 0
    ways = ["more rounds", "a longer construction_s"]
    if gil and computes and params.switch_interval_s != LEAST_INTERVAL_S:
        ways.append("a shorter switch_interval_s")
    if params.construction == "compute" and params.construction_s > 0:
        ways.append("construction sleep")
    return ", or ".join(ways)


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    if params.switch_interval_s is not None:
        sys.setswitchinterval(params.switch_interval_s)
    if lab.traces_locks:
        lab.warn("The waits for the lock are traced; those at the barrier before each round are not.")
    holder = Guarded if params.lock else Unguarded
    lock = lab.Lock()
    construct = constructor(params)
    slots = [holder(construct, lock) for _ in range(params.rounds)]
    barrier = threading.Barrier(params.threads)
    got: List[List[object]] = [[] for _ in range(params.threads)]
    threads = [lab.Thread(target=ask, args=(slots, barrier, mine, lab), daemon=params.daemon) for mine in got]

    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - begun

    lab.checkpoint()
    return count(params, slots, got, wall_s)


class Unguarded:
    """Wrong: another thread may look between this one's look and its act."""

    def __init__(self, construct: Callable[[], object], lock: threading.Lock) -> None:
        self.instance: Optional[object] = None
        self.made: List[object] = []
        self._construct = construct
        self._lock = lock

    def get(self) -> object:
        """Look, and act upon what was seen."""
        if self.instance is None:
            self.instance = self._make()
        return self.instance

    def _make(self) -> object:
        instance = self._construct()
        self.made.append(instance)
        return instance


class Guarded(Unguarded):
    """Right: under the lock, nobody looks while another acts."""

    def get(self) -> object:
        """Look and act, one thread at a time."""
        with self._lock:
            return super().get()


def ask(slots: List[Unguarded], barrier: threading.Barrier, mine: List[object], lab: Lab) -> None:
    for slot in slots:
        if lab.cancelled:
            barrier.abort()
        try:
            barrier.wait()  # all at once, and nobody goes ahead to the next round
        except threading.BrokenBarrierError:
            return
        mine.append(slot.get())


def constructor(params: Params) -> Callable[[], object]:
    """The function that makes an instance and takes its time over it."""

    def sleeping() -> object:
        time.sleep(params.construction_s)
        return object()

    def computing() -> object:
        done = time.perf_counter() + params.construction_s
        while time.perf_counter() < done:
            pass
        return object()

    def calling() -> object:
        return one(one(object()))

    if params.construction_s == 0:
        return calling
    return sleeping if params.construction == "sleep" else computing


def one(instance: object) -> object:
    return instance


def count(params: Params, slots: List[Unguarded], got: List[List[object]], wall_s: float) -> Dict[str, Any]:
    made = [len(slot.made) for slot in slots]
    raced = sum(instances > 1 for instances in made)
    strays = sum(instance is not slot.instance for mine in got for slot, instance in zip(slots, mine))
    print(f"{sum(made)} instances in {params.rounds} rounds, at most {max(made)} in one")
    return {
        "outcome": judge(params.lock, raced),
        "instances": sum(made),
        "extra_instances": sum(made) - params.rounds,
        "most_in_one_round": max(made),
        "rounds_raced": raced,
        "race_share": raced / params.rounds,
        "strays": strays,
        "wall_s": wall_s,
        "per_round_s": wall_s / params.rounds,
    }


def judge(lock: bool, raced: int) -> str:
    if raced:
        return "made_twice"
    return "one_each" if lock else "not_seen"
