"""The walls that Linux can put around children: namespaces, Landlock, no capabilities; and which of them stand here.

Who uses it: `server`, once at its start and for each child. Everything here needs system calls that Python has no
function for; where `ctypes`, the kernel or the operator's rules do not give them, a wall is missing, nothing else
changes, and `told` says so: what cannot be undone is done first in a process of its own, which costs a fork server 3 ms
at its start. What is set up once costs a child nothing; the rest is 30 us for each (both measured on 3.11.7).

    fork server ─┬─ init of the PID namespace: process 1, which adopts what children leave behind and never does more
                 └─ children, each in a Landlock domain of its own

The fork server itself stays outside the PID namespace, so that it can tell children apart by numbers that mean
something to the service. When it dies, however that comes, the kernel ends process 1, and with it all that is left.

Source: Linux, namespaces(7), pid_namespaces(7), user_namespaces(7), landlock(7), capabilities(7), prctl(2).
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from service.child import folders

try:
    import ctypes
    import fcntl

    _libc: Any = ctypes.CDLL(None, use_errno=True)
except (ImportError, OSError):  # an interpreter built without libffi
    _libc = None

__all__ = ["Walls", "die_with_parent", "gain_no_privileges"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_NEW_MOUNTS = 0x00020000  # linux/sched.h: CLONE_NEW...
_NEW_IPC = 0x08000000
_NEW_USERS = 0x10000000
_NEW_PIDS = 0x20000000
_NEW_NETWORK = 0x40000000
_NAMESPACES = _NEW_MOUNTS | _NEW_IPC | _NEW_PIDS | _NEW_NETWORK

_MS_PRIVATE_REC = 0x44000  # linux/mount.h: MS_REC | MS_PRIVATE
_MS_NOSUID_NODEV = 6
_SHM_BYTES = 256 * 1_048_576  # 256 MiB of /dev/shm for all children of a fork server, chosen: semaphores need a page
_FORGETTING_S = 0.005  # of the fork server's only thread, for which other jobs wait: some hundred files
_SIOCSIFFLAGS = 0x8914  # linux/sockios.h
_IFF_UP_RUNNING = 0x41

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_RULESET_VERSION = 1  # flag: tell the ABI
_PATH_BENEATH = 1  # kind of rule
_WRITE_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 13, 1 << 14  # linux/landlock.h: LANDLOCK_ACCESS_FS_...
_CHANGES = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))  # write, remove and make, whatever the kind
_SCOPES = 3  # abstract sockets and signals: none to whom is not in the same job

_CAPABILITIES_V3 = 0x20080522  # linux/capability.h

_UNWISHED = "switched off by the operator"


class _Wall(NamedTuple):
    """A wall, by what it stands, and if it does not, why."""

    name: str
    by: str
    missing: Optional[str]


class Walls:
    """Puts the walls up around the calling process, which is going to fork children, as far as they can be.

    Args:
        wished: False leaves out namespaces and Landlock, for scenarios that need the network or other folders.

    Attributes:
        told: a list of {name, by, missing}; `missing` is null where a wall stands.
        init: the number of process 1 in the children's PID namespace; None where there is none.
    """

    def __init__(self, wished: bool) -> None:
        no_namespaces = _enter_namespaces() if wished else _UNWISHED
        no_memory = no_namespaces or _mount_shared_memory()
        self.init: Optional[int] = None
        if no_namespaces is None:
            self.init, self._init_lives_by = _start_init()
        self._adopts = self.init is None and _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        unprivileged = gain_no_privileges()
        self._abi: int
        self._abi, no_landlock = _landlock_abi() if wished else (0, _UNWISHED)
        self._shared = _open_places(self._abi) if self._abi else {}
        self._ruleset = ctypes.create_string_buffer(_ruleset(self._abi)) if self._abi else None
        powerless = _drop_capabilities()
        if self._ruleset is not None:
            no_landlock = _rehearse(lambda: self.enter(self.fence(os.curdir)))
            if no_landlock is not None:
                self._abi, self._ruleset = 0, None
        self._own_memory = no_memory is None
        walls = [
            _Wall("network", "a network namespace with nothing but its own loopback", no_namespaces),
            _Wall("shared_memory", f"a /dev/shm of {_SHM_BYTES >> 20} MiB of their own", no_memory),
            _Wall("files", f"Landlock, ABI {self._abi}: writes to its own folder only", no_landlock),
            _Wall("signals", "Landlock: none to other jobs, nor to the service", self._lets_signals_pass(no_landlock)),
            _Wall("orphans", "a PID namespace, which ends with its fork server", no_namespaces),
            _Wall("privileges", "no_new_privs and no capabilities", unprivileged or powerless),
        ]
        self.told: List[Dict[str, Any]] = [wall._asdict() for wall in walls]

    def _lets_signals_pass(self, no_landlock: Optional[str]) -> Optional[str]:
        """Why jobs can end each other, if they can: a PID namespace has them all, and hides the service only."""
        if self._abi >= 6:
            return None
        why = no_landlock or f"Landlock's ABI is {self._abi}, not 6"
        return why if self.init is None else f"{why}: other jobs can be met, the service cannot"

    def forget_shared_memory(self) -> None:
        """Empty the children's own /dev/shm, while there are none; what takes long is left to the next call."""
        if not self._own_memory:
            return
        deadline = time.monotonic() + _FORGETTING_S
        with os.scandir("/dev/shm") as entries:  # noqa: S108  it is ours
            for entry in entries:
                folders.remove(entry.path, deadline - time.monotonic())
                if time.monotonic() >= deadline:
                    return

    def fence(self, folder: str) -> Optional[int]:
        """Return the descriptor of a fence that leaves nothing to write to but a folder.

        Returns:
            None where this wall is missing, and only there.

        Raises:
            OSError: it cannot be made now.
        """
        if self._ruleset is None:
            return None
        fence = _check(
            "landlock_create_ruleset", _libc.syscall(_CREATE_RULESET, self._ruleset, len(self._ruleset) - 1, 0)
        )
        try:
            own = os.open(folder, os.O_PATH | os.O_DIRECTORY)
            try:
                for place, rights in [(own, _rights(self._abi)), *self._shared.items()]:
                    rule = struct.pack("=Qi", rights, place)
                    _check("landlock_add_rule", _libc.syscall(_ADD_RULE, fence, _PATH_BENEATH, rule, 0))
            finally:
                os.close(own)
        except OSError:
            os.close(fence)
            raise
        return fence

    def enter(self, fence: Optional[int]) -> None:
        """Shut the calling process, a fresh child, in for good. What it leaves behind will be its own to the end.

        Raises:
            OSError: it cannot be fenced, and must not run anything.
        """
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        die_with_parent()
        if fence is not None:
            _check("landlock_restrict_self", _libc.syscall(_RESTRICT_SELF, fence, 0))

    def adopted(self) -> List[int]:
        """Return the processes that have outlived the child that started them, directly or not; not their own."""
        adopter = self.init or os.getpid()
        if self.init is None and not self._adopts:
            return []
        try:
            with open(f"/proc/{adopter}/task/{adopter}/children", "rb") as file:
                return [int(number) for number in file.read().split()]
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN, or init is gone and all is over
            return []


def die_with_parent() -> None:
    """Have the kernel kill the calling process when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def gain_no_privileges() -> Optional[str]:
    """See that neither this process nor one that it starts can become more than it is; return why not, if so."""
    return None if _prctl(_PR_SET_NO_NEW_PRIVS, 1) else "the system has no prctl"


def _prctl(option: int, value: int) -> bool:
    call = getattr(_libc, "prctl", None)  # Linux only
    return call is not None and call(option, value, 0, 0, 0) == 0


def _enter_namespaces() -> Optional[str]:
    """Move to namespaces of our own; return why not, if so: then nothing has changed."""
    if _libc is None or not sys.platform.startswith("linux"):
        return "this interpreter has no ctypes" if _libc is None else "this is not Linux"
    user, group = os.getuid(), os.getgid()  # once there, both are nobody's until they are mapped
    why_not = _rehearse(lambda: _furnish(_unshare(), user, group))
    if why_not is not None:
        return why_not
    try:
        new_users = _unshare()
    except OSError as exc:  # the last namespace that may be is the rehearsal's, and the kernel is not done with it
        return _told(exc)
    _furnish(new_users, user, group)
    return None


def _unshare() -> bool:
    """Move to new namespaces; return whether users are among them.

    Raises:
        OSError: they are not allowed, and nothing has changed.
    """
    if _libc.unshare(_NAMESPACES) == 0:
        return False
    _check("unshare", _libc.unshare(_NAMESPACES | _NEW_USERS))  # not privileged: one's own users make one so
    return True


def _furnish(new_users: bool, user: int, group: int) -> None:
    """Give new namespaces what they lack: users, and a loopback that is up.

    Raises:
        OSError: the system allows the namespaces, but not this; AppArmor may.
    """
    if new_users:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP_RUNNING))
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, "loopback") from exc


def _mount_shared_memory() -> Optional[str]:
    """Lay a /dev/shm of our own over the system's; return why not, if so."""
    try:
        _check("mount /", _libc.mount(b"none", b"/", None, _MS_PRIVATE_REC, None))  # or the next is everybody's
        size = b"mode=1777,size=%d" % _SHM_BYTES
        _check("mount /dev/shm", _libc.mount(b"shm", b"/dev/shm", b"tmpfs", _MS_NOSUID_NODEV, size))
    except OSError as exc:
        return _told(exc)
    return None


def _rehearse(act: Callable[[], object]) -> Optional[str]:
    """Do in a process of its own what cannot be undone; return why it cannot be done, if so."""
    read, written = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        except OSError as exc:
            os.write(written, _told(exc).encode())
        except BaseException:  # noqa: BLE001  nobody else would hear of it
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    os.close(written)
    with open(read, "rb") as pipe:
        why_not = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    return None if status == 0 else why_not or f"a rehearsal ended with the status {status}"


def _check(step: str, result: int) -> int:
    """Return the result of a system call.

    Raises:
        OSError: it has failed; the name of the step stands where a file's would.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), step)
    return result


def _told(exc: OSError) -> str:
    return f"the system does not allow it: {exc.strerror} ({exc.filename})"


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    except OSError as exc:  # which does not know the file's name
        raise OSError(exc.errno, exc.strerror, path) from exc
    finally:
        os.close(descriptor)


def _start_init() -> Tuple[int, int]:
    """Fork process 1 of the PID namespace. The kernel reaps what it adopts: SIGCHLD is ignored.

    Returns:
        Its number, and the end of a pipe by which it lives. `prctl` alone would let it live for good if its parent has
        ended before it, and it could not see that: a parent outside its namespace has the number 0, gone or not.
    """
    watched, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python has a handler; others the kernel keeps from process 1
            die_with_parent()  # a child that is just being forked holds the pipe, too
            os.dup2(watched, 3)
            os.closerange(4, 256)
            os.read(3, 1)
        finally:
            os._exit(0)
    os.close(watched)
    return pid, held


def _landlock_abi() -> Any:
    """Return the version of Landlock and None, or 0 and why there is none."""
    if _libc is None:
        return 0, "this interpreter has no ctypes"
    abi = _libc.syscall(_CREATE_RULESET, None, 0, _RULESET_VERSION)
    return (abi, None) if abi > 0 else (0, f"the kernel has no Landlock: {os.strerror(ctypes.get_errno())}")


def _rights(abi: int) -> int:
    return _CHANGES | (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0)


def _ruleset(abi: int) -> bytes:
    """What a domain rules: changes of files; and, where it can, signals and abstract sockets."""
    if abi < 6:
        return struct.pack("Q", _rights(abi))
    return struct.pack("QQQ", _rights(abi), 0, _SCOPES)


def _open_places(abi: int) -> Dict[int, int]:
    """Return what every child may write to, opened, with the rights there."""
    device = _rights(abi) & (_WRITE_FILE | _TRUNCATE)
    rights = {"/dev/null": device, "/dev/zero": device, "/dev/full": device}
    rights["/dev/shm"] = _rights(abi)  # noqa: S108  semaphores of `multiprocessing` are files there
    return {os.open(path, os.O_PATH): right for path, right in rights.items() if os.path.exists(path)}


def _drop_capabilities() -> Optional[str]:
    """Give up every capability; return why not, if so."""
    call: Optional[Callable[..., int]] = getattr(_libc, "capset", None)
    if call is None:
        return "the system has no capset"
    header = struct.pack("=Ii", _CAPABILITIES_V3, 0)
    return None if call(header, bytes(24)) == 0 else os.strerror(ctypes.get_errno())
