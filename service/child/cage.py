"""The walls around a child, and what it can say of the system it runs on.

Who uses it: `server` for a fresh child and for its own greeting, `loop` at the end of a job. Some of it needs C through
`ctypes`; where an interpreter has none, the parts that need it are left out, and nothing else changes.
"""

from __future__ import annotations

import os
import platform
import resource
import signal
import sys
from typing import Any, Callable, Dict, Optional

try:
    import ctypes

    _libc: Any = ctypes.CDLL(None, use_errno=True)
    _prctl: Optional[Callable[..., int]] = getattr(_libc, "prctl", None)  # Linux only
except (ImportError, OSError):  # an interpreter built without libffi
    _libc = _prctl = None

__all__ = ["about", "collecting_file", "enter", "flush_streams", "prepare"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38
# What a thread of a free-threaded build takes of RLIMIT_DATA, touched or not: mimalloc maps it an arena.
# Where that fails, `Thread.start()` never returns (measured on 3.13.15t at about 150 threads; CPython issue 140746).
_FREE_THREAD_BYTES = 40 * 1_048_576  # 40 MiB

_IONBF = 2  # stdio.h of glibc and musl


def prepare(limits: Dict[str, int]) -> None:
    """Take on what children inherit: limits on resources, and that no program they start can gain privileges.

    Args:
        limits: names of `resource.RLIMIT_*` and their values, and how many `threads` a child may have.
    """
    threads = limits.pop("threads")
    if "t" in sys.abiflags:
        limits["RLIMIT_DATA"] += threads * _FREE_THREAD_BYTES
    for name, wished in limits.items():
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        value = wished if hard == resource.RLIM_INFINITY else min(wished, hard)
        resource.setrlimit(which, (value, value))
    if _prctl is not None:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _unbuffer_c_streams()


def collecting_file() -> int:
    """Return a new file without a name, to which a child's standard descriptors can point."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("output")
    descriptor = os.open("output", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    os.unlink("output")
    return descriptor


def enter(link: int, printed: int, highest: int, open_files: int) -> int:
    """Shut a fresh child in: a process group of its own, no descriptor that is not its own, no life without its parent.

    Args:
        link: the child's end of its link.
        printed: the file that collects what is written to the standard descriptors.
        highest: the highest descriptor that may be open.
        open_files: how many descriptors the child may have.

    Returns:
        The new number of the link. The collecting file is at 1 and 2.
    """
    os.setpgid(0, 0)
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    os.dup2(link, 3, inheritable=False)
    os.closerange(4, highest + 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    return 3


def _unbuffer_c_streams() -> None:
    """Make C's `stdout` write at once: what a child prints from C is then seen when it is printed, and never lost."""
    try:
        stdout = ctypes.c_void_p.in_dll(_libc, "stdout")
    except (NameError, TypeError, ValueError):  # no ctypes, or a C library that has it under another name
        return
    _libc.setvbuf(stdout, None, _IONBF, 0)


def flush_streams() -> None:
    """Write out what Python's original streams still hold, so that it reaches the file that is collected."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # the scenario closed it, or what is behind it
            pass


def about() -> Dict[str, Any]:
    """What every answer says about the interpreter and the machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": {
            "version": platform.python_version(),
            "implementation": sys.implementation.name,
            "gil": sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True,
            "free_threaded": "t" in sys.abiflags,  # sysconfig knows, too, but costs every fork a megabyte
            "executable": sys.executable,
            "switch_interval_s": sys.getswitchinterval(),
        },
        "machine": {"cpus": os.cpu_count(), "usable_cpus": usable, "platform": platform.platform()},
    }
