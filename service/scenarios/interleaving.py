"""Interleaving: threads print numbers and letters while each pauses between its lines.

A thread that sleeps gives up the GIL and the processor, and another prints its line. So the lines of all threads mix,
and all the pauses together take as long as one thread's: the work overlaps because it is waiting, not computing. The
order within one thread is fixed; the order between threads is up to the system, and may differ in every run.

Run it:
    The tutorial's program:
        {"scenario": "interleaving"}
    Beside the same work done one after the other:
        {"scenario": "interleaving", "delay_s": 0.1, "compare": true}
    Ten threads:
        {"scenario": "interleaving", "threads": 10, "delay_s": 0.05, "compare": true}
    Without the pause there is often nothing left to mix:
        {"scenario": "interleaving", "delay_s": 0.0}

Observed:
    2 cores, Linux, Intel Xeon, other programs running beside; CPython 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0, one
    run each unless said.

    parameters                       lines  switches  wall_s        sequential_s    speedup
    compare                          10     6 to 9    5.00 to 5.01  10.00 to 10.01  2.00
    delay_s 0.1, compare             10     7 to 9    0.50          1.00            1.99 to 2.00
    threads 10, delay_s 0.05, compare  50   49        0.25          2.51            9.85 to 9.93
    delay_s 0, 100 runs each         in_blocks in 100 of 100

Note:
    Numbers and letters do not strictly take turns: both threads wake at nearly the same time, and either may come
    first, so two lines of one kind can follow each other (9 switches are strict turns of 10 lines; 6 were seen).
    The speed-up is that of waiting. Work that computes gains nothing from threads under the GIL.

Source:
    The tutorial, Example 1. Library reference, `threading` and `time.sleep`.
"""

from __future__ import annotations

import string
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "wait"
GROWS = {"wall_s": ("threads", "steps", "delay_s"), "cpu_s": ("threads", "steps", "delay_s")}

Work = Tuple[Callable[..., None], str]  # what a thread runs, and the label of its lines


@dataclass(frozen=True)
class Params:
    threads: int = field(
        default=2,
        metadata={
            "ge": 1,
            "le": 256,
            "description": "How many threads print: the first numbers, the second letters, and so on in turn.",
        },
    )
    steps: int = field(default=5, metadata={"ge": 1, "le": 1000, "description": "How many lines each thread prints."})
    delay_s: float = field(
        default=1.0,
        metadata={"ge": 0.0, "le": 60.0, "description": "Seconds of sleep after each line; 0 leaves the sleep out."},
    )
    daemon: bool = field(
        default=False, metadata={"description": "Whether the threads are daemons; they are joined either way."}
    )
    compare: bool = field(
        default=False,
        metadata={"description": "Whether to do the same work again, one part after the other, and time that, too."},
    )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    if params.threads == 1 or params.steps == 1:
        meaning = "With one thread, or with one line each, mixed lines and blocks of lines look the same."
        return {"nothing_to_mix": ("acceptable", meaning)}
    if params.delay_s:
        mixed = "while one slept, another printed."
        unmixed = (
            "its sleeps were over before another was ready to print. The next run may differ: try a longer delay_s."
        )
    else:
        mixed = "none of them paused, but the system let another run in between."
        unmixed = (
            "nothing made it pause while another was ready to print. The next run may differ; give delay_s more than 0 "
            "to see the lines mix."
        )
    return {
        "interleaved": ("acceptable", f"The lines of the threads mixed: {mixed}"),
        "in_blocks": ("interesting", f"Each thread printed all its lines in one block: {unmixed}"),
    }


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    order: List[str] = []  # the label of every line, in the order in which they were printed
    work = [label_work(number) for number in range(1, params.threads + 1)]
    threads = [
        lab.Thread(target=target, args=(label, params.steps, params.delay_s, order), daemon=params.daemon)
        for target, label in work
    ]

    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - begun
    print("Both threads completed" if params.threads == 2 else "All threads completed")
    print(f"Time needed for execution: {wall_s}")

    sequential_s = one_after_the_other(work, params) if params.compare else None
    switches = count_switches(order)
    return {
        "outcome": judge(switches, params),
        "lines": len(order),
        "switches": switches,
        "wall_s": wall_s,
        "sequential_s": sequential_s,
        "speedup": None if sequential_s is None else sequential_s / wall_s,
    }


def label_work(number: int) -> Work:
    """What the thread of this number does; from the third on, its label tells which thread it is."""
    target, label = (print_numbers, "Number") if number % 2 else (print_letters, "Letter")
    return target, label if number <= 2 else f"{label} (thread {number})"


def print_numbers(label: str, steps: int, delay_s: float, order: List[str]) -> None:
    for number in range(1, steps + 1):
        print(f"{label}: {number}")
        order.append(label)
        if delay_s:
            time.sleep(delay_s)


def print_letters(label: str, steps: int, delay_s: float, order: List[str]) -> None:
    for step in range(steps):
        print(f"{label}: {letter(step)}")
        order.append(label)
        if delay_s:
            time.sleep(delay_s)


def letter(step: int) -> str:
    """A, B, ... Z, and then AA, AB, ... as a spreadsheet names its columns."""
    rest, last = divmod(step, 26)
    return (letter(rest - 1) if rest else "") + string.ascii_uppercase[last]


def one_after_the_other(work: List[Work], params: Params) -> float:
    """Do the same work on the main thread alone, and return the seconds that it took."""
    print("The same, one after the other:")
    begun = time.perf_counter()
    for target, label in work:
        target(label, params.steps, params.delay_s, [])
    return time.perf_counter() - begun


def count_switches(order: List[str]) -> int:
    """How often a line came from another thread than the line before it."""
    return sum(before != after for before, after in zip(order, order[1:]))


def judge(switches: int, params: Params) -> str:
    if params.threads == 1 or params.steps == 1:
        return "nothing_to_mix"
    # From n blocks to the next there are n - 1 switches: with more, some thread's lines are apart.
    return "interleaved" if switches > params.threads - 1 else "in_blocks"
