"""The words of the link: frames are JSON objects, one a line, each with a `type`.

Who uses it: both ends. The child imports it by itself, the service as `service.child.wire`. It imports the standard
library only and keeps to Python 3.9.

Up, on a job's own socket, in this order (a `?` may be absent, a `*` may come any number of times in between):

    ready      protocol                                     the child is up and has read its order
    started    active_threads                               the scenario begins; every `_ns` counts from here
    events*    events: [[at_ns, thread, kind, facts], ...]  what threads stamped: kinds `start` and `end`
    output*    lines: [[at_ns, thread, text], ...]          what was printed; thread is null for output from C
    result     outcome, grade, meaning, values, wall_ns, cpu_ns, active_threads, switch_interval_s
    error      error, message, traceback                    instead of `result`: the scenario raised
    bye        ended_ns, ending?, warnings, dropped         the interpreter has joined its threads and is about to end

Down: `cancel`, at most once. On the fork server's socket: `hello` up, then `preload` down and `preloaded` up for each
scenario, then `fork` down (the order, and two descriptors: the child's end of the link, and a pipe) and `kill`. Into
that pipe, and not into the link, which the child could write to, the fork server reports `exited`.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List

__all__ = ["MAX_FRAME_BYTES", "PROTOCOL", "BadFrame", "Frame", "FrameBuffer", "decode", "encode"]

PROTOCOL = 1

MAX_FRAME_BYTES = 8 * 1_048_576  # 8 MiB: a child that sends more without a line end is broken, not talkative

Frame = Dict[str, Any]

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


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
        BadFrame: the line is no JSON object with a `type`, or holds text that cannot be written as UTF-8.
    """
    if _LONE_SURROGATE.search(line):
        raise BadFrame("a frame holds an escaped surrogate, which `encode` never writes")
    try:
        frame = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise BadFrame(f"not JSON: {exc}: {line[:80]!r}") from exc
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise BadFrame(f"not a frame: {line[:80]!r}")
    return frame


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


class FrameBuffer:
    """Cuts a stream of bytes into frames, however the bytes were dealt out.

    Thread safety: none; one reader owns it.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> List[Frame]:
        """Return the frames that `data` completes, in order.

        Raises:
            BadFrame: a line is no frame, or no line end comes within `MAX_FRAME_BYTES`.
        """
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > MAX_FRAME_BYTES:
            raise BadFrame(f"no line end within {MAX_FRAME_BYTES} bytes")
        self._rest = rest
        return [decode(line) for line in lines]
