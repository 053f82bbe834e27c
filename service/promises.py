"""Futures of what somebody has promised: several may wait for one, and it may be told by whoever comes first.

Who uses it: stores, `unwritten`, `runner`, `experimenter`.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeVar

__all__ = ["pass_on", "promise", "refuse", "tell"]

T = TypeVar("T")


def promise() -> Future[T]:
    """Return a future that no waiter can cancel: others wait for it, too, and what was begun goes on."""
    promised: Future[T] = Future()
    promised.set_running_or_notify_cancel()
    return promised


def tell(promised: Future[T], value: T) -> None:
    """Keep a promise, unless its waiters have been told already: that the service ends, say."""
    with contextlib.suppress(InvalidStateError):
        promised.set_result(value)


def refuse(promised: Future[T], why: BaseException) -> None:
    """Tell the waiters that there is nothing to wait for, unless they have been told already."""
    with contextlib.suppress(InvalidStateError):
        promised.set_exception(why)


def pass_on(done: Future[Any], to: Future[T], value: T | None = None) -> None:
    """Tell the waiters of one promise how another ended.

    Args:
        value: what they are told in place of what came of it; None is that itself.
    """
    refusal = done.exception()
    if refusal is not None:
        refuse(to, refusal)
    else:
        tell(to, done.result() if value is None else value)
