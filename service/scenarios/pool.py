"""Pool: a few threads of a ThreadPoolExecutor take many tasks, one after the other.

A pool pays for its threads once. A task that is submitted waits in one queue until a thread is free, and its time there
is part of what its caller waits, so a pool that is too small shows in `queue_wait_…`, and not in how long a task takes.
The pool makes a thread only when a task comes and no thread is idle: `max_workers` is a limit, not a number of threads.

The mistake worth knowing is a task that submits to its own pool and waits for the answer. It keeps its thread while it
waits. When all threads wait like that, what they wait for is in the queue, and no thread is left to take it from there.
Nothing raises, and nothing ever happens again. Here the tasks look around after `nested_wait_s`, and then end the run.

Run it:
    Twelve tasks, four threads:
        {"scenario": "pool"}
    A thread for each task:
        {"scenario": "pool", "max_workers": 12}
    Tasks that come one by one, and a single thread for all of them:
        {"scenario": "pool", "delay_s": 0.05, "gap_s": 0.1}
    Tasks that wait for tasks of their own pool:
        {"scenario": "pool", "nested": true}
    The same with threads to spare:
        {"scenario": "pool", "nested": true, "max_workers": 32}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside; CPython 3.9.18, 3.10.13, 3.11.7, 3.12.1, 3.13.0 and
    3.13.15 free-threaded, 5 runs each. Where one number stands it was the same in all runs on all of them.

    parameters                   outcome       threads  busiest's tasks  queue_wait_p50_s  wall_s
    (none)                       reused        4        3                0.19 to 0.20      0.60 to 0.61
    max_workers 12               one_each      12       1                0.000 to 0.002    0.20 to 0.23
    delay_s 0.05, gap_s 0.1      reused        1        12               0.000             1.15 to 1.16
    tasks 1000, delay_s 0        reused        4        274 to 911       0.003 to 0.035    0.02 to 0.07
    nested                       starved       4        1                0.000             1.20
    nested, max_workers 32       not_starved   24       1                0.000 to 0.002    0.40 to 0.43

    When it starved, 4 tasks waited in vain and 8 had never begun. With nested_wait_s 0.05 it starved in 30 of 30 runs
    on each of them.

Note:
    Until CPython 3.7 a pool made a new thread for every task until there were max_workers, idle ones or not.
    With work `python` a larger pool computes no faster under the GIL: that is the scenario `cpu_bound`.
    A pool of threads that is not shut down delays the end of the program: the interpreter joins its threads.

Source:
    The tutorial, "Key Points". Library reference, `concurrent.futures`, "ThreadPoolExecutor": it has the deadlock as an
    example, and the idle threads under "Changed in version 3.8". CPython, `ThreadPoolExecutor._adjust_thread_count`.
"""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet  # the builtin TimeoutError is another class until 3.10
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Literal, NamedTuple, Set, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

MEASURES = {
    "wall_s": "lower",
    "tasks_per_s": "higher",
    "queue_wait_p50_s": "lower",
    "queue_wait_max_s": "lower",
    "threads_made": "lower",
}
GROWS = {
    "wall_s": ("tasks", "delay_s", "size"),
    "cpu_s": ("tasks", "delay_s", "size"),
    "queue_wait_p50_s": ("tasks", "delay_s", "size"),
    "queue_wait_max_s": ("tasks", "delay_s", "size"),
    "tasks_per_s": ("delay_s", "size"),
    "threads_made": ("tasks",),
}

LISTED = 100  # chosen: how many tasks are listed one by one; the threads are listed with the sums of all of theirs


def lane(params: Params) -> str:
    return "wait" if params.work == "sleep" else "cpu"


@dataclass(frozen=True)
class Params:
    max_workers: int = field(
        default=4,
        metadata={"ge": 1, "le": 256, "counts": "threads", "description": "How many threads the pool may have."},
    )
    tasks: int = field(default=12, metadata={"ge": 1, "le": 10_000, "description": "How many tasks it is given."})
    work: Literal["sleep", "python"] = field(
        default="sleep",
        metadata={"description": "What a task does: it sleeps for `delay_s`, or runs a loop of `size` in Python."},
    )
    delay_s: float = field(
        default=0.2, metadata={"ge": 0.0, "le": 60.0, "description": "Seconds that a task sleeps, with work `sleep`."}
    )
    size: int = field(
        default=20,
        metadata={
            "ge": 0,
            "le": 100_000,
            "description": "How much a task computes, in units of about a millisecond, with work `python`.",
        },
    )
    gap_s: float = field(
        default=0.0,
        metadata={"ge": 0.0, "le": 10.0, "description": "Seconds between one submit and the next; 0 leaves no gap."},
    )
    nested: bool = field(
        default=False,
        metadata={"description": "Whether each task, its own work done, submits one more to its own pool and waits."},
    )
    nested_wait_s: float = field(
        default=1.0,
        metadata={
            "ge": 0.01,
            "le": 60.0,
            "description": "Seconds after which a task that waits for another looks whether any thread is left to run "
            "it. A program without such a look would hang for ever.",
        },
    )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    if params.nested:
        return {
            "starved": (
                "interesting",
                "Every thread of the pool waited for a task that was still in the pool's queue, so none was left to "
                "run it: without a timeout the program hangs here for ever. Let the task return and its caller submit "
                "the next step, or give the inner tasks a pool of their own; more threads only move the limit.",
            ),
            "not_starved": ("acceptable", f"Each inner task found a thread{why_not_starved(params)}"),
        }
    return {
        "reused": (
            "acceptable",
            "At least one thread took more than one task: making a thread was paid for once, and tasks that found no "
            "free thread waited in the queue.",
        ),
        "one_each": ("acceptable", "There were as many threads as tasks: none waited for a thread, none was reused."),
    }


def why_not_starved(params: Params) -> str:
    """The rest of a sentence: whether that was luck, and what makes it less likely."""
    if params.tasks < params.max_workers:
        return (
            ": fewer tasks waited than there are threads, so that one was always left. With as many tasks as "
            "max_workers none is: try that."
        )
    at_once = ", or a gap_s of 0" if params.gap_s else ""
    return f" in this run, which does not show that it always will. Try more tasks, or a smaller max_workers{at_once}."


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    with ThreadPoolExecutor(params.max_workers, thread_name_prefix="Pool") as pool:
        bench = Bench(params, lab, pool)
        rows = bench.collect(bench.submit_all())
        wall_s = bench.now()
    shutdown_s = bench.now() - wall_s
    waits = sorted(row.begun_s - row.submitted_s for row in rows)
    threads = by_thread(rows)
    return {
        "outcome": judge(params, bench, threads),
        "threads_made": bench.threads_made,  # fewer than max_workers where an idle thread could take the next task
        "tasks_done": len(rows) - bench.starved,
        "starved_tasks": bench.starved,  # they had begun, and waited in vain
        "never_begun": params.tasks - len(rows),
        "wall_s": wall_s,  # from the first submit to the last result
        "shutdown_s": shutdown_s,
        "tasks_per_s": (len(rows) - bench.starved) / wall_s,
        "queue_wait_p50_s": statistics.median(waits),
        "queue_wait_max_s": waits[-1],
        "threads": threads,
        "first_tasks": [row._asdict() for row in rows[:LISTED]],
    }


class Row(NamedTuple):
    """What is known of a task that has ended; its times are seconds since the pool was made."""

    task: int
    thread: str
    submitted_s: float
    begun_s: float
    ended_s: float


class Bench:
    """What the tasks of one pool share."""

    def __init__(self, params: Params, lab: Lab, pool: ThreadPoolExecutor) -> None:
        self.params = params
        self.lab = lab
        self.pool = pool
        self.threads_made = 0
        self.starved = 0
        self.given_up = False
        self._begun = time.perf_counter()
        self._active_before = threading.active_count()
        self._lock = threading.Lock()  # not the lab's: traced, it would be told in place of the pool's own waits
        self._awaited: Set[Future[None]] = set()  # inner tasks for which a thread of the pool waits; guarded by _lock

    def now(self) -> float:
        """Seconds since the pool was made."""
        return time.perf_counter() - self._begun

    def submit_all(self) -> List[Future[Row]]:
        """Give the pool its tasks; fewer when it was given up in between."""
        futures: List[Future[Row]] = []
        for number in range(self.params.tasks):
            self.lab.checkpoint()
            if number and self.params.gap_s:
                time.sleep(self.params.gap_s)
            try:
                futures.append(self.submit(self.do, number, self.now()))
            except RuntimeError:  # the pool takes no more
                if not self.given_up:
                    raise
                break
        return futures

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Submit, and see whether the pool made a thread for it."""
        future = self.pool.submit(function, *args)
        with self._lock:  # a thread of a pool lives as long as the pool, so those that live are those that were made
            self.threads_made = max(self.threads_made, threading.active_count() - self._active_before)
        return future

    def collect(self, futures: List[Future[Row]]) -> List[Row]:
        """Wait for the tasks, and return what is known of those that had begun."""
        rows = []
        for future in futures:
            with suppress(CancelledError):  # it was still in the queue when the pool was given up
                rows.append(future.result())
        return rows

    def do(self, number: int, submitted_s: float) -> Row:
        """One task."""
        begun_s = self.now()
        self.work()
        if self.params.nested:
            self.wait_for_another()
        return Row(number, threading.current_thread().name, submitted_s, begun_s, self.now())

    def work(self) -> None:
        """What a task is there for."""
        self.lab.checkpoint()
        if self.params.work == "sleep":
            time.sleep(self.params.delay_s)
        else:
            compute(self.params.size)

    def wait_for_another(self) -> None:
        """The mistake: wait, on a thread of the pool, for what only another thread of the pool can do."""
        inner: Future[None] = self.submit(self.work)
        with self._lock:
            self._awaited.add(inner)
        try:
            while not self.done(inner):
                self.lab.checkpoint()
                self.give_up_if_nobody_is_left()
        except CancelledError:
            with self._lock:
                self.starved += 1
        finally:
            with self._lock:
                self._awaited.discard(inner)

    def done(self, inner: Future[None]) -> bool:
        """Wait, but not for ever; tell whether it was worth it."""
        try:
            inner.result(self.params.nested_wait_s)
        except NotYet:
            return False
        return True

    def give_up_if_nobody_is_left(self) -> None:
        """If every thread of the pool waits for a task in the queue, none will ever move: cancel the queue."""
        with self._lock:
            queued = [inner for inner in self._awaited if not (inner.running() or inner.done())]
            if len(queued) < self.params.max_workers:
                return
            self.given_up = True
        self.pool.shutdown(wait=False, cancel_futures=True)


def compute(size: int) -> int:
    total = 0
    for value in range(size * 13_000):
        total = (total + value * value) % 1_000_003
    return total


def by_thread(rows: List[Row]) -> List[Dict[str, Any]]:
    """The threads that took a task, in the order in which they took their first."""
    threads: Dict[str, Dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row.begun_s):
        entry = threads.setdefault(row.thread, {"name": row.thread, "tasks": 0, "busy_s": 0.0})
        entry["tasks"] += 1
        entry["busy_s"] += row.ended_s - row.begun_s
    return list(threads.values())


def judge(params: Params, bench: Bench, threads: List[Dict[str, Any]]) -> str:
    if params.nested:
        return "starved" if bench.given_up else "not_starved"
    return "one_each" if len(threads) == params.tasks else "reused"
