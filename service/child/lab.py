"""What a scenario may use: `run(params, lab)` gets one `Lab`.

Who uses it: scenarios, in the child. The names are those of `threading`, so that a scenario reads like the program it
stands for; what they make is a real `threading.Thread` that also leaves its stamps with the recorder.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, cast

from service.child.locks import Watch, WatchedLock, WatchedRLock
from service.child.recorder import MAX_NOTE, Recorder
from service.child.traced import TracedLock, TracedRLock

__all__ = ["Cancelled", "Lab"]

_MOST_WARNINGS = 100  # of one job, chosen: more than anybody reads
_TOO_MUCH = 1 << 63  # steps: the link carries no larger number, and nobody has that many


class Cancelled(Exception):
    """The job was cancelled, or its time is up, and the scenario noticed."""


class RecordedThread(threading.Thread):
    """A `threading.Thread` whose start and end are stamped by itself."""

    def __init__(self, recorder: Recorder, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._recorder = recorder

    def run(self) -> None:
        """Run the target between two stamps."""
        log = self._recorder.open(self)
        try:
            super().run()
        finally:
            self._recorder.close(log)


class Lab:
    """The bench on which a scenario works.

    Args:
        recorder: where threads leave their stamps.
        timeout_s: seconds from the start of the scenario to its deadline.

    Attributes:
        traces_locks: whether the job has `trace: locks`: what threads do with locks from here is recorded, and nothing
            else that they wait for. A scenario whose threads wait for something else, too, says so by `warn`.
    """

    def __init__(self, recorder: Recorder, timeout_s: float) -> None:
        self._recorder = recorder
        self._timeout_s = timeout_s
        self._cancelled = False
        self._warning = threading.Lock()
        self._warnings: List[str] = []  # guarded by _warning
        self._warnings_left_out = 0  # guarded by _warning
        self.endings: List[Callable[[], Dict[str, Any]]] = []
        self.watch = Watch()
        self.traces_locks = recorder.trace == "locks"
        self._nameless = {"Lock": 0, "RLock": 0}  # so many traced locks without a name of their own
        if self.traces_locks:
            recorder.trace = "threads"  # until there is a lock to trace: the waits for none are null, not 0

    def Thread(  # noqa: N802  the name of the class that it makes
        self,
        target: Optional[Callable[..., object]] = None,
        args: Iterable[Any] = (),
        kwargs: Optional[Mapping[str, Any]] = None,
        *,
        name: Optional[str] = None,
        daemon: Optional[bool] = None,
    ) -> threading.Thread:
        """Return a new thread, not started; the arguments are those of `threading.Thread`."""
        if self._recorder.trace == "off":
            return threading.Thread(target=target, args=args, kwargs=kwargs, name=name, daemon=daemon)
        return RecordedThread(self._recorder, target=target, args=args, kwargs=kwargs, name=name, daemon=daemon)

    def Lock(self, name: Optional[str] = None) -> threading.Lock:  # noqa: N802  the name of what it makes
        """Return a new lock.

        Args:
            name: None for a `threading.Lock` as plain as the interpreter makes it. A lock with a name does the same and
                is watched: who holds it and who waits for it is told when the job gets stuck, and a deadlock is ended
                when it is there, not at the deadline. It costs more; `locks.WatchedLock` says how much.

        With `trace: locks` every lock is watched, and what threads do with it is recorded.
        """
        if self.traces_locks:
            return cast("threading.Lock", TracedLock(self.watch, name or self._name("Lock"), self._traced()))
        return threading.Lock() if name is None else cast("threading.Lock", WatchedLock(self.watch, name))

    def RLock(self, name: Optional[str] = None) -> threading.RLock:  # noqa: N802  as above
        """Return a new lock that its holder may take again; with a name it is watched, as in `Lock`."""
        if self.traces_locks:
            return cast("threading.RLock", TracedRLock(self.watch, name or self._name("RLock"), self._traced()))
        return threading.RLock() if name is None else cast("threading.RLock", WatchedRLock(self.watch, name))

    def _traced(self) -> Recorder:
        self._recorder.trace = "locks"
        return self._recorder

    def _name(self, kind: str) -> str:
        self._nameless[kind] += 1
        return f"{kind}-{self._nameless[kind]}"

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the end of this job, or its deadline has passed."""
        return self._cancelled or self.time_left() <= 0

    def checkpoint(self) -> None:
        """Go on, or stop here if the job was cancelled; for long loops on any thread.

        Raises:
            Cancelled: the job was cancelled or its deadline has passed.
        """
        if self.cancelled:
            raise Cancelled

    def time_left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._timeout_s - self._recorder.now_ns() / 1e9

    def time_passed(self) -> float:
        """Seconds since the scenario began."""
        return self._recorder.now_ns() / 1e9

    def note(self, text: str) -> None:
        """Mark this moment of the calling thread in the job's events, with a sentence of at most 500 characters."""
        self._recorder.note(text)

    def progress(self, done: int, of: int) -> None:
        """Say in the job's events how far the scenario is; not for inner loops, it counts as an event.

        Raises:
            ValueError: it is not 0 <= done <= of < 2**63.
        """
        done, of = int(done), int(of)
        if not 0 <= done <= of < _TOO_MUCH:
            raise ValueError(f"progress({done}, {of}): it must be 0 <= done <= of < 2**63")
        self._recorder.stamp(self._recorder.log(), "progress", [done, of])

    def warn(self, text: str) -> None:
        """Put a sentence of at most 500 characters into the answer's `warnings`, once; 100 of them are kept.

        It is told soon, so that a job that is killed has it, too.
        """
        sentence = str(text)[:MAX_NOTE]
        with self._warning:
            if sentence in self._warnings:
                return
            if len(self._warnings) < _MOST_WARNINGS:
                self._warnings.append(sentence)
            else:
                self._warnings_left_out += 1

    @property
    def warnings(self) -> List[str]:
        """The sentences that are kept, and one that says how many are not."""
        with self._warning:
            if not self._warnings_left_out:
                return list(self._warnings)
            return [*self._warnings, f"Warnings left out after the first {_MOST_WARNINGS}: {self._warnings_left_out}."]

    def at_exit(self, ending: Callable[[], Dict[str, Any]]) -> Callable[[], Dict[str, Any]]:
        """Call `ending` where `atexit` callbacks run: after the interpreter joined every thread that is no daemon.

        What it returns is laid over what `run` returned, `outcome` included. Usable as a decorator.

        Source: CPython, `Py_FinalizeEx`: `wait_for_thread_shutdown()` comes before `_PyAtExit_Call()`.
        """
        self.endings.append(ending)
        return ending

    def cancel(self) -> None:
        """Make `cancelled` true; called by the child when a `cancel` frame came."""
        self._cancelled = True
