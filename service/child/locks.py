"""Locks that know who holds them and who waits for them, and the knots that can be seen in that.

Who uses it: `lab` makes the locks that a scenario gave a name, `loop` looks at them from the shipper's raw thread, and
`autopsy` tells what was seen. A lock without a name is the interpreter's own, and nothing here is in its way.

Every fact has one writer, so that no further lock guards it. Only the thread that waits puts its entry into
`Watch.waits`, before it asks for the lock, and takes it out again before it does anything else. Only the thread that
has a lock writes itself down as its `holder`, and whoever releases the lock takes that back before letting go. So a
look from outside may miss somebody for a moment, and one look alone may mix two moments. But what a second look shows
just as the first did was so at one moment between the two, and threads that wait for each other at one moment do not
get out of that by themselves. (Measured with 8 threads that take two of four locks in order all the time: 265 of 8
million looks showed a knot that was none, on 3.9.18, 3.11.7, 3.13.0 and free-threaded 3.13.15; no two in a row did.)
Another thread could let them out, because anybody may release a `Lock`: whether there is one left is what
`autopsy.nobody_runs` asks.
"""

from __future__ import annotations

import threading
from _thread import get_ident
from typing import Dict, List, NamedTuple, Optional

from service.child.wire import MAX_NAME

__all__ = ["ENDED", "Knots", "Link", "Wait", "Watch", "WatchedLock", "WatchedRLock", "ring"]

_MOST_LISTED = 10_000  # locks of one job of which an autopsy knows: one that makes locks without end leaks no more
ENDED = -1  # leads to nobody: no thread's ident

# By ident. `current_thread()` would do, but it makes a raw thread one of those that `active_count()` counts.
_active: Dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]


class Wait:
    """A thread that waits for a lock, without a time limit; each time it waits, this is another object."""

    __slots__ = ("lock", "thread")

    def __init__(self, thread: Optional[threading.Thread], lock: WatchedLock) -> None:
        self.thread = thread
        self.lock = lock


class Link(NamedTuple):
    """A wait, who held the lock when it was looked at, and the ident by which the path goes on from there."""

    wait: Wait
    holder: threading.Thread
    leads_to: int


Knots = Dict[int, Link]  # by the ident of the thread that waits, in the order in which they began to


class Watch:
    """The watched locks of one job.

    Thread safety: any thread may look at any time.
    """

    def __init__(self) -> None:
        self.waits: Dict[int, Wait] = {}  # by ident; a thread writes its own entry only
        self.locks: List[WatchedLock] = []

    def add(self, lock: WatchedLock) -> None:
        """List a new lock."""
        if len(self.locks) < _MOST_LISTED:
            self.locks.append(lock)

    def knots(self) -> Knots:
        """Return the threads whose wait leads, from holder to holder, back into itself or to one that has ended.

        Only what two calls return alike is sure: these threads waited all the while, each for the same holder.
        """
        links = self._links()
        hopeless = {ENDED: True}
        for start in links:
            path, ident = [], start
            while ident in links and ident not in hopeless:
                hopeless[ident] = True  # so that a path which comes back to itself finds that it does
                path.append(ident)
                ident = links[ident].leads_to
            hopeless.update(dict.fromkeys(path, hopeless.get(ident, False)))
        return {ident: link for ident, link in links.items() if hopeless[ident]}

    def _links(self) -> Knots:
        links: Knots = {}
        for ident, wait in dict(self.waits).items():
            holder = wait.lock.holder
            if holder is not None:
                links[ident] = Link(wait, holder, ENDED if _has_ended(holder) else holder.ident or ENDED)
        return links


def ring(knots: Knots) -> List[Link]:
    """Return the knot in which the thread that has waited longest is caught.

    Returns:
        Links each of whose holder waits in the next one, and the last one's in the first; or the one link whose holder
        has ended.
    """
    path: List[int] = []
    ident = next(iter(knots))
    while ident != ENDED and ident not in path:
        path.append(ident)
        ident = knots[ident].leads_to
    turns = path[-1:] if ident == ENDED else path[path.index(ident) :]
    return [knots[ident] for ident in turns]


def _has_ended(thread: threading.Thread) -> bool:
    """Whether it runs nobody's code any more; takes no lock, as `is_alive` does until CPython 3.12."""
    return _active.get(thread.ident or ENDED) is not thread


class WatchedLock:
    """A lock with a name, over one of `threading`'s, that can be seen to be held and to be waited for.

    It behaves as the lock under it does: whoever has to wait has first tried without waiting, as that lock does, too.
    An uncontended `with`, acquire and release together, in nanoseconds (2 cores, Linux, Intel Xeon; median of 7 times
    200,000):

                           3.9.18  3.10.13  3.11.7  3.12.1  3.13.0  3.13.15t
        threading.Lock        152      149     149     210     182       129
        WatchedLock           452      399     311     420     376       655
        threading.RLock       158      158     157     208     198       169
        WatchedRLock          887      789     507     521     509      1165

    Args:
        watch: the job's.
        name: for people.
    """

    __slots__ = ("_real", "_watch", "holder", "name")

    def __init__(self, watch: Watch, name: str) -> None:
        self.name = name[:MAX_NAME]
        self.holder: Optional[threading.Thread] = None  # None as well if `threading` does not know the thread
        self._watch = watch
        self._real = threading.Lock()
        watch.add(self)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock; as `threading.Lock.acquire`."""
        if blocking and timeout == -1:
            if not self._real.acquire(False):
                self._wait()
        elif not self._real.acquire(blocking, timeout):
            return False
        self.holder = _active.get(get_ident())
        return True

    __enter__ = acquire

    def _wait(self) -> None:
        ident = get_ident()
        self._watch.waits[ident] = Wait(_active.get(ident), self)
        try:
            self._real.acquire()
        finally:
            del self._watch.waits[ident]

    def release(self) -> None:
        """Let go of the lock, on whichever thread; as `threading.Lock.release`."""
        self.holder = None
        self._real.release()

    def __exit__(self, *_: object) -> None:
        self.holder = None
        self._real.release()

    def locked(self) -> bool:
        """Whether anybody holds it."""
        return self._real.locked()

    def __repr__(self) -> str:
        holder = self.holder
        return f"<{type(self).__name__} {self.name!r} {f'held by {holder.name}' if holder else 'of no known holder'}>"


class WatchedRLock(WatchedLock):
    """A watched lock that its holder may take again, and that nobody else may release."""

    __slots__ = ("_depth",)

    def __init__(self, watch: Watch, name: str) -> None:
        super().__init__(watch, name)
        self._real = threading.RLock()  # type: ignore[assignment]  # it has all that is called here
        self._depth = 0  # how often its holder has it; written by the holder only

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, or take it once more; as `threading.RLock.acquire`."""
        if not super().acquire(blocking, timeout):
            return False
        self._depth += 1
        return True

    __enter__ = acquire

    def release(self) -> None:
        """Let go of the lock once; as `threading.RLock.release`."""
        if self._is_owned():
            self._depth -= 1
            if not self._depth:
                self.holder = None
        self._real.release()

    def __exit__(self, *_: object) -> None:
        self.release()

    def locked(self) -> bool:
        """Whether anybody holds it."""
        return self._depth > 0

    # What `threading.Condition` asks of a lock that may be held more than once.

    def _is_owned(self) -> bool:
        owned: bool = self._real._is_owned()  # type: ignore[attr-defined]
        return owned

    def _release_save(self) -> int:
        depth = self._depth
        for _ in range(depth):
            self.release()
        return depth

    def _acquire_restore(self, depth: int) -> None:
        for _ in range(depth):
            self.acquire()
