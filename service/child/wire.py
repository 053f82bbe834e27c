"""The words of the link: frames are JSON objects, one a line, each with a `type`.

Who uses it: both ends. The child imports it by itself, the service as `service.child.wire`. It imports the standard
library only and keeps to Python 3.9.

Up, on a job's own socket, in this order (a `?` may be absent, a `*` may come any number of times in between):

    ready      protocol                                     the child is up and has read its order
    started    active_threads, stuck?                       the scenario begins; every `_ns` counts from here
                                                            (stuck: the scenario's own grade and meaning for it;
                                                            forbidden counts where a cycle is told)
    events*    events: [[at_ns, thread, number, kind, facts], ...]
                                                            what threads stamped; see below
    output*    lines: [[at_ns, thread, number, text], ...]  what was printed; thread and number are null for output
                                                            from C
    warnings*  warnings: [text]                             all that there are so far
    autopsy?   deadlock, threads, threads_left_out, cycle   where every thread stands: a `cancel` came, or nobody can
                                                            run on; after `deadlock: true` nothing follows
    result     outcome, grade, meaning, values, wall_ns, cpu_ns, active_threads, switch_interval_s
    error      error, message, traceback                    instead of `result`: the scenario raised
    bye        ending?, warnings, dropped, events_dropped, trace_cost_ns
                                                            the interpreter has joined its threads and is about to end

A thread's number is its own in the job: 0 is the main thread. The kinds of events, and their facts:

    start      {daemon, ident, native_id, active_threads, usage}
    end        {ident, usage, core_wait_ns, locks}          locks: null, or [acquires, waits, wait_ns] of traced ones
    wait acquire release give_up                            the lock's name; only with `trace: locks`. give_up: a wait
                                                            with a time limit that was in vain
    note       a text                                       what the scenario has to say
    progress   [done, of]

An autopsy may also come after `result` or `error`, but only once. Its `threads` are at most `MOST_THREADS` of

    {name, ident, daemon, main, stack: [{file, line, function, code}], holds: [lock], waits_for: lock}

with the innermost call last, at most `MOST_FRAMES` of them; name is null for a raw thread, code where no line is at
hand, waits_for where the thread waits for no watched lock, or with a time limit. `cycle` is null, or a list of {thread,
holds, waits_for}: each waits for what the next one holds, and the last one for what the first one holds. Where a thread
has ended without letting go of a lock, it is the last of two and waits for nothing.

Down: `cancel`, at most once. On the fork server's socket: `hello` up, then down `fork` (the order, and two descriptors:
the child's end of the link, and a pipe), `kill`, which may ask for `stacks` first, and `ping`, which `pong` answers. An
order says `keep` when the fork server should load the scenario itself, for all children to come; its source is null
from then on. Into that pipe, and not into the link, which the child could write to, the fork server reports `exited`,
with what CPython's fault handler wrote down.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterator

__all__ = [
    "LEAST_LINE",
    "MAX_DEPTH",
    "MAX_FRAME_BYTES",
    "MAX_NAME",
    "MOST_FRAMES",
    "MOST_ROWS",
    "MOST_THREADS",
    "NAMELESS",
    "PROTOCOL",
    "BadFrame",
    "Frame",
    "FrameBuffer",
    "decode",
    "encode",
    "integer",
    "text",
    "too_deep",
]

PROTOCOL = 5

LEAST_LINE = 16  # bytes of output that a line counts as, chosen: empty ones would else be a million in a megabyte
MAX_DEPTH = 64  # of a result's values: far more than a reader can follow, far less than what JSON writers can
MAX_NAME = 200  # characters of a thread's or a lock's, chosen: it stands beside all that is told of them
NAMELESS = "a thread without a name"  # what a raw one is called
MOST_ROWS = 10_000  # threads of one job whose start and end are told, chosen: a scenario may start them without end
MOST_THREADS = 64  # in an autopsy, chosen: more than anybody reads, and told in a millisecond or two
MOST_FRAMES = 50  # of one thread's stack, chosen as well

MAX_FRAME_BYTES = 8 * 1_048_576  # 8 MiB: a child that sends more without a line end is broken, not talkative

Frame = Dict[str, Any]

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

# An escape that `encode` never writes: behind an odd number of backslashes, or it would be text about an escape.
_SURROGATE = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]")

_LARGEST = 2**63 - 1  # nanoseconds of three centuries; a larger number on the link is nonsense


class BadFrame(ValueError):
    """A line that is no frame."""


def encode(frame: Frame) -> bytes:
    """Return the frame as one line.

    Raises:
        ValueError: the frame holds a number that JSON has no word for (NaN, infinity).
        TypeError: the frame holds something that is no JSON.
    """
    return _ENCODER.encode(frame).encode("utf-8", "replace") + b"\n"


def decode(line: bytes) -> Frame:
    """Return the frame that a line holds.

    Raises:
        BadFrame: the line is no JSON object with a `type`, or holds a text or a number that `encode` never writes.
    """
    if b"\\u" in line and _SURROGATE.search(line):
        raise BadFrame("a frame holds an escaped surrogate, which `encode` never writes")
    try:
        frame = _DECODER.decode(line.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise BadFrame(f"not JSON: {exc}: {line[:80]!r}") from exc
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise BadFrame(f"not a frame: {line[:80]!r}")
    return frame


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{digits} is too large")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def integer(value: Any) -> int:
    """Return a whole number that came over the link, for whoever does not trust the other end.

    Raises:
        BadFrame: it is none, or too large to mean anything.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not -_LARGEST <= value <= _LARGEST:
        raise BadFrame(f"not a whole number: {value!r:.80}")
    return value


def text(value: Any) -> str:
    """Return a text that came over the link.

    Raises:
        BadFrame: it is none.
    """
    if not isinstance(value, str):
        raise BadFrame(f"not a text: {value!r:.80}")
    return value


def too_deep(value: Any, left: int = MAX_DEPTH) -> bool:
    """Return whether lists and objects are nested in each other deeper than a result's values may be."""
    if left == 0:
        return True
    if isinstance(value, (dict, list, tuple)):
        return any(too_deep(member, left - 1) for member in (value.values() if isinstance(value, dict) else value))
    return False


class FrameBuffer:
    """Cuts a stream of bytes into frames, however the bytes were dealt out.

    Thread safety: none; one reader owns it.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes, in order: those before a bad one, too.

        Raises:
            BadFrame: a line is no frame, or no line end comes within `MAX_FRAME_BYTES`.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            _check_length(line)
            yield decode(line)
        _check_length(self._rest)


def _check_length(line: bytes) -> None:
    if len(line) > MAX_FRAME_BYTES:
        raise BadFrame(f"no line end within {MAX_FRAME_BYTES} bytes")
