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
    A pause between the read and the write:
        {"scenario": "counter", "shape": "yield", "iterations": 1000, "lock": false}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside; 4 threads, 100,000 additions each. Without the lock: how
    many runs lost additions, and the median share lost. "own" is the interpreter's own switch interval of 0.005 s.

    shape, switch interval          3.9.18        3.10.13       3.11.7        3.12.1        3.13.0        3.13.15t
    function_call, 0.001 (default)  100/100 53 %  100/100 55 %  100/100 39 %  100/100 43 %  100/100 42 %  100/100 61 %
    function_call, own              19/20   12 %  20/20   23 %  14/20    8 %  12/20    7 %  13/20    9 %  20/20   60 %
    property, 0.001                 20/20   48 %  20/20   43 %  20/20   34 %  20/20   43 %  20/20   40 %  20/20   52 %
    augmented, 0.001                19/20   25 %  0/20          0/20          0/20          0/20          20/20   45 %
    augmented, own                  6/20     0 %  0/20          0/20          0/20          0/20          20/20   48 %
    augmented, 0.000001             20/20   39 %  0/20          0/20          0/20          0/20          20/20   57 %
    split, 0.001                    17/20   18 %  0/20          0/20          0/20          0/20          20/20   47 %
    attribute, 0.001                20/20   30 %  0/20          0/20          0/20          0/20          20/20   46 %
    item, 0.001                     20/20   25 %  0/20          0/20          0/20          0/20          20/20   53 %
    yield, 1,000 additions          4/5     57 %  2/5      0 %  5/5     75 %  5/5     75 %  5/5     75 %  5/5     75 %
    yield, 10 additions             0/20          1/20     0 %  20/20   61 %  20/20   70 %  20/20   68 %  20/20   60 %

    Median wall time in seconds, with nothing lost in any run with the lock:
    function_call, no lock, 0.001   0.056         0.063         0.038         0.037         0.036         0.054
    function_call, lock, 0.001      0.63          0.26          0.16          0.70          0.32          0.17
    function_call, lock, own        0.30          0.21          0.18          0.18          0.27          0.16
    augmented, lock, own            0.12          0.14          0.10          0.14          0.14          0.11

    3.13.15t is a free-threaded build. It was measured later, with nothing else running.

Note:
    The tutorial's own race does not appear on CPython 3.10 to 3.13 with the GIL, at any switch interval: an interval
    makes no switch point where there is none. That is how these versions work, not a promise.
    The default interval is a fifth of the interpreter's own: at 0.005 s a loop this short is often over before
    another thread gets a turn. A shorter interval costs time where threads wait for a lock, and how much differs by a
    factor of five from run to run, with the cores on which the system puts the threads.
    `function_call` calls two functions because with one (`add_one(counter)`) the half of all switches fell outside the
    gap: pinned to one core, 3.11.7 then lost in 184 of 200 runs, with two functions in 200.
    A `time.sleep(0)` takes about 2 microseconds on 3.9 and 3.10 (`select`), where ten additions are over before the
    next thread starts, and about 80 from 3.11 on (`clock_nanosleep`).

Source:
    The tutorial, Example 4. bpo-29988 (CPython 3.10: the interpreter checks for other threads only around calls and on
    backward jumps). CPython issues 89598, 125646 and 134212 (not a guarantee). Library reference,
    `sys.setswitchinterval`.
"""
# ruff: noqa: PLW0603  the counter of the tutorial is a module's global, and its cost is part of what is measured

from __future__ import annotations

import functools
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, Literal, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "cpu"
MEASURES = {"wall_s": "lower", "per_addition_s": "lower"}
# All additions take longer the more there are: these times are of work that is the product of two parameters.
GROWS = {"wall_s": ("threads", "iterations"), "cpu_s": ("threads", "iterations")}

LEAST_INTERVAL_S = 1e-6  # sys.setswitchinterval counts whole microseconds
SLOW_S = 4e-6  # for an addition under the lock, chosen: twice the slowest above
SLOW_YIELD_S = 1e-4  # and with a pause in it

SOME_OVER = (
    "A thread had ended before the last one began to add: there was no moment at which all of them added. Take more "
    "iterations to have them meet."
)


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
            "item; `function_call` calls two functions between the read and the write, `property` one; `yield` has a "
            "`time.sleep(0)` there."
        },
    )
    switch_interval_s: Optional[float] = field(
        default=0.001,  # the longest measured at which the default shape lost in every run; shorter ones slow the lock
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
            "exact": (
                "acceptable",
                "Every addition was counted: the lock let one thread at a time read, add and write.",
            ),
            "lost": ("forbidden", "An addition was lost although each was made under the lock."),
        }
    if params.threads == 1:
        alone = "One thread alone loses no addition: nobody comes between its read and its write. Take two or more."
        return {
            "not_seen": ("acceptable", alone),
            "lost": ("forbidden", "An addition was lost although one thread alone made them all."),
        }
    not_seen = f"No addition was lost in this run, which does not show that none can be. Try {_what_to_try(params)}."
    return {
        "lost": ("interesting", "At least one addition was overwritten by a thread that had read the same number."),
        "not_seen": ("acceptable", not_seen if _can_switch(params.shape) else _why_not(params.shape)),
    }


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    global lock
    lock = lab.Lock()
    if params.switch_interval_s is not None:
        sys.setswitchinterval(params.switch_interval_s)
    if not params.lock and params.threads > 1 and not _can_switch(params.shape):
        lab.warn(_why_not(params.shape))
    warn_of_too_many(params, lab)
    shape = SHAPES[params.shape]
    increment = shape.locked if params.lock else shape.unlocked
    active_before, active = threading.active_count(), []

    @functools.wraps(increment)  # a thread is named after its target
    def begin(iterations: int) -> None:
        active.append(threading.active_count())
        increment(iterations)

    threads = [lab.Thread(target=begin, args=(params.iterations,), daemon=params.daemon) for _ in range(params.threads)]

    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - begun

    if max(active) - active_before < params.threads:
        lab.warn(SOME_OVER)
    expected, actual = params.threads * params.iterations, shape.total()
    print("Final counter: ", actual)
    all_counted = "exact" if params.lock else "not_seen"
    return {
        "outcome": all_counted if actual == expected else "lost",
        "addition": shape.code,
        "expected": expected,
        "actual": actual,
        "lost": expected - actual,
        "lost_share": (expected - actual) / expected,
        "wall_s": wall_s,
        "per_addition_s": wall_s / expected,
    }


def warn_of_too_many(params: Params, lab: Lab) -> None:
    """Say at the start that the job may not come to its end: under the lock no thread adds beside another."""
    additions = params.threads * params.iterations
    if params.lock and additions * (SLOW_YIELD_S if params.shape == "yield" else SLOW_S) > lab.time_left():
        lab.warn(
            f"{additions:,} additions under one lock are made one after the other, and may take longer than the "
            f"{lab.time_left():.0f} s that there are. Take fewer iterations, or a longer timeout_s."
        )


def _gil_enabled() -> bool:
    return sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True  # noqa: SLF001  its documented name


def _what_to_try(params: Params) -> str:
    """What makes it likelier that an addition is lost, of what has not been done yet."""
    ways = ["more iterations"]
    if _gil_enabled() and params.shape != "yield" and params.switch_interval_s != LEAST_INTERVAL_S:
        ways.append("a shorter switch_interval_s")
    ways += [f"shape {shape}" for shape in ("function_call", "yield") if shape != params.shape]
    return ", or ".join(ways)


def _can_switch(shape: str) -> bool:
    """Whether this interpreter can let another thread run between the read and the write."""
    rare = _gil_enabled() and sys.implementation.name == "cpython" and sys.version_info >= (3, 10)
    return not rare or shape in {"function_call", "property", "yield"}


def _why_not(shape: str) -> str:
    version = "{}.{}.{}".format(*sys.version_info)
    return (
        f"Not seen with shape {shape} on CPython {version} with the GIL, and this is why: since 3.10 (bpo-29988) a "
        f"thread offers the GIL only around calls and on a loop's back edge, and there is neither between the read and "
        f"the write of `{SHAPES[shape].code}`. The language does not guarantee it: keep the lock. To see additions "
        f"lost, try shape function_call, CPython 3.9, or a free-threaded build."
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


def one() -> int:
    return 1


def add(value: int, more: int) -> int:
    return value + more


def function_call(iterations: int) -> None:
    global counter
    for _ in range(iterations):
        counter = add(counter, one())


def function_call_locked(iterations: int) -> None:
    global counter
    for _ in range(iterations):
        with lock:
            counter = add(counter, one())


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
    "function_call": Shape("counter = add(counter, one())", function_call, function_call_locked, lambda: counter),
    "property": Shape("account.balance += 1", property_, property_locked, lambda: account.balance),
    "yield": Shape("value = counter; time.sleep(0); counter = value + 1", yield_, yield_locked, lambda: counter),
}
