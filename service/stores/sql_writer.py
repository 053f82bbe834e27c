"""The one thread that writes.

    any thread ── write ──▶ waiting ──▶ writer thread: one transaction for all of them ──▶ futures

Who uses it: `sql`. All that has come in while the last commit ran is committed in one transaction, so that the cost of
a sync is shared.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from sqlalchemy.engine import Connection

from service.errors import StoreUnavailable, ThreadlabError
from service.observer import Committed, Observer, nobody
from service.promises import promise
from service.stores.faults import is_of_one_write
from service.stores.sql_database import Database

__all__ = ["Writer"]

T = TypeVar("T")

_MAX_BATCH = 500  # writes in one transaction: keeps a commit under some 50 ms, so that nobody waits long
_LAZY_S = 0.05  # how late a lazy write can come: what it tells of, nobody was told of before


class Writer:
    """Carries out writes in the order in which they were called for.

    Args:
        database: open before `start`.
        observe: hears of commits.

    Thread safety: all methods may be called from any thread. Callbacks of futures run on the writer's thread.
    """

    def __init__(self, database: Database, observe: Observer = nobody) -> None:
        self._database = database
        self._observe = observe
        self._thread = threading.Thread(target=self._write_all, name="store-writer", daemon=True)
        self._news = threading.Condition()
        self._waiting: deque[_Write[Any]] = deque()  # in the order of the calls; guarded by _news
        self._urgent = False  # whether somebody waits for one of them; guarded by _news
        self._closed = False  # guarded by _news

    def start(self) -> None:
        """Begin to write; the database must be open."""
        self._thread.start()

    def write(self, change: Callable[[Connection], T], lazily: bool = False) -> Future[T]:
        """Make a change with one of the next commits.

        Args:
            lazily: it may wait for the next write that does not, or come 50 ms late.

        The future raises:
            StoreUnavailable: nothing was changed.
        """
        write = _Write(change)
        with self._news:
            if self._closed:
                write.done.set_exception(StoreUnavailable("The store is closed."))
                return write.done
            self._waiting.append(write)
            if not lazily and not self._urgent:
                self._urgent = True
                self._news.notify()
        return write.done

    def close(self) -> None:
        """Finish the writes that were called for, and take no more. Idempotent."""
        with self._news:
            self._closed = True
            self._news.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _write_all(self) -> None:
        """Carry out writes until there are no more to come. Runs on the writer thread."""
        while True:
            with self._news:
                self._news.wait_for(lambda: self._urgent or self._closed, _LAZY_S)
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]
                self._urgent = bool(self._waiting)
                last = self._closed and not self._waiting
            if batch:
                self._commit(batch)
            if last:
                return

    def _commit(self, batch: list[_Write[Any]]) -> None:
        try:
            with self._timed(len(batch)), self._database.writing() as connection:
                for write in batch:
                    write.carry_out(connection)
        except Exception as exc:  # noqa: BLE001  whatever it is, the writer goes on: others wait for it
            if len(batch) > 1 and is_of_one_write(exc):
                for write in batch:  # one of them cannot be done: let it fail alone
                    self._commit([write])
                return
            refusal = exc if isinstance(exc, StoreUnavailable) else _unfit(exc)
            for write in batch:
                write.done.set_exception(refusal)
        else:
            for write in batch:
                write.tell()

    @contextmanager
    def _timed(self, writes: int) -> Iterator[None]:
        begun, failed = time.perf_counter(), True
        try:
            yield
            failed = False
        finally:
            self._observe(Committed(time.perf_counter() - begun, writes, failed))


class _Write(Generic[T]):
    """A change that waits for its transaction, and the future of whoever asked for it."""

    def __init__(self, change: Callable[[Connection], T]) -> None:
        self._change = change
        self._value: T
        self._refusal: ThreadlabError | None = None
        self.done: Future[T] = promise()

    def carry_out(self, connection: Connection) -> None:
        """Make the change; a refusal is this write's own and leaves the others of the transaction alone."""
        self._refusal = None
        try:
            self._value = self._change(connection)
        except ThreadlabError as exc:
            self._refusal = exc

    def tell(self) -> None:
        """Resolve the future, after the commit."""
        if self._refusal is not None:
            self.done.set_exception(self._refusal)
        else:
            self.done.set_result(self._value)


def _unfit(exc: Exception) -> StoreUnavailable:
    refusal = StoreUnavailable(f"The database cannot hold this: {type(exc).__name__}: {exc}")
    refusal.__cause__ = exc
    return refusal
