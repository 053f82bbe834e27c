"""What is said of the waits for the GIL."""

from __future__ import annotations

from typing import Any

import pytest

from service import gil
from service.events import ThreadRow

BASE: Any = {
    "name": "one",
    "number": 1,
    "daemon": False,
    "ident": 1,
    "native_id": 1,
    "started_s": 0.0,
    "ended_s": 1.0,
    "cpu_s": 0.25,
    "core_wait_s": 0.0,
    "gil_wait_s": None,
    "lock_wait_s": None,
    "lock_acquires": None,
    "lock_waits": None,
    "voluntary_switches": 1_000,
    "involuntary_switches": 0,
}


def row(**facts: Any) -> ThreadRow:
    """A thread that lived a second and computed for a quarter of it."""
    made: ThreadRow = {**BASE, **facts}
    return made


@pytest.mark.parametrize(
    ("facts", "waited_s"),
    [
        pytest.param({}, 0.75, id="what remains of its life"),
        pytest.param({"voluntary_switches": 1}, 0.005, id="a sleeper woke up once"),
        pytest.param({"voluntary_switches": 0}, 0.0, id="it never let go"),
        pytest.param({"lock_wait_s": 0.5}, 0.25, id="waits for traced locks are known"),
        pytest.param({"cpu_s": 1.1}, 0.0, id="clocks that differ do not make it negative"),
        pytest.param({"ended_s": None}, None, id="still running"),
        pytest.param({"voluntary_switches": None}, None, id="the system does not count switches"),
    ],
)
def test_the_bound(facts: dict[str, Any], waited_s: float | None) -> None:
    """A thread waited for the GIL at most as long as nothing else explains, and one interval for each switch."""
    thread = row(**facts)
    account = gil.account([thread], enabled=True, switch_interval_s=0.005)
    assert waited_s == (None if thread["gil_wait_s"] is None else pytest.approx(thread["gil_wait_s"]))
    assert (waited_s is None) == (account["contention"] is None)
    assert (None if waited_s is None else "estimated") == account["basis"]["gil_wait_s"]


@pytest.mark.parametrize(
    ("others", "process_cpu_s", "waited_s"),
    [
        pytest.param([], 0.26, 0.01, id="alone"),
        pytest.param([], None, 0.75, id="nobody tells"),
        pytest.param([row(cpu_s=0.4)], 0.66, 0.41, id="as long as another one computes"),
        pytest.param([row(cpu_s=0.4, core_wait_s=0.2)], 0.66, 0.61, id="and would if it had a core"),
        pytest.param([], 0.2, 0.0, id="clocks that differ do not make it negative"),
    ],
)
def test_somebody_else_has_it(others: list[ThreadRow], process_cpu_s: float | None, waited_s: float) -> None:
    """Who waits for the GIL waits for somebody who computes: not longer than all others did."""
    thread = row()
    gil.account([thread, *others], enabled=True, switch_interval_s=0.005, process_cpu_s=process_cpu_s)
    assert pytest.approx(waited_s) == thread["gil_wait_s"]


def test_contention_of_threads_that_sleep() -> None:
    """Threads that sleep in turn, and hardly compute, are not said to be in each other's way."""
    rows = [row(cpu_s=0.001, voluntary_switches=20) for _ in range(4)]
    account = gil.account(rows, enabled=True, switch_interval_s=0.005, process_cpu_s=0.01)
    assert account["contention"] is not None
    assert account["contention"] < 0.01


def test_contention() -> None:
    """It is the share of waiting in the threads' lives: four that take turns wait 3 of 4."""
    account = gil.account([row() for _ in range(4)], enabled=True, switch_interval_s=0.005)
    assert pytest.approx(0.75) == account["contention"]


def test_without_a_gil() -> None:
    """Where there is none nobody waited for it, which is exact; what else was measured is said so."""
    thread = row(lock_wait_s=0.1)
    account = gil.account([thread], enabled=False, switch_interval_s=0.005)
    assert (0.0, 0.0, False) == (thread["gil_wait_s"], account["contention"], account["enabled"])
    assert {
        "cpu_s": "measured",
        "core_wait_s": "measured",
        "lock_wait_s": "measured",
        "gil_wait_s": "exact",
    } == account["basis"]


def test_without_threads() -> None:
    """Of no threads nothing is said."""
    account = gil.account([], enabled=True, switch_interval_s=0.005)
    assert account["contention"] is None
    assert {None} == set(account["basis"].values())
