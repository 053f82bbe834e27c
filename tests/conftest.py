"""Fixtures for all tests, and the guard that no test leaves a thread or a process behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service import catalog as catalogs
from service.catalog import Catalog
from service.events import Trace
from service.executors.base import Cancel, Kept, Order, Sink
from service.executors.interpreters import Interpreters
from service.executors.local import LocalExecutor, LocalLimits
from service.jobs import Report
from tests.support import SILENT, interpreters, wait_until

LIMITS = LocalLimits(
    startup_timeout_s=20.0,
    cancel_grace_s=0.03,
    kill_timeout_s=10.0,
    memory_bytes=6 * 1024**3,
    threads=512,
    open_files=256,
    file_bytes=64 * 1024**2,
)


_LONGEST = ("test_durability", "test_soak")  # the tests of these files take minutes, nearly all of them in one


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left alone with it at the end."""
    order = {"system": 1, "web": 2}
    items.sort(key=lambda item: 0 if item.path.stem in _LONGEST else order.get(item.path.parent.name, 3))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `every_python` once on each interpreter found."""
    if "every_python" in metafunc.fixturenames:
        found = [pytest.param(each.executable, id=each.selector) for each in interpreters()]
        metafunc.parametrize("every_python", found, scope="session")


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """All scenarios on this machine."""
    return catalogs.find()


@pytest.fixture(scope="session")
def executors(catalog: Catalog) -> Iterator[Callable[[str], LocalExecutor]]:
    """A started local executor for an interpreter; one each for the whole session, because starting takes a while."""
    digests = [scenario.digest for scenario in catalog]
    started: dict[str, LocalExecutor] = {}

    def executor(python: str = sys.executable) -> LocalExecutor:
        if python not in started:
            started[python] = LocalExecutor(LIMITS, Interpreters(python), digests)
            started[python].start()
        return started[python]

    yield executor
    for each in started.values():
        each.close()


@pytest.fixture
def run_scenario(catalog: Catalog, executors: Callable[[str], LocalExecutor]) -> Callable[..., Report]:
    """Run a scenario in a child, with some parameters set and the others at their defaults."""

    def run(
        name: str,
        /,
        python: str = sys.executable,
        timeout_s: float = 60.0,
        trace: Trace = "threads",
        sink: Sink = SILENT,
        **params: Any,
    ) -> Report:
        scenario = catalog.get(name)
        given = dataclasses.asdict(scenario.params_type(**params))
        kept = Kept(output_bytes=1_000_000, events=20_000)
        order = Order(f"job_{name}", name, scenario.digest, scenario.source, given, timeout_s, kept, trace)
        return executors(python).run(order, sink, Cancel())

    return run


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a child process that was not there before it."""
    for name in ("executors", "browser", "live_server"):  # session fixtures own processes; start them before counting
        if name in request.fixturenames:
            request.getfixturevalue(name)
    before = set(threading.enumerate())
    children = _children()
    yield
    wait_until(lambda: not _new_threads(before), 10.0)
    wait_until(lambda: len(_children()) <= max(len(children), _kept(request)), 10.0)


def _new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread not in before and thread.is_alive()}


def _kept(request: pytest.FixtureRequest) -> int:
    """How many processes the session's own fixtures may hold: a fork server for each interpreter, a browser."""
    return len(interpreters()) + 8 if "run_scenario" in request.fixturenames else 0


def _children() -> set[str]:
    """The numbers of this process's children; none where there is no /proc."""
    found: set[str] = set()
    for task in Path(f"/proc/{os.getpid()}/task").glob("*"):
        with contextlib.suppress(OSError):  # a thread has just ended
            found.update((task / "children").read_text().split())
    return found
