"""What `trace: locks` says of each scenario: locks that it took from its lab are measured, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.events import ThreadRow
from service.jobs import Report, Result
from tests.scenarios.test_contract import NAMES, QUICK

Run = Callable[..., Report]

# Those whose threads take locks of the lab's; the others wait for semaphores, events, barriers, queues, or for nothing.
LOCKED = {"check_then_act", "condition", "counter", "custom", "deadlock", "oversubscription", "rlock"}


def traced(run_scenario: Run, name: str, python: str | None = None) -> Result:
    """The result of a quick run with its locks traced."""
    report = run_scenario(name, *([] if python is None else [python]), trace="locks", **QUICK[name])
    assert report.result is not None, report.error
    return report.result


def counts(row: ThreadRow) -> tuple[float | None, int | None, int | None]:
    """What a thread's row says of its locks."""
    return row["lock_wait_s"], row["lock_acquires"], row["lock_waits"]


@pytest.mark.parametrize("name", sorted(set(NAMES) - LOCKED))
def test_what_takes_no_lock_is_told_nothing_of_locks(run_scenario: Run, name: str) -> None:
    """Where there was no lock to trace, waits for locks are null and nothing was spent on them; a warning says why."""
    seen = traced(run_scenario, name)
    assert seen["threads"]
    assert {(None, None, None)} == {counts(row) for row in seen["threads"]}
    assert seen["gil"] is not None
    assert (None, None) == (seen["gil"]["basis"]["lock_wait_s"], seen["trace"]["cost_s"])
    assert any("waits are not seen" in warning for warning in seen["warnings"])


@pytest.mark.parametrize("name", sorted(LOCKED - {"deadlock"}))
def test_locks_of_the_lab_are_counted(run_scenario: Run, name: str) -> None:
    """Each thread's acquires and waits are numbers where the scenario takes locks from its lab."""
    seen = traced(run_scenario, name)
    assert all(None not in counts(row) for row in seen["threads"])
    assert seen["gil"] is not None
    assert "measured" == seen["gil"]["basis"]["lock_wait_s"]
    assert seen["trace"]["cost_s"] is not None
    assert not any("No lock was traced" in warning for warning in seen["warnings"])


@pytest.mark.interpreters
def test_a_condition_is_seen_by_its_lock(run_scenario: Run, every_python: str) -> None:
    """Each thread that waits for an item takes the condition's lock; that its sleep is not seen is said."""
    seen = traced(run_scenario, "condition", every_python)
    assert "state_awaited" == seen["outcome"]
    assert all((row["lock_acquires"] or 0) >= 2 for row in seen["threads"])  # to get in, and after the notification
    assert any("notification itself" in warning for warning in seen["warnings"])


def test_a_barrier_beside_a_lock_is_said_not_to_be_seen(run_scenario: Run) -> None:
    """Threads that wait for a lock and at a barrier are told with the first, and a warning names the second."""
    seen = traced(run_scenario, "check_then_act")
    assert {3} == {row["lock_acquires"] for row in seen["threads"]}
    assert any("barrier" in warning for warning in seen["warnings"])


@pytest.mark.parametrize("name", ["check_then_act", "condition", "semaphore"])
def test_nothing_is_said_of_locks_where_none_are_traced(run_scenario: Run, name: str) -> None:
    """Without `trace: locks` there is nothing to warn of."""
    report = run_scenario(name, **QUICK[name])
    assert report.result is not None, report.error
    assert [] == report.result["warnings"]
