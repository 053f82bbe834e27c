"""One warm fork server per interpreter: starts it, asks it for children, and has it kill them.

Who uses it: `executors.local`, from any pool thread. The other end is `child/server.py`, which draws the conversation.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from service import child as child_package
from service.child import folders, wire
from service.errors import ForkFailed, ForkServerDied
from service.executors.base import Order
from service.jobs import ProcessEnd

__all__ = ["Child", "ForkServer", "process_end"]

_CHILD_MAIN = Path(child_package.__file__).with_name("__main__.py")
_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "PATH")  # what an interpreter may need to start at all; the rest is scrubbed
_END_TIMEOUT_S = 5.0  # for a fork server that was told goodbye to kill its children and go
_SEND_TIMEOUT_S = 5  # for a fork server to take what it is told: one that is stopped holds nobody up for longer
_CLEANING_S = 0.1  # for what it has left, while jobs wait for another one; what takes longer is done beside them
_RECEIVE_BYTES = 65_536


class Child:
    """A child as the service holds it: the link to it, and the pipe in which its parent reports its end."""

    def __init__(self, server: ForkServer, job_id: str, link: socket.socket, status: int) -> None:
        self._server = server
        self._job_id = job_id
        self._frames = wire.FrameBuffer()
        self.link = link
        self.status = status

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()
        os.close(self.status)

    def send(self, frame: wire.Frame) -> None:
        """Send a frame down; a child that is gone is told so by its status, not here."""
        with contextlib.suppress(OSError):
            self.link.sendall(wire.encode(frame))

    def receive(self) -> Iterable[wire.Frame] | None:
        """Return the frames of the next read, or None when the child's end is closed.

        Going through them raises BadFrame where what came is no frame.
        """
        try:
            data = self.link.recv(_RECEIVE_BYTES)
        except ConnectionResetError:  # it was killed with unread frames of ours
            data = b""
        return self._frames.feed(data) if data else None

    def kill(self, *, stacks: bool = False) -> None:
        """End the child's process group by force; its status tells when that has happened.

        Args:
            stacks: let CPython's fault handler first write down where every thread is, which takes a few milliseconds.
        """
        self._server.kill(self._job_id, stacks=stacks)

    def ended(self) -> wire.Frame:
        """Return the fork server's word on how the child ended; call when `status` is readable.

        The first word counts: after a child that could not be shut in has said so, it is told how that one ended.

        Raises:
            ForkServerDied: it is gone, and its children with it.
        """
        data = os.read(self.status, _RECEIVE_BYTES)  # short writes: never torn
        if not data:
            raise ForkServerDied("The fork server ended while a child of its was running.")
        return wire.decode(data.partition(b"\n")[0])


class ForkServer:
    """A running fork server.

    Args:
        command: a CPython from 3.9 on and its options.
        kept: digests of the scenarios that it loads once, at their first order, and not anew in each child.
        limits: names of `resource.RLIMIT_*` and their values for every child, and whether to `isolate` them.
        startup_timeout_s: seconds for the interpreter to start.

    Attributes:
        folder: where each of its children has a folder of its own, by the job's id.
        walls: what shuts its children in: rows of {name, by, missing}.
        main_ident: the ident of the main thread in each of its children.

    Raises:
        ForkServerDied: it did not come up.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(
        self, command: Sequence[str], kept: Collection[str], limits: dict[str, int], startup_timeout_s: float
    ) -> None:
        self._sending = threading.Lock()
        self._cleaning = threading.Lock()  # held for good by who removes the folder
        self._asking = threading.Lock()  # held for a ping and its answer
        self._kept = frozenset(kept)
        self._unseen = set(kept)  # of these, the ones that it does not have yet; guarded by _sending
        self.folder = _make_folder()
        self._control, theirs = self._make_sockets()
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_TIMEOUT_S, 0))
        with theirs:
            self._process = self._spawn(command, theirs, limits)
        self._frames = wire.FrameBuffer()
        try:
            self._greet(time.monotonic() + startup_timeout_s)
        except (OSError, KeyError, TypeError, wire.BadFrame, ForkServerDied) as exc:
            self.close()
            raise ForkServerDied(f"The fork server of {shlex.join(command)} did not come up: {exc}") from exc

    def _make_sockets(self) -> tuple[socket.socket, socket.socket]:
        try:
            return socket.socketpair()
        except OSError as exc:
            folders.remove(self.folder)
            raise ForkServerDied(
                f"This process has no descriptors left for a fork server: {exc}. Raise its limit (`ulimit -n`)."
            ) from exc

    def _spawn(self, command: Sequence[str], theirs: socket.socket, limits: dict[str, int]) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        try:
            return subprocess.Popen(  # noqa: S603  the executable is the operator's choice, never a client's
                [*command, "-I", "-S", str(_CHILD_MAIN), str(theirs.fileno()), json.dumps(limits)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # its stderr stays the service's: a fork server that fails is heard
                cwd=self.folder,
                env={**environment, "LANG": "C.UTF-8"},
                start_new_session=True,  # a Ctrl-C on the terminal is for the service, which then decides
            )
        except OSError as exc:
            self._control.close()
            folders.remove(self.folder)
            raise ForkServerDied(f"{command[0]} cannot be started: {exc}") from exc

    def _greet(self, deadline: float) -> None:
        hello = self._answer(deadline)
        if hello.get("protocol") != wire.PROTOCOL:
            raise ForkServerDied(f"it speaks protocol {hello.get('protocol')!r}, the service {wire.PROTOCOL}")
        self.pid: int = hello["pid"]
        self.python: dict[str, Any] = hello["python"]
        self.machine: dict[str, Any] = hello["machine"]
        self.walls: list[dict[str, Any]] = hello["walls"]
        self.main_ident: int = hello["main_ident"]

    def _answer(self, deadline: float) -> wire.Frame:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while True:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError("timed out")
            data = self._control.recv(_RECEIVE_BYTES)
            if not data:
                raise ForkServerDied(self._end())
            for frame in self._frames.feed(data):
                return frame

    def _end(self) -> str:
        """Say how it ended, after it has closed its socket; to clean up may take it longer than this waits."""
        try:
            return f"it ended with exit code {self._process.wait(_END_TIMEOUT_S)}"
        except subprocess.TimeoutExpired:
            return f"it hung up, and has not ended after {_END_TIMEOUT_S:g} s"

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def fork(self, order: Order) -> Child:
        """Return a fresh child, which serves the order at once.

        Raises:
            ForkServerDied: there is no fork server any more.
            ForkFailed: this process has no descriptors left for another child.
        """
        try:
            link, theirs = socket.socketpair()
            status, reports = os.pipe()
        except OSError as exc:
            raise ForkFailed(f"This process has no descriptors left for another child: {exc}") from exc
        try:
            with self._sending:
                self._say(self._fork_frame(order), theirs.fileno(), reports)
                self._unseen.discard(order.digest)
        except BaseException:
            link.close()
            os.close(status)
            raise
        finally:
            theirs.close()
            os.close(reports)
        return Child(self, order.job_id, link, status)

    def _fork_frame(self, order: Order) -> wire.Frame:
        return {
            "type": "fork",
            "job": order.job_id,
            "scenario": order.scenario,
            "digest": order.digest,
            "keep": order.digest in self._unseen,
            "source": None if order.digest in self._kept - self._unseen else order.source,
            "params": order.params,
            "timeout_s": order.timeout_s,
            "max_output_bytes": order.kept.output_bytes,
            "max_events": order.kept.events,
            "trace": order.trace,
        }

    def kill(self, job_id: str, *, stacks: bool = False) -> None:
        """End the process group of a job's child by force, if it still runs."""
        with contextlib.suppress(ForkServerDied), self._sending:  # if it is gone, its children died with it
            self._say({"type": "kill", "job": job_id, "stacks": stacks})

    def ping(self, timeout_s: float) -> None:
        """See that it still obeys, and has a folder to work in.

        Raises:
            ForkServerDied: it did not answer in time, or ended.
        """
        with self._asking:
            with self._sending:
                self._say({"type": "ping"})
            try:
                self._answer(time.monotonic() + timeout_s)
            except (OSError, ValueError) as exc:  # a ValueError: another thread has closed it
                raise ForkServerDied(f"The fork server did not answer within {timeout_s:g} s.") from exc
            except ForkServerDied as exc:
                raise ForkServerDied(f"The fork server is gone: {exc}") from exc

    def _say(self, frame: wire.Frame, *descriptors: int) -> None:
        """Send a frame, and the lock `_sending` is held."""
        data = wire.encode(frame)
        try:
            rest = data[socket.send_fds(self._control, [data], descriptors) :]
            if rest:  # to send nothing would fail, too, if it has heard all and died since
                self._control.sendall(rest)
        except OSError as exc:
            raise ForkServerDied(f"The fork server is gone: {exc}") from exc

    def close(self, patience_s: float = _END_TIMEOUT_S) -> None:
        """End the fork server and every child of its. Idempotent.

        Args:
            patience_s: seconds that it has to go by itself; then it is killed.
        """
        self._control.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._cleaning.acquire(blocking=False):
            self._clean()

    def _clean(self) -> None:
        """Remove what is left in its folder; where that takes long, beside the caller."""
        if not folders.remove(self.folder, _CLEANING_S):
            rest = threading.Thread(target=folders.remove, args=(self.folder,), name="clean a fork server's folder")
            with contextlib.suppress(RuntimeError):  # there is no room for a thread, or the service is at its end
                rest.start()


def _make_folder() -> str:
    try:
        return tempfile.mkdtemp(prefix="threadlab-")
    except OSError as exc:
        raise ForkServerDied(
            f"No folder can be made for a fork server: {exc}. "
            "See that TMPDIR names one in which the service's user may write, and that there is room."
        ) from exc


def process_end(exited: wire.Frame) -> ProcessEnd:
    """Return the fork server's word on a child's end in the terms of an answer."""
    number = exited.get("signal")
    return ProcessEnd(
        pid=exited.get("pid"),
        exit_code=exited.get("code"),
        signal=None if number is None else _signal_name(number),
        lived_s=exited.get("lived_s"),
        cpu_s=exited.get("cpu_s"),
        max_rss_bytes=exited.get("max_rss_bytes"),
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"SIG{number}"
