"""CPU-bound: a fixed amount of computing, done by threads, a pool, processes or subinterpreters.

Under the GIL one thread at a time runs Python. Threads that wait lose nothing by that; threads that compute only take
turns, and four of them are as fast as one. A process has an interpreter and a GIL of its own, and so has a
subinterpreter, so these compute at the same time, on as many cores as there are. They cost more to start, and what they
work on must be copied to them. C code may let go of the GIL while it works on data that nobody else touches: `hashlib`
and `zlib` do, and with them threads are as good as processes. `re` does not. A build without a GIL needs none of this.

The work is cut into the same tasks whoever does it. `sequential_s` is the same work done by the main thread alone just
before, `work_s` is from the first submit to the last result with all workers ready, `wall_s` adds their start and end,
as a script would see it. `efficiency` is the speed-up divided by the number of workers.

Run it:
    The tutorial's key point - threads do not make it faster:
        {"scenario": "cpu_bound"}
    Processes do:
        {"scenario": "cpu_bound", "model": "processes"}
    Threads do, where C code lets go of the GIL:
        {"scenario": "cpu_bound", "work": "hash"}
    A GIL for each thread (CPython 3.13 and later):
        {"scenario": "cpu_bound", "model": "interpreters", "python": "3.13"}
    Too little work for what the workers cost:
        {"scenario": "cpu_bound", "model": "processes", "size": 1, "payload_bytes": 1000000}

Observed:
    2 cores, Linux, Intel Xeon, nothing else computing; size 25, median of 3 runs. The speed-up with 2 and with 4
    workers.

    work, model             3.9.18     3.11.7     3.13.0     3.13.15 free-threaded
    python, threads         0.96 0.97  1.01 1.00  0.99 1.01  1.86 1.83
    python, pool            0.97 0.98  0.96 0.98  0.99 1.00  1.86 1.96
    python, processes       1.86 1.92  1.81 1.87  1.79 1.78  1.92 1.70
    python, interpreters                          1.89 1.91  1.78 1.77
    regex, threads          1.06 1.06  1.05 1.02  1.03 1.02  1.29 1.77
    regex, pool             1.04 1.03  1.07 1.01  0.98 1.02  1.75 1.73
    regex, processes        1.96 1.98  2.19 2.07  1.87 1.80  1.76 1.76
    regex, interpreters                           1.92 1.97  1.78 1.75
    hash, threads           1.95 1.85  1.94 1.95  1.93 1.84  1.83 1.97
    hash, pool              1.82 1.92  1.84 1.85  1.87 1.81  1.86 1.83
    hash, processes         1.87 1.85  1.62 1.84  1.87 1.83  1.63 1.76
    hash, interpreters                            1.91 1.88  1.88 1.71
    compress, threads       1.80 1.73  1.80 1.68  1.76 1.74  1.70 1.61
    compress, pool          1.85 1.74  1.78 1.73  1.52 1.75  1.62 1.64
    compress, processes     1.58 1.79  1.98 1.83  1.87 1.88  1.87 1.76
    compress, interpreters                        1.93 1.91  1.72 1.60

    startup_s of 4 threads  0.002      0.002      0.002      0.002
    of 4 processes          0.010      0.009      0.011      0.011
    of 4 subinterpreters                          0.037      0.073

    transfer_s of 8 tasks of 10 MB to 4 workers on 3.13.0, 3 runs: threads 0.0001, processes 0.13 to 0.15,
    subinterpreters 0.015 to 0.019.

Note:
    Single runs differ by a tenth, and beside other programs anything was seen, on 3.13.0 even a speed-up of 2.2 of
    threads under the GIL: the reference had met another program. A speed-up above 2 on 2 cores is noise, too.
    Subinterpreters were measured on 3.13 through the private module `_interpreters`. On 3.14 the public
    `concurrent.interpreters` is used, which nobody has measured here. On 3.12 and before they are `unavailable`.
    On free-threaded 3.13, threads that share code made by `compile` or `exec` hold each other up at its constants:
    `python` with 2 threads was 0.55 times as fast as alone, and 1.86 with code that came through `marshal`, as that of
    an imported module does, and as every scenario's does here. In a plain script it was 1.97.

Source:
    The tutorial, "Key Points". Library reference: `hashlib` (the GIL is released from 2,048 bytes on) and
    `concurrent.futures`. PEP 684 (a GIL for each interpreter), PEP 734 (`concurrent.interpreters`), PEP 703 (no GIL).
    Python HOWTO, "Python support for free threading" (constants are immortal there).
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import marshal
import os
import re
import statistics
import struct
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    Literal,
    Optional,
    Sequence,
    Tuple,
)

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "cpu"

MEASURES = {
    "wall_s": "lower",
    "work_s": "lower",
    "speedup": "higher",
    "speedup_with_startup": "higher",
    "efficiency": "higher",
    "startup_s": "lower",
    "transfer_s": "lower",
    "task_s": "lower",
}
GROWS = {
    "wall_s": ("tasks", "size"),
    "cpu_s": ("tasks", "size"),
    "work_s": ("tasks", "size"),
    "startup_s": ("threads",),
    "transfer_s": ("tasks", "payload_bytes"),
    "task_s": ("size",),
}

FASTER = 1.3  # chosen: more than the noise of a busy machine, less than a second core gives
_STEPS = 3  # of progress: the main thread alone, workers that are ready, their work


@dataclass(frozen=True)
class Params:
    threads: int = field(
        default=4,
        metadata={"ge": 1, "le": 64, "description": "How many workers share the tasks; `sequential` has one."},
    )
    model: Literal["sequential", "threads", "pool", "processes", "interpreters"] = field(
        default="threads",
        metadata={
            "description": "Who works: the main thread alone, threads, a ThreadPoolExecutor, a ProcessPoolExecutor "
            "(start method fork), or threads with a subinterpreter each (CPython 3.13 and later)."
        },
    )
    work: Literal["python", "regex", "hash", "compress"] = field(
        default="python",
        metadata={
            "description": "What a task does. `python` (a loop) and `regex` keep the GIL; `hash` (SHA-256) and "
            "`compress` (zlib) let go of it while they work on a block."
        },
    )
    tasks: int = field(
        default=8,  # chosen: 2 and 4 workers get equal shares, and a pool still has something to hand out
        metadata={"ge": 1, "le": 1_000, "description": "Into how many equal tasks the work is cut."},
    )
    size: int = field(
        default=100,  # chosen: with 8 tasks about 0.8 s of work, beside which 10 ms of start-up are small
        metadata={
            "ge": 1,
            "le": 100_000,
            "description": "How much work a task is, in units of about a millisecond. The work in all is tasks times "
            "size, whatever the model and however many workers there are.",
        },
    )
    payload_bytes: int = field(
        default=1_000,
        metadata={
            "ge": 0,
            "le": 10_000_000,
            "description": "Bytes that each task takes along to its worker. Threads share them; processes and "
            "subinterpreters get copies.",
        },
    )
    reference: bool = field(
        default=True,
        metadata={
            "description": "Whether the same work is first done by the main thread alone, as what the speed-up is "
            "measured against. Without it nothing is compared, and the results are not checked."
        },
    )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    why = reason(params)
    unavailable = {"unavailable": ("acceptable", UNAVAILABLE)}
    if not params.reference:
        not_compared = f"There was no reference: nothing was compared, and the results were not checked. {why}"
        return {"not_compared": ("acceptable", not_compared), **unavailable}
    expected, unexpected = ("acceptable", why), ("interesting", f"{why} {AGAIN}")
    grade_of_gain, why_gain = expected if computes_at_once(params) else unexpected
    grade_of_none, why_none = unexpected if computes_at_once(params) else expected
    return {
        "speedup": (grade_of_gain, f"At least {FASTER} times as fast as the main thread alone. {why_gain}"),
        "no_speedup": (grade_of_none, f"About as fast as the main thread alone. {why_none}"),
        "slowdown": ("interesting", f"At least {FASTER} times slower than the main thread alone. {why} {AGAIN}"),
        "wrong_result": ("forbidden", "The workers came to other results than the main thread alone."),
        **unavailable,
    }


AGAIN = (
    "That is not the whole story here: look at cpus_usable, transfer_s, and whether a task is long enough to measure "
    "(a larger size), and run it again, because other programs on the machine slow down whichever side they meet."
)

UNAVAILABLE = (
    "This interpreter or system cannot run the model; `reason` tells what was missing. Subinterpreters need CPython "
    "3.14, or 3.13 with its private module; processes need fork and semaphores."
)


def computes_at_once(params: Params) -> bool:
    """Whether more than one worker can compute at the same moment, if there are cores for them."""
    if why_alone(params):
        return False
    return params.model in {"processes", "interpreters"} or not gil_enabled() or params.work in {"hash", "compress"}


def reason(params: Params) -> str:
    """Why this model does that with this work on this interpreter."""
    if why_alone(params):
        return why_alone(params)
    if params.model == "processes":
        return "Each process has an interpreter and a GIL of its own, so as many compute at once as there are cores."
    if params.model == "interpreters":
        return "Each subinterpreter has a GIL of its own, so its thread computes beside those of the others."
    if not gil_enabled():
        return "This build runs without a GIL, so threads compute at the same time, on as many cores as there are."
    if params.work in {"hash", "compress"}:
        return f"The C code of {params.work} lets go of the GIL while it works on a block, and another thread has it."
    return (
        f"Threads take turns: {params.work} keeps the GIL all the while it computes, and only one of them has it. Try "
        "model processes, work hash, or a free-threaded build."
    )


def why_alone(params: Params) -> str:
    """Why one worker does all the work; empty where there is work for more."""
    if params.model == "sequential" or params.threads == 1:
        return "One worker has one task after the other, so a difference is noise, or the price of the detour."
    if params.tasks == 1:
        return (
            "One worker has the only task, and the others have none, so a difference is noise, or the price of the "
            "detour. Take as many tasks as threads, or more."
        )
    return ""


def gil_enabled() -> bool:
    return sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True  # noqa: SLF001  its documented name


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    payload = bytes(params.payload_bytes)
    tasks = [Task(number, params.work, params.size, payload) for number in range(params.tasks)]
    do(replace(tasks[0], size=1))  # what a first call costs more than others belongs to neither side
    alone, sequential_s = timed(do_all, tasks, lab) if params.reference else ([], 0.0)
    lab.progress(1, _STEPS)
    done: List[Done] = []
    times: Dict[str, Any] = dict.fromkeys(["wall_s", "startup_s", "work_s", "transfer_s", "shutdown_s", "task_s"])
    missing = None
    try:
        done = measure(params, tasks, lab, times)
    except Unavailable as exc:
        lab.checkpoint()
        missing = str(exc)
    compared = params.reference and missing is None
    speedup = sequential_s / times["work_s"] if compared else None
    workers = 1 if params.model == "sequential" else params.threads
    return {
        "outcome": "unavailable" if missing else judge(results(alone) == results(done), speedup),
        "reason": missing,
        "workers": workers,
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gil": gil_enabled(),
        **times,
        "single_task_s": median_s(alone) if params.reference else None,  # what task_s is without anybody beside it
        "sequential_s": sequential_s if params.reference else None,
        "speedup": speedup,
        "speedup_with_startup": sequential_s / times["wall_s"] if compared else None,
        "efficiency": speedup and speedup / workers,  # 1 where every worker adds as much as the first
    }


@dataclass(frozen=True)
class Task:
    number: int
    work: str
    size: int
    payload: bytes


Done = Tuple[int, float]  # a task's result, and the seconds that it took on its worker
Ask = Callable[[Sequence[Task]], List[Done]]  # has the workers do all tasks; the answers are in the tasks' order
Team = ContextManager[Ask]  # entered when every worker has answered a first request, left when all have ended


class Unavailable(Exception):
    """The interpreter or the system cannot do that."""


def measure(params: Params, tasks: Sequence[Task], lab: Lab, times: Dict[str, Any]) -> List[Done]:
    team = TEAMS[params.model](params.threads, lab)
    begun = time.perf_counter()
    with team as ask:
        times["startup_s"] = time.perf_counter() - begun
        errands = [replace(task, work="nothing") for task in tasks]
        times["transfer_s"] = statistics.median(timed(ask, errands)[1] for _ in range(3))
        lab.progress(2, _STEPS)
        done, times["work_s"] = timed(ask, tasks)
        begun = time.perf_counter()
    times["shutdown_s"] = time.perf_counter() - begun
    times["wall_s"] = times["startup_s"] + times["work_s"] + times["shutdown_s"]  # what a script has: no errands
    times["task_s"] = median_s(done)
    lab.progress(3, _STEPS)
    return done


def timed(function: Callable[..., List[Done]], *args: Any) -> Tuple[List[Done], float]:
    begun = time.perf_counter()
    done = function(*args)
    return done, time.perf_counter() - begun


def do_all(tasks: Sequence[Task], lab: Lab) -> List[Done]:
    done = []
    for task in tasks:
        lab.checkpoint()
        done.append(do(task))
    return done


def do(task: Task) -> Done:
    begun = time.perf_counter()
    result = WORKS[task.work](task.number, task.size)
    return result, time.perf_counter() - begun


def results(done: Sequence[Done]) -> List[int]:
    return [result for result, _ in done]


def median_s(done: Sequence[Done]) -> float:
    return statistics.median(task_s for _, task_s in done)


def judge(same_results: bool, speedup: Optional[float]) -> str:
    if speedup is None:
        return "not_compared"
    if not same_results:
        return "wrong_result"
    if speedup >= FASTER:
        return "speedup"
    return "slowdown" if speedup <= 1 / FASTER else "no_speedup"


# The works. Each takes about a millisecond per unit of `size` where this was written, and needs nothing but the modules
# that a subinterpreter is given below.


def python(number: int, size: int) -> int:
    total = number
    for value in range(size * 13_000):
        total = (total + value * value) % 1_000_003
    return total


def regex(number: int, size: int) -> int:
    text = f"name{number}@example.com, " * 1_000
    return sum(len(re.findall(r"(\w+)@(\w+)\.com", text)) + number for _ in range(size * 4))


def hash_(number: int, size: int) -> int:
    block = bytes([number % 256]) * 2_097_152  # 2 MiB: hashlib lets go of the GIL from 2,048 bytes on
    digest = hashlib.sha256()
    for _ in range(size):
        digest.update(block)
    return int.from_bytes(digest.digest()[:7], "big")


def compress(number: int, size: int) -> int:
    text = b"".join(b"%d bottles of %d\n" % (line * 7_919 % 10_007, number) for line in range(8_000))
    return sum(zlib.crc32(zlib.compress(text)) for _ in range(size))


def nothing(number: int, size: int) -> int:  # noqa: ARG001  called as the works are
    return number


WORKS: Dict[str, Callable[[int, int], int]] = {
    "python": python,
    "regex": regex,
    "hash": hash_,
    "compress": compress,
    "nothing": nothing,
}

# The teams.


def sequential(_: int, lab: Lab) -> Team:
    return here(lab)


def threads(count: int, lab: Lab) -> Team:
    return shares(count, lab, here)


def interpreters(count: int, lab: Lab) -> Team:
    return shares(count, lab, in_interpreter)


@contextmanager
def here(lab: Lab) -> Iterator[Ask]:
    yield lambda tasks: do_all(tasks, lab)


@contextmanager
def shares(count: int, lab: Lab, desk: Callable[[Lab], Team]) -> Iterator[Ask]:
    """Threads that each get an equal share of the tasks, and do it at a desk of their own."""
    answers: SimpleQueue[Any] = SimpleQueue()
    inboxes: List[SimpleQueue[Any]] = [SimpleQueue() for _ in range(count)]
    workers = [
        lab.Thread(target=serve, args=(number, desk(lab), inboxes[number], answers), name=f"Worker-{number}")
        for number in range(count)
    ]

    def ask(tasks: Sequence[Task]) -> List[Done]:
        done: List[Any] = [None] * len(tasks)
        for number, inbox in enumerate(inboxes):
            inbox.put(tasks[number::count])
        for _ in inboxes:
            number, share = answers.get()
            if isinstance(share, BaseException):
                raise share
            done[number::count] = share
        return done

    try:
        for worker in workers:
            worker.start()
        ask([Task(0, "nothing", 0, b"")] * count)
        yield ask
    finally:
        for inbox in inboxes:
            inbox.put(None)
        for worker in workers:
            worker.join()


def serve(number: int, desk: Team, inbox: SimpleQueue[Any], answers: SimpleQueue[Any]) -> None:
    try:
        with desk as ask:
            for share in iter(inbox.get, None):
                answers.put((number, ask(share)))
    except BaseException as exc:  # noqa: BLE001  the main thread raises it again
        answers.put((number, exc))


def pool(count: int, lab: Lab) -> Team:
    return executor(count, lab, ThreadPoolExecutor, threading.Barrier)


def processes(count: int, lab: Lab) -> Team:
    try:
        import multiprocessing  # noqa: PLC0415  not on every system; and dear to every fork, if all jobs had it
        import multiprocessing.synchronize  # noqa: PLC0415  fails where there are no semaphores
        from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415  as above

        context = multiprocessing.get_context("fork")
    except (ImportError, ValueError) as exc:
        raise Unavailable(f"{type(exc).__name__}: {exc}") from exc
    make_pool = functools.partial(ProcessPoolExecutor, mp_context=context)
    return executor(count, lab, make_pool, context.Barrier)


@contextmanager
def executor(count: int, lab: Lab, make_pool: Callable[..., Any], make_barrier: Callable[[int], Any]) -> Iterator[Ask]:
    """A pool of `concurrent.futures`."""
    global everyone  # noqa: PLW0603  a process gets it by the fork: no queue can carry it there
    everyone = make_barrier(count)
    workers = make_pool(count)

    def ask(tasks: Sequence[Task]) -> List[Done]:
        done = []
        for future in [workers.submit(do, task) for task in tasks]:
            done.append(future.result())
            lab.checkpoint()
        return done

    try:
        for future in [workers.submit(meet) for _ in range(count)]:
            future.result()
        yield ask
    except BaseException:
        everyone.abort()  # if one could not be started, the others would wait for it
        raise
    finally:
        workers.shutdown(cancel_futures=True)


everyone: Any  # a barrier, made by `executor`


def meet() -> None:
    """Wait for all workers to be here: one that answered at once could answer for another that has not begun."""
    everyone.wait()


PREPARE = """
import hashlib, marshal, os, re, struct, time, zlib
works = {name: type(lambda: None)(code, globals()) for name, code in marshal.loads(codes).items()}
"""

WORK = """
begun = time.perf_counter()
result = works[work](number, size)
os.write(answers, struct.pack("qd", result, time.perf_counter() - begun))
"""


@contextmanager
def in_interpreter(lab: Lab) -> Iterator[Ask]:
    """A subinterpreter for the thread that enters this: functions travel as code objects, answers through a pipe."""
    interpreter = None
    reading, writing = os.pipe()
    try:
        interpreter = new_interpreter()
        codes = marshal.dumps({name: work.__code__ for name, work in WORKS.items()})
        interpreter.prepare_main(codes=codes, answers=writing)
        interpreter.exec(PREPARE)

        def ask(tasks: Sequence[Task]) -> List[Done]:
            done = []
            for task in tasks:
                lab.checkpoint()
                interpreter.prepare_main(**vars(task))
                interpreter.exec(WORK)
                done.append(struct.unpack("qd", os.read(reading, 16)))
            return done

        yield ask
    except Exception as exc:  # these modules are young, and their next version may be another
        lab.checkpoint()
        raise Unavailable(f"{type(exc).__name__}: {exc}") from exc
    finally:
        end(interpreter, lab)
        os.close(reading)
        os.close(writing)


def end(interpreter: Any, lab: Lab) -> None:
    try:
        if interpreter is not None:
            interpreter.close()
    except Exception as exc:  # noqa: BLE001  what was measured stands; the process ends soon, and the interpreter with it
        lab.warn(f"A subinterpreter could not be ended: {type(exc).__name__}: {exc}")


def new_interpreter() -> Any:
    try:
        return importlib.import_module("concurrent.interpreters").create()
    except ModuleNotFoundError:
        return PrivateInterpreter()


class PrivateInterpreter:
    """The methods of `concurrent.interpreters.Interpreter` over the module of CPython 3.13 that it grew from."""

    def __init__(self) -> None:
        self._module: Any = importlib.import_module("_interpreters")
        self._id = self._module.create()

    def prepare_main(self, **values: Any) -> None:
        """Set global variables."""
        self._module.set___main___attrs(self._id, values)

    def exec(self, code: str) -> None:
        """Run source text."""
        failed = self._module.exec(self._id, code)
        if failed is not None:
            raise RuntimeError(failed.formatted)

    def close(self) -> None:
        """End the subinterpreter."""
        self._module.destroy(self._id)


TEAMS: Dict[str, Callable[[int, Lab], Team]] = {
    "sequential": sequential,
    "threads": threads,
    "pool": pool,
    "processes": processes,
    "interpreters": interpreters,
}
