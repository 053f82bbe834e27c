"""Counter: four threads add to one variable, with a lock or without.

Adding one is three steps: read, add, write. When a second thread reads between the first one's read and write, both
write the same number, and one addition is lost. A lock makes the three steps one, for all threads that take it.

Whether it happens without the lock depends on where the interpreter lets another thread run. Until CPython 3.9 that was
nearly everywhere. Since 3.10 a thread offers the GIL only around calls and on a loop's back edge, so nothing comes
between the read and the write of `counter += 1`; put a call there, and it loses as before. Without a GIL, two threads
run at the same moment and every shape loses. No version of the language ever promised that `+= 1` is one step.

Run it:
    The tutorial's program:
        {"scenario": "counter", "shape": "augmented", "lock": true, "switch_interval_s": null}
    The race:
        {"scenario": "counter", "lock": false}
    The cure:
        {"scenario": "counter", "lock": true}
    The tutorial's program without its lock:
        {"scenario": "counter", "shape": "augmented", "lock": false}
    Ten additions a thread are enough when each pauses:
        {"scenario": "counter", "shape": "yield", "iterations": 10, "lock": false}

OBSERVED
"""
# ruff: noqa: PLW0603  the counter of the tutorial is a module's global, and its cost is part of what is measured

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, Literal, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "cpu"


@dataclass(frozen=True)
class Params:
    threads: int = field(default=4, metadata={"ge": 1, "le": 256, "description": "How many threads add."})
    iterations: int = field(
        default=100_000,
        metadata={
            "ge": 1,
            "le": 10_000_000,
            "description": "Additions of each thread. With shape `yield` one costs up to 0.1 ms: take 1,000 or fewer.",
        },
    )
    lock: bool = field(default=True, metadata={"description": "Whether each addition is made under one lock."})
    shape: Literal["augmented", "split", "attribute", "item", "function_call", "property", "yield"] = field(
        default="function_call",  # the one that loses on every interpreter without a pause in it
        metadata={
            "description": "How the addition is written. `augmented` is the tutorial's `counter += 1`; `split` reads, "
            "adds and writes in three lines; `attribute` and `item` add to an object's attribute and a dictionary's "
            "item; `function_call` and `property` call a function between the read and the write; `yield` has a "
            "`time.sleep(0)` there."
        },
    )
    switch_interval_s: Optional[float] = field(
        default=0.001,  # the longest measured at which the default shape lost in every run; shorter ones slow the lock
        metadata={
            "ge": 1e-6,  # sys.setswitchinterval counts whole microseconds
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
            "exact": (
                "acceptable",
                "Every addition was counted: the lock let one thread at a time read, add and write.",
            ),
            "lost": ("forbidden", "An addition was lost although each was made under the lock."),
        }
    not_seen = (
        "No addition was lost in this run, which does not show that none can be. Try more iterations, a shorter "
        "switch_interval_s, or the shapes function_call and yield."
    )
    return {
        "lost": ("interesting", "At least one addition was overwritten by a thread that had read the same number."),
        "not_seen": ("acceptable", not_seen if _can_switch(params.shape) else _why_not(params.shape)),
    }


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    global lock
    lock = lab.Lock()
    if params.switch_interval_s is not None:
        sys.setswitchinterval(params.switch_interval_s)
    if not params.lock and not _can_switch(params.shape):
        lab.warn(_why_not(params.shape))
    shape = SHAPES[params.shape]
    increment = shape.locked if params.lock else shape.unlocked
    threads = [
        lab.Thread(target=increment, args=(params.iterations,), daemon=params.daemon) for _ in range(params.threads)
    ]

    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - begun

    expected, actual = params.threads * params.iterations, shape.total()
    print("Final counter: ", actual)
    if actual != expected:
        outcome = "lost"
    else:
        outcome = "exact" if params.lock else "not_seen"
    return {
        "outcome": outcome,
        "addition": shape.code,
        "expected": expected,
        "actual": actual,
        "lost": expected - actual,
        "lost_share": (expected - actual) / expected,
        "wall_s": wall_s,
        "per_addition_s": wall_s / expected,
    }


def _can_switch(shape: str) -> bool:
    """Whether this interpreter can let another thread run between the read and the write."""
    gil = sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True
    rare = gil and sys.implementation.name == "cpython" and sys.version_info >= (3, 10)
    return not rare or shape in {"function_call", "property", "yield"}


def _why_not(shape: str) -> str:
    version = "{}.{}.{}".format(*sys.version_info)
    return (
        f"Not seen with shape {shape} on CPython {version} with the GIL, and why: since 3.10 (bpo-29988) a thread offers "
        f"the GIL only around calls and on a loop's back edge, and there is neither between the read and the write of "
        f"`{SHAPES[shape].code}`. The language does not guarantee it: keep the lock. To see additions lost, try shape "
        f"function_call, CPython 3.9, or a free-threaded build."
    )


# What follows is what a plain script would hold: nothing in the loops but the addition, so that their times are a
# script's times. Every job has a fresh process, so everything starts at 0.

lock: threading.Lock  # made by `run`
counter = 0


def augmented(iterations: int) -> None:
    global counter
    for _ in range(iterations):
        counter += 1


def augmented_locked(iterations: int) -> None:
    global counter
    for _ in range(iterations):
        with lock:
            counter += 1


def split(iterations: int) -> None:
    global counter
    for _ in range(iterations):
        value = counter
        value = value + 1
        counter = value


def split_locked(iterations: int) -> None:
    global counter
    for _ in range(iterations):
        with lock:
            value = counter
            value = value + 1
            counter = value


class Tally:
    def __init__(self) -> None:
        self.value = 0


tally = Tally()


def attribute(iterations: int) -> None:
    for _ in range(iterations):
        tally.value += 1


def attribute_locked(iterations: int) -> None:
    for _ in range(iterations):
        with lock:
            tally.value += 1


counts = {"total": 0}


def item(iterations: int) -> None:
    for _ in range(iterations):
        counts["total"] += 1


def item_locked(iterations: int) -> None:
    for _ in range(iterations):
        with lock:
            counts["total"] += 1


def add_one(value: int) -> int:
    return value + 1


def function_call(iterations: int) -> None:
    global counter
    for _ in range(iterations):
        counter = add_one(counter)


def function_call_locked(iterations: int) -> None:
    global counter
    for _ in range(iterations):
        with lock:
            counter = add_one(counter)


class Account:
    def __init__(self) -> None:
        self._balance = 0

    @property
    def balance(self) -> int:
        """What is read before the addition; the setter is called after it."""
        return self._balance

    @balance.setter
    def balance(self, value: int) -> None:
        self._balance = value


account = Account()


def property_(iterations: int) -> None:
    for _ in range(iterations):
        account.balance += 1


def property_locked(iterations: int) -> None:
    for _ in range(iterations):
        with lock:
            account.balance += 1


def yield_(iterations: int) -> None:
    global counter
    for _ in range(iterations):
        value = counter
        time.sleep(0)
        counter = value + 1


def yield_locked(iterations: int) -> None:
    global counter
    for _ in range(iterations):
        with lock:
            value = counter
            time.sleep(0)
            counter = value + 1


class Shape(NamedTuple):
    code: str
    unlocked: Callable[[int], None]
    locked: Callable[[int], None]
    total: Callable[[], int]


SHAPES = {
    "augmented": Shape("counter += 1", augmented, augmented_locked, lambda: counter),
    "split": Shape("value = counter; value = value + 1; counter = value", split, split_locked, lambda: counter),
    "attribute": Shape("tally.value += 1", attribute, attribute_locked, lambda: tally.value),
    "item": Shape('counts["total"] += 1', item, item_locked, lambda: counts["total"]),
    "function_call": Shape("counter = add_one(counter)", function_call, function_call_locked, lambda: counter),
    "property": Shape("account.balance += 1", property_, property_locked, lambda: account.balance),
    "yield": Shape("value = counter; time.sleep(0); counter = value + 1", yield_, yield_locked, lambda: counter),
}
