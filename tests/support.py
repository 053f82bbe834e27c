"""Helpers that more than one test module needs."""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable

import pytest

from service.events import JobEvent
from service.executors.base import Interpreter
from service.executors.interpreters import Interpreters

__all__ = ["CI", "SILENT", "interpreters", "need", "wait_until"]

CI = bool(os.environ.get("CI"))


def SILENT(_: list[JobEvent]) -> None:  # noqa: N802  it is a constant: a sink for who does not listen
    """Take in events and forget them."""


def wait_until(predicate: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Return as soon as the predicate holds; fail when it does not within the timeout."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.005)


def need(tool: str) -> str:
    """Return the path of a program; without it, skip on a laptop and fail where CI is set."""
    path = shutil.which(tool)
    if path is None:
        (pytest.fail if CI else pytest.skip)(f"{tool} is not installed")
    assert path is not None
    return path


@functools.cache
def interpreters() -> list[Interpreter]:
    """Return every usable CPython that the service finds, its own first."""
    return [each for each in Interpreters().all() if each.usable]
