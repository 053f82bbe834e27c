"""Event: threads wait until something is ready, by an event, by looking again and again, or not at all.

A thread that needs what another one prepares must know when it is there. `threading.Event` is made for that: a waiter
sleeps in the system until `set()` wakes it, and until then it costs nothing. A flag that is looked at again and again
works as well, but it is late by up to the pause between two looks, or burns a processor where there is no pause - with
the GIL even that of the thread it waits for. And who does not wait at all reads what is not there yet.

Run it:
    Eight threads wait for an event:
        {"scenario": "event"}
    They look at a flag every 10 milliseconds:
        {"scenario": "event", "signal": "poll"}
    They look without a pause:
        {"scenario": "event", "signal": "poll", "poll_s": 0}
    They do not wait:
        {"scenario": "event", "signal": "none"}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside; 8 threads, prepare_s 0.2. Runs of each interpreter, and
    the range of the medians over CPython 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0; then 3.13.15t. Seconds.

    parameters        runs  outcome     polls         cpu_s             latency_p50_s     latency_max_s     prepared_s
    event             7     woken       0             0.0003 to 0.0004  0.0005 to 0.0007  0.0007 to 0.0010  0.202
      3.13.15t                          0             0.0005            0.0006            0.0013            0.202
    poll              10    polled      159           0.0033 to 0.0037  0.0041 to 0.0043  0.0090 to 0.0091  0.202
      3.13.15t                          159           0.0034            0.0043            0.0091            0.202
    poll, poll_s 0.001  5   polled      1,470         0.014 to 0.016    0.0006 to 0.0010  0.0009 to 0.0012  0.202
      3.13.15t                          1,475         0.015             0.0007            0.0012            0.202
    poll, poll_s 0    3     polled      7 to 19 mill. 0.49 to 0.57      0.0004 to 0.0005  0.0006 to 0.0007  0.49 to 0.57
      3.13.15t                          10 mill.      2.2               0.0003            0.0006            1.1
    none              5     seen_early  0             0.00001           -                 -                 0.202
      3.13.15t                          0             0.00002           -                 -                 0.203

    All 8 threads read early in every run with `none`. Looks without a pause made a preparation of 0.2 s take 0.5 s with
    the GIL, and 1.1 s without one, where two cores had to do for nine threads.

Note:
    The latency of the event is that of waking eight threads one after the other; with 100 threads the last one saw it
    after 0.004 to 0.007 s, and on 3.13.15t after 0.02 s.

Source:
    Library reference, `threading`, "Event objects", and `time.thread_time`.
"""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Literal, Optional, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

MEASURES: Dict[str, str] = {
    "cpu_s": "lower",
    "latency_p50_s": "lower",
    "latency_max_s": "lower",
    "prepared_s": "lower",
    "polls": "lower",
}
GROWS = {
    "wall_s": ("threads", "prepare_s"),
    "cpu_s": ("threads", "prepare_s"),
    "polls": ("threads", "prepare_s"),
    "prepared_s": ("prepare_s",),
}


@dataclass(frozen=True)
class Params:
    signal: Literal["event", "poll", "none"] = field(
        default="event",
        metadata={
            "description": "How the waiters know: `event` waits for a threading.Event, `poll` looks at a flag, `none` "
            "reads at once."
        },
    )
    threads: int = field(default=8, metadata={"ge": 1, "le": 256, "description": "How many threads wait."})
    prepare_s: float = field(
        default=0.2, metadata={"ge": 0.0, "le": 60.0, "description": "Seconds that the preparation takes."}
    )
    poll_s: float = field(
        default=0.01,
        metadata={
            "ge": 0.0,
            "le": 10.0,
            "description": "With signal `poll`: seconds from one look to the next; 0 looks without a pause. The "
            "first looks of the threads are spread over that time, as those of threads that came at any moment.",
        },
    )


def lane(params: Params) -> str:
    """Threads that look without a pause, or with next to none, compute."""
    return "cpu" if params.signal == "poll" and params.poll_s < 0.001 else "wait"


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    if params.signal == "none":
        return {
            "seen_early": ("interesting", "A thread read before the preparation was done, and found nothing."),
            "not_seen": (
                "acceptable",
                "Every thread happened to read after the preparation, which nothing promises. Try a longer prepare_s.",
            ),
        }
    early = ("forbidden", "A thread was told that the preparation was done, and found nothing.")
    if params.signal == "poll":
        found = (
            "Every thread found what had been prepared, and paid for looking: `polls` and `cpu_s` are what the looks "
            "cost, and `latency_max_s` is how late the last one was. An event needs neither."
        )
        return {"polled": ("interesting", found), "seen_early": early}
    return {
        "woken": ("acceptable", "Every thread slept until the event was set, and found what had been prepared."),
        "seen_early": early,
    }


class Desk:
    """What the threads share."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.ready = False  # the flag that is looked at
        self.prepared: Optional[str] = None


class Look:
    """What one waiter found; only its own thread writes here."""

    def __init__(self) -> None:
        self.polls = 0
        self.cpu_s = 0.0
        self.seen_at = 0.0
        self.found: Optional[str] = None


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    desk, looks = Desk(), [Look() for _ in range(params.threads)]
    threads = [
        lab.Thread(target=wait_and_read, args=(desk, look, params.poll_s * number / params.threads, params))
        for number, look in enumerate(looks)
    ]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(params.prepare_s)
    desk.prepared = "a table of everything"
    set_at = time.perf_counter()
    desk.ready = True
    desk.event.set()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - begun

    early = sum(look.found is None for look in looks)
    latencies = [look.seen_at - set_at for look in looks] if params.signal != "none" else []
    return {
        "outcome": judge(params.signal, early),
        "seen_early": early,
        "polls": sum(look.polls for look in looks),
        "cpu_s": sum(look.cpu_s for look in looks),
        "latency_p50_s": median(latencies),
        "latency_max_s": max(latencies) if latencies else None,
        "prepared_s": set_at - begun,
        "wall_s": wall_s,
    }


def wait_and_read(desk: Desk, look: Look, first_s: float, params: Params) -> None:
    cpu_s = time.thread_time()
    if params.signal == "event":
        desk.event.wait()
    elif params.signal == "poll" and params.poll_s == 0:
        while not desk.ready:
            look.polls += 1
    elif params.signal == "poll":
        time.sleep(first_s)
        while not desk.ready:
            look.polls += 1
            time.sleep(params.poll_s)
    look.seen_at = time.perf_counter()
    look.found = desk.prepared
    look.cpu_s = time.thread_time() - cpu_s


def median(latencies: List[float]) -> Optional[float]:
    return statistics.median(latencies) if latencies else None


def judge(signal: str, early: int) -> str:
    if early:
        return "seen_early"
    return {"event": "woken", "poll": "polled", "none": "not_seen"}[signal]
