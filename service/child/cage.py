"""The limits of a child, its descriptors, and what it can say of the system it runs on.

Who uses it: `server` for a fresh child and for its own greeting, `loop` at the end of a job. Some of it needs C through
`ctypes`; where an interpreter has none, the parts that need it are left out, and nothing else changes.
"""

from __future__ import annotations

import errno
import os
import platform
import resource
import sys
from typing import Any, Dict, List, NamedTuple, Optional

from service.child.walls import Walls

try:
    import ctypes

    _libc: Any = ctypes.CDLL(None)
except (ImportError, OSError):  # an interpreter built without libffi
    _libc = None

__all__ = [
    "FAULTS",
    "Doors",
    "about",
    "collecting_file",
    "enter",
    "flush_streams",
    "limits_told",
    "prepare",
    "which_limit",
    "within",
]

FAULTS = 4  # descriptor, in the fork server and in every child: where CPython's fault handler writes
_LINK = 3

# What a thread of a free-threaded build takes of RLIMIT_DATA, touched or not: mimalloc maps it an arena.
# Where that fails, `Thread.start()` never returns (measured on 3.13.15t at about 150 threads; CPython issue 140746).
_FREE_THREAD_BYTES = 40 * 1_048_576  # 40 MiB

_IONBF = 2  # stdio.h of glibc and musl
_CPU_SPARE_S = 10  # beyond what a job can use until its deadline: this limit is for what nobody ends any more


def prepare(limits: Dict[str, int]) -> None:
    """Take on the limits that children inherit.

    Args:
        limits: names of `resource.RLIMIT_*` and their values, and how many `threads` a child may have.
    """
    threads = limits.pop("threads")
    if "t" in sys.abiflags:
        limits["RLIMIT_DATA"] += threads * _FREE_THREAD_BYTES
    for name, wished in limits.items():
        _limit(getattr(resource, name), wished)
    _unbuffer_c_streams()


def within(which: int, wished: int) -> int:
    """Return what a limit can be set to: no process may have more than its parent may."""
    hard = resource.getrlimit(which)[1]
    return wished if hard == resource.RLIM_INFINITY else min(wished, hard)


def _limit(which: int, wished: int) -> None:
    value = within(which, wished)
    resource.setrlimit(which, (value, value))


def limits_told(open_files: int) -> List[Dict[str, Any]]:
    """Return the limits in force as rows of {name, by, missing}, like those of `Walls.told`."""
    unbound = "it does not bind root" if os.getuid() == 0 else None
    return [
        _told("memory", f"RLIMIT_DATA: {resource.getrlimit(resource.RLIMIT_DATA)[0]} bytes for each process"),
        _told("file_size", f"RLIMIT_FSIZE: {resource.getrlimit(resource.RLIMIT_FSIZE)[0]} bytes for each file"),
        _told("open_files", f"RLIMIT_NOFILE: {open_files} for each process"),
        _told("cpu_time", f"RLIMIT_CPU: the job's time on every core, and {_CPU_SPARE_S} s, for each process"),
        _told("processes", f"RLIMIT_NPROC: {resource.getrlimit(resource.RLIMIT_NPROC)[0]} for this user", unbound),
    ]


def _told(name: str, by: str, missing: Optional[str] = None) -> Dict[str, Any]:
    return {"name": name, "by": by, "missing": missing}


def which_limit(exc: BaseException) -> Optional[str]:
    """Return a sentence about the limit that an exception tells of; None if it tells of none."""
    if isinstance(exc, MemoryError):
        return f"It met the limit of its memory, {resource.getrlimit(resource.RLIMIT_DATA)[0]} bytes (RLIMIT_DATA)."
    if isinstance(exc, OSError) and exc.errno == errno.EMFILE:
        return f"It met the limit of its descriptors, {resource.getrlimit(resource.RLIMIT_NOFILE)[0]} (RLIMIT_NOFILE)."
    if isinstance(exc, OSError) and exc.errno == errno.EFBIG:
        return f"It met the limit of a file, {resource.getrlimit(resource.RLIMIT_FSIZE)[0]} bytes (RLIMIT_FSIZE)."
    if isinstance(exc, RuntimeError) and str(exc) == "can't start new thread":
        return "It met the limit of its memory (RLIMIT_DATA, in which stacks count) or of processes (RLIMIT_NPROC)."
    return None


def collecting_file() -> int:
    """Return a new file without a name, to which a child's descriptors can point."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("output")
    descriptor = os.open("output", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    os.unlink("output")
    return descriptor


class Doors(NamedTuple):
    """The descriptors that a child gets, by their numbers in the fork server.

    Attributes:
        link: the child's end of its link.
        printed: the file that collects what is written to the standard descriptors.
        faults: the file into which CPython's fault handler writes.
        fence: see `Walls.fence`.
        highest: the highest descriptor that may be open.
    """

    link: int
    printed: int
    faults: int
    fence: Optional[int]
    highest: int


def enter(walls: Walls, doors: Doors, open_files: int, timeout_s: float) -> int:
    """Shut a fresh child in: a process group of its own, walls, limits, no descriptor that is not its own.

    Args:
        open_files: how many descriptors the child may have.
        timeout_s: seconds that its job may run.

    Returns:
        The new number of the link. The collecting file is at 1 and 2, the fault handler's at `FAULTS`.

    Raises:
        OSError: it cannot be shut in; where its walls are why, no descriptor is closed yet.
    """
    os.setpgid(0, 0)
    walls.enter(doors.fence)
    os.dup2(doors.printed, 1)
    os.dup2(doors.printed, 2)
    os.dup2(doors.link, _LINK, inheritable=False)
    os.dup2(doors.faults, FAULTS, inheritable=False)
    os.closerange(FAULTS + 1, doors.highest + 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    _limit(resource.RLIMIT_CPU, int(timeout_s * (os.cpu_count() or 1)) + _CPU_SPARE_S)
    return _LINK


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
