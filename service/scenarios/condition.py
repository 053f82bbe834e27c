"""Condition: a notification is news, not a state, and it is forgotten at once.

`Condition.notify_all` wakes whoever is waiting at that moment. It leaves nothing behind: who comes a moment later waits
for the next one, which may never come (a lost wake-up). And it promises nothing: it says that something has changed,
and by the time a woken thread has the lock, another may have taken what there was (a stolen wake-up). So a thread waits
for the state, under the lock, and looks again each time it is woken: `while not items: condition.wait()`, or
`condition.wait_for(lambda: items)`, which is the same loop. Looking first finds what is there already; looking again
finds that it is gone.

Run it:
    All are woken for two items, and look again:
        {"scenario": "condition"}
    All are woken for two items, and believe it - `if` in place of `while`:
        {"scenario": "condition", "predicate": false}
    The notification comes first, and everybody looks before waiting:
        {"scenario": "condition", "notify": "early"}
    The notification comes first, and everybody just waits:
        {"scenario": "condition", "notify": "early", "predicate": false}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside; CPython 3.9.18, 3.10.13, 3.11.7, 3.12.1, 3.13.0 and a
    free-threaded 3.13.15; 8 threads, 2 items; 100 runs on each with notify all, 30 with notify early: the same counts
    in every run, on all of them. The median time that a thread waited is the lowest and highest of the six medians.

    parameters                      outcome        took  found_nothing  missed_wakeups  waited_again  wait_p50_s
    (none)                          state_awaited  2     0              0               6             0.0009 to 0.0016
    predicate false                 found_nothing  2     6              0               0             0.0007 to 0.0012
    notify early                    state_awaited  2     0              0               0             0.0003 to 0.0008
    notify early, predicate false   missed         2     0              2               0             0.199 to 0.200

Note:
    The six that found nothing with `if` are the six that waited again with `while`.
    Where there is an item for everybody, `if` goes well (items 8): in a test it is easily taken for right.
    With notify early, a bare wait took its 0.2 seconds because patience_s says so. Without a timeout it would have been
    for ever; with one, the thread then finds the item that had been there all the time.
    `notify(2)` would wake two threads only. It does not do without the `while`: a third one that comes just then may
    take the lock, and the item, before the two that were woken.

Source:
    Library reference, `threading`, "Condition objects": `wait()` can return after an arbitrary long time, and the
    condition which prompted the `notify()` call may no longer hold true. Lampson and Redell, "Experience with processes
    and monitors in Mesa" (CACM 23(2), 1980): why a notify is a hint, and a wait stands in a loop.
"""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Literal, Optional, Set, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "wait"

MEASURES = {
    "wait_p50_s": "lower",
    "wall_s": "lower",
    "found_nothing": "lower",
    "missed_wakeups": "lower",
    "woken": "lower",
}
GROWS = {
    "wall_s": ("threads",),
    "cpu_s": ("threads",),
    "found_nothing": ("threads",),
    "missed_wakeups": ("threads",),
    "woken": ("threads",),
}

UNTRACED = (
    "Traced are the waits to get in, and to get back in after a notification. The wait for the notification itself is "
    "not: wait_p50_s and wait_max_s hold it."
)

LOOK_S = 0.05  # how often the main thread, while it waits, looks whether the job was cancelled


@dataclass(frozen=True)
class Params:
    threads: int = field(
        default=8, metadata={"ge": 1, "le": 256, "description": "How many threads wait for an item each."}
    )
    items: int = field(
        default=2, metadata={"ge": 1, "le": 256, "description": "How many items are put there, all at once."}
    )
    predicate: bool = field(
        default=True,
        metadata={
            "description": "Whether a thread waits for the state, in a `while`. If not, it waits for the notification: "
            "with notify `all` by `if not items: wait()`, with notify `early` by `wait()` alone."
        },
    )
    notify: Literal["all", "early"] = field(
        default="all",
        metadata={
            "description": "When the items are put there and `notify_all` is called: when `all` threads are waiting, "
            "or `early`, before any of them is."
        },
    )
    patience_s: float = field(
        default=0.2,
        metadata={
            "ge": 0.001,
            "le": 10.0,
            "description": "Seconds after which a thread that just waits gives up. Without a limit it would wait for "
            "ever for a notification that it missed.",
        },
    )
    daemon: bool = field(
        default=False, metadata={"description": "Whether the threads are daemons; they are joined either way."}
    )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    if params.predicate:
        return {
            "state_awaited": (
                "acceptable",
                "Each thread went on when there was an item for it, or when it was told that none would come.",
            ),
            "found_nothing": ("forbidden", "A thread went on to take an item, and there was none."),
        }
    if params.notify == "early":
        return {
            "missed": (
                "interesting",
                "A thread waited for a notification that had come before it, and the item was there all the time.",
            ),
        }
    return {
        "found_nothing": (
            "interesting",
            "A thread was woken, believed that there was an item, and another had taken it: IndexError.",
        ),
        "not_seen": (
            "acceptable",
            "Each thread that was woken found an item, because there were enough. Try more threads than items.",
        ),
    }


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    shelf = Shelf(lab.RLock())  # such a lock a Condition makes for itself when it is given none
    if lab.traces_locks:
        lab.warn(UNTRACED)
    wait = choose(params)
    seats = [Seat() for _ in range(params.threads)]
    threads = [lab.Thread(target=fetch, args=(wait, shelf, seat), daemon=params.daemon) for seat in seats]

    begun = time.perf_counter()
    if params.notify == "early":
        shelf.put(params.items)
    for thread in threads:
        thread.start()
    if params.notify == "all":
        shelf.watch_until(lambda: len(shelf.settled) == params.threads, lab)
        shelf.put(params.items)
    shelf.watch_until(lambda: shelf.is_over(params.threads), lab)
    shelf.close()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - begun

    lab.checkpoint()
    return count(params, seats, wall_s)


class Shelf:
    """Where the items are. Everything here is guarded by the one lock that both conditions share."""

    def __init__(self, lock: threading.RLock) -> None:
        self.filled = threading.Condition(lock)  # for the threads that wait for an item, or for the end
        self.visited = threading.Condition(lock)  # for the main thread, which watches them
        self.items: List[int] = []
        self.closed = False
        self.settled: Set[Seat] = set()  # who began to wait, or went, since items were last put here
        self.gone = 0

    def put(self, items: int) -> None:
        """Put all items here at once, and wake everybody who is waiting."""
        with self.filled:
            self.items.extend(range(items))
            self.settled.clear()
            self.filled.notify_all()

    def close(self) -> None:
        """Tell those who still wait that there will be no more."""
        with self.filled:
            self.closed = True
            self.filled.notify_all()

    def note(self, seat: Seat) -> None:
        """Take down, under the lock, that a thread is about to wait, or to go."""
        self.settled.add(seat)
        self.visited.notify()

    def is_over(self, threads: int) -> bool:
        """Whether nothing more will happen: all is taken, or all threads are gone, and nobody is on the way."""
        return len(self.settled) == threads and (not self.items or self.gone == threads)

    def watch_until(self, predicate: Callable[[], bool], lab: Lab) -> None:
        """Let the main thread wait for a state, or for the job's end."""
        with self.visited:
            while not predicate() and not lab.cancelled:
                self.visited.wait(LOOK_S)


class Seat:
    """What one waiting thread saw."""

    def __init__(self) -> None:
        self.waits = 0
        self.woken = 0
        self.took = False
        self.found_nothing = False
        self.missed = False
        self.waited_s = 0.0

    def wait(self, shelf: Shelf, timeout_s: Optional[float] = None) -> bool:
        """Give up the lock and sleep until a notification; false if none came in time."""
        self.waits += 1
        shelf.note(self)
        notified = shelf.filled.wait(timeout_s)
        self.woken += notified
        return notified


def fetch(wait: Callable[[Shelf, Seat], bool], shelf: Shelf, seat: Seat) -> None:
    """Wait for an item, and take it."""
    with shelf.filled:
        begun = time.perf_counter()
        expected = wait(shelf, seat)
        seat.waited_s = time.perf_counter() - begun
        if expected:
            try:
                shelf.items.pop()
                seat.took = True
            except IndexError:
                seat.found_nothing = True
        shelf.gone += 1
        shelf.note(seat)


# Three ways to wait. Each returns whether the thread expects an item.


def choose(params: Params) -> Callable[[Shelf, Seat], bool]:
    def wait_only(shelf: Shelf, seat: Seat) -> bool:
        """Wrong: what came before the wait is not seen."""
        notified = seat.wait(shelf, params.patience_s)
        seat.missed = not notified and bool(shelf.items)
        return seat.missed

    if params.predicate:
        return wait_while
    return wait_only if params.notify == "early" else wait_if


def wait_while(shelf: Shelf, seat: Seat) -> bool:
    """Right: look before the first wait, and again after each."""
    while not shelf.items and not shelf.closed:
        seat.wait(shelf)
    return bool(shelf.items)


def wait_if(shelf: Shelf, seat: Seat) -> bool:
    """Wrong: what was true when somebody notified need not be true any more."""
    if not shelf.items and not shelf.closed:
        seat.wait(shelf)
    return True


def count(params: Params, seats: List[Seat], wall_s: float) -> Dict[str, Any]:
    found_nothing = sum(seat.found_nothing for seat in seats)
    missed = sum(seat.missed for seat in seats)
    waited_s = [seat.waited_s for seat in seats]
    print(f"{sum(seat.took for seat in seats)} took an item, {found_nothing} found nothing, {missed} missed the news")
    return {
        "outcome": judge(params.predicate, found_nothing, missed),
        "took": sum(seat.took for seat in seats),
        "found_nothing": found_nothing,
        "missed_wakeups": missed,
        "woken": sum(seat.woken for seat in seats),
        "waited_again": sum(max(0, seat.waits - 1) for seat in seats),
        "wait_p50_s": statistics.median(waited_s),
        "wait_max_s": max(waited_s),
        "wall_s": wall_s,
    }


def judge(predicate: bool, found_nothing: int, missed: int) -> str:
    if found_nothing:
        return "found_nothing"
    if missed:
        return "missed"
    return "state_awaited" if predicate else "not_seen"
