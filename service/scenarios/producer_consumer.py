"""Producer and consumer: what some threads make, others take, through a queue or through a bare list.

`if items:` followed by taking one is two steps. When a second consumer looks between the first one's look and its
taking, both have seen the same item: it is taken twice, and the next one, deleted in its place, is lost; or the list is
empty by then, and taking raises IndexError. `list.pop` and `list.append` are one step each, but no lock comes with the
look before them. `queue.Queue` makes looking and taking one step under its own lock, and lets a consumer sleep until
there is something. With a `maxsize` it lets a producer sleep, too, until there is room: that is back-pressure. A list
takes whatever it is given, and what cannot be worked on in time is kept in memory.

Run it:
    The queue:
        {"scenario": "producer_consumer"}
    A bare list - look, then take:
        {"scenario": "producer_consumer", "queue": "list"}
    The list's own pop - never twice, but the list may be empty after the look:
        {"scenario": "producer_consumer", "queue": "list_pop", "work_s": 0}
    A queue without a bound:
        {"scenario": "producer_consumer", "maxsize": 0}
    The queue's own speed, with consumers that do nothing:
        {"scenario": "producer_consumer", "items": 20000, "work_s": 0, "maxsize": 1000}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside (3.13.15t is free-threaded, and ran alone from the third
    row on). 2 producers, 4 consumers, 500 items, or 40,000 with items 20000. In how many runs there was a fault, and
    the median of what was counted.

    parameters                           3.9.18       3.10.13      3.11.7       3.12.1       3.13.0       3.13.15t
    list: lost, and as many taken twice  100/100 233  100/100 251  100/100 241  100/100 232  100/100 225  100/100 215
    list_pop, work_s 0: IndexErrors      100/100 3    100/100 3    100/100 3    100/100 3    100/100 3    100/100 3

    With pause_s null, work_s 0, items 20000; if nothing was lost, whether there was an IndexError:
    list: lost                           1/20         2/20         0/20         0/20         0/20         20/20 189
    list: IndexErrors                    6/20         4/20         4/20         0/20         1/20         0/20
    list_pop: IndexErrors                3/20         5/20         1/20         3/20         0/20         20/20 9

    The queue with work_s 0, items 20000, and no fault in 20 runs on each; items per second:
    maxsize 1000                         235,000      237,000      298,000      379,000      379,000      164,000
    maxsize 10                           89,000       115,000      198,000      153,000      204,000      109,000

    By default there was no fault in 20 runs on each; max_depth was 10, and of the 0.14 to 0.15 s that it took each of
    the two producers was blocked for about 0.13 (blocked_s is the sum). With maxsize 0 it took as long, nobody was ever
    blocked, and max_depth was 492 to 498: nearly all that was made lay in the queue at once.

Note:
    A bound makes nothing slower while the consumers are the slow part; it decides where the work waits. Where handing
    over is all the work, a small one costs speed: producers and consumers have to take turns.
    With nothing between look and taking (pause_s null) a fault is rare with the GIL, but not gone. Without a GIL it
    came in every run.
    One consumer alone cannot lose an item, whatever the producers do.

Source:
    Library reference, `queue`. Python FAQ, Library and Extension, "What kinds of global value mutation are
    thread-safe?": `L.append(x)` and `x = L.pop()` are among them. CPython, `Lib/queue.py`: one mutex, and the
    conditions `not_empty` and `not_full` over it.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Literal, Optional, Tuple, Union

if TYPE_CHECKING:
    from service.child.lab import Lab

MEASURES = {
    "wall_s": "lower",
    "items_per_s": "higher",
    "blocked_s": "lower",
    "max_depth": "lower",
    "lost": "lower",
    "taken_twice": "lower",
    "errors": "lower",
}
GROWS = {
    "wall_s": ("producers", "items", "work_s"),
    "cpu_s": ("producers", "items", "work_s"),
    "blocked_s": ("producers", "items", "work_s"),
    "items_per_s": ("work_s",),
    "max_depth": ("producers", "items"),
    "lost": ("producers", "items"),
    "taken_twice": ("producers", "items"),
    "errors": ("producers", "items"),
}

MAX_ITEMS = 100_000  # chosen: taking the first of a list moves all that are behind it, and more would take minutes
POLL_S = 0.001  # a list wakes nobody: who finds it empty looks again after this


@dataclass(frozen=True)
class Params:
    queue: Literal["queue", "list", "list_pop"] = field(
        default="queue",
        metadata={
            "description": "What the items go through. `queue` is a `queue.Queue`; `list` is a bare list of which a "
            "consumer reads the first item and then deletes it, if there is one; with `list_pop` it pops it."
        },
    )
    producers: int = field(
        default=2, metadata={"ge": 1, "le": 256, "counts": "threads", "description": "How many threads make items."}
    )
    threads: int = field(
        default=4, metadata={"ge": 1, "le": 256, "description": "How many threads take items: the consumers."}
    )
    items: int = field(
        default=250, metadata={"ge": 1, "le": MAX_ITEMS, "description": "How many items each producer makes."}
    )
    maxsize: int = field(
        default=10,
        metadata={
            "ge": 0,
            "le": MAX_ITEMS,
            "description": "How many items the queue holds before a producer must wait; 0 means no bound.",
        },
    )
    work_s: float = field(
        default=0.001,
        metadata={"ge": 0.0, "le": 10.0, "description": "Seconds for which a consumer sleeps over each item."},
    )
    pause_s: Optional[float] = field(
        default=0.0001,  # the fault shows in every run on every interpreter; on 3.9 a time.sleep(0) is too short for it
        metadata={
            "ge": 0.0,
            "le": 1.0,
            "description": "Seconds that a consumer sleeps between its look at the list and its taking; null leaves "
            "nothing in between. A queue has no such gap.",
        },
    )
    daemon: bool = field(
        default=False, metadata={"description": "Whether the threads are daemons; they are joined either way."}
    )

    def __post_init__(self) -> None:
        if self.producers * self.items > MAX_ITEMS:
            raise ValueError(
                f"producers x items may be {MAX_ITEMS:,}, not {self.producers * self.items:,}; take fewer of either."
            )


def lane(params: Params) -> str:
    return "wait" if params.work_s > 0 else "cpu"


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    if params.queue == "queue":
        return {
            "every_item_once": ("acceptable", "Every item that was made was taken by one consumer, and by one only."),
            "lost_or_twice": ("forbidden", "An item went through the queue twice, or not at all."),
        }
    if params.threads == 1:
        alone = "One consumer alone cannot lose an item, whatever the producers do. Take two or more."
        wrong = "An item was lost, or taken twice, or gone after the look, although one consumer alone took them all."
        return {
            "not_seen": ("acceptable", alone),
            **dict.fromkeys(("lost_or_twice", "found_empty"), ("forbidden", wrong)),
        }
    pause = "a pause_s" if params.pause_s is None else "a longer pause_s"
    not_seen = (
        "Every item was taken once in this run, which does not show that none can be lost. Try more consumers, or more "
        f"items, or {pause}."
    )
    return {
        "lost_or_twice": (
            "interesting",
            "Two consumers looked before either took: an item was taken twice, or was deleted without being read.",
        ),
        "found_empty": (
            "interesting",
            "No item was lost, but a consumer saw an item, and by the time it took it the list was empty: IndexError.",
        ),
        "not_seen": ("acceptable", not_seen),
    }


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    between = Bounded(params.maxsize) if params.queue == "queue" else Bare(params.queue, params.pause_s)
    made, taken = Made(), Taken()
    producers = [
        lab.Thread(
            target=produce, args=(number, params, between, made, lab), name=f"Producer-{number}", daemon=params.daemon
        )
        for number in range(params.producers)
    ]
    consumers = [
        lab.Thread(
            target=consume, args=(params.work_s, between, taken, lab), name=f"Consumer-{number}", daemon=params.daemon
        )
        for number in range(params.threads)
    ]

    begun = time.perf_counter()
    for thread in consumers + producers:
        thread.start()
    for thread in producers:
        thread.join()
    between.close(params.threads)
    for thread in consumers:
        thread.join()
    wall_s = time.perf_counter() - begun

    lab.checkpoint()
    return count(params, made, taken, wall_s)


class Made:
    """What the producers saw; each adds its own when it is done."""

    def __init__(self) -> None:
        self.blocked_s: List[float] = []  # one for each time that a producer found the queue full
        self.depths: List[int] = []  # the highest that each producer saw


class Taken:
    """What the consumers took; `list.append` needs no lock."""

    def __init__(self) -> None:
        self.items: List[int] = []
        self.errors: List[str] = []


def produce(number: int, params: Params, between: Union[Bounded, Bare], made: Made, lab: Lab) -> None:
    deepest = 0
    for item in range(number * params.items, (number + 1) * params.items):
        if lab.cancelled:
            break
        blocked_s = between.put(item)
        if blocked_s is not None:
            made.blocked_s.append(blocked_s)
        deepest = max(deepest, between.depth())
    made.depths.append(deepest)


def consume(work_s: float, between: Union[Bounded, Bare], taken: Taken, lab: Lab) -> None:
    while True:
        try:
            item = between.take()
        except IndexError as exc:  # there was one when it looked
            taken.errors.append(str(exc))
            continue
        if item is None:
            return
        taken.items.append(item)
        if lab.cancelled and between.may_leave:
            return
        if work_s and not lab.cancelled:
            time.sleep(work_s)


class Bounded:
    """Right: the queue's own lock is held from the look to the taking."""

    may_leave = False  # a producer may be waiting for room: consumers of a cancelled job go on taking

    def __init__(self, maxsize: int) -> None:
        self._queue: queue.Queue[Optional[int]] = queue.Queue(maxsize)

    def put(self, item: int) -> Optional[float]:
        """Put the item in, and say for how many seconds the queue was full."""
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            begun = time.perf_counter()
            self._queue.put(item)
            return time.perf_counter() - begun
        return None

    def take(self) -> Optional[int]:
        """The next item, as soon as there is one; None is the end."""
        return self._queue.get()

    def depth(self) -> int:
        """How many items are in it."""
        return self._queue.qsize()

    def close(self, consumers: int) -> None:
        """Put one end behind all items for each consumer."""
        for _ in range(consumers):
            self._queue.put(None)


class Bare:
    """Wrong: between the look and the taking another thread may take."""

    may_leave = True

    def __init__(self, kind: str, pause_s: Optional[float]) -> None:
        self._items: List[int] = []
        self._closed = False
        self._take = self._pop if kind == "list_pop" else self._read_and_delete
        self._pause_s = pause_s

    def put(self, item: int) -> None:
        """Put the item in: there is always room."""
        self._items.append(item)

    def take(self) -> Optional[int]:
        """The next item, as soon as there is one; None is the end."""
        while True:
            closed = self._closed  # read before the look: an item that came after the look is not left behind
            if self._items:
                return self._take()
            if closed:
                return None
            time.sleep(POLL_S)

    def _read_and_delete(self) -> int:
        item = self._items[0]
        if self._pause_s is not None:
            time.sleep(self._pause_s)
        del self._items[0]
        return item

    def _pop(self) -> int:
        if self._pause_s is not None:
            time.sleep(self._pause_s)
        return self._items.pop(0)

    def depth(self) -> int:
        """How many items are in it."""
        return len(self._items)

    def close(self, consumers: int) -> None:  # noqa: ARG002  all of them see it
        """Say that nothing more will come."""
        self._closed = True


def count(params: Params, made: Made, taken: Taken, wall_s: float) -> Dict[str, Any]:
    expected = params.producers * params.items
    times = Counter(taken.items)
    lost, taken_twice = expected - len(times), sum(times.values()) - len(times)
    print(f"{expected} items made, {len(taken.items)} taken, {lost} lost, {taken_twice} taken again")
    return {
        "outcome": judge(params.queue, lost + taken_twice, len(taken.errors)),
        "made": expected,
        "taken": len(taken.items),
        "lost": lost,
        "taken_twice": taken_twice,
        "errors": len(taken.errors),
        "error": taken.errors[0] if taken.errors else None,
        "max_depth": max(made.depths),
        "blocked_puts": len(made.blocked_s),
        "blocked_s": sum(made.blocked_s),
        "wall_s": wall_s,
        "items_per_s": len(times) / wall_s,
    }


def judge(kind: str, wrong: int, errors: int) -> str:
    if wrong:
        return "lost_or_twice"
    if errors:
        return "found_empty"
    return "every_item_once" if kind == "queue" else "not_seen"
