"""What the database says when it cannot, in our words and with what to do: foreign errors become ours here, once.

Who uses it: the modules of the SQL store.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from service.errors import StoreUnavailable

__all__ = ["damaged", "is_of_one_write", "readable", "translated"]

_DAMAGED = (
    "Stop the service; then remove NAME-wal and NAME-shm and put a backup in its place, or save what can be read: "
    "sqlite3 OLD .recover | sqlite3 NEW, and name NEW in THREADLAB_DATABASE_URL."
)

_REMEDIES = {  # by SQLite's primary result code; source: sqlite.org/rescode.html
    sqlite3.SQLITE_BUSY: "Another program holds the file: let it finish, or end it.",
    sqlite3.SQLITE_LOCKED: "Another program holds the file: let it finish, or end it.",
    sqlite3.SQLITE_FULL: "Make room on its disk.",
    sqlite3.SQLITE_READONLY: "Let the user of the service write to the file and to its folder.",
    sqlite3.SQLITE_CANTOPEN: "Its folder must exist, and the user of the service be allowed to write there.",
    sqlite3.SQLITE_PERM: "Let the user of the service write to the file and to its folder.",
    sqlite3.SQLITE_IOERR: "Its disk fails or is full: the system's log says more.",
    sqlite3.SQLITE_CORRUPT: f"The file is damaged. {_DAMAGED}",
    sqlite3.SQLITE_NOTADB: "The file is damaged, or another program's: put a backup in its place, or name another file "
    "in THREADLAB_DATABASE_URL.",
}

_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, zlib.error)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the database's errors into ours.

    Args:
        what: what could not be done, as it follows "The database could not".
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as exc:
        cause = _cause(exc)
        remedy = _REMEDIES.get(_code(cause), "")
        raise StoreUnavailable(f"The database could not {what}: {cause}. {remedy}".rstrip()) from exc


@contextmanager
def readable(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever fails in making something of a row into an error of ours: the row is damaged, or not of our making.

    Args:
        what: whose row it is.
        remedy: a sentence that says how to get rid of it.
    """
    try:
        yield
    except _UNREADABLE as exc:
        text = f"What is remembered of {what} cannot be read: {type(exc).__name__}: {exc}. {remedy}"
        raise StoreUnavailable(text) from exc


def damaged(file: object, found: str) -> StoreUnavailable:
    """Return what to raise for a file that a check has found damaged."""
    return StoreUnavailable(f"The database {file} is damaged: {found.rstrip('.')}. {_DAMAGED}")


def is_of_one_write(exc: BaseException) -> bool:
    """Whether a failure can be of one of several writes alone, and not of the database as a whole."""
    cause = _cause(exc.__cause__ or exc)
    return not isinstance(cause, (sqlite3.OperationalError, StoreUnavailable))


def _cause(exc: BaseException) -> BaseException:
    return getattr(exc, "orig", None) or exc


def _code(cause: BaseException) -> int:
    return int(getattr(cause, "sqlite_errorcode", 0)) & 0xFF  # the rest says more than a remedy needs
