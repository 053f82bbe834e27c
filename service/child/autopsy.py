"""Where every thread stands at the end of a job that does not end by itself: its stack, what it holds and waits for.

Who uses it: `loop`, on the shipper's raw thread, when the service cancels the job or when its threads have come to a
deadlock. It only looks: it takes no lock that a scenario's thread could wait for, and reads no file.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
from _thread import _count, get_ident
from types import CodeType, FrameType
from typing import Any, Dict, List, Optional, Set

from service.child import wire
from service.child.locks import ENDED, Knots, Watch, ring

__all__ = ["make", "nobody_runs"]

_MOST_TEXT = 200  # characters of any one text, chosen: a line of code that people can read
_MOST_HELD = 100  # locks told of one thread

_OURS = os.path.dirname(os.path.abspath(__file__))
_active: Dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]  # `enumerate()` takes a lock

_JOIN: CodeType = threading.Thread.join.__code__
_SHUTDOWN: CodeType = threading._shutdown.__code__  # type: ignore[attr-defined]
_UNDER_JOIN: Optional[CodeType] = getattr(  # where `join` waits, until CPython 3.12
    getattr(threading.Thread, "_wait_for_tstate_lock", None), "__code__", None
)


def nobody_runs(knots: Knots) -> bool:
    """Whether every other thread of the process waits for ever.

    Such are the threads of `knots`, and whoever waits without a time limit for the end of one that does: in `join`, or
    as the main thread at the end of a program. A thread that waits in any other way, for an event, a queue, or a lock
    without a name, counts as one that can still run, though nobody may be left to wake it. That a signal's handler
    could release a lock is left out of account.
    """
    frames = _frames()
    if _count() > len(frames):  # there is a thread without a frame: a raw one whose function is one of C's
        return False
    stuck = {link.wait.thread for link in knots.values()}
    others = {ident: frame for ident, frame in frames.items() if ident not in knots}
    while others:
        waiting = [ident for ident, frame in others.items() if _waits_for_the_end_of(stuck, frame)]
        if not waiting:
            return False
        for ident in waiting:
            del others[ident]
            stuck.add(_active.get(ident))
    return True


def _waits_for_the_end_of(stuck: Set[Optional[threading.Thread]], frame: Optional[FrameType]) -> bool:
    """Whether a thread at this frame goes on only when one of these threads has ended."""
    if frame is not None and frame.f_code is _UNDER_JOIN:
        frame = frame.f_back
    if frame is None:
        return False
    if frame.f_code is _JOIN:
        given = frame.f_locals
        return given["timeout"] is None and given["self"] in stuck
    return frame.f_code is _SHUTDOWN and any(thread is not None and not thread.daemon for thread in stuck)


def make(watch: Watch, knots: Knots, deadlock: bool) -> bytes:
    """Return the frame `autopsy`, encoded.

    Args:
        watch: the job's locks.
        knots: what two looks at them have shown alike.
        deadlock: whether no thread can run on.
    """
    caught = {link.wait.thread for link in ring(knots)} if knots else set()
    frames = _frames()
    everyone = [ident for ident in list(_active) if ident in frames]  # in the order in which they started
    everyone += [ident for ident in frames if ident not in everyone]
    chosen = sorted(everyone, key=lambda ident: _importance(_active.get(ident), caught))[: wire.MOST_THREADS]
    autopsy: wire.Frame = {
        "type": "autopsy",
        "deadlock": deadlock,
        "threads": [_row(watch, ident, frames[ident]) for ident in everyone if ident in chosen],
        "threads_left_out": len(everyone) - len(chosen),
        "cycle": _cycle(knots) if knots else None,
    }
    data = wire.encode(autopsy)
    if len(data) > wire.MAX_FRAME_BYTES:  # texts of the strangest characters only: what matters most is the cycle
        data = wire.encode({**autopsy, "threads": [], "threads_left_out": len(everyone)})
    return data


def _frames() -> Dict[int, FrameType]:
    """Where every thread is but the calling one, by ident."""
    return {ident: frame for ident, frame in sys._current_frames().items() if ident != get_ident()}


def _importance(thread: Optional[threading.Thread], caught: Set[Optional[threading.Thread]]) -> int:
    """What decides on who is told of where there are too many."""
    if thread is threading.main_thread():
        return 0
    return 1 if thread in caught else 2


def _row(watch: Watch, ident: int, frame: FrameType) -> Dict[str, Any]:
    thread = _active.get(ident)
    wait = watch.waits.get(ident)
    held = [lock.name[:_MOST_TEXT] for lock in list(watch.locks) if thread is not None and lock.holder is thread]
    return {
        "name": None if thread is None else thread.name[:_MOST_TEXT],
        "ident": ident,
        "daemon": True if thread is None else thread.daemon,  # a raw thread is cut off at the end, too
        "main": thread is threading.main_thread(),
        "stack": _stack(frame),
        "holds": held[:_MOST_HELD],
        "waits_for": None if wait is None else wait.lock.name[:_MOST_TEXT],
    }


def _stack(frame: Optional[FrameType]) -> List[Dict[str, Any]]:
    """The scenario's part of a stack, the innermost call last; what it called of `threading` may be on top."""
    stack: List[FrameType] = []
    while frame is not None and len(stack) < wire.MOST_FRAMES:
        if stack or not _is_ours(frame):  # the watched lock's own calls are nobody's concern
            stack.insert(0, frame)
        frame = frame.f_back
    while len(stack) > 1 and (_is_ours(stack[0]) or stack[0].f_code.co_filename == threading.__file__):
        del stack[0]
    return [_place(each) for each in stack if not _is_ours(each)]


def _is_ours(frame: FrameType) -> bool:
    return os.path.dirname(frame.f_code.co_filename) == _OURS


def _place(frame: FrameType) -> Dict[str, Any]:
    file, line = frame.f_code.co_filename, frame.f_lineno or frame.f_code.co_firstlineno
    known = file in linecache.cache  # as a scenario's file is; to read another would give up the GIL
    return {
        "file": file[-_MOST_TEXT:],
        "line": line,
        "function": frame.f_code.co_name[:_MOST_TEXT],
        "code": linecache.getline(file, line).strip()[:_MOST_TEXT] if known else None,
    }


def _cycle(knots: Knots) -> List[Dict[str, Optional[str]]]:
    """Who holds what and waits for what: each for what the next one holds, the last one for what the first one holds.

    Where a lock's holder has ended there are two: the one that waits, and the one that has ended.
    """
    links = ring(knots)
    names = [link.wait.lock.name[:_MOST_TEXT] for link in links]
    waiting = [_name(link.wait.thread) for link in links]
    if links[-1].leads_to == ENDED:
        return [_turn(waiting[0], None, names[0]), _turn(_name(links[0].holder), names[0], None)]
    return [_turn(thread, names[number - 1], names[number]) for number, thread in enumerate(waiting)]


def _turn(thread: str, holds: Optional[str], waits_for: Optional[str]) -> Dict[str, Optional[str]]:
    return {"thread": thread, "holds": holds, "waits_for": waits_for}


def _name(thread: Optional[threading.Thread]) -> str:
    return wire.NAMELESS if thread is None else thread.name[:_MOST_TEXT]
