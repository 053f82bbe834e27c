"""System calls that keep the GIL, for what takes microseconds and must not change who runs.

Who uses it: the recorder, on a scenario's threads, and the shipper; the fault handler's `dump`, in the fork server, for
one that Python has no function for.

A call of `os` gives the GIL up, and beside computing threads its caller gets it back a switch interval later or more: a
thread that only reads its own figures would end after others that it was ahead of. `ctypes.PyDLL` makes the same call
without that.

Only what cannot block may be called so.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Optional

try:
    from ctypes import PyDLL, c_char_p, c_int, c_size_t, c_ssize_t, c_void_p, create_string_buffer
except ImportError:  # an interpreter that was built without it: it is done in the usual way
    PyDLL = None  # type: ignore[assignment,misc]

__all__ = ["read_file", "send", "signal_thread"]

_NOW = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)


def _load(name: str, *arguments: Any, returns: Any) -> Any:
    function = getattr(_libc, name)
    function.argtypes, function.restype = arguments, returns
    return function


if PyDLL is not None:
    _libc = PyDLL(None)
    _open = _load("open", c_char_p, c_int, returns=c_int)
    _read = _load("read", c_int, c_void_p, c_size_t, returns=c_ssize_t)
    _close = _load("close", c_int, returns=c_int)
    _send = _load("send", c_int, c_char_p, c_size_t, c_int, returns=c_ssize_t)
    _tgkill = _load("tgkill", c_int, c_int, c_int, returns=c_int) if hasattr(_libc, "tgkill") else None  # glibc 2.30


def read_file(path: bytes, most: int) -> Optional[bytes]:
    """Return the beginning of a file of /proc; None if it cannot be read.

    Args:
        most: bytes.
    """
    if PyDLL is None:
        return _read_by_os(path, most)
    descriptor = _open(path, os.O_RDONLY | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    data = create_string_buffer(most)
    count = _read(descriptor, data, most)
    _close(descriptor)
    return data.raw[:count] if count >= 0 else None


def _read_by_os(path: bytes, most: int) -> Optional[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(descriptor, most)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def send(descriptor: int, data: bytes) -> int:
    """Send as much as a socket takes at once, and return how many bytes that was; 0 also where it is broken."""
    return 0 if PyDLL is None else max(0, _send(descriptor, data, len(data), _NOW))


def signal_thread(process: int, thread: int, number: int) -> bool:
    """Send a signal to one thread of a process; return whether that could be done."""
    return PyDLL is not None and _tgkill is not None and bool(_tgkill(process, thread, number) == 0)
