"""What CPython's fault handler writes of a child: where its threads are, told without the GIL.

Who uses it: `server`, for a child that is to be killed and cannot tell it by itself, and for one that has crashed. Each
child has a file of its own, at the descriptor `cage.FAULTS`, and its parent has it, too.

The handler writes of 100 threads, the youngest first, and who is waited for is often the oldest: where the main thread
is not among them, or too far behind, it is asked for itself.

Source: CPython, Modules/faulthandler.c and Python/traceback.c: `MAX_NTHREADS`, and a guard that drops a second signal
while the first is handled.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from _thread import get_ident
from typing import Optional

from service.child import cage, calls

__all__ = ["EVERY_THREAD", "Dump", "prepare"]

EVERY_THREAD = signal.SIGRTMAX - 1  # tells the handler to write of every thread; nobody else uses it
_ONE_THREAD = signal.SIGRTMAX - 2  # and this one, of the thread that it reaches
_MOST_S = 0.2  # at most for that: 2 ms beside 64 computing threads, far more where it waits for a core
_STILL_S = 0.02  # without another byte, and it is taken for done, chosen: its thread may have to wait for a core
_MOST_BYTES, _MOST_JSON = 45_056, 49_152  # of it: 100 threads with four calls each take 41,000 bytes
_MOST_APART, _MOST_APART_JSON = 7_168, 8_192  # of the main thread told for itself; all in all one write into a pipe
_NOT_PLAIN = bytes({*range(256)} - {*range(32, 127), 10})  # the handler escapes what is not ASCII


def prepare() -> None:
    """Set the fault handler up in the fork server, for all children to come."""
    faulthandler.enable(cage.FAULTS)
    faulthandler.register(EVERY_THREAD, cage.FAULTS)
    faulthandler.register(_ONE_THREAD, cage.FAULTS, all_threads=False)


class Dump:
    """What is written of one child.

    Args:
        file: the descriptor into which its fault handler writes.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._size = 0
        self._changed = 0.0  # when it was last seen to grow
        self._give_up_at = 0.0
        self._apart: Optional[int] = None  # where in the file the main thread is told for itself

    def ask(self, pid: int) -> None:
        """Have the child write where its threads are."""
        os.kill(pid, EVERY_THREAD)
        self._give_up_at = time.monotonic() + _MOST_S

    def is_done(self, pid: int) -> bool:
        """Whether the child has written all, or had the time to."""
        now = time.monotonic()
        size = os.fstat(self._file).st_size
        if now >= self._give_up_at:
            return True
        if size != self._size:
            self._size, self._changed = size, now
            return False
        if size in (0, self._apart) or now - self._changed < _STILL_S:
            os.kill(pid, signal.SIGCONT)  # one that is stopped writes nothing, and may stop itself again meanwhile
            return False
        if self._apart is None and not self._tells_main() and _reaches_main(pid):
            self._apart = size
            return False
        return True

    def take(self) -> Optional[str]:
        """Return what was written, as far as it is told, and give up the file; None if nothing was."""
        most = _MOST_BYTES if self._apart is None else min(_MOST_BYTES, self._apart)
        data = _plain(os.pread(self._file, most, 0), _MOST_JSON)
        if self._apart is not None:
            data += b"\n" + _plain(os.pread(self._file, _MOST_APART, self._apart), _MOST_APART_JSON)
        os.close(self._file)
        return data.decode("ascii") or None

    def _tells_main(self) -> bool:
        """Whether the main thread is told early enough to be told whole."""
        return b"0x%016x " % get_ident() in os.pread(self._file, _MOST_BYTES - _MOST_APART, 0)  # a fork keeps it


def _reaches_main(pid: int) -> bool:
    """Ask the main thread of a process where it is. A signal to the process could reach any thread that lets it in."""
    return calls.signal_thread(pid, pid, int(_ONE_THREAD))


def _plain(data: bytes, most: int) -> bytes:
    """Return what is plain text of it; of what a scenario has written there to be long in JSON, the beginning."""
    text = data.translate(None, _NOT_PLAIN)
    return text if len(text) + sum(map(text.count, (b'"', b"\\", b"\n"))) <= most else text[: most // 2]
