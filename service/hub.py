"""What a job that is on its way has told so far, for whoever watches it.

    lane's thread ── tell ──▶ Feed.events (only ever longer) ◀── any number of watchers, each with a place of its own
                        └───▶ listeners: "there is more"

Who uses it: `runner` has a feed for each job that is not settled and writes into it; the HTTP face reads. The writer
waits for nobody and does nothing for each watcher: who is slow, or many, is so at his own cost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from service import story
from service.events import EventLog, JobEvent

__all__ = ["Feed"]


class Feed:
    """The events of one job since this life of the service has it.

    Args:
        epoch: the first number of their ids.

    Attributes:
        events: append-only; a reader needs no lock to read as far as it is long.
        closed: whether no more will come. Set after the last event.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.events: list[JobEvent] = []
        self.closed = False
        self._lock = threading.Lock()  # held for moments only
        self._listeners: list[Callable[[], object]] = []  # guarded by _lock

    def tell(self, news: Sequence[JobEvent]) -> None:
        """Add events, which get their ids here; after the end nothing is added."""
        with self._lock:
            if self.closed:
                return
            first = len(self.events) + 1
            self.events += [story.identified(event, self.epoch, first + n) for n, event in enumerate(news)]
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def log(self) -> EventLog:
        """Return what was told so far."""
        with self._lock:
            return EventLog(self.epoch, list(self.events))

    def close(self, last: JobEvent | None = None) -> None:
        """Say that no more will come, after a last event if there is one. Idempotent."""
        if last is not None:
            self.tell([last])
        with self._lock:
            self.closed = True
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def listen(self, listener: Callable[[], object]) -> None:
        """Call `listener` whenever there is more, and at the end; at once if that has come. It must be quick."""
        with self._lock:
            if not self.closed:
                self._listeners.append(listener)
                return
        listener()

    def forget(self, listener: Callable[[], object]) -> None:
        """Call this listener no more."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
