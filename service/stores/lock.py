"""One service, one file: a lock beside the database that the kernel lets go of however its holder ends.

Who uses it: the SQL store, from before it opens its file until after it has closed it. The lock is `flock`'s: it
belongs to this open file, which no program that is started from here inherits. What stands in the file is for people.

The database itself is locked as well, once it is there: the file beside it may be removed, and a hard link has another
one beside it. SQLite's own locks are of another kind (fcntl) and are not met; but closing any descriptor of a file lets
go of them, so that this one is closed last.

Source: flock(2), sqlite.org/howtocorrupt.html.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

from service import logs
from service.errors import DatabaseInUse, StoreUnavailable

__all__ = ["FileLock"]

_log = logging.getLogger(__name__)

_NOT_HERE = frozenset(
    {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
)  # what file systems say without flock
_SHOWN = 200  # characters of what another one wrote about itself; we write some 80


class FileLock:
    """The right to use a database, held from `take` to `release`.

    Args:
        database: the file it is about, symbolic links followed: whatever path led there, the lock is the same.

    Thread safety: `release` may be called from any thread.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = database.with_name(database.name + ".lock")
        self._releasing = threading.Lock()
        self._held: int | None = None  # a descriptor; taken away under _releasing: closed twice, it could be another's
        self._pinned: int | None = None  # as above, of the database itself

    def take(self) -> None:
        """Take the lock, or go on without one where the file system has none, and say so.

        Raises:
            DatabaseInUse: another service has it; the text says which.
            StoreUnavailable: its file cannot be made.
        """
        while self._held is None:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                who = logs.plain(os.pread(descriptor, _SHOWN, 0).decode(errors="replace").strip())
                os.close(descriptor)
                raise DatabaseInUse(self._database, who or "one that has not said which") from None
            except OSError as exc:
                os.close(descriptor)
                if exc.errno not in _NOT_HERE:
                    raise StoreUnavailable(f"{self._path} cannot be locked: {exc.strerror}.") from exc
                _log.warning("nothing keeps a second service from this database", extra={"reason": exc.strerror})
                return
            if _is_at(descriptor, self._path):
                self._held = descriptor
            else:  # whoever had it has just let go of it, and removed what we opened
                os.close(descriptor)
        with contextlib.suppress(OSError):  # a disk that is full; whoever is refused then is not told by whom
            os.ftruncate(self._held, 0)
            os.pwrite(self._held, _about_us().encode(), 0)

    def pin(self) -> None:
        """Lock the database itself, if it is there; nothing happens where that cannot be done. Idempotent.

        Raises:
            DatabaseInUse: another service has it, by another name or without its lock file.
        """
        if self._pinned is not None:
            return
        try:
            descriptor = os.open(self._database, os.O_RDONLY | os.O_CLOEXEC)  # on NFS not to be locked: SQLite meets it
        except OSError:  # SQLite says why, or makes it
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DatabaseInUse(self._database, "one that came to it by another way") from None
        except OSError:
            os.close(descriptor)
            return
        self._pinned = descriptor

    def release(self) -> None:
        """Let go of it, and leave no file behind. Idempotent."""
        with self._releasing:
            if self._pinned is not None:
                os.close(self._pinned)
                self._pinned = None
            if self._held is not None:
                self._path.unlink(missing_ok=True)  # before it is let go: after that it may be another one's
                os.close(self._held)
                self._held = None

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise StoreUnavailable(
                f"{self._path} cannot be made: {exc.strerror}. The database's folder must exist, and the user of the "
                "service be allowed to write there; or name another file in THREADLAB_DATABASE_URL."
            ) from exc


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _about_us() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n"
