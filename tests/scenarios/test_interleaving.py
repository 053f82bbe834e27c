"""The scenario `interleaving`: the tutorial's Example 1."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.jobs import JobState, Report
from service.scenarios import interleaving
from service.scenarios.interleaving import Params

Run = Callable[..., Report]


def values(report: Report, outcome: str | None = None) -> dict[str, object]:
    """What was counted, after a look at the outcome if it is given."""
    assert report.result is not None, report.error
    if outcome is not None:
        assert outcome == report.result["outcome"]
    return report.result["values"]


def test_pausing_threads_interleave_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Threads that pause between their lines print in turn, and all their lines are there."""
    report = run_scenario("interleaving", every_python, delay_s=0.05)
    counted = values(report, "interleaved")
    assert report.status == JobState.SUCCEEDED
    assert counted["lines"] == 10
    assert 2 <= int(str(counted["switches"])) <= 9


def test_prints_what_the_tutorial_prints(run_scenario: Run) -> None:
    """Each thread prints the tutorial's lines in the tutorial's order, and the main thread the tutorial's last two."""
    report = run_scenario("interleaving", delay_s=0.01)
    assert report.result is not None
    lines = [line["line"] for line in report.result["output"]]
    assert [f"Number: {number}" for number in range(1, 6)] == [line for line in lines if line.startswith("Number")]
    assert [f"Letter: {letter}" for letter in "ABCDE"] == [line for line in lines if line.startswith("Letter")]
    assert ["Both threads completed", f"Time needed for execution: {values(report)['wall_s']}"] == lines[-2:]


@pytest.mark.parametrize("threads", [1, 3])
def test_both_is_said_of_two(run_scenario: Run, threads: int) -> None:
    """Of another number of threads it is not said that both completed."""
    report = run_scenario("interleaving", threads=threads, delay_s=0.0)
    assert report.result is not None
    assert "All threads completed" == report.result["output"][-2]["line"]


def test_not_compared_means_not_measured(run_scenario: Run) -> None:
    """Without `compare` there is no sequential time and no speed-up: they are null, not 0."""
    counted = values(run_scenario("interleaving", steps=1, delay_s=0.0))
    assert None is counted["sequential_s"]
    assert None is counted["speedup"]


def test_compare_does_the_same_work_again(run_scenario: Run) -> None:
    """With `compare` the work is really done one part after the other, which takes the pauses of all threads."""
    counted = values(run_scenario("interleaving", threads=3, steps=2, delay_s=0.05, compare=True))
    sequential_s, wall_s = float(str(counted["sequential_s"])), float(str(counted["wall_s"]))
    assert sequential_s >= 3 * 2 * 0.05
    assert wall_s >= 2 * 0.05
    assert sequential_s / wall_s == counted["speedup"]
    assert counted["lines"] == 6


def test_without_a_pause_lines_can_come_in_blocks(run_scenario: Run) -> None:
    """A thread that never pauses can print all its lines before another one starts."""
    reports = (run_scenario("interleaving", steps=2, delay_s=0.0) for _ in range(20))
    assert any(report.result is not None and report.result["outcome"] == "in_blocks" for report in reports)


@pytest.mark.parametrize("params", [{"threads": 1, "steps": 3}, {"threads": 3, "steps": 1}])
def test_too_few_lines_are_not_judged(run_scenario: Run, params: dict[str, int]) -> None:
    """With one thread, or with one line each, blocks and mixed lines cannot be told apart."""
    values(run_scenario("interleaving", delay_s=0.0, **params), "nothing_to_mix")


def test_the_third_thread_and_the_27th_letter_have_names_of_their_own() -> None:
    """From the third thread on the label tells which thread it is; letters go on like the columns of a spreadsheet."""
    assert [interleaving.label_work(number)[1] for number in range(1, 5)] == [
        "Number",
        "Letter",
        "Number (thread 3)",
        "Letter (thread 4)",
    ]
    assert [interleaving.letter(step) for step in (0, 25, 26, 51, 52, 701, 702)] == [
        "A",
        "Z",
        "AA",
        "AZ",
        "BA",
        "ZZ",
        "AAA",
    ]


@pytest.mark.parametrize(
    ("order", "switches", "outcome"),
    [("NNLL", 1, "in_blocks"), ("NLNL", 3, "interleaved"), ("NLLN", 2, "interleaved")],
)
def test_blocks_and_turns_are_told_apart(order: str, switches: int, outcome: str) -> None:
    """More switches than threads less one mean that some thread's lines stood apart."""
    assert switches == interleaving.count_switches(list(order))
    assert outcome == interleaving.judge(switches, Params(threads=2, steps=2))


@pytest.mark.parametrize(
    ("delay_s", "mixed", "unmixed"),
    [(1.0, "while one slept", "try a longer delay_s"), (0.0, "none of them paused", "give delay_s more than 0")],
)
def test_only_who_sleeps_is_said_to_sleep(delay_s: float, mixed: str, unmixed: str) -> None:
    """Why lines mixed, or did not, is said of threads that pause and of threads that do not."""
    said = interleaving.outcomes(Params(delay_s=delay_s))
    assert mixed in said["interleaved"][1]
    assert unmixed in said["in_blocks"][1]
