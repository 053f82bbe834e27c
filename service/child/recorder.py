"""What the threads of one job did and printed, kept so that keeping it costs the threads next to nothing.

Who uses it: `lab` hands it to scenario threads, `loop` ships what it holds. It runs in the child.

A scenario's thread only stamps and appends to a list of its own: no lock, no write, no formatting (0.3 us here; a
write to the link would take 2 to 3 us and give up the GIL). Whoever drains (the shipper's raw thread, or the main
thread at the end) cuts the lists and does the formatting, under a lock that no scenario thread ever takes.

What every thread leaves, its start and its end, is packed into bytes. Objects that are kept while threads compute move
theirs: with a dict for each start and end, four threads that count took 1.4 % longer than untraced ones (standard error
0.15, 618 pairs of 0.2 s, each with a heap laid out at random), with bytes 0.9 % (0.11, 1,207 pairs; CPython 3.11.7).
"""

from __future__ import annotations

import _thread
import codecs
import io
import os
import resource
import struct
import threading
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from service.child import calls, wire

__all__ = ["MAX_NOTE", "Recorder", "Stream", "ThreadLog"]

_MAX_LINE = 16_384  # characters: a longer line without an end is cut here, so that nothing grows without bound
_LONGEST = 1_000_000  # characters: a line that has an end is cut here, for the frame that it has to fit into
_READ_BYTES = 65_536  # one read of what C code printed
_NUMBER, _KIND = 2, 3  # where an event has its thread's number and its kind
_OF_THREADS = ("start", "end")  # the kinds that every thread has, and that are always kept
_NATIVE = 1  # in a child, the file that collects what is written to 1 and 2
_MAX_READS = 64  # reads in one drain (4 MiB): the shipper has other things to do, too
_MAX_LAST_READS = 2_048  # in the last one (128 MiB): more than a file may have, but a scenario may put a device there
MAX_NOTE = 500  # characters, chosen: a sentence, not a document
_PORTION = 500_000  # characters in a frame, about: as JSON they are six times as many bytes at most
_ROW = 200  # characters of a row besides its text, about

_RUSAGE_THREAD: Optional[int] = getattr(resource, "RUSAGE_THREAD", None)  # Linux only
_UNKNOWN = -1  # a packed number that the system cannot tell
_START = struct.Struct("=qQqq?3q")  # when, ident, native id, active threads, daemon, what `_usage` tells
_END = struct.Struct("=qQq?3q")  # when, ident, ns without a core, whether locks are traced, what `_usage` tells
_SCHEDSTAT = b"/proc/thread-self/schedstat"  # Linux: ns on a core, ns runnable without one, times on a core


class ThreadLog:
    """One thread's own list of stamped facts. Only its thread appends; only the drain cuts."""

    __slots__ = (
        "dropped",
        "end",
        "facts",
        "left_out",
        "line",
        "line_ns",
        "lock_acquires",
        "lock_wait_ns",
        "lock_waits",
        "main",
        "name",
        "number",
        "stamped",
        "start",
        "written",
    )

    def __init__(self, name: Optional[str], main: bool = False) -> None:
        self.name = None if name is None else name[: wire.MAX_NAME]
        self.main = main
        self.number: Optional[int] = None  # unique in its job, 0 for the main thread; guarded by Recorder._draining
        self.written = 0  # characters that the thread handed over
        self.stamped = 0  # facts that it handed over, but for starts and ends of threads
        self.dropped = 0  # line ends that it threw away
        self.left_out = 0  # other facts that it threw away
        self.lock_acquires = 0  # of traced locks, as the next two
        self.lock_waits = 0
        self.lock_wait_ns = 0
        self.start: Optional[bytes] = None  # packed; None also once it is drained, as the next one
        self.end: Optional[bytes] = None
        self.facts: List[Tuple[int, str, Any]] = []  # what else happened
        self.line = ""  # guarded by Recorder._draining
        self.line_ns = 0  # guarded by Recorder._draining


class Recorder:
    """All the logs of one job, and the moment from which they count.

    Args:
        max_output_bytes: how much printed text is kept; of the rest only the lines are counted. A line counts as
            `wire.LEAST_LINE` at least.
        max_events: how many events are kept besides the starts and ends of threads; the rest is only counted.
        trace: `threads` to stamp their starts and ends, `locks` to stamp what they do with locks as well, or `off`.
    """

    def __init__(self, max_output_bytes: int, max_events: int = 0, trace: str = "threads") -> None:
        self.trace = trace
        self._max_output = max_output_bytes
        self._max_events = max_events
        self._room = max_output_bytes  # guarded by _draining
        self._event_room = max_events  # guarded by _draining
        self._no_more = False  # events: set once, by anybody, as `_full` for lines
        self._left_out = 0  # events that a drain threw away; guarded by _draining
        self._numbers = 0  # threads that have one; guarded by _draining
        self._full = False  # set once, by anybody: what comes later is only counted, so that nothing kept has holes
        self._dropped = 0  # guarded by _draining
        self._logs: List[ThreadLog] = []
        self._own = threading.local()  # `log`: idents are used again, so a thread's log hangs on the thread itself
        self._draining = _thread.allocate_lock()
        self._native_log = ThreadLog(None)
        self._native_read = 0  # bytes, guarded by _draining
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.zero_ns = time.perf_counter_ns()

    def begin(self) -> None:
        """Make now the moment from which every stamp counts."""
        self.zero_ns = time.perf_counter_ns()

    def now_ns(self) -> int:
        """Nanoseconds since `begin`."""
        return time.perf_counter_ns() - self.zero_ns

    # -- on a scenario's thread

    def open(self, thread: threading.Thread) -> ThreadLog:
        """Begin the calling thread's log and stamp its start.

        The count taken here makes the peak exact: `active_count()` grows only when a thread begins.
        """
        log = self._own.log = ThreadLog(thread.name)
        about = _thread.get_ident(), threading.get_native_id(), threading.active_count(), thread.daemon
        log.start = _START.pack(time.perf_counter_ns(), *about, *_usage())
        self._logs.append(log)
        return log

    def close(self, log: ThreadLog) -> None:
        """Stamp the end of the calling thread."""
        about = _thread.get_ident(), _core_wait_ns(), self.trace == "locks"
        log.end = _END.pack(time.perf_counter_ns(), *about, *_usage())

    def log(self) -> ThreadLog:
        """Return the calling thread's log; a thread that did not come from the lab gets one now."""
        try:
            log: ThreadLog = self._own.log
        except AttributeError:
            log = self._adopt()
        return log

    def stamp(self, log: ThreadLog, kind: str, fact: Any, at_ns: Optional[int] = None) -> None:
        """Keep an event of the calling thread, whose log this is.

        Args:
            at_ns: when it happened, by `perf_counter_ns`; None is now.
        """
        if self._no_more or log.stamped >= self._max_events:  # what one thread told alone leaves no room for more
            self._no_more = True
            log.left_out += 1
        else:
            log.stamped += 1
            log.facts.append((time.perf_counter_ns() if at_ns is None else at_ns, kind, fact))

    def note(self, text: str) -> None:
        """Keep a remark of the calling thread."""
        self.stamp(self.log(), "note", str(text)[:MAX_NOTE])

    def write(self, text: str) -> None:
        """Keep what the calling thread prints."""
        log = self.log()
        if self._full or log.written > self._max_output:  # as above
            self._full = True
            log.dropped += text.count("\n")
        elif text:
            log.written += len(text)
            log.facts.append((time.perf_counter_ns(), "write", text))

    def _adopt(self) -> ThreadLog:
        """A log for a thread that did not come from the lab: the main thread, or one of a library's."""
        ident = _thread.get_ident()
        known = {thread.ident: thread.name for thread in threading.enumerate()}
        log = self._own.log = ThreadLog(known.get(ident, wire.NAMELESS), main=ident == threading.main_thread().ident)
        self._logs.append(log)
        return log

    # -- on whoever ships

    @property
    def dropped(self) -> int:
        """How many lines were not kept."""
        return self._dropped + sum(log.dropped for log in list(self._logs))

    @property
    def left_out(self) -> int:
        """How many events were not kept."""
        return self._left_out + sum(log.left_out for log in list(self._logs))

    @property
    def lock_acquires(self) -> int:
        """How often traced locks were acquired, over all threads."""
        return sum(log.lock_acquires for log in list(self._logs))

    def has_more_than_threads(self) -> bool:
        """Whether more has come since the last drain than starts and ends of threads, which may wait a little."""
        return any(log.facts for log in list(self._logs)) or self._has_native()

    def _has_native(self) -> bool:
        try:
            return os.fstat(_NATIVE).st_size > self._native_read
        except OSError:  # the scenario closed it
            return False

    def drain(self, last: bool = False) -> List[wire.Frame]:
        """Cut what has come since the last drain and return it as frames, oldest first.

        Args:
            last: also give up lines that have no end yet.
        """
        with self._draining:
            events: List[Tuple[Any, ...]] = []
            lines: List[Tuple[Any, ...]] = []
            for log in list(self._logs):
                if log.number is None:
                    self._number(log)
                self._cut(log, events, lines)
            events = self._keep(sorted(events, key=_at)) if events else events
            self._read_native(lines, last)
            if last:
                for log in [*self._logs, self._native_log]:
                    if log.dropped:  # the thread has thrown away the end of this line, and counted it
                        log.line = ""
                    self._end_line(log, lines)
        frames: List[wire.Frame] = [{"type": "events", "events": portion} for portion in _portions(events)]
        return frames + [{"type": "output", "lines": portion} for portion in _portions(sorted(lines, key=_at))]

    def _number(self, log: ThreadLog) -> None:
        """Give a thread its number: here, because on the thread itself it would take a lock."""
        if not log.main:
            self._numbers += 1
        log.number = 0 if log.main else self._numbers

    def _keep(self, events: List[Tuple[Any, ...]]) -> List[Tuple[Any, ...]]:
        """Return the events without those for which there is no room: the latest of this drain, and of late threads."""
        kept = []
        for event in events:
            if event[_NUMBER] > wire.MOST_ROWS:
                self._left_out += 1
                continue
            if event[_KIND] not in _OF_THREADS:
                if self._event_room <= 0:
                    self._no_more = True
                    self._left_out += 1
                    continue
                self._event_room -= 1
            kept.append(event)
        return kept

    def _cut(self, log: ThreadLog, events: List[Any], lines: List[Any]) -> None:
        start, end = log.start, log.end  # before the facts: what came before an end is there when the end is
        count = len(log.facts)
        cut = log.facts[:count]
        del log.facts[:count]
        if start is not None:
            log.start = None
            cut.append(_unpacked_start(start))
        if end is not None:
            log.end = None
            cut.append(_unpacked_end(end, log))
        for stamp, kind, fact in cut:
            if kind == "write":
                self._take_text(log, stamp - self.zero_ns, fact, lines)
            else:
                events.append((stamp - self.zero_ns, log.name, log.number, kind, fact))

    def _take_text(self, log: ThreadLog, at_ns: int, text: str, lines: List[Any]) -> None:
        if not log.line:
            log.line_ns = at_ns
        *whole, rest = (log.line + text).split("\n")
        for line in whole:
            for begun in range(0, len(line) or 1, _LONGEST):
                self._keep_line(log, line[begun : begun + _LONGEST], lines)
            log.line_ns = at_ns
        log.line = rest
        if len(rest) > _MAX_LINE:
            self._end_line(log, lines)

    def _end_line(self, log: ThreadLog, lines: List[Any]) -> None:
        if log.line:
            self._keep_line(log, log.line, lines)
            log.line = ""

    def _keep_line(self, log: ThreadLog, line: str, lines: List[Any]) -> None:
        size = max(len(line.encode("utf-8", "replace")) + 1, wire.LEAST_LINE)  # the line end is output too
        if size > self._room:
            self._room = 0
            self._full = True
            self._dropped += 1
            return
        self._room -= size
        lines.append((log.line_ns, log.name, log.number, line))

    def _read_native(self, lines: List[Any], last: bool) -> None:
        """Take in what was written to the standard descriptors, past Python's own streams."""
        for _ in range(_MAX_LAST_READS if last else _MAX_READS):
            try:
                data = os.pread(_NATIVE, _READ_BYTES, self._native_read)
            except OSError:  # the scenario closed it, or put something else there
                return
            if not data:
                return
            self._native_read += len(data)
            if self._full:  # there may be millions of lines
                self._dropped += data.count(b"\n")
                self._native_log.line = ""
                continue
            self._take_text(self._native_log, self.now_ns(), self._decoder.decode(data), lines)


class Stream(io.TextIOBase):
    """Stands for `sys.stdout` and `sys.stderr`: what is written becomes output of the thread that wrote it."""

    encoding = "utf-8"

    def __init__(self, recorder: Recorder, descriptor: int) -> None:
        self._recorder = recorder
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        """Keep the text; never blocks and never fails."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._recorder.write(text)
        return len(text)

    def writable(self) -> bool:
        """Always true."""
        return True

    @property
    def buffer(self) -> io.FileIO:
        """For bytes: they go to the real descriptor."""
        return io.FileIO(self._descriptor, "w", closefd=False)

    def fileno(self) -> int:
        """The real descriptor: what is written there is collected as output from C."""
        return self._descriptor


def _usage() -> Tuple[int, int, int]:
    """What the calling thread has used up so far: ns of CPU time, voluntary and involuntary switches."""
    if _RUSAGE_THREAD is None:
        return time.thread_time_ns(), _UNKNOWN, _UNKNOWN
    used = resource.getrusage(_RUSAGE_THREAD)
    return time.thread_time_ns(), used.ru_nvcsw, used.ru_nivcsw


def _core_wait_ns() -> int:
    """How long the calling thread was ready to run but had no core, in ns.

    Source: Linux, Documentation/scheduler/sched-stats.rst.
    """
    told = calls.read_file(_SCHEDSTAT, 100)
    try:
        return _UNKNOWN if told is None else int(told.split()[1])
    except (ValueError, IndexError):
        return _UNKNOWN


def _unpacked_start(packed: bytes) -> Tuple[int, str, Any]:
    stamp, ident, native_id, active_threads, daemon, *usage = _START.unpack(packed)
    facts = {
        "daemon": daemon,
        "ident": ident,
        "native_id": native_id,
        "active_threads": active_threads,
        "usage": _told_usage(*usage),
    }
    return stamp, "start", facts


def _unpacked_end(packed: bytes, log: ThreadLog) -> Tuple[int, str, Any]:
    stamp, ident, core_wait_ns, locks, *usage = _END.unpack(packed)
    facts = {
        "ident": ident,
        "usage": _told_usage(*usage),
        "locks": [log.lock_acquires, log.lock_waits, log.lock_wait_ns] if locks else None,
        "core_wait_ns": _known(core_wait_ns),
    }
    return stamp, "end", facts


def _told_usage(cpu_ns: int, voluntary: int, involuntary: int) -> Dict[str, Optional[int]]:
    return {
        "cpu_ns": cpu_ns,
        "voluntary_switches": _known(voluntary),
        "involuntary_switches": _known(involuntary),
    }


def _known(number: int) -> Optional[int]:
    return None if number == _UNKNOWN else number


def _portions(rows: List[Tuple[Any, ...]]) -> Iterator[List[Tuple[Any, ...]]]:
    """Cut rows up so that each part fits into a frame."""
    begun, room = 0, _PORTION
    for end, row in enumerate(rows, 1):
        room -= _ROW + (len(row[-1]) if isinstance(row[-1], str) else 0)
        if room <= 0:
            yield rows[begun:end]
            begun, room = end, _PORTION
    if rows[begun:]:
        yield rows[begun:]


def _at(stamped: Tuple[Any, ...]) -> int:
    at_ns: int = stamped[0]
    return at_ns
