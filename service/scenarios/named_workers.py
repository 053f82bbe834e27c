"""Named workers: each thread says its own name when it starts and when it finishes.

A thread has a name for people: in its output, in a debugger, in a log. `threading.current_thread()` is the thread that
asks. The threads start in the order in which they are started, but all sleep at the same time, and in which order they
wake is up to the system. `threading.active_count()` counts every thread that `threading` knows and that has not ended,
the main thread included.

Run it:
    The tutorial's program:
        {"scenario": "named_workers"}
    A hundred workers that wake at nearly the same time:
        {"scenario": "named_workers", "threads": 100, "delay_s": 0.05}
    Another name:
        {"scenario": "named_workers", "name": "Downloader", "delay_s": 0.1}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside. Runs in which the order changed; active_count().

    parameters                  3.9.18  3.10.13  3.11.7  3.12.1  3.13.0  before  peak  after
    delay_s 0.05                9/30    6/30     7/30    7/30    9/30    1       4     1
    threads 100, delay_s 0.05   30/30   30/30    30/30   30/30   30/30   1       101   1

Note:
    The tutorial's notebook printed "Active threads: 6" where a script prints 1. `active_count()` counts all threads of
    the process, and a notebook's process is ipykernel, which has threads of its own: measured on Linux with nothing
    started, 8 with ipykernel 6.29.5 and 9 with 7.4.0 (MainThread, IOPub, Heartbeat, Control, two _watch_pipe_fd, the
    history saver, a poller; then a Shell channel). How many there are depends on its version and system, and daemon
    threads that an earlier cell left running count as well. Threads made with `_thread` are not counted.
    With delay_s near 0 a worker may be gone before the next one starts, and the peak is lower.

Source:
    The tutorial, Example 2. Library reference, `threading.active_count` and `Thread.name`.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "wait"
GROWS = {"wall_s": ("threads", "delay_s"), "cpu_s": ("threads", "delay_s")}


@dataclass(frozen=True)
class Params:
    threads: int = field(default=3, metadata={"ge": 1, "le": 256, "description": "How many workers there are."})
    delay_s: float = field(
        default=2.0, metadata={"ge": 0.0, "le": 60.0, "description": "Seconds that each worker sleeps."}
    )
    name: str = field(
        default="Worker",
        metadata={
            "min_length": 1,
            "max_length": 50,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]+$",  # a control character could split a line
            "description": "The workers are called by this name, a hyphen and a number from 0 on.",
        },
    )
    daemon: bool = field(
        default=False, metadata={"description": "Whether the workers are daemons; they are joined either way."}
    )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:  # noqa: ARG001  every scenario's outcomes take them
    count = (
        "Afterwards active_count() was back at what it had been before: here that is the main thread. In a notebook "
        "the same line counts ipykernel's own threads, too (the tutorial's printed 6)."
    )
    return {
        "order_kept": ("acceptable", f"The workers finished in the order in which they had started. {count}"),
        "order_changed": (
            "interesting",
            f"The workers finished in another order than they had started in: nothing promises one. {count}",
        ),
        "still_counted": ("forbidden", "After all workers had been joined, active_count() still counted one of them."),
    }


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    started: List[str] = []
    finished: List[str] = []
    counts: List[int] = []
    active_before = threading.active_count()
    threads = []
    for number in range(params.threads):
        thread = lab.Thread(
            target=worker,
            args=(params.delay_s, started, finished, counts),
            name=f"{params.name}-{number}",
            daemon=params.daemon,
        )
        threads.append(thread)
        thread.start()
    for thread in threads:
        thread.join()
    active_after = threading.active_count()
    print(f"Active threads: {active_after}")
    return {
        "outcome": judge(started, finished, active_after - active_before),
        "names": [thread.name for thread in threads],
        "start_order": started,
        "finish_order": finished,
        "active_before": active_before,
        "active_peak": max(counts),
        "active_after": active_after,
    }


def worker(delay_s: float, started: List[str], finished: List[str], counts: List[int]) -> None:
    name = threading.current_thread().name
    print(f"Thread {name} starting.")
    started.append(name)
    counts.append(threading.active_count())
    time.sleep(delay_s)
    print(f"Thread {name} finished.")
    finished.append(name)


def judge(started: List[str], finished: List[str], more_active: int) -> str:
    if more_active > 0:
        return "still_counted"
    return "order_kept" if started == finished else "order_changed"
