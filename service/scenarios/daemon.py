"""Daemon: a background thread ticks on while the main thread comes to its end.

When the main thread is done, the interpreter waits for every thread that is no daemon, and only then ends the process.
It does not wait for daemon threads: they are cut off wherever they are, with no exception, no `finally`, and nothing
flushed. So `daemon=True` is for work that may stop half-way, and work that must be finished is joined.

Run it:
    The tutorial's program:
        {"scenario": "daemon"}
    The same thread, no daemon - the interpreter waits for its ten ticks:
        {"scenario": "daemon", "daemon": false}
    The same in a tenth of the time:
        {"scenario": "daemon", "daemon": false, "interval_s": 0.1, "main_s": 0.3}
    A thread that is done before the main thread:
        {"scenario": "daemon", "interval_s": 0.05, "main_s": 0.3, "max_ticks": 2}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside; CPython 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0, one
    run each: the same on all of them but for the ticks at 3.0 s. `lived_s` is result.process's, seen from outside.

    parameters                             outcome         ticks: main, exit  waited_s      lived_s
    (none)                                 abandoned       3, 3 or 4          0.000, 0.004  3.00 to 3.01
    daemon false                           awaited         3 or 4, 10         7.00 to 7.01  10.00 to 10.03
    daemon false, interval 0.1, main 0.3   awaited         3, 10              0.70 to 0.71  1.00 to 1.01
    interval 0.05, main 0.3, max_ticks 2   finished_first  2, 2               0.000         0.30 to 0.31

    The exit code is 0 in all of them: being cut off is no error to anyone.

Note:
    In a notebook the tutorial's thread goes on after "Main thread exiting" (its output shows five ticks in a program of
    three seconds): there the main thread is the kernel's, and it does not end with the cell.
    The tick at the very moment when the main thread ends may come before it or after it.

Source:
    The tutorial, Example 3. Library reference, `threading`, "Thread objects". CPython, `Py_FinalizeEx`: it joins the
    threads that are no daemons, and then runs what `atexit` registered, which is where this scenario looks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "wait"
GROWS = {"wall_s": ("interval_s", "max_ticks", "main_s"), "cpu_s": ("interval_s", "max_ticks", "main_s")}


@dataclass(frozen=True)
class Params:
    daemon: bool = field(default=True, metadata={"description": "Whether the background thread is a daemon."})
    interval_s: float = field(
        default=1.0, metadata={"ge": 0.0, "le": 60.0, "description": "Seconds from one tick to the next."}
    )
    main_s: float = field(
        default=3.0, metadata={"ge": 0.0, "le": 60.0, "description": "Seconds until the main thread ends."}
    )
    max_ticks: int = field(
        default=10,  # chosen: the tutorial's three seconds are over by then, and a thread that is awaited ends soon
        metadata={
            "ge": 1,
            "le": 10_000,
            "description": "After how many ticks the thread ends by itself. The tutorial's never does, and a thread "
            "that is no daemon would then keep its process alive for ever.",
        },
    )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    both = {
        "finished_first": ("acceptable", "The thread came to its own end: nothing was to be cut off or waited for."),
        "outlived_main": (
            "interesting",
            "The thread was running when the main thread ended, and what came of it was not seen: the process was "
            "ended from outside.",
        ),
    }
    if params.daemon:
        abandoned = "The process ended while the daemon thread was running, and cut it off where it was."
        return {"abandoned": ("acceptable", abandoned), **both}
    return {
        "awaited": ("acceptable", "The main thread was done, and the interpreter waited until the thread was, too."),
        "abandoned": ("forbidden", "The process ended while a thread that is no daemon was running."),
        **both,
    }


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    ticks: List[float] = []  # when, in seconds since the scenario began
    thread = lab.Thread(target=background_task, args=(params, ticks, lab), daemon=params.daemon)
    thread.start()
    time.sleep(params.main_s)
    print("Main thread exiting")
    main_ended_s = lab.time_passed()
    outlived_main = thread.is_alive()

    @lab.at_exit
    def see_the_end() -> Dict[str, Any]:
        """What is true when the interpreter has waited for all that it waits for, just before the process ends."""
        alive = thread.is_alive()
        return {
            "outcome": judge(params.daemon, outlived_main, alive),
            "ticks_at_exit": len(ticks),
            "alive_at_exit": alive,
            "waited_s": lab.time_passed() - main_ended_s,
        }

    return {
        "outcome": "outlived_main" if outlived_main else "finished_first",
        "ticks_before_main_ended": len(ticks),
        "main_ended_s": main_ended_s,
        "alive_when_main_ended": outlived_main,
        "ticks_at_exit": None,  # these three are known when the process is about to end
        "alive_at_exit": None,
        "waited_s": None,
    }


def background_task(params: Params, ticks: List[float], lab: Lab) -> None:
    while len(ticks) < params.max_ticks:
        print("Running background task...")
        ticks.append(lab.time_passed())
        time.sleep(params.interval_s)


def judge(daemon: bool, outlived_main: bool, alive_at_exit: bool) -> str:
    if alive_at_exit:
        return "abandoned"
    return "awaited" if outlived_main and not daemon else "finished_first"
