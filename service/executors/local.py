"""Runs jobs in children on this machine, each forked for its job and gone after it.

    pool thread                         fork server                     child
       │ fork, with the order ─────────────▶│ ─────────────────────────▶│
       │ ◀─────────────────────────────────────── ready, started, … bye │
       │ (cancelled, or past its deadline:)                             │
       │ cancel ──────────────────────────────────────────────────────▶│
       │ (still there after the grace:)                                 │
       │ kill ─────────────────────────────▶│ stacks, killpg ──────────▶✗
       │ ◀──────────────────────── exited  │

Who uses it: `runner`, one call of `run` on one pool thread for each running job. That thread alone holds the child: it
waits in one `poll` for frames, for the child's end, for a wish to cancel, and for the next deadline.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from service.child import wire
from service.errors import ChildLate, ForkFailed, ForkServerDied
from service.executors import stacks
from service.executors.base import Cancel, GilSwitch, Interpreter, JobExecutor, Order, Sink, Wall
from service.executors.forkserver import Child, ForkServer, process_end
from service.executors.interpreters import LOOK_AGAIN_S, Interpreters, Launch
from service.executors.transcript import Ending, Transcript
from service.jobs import JobState, Report
from service.observer import (
    ChildCause,
    ChildEnded,
    ChildStarted,
    ForkServerEnded,
    ForkServerStarted,
    Observer,
    ServerCause,
    nobody,
)

__all__ = ["LocalExecutor", "LocalLimits"]

_log = logging.getLogger(__name__)

_PING_TIMEOUT_S = 5.0  # for a fork server to answer behind all that it is told to do before: half a second at the most
_OTHERS = 2  # fork servers that are asked for a child after one has gone: a third that goes has a reason
_DEATH_S = 0.1  # between a dying process's last descriptor and its end lie microseconds


@dataclass(frozen=True, slots=True)
class LocalLimits:
    """What a child gets, and how long the executor waits for it.

    Attributes:
        startup_timeout_s: seconds from the fork to `started`.
        cancel_grace_s: seconds between asking a child to end and killing it.
        kill_timeout_s: seconds for a killed child to be gone; longer means that the fork server is unwell.
        memory_bytes: private writable memory (`RLIMIT_DATA`), the stacks of its threads included.
        threads: how many it may have; on a free-threaded build each of them is given more memory.
        open_files: descriptors (`RLIMIT_NOFILE`).
        file_bytes: size of any one file it writes (`RLIMIT_FSIZE`).
        processes: processes and threads of the service's user (`RLIMIT_NPROC`).
        isolate: whether it is shut in by namespaces and Landlock, where the system has them.
    """

    startup_timeout_s: float
    cancel_grace_s: float
    kill_timeout_s: float
    memory_bytes: int
    threads: int
    open_files: int
    file_bytes: int
    processes: int = 16_384
    isolate: bool = True

    def for_child(self) -> dict[str, int]:
        """Return the limits by the names of `resource`, the number of threads, and whether to isolate."""
        return {
            "isolate": self.isolate,
            "threads": self.threads,
            "RLIMIT_CORE": 0,
            "RLIMIT_DATA": self.memory_bytes,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_NPROC": self.processes,
        }


class LocalExecutor(JobExecutor):
    """Runs jobs in children of fork servers: one for each way to start an interpreter, from its first job on.

    A fork server that dies is replaced.

    Args:
        limits: see `LocalLimits`.
        interpreters: what jobs can choose from.
        kept: digests of the scenarios that fork servers keep loaded. They are loaded outside any child, where nothing
            ends what hangs: these must be known to load.
        observe: hears of fork servers and children.
    """

    def __init__(
        self,
        limits: LocalLimits,
        interpreters: Interpreters | None = None,
        kept: Collection[str] = (),
        observe: Observer = nobody,
    ) -> None:
        self._observe = observe
        self._limits = limits
        self._kept = kept
        self._interpreters = interpreters or Interpreters()
        self._lock = threading.Lock()
        self._posts: dict[Launch, _Post] = {}  # guarded by _lock
        self._closed = False  # guarded by _lock

    def start(self) -> None:
        """Start the default interpreter's fork server, or see that it obeys; one that does not is replaced.

        Raises:
            ForkServerDied: it did not come up, or did not answer: jobs that it carried may be tried again.
        """
        post = self._post(self._interpreters.launch(None, None))
        server = post.server()
        try:
            server.ping(_PING_TIMEOUT_S)
        except ForkServerDied as exc:
            post.dismiss(server, exc)
            raise

    def walls(self) -> list[Wall]:
        """Return what shuts the children of the default interpreter in; see the base class."""
        return [Wall(**wall) for wall in self.server().walls]

    def server(self, python: str | None = None, gil: GilSwitch | None = None) -> ForkServer:
        """Return an interpreter's fork server, a new one if the last has died.

        Raises:
            InterpreterNotFound: there is no such interpreter.
            ForkServerDied: it did not come up, or the executor is closed.
        """
        return self._post(self._interpreters.launch(python, gil)).server()

    def _post(self, launch: Launch) -> _Post:
        with self._lock:
            if self._closed:
                raise ForkServerDied("The executor is closed.")
            if launch not in self._posts:
                command = [launch.executable, *launch.options]
                self._posts[launch] = _Post(command, self._kept, self._limits, self._observe)
            return self._posts[launch]

    def interpreters(self) -> list[Interpreter]:
        """Return what was found on this machine."""
        return self._interpreters.all(newer_than_s=LOOK_AGAIN_S)

    def choose(self, python: str | None, gil: GilSwitch | None) -> Interpreter:
        """Return the interpreter that a job with these options runs on; see the base class."""
        return self._interpreters.choose(python, gil)

    def run(self, order: Order, sink: Sink, cancel: Cancel) -> Report:
        """Run the job in a child of its own; see the base class."""
        post = self._post(self._interpreters.launch(order.python, order.gil))
        server = post.server()
        self._observe(ChildStarted())
        try:
            woken, wake = os.pipe()
        except OSError as exc:
            self._observe(ChildEnded("fork_failed"))
            raise ForkFailed(f"This process has no descriptors left for another child: {exc}") from exc
        try:
            server, child = post.fork(server, order)
            with child, cancel.waking(lambda: os.write(wake, b"!")):
                report, ended = _Conversation(order, sink, child, server, woken, self._limits).hold()
        except ForkServerDied as exc:
            self._observe(ChildEnded("fork_server_died"))
            post.dismiss(server, exc)  # it may run on, stopped: the next job must not get it again
            raise
        except ForkFailed:
            self._observe(ChildEnded("fork_failed"))
            raise
        except ChildLate:
            self._observe(ChildEnded("late"))
            raise
        else:
            self._observe(ended)
            return report
        finally:
            os.close(woken)
            os.close(wake)

    def close(self) -> None:
        """End the fork servers and all their children."""
        with self._lock:
            self._closed = True
        for post in self._posts.values():
            post.close()


class _Post:
    """The place of one fork server, which another takes when it dies.

    Thread safety: all methods may be called from any thread; others can be at work while one of them starts.
    """

    def __init__(self, command: Sequence[str], kept: Collection[str], limits: LocalLimits, observe: Observer) -> None:
        self._observe = observe
        self._command = command
        self._kept = kept
        self._limits = limits
        self._lock = threading.Lock()
        self._server: ForkServer | None = None  # guarded by _lock
        self._closed = False  # guarded by _lock

    def server(self) -> ForkServer:
        with self._lock:
            if self._closed:
                raise ForkServerDied("The executor is closed.")
            if self._server is not None:
                death = _death(self._server.pid)  # first: who asks whether it is alive reaps it
                if not self._server.alive:
                    dead, self._server = self._server, None
                    self._tell_end(dead, "died", "It was found dead.", death)
                    dead.close()
            if self._server is None:
                self._server = self._start()
            return self._server

    def _start(self) -> ForkServer:
        begun = time.monotonic()
        try:
            server = ForkServer(self._command, self._kept, self._limits.for_child(), self._limits.startup_timeout_s)
        except ForkServerDied as exc:
            _log.error("fork server did not come up", extra={"why": str(exc)})
            raise
        took_s = round(time.monotonic() - begun, 6)
        facts = {"pid": server.pid, "executable": self._command[0], "python": server.python["version"]}
        _log.info("fork server started", extra={**facts, "took_s": took_s})
        self._observe(ForkServerStarted())
        return server

    def fork(self, server: ForkServer, order: Order) -> tuple[ForkServer, Child]:
        """Return a child, of another fork server if this one goes before it has heard of the order.

        Where jobs come fast, many threads have been given a fork server when it dies. None of their jobs has begun, and
        each would lose an attempt.

        Raises:
            ForkServerDied: so did the others.
            ForkFailed: this process has no descriptors left for a child.
        """
        others = _OTHERS
        while True:
            try:
                return server, server.fork(order)
            except ForkServerDied as exc:
                self.dismiss(server, exc)
                if others == 0:
                    raise
                others -= 1
            server = self.server()

    def dismiss(self, unwell: ForkServer, why: ForkServerDied) -> None:
        with self._lock:
            if self._server is unwell:
                death = _death(unwell.pid, _DEATH_S)
                self._tell_end(unwell, "unwell" if death is None else "died", str(why), death)
                self._server = None
        unwell.close(patience_s=0.0)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            last, self._server = self._server, None
            if last is not None:
                death = _death(last.pid)
                self._tell_end(last, "closed" if death is None else "died", "The service ends.", death)
                last.close()

    def _tell_end(self, server: ForkServer, cause: ServerCause, why: str, death: dict[str, Any] | None) -> None:
        level = logging.INFO if cause == "closed" else logging.WARNING
        facts = {"pid": server.pid, "executable": self._command[0], "cause": cause, "why": why}
        _log.log(level, "fork server ended", extra={**facts, **(death or {})})
        self._observe(ForkServerEnded(cause))


def _death(pid: int, within_s: float = 0.0) -> dict[str, Any] | None:
    """How a process of ours ended, as far as that is still known; None while it lives. It is not reaped here."""
    deadline = time.monotonic() + within_s
    try:
        while (ended := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is None:
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.001)
    except ChildProcessError:  # it was reaped already
        return {}
    if ended.si_code == os.CLD_EXITED:
        return {"exit_code": ended.si_status}
    return {"signal": process_end({"signal": ended.si_status})["signal"]}


class _Pressure(IntEnum):
    """How far the executor has gone to end a child."""

    NONE = 0
    ASKED = 1
    KILLED = 2


class _Conversation:
    """The executor's side of one job, from the order to the report."""

    def __init__(  # noqa: PLR0917  one caller, above
        self, order: Order, sink: Sink, child: Child, server: ForkServer, woken: int, limits: LocalLimits
    ) -> None:
        self._order = order
        self._sink = sink
        self._child = child
        self._server = server
        self._woken = woken
        self._limits = limits
        self._transcript = Transcript(order.kept, order.trace)
        self._begun = time.monotonic()
        self._deadline = self._begun + limits.startup_timeout_s
        self._started: float | None = None
        self._pressure = _Pressure.NONE
        self._stopped: JobState | None = None
        self._late = False  # whether its time to begin was over before it began
        self._broken: str | None = None
        self._poll = select.poll()
        self._open = True  # whether there may be more to read
        self._heard = True  # whether the poll wakes for it

    def hold(self) -> tuple[Report, ChildEnded]:
        for descriptor in (self._child.link.fileno(), self._child.status, self._woken):
            self._poll.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll(self._milliseconds_left())}
            if self._woken in ready:
                self._poll.unregister(self._woken)
                self._press(JobState.CANCELLED)
            if self._child.link.fileno() in ready:
                self._listen()
            if self._child.status in ready:
                return self._report(self._child.ended())
            if time.monotonic() >= self._deadline:  # however much it still has to say
                self._press(JobState.TIMED_OUT)

    def _milliseconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic()) * 1000

    def _listen(self) -> None:
        """Take in what the child says."""
        try:
            frames = self._child.receive()
            for frame in frames or ():
                self._transcript.add(frame)
        except wire.BadFrame as exc:
            self._broken = str(exc)
            self._kill()
            frames = None
        news = self._transcript.news()
        if news:
            self._sink(news)
        if frames is None:
            self._open = False
        if self._heard and (frames is None or self._transcript.ended):  # what is left is its end, which `status` tells
            self._heard = False
            self._poll.unregister(self._child.link)
        if self._transcript.deadlocked and self._pressure is not _Pressure.KILLED:  # its deadline would change nothing
            self._stopped = self._stopped or JobState.TIMED_OUT
            self._kill()
        if self._started is None and self._transcript.started:
            self._started = time.monotonic()
            if self._pressure is _Pressure.NONE:
                self._deadline = self._started + self._order.timeout_s

    def _press(self, reason: JobState) -> None:
        """Go one step further in ending the child: ask, then kill; one path for cancel and deadline."""
        if self._pressure is _Pressure.NONE:
            self._stopped = reason
            self._late = reason is JobState.TIMED_OUT and self._started is None
            self._pressure = _Pressure.ASKED
            self._deadline = time.monotonic() + self._limits.cancel_grace_s
            self._child.send({"type": "cancel"})
        elif time.monotonic() < self._deadline:
            return  # a cancel came while the deadline's own path is under way
        elif self._pressure is _Pressure.ASKED:
            self._kill(stacks=not self._transcript.dissected)
        else:
            raise ForkServerDied(f"A killed child was not gone after {self._limits.kill_timeout_s} s.")

    def _kill(self, *, stacks: bool = False) -> None:
        self._pressure = _Pressure.KILLED
        self._deadline = time.monotonic() + self._limits.kill_timeout_s
        self._child.kill(stacks=stacks)

    def _report(self, exited: wire.Frame) -> tuple[Report, ChildEnded]:
        if "error" in exited:
            raise ForkFailed(exited["error"])
        if self._late:  # whatever it has said since: the job's time had not begun
            raise ChildLate(f"Its child did not begin within {self._limits.startup_timeout_s} s.")
        self._child.link.setblocking(False)  # whoever could still write was killed with the group
        with contextlib.suppress(BlockingIOError):
            while self._open:
                self._listen()
        ending = Ending(
            process=process_end(exited),
            startup_s=None if self._started is None else self._started - self._begun,
            stopped=self._stopped,
            killed=self._pressure is _Pressure.KILLED and self._broken is None,
            broken=self._broken,
            dump=stacks.read(exited["stacks"], self._order, self._server.main_ident),
        )
        report = self._transcript.report(ending, self._server.python, self._server.machine)
        cause = _cause(ending, report.status)
        if cause == "signal":
            facts = {"job": self._order.job_id, "scenario": self._order.scenario, **ending.process}
            _log.warning("child ended by a signal that nobody here sent", extra=facts)
        return report, ChildEnded(cause, ending.process["signal"], ending.startup_s)


def _cause(ending: Ending, status: JobState) -> ChildCause:
    """Why a child's process ended, which is not always what became of its job: one that raised can be killed, too."""
    if ending.broken:
        return "broken_protocol"
    if ending.killed or status is ending.stopped:
        return "cancelled" if ending.stopped is JobState.CANCELLED else "timed_out"
    return "exited" if ending.process["signal"] is None else "signal"
