"""The scenario `pool`: the tutorial's "modern, recommended way to manage threads"."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from service.jobs import JobState, Report
from service.scenarios import pool
from service.scenarios.pool import Params

Run = Callable[..., Report]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


def test_threads_are_reused_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Three threads take nine tasks, every task is accounted for, and the pool's threads are gone afterwards."""
    seen = result(run_scenario("pool", every_python, max_workers=3, tasks=9, delay_s=0.05))
    told = seen["values"]
    assert (seen["outcome"], seen["grade"], told["threads_made"]) == ("reused", "acceptable", 3)
    assert told["tasks_done"] == sum(thread["tasks"] for thread in told["threads"]) == 9
    assert {thread["name"] for thread in told["threads"]} <= {f"Pool_{number}" for number in range(3)}
    assert list(range(9)) == [row["task"] for row in told["first_tasks"]]
    assert all(row["submitted_s"] <= row["begun_s"] <= row["ended_s"] for row in told["first_tasks"])
    assert max(row["begun_s"] for row in told["first_tasks"]) >= 2 * 0.05  # the last one finds two before it
    assert told["wall_s"] >= 3 * 0.05
    assert 0 <= told["queue_wait_p50_s"] <= told["queue_wait_max_s"]
    assert seen["active_threads"]["after"] == 1


def test_an_idle_thread_takes_the_next_task_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Where each task is over before the next one comes, one thread is enough, and no other is made."""
    runs = (result(run_scenario("pool", every_python, tasks=3, delay_s=0.0, gap_s=0.05)) for _ in range(5))
    seen = next(run for run in runs if run["values"]["threads_made"] == 1)
    assert seen["outcome"] == "reused"
    assert [thread["tasks"] for thread in seen["values"]["threads"]] == [3]


def test_a_nested_task_starves_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """When all threads wait for tasks in their own queue, the run ends by itself and says what happened."""
    options = {"max_workers": 2, "tasks": 4, "delay_s": 0.1, "nested_wait_s": 0.05}
    seen = result(run_scenario("pool", every_python, nested=True, **options))
    told = seen["values"]
    assert (seen["outcome"], seen["grade"]) == ("starved", "interesting")
    assert (told["tasks_done"], told["starved_tasks"], told["never_begun"]) == (0, 2, 2)
    assert "a pool of their own" in seen["meaning"]
    assert all(isinstance(told[name], (int, float)) for name in pool.MEASURES)


def test_a_nested_task_with_threads_to_spare_does_not_starve(run_scenario: Run) -> None:
    """With a thread for each inner task nobody waits in vain in this run, and it is not called more than that."""
    seen = result(run_scenario("pool", nested=True, max_workers=4, tasks=2, delay_s=0.01))
    assert (seen["outcome"], seen["values"]["tasks_done"]) == ("not_starved", 2)
    assert "safe" not in seen["meaning"]


def test_a_long_wait_is_not_starvation(run_scenario: Run) -> None:
    """A task that waits longer than `nested_wait_s` goes on waiting as long as another thread is still at work."""
    seen = result(run_scenario("pool", nested=True, max_workers=3, tasks=2, delay_s=0.1, nested_wait_s=0.01))
    assert (seen["outcome"], seen["values"]["starved_tasks"]) == ("not_starved", 0)


def test_giving_up_ends_the_submitting(run_scenario: Run) -> None:
    """A pool that has been given up takes no more tasks, and those are told as never begun."""
    options = {"max_workers": 1, "tasks": 20, "delay_s": 0.0, "gap_s": 0.5, "nested_wait_s": 0.01}
    seen = result(run_scenario("pool", nested=True, **options))
    assert (seen["outcome"], seen["values"]["starved_tasks"], seen["values"]["never_begun"]) == ("starved", 1, 19)
    assert seen["values"]["wall_s"] < 20 * 0.5


def test_one_thread_each(run_scenario: Run) -> None:
    """With room for all tasks at once each gets a thread of its own."""
    seen = result(run_scenario("pool", max_workers=8, tasks=3, delay_s=0.3))
    assert (seen["outcome"], seen["values"]["threads_made"]) == ("one_each", 3)


def test_tasks_that_compute(run_scenario: Run) -> None:
    """With work `python` the tasks compute instead of sleeping."""
    seen = result(run_scenario("pool", work="python", tasks=6, size=1, delay_s=60.0))
    assert seen["values"]["tasks_done"] == 6
    assert seen["values"]["wall_s"] < 30


def test_many_tasks_stay_a_short_answer(run_scenario: Run) -> None:
    """Thousands of tasks are counted by thread, and only the first hundred are listed."""
    seen = result(run_scenario("pool", max_workers=64, tasks=5_000, delay_s=0.0))
    assert sum(thread["tasks"] for thread in seen["values"]["threads"]) == 5_000
    assert len(seen["values"]["first_tasks"]) == 100
    assert len(json.dumps(seen["values"])) < 100_000


def test_the_deadline_ends_it(run_scenario: Run) -> None:
    """Tasks that are still in the queue at the deadline do not run."""
    report = run_scenario("pool", timeout_s=0.2, max_workers=1, tasks=1_000, delay_s=0.05)
    assert report.status == JobState.TIMED_OUT


def test_the_lane_is_that_of_the_work() -> None:
    """Tasks that sleep wait, tasks that compute compute."""
    assert ("wait", "cpu") == (pool.lane(Params()), pool.lane(Params(work="python")))


def test_outcomes_belong_to_the_parameters() -> None:
    """Only a nested task can starve."""
    assert {"reused", "one_each"} == set(pool.outcomes(Params()))
    assert {"starved", "not_starved"} == set(pool.outcomes(Params(nested=True)))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"tasks": 12, "max_workers": 32}, "With as many tasks as max_workers none is"),
        ({"tasks": 12, "max_workers": 12}, "Try more tasks, or a smaller max_workers."),
        ({"tasks": 12, "gap_s": 0.1}, "Try more tasks, or a smaller max_workers, or a gap_s of 0."),
    ],
)
def test_a_pool_that_cannot_starve_is_told_apart(params: dict[str, Any], said: str) -> None:
    """Where there is a thread for each task that waits it was no luck, and what is proposed is not there already."""
    meaning = pool.outcomes(Params(nested=True, **params))["not_starved"][1]
    assert said in meaning
    assert ("does not show" in meaning) == (params["tasks"] >= Params(**params).max_workers)
