"""The fork server: one warm, single-threaded process per interpreter, which forks one child per job.

    service                                 fork server                          child
       │  hello ◀──────────────────────────────│
       │  fork {job} + link + status ─────────▶│ load what to keep, gc.freeze()
       │                                       │ os.fork() ──────────────────────▶│ cage, loop.Job.serve
       │  kill {job} ─────────────────────────▶│ killpg ─────────────────────────▶│
       │  status: exited {code, signal, …} ◀───│ SIGCHLD: killpg, wait4           ✗

Who runs it: `python -I -S service/child/__main__.py FD`, started by `service.executors.forkserver`. It must stay
single-threaded (a fork carries over only the calling thread) and imports the standard library only.

The status pipe is the server's own: how a child ended is observed by its parent, and no child can write there. Before a
child is reaped its whole process group is killed, while its number still cannot belong to anybody else.
"""

from __future__ import annotations

# `signal.signal` turns numbers into enums, which costs a fresh child 0.2 ms
import _signal  # type: ignore[import-not-found]  # typeshed does not know it
import gc
import os
import select
import signal
import socket
import sys
import time
import traceback
from types import ModuleType
from typing import Any, Dict, List, Tuple

from service.child import cage, loop, wire

__all__ = ["serve"]

_CONTROL_BYTES = 262_144  # one read of the control socket; preloads are tens of kilobytes
_MAX_DESCRIPTORS = 8  # how many descriptors one read may carry; a fork carries two


class _Child:
    """A running child as its parent knows it."""

    def __init__(self, job: str, status: int, folder: str) -> None:
        self.job = job
        self.status = status
        self.folder = folder
        self.begun = time.monotonic()


class _Server:
    """The state of a fork server: what is loaded and which children run."""

    def __init__(self, control: socket.socket, open_files: int) -> None:
        self._control = control
        self._open_files = open_files
        self._frames = wire.FrameBuffer()
        self._descriptors: List[int] = []
        self._loaded: Dict[str, ModuleType] = {}  # by digest
        self._unfit: Dict[str, str] = {}  # digest -> source of what cannot be loaded here
        self._children: Dict[int, _Child] = {}  # by process number
        self._wakeup, self._signalled = os.pipe()
        self._base = os.getcwd()
        self._highest = max(control.fileno(), self._wakeup, self._signalled)  # the highest descriptor ever open here

    def serve(self) -> None:
        for end in (self._wakeup, self._signalled):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._signalled)
        signal.signal(signal.SIGCHLD, _nothing)
        loop.rehearse()
        self._say({"type": "hello", "protocol": wire.PROTOCOL, "pid": os.getpid(), **cage.about()})
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            for ready, _ in poll.poll():
                if ready == self._wakeup:
                    self._reap()
                elif not self._obey():
                    return

    def end(self) -> None:
        """End all children; the service is gone or has said goodbye."""
        for pid in self._children:
            _kill_group(pid)
        while self._children:
            self._bury(os.wait4(-1, 0))
        os.chdir(os.sep)
        _remove_tree(self._base)

    def _say(self, frame: wire.Frame) -> None:
        self._control.sendall(wire.encode(frame))

    def _obey(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, _CONTROL_BYTES, _MAX_DESCRIPTORS)
        if not data:
            return False
        self._descriptors += descriptors
        for frame in self._frames.feed(data):
            if frame["type"] == "fork":
                self._fork(frame)
            elif frame["type"] == "kill":
                self._kill(frame["job"])
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
        try:
            os.mkdir(folder, 0o700)
            os.chdir(folder)
            os.environ["HOME"] = os.environ["TMPDIR"] = folder
            printed = cage.collecting_file()
            self._highest = max(self._highest, link, status, printed, *self._descriptors)
            job = loop.Job(order, self._loaded.get(order["digest"]))
            pid = os.fork()
        except OSError as exc:
            _report(status, {"type": "exited", "error": f"cannot fork: {exc}"})
            os.close(status)
            os.close(link)
            return
        if pid == 0:
            self._become_child(job, link, printed)
        self._children[pid] = _Child(order["job"], status, folder)
        os.close(link)
        os.close(printed)
        try:
            os.setpgid(pid, pid)  # the child does the same: whoever is first, a kill finds the group
        except OSError:  # it has a group already, and is another program or gone
            pass

    def _become_child(self, job: loop.Job, link: int, printed: int) -> None:
        """Never returns: the process ends here, whatever happens."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            job.serve(cage.enter(link, printed, self._highest, self._open_files))
            code = 0
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass  # the service is gone: nobody to tell
        except BaseException:  # noqa: BLE001  the last line of defence: a broken child says so where C output goes
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)

    def _kill(self, job: str) -> None:
        for pid, child in self._children.items():
            if child.job == job:
                _kill_group(pid)
                return

    def _reap(self) -> None:
        try:
            os.read(self._wakeup, 4096)
        except BlockingIOError:
            pass
        while self._children:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if dead is None:
                return
            _kill_group(dead.si_pid)
            self._bury(os.wait4(dead.si_pid, 0))

    def _bury(self, ended: Tuple[int, int, Any]) -> None:
        pid, status, used = ended
        child = self._children.pop(pid)
        signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        _report(
            child.status,
            {
                "type": "exited",
                "pid": pid,
                "code": None if signal_number else os.WEXITSTATUS(status),
                "signal": signal_number,
                "lived_s": time.monotonic() - child.begun,
                "cpu_s": used.ru_utime + used.ru_stime,
                "max_rss_bytes": used.ru_maxrss * 1024,  # Linux counts in KiB
            },
        )
        os.close(child.status)
        try:
            os.rmdir(child.folder)
        except OSError:  # it is not empty, or not there any more
            _remove_tree(child.folder)


def serve(control_descriptor: int, limits: Dict[str, int]) -> None:
    """Serve until the service closes its end of the control socket; then end every child and return.

    Args:
        control_descriptor: this end of the control socket.
        limits: names of `resource.RLIMIT_*` and their values for every child.
    """
    open_files = limits.pop("RLIMIT_NOFILE")  # not for this process: it holds two descriptors for each child
    cage.prepare(limits)
    server = _Server(socket.socket(fileno=control_descriptor), open_files)
    gc.disable()  # in the server; a child turns it on again
    try:
        server.serve()
    except ConnectionResetError:
        pass  # the service was killed
    finally:
        server.end()


def _nothing(*_: object) -> None:
    """Let SIGCHLD write to the wake-up descriptor; the work is done outside the handler."""


def _report(status: int, frame: wire.Frame) -> None:
    try:
        os.write(status, wire.encode(frame))
    except BrokenPipeError:
        pass  # the service no longer listens


def _kill_group(pid: int) -> None:
    """End a child that is not reaped yet, and what it left in its group: until then both numbers are its own."""
    for kill in (os.killpg, os.kill):  # itself, too: it may have moved to another group
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def _remove_tree(folder: str) -> None:
    import shutil  # noqa: PLC0415  rarely needed, and its libraries would make every fork dearer

    shutil.rmtree(folder, ignore_errors=True)
