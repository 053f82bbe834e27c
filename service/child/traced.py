"""Watched locks that also stamp every wait, acquire and release, and what that costs.

Who uses it: `lab` makes them for a job with `trace: locks`, `loop` asks for the cost. A job without that has none.

A stamp is what `recorder` makes of it: an append to the thread's own list. All three moments are stamped by the thread
they belong to. Totals (how often, how long) are exact even where there was no room for the events.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Union

from service.child.locks import Watch, WatchedLock, WatchedRLock
from service.child.recorder import Recorder

__all__ = ["TracedLock", "TracedRLock", "pair_cost_ns"]

_PAIRS = 500  # in one measurement: half a millisecond
_ROUNDS = 5  # of which the fastest counts: what disturbs only ever adds


class TracedLock(WatchedLock):
    """A lock whose every wait, acquire and release is recorded.

    Args:
        watch: the job's.
        name: for people.
        recorder: where the stamps go.
    """

    __slots__ = ("_recorder",)

    def __init__(self, watch: Watch, name: str, recorder: Recorder) -> None:
        super().__init__(watch, name)
        self._recorder = recorder

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock; as `threading.Lock.acquire`."""
        return _acquire(self, self._recorder, super().acquire, blocking, timeout)

    __enter__ = acquire

    def release(self) -> None:
        """Let go of the lock; as `threading.Lock.release`."""
        at_ns = time.perf_counter_ns()  # before the next one can have it
        super().release()
        self._recorder.stamp(self._recorder.log(), "release", self.name, at_ns)

    def __exit__(self, *_: object) -> None:
        self.release()


class TracedRLock(WatchedRLock):
    """A traced lock that its holder may take again: only the first acquire and the last release are recorded."""

    __slots__ = ("_recorder",)

    def __init__(self, watch: Watch, name: str, recorder: Recorder) -> None:
        super().__init__(watch, name)
        self._recorder = recorder

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, or take it once more; as `threading.RLock.acquire`."""
        if self._is_owned():
            return super().acquire(blocking, timeout)
        return _acquire(self, self._recorder, super().acquire, blocking, timeout)

    __enter__ = acquire

    def release(self) -> None:
        """Let go of the lock once; as `threading.RLock.release`."""
        last = self._is_owned() and self._depth == 1
        at_ns = time.perf_counter_ns()
        super().release()
        if last:
            self._recorder.stamp(self._recorder.log(), "release", self.name, at_ns)

    def __exit__(self, *_: object) -> None:
        self.release()


def _acquire(
    lock: Union[TracedLock, TracedRLock],
    recorder: Recorder,
    acquire: Callable[..., bool],
    blocking: bool,
    timeout: float,
) -> bool:
    """Take a lock that the calling thread does not hold, and stamp how."""
    log = recorder.log()
    if not acquire(False):
        if not blocking:
            return False
        recorder.stamp(log, "wait", lock.name)
        begun_ns = time.perf_counter_ns()
        got = acquire(True, timeout)
        log.lock_waits += 1
        log.lock_wait_ns += time.perf_counter_ns() - begun_ns
        if not got:
            recorder.stamp(log, "give_up", lock.name)
            return False
    recorder.stamp(log, "acquire", lock.name)
    log.lock_acquires += 1
    return True


def pair_cost_ns() -> float:
    """How much longer acquire and release take together on a lock that is traced, in ns; measured now, here."""
    plain = min(_pair_ns(threading.Lock()) for _ in range(_ROUNDS))
    traced = min(_pair_ns(TracedLock(Watch(), "", Recorder(0, 2 * _PAIRS, "locks"))) for _ in range(_ROUNDS))
    return max(0.0, traced - plain)


def _pair_ns(lock: Any) -> float:
    begun_ns = time.perf_counter_ns()
    for _ in range(_PAIRS):
        with lock:
            pass
    return (time.perf_counter_ns() - begun_ns) / _PAIRS
