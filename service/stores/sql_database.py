"""The database's file: who may use it, how it is opened, checked and brought forward, and the connections to it.

    open: lock ─▶ ours, of which revision? ─▶ after an unclean end: check ─▶ bring forward ─▶ once: make it shrinkable
    reading ─▶ one of many connections; waits a moment at most for another program's lock
    writing ─▶ the one connection that writes; a transaction that begins at once

Who uses it: `sql`, which reads on any thread, and `sql_writer` on its own.

A reader waits on a thread that other requests need, the writer on one of its own: therefore the one gives up soon and
the other has patience. Readers hardly ever meet a lock, since with a write-ahead log writers do not lock them out.

Source: sqlite.org/wal.html, sqlite.org/pragma.html, sqlite.org/howtocorrupt.html (a file that is removed in use).
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from service.errors import StoreUnavailable
from service.observer import Observer, ReadDone, nobody
from service.stores import sql_schema
from service.stores.faults import damaged, translated
from service.stores.lock import FileLock

__all__ = ["Database"]

_log = logging.getLogger(__name__)

_MIB = 1024 * 1024
_WRITE_PATIENCE_S = 5.0  # how long a commit waits for another program's lock
_READ_PATIENCE_S = 0.25  # as long as a client does not mind; 40 threads that wait longer would be a service that hangs
_CHECKED_BYTES = 512 * _MIB  # what can be checked within some seconds: 0.04 s for 100 MB, 1.5 s if none of it is cached
_LOG_BYTES = 16 * _MIB  # what the write-ahead log may keep on the disk while it is not needed
_INCREMENTAL = 2  # what `PRAGMA auto_vacuum` says of a file that can be made shorter bit by bit


_Place = tuple[int, int] | None  # device and number of a file


class Database:
    """A SQLite database in a file.

    Args:
        url: `sqlite:///PATH`.
        observe: hears of reads.

    Raises:
        StoreUnavailable: the URL names no file.

    Thread safety: `reading` may be used on any thread, `writing` on one at a time.
    """

    def __init__(self, url: str, observe: Observer = nobody) -> None:
        self.path = _path(url)
        self._observe = observe
        self._lock = FileLock(self.path)
        self._may_make = True  # a file where there is none; only while it is opened
        self._log = self.path.with_name(self.path.name + "-wal")
        self._place: _Place = None
        self._log_place: _Place = None
        self.reader = self._engine(_READ_PATIENCE_S, pool_size=5, max_overflow=-1)  # as many as there are threads
        self.writer = self._engine(_WRITE_PATIENCE_S, pool_size=1, max_overflow=0)
        sa.event.listen(self.writer, "begin", _begin)

    def _engine(self, patience_s: float, **pool: int) -> Engine:
        def connect() -> sqlite3.Connection:
            where = f"{self.path.as_uri()}?mode={'rwc' if self._may_make else 'rw'}"
            return sqlite3.connect(
                where,
                uri=True,
                timeout=patience_s,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )

        engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.QueuePool, **pool)
        sa.event.listen(engine, "connect", _set_pragmas)
        return engine

    def open(self) -> None:
        """Take the file, and make it one of the newest revision.

        Raises:
            DatabaseInUse: another service has it.
            StoreUnavailable: it cannot be used; the text says why and what to do.
        """
        self._lock.take()
        try:
            self._lock.pin()
            with translated(f"open {self.path}"):
                self._prepare()
            self._lock.pin()  # a file that was made just now
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        ended_badly = self._log.exists() and self._log.stat().st_size > 0  # who closes a database leaves no log
        if self._ask("PRAGMA page_count") == 0:
            self._ask("PRAGMA auto_vacuum=INCREMENTAL")  # not later: a transaction that may write makes the first page
        with self.writer.begin() as connection:
            found = sql_schema.revision(connection)
        self._ask("PRAGMA journal_mode=WAL")  # not earlier: another program's file is left as it is
        if ended_badly:
            self._check()
        with self.writer.begin() as connection:
            sql_schema.bring_forward(connection, found)
        if self._ask("PRAGMA auto_vacuum") != _INCREMENTAL:
            self._make_shrinkable()
        self._may_make = False
        self._place, self._log_place = _place(self.path), _place(self._log)

    def _check(self) -> None:
        """Refuse a file that a power cut or a bad disk has damaged, before more is written into it."""
        if self.path.stat().st_size > _CHECKED_BYTES:
            _log.warning("the database is not checked after an unclean end: it is too large", extra={"file": self.path})
            return
        found = " ".join(str(self._ask("PRAGMA quick_check(1)")).split())
        if found != "ok":
            raise damaged(self.path, found)

    def _make_shrinkable(self) -> None:
        """Lay out a file of before revision 0004 anew, once. One for which there is no room stays as long as it is."""
        _log.info("the database is laid out anew, so that it can shrink", extra={"file": self.path})
        try:
            self._ask("PRAGMA auto_vacuum=INCREMENTAL")
            self._ask("VACUUM")  # by the connection that has asked for it: the pool has no other
        except sqlite3.OperationalError as exc:
            _log.warning("the database could not be laid out anew", extra={"file": self.path, "reason": str(exc)})

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees what is committed.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        begun = time.perf_counter()
        try:
            with translated("read"):
                self._check_place()
                with self.reader.connect() as connection:
                    yield connection
        finally:
            self._observe(ReadDone(time.perf_counter() - begun))

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a transaction that is on disk when the block has ended.

        Raises:
            StoreUnavailable: nothing was written.
        """
        with translated("write"):
            self._check_place()
            with self.writer.begin() as connection:
                yield connection

    def fold(self) -> None:
        """Write the log into the file, and cut both to what they need. Whoever writes waits for a moment only.

        Raises:
            StoreUnavailable: it could not be done.
        """
        with translated("be folded"), closing(self.reader.raw_connection()) as connection:
            for mode in ("PASSIVE", "TRUNCATE"):  # the first does the work, beside the writer
                connection.cursor().execute(f"PRAGMA wal_checkpoint({mode})").fetchall()

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self.reader.dispose()
        self.writer.dispose()
        self._lock.release()

    def _check_place(self) -> None:
        """Refuse to go on in a file that nobody would find any more: SQLite itself would."""
        now = _place(self.path)
        if now is None:
            text = "is gone: put it back, or start the service again with an empty one."
        elif now != self._place:
            text = "is another one than the service opened: put that one back, or start the service again."
        elif _place(self._log) != self._log_place:
            text = f"has lost {self._log.name}: stop the service, which saves what that held, and start it again."
        else:
            return
        raise StoreUnavailable(f"The database's file {self.path} {text}")

    def _ask(self, statement: str) -> Any:
        """Return what a statement outside of a transaction answers."""
        with closing(self.writer.raw_connection()) as connection:
            row = connection.cursor().execute(statement).fetchone()
        return row and row[0]


def _path(url: str) -> Path:
    with suppress(sa.exc.ArgumentError):
        parsed = sa.make_url(url)
        name = parsed.database or ":memory:"  # each of our connections would see another one
        if name != ":memory:" and not name.startswith("file:") and not parsed.query:
            return Path(name).resolve()
    raise StoreUnavailable(f"{url} names no file: use sqlite:///FILE, or memory: to keep nothing.")


def _place(path: Path) -> _Place:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _set_pragmas(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("synchronous=FULL", f"journal_size_limit={_LOG_BYTES}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
