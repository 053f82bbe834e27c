"""Convoy: a thread that answers small messages waits for the GIL behind threads that compute.

A thread gives up the GIL for every call that may block. A computing thread makes no such call and never gives it up by
itself: who wants it must wait for one switch interval (0.005 s) before it may even ask. So a thread that was waiting
for a message finds the GIL taken when the message is there, and is an interval late. Where its call returns at once it
races the computing thread, which has to be woken up first, and may take the GIL back many times in a row; each race
that it loses costs an interval, where an echo alone takes some 10 to 100 microseconds. Behind several computing
threads it stands in line, and each of them computes for a whole interval. They lose next to nothing: who has the least
to do pays.

What answers is a thread of this process; what asks is another process (the far end) that has an interpreter to itself.
The far end does all timing, by its own clock, in two windows for each phase. Back to back, as in ccbench's bandwidth
test: the next request leaves when the answer is there, and echoes_per_s is their number over the time until the last
one. Paced, as in its latency test: a pause before each request, drawn anew so that it cannot fall into step with the
switch interval; a latency is the time from a request to its answer.

Run it:
    One computing thread takes nearly all echoes away:
        {"scenario": "convoy"}
    Nobody computes:
        {"scenario": "convoy", "threads": 0}
    A shorter switch interval - the echoes are back, and the computing thread pays a little:
        {"scenario": "convoy", "switch_interval_s": 0.0001}
    Work that releases the GIL:
        {"scenario": "convoy", "work": "hash"}
    One C call that holds the GIL for as long as it takes:
        {"scenario": "convoy", "transport": "pipe", "work": "sort"}

Observed:
    2 cores, Linux, Intel Xeon, no other measurement running beside; two runs of each. The mean of echoes_per_s beside
    the computing threads, and in brackets the mean share. (With a pipe, one run of 3.12.1 had 32,552, the other 673.)

    parameters             3.9.18        3.10.13       3.11.7        3.12.1        3.13.0        3.13.15t
    (none): 1, udp         421 (2 %)     531 (1 %)     493 (4 %)     365 (2 %)     375 (3 %)     136,940 (597 %)
    threads 2              51 (0 %)      103 (1 %)     135 (1 %)     87 (0 %)      73 (0 %)      16,380 (117 %)
    threads 4              46 (0 %)      37 (0 %)      42 (0 %)      53 (0 %)      38 (0 %)      50,128 (329 %)
    pipe                   692 (1 %)     611 (4 %)     764 (3 %)     16,613 (6 %)  645 (2 %)     246,851 (882 %)
    pipe, threads 2        89 (1 %)      91 (0 %)      71 (0 %)      1,957 (1 %)   75 (0 %)      206,982 (549 %)
    pipe, threads 4        48 (0 %)      32 (0 %)      29 (0 %)      57 (0 %)      33 (0 %)      130,228 (585 %)
    work sort              215           222           188           172           200           150,021
    work hash              134,553       145,160       146,684       136,558       144,388       147,745
    interval 0.0001        10,285        10,304        11,887        9,128         11,894        152,505
    interval 0.00001       18,172        18,513        19,786        21,941        20,757        147,975

    Nobody computes: 11,500 to 83,400 (udp) and 13,400 to 243,500 (pipe), in the window alone and in the other.
    latency_p50_s, udp: 0.00001 to 0.0001 alone; with the GIL 0.0051 to 0.0052 beside one computing thread, 0.007 to
    0.014 beside two, 0.004 to 0.025 beside four. Of their own rate the computing threads kept, with the GIL, 84 to
    127 % at 0.005 s, 82 to 94 % at 0.0001 s and 76 to 85 % at 0.00001 s.
    With other programs computing beside, 20 runs of the default on each with the GIL: a convoy in 98 of 100, with
    mostly 13 to 37 % of the echoes left, and latency_p50_s 0.0040 to 0.0095 in all of them.

Note:
    No convoy on a free-threaded build, with work that releases the GIL, or at a short switch interval, which the
    computing threads pay for. An interval does nothing against a C call that holds the GIL (`sort`).
    The echoes alone differ by a factor of ten from run to run: where both processes happen to share a core, a message
    is handed over at once; where they do not, a core that was idle has to be woken up first. A computing thread keeps a
    core busy, so that without a convoy there can be more echoes beside it than alone. Compare echoes_per_s as well.
    On a busy machine the computing thread seems to wake up too late for most races: thousands of echoes come in bursts
    between waits of 0.005 s. The paced latency shows the convoy there, too.

Source:
    Antoine Pitrou, ccbench (`run_bandwidth_test` and `run_latency_test` in Tools/ccbench/ccbench.py of CPython until
    3.11; PR 101853 dropped it). David Beazley, "Understanding the Python GIL" (PyCon 2010). bpo-7946, "Convoy effect
    with I/O bound threads and New GIL". CPython, `take_gil` and `drop_gil` in Python/ceval_gil.c (ceval_gil.h until
    3.11).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Literal, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "cpu"

MEASURES = {
    "share": "higher",
    "echoes_per_s": "higher",
    "latency_p50_s": "lower",
    "latency_p99_s": "lower",
    "chunks_per_s": "higher",
}
GROWS = {"wall_s": ("duration_s",), "cpu_s": ("duration_s",)}

_CONVOY_BELOW = 0.5  # chosen: far from the noise of two short windows, and from the few percent of a real convoy

_OWN_INTERVAL_S = 0.005  # the interpreter's
_LEAST_INTERVAL_S = 1e-6  # sys.setswitchinterval counts whole microseconds

_MESSAGE_BYTES = 16
_PAUSE_S = 0.002  # mean pause in a paced window: longer than an echo takes alone, and not much of one in a convoy
_PATIENCE_S = 5.0  # for the last answer of a window: 64 threads that sort stand 0.6 s in the GIL's line

# How duration_s is split. A convoy answers a hundred times less often, so the phase beside it gets most of the time.
_ALONE = 0.1  # each of the two windows alone
_COMPUTING = 0.1  # the computing threads with no echo beside them
_BESIDE = 0.35  # each of the two windows beside them


@dataclass(frozen=True)
class Params:
    threads: int = field(
        default=1,
        metadata={"ge": 0, "le": 64, "description": "How many threads compute beside the one that answers."},
    )
    transport: Literal["udp", "pipe"] = field(
        default="udp", metadata={"description": "What carries the messages: a loopback UDP socket, or two pipes."}
    )
    work: Literal["python", "sort", "hash"] = field(
        default="python",
        metadata={
            "description": "What the computing threads do. `python` is a loop in Python, which can switch at every "
            "turn; `sort` is one call of C code that holds the GIL for some 10 ms; `hash` is C code that releases it."
        },
    )
    duration_s: float = field(
        default=1.0,  # some 130 echoes beside one computing thread; alone, 0.1 s are enough for a thousand
        metadata={
            "ge": 0.02,
            "le": 60.0,
            "description": "Seconds that all windows take together: a fifth alone, a tenth for the computing threads "
            "without messages, the rest for both. Each window goes on until its last request is answered.",
        },
    )
    switch_interval_s: Optional[float] = field(
        default=None,
        metadata={
            "ge": _LEAST_INTERVAL_S,
            "le": 0.1,
            "description": "Seconds after which a waiting thread may ask for the GIL; null leaves the interpreter's "
            "own 0.005. It has no effect on a free-threaded build.",
        },
    )
    daemon: bool = field(
        default=False, metadata={"description": "Whether the threads are daemons; they are joined either way."}
    )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    unavailable = "This system gives the job no loopback socket, pipe or second process, so there was nobody to answer."
    expected = _why_none(params)
    if expected:
        no_convoy = ("acceptable", f"Nothing was to be expected: {expected}")
        if not params.threads:
            return {"no_convoy": no_convoy, "unavailable": ("acceptable", unavailable)}
        return {
            "no_convoy": no_convoy,
            "crowded": (
                "interesting",
                f"Less than half of the echoes were left, but not for the GIL: {expected} More threads and processes "
                "wanted to run than there are cores.",
            ),
            "unavailable": ("acceptable", unavailable),
        }
    return {
        "convoy": (
            "interesting",
            "Less than half of the echoes were left: for each one the thread had to wait for the GIL, behind threads "
            f"that do not give it up by themselves. {_cure(params)}",
        ),
        "no_convoy": (
            "acceptable",
            "At least half of the echoes were left in this run, which does not show that there is no convoy. Try "
            f"{_what_to_try(params)}.",
        ),
        "unavailable": ("acceptable", unavailable),
    }


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    if params.switch_interval_s is not None:
        sys.setswitchinterval(params.switch_interval_s)
    with contextlib.ExitStack() as ends:
        try:
            line = ends.enter_context(LINES[params.transport]())
            asker = ends.enter_context(far_end(line))
        except OSError as exc:
            lab.warn(f"Nobody can ask over {params.transport}: {exc}")
            return {"outcome": "unavailable", **dict.fromkeys(MEASURES)}
        ends.enter_context(answering(line, params, lab))
        seen = measure(params, lab, asker)
    print(f"Alone: {seen['echoes_per_s_alone']:.0f} echoes/s")
    print(f"Beside {params.threads} computing: {seen['echoes_per_s']:.0f} echoes/s, {seen['share']:.1%}")
    return {"outcome": judge(params, seen["share"]), **seen}


def judge(params: Params, share: float) -> str:
    if share >= _CONVOY_BELOW or not params.threads:
        return "no_convoy"
    return "crowded" if _why_none(params) else "convoy"


def measure(params: Params, lab: Lab, asker: Asker) -> Dict[str, Any]:
    asker.listen(lab)  # it is ready, and both sides have run each line of their loops
    alone_rate, alone = asker.phase(_ALONE * params.duration_s, lab)
    lab.progress(round(200 * _ALONE), 100)
    with computing(params, lab) as done:
        marks = [Mark(done)]
        if params.threads:
            time.sleep(_COMPUTING * params.duration_s)
        marks.append(Mark(done))
        lab.progress(round(100 * (2 * _ALONE + _COMPUTING)), 100)
        rate, latency = asker.phase(_BESIDE * params.duration_s, lab)
        marks.append(Mark(done))
    lab.progress(100, 100)
    undisturbed, chunks_per_s = marks[1].rate_since(marks[0]), marks[2].rate_since(marks[1])
    return {
        "share": rate["per_s"] / alone_rate["per_s"],
        "echoes_per_s": rate["per_s"],
        "echoes_per_s_alone": alone_rate["per_s"],
        "echoes": rate["count"],
        "echoes_alone": alone_rate["count"],
        **{f"latency_{name}_s": latency[name] for name in ("p50", "p95", "p99")},
        **{f"latency_alone_{name}_s": alone[name] for name in ("p50", "p95", "p99")},
        "latency_samples": latency["count"],
        "latency_samples_alone": alone["count"],
        "chunks_per_s": chunks_per_s,
        "chunks_per_s_alone": undisturbed,
        "compute_share": chunks_per_s / undisturbed if chunks_per_s and undisturbed else None,
        "switch_interval_s": sys.getswitchinterval(),
    }


def echo(line: Line) -> None:
    """All that the thread under test does: two calls that may block, each of which gives up the GIL."""
    while True:
        message = os.read(line.near_reads, _MESSAGE_BYTES)
        if len(message) != _MESSAGE_BYTES:
            return
        os.write(line.near_writes, message)


@contextlib.contextmanager
def answering(line: Line, params: Params, lab: Lab) -> Iterator[None]:
    """Answer in a thread of its own until the block is left."""
    thread = lab.Thread(target=echo, args=(line,), name="echo", daemon=params.daemon)
    thread.start()
    try:
        yield
    finally:
        os.write(line.far_writes, b".")  # no request is as short
        thread.join()


@contextlib.contextmanager
def computing(params: Params, lab: Lab) -> Iterator[List[int]]:
    """Compute in threads until the block is left; the list holds how many chunks each has done so far."""
    work = WORK[params.work]()
    done = [0] * params.threads
    gate, end = threading.Event(), threading.Event()
    threads = [
        lab.Thread(target=compute, args=(work, done, mine, gate, end), name=f"compute-{mine}", daemon=params.daemon)
        for mine in range(params.threads)
    ]
    try:
        for thread in threads:
            thread.start()
        gate.set()  # together: to start a thread beside computing ones takes two waits in their line
        yield done
    finally:
        end.set()
        gate.set()
        for thread in threads:
            if thread.ident is not None:  # it was started
                thread.join()


def compute(
    work: Callable[[], object], done: List[int], mine: int, gate: threading.Event, end: threading.Event
) -> None:
    gate.wait()
    while not end.is_set():
        work()
        done[mine] += 1


class Mark:
    """How much was computed by now."""

    def __init__(self, done: List[int]) -> None:
        self.threads = len(done)
        self.chunks = sum(done)
        self.at_s = time.perf_counter()

    def rate_since(self, earlier: Mark) -> Optional[float]:
        """Chunks a second of all threads together; None where none computes."""
        return (self.chunks - earlier.chunks) / (self.at_s - earlier.at_s) if self.threads else None


def python_work() -> Callable[[], object]:
    def chunk() -> int:
        total = 0
        for number in range(1_000):
            total += number * number
        return total

    return chunk


def sort_work() -> Callable[[], object]:
    numbers = [random.random() for _ in range(40_000)]
    return lambda: sorted(numbers)


def hash_work() -> Callable[[], object]:
    data = bytes(1_048_576)  # 1 MiB; hashlib releases the GIL from 2,048 bytes on
    return lambda: hashlib.sha256(data)


WORK = {"python": python_work, "sort": sort_work, "hash": hash_work}


class Line(NamedTuple):
    """A connection as descriptors. The far end inherits its two, and this process keeps them open, too: so whoever is
    gone, a write does not fail, and both ends can be hung up from here.
    """

    near_reads: int
    near_writes: int
    far_reads: int
    far_writes: int


@contextlib.contextmanager
def udp_line() -> Iterator[Line]:
    kind = socket.AF_INET, socket.SOCK_DGRAM
    with socket.socket(*kind) as near, socket.socket(*kind) as far:
        for end in (near, far):
            end.bind(("127.0.0.1", 0))
        near.connect(far.getsockname())
        far.connect(near.getsockname())
        yield Line(near.fileno(), near.fileno(), far.fileno(), far.fileno())


@contextlib.contextmanager
def pipe_line() -> Iterator[Line]:
    (near_reads, far_writes), (far_reads, near_writes) = os.pipe(), os.pipe()
    line = Line(near_reads, near_writes, far_reads, far_writes)
    try:
        yield line
    finally:
        for descriptor in line:
            os.close(descriptor)


LINES = {"udp": udp_line, "pipe": pipe_line}


@contextlib.contextmanager
def far_end(line: Line) -> Iterator[Asker]:
    """Start the process that asks, and end it when the block is left."""
    command = [sys.executable, "-I", "-S", "-c", _FAR_END, str(line.far_reads), str(line.far_writes)]
    process = subprocess.Popen(  # noqa: S603  this interpreter, and a program that stands below
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        pass_fds={line.far_reads, line.far_writes},
    )
    with process:  # leaving it closes the far end's stdin, which is the end of the far end, and waits
        yield Asker(process.stdin, process.stdout)


class Asker:
    """The far end as seen from here: it is told to ask for so many seconds, and says how it was answered."""

    def __init__(self, orders: Optional[IO[bytes]], reports: Optional[IO[bytes]]) -> None:
        assert orders is not None
        assert reports is not None
        self._orders = orders
        self._reports = reports
        self._received = b""

    def phase(self, seconds: float, lab: Lab) -> Tuple[Dict[str, Any], Dict[str, Any]]:
        """What came of one window back to back, and of one that is paced."""
        return self.window(seconds, 0.0, lab), self.window(seconds, _PAUSE_S, lab)

    def window(self, seconds: float, pause_s: float, lab: Lab) -> Dict[str, Any]:
        """Have it ask for so many seconds; return how many answers came, how many a second, and how late."""
        self._orders.write(f"{seconds} {pause_s}\n".encode())
        return self.listen(lab)

    def listen(self, lab: Lab) -> Dict[str, Any]:
        """Wait for its next report."""
        while b"\n" not in self._received:
            lab.checkpoint()
            if select.select([self._reports], [], [], 0.1)[0]:
                data = os.read(self._reports.fileno(), 4_096)
                if not data:
                    raise RuntimeError("The process at the far end is gone.")
                self._received += data
        line, _, self._received = self._received.partition(b"\n")
        report: Dict[str, Any] = json.loads(line)
        return report


# The program at the far end. An order is a line with the seconds of a window and the mean pause between its requests.
_FAR_END = f"""
import json, math, os, queue, random, signal, sys, threading, time

READS, WRITES = int(sys.argv[1]), int(sys.argv[2])
asked = 0

class Overdue(Exception):
    pass

def overdue(*_):
    raise Overdue

def take_orders():
    for line in iter(sys.stdin.readline, ""):
        orders.put([float(word) for word in line.split()])
    os._exit(0)  # nobody is left to ask for

def ask():
    global asked
    asked += 1
    request = b"%0{_MESSAGE_BYTES}d" % asked
    os.write(WRITES, request)
    while os.read(READS, {_MESSAGE_BYTES}) != request:
        pass  # a late answer to a request of an earlier window

def window(seconds, pause_s):
    latencies = []
    signal.setitimer(signal.ITIMER_REAL, seconds + {_PATIENCE_S})
    begun = ended = time.perf_counter()
    try:
        while ended - begun < seconds:
            if pause_s:
                time.sleep(random.uniform(0.5, 1.5) * pause_s)
            sent = time.perf_counter()
            ask()
            ended = time.perf_counter()
            latencies.append(ended - sent)
    except Overdue:
        ended = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return latencies, ended - begun

def report(latencies, elapsed):
    latencies.sort()
    told = {{"count": len(latencies), "per_s": len(latencies) / elapsed}}
    for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        told[name] = latencies[math.ceil(part * len(latencies)) - 1] if latencies else None
    print(json.dumps(told), flush=True)

signal.signal(signal.SIGALRM, overdue)
orders = queue.SimpleQueue()
threading.Thread(target=take_orders, daemon=True).start()
report(*window(0.002, 0.0))
while True:
    report(*window(*orders.get()))
"""


def _cure(params: Params) -> str:
    """What brings the echoes back."""
    if params.work == "sort":
        return "Compute in another process: a switch interval does nothing against a call that holds the GIL."
    if params.switch_interval_s == _LEAST_INTERVAL_S:
        return "Compute in another process."
    return "Compute in another process, or shorten switch_interval_s."


def _what_to_try(params: Params) -> str:
    """What makes a convoy likelier, of what has not been done yet."""
    interval_s = params.switch_interval_s
    ways = ["more threads", "a longer duration_s"]
    if params.work == "python" and interval_s is not None and interval_s < _OWN_INTERVAL_S:
        ways.insert(0, "the interpreter's own switch interval")
    return ", or ".join(ways)


def _why_none(params: Params) -> str:
    """Why this run can have no convoy; empty where it can."""
    gil = sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True  # noqa: SLF001  its documented name
    if not params.threads:
        return "no thread computed, so the two phases differ by the noise of the measurement only."
    if not gil:
        return "this interpreter runs without a GIL, so no thread waits for another's."
    if params.work == "hash":
        return "the computing threads release the GIL while they compute."
    return ""
