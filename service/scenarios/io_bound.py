"""I/O bound: the same downloads one after the other, in threads, in a pool, or in one event loop.

A thread that waits - for a server, for a clock - needs neither a core nor the GIL: every blocking call of the standard
library gives it up first. So threads wait at the same time, and eight of them are done in about an eighth of the time.
What they cannot share with a GIL is the Python code around the waiting. Where a server answers at once there is little
left to overlap; and where a file is in the page cache nothing waits, and each call only hands the GIL to another thread
and stands in line for it again. An event loop waits for as many answers in one thread.

Each run measures its own reference: the same tasks, one after the other and with blocking calls, in the same process
just before. It takes two seconds at most; what was not done by then is scaled up from the tasks that were, and
reference_tasks says how many. `wall_s` holds starting the threads or making the loop, but not importing a library.

Run it:
    Downloads, eight at a time:
        {"scenario": "io_bound"}
    The same, one thread for all of them:
        {"scenario": "io_bound", "model": "asyncio", "threads": 32}
    A server that answers at once - little to wait for:
        {"scenario": "io_bound", "delay_s": 0.0, "tasks": 400}
    Files in the page cache - threads make it slower:
        {"scenario": "io_bound", "work": "file", "tasks": 400}
    A hundred sleeps in a pool of a hundred threads:
        {"scenario": "io_bound", "work": "sleep", "model": "pool", "tasks": 100, "threads": 100, "delay_s": 0.1}

Observed:
    2 cores, Linux, Intel Xeon, no other measurement running beside. The speed-up: one run of each with
    a delay, the median of two runs with delay_s 0 and of three with files.

    parameters                        model    3.9.18  3.10.13  3.11.7  3.12.1  3.13.0  3.13.15t
    http (default)                    threads  7.6     7.6      7.6     7.7     7.6     7.7
                                      pool     7.6     7.6      7.6     7.5     7.6     7.6
                                      asyncio  7.6     7.5      7.6     7.6     7.6     7.4
    sleep                             all      7.9     7.9      7.9     7.9     7.9     7.8 to 7.9
    http, threads 32                  threads  24.6    25.5     26.0    24.8    26.1    23.9
                                      asyncio  25.1    25.8     26.0    26.4    26.7    24.9
    http, delay_s 0, tasks 400        threads  1.3     1.2      1.2     1.3     1.0     1.7
                                      pool     0.9     1.0      1.0     1.0     1.0     1.6
                                      asyncio  1.8     1.5      1.6     1.8     1.5     1.6
    file of 64 KiB, tasks 400         threads  0.5     0.6      0.5     0.5     0.5     1.1
                                      pool     0.4     0.4      0.4     0.5     0.4     0.8
                                      asyncio  0.8     0.8      0.9     0.9     0.9     0.8
    file of 4 MiB, tasks 40           threads  1.0     1.0      1.0     1.0     0.8     1.6
                                      asyncio  1.0     1.0      1.0     1.0     1.0     1.0

Note:
    Files are written and read back at once, so they come from the page cache: a task of 64 KiB takes 0.05 ms and waits
    for no disk. A cold or a far disk is another matter, which this does not measure.
    The standard library has no asynchronous files: with model `asyncio` a file holds up the whole loop.
    The reference downloads with `http.client`, which does more for a download than the few lines of the event loop do:
    part of asyncio's speed-up at delay_s 0 is that. The server, too, is a Python program, and serves some thousands of
    downloads a second.

Source:
    The tutorial, "Why use it?" and "Key Points". Library reference, glossary, "global interpreter lock" ("the GIL is
    always released when doing I/O"); `concurrent.futures.ThreadPoolExecutor`; `asyncio`, "Streams".
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import queue
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Dict, Iterator, List, Literal, NamedTuple, Tuple

if TYPE_CHECKING:
    from service.child.lab import Lab

LANE = "wait"

MEASURES = {
    "wall_s": "lower",
    "tasks_per_s": "higher",
    "speedup": "higher",
    "efficiency": "higher",
    "per_task_p50_s": "lower",
    "per_task_max_s": "lower",
}
GROWS = {
    "wall_s": ("tasks", "delay_s", "size_bytes"),
    "cpu_s": ("tasks", "delay_s", "size_bytes"),
    "tasks_per_s": ("delay_s", "size_bytes"),
    "per_task_p50_s": ("delay_s", "size_bytes"),
    "per_task_max_s": ("delay_s", "size_bytes"),
}

_REFERENCE_S = 2.0  # chosen: the default's 32 downloads fit in, and nobody waits long for a comparison
_NOTICEABLE = 1.2  # chosen: two runs of the same thing on a busy machine differ by less, mostly
READ_BYTES = 65_536  # 64 KiB
_FILES_BYTES = 268_435_456  # 256 MiB: where the temporary folder is in memory, so are the files


@dataclass(frozen=True)
class Params:
    threads: int = field(
        default=8,
        metadata={
            "ge": 1,
            "le": 256,  # each has a connection, and the job may have 1,024 descriptors
            "description": "How many tasks are under way at once: each in a thread, or with model `asyncio` all in "
            "one. Without meaning for `sequential`.",
        },
    )
    tasks: int = field(
        default=32, metadata={"ge": 1, "le": 10_000, "description": "How many downloads, files or sleeps there are."}
    )
    work: Literal["sleep", "file", "http"] = field(
        default="http",
        metadata={
            "description": "What a task is: to sleep; to write a file and read it back; to download from an HTTP "
            "server in another process of this machine. File and download are checked."
        },
    )
    model: Literal["sequential", "threads", "pool", "asyncio"] = field(
        default="threads",
        metadata={
            "description": "How the tasks are done: one after the other, by threads, by a ThreadPoolExecutor, or by "
            "one thread with an event loop."
        },
    )
    delay_s: float = field(
        default=0.05,
        metadata={"ge": 0.0, "le": 10.0, "description": "Seconds of a sleep, or until the server answers."},
    )
    size_bytes: int = field(
        default=65_536,  # 64 KiB: a web page
        metadata={"ge": 8, "le": 16_777_216, "description": "Length of a file or a download in bytes."},
    )
    reference: bool = field(
        default=True,
        metadata={"description": "Whether the tasks are first done one after the other, to compare with."},
    )

    def __post_init__(self) -> None:
        if self.work == "file" and at_once(self) * self.size_bytes > _FILES_BYTES:
            raise ValueError(
                f"{at_once(self)} files of {self.size_bytes} bytes at once are more than {_FILES_BYTES} bytes: take "
                "fewer threads or a smaller size_bytes."
            )


def outcomes(params: Params) -> Dict[str, Tuple[str, str]]:
    always = {
        "unavailable": ("acceptable", "This system gives the job no loopback socket, file or second process to use."),
        "incomplete": ("forbidden", "A download or a file had not the right bytes, or did not come at all."),
    }
    if params.model == "sequential":
        alone = "The tasks were done one after the other: this is what the other models are compared with."
        return {"no_speedup": ("acceptable", alone), **always}
    if not params.reference:
        done = "The tasks were done; without a reference there is nothing to compare their time with."
        return {"not_compared": ("acceptable", done), **always}
    alone = why_alone(params)
    if alone:
        return {
            "speedup": ("interesting", f"The tasks took less time than in the reference. {alone}"),
            "no_speedup": ("acceptable", f"The tasks took as long as in the reference. {alone}"),
            "slowdown": ("interesting", f"The tasks took longer than in the reference. {alone}"),
            **always,
        }
    overlap = "in one thread" if params.model == "asyncio" else "in threads"
    longer = "a larger size_bytes" if params.work == "file" else "a longer delay_s"  # more of a task is waiting then
    fewer = "" if params.model == "asyncio" else ", or fewer threads"
    return {
        "speedup": ("acceptable", f"The tasks overlapped {overlap}: together they took less time than one by one."),
        "no_speedup": (
            "interesting",
            f"The tasks took as long as one after the other: there was too little to wait for. Try {longer}.",
        ),
        "slowdown": (
            "interesting",
            "The tasks took longer than one after the other: there was little to wait for, and to hand the GIL or the "
            f"turn from task to task costs more than it gains. Try {longer}{fewer}.",
        ),
        **always,
    }


def why_alone(params: Params) -> str:
    """Why no two tasks can be under way at the same time; empty where they can."""
    if at_once(params) == 1:
        return (
            "One task at a time was under way, so that none could overlap, and a difference is noise or the price of "
            "the way to do one. Take two threads and tasks, or more."
        )
    if (params.model, params.work) == ("asyncio", "file"):
        return (
            "asyncio has no files of its own: each held up the whole loop, so that none could overlap, and a "
            "difference is noise or the price of the loop. Give a file to a thread (asyncio.to_thread), and the loop "
            "goes on meanwhile."
        )
    return ""


def run(params: Params, lab: Lab) -> Dict[str, Any]:
    with contextlib.ExitStack() as ends:
        try:
            task = ends.enter_context(WORK[params.work](params))
        except OSError as exc:
            lab.warn(f"No {params.work}: {exc}")
            return {"outcome": "unavailable", **dict.fromkeys(MEASURES)}
        reference = Log()
        if params.reference and params.model != "sequential":
            sequential(task, reference, params, lab, until_s=time.perf_counter() + _REFERENCE_S)
            lab.progress(1, 2)
        for module in LIBRARIES.get(params.model, ()):
            importlib.import_module(module)  # now: what an import takes is no part of the comparison
        log = Log()
        begun = time.perf_counter()
        MODELS[params.model](task, log, params, lab)
        log.wall_s = time.perf_counter() - begun
    lab.checkpoint()  # threads that saw a cancel left tasks undone
    lab.progress(2, 2)
    return told(params, log, log if params.model == "sequential" else reference)


def told(params: Params, log: Log, reference: Log) -> Dict[str, Any]:
    sequential_s = reference.wall_s / len(reference.times_s) * params.tasks if reference.times_s else None
    speedup = sequential_s / log.wall_s if sequential_s else None
    wrong = log.wrong if reference is log else reference.wrong + log.wrong
    times_s = sorted(log.times_s)
    print(f"{params.tasks} tasks took {log.wall_s:.3f} s", "" if speedup is None else f"- {speedup:.1f} times as fast")
    return {
        "outcome": "incomplete" if wrong else judge(speedup),
        "wall_s": log.wall_s,
        "sequential_s": sequential_s,
        "reference_tasks": len(reference.times_s),
        "speedup": speedup,
        "efficiency": None if speedup is None else speedup / at_once(params),
        "at_once": at_once(params),
        "threads_used": len(log.threads),
        "tasks_per_s": params.tasks / log.wall_s,
        "per_task_p50_s": times_s[math.ceil(0.5 * len(times_s)) - 1],
        "per_task_max_s": times_s[-1],
        "wrong": len(wrong),
        "first_wrong": wrong[0] if wrong else None,
    }


def judge(speedup: Any) -> str:
    if speedup is None:
        return "not_compared"
    if speedup >= _NOTICEABLE:
        return "speedup"
    return "slowdown" if speedup <= 1 / _NOTICEABLE else "no_speedup"


def at_once(params: Params) -> int:
    """How many tasks can be under way at the same time."""
    return 1 if params.model == "sequential" else min(params.threads, params.tasks)


class Task(NamedTuple):
    """What is done for a number, in two spellings; both raise where the bytes are not right."""

    blocking: Callable[[int], None]
    awaitable: Callable[[int], Awaitable[None]]


class Log:
    """What came of some tasks; any thread appends."""

    def __init__(self) -> None:
        self.times_s: List[float] = []
        self.threads: Dict[str, int] = {}
        self.wrong: List[str] = []
        self.wall_s = 0.0

    @contextlib.contextmanager
    def task(self, number: int) -> Iterator[None]:
        """Time one task; what it raises is kept, and the others go on."""
        self.threads[threading.current_thread().name] = 1
        begun = time.perf_counter()
        try:
            yield
        except Exception as exc:  # noqa: BLE001  whatever kept the bytes from coming is the answer
            self.wrong.append(f"task {number}: {type(exc).__name__}: {exc}")
        self.times_s.append(time.perf_counter() - begun)


# The models. Each does every task, and leaves off when the job is cancelled.


def sequential(task: Task, log: Log, params: Params, lab: Lab, until_s: float = math.inf) -> None:
    begun = time.perf_counter()
    for number in range(params.tasks):
        lab.checkpoint()
        with log.task(number):
            task.blocking(number)
        log.wall_s = time.perf_counter() - begun
        if begun + log.wall_s > until_s:
            return


def threads(task: Task, log: Log, params: Params, lab: Lab) -> None:
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(params.tasks):
        todo.put(number)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while not lab.cancelled:
                number = todo.get_nowait()
                with log.task(number):
                    task.blocking(number)

    workers = [lab.Thread(target=work, name=f"worker-{number}") for number in range(at_once(params))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def pool(task: Task, log: Log, params: Params, lab: Lab) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  as for http.client

    def work(number: int) -> None:
        lab.checkpoint()
        with log.task(number):
            task.blocking(number)

    with ThreadPoolExecutor(params.threads) as executor:
        list(executor.map(work, range(params.tasks)))


def event_loop(task: Task, log: Log, params: Params, lab: Lab) -> None:
    import asyncio  # noqa: PLC0415  as for http.client

    async def work(number: int, room: asyncio.Semaphore) -> None:
        async with room:
            lab.checkpoint()
            with log.task(number):
                await task.awaitable(number)

    async def main() -> None:
        room = asyncio.Semaphore(params.threads)
        await asyncio.gather(*(work(number, room) for number in range(params.tasks)))

    asyncio.run(main())


MODELS: Dict[str, Callable[[Task, Log, Params, Lab], None]] = {
    "sequential": sequential,
    "threads": threads,
    "pool": pool,
    "asyncio": event_loop,
}

LIBRARIES = {"pool": ("concurrent.futures.thread",), "asyncio": ("asyncio",)}


# The work. A file or a download is a pattern that all share and, in its last eight bytes, the number of its task.


class Content:
    """What the bytes of a task must be."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.pattern = (bytes(range(256)) * (size_bytes // 256 + 1))[: size_bytes - 8]
        self.checksum = zlib.crc32(self.pattern)

    def read_all(self, number: int, read: Callable[[int], bytes]) -> None:
        """Read to the end; raise where what came is not what belongs to the task."""
        length = checksum = 0
        for piece in iter(lambda: read(READ_BYTES), b""):
            length += len(piece)
            checksum = zlib.crc32(piece, checksum)
        self.check(number, length, checksum)

    def check(self, number: int, length: int, checksum: int) -> None:
        """Raise as `read_all` does."""
        expected = zlib.crc32(b"%08d" % number, self.checksum)
        if (length, checksum) != (self.size_bytes, expected):
            raise ValueError(
                f"{length} bytes with checksum {checksum:08x} came, not {self.size_bytes} with {expected:08x}."
            )


@contextlib.contextmanager
def sleeping(params: Params) -> Iterator[Task]:
    async def awaitable(_: int) -> None:
        import asyncio  # noqa: PLC0415  as for http.client

        await asyncio.sleep(params.delay_s)

    yield Task(lambda _: time.sleep(params.delay_s), awaitable)


@contextlib.contextmanager
def filing(params: Params) -> Iterator[Task]:
    content = Content(params.size_bytes)

    def blocking(number: int) -> None:
        name = str(number)
        with open(name, "wb", buffering=0) as file:  # noqa: PTH123  as a script would
            file.write(content.pattern)
            file.write(b"%08d" % number)
        with open(name, "rb", buffering=0) as file:  # noqa: PTH123  as above
            content.read_all(number, file.read)
        os.remove(name)  # noqa: PTH107  as above; and there is never more on the disk than is under way

    async def awaitable(number: int) -> None:
        blocking(number)  # asyncio has no files of its own: this holds up the whole loop

    blocking(0)  # can files be written here at all?
    yield Task(blocking, awaitable)


@contextlib.contextmanager
def downloading(params: Params) -> Iterator[Task]:
    import http.client  # noqa: PLC0415  imported at the top, it would make the fork of every job's child dearer

    content = Content(params.size_bytes)
    with server(params.size_bytes) as port:

        def blocking(number: int, delay_s: float = params.delay_s) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            with contextlib.closing(connection):
                connection.request("GET", f"/{number}?{delay_s}")
                content.read_all(number, connection.getresponse().read)

        async def awaitable(number: int) -> None:
            import asyncio  # noqa: PLC0415  as for http.client

            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /%d?%a HTTP/1.0\r\n\r\n" % (number, params.delay_s))
                await reader.readuntil(b"\r\n\r\n")
                length = checksum = 0
                while True:
                    piece = await reader.read(READ_BYTES)
                    if not piece:
                        break
                    length += len(piece)
                    checksum = zlib.crc32(piece, checksum)
            finally:
                writer.close()
                await writer.wait_closed()
            content.check(number, length, checksum)

        with Log().task(0):
            blocking(0, 0.0)  # the first one runs into cold caches on both sides; if it fails, so will the others
        yield Task(blocking, awaitable)


WORK = {"sleep": sleeping, "file": filing, "http": downloading}


@contextlib.contextmanager
def server(size_bytes: int) -> Iterator[int]:
    """Run the server in another process, so that it needs none of this one's GIL; give its port.

    Raises:
        OSError: it could not be started, or it has no socket.
    """
    process = subprocess.Popen(  # noqa: S603  this interpreter, and a program that stands below
        [sys.executable, "-I", "-S", "-c", _SERVER, str(size_bytes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:  # leaving it closes the server's stdin, which is the end of the server, and waits
        assert process.stdout is not None
        port = process.stdout.readline()
        if not port:
            raise OSError("The server did not start; its output says why.")
        yield int(port)


_SERVER = """
import asyncio, os, sys, threading

SIZE = int(sys.argv[1])
BLOCK = bytes(range(256)) * 256

async def serve(reader, writer):
    try:
        target = (await reader.readuntil(b"\\r\\n\\r\\n")).split()[1]
        number, _, delay_s = target[1:].partition(b"?")
        await asyncio.sleep(float(delay_s))
        writer.write(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % SIZE)
        for start in range(0, SIZE - 8, len(BLOCK)):
            writer.write(BLOCK[: SIZE - 8 - start])
            await writer.drain()
        writer.write(b"%08d" % int(number))
        await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # the client is gone
    finally:
        writer.close()

def end_with_parent():
    sys.stdin.read()
    os._exit(0)

async def main():
    listening = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()

threading.Thread(target=end_with_parent, daemon=True).start()
asyncio.run(main())
"""
