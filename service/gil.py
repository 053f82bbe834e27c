"""How much the global interpreter lock was in the way: from what the system counted of each thread.

Who uses it: `executors.transcript`, when a run is over. Pure.

What is measured of a thread: how long it lived, its CPU time, how long it was ready but had no core (Linux counts
that), how long it waited for locks (if they were traced), and how often it gave up its core by itself. What remains of
its life it spent in waits of some other kind, for the GIL or for anything else. Two facts tell these apart. Who waits
for the GIL wakes up at least once every switch interval to ask for it, so that a wait for the GIL costs a voluntary
switch for each interval. And somebody else has the GIL meanwhile, and computes, or would if it had a core. Hence

    time waited for the GIL  <=  what remains of its life,
                             <=  voluntary switches * switch interval,
                        and  <=  CPU time of the process but for its own + time that the others were without a core

The smallest is told: an upper bound that is close for threads that compute (they wait for nothing else) and near 0 for
threads that sleep, or are alone. Short waits for locks that are not traced are in it as well, and the time without a
core, which counts from before a thread's own start and can therefore not be taken off. It is too small where a thread
keeps the GIL and sleeps (C code may), or where the main thread computes and lacks a core, which is not counted. The
main thread, which mostly waits for the others, is left out of account.

Source: CPython, `take_gil()` in Python/ceval_gil.c (ceval_gil.h until 3.11): a timed wait of one interval in a loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from service.events import Basis, Gil, ThreadRow

__all__ = ["account"]


def account(
    rows: Iterable[ThreadRow], *, enabled: bool, switch_interval_s: float, process_cpu_s: float | None = None
) -> Gil:
    """Fill in how long each thread waited for the GIL, and return how contended it was.

    Args:
        rows: changed in place.
        enabled: whether there was a GIL.
        switch_interval_s: the longest that was set during the run.
        process_cpu_s: CPU time of the whole process; None if nothing tells.
    """
    rows = list(rows)
    worked_s = None if process_cpu_s is None else process_cpu_s + sum(row["core_wait_s"] or 0.0 for row in rows)
    for row in rows:
        row["gil_wait_s"] = _most_waited_s(row, switch_interval_s, worked_s) if enabled else 0.0
    return Gil(
        enabled=enabled,
        contention=_contention(rows),
        method="accounting",
        basis={
            "cpu_s": _basis("measured", [row["cpu_s"] for row in rows]),
            "core_wait_s": _basis("measured", [row["core_wait_s"] for row in rows]),
            "lock_wait_s": _basis("measured", [row["lock_wait_s"] for row in rows]),
            "gil_wait_s": _basis("estimated" if enabled else "exact", [row["gil_wait_s"] for row in rows]),
        },
    )


def _most_waited_s(row: ThreadRow, switch_interval_s: float, worked_s: float | None) -> float | None:
    """The longest time that a thread can have waited for the GIL; None where nothing tells.

    Args:
        worked_s: how long all threads, this one included, had or wanted a core.
    """
    if row["ended_s"] is None or row["cpu_s"] is None or row["voluntary_switches"] is None:
        return None
    bounds_s = [
        row["ended_s"] - row["started_s"] - row["cpu_s"] - (row["lock_wait_s"] or 0.0),
        row["voluntary_switches"] * switch_interval_s,
    ]
    if worked_s is not None:
        bounds_s.append(worked_s - row["cpu_s"] - (row["core_wait_s"] or 0.0))
    return max(0.0, min(bounds_s))


def _contention(rows: Iterable[ThreadRow]) -> float | None:
    """Of the lives of the threads whose wait is known, the share that they waited."""
    known = [(row["gil_wait_s"], row["ended_s"], row["started_s"]) for row in rows]
    pairs = [(waited, ended - begun) for waited, ended, begun in known if waited is not None and ended is not None]
    lived_s = sum(lived for _, lived in pairs)
    return min(1.0, sum(waited for waited, _ in pairs) / lived_s) if lived_s > 0 else None


def _basis(basis: Basis, values: Sequence[float | None]) -> Basis | None:
    return basis if any(value is not None for value in values) else None
