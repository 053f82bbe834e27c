"""Oversubscription: the same work, cut over one thread and over far more threads than there are cores.

More threads than cores do no more at the same moment, and each of them costs: it has to be made, started and ended, and
the system has to switch between them. How much the switching costs depends on what they wait for. A thread that waits
for the GIL sleeps for one switch interval (0.005 s), wakes up, finds it taken, and sleeps again; so 128 waiting
threads wake up 128 times in every interval, although only one of them gets the GIL. Work that releases the GIL runs on
all cores, is fastest with about as many threads as there are cores, and loses from there on.

Each thread waits for a lock of its own until all have been started, so that start_s and work_s can be told apart.
cost_per_switch_s is an estimate: the extra work_s, divided by the extra context switches. What else more threads cost
(their first run, their end, cold caches) is in it, too, so it is near a switch's price only where there are many.

Run it:
    A hundred and twenty-eight threads where one would do:
        {"scenario": "oversubscription"}
    The whole curve, and its knee:
        {"scenario": "oversubscription", "total": 4096, "curve": [2, 4, 8, 16, 32, 64]}
    Work that releases the GIL:
        {"scenario": "oversubscription", "work": "hash", "curve": [2, 4, 8, 16, 32, 64]}
    Far more context switches:
        {"scenario": "oversubscription", "threads": 64, "switch_interval_s": 0.0001}
    Hardly any, and what the threads cost all the same:
        {"scenario": "oversubscription", "switch_interval_s": 10.0}

Observed:
    2 cores, Linux, Intel Xeon, no other measurement beside. The defaults, 8 runs: how many were `costly`, and the
    median overhead_share.

    3.9.18      3.10.13     3.11.7      3.12.1      3.13.0      3.13.15t
    8/8  +28 %  8/8  +33 %  8/8  +40 %  8/8  +31 %  8/8  +31 %  0/8  -7 %

    wall_s with total 4,096, one run of 3 rounds:
    work, threads    3.9.18  3.10.13  3.11.7  3.12.1  3.13.0  3.13.15t
    python, 1        0.302   0.271    0.187   0.267   0.255   0.255
    python, 2        0.310   0.279    0.174   0.273   0.266   0.138
    python, 8        0.299   0.274    0.187   0.266   0.260   0.135
    python, 32       0.321   0.290    0.190   0.276   0.273   0.140
    python, 64       0.328   0.298    0.204   0.289   0.286   0.162
    python, 128      0.358   0.327    0.220   0.324   0.304   0.184
    python, 512      0.488   0.532    0.365   0.501   0.489   0.478
    hash, 1          0.163   0.159    0.150   0.152   0.161   0.163
    hash, 2          0.086   0.083    0.081   0.082   0.084   0.094
    hash, 8          0.092   0.092    0.085   0.085   0.087   0.089
    hash, 64         0.118   0.113    0.120   0.111   0.117   0.113
    hash, 512        0.263   0.285    0.256   0.263   0.247   0.439

    overhead_share, switches, cost_per_switch_s in microseconds; python, total 4,096, one run each:
    threads, interval  3.9.18              3.10.13             3.11.7              3.13.0
    256, 10.0          +25 %     678  56   +28 %     688  62   +44 %     729  44   +22 %     665  45
    256, own           +32 %  10,289  6.1  +43 %   9,551  8.3  +48 %   6,597  8.4  +38 %   9,000  7.6
    256, 0.001         +97 %  76,167  3.2  +190 % 117,648 3.9  +105 % 47,082  2.9  +119 % 92,323  3.1
    64, 0.0001         +133 % 190,491 2.1  +179 % 187,717 2.4  +117 % 98,539  2.1  +123 % 150,979 2.1

Note:
    With the GIL and the interpreter's own switch interval, switching is the smaller part. Of what 256 threads cost more
    than one, a half or more is left when a long interval takes nearly all switches away; starting them alone is about
    0.11 to 0.15 ms each, the lab's own record of them included. Up to 8 threads next to nothing of it can be seen.
    Making a thread is paid once, and is nothing in an hour of work; the wake-ups go on as long as threads wait.
    Beside other programs that compute, 128 threads were seen to cost 11 %, 6 % and, with an interval of 10 s, less
    than nothing: single times then differ by more than the margin. Take more rounds, or a quiet machine.
    A free-threaded build has no GIL to wait for, so the switch interval does nothing there. It takes 40 MiB of a
    child's memory limit for each thread, touched or not, and where they do not fit, Thread.start waits for ever for a
    thread that found no memory. Such a job is `unavailable`; by default there is room for 512.

Source:
    The tutorial, Key Points. CPython, `take_gil` (the wait with a timeout of one switch interval). Library reference,
    `sys.setswitchinterval`, `resource.getrusage`, and `hashlib` (the GIL is released for more than 2,047 bytes).
    CPython issue 140746 (`Thread.start` can hang).
"""

from __future__ import annotations

import hashlib
import resource
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Collection, Dict, List, Literal, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "cpu"

MEASURES = {"wall_s": "lower", "overhead_share": "lower", "cost_per_switch_s": "lower"}
GROWS = {"wall_s": ("total",), "cpu_s": ("total",)}

MOST_THREADS = 512  # 4 GiB of stacks, which count as memory although they are hardly touched: a child has 6 by default
MIB_PER_THREAD = 41  # of a free-threaded build: 8 of stack and a segment of 32 for its allocator, measured on 3.13.15t
MARGIN = 0.10  # chosen: times that differ by less count as equal; two runs of the same differ by half of it here

_RUSAGE_THREAD: Optional[int] = getattr(resource, "RUSAGE_THREAD", None)  # Linux only


@dataclass(frozen=True)
class Params:
    threads: int = field(
        default=128,  # chosen: plainly too many, and few enough for a free-threaded build (see MIB_PER_THREAD)
        metadata={"ge": 1, "le": MOST_THREADS, "description": "Over how many threads the work is cut."},
    )
    total: int = field(
        default=2_048,  # about 0.13 s of work here: 16 pieces, or 1 ms, for each of the 128 threads
        metadata={
            "ge": 1,
            "le": 100_000,
            "description": "Pieces of work in all, the same for any number of threads. One takes about 0.05 ms.",
        },
    )
    work: Literal["python", "hash"] = field(
        default="python",
        metadata={
            "description": "What a piece is: `python` adds 2,000 numbers in a loop and needs the GIL for it; `hash` is "
            "the SHA-256 of 64 KiB, for which hashlib releases the GIL."
        },
    )
    switch_interval_s: Optional[float] = field(
        default=None,
        metadata={
            "ge": 1e-6,  # sys.setswitchinterval counts whole microseconds
            "le": 10.0,
            "description": "Seconds after which a waiting thread wakes up and asks for the GIL: shorter, and there "
            "are more context switches; null leaves the interpreter's own 0.005.",
        },
    )
    reference: bool = field(
        default=True,
        metadata={"description": "Whether one thread does the same work in the same run, to compare with."},
    )
    curve: Tuple[int, ...] = field(
        default=(),
        metadata={
            "ge": 1,
            "le": MOST_THREADS,
            "max_length": 16,
            "counts": "threads",
            "description": "Further numbers of threads to measure in the same run.",
        },
    )
    rounds: int = field(
        default=3,
        metadata={
            "ge": 1,
            "le": 25,
            "description": "How often each number of threads is measured, in turn; the median one is told.",
        },
    )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    many = f"{params.threads} threads"
    unavailable = {
        "unavailable": (
            "acceptable",
            "The process cannot have that many threads: the system refused one, or its memory limit has no room for "
            "them on a free-threaded build, which takes 40 MiB for each. Take fewer.",
        )
    }
    if not is_compared(params):
        return {"not_compared": ("acceptable", why_not_compared(params)), **unavailable}
    return {
        "costly": (
            "interesting",
            f"{many} took over {MARGIN:.0%} longer than one for the same work: to start them, to switch between them, "
            "and to wake those that only wait. Take about as many threads as there are cores.",
        ),
        "past_knee": (
            "interesting",
            f"{many} took no longer than one, but over {MARGIN:.0%} longer than best_threads, which are fewer: beyond "
            "the knee a thread costs more than it brings. Take as many as best_threads.",
        ),
        "little_cost": (
            "acceptable",
            f"{many} took as long as one, give or take {MARGIN:.0%}, and as any smaller number measured: no gain, and "
            "in this run no cost to speak of. Try more threads, less work, or a shorter switch_interval_s.",
        ),
        "faster": (
            "acceptable",
            f"{many} took less time than one, because the work runs on several cores at once. Another number may be "
            f"faster still: {'see best_threads' if params.curve else 'give a curve'}.",
        ),
        **unavailable,
    }


def has_single(params: Params) -> bool:
    """Whether one thread does the same work in the same run."""
    return params.reference or 1 in params.curve


def is_compared(params: Params) -> bool:
    """Whether there is one thread to compare these with."""
    return params.threads > 1 and has_single(params)


def why_not_compared(params: Params) -> str:
    if params.threads == 1:
        return "One thread is what more are compared with. Take more threads, or see the curve where there is one."
    return "One thread was not measured, so what more of them cost is not known. Set reference to true to see it."


class Measured(NamedTuple):
    """One number of threads, measured once; the seconds are wall time but for `cpu_s`, the whole process's."""

    threads: int
    wall_s: float
    start_s: float
    work_s: float
    cpu_s: float
    switches: Optional[List[Tuple[int, int]]]  # of each thread, voluntary and not; None where the system cannot tell


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    if params.switch_interval_s is not None:
        sys.setswitchinterval(params.switch_interval_s)
    try:
        expect_room(max(params.threads, *params.curve, 1))
        curve = measure_all(params, lab)
    except RuntimeError as exc:  # "can't start new thread"
        return {"outcome": "unavailable", "reason": str(exc), **dict.fromkeys(MEASURES)}
    many, one = curve[params.threads], curve[1] if has_single(params) else None
    print(f"{params.threads} threads: {many.wall_s:.3f} s", f"one: {one.wall_s:.3f} s" if one else "")
    return {
        "outcome": judge(many, one, best(curve.values())) if one and is_compared(params) else "not_compared",
        "pieces": params.total,
        "wall_s": many.wall_s,
        "start_s": many.start_s,
        "work_s": many.work_s,
        "cpu_s": many.cpu_s,
        "start_per_thread_s": many.start_s / params.threads,
        **count_switches(many),
        **compare(many, one),
        "best_threads": best(curve.values()).threads if len(curve) > 1 else None,
        "knee": knee(curve.values()) if len(curve) > 1 else None,
        "curve": [entry(curve[threads]) for threads in sorted(curve)],
    }


def expect_room(threads: int) -> None:
    """Refuse what would hang: `Thread.start` waits for ever for a thread that finds no memory (CPython gh-140746).

    Raises:
        RuntimeError: on a free-threaded build, the memory limit has no room for so many threads.
    """
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    room = limit // (MIB_PER_THREAD * 1024**2)
    if "t" in sys.abiflags and limit != resource.RLIM_INFINITY and threads > room:
        raise RuntimeError(f"the memory limit has room for {room} threads of a free-threaded build, not {threads}")


def judge(many: Measured, one: Measured, best_one: Measured) -> str:
    if many.wall_s > one.wall_s * (1 + MARGIN):
        return "costly"
    if many.threads > best_one.threads and many.wall_s > best_one.wall_s * (1 + MARGIN):
        return "past_knee"
    return "faster" if many.wall_s < one.wall_s * (1 - MARGIN) else "little_cost"


def best(curve: Collection[Measured]) -> Measured:
    return min(curve, key=lambda measured: measured.wall_s)


def knee(curve: Collection[Measured]) -> int:
    """The largest number of threads that took as long as the best one, within the margin."""
    limit_s = best(curve).wall_s * (1 + MARGIN)
    return max(measured.threads for measured in curve if measured.wall_s <= limit_s)


def measure_all(params: Params, lab: Lab) -> Dict[int, Measured]:
    """Measure every number of threads in each round, each round in another order, and keep the median of each."""
    counts = sorted({params.threads, *params.curve, *([1] if params.reference else [])})
    measured: Dict[int, List[Measured]] = {threads: [] for threads in counts}
    measure(1, params.total // 16, params.work, lab)  # the first run of any code is slower
    for number in range(params.rounds):
        first = number % len(counts)
        for step, threads in enumerate(counts[first:] + counts[:first], start=number * len(counts) + 1):
            measured[threads].append(measure(threads, params.total, params.work, lab))
            lab.progress(step, params.rounds * len(counts))
    return {threads: median(several) for threads, several in measured.items()}


def median(several: List[Measured]) -> Measured:
    """The one whose time is in the middle; of an even number the slower one."""
    return sorted(several, key=lambda measured: measured.wall_s)[len(several) // 2]


def measure(threads: int, total: int, work: str, lab: Lab) -> Measured:
    """Make threads that wait each for a lock, then let them all begin.

    Raises:
        Cancelled: the job came to its end before the work did.
        RuntimeError: the system starts no more threads.
    """
    usages: List[Optional[Tuple[int, int]]] = []
    gates = [lab.Lock() for _ in range(threads)]  # one each: from a common one they would come out one after another
    for gate in gates:
        gate.acquire()
    started: List[threading.Thread] = []
    cpu_s = time.process_time()
    begun = time.perf_counter()
    try:
        for gate, share in zip(gates, shares(total, threads)):
            started.append(start(lab, gate, WORK[work], share, usages))
        all_started = time.perf_counter()
    finally:
        for gate in gates:
            gate.release()
        for thread in started:
            thread.join()
    ended = time.perf_counter()
    cpu_s = time.process_time() - cpu_s
    lab.checkpoint()
    switches = [usage for usage in usages if usage is not None]
    return Measured(
        threads,
        wall_s=ended - begun,
        start_s=all_started - begun,
        work_s=ended - all_started,
        cpu_s=cpu_s,
        switches=switches if len(switches) == threads else None,
    )


def start(
    lab: Lab, gate: threading.Lock, piece: Callable[[], object], share: int, usages: List[Optional[Tuple[int, int]]]
) -> threading.Thread:
    def worker() -> None:
        before = own_switches()
        with gate:
            pass
        for _ in range(share):
            if lab.cancelled:
                return
            piece()
        after = own_switches()
        usages.append((after[0] - before[0], after[1] - before[1]) if before and after else None)

    thread = lab.Thread(target=worker)
    thread.start()
    return thread


def shares(total: int, threads: int) -> List[int]:
    """The whole work in `threads` parts that differ by one piece at most."""
    return [total * (number + 1) // threads - total * number // threads for number in range(threads)]


def own_switches() -> Optional[Tuple[int, int]]:
    """How often the calling thread has given up its core, and how often it was taken from it."""
    if _RUSAGE_THREAD is None:
        return None
    used = resource.getrusage(_RUSAGE_THREAD)
    return used.ru_nvcsw, used.ru_nivcsw


def count_switches(measured: Measured) -> Dict[str, Optional[int]]:
    if measured.switches is None:
        return dict.fromkeys(SWITCHES)
    voluntary, involuntary = (sum(counts) for counts in zip(*measured.switches))
    each = sorted(sum(counts) for counts in measured.switches)
    return dict(
        zip(SWITCHES, (voluntary + involuntary, voluntary, involuntary, each[len(each) // 2], each[-1])),
    )


SWITCHES = ("switches", "voluntary_switches", "involuntary_switches", "per_thread_p50", "per_thread_max")


def compare(many: Measured, one: Optional[Measured]) -> Dict[str, Optional[float]]:
    """What the threads cost more than one did; what they cost each is None where they cost nothing more."""
    if one is None:
        return {"single_s": None, "overhead_share": None, "cost_per_switch_s": None, "cost_per_thread_s": None}
    extra_s, extra_work_s = many.wall_s - one.wall_s, many.work_s - one.work_s
    switches, single_switches = count_switches(many)["switches"], count_switches(one)["switches"]
    more = None if switches is None or single_switches is None else switches - single_switches
    return {
        "single_s": one.wall_s,
        "overhead_share": extra_s / one.wall_s,
        "cost_per_switch_s": share_of(extra_work_s, more),  # starting the threads is no switching
        "cost_per_thread_s": share_of(extra_s, many.threads - 1),
    }


def share_of(extra_s: float, count: Optional[int]) -> Optional[float]:
    return extra_s / count if count is not None and count > 0 and extra_s > 0 else None


def entry(measured: Measured) -> Dict[str, Any]:
    """A point of the curve."""
    return {
        "threads": measured.threads,
        "wall_s": measured.wall_s,
        "start_s": measured.start_s,
        "work_s": measured.work_s,
        "cpu_s": measured.cpu_s,
        "switches": count_switches(measured)["switches"],
    }


BLOCK = bytes(65_536)  # hashlib releases the GIL for 2,048 bytes or more


def python_piece() -> int:
    total = 0
    for number in range(2_000):
        total += number
    return total


def hash_piece() -> bytes:
    return hashlib.sha256(BLOCK).digest()


WORK: Dict[str, Callable[[], object]] = {"python": python_piece, "hash": hash_piece}
