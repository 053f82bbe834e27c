"""The fork server: one warm, single-threaded process per interpreter, which forks one child per job.

    service                                 fork server                          child
       │  hello ◀──────────────────────────────│
       │  fork {job} + link + status ─────────▶│ load what to keep, gc.freeze()
       │                                       │ os.fork() ──────────────────────▶│ cage, loop.Job.serve
       │  kill {job, stacks} ─────────────────▶│ fault handler's signal ─────────▶│ stacks of all its threads
       │                                       │ killpg ─────────────────────────▶│
       │  status: exited {code, signal, …} ◀───│ SIGCHLD: killpg, wait4           ✗
       │                                       │ kill what it left behind, remove its folder
       │  ping ───────────────────────────────▶│
       │  pong ◀───────────────────────────────│

Who runs it: `python -I -S service/child/__main__.py FD`, started by `service.executors.forkserver`. It must stay
single-threaded (a fork carries over only the calling thread) and imports the standard library only.

The status pipe is the server's own: how a child ended is observed by its parent, and no scenario can write there. A
child that cannot be shut in does, and ends without having run anything: it counts as refused, like one that cannot be
forked. Before a child is reaped its whole process group is killed, while its number still cannot belong to anybody
else. What has left that group is adopted when the child ends (see `walls`), found there, and killed before the end is
reported.

Nothing that takes long is done here, where all other jobs would wait for it: see `cleaner`.
"""

from __future__ import annotations

# `signal.signal` turns numbers into enums, which costs a fresh child 0.2 ms
import _signal  # type: ignore[import-not-found]  # typeshed does not know it
import _thread
import fcntl
import gc
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from types import ModuleType
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from service.child import cage, dump, folders, loop, wire
from service.child.cleaner import Cleaner
from service.child.dump import Dump
from service.child.walls import Walls

__all__ = ["serve"]

_CONTROL_BYTES = 262_144  # one read of the control socket; preloads are tens of kilobytes
_MAX_DESCRIPTORS = 8  # how many descriptors one read may carry; a fork carries two

_PF_EXITING = 0x4  # linux/sched.h, in the flags of /proc/PID/stat
_INIT_ENDED = "The fork server ends: process 1 of the children's namespace has ended, and they with it."
_GONE_S = 2.0  # for what a child has left behind to be gone, which takes a millisecond, before its end is reported


class _Child:
    """A running child as its parent knows it."""

    def __init__(self, job: str, status: int, folder: str, faults: int) -> None:
        self.job = job
        self.status = status
        self.folder = folder
        self.dump = Dump(faults)
        self.begun = time.monotonic()


class _Ended(NamedTuple):
    """A child that is reaped, and what is to be reported of it."""

    status: int
    folder: str
    report_by: float
    frame: wire.Frame


class _Server:
    """The state of a fork server: what is loaded and which children run."""

    def __init__(self, control: socket.socket, walls: Walls, open_files: int) -> None:
        self._control = control
        self._walls = walls
        self._open_files = open_files
        self._frames = wire.FrameBuffer()
        self._descriptors: List[int] = []
        self._loaded: Dict[str, ModuleType] = {}  # by digest
        self._unfit: Dict[str, str] = {}  # digest -> source of what cannot be loaded here
        self._children: Dict[int, _Child] = {}  # by process number
        self._dying: List[int] = []  # the children whose stacks are asked for
        self._ended: List[_Ended] = []  # what waits until nothing is left of it
        self._wakeup, self._signalled = os.pipe()
        self._base = os.getcwd()
        self._cleaner = Cleaner(self._base, self._shed)
        self._highest = max(control.fileno(), self._wakeup, self._signalled)  # the highest descriptor ever open here

    def serve(self) -> None:
        for end in (self._wakeup, self._signalled):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._signalled)
        signal.signal(signal.SIGCHLD, _nothing)
        loop.rehearse()
        walls = [*self._walls.told, *cage.limits_told(self._open_files)]
        about = {"pid": os.getpid(), "main_ident": _thread.get_ident(), "walls": walls, **cage.about()}
        self._say({"type": "hello", "protocol": wire.PROTOCOL, **about})
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            for ready, _ in poll.poll(1 if self._dying or self._ended else None):
                if ready == self._wakeup:
                    self._reap()
                elif not self._obey():
                    return
            if self._dying:
                self._kill_dumped()
            if self._ended:
                self._clear_away()

    def end(self) -> None:
        """End all children; the service is gone or has said goodbye."""
        for pid in self._children:
            _kill_group(pid)
        if self._walls.init is not None:
            _kill_group(self._walls.init)  # and with it whatever else is in its namespace
        if self._cleaner.pid is not None:
            _kill_group(self._cleaner.pid)
        while True:
            try:
                self._bury(os.wait4(-1, 0))
            except ChildProcessError:
                break
            for pid in self._left_behind():
                _kill_group(pid)
        os.chdir(os.sep)
        folders.remove(self._base)

    def _say(self, frame: wire.Frame) -> None:
        self._control.sendall(wire.encode(frame))

    def _obey(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, _CONTROL_BYTES, _MAX_DESCRIPTORS)
        if not data:
            return False
        if not os.path.isdir(self._base):  # something has cleaned up: without it there is no folder for any job
            raise SystemExit("The fork server ends: its folder is gone, {}.".format(self._base))
        self._descriptors += descriptors
        for frame in self._frames.feed(data):
            if frame["type"] == "fork":
                self._fork(frame)
            elif frame["type"] == "kill":
                self._kill(frame["job"], frame["stacks"])
            elif frame["type"] == "ping":
                self._say({"type": "pong"})
        return True

    def _load(self, order: wire.Frame) -> None:
        """Load a scenario for all children to come."""
        try:
            self._loaded[order["digest"]] = loop.load(order["scenario"], order["source"])
        except BaseException:  # noqa: BLE001  even sys.exit(): a child loads it again and says so in its job's answer
            self._unfit[order["digest"]] = order["source"]
        gc.collect()
        gc.freeze()  # what is loaded now is shared with every child: the collector must not touch those pages

    def _fork(self, order: wire.Frame) -> None:
        """Fork a child for an order. What can be made before the fork is: after it, every page touched is copied."""
        link, status = self._descriptors[:2]
        del self._descriptors[:2]
        if order["keep"]:
            self._load(order)
        order["source"] = order["source"] or self._unfit.get(order["digest"])
        folder = os.path.join(self._base, order["job"])
        own: List[int] = []
        try:
            os.mkdir(folder, 0o700)
        except OSError as exc:  # if it is there already, it belongs to a child of that job, which runs
            _refuse(status, exc, [link])
            return
        try:
            os.chdir(folder)
            os.environ["HOME"] = os.environ["TMPDIR"] = folder
            own += [cage.collecting_file(), cage.collecting_file()]
            fence = self._walls.fence(folder)
            own += [] if fence is None else [fence]
            self._highest = max(self._highest, link, status, *own, *self._descriptors)
            doors = cage.Doors(link, own[0], own[1], fence, self._highest)
            job = loop.Job(order, self._loaded.get(order["digest"]))
            pid = os.fork()
        except OSError as exc:
            self._cleaner.remove(folder)  # the next attempt at this job makes it anew
            _refuse(status, exc, [link, *own])
            return
        if pid == 0:
            self._become_child(job, doors, status, order["timeout_s"])
        self._children[pid] = _Child(order["job"], status, folder, faults=doors.faults)
        for descriptor in {link, *own} - {doors.faults}:
            os.close(descriptor)
        try:
            os.setpgid(pid, pid)  # the child does the same: whoever is first, a kill finds the group
        except OSError:  # it has a group already, and is another program or gone
            pass

    def _become_child(self, job: loop.Job, doors: cage.Doors, status: int, timeout_s: float) -> None:
        """Never returns: the process ends here, whatever happens."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            try:
                link = cage.enter(self._walls, doors, self._open_files, timeout_s)
            except OSError as exc:
                _report(status, _refusal(f"cannot shut the child in: {exc}"))
                return
            job.serve(link)
            code = 0
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass  # the service is gone: nobody to tell
        except BaseException:  # noqa: BLE001  the last line of defence: a broken child says so where C output goes
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)

    def _kill(self, job: str, stacks: bool) -> None:
        """End the child of a job; if its stacks are wanted, a moment later than it is asked for them."""
        for pid, child in self._children.items():
            if child.job != job:
                continue
            if not stacks:
                _kill_group(pid)
            elif pid not in self._dying:
                child.dump.ask(pid)
                self._dying.append(pid)
            return

    def _kill_dumped(self) -> None:
        """Kill the children that have told their stacks, or have had the time to."""
        for pid in list(self._dying):
            child = self._children.get(pid)
            if child is None:  # it has ended by itself
                self._dying.remove(pid)
            elif child.dump.is_done(pid):
                _kill_group(pid)
                self._dying.remove(pid)

    def _reap(self) -> None:
        try:
            os.read(self._wakeup, 4096)
        except BlockingIOError:
            pass
        for pid in iter(_next_dead, None):
            if pid == self._walls.init:
                raise SystemExit(_INIT_ENDED)
            if pid in self._children:
                _kill_group(pid)
            ended = os.wait4(pid, 0)
            self._bury(ended)
            self._cleaner.reaped(pid)
            if ended[1] == signal.SIGKILL and self._walls.init is not None and _is_ending(self._walls.init):
                raise SystemExit(_INIT_ENDED)  # else its death would be told as the job's own

    def _bury(self, ended: Tuple[int, int, Any]) -> None:
        pid, status, used = ended
        child = self._children.pop(pid, None)
        if child is None:  # adopted, the cleaner, or process 1
            return
        signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        now = time.monotonic()
        frame = {
            "type": "exited",
            "pid": pid,
            "code": None if signal_number else os.WEXITSTATUS(status),
            "signal": signal_number,
            "lived_s": now - child.begun,
            "cpu_s": used.ru_utime + used.ru_stime,
            "max_rss_bytes": used.ru_maxrss * 1024,  # Linux counts in KiB
            "stacks": child.dump.take(),
        }
        self._ended.append(_Ended(child.status, child.folder, now + _GONE_S, frame))

    def _clear_away(self) -> None:
        """Kill what children that ended have left behind; once nothing of it is there, report their ends."""
        left = self._left_behind()
        for pid in left:
            _kill_group(pid)
        now = time.monotonic()
        due = [ended for ended in self._ended if not left or now >= ended.report_by]
        self._ended = self._ended[len(due) :]  # they are in the order of their times
        for ended in due:
            _report(ended.status, ended.frame)
            os.close(ended.status)
            self._cleaner.remove(ended.folder)
        if due and not self._children and not self._ended:
            self._walls.forget_shared_memory()

    def _left_behind(self) -> List[int]:
        known = {*self._children, self._cleaner.pid}
        return [pid for pid in self._walls.adopted() if pid not in known]

    def _shed(self) -> None:
        """In a process that is no job's: leave what is open here."""
        signal.set_wakeup_fd(-1)
        os.closerange(cage.FAULTS + 1, max([self._highest, *self._descriptors]) + 1)


def serve(control_descriptor: int, limits: Dict[str, int]) -> None:
    """Serve until the service closes its end of the control socket; then end every child and return.

    Args:
        control_descriptor: this end of the control socket.
        limits: names of `resource.RLIMIT_*` and their values for every child, and whether to `isolate` them.
    """
    control = socket.socket(fileno=_move_away(control_descriptor))
    open_files = cage.within(
        resource.RLIMIT_NOFILE, limits.pop("RLIMIT_NOFILE")
    )  # not for this process: it holds two descriptors for each child
    walls = Walls(bool(limits.pop("isolate")))
    cage.prepare(limits)
    dump.prepare()
    server = _Server(control, walls, open_files)
    gc.disable()  # in the server; a child turns it on again
    try:
        server.serve()
    except (ConnectionResetError, BrokenPipeError):
        pass  # the service was killed
    finally:
        server.end()


def _move_away(descriptor: int) -> int:
    """Return another number for a descriptor, and keep those that mean something in a child out of use here."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, cage.FAULTS + 1)
    os.close(descriptor)
    while True:
        nothing = os.open(os.devnull, os.O_WRONLY)  # the lowest number that is free
        if nothing > cage.FAULTS:
            os.close(nothing)
            return moved


def _nothing(*_: object) -> None:
    """Let SIGCHLD write to the wake-up descriptor; the work is done outside the handler."""


def _refuse(status: int, exc: OSError, made: List[int]) -> None:
    """Report that there is no child and why, and close what was made for it."""
    _report(status, _refusal(f"cannot fork: {exc}"))
    for descriptor in (status, *made):
        os.close(descriptor)


def _refusal(why: str) -> wire.Frame:
    return {"type": "exited", "error": why}


def _report(status: int, frame: wire.Frame) -> None:
    try:
        os.write(status, wire.encode(frame))
    except BrokenPipeError:
        pass  # the service no longer listens


def _next_dead() -> Optional[int]:
    """The number of a child that has ended and is not reaped yet."""
    try:
        dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # there is none at all
        return None
    return None if dead is None else dead.si_pid


def _is_ending(pid: int) -> bool:
    """Whether a process that is not reaped yet has ended, or begun to: the last of a namespace is process 1."""
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            state, _, _, _, _, _, flags, *_ = file.read().rpartition(b")")[2].split()
    except OSError:  # no /proc
        return False
    return state in (b"Z", b"X") or bool(int(flags) & _PF_EXITING)


def _kill_group(pid: int) -> None:
    """End a child that is not reaped yet, and what it left in its group: until then both numbers are its own."""
    for kill in (os.killpg, os.kill):  # itself, too: it may have moved to another group
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
